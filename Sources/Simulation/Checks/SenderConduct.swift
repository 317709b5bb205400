import WireFormats

/// What a host has to do with the acknowledgements that it gets: when it must and must not send again, and how much.
///
/// It follows the sender as far as the frames tell. Where they leave open what the sender knows, nothing is demanded. With selective acknowledgements a
/// sender knows more than duplicates tell: then only the bounds count that hold for it, too.
struct SenderConduct {
    private let initialSequence: SequenceNumber
    private var unacknowledged: SequenceNumber
    /// The field of the last window.
    private var window: UInt16 = 0
    private var duplicates = 0
    /// The largest window that the sender has taken for sure, in bytes.
    private var largestWindow = 0
    /// Something came since `unacknowledged` moved of which the sender may have made a duplicate, or not.
    private var isUncertain = false
    private var lastReceived: UInt64 = 0
    private var lastProgress: UInt64 = 0
    /// Behind what had been sent when something was last sent again.
    private var recover: SequenceNumber?
    private var recovery: Recovery?
    /// The first unacknowledged segment was sent again by the timer.
    private var hasTimedOut = false
    /// Timeouts in a row, without an acknowledgement of new data.
    private var timeouts = 0
    /// What the sender may take for the longest packet that its way takes.
    private var suspectedPathMTU = Int.max
    private var finishEnd: SequenceNumber?
    /// What has to be sent again at once.
    private var debt: (sequence: SequenceNumber, time: UInt64, reason: String)?
    /// Bytes since the retransmission timer expired, while nothing has come.
    private var sinceTimeout: Int?

    /// A fast recovery.
    private struct Recovery {
        let end: SequenceNumber
        /// What was in flight when the time at which it began was over.
        var flight: Int?
        let beganAt: UInt64
        var duplicates = 0
        var isPartial = false
    }

    init(_ initialSequence: SequenceNumber) {
        self.initialSequence = initialSequence
        unacknowledged = initialSequence
    }

    var isFinishAcknowledged: Bool { finishEnd.map { unacknowledged >= $0 } ?? false }

    private var isCertain: Bool { !isUncertain && unacknowledged != initialSequence && (recover.map { unacknowledged > $0 } ?? true) }

    /// The time is `time` now: what had to be done before should be done.
    mutating func settle(_ time: UInt64) -> String? {
        guard let debt, debt.time < time else { return nil }
        self.debt = nil
        return "nothing was sent again from \(debt.sequence) on, after \(debt.reason)"
    }

    mutating func received(_ header: TCPSegmentHeader, isAccepted: Bool, _ flow: Flow, _ conduct: Conduct, at time: UInt64) {
        lastReceived = time
        sinceTimeout = nil
        guard isAccepted, header.flags.contains(.ack), !header.flags.contains(.rst), header.acknowledgement <= flow.sendMaximum else {
            isUncertain = true
            return
        }
        let progress = header.acknowledgement - unacknowledged
        if progress > 0 {
            unacknowledged = header.acknowledgement
            (duplicates, isUncertain, hasTimedOut, timeouts, lastProgress, window) = (0, false, false, 0, time, header.window)
            //= RFC 7323 section 2.2
            //# The window field in a segment where the SYN bit is set MUST NOT be scaled.
            largestWindow = max(largestWindow, header.flags.contains(.syn) ? Int(header.window) : windowByteCount(flow))
            if let end = recovery?.end {
                if unacknowledged >= end {
                    recovery = nil
                } else {
                    //= RFC 6582 section 3.2
                    //# If this ACK does not acknowledge all of the data up to and including "recover", retransmit the first unacknowledged segment.
                    debt = (unacknowledged, time, "a partial acknowledgement")
                    recovery?.isPartial = true
                }
            }
            return
        }
        guard progress == 0 else { return }
        guard header.segmentLength == 0, flow.sendMaximum > unacknowledged, header.window == window else {
            // What the sender sends at this time for the acknowledgement before may be in flight when it takes this one, which is a duplicate then.
            isUncertain = isUncertain || header.window != window || header.segmentLength == 0 && lastProgress == time
            window = header.window
            return
        }
        duplicates += 1
        if flow.hasSelectiveAcknowledgements { return }
        if recovery != nil {
            recovery?.duplicates += 1
        } else if duplicates == 3, isCertain, hasOpenWindow(flow, conduct) {
            //= RFC 5681 section 3.2
            //# After receiving 3 duplicate ACKs, TCP performs a retransmission of what appears to be the missing segment, without waiting for the timer.
            debt = (unacknowledged, time, "three duplicate acknowledgements")
            recovery = Recovery(end: flow.sendMaximum, beganAt: time)
        }
    }

    /// Whether the window has room for a segment, so that it is not being probed.
    private func hasOpenWindow(_ flow: Flow, _ conduct: Conduct) -> Bool { windowByteCount(flow) >= segmentSize(flow, conduct) }

    private func windowByteCount(_ flow: Flow) -> Int {
        let shift = flow.own?.windowScale ?? 0xff == 0xff || flow.peer?.windowScale ?? 0xff == 0xff ? 0 : min(flow.peer!.windowScale, 14)
        return Int(window) << Int(shift)
    }

    private func segmentSize(_ flow: Flow, _ conduct: Conduct) -> Int {
        min(max(flow.peer?.maximumSegmentSize ?? 536, 64), conduct.maximumSegmentSize)
    }

    // MARK: What it sends

    mutating func transmitted(_ header: TCPSegmentHeader, _ before: Flow, _ flow: Flow, _ conduct: Conduct, at time: UInt64) -> String? {
        guard !header.flags.contains(.syn), header.segmentLength > 0 else { return nil }
        if header.flags.contains(.fin) { finishEnd = header.sequence + header.segmentLength }
        let segmentSize = segmentSize(flow, conduct)
        let end = header.sequence + header.payloadByteCount
        var complaint: String?
        if flow.hasSelectiveAcknowledgements { return selectiveTransmitted(header, before, end, segmentSize, at: time) }
        if header.sequence < before.sendMaximum {
            if header.sequence == unacknowledged { complaint = sentAgain(header, flow, conduct, at: time) }
            if debt?.sequence == header.sequence { debt = nil }
            recover = recover.map { SequenceNumber.max($0, before.sendMaximum) } ?? before.sendMaximum
        } else if let recovery, !recovery.isPartial, recovery.beganAt < time {
            let flight = recovery.flight ?? before.sendMaximum - unacknowledged
            self.recovery?.flight = flight
            //= RFC 5681 section 3.2
            //# ssthresh = max (FlightSize / 2, 2*SMSS), cwnd = ssthresh plus 3*SMSS, and SMSS for each further duplicate ACK
            //= RFC 9438 section 4.6
            //# ssthresh = flight_size * beta_cubic, with beta_cubic = 0.7
            let most = max(flight, max(flight * 7 / 10, 2 * segmentSize) + (4 + recovery.duplicates) * segmentSize)
            if end - unacknowledged > most { complaint = "\(end - unacknowledged) bytes in flight in fast recovery, where \(most) may be" }
        }
        let fullSize = min(segmentSize, suspectedPathMTU - TCPSegmentHeader.minimumByteCount - (flow.own?.internetHeaderByteCount ?? IPv6Header.byteCount))
        if header.sequence == before.sendMaximum, header.sequence > unacknowledged, !header.flags.contains(.psh), end == flow.allowedEdge,
            header.payloadByteCount + header.headerByteCount - TCPSegmentHeader.minimumByteCount < fullSize, 2 * header.payloadByteCount < largestWindow
        {
            //= RFC 9293 section 3.8.6.2.1
            //# A TCP implementation MUST include a SWS avoidance algorithm in the sender (MUST-38).
            complaint = "a silly segment of \(header.payloadByteCount) bytes, which fills the window while data is in flight"
        }
        if let sent = sinceTimeout {
            sinceTimeout = sent + header.payloadByteCount
            //= RFC 5681 section 3.1
            //# upon a timeout cwnd MUST be set to no more than the loss window, LW, which equals 1 full-sized segment
            if sent + header.payloadByteCount > segmentSize { complaint = "\(sent + header.payloadByteCount) bytes since a timeout, and nothing came" }
        }
        if unacknowledged - initialSequence <= 1, duplicates < 3 {
            //= RFC 6928 section 2
            //# min (10*MSS, max (2*MSS, 14600))
            let initialWindow = min(10 * segmentSize, max(2 * segmentSize, 14_600))
            //= RFC 3042 section 2
            //# upon the arrival of the first two duplicate ACKs the amount of outstanding data would remain less than or equal to the congestion window plus
            //# 2 segments
            let most = initialWindow + (isUncertain ? 2 : duplicates) * segmentSize
            if end - initialSequence - 1 > most { complaint = "\(end - initialSequence - 1) bytes in the first flight, where \(most) may be" }
        }
        return complaint
    }

    private mutating func selectiveTransmitted(
        _ header: TCPSegmentHeader, _ before: Flow, _ end: SequenceNumber, _ segmentSize: Int, at time: UInt64
    ) -> String? {
        (recovery, debt, sinceTimeout) = (nil, nil, nil)
        if end > before.sendMaximum, unacknowledged - initialSequence <= 1, duplicates == 0, !isUncertain {
            //= RFC 8985 section 7.3
            //# a loss probe may go beyond the congestion window by one segment
            let most = min(10 * segmentSize, max(2 * segmentSize, 14_600)) + segmentSize
            if end - initialSequence - 1 > most { return "\(end - initialSequence - 1) bytes in the first flight, where \(most) may be" }
        }
        return nil
    }

    /// The first unacknowledged segment is sent again.
    private mutating func sentAgain(_ header: TCPSegmentHeader, _ flow: Flow, _ conduct: Conduct, at time: UInt64) -> String? {
        guard hasOpenWindow(flow, conduct) else {
            (recovery, sinceTimeout, isUncertain) = (nil, nil, true)
            return nil
        }
        guard time > lastReceived else {
            // Because of what came.
            if hasTimedOut, !isUncertain, duplicates >= 3 {
                //= RFC 6582 section 3.2
                //# If the cumulative acknowledgment field covers more than "recover", then enter fast retransmit; if not, do not.
                return "a fast retransmit of what a timeout has sent again"
            }
            if recovery != nil, debt?.sequence != header.sequence {
                // Nothing asked for it: the timer has expired at the same time.
                (recovery, sinceTimeout, isUncertain) = (nil, nil, true)
            }
            guard recovery == nil, debt == nil, isCertain, duplicates == 1 || duplicates == 2 else { return nil }
            return "a fast retransmit after \(duplicates) duplicate acknowledgements"
        }
        // By the timer.
        timeouts += 1
        //= RFC 4821 section 7.6.1
        //# full-stop timeout: a retransmission timeout while nothing gets through; the MTU may have dropped, and eff_pmtu is reduced
        // To the sizes of RFC 4821, section 7.2, after the second and the fourth (Specifications/exceptions): segments of these are full ones then.
        if timeouts >= 2 { suspectedPathMTU = min(suspectedPathMTU, timeouts >= 4 ? 576 : 1_024) }
        if conduct.maximumPacingRate != nil {
            // Or, for the first time, because it was its turn.
            (recovery, sinceTimeout, isUncertain) = (nil, nil, true)
            return nil
        }
        defer { (recovery, sinceTimeout, hasTimedOut, duplicates) = (nil, 0, true, 0) }
        guard isCertain, time - lastProgress < conduct.minimumRetransmissionTimeout else { return nil }
        //= RFC 6298 section 5.3
        //# When an ACK is received that acknowledges new data, restart the retransmission timer so that it will expire after RTO seconds
        return "a timeout \((time - lastProgress) / 1_000) us after an acknowledgement of new data"
    }
}
