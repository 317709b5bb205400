import Demikernel
import Glibc
import Synchronization

/// What the commands that run a server over a library OS have in common: settings, shards, signals, the ready line and the last ones.
struct LibraryOSServer {
    /// The name of the command, for messages.
    let command: String
    /// Nil: `port` of the library OS's usual address, which is 127.0.0.1 on kernel sockets and every address of an interface of its own.
    let listen: Endpoint?
    let port: UInt16
    /// What the server's shards share the port with.
    var socketType = SocketType.stream
    /// Lanes between the shards.
    var laneCount = 0
    let settings: SettingsOptions
    let process: ProcessOptions
    let telemetry: TelemetryOptions

    /// Runs the server on a shard's runtime and calls `whenReady` with its address; returns a line of statistics when the runtime is interrupted.
    typealias Serve =
        @Sendable (
            borrowing Runtime, Shard, SocketAddress, [SocketOption], (SocketAddress) -> Void
        ) throws(DemikernelError) -> String

    /// Serves until a signal comes.
    func run(serve: @escaping Serve) throws {
        let settings = try settings.read()
        let listen = settings.path.map { Endpoint(path: $0) } ?? listen ?? defaultEndpoint(settings)
        try checkMemory(settings)
        let endings = Endings(count: settings.shards)
        let interruption = Interrupting()
        Interruption.watch { interruption.interrupt() }
        try process.apply()
        let published = telemetry.publish(command)
        defer { published?.close() }
        let capture = try telemetry.beginCapture(command, settings)
        defer { capture?.finish() }
        let processors = ProcessorPinning.allowed
        do throws(DemikernelError) {
            let group = try ShardGroup(count: settings.shards, laneCount: laneCount)
            interruption.aim(at: group)
            let socketType = socketType
            let address = if let path = settings.path { try SocketAddress(path: path) } else { try SocketAddress(parsing: "\(listen)") }
            try group.run(
                address,
                makeRuntime: { (place) throws(DemikernelError) in
                    if settings.shards > 1, settings.shards <= processors.count { try? ProcessorPinning.pin(to: processors[place.shard]) }
                    return try Runtime(settings.runtimeConfiguration, libraryOSes: [settings.libraryOS(place)])
                },
                whenReady: { bound in ReadyLine.print(command, "\(bound)", carrier: settings.carrier) },
                serve: { (runtime, shard, address, whenReady) throws(DemikernelError) in
                    published?.add(runtime, number: shard.index)
                    try capture?.begin(on: runtime, shard: shard.index)
                    var address = address
                    var options = socketType == .stream ? settings.socketOptions : []
                    if settings.libOS.sharesPortsByOption, shard.count > 1 {
                        // A port that others share may be shared by a stranger, too: so the first shard makes sure that it is free.
                        if shard.index == 0 { address = try Self.claim(address, socketType, on: runtime) }
                        options.append(.reusePort(true))
                    }
                    let begin = (used: ProcessorTime.usedByThisThread(), time: runtime.now)
                    let statistics = try serve(runtime, shard, address, options, whenReady)
                    let permille = (ProcessorTime.usedByThisThread() - begin.used) * 1000 / max(1, runtime.now - begin.time)
                    endings.note(
                        shard.index,
                        "\(statistics), \(runtime.statistics.turns) turns, \(runtime.statistics.sleeps) sleeps, \(permille / 10).\(permille % 10) % of a processor"
                    )
                })
        } catch {
            throw Self.failure(error, listen, settings)
        }
        for line in endings.lines { ReadyLine.printEnd(command, line) }
    }

    /// Binds to an address that nobody else has, and lets it go.
    /// - Returns: the address with its port.
    private static func claim(_ address: SocketAddress, _ type: SocketType, on runtime: borrowing Runtime) throws(DemikernelError) -> SocketAddress {
        let queue = try runtime.socket(address.family, type)
        do throws(DemikernelError) {
            try runtime.bind(queue, to: address)
            let bound = try runtime.localAddress(queue)
            try runtime.close(queue)
            return bound
        } catch {
            try? runtime.close(queue)
            throw error
        }
    }

    /// Every address of an interface, of both families where there is one of IPv6; loopback on kernel sockets.
    private func defaultEndpoint(_ settings: ServerSettings) -> Endpoint {
        guard let interface = settings.interface else { return Endpoint(family: .ipv4, host: "127.0.0.1", port: port) }
        return interface.ipv6Addresses.isEmpty ? Endpoint(family: .ipv4, host: "0.0.0.0", port: port) : Endpoint(family: .ipv6, host: "::", port: port)
    }

    private func checkMemory(_ settings: ServerSettings) throws(CommandFailure) {
        let wanted = settings.runtimeConfiguration.memory.arenaByteCount * settings.shards
        // The memory is taken page by page at the start, and the kernel refuses nothing: it kills.
        if let available = AvailableMemory.byteCount(), wanted > available {
            throw CommandFailure(
                "\(wanted >> 20) MiB for buffers are more than the \(available >> 20) MiB that this machine has left: ask for less with --memory")
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
    /// A signal ends the group, also one that comes before there is a group.
    private final class Interrupting: Sendable {
        private let group = Mutex<ShardGroup?>(nil)
        private let isRequested = Atomic(false)

        func interrupt() {
            isRequested.store(true, ordering: .sequentiallyConsistent)
            group.withLock { $0 }?.interrupt()
        }

        func aim(at group: ShardGroup) {
            self.group.withLock { $0 = group }
            if isRequested.load(ordering: .sequentiallyConsistent) { group.interrupt() }
        }
    }

    /// The last words of each shard.
    private final class Endings: Sendable {
        private let texts: Mutex<[String?]>

        init(count: Int) { texts = Mutex(Array(repeating: nil, count: count)) }

        func note(_ shard: Int, _ text: String) { texts.withLock { $0[shard] = text } }

        var lines: [String] {
            texts.withLock { texts in
                texts.enumerated().compactMap { index, text in text.map { texts.count == 1 ? $0 : "shard \(index): \($0)" } }
            }
        }
    }
}
