import Glibc
import SharedMemory
import Synchronization

/// Publishes what a process's runtimes count, and the frames of their devices, at a unix socket that only its user can reach.
///
/// A thread of its own serves the socket, and sleeps while nobody asks. For an answer it visits each runtime (`Interrupter.visit`), so runtimes stay with
/// their threads, and pay for what is asked alone. `demikernel top`, `metrics` and `capture` are its clients.
///
/// A client cannot harm the process: `TelemetryLimits` says what it can make it hold.
public final class TelemetryServer: Sendable {
    /// The socket.
    public let path: String
    private let shared: TelemetryService

    /// Publishes at `path`, or at the process's place in its user's folder (`TelemetryFolder`).
    /// - Parameter program: what the process is called in metrics.
    /// - Throws: `EACCES` without a folder, `EADDRINUSE` when the process publishes already, `EMFILE`, `EAGAIN` without a thread, what the
    ///   socket cannot be made with.
    public init(program: String, path: String? = nil, limits: TelemetryLimits = TelemetryLimits()) throws(DemikernelError) {
        let place = if let path { path } else { TelemetryFolder.socketPath(in: try TelemetryFolder.make(), process: getpid()) }
        let listener = try PathSocket.listen(at: place, backlog: 16, .stream)
        do throws(DemikernelError) {
            shared = try TelemetryService(program: program, listener: listener, limits: limits)
            try shared.start()
        } catch {
            listener.close()
            throw error
        }
        self.path = place
    }

    deinit {
        shared.stop()
    }

    /// Adds a runtime. It is forgotten when it ends.
    /// - Parameter number: what metrics call it, 0 to 1023; nil for the first one that no runtime has.
    public func add(_ runtime: borrowing Runtime, number: Int? = nil) {
        shared.add(runtime.interrupter, number)
    }

    /// Takes the socket away, and returns when the thread has ended.
    public func close() {
        shared.stop()
    }
}

extension Runtime {
    /// Publishes this runtime's telemetry as that of the process, for `demikernel top`, as long as the result lives.
    ///
    ///     let telemetry = try runtime.publishTelemetry(program: "my-server")
    /// - Throws: as `TelemetryServer.init`.
    public func publishTelemetry(program: String) throws(DemikernelError) -> TelemetryServer {
        let server = try TelemetryServer(program: program)
        server.add(self)
        return server
    }
}
