import DatapathMemory
import Glibc

/// Waiting: each redeems a token once and returns the result itself. A timeout leaves the operation pending.
///
/// On the thread's own stack a wait polls; inside a coroutine it gives way to the others.
extension Runtime {
    /// Waits for one operation.
    /// - Throws: `EINVAL` for a token that names nothing, `EBUSY` for one that another wait, coroutine or wait set has, `ETIMEDOUT`, `EINTR`.
    @inlinable
    @inline(__always)
    public func wait(_ token: QueueToken, timeout: Duration? = nil) throws(DemikernelError) -> Completion {
        core.checkThread()
        // The common cases, compiled into the caller so that the completion is never built: nobody's, with a plain result, now or after one turn.
        let slot = core.state.pointee.operations + Int(truncatingIfNeeded: token.rawValue & QueueToken.slotMask)
        if slot.pointee.token == token.rawValue {
            if slot.pointee.plainResult == .none {
                if core.completesInOneTurn(slot) { return core.redeemPlain(slot) }
            } else if core.mayWaitWithoutTurn() {
                core.removePlain(slot)
                return core.redeemPlain(slot)
            }
        }
        return try core.waitSlowly(token, timeout)
    }

    /// Waits until one of several operations completes, and redeems that one; of several completed ones, the oldest. The completion's `index` is
    /// its place in `tokens`.
    /// - Throws: as `wait`; `EINVAL` for no token at all. Nothing is redeemed then.
    public func waitAny(_ tokens: Span<QueueToken>, timeout: Duration? = nil) throws(DemikernelError) -> Completion {
        core.checkThread()
        guard tokens.count > 0 else { throw DemikernelError(EINVAL, .wait, "there is no token to wait for") }
        let waiter = try core.beginWait(.wait)
        defer { core.endWait(waiter) }
        let oldest = try tokens.withUnsafeBufferPointer { (tokens) throws(DemikernelError) in try core.claimAll(tokens, for: waiter) }
        if oldest.operation != 0 {
            core.removeCompleted(oldest.operation, from: 0)
            let completion = core.redeem(oldest.operation, at: oldest.position)
            core.countTurnlessWait()
            return completion
        }
        try core.block(waiter, needed: 1, deadline: core.deadline(after: timeout))
        let index = (core.state.pointee.waiters + Int(waiter)).first.unsafelyUnwrapped.index
        core.removeCompleted(index, from: waiter)
        return core.redeem(index, at: tokens.count + Int(Int32(bitPattern: core.operation(index).pointee.claimIndex)))
    }

    /// Waits until all of several operations have completed, and appends their completions in the order of `tokens`.
    /// - Throws: as `wait`; `EINVAL` when a token stands twice or the completions do not fit. Nothing is redeemed then.
    @_lifetime(completions: copy completions)
    public func waitAll(
        _ tokens: Span<QueueToken>, into completions: inout OutputSpan<Completion>, timeout: Duration? = nil
    ) throws(DemikernelError) {
        core.checkThread()
        guard completions.freeCapacity >= tokens.count else { throw DemikernelError(EINVAL, .wait, "the completions do not fit") }
        let waiter = try core.beginWait(.wait)
        defer { core.endWait(waiter) }
        for position in tokens.indices {
            let index = core.slot(of: tokens[position])
            guard index != 0 else { throw RuntimeCore.spent }
            guard core.holder(of: index) != waiter else { throw DemikernelError(EINVAL, .wait, "a token stands twice in the array") }
            try core.claim(index, for: waiter, at: position)
        }
        // Only now, so that a refused call leaves the unclaimed list in its order.
        for position in tokens.indices {
            let index = core.slot(of: tokens[position])
            guard core.operation(index).pointee.isCompleted else { continue }
            core.removeCompleted(index, from: 0)
            core.insertCompleted(index, to: waiter)
        }
        try core.block(waiter, needed: UInt32(tokens.count), deadline: core.deadline(after: timeout))
        for position in tokens.indices {
            let index = core.slot(of: tokens[position])
            core.removeCompleted(index, from: waiter)
            completions.append(core.redeem(index, at: position))
        }
    }

    /// Waits for operations that nobody has claimed, in the order of completion: at least one, then as many as are there and fit.
    /// - Returns: how many completions were appended.
    /// - Throws: `ETIMEDOUT`, `EINTR`; `EBUSY` when a coroutine waits here already; `EINVAL` when there is no room.
    @_lifetime(completions: copy completions)
    public func waitNext(into completions: inout OutputSpan<Completion>, timeout: Duration? = nil) throws(DemikernelError) -> Int {
        core.checkThread()
        guard completions.freeCapacity > 0 else { throw DemikernelError(EINVAL, .wait, "there is no room for a completion") }
        let unclaimed = core.state.pointee.waiters
        let isTurnless = unclaimed.pointee.count > 0
        if !isTurnless {
            // Where nobody else waits, one turn mostly brings something, and needs none of what a longer wait does.
            if core.isAlone { core.takeLonelyTurn() }
            if unclaimed.pointee.count == 0 {
                core.checkMayBlock()
                try core.block(0, needed: 1, deadline: core.deadline(after: timeout))
            }
        }
        var count = 0
        while completions.freeCapacity > 0, let slot = unclaimed.first {
            if slot.pointee.plainResult != .none {
                core.removePlain(slot)
                completions.append(core.redeemPlain(slot))
            } else {
                core.removeCompleted(slot.index, from: 0)
                completions.append(core.redeem(slot.index, at: 0))
            }
            count += 1
        }
        if isTurnless { core.countTurnlessWait() }
        return count
    }

    /// The result of an operation that has completed. Unlike a wait it never takes a turn: no task, timer or device runs. O(1).
    ///
    /// For those who decide by themselves when the runtime runs (with `poll`): a test in virtual time, another event loop.
    /// - Returns: nil while the operation is pending.
    /// - Throws: `EINVAL` for a token that names nothing, `EBUSY` for one that a wait, coroutine or wait set has.
    public func redeem(_ token: QueueToken) throws(DemikernelError) -> Completion? {
        core.checkThread()
        let index = core.slot(of: token)
        guard index != 0 else { throw RuntimeCore.spent }
        guard core.holder(of: index) == 0 else { throw RuntimeCore.busy }
        guard core.operation(index).pointee.isCompleted else { return nil }
        core.removeCompleted(index, from: 0)
        return core.redeem(index, at: 0)
    }

    /// A set to wait on many tokens again and again.
    /// - Throws: `EAGAIN` at `Limits.maximumWaiters`.
    public func makeWaitSet() throws(DemikernelError) -> WaitSet {
        core.checkThread()
        return try WaitSet(core: core)
    }

    /// Takes one turn without waiting: tasks, timers, devices.
    /// - Returns: whether anything was done; poll again until nothing was before sleeping on `eventDescriptor`.
    @discardableResult
    public func poll() -> Bool {
        core.checkThread()
        let progress = core.turn() > 0
        core.settleEventSource()
        return progress
    }

    /// A kernel descriptor that is readable when a poll would make progress, for use in another event loop. The runtime owns it.
    /// - Throws: `EMFILE`; `EOPNOTSUPP` when a device cannot wake a sleeper.
    public func eventDescriptor() throws(DemikernelError) -> Int32 {
        core.checkThread()
        return try core.makeEventSource()
    }
}

extension RuntimeCore {
    /// Takes the result of an operation that has a plain one.
    @inlinable
    @inline(__always)
    func redeemPlain(_ slot: UnsafeMutablePointer<Operation>) -> Completion {
        let token = QueueToken(rawValue: slot.pointee.token)
        let plainResult = slot.pointee.plainResult
        releasePlainOperation(slot)
        // Branches that are said to be foreseeable, and no conditional moves: where the caller knows the kind, its `switch` goes away.
        if _fastPath(plainResult == .popped) {
            let array = ScatterGatherArray(unsafelyTakingOver: slot.pointee.array.unsafelyUnwrapped)
            return Completion(token: token, queue: slot.pointee.queue, index: 0, position: 0, result: .popped(array, from: nil))
        }
        if plainResult == .pushed {
            return Completion(token: token, queue: slot.pointee.queue, index: 0, position: 0, result: .pushed(byteCount: slot.pointee.byteCount))
        }
        let payload = slot.pointee.array.unsafelyUnwrapped
        let address = plainResult == .poppedFromAddress ? slot.pointee.address : SocketAddress(ofDatagram: payload, plainResult)
        let array = ScatterGatherArray(unsafelyTakingOver: payload)
        return Completion(token: token, queue: slot.pointee.queue, index: 0, position: 0, result: .popped(array, from: address))
    }

    /// Whether a wait that finds its result need not take a turn for the others' sake.
    @inlinable
    @inline(__always)
    func mayWaitWithoutTurn() -> Bool {
        state.pointee.turnlessWaitsLeft &-= 1
        return state.pointee.turnlessWaitsLeft >= 0
    }

    /// Takes a completed operation from the unclaimed list.
    @inlinable
    @inline(__always)
    func removePlain(_ slot: UnsafeMutablePointer<Operation>) {
        UnsafeMutableRawPointer(slot).assumingMemoryBound(to: ListLink.self).removeFromRing()
        state.pointee.waiters.pointee.count &-= 1
    }

    /// Takes one turn for a wait for a pending operation, if nobody else could contest it.
    /// - Returns: whether the operation then has a plain result; it stands on no list. What else came of it, and any waiting, is `waitSlowly`'s.
    @usableFromInline
    @inline(never)
    func completesInOneTurn(_ slot: UnsafeMutablePointer<Operation>) -> Bool {
        guard isAlone, slot.pointee.claim.word == 0, !slot.pointee.isCompleted else { return false }
        slot.pointee.claim.word = OperationClaim.turn
        takeLonelyTurn()
        slot.pointee.claim.word = 0
        if slot.pointee.plainResult != .none {
            state.pointee.completions &+= 1
            return true
        }
        if slot.pointee.isCompleted {
            state.pointee.completions &+= 1
            list(slot)
        }
        return false
    }

    /// Puts an operation that has completed in the turn taken for it on the unclaimed list after all. It has just been counted.
    @usableFromInline
    @inline(never)
    func list(_ slot: UnsafeMutablePointer<Operation>) {
        // Where it would stand in the order of completion is not known; behind what completed in the same turn is as good.
        slot.pointee.completionNumber = state.pointee.completions
        let result = slot.pointee.plainResult
        if result == .poppedBehindHeaders || result == .poppedBehindMappedHeaders {
            slot.pointee.address = SocketAddress(ofDatagram: slot.pointee.array.unsafelyUnwrapped, result)
            slot.pointee.outcome = .succeededFromAddress
            slot.pointee.plainResult = .poppedFromAddress
        }
        append(slot, toCompletedOf: state.pointee.waiters)
    }

    @usableFromInline
    @inline(never)
    func waitSlowly(_ token: QueueToken, _ timeout: Duration?) throws(DemikernelError) -> Completion {
        let index = slot(of: token)
        guard index != 0 else { throw RuntimeCore.spent }
        if operation(index).pointee.isCompleted {
            guard holder(of: index) == 0 else { throw RuntimeCore.busy }
            removeCompleted(index, from: 0)
            let completion = redeem(index, at: 0)
            // After it: a task of that turn could redeem the token first.
            countTurnlessWait()
            return completion
        }
        if isAlone && holder(of: index) == 0 { return try waitAlone(index, timeout) }
        let waiter = try beginWait(.wait)
        defer { endWait(waiter) }
        try claim(index, for: waiter, at: 0)
        try block(waiter, needed: 1, deadline: deadline(after: timeout))
        removeCompleted(index, from: waiter)
        return redeem(index, at: 0)
    }

    /// Whether nobody but the thread could claim an operation in a turn: it is outside, and there is neither task nor async job, nor a visit that waits.
    @inline(__always)
    var isAlone: Bool {
        state.pointee.phase == .outside && state.pointee.scheduler.taskCount == 0 && !needsAttention
    }

    /// Waits without a claim, since nobody could contest it: the operation completes to the unclaimed list and is taken from there.
    private func waitAlone(_ index: UInt32, _ timeout: Duration?) throws(DemikernelError) -> Completion {
        let deadline = timeout == nil ? .max : deadline(after: timeout)
        let slot = operation(index)
        while true {
            let progress = turn()
            if slot.pointee.isCompleted {
                removeCompleted(index, from: 0)
                return redeem(index, at: 0)
            }
            if takeInterruption() { throw RuntimeCore.interrupted }
            if deadline != .max && state.pointee.now >= deadline { throw DemikernelError(ETIMEDOUT, .wait) }
            if progress == 0 { idle(until: deadline) }
        }
    }

    /// Claims all pending tokens for a waiter.
    /// - Returns: the oldest completed operation among them and its place; 0 when none has completed.
    func claimAll(_ tokens: UnsafeBufferPointer<QueueToken>, for waiter: UInt32) throws(DemikernelError) -> (operation: UInt32, position: Int) {
        var oldest: (operation: UInt32, position: Int) = (0, 0)
        let claim = OperationClaim(waiter: waiter, epoch: state.pointee.waiters[Int(waiter)].epoch)
        var position = 0
        while position < tokens.count {
            // The thread's own claims have lapsed, so it can take what is open; a coroutine marks what it takes as no longer open.
            if waiter == Waiter.thread { position = tokens.count + claimOpen(tokens, from: position - tokens.count, claim) }
            guard position < tokens.count else { break }
            try claimSlowly(tokens, for: waiter, at: position, &oldest)
            position += 1
        }
        return oldest
    }

    /// Claims tokens for the thread as long as they are alive, pending and not claimed by a coroutine or a wait set, which one comparison says.
    /// - Parameter start: the place to begin at, counted back from the end, as claims count theirs: so that one instruction counts and compares.
    /// - Returns: the place of the first that is not, counted likewise.
    @inline(never)
    private func claimOpen(_ tokens: UnsafeBufferPointer<QueueToken>, from start: Int, _ claim: OperationClaim) -> Int {
        let operations = state.pointee.operations
        let end = tokens.baseAddress.unsafelyUnwrapped + tokens.count
        var position = start
        while position != 0 {
            let token = end[position].rawValue
            let slot = operations + Int(truncatingIfNeeded: token & QueueToken.slotMask)
            guard slot.pointee.openToken == token else { break }
            slot.pointee.claim = claim
            slot.pointee.claimIndex = UInt32(truncatingIfNeeded: position)
            position &+= 1
        }
        return position
    }

    @inline(never)
    private func claimSlowly(
        _ tokens: UnsafeBufferPointer<QueueToken>, for waiter: UInt32, at position: Int, _ oldest: inout (operation: UInt32, position: Int)
    ) throws(DemikernelError) {
        let token = tokens[position]
        let index = slot(of: token)
        guard index != 0 else { throw RuntimeCore.spent }
        // The same token twice in one array is waited for once.
        if holder(of: index) == waiter { return }
        if operation(index).pointee.isCompleted {
            guard holder(of: index) == 0 else { throw RuntimeCore.busy }
            if oldest.operation == 0 || completedBefore(index, oldest.operation) { oldest = (index, position) }
        } else {
            try claim(index, for: waiter, at: position - tokens.count)
            // The claim that had closed it has lapsed.
            if waiter == Waiter.thread { operation(index).pointee.openToken = token.rawValue }
        }
    }
}
