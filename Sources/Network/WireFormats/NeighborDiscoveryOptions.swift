/// One option of a neighbour discovery message (RFC 4861 section 4.6). It borrows the bytes.
@frozen
public struct NeighborDiscoveryOption {
    public let base: UnsafeRawPointer
    /// With type and length: a multiple of 8, and at least that.
    public let byteCount: Int

    @inlinable @inline(__always) public static var sourceLinkLayerAddress: UInt8 { 1 }
    @inlinable @inline(__always) public static var targetLinkLayerAddress: UInt8 { 2 }
    @inlinable @inline(__always) public static var prefixInformation: UInt8 { 3 }
    @inlinable @inline(__always) public static var redirectedHeader: UInt8 { 4 }
    @inlinable @inline(__always) public static var mtu: UInt8 { 5 }

    @inlinable
    init(base: UnsafeRawPointer, byteCount: Int) {
        self.base = base
        self.byteCount = byteCount
    }

    /// One of the numbers above, or any other.
    @inlinable @inline(__always)
    public var type: UInt8 { base.byte(0) }

    /// Of a link-layer address option of Ethernet; nil for another length.
    public var macAddress: MACAddress? { byteCount == 8 ? MACAddress(at: base + 2) : nil }

    /// Of an MTU option, in bytes; nil for another length.
    public var mtu: UInt32? { byteCount == 8 ? base.bigEndian32(4) : nil }

    /// Of a prefix information option; nil for another length, or a prefix of more than 128 bits or of IPv4-mapped addresses.
    public var prefix: PrefixInformation? {
        guard byteCount == 32, base.byte(2) <= 128 else { return nil }
        let address = IPAddress(ipv6At: base + 16)
        guard !address.isIPv4 else { return nil }
        return PrefixInformation(
            prefix: IPv6Prefix(address: address, length: base.byte(2)), isOnLink: base.byte(3) & 0x80 != 0, isAutonomous: base.byte(3) & 0x40 != 0,
            validSeconds: base.bigEndian32(4), preferredSeconds: base.bigEndian32(8))
    }

    /// What a router says of a prefix (RFC 4861 section 4.6.2).
    public struct PrefixInformation: Equatable, Sendable {
        public let prefix: IPv6Prefix
        public let isOnLink: Bool
        /// Whether hosts may form addresses of it.
        public let isAutonomous: Bool
        /// 0xffffffff is for ever.
        public let validSeconds: UInt32
        public let preferredSeconds: UInt32
    }
}

/// The options behind the fixed part of a neighbour discovery message, one after the other.
public struct NeighborDiscoveryOptions {
    private let base: UnsafeRawPointer
    private let count: Int
    private var position = 0

    /// Nil unless all options lie within the bytes and none has a length of zero.
    //= RFC 4861 section 4.6
    //# The value 0 is invalid. Nodes MUST silently discard an ND packet that contains an option with length zero.
    public init?(_ bytes: UnsafeRawPointer, count: Int) {
        var position = 0
        while position < count {
            guard count &- position >= 8, bytes.byte(position &+ 1) != 0 else { return nil }
            position &+= Int(bytes.byte(position &+ 1)) &* 8
        }
        guard position == count else { return nil }
        base = bytes
        self.count = count
    }

    /// The next option; nil behind the last one.
    public mutating func next() -> NeighborDiscoveryOption? {
        guard position < count else { return nil }
        let option = NeighborDiscoveryOption(base: base + position, byteCount: Int(base.byte(position &+ 1)) &* 8)
        position &+= option.byteCount
        return option
    }

    /// The packet that a redirect is about (RFC 4861 section 4.6.3); nil where it is not there or too short to tell what it was.
    public var redirectedPacket: ICMPv6Quotation? {
        var rest = self
        rest.position = 0
        while let option = rest.next() {
            if option.type == NeighborDiscoveryOption.redirectedHeader { return ICMPv6Quotation(option.base + 8, count: option.byteCount &- 8) }
        }
        return nil
    }

    /// The first link-layer address of that type.
    public func linkLayerAddress(_ type: UInt8) -> MACAddress? {
        var rest = self
        rest.position = 0
        while let option = rest.next() {
            if option.type == type { return option.macAddress }
        }
        return nil
    }
}
