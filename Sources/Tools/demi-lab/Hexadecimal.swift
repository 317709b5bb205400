extension [UInt8] {
    /// Two digits a byte, of either case; nil for anything else.
    init?(hexadecimal text: String) {
        var text = text
        let bytes = text.withUTF8 { (units) -> [UInt8]? in
            guard units.count.isMultiple(of: 2) else { return nil }
            var bytes: [UInt8] = []
            bytes.reserveCapacity(units.count / 2)
            for index in stride(from: 0, to: units.count, by: 2) {
                guard let high = digit(units[index]), let low = digit(units[index + 1]) else { return nil }
                bytes.append(high << 4 | low)
            }
            return bytes
        }
        guard let bytes else { return nil }
        self = bytes
    }

    /// Two lower-case digits a byte.
    var hexadecimal: String {
        String(unsafeUninitializedCapacity: 2 * count) { storage in
            for (index, byte) in enumerated() {
                storage[2 * index] = unit(byte >> 4)
                storage[2 * index + 1] = unit(byte & 15)
            }
            return 2 * count
        }
    }
}

private func digit(_ unit: UInt8) -> UInt8? {
    switch unit {
    case UInt8(ascii: "0")...UInt8(ascii: "9"): unit - UInt8(ascii: "0")
    case UInt8(ascii: "a")...UInt8(ascii: "f"): unit - UInt8(ascii: "a") + 10
    case UInt8(ascii: "A")...UInt8(ascii: "F"): unit - UInt8(ascii: "A") + 10
    default: nil
    }
}

private func unit(_ digit: UInt8) -> UInt8 {
    digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
}
