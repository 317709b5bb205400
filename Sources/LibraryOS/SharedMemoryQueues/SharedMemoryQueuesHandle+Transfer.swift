import DatapathMemory
import Glibc
import QueueRuntime

/// Moving units: the path that counts.
extension SharedMemoryQueuesHandle {
    // MARK: Push

    /// Puts an array into the ring, if it may go there and none waits before it. Every reason why not is left to `push` and `pushDiscarded`.
    /// - Returns: 0 when the array was taken over.
    @inline(never)
    func pushNow(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>, isAddressed: Bool) -> Int32 {
        let queue = queue(index)
        let byteCount = array.arrayByteCount
        guard queue.pointee.takesPushes, !isAddressed, byteCount >= queue.pointee.minimumUnitSize,
            byteCount <= queue.pointee.rings.unsafelyUnwrapped.maximumUnitSize, queue.pointee.firstToSend == nil,
            queue.pointee.rings!.producer.room(for: byteCount) == .enough
        else { return EAGAIN }
        if queue.pointee.rings!.producer.put(array, byteCount) != 0 { attend(index) }
        array.releaseArray()
        return 0
    }

    func push(_ index: Int, _ operation: UInt32) -> Int32 {
        let slot = core.operation(operation)
        let array = slot.pointee.array.unsafelyUnwrapped
        let byteCount = array.arrayByteCount
        let refusal = check(index, byteCount, isAddressed: slot.pointee.kind != .push)
        if refusal != 0 { return refusal }
        if queue(index).pointee.firstToSend == nil {
            switch put(index, array, byteCount) {
            case .enough:
                array.releaseArray()
                core.completePush(operation, byteCount: byteCount)
                return 0
            case .full: break
            case .broken: return refuseBroken()
            }
        }
        array.pointee.operation = operation
        enqueue(index, array)
        return 0
    }

    func pushDiscarded(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>, isAddressed: Bool) -> Int32 {
        let queue = queue(index)
        let byteCount = array.arrayByteCount
        let refusal = check(index, byteCount, isAddressed: isAddressed)
        if refusal != 0 { return refusal }
        if queue.pointee.firstToSend == nil {
            switch put(index, array, byteCount) {
            case .enough:
                array.releaseArray()
                return 0
            case .full: break
            case .broken: return refuseBroken()
            }
        }
        // An empty unit holds a descriptor, too.
        let held = max(byteCount, 1)
        guard queue.pointee.discardedByteCount + held <= core.limits.discardedPushByteCount else {
            return core.refuse(EAGAIN, "the peer reads too slowly for pushes that nobody waits for: wait for a push")
        }
        queue.pointee.discardedByteCount += held
        array.pointee.operation = 0
        enqueue(index, array)
        return 0
    }

    private func refuseBroken() -> Int32 { core.refuse(EPIPE, "the peer has broken the rules of the ring: the connection has failed") }

    /// - Returns: 0, or why a push is refused.
    private func check(_ index: Int, _ byteCount: Int, isAddressed: Bool) -> Int32 {
        let queue = queue(index)
        if isAddressed { return core.refuse(EOPNOTSUPP, "a connection has one peer: use push") }
        if queue.pointee.phase != .connected { return core.refuse(ENOTCONN, "the queue is not connected") }
        if queue.pointee.isSendShutDown { return core.refuse(EPIPE, "the sending direction was shut down") }
        if !queue.pointee.takesPushes { return core.refuse(EPIPE, "the peer has closed the connection, or died") }
        if byteCount < queue.pointee.minimumUnitSize { return core.refuse(EINVAL, "an empty push means nothing on a stream: use shutdown to end it") }
        if byteCount <= queue.pointee.rings.unsafelyUnwrapped.maximumUnitSize { return 0 }
        return core.refuse(EMSGSIZE, "a unit is larger than both sides' Limits.maximumUnitSize, or three quarters of Limits.sharedRingByteCount")
    }

    /// Puts a unit into the ring if there is room, and wakes the peer if it sleeps. A broken ring has failed the connection.
    @inline(never)
    private func put(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ byteCount: Int) -> RingProducer.Room {
        let queue = queue(index)
        let room = queue.pointee.rings!.producer.room(for: byteCount)
        if room == .enough {
            if queue.pointee.rings!.producer.put(array, byteCount) != 0 { attend(index) }
        } else if room == .broken {
            state.pointee.statistics.brokenProgress += 1
            fail(index, EPROTO)
        }
        return room
    }

    /// The consumer has said something of itself.
    @inline(never)
    private func attend(_ index: Int) {
        let queue = queue(index)
        if queue.pointee.rings!.producer.takeSleep() { wakePeer(index) }
        if queue.pointee.rings!.producer.isConsumerClosed { queue.pointee.takesPushes = false }
    }

    private func enqueue(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>) {
        let queue = queue(index)
        array.pointee.nextArray = nil
        if let last = queue.pointee.lastToSend { last.pointee.nextArray = array } else { queue.pointee.firstToSend = array }
        queue.pointee.lastToSend = array
        watchRings(index)
    }

    /// Puts what waits into the ring, as far as it goes.
    /// - Returns: how many units.
    func flush(_ index: Int) -> Int32 {
        let queue = queue(index)
        var count: Int32 = 0
        while let array = queue.pointee.firstToSend {
            if queue.pointee.rings!.producer.isConsumerClosed {
                dropSends(index, EPIPE)
                queue.pointee.takesPushes = false
                break
            }
            let byteCount = array.arrayByteCount
            switch put(index, array, byteCount) {
            case .enough: break
            case .full: return count
            // The failure has dropped all of them.
            case .broken: return count + 1
            }
            let operation = array.pointee.operation
            removeFirstToSend(queue)
            array.releaseArray()
            if operation != 0 { core.completePush(operation, byteCount: byteCount) }
            count &+= 1
        }
        sentEverything(index)
        return count
    }

    private func removeFirstToSend(_ queue: UnsafeMutablePointer<SharedQueue>) {
        let array = queue.pointee.firstToSend.unsafelyUnwrapped
        if array.pointee.operation == 0 { queue.pointee.discardedByteCount -= max(array.arrayByteCount, 1) }
        queue.pointee.firstToSend = array.pointee.nextArray
        if array.pointee.nextArray == nil { queue.pointee.lastToSend = nil }
    }

    /// Fails every push that waits for room: no byte of it was taken.
    func dropSends(_ index: Int, _ error: Int32) {
        let queue = queue(index)
        while let array = queue.pointee.firstToSend {
            let operation = array.pointee.operation
            removeFirstToSend(queue)
            array.releaseArray()
            if operation != 0 { core.fail(operation, error, SharedMemoryQueuesHandle.failureMessage(error)) }
        }
    }

    // MARK: Pop

    func pop(_ index: Int, _ operation: UInt32) -> Int32 {
        let queue = queue(index)
        guard queue.pointee.phase == .connected else { return core.refuse(ENOTCONN, "the queue is not connected") }
        core.append(operation, to: &queue.pointee.pops)
        if receive(index) == 0 { watchRings(index) }
        return 0
    }

    /// Gives units, or the end, to the pops that wait.
    /// - Returns: how many pops were completed.
    @inline(__always)
    func receive(_ index: Int) -> Int32 {
        let queue = queue(index)
        var count: Int32 = 0
        while !queue.pointee.pops.isEmpty {
            if queue.pointee.rest == nil, queue.pointee.isReceiving, case .unit(let byteCount) = queue.pointee.rings!.consumer.next {
                guard let unit = makeUnit(byteCount) else { return count }
                if queue.pointee.rings!.consumer.take(byteCount, to: unit.segmentAddress) { wakePeer(index) }
                let pop = queue.pointee.pops.first
                if byteCount <= core.operation(pop).pointee.byteCount {
                    core.completeFirstPop(of: &queue.pointee.pops, unit)
                } else {
                    queue.pointee.rest = unit
                    serveRest(index)
                }
            } else if !receiveOther(index) {
                return count
            }
            count &+= 1
        }
        return count
    }

    private func makeUnit(_ byteCount: Int) -> UnsafeMutablePointer<SegmentDescriptor>? {
        if let unit = UnsafeMutablePointer<SegmentDescriptor>.makeSegment(state.pointee.heap, byteCount: byteCount, priority: .application) {
            return unit
        }
        // It stays in the ring, whose producer is slowed.
        state.pointee.isOutOfMemory = true
        return nil
    }

    /// What is no whole unit at the front of the ring: the rest of one, the end, nothing, or a lie.
    /// - Returns: whether the oldest pop was completed.
    @inline(never)
    private func receiveOther(_ index: Int) -> Bool {
        let queue = queue(index)
        if queue.pointee.rest != nil {
            serveRest(index)
            return true
        }
        if queue.pointee.hasReceivedEnd || queue.pointee.failure != 0 {
            endPops(index)
            return true
        }
        switch queue.pointee.rings!.consumer.next {
        case .end:
            queue.pointee.hasReceivedEnd = true
            queue.pointee.isReceiving = false
            endPops(index)
            return true
        case .broken:
            state.pointee.statistics.brokenHeaders += 1
            fail(index, EPROTO)
            return true
        case .nothing, .unit:
            // A unit that has come since the first look: the next one finds it. The peer's end was seen before this look, so nothing else comes.
            guard queue.pointee.hasPeerEnded, case .nothing = queue.pointee.rings!.consumer.next else { return false }
            state.pointee.statistics.peersLost += 1
            fail(index, ECONNRESET)
            return true
        }
    }

    private func serveRest(_ index: Int) {
        let queue = queue(index)
        while let array = queue.pointee.rest, !queue.pointee.pops.isEmpty {
            queue.pointee.rest = core.completePop(core.removeFirst(from: &queue.pointee.pops), cutting: array)
        }
    }

    func endPops(_ index: Int) {
        let queue = queue(index)
        let failure = queue.pointee.hasReceivedEnd ? 0 : queue.pointee.failure
        while case let pop = core.removeFirst(from: &queue.pointee.pops), pop != 0 {
            if failure == 0 {
                core.completeEndOfStream(pop)
            } else {
                core.fail(pop, failure, SharedMemoryQueuesHandle.failureMessage(failure))
            }
        }
    }

    static func failureMessage(_ error: Int32) -> StaticString {
        switch error {
        case EPROTO: "the peer has broken the rules of the ring"
        case ECONNRESET: "the peer's process has ended without closing the connection"
        case EPIPE: "the peer has closed the connection"
        case ETIMEDOUT: "the peer took nothing from the ring within Limits.closeLinger"
        default: ""
        }
    }

    // MARK: Cancel

    func cancel(_ index: Int, _ operation: UInt32) {
        let queue = queue(index)
        switch core.operation(operation).pointee.kind {
        case .pop:
            core.remove(operation, from: &queue.pointee.pops)
            core.fail(operation, ECANCELED)
        case .accept:
            core.remove(operation, from: &queue.pointee.accepts)
            core.fail(operation, ECANCELED)
        case .connect:
            queue.pointee.connectOperation = 0
            dissolveConnect(index)
            core.fail(operation, ECANCELED)
        case .push, .pushTo:
            cancelPush(index, operation)
        case .close:
            break
        }
    }

    /// Takes out a push that waits for room.
    private func cancelPush(_ index: Int, _ operation: UInt32) {
        let queue = queue(index)
        guard let array = core.takeWaitingPush(operation, from: &queue.pointee.firstToSend, &queue.pointee.lastToSend) else { return }
        array.releaseArray()
        core.fail(operation, ECANCELED)
        if queue.pointee.firstToSend == nil { sentEverything(index) }
    }
}
