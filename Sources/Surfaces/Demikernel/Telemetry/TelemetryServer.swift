import Glibc
import SharedMemory
import Synchronization

/// Publishes what a process's runtimes count, and the frames of their devices, at a unix socket that only its user can reach.
///
/// A thread of its own serves the socket, and sleeps while nobody asks. For an answer it visits each runtime (`Interrupter.visit`), so runtimes stay with
/// their threads, and pay for what is asked alone. `demikernel top`, `metrics` and `capture` are its clients.
///
/// A client cannot harm the process: requests are lines of 256 bytes at most, there are `maximumClients` of them at once, and who is silent or does not
/// read is dropped after some seconds.
public final class TelemetryServer: Sendable {
    /// The socket.
    public let path: String
    private let shared: TelemetryService

    /// Clients at once; one more is told so and dropped.
    public static let maximumClients = 16

    /// Publishes at `path`, or at the process's place in its user's folder (`TelemetryFolder`).
    /// - Parameter program: what the process is called in metrics.
    /// - Throws: `EACCES` without a folder, `EADDRINUSE` when the process publishes already, what the socket cannot be made with.
    public init(program: String, path: String? = nil) throws(DemikernelError) {
        let place = if let path { path } else { TelemetryFolder.socketPath(in: try TelemetryFolder.make(), process: getpid()) }
        let listener = try PathSocket.listen(at: place, backlog: 16, .stream)
        do throws(DemikernelError) {
            shared = try TelemetryService(program: program, listener: listener)
        } catch {
            listener.close()
            throw error
        }
        self.path = place
        shared.start()
    }

    deinit {
        shared.stop()
    }

    /// Adds a runtime. It is forgotten when it ends.
    /// - Parameter number: what metrics call it, 0 to 1023; nil for the next one. The number of a runtime that has ended can be used again.
    public func add(_ runtime: borrowing Runtime, number: Int? = nil) {
        precondition((0...1023).contains(number ?? 0), "the number of a runtime is 0 to 1023")
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
