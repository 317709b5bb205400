import DatapathMemory
import EthernetDevice
import WireFormats

/// Neighbour solicitations and advertisements (RFC 4861, section 7), which resolve addresses and tell whether a neighbour is still there.
///
/// Anybody on the link can say anything, as with ARP: what is not asked for makes no entry, unless the sender wants to talk to us.
extension NetworkStack {
    /// Takes over a neighbour discovery message whose checksum is right.
    func neighborDiscoveryInput(_ frame: Frame, _ packet: IPv6View, _ message: ICMPv6View) {
        //= RFC 4861 section 7.1.1
        //# A node MUST silently discard any received Neighbor Solicitation messages that do not satisfy all of the following validity checks: The IP Hop Limit
        //# field has a value of 255. ICMP Checksum is valid. ICMP Code is 0. ICMP length (derived from the IP length) is 24 or more octets. Target Address is
        //# not
        //# a multicast address. All included options have a length that is greater than zero.
        //= RFC 4861 section 7.1.2
        //# A node MUST silently discard any received Neighbor Advertisement messages that do not satisfy all of the following validity checks
        //= RFC 4861 section 6.1.2
        //# A node MUST silently discard any received Router Advertisement messages that do not satisfy all of the following validity checks
        guard packet.hopLimit == 255, message.code == 0 else { return drop(frame, .badNeighborDiscovery) }
        switch message.type {
        case ICMPv6Type.neighborSolicitation: neighborSolicitationInput(frame, packet, message)
        case ICMPv6Type.neighborAdvertisement: neighborAdvertisementInput(frame, packet, message)
        case ICMPv6Type.routerAdvertisement: routerAdvertisementInput(frame, packet, message)
        case ICMPv6Type.redirect: ipv6RedirectInput(frame, packet, message)
        //= RFC 4861 section 6.2.6
        //# A host MUST silently discard any received Router Solicitation messages.
        default: drop(frame, .unmatchedControlMessage)
        }
    }

    /// The target and the options of a solicitation or advertisement; nil for one that is not valid.
    private func parse(_ message: ICMPv6View) -> (target: IPAddress, options: NeighborDiscoveryOptions)? {
        guard message.count >= 24, let options = NeighborDiscoveryOptions(message.base + 24, count: message.count &- 24) else { return nil }
        let target = IPAddress(ipv6At: message.base + 8)
        return target.isMulticast || target.isIPv4 || target.isUnspecified ? nil : (target, options)
    }

    private func neighborSolicitationInput(_ frame: Frame, _ packet: IPv6View, _ message: ICMPv6View) {
        guard let (target, options) = parse(message) else { return drop(frame, .badNeighborDiscovery) }
        let source = packet.source
        let hardware = options.linkLayerAddress(NeighborDiscoveryOption.sourceLinkLayerAddress)
        //= RFC 4861 section 7.1.1
        //# If the IP source address is the unspecified address, the IP destination address is a solicited-node multicast address. If the IP source address is
        //# the
        //# unspecified address, there is no source link-layer address option in the message.
        if source.isUnspecified && (packet.destination != target.solicitedNode || hardware != nil) { return drop(frame, .badNeighborDiscovery) }
        // The answer may go to the frame's own sender.
        let sender = MACAddress(at: frame.segmentAddress + 6)
        if let hardware, hardware.isGroup || hardware.value == 0 { return drop(frame, .badNeighborDiscovery) }
        if sender.isGroup { return drop(frame, .badNeighborDiscovery) }
        guard let index = state.pointee.ipv6.index(of: target), state.pointee.ipv6.addresses[index].state != .duplicate else {
            return drop(frame, .notOurAddress)
        }
        if state.pointee.ipv6.addresses[index].state == .tentative {
            //= RFC 4862 section 5.4.3
            //# If the source address of the Neighbor Solicitation is a unicast address, the Neighbor Solicitation's sender is performing address resolution
            //# on the
            //# target; the Neighbor Solicitation should be silently ignored. If the source address is the unspecified address and the solicitation is from
            //# another
            //# node, the tentative address is a duplicate and should not be used (by either node).
            if source.isUnspecified && sender != state.pointee.macAddress { addressIsDuplicate(index) }
            return frame.releaseArray()
        }
        let isSent: Bool
        if source.isUnspecified {
            //= RFC 4861 section 7.2.4
            //# If the source of the solicitation is the unspecified address, the node MUST set the Solicited flag to zero and multicast the advertisement to
            //# the
            //# all-nodes address.
            isSent = sendNeighborAdvertisement(of: target, to: .allNodes, hardware: IPAddress.allNodes.multicastMACAddress, isSolicited: false)
        } else {
            //= RFC 4861 section 7.2.3
            //# If the Source Address is not the unspecified address and, on link layers that have addresses, the solicitation includes a Source Link-Layer
            //# Address
            //# option, then the recipient SHOULD create or update the Neighbor Cache entry for the IP Source Address of the solicitation.
            if let hardware, isOnLinkIPv6(source) { heard(source, hardware) }
            let slot = findNeighbor(source)
            let isKnown = slot != 0 && state.pointee.neighbors[slot].pointee.isResolved
            let answerHardware = hardware ?? (isKnown ? state.pointee.neighbors[slot].pointee.macAddress : nil)
            isSent = sendNeighborAdvertisement(of: target, to: source, hardware: answerHardware ?? sender, isSolicited: true)
        }
        if isSent { state.pointee.statistics.neighborAdvertisementsSent += 1 }
        frame.releaseArray()
    }

    /// Enters what a neighbour has said of itself without being asked.
    func heard(_ address: IPAddress, _ macAddress: MACAddress) {
        var slot = findNeighbor(address)
        if slot == 0 {
            slot = addNeighbor(address, isLearning: true)
            guard slot != 0 else { return }
            chain(slot, in: .learnt)
            return becomeStale(slot, macAddress)
        }
        let neighbor = state.pointee.neighbors[slot]
        guard neighbor.pointee.state != .permanent else { return }
        //= RFC 4861 section 7.2.3
        //# If a Neighbor Cache entry already exists and the cached link-layer address differs from the one in the received Source Link-Layer option, the cached
        //# address should be replaced by the received address, and the entry's reachability state MUST be set to STALE.
        if !neighbor.pointee.isResolved || neighbor.pointee.macAddress != macAddress { becomeStale(slot, macAddress) }
    }

    private func neighborAdvertisementInput(_ frame: Frame, _ packet: IPv6View, _ message: ICMPv6View) {
        let flags = message.restOfHeader
        let (isRouter, isSolicited, overrides) = (flags & 0x8000_0000 != 0, flags & 0x4000_0000 != 0, flags & 0x2000_0000 != 0)
        //= RFC 4861 section 7.1.2
        //# If the IP Destination Address is a multicast address the Solicited flag is zero.
        guard let (target, options) = parse(message), !(packet.destination.isMulticast && isSolicited), !packet.source.isUnspecified else {
            return drop(frame, .badNeighborDiscovery)
        }
        let hardware = options.linkLayerAddress(NeighborDiscoveryOption.targetLinkLayerAddress)
        if let hardware, hardware.isGroup || hardware.value == 0 { return drop(frame, .badNeighborDiscovery) }
        if let index = state.pointee.ipv6.index(of: target) {
            //= RFC 4862 section 5.4.4
            //# If the target address is tentative, the tentative address is not unique.
            if state.pointee.ipv6.addresses[index].state == .tentative { addressIsDuplicate(index) }
            return drop(frame, .addressConflict)
        }
        let slot = findNeighbor(target)
        //= RFC 4861 section 7.2.5
        //# If no entry exists, the advertisement SHOULD be silently discarded.
        guard slot != 0 else { return drop(frame, .unsolicitedAdvertisement) }
        let neighbor = state.pointee.neighbors[slot]
        if !isRouter { forgetRouter(target) }
        switch neighbor.pointee.state {
        case .permanent: return drop(frame, .unsolicitedAdvertisement)
        case .incomplete, .failed:
            //= RFC 4861 section 7.2.5
            //# If the link layer has addresses and no Target Link-Layer Address option is included, the receiving node SHOULD silently discard the received
            //# advertisement. Otherwise, it records the link-layer address; if the advertisement's Solicited flag is set, the state of the entry is set to
            //# REACHABLE; otherwise, it is set to STALE; it sends any packets queued for the neighbor.
            guard let hardware else { return drop(frame, .badNeighborDiscovery) }
            if isSolicited { resolve(slot, to: hardware, verifiesAfter: NeighborTimes.reachable) } else { becomeStale(slot, hardware) }
        case .reachable, .stale, .delayed, .probing:
            let isOther = hardware.map { $0 != neighbor.pointee.macAddress } ?? false
            //= RFC 4861 section 7.2.5
            //# If the Override flag is clear and the supplied link-layer address differs from that in the cache, then one of two actions takes place: If the
            //# state of the entry is REACHABLE, set it to STALE, but do not update the entry in any other way. Otherwise, the received advertisement should be
            //# ignored and MUST NOT update the cache.
            if isOther && !overrides {
                if neighbor.pointee.state == .reachable { becomeStale(slot, neighbor.pointee.macAddress) }
                return drop(frame, .unsolicitedAdvertisement)
            }
            if isSolicited {
                resolve(slot, to: hardware ?? neighbor.pointee.macAddress, verifiesAfter: NeighborTimes.reachable)
            } else if isOther, let hardware {
                becomeStale(slot, hardware)
            }
        }
        frame.releaseArray()
    }

    // MARK: Output

    /// Asks who has `address`: the nodes of its solicited-node group, or the one that last said so.
    //= RFC 4861 section 7.2.2
    //# When a node has a unicast packet to send to a neighbor, but does not know the neighbor's link-layer address, it performs address resolution. For
    //# multicast-capable interfaces, this entails creating a Neighbor Cache entry in the INCOMPLETE state and transmitting a Neighbor Solicitation message
    //# targeted at the neighbor. The solicitation is sent to the solicited-node multicast address corresponding to the target address.
    func sendNeighborSolicitation(for address: IPAddress, to hardware: MACAddress?) {
        // Tentative addresses ask nobody.
        guard let source = ipv6Source(for: address) else { return }
        let destination = hardware == nil ? address.solicitedNode : address
        let macAddress = state.pointee.macAddress
        let isSent = sendOnLink(
            from: source, to: destination, hardware: hardware ?? destination.multicastMACAddress, byteCount: ICMPv6Message.maximumNeighborDiscoveryByteCount
        ) { ICMPv6Message.writeNeighborSolicitation(to: $0, for: address, sender: macAddress) }
        if isSent { state.pointee.statistics.neighborSolicitationsSent += 1 }
    }

    private func sendNeighborAdvertisement(of target: IPAddress, to destination: IPAddress, hardware: MACAddress, isSolicited: Bool) -> Bool {
        let macAddress = state.pointee.macAddress
        return sendOnLink(from: target, to: destination, hardware: hardware, byteCount: ICMPv6Message.maximumNeighborDiscoveryByteCount) {
            ICMPv6Message.writeNeighborAdvertisement(to: $0, of: target, macAddress: macAddress, isSolicited: isSolicited, overrides: true)
        }
    }

    /// Whether `address` is that of a node on the link. O(number of routes).
    func isOnLinkIPv6(_ address: IPAddress) -> Bool {
        for index in 0..<state.pointee.ipv6.entryCount
        where state.pointee.ipv6.entries[index].isOnLink && state.pointee.ipv6.entries[index].prefix.contains(address) { return true }
        return false
    }
}
