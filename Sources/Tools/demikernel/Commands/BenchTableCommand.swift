import ArgumentParser

struct BenchTableCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "table",
        abstract: "Measure what this machine can of the table of goals, each side against its peer in one run.",
        discussion: """
            Each work runs beside its peer in short rounds, A B A B, on the same two processors; the table shows the medians, the ratio pair by pair, and \
            whether the goal is met. A loop in C on the bare device is the limit that stands beside it. Where two processors are near each other in some rounds \
            and far in others, which a short ping-pong before each round tells, there is a line for each.

            With root it makes two network namespaces and the cables between them, which are gone when it ends; without, it measures what needs none. The \
            peers are the C programs of Benchmarks/Baselines (make -C Benchmarks/Baselines), redis-server and dpdk-testpmd; what is missing is \
            named with the command that mends it.

            EXAMPLES
              sudo demikernel bench table
              sudo demikernel bench table --only tcp-xdp udp-xdp --rounds 40 --svg table.svg
              demikernel bench table --only ring tcp-memif
            """)

    @Option(
        parsing: .upToNextOption,
        help: ArgumentHelp("The comparisons to run: \(Comparison.all.map(\.name).joined(separator: ", ")); all when left out.", valueName: "name"))
    var only: [String] = []

    @Option(help: ArgumentHelp("Rounds of each side.", valueName: "count"))
    var rounds = 21

    @Option(help: ArgumentHelp("Seconds per round.", valueName: "seconds"))
    var round = 0.2

    @Option(help: ArgumentHelp("Where the programs of Benchmarks/Baselines are.", valueName: "folder"))
    var baselines: String?

    @OptionGroup var report: ReportOptions

    private static let warmUpRounds = 1.5

    func validate() throws {
        guard (1...10_000).contains(rounds) else { throw ValidationError("--rounds must be 1 to 10000") }
        guard round >= 0.01, round <= 60 else { throw ValidationError("--round must be 0.01 to 60 seconds") }
        for name in only where !Comparison.all.contains(where: { $0.name == name }) {
            throw ValidationError("--only: there is no comparison \"\(name)\"; there are \(Comparison.all.map(\.name).joined(separator: ", "))")
        }
    }

    func run() throws {
        Interruption.watch()
        var progress = Progress(quiet: report.quiet)
        defer { progress.finish() }
        let workbench = try Workbench(baselines: baselines)
        let ring = try BareRingPingPong(processor: workbench.processors.first, workbench.samples)
        var table = ComparisonTable()
        for comparison in Comparison.all where only.isEmpty || only.contains(comparison.name) {
            guard !Interruption.isRequested else { break }
            progress.show("\(comparison.name): starting the servers")
            do throws(CommandFailure) {
                let result = try measure(comparison, workbench, ring) { progress.show("\(comparison.name), \($0)") }
                if result.backEnds.allSatisfy({ !$0.rounds.isEmpty }) { table.results.append(result) }
            } catch {
                table.absent.append((comparison, "\(error)"))
            }
            workbench.endServers()
        }
        progress.finish()
        guard !table.results.isEmpty || !table.absent.isEmpty else { throw ExitCode(Interruption.exitCode) }
        let chart = LatencyChart(
            title: "Latency beside the peers", subtitle: "echoes of 64 bytes and a key-value server; lower is better", panels: table.panels)
        try report.write(table: table.text, json: table.json, series: table.series, chart: chart)
        if table.hasWrongReplies { throw ExitCode.failure }
        if Interruption.isRequested { throw ExitCode(Interruption.exitCode) }
    }

    private func measure(
        _ comparison: Comparison, _ workbench: Workbench, _ ring: BareRingPingPong, progress: (String) -> Void
    ) throws(CommandFailure) -> ComparisonResult {
        let targets = try comparison.makeTargets(workbench)
        var nanoseconds: [Double] = []
        let duration = UInt64(round * 1e9)
        try withoutActuallyEscaping({ (_: Int) throws(CommandFailure) in nanoseconds.append(try ring.measurePlacement()) }) {
            (beforeRound) throws(CommandFailure) in
            let session = LoadSession(
                targets: targets, roundDuration: duration, rounds: rounds, warmUp: UInt64(Double(duration) * Self.warmUpRounds),
                pausesIdleServers: true,
                beforeRound: beforeRound)
            try session.run(progress: progress)
        }
        return ComparisonResult(comparison: comparison, backEnds: targets.map(\.result), ringNanoseconds: nanoseconds)
    }
}
