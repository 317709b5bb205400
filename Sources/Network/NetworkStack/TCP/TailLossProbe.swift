import WireFormats

/// A probe for losses at the end of a flight, where nothing follows that would tell of them (RFC 8985, section 7).
struct LossProbe {
    /// TLP.end_seq: behind what had been sent when the probe was.
    var end = SequenceNumber(rawValue: 0)
    /// TLP.is_retrans: it was nothing new.
    var isRetransmission = false

    init() {}
}

extension NetworkStack {
    /// When a probe is due; `.max` for never. It is read off when the timer is set or fires, and costs a segment nothing.
    //= RFC 8985 section 7.2
    //# Scheduling: PTO = 2 * SRTT, and the longest delay of an acknowledgement if one segment is in flight; 1 second without a measurement.
    @inline(__always)
    func probeDeadline(_ c: ConnectionPointer) -> UInt64 {
        guard c.pointee.scoreboard.first != 0, c.pointee.recovery.isPlain, c.pointee.retransmitDeadline != .max, c.pointee.retransmissionCount == 0 else {
            return .max
        }
        return probeDeadlineOfFlight(c)
    }

    private func probeDeadlineOfFlight(_ c: ConnectionPointer) -> UInt64 {
        guard c.pointee.roundTrip.hasSample, !c.pointee.flags.contains(.persisting), hasRecords(c) else { return .max }
        if DeliberateBug.isPresent(.probeNotSent) { return .max }
        let deadline = max(c.pointee.unacknowledgedSince, c.pointee.lastSendTime) &+ max(probeTimeout(c), NetworkStack.smallestProbeTimeout)
        //= RFC 8985 section 7.2
        //# If Now() + PTO > TCP_RTO_expiration(): PTO = TCP_RTO_expiration() - Now()
        return min(deadline, c.pointee.retransmitDeadline)
    }

    /// PTO, but for its least value.
    @inline(__always)
    func probeTimeout(_ c: ConnectionPointer) -> UInt64 {
        let isSingle = c.pointee.scoreboard.first == c.pointee.scoreboard.last
        return 2 &* c.pointee.roundTrip.smoothed &+ (isSingle ? state.pointee.configuration.tcp.probeAcknowledgementDelay : 0)
    }

    /// What a turn of a run loop, or of the peer's, may add to a round trip that is short.
    static var smallestProbeTimeout: UInt64 { 1_000_000 }

    /// Sends new data if there is some, else the last segment again: its acknowledgement tells what was lost before it.
    func probeTimerFired(_ c: ConnectionPointer) {
        //= RFC 8985 section 7.3
        //# A sender MUST NOT send a loss probe if there is still an outstanding loss probe.
        // The state sees to that, whatever becomes of this one.
        lendExceptionalState(c)
        c.pointee.recovery.state.insert(.isProbing)
        c.pointee.probe.isRetransmission = false
        let before = c.pointee.sendMaximum
        //= RFC 8985 section 7.3
        //# If an unsent segment exists and the receive window has room: transmit the lowest-sequence unsent segment of up to SMSS, irrespective of cwnd
        if c.pointee.sendByteCount > c.pointee.sendNext.since(c.pointee.sendUnacknowledged) {
            sendPending(c, beyondCongestionWindow: c.pointee.sendSegmentSize)
        }
        //= RFC 8985 section 7.3
        //# Else: retransmit the highest-sequence segment sent so far
        if c.pointee.sendMaximum == before && hasRecords(c) {
            var start = c.pointee.scoreboard.start
            var index = c.pointee.scoreboard.first
            while index != c.pointee.scoreboard.last {
                start = state.pointee.transmissions[index].pointee.end
                index = state.pointee.transmissions[index].pointee.next
            }
            let record = state.pointee.transmissions[index]
            if !state.pointee.output.pointee.isFull && retransmit(c, start, record.pointee.end.since(start)) {
                record.pointee.flags.insert(.isRetransmitted)
                record.pointee.sentAt = state.pointee.now
                if c.pointee.flags.contains(.isPaced) { notePacedRetransmission(c, index, record.pointee.end.since(start)) }
                c.pointee.probe.isRetransmission = true
            }
        }
        c.pointee.probe.end = c.pointee.sendMaximum
        state.pointee.statistics.tcp.tailLossProbes += 1
        //= RFC 8985 section 7.3
        //# After attempting to send a loss probe, regardless of whether a loss probe was sent, the sender MUST re-arm the RTO timer.
        setRetransmission(c, after: c.pointee.roundTrip.timeout)
    }

    /// What an acknowledgement says of the probe.
    func judgeProbe(_ c: ConnectionPointer, _ header: TCPSegmentHeader, progress: Int, duplicate: SACKBlock?) {
        let beyond = header.acknowledgement.since(c.pointee.probe.end)
        guard beyond >= 0, c.pointee.recovery.state.contains(.isProbing) else { return }
        //= RFC 8985 section 7.4.2
        //# If not TLP.is_retrans: the probe was new data. Else if a DSACK option matches TLP.end_seq, or an ACK without SACK is a duplicate: both the
        //# original and
        //# the probe have arrived. Nothing was lost.
        let isDuplicate = duplicate.map { $0.right == c.pointee.probe.end } ?? false
        let isRepeated = progress == 0 && header.sackBlockCount == 0 && header.payloadByteCount == 0
        if !c.pointee.probe.isRetransmission || isDuplicate || isRepeated {
            c.pointee.recovery.state.remove(.isProbing)
        } else if beyond > 0 {
            //= RFC 8985 section 7.4.2
            //# Else if SEG.ACK > TLP.end_seq: the original was lost and the probe has repaired it: invoke congestion control as for a fast recovery.
            c.pointee.recovery.state.remove(.isProbing)
            state.pointee.statistics.tcp.tailLossesRepaired += 1
            noteReduction(c)
            if c.pointee.congestion.isModelled { noteModelCongestion(c, isMark: false) }
            lendCongestionHistory(c)
            c.pointee.congestion.enterRecovery(flightSize: max(c.pointee.flightSize, c.pointee.sendSegmentSize), segmentSize: c.pointee.sendSegmentSize)
            c.pointee.congestion.leaveRecovery(
                flightSize: min(c.pointee.congestion.slowStartThreshold, 1 << 40), segmentSize: c.pointee.sendSegmentSize)
        }
    }
}
