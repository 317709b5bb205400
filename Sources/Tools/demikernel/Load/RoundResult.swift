import Histogram

/// What one round of load on one back-end showed.
struct RoundResult: Sendable {
    /// Latencies in nanoseconds, three significant digits.
    var latencies: Histogram<UInt32>
    /// Replies that came before the round's end, right or wrong.
    var completed = 0
    /// Nanoseconds from the first request to the round's end.
    var elapsed: UInt64 = 0
    /// Replies that differ from what they must be.
    var wrong = 0
    /// Datagrams that never came back.
    var lost = 0
    /// Requests without a reply when the round was given up; each counts in `latencies` with the age it had reached.
    var unanswered = 0
    /// The start of the first wrong reply.
    var firstWrong: String?
    /// Nanoseconds of processor time that the server used, when its process is known.
    var serverProcessorTime: UInt64?
    /// The part of the time in which the load generator, which always spins, had a processor: below 1 the machine was busy with other work.
    var generatorShare = 1.0
    /// The part of the time that the load generator spent in the kernel: on a virtual cable, what it sends is carried to the other end there.
    var generatorKernelShare = 0.0

    /// Latencies above this are recorded as this: one minute.
    static let longestLatency: UInt64 = 60_000_000_000

    init() {
        latencies = Histogram(lowestDiscernibleValue: 1, highestTrackableValue: Self.longestLatency, numberOfSignificantValueDigits: .three)
    }

    @inline(__always)
    mutating func record(latency: UInt64) {
        latencies.record(min(latency, Self.longestLatency))
    }

    var requestsPerSecond: Double { elapsed == 0 ? 0 : Double(completed) * 1e9 / Double(elapsed) }

    /// Processor time used per wall-clock time; 1 is one core.
    var processorShare: Double? {
        guard let used = serverProcessorTime, elapsed > 0 else { return nil }
        return Double(used) / Double(elapsed)
    }
}
