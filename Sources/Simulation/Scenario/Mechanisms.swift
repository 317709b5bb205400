import NetworkStack

/// How often each mechanism of the network stack fired, over all hosts of one or many worlds.
public struct Mechanisms: Sendable {
    /// One mechanism.
    public struct Count: Sendable {
        public let name: String
        public var value: UInt64
        /// Whether a sweep that is large enough must have met it.
        public let isRequired: Bool
    }

    public private(set) var counts: [Count]

    public init() {
        counts = Mechanisms.list(NetworkStatistics(), WireChecker.IPv6Counts())
    }

    public mutating func add(_ statistics: NetworkStatistics) { add(Mechanisms.list(statistics, WireChecker.IPv6Counts())) }

    /// What the hosts of a world sent over IPv6.
    public mutating func add(_ ipv6: WireChecker.IPv6Counts) { add(Mechanisms.list(NetworkStatistics(), ipv6)) }

    private mutating func add(_ list: [Count]) {
        for index in counts.indices { counts[index].value += list[index].value }
    }

    public mutating func add(_ other: Mechanisms) { add(other.counts) }

    /// Those that should have fired and did not.
    public var missing: [String] { counts.filter { $0.isRequired && $0.value == 0 }.map(\.name) }

    private static func list(_ statistics: NetworkStatistics, _ ipv6: WireChecker.IPv6Counts) -> [Count] {
        let tcp = statistics.tcp
        var list: [Count] = []
        func count(_ name: String, _ value: UInt64, isRequired: Bool = true) { list.append(Count(name: name, value: value, isRequired: isRequired)) }
        count("segments sent", tcp.segmentsSent)
        count("segments received", tcp.segmentsReceived)
        count("header predictions", tcp.headerPredictions)
        count("SYN cookies sent", tcp.cookiesSent)
        count("SYN cookies accepted", tcp.cookiesAccepted)
        count("connections opened", tcp.connectionsOpened)
        count("connections accepted", tcp.connectionsAccepted)
        count("connections failed", tcp.connectionsFailed)
        count("connections reset", tcp.connectionsReset)
        count("connections timed out", tcp.connectionsTimedOut)
        count("simultaneous opens", tcp.simultaneousOpens)
        count("simultaneous closes", tcp.simultaneousCloses)
        count("retransmission timeouts", tcp.retransmissionTimeouts)
        count("retransmitted segments", tcp.retransmittedSegments)
        count("fast retransmits", tcp.fastRetransmits)
        count("partial acknowledgements", tcp.partialAcknowledgements)
        count("duplicate acknowledgements", tcp.duplicateAcknowledgements)
        count("delayed acknowledgements", tcp.delayedAcknowledgements)
        count("zero-window probes", tcp.zeroWindowProbes)
        count("zero windows advertised", tcp.zeroWindowsAdvertised)
        count("window updates", tcp.windowUpdates)
        count("out-of-order segments", tcp.outOfOrderSegments)
        count("reassembled segments", tcp.reassembledSegments)
        count("collapsed segments", tcp.collapsedSegments)
        count("challenge acknowledgements", tcp.challengeAcknowledgements)
        count("resets sent", tcp.resetsSent)
        count("resets received", tcp.resetsReceived)
        count("keep-alive probes", tcp.keepAliveProbes)
        count("TIME_WAIT entered", tcp.timeWaitEntered)
        count("TIME_WAIT reused", tcp.timeWaitReused)
        count("TIME_WAIT evicted", tcp.timeWaitEvicted)
        count("old timestamps", tcp.oldTimestamps)
        count("receive buffer growths", tcp.receiveBufferGrowths)
        count("idle restarts", tcp.idleRestarts)
        count("conservative slow starts", tcp.conservativeSlowStarts)
        count("connections with ECN", tcp.congestionCapableConnections)
        count("congestion marks", tcp.congestionMarks)
        count("congestion echoes", tcp.congestionEchoes)
        count("reductions for marks", tcp.markedReductions)
        count("Nagle delays", tcp.nagleDelays)
        count("silly window delays", tcp.sillyWindowDelays)
        count("selective blocks sent", tcp.selectiveBlocksSent)
        count("duplicates reported", tcp.duplicatesReported)
        count("selective blocks received", tcp.selectiveBlocksReceived)
        count("duplicates reported by peers", tcp.duplicatesReportedByPeer)
        count("selective recoveries", tcp.selectiveRecoveries)
        count("segments marked lost", tcp.segmentsMarkedLost)
        count("reorderings detected", tcp.reorderingsDetected)
        count("reorderings reported as duplicates", tcp.reorderingsReported)
        count("reordering timeouts", tcp.reorderingTimeouts)
        count("tail loss probes", tcp.tailLossProbes)
        count("tail losses repaired", tcp.tailLossesRepaired)
        count("spurious recoveries", tcp.spuriousRecoveries)
        // Timestamps find nearly all of them first.
        count("spurious timeouts", tcp.spuriousTimeouts, isRequired: false)
        count("transmissions not recorded", tcp.transmissionsNotRecorded)
        count("pacing delays", tcp.pacingDelays)
        count("models that left Startup", tcp.modelDrains)
        count("models whose bandwidth grew no more", tcp.modelPlateaus)
        count("models that cruise", tcp.modelCruises)
        count("probes for bandwidth", tcp.bandwidthProbes)
        count("probes for the round trip", tcp.roundTripProbes)
        count("probes for bandwidth that were too much", tcp.inflightReductions)
        count("probes for bandwidth that lost too much", tcp.inflightReductionsByLoss)
        count("models suspended", tcp.modelSuspensions)
        count("segments over IPv6", ipv6.segments)
        count("datagrams over IPv6", ipv6.datagrams)
        count("fragments over IPv6", ipv6.fragments)
        count("neighbor solicitations", statistics.neighborSolicitationsSent)
        count("neighbor advertisements", statistics.neighborAdvertisementsSent)
        count("ARP requests", statistics.arpRequestsSent)
        count("ARP replies", statistics.arpRepliesSent)
        count("control messages", statistics.controlMessagesSent)
        count("datagrams sent", statistics.datagramsSent)
        count("datagrams received", statistics.datagramsReceived)
        count("datagrams sent in fragments", statistics.datagramsFragmented)
        count("datagrams put together", statistics.datagramsReassembled)
        count("reports of groups of IPv4", statistics.membershipReportsSent)
        count("reports of groups of IPv6", statistics.listenerReportsSent)
        for reason in DropReason.allCases {
            count("dropped: \(reason)", statistics.drops[reason], isRequired: requiredDrops.contains(reason))
        }
        return list
    }

    private static let requiredDrops: Set<DropReason> = [
        .notForThisHost, .badARP, .unsolicitedARP, .badIPv4Header, .badIPv4Checksum, .neighborUnreachable, .neighborQueueFull, .outOfMemory,
        .badDatagramChecksum, .noDatagramSocket, .receiveQueueFull, .badSegmentChecksum, .noConnection, .backlogOverflow, .outsideWindow, .oldTimestamp,
        .badAcknowledgement, .challengeRateLimited, .acknowledgementRateLimited, .reassemblyOverflow, .dataAfterClose, .duplicateData, .unexpectedFlags,
        .fragmentTooShort, .fragmentMisaligned, .fragmentTooLong, .fragmentOverlap, .fragmentBeyondEnd, .tooManyFragments, .reassemblyTimeout,
    ]
}
