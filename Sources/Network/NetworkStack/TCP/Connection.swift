import DatapathMemory
import EthernetDevice
import TaskScheduler
import WireFormats

typealias ConnectionPointer = UnsafeMutablePointer<Connection>

/// One TCP connection or listener: the transmission control block of RFC 9293, section 3.3.1.
///
/// Sequence variables have the RFC's meanings: `sendUnacknowledged` is SND.UNA, `sendNext` SND.NXT, `receiveNext` RCV.NXT and so on. After a
/// retransmission timeout `sendNext` goes back to `sendUnacknowledged`; `sendMaximum` keeps what was sent at most.
///
/// What every segment needs stands here. What only some connections have, or one has only for a while, stands in records of other slabs, which are lent
/// (`ListenerQueues`, `ConnectionSettings`, `CongestionHistory`, `ExceptionalState`, `RateControl`): a connection that idles has none of them. Byte counts
/// that no window or buffer lets grow beyond 1 GiB have 32 bits, and are numbers of the usual width to all who use them.
struct Connection: SlabElement {
    // MARK: Demultiplexing
    /// Both IPv4 addresses as they lie in an arriving packet; 0 for IPv6.
    var rawAddresses: UInt64 = 0
    /// The remote port above, the local port below, as in the flow table.
    var ports: UInt32 = 0
    var flags = ConnectionFlags()
    /// The data offset and flags of a plain segment with ACK and PSH, as they are loaded from it.
    var plainControl: UInt16 = 0
    var state = ConnectionState.closed
    var events = ConnectionEvents()
    /// The window scale that the peer applies to what it advertises, and that we apply.
    var sendWindowShift: UInt8 = 0
    var receiveWindowShift: UInt8 = 0
    /// 1 while the owner waits for the next bytes: if there is nothing to receive before, `turn` delivers them as they come.
    var awaitsData: UInt8 = 0
    var ecn = CongestionMarks()
    var owner: UInt32 = 0
    var index: UInt32 = 0

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
    fileprivate(set) var receiveByteCount32: UInt32 = 0
    private var receivePinnedByteCount32: UInt32 = 0
    fileprivate(set) var receiveLimit32: UInt32 = 0
    /// Segments received since the last acknowledgement.
    var unacknowledgedSegments: UInt16 = 0
    var receiveSegmentSize: UInt16 = 536
    var timestampOffset: UInt32 = 0
    // Growth of the receive buffer.
    var growthSequence = SequenceNumber(rawValue: 0)
    var growthTime: UInt64 = 0
    var lastReceiveTime: UInt64 = 0
    var reassembly = ReassemblyQueue()
    var selective = SelectiveAcknowledgements()
    /// Bound to ::, but not for IPv4.
    var isIPv6Only = false
    private var error16: Int16 = 0

    // MARK: Sending
    var sendUnacknowledged = SequenceNumber(rawValue: 0)
    var sendNext = SequenceNumber(rawValue: 0)
    var sendMaximum = SequenceNumber(rawValue: 0)
    fileprivate(set) var sendWindow32: UInt32 = 0
    private var maximumSendWindow32: UInt32 = 0
    /// Where the window was last updated from (SND.WL1, SND.WL2).
    var windowUpdateSequence = SequenceNumber(rawValue: 0)
    var windowUpdateAcknowledgement = SequenceNumber(rawValue: 0)
    fileprivate(set) var sendSegmentSize32: UInt32 = 536
    fileprivate(set) var sendLimit32: UInt32 = 0
    var initialSendSequence = SequenceNumber(rawValue: 0)
    /// The bytes from `sendUnacknowledged` on, as a chain of segments.
    var sendHead: Frame?
    var sendTail: Frame?
    /// Where the byte at `sendNext` lies; nil behind the last one.
    var sendCursor: Frame?
    var sendByteCount = 0
    var congestion = CongestionControl(.cubic)
    /// The largest segment before anything was learnt of the path.
    var offeredSegmentSize: UInt16 = 536
    private var sendCursorOffset32: UInt32 = 0
    var duplicateAcknowledgements: UInt16 = 0
    var retransmissionCount: UInt16 = 0
    /// RFC 6582's `recover`.
    var recoverySequence = SequenceNumber(rawValue: 0)
    /// What was sent when a mark last reduced the window, and the acknowledgement that had an echo last; meaningful with ECN.
    var reductionEnd = SequenceNumber(rawValue: 0)
    var echoedAcknowledgement = SequenceNumber(rawValue: 0)
    /// The segment that is timed, what was unacknowledged when it was sent, and what was acknowledged by the time it was.
    var timedSequence = SequenceNumber(rawValue: 0)
    var timedUnacknowledged = SequenceNumber(rawValue: 0)
    private var deliveredByteCount32: Int32 = 0
    /// Bytes sent by limited transmit since the last acknowledgement of new data; meaningful while duplicates are counted.
    private var limitedTransmitByteCount32: UInt32 = 0
    var timedAt: UInt64 = 0
    var deliveryInterval: UInt64 = 0
    var scoreboard = Scoreboard()
    var lastSendTime: UInt64 = 0
    var unacknowledgedSince: UInt64 = 0
    var roundTrip = RoundTripEstimator()
    var recovery = LossRecovery()
    var finSequence = SequenceNumber(rawValue: 0)

    // MARK: Timers, as deadlines; `.max` for none
    var retransmitDeadline = UInt64.max
    var acknowledgeDeadline = UInt64.max
    var timerDeadline = UInt64.max
    var timer = TimerIdentifier.none

    // MARK: Headers
    var template = HeaderTemplate()
    var packetOptions = PacketOptions()
    private var softError16: Int16 = 0
    var templateEpoch: UInt32 = 0
    /// The neighbor epoch in which its segments may go the short way (`sendPlainData`) over IPv4, and over IPv6; 0 for none.
    var plainHeaderEpoch: UInt32 = 0
    var plainIPv6HeaderEpoch: UInt32 = 0
    var neighbor: UInt32 = 0
    var retransmittedSegments: UInt32 = 0
    var templateValidUntil: UInt64 = 0
    /// When a larger segment is tried again; `.max` where none is known to be too large.
    var segmentSizeValidUntil = UInt64.max
    var remoteAddress = IPAddress(ipv4Raw: 0)
    var localAddress = IPAddress(ipv4Raw: 0)

    // MARK: Chains
    var nextAwaitingOutput: UInt32 = 0
    /// The next bound socket of the same port.
    var nextOnPort: UInt32 = 0
    /// In TIME_WAIT, or among a listener's children.
    var nextSibling: UInt32 = 0
    var previousSibling: UInt32 = 0
    var listener: UInt32 = 0

    // MARK: Lent
    /// What a paced connection has besides; 0 for one that is not.
    var rateControl: UInt32 = 0
    /// A listener's; 0 for all others.
    var listenerQueues: UInt32 = 0
    var initialReceiveSequence = SequenceNumber(rawValue: 0)
    /// nil where nothing was set.
    var settings: UnsafeMutablePointer<ConnectionSettings>?
    /// nil while everything is as it mostly is.
    var exceptional: UnsafeMutablePointer<ExceptionalState>?

    init() {}

    /// The next free slot while this one is free: it is in no chain of siblings then.
    var nextFree: UInt32 {
        get { nextSibling }
        set { nextSibling = newValue }
    }

    var localPort: UInt16 { UInt16(truncatingIfNeeded: ports) }
    var remotePort: UInt16 { UInt16(truncatingIfNeeded: ports >> 16) }
    var local: Endpoint { Endpoint(address: localAddress, port: localPort) }
    var remote: Endpoint { Endpoint(address: remoteAddress, port: remotePort) }

    /// The sequence number behind the last byte of the send queue; the FIN's, if there is one.
    @inline(__always)
    var sendEnd: SequenceNumber { sendUnacknowledged.advanced(by: sendByteCount) }

    /// One more timeout in a row. A user timeout may be patient enough for more of them than the number holds, which then stays.
    mutating func countRetransmission() {
        if retransmissionCount < .max { retransmissionCount &+= 1 }
    }

    /// Bytes (and a FIN) sent and not acknowledged, counted to `sendNext`.
    @inline(__always)
    var flightSize: Int { sendMaximum.since(sendUnacknowledged) }
}

/// Byte counts and errors, as numbers of the usual width.
extension Connection {
    /// The errno that ended the connection, and one that may have; 0 for none.
    var error: Int32 {
        get { Int32(error16) }
        set { error16 = Int16(truncatingIfNeeded: newValue) }
    }

    var softError: Int32 {
        get { Int32(softError16) }
        set { softError16 = Int16(truncatingIfNeeded: newValue) }
    }

    /// Bytes in the receive queue, and those of the blocks that hold them.
    @inline(__always)
    var receiveByteCount: Int {
        get { Int(receiveByteCount32) }
        set { receiveByteCount32 = UInt32(truncatingIfNeeded: newValue) }
    }

    @inline(__always)
    var receivePinnedByteCount: Int {
        get { Int(receivePinnedByteCount32) }
        set { receivePinnedByteCount32 = UInt32(truncatingIfNeeded: newValue) }
    }

    @inline(__always)
    var receiveLimit: Int {
        get { Int(receiveLimit32) }
        set { receiveLimit32 = UInt32(truncatingIfNeeded: newValue) }
    }

    /// SND.WND in bytes.
    @inline(__always)
    var sendWindow: Int {
        get { Int(sendWindow32) }
        set { sendWindow32 = UInt32(truncatingIfNeeded: newValue) }
    }

    @inline(__always)
    var maximumSendWindow: Int {
        get { Int(maximumSendWindow32) }
        set { maximumSendWindow32 = UInt32(truncatingIfNeeded: newValue) }
    }

    /// Bytes of payload in a full segment, the options subtracted (Eff.snd.MSS of RFC 9293, section 3.7.1).
    @inline(__always)
    var sendSegmentSize: Int {
        get { Int(sendSegmentSize32) }
        set { sendSegmentSize32 = UInt32(truncatingIfNeeded: newValue) }
    }

    @inline(__always)
    var sendCursorOffset: Int {
        get { Int(sendCursorOffset32) }
        set { sendCursorOffset32 = UInt32(truncatingIfNeeded: newValue) }
    }

    @inline(__always)
    var sendLimit: Int {
        get { Int(sendLimit32) }
        set { sendLimit32 = UInt32(truncatingIfNeeded: newValue) }
    }

    @inline(__always)
    var deliveredByteCount: Int {
        get { Int(deliveredByteCount32) }
        set { deliveredByteCount32 = Int32(truncatingIfNeeded: newValue) }
    }

    @inline(__always)
    var limitedTransmitByteCount: Int {
        get { Int(limitedTransmitByteCount32) }
        set { limitedTransmitByteCount32 = UInt32(truncatingIfNeeded: newValue) }
    }
}

extension SequenceNumber {
    /// How far this one lies behind `other`; negative if before it. Meaningful up to 2^31 (RFC 9293, section 3.4).
    @inline(__always)
    func since(_ other: SequenceNumber) -> Int { Int(Int32(bitPattern: rawValue &- other.rawValue)) }

    @inline(__always)
    func advanced(by count: Int) -> SequenceNumber { SequenceNumber(rawValue: rawValue &+ UInt32(truncatingIfNeeded: count)) }
}
