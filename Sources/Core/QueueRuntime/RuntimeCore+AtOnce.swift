import DatapathMemory

/// The common cases of push, pop and wait for a caller that knows the runtime's thread to be its own, as the C interface does by the thread's own word.
///
/// None of them throws: what is no common case is told by a result that is no token, changes nothing, and is done again by the call of `Runtime` that has
/// an error for everything. So a caller keeps next to nothing over such a call.
extension RuntimeCore {
    /// As `Runtime.push`, of an array that was taken over.
    /// - Returns: the token; 0 where nothing was pushed and the array is the caller's still.
    @inline(never)
    public func pushAtOnce(_ queue: QueueDescriptor, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> UInt64 {
        let slot = state.pointee.queues + queue.slot
        guard slot.pointee.openDescriptor == queue.rawValue, let operation = slotForImmediateOperation else { return 0 }
        // A function of its own, so that queues in memory save no registers for it.
        guard let memory = slot.pointee.memoryQueue else { return pushAtOnce(slot, queue, array) }
        guard memory.pointee.takesNow(array) else { return 0 }
        memory.pointee.append(array)
        operation.pointee.byteCount = array.arrayByteCount
        return completeImmediately(operation, .push, queue, .pushed).rawValue
    }

    @inline(never)
    private func pushAtOnce(_ slot: UnsafeMutablePointer<QueueSlot>, _ queue: QueueDescriptor, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> UInt64 {
        let byteCount = array.arrayByteCount
        guard pushesNow(slot, array, nil) else { return 0 }
        // Such a push begins no operation: the slot is free still.
        let operation = state.pointee.freeOperation.unsafelyUnwrapped.operation
        operation.pointee.byteCount = byteCount
        return completeImmediately(operation, .push, queue, .pushed).rawValue
    }

    /// As `Runtime.pop` of one segment and any number of bytes.
    /// - Returns: the token; 0 where no pop was made.
    @inline(never)
    public func popAtOnce(_ queue: QueueDescriptor) -> UInt64 {
        let slot = state.pointee.queues + queue.slot
        guard slot.pointee.openDescriptor == queue.rawValue else { return 0 }
        if let memory = slot.pointee.memoryQueue {
            guard let array = memory.pointee.givesNow(maximumSegments: 1, maximumBytes: .max), let operation = slotForImmediateOperation else { return 0 }
            memory.pointee.removeFirst(array)
            operation.pointee.array = array
            return completeImmediately(operation, .pop, queue, .popped).rawValue
        }
        let pops = slot.pointee.waitingPops
        guard pops.pointee.findsNothing, let free = state.pointee.freeOperation else { return 0 }
        return popLater(pops, free.operation, queue, 1, .max).rawValue
    }

    /// What an operation has come to that nobody but its token's owner waits for: its result is plain, and taken as it is.
    @frozen
    public enum ResultAtOnce {
        /// The operation is pending, or there is more to say than that: nothing has changed.
        case none
        case pushed(QueueDescriptor)
        /// An array whose owner is the caller now.
        case popped(QueueDescriptor, UnsafeMutablePointer<SegmentDescriptor>)
    }

    /// The slot of a token's operation; nil for what is no token, and for a slot's last one, after which more is to be done than these calls do.
    @inlinable
    @inline(__always)
    public func slotAtOnce(_ token: QueueToken) -> UnsafeMutablePointer<Operation>? {
        let slot = state.pointee.operations + Int(truncatingIfNeeded: token.rawValue & QueueToken.slotMask)
        return slot.pointee.token == token.rawValue && !token.rawValue.addingReportingOverflow(QueueToken.slotMask &+ 1).overflow ? slot : nil
    }

    /// Redeems an operation that has completed, as `Runtime.wait` would.
    @inlinable
    @inline(__always)
    public func redeemAtOnce(_ slot: UnsafeMutablePointer<Operation>) -> ResultAtOnce {
        let result = slot.pointee.plainResult
        guard result == .popped || result == .pushed, mayWaitWithoutTurn() else { return .none }
        removePlain(slot)
        return take(result, of: slot)
    }

    /// Redeems an operation that is pending, and that one turn completes.
    @inlinable
    @inline(__always)
    public func redeemAfterOneTurn(_ slot: UnsafeMutablePointer<Operation>) -> ResultAtOnce {
        guard slot.pointee.plainResult == .none, completesInOneTurn(slot) else { return .none }
        let result = slot.pointee.plainResult
        guard result == .popped || result == .pushed else {
            list(slot)
            return .none
        }
        return take(result, of: slot)
    }

    @inlinable
    @inline(__always)
    func take(_ result: PlainResult, of slot: UnsafeMutablePointer<Operation>) -> ResultAtOnce {
        // As `releasePlainOperation`.
        state.pointee.liveOperations &-= 1
        slot.pointee.isCompleted = false
        slot.pointee.plainResult = .none
        slot.pointee.token = ~(slot.pointee.token &+ (QueueToken.slotMask &+ 1))
        slot.pointee.link.next = state.pointee.freeOperation
        state.pointee.freeOperation = UnsafeMutableRawPointer(slot).assumingMemoryBound(to: ListLink.self)
        return result == .popped ? .popped(slot.pointee.queue, slot.pointee.array.unsafelyUnwrapped) : .pushed(slot.pointee.queue)
    }
}
