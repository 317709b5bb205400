/// Latencies of one round as they come: a store each. They become a histogram when the round is over.
final class RoundSamples {
    private let nanoseconds = UnsafeMutableBufferPointer<UInt32>.allocate(capacity: 1 << 21)
    private(set) var count = 0

    deinit { nanoseconds.deallocate() }

    @inline(__always)
    func removeAll() { count = 0 }

    /// A round ends when it is.
    @inline(__always)
    var isFull: Bool { count == nanoseconds.count }

    @inline(__always)
    func append(_ latency: UInt64) {
        nanoseconds[count] = UInt32(clamping: latency)
        count += 1
    }

    /// Room for as many samples as somebody else has measured.
    func fill(_ samples: Int, _ body: (UnsafeMutableRawBufferPointer) throws(CommandFailure) -> Void) throws(CommandFailure) {
        guard samples <= nanoseconds.count else { throw CommandFailure("\(samples) samples in a round are more than \(nanoseconds.count)") }
        try body(UnsafeMutableRawBufferPointer(rebasing: UnsafeMutableRawBufferPointer(nanoseconds)[..<(samples * 4)]))
        count = samples
    }

    func truncate(to count: Int) { self.count = min(count, self.count) }

    /// The round that took `elapsed` nanoseconds, every sample a reply.
    func result(elapsed: UInt64) -> RoundResult {
        var result = RoundResult()
        for index in 0..<count { result.record(latency: UInt64(nanoseconds[index])) }
        result.completed = count
        result.elapsed = elapsed
        return result
    }
}
