import WireFormats

/// What a host has to do with the hardware addresses of its neighbours: ask for them, send what has waited, and ask again now and then.
struct NeighborConduct {
    private var neighbors: [UInt32: Knowledge] = [:]
    /// Neighbours that have just been heard of, and for which something waits.
    private var debt: (address: IPAddress, time: UInt64)?

    private struct Knowledge {
        /// When the host last asked for the neighbour, or was sent something by it.
        var heard: UInt64
        /// When it asked all stations, and has sent nothing since.
        var asked: UInt64?
    }

    /// Half a minute until a neighbour that is in use is asked, twice if it was not in use then, and some more for the answer.
    private static let longestTrust: UInt64 = 70_000_000_000

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
        neighbors[address, default: Knowledge(heard: time)].heard = time
        if packet.operation == ARPPacket.request, toAll { neighbors[address]?.asked = time }
    }

    mutating func received(_ packet: ARPPacket, at time: UInt64) {
        let address = packet.senderProtocol.ipv4Raw
        // After a second it may have given up, and what waited is dropped.
        if let asked = neighbors[address]?.asked, time - asked < 1_000_000_000 { debt = (packet.senderProtocol, time) }
        neighbors[address] = Knowledge(heard: time)
    }

    /// The host sends a packet to a neighbour.
    mutating func transmitted(to address: IPAddress, at time: UInt64) -> String? {
        if debt?.address == address { debt = nil }
        guard let known = neighbors[address.ipv4Raw] else {
            neighbors[address.ipv4Raw] = Knowledge(heard: time)
            return nil
        }
        neighbors[address.ipv4Raw]?.asked = nil
        guard time - known.heard > NeighborConduct.longestTrust else { return nil }
        //= RFC 1122 section 2.3.2.1
        //# An implementation of ARP MUST provide a mechanism to flush out-of-date cache entries.
        return "sent to \(address), which it has not asked for \((time - known.heard) / 1_000_000_000) s"
    }
}
