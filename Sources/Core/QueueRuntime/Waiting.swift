import DatapathMemory
import Glibc
import TaskScheduler

/// Claims, completion lists and the redeeming of tokens.
extension RuntimeCore {
    // MARK: Lists of completed operations

    /// The waiter on whose list a completed operation stands: its claimant while the claim holds, else number 0.
    @inline(__always)
    func holder(of index: UInt32) -> UInt32 {
        let slot = operation(index)
        let claim = slot.pointee.claim
        // The thread waits for it, in the present turn.
        if claim.word == OperationClaim.turn { return Waiter.thread }
        return claim.word != 0 && claim.epoch == state.pointee.waiters[Int(claim.waiter)].epoch ? claim.waiter : 0
    }

    /// Whether one of two completed operations completed before the other. Right as long as fewer than 2^31 completed in between.
    @inline(__always)
    func completedBefore(_ left: UInt32, _ right: UInt32) -> Bool {
        Int32(bitPattern: operation(left).pointee.completionNumber &- operation(right).pointee.completionNumber) < 0
    }

    @inline(__always)
    func removeCompleted(_ index: UInt32, from waiterIndex: UInt32) {
        operation(index).link.removeFromRing()
        state.pointee.waiters[Int(waiterIndex)].count &-= 1
    }

    /// Drops all claims of a waiter: what is pending is nobody's again, what is completed moves to the unclaimed list, in order. O(1), unless
    /// others completed in between.
    func dropClaims(of waiterIndex: UInt32) {
        let waiter = state.pointee.waiters + Int(waiterIndex)
        waiter.pointee.epoch = waiter.pointee.epoch == .max ? 1 : waiter.pointee.epoch &+ 1
        waiter.pointee.members = 0
        if waiter.pointee.count != 0 { splice(waiterIndex) }
    }

    @inline(never)
    func splice(_ waiterIndex: UInt32) {
        let waiter = state.pointee.waiters + Int(waiterIndex)
        let unclaimed = state.pointee.waiters
        let first = waiter.pointee.ring.next.unsafelyUnwrapped
        let last = waiter.pointee.ring.previous.unsafelyUnwrapped
        let end = unclaimed.pointee.ring.previous.unsafelyUnwrapped
        let count = waiter.pointee.count
        waiter.ring.makeRing()
        waiter.pointee.count = 0
        if unclaimed.pointee.count != 0 && completedBefore(first.operation.index, end.operation.index) {
            merge(first, count)
        } else {
            end.pointee.next = first
            first.pointee.previous = end
            last.pointee.next = unclaimed.ring
            unclaimed.pointee.ring.previous = last
            unclaimed.pointee.count &+= count
        }
        if unclaimed.pointee.task != Waiter.noTask { wake(unclaimed) }
    }

    /// Puts the first `count` of a chain on the unclaimed list, where the two interleave. O(length of both).
    private func merge(_ first: UnsafeMutablePointer<ListLink>, _ count: UInt32) {
        let unclaimed = state.pointee.waiters
        unclaimed.pointee.count &+= count
        var place = unclaimed.pointee.ring.next.unsafelyUnwrapped
        var link = first
        for _ in 0..<count {
            let next = link.pointee.next.unsafelyUnwrapped
            while place != unclaimed.ring && completedBefore(place.operation.index, link.operation.index) {
                place = place.pointee.next.unsafelyUnwrapped
            }
            place.insertBefore(link)
            link = next
        }
    }

    /// Puts an operation that completed earlier on a list, where its completion belongs: every list is in the order of completion. O(1) for the
    /// latest one; else it goes past those that completed after it.
    func insertCompleted(_ index: UInt32, to waiterIndex: UInt32) {
        let waiter = state.pointee.waiters + Int(waiterIndex)
        var place = waiter.ring
        while case let earlier = place.pointee.previous.unsafelyUnwrapped, earlier != waiter.ring, completedBefore(index, earlier.operation.index) {
            place = earlier
        }
        place.insertBefore(operation(index).link)
        waiter.pointee.count &+= 1
        if waiter.pointee.task != Waiter.noTask && waiter.pointee.count >= waiter.pointee.needed { wake(waiter) }
    }

    /// Takes the result out of a completed operation and frees its slot.
    @inline(__always)
    func redeem(_ index: UInt32, at position: Int) -> Completion {
        let slot = operation(index)
        let token = token(index)
        let queue = slot.pointee.queue
        let result: OperationResult
        if slot.pointee.outcome == .succeeded && slot.pointee.kind == .pop {
            result = .popped(ScatterGatherArray(unsafelyTakingOver: slot.pointee.array.unsafelyUnwrapped), from: nil)
        } else if slot.pointee.outcome == .succeeded && slot.pointee.kind == .push {
            result = .pushed(byteCount: slot.pointee.byteCount)
        } else {
            result = uncommonResult(index)
        }
        let completion = Completion(token: token, queue: queue, index: position, position: slot.pointee.position, result: result)
        releaseOperation(index)
        return completion
    }

    @inline(never)
    private func uncommonResult(_ index: UInt32) -> OperationResult {
        let slot = operation(index)
        switch slot.pointee.outcome {
        case .failed: return failure(index)
        case .endOfStream: return .endOfStream
        case .succeeded, .succeededFromAddress: break
        }
        switch slot.pointee.kind {
        case .push, .pushTo: return .pushed(byteCount: slot.pointee.byteCount)
        case .pop: return .popped(ScatterGatherArray(unsafelyTakingOver: slot.pointee.array.unsafelyUnwrapped), from: slot.pointee.address)
        case .accept: return .accepted(QueueDescriptor(rawValue: Int32(truncatingIfNeeded: slot.pointee.byteCount)), peer: slot.pointee.address)
        case .connect: return .connected
        case .close: return .closed
        }
    }

    private func failure(_ index: UInt32) -> OperationResult {
        let slot = operation(index)
        let name: DemikernelError.Operation =
            switch slot.pointee.kind {
            case .push: .push
            case .pushTo: .pushTo
            case .pop: .pop
            case .accept: .accept
            case .connect: .connect
            case .close: .close
            }
        return .failed(DemikernelError(slot.pointee.errno, name, slot.pointee.message), byteCount: slot.pointee.byteCount)
    }

    // MARK: Waiters

    /// A waiter for one blocking call or one wait set; 0 at the limit.
    func acquireWaiter() -> UInt32 {
        let index: UInt32
        if state.pointee.freeWaiter != 0 {
            index = state.pointee.freeWaiter
            state.pointee.freeWaiter = state.pointee.waiters[Int(index)].nextFree
        } else {
            index = state.pointee.carvedWaiters
            guard index < state.pointee.waiterCapacity else { return 0 }
            state.pointee.carvedWaiters = index + 1
            (state.pointee.waiters + Int(index)).initializeEmpty()
        }
        return index
    }

    /// Ends a waiter and its claims.
    func releaseWaiter(_ index: UInt32) {
        dropClaims(of: index)
        state.pointee.waiters[Int(index)].nextFree = state.pointee.freeWaiter
        state.pointee.freeWaiter = index
    }

    /// The waiter for a blocking call: the thread's own, or a fresh one for a coroutine.
    func beginWait(_ operation: DemikernelError.Operation) throws(DemikernelError) -> UInt32 {
        guard state.pointee.scheduler.isInCoroutine else {
            switch state.pointee.phase {
            case .outside: return Waiter.thread
            case .turning: preconditionFailure("a task must not wait: it returns, and is woken (only a coroutine can wait inside a turn)")
            case .inJob: preconditionFailure("a blocking wait inside an async job would stop every other job: await the operation instead")
            }
        }
        let waiter = acquireWaiter()
        guard waiter != 0 else { throw DemikernelError(EAGAIN, operation, "too many waits at once: raise Limits.maximumWaiters") }
        return waiter
    }

    func endWait(_ waiter: UInt32) {
        if waiter == Waiter.thread { dropClaims(of: waiter) } else { releaseWaiter(waiter) }
    }

    /// Marks a pending operation as waited for.
    /// - Throws: `EBUSY` when it has a claimant.
    func claim(_ index: UInt32, for waiter: UInt32, at position: Int) throws(DemikernelError) {
        let slot = operation(index)
        guard holder(of: index) == 0 else { throw RuntimeCore.busy }
        slot.pointee.plainResult = .none
        if waiter != Waiter.thread { slot.pointee.openToken = 0 }
        slot.pointee.claim = OperationClaim(waiter: waiter, epoch: state.pointee.waiters[Int(waiter)].epoch)
        slot.pointee.claimIndex = UInt32(truncatingIfNeeded: position)
    }

    static let busy = DemikernelError(EBUSY, .wait, "another wait, coroutine or wait set has this token")
    static let spent = DemikernelError(EINVAL, .wait, "no pending operation has this token: it was redeemed, or is not of this runtime")

    /// The absolute deadline of a timeout, in nanoseconds of the runtime's clock; `.max` for none.
    func deadline(after timeout: Duration?) -> UInt64 {
        guard let timeout else { return .max }
        let (seconds, attoseconds) = timeout.components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        let nanoseconds = UInt64(attoseconds) / 1_000_000_000
        let (product, overflow) = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, overflow2) = product.addingReportingOverflow(nanoseconds)
        let (result, overflow3) = sum.addingReportingOverflow(state.pointee.clock.now)
        return overflow || overflow2 || overflow3 ? .max : result
    }

    /// Blocks until `needed` operations stand on the waiter's list: polls on the thread's own stack, gives way inside a coroutine.
    /// - Throws: `ETIMEDOUT`; on the thread's own stack also `EINTR`.
    func block(_ waiterIndex: UInt32, needed: UInt32, deadline: UInt64) throws(DemikernelError) {
        let waiter = state.pointee.waiters + Int(waiterIndex)
        if waiter.pointee.count >= needed { return }
        guard !waiter.pointee.isBlocked else { throw DemikernelError(EBUSY, .wait, "somebody else is blocked on this list already") }
        waiter.pointee.isBlocked = true
        waiter.pointee.needed = needed
        defer { waiter.pointee.isBlocked = false }
        if state.pointee.scheduler.isInCoroutine {
            try blockCoroutine(waiter, needed: needed, deadline: deadline)
        } else {
            try blockThread(waiter, needed: needed, deadline: deadline)
        }
    }

    private func blockThread(_ waiter: UnsafeMutablePointer<Waiter>, needed: UInt32, deadline: UInt64) throws(DemikernelError) {
        while true {
            let progress = turn()
            if waiter.pointee.count >= needed { return }
            if takeInterruption() { throw RuntimeCore.interrupted }
            if deadline != .max && state.pointee.now >= deadline { throw DemikernelError(ETIMEDOUT, .wait) }
            if progress == 0 { idle(until: deadline) }
        }
    }

    private func blockCoroutine(_ waiter: UnsafeMutablePointer<Waiter>, needed: UInt32, deadline: UInt64) throws(DemikernelError) {
        let task = state.pointee.scheduler.currentCoroutine.unsafelyUnwrapped
        if state.pointee.interruptsCoroutines { return try interruptCoroutine(waiter, task, needed: needed) }
        if deadline <= state.pointee.now { throw DemikernelError(ETIMEDOUT, .wait) }
        var timer = TimerIdentifier.none
        if deadline != .max {
            let armed = state.pointee.scheduler.armTimer(
                deadline: deadline,
                { state, task in
                    RuntimeCore(state: state.assumingMemoryBound(to: CoreState.self)).wakeTask(UInt32(truncatingIfNeeded: task))
                }, context: state, argument: UInt64(task.index))
            guard let armed else { throw DemikernelError(EAGAIN, .wait, "too many timers: raise Limits.maximumTimers") }
            timer = armed
        }
        waiter.pointee.task = task.index
        defer {
            waiter.pointee.task = Waiter.noTask
            state.pointee.scheduler.cancelTimer(timer)
        }
        while waiter.pointee.count < needed {
            state.pointee.scheduler.suspendCurrent()
            if waiter.pointee.count >= needed { return }
            if state.pointee.interruptsCoroutines { throw RuntimeCore.interrupted }
            if deadline != .max && state.pointee.now >= deadline { throw DemikernelError(ETIMEDOUT, .wait) }
        }
    }

    /// A wait that begins when coroutines are interrupted already: it gives way for one turn, so that who waits again and again keeps nobody from ending.
    private func interruptCoroutine(_ waiter: UnsafeMutablePointer<Waiter>, _ task: TaskIdentifier, needed: UInt32) throws(DemikernelError) {
        wakeTask(task.index)
        state.pointee.scheduler.suspendCurrent()
        if waiter.pointee.count < needed { throw RuntimeCore.interrupted }
    }

    static let interrupted = DemikernelError(EINTR, .wait, "the runtime was interrupted")
}
