import Demikernel
import Glibc

/// What the commands that run a server over a library OS have in common: settings, runtime, signals, the ready line and the last one.
struct LibraryOSServer {
    /// The name of the command, for messages.
    let command: String
    /// Nil: `port` of the library OS's usual address, which is 127.0.0.1 on kernel sockets and every address of an interface of its own.
    let listen: Endpoint?
    let port: UInt16
    let settings: SettingsOptions
    let process: ProcessOptions

    /// Serves until a signal comes.
    ///
    /// - Parameter serve: runs the server on a runtime and calls `whenReady` with its address; returns a line of statistics when the runtime is interrupted.
    func run(
        serve: (borrowing Runtime, SocketAddress, [SocketOption], (SocketAddress) -> Void) throws(DemikernelError) -> String
    ) throws {
        let settings = try settings.read()
        let listen = settings.path.map { Endpoint(path: $0) } ?? listen ?? defaultEndpoint(settings)
        let runtime = try makeRuntime(settings, listen)
        let interrupter = runtime.interrupter
        Interruption.watch { interrupter.interrupt() }
        try process.apply()
        do throws(DemikernelError) {
            let address = if let path = settings.path { try SocketAddress(path: path) } else { try SocketAddress(parsing: "\(listen)") }
            let statistics = try serve(runtime, address, settings.socketOptions) { bound in
                ReadyLine.print(command, "\(bound)", carrier: settings.carrier)
            }
            ReadyLine.printEnd(command, "\(statistics), \(runtime.statistics.turns) turns, \(runtime.statistics.sleeps) sleeps")
        } catch {
            throw Self.failure(error, listen, settings)
        }
    }

    /// Every address of an interface, of both families where there is one of IPv6; loopback on kernel sockets.
    private func defaultEndpoint(_ settings: ServerSettings) -> Endpoint {
        guard let interface = settings.interface else { return Endpoint(family: .ipv4, host: "127.0.0.1", port: port) }
        return interface.ipv6Addresses.isEmpty ? Endpoint(family: .ipv4, host: "0.0.0.0", port: port) : Endpoint(family: .ipv6, host: "::", port: port)
    }

    private func makeRuntime(_ settings: ServerSettings, _ listen: Endpoint) throws(CommandFailure) -> Runtime {
        let configuration = settings.runtimeConfiguration
        // The memory is taken page by page at the start, and the kernel refuses nothing: it kills.
        if let available = AvailableMemory.byteCount(), configuration.memory.arenaByteCount > available {
            throw CommandFailure(
                "\(configuration.memory.arenaByteCount >> 20) MiB for buffers are more than the \(available >> 20) MiB that this machine has left: "
                    + "ask for less with --memory")
        }
        do throws(DemikernelError) {
            return try Runtime(configuration, libraryOSes: [settings.libraryOS])
        } catch {
            throw Self.failure(error, listen, settings)
        }
    }

    /// The errors of listening get their mends from `ListenAdvice`, which the yardstick uses as well.
    private static func failure(_ error: DemikernelError, _ listen: Endpoint, _ settings: ServerSettings) -> CommandFailure {
        if listen.family == .path { return CommandFailure("listen at \(listen): \(error)") }
        return switch (error.operation, error.errno) {
        case (.bind, EADDRNOTAVAIL) where settings.interface != nil:
            CommandFailure("\(listen.host) is none of the addresses that --address gives the stack: listen on one of those, or on 0.0.0.0 or [::] for all")
        case (.initialize, _) where settings.interface != nil: CommandFailure("\(settings.carrier): \(error)\(saidByDriver())")
        case (.bind, _), (.listen, _), (.socket, EAFNOSUPPORT): ListenAdvice.failure(error.errno, listen)
        case (.initialize, ENOMEM): CommandFailure("the memory for buffers could not be taken (\(error)): ask for less with --memory")
        case (_, EMFILE): CommandFailure("no descriptor is left (\(error)): raise the limit with ulimit -n")
        default: CommandFailure("\(error)")
        }
    }

    private static func saidByDriver() -> String { DeviceSpecification.takeDriverMessage().map { " [\($0)]" } ?? "" }
}
