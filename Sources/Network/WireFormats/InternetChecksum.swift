import CDatapath

/// The checksum of IPv4, ICMP, UDP and TCP (RFC 1071, RFC 1624): the complement of the one's complement sum of 16-bit words.
///
/// Sums are 64-bit numbers of which only the remainder by 65535 counts, so they are added with plain additions (`&+`; those of 16 GiB of data fit),
/// and every word is taken as it lies in memory: the sum of swapped words is the swapped sum (RFC 1071 section 2, B). What `finish` returns is stored
/// with a plain store; no function here changes byte order for the wire.
@frozen
public enum InternetChecksum {
    /// From so many bytes on a sum is taken by a call, with vectors.
    @inlinable
    public static var longByteCount: Int { 128 }

    /// The unfolded sum of `count` bytes; an odd last byte is padded with a zero behind it.
    //= RFC 1071 section 1
    //# Adjacent octets to be checksummed are paired to form 16-bit integers, and the 1's complement sum of these 16-bit integers is formed.
    @inlinable @inline(__always)
    public static func sum(_ bytes: UnsafeRawPointer, count: Int) -> UInt64 { demi_checksum_sum(bytes, count) }

    /// Copies `count` bytes from `source` to `target` and returns their unfolded sum, in one pass. The two runs must not overlap.
    @inlinable @inline(__always)
    public static func copyAndSum(to target: UnsafeMutableRawPointer, from source: UnsafeRawPointer, count: Int) -> UInt64 {
        demi_checksum_copy_and_sum(target, source, count)
    }

    /// The sum of a piece as it counts when the piece begins at an odd offset of the message: its bytes have changed places in every word.
    //= RFC 1071 section 2
    //# The sum of 16-bit integers can be computed in either byte order.
    @inlinable @inline(__always)
    public static func byteSwapped(_ sum: UInt64) -> UInt64 { ((sum & 0xffff_ffff) &+ (sum &>> 32)) &<< 8 }

    /// The sum of a message so far, and of the next piece, which begins at `offset` of the message.
    @inlinable @inline(__always)
    public static func combine(_ sum: UInt64, _ piece: UInt64, offset: Int) -> UInt64 {
        sum &+ (offset & 1 == 0 ? piece : byteSwapped(piece))
    }

    /// The sum in 16 bits, with the carries added in. Zero only for a sum of nothing but zeros; any other multiple of 65535 becomes 0xffff.
    @inlinable @inline(__always)
    public static func fold(_ sum: UInt64) -> UInt16 {
        // The upper half of x + (x with its halves exchanged) is the sum of the halves with the carry of the lower addition: end-around.
        let exchanged = sum &<< 32 | sum &>> 32
        let half = UInt32(truncatingIfNeeded: (sum &+ exchanged) &>> 32)
        let exchangedHalf = half &<< 16 | half &>> 16
        return UInt16(truncatingIfNeeded: (half &+ exchangedHalf) &>> 16)
    }

    /// The checksum to store, as it is, into the message.
    @inlinable @inline(__always)
    public static func finish(_ sum: UInt64) -> UInt16 { ~fold(sum) }

    /// Whether the sum over a message and its stored checksum (and the pseudo header) says that it arrived as sent.
    ///
    /// In one's complement 0x0000 and 0xffff are the same number, so a stored checksum must never be compared with a computed one: both of a
    /// sender's spellings of zero pass here. A message of nothing but zero bytes does not pass: its checksum would be 0xffff.
    //= RFC 1071 section 1
    //# If the result is all 1 bits (-0 in 1's complement arithmetic), the check succeeds.
    @inlinable @inline(__always)
    public static func isValid(_ sum: UInt64) -> Bool {
        // Not zero, and a multiple of 65535: times that number's inverse modulo 2^64 it is at most (2^64 - 1) / 65535, and only then.
        sum &* 0xfffe_fffe_fffe_ffff &- 1 < 0x0001_0001_0001_0001
    }

    /// The same of a sum that is known not to be zero, as one with the length and the protocol is, to which carries were added in.
    @inlinable @inline(__always)
    static func isMultiple(_ sum: UInt64) -> Bool { sum &* 0xfffe_fffe_fffe_ffff <= 0x0001_0001_0001_0001 }

    /// Whether the checksum of an IPv4 header without options is valid.
    @inlinable @inline(__always)
    public static func isValid(ipv4Header: UnsafeRawPointer) -> Bool {
        let words = (ipv4Header.loadUnaligned(as: UInt64.self), (ipv4Header + 8).loadUnaligned(as: UInt64.self))
        let rest = UInt64((ipv4Header + 16).loadUnaligned(as: UInt32.self))
        return isValid(demi_checksum_add(demi_checksum_add(words.0, words.1), rest))
    }

    /// Whether the checksum of a UDP datagram or a TCP segment over IPv4, of at least eight bytes with its header, is valid.
    /// - Parameter rawAddresses: source and destination as they lie in the IPv4 header, eight bytes loaded from its offset 12.
    @inlinable @inline(__always)
    public static func isValid(_ transport: UnsafeRawPointer, byteCount: Int, rawAddresses: UInt64, protocolNumber: UInt8) -> Bool {
        let sum = demi_checksum_add(demi_checksum_wide_sum(transport, byteCount), rawAddresses)
        return isMultiple(demi_checksum_add(sum, lengthAndProtocol(protocolNumber, byteCount)))
    }

    /// The same over IPv6.
    /// - Parameter addresses: source and destination as they lie in the IPv6 header: 32 bytes.
    @inlinable @inline(__always)
    public static func isValid(_ transport: UnsafeRawPointer, byteCount: Int, ipv6Addresses addresses: UnsafeRawPointer, protocolNumber: UInt8) -> Bool {
        let sum = demi_checksum_add(demi_checksum_wide_sum(transport, byteCount), demi_checksum_wide_sum(addresses, 32))
        return isMultiple(demi_checksum_add(sum, lengthAndProtocol(protocolNumber, byteCount)))
    }

    /// The checksum after a 16-bit word of the message changed from `old` to `new`; all three as they lie in memory.
    //= RFC 1624 section 3
    //# HC' = ~(~HC + ~m + m')
    @inlinable @inline(__always)
    public static func update(_ checksum: UInt16, replacing old: UInt16, with new: UInt16) -> UInt16 {
        finish(UInt64(~checksum) &+ UInt64(~old) &+ UInt64(new))
    }

    /// The checksum after 32 bits of the message at an even offset changed from `old` to `new`; all three as they lie in memory.
    @inlinable @inline(__always)
    public static func update(_ checksum: UInt16, replacing old: UInt32, with new: UInt32) -> UInt16 {
        finish(UInt64(~checksum) &+ UInt64(~old) &+ UInt64(new))
    }

    /// The sum of the pseudo header that UDP and TCP check over IPv4.
    /// - Parameters:
    ///   - rawAddresses: source and destination as they lie in the IPv4 header, eight bytes loaded from its offset 12 (`IPv4View.rawAddresses`).
    ///   - byteCount: the length of the UDP datagram or TCP segment with its header.
    //= RFC 9293 section 3.1
    //# The checksum also covers a pseudo-header conceptually prefixed to the TCP header.
    @inlinable @inline(__always)
    public static func pseudoHeader(rawAddresses: UInt64, protocolNumber: UInt8, byteCount: Int) -> UInt64 {
        (rawAddresses & 0xffff_ffff) &+ (rawAddresses &>> 32) &+ lengthAndProtocol(protocolNumber, byteCount)
    }

    /// The sum of the pseudo header over IPv6 (RFC 8200 section 8.1), and over IPv4 too: the four bytes more that an IPv4-mapped address has are a
    /// word of 0xffff, a zero of this arithmetic.
    @inlinable @inline(__always)
    public static func pseudoHeader(source: IPAddress, destination: IPAddress, protocolNumber: UInt8, byteCount: Int) -> UInt64 {
        halves(source.words.0) &+ halves(source.words.1) &+ halves(destination.words.0) &+ halves(destination.words.1)
            &+ lengthAndProtocol(protocolNumber, byteCount)
    }

    @inlinable @inline(__always)
    static func halves(_ word: UInt64) -> UInt64 { (word & 0xffff_ffff) &+ (word &>> 32) }

    /// A zero byte and the protocol, and the length in four bytes, of which the upper two add nothing over IPv4.
    @inlinable @inline(__always)
    static func lengthAndProtocol(_ protocolNumber: UInt8, _ byteCount: Int) -> UInt64 {
        UInt64(UInt32(truncatingIfNeeded: byteCount).bigEndian) &+ UInt64(protocolNumber) &<< 8
    }
}
