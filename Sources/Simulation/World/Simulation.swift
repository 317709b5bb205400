import DatapathMemory
import EthernetDevice
import QueueRuntime
import WireFormats

/// One world: hosts, links and switches under one virtual clock and one seed. The same seed and the same calls give the same frames at the same times.
///
/// It belongs to the thread that made it; several worlds run side by side on threads of their own.
///
///     let simulation = Simulation(seed: 1)
///     let (server, client) = (try simulation.makeHost("server"), try simulation.makeHost("client"))
///     let link = simulation.connect(server, client)
///     link.forward.loss = 10_000
///     try server.run { runtime in … }
///     try simulation.run(for: .seconds(10))
///
/// Nothing in a program under simulation may ask the machine for time or chance: the runtime has a clock, `random` a stream for everybody.
public final class Simulation {
    public let seed: UInt64
    /// Virtual nanoseconds. A world begins at one second, so that a time of 0 is nobody's.
    public private(set) var now: UInt64 = 1_000_000_000
    public private(set) var hosts: [SimulatedHost] = []
    /// Looks at every frame that a host sends or receives.
    public let checker: WireChecker
    /// Events that have happened.
    public private(set) var eventCount: UInt64 = 0

    private var events = EventHeap()
    private let root: SimulationRandom
    private var addressCount: UInt32 = 0
    private var nodes: [any SimulatedNode] = []
    private var links: [SimulatedLink] = []
    private var capture: PacketCaptureWriter?
    private var captureHeap: DatapathHeap?

    /// - Parameter capture: gets every frame of every host, with virtual times; the caller closes it after `end`.
    public init(seed: UInt64, capture: PacketCaptureWriter? = nil) {
        self.seed = seed
        self.capture = capture
        root = SimulationRandom(seed: seed)
        checker = WireChecker()
    }

    /// The random numbers of one component, which nobody else's draws change.
    public func random(_ component: String) -> SimulationRandom { root.stream(component) }

    // MARK: Making

    /// A host with a runtime over a user-level network stack. Hosts are numbered from 10.0.0.1 on unless the settings name an address; each has a /16.
    /// - Throws: what making its runtime throws.
    public func makeHost(_ name: String, _ settings: SimulatedHost.Settings = SimulatedHost.Settings()) throws(DemikernelError) -> SimulatedHost {
        addressCount += 1
        let host = try SimulatedHost(name, number: addressCount, settings, simulation: self, capture: capture)
        hosts.append(host)
        nodes.append(host)
        checker.add(host, maximumTransmissionUnit: settings.maximumTransmissionUnit, sendsCookies: settings.tcp.sendsCookies)
        return host
    }

    /// A station without a stack, which sends whatever a test or a script tells it to.
    public func makeRawHost(_ name: String) -> RawHost {
        addressCount += 1
        let host = RawHost(name, number: addressCount, simulation: self)
        if let capture, let interface = try? capture.addInterface(name: name, macAddress: host.macAddress.value, snapshotByteCount: 65_536) {
            host.interface = interface
        }
        nodes.append(host)
        return host
    }

    /// A router. Each host that is connected to it must have an address in a /16 of its own, and route over `SimulatedRouter.gateway(of:)`.
    public func makeRouter(_ name: String) -> SimulatedRouter {
        let node = SimulatedRouter(name)
        nodes.append(node)
        return node
    }

    /// - Parameter capacity: stations that it remembers.
    public func makeSwitch(_ name: String, capacity: Int = 64) -> SimulatedSwitch {
        let node = SimulatedSwitch(name, capacity: capacity, simulation: self)
        nodes.append(node)
        return node
    }

    /// A link between two nodes, with conditions from the first to the second and back.
    @discardableResult
    public func connect(
        _ first: any SimulatedNode, _ second: any SimulatedNode, _ conditions: LinkConditions = .clean(), backward: LinkConditions? = nil
    ) -> SimulatedLink {
        let link = SimulatedLink(first, second, forward: conditions, backward: backward ?? conditions, simulation: self)
        links.append(link)
        return link
    }

    /// The addresses of the host or raw host that was made as the `number`th one, from 1 on: they are known before it is made.
    public static func addresses(ofHost number: UInt32) -> (macAddress: MACAddress, address: IPAddress) {
        (MACAddress(value: 0x0200_0000_0000 | UInt64(number)), IPAddress(ipv4HostOrder: 0x0a00_0000 | number))
    }

    /// The IPv6 address that belongs to an IPv4 address: each /16 has a /64 of its own. 10.0.0.1 has 2001:db8:0:a00::1.
    public static func ipv6Address(of address: IPAddress) -> IPAddress {
        let value = UInt64(address.ipv4HostOrder)
        return IPAddress(ipv6HostOrder: 0x2001_0db8_0000_0000 | value >> 16, value & 0xffff)
    }

    /// The network of the IPv6 addresses that belong to the addresses of an IPv4 network.
    static func ipv6Prefix(of prefix: IPv4Prefix) -> IPv6Prefix {
        IPv6Prefix(address: ipv6Address(of: prefix.address), length: prefix.length + (prefix.length > 16 ? 96 : 48))
    }

    /// For the writer of a capture: a world gives the times of its packets itself.
    public static var captureClock: CaptureClock { CaptureClock(context: nil) { _ in 0 } }

    // MARK: Time

    /// Has `action` happen at a time; one of the past happens next.
    public func schedule(at time: UInt64, _ action: @escaping () -> Void) {
        events.insert(max(time, now), .run(action))
    }

    /// Has `action` happen `delay` nanoseconds from now.
    public func schedule(after delay: UInt64, _ action: @escaping () -> Void) {
        schedule(at: now + delay, action)
    }

    func deliver(_ frame: SimulatedFrame, to node: any SimulatedNode, port: Int, at time: UInt64) {
        events.insert(time, .deliver(frame, to: node, port: port))
    }

    func wake(_ host: SimulatedHost, at time: UInt64, generation: UInt64) {
        events.insert(max(time, now), .wake(host, generation: generation))
    }

    /// Lets time pass until `duration` later.
    /// - Throws: what must never happen and did.
    public func run(for duration: Duration) throws(SimulationFailure) {
        let (seconds, attoseconds) = duration.components
        try run(until: now + UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds) / 1_000_000_000)
    }

    /// Lets things happen until `limit`, or until `isDone`, which is asked after each instant.
    /// - Returns: whether it was done.
    /// - Throws: what must never happen and did.
    @discardableResult
    public func run(until limit: UInt64, isDone: () -> Bool = { false }) throws(SimulationFailure) -> Bool {
        try settle()
        while !isDone() {
            guard let time = events.nextTime, time <= limit else {
                now = max(now, limit)
                return false
            }
            now = time
            while events.nextTime == time { happen() }
            try settle()
        }
        return true
    }

    private func happen() {
        eventCount += 1
        switch events.removeFirst() {
        case .deliver(let frame, let node, let port): node.receive(frame, port: port)
        case .wake(let host, let generation): host.wake(generation)
        case .run(let action): action()
        }
    }

    /// Polls hosts until none has anything to do at this time. What happens at once because of that happens now.
    private func settle() throws(SimulationFailure) {
        var rounds = 0
        while true {
            var isQuiet = true
            for host in hosts where host.needsPoll {
                isQuiet = false
                try host.settle()
            }
            while let time = events.nextTime, time <= now {
                isQuiet = false
                happen()
            }
            if let violation = checker.violations.first { throw failure(violation) }
            if isQuiet { return }
            rounds += 1
            if rounds > 10_000 {
                throw failure("the world never becomes quiet: \(hosts.filter(\.needsPoll).map(\.name).joined(separator: ", ")) go on at one instant")
            }
        }
    }

    func failure(_ reason: String) -> SimulationFailure { SimulationFailure(seed: seed, time: now, reason: reason) }

    // MARK: Capture

    /// Writes a frame of a station without a stack to the capture.
    func capture(_ frame: SimulatedFrame, interface: UInt32, direction: CaptureDirection) {
        guard let capture else { return }
        if captureHeap == nil { captureHeap = try? DatapathHeap(MemoryConfiguration(arenaByteCount: 4 << 20, commitsAtStart: false, maximumSegments: 64)) }
        guard let captureHeap, let copy = Frame.makeSegment(captureHeap, byteCount: frame.bytes.count, priority: .reserve) else { return }
        frame.bytes.withUnsafeBytes { copy.segmentAddress.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        capture.write(copy, interface: interface, direction: direction, time: now, snapshotByteCount: 65_536)
        copy.releaseArray()
    }

    // MARK: End

    /// Interrupts the programs and ends every host. No world is used after it; one that is not ended stays in memory.
    public func end() {
        for host in hosts { host.interruptPrograms() }
        // What the programs have sent on their way out.
        events.removeAll()
        for host in hosts { host.end() }
        for link in links { link.end() }
        hosts = []
        nodes = []
        links = []
        captureHeap?.close()
        captureHeap = nil
    }
}
