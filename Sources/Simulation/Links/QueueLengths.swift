/// How long a queue was when frames came, as counts of ranges that are an eighth of their power of two wide: exact below 8 bytes, to 12.5 % above.
public struct QueueLengths: Equatable, Sendable {
    private var counts = [UInt64](repeating: 0, count: 8 * 62)
    /// Frames that were counted.
    public private(set) var count: UInt64 = 0

    public init() {}

    mutating func note(_ byteCount: Int) {
        counts[QueueLengths.range(of: max(byteCount, 0))] += 1
        count += 1
    }

    /// The largest length in bytes that `share` (0 to 1) of the frames have met no more than; 0 for no frames. O(ranges).
    public func percentile(_ share: Double) -> Int {
        guard count > 0 else { return 0 }
        let wanted = max(1, UInt64((Double(count) * share).rounded(.up)))
        var seen: UInt64 = 0
        for (range, number) in counts.enumerated() {
            seen += number
            if seen >= wanted { return QueueLengths.end(of: range) }
        }
        return QueueLengths.end(of: counts.count - 1)
    }

    private static func range(of length: Int) -> Int {
        guard length >= 8 else { return length }
        let power = Int.bitWidth - 1 - length.leadingZeroBitCount
        return 8 * (power - 2) + (length >> (power - 3)) & 7
    }

    /// The last length that the range has.
    private static func end(of range: Int) -> Int {
        guard range >= 8 else { return range }
        let shift = range / 8 - 1
        return ((8 + range % 8 + 1) << shift) - 1
    }
}
