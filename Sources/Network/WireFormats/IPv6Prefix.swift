/// An IPv6 address and the length of the network's part of it, as in 2001:db8::1/64 (RFC 4291 section 2.3).
@frozen
public struct IPv6Prefix: Hashable, Sendable {
    /// As given, with its interface identifier.
    public var address: IPAddress
    /// Bits of the network's part, 0 to 128.
    public var length: UInt8

    /// Traps unless `address` is an IPv6 address and `length` at most 128.
    @inlinable
    public init(address: IPAddress, length: UInt8) {
        precondition(!address.isIPv4 && length <= 128, "an IPv6 prefix is an IPv6 address and a length of 0 to 128")
        self.address = address
        self.length = length
    }

    /// The two words of the mask, as they lie in memory.
    @inlinable @inline(__always)
    public var mask: (UInt64, UInt64) {
        let bits = UInt64(length)
        // A shift by 64 gives zero.
        return (~(UInt64.max >> min(bits, 64)).bigEndian, ~(UInt64.max >> (bits > 64 ? bits - 64 : 0)).bigEndian)
    }

    /// Whether `other` is an IPv6 address of this network.
    @inlinable @inline(__always)
    public func contains(_ other: IPAddress) -> Bool {
        let mask = mask
        return !other.isIPv4 && (other.words.0 ^ address.words.0) & mask.0 | (other.words.1 ^ address.words.1) & mask.1 == 0
    }

    /// The address with an interface identifier of zero.
    @inlinable @inline(__always)
    public var network: IPAddress { IPAddress(words: (address.words.0 & mask.0, address.words.1 & mask.1)) }
}

extension IPv6Prefix: CustomStringConvertible {
    /// Reads `2001:db8::1/64`: an IPv6 address, a slash and a decimal number of 0 to 128 without leading zeros. Nil for anything else.
    public init?(parsing text: some StringProtocol) {
        guard let slash = text.firstIndex(of: "/") else { return nil }
        let digits = text[text.index(after: slash)...].utf8
        guard let address = IPAddress(parsing: text[..<slash]), !address.isIPv4, (1...3).contains(digits.count),
            digits.count == 1 || digits.first != UInt8(ascii: "0")
        else { return nil }
        var length = 0
        for digit in digits {
            guard digit >= UInt8(ascii: "0"), digit <= UInt8(ascii: "9") else { return nil }
            length = length * 10 + Int(digit - UInt8(ascii: "0"))
        }
        guard length <= 128 else { return nil }
        self.init(address: address, length: UInt8(length))
    }

    public var description: String { "\(address)/\(length)" }
}
