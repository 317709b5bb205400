/// The protocol numbers of IPv4 headers and the next-header numbers of IPv6.
public enum IPProtocol {
    @inlinable @inline(__always) public static var icmp: UInt8 { 1 }
    @inlinable @inline(__always) public static var igmp: UInt8 { 2 }
    @inlinable @inline(__always) public static var tcp: UInt8 { 6 }
    @inlinable @inline(__always) public static var udp: UInt8 { 17 }
    @inlinable @inline(__always) public static var icmpv6: UInt8 { 58 }
}
