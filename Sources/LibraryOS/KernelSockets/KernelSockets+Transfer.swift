import CDatapath
import DatapathMemory
import Glibc
import QueueRuntime

/// Sending and receiving.
extension KernelSocketsHandle {
    // MARK: Push

    func push(_ index: Int, _ operation: UInt32) -> Int32 {
        let socket = socket(index)
        let slot = core.operation(operation)
        let array = slot.pointee.array.unsafelyUnwrapped
        let address: SocketAddress? = slot.pointee.kind == .pushTo ? slot.pointee.address : nil
        let error = check(socket, array, address)
        if error != 0 { return error }
        let byteCount = array.arrayByteCount
        array.pointee.operation = operation
        array.pointee.nextArray = nil
        guard socket.pointee.firstToSend == nil, socket.pointee.mayBeWritable else {
            enqueue(socket, array)
            return 0
        }
        let sent = send(socket, array, skipping: 0, to: address)
        if sent == byteCount {
            array.releaseArray()
            core.completePush(operation, byteCount: byteCount)
        } else if sent >= 0 || errno == EAGAIN {
            socket.pointee.mayBeWritable = false
            socket.pointee.sentOfFirst = max(sent, 0)
            enqueue(socket, array)
            watch(index)
        } else if errno == EMSGSIZE || errno == EDESTADDRREQ {
            return core.refuse(errno, KernelSocketsHandle.sendMessage(errno))
        } else {
            let error = errno
            array.releaseArray()
            core.fail(operation, error, KernelSocketsHandle.sendMessage(error))
            if socket.pointee.type == .stream { socket.pointee.failure = error }
        }
        return 0
    }

    func pushDiscarded(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ address: SocketAddress?) -> Int32 {
        let socket = socket(index)
        let error = check(socket, array, address)
        if error != 0 { return error }
        let byteCount = array.arrayByteCount
        array.pointee.operation = 0
        array.pointee.nextArray = nil
        var sent = 0
        if socket.pointee.firstToSend == nil, socket.pointee.mayBeWritable {
            sent = send(socket, array, skipping: 0, to: address)
            if sent == byteCount {
                array.releaseArray()
                return 0
            }
            if sent < 0, errno != EAGAIN {
                if errno == EMSGSIZE || errno == EDESTADDRREQ { return core.refuse(errno, KernelSocketsHandle.sendMessage(errno)) }
                if socket.pointee.type == .stream { socket.pointee.failure = errno }
                array.releaseArray()
                return 0
            }
            sent = max(sent, 0)
            socket.pointee.mayBeWritable = false
            watch(index)
        }
        if socket.pointee.type == .datagram {
            // Nobody waits for it, and a datagram may be lost: as the kernel itself drops one at a full device queue.
            state.pointee.droppedSendBufferFull += 1
            array.releaseArray()
            return 0
        }
        // Once a byte is taken the array has to follow, whatever the limit.
        if sent == 0, socket.pointee.discardedByteCount + byteCount > core.limits.discardedPushByteCount {
            return core.refuse(EAGAIN, "the peer reads too slowly for pushes that nobody waits for: wait for a push")
        }
        if socket.pointee.firstToSend == nil { socket.pointee.sentOfFirst = sent }
        socket.pointee.discardedByteCount += byteCount
        enqueue(socket, array)
        return 0
    }

    private func check(
        _ socket: UnsafeMutablePointer<KernelSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ address: SocketAddress?
    ) -> Int32 {
        if socket.pointee.type == .datagram {
            if let address, address.family != socket.pointee.family {
                return core.refuse(EAFNOSUPPORT, "the address and the socket are of different families")
            }
            if array.arrayByteCount > core.limits.maximumUnitSize {
                return core.refuse(EMSGSIZE, "a unit is larger than Limits.maximumUnitSize")
            }
            return 0
        }
        if address != nil { return core.refuse(EOPNOTSUPP, "a stream has one peer: use push") }
        if socket.pointee.phase != .connected { return core.refuse(ENOTCONN, "the socket is not connected") }
        if socket.pointee.isSendShutDown { return core.refuse(EPIPE, "the sending direction was shut down") }
        if socket.pointee.failure != 0 { return core.refuse(EPIPE, "the connection has failed") }
        if array.arrayByteCount == 0 { return core.refuse(EINVAL, "a stream has no empty push") }
        return 0
    }

    private static func sendMessage(_ error: Int32) -> StaticString {
        switch error {
        case EMSGSIZE: "the datagram is larger than the protocol allows (65507 bytes over IPv4)"
        case EDESTADDRREQ: "the socket has no peer: connect it, or use pushTo"
        case EPIPE, ECONNRESET: "the peer has closed or reset the connection"
        default: ""
        }
    }

    private func enqueue(_ socket: UnsafeMutablePointer<KernelSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>) {
        if let last = socket.pointee.lastToSend { last.pointee.nextArray = array } else { socket.pointee.firstToSend = array }
        socket.pointee.lastToSend = array
    }

    /// Hands an array to the kernel, from the byte `skipping` on. Returns how many bytes it has taken in all, or -1 with errno.
    private func send(
        _ socket: UnsafeMutablePointer<KernelSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>, skipping: Int, to address: SocketAddress?
    ) -> Int {
        let flags = Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
        while true {
            let count: Int
            if array.arraySegmentCount == 1, address == nil {
                count = Glibc.send(socket.pointee.file, array.segmentAddress + skipping, array.segmentByteCount - skipping, flags)
            } else {
                count = sendVector(socket.pointee.file, array, skipping: skipping, to: address, flags)
            }
            if count >= 0 { return skipping + count }
            if errno != EINTR { return -1 }
        }
    }

    private func sendVector(
        _ file: Int32, _ array: UnsafeMutablePointer<SegmentDescriptor>, skipping: Int, to address: SocketAddress?, _ flags: Int32
    ) -> Int {
        withUnsafeTemporaryAllocation(of: iovec.self, capacity: ScatterGatherArray.maximumSegments) { vectors in
            var skip = skipping
            var count = 0
            var segment: UnsafeMutablePointer<SegmentDescriptor>? = array
            while let current = segment {
                let length = current.segmentByteCount
                // An empty segment needs no vector; one behind the bytes to skip would get a negative length.
                if skip < length {
                    vectors[count] = iovec(iov_base: current.segmentAddress + skip, iov_len: length - skip)
                    count += 1
                    skip = 0
                } else {
                    skip -= length
                }
                segment = current.nextSegment
            }
            var message = msghdr()
            message.msg_iov = vectors.baseAddress
            message.msg_iovlen = count
            guard let address else { return sendmsg(file, &message, flags) }
            return address.withSocketAddress { pointer, length in
                message.msg_name = UnsafeMutableRawPointer(mutating: pointer)
                message.msg_namelen = length
                return sendmsg(file, &message, flags)
            }
        }
    }

    /// Sends what waits, as far as the kernel takes it.
    func flush(_ index: Int) {
        let socket = socket(index)
        while let array = socket.pointee.firstToSend {
            let byteCount = array.arrayByteCount
            let operation = array.pointee.operation
            let address: SocketAddress? =
                operation != 0 && core.operation(operation).pointee.kind == .pushTo ? core.operation(operation).pointee.address : nil
            let sent = send(socket, array, skipping: socket.pointee.sentOfFirst, to: address)
            if sent < 0, errno != EAGAIN {
                let error = errno
                if socket.pointee.type == .stream {
                    // The kernel tells a reset once: a pop may have been told already, and EPIPE is all that is left for the pushes.
                    if socket.pointee.failure == 0 { socket.pointee.failure = error }
                    dropSends(index, socket.pointee.failure)
                    break
                }
                removeFirstToSend(socket)
                array.releaseArray()
                if operation != 0 { core.fail(operation, error, KernelSocketsHandle.sendMessage(error)) }
                continue
            }
            if sent < byteCount {
                socket.pointee.sentOfFirst = max(sent, socket.pointee.sentOfFirst)
                socket.pointee.mayBeWritable = false
                return
            }
            removeFirstToSend(socket)
            array.releaseArray()
            if operation != 0 { core.completePush(operation, byteCount: byteCount) }
        }
        sentEverything(index)
    }

    /// Nothing waits to be sent any more: what was put off until then follows.
    private func sentEverything(_ index: Int) {
        let socket = socket(index)
        if socket.pointee.phase == .flushing {
            endSending(index)
        } else if socket.pointee.isSendShutDown {
            _ = Glibc.shutdown(socket.pointee.file, Int32(SHUT_WR))
        }
    }

    private func removeFirstToSend(_ socket: UnsafeMutablePointer<KernelSocket>) {
        let array = socket.pointee.firstToSend.unsafelyUnwrapped
        if array.pointee.operation == 0 { socket.pointee.discardedByteCount -= array.arrayByteCount }
        socket.pointee.firstToSend = array.pointee.nextArray
        if array.pointee.nextArray == nil { socket.pointee.lastToSend = nil }
        socket.pointee.sentOfFirst = 0
    }

    /// Fails every push that waits, with the bytes that the kernel had taken.
    func dropSends(_ index: Int, _ error: Int32) {
        let socket = socket(index)
        while let array = socket.pointee.firstToSend {
            let operation = array.pointee.operation
            let taken = socket.pointee.sentOfFirst
            removeFirstToSend(socket)
            array.releaseArray()
            if operation != 0 { core.fail(operation, error, KernelSocketsHandle.sendMessage(error), byteCount: taken) }
        }
    }

    // MARK: Pop

    func pop(_ index: Int, _ operation: UInt32) -> Int32 {
        let socket = socket(index)
        if socket.pointee.type == .stream, socket.pointee.phase != .connected { return core.refuse(ENOTCONN, "the socket is not connected") }
        if socket.pointee.type == .datagram { watch(index) }
        core.append(operation, to: &socket.pointee.pops)
        if socket.pointee.hasReceivedEnd {
            endPops(index)
        } else if socket.pointee.mayBeReadable || socket.pointee.rest != nil {
            servePops(index)
        }
        return 0
    }

    func endPops(_ index: Int) {
        let socket = socket(index)
        // A reset is no end: whether a push or a pop met it, every pop tells it. EPIPE says that the peer had sent its end before.
        let failure = socket.pointee.failure
        while case let pop = core.removeFirst(from: &socket.pointee.pops), pop != 0 {
            if failure == 0 || failure == EPIPE {
                core.completeEndOfStream(pop)
            } else {
                core.fail(pop, failure, KernelSocketsHandle.sendMessage(failure))
            }
        }
    }

    /// Receives for the pops that wait, as long as the kernel has something.
    func servePops(_ index: Int) {
        let socket = socket(index)
        if socket.pointee.rest != nil { serveRest(socket) }
        while socket.pointee.mayBeReadable, !socket.pointee.pops.isEmpty {
            guard socket.pointee.type == .stream ? receiveStream(index) : receiveDatagram(index) else { return }
        }
    }

    /// One read of a stream; false when the heap is full.
    private func receiveStream(_ index: Int) -> Bool {
        let socket = socket(index)
        let wanted = min(core.operation(socket.pointee.pops.first).pointee.byteCount, Int(socket.pointee.receiveByteCount))
        guard core.heap.hasFreeSegment, var buffer = try? core.heap.allocate(wanted) else {
            starve(index)
            return false
        }
        let count = recv(socket.pointee.file, buffer.address, wanted, Int32(MSG_DONTWAIT))
        if count > 0 {
            // A stream that gives less than was asked for is drained: the next byte makes a new edge (epoll(7)). But the end that was seen with
            // these bytes makes none.
            if count < wanted, !socket.pointee.isEndPending { socket.pointee.mayBeReadable = false }
            adapt(socket, wanted: wanted, received: count)
            countReceive(index)
            buffer.removeLast(wanted - count)
            // There is a free descriptor, so the bytes that were taken from the kernel are not lost.
            core.completePop(core.removeFirst(from: &socket.pointee.pops), rightSized(buffer).unsafelyUnwrapped)
        } else if count == 0 {
            socket.pointee.hasReceivedEnd = true
            socket.pointee.mayBeReadable = false
            endPops(index)
        } else if errno == EAGAIN {
            socket.pointee.mayBeReadable = false
        } else if errno != EINTR {
            socket.pointee.failure = errno
            socket.pointee.hasReceivedEnd = true
            socket.pointee.mayBeReadable = false
            endPops(index)
        }
        return true
    }

    private func countReceive(_ index: Int) {
        if state.pointee.lastReceiver == UInt32(index) {
            state.pointee.receiverStreak &+= 1
        } else {
            state.pointee.lastReceiver = UInt32(index)
            state.pointee.receiverStreak = 0
        }
    }

    private func adapt(_ socket: UnsafeMutablePointer<KernelSocket>, wanted: Int, received: Int) {
        let size = socket.pointee.receiveByteCount
        if received == Int(size) {
            socket.pointee.receiveByteCount = min(size * 2, KernelSocket.largestReceive)
        } else if received < Int(size) / 4 {
            socket.pointee.receiveByteCount = max(size / 2, KernelSocket.smallestReceive)
        }
    }

    /// The buffer as an array; what fills less than a quarter of its block is copied into a smaller one, so that small messages do not pin large
    /// blocks.
    private func rightSized(_ buffer: consuming Buffer) -> UnsafeMutablePointer<SegmentDescriptor>? {
        let count = buffer.count
        if count * 4 <= count + buffer.headroom + buffer.tailroom, let smaller = try? core.heap.allocate(count) {
            smaller.address.copyMemory(from: buffer.address, byteCount: count)
            return try? ScatterGatherArray(smaller).takeOver()
        }
        return try? ScatterGatherArray(buffer).takeOver()
    }

    /// One datagram; false when the heap is full.
    private func receiveDatagram(_ index: Int) -> Bool {
        let socket = socket(index)
        if socket.pointee.tellsInformation { return receiveDatagramWithInformation(index) }
        let largest = 65_536
        if state.pointee.datagramBlock == nil {
            state.pointee.datagramBlock = try? core.heap.allocate(largest, priority: .datagram)
        }
        guard let buffer = state.pointee.datagramBlock.take() else {
            starve(index)
            return false
        }
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let count = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                recvfrom(socket.pointee.file, buffer.address, largest, Int32(MSG_DONTWAIT), $0, &length)
            }
        }
        if count >= 0 {
            guard let smaller = try? core.heap.allocate(count, priority: .datagram), let array = try? ScatterGatherArray(smaller) else {
                // No memory for it: a datagram is lost, as a full socket buffer would lose it.
                state.pointee.datagramBlock = consume buffer
                return true
            }
            let taken = array.takeOver()
            taken.segmentAddress.copyMemory(from: buffer.address, byteCount: count)
            state.pointee.datagramBlock = consume buffer
            let from = withUnsafePointer(to: &storage) { SocketAddress($0) } ?? .any(socket.pointee.family, port: 0)
            deliver(socket, taken, from: from)
            return true
        }
        let error = errno
        state.pointee.datagramBlock = consume buffer
        noteNoDatagram(socket, error)
        return true
    }

    /// The kernel gave no datagram, but an error.
    func noteNoDatagram(_ socket: UnsafeMutablePointer<KernelSocket>, _ error: Int32) {
        if error == EAGAIN {
            socket.pointee.mayBeReadable = false
        } else if error != EINTR {
            // An ICMP error of an earlier push (a connected socket's port unreachable): reported once.
            core.fail(core.removeFirst(from: &socket.pointee.pops), error)
        }
    }

    func deliver(_ socket: UnsafeMutablePointer<KernelSocket>, _ array: UnsafeMutablePointer<SegmentDescriptor>, from: SocketAddress) {
        let pop = core.removeFirst(from: &socket.pointee.pops)
        socket.pointee.restAddress = from
        socket.pointee.rest = core.completePop(pop, cutting: array, from: from)
        if socket.pointee.rest != nil { serveRest(socket) }
    }

    private func serveRest(_ socket: UnsafeMutablePointer<KernelSocket>) {
        while let array = socket.pointee.rest, !socket.pointee.pops.isEmpty {
            let pop = core.removeFirst(from: &socket.pointee.pops)
            socket.pointee.rest = core.completePop(pop, cutting: array, from: socket.pointee.restAddress)
        }
    }

    // MARK: Cancel

    func cancel(_ index: Int, _ operation: UInt32) {
        let socket = socket(index)
        switch core.operation(operation).pointee.kind {
        case .pop:
            core.remove(operation, from: &socket.pointee.pops)
            core.fail(operation, ECANCELED)
        case .accept:
            core.remove(operation, from: &socket.pointee.accepts)
            core.fail(operation, ECANCELED)
        case .connect:
            socket.pointee.connectOperation = 0
            dissolveConnect(index)
            core.fail(operation, ECANCELED)
        case .push, .pushTo:
            cancelPush(index, operation)
        case .close:
            break
        }
    }

    /// Takes a push out of the queue unless the kernel has a byte of it.
    private func cancelPush(_ index: Int, _ operation: UInt32) {
        let socket = socket(index)
        if socket.pointee.sentOfFirst > 0, socket.pointee.firstToSend?.pointee.operation == operation { return }
        guard let array = core.takeWaitingPush(operation, from: &socket.pointee.firstToSend, &socket.pointee.lastToSend) else { return }
        array.releaseArray()
        core.fail(operation, ECANCELED)
        // A shutdown or a close may have waited for it.
        if socket.pointee.firstToSend == nil { sentEverything(index) }
    }
}
