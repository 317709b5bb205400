/// The IPv4 header without options, for writing.
public enum IPv4Header {
    @inlinable @inline(__always)
    public static var byteCount: Int { 20 }

    /// Writes a header of 20 bytes with its checksum to `target`.
    /// - Parameters:
    ///   - totalByteCount: of the packet with this header, at most 65535.
    ///   - fragmentOffset: in bytes, a multiple of 8.
    ///   - source: must be IPv4, like `destination`.
    //= RFC 791 section 3.1
    //# The checksum field is the 16 bit one's complement of the one's complement sum of all 16 bit words in the header.
    @inlinable @inline(__always)
    public static func write(
        to target: UnsafeMutableRawPointer, totalByteCount: Int, identification: UInt16, dontFragment: Bool, moreFragments: Bool = false,
        fragmentOffset: Int = 0, timeToLive: UInt8, typeOfService: UInt8 = 0, protocolNumber: UInt8, source: IPAddress, destination: IPAddress
    ) {
        // In registers to the end: a sum over bytes that were just stored would wait for the stores.
        let flags = (dontFragment ? 0x4000 : 0) | (moreFragments ? 0x2000 : 0) | UInt16(truncatingIfNeeded: fragmentOffset &>> 3) & 0x1fff
        let first =
            0x45 | UInt64(typeOfService) &<< 8 | UInt64(UInt16(truncatingIfNeeded: totalByteCount).bigEndian) &<< 16
            | UInt64(identification.bigEndian) &<< 32 | UInt64(flags.bigEndian) &<< 48
        let second = UInt64(timeToLive) | UInt64(protocolNumber) &<< 8 | UInt64(source.ipv4Raw) &<< 32
        let sum = InternetChecksum.halves(first) &+ InternetChecksum.halves(second) &+ UInt64(destination.ipv4Raw)
        target.storeRaw(first, at: 0)
        target.storeRaw(second | UInt64(InternetChecksum.finish(sum)) &<< 16, at: 8)
        target.storeRaw(destination.ipv4Raw, at: 16)
    }
}
