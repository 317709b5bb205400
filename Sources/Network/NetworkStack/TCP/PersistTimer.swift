import WireFormats

/// Probing a window that is closed, or too small to be worth a segment (RFC 9293, section 3.8.6.1).
extension NetworkStack {
    func beginPersisting(_ c: ConnectionPointer) {
        guard !c.pointee.flags.contains(.persisting) else { return }
        c.pointee.flags.insert(.persisting)
        c.pointee.retransmissionCount = 0
        c.pointee.unacknowledgedSince = state.pointee.now
        //= RFC 9293 section 3.8.6.1
        //# The transmitting host SHOULD send the first zero-window probe when a zero window has existed for the retransmission timeout period (SHLD-29).
        //= RFC 9293 section 3.8.6
        //# the sender SHOULD NOT time out the connection if data beyond the right window edge is not acknowledged (SHLD-17): what was sent again counts anew
        if DeliberateBug.isPresent(.zeroWindowNotProbed) { return }
        setRetransmission(c, after: c.pointee.sendWindow == 0 ? c.pointee.roundTrip.timeout : overrideTimeout(c))
    }

    /// How long a window that is open, but too small, is waited for to grow.
    //= RFC 9293 section 3.8.6.2.1
    //# (4) or if the override timeout occurs. The override timeout should be in the range 0.1 - 1.0 seconds.
    private func overrideTimeout(_ c: ConnectionPointer) -> UInt64 {
        min(max(c.pointee.roundTrip.timeout, 100_000_000), 1_000_000_000)
    }

    /// The window is open: the timer is an ordinary one again, unless it is too small.
    /// - Parameter windowBefore: what the window was until now.
    func endPersisting(_ c: ConnectionPointer, windowBefore: Int) {
        let length = min(c.pointee.sendByteCount, c.pointee.sendWindow)
        if length < c.pointee.sendSegmentSize && length < c.pointee.sendByteCount && !fillsHalfOfLargestWindow(c, length) {
            // The override timeout goes on: a peer whose segments come all the time, each with a small window, must not put it off for ever.
            if windowBefore == 0 || c.pointee.sendMaximum == c.pointee.sendUnacknowledged {
                c.pointee.roundTrip.restoreTimeout(state.pointee.configuration.tcp.timeoutBounds)
                c.pointee.retransmitDeadline = min(c.pointee.retransmitDeadline, state.pointee.now &+ overrideTimeout(c))
                schedule(c, c.pointee.retransmitDeadline)
            }
            return
        }
        c.pointee.flags.remove(.persisting)
        c.pointee.retransmissionCount = 0
        c.pointee.retransmitDeadline = .max
        c.pointee.roundTrip.restoreTimeout(state.pointee.configuration.tcp.timeoutBounds)
        // The probe's byte may have been refused: what is sent now begins with it.
        goBack(c)
        if c.pointee.sendMaximum != c.pointee.sendUnacknowledged { armRetransmission(c) }
    }

    //= RFC 9293 section 3.8.6.1
    //# Probing of zero (offered) windows MUST be supported (MUST-36).
    func probeWindow(_ c: ConnectionPointer) {
        let configuration = state.pointee.configuration.tcp
        //= RFC 9293 section 3.8.6.1
        //# As long as the receiving TCP peer continues to send acknowledgments in response to the probe segments, the sending TCP endpoint MUST allow
        //# the connection to stay open (MUST-37).
        // A user timeout counts from the first probe without an answer: the next one may come later than it lasts.
        if c.pointee.retransmissionCount == 0 { c.pointee.unacknowledgedSince = state.pointee.now }
        if hasTimedOut(c, limit: configuration.maximumRetransmissions) { return endByTimeout(c) }
        c.pointee.countRetransmission()
        state.pointee.statistics.tcp.zeroWindowProbes += 1
        goBack(c)
        //= RFC 9293 section 3.8.6.1
        //# The sending TCP peer must regularly transmit at least one octet of new data (if available), or retransmit to the receiving TCP peer, even
        //# if the send window is zero
        if let head = c.pointee.sendHead {
            // A window that is only too small gets all that it takes: the override of the silly-window rule.
            let byteCount = max(1, min(min(c.pointee.sendWindow, c.pointee.sendSegmentSize), c.pointee.sendByteCount))
            if sendData(c, c.pointee.sendUnacknowledged, .ack, head, offset: 0, byteCount: byteCount) {
                let next = c.pointee.sendUnacknowledged.advanced(by: DeliberateBug.isPresent(.probeCountedTwice) ? 2 * byteCount : byteCount)
                if next.since(c.pointee.sendMaximum) > 0 { c.pointee.sendMaximum = next }
            }
        } else if c.pointee.flags.contains(.finQueued) {
            sendControl(c, c.pointee.sendUnacknowledged, [.fin, .ack])
        }
        c.pointee.lastSendTime = state.pointee.now
        //= RFC 9293 section 3.8.6.1
        //# and SHOULD increase exponentially the interval between successive probes (SHLD-30)
        c.pointee.roundTrip.backOff(configuration.timeoutBounds)
        setRetransmission(c, after: c.pointee.roundTrip.timeout)
    }
}
