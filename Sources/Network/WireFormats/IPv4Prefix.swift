/// An IPv4 address and the length of the network's part of it, as in 10.0.0.5/24 (RFC 4632 section 3.1).
@frozen
public struct IPv4Prefix: Hashable, Sendable {
    /// As given, with its host bits.
    public var address: IPAddress
    /// Bits of the network's part, 0 to 32.
    public var length: UInt8

    /// Traps unless `address` is an IPv4 address and `length` at most 32.
    @inlinable
    public init(address: IPAddress, length: UInt8) {
        precondition(address.isIPv4 && length <= 32, "an IPv4 prefix is an IPv4 address and a length of 0 to 32")
        self.address = address
        self.length = length
    }

    /// The mask in host order: /24 is 0xffffff00.
    @inlinable @inline(__always)
    public var maskHostOrder: UInt32 { UInt32(truncatingIfNeeded: 0xffff_ffff_0000_0000 &>> UInt64(length)) }

    /// Whether `other` is an IPv4 address of this network.
    @inlinable @inline(__always)
    public func contains(_ other: IPAddress) -> Bool {
        other.isIPv4 && (other.ipv4Raw ^ address.ipv4Raw) & maskHostOrder.bigEndian == 0
    }

    /// The address with host bits of zero.
    @inlinable @inline(__always)
    public var network: IPAddress { IPAddress(ipv4Raw: address.ipv4Raw & maskHostOrder.bigEndian) }

    /// The directed broadcast address: host bits of one. A network of one or two addresses (/32, /31) has none, and the limited broadcast address
    /// is returned.
    //= RFC 3021 section 2.1
    //# In a point-to-point link with a 31-bit subnet mask, the two addresses MUST be interpreted as host addresses.
    @inlinable @inline(__always)
    public var broadcast: IPAddress {
        length >= 31 ? .limitedBroadcast : IPAddress(ipv4Raw: address.ipv4Raw | ~maskHostOrder.bigEndian)
    }
}

extension IPv4Prefix: CustomStringConvertible {
    /// Reads `10.0.0.5/24`: an IPv4 address, a slash and a decimal number of 0 to 32 without leading zeros. Nil for anything else.
    public init?(parsing text: some StringProtocol) {
        guard let slash = text.firstIndex(of: "/") else { return nil }
        let digits = text[text.index(after: slash)...].utf8
        guard let address = IPAddress(parsing: text[..<slash]), address.isIPv4, text[..<slash].utf8.allSatisfy({ $0 != UInt8(ascii: ":") }),
            (1...2).contains(digits.count), digits.count == 1 || digits.first != UInt8(ascii: "0")
        else { return nil }
        var length: UInt8 = 0
        for digit in digits {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            length = length * 10 + digit - UInt8(ascii: "0")
        }
        guard length <= 32 else { return nil }
        self.init(address: address, length: length)
    }

    public var description: String { "\(address)/\(length)" }
}
