import ArgumentParser
import EthernetDevice
import Glibc
import Simulation

struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract: "Play whole networks from seeds: hosts, links, faults and programs, in virtual time.",
        discussion: """
            A seed gives a world: two to four hosts over the user-level network stack, a network from clean to terrible, programs that connect, push, pop, \
            pause, close and reset, and now and then a partition, a clock that jumps, a heap without memory or a station that sends what it must not. \
            Every byte of every stream is checked, every frame on the wire, and that nothing is left at the end. \
            The same seed always gives the same frames at the same times, so that a failure can be looked at as often as it takes.

            EXAMPLES
              demikernel simulate --seed 92 --verbose
              demikernel simulate --seed 92 --pcapng world.pcapng
              demikernel simulate --seeds 1..10000 --jobs 4
            """)

    @Option(help: ArgumentHelp("Play one seed.", valueName: "number"))
    var seed: UInt64?

    @Option(help: ArgumentHelp("Play the seeds from A to B, and print how often each mechanism of the stack fired.", valueName: "A..B"))
    var seeds: SeedRange?

    @Option(help: ArgumentHelp("With --seeds: how many worlds are played at once; as many as there are processors when left out.", valueName: "count"))
    var jobs: Int?

    @Option(help: ArgumentHelp("With --seed: write every frame of every host to this file, with virtual times.", valueName: "file"))
    var pcapng: String?

    @Flag(help: "With --seed: say what the programs do.")
    var verbose = false

    @Option(help: ArgumentHelp("Give the network stack this bug, in a build that has them: what scripts/deliberate-bugs does.", valueName: "name"))
    var bug: String?

    @Flag(help: "With --seeds: stop at the first seed that fails.")
    var untilFailure = false

    /// A sweep of so many seeds must have met every mechanism.
    private static let seedsForAllMechanisms: UInt64 = 1_000

    func validate() throws {
        guard (seed == nil) != (seeds == nil) else { throw ValidationError("name either one --seed or a range of --seeds, such as 1..1000") }
        if seeds != nil, pcapng != nil || verbose { throw ValidationError("--pcapng and --verbose belong to one --seed") }
        if seed != nil, jobs != nil || untilFailure { throw ValidationError("--jobs and --until-failure belong to --seeds") }
        if let jobs, !(1...256).contains(jobs) { throw ValidationError("--jobs must be 1 to 256") }
    }

    func run() throws {
        if let bug { try DeliberateBugs.choose(bug) }
        if let seed { try replay(seed) }
        if let seeds { try sweep(seeds) }
    }

    private func replay(_ seed: UInt64) throws {
        var writer: PacketCaptureWriter?
        if let pcapng {
            do {
                writer = try PacketCaptureWriter(path: pcapng, clock: Simulation.captureClock)
            } catch {
                throw CommandFailure("write \(pcapng)", errno: error.errno)
            }
        }
        let narrate: ((String) -> Void)? = verbose ? { StandardStreams.writeOutput($0 + "\n") } : nil
        let report = Scenario.run(seed: seed, capture: writer, narrate: narrate)
        if let statistics = writer?.close(), statistics.failedWrites > 0 || statistics.droppedPackets > 0 {
            throw CommandFailure("write \(pcapng ?? "")", errno: statistics.lastError)
        }
        let seconds = NumberText.decimal(Double(report.virtualNanoseconds) / 1e9, places: 3)
        StandardStreams.writeOutput(
            """
            seed \(seed): \(report.summary)
            \(report.events) events in \(seconds) s of virtual time, \(report.completedConnections) of \(report.connections) connections without an error, \
            \(NumberText.grouped(Double(report.deliveredBytes))) bytes out of streams

            """)
        guard let failure = report.failure else { return }
        throw CommandFailure("\(failure)")
    }

    private func sweep(_ seeds: SeedRange) throws {
        Interruption.watch()
        var progress = Progress()
        let jobs = jobs ?? max(1, Int(sysconf(Int32(_SC_NPROCESSORS_ONLN))))
        let start = MonotonicClock.now()
        let results = try ScenarioSweep(seeds, stopsAtFailure: untilFailure).run(jobs: min(jobs, Int(clamping: seeds.count))) { results in
            let elapsed = Double(MonotonicClock.now() - start) / 1e9
            guard elapsed > 1 else { return }
            progress.show(
                "\(NumberText.percent(Double(results.played) / Double(seeds.count))) of \(seeds.count) seeds, "
                    + "\(NumberText.decimal(Double(results.played) / elapsed, places: 0)) seeds/s, \(results.failureCount) failures")
        }
        progress.finish()
        print(results, seconds: Double(MonotonicClock.now() - start) / 1e9)
        if Interruption.isRequested { throw ExitCode(Interruption.exitCode) }
        let missing = seeds.count >= Self.seedsForAllMechanisms ? results.mechanisms.missing : []
        if results.failureCount > 0 {
            throw CommandFailure("\(results.failureCount) of \(results.played) seeds failed")
        }
        if !missing.isEmpty {
            throw CommandFailure("\(seeds.count) seeds never met: \(missing.joined(separator: ", "))")
        }
    }

    private func print(_ results: ScenarioSweep.Results, seconds: Double) {
        var table = TextTable(["mechanism", "count"])
        for count in results.mechanisms.counts where count.isRequired || count.value > 0 {
            table.append([count.name, NumberText.grouped(Double(count.value))])
        }
        StandardStreams.writeOutput(
            """
            \(table)

            \(results.played) seeds in \(NumberText.decimal(seconds, places: 1)) s: \(results.completedConnections) of \(results.connections) connections \
            without an error, \(NumberText.grouped(Double(results.deliveredBytes))) bytes out of streams

            """)
        for failure in results.failures.sorted(by: { $0.seed < $1.seed }) {
            StandardStreams.writeOutput("\(failure)\n  demikernel simulate --seed \(failure.seed)\n")
        }
        if results.failureCount > results.failures.count {
            StandardStreams.writeOutput("and \(results.failureCount - results.failures.count) more\n")
        }
    }
}
