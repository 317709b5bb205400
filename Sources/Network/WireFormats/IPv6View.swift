/// A received IPv6 packet whose fixed header and length have been checked (RFC 8200 section 3). The view borrows the bytes; no accessor reads outside of
/// them.
@frozen
public struct IPv6View {
    public let base: UnsafeRawPointer
    /// Bytes behind the fixed header, extension headers included; what follows in the frame is padding.
    public let payloadByteCount: Int

    /// Why the bytes are not an IPv6 packet, or `none`.
    @inlinable @inline(__always)
    public static func check(_ bytes: UnsafeRawPointer, count: Int) -> ParseError {
        guard count >= 40 else { return .truncated }
        guard bytes.byte(0) &>> 4 == 6 else { return .badVersion }
        return Int(bytes.bigEndian16(4)) <= count &- 40 ? .none : .truncated
    }

    /// A view of bytes for which `check` has returned `none`.
    @inlinable @inline(__always)
    public init(unchecked bytes: UnsafeRawPointer) {
        base = bytes
        //= RFC 8200 section 3
        //# Length of the IPv6 payload, i.e., the rest of the packet following this IPv6 header, in octets.
        payloadByteCount = Int(bytes.bigEndian16(4))
    }

    /// The DSCP and the ECN bits.
    @inlinable @inline(__always)
    public var trafficClass: UInt8 { UInt8(truncatingIfNeeded: base.bigEndian16(0) &>> 4) }

    /// The explicit congestion notification bits (RFC 3168 section 5), 0 to 3.
    @inlinable @inline(__always)
    public var ecn: UInt8 { trafficClass & 3 }

    /// 20 bits (RFC 6437).
    @inlinable @inline(__always)
    public var flowLabel: UInt32 { base.bigEndian32(0) & 0xf_ffff }

    /// One of `IPProtocol` or `IPv6ExtensionType`, or any other number.
    @inlinable @inline(__always)
    public var nextHeader: UInt8 { base.byte(6) }

    @inlinable @inline(__always)
    public var hopLimit: UInt8 { base.byte(7) }

    @inlinable @inline(__always)
    public var source: IPAddress { IPAddress(ipv6At: base + 8) }

    @inlinable @inline(__always)
    public var destination: IPAddress { IPAddress(ipv6At: base + 24) }

    /// Behind the fixed header.
    @inlinable @inline(__always)
    public var payload: UnsafeRawPointer { base + 40 }

    /// Bytes of the packet with its fixed header.
    @inlinable @inline(__always)
    public var totalByteCount: Int { payloadByteCount &+ 40 }
}

/// The fixed IPv6 header, for writing.
public enum IPv6Header {
    @inlinable @inline(__always)
    public static var byteCount: Int { 40 }

    /// The MTU that every link has at least (RFC 8200 section 5).
    @inlinable @inline(__always)
    public static var minimumMTU: Int { 1_280 }

    /// Writes a header of 40 bytes to `target`.
    /// - Parameters:
    ///   - payloadByteCount: of all that follows, at most 65535.
    ///   - flowLabel: the lower 20 bits count.
    @inlinable @inline(__always)
    public static func write(
        to target: UnsafeMutableRawPointer, payloadByteCount: Int, nextHeader: UInt8, hopLimit: UInt8, trafficClass: UInt8 = 0, flowLabel: UInt32 = 0,
        source: IPAddress, destination: IPAddress
    ) {
        //= RFC 8200 section 3
        //# Version: 4-bit Internet Protocol version number = 6.
        let first = 6 &<< 28 | UInt32(trafficClass) &<< 20 | flowLabel & 0xf_ffff
        target.storeRaw(first.bigEndian, at: 0)
        target.storeRaw(UInt16(truncatingIfNeeded: payloadByteCount).bigEndian, at: 4)
        target.storeRaw(nextHeader, at: 6)
        target.storeRaw(hopLimit, at: 7)
        target.storeRaw(source.words.0, at: 8)
        target.storeRaw(source.words.1, at: 16)
        target.storeRaw(destination.words.0, at: 24)
        target.storeRaw(destination.words.1, at: 32)
    }
}
