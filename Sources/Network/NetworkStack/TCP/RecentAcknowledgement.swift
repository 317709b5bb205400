import WireFormats

/// What a connection knows of the segments that are lost and that are not: RACK's state (RFC 8985, section 5.2) and the recovery's, but for what is needed
/// during one alone (`ExceptionalState`).
struct LossRecovery {
    struct State: OptionSet {
        let rawValue: UInt8

        /// The peer has reported data beyond a gap.
        static let hasGaps = State(rawValue: 1 << 0)
        /// A loss was detected: fast recovery, with the window being reduced.
        static let isReducing = State(rawValue: 1 << 1)
        /// The retransmission timer has expired, and what was in flight then is not acknowledged.
        static let hasTimedOut = State(rawValue: 1 << 2)
        /// A loss probe was sent, and what it tells is not known.
        static let isProbing = State(rawValue: 1 << 3)
        /// The next acknowledgement of new data tells by its timestamp whether the recovery is for nothing.
        static let awaitsEcho = State(rawValue: 1 << 4)

        /// How much may be sent is not simply what the congestion window leaves.
        static let isRepairing: State = [.hasGaps, .isReducing, .hasTimedOut]
    }

    /// What of the newest delivered segment counts: RACK.xmit_ts, RACK.rtt, RACK.end_seq.
    var sentAt: UInt64 = 0
    var roundTrip: UInt64 = 0
    /// RACK.min_RTT, and when it was measured; 0 for none yet.
    var minimumRoundTrip: UInt64 = 0
    var minimumMeasuredAt: UInt64 = 0
    var end = SequenceNumber(rawValue: 0)
    /// RACK.fack: the highest sequence number that has arrived.
    var forwardEnd = SequenceNumber(rawValue: 0)
    /// RACK.dsack_round: the factor was raised for what was sent before it.
    var factorRound = SequenceNumber(rawValue: 0)
    /// Empty while everything arrives as it was sent; acknowledgements are plain then.
    var state = State()
    /// RACK.reordering_seen.
    var hasSeenReordering = false
    /// RACK.reo_wnd_mult, and how many recoveries it stays.
    var windowFactor: UInt8 = 1
    var windowPersistence: UInt8 = 0
    var hasRaisedFactor = false

    init() {}

    @inline(__always)
    var isPlain: Bool { state.isEmpty }
}

/// Recent acknowledgement: what was sent before something that has arrived is lost, unless it is only late (RFC 8985, section 6).
extension NetworkStack {
    /// A segment that was sent once has arrived.
    //= RFC 8985 section 6.2
    //# Step 2: Update the state for the most recently sent segment that has been delivered.
    @inline(__always)
    func noteDelivered(_ c: ConnectionPointer, _ sentAt: UInt64, _ end: SequenceNumber) {
        let sample = state.pointee.now &- sentAt
        //= RFC 8985 section 6.2
        //# Step 1: Update RACK.min_RTT. The sender SHOULD track a windowed min-filtered estimate of recent RTT measurements.
        if sample < c.pointee.recovery.minimumRoundTrip || state.pointee.now &- c.pointee.recovery.minimumMeasuredAt > NetworkStack.minimumLifetime
            || c.pointee.recovery.minimumRoundTrip == 0 {
            c.pointee.recovery.minimumRoundTrip = max(sample, 1)
            c.pointee.recovery.minimumMeasuredAt = state.pointee.now
        }
        if sentAt > c.pointee.recovery.sentAt || sentAt == c.pointee.recovery.sentAt && end.since(c.pointee.recovery.end) > 0 {
            c.pointee.recovery.sentAt = sentAt
            c.pointee.recovery.end = end
            c.pointee.recovery.roundTrip = sample
        }
    }

    private static var minimumLifetime: UInt64 { 10_000_000_000 }

    /// Any segment has arrived, by the acknowledgement number or by a block.
    /// - Parameter forwardEnd: the highest sequence number that had arrived by what is known to have come before it.
    @inline(never)
    func noteSegmentDelivered(_ c: ConnectionPointer, _ record: UnsafeMutablePointer<TransmissionRecord>, behind forwardEnd: SequenceNumber) {
        let end = record.pointee.end
        let isRetransmitted = record.pointee.flags.contains(.isRetransmitted)
        if !isRetransmitted && c.pointee.recovery.state.contains(.hasTimedOut) { noteOriginalDelivered(c, end) }
        //= RFC 8985 section 6.2
        //# Step 3: Detect data segment reordering: if the segment ends before the highest sequence delivered and has never been retransmitted
        if end.since(c.pointee.recovery.forwardEnd) >= 0 { c.pointee.recovery.forwardEnd = end }
        if end.since(forwardEnd) < 0 && !isRetransmitted {
            if !c.pointee.recovery.hasSeenReordering { state.pointee.statistics.tcp.reorderingsDetected += 1 }
            c.pointee.recovery.hasSeenReordering = true
        }
        //= RFC 8985 section 6.2
        //# If the segment was retransmitted: ignore it if RACK.rtt is less than RACK.min_RTT, which means that the ACK is likely for the original
        if isRetransmitted && state.pointee.now &- record.pointee.sentAt < c.pointee.recovery.minimumRoundTrip { return }
        noteDelivered(c, record.pointee.sentAt, end)
    }

    /// How much later than one sent after it a segment may arrive.
    //= RFC 8985 section 6.2
    //# Step 4: Update the RACK reordering window: RACK.reo_wnd SHOULD start with min_RTT / 4, grow by another quarter for each round trip with a D-SACK, and be
    //# bounded by the SRTT. It is zero while no reordering was seen and the sender is in recovery, or three segments were selectively acknowledged.
    private func reorderingWindow(_ c: ConnectionPointer) -> UInt64 {
        let recovery = c.pointee.recovery
        if !recovery.hasSeenReordering {
            if !recovery.state.isDisjoint(with: [.isReducing, .hasTimedOut]) { return 0 }
            if c.pointee.scoreboard.selectedSegmentCount >= 3 { return 0 }
        }
        if DeliberateBug.isPresent(.reorderingWindowMissing) { return 0 }
        return min(UInt64(recovery.windowFactor) * (recovery.minimumRoundTrip / 4), max(c.pointee.roundTrip.smoothed, 1))
    }

    /// A duplicate was reported: something was sent again although it was only late.
    //= RFC 8985 section 6.2
    //# RACK.reo_wnd_mult is incremented for every round trip in which a DSACK option arrives, and kept for 16 loss recoveries.
    func widenReorderingWindow(_ c: ConnectionPointer) {
        guard !c.pointee.recovery.hasRaisedFactor || c.pointee.sendUnacknowledged.since(c.pointee.recovery.factorRound) >= 0 else { return }
        c.pointee.recovery.hasRaisedFactor = true
        c.pointee.recovery.factorRound = c.pointee.sendMaximum
        c.pointee.recovery.windowFactor = min(c.pointee.recovery.windowFactor + 1, 64)
        c.pointee.recovery.windowPersistence = 16
    }

    /// A recovery is over.
    func settleReorderingWindow(_ c: ConnectionPointer) {
        guard c.pointee.recovery.windowPersistence > 0 else { return }
        c.pointee.recovery.windowPersistence -= 1
        if c.pointee.recovery.windowPersistence == 0 { c.pointee.recovery.windowFactor = 1 }
    }

    /// Marks what was sent so long before something that has arrived that it is lost. O(segments in flight that were sent before it).
    //= RFC 8985 section 6.2
    //# Step 5: Detect losses: RACK_detect_loss() marks a segment lost if it was sent sufficiently before the most recently delivered segment, and returns
    //# the time after which the others are lost.
    func detectLosses(_ c: ConnectionPointer) {
        c.pointee.reorderingDeadline = .max
        guard c.pointee.recovery.sentAt != 0 else { return }
        let now = state.pointee.now
        let patience = c.pointee.recovery.roundTrip &+ reorderingWindow(c)
        var start = c.pointee.scoreboard.start
        var index = c.pointee.scoreboard.first
        var latest: UInt64 = 0
        while index != 0 {
            let record = state.pointee.transmissions[index]
            let end = record.pointee.end
            let sentAt = record.pointee.sentAt
            if record.pointee.flags.isDisjoint(with: [.isSelected, .isLost]) {
                let isBefore = sentAt < c.pointee.recovery.sentAt || sentAt == c.pointee.recovery.sentAt && end.since(c.pointee.recovery.end) < 0
                if isBefore {
                    if sentAt &+ patience <= now {
                        record.pointee.flags.insert(.isLost)
                        c.pointee.scoreboard.lostByteCount += end.since(start)
                        if c.pointee.flags.contains(.isPaced) { noteSegmentLost(c, index, end.since(start)) }
                        state.pointee.statistics.tcp.segmentsMarkedLost += 1
                    } else {
                        latest = max(latest, sentAt &+ patience)
                    }
                } else if !record.pointee.flags.contains(.isRetransmitted) {
                    // What stands behind it was sent later still, the first time already.
                    break
                }
            }
            start = end
            index = record.pointee.next
        }
        guard latest != 0, !DeliberateBug.isPresent(.reorderingTimerNotStarted) else { return }
        lendExceptionalState(c).pointee.reorderingDeadline = latest
        schedule(c, latest)
    }

    /// What was late has not come.
    func reorderingTimerFired(_ c: ConnectionPointer) {
        c.pointee.reorderingDeadline = .max
        guard hasRecords(c) else { return }
        state.pointee.statistics.tcp.reorderingTimeouts += 1
        detectLosses(c)
        enterReductionIfLost(c, delivered: 0, reported: 0)
        sendPending(c)
    }

    // MARK: Acknowledgements

    /// The rest of an acceptable acknowledgement of a connection with selective acknowledgements: blocks, losses, and how much may be sent now.
    /// - Parameter progress: bytes that the acknowledgement number has moved by.
    @inline(never)
    func acknowledgeSelectively(_ c: ConnectionPointer, _ header: TCPSegmentHeader, progress: Int, alreadySelected: Int) {
        let before = c.pointee.recovery.state
        let (selected, duplicate) = takeSelectiveBlocks(c, header)
        if let duplicate {
            widenReorderingWindow(c)
            undoByDuplicate(c, duplicate)
        }
        if before.contains(.isProbing) { judgeProbe(c, header, progress: progress, duplicate: duplicate) }
        if before.contains(.hasTimedOut) { judgeTimeout(c, progress: progress, selected: selected) }
        guard hasRecords(c) || c.pointee.scoreboard.first == 0 else { return }
        if c.pointee.scoreboard.selectedByteCount > 0 || !c.pointee.recovery.state.isDisjoint(with: [.isReducing, .hasTimedOut]) { detectLosses(c) }
        if c.pointee.scoreboard.selectedByteCount > 0 { c.pointee.recovery.state.insert(.hasGaps) } else { c.pointee.recovery.state.remove(.hasGaps) }
        leaveRecoveryIfDone(c)
        let delivered = max(progress - alreadySelected, 0) + selected
        if c.pointee.recovery.state.contains(.isReducing) {
            reduce(c, delivered: delivered)
        } else {
            enterReductionIfLost(c, delivered: delivered, reported: selected)
        }
    }

    /// What was in flight at the loss has arrived.
    private func leaveRecoveryIfDone(_ c: ConnectionPointer) {
        guard !c.pointee.recovery.state.isDisjoint(with: [.isReducing, .hasTimedOut]),
            c.pointee.sendUnacknowledged.since(c.pointee.recoverySequence) >= 0
        else { return }
        if c.pointee.recovery.state.contains(.isReducing) {
            //= RFC 6937 section 3
            //# At the end of recovery cwnd is set to ssthresh.
            let threshold = min(c.pointee.congestion.slowStartThreshold, 1 << 40)
            c.pointee.congestion.leaveRecovery(flightSize: threshold, segmentSize: c.pointee.sendSegmentSize)
        }
        if c.pointee.congestion.isModelled { leaveModelRecovery(c) }
        c.pointee.recovery.state.subtract([.isReducing, .hasTimedOut])
        settleReorderingWindow(c)
    }

    /// Begins a fast recovery when something is lost.
    /// - Parameters:
    ///   - delivered: bytes that the acknowledgement has brought.
    ///   - reported: those of them that its blocks tell of.
    func enterReductionIfLost(_ c: ConnectionPointer, delivered: Int, reported: Int) {
        guard c.pointee.scoreboard.lostByteCount > 0, !c.pointee.flags.contains(.fastRecovery),
            c.pointee.recovery.state.isDisjoint(with: [.isReducing, .hasTimedOut])
        else { return }
        state.pointee.statistics.tcp.fastRetransmits += 1
        state.pointee.statistics.tcp.selectiveRecoveries += 1
        lendCongestionHistory(c)
        rememberForUndo(c)
        //= RFC 5681 section 3.2
        //# When RFC 3042 is in use, additional data sent in limited transmit MUST NOT be included in this calculation.
        // One segment went for each that was reported before.
        let flightSize = max(c.pointee.flightSize - c.pointee.scoreboard.selectedByteCount + reported, c.pointee.sendSegmentSize)
        c.pointee.congestion.enterRecovery(flightSize: flightSize, segmentSize: c.pointee.sendSegmentSize)
        if c.pointee.congestion.isModelled { enterModelRecovery(c) }
        noteReduction(c)
        c.pointee.recoverySequence = c.pointee.sendMaximum
        c.pointee.recovery.state.remove(.isProbing)
        c.pointee.recovery.state.insert(.isReducing)
        beginReduction(c, delivered: delivered)
        armRetransmission(c)
    }
}
