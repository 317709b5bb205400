import ArgumentParser
import Demikernel
import Glibc

struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Show what the library OSes do on this machine, in under a minute.",
        discussion: """
            Starts the key-value server over plain kernel sockets (the baseline: once sleeping in epoll, once busy-polling) and over each library OS, \
            each in a process of its own, and loads them in turn from this process: over 127.0.0.1, catmem over the shared memory that it is for, catnip over \
            Ethernet in shared memory (memif), with its stack in both processes. Prints latency, throughput, processor use and the ratio to the baseline, and \
            draws the latency curves.

            Needs no privileges and no network. With root it also shows catnip on AF_XDP, with the kernel's client at the other end of a virtual cable between two \
            network namespaces, which are gone when it ends. A server that is not under load is stopped (SIGSTOP), so that none takes a processor from another.

            EXAMPLES
              demikernel demo
              demikernel demo --svg /tmp/demo.svg --json=/tmp/demo.json
            """)

    @Option(
        name: .customLong("libos"), parsing: .upToNextOption,
        help: ArgumentHelp("The library OSes to show; all that work here when left out.", valueName: "name"))
    var libraryOSes: [String] = []

    @Option(help: ArgumentHelp("How the library OSes idle: spin or adaptive.", valueName: "policy"))
    var idle: String?

    @Option(help: ArgumentHelp("Seconds of load per server, for each of the two loads.", valueName: "seconds"))
    var duration = 3.0

    @OptionGroup var report: ReportOptions

    private static let defaultChart = "demikernel-demo.svg"

    /// What the servers are put under.
    private struct Load {
        let title: String
        let connections: Int
        let pipeline: Int
    }

    private static let loads = [
        Load(title: "one connection, one request at a time", connections: 1, pipeline: 1),
        Load(title: "16 connections, pipelines of 16", connections: 16, pipeline: 16),
    ]

    private static let valueSize = 64
    private static let keys: UInt64 = 10_000
    private static let roundSeconds = 0.5

    func validate() throws {
        guard duration >= 0.1, duration <= 600 else { throw ValidationError("--duration must be 0.1 to 600 seconds") }
        for name in libraryOSes {
            guard LibraryOSName(rawValue: name) != nil else { throw ValidationError("--libos: \(LibraryOSName.mistake(name))") }
        }
        if let idle, ServerSettings.Idle(rawValue: idle) == nil { throw ValidationError("--idle must be spin or adaptive, not \"\(idle)\"") }
    }

    func run() throws {
        Interruption.watch()
        var progress = Progress(quiet: report.quiet)
        defer { progress.finish() }
        // Two spinning threads on one processor would measure the machine's scheduler; on a busy machine it does put them there.
        let processors = ProcessorPinning.separatePair()
        let folder = try TemporaryFolder()
        // Before any server starts: all of them are where the load is, but those at the other end of a cable.
        var network: VirtualNetwork?
        var noNetwork: String?
        do throws(CommandFailure) { network = try VirtualNetwork() } catch { noNetwork = "\(error)" }
        var (servers, absent) = try startServers(on: processors?.first, folder, network) { progress.show($0) }
        if let noNetwork, libraryOSes.isEmpty || libraryOSes.contains(LibraryOSName.catnip.rawValue) { absent.append("catnip on xdp: \(noNetwork)") }
        defer { for server in servers { server.process.stop() } }

        if let processors { try ProcessorPinning.pin(to: processors.second) }
        var reports: [LoadReport] = []
        for (index, load) in Self.loads.enumerated() where !Interruption.isRequested {
            reports.append(
                try drive(servers, load) { progress.show("load \(index + 1) of \(Self.loads.count), \($0)") })
        }
        progress.finish()
        reports.removeAll { $0.backEnds.contains { $0.rounds.isEmpty } }
        guard !reports.isEmpty else { throw ExitCode(Interruption.exitCode) }
        try write(reports, absent, sharesProcessor: processors == nil)
        if reports.contains(where: \.hasWrongReplies) { throw ExitCode.failure }
        if Interruption.isRequested { throw ExitCode(Interruption.exitCode) }
    }

    /// A server under load.
    private struct Server {
        let process: ServerProcess
        /// Of a client that is a library OS itself.
        var client: ServerSettings?

        /// Whether it has to run for a client to connect: the kernel takes connections in its stead, shared memory and a stack of its own do not.
        let answersItself: Bool
    }

    /// Starts the baselines and every library OS; those that do not work here are told with the reason.
    private func startServers(
        on processor: Int?, _ folder: TemporaryFolder, _ network: VirtualNetwork?, progress: (String) -> Void
    ) throws(CommandFailure) -> (servers: [Server], absent: [String]) {
        progress("starting the servers")
        let pinning = processor.map { ["--cpu", "\($0)"] } ?? []
        let listen = ["--listen", "127.0.0.1:0"] + pinning
        var servers = [
            Server(process: try ServerProcess(name: "kernel", arguments: ["baseline", "kv"] + listen), answersItself: false),
            Server(process: try ServerProcess(name: "kernel, spinning", arguments: ["baseline", "kv", "--spin"] + listen), answersItself: false),
        ]
        for server in servers { _ = try server.process.waitUntilReady() }
        // A server that spins would slow the start of the next one.
        for server in servers { kill(server.process.process, SIGSTOP) }

        var absent: [String] = []
        func add(_ make: () throws(CommandFailure) -> Server) {
            do throws(CommandFailure) {
                let server = try make()
                _ = try server.process.waitUntilReady()
                kill(server.process.process, SIGSTOP)
                servers.append(server)
            } catch {
                absent.append("\(error)")
            }
        }
        let arguments = (idle.map { ["--idle", $0] } ?? []) + pinning
        for name in libraryOSes.isEmpty ? LibraryOSName.allCases.map(\.rawValue) : libraryOSes {
            let command = ["kv", "--libos", name] + arguments
            switch LibraryOSName(rawValue: name) {
            case .catmem:
                add { () throws(CommandFailure) in
                    Server(process: try ServerProcess(name: name, arguments: command + ["--path", folder.file("\(name).sock")]), answersItself: true)
                }
            case .catnip:
                add { () throws(CommandFailure) in try Self.serverOnMemif(command, folder) }
                if let network { add { () throws(CommandFailure) in try Self.serverOnXDP(command, network) } }
            default:
                add { () throws(CommandFailure) in
                    Server(process: try ServerProcess(name: name, arguments: command + ["--listen", "127.0.0.1:0"]), answersItself: false)
                }
            }
        }
        guard servers.count > 2 else { throw CommandFailure("no library OS works here: " + absent.joined(separator: "; ")) }
        return (servers, absent)
    }

    private static func serverOnMemif(_ command: [String], _ folder: TemporaryFolder) throws(CommandFailure) -> Server {
        let path = folder.file("memif.sock")
        let process = try ServerProcess(
            name: "catnip, memif",
            arguments: command + ["--device", "memif:\(path),role=server", "--address", "10.76.0.2/24", "--listen", "10.76.0.2:6379"])
        return Server(process: process, client: try .catnip("memif:\(path)", "10.76.0.1/24"), answersItself: true)
    }

    private static func serverOnXDP(_ command: [String], _ network: VirtualNetwork) throws(CommandFailure) -> Server {
        let cable = try network.makeCable()
        try network.address(cable.client)
        let end = cable.server
        let process = try network.onServerSide { () throws(CommandFailure) in
            try ServerProcess(
                name: "catnip, xdp",
                arguments: command + ["--device", "xdp:\(end.interface)", "--address", end.addressWithPrefix, "--listen", "\(end.address):6379"])
        }
        return Server(process: process, answersItself: true)
    }

    private func drive(_ servers: [Server], _ load: Load, progress: (String) -> Void) throws(CommandFailure) -> LoadReport {
        var targets: [LoadTarget] = []
        for server in servers {
            guard let endpoint = server.process.endpoint else { continue }
            let process = server.process.process
            if server.answersItself { kill(process, SIGCONT) }
            defer { kill(process, SIGSTOP) }
            let workload = Workload.keyValue(size: Self.valueSize, keys: Self.keys, getRatio: 0.5, seed: 1)
            targets.append(
                try LoadTarget(
                    name: server.process.name, endpoint: endpoint, process: process, .tcp, over: server.client, connections: load.connections,
                    workload: workload, plan: .closedLoop(pipeline: load.pipeline)))
        }
        let rounds = max(1, Int((duration / Self.roundSeconds).rounded()))
        let session = LoadSession(
            targets: targets, roundDuration: UInt64(duration / Double(rounds) * 1e9), rounds: rounds, warmUp: 200_000_000, pausesIdleServers: true)
        try session.run(progress: progress)
        return LoadReport(
            load: load.title, backEnds: targets.map(\.result), baseline: 0,
            settings: [
                ("benchmark", "kv"), ("protocol", "tcp"), ("connections", .integer(load.connections)), ("pipeline", .integer(load.pipeline)),
                ("size", .integer(Self.valueSize)), ("keys", .integer(Int(Self.keys))), ("get_ratio", .number(0.5)),
            ])
    }

    private func write(_ reports: [LoadReport], _ absent: [String], sharesProcessor: Bool) throws(CommandFailure) {
        var text: [String] = [
            "Key-value server, half SET and half GET of \(Self.valueSize) bytes: over 127.0.0.1; catmem and memif over shared memory, xdp over a virtual cable"
        ]
        for report in reports {
            text.append("\n\(report.load)\n")
            text.append(report.table(nameTitle: "libOS"))
            text += report.notes.filter { note in !text.contains(note) }
        }
        text += absent.map { "left out: \($0)" }
        if sharesProcessor {
            text.append("This process may use one processor only, which server and load share: the times say little.")
        }
        let chart = LatencyChart(
            title: "Key-value server: latency by library OS",
            subtitle: "half SET, half GET of \(Self.valueSize) bytes on one machine; lower is better",
            panels: reports.map { .init(title: $0.load, series: $0.series) })
        let series = reports.flatMap { report in report.series.map { PercentileSeries(name: "\($0.name); \(report.load)", points: $0.points) } }
        let json = JSONValue.object([("version", 1), ("loads", .array(reports.map(\.json))), ("left_out", .array(absent.map(JSONValue.string)))])
        try report.write(table: text.joined(separator: "\n"), json: json, series: series, chart: chart, defaultChart: Self.defaultChart)
    }
}
