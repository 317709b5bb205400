import DatapathMemory
import Glibc
import TaskScheduler

/// Swift's `async`: tasks that run on the runtime's own thread, beside the coroutines.
///
///     try runtime.runAsync { runtime in
///         let completion = try await runtime.completion(of: try runtime.pop(queue))
///     }
extension Runtime {
    /// Runs `body` on this thread until it returns. A blocking `wait` inside it traps: await the `completion(of:)` instead.
    /// - Throws: what `body` throws; `DemikernelError` with `EINTR` when interrupted (the task is cancelled and ends first), with `EAGAIN` at
    ///   `Limits.maximumTasks`.
    public func runAsync<Result>(_ body: @escaping (borrowing Runtime) async throws -> Result) throws -> Result {
        core.checkThread()
        precondition(!core.scheduler.isInCoroutine && core.state.pointee.phase == .outside, "a run loop must not be nested in a task")
        let outcome = AsyncOutcome<Result>()
        let task = try start { runtime in
            do {
                outcome.result = .success(try await body(runtime))
            } catch {
                outcome.result = .failure(error)
            }
        }
        var wasInterrupted = false
        while outcome.result == nil {
            let progress = core.turn()
            if core.takeInterruption() {
                wasInterrupted = true
                task.cancel()
            } else if progress == 0 {
                core.idle(until: .max)
            }
        }
        if wasInterrupted { throw DemikernelError(EINTR, .wait, "the runtime was interrupted") }
        return try outcome.result.unsafelyUnwrapped.get()
    }

    /// Starts an async task on this thread; it runs while the thread waits, polls, or is in `run` or `runAsync`.
    /// - Throws: `EAGAIN` at `Limits.maximumTasks`.
    @discardableResult
    public func spawnAsync(_ body: @escaping (borrowing Runtime) async -> Void) throws(DemikernelError) -> Task<Void, Never> {
        core.checkThread()
        return try start(body)
    }

    private func start(_ body: @escaping (borrowing Runtime) async -> Void) throws(DemikernelError) -> Task<Void, Never> {
        let executor = try core.makeJobExecutor()
        let start = OwnThread((core, body))
        return Task(executorPreference: executor) {
            let (core, body) = start.value
            let runtime = Runtime(borrowing: core)
            await body(runtime)
            runtime.forget()
        }
    }

    /// Suspends until an operation completes, and redeems its token. When the task is cancelled, so is the operation.
    ///
    /// A completed operation is returned without suspending.
    /// - Throws: as `wait`.
    public nonisolated(nonsending) func completion(of token: QueueToken) async throws(DemikernelError) -> Completion {
        core.checkThread()
        let index = core.slot(of: token)
        guard index != 0 else { throw RuntimeCore.spent }
        if core.operation(index).pointee.isCompleted {
            guard core.holder(of: index) == 0 else { throw RuntimeCore.busy }
            core.removeCompleted(index, from: 0)
            return core.redeem(index, at: 0)
        }
        let waiter = core.acquireWaiter()
        guard waiter != 0 else { throw DemikernelError(EAGAIN, .wait, "too many waits at once: raise Limits.maximumWaiters") }
        defer { core.releaseWaiter(waiter) }
        try core.claim(index, for: waiter, at: 0)
        let executor = try core.makeJobExecutor()
        let place = OwnThread(core)
        await withTaskCancellationHandler {
            await withUnsafeContinuation { continuation in
                place.value.suspend(waiter, continuation)
            }
        } onCancel: {
            executor.cancel(token)
        }
        core.removeCompleted(index, from: waiter)
        return core.redeem(index, at: 0)
    }

    /// As `allocate`, but suspends while the heap is at its limit, until enough was released.
    /// - Throws: `EMSGSIZE` above `DatapathHeap.maximumBufferByteCount`, `EINVAL` for a negative size, `ECANCELED` when the task is cancelled and
    ///   there is no memory for it, `EAGAIN` at `Limits.maximumTasks`.
    public nonisolated(nonsending) func allocateWhenAvailable(_ byteCount: Int, headroom: Int = 0) async throws(DemikernelError) -> Buffer {
        core.checkThread()
        let place = OwnThread(core)
        while true {
            do throws(DemikernelError) {
                return try core.heap.allocate(byteCount, headroom: headroom)
            } catch {
                guard error.errno == ENOBUFS else { throw error }
            }
            guard !Task.isCancelled else {
                throw DemikernelError(ECANCELED, .allocate, "the task was cancelled while the heap was at its limit")
            }
            let executor = try core.makeJobExecutor()
            await withTaskCancellationHandler {
                await withUnsafeContinuation { continuation in
                    // A cancellation before this line found nobody to resume; one after it finds the waiter.
                    if Task.isCancelled {
                        continuation.resume()
                    } else {
                        place.value.state.pointee.memoryWaiters.append((continuation, place.value.heap.usedByteCount))
                    }
                }
            } onCancel: {
                executor.recheckMemoryWaiters()
            }
        }
    }
}

extension RuntimeCore {
    func makeJobExecutor() throws(DemikernelError) -> JobExecutor {
        if let executor = state.pointee.jobExecutor { return executor }
        guard let executor = JobExecutor(core: self) else {
            throw DemikernelError(EAGAIN, .spawn, "too many tasks: raise Limits.maximumTasks")
        }
        state.pointee.jobExecutor = executor
        state.pointee.interruption.requireAttention()
        return executor
    }

    /// Leaves a continuation with a waiter whose operation is pending, or has completed on the way here.
    func suspend(_ waiter: UInt32, _ continuation: UnsafeContinuation<Void, Never>) {
        if state.pointee.waiters[Int(waiter)].count > 0 {
            continuation.resume()
        } else {
            state.pointee.waiters[Int(waiter)].continuation = continuation
            state.pointee.waiters[Int(waiter)].task = Waiter.asyncTask
        }
    }

    /// Resumes everybody who waits for memory: each looks whether it is cancelled, and waits again if it is not.
    func resumeAllMemoryWaiters() {
        let waiters = state.pointee.memoryWaiters
        state.pointee.memoryWaiters = []
        for (continuation, _) in waiters { continuation.resume() }
    }

    /// Resumes who waits for memory, once some was released.
    func resumeMemoryWaiters() {
        let used = heap.usedByteCount
        let waiters = state.pointee.memoryWaiters
        state.pointee.memoryWaiters = []
        for (continuation, usedThen) in waiters {
            if used < usedThen { continuation.resume() } else { state.pointee.memoryWaiters.append((continuation, usedThen)) }
        }
    }
}

/// Carries a value of the runtime's thread through a `@Sendable` closure that runs on the same thread.
private struct OwnThread<Value>: @unchecked Sendable {
    let value: Value

    init(_ value: Value) {
        self.value = value
    }
}

/// Where `runAsync` finds its result. Touched on the runtime's thread only.
private final class AsyncOutcome<Value> {
    var result: Result<Value, any Error>?
}
