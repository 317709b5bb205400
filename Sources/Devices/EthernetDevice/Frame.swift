import DatapathMemory

/// A whole Ethernet frame without its frame check sequence, from the destination address on: the first descriptor of an array that was taken over.
///
/// Who has the pointer owns the frame, and ends it with `releaseArray()` or hands it on. `arrayByteCount` is its length; `segmentAddress`,
/// `segmentByteCount` and `nextSegment` lead through its segments.
public typealias Frame = UnsafeMutablePointer<SegmentDescriptor>

/// What a stack and a device tell each other about one frame.
@frozen
public struct FrameFlags: OptionSet, Sendable {
    public let rawValue: UInt32

    @inlinable
    public init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    /// On receive: the device has found the checksums of the IPv4 header and of TCP or UDP to be right.
    @inlinable
    public static var checksumVerified: FrameFlags { FrameFlags(rawValue: 1) }

    /// On transmit: the checksum field of TCP or UDP holds the sum of the pseudo-header, not complemented, and the device completes it.
    @inlinable
    public static var needsTransportChecksum: FrameFlags { FrameFlags(rawValue: 2) }
}

extension UnsafeMutablePointer<SegmentDescriptor> {
    /// The flags of a frame, none for a new one. They lie in the word that names an array's operation while it is in a queue: who takes a frame for an
    /// array, or an array for a frame, sets the word anew.
    @inlinable
    public var frameFlags: FrameFlags {
        get { FrameFlags(rawValue: pointee.operation) }
        nonmutating set { pointee.operation = newValue.rawValue }
    }
}
