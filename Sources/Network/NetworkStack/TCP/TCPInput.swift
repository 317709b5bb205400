import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// Where segments come in: checks, finds the connection, and handles the states that are not synchronized (RFC 9293, sections 3.10.7.1 to 3.10.7.3).
extension NetworkStack {
    /// Takes over a frame whose `byteCount` bytes from `transport` on are a TCP segment from `source` to `destination`.
    @inline(__always)
    func tcpInput(
        _ frame: Frame, transport: UnsafeMutableRawPointer, byteCount: Int, source: IPAddress, destination: IPAddress, pseudoHeaderSum: UInt64,
        congestionCodepoint: UInt8 = 0
    ) {
        state.pointee.statistics.tcp.segmentsReceived &+= 1
        var header = TCPSegmentHeader()
        guard TCPSegmentHeader.parse(transport, count: byteCount, into: &header) == .none, header.sourcePort != 0, header.destinationPort != 0 else {
            return drop(frame, .badSegment)
        }
        //= RFC 9293 section 3.1
        //# The checksum is mandatory: the sender MUST generate it (MUST-2), and the receiver MUST check it (MUST-3).
        if !frame.frameFlags.contains(.checksumVerified), !InternetChecksum.isValid(pseudoHeaderSum &+ InternetChecksum.sum(transport, count: byteCount)) {
            return drop(frame, .badSegmentChecksum)
        }
        if DeliberateBug.isPresent(.zeroChecksumRefused) && (transport + 16).loadUnaligned(as: UInt16.self) == 0 { return drop(frame, .badSegmentChecksum) }
        state.pointee.arrivingCodepoint = congestionCodepoint
        let ports = UInt32(header.sourcePort) &<< 16 | UInt32(header.destinationPort)
        let index = state.pointee.flows.find(source, destination, ports, in: state.pointee.connections)
        guard index != 0 else { return unmatchedSegment(frame, header, source, destination) }
        let c = state.pointee.connections[index]
        // The frame shrinks to its payload, which is what the program gets.
        frame.removeFirst((transport - frame.segmentAddress) &+ header.headerByteCount)
        segmentArrives(c, frame, &header)
    }

    /// A segment for no connection: for a listener, or for nobody.
    @inline(never)
    private func unmatchedSegment(_ frame: Frame, _ header: TCPSegmentHeader, _ source: IPAddress, _ destination: IPAddress) {
        let listener = findListener(destination, header.destinationPort, source, header.sourcePort)
        guard listener != 0 else {
            sendReset(about: header, source: source, destination: destination)
            return drop(frame, .noConnection)
        }
        //= RFC 9293 section 3.10.7.2
        //# First, check for a RST: An incoming RST segment should be ignored. Return.
        if header.flags.contains(.rst) { return drop(frame, .unexpectedFlags) }
        //= RFC 9293 section 3.10.7.2
        //# Second, check for an ACK: Any acknowledgment is bad if it arrives on a connection still in the LISTEN state. An acceptable reset segment
        //# should be formed for any arriving ACK-bearing segment. <SEQ=SEG.ACK><CTL=RST>
        if header.flags.contains(.ack) {
            switch acceptCookie(state.pointee.connections[listener], header, source, destination) {
            case .accepted(let c):
                var header = header
                frame.removeFirst(frame.segmentByteCount &- header.payloadByteCount)
                return segmentArrives(c, frame, &header)
            case .refused: return drop(frame, .backlogOverflow)
            case .noCookie: break
            }
            sendReset(about: header, source: source, destination: destination)
            return drop(frame, .noConnection)
        }
        guard header.flags.contains(.syn), !header.flags.contains(.fin) else { return drop(frame, .unexpectedFlags) }
        let refused = openPassively(state.pointee.connections[listener], header, source, destination)
        // Data that comes with a SYN is not taken: the peer sends it again.
        if let refused { drop(frame, refused) } else { frame.releaseArray() }
    }

    /// SYN-SENT (RFC 9293, section 3.10.7.3).
    func segmentArrivesInSynSent(_ c: ConnectionPointer, _ frame: Frame, _ header: inout TCPSegmentHeader) {
        let hasAcknowledgement = header.flags.contains(.ack)
        let isAcceptable = hasAcknowledgement && header.acknowledgement.since(c.pointee.sendUnacknowledged) > 0 && header.acknowledgement.since(c.pointee.sendMaximum) <= 0
        if hasAcknowledgement && !isAcceptable {
            //= RFC 9293 section 3.10.7.3
            //# If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set)
            sendReset(about: header, source: c.pointee.remoteAddress, destination: c.pointee.localAddress)
            return drop(frame, .badAcknowledgement)
        }
        if header.flags.contains(.rst) {
            //= RFC 9293 section 3.10.7.3
            //# If the ACK was acceptable, then signal to the user "error: connection reset", drop the segment, enter CLOSED state
            guard isAcceptable else { return drop(frame, .unexpectedFlags) }
            state.pointee.statistics.tcp.resetsReceived += 1
            frame.releaseArray()
            return fail(c, errno: ECONNREFUSED)
        }
        guard header.flags.contains(.syn) else { return drop(frame, .unexpectedFlags) }
        takeSynchronize(c, header)
        // What our SYN has promised.
        c.pointee.receiveEdge = c.pointee.receiveNext.advanced(by: min(c.pointee.receiveLimit, 65_535))
        if isAcceptable {
            c.pointee.sendUnacknowledged = header.acknowledgement
            measureHandshake(c, header)
            //= RFC 9293 section 3.10.7.3
            //# If SND.UNA > ISS (our SYN has been ACKed), change the connection state to ESTABLISHED, form an ACK segment <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>
            //# and send it: enter ESTABLISHED state
            establish(c, header)
            c.pointee.retransmitDeadline = .max
            raise(c, .connected)
            // Data with the SYN and ACK is processed; the acknowledgement that is owed goes either way.
            header.becomeUnsynchronized(windowShift: c.pointee.sendWindowShift)
            if frame.arrayByteCount > 0 || header.flags.contains(.fin) {
                segmentArrives(c, frame, &header)
            } else {
                frame.releaseArray()
            }
            if c.pointee.state != .closed && c.pointee.lastAcknowledged != c.pointee.receiveNext { sendAcknowledgement(c) }
        } else {
            //= RFC 9293 section 3.10.7.3
            //# Otherwise, enter SYN-RECEIVED, form a SYN,ACK segment <SEQ=ISS><ACK=RCV.NXT><CTL=SYN,ACK> and send it.
            //= RFC 9293 section 3.5
            //# A TCP implementation MUST support simultaneous open attempts (MUST-10).
            state.pointee.statistics.tcp.simultaneousOpens += 1
            c.pointee.state = .synReceived
            // Our SYN goes a second time: which of them an acknowledgement is for nobody can tell.
            c.pointee.flags.remove(.timing)
            sendSynchronize(c, acknowledges: true)
            setRetransmission(c, after: c.pointee.roundTrip.timeout)
            frame.releaseArray()
        }
    }

    /// Takes the peer's sequence space and options from its SYN.
    func takeSynchronize(_ c: ConnectionPointer, _ header: TCPSegmentHeader) {
        c.pointee.initialReceiveSequence = header.sequence
        c.pointee.receiveNext = header.sequence.advanced(by: 1)
        c.pointee.receiveEdge = c.pointee.receiveNext
        c.pointee.lastAcknowledged = header.sequence
        c.pointee.growthSequence = c.pointee.receiveNext.advanced(by: c.pointee.receiveLimit / 2)
        c.pointee.growthTime = state.pointee.now
        c.pointee.lastReceiveTime = state.pointee.now
        takeCongestionOffer(c, header.flags)
        let configuration = state.pointee.configuration.tcp
        //= RFC 7323 section 1.3
        //# an option is in use only if both sides sent it in their SYNs
        if header.hasTimestamps && configuration.offersTimestamps {
            c.pointee.flags.insert(.timestamps)
            c.pointee.recentTimestamp = header.timestampValue
        } else {
            c.pointee.flags.remove(.timestamps)
        }
        //= RFC 2018 section 3
        //# If the data receiver has not received a SACK-Permitted option for a given connection, the receiver MUST NOT send SACK options on that connection.
        c.pointee.selective.isPermitted = header.isSACKPermitted && configuration.offersSelectiveAcknowledgements
        c.pointee.plainControl = c.pointee.flags.contains(.timestamps) ? 0x1880 : 0x1850
        if header.windowScale != 0xff && configuration.offersWindowScale {
            c.pointee.flags.insert(.windowScaling)
            //= RFC 7323 section 2.3
            //# If a Window Scale option is received with a shift.cnt value larger than 14, the TCP SHOULD log the error but MUST use 14 instead of the
            //# specified value.
            c.pointee.sendWindowShift = DeliberateBug.isPresent(.windowScalesExchanged) ? c.pointee.receiveWindowShift : min(header.windowScale, 14)
        } else {
            c.pointee.flags.remove(.windowScaling)
            c.pointee.sendWindowShift = 0
            c.pointee.receiveWindowShift = 0
            c.pointee.receiveLimit = min(c.pointee.receiveLimit, 65_535)
            c.pointee.flags.insert(.fixedReceiveBuffer)
        }
        //= RFC 9293 section 3.7.1
        //# If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send MSS of 536 (MUST-15).
        let offered = header.maximumSegmentSize == 0 ? defaultSegmentSize(with: c.pointee.remoteAddress) : Int(header.maximumSegmentSize)
        //= RFC 9293 section 3.7.1
        //# The maximum size of a segment that a TCP endpoint really sends, the "effective send MSS", MUST be the smaller (MUST-16) of the send MSS and
        //# the largest transmission size permitted by the IP layer, less the options
        let optionByteCount = c.pointee.flags.contains(.timestamps) ? 12 : 0
        let largest = min(max(offered, NetworkStack.smallestSegmentSize), segmentSize(with: c.pointee.remoteAddress))
        c.pointee.offeredSegmentSize = UInt16(largest - optionByteCount)
        chooseSegmentSize(c)
        //= RFC 7323 section 2.2
        //# The window field in a segment where the SYN bit is set MUST NOT be scaled.
        c.pointee.sendWindow = Int(header.window) << (DeliberateBug.isPresent(.synchronizeWindowScaled) ? Int(c.pointee.sendWindowShift) : 0)
        c.pointee.maximumSendWindow = Int(header.window)
        c.pointee.windowUpdateSequence = header.sequence
        c.pointee.windowUpdateAcknowledgement = header.acknowledgement
    }

    /// A peer that asks for smaller segments gets these: else a few bytes of payload would cost a packet each (CVE-2019-11479).
    static var smallestSegmentSize: Int { 64 }

    /// What the link's MTU leaves for a segment without options.
    //= RFC 1122 section 3.3.2
    //# There MUST be a mechanism by which the transport layer can learn MMS_R, the maximum message size that can be received and reassembled.
    //= RFC 1122 section 3.3.3
    //# There MUST be a mechanism to allow the transport layer to learn MMS_S, the maximum transport-layer message size that may be sent.
    //= RFC 9293 section 3.7.1
    //# The MSS value to be sent in an MSS Option must be less than or equal to MMS_R - 20 (MUST-67).
    var segmentSizeOfLink: Int {
        min(state.pointee.maximumTransmissionUnit - 40, state.pointee.configuration.tcp.maximumSegmentSize ?? .max)
    }

    /// Enters ESTABLISHED.
    func establish(_ c: ConnectionPointer, _ header: TCPSegmentHeader) {
        c.pointee.state = .established
        c.pointee.sendNext = c.pointee.sendMaximum
        c.pointee.recovery.forwardEnd = c.pointee.sendMaximum
        if c.pointee.congestion.algorithm == .dctcp { lendCongestionHistory(c) }
        c.pointee.congestion.begin(segmentSize: c.pointee.sendSegmentSize, afterLosses: c.pointee.retransmissionCount > 1)
        if c.pointee.congestion.algorithm == .bbr || c.pointee.rateControl != 0 { beginRateControl(c) }
        if c.pointee.retransmissionCount > 0 {
            //= RFC 6298 section 5.7
            //# If the timer expires awaiting the ACK of a SYN segment and the TCP implementation is using an RTO less than 3 seconds, the RTO MUST be
            //# re-initialized to 3 seconds when data transmission begins
            c.pointee.roundTrip = RoundTripEstimator(timeout: 3_000_000_000)
        }
        c.pointee.retransmissionCount = 0
        c.pointee.duplicateAcknowledgements = 0
        c.pointee.recoverySequence = c.pointee.initialSendSequence
        stopTiming(c)
        settleCongestionOffer(c)
        choosePlainHeaders(c)
        c.pointee.lastSendTime = state.pointee.now
        // A SYN without an acknowledgement has left none to compare with.
        c.pointee.windowUpdateAcknowledgement = header.acknowledgement
        if !header.flags.contains(.syn) { updateSendWindow(c, header.sequence, header.acknowledgement, header.window) }
        if c.pointee.flags.contains(.keepAlive) { restartKeepAlive(c) }
    }
}

extension TCPSegmentHeader {
    /// What is left of a segment whose SYN has been processed.
    //= RFC 7323 section 2.2
    //# The window field in a segment where the SYN bit is set MUST NOT be scaled.
    mutating func becomeUnsynchronized(windowShift: UInt8) {
        flags.remove(.syn)
        sequence = sequence.advanced(by: 1)
        window &>>= UInt16(windowShift)
    }
}
