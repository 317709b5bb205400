/// The types of ICMPv6 messages (RFC 4443, RFC 4861, RFC 3810).
public enum ICMPv6Type {
    @inlinable @inline(__always) public static var destinationUnreachable: UInt8 { 1 }
    @inlinable @inline(__always) public static var packetTooBig: UInt8 { 2 }
    @inlinable @inline(__always) public static var timeExceeded: UInt8 { 3 }
    @inlinable @inline(__always) public static var parameterProblem: UInt8 { 4 }
    @inlinable @inline(__always) public static var echoRequest: UInt8 { 128 }
    @inlinable @inline(__always) public static var echoReply: UInt8 { 129 }
    @inlinable @inline(__always) public static var multicastListenerQuery: UInt8 { 130 }
    /// Of MLDv1, as the next one (RFC 2710).
    @inlinable @inline(__always) public static var multicastListenerReportVersion1: UInt8 { 131 }
    @inlinable @inline(__always) public static var multicastListenerDone: UInt8 { 132 }
    @inlinable @inline(__always) public static var routerSolicitation: UInt8 { 133 }
    @inlinable @inline(__always) public static var routerAdvertisement: UInt8 { 134 }
    @inlinable @inline(__always) public static var neighborSolicitation: UInt8 { 135 }
    @inlinable @inline(__always) public static var neighborAdvertisement: UInt8 { 136 }
    @inlinable @inline(__always) public static var redirect: UInt8 { 137 }
    @inlinable @inline(__always) public static var multicastListenerReport: UInt8 { 143 }
}

/// The codes of destination unreachable (RFC 4443 section 3.1).
public enum ICMPv6Code {
    @inlinable @inline(__always) public static var noRoute: UInt8 { 0 }
    @inlinable @inline(__always) public static var prohibited: UInt8 { 1 }
    @inlinable @inline(__always) public static var beyondScope: UInt8 { 2 }
    @inlinable @inline(__always) public static var addressUnreachable: UInt8 { 3 }
    @inlinable @inline(__always) public static var portUnreachable: UInt8 { 4 }
    @inlinable @inline(__always) public static var sourcePolicy: UInt8 { 5 }
    @inlinable @inline(__always) public static var rejectRoute: UInt8 { 6 }
}

/// A received ICMPv6 message of eight bytes at least, behind the extension headers of an IPv6 packet. The view borrows the bytes.
@frozen
public struct ICMPv6View: ControlMessageView {
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

    /// Whether the whole message arrived as sent.
    //= RFC 4443 section 2.3
    //# The checksum is the 16-bit one's complement of the one's complement sum of the entire ICMPv6 message, starting with the ICMPv6 message type field, and
    //# prepended with a "pseudo-header" of IPv6 header fields
    @inlinable @inline(__always)
    public func isChecksumValid(source: IPAddress, destination: IPAddress) -> Bool {
        let pseudoHeader = InternetChecksum.pseudoHeader(source: source, destination: destination, protocolNumber: IPProtocol.icmpv6, byteCount: count)
        return InternetChecksum.isValid(pseudoHeader &+ InternetChecksum.sum(base, count: count))
    }

    /// Whether the type is that of an error, which is never answered with another.
    //= RFC 4443 section 2.1
    //# error messages have message types from 0 to 127; informational messages have message types from 128 to 255
    @inlinable @inline(__always)
    public var isError: Bool { type < 128 }

    /// The packet that an error message is about; nil if the quotation is too short or malformed, or the message is no error.
    public var quotation: ICMPv6Quotation? { isError ? ICMPv6Quotation(payload, count: payloadByteCount) : nil }
}

/// The beginning of a packet of ours that an ICMPv6 error message quotes, behind its extension headers.
@frozen
public struct ICMPv6Quotation: ControlMessageQuotation {
    public let base: UnsafeRawPointer
    public let transportOffset: Int
    public let protocolNumber: UInt8

    /// Nil for another IP version, a quotation that ends before the eighth byte of the transport header, and a fragment other than the first.
    //= RFC 4443 section 2.4
    //# the upper-layer protocol type has to be extracted from the original packet (contained in the body of the ICMPv6 error message)
    public init?(_ bytes: UnsafeRawPointer, count: Int) {
        guard count >= 48, bytes.byte(0) &>> 4 == 6 else { return nil }
        var next = bytes.byte(6)
        var offset = 40
        for _ in 0..<IPv6Extensions.maximumHeaders {
            switch next {
            case IPv6ExtensionType.hopByHopOptions, IPv6ExtensionType.routing, IPv6ExtensionType.destinationOptions:
                guard count &- offset >= 8 else { return nil }
                next = bytes.byte(offset)
                offset &+= (Int(bytes.byte(offset &+ 1)) &+ 1) &* 8
            case IPv6ExtensionType.fragment:
                guard count &- offset >= 8, bytes.bigEndian16(offset &+ 2) & 0xfff8 == 0 else { return nil }
                next = bytes.byte(offset)
                offset &+= 8
            default:
                guard count &- offset >= 8 else { return nil }
                base = bytes
                transportOffset = offset
                protocolNumber = next
                return
            }
        }
        return nil
    }

    @inlinable @inline(__always)
    public var source: IPAddress { IPAddress(ipv6At: base + 8) }

    @inlinable @inline(__always)
    public var destination: IPAddress { IPAddress(ipv6At: base + 24) }

    @inlinable @inline(__always)
    public var totalByteCount: Int { 40 &+ Int(base.bigEndian16(4)) }
}
