import DatapathMemory
import Glibc
import NetworkStack
import QueueRuntime
import WireFormats

/// Sending.
extension UserNetworkHandle {
    /// Gives the stack an array that goes at once, as most do. Every reason not to is left to `push` and `pushDiscarded`.
    /// - Returns: 0 when the array was taken over.
    @inline(__always)
    func pushNow(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ address: UnsafePointer<SocketAddress>?) -> Int32 {
        // Functions of their own, so that neither way saves the other's registers.
        let socket = socket(index)
        if socket.pointee.type == .datagram { return address == nil ? pushDatagramNow(socket, array) : pushAddressedNow(socket, array, address.unsafelyUnwrapped) }
        return address == nil ? pushBytesNow(socket, array) : EAGAIN
    }

    @inline(never)
    private func pushBytesNow(_ socket: UnsafeMutablePointer<NetworkSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> Int32 {
        guard socket.pointee.phase == .connected, socket.pointee.firstToSend == nil, !socket.pointee.isSendShutDown, socket.pointee.failure == 0,
            array.arrayByteCount > 0, stack.send(socket.pointee.index, array, at: core.currentTime) == 0
        else { return EAGAIN }
        flush()
        return 0
    }

    @inline(never)
    private func pushDatagramNow(_ socket: UnsafeMutablePointer<NetworkSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> Int32 {
        guard socket.pointee.firstToSend == nil, array.arrayByteCount <= core.limits.maximumUnitSize,
            stack.sendPlainDatagram(socket.pointee.index, array)
        else { return EAGAIN }
        flush()
        return 0
    }

    @inline(never)
    private func pushAddressedNow(
        _ socket: UnsafeMutablePointer<NetworkSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ address: UnsafePointer<SocketAddress>
    ) -> Int32 {
        guard socket.pointee.firstToSend == nil, array.arrayByteCount <= core.limits.maximumUnitSize, address.pointee.family == socket.pointee.family,
            stack.sendPlainDatagram(socket.pointee.index, array, to: address.pointee.endpoint)
        else { return EAGAIN }
        flush()
        return 0
    }

    func push(_ index: Int, _ operation: UInt32) -> Int32 {
        let socket = socket(index)
        let slot = core.operation(operation)
        let array = slot.pointee.array.unsafelyUnwrapped
        let address: SocketAddress? = slot.pointee.kind == .pushTo ? slot.pointee.address : nil
        let refusal = check(socket, array, address)
        if refusal != 0 { return refusal }
        guard socket.pointee.firstToSend == nil else {
            enqueue(socket, array, operation)
            return 0
        }
        updateTime()
        let byteCount = array.arrayByteCount
        let error = submit(socket, array, operation)
        guard error == 0 else { return pushFailed(socket, slot, error) }
        core.completePush(slot, byteCount: byteCount)
        flush()
        return 0
    }

    /// The stack did not take an array. It stays the operation's while there is no room.
    private func pushFailed(_ socket: UnsafeMutablePointer<NetworkSocket>, _ slot: UnsafeMutablePointer<Operation>, _ error: Int32) -> Int32 {
        let array = slot.pointee.array.unsafelyUnwrapped
        switch error {
        case EAGAIN: enqueue(socket, array, slot.index)
        case ENOBUFS:
            enqueue(socket, array, slot.index)
            starve(socket.pointee.queue.slot)
        case EMSGSIZE, EDESTADDRREQ: return core.refuse(error, ErrorMessages.send(error))
        default:
            array.releaseArray()
            core.fail(slot.index, error, ErrorMessages.send(error))
        }
        return 0
    }

    func pushDiscarded(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ address: SocketAddress?) -> Int32 {
        let socket = socket(index)
        var error = check(socket, array, address)
        if error != 0 { return error }
        updateTime()
        if socket.pointee.type == .datagram {
            error = stack.sendDatagram(socket.pointee.index, array, to: address?.endpoint)
            if error == EMSGSIZE || error == EDESTADDRREQ { return core.refuse(error, ErrorMessages.send(error)) }
            if error != 0 {
                // Nobody waits for it, and a datagram may be lost: as one that meets a full device queue.
                if error == ENOBUFS { state.pointee.droppedSendBufferFull += 1 }
                array.releaseArray()
            }
            flush()
            return 0
        }
        let byteCount = array.arrayByteCount
        if socket.pointee.firstToSend == nil {
            error = stack.send(socket.pointee.index, array)
            if error == 0 {
                flush()
                return 0
            }
            guard error == EAGAIN else {
                array.releaseArray()
                return 0
            }
        }
        guard socket.pointee.discardedByteCount + byteCount <= min(core.limits.discardedPushByteCount, Int(UInt32.max)) else {
            return core.refuse(EAGAIN, "the peer reads too slowly for pushes that nobody waits for: wait for a push")
        }
        socket.pointee.discardedByteCount += byteCount
        enqueue(socket, array, 0)
        return 0
    }

    private func check(
        _ socket: UnsafeMutablePointer<NetworkSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ address: SocketAddress?
    ) -> Int32 {
        if socket.pointee.type == .datagram {
            if let address, address.family != socket.pointee.family { return core.refuse(EAFNOSUPPORT, ErrorMessages.otherFamily) }
            if array.arrayByteCount > core.limits.maximumUnitSize {
                return core.refuse(EMSGSIZE, "a unit is larger than Limits.maximumUnitSize")
            }
            return 0
        }
        if address != nil { return core.refuse(EOPNOTSUPP, "a stream has one peer: use push") }
        if socket.pointee.phase != .connected { return core.refuse(ENOTCONN, ErrorMessages.notConnected) }
        if socket.pointee.isSendShutDown { return core.refuse(EPIPE, "the sending direction was shut down") }
        if socket.pointee.failure != 0 { return core.refuse(EPIPE, "the connection has failed") }
        if array.arrayByteCount == 0 { return core.refuse(EINVAL, "a stream has no empty push") }
        return 0
    }

    // MARK: Pushes that wait for room

    private func enqueue(_ socket: UnsafeMutablePointer<NetworkSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ operation: UInt32) {
        array.pointee.operation = operation
        array.pointee.nextArray = nil
        if let last = socket.pointee.lastToSend { last.pointee.nextArray = array } else { socket.pointee.firstToSend = array }
        socket.pointee.lastToSend = array
    }

    /// Gives the stack what waits, as far as it takes it.
    func sendWaiting(_ index: Int) {
        let socket = socket(index)
        while let array = socket.pointee.firstToSend {
            // The stack may cut the array up as soon as it has it.
            let byteCount = array.arrayByteCount
            let operation = array.pointee.operation
            let next = array.pointee.nextArray
            let error = submit(socket, array, operation)
            if error == EAGAIN { return }
            if error == ENOBUFS { return starve(index) }
            if error != 0 && socket.pointee.type == .stream {
                // The event that tells the failure follows.
                return dropSends(index, error)
            }
            socket.pointee.firstToSend = next
            if next == nil { socket.pointee.lastToSend = nil }
            if operation == 0 { socket.pointee.discardedByteCount -= byteCount }
            if error != 0 { array.releaseArray() }
            if operation != 0 {
                if error == 0 {
                    core.completePush(operation, byteCount: byteCount)
                } else {
                    core.fail(operation, error, ErrorMessages.send(error))
                }
            }
        }
        sentEverything(index)
    }

    private func submit(_ socket: UnsafeMutablePointer<NetworkSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ operation: UInt32) -> Int32 {
        if socket.pointee.type == .stream { return stack.send(socket.pointee.index, array) }
        let slot = core.operation(operation)
        return stack.sendDatagram(socket.pointee.index, array, to: slot.pointee.kind == .pushTo ? slot.pointee.address.endpoint : nil)
    }

    /// Nothing waits any more: what was put off until then follows.
    private func sentEverything(_ index: Int) {
        let socket = socket(index)
        if socket.pointee.phase == .flushing {
            endSending(index)
        } else if socket.pointee.isSendShutDown {
            _ = stack.shutdown(socket.pointee.index, receive: false, send: true)
        }
    }

    /// Fails every push that waits; nothing of them was taken.
    func dropSends(_ index: Int, _ error: Int32) {
        let socket = socket(index)
        while let array = socket.pointee.firstToSend {
            let operation = array.pointee.operation
            socket.pointee.firstToSend = array.pointee.nextArray
            array.releaseArray()
            if operation != 0 { core.fail(operation, error, ErrorMessages.send(error)) }
        }
        socket.pointee.lastToSend = nil
        socket.pointee.discardedByteCount = 0
    }

    /// Takes a push out of those that wait. One that does not is with the stack, and has completed.
    func cancelPush(_ index: Int, _ operation: UInt32) {
        let socket = socket(index)
        guard let array = core.takeWaitingPush(operation, from: &socket.pointee.firstToSend, &socket.pointee.lastToSend) else { return }
        array.releaseArray()
        core.fail(operation, ECANCELED)
        // A shutdown or a close may have waited for it.
        if socket.pointee.firstToSend == nil { sentEverything(index) }
    }
}
