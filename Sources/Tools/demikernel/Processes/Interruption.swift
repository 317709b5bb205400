import Glibc
import Synchronization

/// SIGINT and SIGTERM, taken by a thread of their own: no code runs in a signal handler, and a spinning thread only reads a flag.
enum Interruption {
    private static let requested = Atomic<Bool>(false)

    /// Whether a signal has come.
    static var isRequested: Bool { requested.load(ordering: .relaxed) }

    /// What a measurement that a signal cut short ends with.
    static let exitCode: Int32 = 130

    /// Blocks both signals for this thread and those it starts later, and calls `action` on another thread when one comes. A second signal ends the process.
    ///
    /// To be called once, before other threads are started.
    static func watch(_ action: @escaping @Sendable () -> Void = {}) {
        var signals = sigset_t()
        sigemptyset(&signals)
        sigaddset(&signals, SIGINT)
        sigaddset(&signals, SIGTERM)
        pthread_sigmask(SIG_BLOCK, &signals, nil)
        startThread { [signals] in
            var signals = signals
            var signal: Int32 = 0
            sigwait(&signals, &signal)
            requested.store(true, ordering: .relaxed)
            action()
            sigwait(&signals, &signal)
            _exit(128 + signal)
        }
    }

    /// Starts a detached thread.
    private static func startThread(_ body: @escaping @Sendable () -> Void) {
        let box = Unmanaged.passRetained(ThreadBody(body))
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<ThreadBody>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, box.toOpaque())
        precondition(result == 0, "no thread could be started")
        pthread_detach(thread)
    }

    private final class ThreadBody: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
}
