/// An IPv4 or IPv6 address in one 16-byte form: an IPv4 address is held as the IPv4-mapped IPv6 address ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2),
/// so that one table and one comparison serve both families.
@frozen
public struct IPAddress: Sendable {
    /// The sixteen bytes in network order, as they lie in memory.
    public var words: (UInt64, UInt64)

    @inlinable @inline(__always)
    public init(words: (UInt64, UInt64)) { self.words = words }

    /// An IPv4 address from its four bytes as loaded from memory.
    @inlinable @inline(__always)
    public init(ipv4Raw: UInt32) { words = (0, UInt64(ipv4Raw) &<< 32 | 0xffff_0000) }

    /// An IPv4 address from its value in host order: 10.0.0.1 is 0x0a000001.
    @inlinable @inline(__always)
    public init(ipv4HostOrder: UInt32) { self.init(ipv4Raw: ipv4HostOrder.bigEndian) }

    /// An IPv4 address from its four numbers.
    @inlinable @inline(__always)
    public static func ipv4(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8) -> IPAddress {
        IPAddress(ipv4Raw: UInt32(a) | UInt32(b) << 8 | UInt32(c) << 16 | UInt32(d) << 24)
    }

    /// Reads the sixteen bytes of an IPv6 address.
    @inlinable @inline(__always)
    public init(ipv6At bytes: UnsafeRawPointer) { words = (bytes.raw64(0), bytes.raw64(8)) }

    @inlinable @inline(__always)
    public var isIPv4: Bool { words.0 == 0 && UInt32(truncatingIfNeeded: words.1) == 0xffff_0000 }

    /// The four bytes of an IPv4 address as loaded from memory. Meaningful for IPv4 only.
    @inlinable @inline(__always)
    public var ipv4Raw: UInt32 { UInt32(truncatingIfNeeded: words.1 &>> 32) }

    /// The value of an IPv4 address in host order: 10.0.0.1 is 0x0a000001. Meaningful for IPv4 only.
    @inlinable @inline(__always)
    public var ipv4HostOrder: UInt32 { UInt32(bigEndian: ipv4Raw) }

    /// 0.0.0.0.
    @inlinable @inline(__always)
    public static var unspecifiedIPv4: IPAddress { IPAddress(ipv4Raw: 0) }

    /// 255.255.255.255: every station of the link.
    @inlinable @inline(__always)
    public static var limitedBroadcast: IPAddress { IPAddress(ipv4Raw: 0xffff_ffff) }

    /// 224.0.0.1: every host of the link that takes part in multicasting.
    @inlinable @inline(__always)
    public static var allHosts: IPAddress { IPAddress(ipv4HostOrder: 0xe000_0001) }

    /// 224.0.0.2 and 224.0.0.22, where leaves of IGMPv2 and reports of IGMPv3 go (RFC 2236 section 3, RFC 3376 section 4.2.14).
    @inlinable @inline(__always)
    public static var allRoutersIPv4: IPAddress { IPAddress(ipv4HostOrder: 0xe000_0002) }
    @inlinable @inline(__always)
    public static var allIGMPv3Routers: IPAddress { IPAddress(ipv4HostOrder: 0xe000_0016) }

    /// 0.0.0.0 or ::.
    @inlinable @inline(__always)
    public var isUnspecified: Bool { words.0 == 0 && (words.1 == 0xffff_0000 || words.1 == 0) }

    /// In 224.0.0.0/4 or ff00::/8.
    @inlinable @inline(__always)
    public var isMulticast: Bool { isIPv4 ? ipv4Raw & 0xf0 == 0xe0 : words.0 & 0xff == 0xff }

    /// 255.255.255.255.
    @inlinable @inline(__always)
    public var isLimitedBroadcast: Bool { self == .limitedBroadcast }

    /// In 127.0.0.0/8, or ::1.
    @inlinable @inline(__always)
    public var isLoopback: Bool { isIPv4 ? ipv4Raw & 0xff == 127 : words.0 == 0 && words.1 == 1 &<< 56 }
}

extension IPAddress: Hashable {
    @inlinable @inline(__always)
    public static func == (left: IPAddress, right: IPAddress) -> Bool {
        (left.words.0 ^ right.words.0) | (left.words.1 ^ right.words.1) == 0
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(words.0)
        hasher.combine(words.1)
    }
}
