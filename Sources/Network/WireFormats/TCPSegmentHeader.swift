/// A run of sequence numbers that the receiver has and the sender did not know of (RFC 2018 section 3): from `left` up to, not with, `right`.
/// As received, unchecked.
@frozen
public struct SACKBlock: Hashable, Sendable {
    public var left: SequenceNumber
    public var right: SequenceNumber

    @inlinable @inline(__always)
    public init(left: SequenceNumber, right: SequenceNumber) {
        self.left = left
        self.right = right
    }
}

/// What the header of a received TCP segment says, by value (RFC 9293 section 3.1), numbers in host order.
///
/// The options are taken from any segment; those that count on a SYN alone are the state machine's to ignore elsewhere.
@frozen
public struct TCPSegmentHeader: Sendable {
    public var sequence = SequenceNumber(rawValue: 0)
    /// Valid with the ACK flag.
    public var acknowledgement = SequenceNumber(rawValue: 0)
    public var sourcePort: UInt16 = 0
    public var destinationPort: UInt16 = 0
    /// As sent, not scaled.
    public var window: UInt16 = 0
    /// Valid with the URG flag.
    public var urgentPointer: UInt16 = 0
    /// With the options: 20 to 60.
    public var headerByteCount = 0
    public var payloadByteCount = 0
    /// Valid with `hasTimestamps`.
    public var timestampValue: UInt32 = 0
    public var timestampEchoReply: UInt32 = 0
    public var flags = TCPFlags(rawValue: 0)
    public var hasTimestamps = false
    public var isSACKPermitted = false
    /// An option had a wrong length. What could be read counts, the rest has been ignored.
    public var hasMalformedOptions = false
    /// 0 when absent.
    public var maximumSegmentSize: UInt16 = 0
    /// The shift count as sent, 0xff when absent. Above 14 is for the state machine to limit (RFC 7323 section 2.3).
    public var windowScale: UInt8 = 0xff
    /// 0 to 4 of `sackBlocks` are valid.
    public var sackBlockCount: UInt8 = 0
    public var sackBlocks = (SACKBlock.none, SACKBlock.none, SACKBlock.none, SACKBlock.none)

    @inlinable @inline(__always)
    public init() {}

    /// Bytes of a header without options.
    @inlinable @inline(__always)
    public static var minimumByteCount: Int { 20 }

    /// The sequence numbers that the segment takes up: its payload, SYN and FIN.
    @inlinable @inline(__always)
    public var segmentLength: Int { payloadByteCount &+ Int(flags.rawValue & 1) &+ Int(flags.rawValue &>> 1 & 1) }

    /// Block `index`, which is below `sackBlockCount`.
    @inlinable @inline(__always)
    public func sackBlock(_ index: Int) -> SACKBlock {
        switch index {
        case 0: sackBlocks.0
        case 1: sackBlocks.1
        case 2: sackBlocks.2
        default: sackBlocks.3
        }
    }

    /// Whether the segment at `bytes` arrived as sent.
    /// - Parameter pseudoHeaderSum: `InternetChecksum.pseudoHeader` with `count`.
    //= RFC 9293 section 3.1
    //# The sender MUST generate it (MUST-2) and the receiver MUST check it (MUST-3).
    @inlinable @inline(__always)
    public static func isChecksumValid(_ bytes: UnsafeRawPointer, count: Int, pseudoHeaderSum: UInt64) -> Bool {
        InternetChecksum.isValid(InternetChecksum.sum(bytes, count: count) &+ pseudoHeaderSum)
    }

    /// Reads the header of the segment of `count` bytes at `bytes`: `truncated` for fewer than the header has, `badHeaderLength` for a data offset
    /// below five words; `header` is then unchanged. Malformed options are no error.
    @inlinable @inline(__always)
    public static func parse(_ bytes: UnsafeRawPointer, count: Int, into header: inout TCPSegmentHeader) -> ParseError {
        guard count >= 20 else { return .truncated }
        let headerByteCount = Int(bytes.byte(12) &>> 4) &<< 2
        guard headerByteCount >= 20 else { return .badHeaderLength }
        guard headerByteCount <= count else { return .truncated }
        header.sourcePort = bytes.bigEndian16(0)
        header.destinationPort = bytes.bigEndian16(2)
        header.sequence = SequenceNumber(rawValue: bytes.bigEndian32(4))
        header.acknowledgement = SequenceNumber(rawValue: bytes.bigEndian32(8))
        header.flags = TCPFlags(rawValue: bytes.byte(13))
        header.window = bytes.bigEndian16(14)
        header.urgentPointer = bytes.bigEndian16(18)
        header.headerByteCount = headerByteCount
        header.payloadByteCount = count &- headerByteCount
        header.hasTimestamps = false
        header.isSACKPermitted = false
        header.hasMalformedOptions = false
        header.maximumSegmentSize = 0
        header.windowScale = 0xff
        header.sackBlockCount = 0
        if headerByteCount == 20 { return .none }
        // Most segments of a connection: NOP, NOP, timestamps, and nothing else, as RFC 7323 appendix A recommends.
        if headerByteCount == 32, bytes.raw32(20) == UInt32(0x0101_080a).bigEndian {
            header.hasTimestamps = true
            header.timestampValue = bytes.bigEndian32(24)
            header.timestampEchoReply = bytes.bigEndian32(28)
            return .none
        }
        //= RFC 9293 section 3.1
        //# A TCP implementation MUST be able to receive a TCP Option in any segment (MUST-5).
        header.parseOptions(bytes + 20, count: headerByteCount &- 20)
        return .none
    }
}

extension SACKBlock {
    @inlinable @inline(__always)
    static var none: SACKBlock { SACKBlock(left: SequenceNumber(rawValue: 0), right: SequenceNumber(rawValue: 0)) }
}
