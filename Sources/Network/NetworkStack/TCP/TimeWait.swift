import EthernetDevice
import WireFormats

/// TIME_WAIT: the wait for what may still be on its way (RFC 9293, section 3.6; RFC 6191).
extension NetworkStack {
    func enterTimeWait(_ c: ConnectionPointer) {
        if DeliberateBug.isPresent(.timeWaitSkipped) { return finish(c) }
        if state.pointee.timeWaitCount >= state.pointee.configuration.limits.maximumTimeWait { _ = evictTimeWait() }
        c.pointee.retransmitDeadline = .max
        c.pointee.acknowledgeDeadline = .max
        c.pointee.keepAliveDeadline = .max
        c.pointee.state = .timeWait
        state.pointee.statistics.tcp.timeWaitEntered += 1
        // It sends nothing new.
        giveBackCongestionHistory(c)
        append(c, to: &state.pointee.timeWait)
        state.pointee.timeWaitCount += 1
        restartTimeWait(c)
    }

    private func restartTimeWait(_ c: ConnectionPointer) {
        //= RFC 9293 section 3.6.1
        //# When a connection is closed actively, it MUST linger in the TIME-WAIT state for a time 2xMSL (Maximum Segment Lifetime) (MUST-13).
        lendExceptionalState(c).pointee.lifetimeDeadline = state.pointee.now &+ 2 * state.pointee.configuration.tcp.maximumSegmentLifetime
        schedule(c, c.pointee.lifetimeDeadline)
    }

    func leaveTimeWait(_ c: ConnectionPointer) {
        remove(c, from: &state.pointee.timeWait)
        state.pointee.timeWaitCount -= 1
    }

    /// Ends the connection that is longest in TIME_WAIT, to make room.
    func evictTimeWait() -> Bool {
        guard state.pointee.timeWait.first != 0 else { return false }
        let c = state.pointee.connections[state.pointee.timeWait.first]
        state.pointee.statistics.tcp.timeWaitEvicted += 1
        finish(c)
        return c.pointee.owner == 0
    }

    /// - Returns: whether the frame was dealt with.
    func segmentArrivesInTimeWait(_ c: ConnectionPointer, _ frame: Frame, _ header: TCPSegmentHeader) -> Bool {
        if header.flags.contains(.syn), !header.flags.contains(.ack), !header.flags.contains(.rst), !header.flags.contains(.fin) {
            return reopens(c, frame, header)
        }
        if header.flags.contains(.fin), !header.flags.contains(.rst), !header.flags.contains(.syn),
            header.sequence.advanced(by: header.segmentLength) == c.pointee.receiveNext
        {
            //= RFC 9293 section 3.10.7.4
            //# The only thing that can arrive in this state is a retransmission of the remote FIN. Acknowledge it, and restart the 2 MSL timeout.
            restartTimeWait(c)
            sendLimitedAcknowledgement(c, about: header)
            drop(frame, .duplicateData)
            return true
        }
        return false
    }

    /// A SYN that can only be of a new connection between the same addresses.
    private func reopens(_ c: ConnectionPointer, _ frame: Frame, _ header: TCPSegmentHeader) -> Bool {
        //= RFC 6191 section 2
        //# If the previous incarnation used timestamps and the SYN's is larger than the last one seen, or if the SYN's sequence number is larger than
        //# the last sequence number seen, the connection request should be accepted.
        //= RFC 9293 section 3.6.1
        //# it MAY accept a new SYN from the remote TCP endpoint to reopen the connection directly from TIME-WAIT state (MAY-2). The algorithm of RFC 6191 for
        //# reducing TIME-WAIT SHOULD be implemented (SHLD-4).
        let age = Int32(bitPattern: header.timestampValue &- c.pointee.recentTimestamp)
        let hasTimestamps = header.hasTimestamps && state.pointee.configuration.tcp.offersTimestamps
        let isNewer: Bool
        if c.pointee.flags.contains(.timestamps) && hasTimestamps && age != 0 {
            isNewer = age > 0
        } else if !c.pointee.flags.contains(.timestamps) && hasTimestamps {
            // PAWS guards the new connection against what is left of the old one.
            isNewer = true
        } else {
            isNewer = header.sequence.since(c.pointee.receiveNext) > 0
        }
        let listener = findListener(c.pointee.localAddress, c.pointee.localPort, c.pointee.remoteAddress, c.pointee.remotePort)
        guard isNewer || DeliberateBug.isPresent(.oldSynchronizeReopens), listener != 0 else { return false }
        let (source, destination) = (c.pointee.remoteAddress, c.pointee.localAddress)
        //= RFC 9293 section 3.6.1
        //# assigns its initial sequence number for the new connection to be larger than the largest sequence number it used on the previous connection
        let earliest = c.pointee.sendMaximum.advanced(by: 65_537)
        finish(c)
        state.pointee.statistics.tcp.timeWaitReused += 1
        if let reason = openPassively(state.pointee.connections[listener], header, source, destination, earliest: earliest) {
            drop(frame, reason)
        } else {
            frame.releaseArray()
        }
        return true
    }
}
