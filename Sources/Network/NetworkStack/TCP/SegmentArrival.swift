import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// Segments of connections that exist, in the order of checks of RFC 9293, section 3.10.7.4, with the defences of RFC 5961.
extension NetworkStack {
    //= RFC 7323 section 4.3
    //# If SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent, then SEG.TSval is copied to TS.Recent; otherwise, it is ignored.
    @inline(__always)
    private func updateRecentTimestamp(_ c: ConnectionPointer, _ header: TCPSegmentHeader) {
        if header.sequence.since(c.pointee.lastAcknowledged) <= 0 { c.pointee.recentTimestamp = header.timestampValue }
    }

    /// Takes over a frame that was cut to the segment's payload.
    @inline(never)
    func segmentArrives(_ c: ConnectionPointer, _ frame: Frame, _ header: inout TCPSegmentHeader) {
        switch c.pointee.state {
        case .closed, .listen: return drop(frame, .noConnection)
        case .synSent: return segmentArrivesInSynSent(c, frame, &header)
        case .timeWait: if segmentArrivesInTimeWait(c, frame, header) { return }
        case .synReceived: if repeatsHandshake(c, frame, &header) || bringsEarlierCookie(c, frame, &header) { return }
        default: break
        }

        //= RFC 7323 section 3.2
        //# If a TSopt is received on a connection where TSopt was not negotiated in the initial three-way handshake, the TSopt MUST be ignored and the packet
        //# processed normally.
        // RFC 7323, section 5.3: before the sequence number is looked at.
        if c.pointee.flags.contains(.timestamps) && !header.flags.contains(.rst) {
            guard header.hasTimestamps else {
                //= RFC 7323 section 3.2
                //# If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment.
                return drop(frame, .oldTimestamp)
            }
            if Int32(bitPattern: header.timestampValue &- c.pointee.recentTimestamp) < 0,
                state.pointee.now &- c.pointee.lastReceiveTime < NetworkStack.timestampLifetime, !DeliberateBug.isPresent(.oldTimestampAccepted)
            {
                //= RFC 7323 section 5.3
                //# R1) If there is a Timestamps option in the arriving segment, SEG.TSval < TS.Recent, TS.Recent is valid, and the RST bit is not set,
                //# then treat the arriving segment as not acceptable: Send an acknowledgment in reply and drop the segment.
                state.pointee.statistics.tcp.oldTimestamps += 1
                sendLimitedAcknowledgement(c, about: header)
                return drop(frame, .oldTimestamp)
            }
        }

        // First, check sequence number.
        var byteCount = frame.arrayByteCount
        let window = c.pointee.receiveEdge.since(c.pointee.receiveNext)
        let offset = header.sequence.since(c.pointee.receiveNext)
        //= RFC 9293 section 3.5.3
        //# TCP implementations SHOULD allow a received RST segment to include data (SHLD-2).
        // A reset is judged by its sequence number alone, whatever it carries (RFC 5961, section 3.2).
        let length = header.flags.contains(.rst) ? 0 : byteCount + (header.flags.contains(.syn) ? 1 : 0) + (header.flags.contains(.fin) ? 1 : 0)
        if DeliberateBug.isPresent(.timestampTakenFromOutside) && header.hasTimestamps { c.pointee.recentTimestamp = header.timestampValue }
        guard isAcceptable(offset: offset, length: length, window: window) else {
            if DeliberateBug.isPresent(.resetOutsideWindowAccepted) && header.flags.contains(.rst) { return resetArrives(c, frame, offset: 0) }
            //= RFC 5961 section 3.2
            //# If the RST bit is set and the sequence number is outside the current receive window, silently drop the segment.
            if header.flags.contains(.rst) { return drop(frame, .outsideWindow) }
            if offset == 0 && window == 0 && header.flags.contains(.ack) && !header.flags.contains(.syn) {
                //= RFC 9293 section 3.10.7.4
                //# If the RCV.WND is zero, no segments will be acceptable, but special allowance should be made to accept valid ACKs, URGs, and RSTs.
                //= RFC 9293 section 3.4
                //# A TCP receiver MUST process the RST and URG fields of all incoming segments, even when the receive window is zero (MUST-66): a RST at
                //# RCV.NXT is acceptable, and goes on below.
                _ = checkAcknowledgement(c, header, byteCount: byteCount)
                guard c.pointee.state != .closed else { return drop(frame, .outsideWindow) }
                answerProbe(c)
                sendPending(c)
                return drop(frame, .outsideWindow)
            }
            //= RFC 9293 section 3.10.7.4
            //# If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless the RST bit is set)
            sendLimitedAcknowledgement(c, about: header)
            return drop(frame, offset < 0 ? .duplicateData : .outsideWindow)
        }
        c.pointee.lastReceiveTime = state.pointee.now
        // It is the later one, or the recent one is too old to be compared with: then the next segments are compared with this.
        if header.hasTimestamps && c.pointee.flags.contains(.timestamps) && !header.flags.contains(.rst) { updateRecentTimestamp(c, header) }

        // Second, check the RST bit.
        if header.flags.contains(.rst) { return resetArrives(c, frame, offset: offset) }

        // Fourth, check the SYN bit.
        if header.flags.contains(.syn) {
            if c.pointee.state == .synReceived && c.pointee.flags.contains(.passive) {
                //= RFC 9293 section 3.10.7.4
                //# Fourth, check the SYN bit: SYN-RECEIVED STATE: If the connection was initiated with a passive OPEN, then return this connection to the
                //# LISTEN state and return. Otherwise, handle per the directions for synchronized states.
                drop(frame, .unexpectedFlags)
                return finish(c)
            }
            //= RFC 5961 section 4.2
            //# If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK (also referred to as challenge ACK) to the remote peer.
            if DeliberateBug.isPresent(.synchronizeResets) {
                sendReset(c)
                frame.releaseArray()
                return fail(c, errno: ECONNRESET)
            }
            sendChallenge(c)
            return drop(frame, .unexpectedFlags)
        }

        // What comes before a listener has room for the connection is not received.
        let wasSynchronized = c.pointee.state.isSynchronized
        if !c.pointee.ecn.isEmpty && wasSynchronized { takeMarks(c, header, byteCount: byteCount) }

        // Fifth, check the ACK field.
        //= RFC 9293 section 3.10.7.4
        //# Fifth, check the ACK field: if the ACK bit is off, drop the segment and return.
        guard header.flags.contains(.ack) else { return drop(frame, .unexpectedFlags) }
        guard checkAcknowledgement(c, header, byteCount: byteCount) else { return drop(frame, .badAcknowledgement) }
        guard c.pointee.state != .closed else { return frame.releaseArray() }
        if !c.pointee.ecn.isEmpty && !wasSynchronized { takeMarks(c, header, byteCount: byteCount) }

        // Sixth, the URG bit: urgent data is ordinary data in its place (Specifications/exceptions). Seventh, process the segment text.
        var hasFinish = header.flags.contains(.fin)
        if byteCount > 0 && !c.pointee.state.mayReceive {
            // The peer has ended its direction: what comes behind its FIN cannot be.
            frame.truncate(to: 0)
            byteCount = 0
            hasFinish = false
        }
        if c.pointee.flags.contains(.ownerClosed) && byteCount > 0 && offset + byteCount > 0 && c.pointee.state.mayReceive {
            if isEverythingAcknowledged(c) {
                //= RFC 9293 section 3.6.1
                //# if new data is received after CLOSE is called, its TCP implementation SHOULD send a RST to show that data was lost (SHLD-3)
                sendReset(c)
                drop(frame, .dataAfterClose)
                return finish(c)
            }
        }
        if byteCount > 0 || hasFinish {
            textArrives(c, frame, header.sequence, byteCount, hasFinish: hasFinish)
        } else {
            frame.releaseArray()
            if DeliberateBug.isPresent(.acknowledgementAcknowledged) && c.pointee.state.isSynchronized { sendAcknowledgement(c) }
        }
        if c.pointee.state != .closed { sendPending(c) }
    }

    /// TS.Recent may be older than half the timestamps' range after so long a silence (RFC 7323, section 5.5).
    //= RFC 7323 section 5.5
    //# TS.Recent is invalidated when a connection is idle for more than 24 days
    private static var timestampLifetime: UInt64 { 24 * 86_400_000_000_000 }

    //= RFC 9293 section 3.4
    //# the four cases of the acceptability test for an incoming segment: length and window zero or not
    @inline(__always)
    private func isAcceptable(offset: Int, length: Int, window: Int) -> Bool {
        if DeliberateBug.isPresent(.beyondWindowAccepted) && offset >= 0 { return true }
        if length == 0 { return window == 0 ? offset == 0 : offset >= 0 && offset < window }
        if window == 0 { return false }
        return offset >= 0 && offset < window || offset + length - 1 >= 0 && offset + length - 1 < window || offset < 0 && offset + length >= window
    }

    func isEverythingAcknowledged(_ c: ConnectionPointer) -> Bool {
        c.pointee.sendByteCount == 0
    }

    /// RST in the window.
    //= RFC 5961 section 3.2
    //# If the RST bit is set and the sequence number exactly matches the next expected sequence number (RCV.NXT), then TCP MUST reset the connection.
    private func resetArrives(_ c: ConnectionPointer, _ frame: Frame, offset: Int) {
        //= RFC 5961 section 3.2
        //# If the RST bit is set and the sequence number does not exactly match the next expected sequence value, yet is within the current receive
        //# window, TCP MUST send an acknowledgment (challenge ACK).
        guard offset == 0 || DeliberateBug.isPresent(.resetAnywhereInWindowAccepted) else {
            sendChallenge(c)
            return drop(frame, .unexpectedFlags)
        }
        frame.releaseArray()
        if DeliberateBug.isPresent(.resetReleasedTwice) { frame.releaseArray() }
        state.pointee.statistics.tcp.resetsReceived += 1
        switch c.pointee.state {
        case .synReceived:
            //= RFC 9293 section 3.10.7.4
            //# If this connection was initiated with a passive OPEN, then return this connection to the LISTEN state. The user need not be informed.
            //= RFC 9293 section 3.5
            //# a TCP implementation MUST keep track of whether a connection has reached SYN-RECEIVED state as the result of a passive OPEN or an active OPEN
            //# (MUST-11)
            if c.pointee.flags.contains(.passive) { finish(c) } else { fail(c, errno: ECONNREFUSED) }
        case .closing, .lastAcknowledgement, .timeWait: finish(c)
        default:
            state.pointee.statistics.tcp.connectionsReset += 1
            //= RFC 9293 section 3.6
            //# the local application MUST be informed whether it closed normally or was aborted (MUST-12)
            fail(c, errno: ECONNRESET)
        }
    }

    /// Fifth, the ACK field.
    /// - Returns: false when the segment must be dropped.
    private func checkAcknowledgement(_ c: ConnectionPointer, _ header: TCPSegmentHeader, byteCount: Int) -> Bool {
        var acknowledged = header.acknowledgement.since(c.pointee.sendUnacknowledged)
        if DeliberateBug.isPresent(.sequenceWrapForgotten) { acknowledged = Int(header.acknowledgement.rawValue) - Int(c.pointee.sendUnacknowledged.rawValue) }
        let outstanding = c.pointee.flightSize
        let selectedBefore = c.pointee.scoreboard.selectedByteCount
        if c.pointee.state == .synReceived {
            //= RFC 9293 section 3.10.7.4
            //# If SND.UNA < SEG.ACK =< SND.NXT, then enter ESTABLISHED state; if not acceptable, form a reset segment <SEQ=SEG.ACK><CTL=RST>
            //= RFC 9293 section 3.5.2
            //# If the connection is in any non-synchronized state, and the incoming segment acknowledges something not yet sent, a reset is sent. The
            //# connection remains in the same state.
            guard acknowledged > 0 && acknowledged <= outstanding else {
                sendReset(about: header, source: c.pointee.remoteAddress, destination: c.pointee.localAddress)
                return false
            }
            guard completeHandshake(c, header) else { return false }
        } else if acknowledged > outstanding || acknowledged < -max(c.pointee.maximumSendWindow, 1) {
            //= RFC 9293 section 3.10.7.4
            //# RFC 5961, Section 5 describes a potential blind data injection attack, and mitigation that implementations MAY choose to include (MAY-12).
            //= RFC 5961 section 5.2
            //# The ACK value is considered acceptable only if it is in the range of ((SND.UNA - MAX.SND.WND) <= SEG.ACK <= SND.NXT). All incoming
            //# segments whose ACK value doesn't satisfy the above condition MUST be discarded and an ACK sent back.
            sendChallenge(c)
            return false
        } else if acknowledged > 0 {
            acknowledgeNewData(
                c, header.acknowledgement, timestampEcho: header.hasTimestamps ? header.timestampEchoReply : nil, isWhole: false)
            updateSendWindow(c, header.sequence, header.acknowledgement, header.window)
        } else {
            let before = c.pointee.sendWindow
            let hasFinish = header.flags.contains(.fin)
            updateSendWindow(c, header.sequence, header.acknowledgement, header.window)
            // Probes, and a FIN that is sent again into a closed window, are answered with duplicates: they are no loss, but a sign of life.
            if c.pointee.flags.contains(.persisting) || c.pointee.sendWindow == 0 {
                c.pointee.retransmissionCount = 0
                c.pointee.unacknowledgedSince = state.pointee.now
            } else if acknowledged == 0 && outstanding > 0 && byteCount == 0 && !hasFinish && c.pointee.sendWindow == before {
                countDuplicateAcknowledgement(c)
            }
        }
        if acknowledged > 0 && c.pointee.recovery.state.contains(.awaitsEcho) { judgeByEcho(c, header) }
        if c.pointee.selective.isPermitted && acknowledged >= 0 && (header.sackBlockCount > 0 || !c.pointee.recovery.isPlain) {
            acknowledgeSelectively(
                c, header, progress: acknowledged, alreadySelected: max(selectedBefore - c.pointee.scoreboard.selectedByteCount, 0))
        }
        if c.pointee.flags.contains(.isPaced) { updateModel(c) }
        if c.pointee.flags.contains(.finSent) && c.pointee.sendByteCount == 0 && c.pointee.sendUnacknowledged == c.pointee.sendMaximum {
            finishAcknowledged(c)
        }
        return true
    }

    /// Our FIN is acknowledged.
    //= RFC 9293 section 3.10.7.4
    //# FIN-WAIT-1: if the FIN segment is now acknowledged, then enter FIN-WAIT-2. CLOSING: enter the TIME-WAIT state. LAST-ACK: delete the TCB, enter the
    //# CLOSED state.
    private func finishAcknowledged(_ c: ConnectionPointer) {
        switch c.pointee.state {
        case .finWait1:
            c.pointee.state = .finWait2
            if c.pointee.flags.contains(.ownerClosed) { limitFinWait2(c) }
        case .closing: enterTimeWait(c)
        case .lastAcknowledgement: finish(c)
        default: break
        }
    }
}
