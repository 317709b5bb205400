import DatapathMemory
import EthernetDevice
import WireFormats

/// Half-open connections that the peer keeps for us (RFC 4987, section 3.6): when a listener has as many as it may, the answer to a further SYN carries
/// in its sequence number, and in its timestamp, all that the handshake's last acknowledgement needs to make the connection.
///
/// The sequence number: 4 bits of time, whether timestamps are agreed on, 3 bits of maximum segment size, 24 bits that nobody without the secret can
/// make. The timestamp's last 6 bits: the peer's window scale (15 for none) and whether it permits SACK. Without timestamps a connection has neither, and
/// never explicit congestion notification.
//= RFC 4987 section 3.6
//# SYN cookies go further and allocate no state at all for connections in SYN-RECEIVED. Instead, they encode most of the state (and all of the strictly
//# required) state that they would normally keep into the sequence number transmitted on the SYN-ACK.
extension NetworkStack {
    /// The segment sizes that a cookie can name; a peer gets the largest one that is not above its own.
    private static let cookieSegmentSizes: InlineArray<8, UInt16> = [64, 536, 1_220, 1_300, 1_400, 1_440, 1_460, 8_960]
    /// Of the timestamp.
    private static let cookieOptionMask: UInt32 = 0x3f
    private static let noWindowScale: UInt32 = 15
    /// Nanoseconds are shifted by this to the cookie's time: 69 s.
    private static let cookieTickShift: UInt64 = 36

    /// Answers a SYN with a cookie. The connection was made for that, and its slot is free afterwards.
    func sendCookie(_ c: ConnectionPointer, _ header: TCPSegmentHeader, for listener: ConnectionPointer) {
        var sizeIndex: UInt32 = 0
        let offered = max(header.maximumSegmentSize, header.maximumSegmentSize == 0 ? 536 : 64)
        while sizeIndex < 7 && NetworkStack.cookieSegmentSizes[Int(sizeIndex + 1)] <= offered { sizeIndex += 1 }
        // A mark that nobody would echo must not come instead of a loss (RFC 3168, section 6.1.1): no cookie holds that it was agreed on.
        var offer = header
        offer.flags.subtract([.ece, .cwr])
        takeSynchronize(c, offer)
        let tick = UInt32(truncatingIfNeeded: state.pointee.now &>> NetworkStack.cookieTickShift) & 15
        let upper = tick &<< 4 | (c.pointee.flags.contains(.timestamps) ? 8 : 0) | sizeIndex
        beginSending(c, SequenceNumber(rawValue: cookie(c, header.sequence, upper)))
        if c.pointee.flags.contains(.timestamps) {
            let options =
                (c.pointee.flags.contains(.windowScaling) ? UInt32(c.pointee.sendWindowShift) : NetworkStack.noWindowScale)
                | (header.isSACKPermitted ? 0x10 : 0)
            let value = timestampValue(c)
            var marked = value & ~NetworkStack.cookieOptionMask | options
            // Never ahead of what the connection will send.
            if marked > value { marked &-= NetworkStack.cookieOptionMask + 1 }
            c.pointee.timestampOffset &+= marked &- value
        } else {
            c.pointee.flags.remove(.windowScaling)
            c.pointee.selective.isPermitted = false
        }
        c.pointee.state = .synReceived
        sendSynchronize(c, acknowledges: true)
        notePromisedWindow(listener, synchronizedWindow(c))
        c.pointee.state = .closed
        freeConnection(c)
        state.pointee.statistics.tcp.cookiesSent += 1
        state.pointee.cookiesValidUntil = state.pointee.now &+ 2 &<< NetworkStack.cookieTickShift
    }

    /// The window of a SYN, which is never scaled.
    private func synchronizedWindow(_ c: ConnectionPointer) -> UInt32 { UInt32(min(c.pointee.receiveLimit, 65_535)) }

    /// A cookie holds no window. So the listener remembers the largest one, should its buffer be made smaller before the acknowledgement comes.
    //= RFC 9293 section 3.8.6
    //# A TCP receiver SHOULD NOT shrink the window, i.e., move the right window edge to the left (SHLD-14).
    private func notePromisedWindow(_ listener: ConnectionPointer, _ window: UInt32) {
        let queues = queues(listener)
        queues.pointee.cookieWindow = max(window, promisedWindow(queues))
        queues.pointee.cookiesValidUntil = state.pointee.now &+ 2 &<< NetworkStack.cookieTickShift
    }

    /// The largest window that a listener's cookies have promised; 0 for none that is still valid.
    private func promisedWindow(_ queues: UnsafeMutablePointer<ListenerQueues>) -> UInt32 {
        state.pointee.now < queues.pointee.cookiesValidUntil ? queues.pointee.cookieWindow : 0
    }

    /// What becomes of an acknowledgement that may bring a cookie back.
    enum CookieOutcome {
        case accepted(ConnectionPointer)
        /// It does, and the listener has no room: the peer sends again.
        case refused
        case noCookie
    }

    /// Makes the connection of a handshake's last acknowledgement that carries a cookie back.
    func acceptCookie(_ listener: ConnectionPointer, _ header: TCPSegmentHeader, _ source: IPAddress, _ destination: IPAddress) -> CookieOutcome {
        guard state.pointee.now < state.pointee.cookiesValidUntil, header.flags.isDisjoint(with: [.syn, .rst]), header.flags.contains(.ack) else {
            return .noCookie
        }
        // Without a place for it nobody can tell whether it is one.
        guard let c = makeChild(of: listener, header, source, destination) else { return refuseCookie() }
        let sequence = header.acknowledgement.advanced(by: -1)
        _ = chooseInitialSequence(c)
        var synchronize = header
        synchronize.sequence = header.sequence.advanced(by: -1)
        let upper = sequence.rawValue &>> 24
        let age = UInt32(truncatingIfNeeded: state.pointee.now &>> NetworkStack.cookieTickShift) &- upper &>> 4
        let isValid =
            age & 15 <= 1 && (upper & 8 != 0) == header.hasTimestamps && mayEchoCookie(c, header)
            && cookie(c, synchronize.sequence, upper) == sequence.rawValue
        guard isValid, hasRoomToAccept(listener) else {
            freeConnection(c)
            if isValid { return refuseCookie() }
            // What follows a segment that was refused brings no cookie, and a reset would end what the peer takes for a connection.
            return state.pointee.now < state.pointee.cookiesRefusedUntil ? .refused : .noCookie
        }
        synchronize.flags = .syn
        synchronize.maximumSegmentSize = NetworkStack.cookieSegmentSizes[DeliberateBug.isPresent(.cookieSegmentSizeForgotten) ? 7 : Int(upper & 7)]
        let options = header.timestampEchoReply & NetworkStack.cookieOptionMask
        let scale = options & 15
        synchronize.windowScale = header.hasTimestamps && scale != NetworkStack.noWindowScale ? UInt8(scale) : 0xff
        synchronize.isSACKPermitted = header.hasTimestamps && options & 0x10 != 0
        takeSynchronize(c, synchronize)
        beginSending(c, sequence)
        // The echoed time is only near to when our SYN was sent: it gives no round trip.
        c.pointee.flags.remove(.timing)
        c.pointee.lastSendTime = state.pointee.now
        // What our SYN has promised and acknowledged.
        c.pointee.receiveEdge = c.pointee.receiveNext.advanced(by: Int(max(synchronizedWindow(c), promisedWindow(queues(listener)))))
        noteAcknowledgementSent(c)
        enterSynReceived(c, listener)
        state.pointee.statistics.tcp.cookiesAccepted += 1
        return .accepted(c)
    }

    /// Whether the segment echoes a time at which a cookie that is still valid may have been sent. What the peer's own timestamps have to be compared with
    /// nobody has kept, so that this is what tells an old segment.
    //= RFC 7323 section 3.2
    //# it echoes a timestamp value that was sent by the remote TCP in the TSval field of a Timestamps option
    private func mayEchoCookie(_ c: ConnectionPointer, _ header: TCPSegmentHeader) -> Bool {
        // The clock of timestamps ticks every 2^20 ns; a cookie's is moved back by its options.
        !header.hasTimestamps || timestampValue(c) &- header.timestampEchoReply <= 2 &<< (NetworkStack.cookieTickShift &- 20) &+ NetworkStack.cookieOptionMask &+ 1
    }

    private func refuseCookie() -> CookieOutcome {
        state.pointee.cookiesRefusedUntil = state.pointee.cookiesValidUntil
        return .refused
    }

    /// In SYN_RECEIVED: an acknowledgement of a cookie that was sent for an earlier copy of the SYN, which the peer has taken.
    /// - Returns: whether the frame was dealt with.
    func bringsEarlierCookie(_ c: ConnectionPointer, _ frame: Frame, _ header: inout TCPSegmentHeader) -> Bool {
        guard c.pointee.flags.contains(.passive), header.flags.contains(.ack), header.acknowledgement != c.pointee.initialSendSequence.advanced(by: 1),
            state.pointee.now < state.pointee.cookiesValidUntil
        else { return false }
        switch acceptCookie(state.pointee.connections[c.pointee.listener], header, c.pointee.remoteAddress, c.pointee.localAddress) {
        case .noCookie: return false
        case .refused: drop(frame, .backlogOverflow)
        case .accepted(let child):
            // The flow table has both for a moment.
            finish(c)
            segmentArrives(child, frame, &header)
        }
        return true
    }

    /// - Parameter upper: the eight bits of time and segment size.
    private func cookie(_ c: ConnectionPointer, _ peerSequence: SequenceNumber, _ upper: UInt32) -> UInt32 {
        // The same secret as of initial sequence numbers, of other words.
        var hash = SipHash(state.pointee.sequenceSecret)
        hash.combine(flowHash(c))
        hash.combine(UInt64(peerSequence.rawValue) &<< 8 | UInt64(upper))
        return upper &<< 24 | UInt32(truncatingIfNeeded: hash.finish()) & 0xff_ffff
    }
}
