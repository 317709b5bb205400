/// Writes a TCP header (RFC 9293 section 3.1) from its front to its back, and sums it on the way: the checksum needs no second look at bytes that
/// were just stored.
///
///     var writer = TCPHeaderWriter(to: target, sourcePort: …, destinationPort: …, sequence: …, acknowledgement: …)
///     writer.appendTimestamps(value: …, echoReply: …)
///     let pseudoHeaderSum = InternetChecksum.pseudoHeader(…, byteCount: writer.byteCount + payloadByteCount)
///     writer.finish(flags: .ack, window: …, pseudoHeaderSum: pseudoHeaderSum, payloadSum: …)
///
/// Every append writes a multiple of four bytes, padded with NOPs in front, so any of them may follow another. Room for 60 bytes suffices.
@frozen
public struct TCPHeaderWriter {
    @usableFromInline let base: UnsafeMutableRawPointer
    /// Bytes of the header so far: 20 and the options appended.
    public var byteCount: Int
    @usableFromInline var sum: UInt64

    /// Begins the header at `target`.
    @inlinable @inline(__always)
    public init(
        to target: UnsafeMutableRawPointer, sourcePort: UInt16, destinationPort: UInt16, sequence: SequenceNumber,
        acknowledgement: SequenceNumber
    ) {
        base = target
        byteCount = 20
        let ports = UInt64(sourcePort.bigEndian) | UInt64(destinationPort.bigEndian) &<< 16
        let numbers = (UInt64(sequence.rawValue.bigEndian), UInt64(acknowledgement.rawValue.bigEndian))
        target.storeRaw(ports | numbers.0 &<< 32, at: 0)
        target.storeRaw(UInt32(truncatingIfNeeded: numbers.1), at: 8)
        sum = ports &+ numbers.0 &+ numbers.1
    }

    /// Appends four bytes of options, given as a big-endian number. Traps beyond 60 bytes of header: that is the caller's choice of options.
    @inlinable @inline(__always)
    mutating func append(_ word: UInt32) {
        precondition(byteCount <= 56, "a TCP header has room for 40 bytes of options")
        base.storeRaw(word.bigEndian, at: byteCount)
        sum &+= UInt64(word.bigEndian)
        byteCount &+= 4
    }

    /// Appends the maximum segment size; 4 bytes. For a SYN.
    @inlinable @inline(__always)
    public mutating func appendMaximumSegmentSize(_ size: UInt16) { append(0x0204_0000 | UInt32(size)) }

    /// Appends NOP and the window scale; 4 bytes. For a SYN.
    @inlinable @inline(__always)
    public mutating func appendWindowScale(_ shiftCount: UInt8) { append(0x0103_0300 | UInt32(shiftCount)) }

    /// Appends two NOPs and SACK-permitted; 4 bytes. For a SYN.
    @inlinable @inline(__always)
    public mutating func appendSACKPermitted() { append(0x0101_0402) }

    /// Appends two NOPs and the timestamps; 12 bytes.
    @inlinable @inline(__always)
    public mutating func appendTimestamps(value: UInt32, echoReply: UInt32) {
        append(0x0101_080a)
        append(value)
        append(echoReply)
    }

    /// Appends SACK-permitted in the place of the timestamps' NOPs, and the timestamps; 12 bytes. For a SYN.
    @inlinable @inline(__always)
    public mutating func appendSACKPermittedAndTimestamps(value: UInt32, echoReply: UInt32) {
        append(0x0402_080a)
        append(value)
        append(echoReply)
    }

    /// Appends two NOPs and the head of a SACK option of 1 to 4 blocks; 4 bytes. As many calls of `appendSACKBlock` follow at once.
    @inlinable @inline(__always)
    public mutating func appendSACK(blockCount: Int) {
        append(0x0101_0500 | UInt32(truncatingIfNeeded: 2 &+ 8 &* blockCount))
    }

    /// Appends one block of a SACK option; 8 bytes.
    @inlinable @inline(__always)
    public mutating func appendSACKBlock(_ block: SACKBlock) {
        append(block.left.rawValue)
        append(block.right.rawValue)
    }

    /// Appends the options of a SYN: the maximum segment size, and SACK-permitted, timestamps and window scale (0xff for none) where wanted;
    /// 4 to 20 bytes.
    @inlinable
    public mutating func appendSynchronizeOptions(
        maximumSegmentSize: UInt16, windowScale: UInt8, isSACKPermitted: Bool, hasTimestamps: Bool, timestampValue: UInt32,
        timestampEchoReply: UInt32
    ) {
        appendMaximumSegmentSize(maximumSegmentSize)
        switch (isSACKPermitted, hasTimestamps) {
        case (true, true): appendSACKPermittedAndTimestamps(value: timestampValue, echoReply: timestampEchoReply)
        case (true, false): appendSACKPermitted()
        case (false, true): appendTimestamps(value: timestampValue, echoReply: timestampEchoReply)
        case (false, false): break
        }
        if windowScale != 0xff { appendWindowScale(windowScale) }
    }

    /// Completes the header with the checksum over pseudo header, header and payload; returns its length.
    /// - Parameters:
    ///   - window: as sent, already scaled down.
    ///   - pseudoHeaderSum: `InternetChecksum.pseudoHeader` with a byte count of `byteCount` and the payload.
    ///   - payloadSum: `InternetChecksum.sum` of the payload, 0 for none.
    @inlinable @inline(__always)
    @discardableResult
    public mutating func finish(
        flags: TCPFlags, window: UInt16, urgentPointer: UInt16 = 0, pseudoHeaderSum: UInt64, payloadSum: UInt64
    ) -> Int {
        let tail = tail(flags: flags, window: window, urgentPointer: urgentPointer)
        let checksum = InternetChecksum.finish(sum &+ InternetChecksum.halves(tail) &+ pseudoHeaderSum &+ payloadSum)
        base.storeRaw(tail | UInt64(checksum) &<< 32, at: 12)
        return byteCount
    }

    /// Completes the header with a checksum of zero, for a device that fills it in; returns its length.
    @inlinable @inline(__always)
    @discardableResult
    public mutating func finishWithoutChecksum(flags: TCPFlags, window: UInt16, urgentPointer: UInt16 = 0) -> Int {
        base.storeRaw(tail(flags: flags, window: window, urgentPointer: urgentPointer), at: 12)
        return byteCount
    }

    /// Bytes 12 to 19 as they lie in memory: data offset, flags, window, a checksum of zero, urgent pointer.
    @inlinable @inline(__always)
    func tail(flags: TCPFlags, window: UInt16, urgentPointer: UInt16) -> UInt64 {
        UInt64(truncatingIfNeeded: byteCount &<< 2) | UInt64(flags.rawValue) &<< 8 | UInt64(window.bigEndian) &<< 16
            | UInt64(urgentPointer.bigEndian) &<< 48
    }
}
