import DatapathMemory
import WireFormats

/// One segment that was sent and is not acknowledged. It begins where the one before it ends, the first one at `Scoreboard.start`.
struct TransmissionRecord: SlabElement {
    var end = SequenceNumber(rawValue: 0)
    var next: UInt32 = 0
    /// When it was sent last.
    var sentAt: UInt64 = 0
    var flags = Flags()

    struct Flags: OptionSet {
        let rawValue: UInt8

        /// The peer says that it has it.
        static let isSelected = Flags(rawValue: 1 << 0)
        /// It is taken for lost, and was not sent again since.
        static let isLost = Flags(rawValue: 1 << 1)
        /// It was sent more than once.
        static let isRetransmitted = Flags(rawValue: 1 << 2)
    }

    init() {}

    var nextFree: UInt32 {
        get { next }
        set { next = newValue }
    }
}

/// The records of a connection's unacknowledged segments, in the order of the stream, in a slab that all connections share.
///
/// A connection without data in flight has none. When the slab is empty, or data is sent again without a record, all of the connection's are given back,
/// and what is in flight then is recovered by RFC 6582's rules, which need none.
struct Scoreboard {
    var first: UInt32 = 0
    var last: UInt32 = 0
    /// Where the first record begins.
    var start = SequenceNumber(rawValue: 0)
    /// Sequence space that the peer has reported, and that which is taken for lost and was not sent again.
    @inline(__always)
    var selectedByteCount: Int {
        get { Int(selectedByteCount32) }
        set { selectedByteCount32 = Int32(truncatingIfNeeded: newValue) }
    }

    @inline(__always)
    var lostByteCount: Int {
        get { Int(lostByteCount32) }
        set { lostByteCount32 = Int32(truncatingIfNeeded: newValue) }
    }

    var selectedSegmentCount: Int32 = 0
    private var selectedByteCount32: Int32 = 0
    private var lostByteCount32: Int32 = 0

    init() {}
}

extension NetworkStack {
    /// Whether there is a record of everything in flight.
    @inline(__always)
    func hasRecords(_ c: ConnectionPointer) -> Bool {
        c.pointee.scoreboard.first != 0 && c.pointee.scoreboard.start.since(c.pointee.sendUnacknowledged) <= 0
    }

    /// Bytes that the network holds, by what is known: RFC 6675's pipe, kept up with each change instead of being counted.
    @inline(__always)
    func pipe(_ c: ConnectionPointer) -> Int {
        c.pointee.flightSize &- c.pointee.scoreboard.selectedByteCount &- c.pointee.scoreboard.lostByteCount
    }

    /// Records a segment that goes on to `end` from what was sent at most before; that is not moved yet.
    /// - Parameter hasRoom: a constant: whether it is known that there is a record, and that the connection is in no recovery.
    @inline(__always)
    func recordTransmission(_ c: ConnectionPointer, to end: SequenceNumber, hasRoom: Bool) {
        guard c.pointee.selective.isPermitted else { return }
        if !hasRoom && state.pointee.transmissions.isFull { return exhaustRecords(c) }
        let index = state.pointee.transmissions.takeAsItIs()
        let record = state.pointee.transmissions[index]
        record.pointee.end = end
        record.pointee.next = 0
        record.pointee.sentAt = state.pointee.now
        record.pointee.flags = []
        if c.pointee.scoreboard.last != 0 {
            state.pointee.transmissions[c.pointee.scoreboard.last].pointee.next = index
        } else {
            c.pointee.scoreboard.first = index
            c.pointee.scoreboard.start = c.pointee.sendMaximum
        }
        c.pointee.scoreboard.last = index
        if !hasRoom && c.pointee.recovery.state.contains(.isReducing) { c.pointee.reduction.sentByteCount &+= end.since(c.pointee.sendMaximum) }
    }

    @inline(never)
    private func exhaustRecords(_ c: ConnectionPointer) {
        state.pointee.statistics.tcp.transmissionsNotRecorded += 1
        releaseRecords(c)
    }

    /// Gives all records back. A recovery goes on without them, as NewReno's.
    func releaseRecords(_ c: ConnectionPointer) {
        var index = c.pointee.scoreboard.first
        if index != 0 && c.pointee.congestion.isModelled { suspendModel(c) }
        while index != 0 {
            let next = state.pointee.transmissions[index].pointee.next
            state.pointee.transmissions.free(index)
            index = next
        }
        c.pointee.scoreboard = Scoreboard()
        if !c.pointee.recovery.state.isDisjoint(with: [.isReducing, .hasTimedOut]) {
            c.pointee.flags.insert(.fastRecovery)
            c.pointee.flags.remove(.partiallyAcknowledged)
        }
        c.pointee.recovery.state = []
        c.pointee.reorderingDeadline = .max
    }

    /// Frees the records of what was acknowledged.
    @inline(__always)
    func acknowledgeRecords(_ c: ConnectionPointer, _ acknowledgement: SequenceNumber) {
        let first = c.pointee.scoreboard.first
        var index = first
        var last: UInt32 = 0
        var count = 0
        // The last of those that were sent once, in order: it tells what all of them would.
        var (sentAt, plainEnd) = (UInt64(0), acknowledgement)
        while index != 0 {
            let record = state.pointee.transmissions[index]
            let end = record.pointee.end
            guard end.since(acknowledgement) <= 0 else { break }
            if record.pointee.flags.isEmpty && end.since(c.pointee.recovery.forwardEnd) >= 0 {
                c.pointee.recovery.forwardEnd = end
                (sentAt, plainEnd) = (record.pointee.sentAt, end)
            } else {
                acknowledgeMarked(c, record)
            }
            c.pointee.scoreboard.start = end
            last = index
            index = record.pointee.next
            count &+= 1
        }
        guard count > 0 else { return shortenFirst(c, acknowledgement) }
        state.pointee.transmissions.free(from: first, through: last, count: count)
        if sentAt != 0 { noteDelivered(c, sentAt, plainEnd) }
        c.pointee.scoreboard.first = index
        if index == 0 {
            c.pointee.scoreboard.last = 0
        } else {
            shortenFirst(c, acknowledgement)
        }
    }

    /// A record is acknowledged that has marks, or that others behind it have overtaken.
    @inline(never)
    private func acknowledgeMarked(_ c: ConnectionPointer, _ record: UnsafeMutablePointer<TransmissionRecord>) {
        let byteCount = record.pointee.end.since(c.pointee.scoreboard.start)
        if record.pointee.flags.contains(.isSelected) {
            c.pointee.scoreboard.selectedByteCount -= byteCount
            c.pointee.scoreboard.selectedSegmentCount -= 1
        } else {
            noteSegmentDelivered(c, record, behind: c.pointee.recovery.forwardEnd)
        }
        if record.pointee.flags.contains(.isLost) { c.pointee.scoreboard.lostByteCount -= byteCount }
    }

    /// Of the first record a part may be acknowledged.
    @inline(__always)
    private func shortenFirst(_ c: ConnectionPointer, _ acknowledgement: SequenceNumber) {
        let byteCount = acknowledgement.since(c.pointee.scoreboard.start)
        guard byteCount > 0 else { return }
        let flags = state.pointee.transmissions[c.pointee.scoreboard.first].pointee.flags
        if flags.contains(.isSelected) { c.pointee.scoreboard.selectedByteCount -= byteCount }
        if flags.contains(.isLost) { c.pointee.scoreboard.lostByteCount -= byteCount }
        c.pointee.scoreboard.start = acknowledgement
    }

    // MARK: What the peer says

    /// Takes the blocks of an acknowledgement that is acceptable and was processed up to here. O(records up to the last block that is news).
    /// - Returns: bytes that were not known to have arrived, and the duplicate that it reports, if any.
    func takeSelectiveBlocks(_ c: ConnectionPointer, _ header: TCPSegmentHeader) -> (selected: Int, duplicate: SACKBlock?) {
        var selected = 0
        var duplicate: SACKBlock?
        // What the blocks of one acknowledgement tell has arrived in an order that it does not tell: the newest block stands first.
        let forwardEnd = c.pointee.recovery.forwardEnd
        for index in 0..<Int(header.sackBlockCount) {
            let block = header.sackBlock(index)
            let byteCount = block.right.since(block.left)
            // A block of nothing, or from behind to before: the peer is wrong.
            guard byteCount > 0 else { continue }
            if index == 0 && isDuplicateReport(block, header) {
                duplicate = block
                state.pointee.statistics.tcp.duplicatesReportedByPeer += 1
                continue
            }
            state.pointee.statistics.tcp.selectiveBlocksReceived += 1
            // What was never sent cannot have arrived, and what is acknowledged is no news: it may be an old segment.
            guard block.right.since(c.pointee.sendMaximum) <= 0, block.left.since(c.pointee.sendUnacknowledged) > 0 else { continue }
            selected += select(c, block, behind: forwardEnd)
        }
        return (selected, duplicate)
    }

    /// Whether the first block tells of a duplicate instead of news.
    //= RFC 2883 section 4
    //# a sender can identify a D-SACK block by comparing the first SACK block with the Cumulative ACK, or with the second SACK block
    private func isDuplicateReport(_ block: SACKBlock, _ header: TCPSegmentHeader) -> Bool {
        if block.right.since(header.acknowledgement) <= 0 { return true }
        guard header.sackBlockCount > 1 else { return false }
        let second = header.sackBlock(1)
        return block.left.since(second.left) >= 0 && block.right.since(second.right) <= 0
    }

    /// Marks what the block covers whole.
    //= RFC 2018 section 5
    //# When an ACK segment arrives containing a SACK option, the data sender will turn on the SACKed bits for segments that have been selectively acknowledged.
    private func select(_ c: ConnectionPointer, _ block: SACKBlock, behind forwardEnd: SequenceNumber) -> Int {
        var start = c.pointee.scoreboard.start
        var index = c.pointee.scoreboard.first
        var selected = 0
        while index != 0 {
            let record = state.pointee.transmissions[index]
            let end = record.pointee.end
            if end.since(block.right) > 0 { break }
            if start.since(block.left) >= 0 && !record.pointee.flags.contains(.isSelected) {
                let byteCount = end.since(start)
                noteSegmentDelivered(c, record, behind: forwardEnd)
                if c.pointee.flags.contains(.isPaced) { sampleDelivered(c, index, byteCount) }
                if record.pointee.flags.contains(.isLost) { c.pointee.scoreboard.lostByteCount -= byteCount }
                record.pointee.flags.remove(.isLost)
                record.pointee.flags.insert(.isSelected)
                c.pointee.scoreboard.selectedByteCount += byteCount
                c.pointee.scoreboard.selectedSegmentCount += 1
                selected += byteCount
            }
            start = end
            index = record.pointee.next
        }
        return selected
    }

    /// The retransmission timer has expired: everything is lost, and what the peer has reported no longer holds.
    //= RFC 2018 section 5
    //# After a retransmit timeout the data sender SHOULD turn off all of the SACKed bits, since the timeout might indicate that the data receiver has reneged.
    //= RFC 2018 section 8
    //# The data sender MUST NOT discard data in its retransmission queue until the data is acknowledged by the cumulative acknowledgment: a receiver may
    //# discard what it has reported.
    func loseEverything(_ c: ConnectionPointer) {
        var start = c.pointee.scoreboard.start
        var index = c.pointee.scoreboard.first
        while index != 0 {
            let record = state.pointee.transmissions[index]
            let end = record.pointee.end
            if c.pointee.flags.contains(.isPaced) && record.pointee.flags.isDisjoint(with: [.isSelected, .isLost]) {
                noteSegmentLost(c, index, end.since(start))
            }
            start = end
            record.pointee.flags.remove(.isSelected)
            record.pointee.flags.insert(.isLost)
            index = record.pointee.next
        }
        c.pointee.scoreboard.selectedByteCount = 0
        c.pointee.scoreboard.selectedSegmentCount = 0
        c.pointee.scoreboard.lostByteCount = c.pointee.flightSize
    }

    /// Nothing was lost after all.
    func findEverything(_ c: ConnectionPointer) {
        var index = c.pointee.scoreboard.first
        while index != 0 {
            let record = state.pointee.transmissions[index]
            record.pointee.flags.remove(.isLost)
            index = record.pointee.next
        }
        c.pointee.scoreboard.lostByteCount = 0
    }
}
