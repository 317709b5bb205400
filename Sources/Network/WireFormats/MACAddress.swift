/// An IEEE 802 MAC address of 48 bits.
@frozen
public struct MACAddress: Hashable, Sendable {
    /// The six octets, the first one in the most significant of the lower 48 bits; the upper 16 bits are zero.
    public var value: UInt64

    /// Bits of `value` above the lower 48 are dropped.
    @inlinable @inline(__always)
    public init(value: UInt64) { self.value = value & 0xffff_ffff_ffff }

    /// Reads the six bytes at `bytes`.
    @inlinable @inline(__always)
    public init(at bytes: UnsafeRawPointer) {
        value = UInt64(bytes.bigEndian32(0)) << 16 | UInt64(bytes.bigEndian16(4))
    }

    /// Writes the six bytes to `target`.
    @inlinable @inline(__always)
    public func store(to target: UnsafeMutableRawPointer) {
        target.storeRaw(UInt32(truncatingIfNeeded: value &>> 16).bigEndian, at: 0)
        target.storeRaw(UInt16(truncatingIfNeeded: value).bigEndian, at: 4)
    }

    /// ff:ff:ff:ff:ff:ff.
    @inlinable @inline(__always)
    public static var broadcast: MACAddress { MACAddress(value: 0xffff_ffff_ffff) }

    /// Whether the address names a group of stations: multicast or broadcast. A sender is never one.
    @inlinable @inline(__always)
    public var isGroup: Bool { value & 0x0100_0000_0000 != 0 }

    @inlinable @inline(__always)
    public var isBroadcast: Bool { value == 0xffff_ffff_ffff }
}

extension MACAddress: CustomStringConvertible {
    /// Reads six octets of two hexadecimal digits each, separated by colons: `02:00:00:00:00:01`. Nil for anything else.
    public init?(parsing text: some StringProtocol) {
        var value: UInt64 = 0
        var position = 0
        for unit in text.utf8 {
            if position % 3 == 2 {
                guard unit == UInt8(ascii: ":") else { return nil }
            } else {
                guard let digit = hexadecimalDigit(unit), position < 17 else { return nil }
                value = value << 4 | UInt64(digit)
            }
            position += 1
        }
        guard position == 17 else { return nil }
        self.value = value
    }

    /// `02:00:00:00:00:01`.
    public var description: String {
        var text = ""
        for shift in stride(from: 40, through: 0, by: -8) {
            let octet = UInt8(truncatingIfNeeded: value >> UInt64(shift))
            if octet < 16 { text += "0" }
            text += String(octet, radix: 16)
            if shift > 0 { text += ":" }
        }
        return text
    }
}
