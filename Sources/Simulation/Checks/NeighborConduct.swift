import WireFormats

/// What a host has to do with the hardware addresses of its neighbours, by ARP or by neighbour discovery: ask for them, not too often, send what has waited,
/// and ask again now and then.
struct NeighborConduct {
    private var neighbors: [IPAddress: Knowledge] = [:]
    /// Neighbours that have just been heard of, and for which something waits.
    private var debt: (address: IPAddress, time: UInt64)?
    /// Solicitations that verify an address of the host's own.
    private var verifications: [IPAddress: Int] = [:]

    private struct Knowledge {
        /// When the host first sent something to the neighbour after it asked for it, or heard of it.
        var used: UInt64?
        /// When it asked all stations, and has sent nothing since.
        var asked: UInt64?
        /// When it last asked, whether it asked all stations, and how often in a row.
        var lastQuestion: (time: UInt64, toAll: Bool, count: Int)?
    }

    /// A neighbour that is used is asked within half a minute, and some: over IPv6 it may not have been used for a while, and is then asked five seconds
    /// later (RFC 4861, section 7.3.3).
    private static let longestTrust: UInt64 = 31_000_000_000
    private static let longestIPv6Trust: UInt64 = 37_000_000_000
    /// RETRANS_TIMER, MAX_MULTICAST_SOLICIT and MAX_UNICAST_SOLICIT of RFC 4861, section 10.
    private static let questionInterval: UInt64 = 1_000_000_000
    private static let longestSeries = 3

    /// The time is `time` now.
    mutating func settle(_ time: UInt64) -> String? {
        guard let debt, debt.time < time else { return nil }
        self.debt = nil
        //= RFC 1122 section 2.3.2.2
        //# The link layer SHOULD save at least one packet to the same unresolved IP address, and transmit the saved packet when it has been resolved.
        //= RFC 4861 section 7.2.2
        //# While waiting for address resolution to complete, the sender MUST, for each neighbor, retain a small queue of packets waiting for address resolution
        //# to complete. Once address resolution completes, the node transmits any queued packets.
        return "\(debt.address) has answered, and nothing was sent to it"
    }

    // MARK: ARP

    mutating func transmitted(_ packet: ARPPacket, toAll: Bool, at time: UInt64) -> String? {
        let address = packet.targetProtocol
        neighbors[address, default: Knowledge()].used = nil
        guard packet.operation == ARPPacket.request else { return nil }
        if toAll { neighbors[address]?.asked = time }
        //= RFC 1122 section 2.3.2.1
        //# A mechanism to prevent ARP flooding MUST be included. The recommended maximum rate is 1 per second per destination.
        return noteQuestion(address, toAll: toAll, at: time)
    }

    mutating func received(_ packet: ARPPacket, at time: UInt64) { heard(packet.senderProtocol, at: time) }

    private mutating func heard(_ address: IPAddress, at time: UInt64) {
        // After a second it may have given up, and what waited is dropped.
        if let asked = neighbors[address]?.asked, time - asked < 1_000_000_000 { debt = (address, time) }
        neighbors[address] = Knowledge(lastQuestion: neighbors[address]?.lastQuestion.map { ($0.time, $0.toAll, 0) })
    }

    private mutating func noteQuestion(_ address: IPAddress, toAll: Bool, at time: UInt64) -> String? {
        let last = neighbors[address]?.lastQuestion
        let goesOn = last.map { $0.toAll == toAll && time - $0.time < 2 * NeighborConduct.questionInterval } ?? false
        let count = goesOn ? (last?.count ?? 0) + 1 : 1
        neighbors[address, default: Knowledge()].lastQuestion = (time, toAll, count)
        if let last, time - last.time < NeighborConduct.questionInterval {
            return "asked for \(address) again after \((time - last.time) / 1_000_000) ms"
        }
        return count > NeighborConduct.longestSeries ? "asked for \(address) \(count) times, and nobody has answered" : nil
    }

    // MARK: Neighbour discovery

    /// The host sends a message of neighbour discovery.
    mutating func transmitted(_ message: NeighborMessage, at time: UInt64) -> String? {
        //= RFC 4861 section 7.1.1
        //# The IP Hop Limit field has a value of 255, i.e., the packet could not possibly have been forwarded by a router.
        guard message.hopLimit == 255 else { return "sent neighbour discovery with a hop limit of \(message.hopLimit)" }
        switch message.kind {
        case .solicitation: return transmittedSolicitation(message, at: time)
        case .advertisement:
            //= RFC 4861 section 7.1.2
            //# If the IP Destination Address is a multicast address the Solicited flag is zero.
            if message.destination.isMulticast && message.isSolicited { return "advertised \(message.target) to a group as if that had asked" }
            //= RFC 4861 section 7.2.4
            //# If the solicitation's IP Destination Address is a multicast address, the Target Link-Layer option MUST be included in the advertisement.
            return message.hasLinkLayerAddress ? nil : "advertised \(message.target) without a hardware address"
        }
    }

    private mutating func transmittedSolicitation(_ message: NeighborMessage, at time: UInt64) -> String? {
        let target = message.target
        let toAll = message.destination.isMulticast
        //= RFC 4861 section 7.2.2
        //# The solicitation is sent to the solicited-node multicast address corresponding to the target address.
        if toAll && message.destination != target.solicitedNode { return "asked \(message.destination) for \(target)" }
        if message.source.isUnspecified {
            //= RFC 4861 section 7.1.1
            //# If the IP source address is the unspecified address, there is no source link-layer address option in the message.
            if message.hasLinkLayerAddress || !toAll { return "verified \(target) in a way that no node accepts" }
            //= RFC 4862 section 5.1
            //# DupAddrDetectTransmits: Default: 1
            verifications[target, default: 0] += 1
            return verifications[target]! > 1 ? "verified \(target) \(verifications[target]!) times" : nil
        }
        //= RFC 4861 section 4.3
        //# Source link-layer address: On link layers that have addresses this option MUST be included in multicast solicitations
        if toAll && !message.hasLinkLayerAddress { return "asked for \(target) without telling its own hardware address" }
        neighbors[target, default: Knowledge()].used = nil
        if toAll { neighbors[target]?.asked = time }
        //= RFC 4861 section 7.2.2
        //# While awaiting a response, the sender SHOULD retransmit Neighbor Solicitation messages approximately every RetransTimer milliseconds, even in the
        //# absence of additional traffic to the neighbor. Retransmissions MUST be rate-limited to at most one solicitation per neighbor every RetransTimer
        //# milliseconds. If no Neighbor Advertisement is received after MAX_MULTICAST_SOLICIT solicitations, address resolution has failed.
        return noteQuestion(target, toAll: toAll, at: time)
    }

    /// The host has got a message of neighbour discovery that is valid.
    mutating func received(_ message: NeighborMessage, at time: UInt64) {
        guard message.hasLinkLayerAddress else { return }
        switch message.kind {
        case .advertisement: heard(message.target, at: time)
        case .solicitation: if !message.source.isUnspecified { heard(message.source, at: time) }
        }
    }

    // MARK: Use

    /// The host sends a packet to a neighbour.
    mutating func transmitted(to address: IPAddress, at time: UInt64) -> String? {
        if debt?.address == address { debt = nil }
        let used = neighbors[address]?.used ?? time
        neighbors[address] = Knowledge(used: used, lastQuestion: neighbors[address]?.lastQuestion)
        guard time - used > (address.isIPv4 ? NeighborConduct.longestTrust : NeighborConduct.longestIPv6Trust) else { return nil }
        //= RFC 1122 section 2.3.2.1
        //# An implementation of ARP MUST provide a mechanism to flush out-of-date cache entries.
        return "sent to \(address) for \((time - used) / 1_000_000_000) s without asking for it"
    }
}

/// A solicitation or advertisement of a neighbour, with the packet that it came in.
struct NeighborMessage {
    enum Kind { case solicitation, advertisement }

    let kind: Kind
    let source: IPAddress
    let destination: IPAddress
    let hopLimit: UInt8
    let target: IPAddress
    let hasLinkLayerAddress: Bool
    let isSolicited: Bool

    /// Nil for any other packet, and for one whose checksum or options are wrong.
    init?(_ packet: PacketView) {
        guard !packet.isIPv4, packet.protocolNumber == IPProtocol.icmpv6, let message = ICMPv6View(packet.payload, count: packet.payloadByteCount),
            message.count >= 24, message.isChecksumValid(source: packet.source, destination: packet.destination),
            let options = NeighborDiscoveryOptions(message.base + 24, count: message.count - 24)
        else { return nil }
        switch message.type {
        case ICMPv6Type.neighborSolicitation:
            kind = .solicitation
            hasLinkLayerAddress = options.linkLayerAddress(NeighborDiscoveryOption.sourceLinkLayerAddress) != nil
        case ICMPv6Type.neighborAdvertisement:
            kind = .advertisement
            hasLinkLayerAddress = options.linkLayerAddress(NeighborDiscoveryOption.targetLinkLayerAddress) != nil
        default: return nil
        }
        (source, destination, hopLimit) = (packet.source, packet.destination, packet.hopLimit)
        target = IPAddress(ipv6At: message.base + 8)
        isSolicited = message.restOfHeader & 0x4000_0000 != 0
    }
}
