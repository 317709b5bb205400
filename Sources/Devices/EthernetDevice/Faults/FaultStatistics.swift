/// What a `FaultyDevice` has done since it was made.
public struct FaultStatistics: Equatable, Sendable {
    public var transmit = FaultCounts()
    public var receive = FaultCounts()

    public init() {}
}

/// Frames of one direction, by what was done to them.
public struct FaultCounts: Equatable, Sendable {
    /// Frames that came.
    public var frames: UInt64 = 0
    public var dropped: UInt64 = 0
    /// Lost by `BurstLoss`.
    public var burstLost: UInt64 = 0
    public var corrupted: UInt64 = 0
    public var truncated: UInt64 = 0
    public var duplicated: UInt64 = 0
    public var delayed: UInt64 = 0
    public var reordered: UInt64 = 0
    /// Faults that did not happen because the heap had no block for a copy.
    public var outOfMemory: UInt64 = 0
    /// Delays and reorderings that did not happen because as many frames as can be were held back.
    public var holdFull: UInt64 = 0

    public init() {}
}
