import DatapathMemory
import Glibc
import QueueRuntime
import WireFormats

/// A station on the switch that sends what no correct host does: into other hosts' connections without being able to see them, into connections of its
/// own, and as ARP, ICMP and garbage.
///
/// It never sends what would rightly change what a stream brings: data or an end with the sequence number and the acknowledgement that the receiver waits
/// for, or an acknowledgement of bytes that the true peer has not got.
final class MisbehavingStation {
    private let plan: ScenarioPlan.AttackPlan
    private let station: RawHost
    private unowned let run: ScenarioRun
    private var random: SimulationRandom
    private var stepsLeft: Int
    private var sessions: [UInt16: Session] = [:]
    private var nextPort: UInt16 = 40_000
    var isOver = false

    /// A connection of the station's own.
    private struct Session {
        let peer: Endpoint
        var sequence: UInt32
        var acknowledgement: UInt32
        var isOpen = false
    }

    init(_ plan: ScenarioPlan.AttackPlan, _ station: RawHost, _ run: ScenarioRun) {
        self.plan = plan
        self.station = station
        self.run = run
        stepsLeft = plan.steps
        random = SimulationRandom(seed: run.seed).stream("station")
        station.onFrame = { [unowned self] in answer($0) }
    }

    func begin() {
        run.world.schedule(after: plan.startsAt) { [self] in step() }
    }

    private func step() {
        guard !isOver, stepsLeft > 0 else { return }
        stepsLeft -= 1
        switch random.below(17) {
        case 0...4: forgeIntoFlow()
        case 5: sendOldSynchronizes()
        case 6: floodSynchronize()
        case 7, 8: open()
        case 9, 10: misbehaveInSession()
        case 11, 12: sendARP()
        case 13: sendGarbage()
        case 14: sendStraySegments()
        case 15: sendFragments()
        default: sendControlMessage()
        }
        run.world.schedule(after: random.below(plan.longestPause) + 1) { [self] in step() }
    }

    private func hardwareAddress(of address: IPAddress) -> MACAddress? {
        run.hosts.first { $0.address == address || $0.ipv6Address == address }?.macAddress
    }

    private func send(_ segment: ForgedFrame.Segment) {
        guard let target = hardwareAddress(of: segment.destination.address) else { return }
        station.send(ForgedFrame.tcp(segment, from: station.macAddress, to: target))
    }

    private func word() -> UInt32 { UInt32(truncatingIfNeeded: random.next()) }

    // MARK: Into the connections of others

    private func forgeIntoFlow() {
        let keys = run.world.checker.flowKeys
        guard !keys.isEmpty else { return }
        let key = random.pick(keys)
        guard let flow = run.world.checker.flow(key) else { return }
        let next = flow.acknowledged?.rawValue ?? word()
        let window = flow.advertisedEdge.map { Int($0.rawValue &- next) } ?? 65_535
        let inWindow = next &+ UInt32(random.between(1...max(window - 1, 1)))
        var segment = ForgedFrame.Segment(from: key.remote, to: key.local)
        segment.window = UInt16(truncatingIfNeeded: random.next())
        // What the true peer has acknowledged, and no more.
        segment.acknowledgement = (run.world.checker.flow(key.reversed)?.acknowledged ?? flow.own?.initialSequence)?.rawValue ?? word()
        switch random.below(13) {
        case 0:
            segment.flags = .rst
            segment.sequence = word()
        case 1:
            segment.flags = .rst
            segment.sequence = inWindow
        case 2:
            segment.flags = random.oneIn(2) ? .syn : [.syn, .ack]
            segment.sequence = random.oneIn(2) ? inWindow : word()
            segment.options = soup()
            // More than may be answered.
            for _ in 0..<random.below(24) { send(segment) }
        case 3:
            segment.flags = [.ack, .psh]
            segment.sequence = word()
            segment.acknowledgement = word()
            segment.payload = garbage(1_000)
        case 4:
            // Where the receiver waits for it, but with an acknowledgement that cannot be.
            segment.flags = [.ack, .psh]
            segment.sequence = next
            segment.acknowledgement = flow.sendMaximum.rawValue &+ UInt32(random.between(1_000...1 << 30))
            segment.payload = garbage(1_000)
        case 5:
            segment.flags = .ack
            segment.sequence = next
            segment.window = random.oneIn(2) ? 0 : 65_535
            segment.acknowledgement = flow.own?.initialSequence.rawValue ?? 0
        case 6:
            segment.flags = TCPFlags(rawValue: UInt8(truncatingIfNeeded: random.next()) & ~TCPFlags.ack.rawValue)
            segment.sequence = word()
        case 7:
            segment.flags = [.ack, .urg]
            segment.sequence = inWindow
            segment.options = soup()
        case 8:
            segment.flags = [.fin, .ack]
            segment.sequence = word()
            segment.acknowledgement = word()
        case 9, 10:
            // All as the receiver waits for it, but old: from before the peer's first segment.
            guard let timestamp = flow.firstPeerTimestamp else { return }
            segment.flags = [.ack, .psh]
            segment.sequence = next
            segment.options = timestamps(timestamp &- UInt32(random.between(1...1 << 24)))
            segment.payload = garbage(random.between(1...100))
        case 11:
            // Out of the window, and from the future.
            guard let timestamp = flow.firstPeerTimestamp else { return }
            segment.flags = .ack
            segment.sequence = next &+ UInt32(window + random.between(1...1 << 20))
            segment.options = timestamps(timestamp &+ 1 << 29)
        default:
            segment.flags = [.ack]
            let age = random.between(1...100_000)
            segment.sequence = next &- UInt32(age)
            segment.payload = garbage(random.between(0...min(age, 1_000)))
        }
        // That would be a reset in earnest.
        if segment.sequence == next, segment.flags.contains(.rst), !random.oneIn(10) { return }
        send(segment)
    }

    /// Old SYNs to all listeners' connections: they must open nothing while these are in TIME_WAIT.
    private func sendOldSynchronizes() {
        let listeners = run.plan.listeners.flatMap { listener in
            let host = run.hosts[listener.host]
            return [host.address, host.ipv6Address].compactMap { $0.map { Endpoint(address: $0, port: listener.port) } }
        }
        for key in run.world.checker.flowKeys where listeners.contains(key.local) {
            guard let last = run.world.checker.flow(key)?.acknowledged else { continue }
            var segment = ForgedFrame.Segment(from: key.remote, to: key.local)
            segment.flags = .syn
            segment.sequence = last.rawValue &- UInt32(random.between(1...1 << 20))
            send(segment)
        }
    }

    /// Segments of no connection, each of which is worth a reset.
    private func sendStraySegments() {
        let victim = random.pick(run.hosts)
        for _ in 0..<random.between(1...20) {
            let source = Endpoint(address: station.address, port: UInt16(random.between(1...30_000)))
            var segment = ForgedFrame.Segment(from: source, to: Endpoint(address: victim.address, port: UInt16(random.between(20_000...65_535))))
            segment.flags = random.oneIn(4) ? .syn : .ack
            (segment.sequence, segment.acknowledgement) = (word(), word())
            send(segment)
        }
    }

    private func timestamps(_ value: UInt32) -> [UInt8] {
        [1, 1, 8, 10] + withUnsafeBytes(of: value.bigEndian) { Array($0) } + [0, 0, 0, 0]
    }

    private func floodSynchronize() {
        guard let listener = run.plan.listeners.randomElement(using: &random) else { return }
        for _ in 0..<random.between(1...20) {
            let source = Endpoint(address: IPAddress(ipv4HostOrder: 0x0a00_4000 | UInt32(random.between(1...4_000))), port: UInt16(random.between(1...65_535)))
            var segment = ForgedFrame.Segment(from: source, to: Endpoint(address: run.hosts[listener.host].address, port: listener.port))
            segment.flags = .syn
            segment.sequence = word()
            segment.options = soup()
            send(segment)
        }
    }

    // MARK: Connections of its own

    private func open() {
        guard let listener = run.plan.listeners.randomElement(using: &random) else { return }
        nextPort += 1
        let peer = Endpoint(address: run.hosts[listener.host].address, port: listener.port)
        let session = Session(peer: peer, sequence: word(), acknowledgement: 0)
        sessions[nextPort] = session
        var segment = ForgedFrame.Segment(from: Endpoint(address: station.address, port: nextPort), to: peer)
        segment.flags = .syn
        segment.sequence = session.sequence
        segment.window = UInt16(random.pick([0, 1, 64, 4_096, 65_535]))
        segment.options = random.oneIn(2) ? [2, 4, 0, UInt8(random.between(0...255))] : soup()
        send(segment)
        sessions[nextPort]?.sequence &+= 1
    }

    private func misbehaveInSession() {
        guard let port = sessions.keys.sorted().randomElement(using: &random), let session = sessions[port], session.isOpen else { return }
        var segment = ForgedFrame.Segment(from: Endpoint(address: station.address, port: port), to: session.peer)
        segment.flags = .ack
        segment.sequence = session.sequence
        segment.acknowledgement = session.acknowledgement
        segment.window = UInt16(random.pick([0, 0, 1, 100, 65_535]))
        switch random.below(8) {
        case 0:
            // The same bytes twice, with different contents, out of order.
            segment.sequence = session.sequence &+ UInt32(random.between(0...3_000))
            segment.payload = garbage(random.between(1...1_400))
        case 1:
            segment.payload = garbage(random.between(1...1_400))
            sessions[port]?.sequence &+= UInt32(random.between(0...segment.payload.count))
        case 2: segment.acknowledgement = session.acknowledgement &+ UInt32(random.between(1...100_000))
        case 3:
            segment.flags = [.fin, .ack]
            segment.sequence = session.sequence &+ UInt32(random.between(0...10))
        case 4:
            for offset in 0..<40 {
                var piece = segment
                piece.sequence = session.sequence &+ UInt32(2 * offset + 1)
                piece.payload = [UInt8(offset)]
                send(piece)
            }
        case 5: segment.options = soup()
        case 6:
            segment.sequence = session.sequence &+ 100_000
            segment.payload = garbage(1_000)
        default:
            segment.flags = [.ack, .psh]
            segment.payload = garbage(random.between(1...200))
            sessions[port]?.sequence &+= UInt32(segment.payload.count)
        }
        send(segment)
    }

    private func answer(_ frame: [UInt8]) {
        guard !isOver else { return }
        frame.withUnsafeBytes { bytes in
            guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count) else { return }
            if ethernet.etherType == EtherType.arp, let packet = ARPPacket(parsing: ethernet.payload, count: ethernet.payloadByteCount) {
                answerARP(packet)
            }
            guard let segment = Segment(bytes), segment.destination.address == station.address, let session = sessions[segment.destination.port] else { return }
            let header = segment.header
            if header.flags.contains(.rst) {
                sessions[segment.destination.port] = nil
                return
            }
            sessions[segment.destination.port]?.acknowledgement = (header.sequence + header.segmentLength).rawValue
            guard header.flags.contains([.syn, .ack]), !session.isOpen else { return }
            sessions[segment.destination.port]?.isOpen = true
            var reply = ForgedFrame.Segment(from: segment.destination, to: segment.source)
            reply.flags = .ack
            reply.sequence = session.sequence
            reply.acknowledgement = header.sequence.rawValue &+ 1
            send(reply)
        }
    }

    private func answerARP(_ packet: ARPPacket) {
        let isOwn = packet.targetProtocol == station.address
        guard packet.operation == ARPPacket.request, isOwn || plan.spoofsARP && random.oneIn(3) else { return }
        let reply = ARPPacket(
            operation: ARPPacket.reply, senderHardware: station.macAddress, senderProtocol: packet.targetProtocol, targetHardware: packet.senderHardware,
            targetProtocol: packet.senderProtocol)
        station.send(ForgedFrame.arp(reply, from: station.macAddress, to: packet.senderHardware))
    }

    /// A program has accepted one of the station's connections: it reads for a while, sends something and resets.
    func accepted(_ queue: QueueDescriptor, on host: SimulatedHost) {
        let count = random.between(1...5)
        _ = try? host.run("with the station") { runtime in
            for _ in 0..<count {
                guard let token = try? runtime.pop(queue) else { break }
                do throws(DemikernelError) {
                    guard try runtime.wait(token, timeout: .seconds(3)).popped() != nil else { break }
                } catch {
                    if error.errno != ETIMEDOUT { break }
                    try? runtime.cancel(token)
                    _ = try? runtime.wait(token)
                    break
                }
                if let buffer = try? runtime.allocate(3_000) {
                    buffer.address.initializeMemory(as: UInt8.self, repeating: 0, count: 3_000)
                    try? runtime.push(queue, buffer, completion: .discarded)
                }
            }
            try? runtime.setOption(.linger(seconds: 0), on: queue)
            try? runtime.close(queue)
        }
    }

    // MARK: Everything else

    private func sendARP() {
        let victim = random.pick(run.hosts)
        let other = random.pick(run.hosts)
        for _ in 0..<random.between(1...30) {
            var packet = ARPPacket(
                operation: random.oneIn(2) ? ARPPacket.request : ARPPacket.reply, senderHardware: station.macAddress,
                senderProtocol: IPAddress(ipv4HostOrder: 0x0a00_8000 | UInt32(random.between(1...20_000))), targetHardware: victim.macAddress,
                targetProtocol: victim.address)
            switch random.below(6) {
            case 0: packet.operation = UInt16(random.between(3...9))
            case 1: packet.senderProtocol = victim.address
            case 2 where plan.spoofsARP: packet.senderProtocol = other.address
            case 3: packet.senderHardware = .broadcast
            case 4: packet.senderProtocol = IPAddress(ipv4HostOrder: word())
            default: break
            }
            station.send(ForgedFrame.arp(packet, from: station.macAddress, to: random.oneIn(2) ? .broadcast : victim.macAddress))
        }
    }

    private func sendGarbage() {
        let victim = random.pick(run.hosts)
        var frame = garbage(random.between(14...200))
        frame.withUnsafeMutableBytes { bytes in
            EthernetHeader.write(
                to: bytes.baseAddress!, destination: random.oneIn(3) ? .broadcast : victim.macAddress, source: station.macAddress,
                etherType: random.pick([EtherType.ipv4, EtherType.ipv4, EtherType.arp, EtherType.ipv6, EtherType.vlan, 0x1234]))
            if bytes.count > 34, random.oneIn(2) {
                IPv4Header.write(
                    to: bytes.baseAddress! + 14, totalByteCount: bytes.count - 14, identification: 0, dontFragment: false,
                    moreFragments: random.oneIn(4), timeToLive: 64, protocolNumber: random.pick([IPProtocol.tcp, IPProtocol.udp, IPProtocol.icmp, 99]),
                    source: random.oneIn(2) ? station.address : victim.address, destination: random.oneIn(4) ? station.address : victim.address)
            }
        }
        station.send(frame)
    }

    /// Fragments of a few datagrams that overlap each other, have no end or several, or lack something; none is ever right.
    private func sendFragments() {
        let victim = random.pick(run.hosts)
        let protocolNumber = random.pick([IPProtocol.udp, IPProtocol.tcp, IPProtocol.icmp, 99])
        let identification = UInt16(random.below(4))
        let isEndless = random.oneIn(4)
        for index in 0..<(isEndless ? 200 : random.between(1...12)) {
            var payload = garbage(8 * random.between(0...6) + (random.oneIn(6) ? random.between(1...7) : 0))
            if payload.count > 8, random.oneIn(2) { payload = [UInt8](repeating: 0, count: payload.count) }
            let offset = isEndless ? 64 * index : random.oneIn(10) ? 65_528 : 8 * random.between(0...10)
            var frame = [UInt8](repeating: 0, count: 34) + payload
            let isMore = isEndless || !random.oneIn(5)
            frame.withUnsafeMutableBytes { bytes in
                EthernetHeader.write(
                    to: bytes.baseAddress!, destination: victim.macAddress, source: station.macAddress, etherType: EtherType.ipv4)
                IPv4Header.write(
                    to: bytes.baseAddress! + 14, totalByteCount: bytes.count - 14, identification: identification, dontFragment: false,
                    moreFragments: isMore, fragmentOffset: offset, timeToLive: 64, protocolNumber: protocolNumber, source: station.address,
                    destination: victim.address)
            }
            station.send(frame)
        }
    }

    /// A datagram to some port, which is mostly closed, so that an ICMP message follows.
    private func sendControlMessage() {
        let victim = random.pick(run.hosts)
        for _ in 0..<random.between(1...10) {
            station.send(
                ForgedFrame.udp(
                    from: Endpoint(address: station.address, port: 9), to: Endpoint(address: victim.address, port: UInt16(random.between(6_000...65_535))),
                    garbage(random.between(0...100)), from: station.macAddress, to: victim.macAddress))
        }
    }

    private func garbage(_ count: Int) -> [UInt8] { (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) } }

    /// Options, some of which have lengths that cannot be.
    private func soup() -> [UInt8] {
        var options: [UInt8] = []
        while options.count < random.between(0...36) {
            switch random.below(7) {
            case 0: options += [2, 4, UInt8(random.between(0...8)), UInt8(random.between(0...255))]
            case 1: options += [3, 3, UInt8(random.between(0...20))]
            case 2: options += [8, 10] + garbage(8)
            case 3: options += [4, 2]
            case 4: options += [5, 10] + garbage(8)
            case 5: options += [1]
            default: options += [UInt8(random.between(0...255)), UInt8(random.between(0...12))]
            }
        }
        return options
    }
}
