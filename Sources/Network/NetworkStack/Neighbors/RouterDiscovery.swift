import DatapathMemory
import EthernetDevice
import WireFormats

/// Routers and prefixes that advertise themselves (RFC 4861, section 6.3; RFC 4862, section 5.5), where the configuration asks for them.
extension NetworkStack {
    private static var solicitationInterval: UInt64 { 4_000_000_000 }
    private static var twoHours: UInt64 { 7_200_000_000_000 }

    func beginRouterSolicitation() {
        //= RFC 4861 section 6.3.7
        //# Before a host sends an initial solicitation, it SHOULD delay the transmission for a random amount of time between 0 and MAX_RTR_SOLICITATION_DELAY.
        state.pointee.ipv6.solicitations = 3
        state.pointee.ipv6.solicitationDeadline = state.pointee.now &+ state.pointee.random.next() % 1_000_000_000
        armIPv6Timer()
    }

    //= RFC 4861 section 6.3.7
    //# a host SHOULD transmit up to MAX_RTR_SOLICITATIONS Router Solicitation messages, each separated by at least RTR_SOLICITATION_INTERVAL seconds
    func sendRouterSolicitation() {
        state.pointee.ipv6.solicitationDeadline = .max
        guard state.pointee.ipv6.solicitations > 0 else { return }
        state.pointee.ipv6.solicitations -= 1
        if state.pointee.ipv6.solicitations > 0 {
            state.pointee.ipv6.solicitationDeadline = state.pointee.now &+ NetworkStack.solicitationInterval
        }
        let source = ipv6Source(for: .allRouters)
        //= RFC 4861 section 4.1
        //# The source link-layer address option MUST NOT be included if the Source Address is the unspecified address.
        let sender = source == nil ? nil : state.pointee.macAddress
        let isSent = sendOnLink(
            from: source ?? .unspecifiedIPv6, to: .allRouters, hardware: IPAddress.allRouters.multicastMACAddress,
            byteCount: ICMPv6Message.maximumNeighborDiscoveryByteCount
        ) { ICMPv6Message.writeRouterSolicitation(to: $0, sender: sender) }
        if isSent { state.pointee.statistics.routerSolicitationsSent += 1 }
    }

    func routerAdvertisementInput(_ frame: Frame, _ packet: IPv6View, _ message: ICMPv6View) {
        //= RFC 4861 section 6.1.2
        //# IP Source Address is a link-local address. ICMP length (derived from the IP length) is 16 or more octets. All included options have a length that is
        //# greater than zero.
        guard packet.source.isLinkLocal, message.count >= 16,
            var options = NeighborDiscoveryOptions(message.base + 16, count: message.count &- 16)
        else { return drop(frame, .badNeighborDiscovery) }
        guard state.pointee.configuration.ipv6.acceptsRouterAdvertisements else { return drop(frame, .unmatchedControlMessage) }
        let fields = message.restOfHeader
        let hopLimit = UInt8(truncatingIfNeeded: fields >> 24)
        //= RFC 4861 section 6.3.4
        //# If the received Cur Hop Limit value is non-zero, the host SHOULD set its CurHopLimit variable to the received value.
        // A small one would cut the host off: only one that reaches is taken.
        if hopLimit >= 32 { state.pointee.ipv6.hopLimit = hopLimit }
        state.pointee.ipv6.solicitations = 0
        state.pointee.ipv6.solicitationDeadline = .max
        if let hardware = options.linkLayerAddress(NeighborDiscoveryOption.sourceLinkLayerAddress), !hardware.isGroup, hardware.value != 0 {
            heard(packet.source, hardware)
        }
        routerIs(packet.source, lifetimeSeconds: UInt16(truncatingIfNeeded: fields))
        while let option = options.next() {
            switch option.type {
            case NeighborDiscoveryOption.mtu:
                //= RFC 4861 section 6.3.4
                //# If the MTU option is present, hosts SHOULD copy the option's value into LinkMTU so long as the value is greater than or equal to the
                //# minimum link MTU
                //# and does not exceed the maximum LinkMTU value
                if let mtu = option.mtu, mtu >= UInt32(IPv6Header.minimumMTU), Int(mtu) <= state.pointee.maximumTransmissionUnit {
                    state.pointee.ipv6.maximumTransmissionUnit = Int(mtu)
                }
            case NeighborDiscoveryOption.prefixInformation: if let information = option.prefix { take(information) }
            //= RFC 4861 section 6.3.4
            //# hosts MUST silently ignore options that they do not recognize
            default: break
            }
        }
        armIPv6Timer()
        frame.releaseArray()
    }

    //= RFC 4861 section 6.3.4
    //# If the address is not already present in the host's Default Router List, and the advertisement's Router Lifetime is non-zero, create a new entry in the
    //# list. If the address is already present as a result of a previously received advertisement, reset its invalidation timer. If the received Router
    //# Lifetime value is zero, immediately time-out the entry.
    private func routerIs(_ address: IPAddress, lifetimeSeconds: UInt16) {
        guard lifetimeSeconds > 0 else { return forgetRouter(address) }
        let validUntil = state.pointee.now &+ UInt64(lifetimeSeconds) * 1_000_000_000
        for index in 0..<state.pointee.ipv6.routerCount where state.pointee.ipv6.routers[index].address == address {
            state.pointee.ipv6.routers[index].validUntil = validUntil
            return
        }
        guard state.pointee.ipv6.routerCount < IPv6Interface.maximumRouters else { return }
        (state.pointee.ipv6.routers + state.pointee.ipv6.routerCount).initialize(to: .init(address: address, validUntil: validUntil))
        state.pointee.ipv6.routerCount += 1
    }

    /// Takes a router off the list: it does not route any more.
    func forgetRouter(_ address: IPAddress) {
        for index in 0..<state.pointee.ipv6.routerCount where state.pointee.ipv6.routers[index].address == address {
            state.pointee.ipv6.removeRouter(index)
            // Who went over it looks for another way.
            return raiseNeighborEpoch()
        }
    }

    /// The default router to use: one that answers, or has not been asked yet, before one that does not.
    //= RFC 4861 section 6.3.6
    //# Routers that are reachable or probably reachable (i.e., in any state other than INCOMPLETE) SHOULD be preferred over routers whose reachability is
    //# unknown or suspect
    func chooseRouter() -> IPAddress? {
        for index in 0..<state.pointee.ipv6.routerCount {
            let slot = findNeighbor(state.pointee.ipv6.routers[index].address)
            if slot == 0 || state.pointee.neighbors[slot].pointee.state != .failed { return state.pointee.ipv6.routers[index].address }
        }
        return state.pointee.ipv6.routerCount > 0 ? state.pointee.ipv6.routers[0].address : nil
    }

    private func take(_ information: NeighborDiscoveryOption.PrefixInformation) {
        //= RFC 4862 section 5.5.3
        //# If the prefix is the link-local prefix, silently ignore the Prefix Information option. If the preferred lifetime is greater than the valid lifetime,
        //# silently ignore the Prefix Information option.
        guard !information.prefix.address.isLinkLocal, !information.prefix.address.isMulticast,
            information.preferredSeconds <= information.validSeconds
        else { return }
        if information.isOnLink { takeOnLink(information) }
        if information.isAutonomous { takeAutonomous(information) }
    }

    /// A lifetime of all ones is for ever.
    private func deadline(_ seconds: UInt32) -> UInt64 { seconds == .max ? .max : state.pointee.now &+ UInt64(seconds) * 1_000_000_000 }

    private func takeOnLink(_ information: NeighborDiscoveryOption.PrefixInformation) {
        let prefix = IPv6Prefix(address: information.prefix.network, length: information.prefix.length)
        for index in 0..<state.pointee.ipv6.entryCount
        where state.pointee.ipv6.entries[index].isOnLink && state.pointee.ipv6.entries[index].prefix == prefix {
            // One that the configuration gives stays.
            if state.pointee.ipv6.entries[index].validUntil == .max { return }
            if information.validSeconds == 0 {
                state.pointee.ipv6.removeEntry(index)
                return raiseNeighborEpoch()
            }
            state.pointee.ipv6.entries[index].validUntil = min(deadline(information.validSeconds), .max - 1)
            return
        }
        if information.validSeconds == 0 { return }
        state.pointee.ipv6.add(.init(prefix: prefix, gateway: .unspecifiedIPv6, validUntil: min(deadline(information.validSeconds), .max - 1)))
        raiseNeighborEpoch()
    }

    private func takeAutonomous(_ information: NeighborDiscoveryOption.PrefixInformation) {
        //= RFC 4862 section 5.5.3
        //# If the sum of the prefix length and interface identifier length does not equal 128 bits, the Prefix Information option MUST be ignored.
        let network = information.prefix.network
        // In ::/64 are the addresses that stand for IPv4, and the unspecified one.
        guard information.prefix.length == 64, network.words.0 != 0 else { return }
        let preferredUntil = deadline(information.preferredSeconds)
        let validUntil = deadline(information.validSeconds)
        for index in 0..<state.pointee.ipv6.addressCount {
            let address = state.pointee.ipv6.addresses + index
            guard address.pointee.isAutonomous, address.pointee.address.words.0 == network.words.0 else { continue }
            address.pointee.preferredUntil = preferredUntil
            if address.pointee.state == .deprecated && preferredUntil > state.pointee.now { address.pointee.state = .preferred }
            //= RFC 4862 section 5.5.3
            //# If the received Valid Lifetime is greater than 2 hours or greater than RemainingLifetime, set the valid lifetime of the corresponding address
            //# to the
            //# advertised Valid Lifetime. If RemainingLifetime is less than or equal to 2 hours, ignore the Prefix Information option with regards to the valid
            //# lifetime. Otherwise, reset the valid lifetime of the corresponding address to 2 hours.
            let limit = state.pointee.now &+ NetworkStack.twoHours
            if validUntil > limit || validUntil > address.pointee.validUntil {
                address.pointee.validUntil = validUntil
            } else if address.pointee.validUntil > limit {
                address.pointee.validUntil = limit
            }
            return
        }
        //= RFC 4862 section 5.5.3
        //# If the prefix advertised is not equal to the prefix of an address configured by stateless autoconfiguration already in the list of addresses, and
        //# if the
        //# Valid Lifetime is not 0, form an address by combining the advertised prefix with an interface identifier of the link
        guard information.validSeconds > 0 else { return }
        let identifier = state.pointee.ipv6.interfaceIdentifier(state.pointee.macAddress, network: network)
        addIPv6Address(
            IPAddress(words: (network.words.0, identifier.bigEndian)), isAutonomous: true, preferredUntil: preferredUntil, validUntil: validUntil)
    }

    /// Forgets routers and prefixes whose time is over.
    func expireRouters() {
        let now = state.pointee.now
        var isChanged = false
        for index in (0..<state.pointee.ipv6.routerCount).reversed() where state.pointee.ipv6.routers[index].validUntil <= now {
            state.pointee.ipv6.removeRouter(index)
            isChanged = true
        }
        for index in (0..<state.pointee.ipv6.entryCount).reversed() where state.pointee.ipv6.entries[index].validUntil <= now {
            state.pointee.ipv6.removeEntry(index)
            isChanged = true
        }
        if isChanged { raiseNeighborEpoch() }
    }
}
