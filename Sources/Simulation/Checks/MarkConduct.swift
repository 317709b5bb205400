import WireFormats

/// What a host has to do with the marks of routers (RFC 3168): which of its packets may be marked, and what it says of those that were.
struct MarkConduct {
    /// The host echoes: a mark has come, and no CWR since.
    private var owesEcho = false
    /// It was told that the window is reduced, and nothing marked has come since.
    private var mayNotEcho = true
    private var mayNotEchoSince: UInt64 = 0
    /// It was told of a mark of something that it has not reduced for yet: what it has sent by then.
    private var echoed: SequenceNumber?
    private var echoedAt: UInt64 = 0
    private var sendMaximum: SequenceNumber?
    private var hasReduced: SequenceNumber?
    private var lastMark: UInt64?
    private var highestAcknowledgement: SequenceNumber?
    /// The handshake is complete: a listener without room takes nothing before that.
    private var hasAnswered = false

    mutating func received(_ segment: Segment, isAccepted: Bool, isForged: Bool, at time: UInt64) {
        let header = segment.header
        // What is refused may still have been looked at.
        if segment.congestionCodepoint == 3, header.payloadByteCount > 0 { mayNotEcho = false }
        let isOld = highestAcknowledgement.map { header.acknowledgement < $0 } ?? false
        if !isForged, header.flags.contains(.ack), !isOld { highestAcknowledgement = header.acknowledgement }
        guard !isForged, isAccepted, !header.flags.contains(.syn) else { return }
        if header.payloadByteCount > 0 {
            if header.flags.contains(.cwr) { (owesEcho, mayNotEcho, mayNotEchoSince) = (false, true, time) }
            if segment.congestionCodepoint == 3 {
                (owesEcho, mayNotEcho) = (hasAnswered, false)
                lastMark = time
            }
        }
        if header.flags.contains(.ece), !isOld, let sendMaximum, header.acknowledgement < sendMaximum, hasReduced.map({ header.acknowledgement > $0 }) ?? true,
            echoed == nil
        {
            (echoed, echoedAt) = (sendMaximum, time)
        }
    }

    /// - Parameter before: the connection before the segment.
    mutating func transmitted(_ segment: Segment, _ before: Flow, _ conduct: Conduct, at time: UInt64) -> String? {
        let header = segment.header
        if header.flags.contains(.syn) {
            //= RFC 3168 section 6.1.1
            //# A host MUST NOT set ECT on SYN or SYN-ACK packets.
            return segment.congestionCodepoint == 0 ? nil : "a SYN that can be marked"
        }
        hasAnswered = true
        let isNew = header.sequence >= before.sendMaximum
        if header.payloadByteCount > 0 { sendMaximum = sendMaximum.map { SequenceNumber.max($0, header.sequence + header.segmentLength) } ?? header.sequence }
        if segment.congestionCodepoint != 0 {
            //= RFC 3168 section 6.1.4
            //# pure acknowledgement packets MUST be sent with the not-ECT codepoint
            if header.payloadByteCount == 0 { return "an acknowledgement without data that can be marked" }
            //= RFC 3168 section 6.1.5
            //# ECN-capable TCP implementations MUST NOT set either ECT codepoint in the IP header for retransmitted data packets
            if !isNew { return "a retransmission that can be marked" }
            // What leaves in the same moment may have been made before.
            if echoed != nil, echoedAt < time, !header.flags.contains(.cwr), hasReduced == nil || echoed! > hasReduced! {
                echoed = nil
                return "new data without CWR, after an echo of a mark"
            }
        }
        if header.flags.contains(.cwr) { (echoed, hasReduced) = (nil, before.sendMaximum) }
        if conduct.echoesEachMark { return nil }
        if header.flags.contains(.ece) {
            // What leaves in the same moment may have been made before.
            return mayNotEcho && mayNotEchoSince < time ? "an echo of a mark, where none has come since the sender reduced its window" : nil
        }
        guard owesEcho, header.flags.contains(.ack), let lastMark, lastMark < time else { return nil }
        owesEcho = false
        return "an acknowledgement without an echo of the mark that has come"
    }
}
