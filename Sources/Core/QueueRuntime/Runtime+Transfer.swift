import DatapathMemory
import Glibc

/// Says that nobody waits for a push: it holds no operation slot, and a failure after the call shows only in the next pop.
@frozen
public enum PushCompletion: Sendable {
    case discarded
}

/// Push, pop, cancel.
extension Runtime {
    /// Sends an array, which is consumed. Completes with `.pushed` when the queue has taken all of it in order; it is not a delivery receipt.
    ///
    /// A queue that is full throws nothing: the token stays pending.
    /// - Throws: `ENOTCONN` (`EDESTADDRREQ` for a datagram), `EPIPE` after `shutdown(.send)`, `EMSGSIZE` beyond the largest unit, `EINVAL` for an empty array on a stream,
    ///   `ENOBUFS` at `Limits.maximumOperations`, `EBADF`. The array is released.
    public func push(_ queue: QueueDescriptor, _ array: consuming ScatterGatherArray) throws(DemikernelError) -> QueueToken {
        let taken = array.takeOver()
        // The common case of a queue in memory without a stack frame; all else is one call at the end.
        if core.isOnOwnThread, case let slot = core.state.pointee.queues + queue.slot, slot.pointee.openDescriptor == queue.rawValue {
            if let memory = slot.pointee.memoryQueue {
                if memory.pointee.takesNow(taken), let operation = core.slotForImmediateOperation {
                    memory.pointee.append(taken)
                    operation.pointee.byteCount = taken.arrayByteCount
                    return core.completeImmediately(operation, .push, queue, .pushed)
                }
            } else {
                // A function of its own, so that queues in memory save no registers for it.
                return try core.pushToDevice(slot, queue, taken)
            }
        }
        return try core.pushSlowly(queue, taken)
    }

    /// Sends one buffer: an array of one segment.
    /// - Throws: as `push` of an array.
    public func push(_ queue: QueueDescriptor, _ buffer: consuming Buffer) throws(DemikernelError) -> QueueToken {
        try push(queue, ScatterGatherArray(buffer))
    }

    /// Sends an array and forgets it.
    /// - Throws: as `push`; also `EAGAIN` when the queue holds `Limits.discardedPushByteCount` that it could not send yet.
    public func push(
        _ queue: QueueDescriptor, _ array: consuming ScatterGatherArray, completion: PushCompletion
    ) throws(DemikernelError) {
        let taken = array.takeOver()
        if core.isOnOwnThread, case let slot = core.state.pointee.queues + queue.slot, slot.pointee.openDescriptor == queue.rawValue {
            if let memory = slot.pointee.memoryQueue {
                if memory.pointee.takesNow(taken) { return memory.pointee.append(taken) }
            } else if core.pushesNow(slot, taken, nil) {
                return
            }
        }
        try core.pushDiscarded(queue, taken, nil, .push)
    }

    /// Sends one buffer and forgets it.
    /// - Throws: as `push(_:_:completion:)` of an array.
    public func push(_ queue: QueueDescriptor, _ buffer: consuming Buffer, completion: PushCompletion) throws(DemikernelError) {
        try push(queue, ScatterGatherArray(buffer), completion: completion)
    }

    /// Sends one datagram to `address`. Completes with `.pushed`.
    /// - Throws: as `push`; also `EOPNOTSUPP` on a stream, `EAFNOSUPPORT`.
    public func pushTo(
        _ queue: QueueDescriptor, _ array: consuming ScatterGatherArray, _ address: SocketAddress
    ) throws(DemikernelError) -> QueueToken {
        core.checkThread()
        let slot = try core.lookUp(queue, .pushTo)
        let operation = try core.begin(.pushTo, queue, .pushTo)
        let taken = array.takeOver()
        core.operation(operation).pointee.array = taken
        core.operation(operation).pointee.address = address
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        let error = library.pointee.push(library.pointee.context, slot.pointee.state, operation)
        if error != 0 { taken.releaseArray() }
        return try core.submitted(operation, error, .pushTo)
    }

    /// Sends one datagram and forgets it.
    /// - Throws: as `pushTo`.
    public func pushTo(
        _ queue: QueueDescriptor, _ array: consuming ScatterGatherArray, _ address: SocketAddress, completion: PushCompletion
    ) throws(DemikernelError) {
        let taken = array.takeOver()
        try withUnsafePointer(to: address) { (address) throws(DemikernelError) in
            if core.isOnOwnThread, case let slot = core.state.pointee.queues + queue.slot, slot.pointee.openDescriptor == queue.rawValue,
                core.pushesNow(slot, taken, address)
            {
                return
            }
            try core.pushDiscarded(queue, taken, address, .pushTo)
        }
    }

    /// Receives: the next bytes of a stream, one or more, or the next unit. Completes with `.popped`, or `.endOfStream`.
    ///
    /// What exceeds the limits stays queued and is popped next, of a unit as of a stream.
    /// - Throws: `ENOTCONN`, `EINVAL` for a limit below 1, `ENOBUFS` at `Limits.maximumOperations`, `EBADF`.
    @inlinable
    @inline(__always)
    public func pop(
        _ queue: QueueDescriptor, maximumSegments: Int = ScatterGatherArray.maximumSegments, maximumBytes: Int = .max
    ) throws(DemikernelError) -> QueueToken {
        // Both are mostly constants: the call then has neither to be given nor to look at them.
        maximumSegments == ScatterGatherArray.maximumSegments && maximumBytes == .max
            ? try popWhole(queue) : try popLimited(queue, maximumSegments, maximumBytes)
    }

    @usableFromInline
    @inline(never)
    func popWhole(_ queue: QueueDescriptor) throws(DemikernelError) -> QueueToken { try popAtOnce(queue, ScatterGatherArray.maximumSegments, .max) }

    @usableFromInline
    @inline(never)
    func popLimited(_ queue: QueueDescriptor, _ maximumSegments: Int, _ maximumBytes: Int) throws(DemikernelError) -> QueueToken {
        try popAtOnce(queue, maximumSegments, maximumBytes)
    }

    @inline(__always)
    private func popAtOnce(_ queue: QueueDescriptor, _ maximumSegments: Int, _ maximumBytes: Int) throws(DemikernelError) -> QueueToken {
        if core.isOnOwnThread, case let slot = core.state.pointee.queues + queue.slot, slot.pointee.openDescriptor == queue.rawValue {
            if let memory = slot.pointee.memoryQueue {
                if let array = memory.pointee.givesNow(maximumSegments: maximumSegments, maximumBytes: maximumBytes),
                    let operation = core.slotForImmediateOperation
                {
                    memory.pointee.removeFirst(array)
                    operation.pointee.array = array
                    return core.completeImmediately(operation, .pop, queue, .popped)
                }
            } else if case let pops = slot.pointee.waitingPops, pops.pointee.findsNothing, maximumBytes >= WaitingPops.unlimitedByteCount, maximumSegments > 0,
                let free = core.state.pointee.freeOperation
            {
                return core.popLater(pops, free.operation, queue, maximumSegments, maximumBytes)
            }
        }
        return try core.popSlowly(queue, maximumSegments, maximumBytes)
    }

    /// Asks for the end of an operation. Its token still completes exactly once: with its result, or with `ECANCELED`.
    ///
    /// A push of which a byte was taken, and anything completed, is left as it is.
    /// - Throws: `EINVAL` for a token that names nothing.
    public func cancel(_ token: QueueToken) throws(DemikernelError) {
        core.checkThread()
        let index = core.slot(of: token)
        guard index != 0 else { throw RuntimeCore.spent }
        core.cancelPending(index)
    }
}

extension RuntimeCore {
    /// Whether the library OS has taken an array over at once. If not, nothing has happened.
    @inline(__always)
    func pushesNow(_ slot: UnsafeMutablePointer<QueueSlot>, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ address: UnsafePointer<SocketAddress>?) -> Bool {
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        guard let pushNow = library.pointee.pushNow else { return false }
        return pushNow(library.pointee.context, slot.pointee.state, array, address) == 0
    }

    @inline(never)
    fileprivate func pushToDevice(
        _ slot: UnsafeMutablePointer<QueueSlot>, _ queue: QueueDescriptor, _ array: UnsafeMutablePointer<SegmentDescriptor>
    ) throws(DemikernelError) -> QueueToken {
        let byteCount = array.arrayByteCount
        guard slotForImmediateOperation != nil, pushesNow(slot, array, nil) else { return try pushSlowly(queue, array) }
        // Such a push begins no operation: the slot is free still.
        let operation = state.pointee.freeOperation.unsafelyUnwrapped.operation
        operation.pointee.byteCount = byteCount
        return completeImmediately(operation, .push, queue, .pushed)
    }

    /// A push to a queue that does not take it at once, that is refused, or that needs an operation slot which was never used.
    @inline(never)
    fileprivate func pushSlowly(
        _ queue: QueueDescriptor, _ array: UnsafeMutablePointer<SegmentDescriptor>
    ) throws(DemikernelError) -> QueueToken {
        checkThread()
        let slot: UnsafeMutablePointer<QueueSlot>
        do throws(DemikernelError) {
            slot = try lookUp(queue, .push)
            guard state.pointee.freeOperation != nil || carveOperation() else { throw tooManyOperations(.push) }
        } catch {
            array.releaseArray()
            throw error
        }
        let operation = state.pointee.freeOperation.unsafelyUnwrapped.operation
        let token = QueueToken(rawValue: take(operation, .push, queue))
        operation.pointee.array = array
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        let error = library.pointee.push(library.pointee.context, slot.pointee.state, operation.index)
        if error != 0 {
            array.releaseArray()
            throw refused(token, error, .push)
        }
        return token
    }

    @inline(never)
    fileprivate func pushDiscarded(
        _ queue: QueueDescriptor, _ array: UnsafeMutablePointer<SegmentDescriptor>, _ address: UnsafePointer<SocketAddress>?,
        _ name: DemikernelError.Operation
    ) throws(DemikernelError) {
        checkThread()
        do throws(DemikernelError) {
            let slot = try lookUp(queue, name)
            let library = slot.pointee.libraryOS.unsafelyUnwrapped
            let error = library.pointee.pushDiscarded(library.pointee.context, slot.pointee.state, array, address)
            if error != 0 { throw refusalError(error, name) }
        } catch {
            array.releaseArray()
            throw error
        }
    }

    @inline(never)
    fileprivate func popSlowly(_ queue: QueueDescriptor, _ maximumSegments: Int, _ maximumBytes: Int) throws(DemikernelError) -> QueueToken {
        checkThread()
        let slot = try lookUp(queue, .pop)
        guard maximumSegments > 0, maximumBytes > 0 else { throw badLimit() }
        let operation = self.operation(try begin(.pop, queue, .pop))
        // Everything of the slot is written before the call, which it would be read again after.
        operation.pointee.maximumSegments = UInt8(clamping: maximumSegments)
        operation.pointee.byteCount = maximumBytes
        let token = QueueToken(rawValue: operation.pointee.token)
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        let error = library.pointee.pop(library.pointee.context, slot.pointee.state, operation.index)
        if error != 0 { throw refused(token, error, .pop) }
        return token
    }

    @inline(never)
    private func badLimit() -> DemikernelError { DemikernelError(EINVAL, .pop, "a pop takes at least one segment and one byte") }

    @inline(never)
    private func refused(_ token: QueueToken, _ error: Int32, _ name: DemikernelError.Operation) -> DemikernelError {
        releaseOperation(slot(of: token))
        return refusalError(error, name)
    }

    /// Cancels the operation of a token, if there still is one.
    func cancel(_ token: QueueToken) {
        let index = slot(of: token)
        if index != 0 { cancelPending(index) }
    }

    func cancelPending(_ index: UInt32) {
        let operation = operation(index)
        if operation.pointee.isCompleted || operation.pointee.kind == .close { return }
        let slot = state.pointee.queues + operation.pointee.queue.slot
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        library.pointee.cancel(library.pointee.context, slot.pointee.state, index)
    }
}
