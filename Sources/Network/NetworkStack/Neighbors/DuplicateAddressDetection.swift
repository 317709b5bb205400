import DatapathMemory
import EthernetDevice
import TaskScheduler
import WireFormats

/// How the interface comes by its IPv6 addresses (RFC 4862, section 5), and the one timer for what IPv6 does by itself.
extension NetworkStack {
    /// Enters the addresses that the configuration gives, and the link-local one. What is sent for them is sent when the stack next runs what is due.
    func configureIPv6(_ configuration: NetworkConfiguration) {
        guard state.pointee.ipv6.isEnabled else { return }
        if !configuration.ipv6Addresses.contains(where: { $0.address.isLinkLocal }) {
            //= RFC 4862 section 5.3
            //# A node forms a link-local address whenever an interface becomes enabled. The left-most 'prefix length' bits of the address are those of the
            //# link-local
            //# prefix; the right-most N bits of the address are replaced by the interface identifier.
            let network = IPAddress.linkLocal(identifier: 0)
            addIPv6Address(.linkLocal(identifier: state.pointee.ipv6.interfaceIdentifier(state.pointee.macAddress, network: network)))
        }
        for prefix in configuration.ipv6Addresses { addIPv6Address(prefix.address) }
        if configuration.ipv6.acceptsRouterAdvertisements { beginRouterSolicitation() }
    }

    /// Adds an address, which is verified before it is used unless the configuration says otherwise.
    /// - Parameters:
    ///   - preferred: until when it is chosen as a source, and until when it is valid.
    func addIPv6Address(_ address: IPAddress, isAutonomous: Bool = false, preferredUntil: UInt64 = .max, validUntil: UInt64 = .max) {
        let count = state.pointee.ipv6.addressCount
        guard count < state.pointee.ipv6.addressCapacity, state.pointee.ipv6.index(of: address) == nil else { return }
        var entry = IPv6Interface.Address(address: address)
        entry.isAutonomous = isAutonomous
        entry.preferredUntil = preferredUntil
        entry.validUntil = validUntil
        entry.transmits = UInt8(state.pointee.configuration.ipv6.duplicateAddressDetectionTransmits)
        if entry.transmits == 0 {
            entry.state = .preferred
        } else {
            //= RFC 4862 section 5.4.2
            //# If the Neighbor Solicitation is going to be the first message sent from an interface after interface (re)initialization, the node SHOULD delay
            //# joining
            //# the solicited-node multicast address by a random delay between 0 and MAX_RTR_SOLICITATION_DELAY
            entry.nextStep = state.pointee.now &+ state.pointee.random.next() % state.pointee.configuration.ipv6.duplicateAddressDetectionInterval
        }
        (state.pointee.ipv6.addresses + count).initialize(to: entry)
        state.pointee.ipv6.addressCount += 1
        //= RFC 4862 section 5.4.2
        //# Before sending a Neighbor Solicitation, an interface MUST join the all-nodes multicast address and the solicited-node multicast address of the
        //# tentative address.
        listen(to: address.solicitedNode)
        armIPv6Timer()
    }

    /// Another node has the address: it is never used.
    //= RFC 4862 section 5.4.5
    //# A tentative address that is determined to be a duplicate as described above MUST NOT be assigned to an interface, and the node SHOULD log a system
    //# management error.
    func addressIsDuplicate(_ index: Int) {
        state.pointee.ipv6.addresses[index].state = .duplicate
        stopListening(to: state.pointee.ipv6.addresses[index].address.solicitedNode)
        state.pointee.ipv6.addresses[index].nextStep = .max
        state.pointee.statistics.duplicateAddresses += 1
    }

    /// The next solicitation for a tentative address, or its assignment.
    private func stepIPv6Address(_ index: Int) {
        let address = state.pointee.ipv6.addresses + index
        guard address.pointee.transmits > 0 else {
            address.pointee.state = .preferred
            address.pointee.nextStep = .max
            return
        }
        address.pointee.transmits -= 1
        address.pointee.nextStep = state.pointee.now &+ state.pointee.configuration.ipv6.duplicateAddressDetectionInterval
        let target = address.pointee.address
        //= RFC 4862 section 5.4.2
        //# The solicitation's Target Address is set to the address being checked, the IP source is set to the unspecified address, and the IP destination is
        //# set to
        //# the solicited-node multicast address of the target address.
        let isSent = sendOnLink(
            from: .unspecifiedIPv6, to: target.solicitedNode, hardware: target.solicitedNode.multicastMACAddress,
            byteCount: ICMPv6Message.maximumNeighborDiscoveryByteCount
        ) { ICMPv6Message.writeNeighborSolicitation(to: $0, for: target, sender: nil) }
        if isSent { state.pointee.statistics.neighborSolicitationsSent += 1 }
    }

    // MARK: Timer

    /// Has the timer fire when the next thing is due. O(addresses, prefixes and routers), which are bounded.
    func armIPv6Timer() {
        let ipv6 = state.pointee.ipv6
        var deadline = ipv6.solicitationDeadline
        for index in 0..<ipv6.addressCount {
            let address = ipv6.addresses[index]
            deadline = min(deadline, address.nextStep, address.validUntil)
            if address.state == .preferred { deadline = min(deadline, address.preferredUntil) }
        }
        for index in 0..<ipv6.entryCount { deadline = min(deadline, ipv6.entries[index].validUntil) }
        for index in 0..<ipv6.routerCount { deadline = min(deadline, ipv6.routers[index].validUntil) }
        guard deadline != ipv6.timerDeadline else { return }
        state.pointee.timers.cancel(ipv6.timer)
        state.pointee.ipv6.timer = .none
        state.pointee.ipv6.timerDeadline = deadline
        guard deadline != .max else { return }
        // The wheel has a place for it.
        state.pointee.ipv6.timer =
            state.pointee.timers.arm(
                deadline: max(deadline, state.pointee.now),
                action: { context, _ in NetworkStack(state: context.assumingMemoryBound(to: StackState.self)).ipv6TimerFired() }, context: state, argument: 0
            ).unsafelyUnwrapped
    }

    private func ipv6TimerFired() {
        state.pointee.ipv6.timer = .none
        state.pointee.ipv6.timerDeadline = .max
        let now = state.pointee.now
        if state.pointee.ipv6.solicitationDeadline <= now { sendRouterSolicitation() }
        for index in (0..<state.pointee.ipv6.addressCount).reversed() {
            let address = state.pointee.ipv6.addresses + index
            if address.pointee.validUntil <= now {
                //= RFC 4862 section 5.5.4
                //# An address (and its association with an interface) becomes invalid when its valid lifetime expires.
                if address.pointee.state != .duplicate { stopListening(to: address.pointee.address.solicitedNode) }
                state.pointee.ipv6.removeAddress(index)
                raiseNeighborEpoch()
                continue
            }
            if address.pointee.nextStep <= now { stepIPv6Address(index) }
            //= RFC 4862 section 5.5.4
            //# A preferred address becomes deprecated when its preferred lifetime expires.
            if address.pointee.state == .preferred && address.pointee.preferredUntil <= now { address.pointee.state = .deprecated }
        }
        expireRouters()
        armIPv6Timer()
    }
}
