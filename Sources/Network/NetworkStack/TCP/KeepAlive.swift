import Glibc
import WireFormats

/// Asking a silent peer whether it is still there (RFC 9293, section 3.8.4). Off unless the program wants it.
extension NetworkStack {
    /// Something came from the peer, or the option was switched on.
    func restartKeepAlive(_ c: ConnectionPointer) {
        let settings = lendSettings(c)
        settings.pointee.keepAliveProbeCount = 0
        if DeliberateBug.isPresent(.keepAliveNotStarted) { return }
        settings.pointee.keepAliveDeadline = state.pointee.now &+ settings.pointee.keepAliveIdle
        schedule(c, settings.pointee.keepAliveDeadline)
    }

    func keepAliveTimerFired(_ c: ConnectionPointer) {
        let settings = lendSettings(c)
        let lastProbe = settings.pointee.keepAliveDeadline &- settings.pointee.keepAliveInterval
        settings.pointee.keepAliveDeadline = .max
        guard c.pointee.flags.contains(.keepAlive), c.pointee.state.isSynchronized, c.pointee.state != .timeWait else { return }
        // Also where the interval is longer than the idle time: one that answers each probe is there.
        if settings.pointee.keepAliveProbeCount > 0 && c.pointee.lastReceiveTime >= lastProbe { settings.pointee.keepAliveProbeCount = 0 }
        let silence = state.pointee.now &- c.pointee.lastReceiveTime
        if silence < settings.pointee.keepAliveIdle {
            // The peer was heard since: the deadline was not moved at each segment.
            settings.pointee.keepAliveProbeCount = 0
            settings.pointee.keepAliveDeadline = c.pointee.lastReceiveTime &+ settings.pointee.keepAliveIdle
            return
        }
        //= RFC 9293 section 3.8.4
        //# Keep-alive packets MUST only be sent when no sent data is outstanding (MUST-26): else the retransmission timer watches over the peer.
        if c.pointee.sendMaximum != c.pointee.sendUnacknowledged {
            settings.pointee.keepAliveProbeCount = 0
            settings.pointee.keepAliveDeadline = state.pointee.now &+ settings.pointee.keepAliveInterval
            return
        }
        //= RFC 9293 section 3.8.4
        //# an implementation MUST NOT interpret failure to respond to any specific probe as a dead connection (MUST-29)
        guard settings.pointee.keepAliveProbeCount < NetworkStack.keepAliveProbeLimit else { return fail(c, errno: ETIMEDOUT) }
        settings.pointee.keepAliveProbeCount += 1
        state.pointee.statistics.tcp.keepAliveProbes += 1
        //= RFC 9293 section 3.8.4
        //# An implementation SHOULD send a keep-alive segment with no data (SHLD-12).
        // An old sequence number without data: the peer has to answer (same section).
        sendControl(c, c.pointee.sendUnacknowledged.advanced(by: -1), .ack)
        settings.pointee.keepAliveDeadline = state.pointee.now &+ settings.pointee.keepAliveInterval
    }

    /// Probes without an answer after which the connection is given up.
    private static var keepAliveProbeLimit: UInt16 { 9 }
}
