import WireFormats

/// What the checker is told of a host beyond its frames. A host of which this is known is held to what it must do, and when; of any other one only what
/// it says is checked.
///
/// It holds for hosts that nothing keeps from their duty: with memory, a steady clock, and a device that takes what it is given.
public struct Conduct {
    /// No retransmission timer is shorter; nanoseconds.
    public var minimumRetransmissionTimeout: UInt64
    /// The longest segment that the host sends, its options among it.
    public var maximumSegmentSize: Int
    /// Out-of-order segments that it keeps for a connection.
    public var reassemblyPieces: Int
    /// Challenges that it sends in a second, and answers to segments without data that it does not accept.
    public var challengesPerSecond: Int
    /// The same for segments with data, and for probes of its window.
    public var acknowledgementsPerSecond: Int
    /// Resets that it sends in a second to segments of no connection.
    public var resetsPerSecond: Int

    /// How long a connection stays in TIME_WAIT, in nanoseconds; 0 for one that may end early.
    public var timeWait: UInt64
    /// Whether it has to ask for its neighbours.
    public var asksForNeighbors: Bool
    /// Whether its acknowledgements echo each mark by itself (RFC 8257) and not until the sender has reduced its window.
    public var echoesEachMark: Bool
    /// The most bytes a second that its connections may send, `.max` if that is their own choice; nil where they may send as much at once as they like.
    public var maximumPacingRate: UInt64?
    /// Whether it may not say that a connection is over: a listener that has refused a cookie drops what belongs to nobody.
    public var mayForgetSilently: Bool

    public init(
        minimumRetransmissionTimeout: UInt64, maximumSegmentSize: Int, reassemblyPieces: Int, challengesPerSecond: Int, acknowledgementsPerSecond: Int,
        resetsPerSecond: Int, timeWait: UInt64, asksForNeighbors: Bool, echoesEachMark: Bool = false, maximumPacingRate: UInt64? = nil,
        mayForgetSilently: Bool = false
    ) {
        self.mayForgetSilently = mayForgetSilently
        self.maximumPacingRate = maximumPacingRate
        self.echoesEachMark = echoesEachMark
        self.minimumRetransmissionTimeout = minimumRetransmissionTimeout
        self.timeWait = timeWait
        self.asksForNeighbors = asksForNeighbors
        self.maximumSegmentSize = maximumSegmentSize
        self.reassemblyPieces = reassemblyPieces
        self.challengesPerSecond = challengesPerSecond
        self.acknowledgementsPerSecond = acknowledgementsPerSecond
        self.resetsPerSecond = resetsPerSecond
    }
}

/// What one host has to do for one of its connections.
struct FlowConduct {
    private var sender: SenderConduct
    private var receiver = ReceiverConduct()
    private var marks = MarkConduct()
    private var pacing = PacingConduct()
    private let begun: SequenceNumber
    /// The host has reset the connection: it owes nothing any more.
    private var isOver = false
    /// When both ends were acknowledged, that of the host the earlier one.
    private var timeWaitSince: UInt64?
    private var hasFinishedFirst = false
    /// When the host last sent a segment of it.
    private var lastSent: UInt64 = 0
    /// When a SYN came that is not of this connection.
    private var strangeSynchronize: UInt64?

    init(_ own: Flow.Offer) {
        begun = own.initialSequence
        sender = SenderConduct(own.initialSequence)
    }

    /// Whether this is still the connection that began with `offer`.
    func isOf(_ offer: Flow.Offer) -> Bool { offer.initialSequence == begun }

    private func isInTimeWait(_ conduct: Conduct, at time: UInt64) -> Bool {
        !isOver && timeWaitSince.map { time - $0 < conduct.timeWait } ?? false
    }

    /// The host answers a SYN with the first segment of a new connection.
    /// - Parameter peer: what the SYN offered.
    func reopened(by peer: Flow.Offer?, _ conduct: Conduct, at time: UInt64) -> String? {
        guard isInTimeWait(conduct, at: time), let peer, !peer.hasTimestamps, let last = receiver.acknowledged, peer.initialSequence <= last else { return nil }
        //= RFC 6191 section 2
        //# Otherwise, if the sequence number of the incoming SYN is not larger than the last one seen, the connection request is not accepted.
        return "a connection in TIME_WAIT reopened by a SYN of \(peer.initialSequence), where \(last) was acknowledged"
    }

    /// Whether the host may take a reset for one that its peer meant.
    func mayTakeReset(_ header: TCPSegmentHeader) -> Bool { isOver || receiver.mayTakeReset(header) }

    /// The host has got a segment.
    /// - Returns: what it should have done before.
    mutating func received(_ segment: Segment, isForged: Bool, _ flow: Flow, _ conduct: Conduct, at time: UInt64) -> String? {
        let header = segment.header
        // FIN_WAIT_2 and retransmission have patience for this long at least.
        if conduct.mayForgetSilently, time - lastSent >= 2_000_000_000 { isOver = true }
        if isOver { return nil }
        if header.flags.contains(.syn), flow.peer.map({ $0.initialSequence != header.sequence }) ?? false { strangeSynchronize = time }
        let complaint = sender.settle(time) ?? receiver.settle(time)
        let isAccepted = receiver.received(header, isForged: isForged, flow, conduct, at: time)
        marks.received(segment, isAccepted: isAccepted, isForged: isForged, at: time)
        sender.received(header, isAccepted: isAccepted, flow, conduct, at: time)
        pacing.received(header, flow, at: time)
        if header.flags.contains(.rst), receiver.mayTakeReset(header) { isOver = true }
        noteTimeWait(at: time)
        return flow.isTainted ? nil : complaint
    }

    private mutating func noteTimeWait(at time: UInt64) {
        if timeWaitSince == nil, hasFinishedFirst, sender.isFinishAcknowledged, receiver.hasAcknowledgedFinish { timeWaitSince = time }
    }

    /// The host sends a segment.
    /// - Parameters:
    ///   - before: what was known of the connection before the segment, and `flow` after it.
    /// - Returns: what is wrong with the segment, or what the host should have done before.
    mutating func transmitted(_ segment: Segment, before: Flow, _ flow: Flow, _ conduct: Conduct, at time: UInt64) -> String? {
        let header = segment.header
        lastSent = time
        if header.flags.contains(.rst) {
            //= RFC 5961 section 4.2
            //# If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK (also referred to as challenge ACK) to the remote peer.
            let isOfConnection = header.flags.contains(.ack) && header.acknowledgement == flow.acknowledged
            defer { isOver = true }
            //= RFC 9293 section 3.6.1
            //# When a connection is closed actively, it MUST linger in the TIME-WAIT state for a time 2xMSL (MUST-13).
            if isInTimeWait(conduct, at: time) { return "a reset in TIME_WAIT" }
            return !isOver && isOfConnection && strangeSynchronize == time ? "a reset of the connection in answer to a SYN" : nil
        }
        if isOver { return nil }
        let late = sender.settle(time) ?? receiver.settle(time)
        let sent = sender.transmitted(header, before, flow, conduct, at: time)
        let marked = marks.transmitted(segment, before, conduct, at: time)
        let paced = pacing.transmitted(header, before, conduct, at: time)
        let untainted = late ?? sent ?? marked ?? paced
        let acknowledged = receiver.transmitted(header, before, flow, conduct, at: time)
        if header.flags.contains(.fin), !receiver.hasAcknowledgedFinish { hasFinishedFirst = true }
        noteTimeWait(at: time)
        return flow.isTainted ? acknowledged : untainted ?? acknowledged
    }
}
