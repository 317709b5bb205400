/// What messages of ICMP (RFC 792) and ICMPv6 (RFC 4443) have in common: eight bytes of header, and where they lie.
public protocol ControlMessageView {
    var base: UnsafeRawPointer { get }
    /// Bytes of the message with its header, eight at least.
    var count: Int { get }
}

extension ControlMessageView {
    /// One of `ICMPv4Type` or `ICMPv6Type`, or any other number.
    @inlinable @inline(__always)
    public var type: UInt8 { base.byte(0) }

    /// One of `ICMPv4Code` or `ICMPv6Code`, or any other number.
    @inlinable @inline(__always)
    public var code: UInt8 { base.byte(1) }

    /// Bytes 4 to 7 in host order; the type says what they are.
    @inlinable @inline(__always)
    public var restOfHeader: UInt32 { base.bigEndian32(4) }

    @inlinable @inline(__always)
    public var payload: UnsafeRawPointer { base + 8 }

    @inlinable @inline(__always)
    public var payloadByteCount: Int { count &- 8 }
}

/// The beginning of a packet of ours that an error message quotes, as far as the first eight bytes of its transport header.
///
/// Whoever can send a packet can invent one. The reader compares addresses, ports and TCP sequence number with a flow of its own before it acts
/// (RFC 5927 section 4).
public protocol ControlMessageQuotation {
    var base: UnsafeRawPointer { get }
    /// Where the transport header begins.
    var transportOffset: Int { get }
    var protocolNumber: UInt8 { get }
    /// The sender of the quoted packet: an address of this host.
    var source: IPAddress { get }
    var destination: IPAddress { get }
    /// The length of the whole quoted packet as quoted, unchecked.
    var totalByteCount: Int { get }
}

extension ControlMessageQuotation {
    /// Of UDP and TCP, in host order.
    @inlinable @inline(__always)
    public var sourcePort: UInt16 { base.bigEndian16(transportOffset) }

    /// Of UDP and TCP, in host order.
    @inlinable @inline(__always)
    public var destinationPort: UInt16 { base.bigEndian16(transportOffset &+ 2) }

    /// Of TCP.
    @inlinable @inline(__always)
    public var sequence: SequenceNumber { SequenceNumber(rawValue: base.bigEndian32(transportOffset &+ 4)) }
}
