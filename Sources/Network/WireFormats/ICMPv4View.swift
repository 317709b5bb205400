/// The types of ICMP messages (RFC 792).
public enum ICMPv4Type {
    @inlinable @inline(__always) public static var echoReply: UInt8 { 0 }
    @inlinable @inline(__always) public static var destinationUnreachable: UInt8 { 3 }
    /// Deprecated by RFC 6633; received ones are ignored.
    @inlinable @inline(__always) public static var sourceQuench: UInt8 { 4 }
    @inlinable @inline(__always) public static var redirect: UInt8 { 5 }
    @inlinable @inline(__always) public static var echoRequest: UInt8 { 8 }
    @inlinable @inline(__always) public static var timeExceeded: UInt8 { 11 }
    @inlinable @inline(__always) public static var parameterProblem: UInt8 { 12 }
    @inlinable @inline(__always) public static var timestamp: UInt8 { 13 }
    @inlinable @inline(__always) public static var timestampReply: UInt8 { 14 }
}

/// The codes of ICMP messages: those of destination unreachable (RFC 792, RFC 1122 section 3.2.2.1, RFC 1812 section 5.2.7.1), then those of time
/// exceeded.
public enum ICMPv4Code {
    @inlinable @inline(__always) public static var networkUnreachable: UInt8 { 0 }
    @inlinable @inline(__always) public static var hostUnreachable: UInt8 { 1 }
    @inlinable @inline(__always) public static var protocolUnreachable: UInt8 { 2 }
    @inlinable @inline(__always) public static var portUnreachable: UInt8 { 3 }
    @inlinable @inline(__always) public static var fragmentationNeeded: UInt8 { 4 }
    @inlinable @inline(__always) public static var sourceRouteFailed: UInt8 { 5 }
    @inlinable @inline(__always) public static var networkProhibited: UInt8 { 9 }
    @inlinable @inline(__always) public static var hostProhibited: UInt8 { 10 }
    @inlinable @inline(__always) public static var communicationProhibited: UInt8 { 13 }

    @inlinable @inline(__always) public static var timeToLiveExceeded: UInt8 { 0 }
    @inlinable @inline(__always) public static var reassemblyTimeExceeded: UInt8 { 1 }
}

/// A received ICMP message: the payload of an IPv4 packet, of eight bytes at least. The view borrows the bytes.
@frozen
public struct ICMPv4View: ControlMessageView {
    public let base: UnsafeRawPointer
    /// Bytes of the message with its header.
    public let count: Int

    /// Nil for fewer than eight bytes.
    @inlinable @inline(__always)
    public init?(_ bytes: UnsafeRawPointer, count: Int) {
        guard count >= 8 else { return nil }
        base = bytes
        self.count = count
    }

    /// The stored checksum as it lies in memory.
    @inlinable @inline(__always)
    public var checksum: UInt16 { base.raw16(2) }

    /// Whether the whole message arrived as sent.
    //= RFC 792 section Message Formats
    //# The checksum is the 16-bit ones's complement of the one's complement sum of the ICMP message starting with the ICMP Type.
    @inlinable @inline(__always)
    public var isChecksumValid: Bool { InternetChecksum.isValid(InternetChecksum.sum(base, count: count)) }

    /// Of an echo or a timestamp, in host order.
    @inlinable @inline(__always)
    public var identifier: UInt16 { base.bigEndian16(4) }

    /// Of an echo or a timestamp, in host order.
    @inlinable @inline(__always)
    public var sequenceNumber: UInt16 { base.bigEndian16(6) }

    /// Of "fragmentation needed": the largest packet in bytes that the next hop takes, or 0 from a router that does not tell.
    //= RFC 1191 section 4
    //# The next-hop MTU is carried in the low-order 16 bits of the ICMP header field that is labelled "unused".
    @inlinable @inline(__always)
    public var nextHopMTU: UInt16 { base.bigEndian16(6) }

    /// Of a parameter problem: the offset of the octet at fault in the quoted packet.
    @inlinable @inline(__always)
    public var parameterPointer: UInt8 { base.byte(4) }

    /// Of a redirect: the gateway to use.
    @inlinable @inline(__always)
    public var gateway: IPAddress { IPAddress(ipv4Raw: base.raw32(4)) }

    /// Whether the type is that of an error, which is never answered with another.
    @inlinable @inline(__always)
    public var isError: Bool {
        type == ICMPv4Type.destinationUnreachable || type == ICMPv4Type.sourceQuench || type == ICMPv4Type.redirect
            || type == ICMPv4Type.timeExceeded || type == ICMPv4Type.parameterProblem
    }

    /// The packet that an error message is about; nil if the quotation is too short or malformed, or the message is no error.
    @inlinable @inline(__always)
    public var quotation: ICMPv4Quotation? { isError ? ICMPv4Quotation(payload, count: payloadByteCount) : nil }
}
