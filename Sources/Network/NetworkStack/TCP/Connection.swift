import DatapathMemory
import EthernetDevice
import TaskScheduler
import WireFormats

typealias ConnectionPointer = UnsafeMutablePointer<Connection>

/// One TCP connection or listener: the transmission control block of RFC 9293, section 3.3.1.
///
/// Sequence variables have the RFC's meanings: `sendUnacknowledged` is SND.UNA, `sendNext` SND.NXT, `receiveNext` RCV.NXT and so on. After a
/// retransmission timeout `sendNext` goes back to `sendUnacknowledged`; `sendMaximum` keeps what was sent at most.
struct Connection: SlabElement {
    // MARK: Demultiplexing
    var remoteAddress = IPAddress(ipv4Raw: 0)
    var localAddress = IPAddress(ipv4Raw: 0)
    /// Both IPv4 addresses as they lie in an arriving packet; 0 for IPv6.
    var rawAddresses: UInt64 = 0
    /// The remote port above, the local port below, as in the flow table.
    var ports: UInt32 = 0
    var index: UInt32 = 0
    var owner: UInt32 = 0
    /// Bound to ::, but not for IPv4.
    var isIPv6Only = false
    var packetOptions = PacketOptions()
    var flags = ConnectionFlags()
    var state = ConnectionState.closed
    var events = ConnectionEvents()
    /// The data offset and flags of a plain segment with ACK and PSH, as they are loaded from it.
    var plainControl: UInt16 = 0
    /// The neighbor epoch in which its segments may go the short way (PlainSegments) over IPv4, and over IPv6; 0 for none.
    var plainHeaderEpoch: UInt32 = 0
    var plainIPv6HeaderEpoch: UInt32 = 0
    /// The window scale that the peer applies to what it advertises, and that we apply.
    var sendWindowShift: UInt8 = 0
    var receiveWindowShift: UInt8 = 0
    /// 1 while the owner waits for the next bytes: if there is nothing to receive before, `turn` delivers them as they come.
    var awaitsData: UInt8 = 0

    // MARK: Receiving
    var receiveNext = SequenceNumber(rawValue: 0)
    /// The right edge of the window that the peer was told of: it never moves left (RFC 9293, section 3.8.6).
    //= RFC 7323 section 2.4
    //# The receiver honors, as in window, any segment that would have been in window for any ACK sent by the receiver.
    var receiveEdge = SequenceNumber(rawValue: 0)
    var lastAcknowledged = SequenceNumber(rawValue: 0)
    /// TS.Recent (RFC 7323, section 4.3).
    var recentTimestamp: UInt32 = 0
    var receiveHead: Frame?
    var receiveTail: Frame?
    /// Bytes in the receive queue, and those of the blocks that hold them.
    var receiveByteCount = 0
    var receivePinnedByteCount = 0
    var receiveLimit = 0
    /// Segments received since the last acknowledgement.
    var unacknowledgedSegments: UInt16 = 0
    var receiveSegmentSize: UInt16 = 536
    var timestampOffset: UInt32 = 0

    // MARK: Sending
    var sendUnacknowledged = SequenceNumber(rawValue: 0)
    var sendNext = SequenceNumber(rawValue: 0)
    var sendMaximum = SequenceNumber(rawValue: 0)
    /// SND.WND in bytes, and where it was last updated from (SND.WL1, SND.WL2).
    var sendWindow = 0
    var windowUpdateSequence = SequenceNumber(rawValue: 0)
    var windowUpdateAcknowledgement = SequenceNumber(rawValue: 0)
    var maximumSendWindow = 0
    /// The bytes from `sendUnacknowledged` on, as a chain of segments.
    var sendHead: Frame?
    var sendTail: Frame?
    /// Where the byte at `sendNext` lies; nil behind the last one.
    var sendCursor: Frame?
    var sendCursorOffset = 0
    var sendByteCount = 0
    var sendLimit = 0
    /// Bytes of payload in a full segment, the options subtracted (Eff.snd.MSS of RFC 9293, section 3.7.1).
    var sendSegmentSize = 536
    /// The same, before anything was learnt of the path.
    var offeredSegmentSize: UInt16 = 536
    /// When a larger one is tried again; `.max` where none is known to be too large.
    var segmentSizeValidUntil = UInt64.max
    var congestion = CongestionControl(.cubic)
    var ecn = CongestionMarks()
    /// What was sent when a mark last reduced the window, and the acknowledgement that had an echo last; meaningful with ECN.
    var reductionEnd = SequenceNumber(rawValue: 0)
    var echoedAcknowledgement = SequenceNumber(rawValue: 0)
    var duplicateAcknowledgements: UInt16 = 0
    var retransmissionCount: UInt16 = 0
    /// RFC 6582's `recover`.
    var recoverySequence = SequenceNumber(rawValue: 0)
    var timedSequence = SequenceNumber(rawValue: 0)
    var timedAt: UInt64 = 0
    var scoreboard = Scoreboard()
    var recovery = LossRecovery()
    var roundTrip = RoundTripEstimator()
    var lastSendTime: UInt64 = 0
    /// What was unacknowledged when the timed segment was sent, and what was acknowledged by the time it was.
    var timedUnacknowledged = SequenceNumber(rawValue: 0)
    var deliveredByteCount = 0
    var deliveryInterval: UInt64 = 0
    var retransmittedSegments: UInt32 = 0

    // MARK: Timers, as deadlines; `.max` for none
    var retransmitDeadline = UInt64.max
    var acknowledgeDeadline = UInt64.max
    var keepAliveDeadline = UInt64.max
    /// The end of TIME_WAIT, of FIN_WAIT_2, of a linger.
    var lifetimeDeadline = UInt64.max
    var timerDeadline = UInt64.max
    var timer = TimerIdentifier.none

    // MARK: Headers
    var template = HeaderTemplate()
    var templateEpoch: UInt32 = 0
    var neighbor: UInt32 = 0
    var templateValidUntil: UInt64 = 0

    // MARK: Chains
    var nextFree: UInt32 = 0
    var nextAwaitingOutput: UInt32 = 0
    /// The next bound socket of the same port.
    var nextOnPort: UInt32 = 0
    /// In TIME_WAIT, or among a listener's children.
    var nextSibling: UInt32 = 0
    var previousSibling: UInt32 = 0
    var listener: UInt32 = 0

    // MARK: Listener
    var acceptQueue = SlotQueue()
    var halfOpen = SlotQueue()
    var acceptCount: UInt32 = 0
    var halfOpenCount: UInt32 = 0
    var backlog: UInt32 = 0
    /// What a paced connection has besides; 0 for one that is not.
    var rateControl: UInt32 = 0

    // MARK: Rare
    var reassembly = ReassemblyQueue()
    var selective = SelectiveAcknowledgements()
    var finSequence = SequenceNumber(rawValue: 0)
    /// Bytes sent by limited transmit since the last acknowledgement of new data; meaningful while duplicates are counted.
    var limitedTransmitByteCount = 0
    var initialSendSequence = SequenceNumber(rawValue: 0)
    var initialReceiveSequence = SequenceNumber(rawValue: 0)
    var error: Int32 = 0
    var softError: Int32 = 0
    var answers = AnswerCounts()
    var keepAliveProbeCount: UInt16 = 0
    //= RFC 9293 section 3.8.4
    //# This interval MUST default to no less than two hours (MUST-28).
    var keepAliveIdle: UInt64 = 7_200_000_000_000
    var keepAliveInterval: UInt64 = 75_000_000_000
    var lastReceiveTime: UInt64 = 0
    /// RFC 5482; 0 for none.
    var userTimeout: UInt64 = 0
    var unacknowledgedSince: UInt64 = 0
    /// Seconds of linger; -1 for none.
    var linger: Int32 = -1
    // Growth of the receive buffer.
    var growthSequence = SequenceNumber(rawValue: 0)
    var growthTime: UInt64 = 0

    init() {}

    var localPort: UInt16 { UInt16(truncatingIfNeeded: ports) }
    var remotePort: UInt16 { UInt16(truncatingIfNeeded: ports >> 16) }
    var local: Endpoint { Endpoint(address: localAddress, port: localPort) }
    var remote: Endpoint { Endpoint(address: remoteAddress, port: remotePort) }

    /// The sequence number behind the last byte of the send queue; the FIN's, if there is one.
    @inline(__always)
    var sendEnd: SequenceNumber { sendUnacknowledged.advanced(by: sendByteCount) }

    /// Bytes (and a FIN) sent and not acknowledged, counted to `sendNext`.
    @inline(__always)
    var flightSize: Int { sendMaximum.since(sendUnacknowledged) }
}

extension SequenceNumber {
    /// How far this one lies behind `other`; negative if before it. Meaningful up to 2^31 (RFC 9293, section 3.4).
    @inline(__always)
    func since(_ other: SequenceNumber) -> Int { Int(Int32(bitPattern: rawValue &- other.rawValue)) }

    @inline(__always)
    func advanced(by count: Int) -> SequenceNumber { SequenceNumber(rawValue: rawValue &+ UInt32(truncatingIfNeeded: count)) }
}
