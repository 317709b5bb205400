import DatapathMemory
import EthernetDevice
import WireFormats

/// What may be sent when (RFC 9293, section 3.8; RFC 1122, section 4.2.3.4; RFC 5681).
extension NetworkStack {
    /// Sends as much of the send queue as the windows allow.
    /// - Parameter allowance: bytes that may be in flight beyond the congestion window.
    func sendPending(_ c: ConnectionPointer, beyondCongestionWindow allowance: Int = 0) {
        let segmentSize = c.pointee.sendSegmentSize
        // A probe, and what a duplicate calls for, go at once: one segment each.
        var mayWait = allowance == 0
        while true {
            // First what is lost, as far as the network has room.
            let isRepairing = !c.pointee.recovery.state.isDisjoint(with: .isRepairing)
            if isRepairing { guard retransmitLost(c) else { return } }
            let sent = c.pointee.sendNext.since(c.pointee.sendUnacknowledged)
            let unsent = c.pointee.sendByteCount &- sent
            guard unsent > 0 else {
                c.pointee.flags.remove(.congestionWindowLimited)
                if c.pointee.flags.contains(.isPaced) { noteNothingToSend(c) }
                // A FIN that was acknowledged is not sent again: in FIN_WAIT_2, CLOSING and TIME_WAIT segments still arrive.
                let isFinishAcknowledged = c.pointee.flags.contains(.finSent) && c.pointee.sendMaximum == c.pointee.sendUnacknowledged
                if DeliberateBug.isPresent(.finishNotRetransmitted) && c.pointee.flags.contains(.finSent) { return }
                if unsent == 0 && c.pointee.flags.contains(.finQueued) && !isFinishAcknowledged { sendFinish(c) }
                return
            }
            let congestionRoom = isRepairing ? recoveryRoom(c, beyond: allowance) : c.pointee.congestion.window &+ allowance &- sent
            let windowRoom = c.pointee.sendWindow &- sent
            //= RFC 9293 section 3.9.1.2
            //# the TCP implementation MAY aggregate the data internally without sending it (MAY-16). A TCP implementation SHOULD send a maximum-sized segment
            //# whenever possible (SHLD-28).
            var length = min(min(unsent, segmentSize), min(congestionRoom, windowRoom))
            if length < segmentSize {
                if length < unsent {
                    guard maySendPiece(c, length, sent, congestionRoom, windowRoom) else { return }
                } else if (sent > 0 || DeliberateBug.isPresent(.nagleWaitsForever)) && !c.pointee.flags.contains(.noDelay)
                    && !c.pointee.flags.contains(.finQueued) {
                    //= RFC 9293 section 3.7.4
                    //# A TCP implementation SHOULD implement the Nagle algorithm to coalesce short segments (SHLD-7): if there is unacknowledged data (i.e.,
                    //# SND.NXT > SND.UNA), then the sending TCP endpoint buffers all user data until the
                    //# outstanding data has been acknowledged or until the endpoint can send a full-sized segment.
                    state.pointee.statistics.tcp.nagleDelays &+= 1
                    return
                }
            }
            if state.pointee.output.pointee.isFull { return awaitOutput(c) }
            guard let cursor = c.pointee.sendCursor else { return }
            if c.pointee.flags.contains(.isPaced) {
                if mayWait && !mayDepart(c) { return }
                mayWait = true
            }
            if c.pointee.sendNext != c.pointee.sendMaximum { length = boundedLength(cursor, c.pointee.sendCursorOffset, length) }
            restartIfIdle(c)
            var flags: TCPFlags = .ack
            var finishes = false
            if length == unsent {
                //= RFC 9293 section 3.9.1.2
                //# If PUSH flags are not implemented, then the sending TCP peer: (1) MUST NOT buffer data indefinitely (MUST-60), and (2) MUST set the PSH bit
                //# in the last buffered segment (i.e., when there is no more queued data to be sent) (MUST-61). The transmitter SHOULD collapse successive bits
                //# when it packetizes data (SHLD-27).
                flags.insert(.psh)
                // One that went by itself does so again: segments keep their bounds.
                if c.pointee.flags.contains(.finQueued) && !c.pointee.flags.contains(.finSent) {
                    flags.insert(.fin)
                    finishes = true
                }
            }
            guard sendData(c, c.pointee.sendNext, flags, cursor, offset: c.pointee.sendCursorOffset, byteCount: length) else {
                // Without memory for the frame: the timer tries again.
                return armRetransmission(c)
            }
            advanceCursor(c, length)
            noteSent(c, length &+ (finishes ? 1 : 0))
            if finishes {
                c.pointee.flags.insert(.finSent)
                return
            }
        }
    }

    /// The plain case of a push: all before it is sent, it makes one segment, and nothing holds that back.
    /// - Parameters:
    ///   - isIPv4: a constant: the family, where no calls are made.
    ///   - makesCalls: a constant. Where it is false what needs a call, but for one at the end, is left to who has the time: so there is no stack frame,
    ///     and nothing is saved for one.
    /// - Returns: false when it is another case; nothing has changed then.
    @inline(__always)
    func sendAtOnce(_ c: ConnectionPointer, _ array: Frame, isIPv4: Bool, makesCalls: Bool) -> Bool {
        let byteCount = array.arrayByteCount
        let sent = c.pointee.sendNext.since(c.pointee.sendUnacknowledged)
        guard c.pointee.state == .established, array.arraySegmentCount == 1,
            sent == c.pointee.sendByteCount || DeliberateBug.isPresent(.laterPushOvertakes), UInt32(truncatingIfNeeded: sent) < c.pointee.sendLimit32,
            byteCount <= c.pointee.sendSegmentSize, sent &+ byteCount <= min(c.pointee.sendWindow, c.pointee.congestion.window),
            c.pointee.flags.isDisjoint(with: [.finQueued, .persisting, .isPaced]), c.pointee.flags.contains(.noDelay) || sent == 0, c.pointee.recovery.isPlain,
            !state.pointee.output.pointee.isFull
        else { return false }
        if makesCalls {
            restartIfIdle(c)
            guard sendPlainSegment(c, c.pointee.sendNext, [.ack, .psh], array, byteCount)
                || sendData(c, c.pointee.sendNext, [.ack, .psh], array, offset: 0, byteCount: byteCount)
            else { return false }
        } else {
            guard UInt(bitPattern: byteCount &- 1) < 127, !hasBeenIdle(c), !c.pointee.selective.isPermitted || !state.pointee.transmissions.isFull,
                c.pointee.flags.contains(.timing) || !mustRenewComparedSequences(c), sendPlainDataAtOnce(c, array, byteCount, isIPv4: isIPv4)
            else { return false }
        }
        if let tail = c.pointee.sendTail { tail.linkSegment(array) } else { c.pointee.sendHead = array }
        c.pointee.sendTail = array
        c.pointee.sendByteCount &+= byteCount
        let next = c.pointee.sendNext.advanced(by: byteCount)
        c.pointee.sendNext = next
        noteNewlySent(c, to: next, makesCalls: makesCalls)
        startRetransmission(c)
        return true
    }

    /// Whether a segment may go that a window makes shorter than both the largest one and what is queued.
    //= RFC 9293 section 3.8.6
    //# a sending TCP peer MUST be robust against window shrinking, which may cause the "usable window" to become negative (MUST-34). If this happens, the
    //# sender SHOULD NOT send new data (SHLD-15).
    //= RFC 7323 section 2.4
    //# Implementations MUST ensure that they handle a shrinking window.
    @inline(never)
    private func maySendPiece(_ c: ConnectionPointer, _ length: Int, _ sent: Int, _ congestionRoom: Int, _ windowRoom: Int) -> Bool {
        if congestionRoom < windowRoom {
            c.pointee.flags.insert(.congestionWindowLimited)
            return length > 0 && sent == 0
        }
        c.pointee.flags.remove(.congestionWindowLimited)
        //= RFC 9293 section 3.8.6.2.1
        //# A TCP implementation MUST include a SWS avoidance algorithm in the sender (MUST-38): send data if min(D,U) >= Fs * Max(SND.WND), with Fs = 1/2
        if length > 0 && fillsHalfOfLargestWindow(c, length) { return true }
        if length > 0 { state.pointee.statistics.tcp.sillyWindowDelays &+= 1 }
        // With nothing in flight no acknowledgement would open the window: the persist timer overrides (same section), and probes a zero window.
        //= RFC 9293 section 3.8.6
        //# If the window shrinks to zero, the TCP implementation MUST probe it in the standard way (MUST-35).
        if sent == 0 { beginPersisting(c) }
        return false
    }

    /// Whether so many bytes are worth a segment, though they are neither a full one nor all that is queued.
    func fillsHalfOfLargestWindow(_ c: ConnectionPointer, _ length: Int) -> Bool {
        2 * length >= c.pointee.maximumSendWindow || DeliberateBug.isPresent(.sillyWindowFilled)
    }

    /// Sends our FIN, which stands behind all data.
    @inline(never)
    private func sendFinish(_ c: ConnectionPointer) {
        guard c.pointee.state != .synSent, c.pointee.state != .synReceived else { return }
        sendControl(c, c.pointee.sendNext, [.fin, .ack])
        c.pointee.flags.insert(.finSent)
        noteSent(c, 1)
    }

    /// Accounts for sequence space that was just sent at `sendNext`.
    @inline(__always)
    private func noteSent(_ c: ConnectionPointer, _ count: Int) {
        let next = c.pointee.sendNext.advanced(by: count)
        c.pointee.sendNext = next
        let isNew = next.since(c.pointee.sendMaximum) > 0
        if isNew {
            noteNewlySent(c, to: next, makesCalls: true)
        } else {
            state.pointee.statistics.tcp.retransmittedSegments &+= 1
            c.pointee.retransmittedSegments &+= 1
        }
        if c.pointee.flags.contains(.isPaced) { notePacedSegment(c, count, isNew: isNew) }
        startRetransmission(c)
    }

    /// Accounts for sequence space up to `next` that was never sent before.
    /// - Parameter makesCalls: a constant; where it is false, the caller has seen that there is a record, that the connection is in no recovery and that nothing has to be renewed.
    @inline(__always)
    private func noteNewlySent(_ c: ConnectionPointer, to next: SequenceNumber, makesCalls: Bool) {
        recordTransmission(c, to: next, hasRoom: !makesCalls)
        c.pointee.sendMaximum = next
        //= RFC 6298 section 3
        //# A TCP implementation MUST take at least one RTT measurement per RTT, and RTT samples MUST NOT be made using segments that were retransmitted
        guard !c.pointee.flags.contains(.timing) else { return }
        c.pointee.flags.insert(.timing)
        c.pointee.timedSequence = next
        c.pointee.timedAt = state.pointee.now
        c.pointee.timedUnacknowledged = c.pointee.sendUnacknowledged
        if makesCalls && mustRenewComparedSequences(c) { renewComparedSequences(c) }
    }

    /// Whether a sequence number that was noted at a loss or a mark may have fallen so far behind that it would be taken for one ahead, unless it is one.
    /// Asked once in a round trip.
    @inline(__always)
    private func mustRenewComparedSequences(_ c: ConnectionPointer) -> Bool {
        let unacknowledged = c.pointee.sendUnacknowledged.rawValue
        return ((unacknowledged &- c.pointee.recoverySequence.rawValue) | (unacknowledged &- c.pointee.reductionEnd.rawValue)) >= 1 << 30
    }

    @inline(never)
    private func renewComparedSequences(_ c: ConnectionPointer) {
        if c.pointee.sendUnacknowledged.since(c.pointee.recoverySequence) >= 1 << 30 {
            c.pointee.recoverySequence = c.pointee.sendUnacknowledged.advanced(by: -1)
        }
        if c.pointee.sendUnacknowledged.since(c.pointee.reductionEnd) >= 1 << 30 {
            c.pointee.reductionEnd = c.pointee.sendUnacknowledged.advanced(by: -1)
        }
    }

    /// Something was sent just now that has to be acknowledged.
    @inline(__always)
    private func startRetransmission(_ c: ConnectionPointer) {
        c.pointee.lastSendTime = state.pointee.now
        //= RFC 6298 section 5.1
        //# Every time a packet containing data is sent (including a retransmission), if the timer is not running, start it running
        if c.pointee.retransmitDeadline == .max && !DeliberateBug.isPresent(.retransmissionTimerNotStarted) { armRetransmission(c) }
    }

    @inline(__always)
    func armRetransmission(_ c: ConnectionPointer) {
        c.pointee.unacknowledgedSince = state.pointee.now
        setRetransmission(c, after: c.pointee.roundTrip.timeout)
    }

    /// Moves the cursor over bytes that were sent. It never rests at a segment's end.
    @inline(__always)
    private func advanceCursor(_ c: ConnectionPointer, _ byteCount: Int) {
        guard let cursor = c.pointee.sendCursor else { return }
        let offset = c.pointee.sendCursorOffset &+ byteCount
        if offset < cursor.segmentByteCount {
            c.pointee.sendCursorOffset = offset
        } else {
            passSegments(c, cursor, offset)
        }
    }

    private func passSegments(_ c: ConnectionPointer, _ cursor: Frame, _ offset: Int) {
        var segment: Frame? = cursor
        var offset = offset
        while let current = segment, offset >= current.segmentByteCount {
            offset -= current.segmentByteCount
            segment = current.nextSegment
        }
        c.pointee.sendCursor = segment
        c.pointee.sendCursorOffset = offset
    }

    /// Whether nothing is in flight, and nothing was sent for longer than the retransmission timeout.
    @inline(__always)
    private func hasBeenIdle(_ c: ConnectionPointer) -> Bool {
        c.pointee.sendMaximum == c.pointee.sendUnacknowledged && state.pointee.now &- c.pointee.lastSendTime > c.pointee.roundTrip.timeout
    }

    private func restartIfIdle(_ c: ConnectionPointer) {
        guard hasBeenIdle(c), c.pointee.roundTrip.hasSample else { return }
        let before = c.pointee.congestion.window
        c.pointee.congestion.restartAfterIdle(segmentSize: c.pointee.sendSegmentSize)
        if c.pointee.congestion.window < before { state.pointee.statistics.tcp.idleRestarts &+= 1 }
    }

    // MARK: A device that is behind

    func awaitOutput(_ c: ConnectionPointer) {
        guard !c.pointee.flags.contains(.awaitingOutput) else { return }
        c.pointee.flags.insert(.awaitingOutput)
        c.pointee.nextAwaitingOutput = 0
        if state.pointee.awaitingOutput.last == 0 {
            state.pointee.awaitingOutput.first = c.pointee.index
        } else {
            state.pointee.connections[state.pointee.awaitingOutput.last].pointee.nextAwaitingOutput = c.pointee.index
        }
        state.pointee.awaitingOutput.last = c.pointee.index
    }

    /// The device has taken frames: those that waited for it send on.
    func resumeOutput() {
        // Each once: one that fills the output again stands at the end of the next round.
        var next = state.pointee.awaitingOutput.first
        state.pointee.awaitingOutput = SlotQueue()
        while next != 0 {
            let c = state.pointee.connections[next]
            next = c.pointee.nextAwaitingOutput
            c.pointee.flags.remove(.awaitingOutput)
            if c.pointee.state == .closed { releaseIfUnused(c) } else { sendPending(c) }
        }
    }

    // MARK: Retransmission

    /// Sends the first unacknowledged segment again, and leaves `sendNext` where it is (RFC 5681, section 3.2).
    //= RFC 9293 section 3.8.6
    //# the sender SHOULD retransmit normally the old unacknowledged data between SND.UNA and SND.UNA+SND.WND (SHLD-16). The sender MAY also retransmit old data
    //# beyond SND.UNA+SND.WND (MAY-7).
    func retransmitFirst(_ c: ConnectionPointer) {
        //= RFC 6298 section 3
        //# Karn's algorithm: RTT samples MUST NOT be made using segments that were retransmitted
        //= RFC 9293 section 3.8.1
        //# The RTO MUST be computed according to RFC 6298, including Karn's algorithm for taking RTT samples (MUST-18).
        stopTiming(c)
        state.pointee.statistics.tcp.retransmittedSegments += 1
        c.pointee.retransmittedSegments &+= 1
        guard let head = c.pointee.sendHead else {
            if DeliberateBug.isPresent(.finishNotRetransmitted) { return }
            if c.pointee.flags.contains(.finSent) { sendControl(c, c.pointee.sendUnacknowledged, [.fin, .ack]) }
            return
        }
        // Nothing but what was sent before, and nothing beyond a window that has shrunk since, but for the byte of a probe: the peer would not take it.
        let sent = min(c.pointee.sendByteCount, c.pointee.flightSize)
        let length = boundedLength(head, 0, min(sent, c.pointee.sendSegmentSize, max(c.pointee.sendWindow, 1)))
        let includesFinish =
            c.pointee.flags.contains(.finSent) && length == c.pointee.sendByteCount && !DeliberateBug.isPresent(.finishNotRetransmitted)
        var flags: TCPFlags = .ack
        if length == c.pointee.sendByteCount { flags.insert(.psh) }
        if includesFinish { flags.insert(.fin) }
        _ = sendData(c, c.pointee.sendUnacknowledged, flags, head, offset: 0, byteCount: length)
        c.pointee.lastSendTime = state.pointee.now
    }

    /// How many of the next `byteCount` bytes, from `offset` of a segment of the queue on, are sent again together: as many as end where what was pushed
    /// ends, because that is how they went the first time; all of them if nothing ends there. O(segments of the queue that they lie in).
    @inline(never)
    private func boundedLength(_ cursor: Frame, _ offset: Int, _ byteCount: Int) -> Int {
        var end = cursor.segmentByteCount &- offset
        guard end < byteCount else { return byteCount }
        var segment = cursor
        while let next = segment.nextSegment, end &+ next.segmentByteCount <= byteCount {
            end &+= next.segmentByteCount
            segment = next
        }
        return end
    }

    /// Everything from the first unacknowledged byte on is sent again as the windows allow.
    func goBack(_ c: ConnectionPointer) {
        // What is sent again this way has no records.
        c.pointee.recovery.state.subtract(.isRepairing)
        releaseRecords(c)
        c.pointee.sendNext = c.pointee.sendUnacknowledged
        if DeliberateBug.isPresent(.cursorStaysBehind) { return }
        c.pointee.sendCursor = c.pointee.sendHead
        c.pointee.sendCursorOffset = 0
        stopTiming(c)
    }

    /// No segment is timed any more; with timestamps the next acknowledgement gives a sample.
    func stopTiming(_ c: ConnectionPointer) {
        c.pointee.flags.remove(.timing)
        c.pointee.timedSequence = c.pointee.sendUnacknowledged
    }
}
