/// The payload types of Ethernet II frames, in host order.
public enum EtherType {
    @inlinable @inline(__always) public static var ipv4: UInt16 { 0x0800 }
    @inlinable @inline(__always) public static var arp: UInt16 { 0x0806 }
    /// A customer tag (IEEE 802.1Q).
    @inlinable @inline(__always) public static var vlan: UInt16 { 0x8100 }
    @inlinable @inline(__always) public static var ipv6: UInt16 { 0x86dd }
    /// A service tag (IEEE 802.1ad).
    @inlinable @inline(__always) public static var serviceVLAN: UInt16 { 0x88a8 }
}
