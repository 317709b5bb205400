import Glibc

/// What a session asks of whatever loads a back-end, once a round.
protocol RoundDriver: AnyObject {
    var needsPreload: Bool { get }
    func preload() throws(CommandFailure)
    /// Loads the back-end for `duration` nanoseconds.
    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult
    /// Whether the load comes from the calling thread; else the result says what share of a processor it had.
    var runsOnThisThread: Bool { get }
}

extension RoundDriver {
    var needsPreload: Bool { false }
    func preload() throws(CommandFailure) {}
    var runsOnThisThread: Bool { true }
}

private final class GeneratorBox<Transport: LoadTransport & ~Copyable>: RoundDriver {
    private var generator: LoadGenerator<Transport>

    init(_ generator: consuming LoadGenerator<Transport>) {
        self.generator = generator
    }

    var needsPreload: Bool { generator.needsPreload }

    func preload() throws(CommandFailure) { try generator.preload() }

    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult { try generator.run(for: duration) }
}

/// One back-end under load: its connections stay open over all rounds.
final class LoadTarget {
    let name: String
    /// Where it is, for messages and reports.
    let place: String
    /// The server's process, when it is known: its processor time is then reported.
    let process: pid_t?
    private let generator: any RoundDriver
    fileprivate(set) var rounds: [RoundResult] = []

    init(name: String, place: String, process: pid_t?, driver: any RoundDriver) {
        self.name = name
        self.place = place
        self.process = process
        generator = driver
    }

    convenience init<Transport: LoadTransport & ~Copyable>(
        name: String, endpoint: Endpoint, process: pid_t?, generator: consuming LoadGenerator<Transport>
    ) {
        self.init(name: name, place: "\(endpoint)", process: process, driver: GeneratorBox(generator))
    }

    var result: BackEndResult { BackEndResult(name: name, endpoint: place, rounds: rounds) }

    fileprivate var needsPreload: Bool { generator.needsPreload }

    fileprivate func preload() throws(CommandFailure) { try named { () throws(CommandFailure) in try generator.preload() } }

    fileprivate func run(for duration: UInt64) throws(CommandFailure) -> RoundResult {
        try named { () throws(CommandFailure) in
            let before = process.flatMap(ProcessorTime.used(by:))
            let ownBefore = ProcessorTime.usedByThisThread()
            let inKernelBefore = ProcessorTime.usedByThisThreadInKernel()
            let start = MonotonicClock.now()
            var result = try generator.run(for: duration)
            let end = MonotonicClock.now()
            if generator.runsOnThisThread {
                result.generatorShare = Double(ProcessorTime.usedByThisThread() - ownBefore) / Double(max(1, end - start))
                result.generatorKernelShare = Double(ProcessorTime.usedByThisThreadInKernel() - inKernelBefore) / Double(max(1, end - start))
            }
            if let before, let process, let after = ProcessorTime.used(by: process) {
                // The round's end lies before the wait for the last replies; scaled so that both count the same span.
                result.serverProcessorTime = UInt64(Double(after &- before) * Double(result.elapsed) / Double(max(1, end - start)))
            }
            return result
        }
    }

    private func named<Result>(_ body: () throws(CommandFailure) -> Result) throws(CommandFailure) -> Result {
        do throws(CommandFailure) { return try body() } catch { throw CommandFailure("\(name) at \(place): \(error)") }
    }
}

/// Drives several back-ends in short interleaved rounds, A B A B, so that a change of the machine's mood hits all of them alike.
struct LoadSession {
    var targets: [LoadTarget]
    /// Nanoseconds of load per round.
    var roundDuration: UInt64
    var rounds: Int
    /// Nanoseconds of load per back-end before anything counts.
    var warmUp: UInt64
    /// Stops (SIGSTOP) the servers whose process is known while they are not under load: a busy-polling one would take the processor from the others.
    var pausesIdleServers: Bool
    /// Called with a round's number before each round, while all servers are paused.
    var beforeRound: (Int) throws(CommandFailure) -> Void = { (_: Int) throws(CommandFailure) in }

    /// Runs all rounds, or as many as fit before a signal.
    ///
    /// - Parameter progress: called between rounds with a line to show.
    func run(progress: (String) -> Void) throws(CommandFailure) {
        defer { for target in targets { resume(target) } }
        for target in targets { pause(target) }
        for target in targets where target.needsPreload {
            progress("\(target.name): writing the keys")
            resume(target)
            try target.preload()
            pause(target)
        }
        if warmUp > 0 {
            for target in targets where !Interruption.isRequested {
                progress("\(target.name): warming up")
                _ = try underLoad(target, warmUp)
            }
        }
        for round in 0..<rounds {
            try beforeRound(round)
            for target in targets {
                guard !Interruption.isRequested else { return }
                let latest = target.rounds.last.map {
                    ": p50 \(NumberText.microseconds(Double($0.latencies.valueAtPercentile(50)))) µs, \(NumberText.grouped($0.requestsPerSecond)) requests/s"
                }
                progress("round \(round + 1) of \(rounds), \(target.name)\(latest ?? "")")
                let result = try underLoad(target, roundDuration)
                // A round that a signal cut short would not compare with the others.
                if !Interruption.isRequested || target.rounds.isEmpty { target.rounds.append(result) }
            }
        }
    }

    private func underLoad(_ target: LoadTarget, _ duration: UInt64) throws(CommandFailure) -> RoundResult {
        resume(target)
        defer { pause(target) }
        return try target.run(for: duration)
    }

    private var pauses: Bool { pausesIdleServers && targets.count > 1 }

    private func pause(_ target: LoadTarget) {
        if pauses, let process = target.process { kill(process, SIGSTOP) }
    }

    private func resume(_ target: LoadTarget) {
        if pauses, let process = target.process { kill(process, SIGCONT) }
    }
}
