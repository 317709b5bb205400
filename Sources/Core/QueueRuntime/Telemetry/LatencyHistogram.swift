/// How often times of each length were measured: four buckets for each power of two of nanoseconds, from 256 ns to 17 s. A bucket is 25 % wide at most.
///
/// After Gil Tene's HdrHistogram: the place of a value is in its leading bits.
public struct LatencyHistogram: Sendable {
    /// The upper ends of the buckets go up to 2^34 ns; longer times are in the last one.
    public static let bucketCount = 4 * (34 - 8) + 2

    private var counts = InlineArray<106, UInt64>(repeating: 0)
    /// Nanoseconds of all times together.
    public private(set) var sum: UInt64 = 0

    public init() {}

    /// Adds one time. O(1), no allocation.
    public mutating func record(_ nanoseconds: UInt64) {
        sum &+= nanoseconds
        counts[LatencyHistogram.bucket(of: nanoseconds)] &+= 1
    }

    public subscript(bucket: Int) -> UInt64 { counts[bucket] }

    /// How many times were recorded.
    public var count: UInt64 { (0..<LatencyHistogram.bucketCount).reduce(0) { $0 &+ counts[$1] } }

    /// The longest time of a bucket in nanoseconds; nil for the last one, which has no end.
    public static func upperBound(of bucket: Int) -> UInt64? {
        guard bucket < bucketCount - 1 else { return nil }
        // Bucket 0 ends at 256; each octave above has four of equal width.
        let octave = bucket / 4
        return (256 << UInt64(octave)) + UInt64(bucket % 4) * (64 << UInt64(octave))
    }

    /// The bucket whose upper bound is the least that is not below the time.
    static func bucket(of nanoseconds: UInt64) -> Int {
        if nanoseconds <= 256 { return 0 }
        let last = nanoseconds - 1
        let octave = 63 - last.leadingZeroBitCount - 8
        let quarter = Int(truncatingIfNeeded: last >> UInt64(octave + 6)) & 3
        return min(4 * octave + quarter + 1, bucketCount - 1)
    }
}
