import DatapathMemory
import WireFormats

/// What an acknowledgement does (RFC 9293, section 3.10.7.4, fifth check; RFC 5681; RFC 6582).
extension NetworkStack {
    /// New data is acknowledged, within what was sent.
    /// - Parameters:
    ///   - timestampEcho: the segment's TSecr, if it has one.
    ///   - isWhole: the acknowledgement tells nothing else, as of blocks.
    @inline(never)
    func acknowledgeNewData(_ c: ConnectionPointer, _ acknowledgement: SequenceNumber, timestampEcho: UInt32?, isWhole: Bool) {
        var byteCount = acknowledgement.since(c.pointee.sendUnacknowledged)
        let acknowledged = byteCount
        measureRoundTrip(c, acknowledgement, timestampEcho)
        // Our FIN has a sequence number and no byte.
        if byteCount > c.pointee.sendByteCount { byteCount = c.pointee.sendByteCount }
        c.pointee.sendUnacknowledged = acknowledgement
        releaseAcknowledged(c, byteCount)
        if c.pointee.scoreboard.first != 0 {
            if c.pointee.flags.contains(.isPaced) { sampleAcknowledged(c, acknowledgement) }
            acknowledgeRecords(c, acknowledgement)
        }
        if c.pointee.sendNext.since(acknowledgement) < 0 {
            c.pointee.sendNext = acknowledgement
            c.pointee.sendCursor = c.pointee.sendHead
            c.pointee.sendCursorOffset = 0
        }
        c.pointee.duplicateAcknowledgements = 0
        c.pointee.retransmissionCount = 0
        let isPlain = c.pointee.flags.isDisjoint(with: [.fastRecovery, .congestionWindowLimited, .persisting, .ownerWantsRoom, .isPaced])
        if isPlain { restartTimer(c) } else { acknowledgeOtherwise(c, acknowledgement, acknowledged, timestampEcho, isWhole: isWhole) }
    }

    /// The rest where recovery, the congestion window, a closed window or the program wants to know of it.
    @inline(never)
    private func acknowledgeOtherwise(
        _ c: ConnectionPointer, _ acknowledgement: SequenceNumber, _ acknowledged: Int, _ timestampEcho: UInt32?, isWhole: Bool
    ) {
        if isWhole { updateModel(c) }
        if c.pointee.flags.contains(.fastRecovery) {
            acknowledgeInRecovery(c, acknowledgement, acknowledged)
        } else {
            if c.pointee.flags.contains(.congestionWindowLimited) && !c.pointee.recovery.state.contains(.isReducing) {
                growCongestionWindow(c, acknowledged, timestampEcho)
            }
            restartRetransmission(c)
        }
        if c.pointee.flags.contains(.ownerWantsRoom) && c.pointee.sendByteCount < c.pointee.sendLimit {
            c.pointee.flags.remove(.ownerWantsRoom)
            raise(c, .writable)
        }
    }

    /// The window was what limited sending, and new data is acknowledged: it may grow.
    @inline(never)
    private func growCongestionWindow(_ c: ConnectionPointer, _ acknowledged: Int, _ timestampEcho: UInt32?) {
        if c.pointee.congestion.isModelled || isEcho(c) { return }
        var roundTrip: UInt64 = 0
        // What a peer echoes may be anything; a sample that cannot be is none.
        if let timestampEcho, c.pointee.flags.contains(.timestamps), timestampEcho != 0 {
            let ticks = timestampValue(c) &- timestampEcho
            if ticks < 1 << 16 { roundTrip = UInt64(max(ticks, 1)) << 20 }
        }
        lendCongestionHistory(c)
        let wasConservative = c.pointee.congestion.isConservative
        c.pointee.congestion.acknowledge(
            CongestionEvent(
                byteCount: acknowledged, segmentSize: c.pointee.sendSegmentSize, acknowledgement: c.pointee.sendUnacknowledged,
                sendMaximum: c.pointee.sendMaximum, now: state.pointee.now, smoothedRoundTrip: c.pointee.roundTrip.smoothed, roundTrip: roundTrip))
        if c.pointee.congestion.isConservative && !wasConservative { state.pointee.statistics.tcp.conservativeSlowStarts &+= 1 }
        if 2 &* c.pointee.congestion.window > c.pointee.sendLimit { growSendBuffer(c) }
    }

    private func restartRetransmission(_ c: ConnectionPointer) {
        if c.pointee.flags.contains(.persisting) { keepProbing(c) } else { restartTimer(c) }
    }

    @inline(__always)
    func restartTimer(_ c: ConnectionPointer) {
        if c.pointee.sendMaximum == c.pointee.sendUnacknowledged {
            //= RFC 6298 section 5.2
            //# When all outstanding data has been acknowledged, turn off the retransmission timer.
            if !DeliberateBug.isPresent(.retransmissionTimerNotStopped) { c.pointee.retransmitDeadline = .max }
        } else if !DeliberateBug.isPresent(.retransmissionTimerNotRestarted) {
            //= RFC 6298 section 5.3
            //# When an ACK is received that acknowledges new data, restart the retransmission timer so that it will expire after RTO seconds
            armRetransmission(c)
        }
    }

    /// A probe was taken. Its timer goes on while there is more to send, because the window may be closed again; what has opened it says so itself.
    @inline(never)
    private func keepProbing(_ c: ConnectionPointer) {
        guard c.pointee.sendByteCount == 0 else { return }
        c.pointee.flags.remove(.persisting)
        c.pointee.roundTrip.restoreTimeout(state.pointee.configuration.tcp.timeoutBounds)
        c.pointee.retransmitDeadline = .max
        if c.pointee.sendMaximum != c.pointee.sendUnacknowledged { armRetransmission(c) }
    }

    //= RFC 7323 section 4.2
    //# Taking multiple RTT samples per window would shorten the history calculated by the RTO mechanism: one is taken for each window, by timing a segment
    //# or by timestamps.
    @inline(__always)
    private func measureRoundTrip(_ c: ConnectionPointer, _ acknowledgement: SequenceNumber, _ timestampEcho: UInt32?) {
        guard acknowledgement.since(c.pointee.timedSequence) >= 0 else { return }
        if c.pointee.flags.contains(.timing) {
            c.pointee.flags.remove(.timing)
            c.pointee.roundTrip.measure(state.pointee.now &- c.pointee.timedAt, state.pointee.configuration.tcp.timeoutBounds)
            c.pointee.timedSequence = c.pointee.sendMaximum
            c.pointee.deliveredByteCount = acknowledgement.since(c.pointee.timedUnacknowledged)
            c.pointee.deliveryInterval = state.pointee.now &- c.pointee.timedAt
            c.pointee.congestion.observe(acknowledgement, marked: 0, sendMaximum: c.pointee.sendMaximum)
        } else if c.pointee.flags.contains(.timestamps), let timestampEcho {
            measureByTimestamp(c, timestampEcho)
        }
    }

    /// Measures the round trip of our SYN, or SYN and ACK, by the segment that acknowledges it.
    //= RFC 6298 section 3
    //# RTT samples MUST NOT be made using segments that were retransmitted (and thus for which it is ambiguous whether the reply was for the first instance of
    //# the packet or a later instance). The only case when TCP can safely take RTT samples from retransmitted segments is when the TCP timestamp option is
    //# employed.
    func measureHandshake(_ c: ConnectionPointer, _ header: TCPSegmentHeader) {
        if c.pointee.flags.contains(.timing) {
            c.pointee.roundTrip.measure(state.pointee.now &- c.pointee.timedAt, state.pointee.configuration.tcp.timeoutBounds)
        } else if c.pointee.flags.contains(.timestamps) && header.hasTimestamps {
            measureByTimestamp(c, header.timestampEchoReply)
        }
    }

    //= RFC 7323 section 4.1
    //# RTTM: an averaged RTT measurement is taken from TSecr of an ACK that advances the left edge of the send window, retransmitted or not
    @inline(never)
    private func measureByTimestamp(_ c: ConnectionPointer, _ echo: UInt32) {
        let ticks = timestampValue(c) &- echo
        // A peer may echo anything: what was never sent, or so long ago that it tells nothing. An echo from before the last transmission is of a
        // segment whose acknowledgement was lost: that measures the recovery, and would stretch every timeout to come.
        guard echo != 0, ticks < 1 << 16, UInt64(ticks) << 20 <= state.pointee.now &- c.pointee.lastSendTime &+ 2 << 20 else { return }
        c.pointee.roundTrip.measure(UInt64(max(ticks, 1)) << 20, state.pointee.configuration.tcp.timeoutBounds)
        c.pointee.timedSequence = c.pointee.sendMaximum
    }

    /// An acknowledgement of new data in fast recovery: a full one ends it, a partial one shows the next hole.
    private func acknowledgeInRecovery(_ c: ConnectionPointer, _ acknowledgement: SequenceNumber, _ acknowledged: Int) {
        let segmentSize = c.pointee.sendSegmentSize
        if acknowledgement.since(c.pointee.recoverySequence) >= 0 {
            c.pointee.flags.remove(.fastRecovery)
            c.pointee.congestion.leaveRecovery(flightSize: c.pointee.flightSize, segmentSize: segmentSize)
            restartRetransmission(c)
        } else {
            //= RFC 6582 section 3.2
            //# If this ACK does *not* acknowledge all of the data up to and including "recover", then this is a partial ACK. In this case,
            //# retransmit the first unacknowledged segment.
            state.pointee.statistics.tcp.partialAcknowledgements += 1
            c.pointee.congestion.deflate(acknowledgedByteCount: acknowledged, segmentSize: segmentSize)
            if !DeliberateBug.isPresent(.partialAcknowledgementIgnored) { retransmitFirst(c) }
            //= RFC 6582 section 3.2
            //# For the first partial ACK that arrives during fast recovery, also reset the retransmit timer.
            if !c.pointee.flags.contains(.partiallyAcknowledged) {
                c.pointee.flags.insert(.partiallyAcknowledged)
                armRetransmission(c)
            }
        }
    }

    /// A duplicate acknowledgement by RFC 5681's definition: data in flight, no data, no SYN or FIN, the same number and window.
    //= RFC 5681 section 2
    //# An acknowledgment is considered a "duplicate" when (a) the receiver of the ACK has outstanding data, (b) the incoming acknowledgment carries no data,
    //# (c) the SYN and FIN bits are both off, (d) the acknowledgment number is equal to the greatest acknowledgment received and (e) the advertised window
    //# equals that of the last incoming acknowledgment.
    func countDuplicateAcknowledgement(_ c: ConnectionPointer) {
        state.pointee.statistics.tcp.duplicateAcknowledgements += 1
        // What it reports counts, not that it is one.
        if hasRecords(c) && !c.pointee.flags.contains(.fastRecovery) { return }
        let segmentSize = c.pointee.sendSegmentSize
        if c.pointee.flags.contains(.fastRecovery) {
            c.pointee.congestion.inflate(segmentSize: segmentSize)
            sendPending(c)
            return
        }
        c.pointee.duplicateAcknowledgements = c.pointee.duplicateAcknowledgements == .max ? .max : c.pointee.duplicateAcknowledgements + 1
        var threshold = 3
        if DeliberateBug.isPresent(.fastRetransmitTooEarly) { threshold = 2 }
        if DeliberateBug.isPresent(.fastRetransmitTooLate) { threshold = 4 }
        if DeliberateBug.isPresent(.fastRetransmitNever) { return }
        if c.pointee.duplicateAcknowledgements < threshold { return transmitLimited(c) }
        guard c.pointee.duplicateAcknowledgements == threshold else { return }
        //= RFC 6582 section 3.2
        //# If the cumulative acknowledgment field covers more than "recover", then enter fast retransmit; if not, do not.
        guard c.pointee.sendUnacknowledged.since(c.pointee.recoverySequence) > 0 || DeliberateBug.isPresent(.recoverIgnored) else { return }
        state.pointee.statistics.tcp.fastRetransmits += 1
        //= RFC 5681 section 3.2
        //# When RFC 3042 is in use, additional data sent in limited transmit MUST NOT be included in this calculation.
        lendCongestionHistory(c)
        rememberForUndo(c)
        c.pointee.congestion.enterRecovery(flightSize: c.pointee.flightSize &- c.pointee.limitedTransmitByteCount, segmentSize: segmentSize)
        noteReduction(c)
        c.pointee.recoverySequence = c.pointee.sendMaximum
        c.pointee.flags.insert(.fastRecovery)
        c.pointee.flags.remove(.partiallyAcknowledged)
        retransmitFirst(c)
        armRetransmission(c)
        sendPending(c)
    }

    /// Sends a segment that was never sent before for one of the first duplicates: it brings a further one, so that a small window has enough of them for
    /// a fast retransmission.
    //= RFC 3042 section 2
    //# The Limited Transmit algorithm calls for a TCP sender to transmit new data upon the arrival of the first two consecutive duplicate ACKs when the
    //# receiver's advertised window allows the transmission of the segment, and the amount of outstanding data would remain less than or equal to the
    //# congestion window plus 2 segments.
    //= RFC 5681 section 3.2
    //# On the first and second duplicate ACKs received at a sender, a TCP SHOULD send a segment of previously unsent data per RFC 3042.
    private func transmitLimited(_ c: ConnectionPointer) {
        let isFirst = c.pointee.duplicateAcknowledgements == 1
        if isFirst { c.pointee.limitedTransmitByteCount = 0 }
        // What is sent again after a timeout is no new data.
        guard c.pointee.sendNext == c.pointee.sendMaximum else { return }
        let before = c.pointee.sendMaximum
        //= RFC 3042 section 2
        //# The congestion window (cwnd) MUST NOT be changed when these new segments are transmitted.
        sendPending(c, beyondCongestionWindow: (isFirst ? 1 : 2) &* c.pointee.sendSegmentSize)
        c.pointee.limitedTransmitByteCount &+= c.pointee.sendMaximum.since(before)
    }

    /// Takes the window of an acceptable segment (RFC 9293, section 3.10.7.4): the newest one counts, whatever order they come in.
    @inline(__always)
    func updateSendWindow(_ c: ConnectionPointer, _ sequence: SequenceNumber, _ acknowledgement: SequenceNumber, _ field: UInt16) {
        //= RFC 9293 section 3.1
        //# The window size MUST be treated as an unsigned number (MUST-1). It is RECOMMENDED that implementations will reserve 32-bit fields for the send and
        //# receive window sizes in the connection record (REC-1).
        let window = Int(field) &<< Int(c.pointee.sendWindowShift)
        //= RFC 9293 section 3.10.7.4
        //# If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and SND.WL2 =< SEG.ACK)), set SND.WND <- SEG.WND
        // With the acknowledgement first: a retransmission has a lower sequence number than what was sent before it, and an acknowledgement that moves
        // the left edge would keep the old window's size, whose right edge then lies beyond the promised one. Of equal ones that of a peer which has gone
        // back to retransmit may still open the window.
        let order = acknowledgement.since(c.pointee.windowUpdateAcknowledgement)
        guard order > 0 || order == 0 && (sequence.since(c.pointee.windowUpdateSequence) >= 0 || window > c.pointee.sendWindow) else { return }
        c.pointee.windowUpdateSequence = sequence
        c.pointee.windowUpdateAcknowledgement = acknowledgement
        let windowBefore = c.pointee.sendWindow
        c.pointee.sendWindow = window
        if window > c.pointee.maximumSendWindow { c.pointee.maximumSendWindow = window }
        if c.pointee.flags.contains(.persisting) && window > 0 { endPersisting(c, windowBefore: windowBefore) }
    }
}
