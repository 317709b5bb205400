/// Transport checksums that were left to be completed by a network card, on a link where there is none: the field holds the sum of the pseudo-header,
/// not complemented (Documentation/networking/checksum-offloads.rst).
enum PartialChecksum {
    /// Whether the frame is a whole TCP segment or UDP datagram with such a field, and, over IPv4, a valid header checksum. Reads nothing beyond
    /// `byteCount`.
    static func isPartial(_ frame: UnsafeRawPointer, _ byteCount: Int) -> Bool {
        guard byteCount >= 14 + 20 + 8 else { return false }
        switch frame.loadUnaligned(fromByteOffset: 12, as: UInt16.self) {
        case 0x0008: return isPartialIPv4(frame + 14, byteCount - 14)
        case 0xdd86: return isPartialIPv6(frame + 14, byteCount - 14)
        default: return false
        }
    }

    private static func isPartialIPv4(_ header: UnsafeRawPointer, _ byteCount: Int) -> Bool {
        let headerByteCount = Int(header.load(as: UInt8.self) & 0xf) * 4
        let packetByteCount = Int(header.loadUnaligned(fromByteOffset: 2, as: UInt16.self).byteSwapped)
        // More fragments, and the offset: there is no field to look at in a part of a packet.
        guard header.load(as: UInt8.self) >> 4 == 4, headerByteCount >= 20, packetByteCount <= byteCount,
            header.loadUnaligned(fromByteOffset: 6, as: UInt16.self) & 0xff3f == 0,
            fold(sum(header, headerByteCount)) == 0xffff
        else { return false }
        let addresses = sum(header + 12, 8)
        return matches(
            header + headerByteCount, packetByteCount - headerByteCount, transport: header.load(fromByteOffset: 9, as: UInt8.self), addresses)
    }

    private static func isPartialIPv6(_ header: UnsafeRawPointer, _ byteCount: Int) -> Bool {
        let payloadByteCount = Int(header.loadUnaligned(fromByteOffset: 4, as: UInt16.self).byteSwapped)
        guard byteCount >= 48, header.load(as: UInt8.self) >> 4 == 6, payloadByteCount <= byteCount - 40 else { return false }
        return matches(header + 40, payloadByteCount, transport: header.load(fromByteOffset: 6, as: UInt8.self), sum(header + 8, 32))
    }

    private static func matches(_ segment: UnsafeRawPointer, _ byteCount: Int, transport: UInt8, _ addresses: UInt64) -> Bool {
        let field: Int
        switch transport {
        case 6 where byteCount >= 20: field = 16
        case 17 where byteCount >= 8: field = 6
        default: return false
        }
        let pseudoHeader = addresses + UInt64(UInt16(transport).byteSwapped) + UInt64(UInt16(truncatingIfNeeded: byteCount).byteSwapped)
        return segment.loadUnaligned(fromByteOffset: field, as: UInt16.self) == fold(pseudoHeader)
    }

    /// The sum of 16-bit words as they lie in memory; `byteCount` is a multiple of four.
    private static func sum(_ bytes: UnsafeRawPointer, _ byteCount: Int) -> UInt64 {
        var sum: UInt64 = 0
        for offset in stride(from: 0, to: byteCount, by: 4) { sum &+= UInt64(bytes.loadUnaligned(fromByteOffset: offset, as: UInt32.self)) }
        return sum
    }

    private static func fold(_ sum: UInt64) -> UInt16 {
        var sum = sum
        while sum >> 16 != 0 { sum = (sum & 0xffff) + (sum >> 16) }
        return UInt16(sum)
    }
}
