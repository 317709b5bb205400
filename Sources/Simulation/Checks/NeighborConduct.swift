import WireFormats

/// What a host has to do with the hardware addresses of its neighbours: ask for them, send what has waited, and ask again now and then.
struct NeighborConduct {
    private var neighbors: [UInt32: Knowledge] = [:]
    /// Neighbours that have just been heard of, and for which something waits.
    private var debt: (address: IPAddress, time: UInt64)?

    private struct Knowledge {
        /// When the host first sent something to the neighbour after it asked for it, or heard of it.
        var used: UInt64?
        /// When it asked all stations, and has sent nothing since.
        var asked: UInt64?
    }

    /// A neighbour that is used is asked within half a minute, and some.
    private static let longestTrust: UInt64 = 31_000_000_000

    /// The time is `time` now.
    mutating func settle(_ time: UInt64) -> String? {
        guard let debt, debt.time < time else { return nil }
        self.debt = nil
        //= RFC 1122 section 2.3.2.2
        //# The link layer SHOULD save at least one packet to the same unresolved IP address, and transmit the saved packet when it has been resolved.
        return "\(debt.address) has answered, and nothing was sent to it"
    }

    mutating func transmitted(_ packet: ARPPacket, toAll: Bool, at time: UInt64) {
        let address = packet.targetProtocol.ipv4Raw
        neighbors[address, default: Knowledge()].used = nil
        if packet.operation == ARPPacket.request, toAll { neighbors[address]?.asked = time }
    }

    mutating func received(_ packet: ARPPacket, at time: UInt64) {
        let address = packet.senderProtocol.ipv4Raw
        // After a second it may have given up, and what waited is dropped.
        if let asked = neighbors[address]?.asked, time - asked < 1_000_000_000 { debt = (packet.senderProtocol, time) }
        neighbors[address] = Knowledge()
    }

    /// The host sends a packet to a neighbour.
    mutating func transmitted(to address: IPAddress, at time: UInt64) -> String? {
        if debt?.address == address { debt = nil }
        let used = neighbors[address.ipv4Raw]?.used ?? time
        neighbors[address.ipv4Raw] = Knowledge(used: used)
        guard time - used > NeighborConduct.longestTrust else { return nil }
        //= RFC 1122 section 2.3.2.1
        //# An implementation of ARP MUST provide a mechanism to flush out-of-date cache entries.
        return "sent to \(address) for \((time - used) / 1_000_000_000) s without asking for it"
    }
}
