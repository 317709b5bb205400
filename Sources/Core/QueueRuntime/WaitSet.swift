import DatapathMemory
import Glibc

/// A set of tokens to wait on, which costs the same for one pending operation as for a hundred thousand.
///
/// A token that was added belongs to the set until it is redeemed or removed: `wait` elsewhere gives `EBUSY`, `waitNext` does not see it. At the
/// end of the set, what it still has is nobody's again.
public struct WaitSet: ~Copyable {
    let core: RuntimeCore
    let waiter: UInt32

    init(core: RuntimeCore) throws(DemikernelError) {
        let waiter = core.acquireWaiter()
        guard waiter != 0 else { throw DemikernelError(EAGAIN, .wait, "too many wait sets: raise Limits.maximumWaiters") }
        self.core = core
        self.waiter = waiter
    }

    deinit {
        core.releaseWaiter(waiter)
    }

    /// How many tokens of the set are not yet redeemed.
    public var count: Int {
        core.checkThread()
        return Int(core.state.pointee.waiters[Int(waiter)].members)
    }

    /// Adds a token, pending or completed. O(1); a completed one goes past those of the set that completed after it.
    /// - Throws: `EINVAL` for a token that names nothing, `EBUSY` for one that is claimed.
    public func add(_ token: QueueToken) throws(DemikernelError) {
        core.checkThread()
        let index = core.slot(of: token)
        guard index != 0 else { throw RuntimeCore.spent }
        let isCompleted = core.operation(index).pointee.isCompleted
        try core.claim(index, for: waiter, at: 0)
        if isCompleted {
            // It stood on the unclaimed list, where `claim` found it.
            core.removeCompleted(index, from: 0)
            core.insertCompleted(index, to: waiter)
        }
        core.state.pointee.waiters[Int(waiter)].members += 1
    }

    /// Takes a token out again; it is nobody's then. O(1); a completed one goes past the unclaimed ones that completed after it.
    /// - Throws: `EINVAL` for a token that is not in the set.
    public func remove(_ token: QueueToken) throws(DemikernelError) {
        core.checkThread()
        let index = core.slot(of: token)
        guard index != 0, core.holder(of: index) == waiter else { throw DemikernelError(EINVAL, .wait, "the token is not in this set") }
        if core.operation(index).pointee.isCompleted {
            core.removeCompleted(index, from: waiter)
            core.operation(index).pointee.claim = OperationClaim()
            core.insertCompleted(index, to: 0)
        } else {
            core.operation(index).pointee.claim = OperationClaim()
        }
        core.state.pointee.waiters[Int(waiter)].members -= 1
    }

    /// Waits for the next completion of the set, in the order of completion.
    /// - Throws: `ETIMEDOUT` (the operations go on), `EINTR` when interrupted, `EINVAL` for an empty set.
    public func wait(timeout: Duration? = nil) throws(DemikernelError) -> Completion {
        core.checkThread()
        guard count > 0 else { throw DemikernelError(EINVAL, .wait, "the set is empty: the wait would never end") }
        if core.state.pointee.waiters[Int(waiter)].count == 0 {
            core.checkMayBlock()
            try core.block(waiter, needed: 1, deadline: core.deadline(after: timeout))
            return take()
        }
        let completion = take()
        core.countTurnlessWait()
        return completion
    }

    /// Waits for at least one completion, then takes as many as are there and fit into `completions`.
    /// - Returns: how many were appended.
    /// - Throws: as `wait(timeout:)`.
    @_lifetime(completions: copy completions)
    public func wait(into completions: inout OutputSpan<Completion>, timeout: Duration? = nil) throws(DemikernelError) -> Int {
        guard completions.freeCapacity > 0 else { throw DemikernelError(EINVAL, .wait, "there is no room for a completion") }
        completions.append(try wait(timeout: timeout))
        var taken = 1
        while completions.freeCapacity > 0 && core.state.pointee.waiters[Int(waiter)].count > 0 {
            completions.append(take())
            taken += 1
        }
        return taken
    }

    private func take() -> Completion {
        let index = (core.state.pointee.waiters + Int(waiter)).first.unsafelyUnwrapped.index
        core.removeCompleted(index, from: waiter)
        core.state.pointee.waiters[Int(waiter)].members -= 1
        return core.redeem(index, at: 0)
    }
}

@available(*, unavailable, message: "a wait set belongs to the thread of its runtime")
extension WaitSet: Sendable {}
