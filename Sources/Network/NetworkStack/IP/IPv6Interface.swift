import TaskScheduler
import WireFormats

/// The interface's IPv6 addresses, and the ways to other nodes: those that the configuration gives, and those that routers have advertised. All tables are
/// bounded and lie at fixed addresses.
struct IPv6Interface {
    /// An address of the interface.
    struct Address {
        enum State: UInt8 {
            /// Being verified: nothing is sent from it, and nothing but neighbour discovery received (RFC 4862, section 5.4).
            case tentative
            case preferred
            /// Still received, but no longer chosen as a source (RFC 4862, section 5.5.4).
            case deprecated
            /// Another node has it.
            case duplicate
        }

        var address: IPAddress
        var state = State.tentative
        /// Formed from an advertised prefix; given otherwise, for good.
        var isAutonomous = false
        /// Neighbour solicitations that are left to send, and when the next step is due.
        var transmits: UInt8 = 0
        var nextStep = UInt64.max
        var preferredUntil = UInt64.max
        var validUntil = UInt64.max

        @inline(__always)
        var isAssigned: Bool { state == .preferred || state == .deprecated }
    }

    /// Addresses that are on the link, or beyond a gateway.
    struct Entry {
        var prefix: IPv6Prefix
        /// Unspecified: on the link.
        var gateway: IPAddress
        var validUntil = UInt64.max

        @inline(__always)
        var isOnLink: Bool { gateway.isUnspecified }
    }

    /// A default router that has advertised itself.
    struct Router {
        var address: IPAddress
        var validUntil: UInt64
    }

    /// Default routers that are remembered at once.
    static let maximumRouters = 8
    /// Prefixes that are remembered from advertisements.
    static let maximumAdvertisedPrefixes = 16

    let isEnabled: Bool
    let addresses: UnsafeMutablePointer<Address>
    var addressCount = 0
    let addressCapacity: Int
    /// Longest prefix first.
    let entries: UnsafeMutablePointer<Entry>
    var entryCount = 0
    let entryCapacity: Int
    let routers: UnsafeMutablePointer<Router>
    var routerCount = 0
    /// Of the link, or what a router says it is.
    var maximumTransmissionUnit: Int
    /// Of what is sent (CurHopLimit of RFC 4861, section 6.3.2).
    var hopLimit: UInt8 = 64
    /// Address of the secret of interface identifiers, and of nothing else.
    let secret: SipHashKey?

    // One timer for everything below; `.max` where nothing is due.
    var timer = TimerIdentifier.none
    var timerDeadline = UInt64.max
    /// Router solicitations that are left to send, and when.
    var solicitations: UInt8 = 0
    var solicitationDeadline = UInt64.max

    init(_ configuration: NetworkConfiguration) {
        isEnabled = configuration.speaksIPv6
        addressCapacity = isEnabled ? configuration.limits.maximumAddresses : 0
        addresses = .allocate(capacity: max(addressCapacity, 1))
        // Every address has its prefix, and fe80::/64 is one more.
        entryCapacity = isEnabled ? configuration.ipv6Addresses.count + configuration.ipv6.routes.count + 1 + IPv6Interface.maximumAdvertisedPrefixes : 0
        entries = .allocate(capacity: max(entryCapacity, 1))
        routers = .allocate(capacity: IPv6Interface.maximumRouters)
        maximumTransmissionUnit = configuration.maximumTransmissionUnit
        secret = configuration.ipv6.stableSecret.map { SipHashKey($0.first, $0.second) }
        guard isEnabled else { return }
        add(Entry(prefix: IPv6Prefix(address: .linkLocal(identifier: 0), length: 64), gateway: .unspecifiedIPv6))
        for prefix in configuration.ipv6Addresses { add(Entry(prefix: IPv6Prefix(address: prefix.network, length: prefix.length), gateway: .unspecifiedIPv6)) }
        for route in configuration.ipv6.routes {
            add(Entry(prefix: IPv6Prefix(address: route.destination.network, length: route.destination.length), gateway: route.gateway))
        }
    }

    func deallocate() {
        addresses.deallocate()
        entries.deallocate()
        routers.deallocate()
    }

    /// Adds an entry behind those with prefixes as long; of those as long, what is on the link comes first. Nothing happens when the table is full.
    mutating func add(_ entry: Entry) {
        guard entryCount < entryCapacity else { return }
        var place = entryCount
        while place > 0, entries[place - 1].prefix.length < entry.prefix.length
            || entries[place - 1].prefix.length == entry.prefix.length && entry.isOnLink && !entries[place - 1].isOnLink
        {
            (entries + place).initialize(to: entries[place - 1])
            place -= 1
        }
        (entries + place).initialize(to: entry)
        entryCount += 1
    }

    mutating func removeEntry(_ index: Int) {
        for place in index..<entryCount - 1 { entries[place] = entries[place + 1] }
        entryCount -= 1
    }

    mutating func removeAddress(_ index: Int) {
        for place in index..<addressCount - 1 { addresses[place] = addresses[place + 1] }
        addressCount -= 1
    }

    mutating func removeRouter(_ index: Int) {
        for place in index..<routerCount - 1 { routers[place] = routers[place + 1] }
        routerCount -= 1
    }

    /// Where the address stands in the table, whatever its state; nil for another node's. O(number of addresses).
    @inline(__always)
    func index(of address: IPAddress) -> Int? {
        for index in 0..<addressCount where addresses[index].address == address { return index }
        return nil
    }

    /// Whether the interface has the address and may use it. O(number of addresses).
    @inline(__always)
    func isAssigned(_ address: IPAddress) -> Bool {
        for index in 0..<addressCount where addresses[index].address == address { return addresses[index].isAssigned }
        return false
    }

    /// Whether the interface listens to the group: that of all nodes, or one of its own addresses' solicited-node groups. O(number of addresses).
    //= RFC 4291 section 2.8
    //# A host is required to recognize the following addresses as identifying itself: its required Link-Local address for each interface, ... the loopback
    //# address, the All-Nodes multicast addresses, the Solicited-Node multicast address for each of its unicast and anycast addresses.
    func isMember(_ group: IPAddress) -> Bool {
        // ff01::1 and ff02::1.
        if group == .allNodes || group == IPAddress(ipv6HostOrder: 0xff01 << 48, 1) { return true }
        for index in 0..<addressCount where addresses[index].state != .duplicate && addresses[index].address.solicitedNode == group { return true }
        return false
    }

    /// An interface identifier for addresses of the network, in host order.
    func interfaceIdentifier(_ macAddress: MACAddress, network: IPAddress) -> UInt64 {
        guard let secret else { return macAddress.modifiedEUI64 }
        //= RFC 7217 section 5
        //# RID = F(Prefix, Net_Iface, Network_ID, DAD_Counter, secret_key)
        var hash = SipHash(secret)
        hash.combine(network.words.0)
        hash.combine(macAddress.value)
        return hash.finish()
    }
}

extension NetworkStack {
    /// The address to send to `destination` from; nil while there is none. O(number of addresses).
    //= RFC 6724 section 5
    //# Rule 2: Prefer appropriate scope. Rule 3: Avoid deprecated addresses. Rule 8: Use longest matching prefix.
    func ipv6Source(for destination: IPAddress) -> IPAddress? {
        let interface = state.pointee.ipv6.addresses
        let isLocalScope = destination.isLinkLocal || destination.isMulticast && destination.words.0 >> 8 & 0xf <= 2
        var best: IPAddress?
        var bestRank = -1
        for index in 0..<state.pointee.ipv6.addressCount where interface[index].isAssigned {
            let address = interface[index].address
            let rank =
                (address.isLinkLocal == isLocalScope ? 512 : 0) + (interface[index].state == .preferred ? 256 : 0) + address.commonPrefixLength(destination)
            if rank > bestRank { (best, bestRank) = (address, rank) }
        }
        return best
    }

    /// The way to one node; nil when there is none, and for groups. O(number of addresses and routes).
    func routeIPv6(to destination: IPAddress) -> RouteDecision? {
        if destination.isLoopback || state.pointee.ipv6.isAssigned(destination) {
            return RouteDecision(source: destination, nextHop: destination, isLocal: true)
        }
        guard !destination.isMulticast, !destination.isUnspecified, let source = ipv6Source(for: destination) else { return nil }
        //= RFC 4861 section 5.2
        //# The sender performs a longest prefix match against the Prefix List to determine whether the packet's destination is on- or off-link. If the
        //# destination is on-link, the next-hop address is the same as the packet's destination address. Otherwise, the sender selects a router from the
        //# Default
        //# Router List
        for index in 0..<state.pointee.ipv6.entryCount where state.pointee.ipv6.entries[index].prefix.contains(destination) {
            let entry = state.pointee.ipv6.entries[index]
            return RouteDecision(source: source, nextHop: entry.isOnLink ? destination : redirected(destination, from: entry.gateway), isLocal: false)
        }
        guard !destination.isLinkLocal, let router = chooseRouter() else { return nil }
        return RouteDecision(source: source, nextHop: redirected(destination, from: router), isLocal: false)
    }

    /// Whether a packet from the wire may come from `address`, an unspecified one left aside. O(number of addresses).
    //= RFC 4291 section 2.7
    //# Multicast addresses must not be used as source addresses in IPv6 packets or appear in any Routing header.
    //= RFC 4291 section 2.5.3
    //# The loopback address must not be used as the source address in IPv6 packets that are sent outside of a single node.
    func isPossibleIPv6Source(_ address: IPAddress) -> Bool {
        !address.isMulticast && !address.isLoopback && !address.isIPv4 && !state.pointee.ipv6.isAssigned(address)
    }
}
