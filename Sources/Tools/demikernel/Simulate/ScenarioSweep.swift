import Glibc
import Simulation
import Synchronization

/// Plays the scenarios of many seeds on a few threads, each world on one of them.
final class ScenarioSweep: Sendable {
    /// What came of the seeds played so far.
    struct Results {
        var played: UInt64 = 0
        var failures: [SimulationFailure] = []
        var failureCount = 0
        var mechanisms = Mechanisms()
        var deliveredBytes = 0
        var connections = 0
        var completedConnections = 0
    }

    private let seeds: SeedRange
    private let stopsAtFailure: Bool
    private let nextOffset = Atomic<UInt64>(0)
    private let results = Mutex(Results())

    /// Failures that are kept to be told; further ones are counted.
    static let maximumFailures = 20

    init(_ seeds: SeedRange, stopsAtFailure: Bool = false) {
        self.seeds = seeds
        self.stopsAtFailure = stopsAtFailure
    }

    /// Plays all seeds, or until the program is interrupted, and calls `report` a few times a second.
    /// - Throws: when no thread can be started.
    func run(jobs: Int, report: (Results) -> Void) throws(CommandFailure) -> Results {
        let threads = try WorkerThreads(jobs) { self.work() }
        while nextOffset.load(ordering: .relaxed) < seeds.count, !Interruption.isRequested {
            usleep(50_000)
            report(results.withLock { $0 })
        }
        threads.join()
        return results.withLock { $0 }
    }

    private func work() {
        while !Interruption.isRequested {
            let offset = nextOffset.add(1, ordering: .relaxed).oldValue
            guard offset < seeds.count else { return }
            let report = Scenario.run(seed: seeds.first + offset)
            results.withLock { results in
                results.played += 1
                results.mechanisms.add(report.mechanisms)
                results.deliveredBytes += report.deliveredBytes
                results.connections += report.connections
                results.completedConnections += report.completedConnections
                guard let failure = report.failure else { return }
                results.failureCount += 1
                if stopsAtFailure { nextOffset.store(seeds.count, ordering: .relaxed) }
                if results.failures.count < ScenarioSweep.maximumFailures { results.failures.append(failure) }
            }
        }
    }
}
