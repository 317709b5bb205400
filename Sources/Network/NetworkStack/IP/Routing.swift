import WireFormats

/// How a packet leaves.
struct RouteDecision {
    /// The address to send from, unless the sender was given one.
    var source: IPAddress
    /// Who gets the frame: the destination itself, or a gateway.
    var nextHop: IPAddress
    /// Whether the destination is this host: the packet never reaches the wire.
    var isLocal: Bool
}

extension NetworkStack {
    /// The way to one host; nil when there is none, and for addresses that are no host's. O(number of routes).
    //= RFC 1122 section 3.3.1.1
    //# If the destination IP address is on a connected network, the datagram is sent directly to the destination host; otherwise to a gateway.
    func route(to destination: IPAddress) -> RouteDecision? {
        guard destination.isIPv4 else { return routeIPv6(to: destination) }
        let address = destination.ipv4Raw
        //= RFC 1122 section 3.2.1.3
        //# Addresses of the form { 127, <any> } MUST NOT appear outside a host.
        if destination.isLoopback || state.pointee.routing.isOwn(address) {
            return RouteDecision(source: destination, nextHop: destination, isLocal: true)
        }
        //= RFC 1122 section 3.3.1.1
        //# The host IP layer MUST operate correctly in a minimal network environment, and in particular, when there are no gateways.
        guard RoutingTable.isHost(address), !state.pointee.routing.isBroadcast(address), let entry = state.pointee.routing.entry(for: address)
        else { return nil }
        //= RFC 1122 section 3.3.4.3
        //# In the absence of such a specification, the networking software MUST choose a source address.
        let isNeighbor = entry.gateway == 0 || DeliberateBug.isPresent(.gatewayIgnored)
        return RouteDecision(
            source: IPAddress(ipv4Raw: entry.source), nextHop: isNeighbor ? destination : redirected(destination, from: IPAddress(ipv4Raw: entry.gateway)),
            isLocal: false)
    }

    /// The way to a group or a broadcast address, whose packets leave in frames to several stations; nil without an address of the family.
    /// O(number of routes and addresses).
    //= RFC 1112 section 6.1
    //# To the simple statement "if IP-destination is on the same local network, send datagram locally to IP-destination" is added: or IP-destination is a
    //# host group.
    func routeToGroup(_ destination: IPAddress) -> RouteDecision? {
        guard destination.isIPv4 else {
            return ipv6Source(for: destination).map { RouteDecision(source: $0, nextHop: destination, isLocal: false) }
        }
        guard state.pointee.routing.addressCount > 0 else { return nil }
        //= RFC 1122 section 3.2.1.3
        //# When a host sends any datagram, the IP source address MUST be one of its own IP addresses (but not a broadcast or multicast address).
        let source = IPAddress(ipv4Raw: state.pointee.routing.source(onLinkTo: destination.ipv4Raw))
        return RouteDecision(source: source, nextHop: destination, isLocal: false)
    }

    /// Whether a packet from the wire may come from `address`, as it lies in memory. O(number of addresses).
    //= RFC 1122 section 3.2.1.3
    //# A host MUST silently discard an incoming datagram containing an IP source address that is invalid by the rules of this section.
    @inline(__always)
    func isPossibleSource(_ address: UInt32) -> Bool {
        guard RoutingTable.isHost(address), address != state.pointee.primaryAddressRaw, address != state.pointee.routing.primary.broadcast
        else { return false }
        return state.pointee.routing.addressCount == 1 || !isOwnOrBroadcast(address)
    }

    @inline(never)
    private func isOwnOrBroadcast(_ address: UInt32) -> Bool {
        // An interface without an IPv4 address takes nothing over IPv4.
        state.pointee.routing.addressCount == 0 || state.pointee.routing.isOwn(address) || state.pointee.routing.isBroadcast(address)
    }

    /// Whether `address` is one of the interface's, or a loopback address. O(number of addresses).
    func isLocalAddress(_ address: IPAddress) -> Bool {
        if address.isLoopback { return true }
        if address.isIPv4 { return state.pointee.routing.isOwn(address.ipv4Raw) }
        // One that is being verified can be bound to.
        return state.pointee.ipv6.index(of: address).map { state.pointee.ipv6.addresses[$0].state != .duplicate } ?? false
    }

    /// Whether `address` is the limited broadcast address, or that of one of the interface's networks. O(number of addresses).
    func isBroadcastAddress(_ address: IPAddress) -> Bool {
        address.isIPv4 && state.pointee.routing.isBroadcast(address.ipv4Raw)
    }
}
