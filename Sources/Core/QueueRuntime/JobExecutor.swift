import CDatapath
import Synchronization
import TaskScheduler

/// Runs Swift's async jobs on the runtime's own thread, as one more application task: the jobs that are ready when its turn comes run in order.
///
/// A job that another thread hands over (the end of a `Task.sleep`, say) comes in through a locked inbox and wakes the runtime.
final class JobExecutor: SerialExecutor, TaskExecutor, @unchecked Sendable {
    // Unchecked, because everything but the inbox is touched on the runtime's thread only, which `enqueue` checks.
    private let core: RuntimeCore
    private let task: TaskIdentifier
    private var ready: [UnownedJob] = []
    private var running: [UnownedJob] = []
    private let inbox = Mutex<[Request]>([])

    /// What another thread asks for.
    private enum Request {
        case run(UnownedJob)
        case cancel(QueueToken)
        case recheckMemoryWaiters
    }

    init?(core: RuntimeCore) {
        self.core = core
        // The task needs the executor, which does not exist yet: the runtime's state leads there.
        let task = core.scheduler.addTask(
            .application,
            { state, _ in
                let core = RuntimeCore(state: state.assumingMemoryBound(to: CoreState.self))
                core.state.pointee.jobExecutor?.runReadyJobs()
            }, context: core.state)
        guard let task else { return nil }
        self.task = task
        ready.reserveCapacity(64)
        running.reserveCapacity(64)
        core.state.pointee.libraryTaskCount += 1
    }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        if core.isOnOwnThread {
            ready.append(job)
            core.wakeTask(task.index)
        } else {
            submit(.run(job))
        }
    }

    /// Cancels an operation, from any thread.
    func cancel(_ token: QueueToken) {
        if core.isOnOwnThread { core.cancel(token) } else { submit(.cancel(token)) }
    }

    /// Lets the tasks that wait for memory see that one of them was cancelled; from any thread.
    func recheckMemoryWaiters() {
        if core.isOnOwnThread { core.resumeAllMemoryWaiters() } else { submit(.recheckMemoryWaiters) }
    }

    private func submit(_ request: Request) {
        inbox.withLock { $0.append(request) }
        core.state.pointee.interruption.wake()
    }

    /// Takes what other threads have handed over; called when they have woken the runtime.
    func drainInbox() {
        let requests = inbox.withLock { requests in
            defer { requests.removeAll(keepingCapacity: true) }
            return requests
        }
        for request in requests {
            switch request {
            case .run(let job):
                ready.append(job)
                core.wakeTask(task.index)
            case .cancel(let token):
                core.cancel(token)
            case .recheckMemoryWaiters:
                core.resumeAllMemoryWaiters()
            }
        }
    }

    private func runReadyJobs() {
        swap(&ready, &running)
        let phase = core.state.pointee.phase
        core.state.pointee.phase = .inJob
        for job in running {
            job.runSynchronously(isolatedTo: asUnownedSerialExecutor(), taskExecutor: asUnownedTaskExecutor())
        }
        core.state.pointee.phase = phase
        running.removeAll(keepingCapacity: true)
    }

    func end() {
        core.scheduler.removeTask(task)
    }
}
