import EthernetDevice
import NetworkStack
import WireFormats

/// Draws the hosts, the network between them and what goes wrong with it.
extension ScenarioPlan {
    /// How bad the network is.
    enum Quality: Int { case clean, mild, bad, terrible }

    static let millisecond: UInt64 = 1_000_000
    static let second: UInt64 = 1_000_000_000

    /// A time of the range, each magnitude as likely.
    static func time(_ random: inout SimulationRandom, _ range: ClosedRange<UInt64>) -> UInt64 {
        UInt64(random.magnitude(Int(range.lowerBound)...Int(range.upperBound)))
    }

    mutating func drawHosts(_ root: SimulationRandom) {
        var random = root.stream("hosts")
        let count = random.pick([2, 2, 2, 2, 3, 3, 4])
        middle = count > 2 || attack != nil || random.oneIn(4) ? .switch : .link
        let maximumTransmissionUnit = random.pick([1_500, 1_500, 1_500, 1_500, 9_000, 1_280, 576])
        let knowsNeighbors = random.oneIn(attack == nil ? 3 : 2)
        for index in 0..<count {
            var host = ScenarioPlan.drawHost(root.stream("host \(index)"))
            host.maximumTransmissionUnit = maximumTransmissionUnit
            // A stream of its own: half of the connections have them, the others go on as NewReno does.
            var choice = root.stream("selective acknowledgements of host \(index)")
            host.tcp.offersSelectiveAcknowledgements = !choice.oneIn(3)
            if choice.oneIn(8) { host.networkLimits.transmissionRecords = choice.magnitude(2...64) }
            if knowsNeighbors {
                host.staticNeighbors = (0..<count).filter { $0 != index }.map { other in
                    let (macAddress, address) = Simulation.addresses(ofHost: UInt32(other + 1))
                    return NetworkConfiguration.StaticNeighbor(address: address, macAddress: macAddress)
                }
            }
            hosts.append(host)
        }
        var topology = root.stream("topology")
        if attack == nil, topology.oneIn(6) { moveApart(knowsNeighbors) }
        if attack != nil, topology.oneIn(2) {
            for index in hosts.indices { hosts[index].networkLimits.resetsPerSecond = topology.between(1...3) }
        }
    }

    /// Puts each host into a network of its own, with a router between them.
    private mutating func moveApart(_ knowsNeighbors: Bool) {
        middle = .router
        for index in hosts.indices {
            let address = IPAddress.ipv4(10, UInt8(index + 1), 0, UInt8(index + 1))
            let gateway = SimulatedRouter.gateway(of: address)
            hosts[index].address = address
            hosts[index].routes = [NetworkConfiguration.Route(destination: IPv4Prefix(address: .ipv4(0, 0, 0, 0), length: 0), gateway: gateway.address)]
            guard knowsNeighbors else { continue }
            hosts[index].staticNeighbors = [NetworkConfiguration.StaticNeighbor(address: gateway.address, macAddress: gateway.macAddress)]
        }
    }

    private static func drawHost(_ stream: SimulationRandom) -> SimulatedHost.Settings {
        var random = stream
        var host = SimulatedHost.Settings()
        host.clockOffset = random.oneIn(2) ? 0 : UInt64(random.magnitude(1...1 << 50))
        host.receiveBlockByteCount = random.oneIn(3) ? 2_048 : nil
        host.receiveQueueLength = random.pick([1_024, 1_024, 1_024, 32])
        host.transmitQueueLength = random.oneIn(6) ? random.between(1...16) : nil
        host.maximumTransmitSegments = random.pick([8, 8, 4, 2, 1])
        host.tcp.offersTimestamps = !random.oneIn(3)
        host.tcp.offersWindowScale = !random.oneIn(4)
        if random.oneIn(6) { host.tcp.windowScale = UInt8(random.between(0...14)) }
        if random.oneIn(3) { host.tcp.maximumSegmentSize = random.pick([64, 100, 256, 536, 1_000, 1_460]) }
        var choice = stream.stream("congestion control")
        host.tcp.congestionControl = choice.pick([.cubic, .cubic, .newReno, .dctcp])
        // Of its own, so that the worlds without it stay as they were.
        var rate = stream.stream("rate control")
        if rate.oneIn(4) { host.tcp.congestionControl = .bbr }
        switch rate.below(8) {
        case 0: host.tcp.maximumPacingRate = .max
        case 1: host.tcp.maximumPacingRate = UInt64(rate.magnitude(50_000...10_000_000))
        default: break
        }
        host.tcp.explicitCongestion = choice.pick([.off, .accept, .on, .on])
        host.tcp.isNoDelay = random.oneIn(2)
        host.tcp.receiveBuffer = random.oneIn(2) ? 65_536 : random.magnitude(2_048...262_144)
        host.tcp.maximumReceiveBuffer = max(host.tcp.receiveBuffer, random.magnitude(2_048...1 << 20))
        host.tcp.sendBuffer = random.magnitude(2_048...1 << 19)
        host.tcp.delayedAcknowledgement = random.pick([0, 1_000_000, 40_000_000, 40_000_000, 200_000_000])
        host.tcp.minimumRetransmissionTimeout = random.pick([10_000_000, 50_000_000, 200_000_000, 200_000_000])
        host.tcp.initialRetransmissionTimeout = random.pick([300_000_000, 1_000_000_000])
        host.tcp.maximumRetransmissionTimeout = random.pick([8_000_000_000, 60_000_000_000])
        host.tcp.maximumSegmentLifetime = random.pick([20_000_000, 500_000_000, 2_000_000_000, 30_000_000_000])
        host.tcp.finWait2Timeout = random.pick([2_000_000_000, 60_000_000_000])
        if random.oneIn(5) { host.networkLimits.maximumTimeWait = random.between(1...3) }
        if random.oneIn(5) { host.networkLimits.reassemblyPieces = random.between(1...6) }
        if random.oneIn(6) { host.networkLimits.neighborQueueLength = random.between(1...4) }
        if random.oneIn(6) { host.networkLimits.datagramQueueByteCount = 4_096 }
        if random.oneIn(4) {
            host.networkLimits.maximumHalfOpen = random.between(2...4)
            var choice = stream.stream("cookies")
            host.tcp.sendsCookies = choice.oneIn(2)
        }
        // Segments that nobody forges call for few challenges.
        if random.oneIn(3) { host.networkLimits.challengesPerSecond = random.between(1...2) }
        if random.oneIn(3) { host.offloads = random.pick(offloads) }
        return host
    }

    private static let offloads: [DeviceOffloads] = [
        [.transmitChecksumTCP, .transmitChecksumUDP], [.receiveChecksumIPv4, .receiveChecksumTCP, .receiveChecksumUDP],
        [.transmitChecksumTCP, .transmitChecksumUDP, .receiveChecksumIPv4, .receiveChecksumTCP, .receiveChecksumUDP],
        [.transmitChecksumUDP, .receiveChecksumIPv4, .receiveChecksumTCP],
    ]

    mutating func drawLinks(_ root: SimulationRandom) {
        var random = root.stream("links")
        let quality = random.pick([Quality.clean, .mild, .mild, .bad, .bad, .terrible])
        if quality == .terrible { mayLoseConnections = true }
        let count = middle == .link ? 1 : hosts.count
        for index in 0..<count {
            var stream = root.stream("link \(index)")
            let forward = ScenarioPlan.drawConditions(&stream, quality, hosts[0].maximumTransmissionUnit)
            let isEven = stream.oneIn(2)
            links.append((forward, isEven ? forward : ScenarioPlan.drawConditions(&stream, quality, hosts[0].maximumTransmissionUnit)))
        }
        summary += "\(hosts.count) hosts on a \(middle), \(quality) network, MTU \(hosts[0].maximumTransmissionUnit)"
    }

    static func drawConditions(_ random: inout SimulationRandom, _ quality: Quality, _ maximumTransmissionUnit: Int) -> LinkConditions {
        var conditions = LinkConditions()
        conditions.maximumTransmissionUnit = maximumTransmissionUnit
        conditions.delay = time(&random, 5_000...(quality == .clean ? 5_000_000 : 80_000_000))
        if random.oneIn(2) { conditions.bandwidth = UInt64(random.magnitude(2_000_000...2_000_000_000)) }
        conditions.queueByteCount = random.magnitude(16_384...262_144)
        var marking = random.stream("marking")
        if marking.oneIn(2) { conditions.markThreshold = marking.magnitude(1_000...conditions.queueByteCount) }
        // A frame in so many; 0 for none.
        let worst: (loss: Int, other: Int)
        switch quality {
        case .clean: return conditions
        case .mild: worst = (10_000, 10_000)
        case .bad: worst = (60_000, 60_000)
        case .terrible: worst = (200_000, 100_000)
        }
        if random.oneIn(2) { conditions.loss = UInt32(random.magnitude(100...worst.loss)) }
        if random.oneIn(4) {
            conditions.burstLoss.begin = UInt32(random.magnitude(100...worst.loss / 10))
            conditions.burstLoss.end = UInt32(random.between(200_000...600_000))
        }
        if random.oneIn(2) { conditions.reordering = UInt32(random.magnitude(100...worst.other)) }
        conditions.reorderDelay = time(&random, 50_000...20_000_000)
        if random.oneIn(3) { conditions.duplication = UInt32(random.magnitude(100...worst.other)) }
        if random.oneIn(3) { conditions.corruption = UInt32(random.magnitude(100...worst.other)) }
        if random.oneIn(2) { conditions.jitter = time(&random, 1_000...10_000_000) }
        return conditions
    }

    /// Now and then all sequence numbers are about to wrap around. Not where a connection follows another one of the same ports: it needs higher ones.
    mutating func drawSequenceNumbers(_ root: SimulationRandom) {
        var random = root.stream("sequence numbers")
        guard random.oneIn(4), attack == nil, !connections.contains(where: { $0.incarnations > 1 }) else { return }
        for index in hosts.indices { hosts[index].tcp.fixedInitialSequenceNumber = 0 &- UInt32(random.magnitude(1...400_000)) }
        summary += ", sequence numbers that wrap"
    }

    /// Mostly the flow tables are as small as they can be, so that connections meet in them.
    mutating func drawFlowTables(_ root: SimulationRandom) {
        var random = root.stream("flow tables")
        guard !random.oneIn(4) else { return }
        for index in hosts.indices {
            // Twice as many as the plan has: copies of old SYNs take some, too. And what an attack leaves half-open takes many.
            let listeners = listeners.count { $0.host == index }
            let ends = connections.reduce(0) { $0 + $1.incarnations * (($1.client == index ? 1 : 0) + ($1.server == index ? 1 : 0)) }
            hosts[index].networkLimits.maximumConnections = attack != nil ? 256 : 4 + listeners + 2 * ends
        }
    }

    mutating func drawFaults(_ root: SimulationRandom) {
        var random = root.stream("faults")
        guard random.oneIn(3) else { return }
        for _ in 0..<random.between(1...3) {
            let at = ScenarioPlan.time(&random, 1_000_000...5_000_000_000)
            switch random.below(4) {
            case 0:
                let duration = ScenarioPlan.time(&random, 5_000_000...(random.oneIn(6) ? 900_000_000_000 : 20_000_000_000))
                faults.append(.partition(link: random.between(0...links.count - 1), at: at, duration: duration))
                mayLoseConnections = true
                summary += ", a partition"
            case 1:
                let jump = ScenarioPlan.time(&random, 1_000_000...3_600_000_000_000)
                faults.append(.clockJump(host: random.between(0...hosts.count - 1), at: at, by: jump))
                mayLoseConnections = true
                summary += ", a clock jump"
            case 2:
                faults.append(
                    .memoryGrab(
                        host: random.between(0...hosts.count - 1), at: at, duration: ScenarioPlan.time(&random, 1_000_000...2_000_000_000),
                        leaving: random.oneIn(3) ? 0 : random.magnitude(2_048...1 << 20), priority: random.oneIn(2) ? .application : .reserve))
                mayLoseConnections = true
                summary += ", a heap without memory"
            default:
                let quality = random.pick([Quality.clean, .mild, .bad])
                let conditions = ScenarioPlan.drawConditions(&random, quality, hosts[0].maximumTransmissionUnit)
                faults.append(.conditions(link: random.between(0...links.count - 1), at: at, conditions))
                summary += ", a change of weather"
            }
        }
    }

    mutating func drawAttack(_ root: SimulationRandom) {
        var random = root.stream("attack")
        guard random.oneIn(6) else { return }
        let spoofsARP = random.oneIn(3)
        attack = AttackPlan(
            startsAt: ScenarioPlan.time(&random, 100_000...500_000_000), steps: random.between(10...60),
            longestPause: ScenarioPlan.time(&random, 100_000...200_000_000), spoofsARP: spoofsARP)
        mayLoseConnections = true
    }
}
