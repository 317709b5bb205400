import DatapathMemory
import WireFormats

/// How fast a recovery sends: in proportion to what arrives, down to what the congestion control says (RFC 6937).
struct RateReduction {
    /// RecoverFS, prr_delivered and prr_out, in bytes.
    var flightSize = 0
    var deliveredByteCount = 0
    var sentByteCount = 0
    /// What the network may hold now: pipe and sndcnt.
    var window = 0

    init() {}
}

extension NetworkStack {
    /// - Parameter delivered: bytes that the acknowledgement which began it has brought.
    func beginReduction(_ c: ConnectionPointer, delivered: Int) {
        lendExceptionalState(c).pointee.reduction = RateReduction()
        c.pointee.reduction.flightSize = max(c.pointee.flightSize, 1)
        //= RFC 6937 section 3
        //# a fast retransmit is sent upon entering recovery, whatever sndcnt is
        reduce(c, delivered: delivered)
        c.pointee.reduction.window = max(c.pointee.reduction.window, pipe(c) + c.pointee.sendSegmentSize)
    }

    //= RFC 6937 section 3
    //# if (pipe > ssthresh) sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out; else limit = MAX(prr_delivered - prr_out, DeliveredData) + MSS
    //# (PRR-SSRB), sndcnt = MIN(ssthresh - pipe, limit)
    func reduce(_ c: ConnectionPointer, delivered: Int) {
        let pipe = pipe(c)
        let segmentSize = c.pointee.sendSegmentSize
        let threshold = min(c.pointee.congestion.slowStartThreshold, 1 << 31)
        c.pointee.reduction.deliveredByteCount += delivered
        let reduction = c.pointee.reduction
        let count: Int
        if pipe > threshold {
            // No more than 2^31 each: the product fits.
            let inProportion = min(reduction.deliveredByteCount, 1 << 31) * threshold
            count = (inProportion + reduction.flightSize - 1) / reduction.flightSize - reduction.sentByteCount
        } else {
            count = min(threshold - pipe, max(reduction.deliveredByteCount - reduction.sentByteCount, delivered) + segmentSize)
        }
        c.pointee.reduction.window = pipe + max(count, 0)
    }

    /// Bytes that a connection may send now whose flight has gaps, or whose losses are being repaired.
    @inline(never)
    func recoveryRoom(_ c: ConnectionPointer, beyond allowance: Int) -> Int {
        let isReducing = c.pointee.recovery.state.contains(.isReducing) && !c.pointee.congestion.isModelled
        let window = isReducing ? c.pointee.reduction.window : c.pointee.congestion.window
        return window &+ allowance &- pipe(c)
    }

    /// Sends again what is lost, as much as may be sent. O(segments up to the last that is lost).
    /// - Returns: whether new data may follow.
    @inline(never)
    func retransmitLost(_ c: ConnectionPointer) -> Bool {
        guard c.pointee.scoreboard.lostByteCount > 0 else { return true }
        guard !c.pointee.recovery.state.isDisjoint(with: [.isReducing, .hasTimedOut]) else { return true }
        if holdsBackForJudgement(c) { return true }
        // Of what a timeout takes for lost the first segment alone, until its acknowledgement tells more.
        let isFirstStep = c.pointee.recovery.state.contains(.hasTimedOut) && c.pointee.undo.timeoutStep == .first
        if isFirstStep && !state.pointee.transmissions[c.pointee.scoreboard.first].pointee.flags.contains(.isLost) { return false }
        var start = c.pointee.scoreboard.start
        var index = c.pointee.scoreboard.first
        while index != 0 && c.pointee.scoreboard.lostByteCount > 0 {
            let record = state.pointee.transmissions[index]
            let end = record.pointee.end
            if record.pointee.flags.contains(.isLost) {
                let byteCount = end.since(start)
                if recoveryRoom(c, beyond: 0) < byteCount && pipe(c) > 0 {
                    c.pointee.flags.insert(.congestionWindowLimited)
                    return false
                }
                guard !state.pointee.output.pointee.isFull else {
                    awaitOutput(c)
                    return false
                }
                if c.pointee.flags.contains(.isPaced) && !mayDepart(c) { return false }
                guard retransmit(c, start, byteCount) else { return false }
                record.pointee.flags.remove(.isLost)
                record.pointee.flags.insert(.isRetransmitted)
                record.pointee.sentAt = state.pointee.now
                c.pointee.scoreboard.lostByteCount -= byteCount
                if c.pointee.flags.contains(.isPaced) { notePacedRetransmission(c, index, byteCount) }
                c.pointee.reduction.sentByteCount += byteCount
                c.pointee.undo.retransmissionCount += 1
                if isFirstStep {
                    c.pointee.flags.insert(.congestionWindowLimited)
                    return false
                }
            }
            start = end
            index = record.pointee.next
        }
        return true
    }

    /// Sends a range again that was sent as one segment. O(segments of the send queue in front of it).
    /// - Returns: false without memory, where a window that has shrunk does not reach, or when segments have become smaller: the retransmission timer sees
    ///   to it.
    func retransmit(_ c: ConnectionPointer, _ sequence: SequenceNumber, _ sequenceCount: Int) -> Bool {
        var offset = sequence.since(c.pointee.sendUnacknowledged)
        guard offset >= 0, offset + sequenceCount <= c.pointee.sendWindow, sequenceCount <= c.pointee.sendSegmentSize + 1 else { return false }
        stopTiming(c)
        let byteCount = min(sequenceCount, c.pointee.sendByteCount - offset)
        let includesFinish = byteCount < sequenceCount
        let isLast = offset + byteCount == c.pointee.sendByteCount
        if byteCount <= 0 {
            guard c.pointee.flags.contains(.finSent) else { return false }
            sendControl(c, sequence, [.fin, .ack])
        } else {
            var segment = c.pointee.sendHead
            while let current = segment, offset >= current.segmentByteCount {
                offset -= current.segmentByteCount
                segment = current.nextSegment
            }
            guard let segment else { return false }
            var flags: TCPFlags = .ack
            if isLast { flags.insert(.psh) }
            if includesFinish { flags.insert(.fin) }
            guard sendData(c, sequence, flags, segment, offset: offset, byteCount: byteCount) else { return false }
        }
        state.pointee.statistics.tcp.retransmittedSegments += 1
        c.pointee.retransmittedSegments &+= 1
        c.pointee.lastSendTime = state.pointee.now
        return true
    }
}
