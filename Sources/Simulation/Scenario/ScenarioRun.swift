import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import QueueRuntime
import WireFormats

/// One scenario being played.
final class ScenarioRun {
    let seed: UInt64
    let plan: ScenarioPlan
    let world: Simulation
    private(set) var hosts: [SimulatedHost] = []
    private var links: [SimulatedLink] = []
    private var listeners: [Listener] = []
    private(set) var connections: [ScenarioConnection] = []
    private var datagrams: [DatagramExchange] = []
    private var groups: [GroupExchange] = []
    private var middle: SimulatedSwitch?
    private var attacker: MisbehavingStation?
    private var expected: [FlowKey: ScenarioConnection] = [:]
    /// The flows of which a connection was accepted.
    private var accepted: Set<FlowKey> = []
    private let narrator: ((String) -> Void)?
    /// What the programs say when the world ends under them tells nothing.
    private var isOver = false
    /// Connections and datagram exchanges that are not over.
    private var openWork = 0
    /// The first thing that must not happen.
    private(set) var violation: String?
    let start: UInt64

    /// How long a program of a host waits for anything: longer than the stack's patience with a silent peer, and by as much as its clock jumps, which is
    /// time that nobody has had.
    func patience(of host: SimulatedHost) -> Duration {
        .seconds(3_600) + .nanoseconds(Int64(plan.clockJumps(ofHost: hosts.firstIndex { $0 === host }!)))
    }

    /// Everything is over by then.
    private static let longest: UInt64 = 4 * 3_600_000_000_000

    final class Listener {
        let plan: ScenarioPlan.ListenerPlan
        var queue: QueueDescriptor?
        /// When it last accepted a connection, in the world's time.
        var acceptedAt: UInt64?

        init(_ plan: ScenarioPlan.ListenerPlan) { self.plan = plan }
    }

    init(seed: UInt64, capture: PacketCaptureWriter?, narrate: ((String) -> Void)?) {
        self.seed = seed
        plan = ScenarioPlan(seed: seed)
        narrator = narrate
        world = Simulation(seed: seed, capture: capture)
        start = world.now
    }

    func play() -> Scenario.Report {
        var failure: SimulationFailure?
        do {
            try build()
            failure = try carryOut()
        } catch let error as SimulationFailure {
            failure = error
        } catch {
            failure = world.failure("the world could not be made: \(error)")
        }
        var mechanisms = Mechanisms()
        for host in hosts { mechanisms.add(host.networkStatistics) }
        mechanisms.add(world.checker.ipv6)
        let report = Scenario.Report(
            seed: seed, failure: failure, summary: plan.summary, mechanisms: mechanisms, virtualNanoseconds: world.now - start,
            events: world.eventCount, deliveredBytes: connections.reduce(0) { $0 + $1.deliveredByteCount },
            completedConnections: connections.count { $0.isComplete }, connections: connections.count)
        isOver = true
        world.end()
        return report
    }

    // MARK: Building

    private func build() throws {
        for (index, settings) in plan.hosts.enumerated() {
            let host = try world.makeHost("host\(index + 1)", settings)
            hosts.append(host)
            if let conduct = plan.conduct(ofHost: index) { world.checker.expect(conduct, of: host) }
        }
        switch plan.middle {
        case .link: links.append(world.connect(hosts[0], hosts[1], plan.links[0].forward, backward: plan.links[0].backward))
        case .switch:
            let node = world.makeSwitch("switch", capacity: 16)
            connectHosts(to: node)
            middle = node
            if let snooping = plan.snooping { node.beginSnooping(snooping) }
            if let attack = plan.attack {
                let station = world.makeRawHost("station")
                world.connect(station, node, .clean(delay: 20_000))
                attacker = MisbehavingStation(attack, station, self)
            }
        case .router: connectHosts(to: world.makeRouter("router"))
        }
        for listener in plan.listeners { try open(Listener(listener)) }
        for connection in plan.connections { begin(connection, incarnation: 1) }
        for (index, datagram) in plan.datagrams.enumerated() {
            openWork += datagram.isPortClosed || datagram.isNowhere ? 1 : 2
            let exchange = DatagramExchange(datagram, number: index, self)
            datagrams.append(exchange)
            try exchange.begin()
        }
        for (index, group) in plan.groups.enumerated() {
            let exchange = GroupExchange(group, number: index, self)
            openWork += exchange.programs
            groups.append(exchange)
            try exchange.begin()
        }
        for fault in plan.faults { schedule(fault) }
        attacker?.begin()
        narrate(plan.summary)
        for (index, settings) in plan.hosts.enumerated() { narrate("\(hosts[index].name): \(settings)") }
        for (index, connection) in plan.connections.enumerated() { narrate("plan \(index): \(connection)") }
    }

    private func connectHosts(to node: any SimulatedNode) {
        for (index, host) in hosts.enumerated() {
            links.append(world.connect(host, node, plan.links[index].forward, backward: plan.links[index].backward))
        }
    }

    private func schedule(_ fault: ScenarioPlan.Fault) {
        switch fault {
        case .partition(let link, let at, let duration):
            world.schedule(at: start + at) { [self] in
                narrate("\(links[link].name) is down for \(duration / 1_000_000) ms")
                links[link].setUp(false)
            }
            world.schedule(at: start + at + duration) { [self] in links[link].setUp(true) }
        case .clockJump(let host, let at, let by):
            world.schedule(at: start + at) { [self] in
                narrate("the clock of \(hosts[host].name) jumps by \(by / 1_000_000) ms")
                hosts[host].jumpClock(nanoseconds: by)
            }
        case .memoryGrab(let host, let at, let duration, let leaving, let priority):
            world.schedule(at: start + at) { [self] in
                narrate("\(hosts[host].name) loses its memory for \(duration / 1_000_000) ms")
                hosts[host].grabMemory(leaving: leaving, blockByteCount: 131_072, priority: priority)
                hosts[host].grabMemory(leaving: leaving, blockByteCount: 2_048, priority: priority)
                hosts[host].grabMemory(leaving: leaving, blockByteCount: 64, priority: priority)
            }
            world.schedule(at: start + at + duration) { [self] in hosts[host].returnMemory() }
        case .conditions(let link, let at, let conditions):
            world.schedule(at: start + at) { [self] in
                var conditions = conditions
                conditions.isUp = links[link].forward.isUp
                links[link].forward = conditions
                links[link].backward = conditions
            }
        }
    }

    // MARK: Connections

    /// Whether a reset has come to one of the ends, which may have been in TIME-WAIT: then nothing keeps what is still on its way from the next connection of
    /// the same two endpoints, whose sequence numbers may be the same again (RFC 1337, section 2, hazard H1).
    //= RFC 9293 section 3.10.7.4
    //# TIME-WAIT STATE: If the RST bit is set, then enter the CLOSED state, delete the TCB, and return.
    private func hasLostTimeWait(_ plan: ScenarioPlan.ConnectionPlan) -> Bool {
        let client = Endpoint(address: hosts[plan.client].address(plan.family), port: plan.clientPort)
        let key = FlowKey(local: client, remote: Endpoint(address: hosts[plan.server].address(plan.family), port: plan.port))
        return world.checker.wasReset(key) || world.checker.wasReset(key.reversed)
    }

    /// As long as an old segment may live.
    //= RFC 9293 section 3.4.2
    //# Maximum Segment Lifetime (MSL): for this specification the MSL is taken to be 2 minutes.
    private static let quietTime: UInt64 = 120_000_000_000

    /// - Parameter delay: from now on, of an incarnation that is not the first.
    func begin(_ plan: ScenarioPlan.ConnectionPlan, incarnation: Int, after delay: UInt64 = 0) {
        openWork += 1
        let connection = ScenarioConnection(plan, number: connections.count, incarnation: incarnation, self)
        connections.append(connection)
        let at = incarnation == 1 ? start + plan.startsAt : world.now + delay
        world.schedule(at: at) { connection.begin() }
    }

    /// A client says which connection will come to a listener.
    func expect(_ connection: ScenarioConnection, from client: SocketAddress, to server: SocketAddress) {
        let key = FlowKey(local: server.asEndpoint, remote: client.asEndpoint)
        expected[key] = connection
        connection.serverFlow = key
        world.checker.forgetDeniedCookie(key)
    }

    /// Whether a connection may have been reset before its server knew of it: what a client sends behind a segment that was lost, or comes too late, brings
    /// no cookie back, and belongs to nobody. What brings it back later finds the client gone.
    func mayHaveLostCookie(_ connection: ScenarioConnection) -> Bool {
        connection.serverFlow.map { world.checker.hasDeniedCookie($0) } ?? false
    }

    /// Whether a connection may have found no room at its listener for so long that the client has given up: more come to it than may be half-open, without
    /// cookies, they all send again at the same times, and until the last of these it has accepted others.
    func isCrowdedOut(_ connection: ScenarioConnection) -> Bool {
        let (client, server) = (plan.hosts[connection.plan.client].tcp, plan.hosts[connection.plan.server])
        let rivals = connections.count { $0.plan.server == connection.plan.server && $0.plan.port == connection.plan.port }
        let listener = listeners.first { $0.plan.host == connection.plan.server && $0.plan.port == connection.plan.port }
        guard !server.tcp.sendsCookies, rivals > server.networkLimits.maximumHalfOpen, let acceptedAt = listener?.acceptedAt else { return false }
        let lastWait = min(client.initialRetransmissionTimeout << UInt64(client.maximumSYNRetransmissions), client.maximumRetransmissionTimeout)
        return world.now - acceptedAt < 2 * lastWait
    }

    func finished(_ connection: ScenarioConnection) {
        openWork -= 1
        if connection.isComplete, connection.incarnation < connection.plan.incarnations {
            begin(connection.plan, incarnation: connection.incarnation + 1, after: hasLostTimeWait(connection.plan) ? ScenarioRun.quietTime : 0)
        }
    }

    func finishedDatagrams() { openWork -= 1 }

    private func open(_ listener: Listener) throws {
        listeners.append(listener)
        let host = hosts[listener.plan.host]
        try host.run("listener \(listener.plan.port)") { [unowned self] runtime in
            let queue = try runtime.socket(listener.plan.family, .stream)
            try runtime.bind(queue, to: .any(listener.plan.family, port: listener.plan.port))
            try runtime.listen(queue, backlog: listener.plan.backlog)
            listener.queue = queue
            if listener.plan.startsAt > 0 { host.sleep(nanoseconds: listener.plan.startsAt) }
            while listener.queue != nil {
                do {
                    try accept(on: queue, listener, host, runtime)
                } catch let error as DemikernelError {
                    if error.errno == ECANCELED || error.errno == EBADF { return }
                    // Without memory or descriptors for now.
                    host.sleep(nanoseconds: 10_000_000)
                }
                if listener.plan.pause > 0 { host.sleep(nanoseconds: listener.plan.pause) }
            }
        }
    }

    private func accept(on queue: QueueDescriptor, _ listener: Listener, _ host: SimulatedHost, _ runtime: borrowing Runtime) throws {
        let completion = try runtime.wait(try runtime.accept(queue))
        switch consume completion.result {
        case .accepted(let connection, let peer):
            listener.acceptedAt = world.now
            let family: AddressFamily = peer.asEndpoint.address.isIPv4 ? .ipv4 : .ipv6
            let local = Endpoint(address: host.address(family), port: listener.plan.port)
            let key = FlowKey(local: local, remote: peer.asEndpoint)
            if let known = expected.removeValue(forKey: key) {
                accepted.insert(key)
                known.accepted(connection, runtime)
            } else if accepted.contains(key), host.networkStatistics.tcp.cookiesAccepted > 0 {
                // A copy of what brought a cookie back brings it back again when the connection is over: nothing is left that knows. To a client that still
                // waits for its own connection a close would look like that one's end.
                try runtime.setOption(.linger(seconds: 0), on: connection)
                try runtime.close(connection)
            } else if let attacker {
                attacker.accepted(connection, on: host)
            } else {
                fail("\(host.name) accepted a connection from \(peer), which nobody has made")
                try runtime.close(connection)
            }
        case .failed(let error, _): throw error
        default: preconditionFailure("an accept completes with a connection")
        }
    }

    // MARK: Carrying out

    private func carryOut() throws(SimulationFailure) -> SimulationFailure? {
        let limit = start + ScenarioRun.longest
        guard try world.run(until: limit, isDone: { openWork == 0 || violation != nil }) else { return world.failure(whatIsStuck()) }
        if let violation { return world.failure(violation) }
        attacker?.isOver = true
        middle?.endQuerying()
        for host in hosts { host.returnMemory() }
        for link in links { link.setUp(true) }
        for listener in listeners {
            guard let queue = listener.queue else { continue }
            listener.queue = nil
            hosts[listener.plan.host].perform { try? $0.close(queue) }
        }
        let isOver = { [self] in violation != nil || hosts.allSatisfy { $0.runningPrograms.isEmpty && $0.isIdle } }
        guard try world.run(until: world.now + ScenarioRun.longest, isDone: isOver) else { return world.failure(whatIsStuck()) }
        if let violation { return world.failure(violation) }
        return whatIsLeft().map { world.failure($0) }
    }

    private func whatIsStuck() -> String {
        var words: [String] = []
        for host in hosts {
            for program in host.runningPrograms { words.append("\(host.name) \(program.name): \(program.stage)") }
            let statistics = host.networkStatistics
            if host.runningPrograms.isEmpty, !host.isIdle {
                let runtime = host.runtimeStatistics
                words.append(
                    "\(host.name) still has \(statistics.connections) connections, \(runtime.liveOperations) operations, "
                        + "\(runtime.memory.liveBlocks) blocks, \(runtime.memory.liveSegments) segments")
            }
        }
        return "stuck: " + words.joined(separator: "; ")
    }

    private func whatIsLeft() -> String? {
        for host in hosts {
            let runtime = host.runtimeStatistics
            let network = host.networkStatistics
            if network.connections == 0, network.tcp.transmissionRecords != 0 {
                return "\(host.name) has \(network.tcp.transmissionRecords) records of segments, and no connection"
            }
            if network.connections == 0, network.tcp.lentRecords != 0 {
                return "\(host.name) has lent \(network.tcp.lentRecords) records, and has no connection"
            }
            for reason in [DropReason.badIPv4Header, .badIPv4Checksum, .badSegment, .badSegmentChecksum, .badDatagram, .badDatagramChecksum]
            where !plan.damagesFrames && network.drops[reason] != 0 {
                return "\(host.name) refused \(network.drops[reason]) frames as \(reason), and none was damaged"
            }
            for reason in [
                DropReason.fragmentTooShort, .fragmentTooLong, .fragmentMisaligned, .fragmentOverlap, .fragmentBeyondEnd, .fragmentMarks, .tooManyFragments,
            ] where !plan.damagesFrames && network.drops[reason] != 0 {
                return "\(host.name) refused \(network.drops[reason]) fragments as \(reason), and none was damaged"
            }
            let hasLoopback = plan.connections.contains { $0.client == $0.server && hosts[$0.client] === host }
            if !hasLoopback, network.tcp.resetsReceived > world.checker.resetsTaken(by: host) {
                return "\(host.name) took \(network.tcp.resetsReceived) resets, of which \(world.checker.resetsTaken(by: host)) could be meant for it"
            }
            let tooLong = host.deviceStatistics.transmitTooLong
            if tooLong != 0 { return "\(host.name) sent \(tooLong) frames that its link does not take" }
            if runtime.liveOperations != 0 { return "\(host.name) has \(runtime.liveOperations) operations left" }
            if runtime.openQueues != 0 { return "\(host.name) has \(runtime.openQueues) queues left" }
            if runtime.closingQueues != 0 { return "\(host.name) has \(runtime.closingQueues) closing queues left" }
            if network.connections != 0 || network.datagramSockets != 0 {
                return "\(host.name)'s stack has \(network.connections) connections and \(network.datagramSockets) datagram sockets left"
            }
            if runtime.memory.liveBlocks != 0 || runtime.memory.liveSegments != 0 {
                return "\(host.name) has \(runtime.memory.liveBlocks) blocks and \(runtime.memory.liveSegments) segments left"
            }
        }
        return nil
    }

    // MARK: Words

    /// Something that must not happen has happened.
    func fail(_ reason: String) {
        narrate(reason)
        if violation == nil { violation = reason }
    }

    func narrate(_ line: @autoclosure () -> String) {
        guard let narrator, !isOver else { return }
        let nanoseconds = String(world.now % 1_000_000_000)
        narrator("\(world.now / 1_000_000_000).\(String(repeating: "0", count: 9 - nanoseconds.count))\(nanoseconds) \(line())")
    }
}

extension SocketAddress {
    var asEndpoint: Endpoint {
        Endpoint(address: family == .ipv4 ? IPAddress(ipv4Raw: UInt32(truncatingIfNeeded: bytes.0)) : IPAddress(words: bytes), port: port)
    }
}

extension Endpoint {
    var asSocketAddress: SocketAddress {
        address.isIPv4
            ? SocketAddress(family: .ipv4, bytes: (UInt64(address.ipv4Raw), 0), port: port) : SocketAddress(family: .ipv6, bytes: address.words, port: port)
    }
}
