import Glibc

extension ByteSlice {
    /// The integer written in decimal without leading zeros, plus sign or spaces, or nil: what Redis accepts as an integer.
    func integer() -> Int64? {
        guard count > 0, count <= 20 else { return nil }
        let isNegative = self[0] == UInt8(ascii: "-")
        var index = isNegative ? 1 : 0
        guard index < count else { return nil }
        if self[index] == UInt8(ascii: "0") { return count == 1 ? 0 : nil }
        var magnitude: UInt64 = 0
        while index < count {
            let digit = self[index] &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            let (tens, overflow) = magnitude.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tens.addingReportingOverflow(UInt64(digit))
            if overflow || carry { return nil }
            magnitude = sum
            index += 1
        }
        if isNegative {
            return magnitude <= UInt64(1) << 63 ? Int64(truncatingIfNeeded: 0 &- magnitude) : nil
        }
        return magnitude <= UInt64(Int64.max) ? Int64(magnitude) : nil
    }

    /// The unsigned integer that `strtoul` reads from exactly these bytes, or nil: with an optional sign, and 0 for none, as
    /// `SCAN` takes its cursor.
    func cursor() -> UInt64? {
        guard count <= 64 else { return nil }
        let isNegative = count > 1 && self[0] == UInt8(ascii: "-")
        let isSigned = isNegative || (count > 1 && self[0] == UInt8(ascii: "+"))
        var value: UInt64 = 0
        for index in (isSigned ? 1 : 0)..<count {
            let digit = self[index] &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tens.addingReportingOverflow(UInt64(digit))
            if overflow || carry { return nil }
            value = sum
        }
        return isNegative ? 0 &- value : value
    }

    /// The floating-point number that `strtod` reads from exactly these bytes, or nil. Not-a-number is refused, infinities are not.
    /// Text longer than 512 bytes is refused.
    func double() -> Double? {
        if let integer = shortInteger() { return integer }
        guard count > 0, count <= 512, !self[0].isSpace else { return nil }
        return withUnsafeTemporaryAllocation(of: CChar.self, capacity: 513) { text in
            memcpy(text.baseAddress!, start, count)
            text[count] = 0
            var end: UnsafeMutablePointer<CChar>?
            errno = 0
            let value = strtod(text.baseAddress!, &end)
            guard end == text.baseAddress! + count, !value.isNaN else { return nil }
            if errno == ERANGE && (value.isInfinite || value == 0) { return nil }
            return value
        }
    }

    /// The common case of up to 15 digits and a minus sign, which a double holds exactly.
    private func shortInteger() -> Double? {
        guard count > 0, count <= 15 else { return nil }
        let isNegative = self[0] == UInt8(ascii: "-")
        var index = isNegative ? 1 : 0
        guard index < count else { return nil }
        var magnitude: Int64 = 0
        while index < count {
            let digit = self[index] &- UInt8(ascii: "0")
            guard digit < 10 else { return nil }
            magnitude = magnitude * 10 + Int64(digit)
            index += 1
        }
        return isNegative ? -Double(magnitude) : Double(magnitude)
    }
}

/// Decimal text of a number in a fixed buffer.
struct NumberText {
    /// Room for the longest number, and what every buffer handed to the functions below must have.
    static let capacity = 32

    /// Writes `value` at `destination` and returns the number of bytes written.
    @inline(__always)
    static func write(_ value: Int64, to destination: UnsafeMutableRawPointer) -> Int {
        if value >= 0 && value < 10 {
            destination.storeBytes(of: UInt8(truncatingIfNeeded: value) &+ UInt8(ascii: "0"), as: UInt8.self)
            return 1
        }
        return writeLong(value, to: destination)
    }

    @inline(never)
    private static func writeLong(_ value: Int64, to destination: UnsafeMutableRawPointer) -> Int {
        // The digits come last first, so they are gathered from the end of a word pair and copied from where they begin.
        withUnsafeTemporaryAllocation(byteCount: capacity, alignment: 8) { text in
            let end = text.baseAddress! + capacity
            var first = end
            var magnitude = value.magnitude
            repeat {
                first -= 1
                first.storeBytes(of: UInt8(truncatingIfNeeded: magnitude % 10) &+ UInt8(ascii: "0"), as: UInt8.self)
                magnitude /= 10
            } while magnitude != 0
            if value < 0 {
                first -= 1
                first.storeBytes(of: UInt8(ascii: "-"), as: UInt8.self)
            }
            destination.copyMemory(from: first, byteCount: end - first)
            return end - first
        }
    }

    /// Writes `value` with 17 significant digits (C's `%.17g`, as Redis 7.0 prints scores) and returns the number of bytes written.
    static func write(_ value: Double, to destination: UnsafeMutableRawPointer) -> Int {
        if value.magnitude < 1e17, let integer = Int64(exactly: value), integer != 0 || value.sign == .plus {
            return write(integer, to: destination)
        }
        let text = destination.assumingMemoryBound(to: CChar.self)
        return withVaList([value]) { Int(vsnprintf(text, capacity, "%.17g", $0)) }
    }
}
