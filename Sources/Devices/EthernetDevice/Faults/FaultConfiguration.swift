/// How often a `FaultyDevice` does what to the frames of each direction.
public struct FaultConfiguration: Equatable, Sendable {
    /// What happens to frames that the stack sends.
    public var transmit: FrameFaults
    /// What happens to frames that arrive.
    public var receive: FrameFaults

    public init(transmit: FrameFaults = FrameFaults(), receive: FrameFaults = FrameFaults()) {
        self.transmit = transmit
        self.receive = receive
    }

    /// The same in both directions.
    public init(both faults: FrameFaults) {
        self.init(transmit: faults, receive: faults)
    }

    /// A device as it should be.
    public static let none = FaultConfiguration()
}

/// Independent chances of what can happen to one frame, all in parts per million: 0 is never, 1,000,000 always.
///
/// The faults act in the order in which they stand here, so that a frame that is lost is not corrupted, and each of two duplicates is held back.
public struct FrameFaults: Equatable, Sendable {
    /// The frame is lost.
    public var drop: UInt32 = 0
    /// Losses that come together.
    public var burstLoss = BurstLoss()
    /// 1 to `maximumCorruptedBits` bits of the frame are flipped, in a copy.
    public var corrupt: UInt32 = 0
    public var maximumCorruptedBits: Int = 8
    /// The frame loses some of its end; at least one byte stays.
    public var truncate: UInt32 = 0
    /// The frame comes twice, the second in a block of its own.
    public var duplicate: UInt32 = 0
    /// The frame is held back for 1 to `maximumDelay` polls.
    public var delay: UInt32 = 0
    public var maximumDelay: Int = 16
    /// The frame is held back until 1 to `maximumReorderDistance` later ones have come, but for no more than `maximumReorderPolls` polls: else the
    /// last frame of all would be lost.
    public var reorder: UInt32 = 0
    public var maximumReorderDistance: Int = 3
    public var maximumReorderPolls: Int = 64

    public init() {}

    /// Gilbert's and Elliott's model: a channel that is good or bad, each with its loss.
    public struct BurstLoss: Equatable, Sendable {
        /// Chance that the channel goes bad, for each frame while it is good.
        public var begin: UInt32 = 0
        /// Chance that it gets good again, for each frame while it is bad: a burst has 1,000,000 / `end` frames on average.
        public var end: UInt32 = 1_000_000
        /// Chance that a frame is lost while the channel is bad.
        public var lossWhileBad: UInt32 = 1_000_000
        /// Chance that a frame is lost while it is good.
        public var lossWhileGood: UInt32 = 0

        public init() {}
    }
}
