// Text to and from addresses: for configuration and diagnostics, never for packets.

extension IPAddress: CustomStringConvertible, LosslessStringConvertible {
    /// Reads `10.0.0.1` (four decimal numbers without leading zeros) or IPv6 text (RFC 4291 section 2.2), also with an IPv4 address at its end.
    /// Nil for anything else, such as a zone or a prefix length. `::ffff:10.0.0.1` is the IPv4 address.
    public init?(parsing text: some StringProtocol) {
        var copy = String(text)
        guard let words = copy.withUTF8({ AddressText(bytes: $0).words() }) else { return nil }
        self.words = words
    }

    public init?(_ description: String) { self.init(parsing: description) }

    /// `10.0.0.1`, or the IPv6 text of RFC 5952: lower case, no leading zeros, the longest run of zero groups as `::`.
    public var description: String {
        if isIPv4 {
            let value = ipv4HostOrder
            return "\(value >> 24).\(value >> 16 & 0xff).\(value >> 8 & 0xff).\(value & 0xff)"
        }
        let value = UInt128(UInt64(bigEndian: words.0)) << 64 | UInt128(UInt64(bigEndian: words.1))
        let group = { (index: Int) in UInt16(truncatingIfNeeded: value >> UInt128(112 - 16 * index)) }
        // The first of the longest runs of two or more zero groups.
        //= RFC 5952 section 4.2.3
        //# When there is an alternative choice in the placement of a "::", the longest run of consecutive 16-bit 0 fields MUST be shortened
        var longest = 0..<1
        var start = 0
        for index in 0...8 where index == 8 || group(index) != 0 {
            if index - start > longest.count { longest = start..<index }
            start = index + 1
        }
        if longest.count < 2 { longest = 8..<8 }
        var text = ""
        for index in 0..<8 {
            if longest.contains(index) {
                if index == longest.lowerBound { text += "::" }
            } else {
                if index > 0 && index != longest.upperBound { text += ":" }
                text += String(group(index), radix: 16)
            }
        }
        return text
    }
}

/// The value of a hexadecimal digit; nil for any other byte.
func hexadecimalDigit(_ unit: UInt8) -> UInt8? {
    switch unit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): unit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): unit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): unit - UInt8(ascii: "A") + 10
    default: nil
    }
}

/// A parser that stands at `position` in the text of an address.
private struct AddressText {
    let bytes: UnsafeBufferPointer<UInt8>
    var position = 0

    init(bytes: UnsafeBufferPointer<UInt8>) { self.bytes = bytes }

    var isAtEnd: Bool { position == bytes.count }

    mutating func take(_ character: Unicode.Scalar) -> Bool {
        guard position < bytes.count, bytes[position] == UInt8(ascii: character) else { return false }
        position += 1
        return true
    }

    func words() -> (UInt64, UInt64)? {
        var text = self
        if let value = text.ipv4(), text.isAtEnd { return IPAddress(ipv4HostOrder: value).words }
        text.position = 0
        guard let value = text.ipv6() else { return nil }
        return (UInt64(truncatingIfNeeded: value >> 64).bigEndian, UInt64(truncatingIfNeeded: value).bigEndian)
    }

    mutating func ipv4() -> UInt32? {
        var value: UInt32 = 0
        for part in 0..<4 {
            guard part == 0 || take(".") else { return nil }
            let start = position
            var number: UInt32 = 0
            while position < bytes.count, bytes[position] >= UInt8(ascii: "0"), bytes[position] <= UInt8(ascii: "9"), position - start < 3 {
                number = number * 10 + UInt32(bytes[position] - UInt8(ascii: "0"))
                position += 1
            }
            // A leading zero would mean octal to some readers.
            guard position > start, number <= 255, position - start == 1 || bytes[start] != UInt8(ascii: "0") else { return nil }
            value = value << 8 | number
        }
        return value
    }

    /// Groups before the `::` are shifted up to the top at the end, groups behind it stay at the bottom.
    mutating func ipv6() -> UInt128? {
        var before: UInt128 = 0
        var beforeCount = 0
        var behind: UInt128 = 0
        var behindCount = 0
        var isCompressed = false
        if take(":") {
            guard take(":") else { return nil }
            isCompressed = true
        }
        while !isAtEnd {
            let groupStart = position
            if let value = ipv4(), isAtEnd {
                if isCompressed { behind = behind << 32 | UInt128(value) } else { before = before << 32 | UInt128(value) }
                if isCompressed { behindCount += 2 } else { beforeCount += 2 }
                break
            }
            position = groupStart
            guard let group = ipv6Group() else { return nil }
            if isCompressed { behind = behind << 16 | UInt128(group) } else { before = before << 16 | UInt128(group) }
            if isCompressed { behindCount += 1 } else { beforeCount += 1 }
            guard beforeCount + behindCount <= 8 else { return nil }
            if isAtEnd { break }
            guard take(":"), !isAtEnd else { return nil }
            if take(":") {
                guard !isCompressed else { return nil }
                isCompressed = true
            }
        }
        //= RFC 4291 section 2.2
        //# The use of "::" indicates one or more groups of 16 bits of zeros.
        let count = beforeCount + behindCount
        guard isCompressed ? count <= 7 : count == 8 else { return nil }
        return (beforeCount == 0 ? 0 : before << UInt128(16 * (8 - beforeCount))) | behind
    }

    mutating func ipv6Group() -> UInt16? {
        let start = position
        var value: UInt16 = 0
        while position < bytes.count, position - start < 4, let digit = hexadecimalDigit(bytes[position]) {
            value = value << 4 | UInt16(digit)
            position += 1
        }
        return position > start ? value : nil
    }
}
