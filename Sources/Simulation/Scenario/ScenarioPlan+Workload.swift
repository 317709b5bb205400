import NetworkStack
import QueueRuntime
import WireFormats

/// Draws what the programs do.
extension ScenarioPlan {
    init(seed: UInt64) {
        let root = SimulationRandom(seed: seed).stream("scenario")
        drawAttack(root)
        drawHosts(root)
        drawLinks(root)
        drawConnections(root)
        drawModelledTransfer(root)
        haveClientsSpeak()
        drawFlowTables(root)
        drawSequenceNumbers(root)
        drawDatagrams(root)
        drawFamilies(root)
        drawFaults(root)
        drawGroups(root)
        if attack != nil { summary += ", a misbehaving station" }
        summary += ", \(connections.count) connections, \(datagrams.count) datagram senders"
    }

    /// Bytes of all streams of a scenario together, so that one takes a few milliseconds: fewer where each segment holds little.
    private func byteBudget() -> Int {
        let smallest = hosts.map { $0.tcp.maximumSegmentSize ?? $0.maximumTransmissionUnit - 40 }.min()!
        return min(1_200_000, smallest * 1_500)
    }

    private mutating func drawConnections(_ root: SimulationRandom) {
        var random = root.stream("connections")
        let count = random.between(1...5)
        let budget = byteBudget() / count / 2
        for index in 0..<count {
            var stream = root.stream("connection \(index)")
            let client = stream.between(0...hosts.count - 1)
            // Now and then a host talks to itself.
            let server = stream.oneIn(24) ? client : (client + stream.between(1...hosts.count - 1)) % hosts.count
            var plan = ConnectionPlan(client: client, server: server, port: UInt16(1_000 + index))
            plan.startsAt = stream.oneIn(3) ? 0 : ScenarioPlan.time(&stream, 10_000...500_000_000)
            (plan.clientEnd, plan.serverEnd) = ScenarioPlan.drawEnds(&stream, budget)
            var listener = ListenerPlan(host: server, port: plan.port)
            switch stream.below(14) {
            case 0 where client != server:
                plan.kind = .simultaneousOpen
                plan.clientPort = UInt16(2_000 + index)
                connections.append(plan)
                continue
            case 1:
                plan.kind = .closedPort
                connections.append(plan)
                continue
            case 2, 3:
                plan.kind = .reusesTimeWait
                plan.clientPort = UInt16(2_000 + index)
                plan.incarnations = stream.between(2...4)
                plan.serverEnd.ending = .exact
                plan.clientEnd.ending = .orderly
                plan.clientEnd.byteCount /= plan.incarnations
                plan.serverEnd.byteCount /= plan.incarnations
            case 4:
                // More clients than the listener has room for, of a program that accepts slowly.
                listener.backlog = stream.between(1...2)
                listener.startsAt = ScenarioPlan.time(&stream, 1_000_000...2_000_000_000)
                listener.pause = ScenarioPlan.time(&stream, 1_000_000...500_000_000)
                for _ in 0..<stream.between(3...8) {
                    var further = plan
                    (further.clientEnd, further.serverEnd) = ScenarioPlan.drawEnds(&stream, budget / 8)
                    further.startsAt = plan.startsAt + UInt64(stream.between(0...2_000_000))
                    connections.append(further)
                }
            case 5:
                plan.kind = .canceledConnect
            case 6:
                plan.clientEnd.ending = .reset(after: stream.between(0...max(plan.clientEnd.byteCount, 1)))
            case 7:
                plan.serverEnd.ending = .reset(after: stream.between(0...max(plan.serverEnd.byteCount, 1)))
            case 8:
                plan.clientEnd.ending = .deserts(after: stream.between(1...max(plan.serverEnd.byteCount, 1)))
            case 9:
                plan.clientEnd.ending = .together
                plan.serverEnd.ending = .together
            case 10:
                plan.clientEnd.ending = .exact
            case 11 where index == 0:
                // A crowd, so that connections meet in the flow table.
                for _ in 0..<stream.between(8...16) {
                    var further = plan
                    (further.clientEnd, further.serverEnd) = ScenarioPlan.drawEnds(&stream, 400)
                    further.startsAt = ScenarioPlan.time(&stream, 10_000...1_000_000_000)
                    connections.append(further)
                }
            default: break
            }
            listeners.append(listener)
            connections.append(plan)
        }
    }

    /// Now and then one transfer, and nothing else, that is long enough for a model of its path.
    private mutating func drawModelledTransfer(_ root: SimulationRandom) {
        var random = root.stream("modelled transfer")
        guard random.oneIn(16), attack == nil, middle != .router else { return }
        for index in links.indices {
            let bandwidth = UInt64(random.magnitude(1_000_000...20_000_000))
            links[index].forward.bandwidth = bandwidth
            links[index].backward.bandwidth = bandwidth
            links[index].forward.delay = min(links[index].forward.delay, 10_000_000)
            links[index].backward.delay = min(links[index].backward.delay, 10_000_000)
        }
        for index in 0..<2 {
            hosts[index].tcp.congestionControl = .bbr
            hosts[index].tcp.maximumPacingRate = 0
            hosts[index].tcp.offersSelectiveAcknowledgements = true
            hosts[index].networkLimits.transmissionRecords = NetworkLimits().transmissionRecords
        }
        var plan = ConnectionPlan(client: 0, server: 1, port: 1_000)
        plan.clientEnd.byteCount = min(byteBudget(), 1_000_000)
        plan.clientEnd.largestPush = 65_536
        plan.clientEnd.depth = 4
        plan.serverEnd.byteCount = 1
        connections = [plan]
        listeners = [ListenerPlan(host: 1, port: 1_000)]
    }

    /// Whose answer was a cookie does not send it again: where the handshake's last acknowledgement is lost, only what the client sends brings the connection
    /// into being (RFC 4987, section 3.6).
    private mutating func haveClientsSpeak() {
        for index in connections.indices where hosts[connections[index].server].mayRunOutOfRoom && hosts[connections[index].server].tcp.sendsCookies {
            connections[index].clientEnd.byteCount = max(connections[index].clientEnd.byteCount, 1)
        }
    }

    private static func drawEnds(_ random: inout SimulationRandom, _ budget: Int) -> (client: EndPlan, server: EndPlan) {
        var (client, server) = (drawEnd(&random, budget), drawEnd(&random, budget))
        // Mostly one direction carries more than the other.
        switch random.below(4) {
        case 0: client.byteCount = min(client.byteCount, random.between(0...2_000))
        case 1: server.byteCount = min(server.byteCount, random.between(0...2_000))
        default: break
        }
        // Small pops of many bytes cost more than they tell.
        if client.popByteCount < 64 { server.byteCount = min(server.byteCount, 4_000) }
        if server.popByteCount < 64 { client.byteCount = min(client.byteCount, 4_000) }
        return (client, server)
    }

    private static func drawEnd(_ random: inout SimulationRandom, _ budget: Int) -> EndPlan {
        var end = EndPlan()
        end.byteCount = random.magnitude(1...max(budget, 1))
        switch random.below(5) {
        case 0:
            // A program that writes byte by byte.
            end.byteCount = min(end.byteCount, 600)
            end.largestPush = random.between(1...3)
            end.depth = 4
        case 1: (end.smallestPush, end.largestPush) = (1, 2_000)
        case 2: (end.smallestPush, end.largestPush) = (1_000, 16_384)
        default: (end.smallestPush, end.largestPush) = (1, random.magnitude(1_000...400_000))
        }
        end.segments = random.oneIn(2) ? 1 : random.between(1...16)
        end.depth = max(end.depth, random.between(1...4))
        end.cancels = random.oneIn(5)
        if random.oneIn(3) {
            end.writerPauses = random.between(2...20)
            end.longestWriterPause = time(&random, 100_000...3_000_000_000)
        }
        end.popByteCount = random.oneIn(2) ? .max : random.magnitude(1...65_536)
        end.popSegments = random.oneIn(2) ? 16 : random.between(1...4)
        if random.oneIn(3) { end.readerDelay = time(&random, 100_000...20_000_000_000) }
        if random.oneIn(3) {
            end.readerPauses = random.between(2...30)
            end.longestReaderPause = time(&random, 100_000...1_000_000_000)
        }
        if random.oneIn(4) { end.noDelay = random.oneIn(2) }
        if random.oneIn(5) {
            end.keepsAlive = true
            end.readerPauses = 4
            end.longestReaderPause = time(&random, 1_000_000_000...8_000_000_000)
            end.writerPauses = 3
            end.longestWriterPause = time(&random, 1_000_000_000...12_000_000_000)
        }
        if random.oneIn(8) { end.receiveBuffer = random.magnitude(2_048...65_536) }
        if random.oneIn(8) { end.sendBuffer = random.magnitude(2_048...65_536) }
        // Pauses of seconds after every other push of hundreds would make hours.
        let pushes = end.byteCount / max((end.smallestPush + end.largestPush) / 2, 1)
        if end.writerPauses > 0 { end.writerPauses = max(end.writerPauses, pushes / 8) }
        if end.readerPauses > 0 { end.readerPauses = max(end.readerPauses, end.byteCount / min(end.popByteCount, 1_000) / 8) }
        return end
    }

    /// In half of the worlds whose links may carry IPv6 the hosts speak it, and about half of what they say to each other goes over it.
    private mutating func drawFamilies(_ root: SimulationRandom) {
        var random = root.stream("address families")
        guard hosts[0].maximumTransmissionUnit >= IPv6Header.minimumMTU, random.oneIn(2) else { return }
        var families: [UInt16: AddressFamily] = [:]
        for index in connections.indices {
            let port = connections[index].port
            let family = families[port] ?? (random.oneIn(2) ? .ipv4 : .ipv6)
            families[port] = family
            connections[index].family = family
        }
        for index in listeners.indices {
            let isForBoth = random.oneIn(4)
            listeners[index].family = isForBoth ? .ipv6 : families[listeners[index].port] ?? .ipv4
        }
        for index in datagrams.indices { datagrams[index].family = random.oneIn(2) ? .ipv4 : .ipv6 }
        for index in hosts.indices { hosts[index].speaksIPv6 = true }
        summary += ", \(connections.count { $0.family == .ipv6 } + datagrams.count { $0.family == .ipv6 }) things over IPv6"
    }

    private mutating func drawGroups(_ root: SimulationRandom) {
        var random = root.stream("groups")
        guard middle == .switch, attack == nil, random.oneIn(3) else { return }
        var snooping = GroupSnooping()
        snooping.igmp = random.pick([.igmpv3, .igmpv3, .igmpv2, .igmpv1])
        snooping.mld = random.pick([.mldv2, .mldv1])
        snooping.queryInterval = random.pick([10, 20]) * ScenarioPlan.second
        // The oldest version has ten seconds for good.
        snooping.maximumResponseTime = snooping.igmp == .igmpv1 ? 10 * ScenarioPlan.second : random.pick([1, 5]) * ScenarioPlan.second
        var reports = root.stream("group reports")
        snooping.floodsReports = reports.oneIn(2)
        self.snooping = snooping
        for index in 0..<random.between(1...2) {
            let sender = random.between(0...hosts.count - 1)
            var members = hosts.indices.filter { $0 != sender && random.oneIn(2) }
            if members.isEmpty { members = [(sender + 1) % hosts.count] }
            let isIPv6 = hosts[0].speaksIPv6 && random.oneIn(2)
            let group = isIPv6 ? IPAddress(ipv6HostOrder: 0xff15 << 48, UInt64(index + 1)) : IPAddress.ipv4(239, 1, 0, UInt8(index + 1))
            var plan = GroupPlan(sender: sender, members: members, group: group, port: UInt16(9_000 + index))
            plan.startsAt = ScenarioPlan.time(&random, 10_000...2_000_000_000)
            plan.count = random.between(20...60)
            plan.pause = ScenarioPlan.time(&random, 500_000_000...2_000_000_000)
            plan.leavesEarly = random.oneIn(2)
            groups.append(plan)
        }
        summary += ", \(groups.count) groups"
    }

    private mutating func drawDatagrams(_ root: SimulationRandom) {
        var random = root.stream("datagrams")
        guard random.oneIn(3) else { return }
        for index in 0..<random.between(1...2) {
            let sender = random.between(0...hosts.count - 1)
            var plan = DatagramPlan(
                sender: sender, receiver: (sender + random.between(1...hosts.count - 1)) % hosts.count, port: UInt16(5_000 + index))
            plan.startsAt = random.oneIn(2) ? 0 : ScenarioPlan.time(&random, 10_000...200_000_000)
            plan.count = random.between(1...120)
            plan.burst = random.between(1...40)
            plan.pause = ScenarioPlan.time(&random, 10_000...500_000_000)
            plan.largest = random.magnitude(16...hosts[0].maximumTransmissionUnit - 28)
            if random.oneIn(3) {
                // What leaves in fragments.
                plan.largest = random.magnitude(2_000...40_000)
                (plan.count, plan.burst) = (min(plan.count, 30), min(plan.burst, 8))
            }
            plan.isPortClosed = random.oneIn(6)
            plan.isNowhere = random.oneIn(6)
            plan.readerDelay = random.oneIn(3) ? ScenarioPlan.time(&random, 1_000_000...2_000_000_000) : 0
            if random.oneIn(3) { plan.senderPort = UInt16(6_000 + index) }
            if random.oneIn(6) {
                // For so long that hosts have to ask for each other again.
                (plan.count, plan.burst, plan.pause) = (random.between(3...6), 1, UInt64(random.between(15...60)) * ScenarioPlan.second)
            }
            datagrams.append(plan)
        }
    }
}
