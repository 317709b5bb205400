import ArgumentParser
import Glibc

/// The options that every load has.
struct LoadOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The server to load: an address and a port, or a path for shared memory (as --path).", valueName: "address:port"))
    var connect: Endpoint?

    @Option(help: ArgumentHelp("A second server, loaded in turn with the first in short rounds; the ratio to it is shown.", valueName: "address:port"))
    var connectBaseline: Endpoint?

    @Option(help: ArgumentHelp("A name for the server in tables and charts.", valueName: "name"))
    var name: String?

    @Option(help: ArgumentHelp("A name for the second server.", valueName: "name"))
    var baselineName: String?

    @Option(help: ArgumentHelp("The server's process: its processor time is then shown.", valueName: "pid"))
    var serverPid: Int32?

    @Option(help: ArgumentHelp("The second server's process.", valueName: "pid"))
    var baselinePid: Int32?

    @Flag(
        help: ArgumentHelp(
            "Stop each server (SIGSTOP) while the other is under load.",
            discussion: "Needs both pids. Without it a server that busy-polls takes a processor from the other one's rounds."))
    var pauseIdleServer = false

    @Option(help: ArgumentHelp("Bytes in a message or value.", valueName: "bytes"))
    var size = 64

    @Option(help: ArgumentHelp("Connections.", valueName: "count"))
    var connections = 1

    @Option(help: ArgumentHelp("Requests that each connection keeps outstanding.", valueName: "count"))
    var pipeline: Int?

    @Option(help: ArgumentHelp("Seconds of load per server.", valueName: "seconds"))
    var duration = 5.0

    @Option(help: ArgumentHelp("Seconds per round when two servers take turns.", valueName: "seconds"))
    var round = 0.5

    @Option(help: ArgumentHelp("Seconds of load before anything counts.", valueName: "seconds"))
    var warmup = 0.5

    @Option(
        help: ArgumentHelp(
            "Open loop: this many requests per second at fixed times, whatever the server does.",
            discussion: "Latency counts from the time at which a request was meant to be sent. Without it the loop is closed: a request follows each reply.",
            valueName: "requests/s"))
    var rate: UInt64?

    @Option(help: ArgumentHelp("Bind the load generator to this processor.", valueName: "processor"))
    var cpu: Int?

    @OptionGroup(title: "A client over a library OS (--libos)") var libraryOS: SettingsOptions

    func validate() throws {
        func check(_ condition: Bool, _ message: String) throws { if !condition { throw ValidationError(message) } }
        try check((connect == nil) != (libraryOS.path == nil), "give one of --connect and --path")
        try check(server.family == .path || libraryOS.libos != "catmem", "--libos catmem needs --path")
        try check((1...1 << 20).contains(size), "--size must be 1 to \(1 << 20) bytes")
        try check((1...10_000).contains(connections), "--connections must be 1 to 10000")
        try check(pipeline.map { (1...4096).contains($0) } ?? true, "--pipeline must be 1 to 4096")
        try check(duration > 0 && duration <= 86_400, "--duration must be above 0 and at most 86400 seconds")
        try check(round >= 0.01 && round <= 3600, "--round must be 0.01 to 3600 seconds")
        try check(warmup >= 0 && warmup <= 3600, "--warmup must be 0 to 3600 seconds")
        try check(rate.map { (1...100_000_000).contains($0) } ?? true, "--rate must be 1 to 100000000 requests per second")
        try check(pipeline == nil || rate == nil, "--pipeline belongs to the closed loop and --rate to the open one: give one of them")
        try check(connectBaseline == nil || libraryOS.libos == nil, "--connect-baseline is loaded over kernel sockets: leave --libos out, or the baseline")
        try check(connectBaseline != nil || (baselinePid == nil && baselineName == nil), "--baseline-pid and --baseline-name need --connect-baseline")
        try check(!pauseIdleServer || (serverPid != nil && baselinePid != nil), "--pause-idle-server needs --server-pid and --baseline-pid")
    }

    var server: Endpoint { connect ?? Endpoint(path: libraryOS.path ?? "") }

    var plan: LoadPlan {
        if let rate { return .openLoop(rate: rate) }
        return .closedLoop(pipeline: pipeline ?? 1)
    }

    /// "1 connection, unpipelined".
    var planDescription: String {
        let shape = switch plan {
        case .closedLoop(pipeline: 1): "unpipelined"
        case .closedLoop(let pipeline): "pipeline of \(pipeline)"
        case .openLoop(let rate): "\(NumberText.grouped(Double(rate))) requests/s, open loop"
        }
        return "\(connections) connection\(connections == 1 ? "" : "s"), \(shape)"
    }

    /// Drives the load and writes the results.
    ///
    /// - Parameters:
    ///   - makeWorkload: called once per server.
    ///   - settings: what the workload adds to the settings in JSON.
    func run(
        _ benchmark: String, _ transport: TransportProtocol, _ report: ReportOptions, settings: [(String, JSONValue)],
        makeWorkload: () -> Workload
    ) throws {
        // A path says all that catmem needs.
        let library = try libraryOS.libos == nil || server.family == .path ? nil : libraryOS.read()
        Interruption.watch()
        if let cpu { try ProcessorPinning.pin(to: cpu) }
        var servers: [(name: String, endpoint: Endpoint, process: pid_t?)] = []
        if let connectBaseline { servers.append((baselineName ?? "baseline \(connectBaseline)", connectBaseline, baselinePid)) }
        servers.append((name ?? "\(server)", server, serverPid))

        var targets: [LoadTarget] = []
        for server in servers {
            targets.append(
                try LoadTarget(
                    name: server.name, endpoint: server.endpoint, process: server.process, transport, over: library, connections: connections,
                    workload: makeWorkload(), plan: plan))
        }
        let rounds = max(1, Int((duration / round).rounded()))
        let session = LoadSession(
            targets: targets, roundDuration: UInt64(duration / Double(rounds) * 1e9), rounds: rounds, warmUp: UInt64(warmup * 1e9),
            pausesIdleServers: pauseIdleServer)
        var progress = Progress(quiet: report.quiet)
        do {
            try session.run { progress.show($0) }
        } catch {
            progress.finish()
            throw error
        }
        progress.finish()
        guard targets.contains(where: { !$0.rounds.isEmpty }) else { throw ExitCode(Interruption.exitCode) }

        let result = LoadReport(
            load: "\(benchmark) over \(server.family == .path ? "shared memory" : transport.rawValue.uppercased()), \(planDescription), \(size) bytes" + (library.map { ", client over \($0.carrier)" } ?? ""),
            backEnds: targets.map(\.result), baseline: connectBaseline == nil ? nil : 0,
            settings: [
                ("benchmark", .string(benchmark)), ("protocol", .string(transport.rawValue)), ("connections", .integer(connections)),
                ("pipeline", rate == nil ? .integer(pipeline ?? 1) : .null), ("rate", rate.map { .integer(Int($0)) } ?? .null), ("size", .integer(size)), ("client", .string(library?.carrier ?? "kernel sockets")),
                ("duration_seconds", .number(duration)),
            ] + settings)
        try report.write(
            table: ([result.table()] + result.notes).joined(separator: "\n"), json: result.json, series: result.series,
            chart: LatencyChart(title: "Latency of \(benchmark)", subtitle: result.load, panels: [.init(title: planDescription, series: result.series)]))
        if result.hasWrongReplies { throw ExitCode.failure }
        if Interruption.isRequested { throw ExitCode(Interruption.exitCode) }
    }
}
