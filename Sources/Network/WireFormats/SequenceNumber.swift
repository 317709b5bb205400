/// A TCP sequence number: 32 bits that wrap around (RFC 9293 section 3.4).
///
/// The order is that of the signed difference: right for numbers less than 2^31 apart, which those of one window are. It is no total order, so the
/// type is not `Comparable`; of two numbers exactly 2^31 apart each is before the other.
@frozen
public struct SequenceNumber: Hashable, Sendable {
    /// In host order.
    public var rawValue: UInt32

    @inlinable @inline(__always)
    public init(rawValue: UInt32) { self.rawValue = rawValue }

    //= RFC 9293 section 3.4
    //# Since the space is finite, all arithmetic dealing with sequence numbers must be performed modulo 2**32.
    @inlinable @inline(__always)
    public static func < (left: SequenceNumber, right: SequenceNumber) -> Bool {
        Int32(truncatingIfNeeded: left.rawValue &- right.rawValue) < 0
    }

    @inlinable @inline(__always)
    public static func <= (left: SequenceNumber, right: SequenceNumber) -> Bool {
        Int32(truncatingIfNeeded: left.rawValue &- right.rawValue) <= 0
    }

    @inlinable @inline(__always)
    public static func > (left: SequenceNumber, right: SequenceNumber) -> Bool { right < left }

    @inlinable @inline(__always)
    public static func >= (left: SequenceNumber, right: SequenceNumber) -> Bool { right <= left }

    /// The number `distance` bytes further on, or back where it is negative; modulo 2^32.
    @inlinable @inline(__always)
    public static func + (number: SequenceNumber, distance: Int) -> SequenceNumber {
        SequenceNumber(rawValue: number.rawValue &+ UInt32(truncatingIfNeeded: distance))
    }

    @inlinable @inline(__always)
    public static func += (number: inout SequenceNumber, distance: Int) { number = number + distance }

    @inlinable @inline(__always)
    public static func - (number: SequenceNumber, distance: Int) -> SequenceNumber {
        SequenceNumber(rawValue: number.rawValue &- UInt32(truncatingIfNeeded: distance))
    }

    @inlinable @inline(__always)
    public static func -= (number: inout SequenceNumber, distance: Int) { number = number - distance }

    /// The signed distance from `right` to `left`: -2^31 to 2^31 - 1.
    @inlinable @inline(__always)
    public static func - (left: SequenceNumber, right: SequenceNumber) -> Int {
        Int(Int32(truncatingIfNeeded: left.rawValue &- right.rawValue))
    }

    /// The later of two.
    @inlinable @inline(__always)
    public static func max(_ left: SequenceNumber, _ right: SequenceNumber) -> SequenceNumber { left < right ? right : left }

    /// The earlier of two.
    @inlinable @inline(__always)
    public static func min(_ left: SequenceNumber, _ right: SequenceNumber) -> SequenceNumber { right < left ? right : left }
}

extension SequenceNumber: CustomStringConvertible {
    public var description: String { "\(rawValue)" }
}
