import ArgumentParser
import Demikernel
import Glibc

struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Show what the library OSes do on this machine, in under a minute.",
        discussion: """
            Starts the key-value server over plain kernel sockets (the baseline: once sleeping in epoll, once busy-polling) and over each library OS, \
            each in a process of its own, and loads them in turn from this process: over 127.0.0.1, catmem over the shared memory that it is for. \
            Prints latency, throughput, processor use and the ratio to the baseline, and draws the latency curves.

            Needs no privileges and no network. A server that is not under load is stopped (SIGSTOP), so that none takes a processor from another.

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
            guard let libraryOS = LibraryOSName(rawValue: name) else { throw ValidationError("--libos: \(LibraryOSName.mistake(name))") }
            guard !libraryOS.needsDevice else { throw ValidationError("--libos: \(name) needs a device of its own, and the demonstration has none for it") }
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
        let (servers, absent) = try startServers(on: processors?.first, folder) { progress.show($0) }
        defer { for server in servers { server.stop() } }

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

    /// Starts the baselines and every library OS; those that do not work here are told with the reason.
    private func startServers(
        on processor: Int?, _ folder: TemporaryFolder, progress: (String) -> Void
    ) throws(CommandFailure) -> (servers: [ServerProcess], absent: [String]) {
        progress("starting the servers")
        let pinning = processor.map { ["--cpu", "\($0)"] } ?? []
        let listen = ["--listen", "127.0.0.1:0"] + pinning
        var servers = [
            try ServerProcess(name: "kernel", arguments: ["baseline", "kv"] + listen),
            try ServerProcess(name: "kernel, spinning", arguments: ["baseline", "kv", "--spin"] + listen),
        ]
        for server in servers { _ = try server.waitUntilReady() }
        // A server that spins would slow the start of the next one.
        for server in servers { kill(server.process, SIGSTOP) }

        var absent: [String] = []
        let names = libraryOSes.isEmpty ? LibraryOSName.allCases.filter { !$0.needsDevice }.map(\.rawValue) : libraryOSes
        for name in names {
            let policy = idle.map { ["--idle", $0] } ?? []
            let place = name == LibraryOSName.catmem.rawValue ? ["--path", folder.file("\(name).sock")] + pinning : listen
            let server = try ServerProcess(name: name, arguments: ["kv", "--libos", name] + policy + place)
            do throws(CommandFailure) {
                _ = try server.waitUntilReady()
                kill(server.process, SIGSTOP)
                servers.append(server)
            } catch {
                server.stop()
                absent.append("\(error)")
            }
        }
        guard absent.count < names.count else { throw CommandFailure("no library OS works here: " + absent.joined(separator: "; ")) }
        return (servers, absent)
    }

    private func drive(_ servers: [ServerProcess], _ load: Load, progress: (String) -> Void) throws(CommandFailure) -> LoadReport {
        var targets: [LoadTarget] = []
        for server in servers {
            guard let endpoint = server.endpoint else { continue }
            // Connecting needs the kernel only: a stopped server's listener takes connections too.
            // Shared memory needs its server to answer.
            if endpoint.family == .path { kill(server.process, SIGCONT) }
            defer { kill(server.process, SIGSTOP) }
            let workload = Workload.keyValue(size: Self.valueSize, keys: Self.keys, getRatio: 0.5, seed: 1)
            targets.append(
                try LoadTarget(
                    name: server.name, endpoint: endpoint, process: server.process, .tcp, over: nil, connections: load.connections, workload: workload,
                    plan: .closedLoop(pipeline: load.pipeline)))
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
        var text: [String] = ["Key-value server, half SET and half GET of \(Self.valueSize) bytes: over 127.0.0.1, catmem over shared memory"]
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
            title: "Key-value server: latency by library OS", subtitle: "half SET, half GET of \(Self.valueSize) bytes on one machine; lower is better",
            panels: reports.map { .init(title: $0.load, series: $0.series) })
        let series = reports.flatMap { report in report.series.map { PercentileSeries(name: "\($0.name); \(report.load)", points: $0.points) } }
        let json = JSONValue.object([("version", 1), ("loads", .array(reports.map(\.json))), ("left_out", .array(absent.map(JSONValue.string)))])
        try report.write(table: text.joined(separator: "\n"), json: json, series: series, chart: chart, defaultChart: Self.defaultChart)
    }
}
