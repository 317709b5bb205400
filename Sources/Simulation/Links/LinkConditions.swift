import EthernetDevice

/// What a link does to the frames of one direction. Chances are in parts per million: 0 is never, 1,000,000 always. Times are in nanoseconds.
///
/// They act in this order: a link that is down and a frame that is too long, the queue, loss, corruption, duplication, delay.
public struct LinkConditions: Equatable, Sendable {
    /// Whether frames pass at all.
    public var isUp = true
    /// The longest IP packet that passes; a longer one is dropped.
    public var maximumTransmissionUnit = 1_500
    /// Bits per second; nil for no limit.
    public var bandwidth: UInt64?
    /// Bytes that may wait for the bandwidth; a frame that finds more is dropped.
    public var queueByteCount = 256 << 10
    /// Bytes that wait for the bandwidth above which a packet that can be marked is marked (RFC 3168, CE); nil for never.
    public var markThreshold: Int?
    /// Frames lost one by one.
    public var loss: UInt32 = 0
    /// Frames lost together (Gilbert and Elliott).
    public var burstLoss = FrameFaults.BurstLoss()
    /// Frames of which bits are flipped. See `SimulatedLink` for which.
    public var corruption: UInt32 = 0
    /// Frames that come twice.
    public var duplication: UInt32 = 0
    /// How long a frame takes, and how much longer it may take at most. Jitter alone keeps frames in order.
    public var delay: UInt64 = 50_000
    public var jitter: UInt64 = 0
    /// Frames that are held back for up to `reorderDelay`, while others pass them.
    public var reordering: UInt32 = 0
    public var reorderDelay: UInt64 = 1_000_000

    public init() {}

    /// A link that only delays.
    public static func clean(delay: UInt64 = 50_000) -> LinkConditions {
        var conditions = LinkConditions()
        conditions.delay = delay
        return conditions
    }

    var losesBursts: Bool { burstLoss.begin > 0 || burstLoss.lossWhileGood > 0 }
}

/// Counts of one direction of a link.
public struct LinkStatistics: Equatable, Sendable {
    /// Frames and bytes that were sent into the link.
    public var frames: UInt64 = 0
    public var bytes: UInt64 = 0
    /// Frames that come out at the other end, duplicates among them.
    public var delivered: UInt64 = 0
    public var lost: UInt64 = 0
    public var burstLost: UInt64 = 0
    public var queueFull: UInt64 = 0
    public var marked: UInt64 = 0
    /// The most bytes that have waited.
    public var longestQueueByteCount = 0
    /// Bytes that waited when frames came, of a link with a bandwidth.
    public var queueLengths = QueueLengths()
    public var tooLong: UInt64 = 0
    public var down: UInt64 = 0
    /// Frames that come out damaged, and those that are lost of it.
    public var corrupted: UInt64 = 0
    public var frameCheckFailed: UInt64 = 0
    public var duplicated: UInt64 = 0
    public var reordered: UInt64 = 0

    public init() {}
}
