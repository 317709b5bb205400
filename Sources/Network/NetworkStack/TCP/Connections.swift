import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// The life of TCP sockets, as their owner sees it (RFC 9293, section 3.10). Functions that return an `Int32` return 0 or an errno.
///
/// A socket is an index that stays the owner's until `release`, whatever becomes of the connection meanwhile.
extension NetworkStack {
    /// A socket that is not connected. `owner`, not 0, comes back with its events.
    /// - Returns: 0 at `NetworkLimits.maximumConnections`.
    public func makeConnection(owner: UInt32) -> UInt32 {
        var index = state.pointee.connections.take()
        if index == 0 && evictTimeWait() { index = state.pointee.connections.take() }
        guard index != 0 else { return 0 }
        let configuration = state.pointee.configuration.tcp
        let c = state.pointee.connections[index]
        c.pointee.index = index
        c.pointee.owner = owner
        c.pointee.receiveLimit = configuration.receiveBuffer
        c.pointee.sendLimit = configuration.sendBuffer
        c.pointee.receiveSegmentSize = UInt16(segmentSizeOfLink)
        if configuration.isNoDelay { c.pointee.flags.insert(.noDelay) }
        c.pointee.roundTrip = RoundTripEstimator(timeout: configuration.initialRetransmissionTimeout)
        c.pointee.congestion = CongestionControl(configuration.congestionControl)
        if configuration.maximumPacingRate != 0 { setMaximumPacingRate(index, configuration.maximumPacingRate) }
        //= RFC 7323 section 2.3
        //# the scale is chosen so that the largest receive buffer can be advertised
        var shift: UInt8 = 0
        while shift < 14 && configuration.maximumReceiveBuffer >> Int(shift) > 65_535 { shift += 1 }
        c.pointee.receiveWindowShift = configuration.offersWindowScale ? configuration.windowScale ?? shift : 0
        return index
    }

    /// Begins a connection (OPEN, active). `.connected` or `.failed` tells how it ended.
    /// - Returns: `EISCONN`, `EALREADY`, `EAFNOSUPPORT` for an address of another family than the bound one,
    ///   `EINVAL` for a listener, an address that nobody can have, or a loopback source on its way out, `ENETUNREACH`,
    ///   `EADDRNOTAVAIL` when no port is left, `EADDRINUSE` when the bound address has this connection already.
    public func connect(_ connection: UInt32, to remote: Endpoint) -> Int32 {
        let c = state.pointee.connections[connection]
        switch c.pointee.state {
        case .closed: if c.pointee.error != 0 || c.pointee.flags.contains(.finReceived) { return EISCONN }
        case .listen: return EINVAL
        case .synSent, .synReceived: return EALREADY
        default: return EISCONN
        }
        //= RFC 9293 section 3.9.1.1
        //# A TCP implementation MUST reject as an error a local OPEN call for an invalid remote IP address (e.g., a broadcast or multicast address) (MUST-46).
        guard remote.port != 0, !remote.address.isUnspecified, !remote.address.isMulticast, !remote.address.isLimitedBroadcast, !isBroadcastAddress(remote.address) else {
            return EINVAL
        }
        guard !c.pointee.flags.contains(.isBound) || NetworkStack.isOfFamily(remote.address, of: c.pointee.localAddress, isIPv6Only: c.pointee.isIPv6Only)
        else { return EAFNOSUPPORT }
        guard let decision = route(to: remote.address) else { return ENETUNREACH }
        //= RFC 9293 section 3.9.1.1
        //# If the parameter is omitted and the host is multihomed, the IP layer is asked to choose the local IP address before the SYN is sent (MUST-44). At
        //# all other times TCP implementations MUST use the same local address that was used in the previous segments (MUST-45).
        let isWildcard = !c.pointee.flags.contains(.isBound) || c.pointee.localAddress.isUnspecified
        let local = isWildcard ? decision.source : c.pointee.localAddress
        //= RFC 1122 section 3.2.1.3
        //# Addresses of the form { 127, <any> } MUST NOT appear outside a host.
        guard decision.isLocal || !local.isLoopback else { return EINVAL }
        var port = c.pointee.localPort
        if port == 0 {
            port = chooseEphemeralPort(local, remote)
            if port == 0 { return EADDRNOTAVAIL }
        } else if state.pointee.flows.find(remote.address, local, UInt32(remote.port) << 16 | UInt32(port), in: state.pointee.connections) != 0 {
            return EADDRINUSE
        }
        c.pointee.localAddress = local
        c.pointee.remoteAddress = remote.address
        c.pointee.receiveSegmentSize = UInt16(segmentSize(with: remote.address))
        c.pointee.ports = UInt32(remote.port) << 16 | UInt32(port)
        state.pointee.flows.insert(c)
        c.pointee.flags.insert(.inFlowTable)
        //= RFC 9293 section 3.10.1
        //# An initial send sequence number (ISS) is selected. A SYN segment of the form <SEQ=ISS><CTL=SYN> is sent. Set SND.UNA to ISS, SND.NXT to ISS+1, enter
        //# SYN-SENT state, and return.
        beginSending(c, chooseInitialSequence(c))
        c.pointee.state = .synSent
        c.pointee.receiveNext = SequenceNumber(rawValue: 0)
        c.pointee.receiveEdge = SequenceNumber(rawValue: 0)
        state.pointee.statistics.tcp.connectionsOpened += 1
        sendSynchronize(c, acknowledges: false)
        setRetransmission(c, after: c.pointee.roundTrip.timeout)
        return 0
    }

    /// The send variables of a connection that begins with its SYN.
    func beginSending(_ c: ConnectionPointer, _ sequence: SequenceNumber) {
        c.pointee.initialSendSequence = sequence
        c.pointee.sendUnacknowledged = sequence
        c.pointee.sendNext = sequence.advanced(by: 1)
        c.pointee.sendMaximum = c.pointee.sendNext
        c.pointee.recoverySequence = sequence
        c.pointee.flags.insert(.timing)
        c.pointee.timedAt = state.pointee.now
        c.pointee.unacknowledgedSince = state.pointee.now
        c.pointee.retransmissionCount = 0
    }

    /// The handshake's segment was not answered in time.
    func handshakeTimedOut(_ c: ConnectionPointer) {
        let configuration = state.pointee.configuration.tcp
        //= RFC 9293 section 3.8.3
        //# An attempt to open a TCP connection could fail with excessive retransmissions of the SYN segment. SYN retransmissions MUST be handled in the general
        //# way just described for data retransmissions (MUST-22).
        if Int(c.pointee.retransmissionCount) >= configuration.maximumSYNRetransmissions { return endByTimeout(c) }
        c.pointee.countRetransmission()
        c.pointee.flags.remove(.timing)
        c.pointee.roundTrip.backOff(configuration.timeoutBounds)
        state.pointee.statistics.tcp.retransmissionTimeouts += 1
        state.pointee.statistics.tcp.retransmittedSegments += 1
        sendSynchronize(c, acknowledges: c.pointee.state == .synReceived)
        setRetransmission(c, after: c.pointee.roundTrip.timeout)
    }

    // MARK: The end

    /// Ends one direction or both (RFC 9293, section 3.6: half-close).
    /// - Returns: `ENOTCONN`.
    public func shutdown(_ connection: UInt32, receive: Bool, send: Bool) -> Int32 {
        let c = state.pointee.connections[connection]
        guard c.pointee.state.isSynchronized || c.pointee.flags.contains(.finReceived) || c.pointee.flags.contains(.finSent) else { return ENOTCONN }
        if receive {
            c.pointee.flags.insert(.receiveShutDown)
            raise(c, .readable)
        }
        if send && DeliberateBug.isPresent(.halfCloseClosesBoth) { c.pointee.flags.insert(.receiveShutDown) }
        if send { finishSending(c) }
        return 0
    }

    private func finishSending(_ c: ConnectionPointer) {
        guard c.pointee.state.maySend, !c.pointee.flags.contains(.finQueued) else { return }
        c.pointee.flags.insert(.finQueued)
        //= RFC 9293 section 3.10.4
        //# Queue this until all preceding SENDs have been segmentized, then form a FIN segment and send it. In any case, enter FIN-WAIT-1 state.
        c.pointee.state = c.pointee.state == .established ? .finWait1 : .lastAcknowledgement
        sendPending(c)
    }

    /// The owner wants nothing more of the connection: what was pushed is still sent in order, then a FIN. `.closed` tells when it is gone; the owner
    /// then calls `release`.
    ///
    /// Unread bytes, or a linger of 0, make it a reset (RFC 9293, section 3.6.1; RFC 2525, section 2.17), and what was pushed and not sent is lost.
    public func close(_ connection: UInt32) {
        let c = state.pointee.connections[connection]
        c.pointee.flags.formUnion([.ownerClosed, .receiveShutDown])
        //= RFC 9293 section 3.6.1
        //# A host MAY implement a "half-duplex" TCP close sequence, so that an application that has called CLOSE cannot continue to read data from the
        //# connection (MAY-1). If received data is still pending, its TCP implementation SHOULD send a RST to show that data was lost (SHLD-3).
        let resets = c.pointee.linger == 0 || c.pointee.receiveByteCount > 0
        discardReceiveQueue(c)
        switch c.pointee.state {
        case .closed: finish(c)
        case .listen:
            resetChildren(c)
            finish(c)
        //= RFC 9293 section 3.10.4
        //# LISTEN, SYN-SENT STATE: delete the TCB, enter CLOSED state, and return
        case .synSent: finish(c)
        case .synReceived:
            sendReset(c)
            finish(c)
        case .established, .closeWait:
            if resets {
                sendReset(c)
                return finish(c)
            }
            finishSending(c)
            lingerIfAsked(c)
        case .finWait1, .finWait2, .closing, .lastAcknowledgement:
            // The program had ended its own direction before.
            if resets {
                sendReset(c)
                return finish(c)
            }
            if c.pointee.state == .finWait2 { limitFinWait2(c) } else { lingerIfAsked(c) }
        case .timeWait: break
        }
    }

    private func lingerIfAsked(_ c: ConnectionPointer) {
        guard c.pointee.linger > 0, c.pointee.state != .closed else { return }
        lendExceptionalState(c).pointee.lifetimeDeadline = state.pointee.now &+ UInt64(c.pointee.linger) * 1_000_000_000
        schedule(c, c.pointee.lifetimeDeadline)
    }

    func limitFinWait2(_ c: ConnectionPointer) {
        lendExceptionalState(c).pointee.lifetimeDeadline = state.pointee.now &+ state.pointee.configuration.tcp.finWait2Timeout
        schedule(c, c.pointee.lifetimeDeadline)
    }

    /// TIME_WAIT, FIN_WAIT_2 or a linger is over.
    func endLifetime(_ c: ConnectionPointer) {
        //= RFC 9293 section 3.10.8
        //# TIME-WAIT TIMEOUT: If the time-wait timeout expires on a connection, delete the TCB, enter the CLOSED state, and return.
        c.pointee.lifetimeDeadline = .max
        if c.pointee.state != .timeWait && c.pointee.state != .finWait2 { sendReset(c) }
        finish(c)
    }

    /// Ends a connection at once with a reset, whatever is in flight (ABORT: RFC 9293, section 3.10.5).
    public func abort(_ connection: UInt32) {
        let c = state.pointee.connections[connection]
        //= RFC 9293 section 3.10.5
        //# SYN-RECEIVED, ESTABLISHED, FIN-WAIT-1, FIN-WAIT-2, CLOSE-WAIT STATE: Send a reset segment: <SEQ=SND.NXT><CTL=RST>. All queued SENDs and RECEIVEs
        //# should be given "connection reset" notification.
        if c.pointee.state.isSynchronized && c.pointee.state != .timeWait {
            sendReset(c)
        } else if c.pointee.state != .timeWait {
            return close(connection)
        }
        //= RFC 9293 section 3.10.5
        //# CLOSING, LAST-ACK, TIME-WAIT STATES: Respond with "ok" and delete the TCB; enter CLOSED state and return.
        c.pointee.flags.formUnion([.ownerClosed, .receiveShutDown])
        discardReceiveQueue(c)
        finish(c)
    }

    /// The connection is over without an error that anyone has to know of.
    func finish(_ c: ConnectionPointer) {
        terminate(c)
        if !DeliberateBug.isPresent(.closedLost) { raise(c, .closed) }
        releaseIfUnused(c)
    }

    /// The connection has failed. What was received before can still be taken.
    func fail(_ c: ConnectionPointer, errno: Int32) {
        if errno == ETIMEDOUT { state.pointee.statistics.tcp.connectionsTimedOut += 1 }
        state.pointee.statistics.tcp.connectionsFailed += 1
        c.pointee.error = errno
        terminate(c)
        raise(c, [.failed, .closed])
        releaseIfUnused(c)
    }

    func timeoutError(_ c: ConnectionPointer) -> Int32 {
        c.pointee.softError != 0 ? c.pointee.softError : ETIMEDOUT
    }

    /// Takes the connection out of everything that could still find it.
    private func terminate(_ c: ConnectionPointer) {
        if c.pointee.state == .timeWait { leaveTimeWait(c) }
        leaveListener(c)
        if c.pointee.flags.contains(.inFlowTable) {
            state.pointee.flows.remove(c, in: state.pointee.connections)
            c.pointee.flags.remove(.inFlowTable)
        }
        releasePort(c)
        cancelTimers(c)
        if !(DeliberateBug.isPresent(.sendQueueLeaked) && c.pointee.error != 0) { discardSendQueue(c) }
        c.pointee.reassembly.discard()
        if !DeliberateBug.isPresent(.recordsLeaked) { releaseRecords(c) }
        giveBackEverything(c)
        c.pointee.state = .closed
        if c.pointee.owner == 0 || c.pointee.flags.contains(.ownerClosed) { discardReceiveQueue(c) }
    }

    /// The owner lets go of the index. A connection that is not over goes on by itself.
    public func release(_ connection: UInt32) {
        let c = state.pointee.connections[connection]
        c.pointee.owner = 0
        discardReceiveQueue(c)
        releaseIfUnused(c)
    }

    /// Frees the slot when nobody holds it.
    func releaseIfUnused(_ c: ConnectionPointer) {
        guard c.pointee.state == .closed, c.pointee.owner == 0, !c.pointee.flags.contains(.hasEvent), !c.pointee.flags.contains(.awaitingOutput) else { return }
        discardReceiveQueue(c)
        if DeliberateBug.isPresent(.portNotReleased) && c.pointee.flags.contains(.portReserved) { return }
        freeConnection(c)
    }

    func endTCP() {
        for index in 1..<state.pointee.connections.carvedCount {
            let c = state.pointee.connections[index]
            discardSendQueue(c)
            discardReceiveQueue(c)
            c.pointee.reassembly.discard()
        }
    }

    // MARK: Questions

    //= RFC 9293 section 3.10.6
    //# Return state = LISTEN, SYN-SENT, ... and the TCB pointer.
    public func connectionState(_ connection: UInt32) -> ConnectionState { state.pointee.connections[connection].pointee.state }

    /// Why the connection failed; 0 if it did not.
    public func connectionError(_ connection: UInt32) -> Int32 { state.pointee.connections[connection].pointee.error }

    public func connectionLocal(_ connection: UInt32) -> Endpoint { state.pointee.connections[connection].pointee.local }

    public func connectionRemote(_ connection: UInt32) -> Endpoint { state.pointee.connections[connection].pointee.remote }

    /// Bytes pushed and not acknowledged.
    public func unacknowledgedByteCount(_ connection: UInt32) -> Int { state.pointee.connections[connection].pointee.sendByteCount }
}
