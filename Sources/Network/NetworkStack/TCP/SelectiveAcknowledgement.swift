import DatapathMemory
import EthernetDevice
import WireFormats

/// What a receiver tells its peer of the bytes that it has beyond the next expected one (RFC 2018), and of those that it got twice (RFC 2883).
///
/// Only numbers are kept here: the blocks themselves are read off the reassembly queue whenever they are sent, so that they never say more than it holds.
struct SelectiveAcknowledgements {
    /// What arrived although it was there already, and was not reported yet; empty for nothing.
    var duplicate = SACKBlock(left: SequenceNumber(rawValue: 0), right: SequenceNumber(rawValue: 0))
    /// Both sides have permitted them in their SYNs.
    var isPermitted = false

    init() {}

    var hasDuplicate: Bool { duplicate.left != duplicate.right }
}

/// The blocks that were reported last, the latest first: a sequence number in each of them.
struct ReportedBlocks {
    private(set) var recent: InlineArray<4, UInt32> = InlineArray(repeating: 0)
    /// How many of `recent` count.
    private(set) var count: UInt8 = 0

    init() {}

    /// A segment that begins at `sequence` came ahead of its turn.
    mutating func note(_ sequence: SequenceNumber) {
        var index = min(Int(count), 3)
        while index > 0 {
            recent[index] = recent[index - 1]
            index -= 1
        }
        recent[0] = sequence.rawValue
        count = min(count + 1, 4)
    }

    /// Forgets all but the first `kept` numbers, which are in `numbers`.
    mutating func keep(_ numbers: InlineArray<4, UInt32>, count kept: Int) {
        recent = numbers
        count = UInt8(kept)
    }
}

extension NetworkStack {
    /// Remembers bytes that arrived a second time, for the acknowledgement that answers them.
    //= RFC 2883 section 4
    //# A D-SACK block is only used to report a duplicate contiguous sequence of data received by the receiver in the most recent packet.
    func noteDuplicate(_ c: ConnectionPointer, _ left: SequenceNumber, byteCount: Int) {
        guard c.pointee.selective.isPermitted, byteCount > 0, !DeliberateBug.isPresent(.duplicatesNotReported) else { return }
        c.pointee.selective.duplicate = SACKBlock(left: left, right: left.advanced(by: byteCount))
    }

    /// The block of the reassembly queue that holds `number`: a run of pieces. O(gaps).
    private func reassembledBlock(_ c: ConnectionPointer, around number: SequenceNumber) -> SACKBlock? {
        var next = c.pointee.reassembly.first
        while let run = next {
            let left = run.runStart
            guard left.since(number) <= 0 else { return nil }
            let right = run.runEnd
            if right.since(number) > 0 { return SACKBlock(left: left, right: right) }
            next = run.pointee.nextArray
        }
        return nil
    }

    /// The blocks for an acknowledgement that is sent now, at most `limit` of them, 4 at most. A duplicate is reported with this call, and never again.
    private func takeBlocks(_ c: ConnectionPointer, limit: Int) -> (blocks: InlineArray<4, SACKBlock>, count: Int) {
        let none = SACKBlock(left: SequenceNumber(rawValue: 0), right: SequenceNumber(rawValue: 0))
        var blocks = InlineArray<4, SACKBlock>(repeating: none)
        var count = 0
        let exceptional = lendExceptionalState(c)
        if c.pointee.selective.hasDuplicate {
            //= RFC 2883 section 4
            //# When D-SACK is used, the D-SACK block is included as the first SACK block in the option; each duplicate contiguous sequence of data received
            //# is reported in at most one D-SACK block.
            let duplicate = c.pointee.selective.duplicate
            c.pointee.selective.duplicate = none
            blocks[0] = duplicate
            count = 1
            state.pointee.statistics.tcp.duplicatesReported += 1
            // Right behind it the block that it is a part of, if there is one.
            if duplicate.left.since(c.pointee.receiveNext) >= 0, let around = reassembledBlock(c, around: duplicate.left) {
                exceptional.pointee.reported.note(around.left)
            }
        }
        let isLateFirst = DeliberateBug.isPresent(.selectiveBlocksTooLong)
        // Each block once, the most recent one first; what is in order by now is in no block.
        //= RFC 2018 section 4
        //# The first SACK block MUST specify the contiguous block of data containing the segment which triggered this ACK, unless that segment advanced the
        //# Acknowledgment Number field in the header.
        //= RFC 2018 section 4
        //# The SACK option SHOULD be filled out by repeating the most recently reported SACK blocks (based on first SACK blocks in previous SACK options) that
        //# are not subsets of a SACK block already included.
        var kept = InlineArray<4, UInt32>(repeating: 0)
        var keptCount = 0
        let first = count
        for index in 0..<Int(exceptional.pointee.reported.count) {
            guard var block = reassembledBlock(c, around: SequenceNumber(rawValue: exceptional.pointee.reported.recent[index])) else { continue }
            var isKnown = false
            for other in 0..<keptCount where kept[other] == block.left.rawValue { isKnown = true }
            if isKnown { continue }
            kept[keptCount] = block.left.rawValue
            keptCount += 1
            if isLateFirst { block.right = block.right.advanced(by: 1) }
            if count < limit {
                blocks[count] = block
                count += 1
            }
        }
        exceptional.pointee.reported.keep(kept, count: keptCount)
        state.pointee.statistics.tcp.selectiveBlocksSent += UInt64(count - first)
        return (blocks, count)
    }

    /// Makes and sends an acknowledgement that tells what was received out of order, or twice.
    //= RFC 2018 section 3
    //# If sent at all, SACK options SHOULD be included in all ACKs which do not ACK the highest sequence number in the data receiver's queue.
    //= RFC 2018 section 4
    //# The data receiver SHOULD include as many distinct SACK blocks as possible in the SACK option.
    @inline(never)
    func sendSelectiveAcknowledgement(_ c: ConnectionPointer) {
        let hasTimestamps = c.pointee.flags.contains(.timestamps)
        // 40 bytes of options: 4 blocks, or 3 beside the timestamps.
        let (blocks, count) = takeBlocks(c, limit: hasTimestamps ? 3 : 4)
        guard count > 0 else { return sendControl(c, acceptableSequence(c), .ack) }
        guard refreshTemplate(c) else { return countUnsent(.noRoute) }
        let headerByteCount = HeaderTemplate.transportOffset + c.pointee.template.extraByteCount + (hasTimestamps ? 32 : 20)
        let optionByteCount = 4 + 8 * count
        guard !state.pointee.output.pointee.isExhausted,
            let frame = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount + optionByteCount, headroom: state.pointee.configuration.transmitHeadroomByteCount, priority: .reserve)
        else { return countUnsent(.outOfMemory) }
        let options = frame.segmentAddress + headerByteCount
        // NOP, NOP, kind 5 and its length.
        options.storeBytes(of: UInt32(0x0101_0500 | UInt32(2 + 8 * count)).bigEndian, as: UInt32.self)
        for index in 0..<count {
            (options + 4 + 8 * index).storeBytes(of: blocks[index].left.rawValue.bigEndian, as: UInt32.self)
            (options + 8 + 8 * index).storeBytes(of: blocks[index].right.rawValue.bigEndian, as: UInt32.self)
        }
        frame.frameFlags = writeHeaders(
            c, at: frame.segmentAddress, acceptableSequence(c), .ack, payloadByteCount: 0, payloadSum: InternetChecksum.sum(options, count: optionByteCount),
            furtherOptionByteCount: optionByteCount)
        transmit(c, frame)
    }
}
