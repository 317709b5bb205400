/// Counts of one device since it was made, each drop under its reason.
@frozen
public struct DeviceStatistics: Equatable, Sendable {
    /// Frames and bytes that were sent.
    public var transmittedFrames: UInt64 = 0
    public var transmittedBytes: UInt64 = 0
    /// Frames that `transmit` did not take, because the device had no room; a frame that is offered again counts again.
    public var transmitRingFull: UInt64 = 0
    /// Frames taken and dropped: longer than `maximumFrameByteCount`.
    public var transmitTooLong: UInt64 = 0
    /// Frames taken and dropped: shorter than an Ethernet header.
    public var transmitTooShort: UInt64 = 0
    /// Frames taken and dropped: nobody at the other end of the link.
    public var transmitLinkDown: UInt64 = 0
    /// Frames taken and dropped: the device reported an error.
    public var transmitErrors: UInt64 = 0
    /// Frames that were copied on their way out.
    public var transmitCopies: UInt64 = 0

    /// Frames and bytes that were given to the caller.
    public var receivedFrames: UInt64 = 0
    public var receivedBytes: UInt64 = 0
    /// Frames that arrived and were dropped: the heap refused a block for them.
    public var receiveOutOfMemory: UInt64 = 0
    /// Frames that arrived and were dropped: the device had no room.
    public var receiveRingFull: UInt64 = 0
    /// Frames that arrived and were dropped: of a length, or with a descriptor, that cannot be.
    public var receiveMalformed: UInt64 = 0
    /// Frames that arrived and were dropped: the device reported an error.
    public var receiveErrors: UInt64 = 0
    /// Frames that were copied on their way in.
    public var receiveCopies: UInt64 = 0

    /// The interface was removed from under the device, which receives and sends nothing any more.
    public var isGone = false

    public init() {}
}
