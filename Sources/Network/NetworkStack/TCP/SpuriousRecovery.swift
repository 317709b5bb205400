import WireFormats

/// What is needed to take back a recovery that was for nothing: the segments were only late.
struct RecoveryUndo {
    /// How far forward RTO-recovery (RFC 5682) has got.
    enum TimeoutStep {
        /// It does not run, or has found a loss.
        case none
        /// The first segment was sent again, and nothing else.
        case first
        /// That was acknowledged, and new data was sent.
        case second
    }

    var isArmed = false
    var timeoutStep = TimeoutStep.none
    /// Data that was not sent again was reported since the last step.
    var hasSeenOriginal = false
    /// The timestamp of the first retransmission.
    var timestamp: UInt32 = 0
    /// What was in flight then.
    var start = SequenceNumber(rawValue: 0)
    var end = SequenceNumber(rawValue: 0)
    /// Segments that were sent again, and not reported as duplicates.
    var retransmissionCount = 0

    init() {}
}

extension NetworkStack {
    /// A recovery begins: keeps what it changes.
    //= RFC 3522 section 3.2
    //# Before the loss recovery: store pipe_prev; set a RetransmitTS to the Timestamp Value of the Timestamps option included in the retransmit.
    //= RFC 4015 section 3.2
    //# Before the variables cwnd and ssthresh get updated when loss recovery is initiated, set a pipe_prev variable.
    func rememberForUndo(_ c: ConnectionPointer) {
        guard c.pointee.selective.isPermitted else { return }
        var undo = RecoveryUndo()
        undo.isArmed = true
        lendCongestionHistory(c)
        c.pointee.congestion.saveForUndo()
        undo.timestamp = timestampValue(c)
        undo.start = c.pointee.sendUnacknowledged
        undo.end = c.pointee.sendMaximum
        lendExceptionalState(c).pointee.undo = undo
        if c.pointee.flags.contains(.timestamps) { c.pointee.recovery.state.insert(.awaitsEcho) }
    }

    /// An acknowledgement of new data in a recovery: its echo tells which transmission it is for. One that the first retransmission, or anything later, has
    /// brought ends the judgement; before that the recovery is spurious as soon as everything that was sent again has arrived without it.
    //= RFC 3522 section 3.2
    //# If the value of the Timestamp Echo Reply field of the acceptable ACK's Timestamps option is smaller than the value of RetransmitTS, then the loss
    //# recovery
    //# is spurious.
    @inline(never)
    func judgeByEcho(_ c: ConnectionPointer, _ header: TCPSegmentHeader) {
        let isOfOriginal =
            header.hasTimestamps && header.timestampEchoReply != 0 && c.pointee.undo.isArmed
            && Int32(bitPattern: header.timestampEchoReply &- c.pointee.undo.timestamp) < 0
        // Of several segments that were sent again the others may be lost, and a reduction with a loss stands.
        if isOfOriginal && mayHaveLost(c) { return }
        c.pointee.recovery.state.remove(.awaitsEcho)
        if isOfOriginal { undoRecovery(c) }
    }

    /// Whether something that was taken for lost, or sent again, has not arrived. O(segments in flight).
    private func mayHaveLost(_ c: ConnectionPointer) -> Bool {
        // A timeout takes everything for lost, and sends one segment again.
        if c.pointee.recovery.state.contains(.hasTimedOut) { return false }
        if c.pointee.scoreboard.lostByteCount > 0 { return true }
        var index = c.pointee.scoreboard.first
        while index != 0 {
            let record = state.pointee.transmissions[index]
            if record.pointee.flags.contains(.isRetransmitted) && !record.pointee.flags.contains(.isSelected) { return true }
            index = record.pointee.next
        }
        return false
    }

    /// A duplicate was reported. When all that was sent again has arrived twice, none of it was lost.
    //= RFC 2883 section 5
    //# a sender that receives D-SACK blocks for all segments that it has retransmitted can conclude that the retransmissions were unnecessary
    func undoByDuplicate(_ c: ConnectionPointer, _ duplicate: SACKBlock) {
        let undo = c.pointee.undo
        // What was sent for the first time in the recovery may have been sent again in it, too.
        guard undo.isArmed, undo.retransmissionCount > 0, duplicate.left.since(undo.start) >= 0,
            duplicate.right.since(c.pointee.sendMaximum) <= 0
        else { return }
        c.pointee.undo.retransmissionCount -= 1
        // What was sent again before it arrived is not seen to be late by step 3 of RFC 8985, section 6.2.
        if !DeliberateBug.isPresent(.lateSegmentNotLearnt), !c.pointee.recovery.hasSeenReordering {
            c.pointee.recovery.hasSeenReordering = true
            state.pointee.statistics.tcp.reorderingsReported += 1
        }
        if undo.retransmissionCount == 1 { undoRecovery(c) }
    }

    // MARK: After a timeout

    /// Whether the first segment can be sent again as it was: there is a record of it, and neither the window nor the path has become too small.
    func isRepairable(_ c: ConnectionPointer) -> Bool {
        guard hasRecords(c), c.pointee.sendWindow >= c.pointee.sendSegmentSize else { return false }
        let first = state.pointee.transmissions[c.pointee.scoreboard.first]
        return first.pointee.end.since(c.pointee.sendUnacknowledged) <= c.pointee.sendSegmentSize + 1
    }

    /// Of a connection with records: everything in flight may be lost. The first segment goes again, the others as the window grows.
    func repairAfterTimeout(_ c: ConnectionPointer) {
        let mayBeSpurious = c.pointee.retransmissionCount == 1 && c.pointee.scoreboard.selectedByteCount == 0
        lendExceptionalState(c)
        loseEverything(c)
        c.pointee.recovery.state.subtract([.hasGaps, .isReducing, .isProbing])
        c.pointee.recovery.state.insert(.hasTimedOut)
        c.pointee.reorderingDeadline = .max
        //= RFC 5682 section 3.1
        //# Step 1: When the SACK-enabled sender's retransmission timer expires, retransmit the first unacknowledged segment.
        c.pointee.undo.timeoutStep = mayBeSpurious ? .first : .none
        stopTiming(c)
    }

    /// A segment that was not sent again has arrived after a timeout.
    func noteOriginalDelivered(_ c: ConnectionPointer, _ end: SequenceNumber) {
        if end.since(c.pointee.undo.end) <= 0 { c.pointee.undo.hasSeenOriginal = true }
    }

    /// Nothing but what F-RTO asks for is sent again.
    func holdsBackForJudgement(_ c: ConnectionPointer) -> Bool {
        c.pointee.recovery.state.contains(.hasTimedOut) && c.pointee.undo.timeoutStep == .second
    }

    /// Whether the timeout was for nothing (F-RTO).
    func judgeTimeout(_ c: ConnectionPointer, progress: Int, selected: Int) {
        switch c.pointee.undo.timeoutStep {
        case .none: return
        case .first:
            guard progress > 0 || selected > 0 else {
                // The same number once more: what was sent again is on its way.
                return
            }
            //= RFC 5682 section 3.1
            //# Step 2b: If the acknowledgment advances the window, but does not cover everything that was outstanding, transmit up to two new (previously
            //# unsent)
            //# segments and enter step 3. If there is none, or the receiver's window has no room, continue with conventional RTO recovery.
            let unsent = c.pointee.sendByteCount - c.pointee.sendNext.since(c.pointee.sendUnacknowledged)
            let room = c.pointee.sendWindow - c.pointee.flightSize
            let mayGoOn = progress > 0 && selected == 0 && c.pointee.sendUnacknowledged.since(c.pointee.recoverySequence) < 0
            c.pointee.undo.timeoutStep = mayGoOn && unsent > 0 && room >= min(unsent, c.pointee.sendSegmentSize) ? .second : .none
            c.pointee.undo.hasSeenOriginal = false
        case .second:
            //= RFC 5682 section 3.1
            //# Step 3: If the acknowledgment acknowledges, cumulatively or selectively, data that was not retransmitted after the timeout, declare the
            //# timeout spurious.
            if c.pointee.undo.hasSeenOriginal {
                state.pointee.statistics.tcp.spuriousTimeouts += 1
                undoRecovery(c)
            } else if progress > 0 || selected > 0 {
                c.pointee.undo.timeoutStep = .none
            }
        }
    }

    // MARK: The response

    /// The recovery was for nothing: everything is as it was before.
    //= RFC 4015 section 3.2
    //# Resume the transmission with previously unsent data: SND.NXT <- SND.MAX. Reverse the congestion control state.
    private func undoRecovery(_ c: ConnectionPointer) {
        if DeliberateBug.isPresent(.recoveryNotUndone) { return }
        state.pointee.statistics.tcp.spuriousRecoveries += 1
        c.pointee.congestion.undo()
        if c.pointee.congestion.isModelled { undoModelRecovery(c) }
        c.pointee.undo = RecoveryUndo()
        // The same that a reported duplicate says: segments may be later than was thought.
        c.pointee.recovery.hasSeenReordering = true
        widenReorderingWindow(c)
        c.pointee.flags.remove(.fastRecovery)
        c.pointee.duplicateAcknowledgements = 0
        c.pointee.recovery.state.subtract([.isReducing, .hasTimedOut, .awaitsEcho])
        findEverything(c)
        c.pointee.roundTrip.restoreTimeout(state.pointee.configuration.tcp.timeoutBounds)
        guard c.pointee.sendNext != c.pointee.sendMaximum, !c.pointee.flags.contains(.persisting) else { return }
        c.pointee.sendNext = c.pointee.sendMaximum
        var offset = c.pointee.sendMaximum.since(c.pointee.sendUnacknowledged)
        var segment = c.pointee.sendHead
        while let current = segment, offset >= current.segmentByteCount {
            offset -= current.segmentByteCount
            segment = current.nextSegment
        }
        c.pointee.sendCursor = segment
        c.pointee.sendCursorOffset = segment == nil ? 0 : offset
    }
}
