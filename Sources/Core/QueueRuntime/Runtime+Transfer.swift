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
        core.checkThread()
        let slot = try core.lookUp(queue, .push)
        let taken = array.takeOver()
        guard let memory = slot.pointee.memoryQueue, memory.pointee.takesNow(taken), case let operation = core.takeFreeOperation(.push, queue),
            operation != 0
        else { return try core.pushSlowly(slot, queue, taken) }
        memory.pointee.append(taken)
        core.operation(operation).pointee.byteCount = taken.arrayByteCount
        core.completeUnclaimed(operation)
        return core.token(operation)
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
        try pushDiscarded(queue, array, to: nil, .push)
    }

    /// Sends one buffer and forgets it.
    /// - Throws: as `push(_:_:completion:)` of an array.
    public func push(_ queue: QueueDescriptor, _ buffer: consuming Buffer, completion: PushCompletion) throws(DemikernelError) {
        try pushDiscarded(queue, ScatterGatherArray(buffer), to: nil, .push)
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
        try pushDiscarded(queue, array, to: address, .pushTo)
    }

    private func pushDiscarded(
        _ queue: QueueDescriptor, _ array: consuming ScatterGatherArray, to address: SocketAddress?, _ name: DemikernelError.Operation
    ) throws(DemikernelError) {
        core.checkThread()
        let slot = try core.lookUp(queue, name)
        let taken = array.takeOver()
        if let memory = slot.pointee.memoryQueue, address == nil, memory.pointee.takesNow(taken) { return memory.pointee.append(taken) }
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        let error: Int32
        if let address {
            error = withUnsafePointer(to: address) {
                library.pointee.pushDiscarded(library.pointee.context, slot.pointee.state, taken, $0)
            }
        } else {
            error = library.pointee.pushDiscarded(library.pointee.context, slot.pointee.state, taken, nil)
        }
        if error != 0 {
            taken.releaseArray()
            throw core.refusalError(error, name)
        }
    }

    /// Receives: the next bytes of a stream, one or more, or the next unit. Completes with `.popped`, or `.endOfStream`.
    ///
    /// What exceeds the limits stays queued and is popped next, of a unit as of a stream.
    /// - Throws: `ENOTCONN`, `EINVAL` for a limit below 1, `ENOBUFS` at `Limits.maximumOperations`, `EBADF`.
    public func pop(
        _ queue: QueueDescriptor, maximumSegments: Int = ScatterGatherArray.maximumSegments, maximumBytes: Int = .max
    ) throws(DemikernelError) -> QueueToken {
        core.checkThread()
        let slot = try core.lookUp(queue, .pop)
        guard let memory = slot.pointee.memoryQueue,
            let array = memory.pointee.givesNow(maximumSegments: maximumSegments, maximumBytes: maximumBytes),
            case let operation = core.takeFreeOperation(.pop, queue), operation != 0
        else { return try core.popSlowly(slot, queue, maximumSegments, maximumBytes) }
        memory.pointee.removeFirst(array)
        core.operation(operation).pointee.array = array
        core.completeUnclaimed(operation)
        return core.token(operation)
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
    @inline(never)
    fileprivate func pushSlowly(
        _ slot: UnsafeMutablePointer<QueueSlot>, _ queue: QueueDescriptor, _ array: UnsafeMutablePointer<SegmentDescriptor>
    ) throws(DemikernelError) -> QueueToken {
        let operation = makeOperation(.push, queue)
        guard operation != 0 else {
            array.releaseArray()
            throw tooManyOperations(.push)
        }
        self.operation(operation).pointee.array = array
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        let error = library.pointee.push(library.pointee.context, slot.pointee.state, operation)
        if error != 0 { array.releaseArray() }
        return try submitted(operation, error, .push)
    }

    @inline(never)
    fileprivate func popSlowly(
        _ slot: UnsafeMutablePointer<QueueSlot>, _ queue: QueueDescriptor, _ maximumSegments: Int, _ maximumBytes: Int
    ) throws(DemikernelError) -> QueueToken {
        guard maximumSegments > 0, maximumBytes > 0 else {
            throw DemikernelError(EINVAL, .pop, "a pop takes at least one segment and one byte")
        }
        let operation = try begin(.pop, queue, .pop)
        self.operation(operation).pointee.maximumSegments = UInt8(clamping: maximumSegments)
        self.operation(operation).pointee.byteCount = maximumBytes
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        return try submitted(operation, library.pointee.pop(library.pointee.context, slot.pointee.state, operation), .pop)
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
