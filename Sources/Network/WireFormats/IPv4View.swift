/// A received IPv4 packet whose header and lengths have been checked. The view borrows the bytes; no accessor reads outside of them.
@frozen
public struct IPv4View {
    public let base: UnsafeRawPointer
    /// Bytes of the header with its options: 20 to 60.
    public let headerByteCount: Int
    /// Bytes of the packet; what follows in the frame is padding.
    public let totalByteCount: Int

    /// Why the bytes are not an IPv4 packet, or `none`. The header checksum is not looked at: see `isChecksumValid`.
    @inlinable @inline(__always)
    public static func check(_ bytes: UnsafeRawPointer, count: Int) -> ParseError {
        guard count >= 20 else { return .truncated }
        let first = bytes.byte(0)
        let header = Int(first & 0x0f) &<< 2
        let total = Int(bytes.bigEndian16(2))
        // The one comparison that nearly every packet takes; the reasons are told apart behind it.
        if first == 0x45, total >= 20, total <= count { return .none }
        //= RFC 1122 section 3.2.1.1
        //# A datagram whose version number is not 4 MUST be silently discarded.
        guard first &>> 4 == 4 else { return .badVersion }
        //= RFC 791 section 3.1
        //# Note that the minimum value for a correct header is 5.
        guard header >= 20 else { return .badHeaderLength }
        guard total >= header else { return .badTotalLength }
        return total <= count ? .none : .truncated
    }

    /// A view of bytes for which `check` has returned `none`.
    @inlinable @inline(__always)
    public init(unchecked bytes: UnsafeRawPointer) {
        base = bytes
        headerByteCount = Int(bytes.byte(0) & 0x0f) &<< 2
        totalByteCount = Int(bytes.bigEndian16(2))
    }

    /// The octet once called Type of Service: the DSCP and the ECN bits.
    @inlinable @inline(__always)
    public var typeOfService: UInt8 { base.byte(1) }

    /// The differentiated services code point (RFC 2474 section 3), 0 to 63.
    @inlinable @inline(__always)
    public var dscp: UInt8 { typeOfService &>> 2 }

    /// The explicit congestion notification bits (RFC 3168 section 5), 0 to 3.
    @inlinable @inline(__always)
    public var ecn: UInt8 { typeOfService & 3 }

    @inlinable @inline(__always)
    public var identification: UInt16 { base.bigEndian16(4) }

    @inlinable @inline(__always)
    public var dontFragment: Bool { base.byte(6) & 0x40 != 0 }

    @inlinable @inline(__always)
    public var moreFragments: Bool { base.byte(6) & 0x20 != 0 }

    /// Where the payload lies in the datagram it is a fragment of, in bytes: a multiple of 8, up to 65528.
    @inlinable @inline(__always)
    public var fragmentOffset: Int { Int(base.bigEndian16(6) & 0x1fff) &<< 3 }

    /// Whether this is a part of a larger datagram.
    @inlinable @inline(__always)
    public var isFragment: Bool { base.raw16(6) & UInt16(0x3fff).bigEndian != 0 }

    @inlinable @inline(__always)
    public var timeToLive: UInt8 { base.byte(8) }

    /// One of `IPProtocol`, or any other number.
    @inlinable @inline(__always)
    public var protocolNumber: UInt8 { base.byte(9) }

    @inlinable @inline(__always)
    public var source: IPAddress { IPAddress(ipv4Raw: base.raw32(12)) }

    @inlinable @inline(__always)
    public var destination: IPAddress { IPAddress(ipv4Raw: base.raw32(16)) }

    /// Source and destination as they lie in memory, in one word.
    @inlinable @inline(__always)
    public var rawAddresses: UInt64 { base.raw64(12) }

    @inlinable @inline(__always)
    public var payload: UnsafeRawPointer { base + headerByteCount }

    @inlinable @inline(__always)
    public var payloadByteCount: Int { totalByteCount &- headerByteCount }

    /// The options, of which most packets have none.
    @inlinable @inline(__always)
    public var options: IPv4Options { IPv4Options(base: base + 20, count: headerByteCount &- 20) }

    /// Whether the header arrived as sent. Left out where a device has verified it.
    //= RFC 1122 section 3.2.1.2
    //# A host MUST verify the IP header checksum on every received datagram and silently discard every datagram that has a bad checksum.
    @inlinable @inline(__always)
    public var isChecksumValid: Bool {
        let first = base.raw64(0)
        let second = base.raw64(8)
        var sum = InternetChecksum.halves(first) &+ InternetChecksum.halves(second) &+ UInt64(base.raw32(16))
        if headerByteCount > 20 { sum &+= options.sum() }
        return InternetChecksum.isValid(sum)
    }
}
