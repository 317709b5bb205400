import CDatapath
import Glibc
import SharedMemory
import Synchronization

/// What the telemetry's thread shares with the others: its runtimes, its wake-up, and what visits to runtimes have brought.
final class TelemetryService: Sendable {
    let program: String
    let listener: PathSocket.Listener
    let limits: TelemetryLimits
    /// Readable when a visit has brought something, or the service is to end.
    let wakeUp: Int32
    private let state = Mutex(State())

    struct State {
        /// By their numbers.
        var runtimes: [Interrupter?] = []
        var results: [(client: Int, result: Result)] = []
        var thread: pthread_t?
        var isStopping = false
    }

    /// What a visit brings back to the thread.
    enum Result: Sendable {
        case snapshot(runtime: Int, RuntimeSnapshot)
        /// A capture has begun (0), or was refused with an errno.
        case captureBegun(Int32)
        case captureEnded([UInt8])
    }

    init(program: String, listener: PathSocket.Listener, limits: TelemetryLimits) throws(DemikernelError) {
        self.program = program
        self.limits = limits
        self.listener = listener
        wakeUp = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard wakeUp >= 0 else { throw DemikernelError(errno, .initialize, "no descriptor is left for telemetry: raise the limit with ulimit -n") }
    }

    deinit {
        close(wakeUp)
    }

    /// - Throws: `EAGAIN` when there can be no more threads.
    func start() throws(DemikernelError) {
        let box = Unmanaged.passRetained(self)
        var thread = pthread_t()
        // Signals are for the program's threads.
        var all = sigset_t()
        var before = sigset_t()
        sigfillset(&all)
        pthread_sigmask(SIG_SETMASK, &all, &before)
        let result = pthread_create(
            &thread, nil,
            { argument in
                let service = Unmanaged<TelemetryService>.fromOpaque(argument!).takeRetainedValue()
                var loop = TelemetryLoop(service)
                loop.run()
                return nil
            }, box.toOpaque())
        pthread_sigmask(SIG_SETMASK, &before, nil)
        guard result == 0 else {
            box.release()
            throw DemikernelError(result, .initialize, "no thread for telemetry can be started: raise the limit with ulimit -u")
        }
        state.withLock { $0.thread = thread }
    }

    /// Ends the thread, once.
    func stop() {
        let thread = state.withLock { state in
            state.isStopping = true
            return state.thread.take()
        }
        guard let thread else { return }
        wake()
        pthread_join(thread, nil)
    }

    var isStopping: Bool { state.withLock { $0.isStopping } }

    /// - Parameter number: nil for the first one that no runtime has.
    func add(_ runtime: Interrupter, _ number: Int?) {
        state.withLock { state in
            let number = number ?? state.runtimes.firstIndex { $0?.hasEnded ?? true } ?? state.runtimes.count
            precondition((0...1023).contains(number), "the number of a runtime is 0 to 1023")
            while state.runtimes.count <= number { state.runtimes.append(nil) }
            state.runtimes[number] = runtime
        }
    }

    /// The runtimes by their numbers; nil stands for one that has ended.
    var runtimes: [Interrupter?] {
        state.withLock { $0.runtimes }.map { $0?.hasEnded == false ? $0 : nil }
    }

    /// From any thread: leaves what a visit has found.
    func deliver(_ result: Result, to client: Int) {
        state.withLock { $0.results.append((client, result)) }
        wake()
    }

    func takeResults() -> [(client: Int, result: Result)] {
        var value: UInt64 = 0
        _ = read(wakeUp, &value, 8)
        return state.withLock { state in
            defer { state.results.removeAll() }
            return state.results
        }
    }

    private func wake() {
        var one: UInt64 = 1
        _ = write(wakeUp, &one, 8)
    }
}
