import WireFormats

/// What a host has to do with the data that it gets: what it must acknowledge, and when.
///
/// It follows the receiver as far as the frames tell. Where they leave open what the receiver has kept, its next acknowledgement tells.
struct ReceiverConduct {
    /// Behind what has arrived in order.
    private var next: SequenceNumber?
    /// What has arrived behind a gap.
    private var pieces: [(start: SequenceNumber, end: SequenceNumber)] = []
    /// What has arrived behind a gap before the handshake was complete: the receiver may have kept it, where it had room for the connection by then.
    private var unsurePieces: [(start: SequenceNumber, end: SequenceNumber)] = []
    private var finish: SequenceNumber?
    /// What the receiver has acknowledged, and the edge of the window that it has advertised.
    private(set) var acknowledged: SequenceNumber?
    private var edge: SequenceNumber?
    /// The receiver may have dropped something that could have been kept: how many pieces it has is not known any more.
    private var isImprecise = false
    /// It has answered the peer's SYN with its own.
    private var hasSynchronized = false
    /// It has acknowledged anything but the peer's SYN: the handshake is complete.
    private var hasAcknowledged = false
    /// What it acknowledged first: until it has gone on from there, it may be a listener without room, which takes nothing.
    private var firstAcknowledgement: SequenceNumber?
    /// The timestamp to echo, and all that may be.
    private var recentTimestamp: UInt32?
    private var timestamps: (least: UInt32, most: UInt32)?
    /// Since when data in order is not acknowledged, and how many of the largest segments.
    private var owedSince: UInt64?
    private var owedSegments = 0
    private var largestSegment = 1
    /// What has come at one time.
    private var instant = Instant()
    /// When segments were answered that were not accepted: those without data, and others.
    private var emptyAnswers: [UInt64] = []
    private var answers: [UInt64] = []

    private struct Instant {
        var time: UInt64 = 0
        var segments = 0
        var refused = 0
        var refusedWithData = 0
        var probes = 0
    }

    //= RFC 9293 section 3.8.6.3
    //# the delay MUST be less than 0.5 seconds (MUST-40).
    private static let longestDelay: UInt64 = 500_000_000

    /// The time is `time` now: what had to be done before should be done.
    mutating func settle(_ time: UInt64) -> String? {
        guard time > instant.time else { return nil }
        instant = Instant(time: time)
        if owedSegments >= 2 {
            owedSegments = 0
            //= RFC 9293 section 3.8.6.3
            //# in a stream of full-sized segments, there SHOULD be an ACK for at least every second segment (SHLD-19)
            if acknowledged != firstAcknowledgement { return "two full segments were not acknowledged at once" }
        }
        if let since = owedSince, time - since > ReceiverConduct.longestDelay {
            owedSince = nil
            if acknowledged != firstAcknowledgement { return "data was not acknowledged within half a second" }
        }
        return nil
    }

    // MARK: What it gets

    /// - Returns: whether the receiver looks at the segment's acknowledgement, as far as can be told.
    mutating func received(_ header: TCPSegmentHeader, isForged: Bool, _ flow: Flow, _ conduct: Conduct, at time: UInt64) -> Bool {
        instant.segments += 1
        guard let own = flow.own, let peer = flow.peer else { return false }
        if header.flags.contains(.syn) {
            instant.refused += 1
            if header.hasTimestamps, !isForged, header.sequence == peer.initialSequence { note(header.timestampValue, updates: true) }
            return header.flags.contains(.ack) && !hasAcknowledged && !isForged
        }
        let next = self.next ?? peer.initialSequence + 1
        self.next = next
        let edge = self.edge ?? next + 65_535
        let offset = header.sequence - next
        let window = edge - next
        let length = header.segmentLength
        let isAcceptable =
            length == 0
            ? window == 0 ? offset == 0 : offset >= 0 && offset < window
            : window > 0 && (offset >= 0 && offset < window || offset < 0 && offset + length > 0)
        if window == 0, header.payloadByteCount > 0, offset == 0 { instant.probes += 1 }
        if !isForged, header.hasTimestamps { note(header.timestampValue, updates: false) }
        guard isAcceptable, !header.flags.contains(.rst) else {
            instant.refused += 1
            if length > 0 { instant.refusedWithData += 1 }
            return offset == 0 && window == 0 && length > 0 && !isForged
        }
        if own.hasTimestamps, peer.hasTimestamps {
            let isOld = recentTimestamp.map { Int32(bitPattern: header.timestampValue &- $0) < 0 } ?? false
            guard header.hasTimestamps, !isOld else {
                instant.refused += 1
                if length > 0 { instant.refusedWithData += 1 }
                isImprecise = isImprecise || length > 0
                return false
            }
            if acknowledged.map({ header.sequence <= $0 }) ?? true { note(header.timestampValue, updates: true) }
        }
        let isAcknowledgementPossible =
            header.flags.contains(.ack) && header.acknowledgement <= flow.sendMaximum && header.acknowledgement > own.initialSequence
        guard !isForged, isAcknowledgementPossible else {
            isImprecise = true
            return false
        }
        if length > 0 { take(header, edge, conduct, at: time) }
        return true
    }

    var hasAcknowledgedFinish: Bool { finish.map { acknowledged == $0 + 1 } ?? false }

    /// Whether a reset may have the sequence number that the receiver waits for.
    func mayTakeReset(_ header: TCPSegmentHeader) -> Bool {
        guard let next, hasAcknowledged, !isImprecise || pieces.isEmpty else { return true }
        return header.sequence == next || finish != nil && header.sequence == next + 1
    }

    private mutating func note(_ timestamp: UInt32, updates: Bool) {
        let known = timestamps ?? (timestamp, timestamp)
        timestamps = (
            Int32(bitPattern: timestamp &- known.least) < 0 ? timestamp : known.least, Int32(bitPattern: timestamp &- known.most) > 0 ? timestamp : known.most
        )
        if updates { recentTimestamp = timestamp }
    }

    private mutating func take(_ header: TCPSegmentHeader, _ edge: SequenceNumber, _ conduct: Conduct, at time: UInt64) {
        guard var next else { return }
        let start = SequenceNumber.max(header.sequence, next)
        let textEnd = header.sequence + header.payloadByteCount
        let end = SequenceNumber.min(textEnd, edge)
        guard hasAcknowledged else {
            // A listener without room takes nothing before its handshake is complete: its first acknowledgement tells of what is in order, and of the
            // rest nothing does.
            if start > next, start < end { unsurePieces.append((start, end)) }
            return
        }
        if header.flags.contains(.fin), textEnd <= edge { finish = textEnd }
        if start > next {
            guard start < end, !pieces.contains(where: { $0.start <= start && end <= $0.end }) else { return }
            // The receiver keeps what it has, and of what is around it only one piece.
            if pieces.contains(where: { $0.start < end && start < $0.end }) || unsurePieces.contains(where: { $0.start < end && start < $0.end }) {
                isImprecise = true
            }
            pieces.append((start, end))
            // Pieces, or the gaps between them.
            if pieces.count + unsurePieces.count > min(conduct.reassemblyPieces, 256) { isImprecise = true }
            return
        }
        if start < end {
            next = end
            if owedSince == nil { owedSince = time }
            if header.payloadByteCount >= largestSegment {
                largestSegment = header.payloadByteCount
                owedSegments += 1
            }
            while let index = pieces.firstIndex(where: { $0.start <= next }) { next = SequenceNumber.max(next, pieces.remove(at: index).end) }
        }
        if finish == next { next += 1 }
        self.next = next
        unsurePieces.removeAll { $0.end <= next }
    }

    // MARK: What it sends

    mutating func transmitted(_ header: TCPSegmentHeader, _ before: Flow, _ flow: Flow, _ conduct: Conduct, at time: UInt64) -> String? {
        guard !header.flags.contains(.syn), header.flags.contains(.ack) else {
            if !hasAcknowledged { (next, pieces, unsurePieces, finish, owedSince, owedSegments) = (nil, [], [], nil, nil, 0) }
            if header.flags.contains([.syn, .ack]), !hasAcknowledged {
                //= RFC 7323 section 2.2
                //# The window field in a segment where the SYN bit is set MUST NOT be scaled.
                (hasSynchronized, edge) = (true, header.acknowledgement + Int(header.window))
            }
            if header.flags.contains([.syn, .ack]), header.hasTimestamps { note(header.timestampEchoReply, updates: recentTimestamp == nil) }
            return nil
        }
        let mayBeHalfOpen = mayBeHalfOpen(header, flow, at: time)
        defer { (hasAcknowledged, owedSince, owedSegments) = (!mayBeHalfOpen, nil, 0) }
        if firstAcknowledgement == nil { firstAcknowledgement = header.acknowledgement }
        var complaint: String?
        let acknowledgement = header.acknowledgement
        if let next, next != acknowledgement {
            // What sends again because of an acknowledgement does so before it looks at the text.
            // So does a receiver that has to tell of a change between marked and unmarked.
            let hasTakenAll = instant.segments == 0 || instant.segments == 1 && header.segmentLength == 0 && !conduct.echoesEachMark
            if hasAcknowledged, !isImprecise, hasTakenAll, acknowledgement < next, !flow.isTainted {
                complaint = "an acknowledgement of \(acknowledgement), where everything up to \(next) has arrived"
            }
            if isImprecise || !hasAcknowledged || acknowledgement > next { resume(at: acknowledgement) }
        }
        return complaint ?? checkAnswer(header, flow, conduct, at: time) ?? checkEcho(header, flow)
    }

    /// Whether the segment may come from a connection whose handshake is not complete, for want of room at its listener.
    //= RFC 9293 section 3.10.7.4
    //# If an incoming segment is not acceptable, an acknowledgment should be sent in reply: in SYN-RECEIVED, too, where nothing else acknowledges without SYN.
    private func mayBeHalfOpen(_ header: TCPSegmentHeader, _ flow: Flow, at time: UInt64) -> Bool {
        guard hasSynchronized, !hasAcknowledged, header.segmentLength == 0, let peer = flow.peer else { return false }
        return header.acknowledgement == peer.initialSequence + 1 && instant.time == time && instant.segments > 0 && instant.refused == instant.segments
    }

    private mutating func resume(at acknowledgement: SequenceNumber) {
        next = acknowledgement
        pieces.removeAll { $0.end <= acknowledgement }
        unsurePieces.removeAll { $0.end <= acknowledgement }
    }

    private mutating func checkAnswer(_ header: TCPSegmentHeader, _ flow: Flow, _ conduct: Conduct, at time: UInt64) -> String? {
        let isScaled = (flow.own?.windowScale ?? 0xff) != 0xff && (flow.peer?.windowScale ?? 0xff) != 0xff
        let shift = isScaled ? Int(min(flow.own!.windowScale, 14)) : 0
        let newEdge = header.acknowledgement + Int(header.window) << shift
        let before = (acknowledged: acknowledged, edge: edge)
        (acknowledged, edge) = (header.acknowledgement, edge.map { SequenceNumber.max($0, newEdge) } ?? newEdge)
        guard instant.time == time, instant.segments > 0, header.segmentLength == 0, let edge = before.edge else { return nil }
        let isClosed = before.acknowledged == edge
        //= RFC 7323 section 2.3
        //# The Window field in the header of every outgoing segment, with the exception of <SYN> segments, MUST be right-shifted by Rcv.Wind.Shift bits.
        // So a field that is rounded up shows up to a step less a byte too much, and one of 0 hides as much of what was promised before.
        let unseen = 2 * ((1 << shift) - 1)
        if isClosed, instant.probes > 0, header.acknowledgement == before.acknowledged,
            newEdge - edge >= 2 * (flow.own?.maximumSegmentSize ?? 536) + unseen
        {
            return "a window that was closed opens by \(newEdge - edge) bytes only when it is probed"
        }
        guard instant.refused == instant.segments, header.acknowledgement == before.acknowledged, newEdge == edge else { return nil }
        //= RFC 5961 section 7
        //# An implementation SHOULD include an ACK throttling mechanism: in any 5 second window, no more than 10 challenge ACKs should be sent.
        // Challenges and answers to what is empty are counted by themselves, and so are those to data and to probes.
        if instant.refusedWithData == 0 { return ReceiverConduct.count(&emptyAnswers, 2 * conduct.challengesPerSecond, at: time) }
        return ReceiverConduct.count(&answers, 2 * conduct.acknowledgementsPerSecond, at: time)
    }

    private static func count(_ answers: inout [UInt64], _ limit: Int, at time: UInt64) -> String? {
        answers.removeAll { time - $0 >= 1_000_000_000 }
        answers.append(time)
        // The second in which they are counted may begin at any time.
        return answers.count > 2 * limit ? "\(answers.count) answers to unacceptable segments in a second" : nil
    }

    private func checkEcho(_ header: TCPSegmentHeader, _ flow: Flow) -> String? {
        guard header.hasTimestamps, let timestamps, flow.own?.hasTimestamps == true, flow.peer?.hasTimestamps == true else { return nil }
        let echo = header.timestampEchoReply
        let isKnown = Int32(bitPattern: echo &- timestamps.least) >= 0 && Int32(bitPattern: echo &- timestamps.most) <= 0
        //= RFC 7323 section 4.3
        //# TSecr is TS.Recent: a timestamp of a segment that was accepted
        return isKnown ? nil : "an echo of timestamp \(echo), which it has not been sent"
    }
}
