import DatapathMemory
import EthernetDevice
import Glibc
import TaskScheduler
import WireFormats

/// The stack's state, at one address for its whole life. Reached through `NetworkStack`.
struct StackState: ~Copyable {
    var now: UInt64
    let heap: DatapathHeap
    /// Below this the heap is under no pressure, for one comparison instead of four; above it the heap is asked.
    let pressureByteCount: Int
    let configuration: NetworkConfiguration
    var timers: TimerWheel
    var random: StackRandom
    let output: UnsafeMutablePointer<OutputRing>
    /// Frames to the stack's own addresses.
    var loopback = FrameQueue()
    /// The ECN field of the packet whose segment is being processed.
    var arrivingCodepoint: UInt8 = 0
    var statistics = NetworkStatistics()
    /// What the device does for us.
    let offloads: DeviceOffloads

    // Interface
    let macAddress: MACAddress
    /// The same as eight bytes of a frame have it that were loaded and shifted left by two bytes: those that stand behind it fall out.
    let shiftedMACAddress: UInt64
    let maximumTransmissionUnit: Int
    /// The largest payload of a datagram over IPv4 that the link takes whole.
    let maximumPlainDatagramByteCount: Int
    let interfaceAddresses: [IPv4Prefix]
    /// The raw form of the first address, for the comparison that nearly every packet needs; 0, from which no packet can come, for none.
    let primaryAddressRaw: UInt32
    let routing: RoutingTable
    var ipv6: IPv6Interface
    let fragmentIdentification: FragmentIdentification

    // Tables
    var neighbors: Slab<Neighbor>
    var neighborCache: NeighborCache
    /// Raised whenever what a connection has copied from a neighbour may no longer hold.
    var neighborEpoch: UInt32 = 1
    var pathMTUs = PathMTUTable()
    /// What routers said of datagrams.
    var datagramPathMTUs = PathMTUTable()
    var redirects: RedirectTable
    var reassembly: ReassemblyTable
    var errorBucket: TokenBucket
    /// The groups that sockets have joined.
    var groups = MulticastGroups()
    /// What routers are told of these and of the addresses' own groups, of each family.
    let igmp: GroupMembershipsPointer
    let mld: GroupMembershipsPointer
    var resetBucket: TokenBucket
    var datagramSockets: Slab<DatagramSocket>
    let datagramPorts: UnsafeMutablePointer<UInt32>
    var lastSender = LastSender()
    /// Spreads senders over the sockets that share a port.
    let datagramSecret: SipHashKey
    var connections: Slab<Connection>
    var transmissions: Slab<TransmissionRecord>
    /// What each of them remembers that belongs to a connection with a model; the others' pages are never touched.
    let deliverySnapshots: UnsafeMutablePointer<DeliverySnapshot>
    // What connections are lent; as many of each as connections, so that none is ever missing. Pages that were never used are not backed.
    var rateControls: Slab<RateControl>
    var listenerQueues: Slab<ListenerQueues>
    var connectionSettings: Slab<ConnectionSettings>
    var congestionHistories: Slab<CongestionHistory>
    var exceptionalStates: Slab<ExceptionalState>
    let connectionPorts: UnsafeMutablePointer<UInt32>
    var flows: FlowTable
    let sequenceSecret: SipHashKey
    var nextEphemeralPort: UInt16

    // Sockets with something to tell, and connections that could not send because `output` was full, chained through their slots.
    /// Slots in both rings of events.
    var eventCount = 0
    var connectionEvents: SlotRing
    var datagramEvents: SlotRing
    var awaitingOutput = SlotQueue()
    /// Connections in TIME_WAIT, oldest first.
    var timeWait = SlotQueue()
    var timeWaitCount = 0
    /// When the last SYN cookie is no longer valid: before that, an acknowledgement for a listener may bring one.
    var cookiesValidUntil: UInt64 = 0
    /// Until when there may be peers whose cookie had to be refused.
    var cookiesRefusedUntil: UInt64 = 0
    let halfOpenSources: HalfOpenSources

    static func make(_ configuration: NetworkConfiguration, heap: DatapathHeap, now: UInt64) throws(DemikernelError) -> UnsafeMutablePointer<StackState> {
        let limits = configuration.limits
        var random = StackRandom(seed: configuration.seed)
        let state = UnsafeMutablePointer<StackState>.allocate(capacity: 1)
        let connections = try Slab<Connection>(capacity: limits.maximumConnections)
        state.initialize(
            to: StackState(
                now: now, heap: heap, pressureByteCount: heap.statistics.limitByteCount / 2, configuration: configuration,
                timers: TimerWheel(capacity: limits.maximumConnections + limits.maximumNeighbors + 16, now: now), random: random,
                output: .allocate(capacity: 1),
                offloads: configuration.offloads, macAddress: configuration.macAddress,
                shiftedMACAddress: (configuration.macAddress.value << 16).bigEndian << 16,
                maximumTransmissionUnit: configuration.maximumTransmissionUnit,
                maximumPlainDatagramByteCount: configuration.maximumTransmissionUnit - IPv4Header.byteCount - UDPHeader.byteCount, interfaceAddresses: configuration.addresses,
                primaryAddressRaw: configuration.addresses.first?.address.ipv4Raw ?? 0, routing: RoutingTable(configuration),
                ipv6: IPv6Interface(configuration),
                fragmentIdentification: FragmentIdentification(secret: SipHashKey(random.next(), random.next()), random: &random),
                neighbors: try Slab(capacity: limits.maximumNeighbors),
                neighborCache: try NeighborCache(capacity: limits.maximumNeighbors, key: (random.next(), random.next())),
                redirects: RedirectTable(capacity: limits.redirectedDestinations), reassembly: try ReassemblyTable(capacity: limits.fragmentedDatagrams, secret: SipHashKey(random.next(), random.next())),
                errorBucket: TokenBucket(perSecond: limits.controlMessagesPerSecond, burst: limits.controlMessageBurst), igmp: .allocate(capacity: 1),
                mld: .allocate(capacity: 1),
                resetBucket: TokenBucket(perSecond: limits.resetsPerSecond, burst: limits.resetsPerSecond),
                datagramSockets: try Slab(capacity: limits.maximumDatagramSockets), datagramPorts: try mapTable(UInt32.self, count: 65_536),
                datagramSecret: SipHashKey(random.next(), random.next()),
                connections: connections, transmissions: try Slab(capacity: limits.transmissionRecords),
                deliverySnapshots: try mapTable(DeliverySnapshot.self, count: limits.transmissionRecords + 1),
                rateControls: try Slab(capacity: limits.maximumConnections), listenerQueues: try Slab(capacity: limits.maximumConnections),
                connectionSettings: try Slab(capacity: limits.maximumConnections),
                congestionHistories: try Slab(capacity: limits.maximumConnections), exceptionalStates: try Slab(capacity: limits.maximumConnections),
                connectionPorts: try mapTable(UInt32.self, count: 65_536),
                flows: try FlowTable(capacity: limits.maximumConnections, key: (random.next(), random.next()), nobody: connections[0]),
                sequenceSecret: SipHashKey(random.next(), random.next()), nextEphemeralPort: UInt16(truncatingIfNeeded: random.next()),
                connectionEvents: try SlotRing(slotCount: limits.maximumConnections),
                datagramEvents: try SlotRing(slotCount: limits.maximumDatagramSockets),
                halfOpenSources: try HalfOpenSources(SipHashKey(random.next(), random.next()))))
        state.pointee.random = random
        state.pointee.output.initialize(to: OutputRing())
        state.pointee.igmp.initialize(to: try GroupMemberships(isIPv4: true, configuration))
        state.pointee.mld.initialize(to: try GroupMemberships(isIPv4: false, configuration))
        return state
    }

    mutating func deallocateTables() {
        timers.deallocate()
        routing.deallocate()
        ipv6.deallocate()
        neighbors.deallocate()
        neighborCache.deallocate()
        datagramSockets.deallocate()
        connections.deallocate()
        transmissions.deallocate()
        unmapTable(deliverySnapshots, count: configuration.limits.transmissionRecords + 1)
        rateControls.deallocate()
        listenerQueues.deallocate()
        connectionSettings.deallocate()
        congestionHistories.deallocate()
        exceptionalStates.deallocate()
        flows.deallocate()
        pathMTUs.deallocate()
        datagramPathMTUs.deallocate()
        redirects.deallocate()
        fragmentIdentification.deallocate()
        reassembly.deallocate()
        groups.deallocate()
        igmp.pointee.deallocate()
        mld.pointee.deallocate()
        igmp.deallocate()
        mld.deallocate()
        connectionEvents.deallocate()
        datagramEvents.deallocate()
        halfOpenSources.deallocate()
        output.pointee.deallocate()
        output.deallocate()
        unmapTable(datagramPorts, count: 65_536)
        unmapTable(connectionPorts, count: 65_536)
    }
}

/// Zeroed memory at one address, backed page by page as it is used.
func mapTable<Element>(_ type: Element.Type, count: Int) throws(DemikernelError) -> UnsafeMutablePointer<Element> {
    let byteCount = count * MemoryLayout<Element>.stride
    guard let mapping = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | Int32(MAP_NORESERVE), -1, 0), mapping != MAP_FAILED
    else { throw DemikernelError(ENOMEM, .initialize, "the network stack's tables could not be mapped: configure lower limits") }
    return mapping.bindMemory(to: type, capacity: count)
}

func unmapTable<Element>(_ table: UnsafeMutablePointer<Element>, count: Int) {
    munmap(table, count * MemoryLayout<Element>.stride)
}
