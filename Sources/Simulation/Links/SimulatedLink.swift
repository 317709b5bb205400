import WireFormats

/// A full-duplex Ethernet link between two nodes, with conditions for each direction that can be changed at any time.
///
/// Corruption flips one to three bits of one 16-bit word behind the Ethernet header of an IPv4 frame, or of the addresses of an IPv6 frame and what is behind
/// its extension headers, which no Internet checksum misses, once for a frame; every other damaged frame is dropped, as one is whose frame check sequence
/// is wrong: nothing above would notice the damage.
public final class SimulatedLink {
    public let name: String
    unowned let simulation: Simulation
    private var directions: [Direction]

    private struct Direction {
        var conditions: LinkConditions
        var statistics = LinkStatistics()
        /// Nil when the world has ended.
        var receiver: (any SimulatedNode)?
        var port = 0
        /// When the last bit of what is queued is sent.
        var busyUntil: UInt64 = 0
        /// No frame that keeps its place comes before this time.
        var lastArrival: UInt64 = 0
        var isBad = false
        // One stream for each choice: to change a chance leaves the other choices as they were.
        var loss: SimulationRandom
        var burst: SimulationRandom
        var corruption: SimulationRandom
        var duplication: SimulationRandom
        var delay: SimulationRandom
        var reordering: SimulationRandom
    }

    init(_ first: any SimulatedNode, _ second: any SimulatedNode, forward: LinkConditions, backward: LinkConditions, simulation: Simulation) {
        name = "\(first.name)-\(second.name)"
        self.simulation = simulation
        let random = simulation.random("link \(name)")
        directions = []
        for (index, receiver) in [second, first].enumerated() {
            directions.append(
                Direction(
                    conditions: index == 0 ? forward : backward, receiver: receiver, loss: random.stream("loss \(index)"),
                    burst: random.stream("burst \(index)"), corruption: random.stream("corruption \(index)"),
                    duplication: random.stream("duplication \(index)"), delay: random.stream("delay \(index)"),
                    reordering: random.stream("reordering \(index)")))
        }
        directions[1].port = first.attach(LinkEnd(link: self, side: 0))
        directions[0].port = second.attach(LinkEnd(link: self, side: 1))
    }

    /// What happens to frames from the first node to the second.
    public var forward: LinkConditions {
        get { directions[0].conditions }
        set { directions[0].conditions = newValue }
    }

    /// What happens to frames from the second node to the first.
    public var backward: LinkConditions {
        get { directions[1].conditions }
        set { directions[1].conditions = newValue }
    }

    public var forwardStatistics: LinkStatistics { directions[0].statistics }
    public var backwardStatistics: LinkStatistics { directions[1].statistics }

    /// Begins to count anew, in both directions.
    public func clearStatistics() {
        for side in 0..<2 { directions[side].statistics = LinkStatistics() }
    }

    /// Whether frames pass, in either direction: false is a partition.
    public func setUp(_ isUp: Bool) {
        for side in 0..<2 { directions[side].conditions.isUp = isUp }
    }

    func receiver(from side: Int) -> (any SimulatedNode)? { directions[side].receiver }

    /// Lets go of the nodes.
    func end() {
        for side in 0..<2 { directions[side].receiver = nil }
    }

    func send(_ frame: SimulatedFrame, from side: Int) {
        let now = simulation.now
        let conditions = directions[side].conditions
        let byteCount = frame.bytes.count
        directions[side].statistics.frames += 1
        directions[side].statistics.bytes += UInt64(byteCount)
        guard conditions.isUp else {
            directions[side].statistics.down += 1
            return
        }
        guard byteCount <= conditions.maximumTransmissionUnit + EthernetHeader.byteCount else {
            directions[side].statistics.tooLong += 1
            return
        }
        var frame = frame
        var departure = now
        if let bandwidth = conditions.bandwidth {
            let start = max(now, directions[side].busyUntil)
            let waiting = Int(Double(start - now) * Double(bandwidth) / 8e9)
            directions[side].statistics.queueLengths.note(waiting)
            guard waiting <= conditions.queueByteCount else {
                directions[side].statistics.queueFull += 1
                return
            }
            directions[side].statistics.longestQueueByteCount = max(directions[side].statistics.longestQueueByteCount, waiting)
            if let threshold = conditions.markThreshold, waiting > threshold, mark(&frame) { directions[side].statistics.marked += 1 }
            departure = start + UInt64(byteCount) * 8_000_000_000 / bandwidth
            directions[side].busyUntil = departure
        }
        let isLost = directions[side].loss.chance(conditions.loss)
        let isBurstLost = conditions.losesBursts && losesInBurst(side)
        let isCorrupted = directions[side].corruption.chance(conditions.corruption)
        let isDuplicated = directions[side].duplication.chance(conditions.duplication)
        if isLost || isBurstLost {
            if isLost { directions[side].statistics.lost += 1 } else { directions[side].statistics.burstLost += 1 }
            return
        }
        if isCorrupted {
            guard corrupt(&frame, side) else {
                directions[side].statistics.frameCheckFailed += 1
                return
            }
            directions[side].statistics.corrupted += 1
        }
        pass(frame, side, departure)
        if isDuplicated {
            directions[side].statistics.duplicated += 1
            pass(frame, side, departure)
        }
    }

    /// As a router that is congested: a packet of an ECN-capable transport gets the codepoint CE (RFC 3168, section 5).
    /// - Returns: whether it is one.
    private func mark(_ frame: inout SimulatedFrame) -> Bool {
        if !frame.isDamaged, frame.bytes.count >= 54, frame.bytes[12] == 0x86, frame.bytes[13] == 0xdd, frame.bytes[14] >> 4 == 6 {
            guard case let codepoint = frame.bytes[15] >> 4 & 3, codepoint == 1 || codepoint == 2 else { return false }
            frame.bytes[15] |= 0x30
            return true
        }
        guard !frame.isDamaged, frame.bytes.count >= 34, frame.bytes[12] == 0x08, frame.bytes[13] == 0x00, frame.bytes[14] >> 4 == 4,
            case let codepoint = frame.bytes[15] & 3, codepoint == 1 || codepoint == 2
        else { return false }
        frame.bytes[15] |= 3
        // RFC 1624, equation 3: HC' = ~(~HC + ~m + m'), of the word that the field is in.
        let checksum = UInt32(frame.bytes[24]) << 8 | UInt32(frame.bytes[25])
        var sum = (~checksum & 0xffff) + UInt32(3 - codepoint)
        sum = (sum & 0xffff) + sum >> 16
        frame.bytes[24] = UInt8(truncatingIfNeeded: ~sum >> 8)
        frame.bytes[25] = UInt8(truncatingIfNeeded: ~sum)
        return true
    }

    private func losesInBurst(_ side: Int) -> Bool {
        let loss = directions[side].conditions.burstLoss
        // The state changes first, so that a burst has a frame at least.
        if directions[side].burst.chance(directions[side].isBad ? loss.end : loss.begin) { directions[side].isBad.toggle() }
        return directions[side].burst.chance(directions[side].isBad ? loss.lossWhileBad : loss.lossWhileGood)
    }

    /// - Returns: false when the receiver's frame check would find it.
    private func corrupt(_ frame: inout SimulatedFrame, _ side: Int) -> Bool {
        let word = 2 * Int(directions[side].corruption.below(UInt64(max(frame.bytes.count / 2, 1))))
        let flips = Int(directions[side].corruption.below(3)) + 1
        let isIPv4 = frame.bytes.count >= 34 && frame.bytes[12] == 0x08 && frame.bytes[13] == 0x00
        let isSummed = isIPv4 ? word >= EthernetHeader.byteCount : isSummedInIPv6(frame.bytes, word)
        guard isSummed, !frame.isDamaged, word + 1 < frame.bytes.count else { return false }
        var mask: UInt16 = 0
        while mask.nonzeroBitCount < flips { mask |= 1 << UInt16(directions[side].corruption.below(16)) }
        frame.bytes[word] ^= UInt8(mask >> 8)
        frame.bytes[word + 1] ^= UInt8(mask & 0xff)
        frame.isDamaged = true
        return true
    }

    /// Whether a word of an IPv6 frame is in the checksum of what it carries: the first eight bytes of the header and the extension headers are in none.
    private func isSummedInIPv6(_ bytes: [UInt8], _ word: Int) -> Bool {
        guard bytes.count >= 54, bytes[12] == 0x86, bytes[13] == 0xdd, word >= EthernetHeader.byteCount + 8 else { return false }
        return bytes.withUnsafeBytes { bytes in
            guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count), let packet = PacketView(ethernet),
                [IPProtocol.tcp, IPProtocol.udp, IPProtocol.icmpv6].contains(packet.protocolNumber)
            else { return false }
            return word < EthernetHeader.byteCount + IPv6Header.byteCount || word >= bytes.baseAddress!.distance(to: packet.payload)
        }
    }

    private func pass(_ frame: SimulatedFrame, _ side: Int, _ departure: UInt64) {
        let conditions = directions[side].conditions
        var arrival = departure + conditions.delay
        if conditions.jitter > 0 { arrival += directions[side].delay.below(conditions.jitter + 1) }
        if directions[side].reordering.chance(conditions.reordering) {
            directions[side].statistics.reordered += 1
            arrival += 1 + directions[side].reordering.below(max(conditions.reorderDelay, 1))
        } else {
            arrival = max(arrival, directions[side].lastArrival)
            directions[side].lastArrival = arrival
        }
        directions[side].statistics.delivered += 1
        guard let receiver = directions[side].receiver else { return }
        simulation.deliver(frame, to: receiver, port: directions[side].port, at: arrival)
    }
}
