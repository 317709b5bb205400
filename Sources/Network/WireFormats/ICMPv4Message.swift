/// ICMP messages, for writing. All of them begin at `target`, behind the IPv4 header, and return or tell their length with the 8-byte ICMP header.
public enum ICMPv4Message {
    @inlinable @inline(__always)
    public static var headerByteCount: Int { 8 }

    /// Writes the reply to an echo request: `request.count` bytes, which must not overlap the request.
    ///
    /// The checksum is the request's, updated for the type: a request that was damaged unseen stays recognisable as damaged.
    //= RFC 1122 section 3.2.2.6
    //# Data received in an ICMP Echo Request MUST be entirely included in the resulting Echo Reply.
    @inlinable
    public static func writeEchoReply(to target: UnsafeMutableRawPointer, request: ICMPv4View) {
        target.copyMemory(from: request.base, byteCount: request.count)
        turnIntoEchoReply(target)
    }

    /// Turns the echo request at `message` into its reply, in place.
    //= RFC 792 section Echo or Echo Reply Message
    //# To form an echo reply message, the source and destination addresses are simply reversed, the type code changed to 0, and the checksum recomputed.
    @inlinable
    public static func turnIntoEchoReply(_ message: UnsafeMutableRawPointer) {
        let old = UnsafeRawPointer(message).raw32(0)
        // Type 0; the code stays, and the checksum in the upper half is updated for the change of the lower.
        let new = UInt16(truncatingIfNeeded: old & 0xff00)
        let checksum = InternetChecksum.update(UInt16(truncatingIfNeeded: old &>> 16), replacing: UInt16(truncatingIfNeeded: old), with: new)
        // Of the two zeros of one's complement, the one that is right in a message of nothing but zeros as well.
        message.storeRaw(UInt32(checksum == 0 ? 0xffff : checksum) &<< 16 | UInt32(new), at: 0)
    }

    /// Writes an echo request with a copy of `payloadByteCount` bytes behind it; returns its length.
    @inlinable
    public static func writeEchoRequest(
        to target: UnsafeMutableRawPointer, identifier: UInt16, sequenceNumber: UInt16, payload: UnsafeRawPointer, payloadByteCount: Int
    ) -> Int {
        let rest = UInt32(identifier) &<< 16 | UInt32(sequenceNumber)
        write(to: target, type: ICMPv4Type.echoRequest, code: 0, restOfHeader: rest, body: payload, bodyByteCount: payloadByteCount)
        return headerByteCount &+ payloadByteCount
    }

    /// The most that an error message quotes: so that the packet with its IPv4 header has at most 576 bytes.
    //= RFC 1812 section 4.3.2.3
    //# The ICMP datagram SHOULD contain as much of the original datagram as possible without the length of the ICMP datagram exceeding 576 bytes.
    @inlinable @inline(__always)
    public static var maximumQuotedByteCount: Int { 576 - 20 - 8 }

    /// The length of the error message about `packet`, with the ICMP header.
    @inlinable @inline(__always)
    public static func errorByteCount(quoting packet: IPv4View) -> Int {
        headerByteCount &+ min(packet.totalByteCount, maximumQuotedByteCount)
    }

    /// Writes an error message about `packet`, which it quotes from its IPv4 header on; returns its length, `errorByteCount(quoting:)`.
    /// - Parameter restOfHeader: bytes 4 to 7 in host order: the next-hop MTU, the pointer of a parameter problem in the topmost byte, or zero.
    @inlinable
    public static func writeError(
        to target: UnsafeMutableRawPointer, type: UInt8, code: UInt8, restOfHeader: UInt32 = 0, quoting packet: IPv4View
    ) -> Int {
        let quoted = min(packet.totalByteCount, maximumQuotedByteCount)
        write(to: target, type: type, code: code, restOfHeader: restOfHeader, body: packet.base, bodyByteCount: quoted)
        return headerByteCount &+ quoted
    }

    @inlinable @inline(__always)
    static func write(
        to target: UnsafeMutableRawPointer, type: UInt8, code: UInt8, restOfHeader: UInt32, body: UnsafeRawPointer, bodyByteCount: Int
    ) {
        let rest = UInt64(restOfHeader.bigEndian)
        let typeAndCode = UInt64(type) | UInt64(code) &<< 8
        let sum = InternetChecksum.copyAndSum(to: target + 8, from: body, count: bodyByteCount) &+ typeAndCode &+ rest
        target.storeRaw(typeAndCode | UInt64(InternetChecksum.finish(sum)) &<< 16 | rest &<< 32, at: 0)
    }
}
