/// The kinds of IPv6 addresses (RFC 4291).
extension IPAddress {
    /// An IPv6 address from its two halves in host order: 2001:db8::1 is 0x2001_0db8_0000_0000 and 1.
    @inlinable @inline(__always)
    public init(ipv6HostOrder upper: UInt64, _ lower: UInt64) { words = (upper.bigEndian, lower.bigEndian) }

    /// ::.
    @inlinable @inline(__always)
    public static var unspecifiedIPv6: IPAddress { IPAddress(words: (0, 0)) }

    /// ff02::1.
    //= RFC 4291 section 2.7.1
    //# The above multicast addresses identify the group of all IPv6 nodes, within scope 1 (interface-local) or 2 (link-local).
    @inlinable @inline(__always)
    public static var allNodes: IPAddress { IPAddress(ipv6HostOrder: 0xff02 &<< 48, 1) }

    /// ff02::2.
    @inlinable @inline(__always)
    public static var allRouters: IPAddress { IPAddress(ipv6HostOrder: 0xff02 &<< 48, 2) }

    /// ff02::16, where MLDv2 reports go (RFC 3810 section 5.2.14).
    @inlinable @inline(__always)
    public static var allMLDv2Routers: IPAddress { IPAddress(ipv6HostOrder: 0xff02 &<< 48, 0x16) }

    /// In fe80::/10.
    @inlinable @inline(__always)
    public var isLinkLocal: Bool { UInt16(truncatingIfNeeded: words.0).bigEndian & 0xffc0 == 0xfe80 }

    /// The group of all nodes with an address that ends in the same 24 bits.
    //= RFC 4291 section 2.7.1
    //# A Solicited-Node multicast address is formed by taking the low-order 24 bits of an address (unicast or anycast) and appending those bits to the prefix
    //# FF02:0:0:0:0:1:FF00::/104
    @inlinable @inline(__always)
    public var solicitedNode: IPAddress {
        IPAddress(ipv6HostOrder: 0xff02 &<< 48, 0x1_ff00_0000 | UInt64(bigEndian: words.1) & 0xff_ffff)
    }

    /// The hardware address of a group of either family on Ethernet. Meaningful for multicast addresses.
    //= RFC 1112 section 6.4
    //# An IP host group address is mapped to an Ethernet multicast address by placing the low-order 23-bits of the IP address into the low-order 23 bits of
    //# the Ethernet multicast address 01-00-5E-00-00-00 (hex).
    //= RFC 2464 section 7
    //# An IPv6 packet with a multicast destination address DST is transmitted to the Ethernet multicast address whose first two octets are the value 3333
    //# hexadecimal and whose last four octets are the last four octets of DST.
    @inlinable @inline(__always)
    public var multicastMACAddress: MACAddress {
        isIPv4
            ? MACAddress(value: 0x0100_5e00_0000 | UInt64(ipv4HostOrder & 0x7f_ffff))
            : MACAddress(value: 0x3333 &<< 32 | UInt64(bigEndian: words.1) & 0xffff_ffff)
    }

    /// fe80::/64 with an interface identifier, in host order.
    @inlinable @inline(__always)
    public static func linkLocal(identifier: UInt64) -> IPAddress { IPAddress(ipv6HostOrder: 0xfe80 &<< 48, identifier) }

    /// How many of the first bits are those of `other`: 0 to 128.
    @inlinable
    public func commonPrefixLength(_ other: IPAddress) -> Int {
        let upper = UInt64(bigEndian: words.0 ^ other.words.0)
        return upper != 0 ? upper.leadingZeroBitCount : 64 + UInt64(bigEndian: words.1 ^ other.words.1).leadingZeroBitCount
    }
}

extension MACAddress {
    /// The interface identifier made of the hardware address, in host order.
    //= RFC 2464 section 4
    //# The OUI of the Ethernet address becomes the company_id of the EUI-64; the fourth and fifth octets are set to FFFE, and the Universal/Local bit is
    //# complemented.
    @inlinable @inline(__always)
    public var modifiedEUI64: UInt64 {
        ((value &>> 24) &<< 40 | 0xff_fe00_0000 | value & 0xff_ffff) ^ 0x0200_0000_0000_0000
    }
}
