/// A received UDP datagram whose length has been checked. The view borrows the bytes.
@frozen
public struct UDPView {
    public let base: UnsafeRawPointer
    /// The length field: bytes of the datagram with its header.
    public let byteCount: Int

    /// Why the bytes are not a UDP datagram, or `none`. Bytes behind the length that the header tells are no part of it.
    @inlinable @inline(__always)
    public static func check(_ bytes: UnsafeRawPointer, count: Int) -> ParseError {
        guard count >= 8 else { return .truncated }
        let length = Int(bytes.bigEndian16(4))
        //= RFC 768 section Length
        //# This means the minimum value of the length is eight.
        guard length >= 8 else { return .badLength }
        return length <= count ? .none : .truncated
    }

    /// A view of bytes for which `check` has returned `none`.
    @inlinable @inline(__always)
    public init(unchecked bytes: UnsafeRawPointer) {
        base = bytes
        byteCount = Int(bytes.bigEndian16(4))
    }

    /// In host order.
    @inlinable @inline(__always)
    public var sourcePort: UInt16 { base.bigEndian16(0) }

    /// In host order.
    @inlinable @inline(__always)
    public var destinationPort: UInt16 { base.bigEndian16(2) }

    /// The stored checksum as it lies in memory.
    @inlinable @inline(__always)
    public var checksum: UInt16 { base.raw16(6) }

    /// Whether the sender computed a checksum. Over IPv6 it must (RFC 8200 section 8.1).
    //= RFC 768 section Checksum
    //# An all zero transmitted checksum value means that the transmitter generated no checksum.
    @inlinable @inline(__always)
    public var hasChecksum: Bool { checksum != 0 }

    @inlinable @inline(__always)
    public var payload: UnsafeRawPointer { base + 8 }

    @inlinable @inline(__always)
    public var payloadByteCount: Int { byteCount &- 8 }

    /// Whether the datagram arrived as sent, or its sender computed no checksum.
    /// - Parameter pseudoHeaderSum: `InternetChecksum.pseudoHeader` with this view's `byteCount`.
    //= RFC 1122 section 4.1.3.4
    //# If a UDP datagram is received with a checksum that is non-zero and invalid, UDP MUST silently discard the datagram.
    @inlinable @inline(__always)
    public func isChecksumValid(_ pseudoHeaderSum: UInt64) -> Bool {
        !hasChecksum || InternetChecksum.isValid(InternetChecksum.sum(base, count: byteCount) &+ pseudoHeaderSum)
    }
}

/// The UDP header, for writing.
public enum UDPHeader {
    @inlinable @inline(__always)
    public static var byteCount: Int { 8 }

    /// The largest payload over IPv4 without options.
    @inlinable @inline(__always)
    public static var maximumPayloadByteCount: Int { 65535 - 20 - 8 }

    /// Writes a header with its checksum to `target`.
    /// - Parameters:
    ///   - pseudoHeaderSum: `InternetChecksum.pseudoHeader` with a byte count of 8 + `payloadByteCount`.
    ///   - payloadSum: `InternetChecksum.sum` of the payload.
    @inlinable @inline(__always)
    public static func write(
        to target: UnsafeMutableRawPointer, sourcePort: UInt16, destinationPort: UInt16, payloadByteCount: Int, pseudoHeaderSum: UInt64,
        payloadSum: UInt64
    ) {
        let header = word(sourcePort: sourcePort, destinationPort: destinationPort, payloadByteCount: payloadByteCount)
        let checksum = InternetChecksum.finish(InternetChecksum.halves(header) &+ pseudoHeaderSum &+ payloadSum)
        //= RFC 768 section Checksum
        //# If the computed checksum is zero, it is transmitted as all ones (the equivalent in one's complement arithmetic).
        target.storeRaw(header | UInt64(checksum == 0 ? 0xffff : checksum) &<< 48, at: 0)
    }

    /// Writes a header with a checksum of zero: none. For IPv4 alone, or for a device that fills it in.
    @inlinable @inline(__always)
    public static func writeWithoutChecksum(
        to target: UnsafeMutableRawPointer, sourcePort: UInt16, destinationPort: UInt16, payloadByteCount: Int
    ) {
        target.storeRaw(word(sourcePort: sourcePort, destinationPort: destinationPort, payloadByteCount: payloadByteCount), at: 0)
    }

    /// The header as it lies in memory, with a checksum of zero.
    @inlinable @inline(__always)
    static func word(sourcePort: UInt16, destinationPort: UInt16, payloadByteCount: Int) -> UInt64 {
        UInt64(sourcePort.bigEndian) | UInt64(destinationPort.bigEndian) &<< 16
            | UInt64(UInt16(truncatingIfNeeded: payloadByteCount &+ 8).bigEndian) &<< 32
    }
}
