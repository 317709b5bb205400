import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// What a listener has beside a connection's record: its connections that are not accepted yet.
struct ListenerQueues: SlabElement {
    var acceptQueue = SlotQueue()
    var halfOpen = SlotQueue()
    var acceptCount: UInt32 = 0
    var halfOpenCount: UInt32 = 0
    var backlog: UInt32 = 0
    var nextFree: UInt32 = 0
    /// The largest window that a cookie has promised of which the acknowledgement may still come, and until when it may.
    var cookieWindow: UInt32 = 0
    var cookiesValidUntil: UInt64 = 0

    init() {}
}

/// Passive opens: a listener's half-open connections, and those that wait to be accepted.
extension NetworkStack {
    /// Has a bound socket take connections (OPEN, passive).
    /// - Parameter backlog: connections that may wait to be accepted; those that were accepted do not count.
    /// - Returns: `EINVAL` for a socket that is or was connected, `EDESTADDRREQ` for one without a port, `EADDRINUSE` when another one listens there.
    //= RFC 9293 section 3.9.1.1
    //# A passive OPEN call either creates a new connection record in the LISTEN state, or it returns an error; it MUST NOT affect any previously created
    //# connection record (MUST-41).
    public func listen(_ connection: UInt32, backlog: Int) -> Int32 {
        let c = state.pointee.connections[connection]
        guard c.pointee.state == .closed || c.pointee.state == .listen, c.pointee.error == 0, !c.pointee.flags.contains(.finReceived) else { return EINVAL }
        guard c.pointee.flags.contains(.isBound) else { return EDESTADDRREQ }
        // There are as many as connections.
        if c.pointee.listenerQueues == 0 { c.pointee.listenerQueues = state.pointee.listenerQueues.take() }
        queues(c).pointee.backlog = UInt32(min(max(backlog, 1), Int(Int32.max)))
        c.pointee.state = .listen
        return 0
    }

    /// The next established connection of a listener, which `owner` owns from now on; 0 for none. O(1).
    public func accept(_ connection: UInt32, owner: UInt32) -> UInt32 {
        let listener = state.pointee.connections[connection]
        let index = queues(listener).pointee.acceptQueue.first
        guard index != 0 else { return 0 }
        let c = state.pointee.connections[index]
        leaveListener(c)
        c.pointee.owner = owner
        c.pointee.flags.insert(.accepted)
        state.pointee.statistics.tcp.connectionsAccepted += 1
        if !c.pointee.events.isEmpty { raise(c, c.pointee.events) }
        return index
    }

    public func hasAcceptable(_ connection: UInt32) -> Bool {
        queues(state.pointee.connections[connection]).pointee.acceptQueue.first != 0
    }

    /// A SYN for a listener (RFC 9293, section 3.10.7.2).
    /// - Parameter earliest: where the new sequence numbers may begin at the earliest, after a connection in TIME_WAIT.
    /// - Returns: why it is dropped; nil when a connection was made.
    func openPassively(
        _ listener: ConnectionPointer, _ header: TCPSegmentHeader, _ source: IPAddress, _ destination: IPAddress,
        earliest: SequenceNumber? = nil
    ) -> DropReason? {
        guard hasRoomToAccept(listener) else { return .backlogOverflow }
        let limits = state.pointee.configuration.limits
        let isFloodedBySource = Int(state.pointee.halfOpenSources[source].pointee) >= limits.maximumHalfOpenPerSource
        let isFlooded = isFloodedBySource || Int(queues(listener).pointee.halfOpenCount) >= limits.maximumHalfOpen
        // A cookie cannot choose where its sequence numbers begin.
        if isFlooded && (!state.pointee.configuration.tcp.sendsCookies || earliest != nil) {
            return isFloodedBySource ? .halfOpenSourceLimit : .backlogOverflow
        }
        guard let c = makeChild(of: listener, header, source, destination) else { return .connectionLimit }
        //= RFC 9293 section 3.10.7.2
        //# Third, check for a SYN: Set RCV.NXT to SEG.SEQ+1, IRS is set to SEG.SEQ. ISS should be selected and a SYN segment sent of the form:
        //# <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK>. The connection state should be changed to SYN-RECEIVED.
        var sequence = chooseInitialSequence(c)
        if let earliest, sequence.since(earliest) < 0 { sequence = earliest }
        if isFlooded {
            sendCookie(c, header, for: listener)
            return nil
        }
        takeSynchronize(c, header)
        beginSending(c, sequence)
        enterSynReceived(c, listener)
        sendSynchronize(c, acknowledges: true)
        return nil
    }

    /// A connection of a listener, with what is set on that, and nothing else; nil at the limit.
    func makeChild(of listener: ConnectionPointer, _ header: TCPSegmentHeader, _ source: IPAddress, _ destination: IPAddress) -> ConnectionPointer? {
        let index = makeConnection(owner: 0)
        guard index != 0 else { return nil }
        let c = state.pointee.connections[index]
        c.pointee.remoteAddress = source
        c.pointee.localAddress = destination
        c.pointee.receiveSegmentSize = UInt16(segmentSize(with: source))
        c.pointee.ports = UInt32(header.sourcePort) << 16 | UInt32(header.destinationPort)
        // Options that were set on the listener hold for its connections.
        c.pointee.flags.formUnion(listener.pointee.flags.intersection([.keepAlive, .fixedReceiveBuffer, .fixedSendBuffer, .userTimeout]))
        if listener.pointee.flags.contains(.noDelay) { c.pointee.flags.insert(.noDelay) } else { c.pointee.flags.remove(.noDelay) }
        c.pointee.receiveLimit = listener.pointee.receiveLimit
        c.pointee.sendLimit = listener.pointee.sendLimit
        if let settings = listener.pointee.settings { lendSettings(c).pointee.inherit(settings.pointee) }
        c.pointee.packetOptions = listener.pointee.packetOptions
        c.pointee.congestion = CongestionControl(listener.pointee.congestion.algorithm)
        setMaximumPacingRate(index, maximumPacingRate(listener.pointee.index))
        c.pointee.flags.insert(.passive)
        return c
    }

    /// Both SYNs are known, ours is sent, or is about to be.
    func enterSynReceived(_ c: ConnectionPointer, _ listener: ConnectionPointer) {
        c.pointee.state = .synReceived
        state.pointee.flows.insert(c)
        c.pointee.flags.insert(.inFlowTable)
        enterHalfOpen(c, listener)
        setRetransmission(c, after: c.pointee.roundTrip.timeout)
    }

    /// The handshake's last acknowledgement.
    /// - Returns: false when the listener has no room: the acknowledgement is as good as lost, and our SYN and ACK is sent again.
    func completeHandshake(_ c: ConnectionPointer, _ header: TCPSegmentHeader) -> Bool {
        if c.pointee.flags.contains(.passive) {
            let listener = state.pointee.connections[c.pointee.listener]
            guard hasRoomToAccept(listener) else {
                countUnsent(.backlogOverflow)
                return false
            }
        }
        measureHandshake(c, header)
        c.pointee.sendUnacknowledged = c.pointee.initialSendSequence.advanced(by: 1)
        c.pointee.retransmitDeadline = .max
        establish(c, header)
        if c.pointee.flags.contains(.passive) {
            let listener = state.pointee.connections[c.pointee.listener]
            leaveListener(c)
            enterAcceptQueue(c, listener)
            raise(listener, .acceptable)
        } else {
            raise(c, .connected)
        }
        return true
    }

    /// In SYN_RECEIVED: a repeated SYN, whose answer was lost, or the SYN and ACK of a simultaneous open.
    /// - Returns: whether the frame was dealt with.
    func repeatsHandshake(_ c: ConnectionPointer, _ frame: Frame, _ header: inout TCPSegmentHeader) -> Bool {
        guard header.flags.contains(.syn), !header.flags.contains(.rst), header.sequence == c.pointee.initialReceiveSequence else { return false }
        takeCongestionOffer(c, header.flags)
        if header.flags.contains(.ack) && !c.pointee.flags.contains(.passive) {
            // RFC 9293, figure 8: the peer's SYN is known, its acknowledgement is news.
            header.becomeUnsynchronized(windowShift: c.pointee.sendWindowShift)
            return false
        }
        state.pointee.statistics.tcp.retransmittedSegments += 1
        c.pointee.flags.remove(.timing)
        sendSynchronize(c, acknowledges: true)
        drop(frame, .duplicateData)
        return true
    }

    // MARK: A listener's children

    /// What a listener has besides; empty for any other socket.
    func queues(_ listener: ConnectionPointer) -> UnsafeMutablePointer<ListenerQueues> { state.pointee.listenerQueues[listener.pointee.listenerQueues] }

    /// Whether one more connection may wait to be accepted.
    func hasRoomToAccept(_ listener: ConnectionPointer) -> Bool { queues(listener).pointee.acceptCount < queues(listener).pointee.backlog }

    private func enterHalfOpen(_ c: ConnectionPointer, _ listener: ConnectionPointer) {
        c.pointee.listener = listener.pointee.index
        append(c, to: &queues(listener).pointee.halfOpen)
        queues(listener).pointee.halfOpenCount += 1
        state.pointee.halfOpenSources[c.pointee.remoteAddress].pointee += 1
    }

    private func enterAcceptQueue(_ c: ConnectionPointer, _ listener: ConnectionPointer) {
        c.pointee.listener = listener.pointee.index
        c.pointee.flags.insert(.inAcceptQueue)
        append(c, to: &queues(listener).pointee.acceptQueue)
        queues(listener).pointee.acceptCount += 1
    }

    /// Takes a child out of its listener's list, if it is in one.
    func leaveListener(_ c: ConnectionPointer) {
        guard c.pointee.listener != 0 else { return }
        let listener = state.pointee.connections[c.pointee.listener]
        c.pointee.listener = 0
        if c.pointee.flags.contains(.inAcceptQueue) {
            c.pointee.flags.remove(.inAcceptQueue)
            remove(c, from: &queues(listener).pointee.acceptQueue)
            if !DeliberateBug.isPresent(.acceptedFillBacklog) { queues(listener).pointee.acceptCount -= 1 }
        } else {
            remove(c, from: &queues(listener).pointee.halfOpen)
            state.pointee.halfOpenSources[c.pointee.remoteAddress].pointee -= 1
            if !DeliberateBug.isPresent(.halfOpenNotForgotten) { queues(listener).pointee.halfOpenCount -= 1 }
        }
    }

    /// The listener ends: nobody will accept them.
    func resetChildren(_ listener: ConnectionPointer) {
        let queues = queues(listener)
        while case let index = queues.pointee.halfOpen.first != 0 ? queues.pointee.halfOpen.first : queues.pointee.acceptQueue.first, index != 0 {
            let c = state.pointee.connections[index]
            sendReset(c)
            finish(c)
        }
    }

    // MARK: Chains of siblings

    func append(_ c: ConnectionPointer, to queue: inout SlotQueue) {
        c.pointee.nextSibling = 0
        c.pointee.previousSibling = queue.last
        if queue.last != 0 { state.pointee.connections[queue.last].pointee.nextSibling = c.pointee.index } else { queue.first = c.pointee.index }
        queue.last = c.pointee.index
    }

    func remove(_ c: ConnectionPointer, from queue: inout SlotQueue) {
        let next = c.pointee.nextSibling
        let previous = c.pointee.previousSibling
        if previous != 0 { state.pointee.connections[previous].pointee.nextSibling = next } else { queue.first = next }
        if next != 0 { state.pointee.connections[next].pointee.previousSibling = previous } else { queue.last = previous }
    }
}
