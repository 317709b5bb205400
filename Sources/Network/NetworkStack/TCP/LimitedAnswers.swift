import WireFormats

/// How many segments without data a connection has sent in this second only because others called for them.
///
/// Each kind has a bound of its own, so that what anybody can provoke does not keep the peer's probes from being answered.
struct AnswerCounts {
    private var secondStart: UInt64 = 0
    private var challenges: UInt32 = 0
    private var empty: UInt32 = 0
    private var unacceptable: UInt32 = 0
    private var probes: UInt32 = 0

    init() {}

    /// When the counts of the last second no longer count.
    var end: UInt64 { secondStart &+ 1_000_000_000 }

    /// Takes one of the challenges of this second, if there is one left.
    mutating func takeChallenge(now: UInt64, limits: borrowing NetworkLimits) -> Bool {
        startSecond(now)
        return AnswerCounts.take(&challenges, limits.challengesPerSecond)
    }

    /// The same for the answer to an unacceptable segment. One that is empty may be such an answer itself, so that the two would go on for ever: there
    /// are as few for these as challenges.
    mutating func takeUnacceptable(isEmpty: Bool, now: UInt64, limits: borrowing NetworkLimits) -> Bool {
        startSecond(now)
        return isEmpty ? AnswerCounts.take(&empty, limits.challengesPerSecond) : AnswerCounts.take(&unacceptable, limits.acknowledgementsPerSecond)
    }

    /// The same for the answer to a probe of our closed window.
    mutating func takeProbe(now: UInt64, limits: borrowing NetworkLimits) -> Bool {
        startSecond(now)
        return AnswerCounts.take(&probes, limits.acknowledgementsPerSecond)
    }

    private mutating func startSecond(_ now: UInt64) {
        if now &- secondStart >= 1_000_000_000 { (secondStart, challenges, empty, unacceptable, probes) = (now, 0, 0, 0, 0) }
    }

    private static func take(_ count: inout UInt32, _ limit: Int) -> Bool {
        guard count < limit else { return false }
        count += 1
        return true
    }
}

/// The acknowledgements that segments call for which bring nothing new.
extension NetworkStack {
    /// A challenge acknowledgement: a bounded number a second for each connection.
    //= RFC 5961 section 7
    //# An implementation SHOULD include an ACK throttling mechanism to be conservative: no more than a tunable number of challenge ACKs in a second.
    @inline(never)
    func sendChallenge(_ c: ConnectionPointer) {
        let isLeft = lendExceptionalState(c).pointee.answers.takeChallenge(now: state.pointee.now, limits: state.pointee.configuration.limits)
        guard isLeft || DeliberateBug.isPresent(.challengesUnlimited) else { return countUnsent(.challengeRateLimited) }
        state.pointee.statistics.tcp.challengeAcknowledgements += 1
        sendControl(c, acceptableSequence(c), .ack)
    }

    /// The acknowledgement that an unacceptable segment calls for. Limited, so that two confused peers end their exchange.
    //= RFC 9293 section 3.5.2
    //# If the connection is in a synchronized state, any unacceptable segment must be responded to with an empty acknowledgment segment, and the connection
    //# remains in the same state.
    @inline(never)
    func sendLimitedAcknowledgement(_ c: ConnectionPointer, about header: TCPSegmentHeader) {
        let isEmpty = header.segmentLength == 0 || header.flags.contains(.syn)
        guard lendExceptionalState(c).pointee.answers.takeUnacceptable(isEmpty: isEmpty, now: state.pointee.now, limits: state.pointee.configuration.limits) else {
            return countUnsent(.acknowledgementRateLimited)
        }
        if !header.flags.contains(.syn) {
            // What lies in front of the window was there already.
            noteDuplicate(c, header.sequence, byteCount: min(header.payloadByteCount, c.pointee.receiveNext.since(header.sequence)))
        }
        sendAcknowledgement(c)
    }

    /// The acknowledgement of a segment at the left edge of a closed window: without one the peer would take us for gone.
    @inline(never)
    func answerProbe(_ c: ConnectionPointer) {
        guard lendExceptionalState(c).pointee.answers.takeProbe(now: state.pointee.now, limits: state.pointee.configuration.limits) else {
            return countUnsent(.acknowledgementRateLimited)
        }
        sendControl(c, acceptableSequence(c), .ack)
    }

    /// Behind everything that was sent, but within the peer's window: one that has refused a probe would refuse this acknowledgement, too.
    @inline(__always)
    func acceptableSequence(_ c: ConnectionPointer) -> SequenceNumber {
        c.pointee.sendMaximum.rawValue &- c.pointee.sendUnacknowledged.rawValue <= c.pointee.sendWindow32 ? c.pointee.sendMaximum : c.pointee.sendUnacknowledged.advanced(by: c.pointee.sendWindow)
    }
}
