/// The beginning of a packet of ours that an ICMP error message quotes: its IPv4 header and the first eight bytes behind it.
@frozen
public struct ICMPv4Quotation: ControlMessageQuotation {
    public let base: UnsafeRawPointer
    /// Bytes of the quoted IPv4 header.
    public let headerByteCount: Int

    /// Nil for another IP version, a header below 20 bytes, a quotation without eight bytes behind the header, and a fragment other than the first,
    /// which has no ports. The quoted total length is not looked at: it is that of the whole packet, and some senders have changed it.
    //= RFC 1122 section 3.2.2
    //# Every ICMP error message includes the Internet header and at least the first 8 data octets of the datagram that triggered the error.
    @inlinable
    public init?(_ bytes: UnsafeRawPointer, count: Int) {
        guard count >= 28 else { return nil }
        let first = bytes.byte(0)
        let header = Int(first & 0x0f) &<< 2
        guard first &>> 4 == 4, header >= 20, count &- header >= 8, bytes.bigEndian16(6) & 0x1fff == 0 else { return nil }
        base = bytes
        headerByteCount = header
    }

    @inlinable @inline(__always)
    public var transportOffset: Int { headerByteCount }

    @inlinable @inline(__always)
    public var source: IPAddress { IPAddress(ipv4Raw: base.raw32(12)) }

    @inlinable @inline(__always)
    public var destination: IPAddress { IPAddress(ipv4Raw: base.raw32(16)) }

    @inlinable @inline(__always)
    public var protocolNumber: UInt8 { base.byte(9) }

    @inlinable @inline(__always)
    public var totalByteCount: Int { Int(base.bigEndian16(2)) }

    /// Of an ICMP echo, in host order.
    @inlinable @inline(__always)
    public var echoIdentifier: UInt16 { base.bigEndian16(headerByteCount &+ 4) }
}
