import DatapathMemory
import Glibc
import TaskScheduler

/// Coroutines: straight-line code with a stack of its own, which gives way where it waits.
extension Runtime {
    /// Starts a coroutine. It runs while the thread waits, polls or is in `run`, and has ended before the runtime may end.
    /// - Throws: `EAGAIN` at `Limits.maximumTasks`, or when no stack can be mapped.
    @discardableResult
    public func spawn(_ body: @escaping (borrowing Runtime) -> Void) throws(DemikernelError) -> TaskIdentifier {
        core.checkThread()
        let core = core
        guard let task = core.scheduler.addCoroutine({ Runtime.borrowing(core, body) }) else {
            throw DemikernelError(EAGAIN, .spawn, "too many tasks: raise Limits.maximumTasks, or the kernel's vm.max_map_count")
        }
        core.state.pointee.eventSource?.signal()
        return task
    }

    /// Gives way to the other ready tasks, and to the devices, once. Traps outside a coroutine.
    public func yield() {
        core.checkThread()
        guard let task = core.scheduler.currentCoroutine else { preconditionFailure("only a coroutine can yield") }
        core.wakeTask(task.index)
        core.scheduler.suspendCurrent()
    }

    /// Whether the task has not ended yet.
    public func isAlive(_ task: TaskIdentifier) -> Bool {
        core.checkThread()
        return core.scheduler.isAlive(task)
    }

    /// Runs until every coroutine has ended.
    /// - Throws: `EINTR` when interrupted; the coroutines are as they were.
    public func run() throws(DemikernelError) {
        core.checkThread()
        precondition(!core.scheduler.isInCoroutine, "a run loop must not be nested in a coroutine")
        while core.scheduler.taskCount > core.state.pointee.libraryTaskCount {
            let progress = core.turn()
            if core.takeInterruption() { throw DemikernelError(EINTR, .wait, "the runtime was interrupted") }
            if progress == 0 { core.idle(until: .max) }
        }
    }

    /// Interrupts the coroutines for good, and runs until all have ended: whatever one waits for, its wait throws `EINTR`, and so does each later one that
    /// would block. To be called at the runtime's end, which releases what ended coroutines hold and nothing of others.
    ///
    /// A coroutine that goes on in spite of it gets a turn for each wait, up to `turns`; one that is never woken again gets none.
    /// - Returns: whether all have ended.
    @discardableResult
    public func interruptCoroutines(turns: Int = 1_000) -> Bool {
        core.checkThread()
        precondition(!core.scheduler.isInCoroutine, "a run loop must not be nested in a coroutine")
        core.state.pointee.interruptsCoroutines = true
        core.scheduler.wakeCoroutines()
        var turnsLeft = turns
        while core.scheduler.taskCount > core.state.pointee.libraryTaskCount, turnsLeft > 0 {
            _ = core.turn()
            turnsLeft -= 1
        }
        return core.scheduler.taskCount == core.state.pointee.libraryTaskCount
    }

    /// Calls `body` with the runtime of a core, without owning it.
    static func borrowing(_ core: RuntimeCore, _ body: (borrowing Runtime) -> Void) {
        let runtime = Runtime(borrowing: core)
        body(runtime)
        runtime.forget()
    }

    init(borrowing core: RuntimeCore) {
        self.core = core
    }

    consuming func forget() {
        discard self
    }
}

extension RuntimeCore {
    /// Whether coroutines are interrupted for good: for who lets one wait for something else than operations.
    public var interruptsCoroutines: Bool { state.pointee.interruptsCoroutines }
}
