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
