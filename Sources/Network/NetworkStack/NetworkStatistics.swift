/// Why a frame, packet, segment or datagram went no further.
public enum DropReason: Int, CaseIterable, Sendable {
    // Ethernet
    case frameTooShort, notForThisHost, unknownEtherType
    // ARP
    case badARP, unsolicitedARP, addressConflict
    // IPv4
    case badIPv4Header, badIPv4Checksum, notOurAddress, badSourceAddress, fragmentTooShort, sourceRouted, unknownProtocol
    // Sending
    case noRoute, neighborUnreachable, neighborQueueFull, outOfMemory
    // ICMP
    case badControlMessage, unmatchedControlMessage, controlMessageRateLimited
    // UDP
    case badDatagram, badDatagramChecksum, noDatagramSocket, receiveQueueFull
    // TCP
    case badSegment, badSegmentChecksum, noConnection, resetRateLimited, backlogOverflow, connectionLimit, outsideWindow, oldTimestamp
    case badAcknowledgement, challengeRateLimited, reassemblyOverflow, dataAfterClose, duplicateData, unexpectedFlags
    case acknowledgementRateLimited, halfOpenSourceLimit
    // IPv6
    case badIPv6Header, badNeighborDiscovery, unsolicitedAdvertisement
    // Fragments of both families: one is counted each time, with all that has come of its datagram where that goes with it
    case fragmentMisaligned, fragmentTooLong, fragmentOverlap, duplicateFragment, fragmentBeyondEnd, fragmentMarks, tooManyFragments
    case reassemblyLimit, reassemblyTimeout
    // Multicast: nobody here has joined the group; a query or report of IGMP or MLD is malformed or does not come from the link; there are too many
    case groupNotJoined, badGroupMessage, groupQueryRateLimited
    // Redirects of both families: the configuration takes none; or not this one
    case redirectRefused, badRedirect
}

/// How often each drop reason was met.
public struct DropCounts: Sendable {
    private var counts = InlineArray<64, UInt64>(repeating: 0)

    public init() {}

    public subscript(reason: DropReason) -> UInt64 {
        get { counts.span[reason.rawValue] }
        set {
            var span = counts.mutableSpan
            span[reason.rawValue] = newValue
        }
    }

    /// All of them together.
    public var total: UInt64 { DropReason.allCases.reduce(0) { $0 + self[$1] } }
}

/// Counts of a network stack since it was made, and its state now.
public struct NetworkStatistics: Sendable {
    /// The layout's version: a field is only ever added at the end, with a higher version.
    public let version: UInt32 = 5
    public var drops = DropCounts()
    public var framesReceived: UInt64 = 0
    public var framesSent: UInt64 = 0
    public var connections = 0
    public var datagramSockets = 0
    public var neighbors = 0
    public var tcp = TCPStatistics()
    public var arpRequestsSent: UInt64 = 0
    public var arpRepliesSent: UInt64 = 0
    public var controlMessagesSent: UInt64 = 0
    public var echoRepliesSent: UInt64 = 0
    public var datagramsReceived: UInt64 = 0
    public var datagramsSent: UInt64 = 0
    public var neighborSolicitationsSent: UInt64 = 0
    public var neighborAdvertisementsSent: UInt64 = 0
    public var routerSolicitationsSent: UInt64 = 0
    public var listenerReportsSent: UInt64 = 0
    public var duplicateAddresses: UInt64 = 0
    /// Fragments of either family that came, and the datagrams that were put together of them.
    public var fragmentsReceived: UInt64 = 0
    public var datagramsReassembled: UInt64 = 0
    /// Fragments that were sent, and the packets that were cut into them.
    public var fragmentsSent: UInt64 = 0
    public var datagramsFragmented: UInt64 = 0
    /// Reports and leaves of IGMP; `listenerReportsSent` are those of MLD.
    public var membershipReportsSent: UInt64 = 0
    /// Redirects of either family that were followed.
    public var redirectsAccepted: UInt64 = 0
    /// Datagrams received the short way, and sent so.
    public var datagramPredictions: UInt64 = 0
    public var plainDatagramsSent: UInt64 = 0

    public init() {}
}

/// How often each mechanism of TCP fired.
public struct TCPStatistics: Sendable {
    public var segmentsReceived: UInt64 = 0
    public var segmentsSent: UInt64 = 0
    public var connectionsOpened: UInt64 = 0
    public var connectionsAccepted: UInt64 = 0
    public var connectionsFailed: UInt64 = 0
    public var connectionsReset: UInt64 = 0
    public var connectionsTimedOut: UInt64 = 0
    public var retransmissionTimeouts: UInt64 = 0
    public var retransmittedSegments: UInt64 = 0
    public var fastRetransmits: UInt64 = 0
    public var partialAcknowledgements: UInt64 = 0
    public var duplicateAcknowledgements: UInt64 = 0
    public var delayedAcknowledgements: UInt64 = 0
    public var zeroWindowProbes: UInt64 = 0
    public var zeroWindowsAdvertised: UInt64 = 0
    public var windowUpdates: UInt64 = 0
    public var outOfOrderSegments: UInt64 = 0
    public var reassembledSegments: UInt64 = 0
    public var collapsedSegments: UInt64 = 0
    public var challengeAcknowledgements: UInt64 = 0
    public var resetsSent: UInt64 = 0
    public var resetsReceived: UInt64 = 0
    public var keepAliveProbes: UInt64 = 0
    public var timeWaitEntered: UInt64 = 0
    public var timeWaitReused: UInt64 = 0
    public var timeWaitEvicted: UInt64 = 0
    public var simultaneousOpens: UInt64 = 0
    public var simultaneousCloses: UInt64 = 0
    public var oldTimestamps: UInt64 = 0
    public var receiveBufferGrowths: UInt64 = 0
    public var idleRestarts: UInt64 = 0
    public var nagleDelays: UInt64 = 0
    public var sillyWindowDelays: UInt64 = 0
    /// Segments received the short way; `plainSegmentsSent` are those sent so.
    public var headerPredictions: UInt64 = 0
    public var cookiesSent: UInt64 = 0
    public var cookiesAccepted: UInt64 = 0
    public var pathMTUReductions: UInt64 = 0
    public var blackHolesSuspected: UInt64 = 0
    /// Slow starts that became conservative as round trips grew (RFC 9406).
    public var conservativeSlowStarts: UInt64 = 0
    /// Connections that use ECN; data that routers have marked, echoes of such marks, and reductions of a window because of them.
    public var congestionCapableConnections: UInt64 = 0
    public var congestionMarks: UInt64 = 0
    public var congestionEchoes: UInt64 = 0
    public var markedReductions: UInt64 = 0
    /// Blocks that told the peer of out-of-order data, and those of duplicates (RFC 2018, RFC 2883).
    public var selectiveBlocksSent: UInt64 = 0
    public var duplicatesReported: UInt64 = 0
    /// The same of the peer's.
    public var selectiveBlocksReceived: UInt64 = 0
    public var duplicatesReportedByPeer: UInt64 = 0
    /// Recoveries by RFC 8985's rules; `fastRetransmits` counts them, too.
    public var selectiveRecoveries: UInt64 = 0
    public var segmentsMarkedLost: UInt64 = 0
    public var reorderingsDetected: UInt64 = 0
    /// Connections that have learnt of late segments by the report of a duplicate, and of no other sign before.
    public var reorderingsReported: UInt64 = 0
    public var reorderingTimeouts: UInt64 = 0
    public var tailLossProbes: UInt64 = 0
    public var tailLossesRepaired: UInt64 = 0
    /// Recoveries that were taken back, and those of them after a timeout that RFC 5682 found.
    public var spuriousRecoveries: UInt64 = 0
    public var spuriousTimeouts: UInt64 = 0
    /// Segments sent without a record because none was left.
    public var transmissionsNotRecorded: UInt64 = 0
    /// Records of segments in flight, now.
    public var transmissionRecords = 0
    /// Records that connections have now beside their own: listeners' queues, settings, congestion histories, exceptional states.
    public var lentRecords = 0
    public var plainSegmentsSent: UInt64 = 0
    /// Times that a send buffer grew with the congestion window.
    public var sendBufferGrowths: UInt64 = 0
    /// Times that a segment waited for its turn at the pacing rate.
    public var pacingDelays: UInt64 = 0
    /// Models of paths (BBR) that left Startup for Drain, entered ProbeBW_CRUISE, ProbeBW_UP and ProbeRTT, and that rested because records were missing.
    public var modelDrains: UInt64 = 0
    public var modelCruises: UInt64 = 0
    public var bandwidthProbes: UInt64 = 0
    public var roundTripProbes: UInt64 = 0
    /// Startups that ended because the bandwidth grew no more.
    public var modelPlateaus: UInt64 = 0
    /// Probes for bandwidth of which more was lost than 2 %, or marked: they have reduced what may be in flight. And the former alone.
    public var inflightReductions: UInt64 = 0
    public var inflightReductionsByLoss: UInt64 = 0
    public var modelSuspensions: UInt64 = 0

    public init() {}
}
