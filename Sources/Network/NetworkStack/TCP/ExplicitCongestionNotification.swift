import EthernetDevice
import WireFormats

/// When connections use explicit congestion notification (RFC 3168).
public enum ExplicitCongestionMode: UInt8, Sendable, CaseIterable {
    case off
    /// Asked for, and agreed to when peers ask.
    case on
    /// Agreed to when peers ask.
    case accept
}

/// What a connection has agreed on, and owes, of explicit congestion notification. Empty on a connection without it.
struct CongestionMarks: OptionSet {
    let rawValue: UInt8

    /// New data is sent as ECN-capable, and echoes of marks count.
    static let sends = CongestionMarks(rawValue: 1 << 0)
    /// Marks of received data are echoed.
    static let receives = CongestionMarks(rawValue: 1 << 1)
    /// A mark was received: every segment carries ECE.
    static let echoes = CongestionMarks(rawValue: 1 << 2)
    /// The window was reduced: the next new data carries CWR.
    static let isReduced = CongestionMarks(rawValue: 1 << 3)
    // During the handshake
    /// We have sent an ECN-setup SYN.
    static let hasAsked = CongestionMarks(rawValue: 1 << 4)
    /// We have sent a SYN that is none.
    static let hasNotAsked = CongestionMarks(rawValue: 1 << 5)
    /// The peer has sent a SYN that is none.
    static let isRefused = CongestionMarks(rawValue: 1 << 6)
}

/// The field's codepoints (RFC 3168, section 5).
enum CongestionCodepoint {
    static var capable: UInt8 { 2 }
    static var experienced: UInt8 { 3 }
}

extension NetworkStack {
    // MARK: Handshake

    /// The flags of our SYN, or SYN and ACK.
    func synchronizeFlags(_ c: ConnectionPointer, acknowledges: Bool) -> TCPFlags {
        if acknowledges {
            //= RFC 3168 section 6.1.1
            //# If a host has received an ECN-setup SYN packet, then it MAY send an ECN-setup SYN-ACK packet. Otherwise, it MUST NOT send an ECN-setup SYN-ACK
            //# packet.
            return c.pointee.ecn.contains(.receives) ? [.syn, .ack, .ece] : [.syn, .ack]
        }
        //= RFC 3168 section 6.1.1.1
        //# A host that receives no reply to an ECN-setup SYN within the normal SYN retransmission timeout interval MAY resend the SYN and any subsequent SYN
        //# retransmissions with CWR and ECE cleared.
        guard c.pointee.retransmissionCount == 0,
            state.pointee.configuration.tcp.explicitCongestion == .on || c.pointee.congestion.algorithm == .dctcp
        else {
            c.pointee.ecn.insert(.hasNotAsked)
            return .syn
        }
        c.pointee.ecn.insert(.hasAsked)
        return [.syn, .ece, .cwr]
    }

    /// What the peer's SYN, or SYN and ACK, says.
    //= RFC 3168 section 6.1.1
    //# A host MUST NOT set ECT on data packets unless it has sent at least one ECN-setup SYN or ECN-setup SYN-ACK packet, and has received at least one
    //# ECN-setup SYN or ECN-setup SYN-ACK packet, and has sent no non-ECN-setup SYN or non-ECN-setup SYN-ACK packet. If a host has received at least one
    //# non-ECN-setup SYN or non-ECN-setup SYN-ACK packet, then it SHOULD NOT set ECT on data packets.
    func takeCongestionOffer(_ c: ConnectionPointer, _ flags: TCPFlags) {
        let isAnswer = flags.contains(.ack)
        let isWilling = state.pointee.configuration.tcp.explicitCongestion != .off || c.pointee.congestion.algorithm == .dctcp
        // Receivers handle all forms of the others, as the same: both bits of an answer are those of a host that reflects what it does not know.
        guard flags.contains(.ece), flags.contains(.cwr) != isAnswer,
            isAnswer ? c.pointee.ecn.contains(.hasAsked) : isWilling
        else {
            c.pointee.ecn.subtract([.sends, .receives])
            c.pointee.ecn.insert(.isRefused)
            return
        }
        // Of several SYNs one that is none decides, in whatever order they come.
        guard !c.pointee.ecn.contains(.isRefused) else { return }
        c.pointee.ecn.insert(.receives)
        if !c.pointee.ecn.contains(.hasNotAsked) { c.pointee.ecn.insert(.sends) }
    }

    /// The handshake is complete.
    func settleCongestionOffer(_ c: ConnectionPointer) {
        c.pointee.ecn.formIntersection([.sends, .receives])
        c.pointee.reductionEnd = c.pointee.initialSendSequence
        c.pointee.echoedAcknowledgement = c.pointee.initialSendSequence
        if c.pointee.ecn.contains(.sends) { state.pointee.statistics.tcp.congestionCapableConnections += 1 }
    }

    // MARK: Sending

    /// The flags of a segment of a connection with ECN, and the field of its packet.
    @inline(never)
    func mark(_ c: ConnectionPointer, _ flags: TCPFlags, _ sequence: SequenceNumber, payloadByteCount: Int) -> (flags: TCPFlags, codepoint: UInt8) {
        var flags = flags
        //= RFC 3168 section 6.1.3
        //# After a TCP receiver sends an ACK packet with the ECN-Echo bit set, that TCP receiver continues to set the ECN-Echo flag in all the ACK packets it
        //# sends (whether they acknowledge CE data packets or non-CE data packets) until it receives a CWR packet
        if c.pointee.ecn.contains(.echoes) && !flags.contains(.rst) { flags.insert(.ece) }
        guard c.pointee.ecn.contains(.sends) else { return (flags, 0) }
        //= RFC 3168 section 6.1.4
        //# the pure acknowledgement packets (e.g., packets that do not contain any accompanying data) MUST be sent with the not-ECT codepoint
        if payloadByteCount == 0 { return (flags, DeliberateBug.isPresent(.acknowledgementMarked) ? CongestionCodepoint.capable : 0) }
        //= RFC 3168 section 6.1.5
        //# ECN-capable TCP implementations MUST NOT set either ECT codepoint (ECT(0) or ECT(1)) in the IP header for retransmitted data packets
        //= RFC 3168 section 6.1.6
        //# the TCP data sender MUST NOT set either an ECT codepoint or the CWR bit on window probe data packets
        guard sequence == c.pointee.sendMaximum, !c.pointee.flags.contains(.persisting) else {
            return (flags, DeliberateBug.isPresent(.retransmissionMarked) ? CongestionCodepoint.capable : 0)
        }
        if c.pointee.ecn.contains(.isReduced) {
            //= RFC 3168 section 6.1.2
            //# When an ECN-Capable TCP sender reduces its congestion window for any reason, the TCP sender sets the CWR flag in the TCP header of the first
            //# new data packet sent after the window reduction.
            c.pointee.ecn.remove(.isReduced)
            if !DeliberateBug.isPresent(.reductionNotTold) { flags.insert(.cwr) }
        }
        return (flags, CongestionCodepoint.capable)
    }

    /// The window was reduced because of a loss.
    func noteReduction(_ c: ConnectionPointer) {
        if c.pointee.ecn.contains(.sends) { c.pointee.ecn.insert(.isReduced) }
    }

    // MARK: Receiving

    /// An acceptable segment of a connection with ECN.
    @inline(never)
    func takeMarks(_ c: ConnectionPointer, _ header: TCPSegmentHeader, byteCount: Int) {
        if c.pointee.ecn.contains(.receives) && byteCount > 0 { takeMarkOfData(c, header) }
        if c.pointee.ecn.contains(.sends) && header.flags.contains([.ece, .ack]) && c.pointee.state.isSynchronized { takeEcho(c, header) }
    }

    //= RFC 3168 section 6.1.1
    //# If a host has sent at least one ECN-setup SYN or ECN-setup SYN-ACK packet, and has received no non-ECN-setup SYN or non-ECN-setup SYN-ACK packet, then
    //# if that host receives TCP data packets with ECT and CE codepoints set in the IP header, then that host MUST process these packets as specified for an
    //# ECN-capable connection.
    private func takeMarkOfData(_ c: ConnectionPointer, _ header: TCPSegmentHeader) {
        if c.pointee.congestion.algorithm == .dctcp { return followMark(c) }
        //= RFC 3168 section 6.1.3
        //# After the receipt of the CWR packet, acknowledgments for subsequent non-CE data packets will not have the ECN-Echo flag set.
        if header.flags.contains(.cwr) && !DeliberateBug.isPresent(.echoNeverEnds) { c.pointee.ecn.remove(.echoes) }
        //= RFC 3168 section 6.1.5
        //# the TCP data receiver SHOULD ignore the ECN field on arriving data packets that are outside of the receiver's current window: the segment is
        //# acceptable here
        guard state.pointee.arrivingCodepoint == CongestionCodepoint.experienced else { return }
        state.pointee.statistics.tcp.congestionMarks += 1
        //= RFC 3168 section 6.1.3
        //# When TCP receives a CE data packet at the destination end-system, the TCP data receiver sets the ECN-Echo flag in the TCP header of the subsequent
        //# ACK packet.
        if !DeliberateBug.isPresent(.echoForgotten) { c.pointee.ecn.insert(.echoes) }
    }

    /// The peer has received a mark.
    private func takeEcho(_ c: ConnectionPointer, _ header: TCPSegmentHeader) {
        let acknowledged = header.acknowledgement.since(c.pointee.sendUnacknowledged)
        guard acknowledged >= 0, acknowledged <= c.pointee.flightSize else { return }
        state.pointee.statistics.tcp.congestionEchoes += 1
        c.pointee.echoedAcknowledgement = header.acknowledgement
        c.pointee.congestion.observe(header.acknowledgement, marked: acknowledged, sendMaximum: c.pointee.sendMaximum)
        guard c.pointee.flightSize > 0 else { return }
        //= RFC 3168 section 6.1.2
        //# TCP should not react to congestion indications more than once every window of data (or more loosely, more than once every round-trip time). That is,
        //# the TCP sender's congestion window should be reduced only once in response to a series of dropped and/or CE packets from a single window of data.
        guard header.acknowledgement.since(c.pointee.reductionEnd) > 0, !c.pointee.flags.contains(.fastRecovery),
            header.acknowledgement.since(c.pointee.recoverySequence) > 0
        else { return }
        state.pointee.statistics.tcp.markedReductions += 1
        //= RFC 3168 section 6.1.2
        //# If the sender receives an ECN-Echo (ECE) ACK packet, then the sender knows that congestion was encountered in the network on the path from the
        //# sender to the receiver. The indication of congestion should be treated just as a congestion loss in non-ECN-Capable TCP.
        lendCongestionHistory(c)
        c.pointee.congestion.reduceForMark(flightSize: c.pointee.flightSize, segmentSize: c.pointee.sendSegmentSize)
        if c.pointee.congestion.isModelled { noteModelCongestion(c, isMark: true) }
        c.pointee.reductionEnd = c.pointee.sendMaximum
        c.pointee.ecn.insert(.isReduced)
    }

    /// Whether the acknowledgement that is being processed has an echo.
    //= RFC 3168 section 6.1.2
    //# the TCP sender SHOULD NOT increase the congestion window in response to the receipt of an ECN-Echo ACK packet.
    func isEcho(_ c: ConnectionPointer) -> Bool {
        c.pointee.ecn.contains(.sends) && c.pointee.echoedAcknowledgement == c.pointee.sendUnacknowledged
    }
}
