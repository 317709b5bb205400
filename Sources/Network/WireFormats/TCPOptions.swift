/// The kinds of TCP options (RFC 9293 section 3.1, RFC 7323 section 2.2 and 3.2, RFC 2018 section 2 and 3).
public enum TCPOptionKind {
    @inlinable @inline(__always) public static var endOfList: UInt8 { 0 }
    @inlinable @inline(__always) public static var noOperation: UInt8 { 1 }
    @inlinable @inline(__always) public static var maximumSegmentSize: UInt8 { 2 }
    @inlinable @inline(__always) public static var windowScale: UInt8 { 3 }
    @inlinable @inline(__always) public static var sackPermitted: UInt8 { 4 }
    @inlinable @inline(__always) public static var sack: UInt8 { 5 }
    @inlinable @inline(__always) public static var timestamps: UInt8 { 8 }
}

extension TCPSegmentHeader {
    /// Reads the options one by one. An option that appears twice counts as its last appearance says.
    @usableFromInline
    mutating func parseOptions(_ options: UnsafeRawPointer, count: Int) {
        var offset = 0
        while offset < count {
            let kind = options.byte(offset)
            //= RFC 9293 section 3.1
            //# A TCP implementation MUST support the mandatory options: End of Option List, No-Operation, Maximum Segment Size (MUST-4).
            //= RFC 9293 section 3.2
            //# receivers MUST be prepared to process options even if they do not begin on a word boundary (MUST-64)
            if kind == TCPOptionKind.endOfList { return }
            if kind == TCPOptionKind.noOperation {
                offset += 1
                continue
            }
            //= RFC 9293 section 3.1
            //# TCP implementations MUST be prepared to handle an illegal option length (e.g., zero) (MUST-7).
            let length = offset + 1 < count ? Int(options.byte(offset + 1)) : 0
            guard length >= 2, length <= count - offset else {
                hasMalformedOptions = true
                return
            }
            parseOption(kind, options + offset, length)
            offset += length
        }
    }

    /// `length` bytes from `option` on are inside the header. A kind that is known with another length than it has is ignored.
    private mutating func parseOption(_ kind: UInt8, _ option: UnsafeRawPointer, _ length: Int) {
        switch kind {
        case TCPOptionKind.maximumSegmentSize where length == 4:
            maximumSegmentSize = option.bigEndian16(2)
        case TCPOptionKind.windowScale where length == 3:
            // 255 says that there is none; whoever sends that much gets the most that counts, which is 14.
            windowScale = min(option.byte(2), 254)
        case TCPOptionKind.sackPermitted where length == 2:
            isSACKPermitted = true
        case TCPOptionKind.timestamps where length == 10:
            hasTimestamps = true
            timestampValue = option.bigEndian32(2)
            timestampEchoReply = option.bigEndian32(6)
        case TCPOptionKind.sack where length >= 10 && length % 8 == 2:
            parseSACK(option + 2, blockCount: (length - 2) / 8)
        case TCPOptionKind.maximumSegmentSize, TCPOptionKind.windowScale, TCPOptionKind.sackPermitted, TCPOptionKind.timestamps,
            TCPOptionKind.sack:
            hasMalformedOptions = true
        default:
            //= RFC 9293 section 3.1
            //# A TCP implementation MUST (MUST-6) ignore without error any TCP Option it does not implement, assuming that the option has a length field.
            break
        }
    }

    /// The 40 bytes of options hold four blocks at most.
    private mutating func parseSACK(_ blocks: UnsafeRawPointer, blockCount: Int) {
        let block = { (index: Int) in
            SACKBlock(
                left: SequenceNumber(rawValue: blocks.bigEndian32(8 * index)), right: SequenceNumber(rawValue: blocks.bigEndian32(8 * index + 4)))
        }
        sackBlocks.0 = block(0)
        if blockCount > 1 { sackBlocks.1 = block(1) }
        if blockCount > 2 { sackBlocks.2 = block(2) }
        if blockCount > 3 { sackBlocks.3 = block(3) }
        sackBlockCount = UInt8(truncatingIfNeeded: blockCount)
    }
}
