import Glibc
import Histogram

/// The numbers of one back-end as a table shows them.
struct LatencySummary: Equatable, Sendable {
    /// Nanoseconds.
    var p50: Double
    var p99: Double
    var p999: Double
    var maximum: Double
    var requestsPerSecond: Double
    /// Cores in use by the server; nil when its process is not known.
    var processorShare: Double?
}

/// A ratio of a back-end to the baseline, of paired rounds.
struct BaselineRatio: Equatable, Sendable {
    /// Below 1: faster than the baseline.
    var p50: Double
    /// Above 1: more than the baseline.
    var requestsPerSecond: Double
}

/// All rounds of one back-end.
struct BackEndResult: Sendable {
    var name: String
    var endpoint: String
    var rounds: [RoundResult]

    /// The latencies of all rounds together.
    var latencies: Histogram<UInt32> {
        var sum = RoundResult().latencies
        for round in rounds { sum.add(round.latencies) }
        return sum
    }

    var completed: Int { rounds.reduce(0) { $0 + $1.completed } }
    var wrong: Int { rounds.reduce(0) { $0 + $1.wrong } }
    var lost: Int { rounds.reduce(0) { $0 + $1.lost } }
    var unanswered: Int { rounds.reduce(0) { $0 + $1.unanswered } }
    var generatorShare: Double { Statistics.median(rounds.map(\.generatorShare)) }
    var firstWrong: String? { rounds.lazy.compactMap(\.firstWrong).first }

    /// Percentiles over everything that was measured.
    var overall: LatencySummary {
        let all = latencies
        let elapsed = rounds.reduce(0) { $0 + $1.elapsed }
        let used = rounds.reduce(UInt64?.some(0)) { sum, round in sum.flatMap { sum in round.serverProcessorTime.map { sum + $0 } } }
        return LatencySummary(
            p50: Double(all.valueAtPercentile(50)), p99: Double(all.valueAtPercentile(99)), p999: Double(all.valueAtPercentile(99.9)),
            maximum: Double(all.maxRecorded),
            requestsPerSecond: elapsed == 0 ? 0 : Double(completed) * 1e9 / Double(elapsed),
            processorShare: elapsed == 0 ? nil : used.map { Double($0) / Double(elapsed) })
    }

    /// The median over the rounds of each number, the maximum over all: what interleaved rounds are compared by, because a disturbance that hits
    /// one round leaves a median alone.
    var median: LatencySummary {
        let shares = rounds.compactMap(\.processorShare)
        return LatencySummary(
            p50: Statistics.median(rounds.map { Double($0.latencies.valueAtPercentile(50)) }),
            p99: Statistics.median(rounds.map { Double($0.latencies.valueAtPercentile(99)) }),
            p999: Statistics.median(rounds.map { Double($0.latencies.valueAtPercentile(99.9)) }),
            maximum: Double(rounds.map(\.latencies.maxRecorded).max() ?? 0),
            requestsPerSecond: Statistics.median(rounds.map(\.requestsPerSecond)),
            processorShare: shares.count == rounds.count && !shares.isEmpty ? Statistics.median(shares) : nil)
    }

    /// The median of the ratios of paired rounds, nil without a common round.
    func ratio(to baseline: BackEndResult) -> BaselineRatio? {
        let pairs = zip(rounds, baseline.rounds).filter { $0.completed > 0 && $1.completed > 0 }
        guard !pairs.isEmpty else { return nil }
        return BaselineRatio(
            p50: Statistics.median(pairs.map { Double($0.latencies.valueAtPercentile(50)) / Double(max(1, $1.latencies.valueAtPercentile(50))) }),
            requestsPerSecond: Statistics.median(pairs.map { $0.requestsPerSecond / $1.requestsPerSecond }))
    }
}

enum Statistics {
    /// The middle value, the mean of the middle two of an even number, 0 of none.
    static func median(_ values: [Double]) -> Double {
        guard !values.isEmpty else { return 0 }
        let sorted = values.sorted()
        let middle = sorted.count / 2
        return sorted.count % 2 == 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2
    }
}
