/// The fragment header (RFC 8200 section 4.5): for writing, and what has to be behind it.
public enum IPv6FragmentHeader {
    @inlinable @inline(__always)
    public static var byteCount: Int { 8 }

    /// Writes a header of 8 bytes to `target`.
    /// - Parameters:
    ///   - nextHeader: of what was fragmented.
    ///   - offset: in bytes, a multiple of 8.
    @inlinable @inline(__always)
    public static func write(to target: UnsafeMutableRawPointer, nextHeader: UInt8, offset: Int, moreFragments: Bool, identification: UInt32) {
        //= RFC 8200 section 4.5
        //# Reserved: 8-bit reserved field. Initialized to zero for transmission; ignored on reception.
        let field = UInt16(truncatingIfNeeded: offset) & 0xfff8 | (moreFragments ? 1 : 0)
        target.storeRaw(UInt64(nextHeader) | UInt64(field.bigEndian) &<< 16 | UInt64(identification.bigEndian) &<< 32, at: 0)
    }

    /// Whether a first fragment holds every header up to the upper layer's, and that one whole. O(headers), which are bounded.
    /// - Parameter fragment: what a walk over the headers of `packet` has found; its offset is 0.
    //= RFC 8200 section 4.5
    //# If the first fragment does not include all headers through an Upper-Layer header, then that fragment should be discarded
    public static func isChainComplete(_ packet: IPv6View, behind fragment: IPv6Extensions.Fragment) -> Bool {
        var next = fragment.nextHeader
        var offset = fragment.headerOffset &+ byteCount
        for _ in 0...IPv6Extensions.maximumHeaders {
            let left = packet.totalByteCount &- offset
            switch next {
            case IPv6ExtensionType.hopByHopOptions, IPv6ExtensionType.routing, IPv6ExtensionType.destinationOptions:
                guard left >= 8, case let count = (Int(packet.base.byte(offset &+ 1)) &+ 1) &* 8, count <= left else { return false }
                next = packet.base.byte(offset)
                offset &+= count
            case IPProtocol.tcp: return left >= 20
            case IPProtocol.udp, IPProtocol.icmpv6: return left >= 8
            // Nothing is known of the length of others, and they are not spoken here.
            default: return left >= 0
            }
        }
        return false
    }
}
