import WireFormats

/// What the checker knows of one direction of a connection, as its sending host has said and heard it.
struct Flow {
    /// What a SYN offers.
    struct Offer {
        let initialSequence: SequenceNumber
        let windowScale: UInt8
        let hasTimestamps: Bool
        let maximumSegmentSize: Int
        /// Of the packet that the SYN is in.
        let internetHeaderByteCount: Int
        let permitsSelectiveAcknowledgements: Bool
        /// The SYN has an acknowledgement.
        let isAnswer: Bool

        init(_ segment: Segment) {
            let header = segment.header
            initialSequence = header.sequence
            isAnswer = header.flags.contains(.ack)
            windowScale = header.windowScale
            hasTimestamps = header.hasTimestamps
            //= RFC 9293 section 3.7.1
            //# If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send MSS of 536 for IPv4 or 1220 for IPv6.
            let standard = segment.source.address.isIPv4 ? 536 : 1_220
            maximumSegmentSize = header.maximumSegmentSize == 0 ? standard : Int(header.maximumSegmentSize)
            internetHeaderByteCount = segment.source.address.isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
            permitsSelectiveAcknowledgements = header.isSACKPermitted
        }
    }

    /// Of the connection that began with this host's last SYN.
    private(set) var own: Offer?
    private(set) var peer: Offer?
    /// Behind the last sequence number that was sent.
    private(set) var sendMaximum = SequenceNumber(rawValue: 0)
    private var finishEnd: SequenceNumber?
    /// The furthest edge that the peer has advertised.
    private(set) var allowedEdge: SequenceNumber?
    /// What was acknowledged and advertised last.
    private(set) var acknowledged: SequenceNumber?
    private(set) var advertisedEdge: SequenceNumber?
    private var timestamp: UInt32?
    /// The timestamp of the peer's SYN, where timestamps were agreed on.
    private(set) var firstPeerTimestamp: UInt32?
    /// Somebody else has sent segments in the peer's name: of windows and acknowledgements nothing is known any more.
    private(set) var isTainted = false
    /// The SYNs that came last.
    private var offers: [Offer] = []

    /// Both hosts have permitted selective acknowledgements.
    var hasSelectiveAcknowledgements: Bool { own?.permitsSelectiveAcknowledgements == true && peer?.permitsSelectiveAcknowledgements == true }

    // MARK: What the host received

    mutating func received(_ segment: Segment, isForged: Bool) {
        let header = segment.header
        if isForged { isTainted = true }
        if header.flags.contains(.syn) {
            offers.append(Offer(segment))
            if offers.count > 64 { offers.removeFirst() }
        }
        guard let own, header.flags.contains(.ack), !header.flags.contains(.rst) else { return }
        let acknowledgement = header.acknowledgement
        if own.hasTimestamps, firstPeerTimestamp == nil, !isForged, header.hasTimestamps, peer == nil { firstPeerTimestamp = header.timestampValue }
        // Segments of an earlier connection between the two say nothing.
        guard acknowledgement > own.initialSequence, acknowledgement <= sendMaximum else { return }
        if header.flags.contains(.syn), acknowledgement == own.initialSequence + 1, peer == nil { peer = Offer(segment) }
        let shift = header.flags.contains(.syn) || own.windowScale == 0xff || peer?.windowScale ?? 0xff == 0xff ? 0 : min(peer!.windowScale, 14)
        let edge = acknowledgement + Int(header.window) << Int(shift)
        allowedEdge = allowedEdge.map { SequenceNumber.max($0, edge) } ?? edge
    }

    // MARK: What the host sends

    /// - Parameter other: the same connection as the peer has it; nil for a peer that is not checked.
    /// - Returns: what is wrong with the segment.
    mutating func transmitted(_ segment: Segment, peer other: Flow?) -> String? {
        let header = segment.header
        if header.flags.contains(.rst) { return nil }
        if header.flags.contains(.syn), own?.initialSequence != header.sequence { begin(segment) }
        // A SYN that came behind the one that is answered here, at the same time, was not taken.
        if header.flags.contains([.syn, .ack]), peer.map({ $0.initialSequence + 1 != header.acknowledgement }) ?? true {
            firstPeerTimestamp = nil
            //= RFC 9293 section 3.10.7.2
            //# Any acknowledgment is bad if it arrives on a connection still in the LISTEN state.
            // And in SYN-SENT a SYN with one that is good is answered without a SYN: who answers with one has taken the offer of a SYN without it.
            peer = offers.last { !$0.isAnswer && $0.initialSequence + 1 == header.acknowledgement }
        }
        if header.flags.contains([.syn, .ack]), header.hasTimestamps, firstPeerTimestamp == nil { firstPeerTimestamp = header.timestampEchoReply }
        guard let own else {
            // The SYN may have been lost on its way to the device: nobody knew the neighbour, or there was no memory.
            return header.segmentLength == 0 ? nil : "data of a connection that has not begun: \(header.flags)"
        }
        if let complaint = checkSelectiveAcknowledgements(header, other) { return complaint }
        let end = header.sequence + header.segmentLength
        if let finishEnd, end > finishEnd { return "a segment to \(end) behind the FIN, which ends at \(finishEnd)" }
        if header.flags.contains(.fin) { finishEnd = end }
        let previousMaximum = sendMaximum
        sendMaximum = SequenceNumber.max(sendMaximum, end)
        if header.payloadByteCount > 0, let complaint = checkText(header, end, previousMaximum) { return complaint }
        if header.flags.contains(.ack), !isTainted, let complaint = checkAcknowledgement(header, other) { return complaint }
        if own.hasTimestamps, peer?.hasTimestamps == true, !header.flags.contains(.syn) {
            //= RFC 7323 section 3.2
            //# Once TSopt has been successfully negotiated, the TSopt MUST be sent in every non-<RST> segment for the duration of the connection
            guard header.hasTimestamps else { return "a segment without the timestamps that were agreed on" }
            if let timestamp, Int32(bitPattern: header.timestampValue &- timestamp) < 0 { return "a timestamp that goes back" }
            timestamp = header.timestampValue
        }
        return nil
    }

    private mutating func begin(_ segment: Segment) {
        let kept = offers
        self = Flow()
        offers = kept
        own = Offer(segment)
        sendMaximum = segment.header.sequence
    }

    private func checkText(_ header: TCPSegmentHeader, _ end: SequenceNumber, _ previousMaximum: SequenceNumber) -> String? {
        guard let peer else { return "data before the handshake" }
        let optionByteCount = header.headerByteCount - TCPSegmentHeader.minimumByteCount
        //= RFC 9293 section 3.7.1
        //# the "effective send MSS" MUST be the smaller of the send MSS and the largest transmission size permitted; options count
        if header.payloadByteCount + optionByteCount > max(peer.maximumSegmentSize, 64) {
            return "a segment of \(header.payloadByteCount) bytes and \(optionByteCount) of options, where the peer takes \(peer.maximumSegmentSize)"
        }
        guard !isTainted, let allowedEdge else { return nil }
        let textEnd = header.sequence + header.payloadByteCount
        //= RFC 9293 section 3.8.6.1
        //# a probe of a zero window is one octet of new data
        let probe = header.payloadByteCount == 1 ? 1 : 0
        if textEnd > allowedEdge + probe {
            return "a segment from \(header.sequence) to \(textEnd), \(textEnd - allowedEdge) bytes beyond the window"
        }
        return nil
    }

    private func checkSelectiveAcknowledgements(_ header: TCPSegmentHeader, _ other: Flow?) -> String? {
        if header.flags.contains([.syn, .ack]), header.isSACKPermitted, !isTainted, peer?.permitsSelectiveAcknowledgements == false {
            return "selective acknowledgements permitted in answer to a SYN that does not permit them"
        }
        guard header.sackBlockCount > 0 else { return nil }
        //= RFC 2018 section 2
        //# SACK-permitted MUST NOT be sent on non-SYN segments, and SACK only once it was permitted.
        guard hasSelectiveAcknowledgements || isTainted else { return "selective acknowledgements that were not agreed on" }
        for index in 0..<Int(header.sackBlockCount) {
            let block = header.sackBlock(index)
            guard block.left < block.right else { return "an empty block in a selective acknowledgement" }
            if let other, other.own?.initialSequence == peer?.initialSequence, !isTainted, block.right > other.sendMaximum {
                return "a selective acknowledgement up to \(block.right), where \(other.sendMaximum) was sent"
            }
            //= RFC 2883 section 4
            //# The first block alone may tell of a duplicate: below the acknowledgement number, or inside of the second block.
            if index > 0, block.left <= header.acknowledgement { return "a selective acknowledgement of what is acknowledged, in block \(index + 1)" }
        }
        return nil
    }

    private mutating func checkAcknowledgement(_ header: TCPSegmentHeader, _ other: Flow?) -> String? {
        let acknowledgement = header.acknowledgement
        if let other, let begun = other.own?.initialSequence, begun == peer?.initialSequence, acknowledgement > other.sendMaximum {
            return "an acknowledgement of \(acknowledgement), where \(other.sendMaximum) was sent"
        }
        if let acknowledged, acknowledgement < acknowledged { return "an acknowledgement of \(acknowledgement) after one of \(acknowledged)" }
        acknowledged = acknowledgement
        // An answer to a SYN of so long ago that nobody knows whether it offered to scale windows.
        guard peer != nil else { return nil }
        let isScaled = !header.flags.contains(.syn) && (own?.windowScale ?? 0xff) != 0xff && (peer?.windowScale ?? 0xff) != 0xff
        let shift = isScaled ? Int(min(own!.windowScale, 14)) : 0
        let edge = acknowledgement + Int(header.window) << shift
        //= RFC 9293 section 3.8.6
        //# A TCP receiver SHOULD NOT shrink the window, i.e., move the right window edge to the left (SHLD-14).
        if let advertisedEdge, edge < advertisedEdge {
            //= RFC 7323 section 2.4
            //# a receiver may round down: what the scale cannot express may be missing. And the window of a SYN that is sent again is not scaled.
            let isExplained = header.flags.contains(.syn) || advertisedEdge - edge < 1 << shift
            return isExplained ? nil : "a window whose edge moves left by \(advertisedEdge - edge) bytes"
        }
        advertisedEdge = edge
        return nil
    }
}
