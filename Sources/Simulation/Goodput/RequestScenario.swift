import DatapathMemory
import NetworkStack
import QueueRuntime

/// Small requests one after the other over a link that loses some: what the repair of a loss that nothing follows costs. Times are in nanoseconds.
public struct RequestScenario: Sendable {
    public var name: String
    public var requests: Int
    public var byteCount: Int
    public var link: LinkConditions
    public var configure: @Sendable (inout TCPConfiguration) -> Void = { _ in }
    public var variant = "default"
    /// Between an answer and the next request.
    public var pause: UInt64 = 1_000_000
    public var isSmall = false

    public init(roundTrip milliseconds: UInt64, loss: UInt32, requests: Int, byteCount: Int = 64) {
        var link = LinkConditions()
        link.bandwidth = 100_000_000
        link.delay = milliseconds * 500_000
        link.loss = loss
        self.link = link
        self.requests = requests
        self.byteCount = byteCount
        name = "\(byteCount) B, \(milliseconds) ms, \(GoodputScenario.percentText(loss)) loss"
    }

    /// What came of it.
    public struct Result: Sendable {
        /// How long the fastest request has taken: a round trip with the time that its frames take on the link.
        public var fastest: UInt64 = 0
        /// How much longer each request has taken than the fastest one, in order of size.
        public var addedDelays: [UInt64] = []
        /// Requests of which a frame was lost.
        public var lost: UInt64 = 0
        public var probes: UInt64 = 0
        public var timeouts: UInt64 = 0
    }

    private final class Times { var delays: [UInt64] = [] }

    /// Plays the scenario.
    /// - Throws: what making its world throws, or what must never happen and did.
    public func play(seed: UInt64 = 1) throws -> Result {
        let world = Simulation(seed: seed)
        var settings = SimulatedHost.Settings()
        configure(&settings.tcp)
        let server = try world.makeHost("server", settings)
        let client = try world.makeHost("client", settings)
        var backward = link
        backward.loss = 0
        let wire = world.connect(client, server, link, backward: backward)
        try server.run("server") { runtime in
            let listener = try runtime.socket(.ipv4, .stream)
            try runtime.bind(listener, to: .any(port: 9))
            try runtime.listen(listener, backlog: 1)
            let queue = try runtime.wait(try runtime.accept(listener)).accepted()
            var received = 0
            while let array = try runtime.wait(try runtime.pop(queue)).popped() {
                received += array.byteCount
                guard received >= byteCount else { continue }
                received -= byteCount
                try runtime.wait(try runtime.push(queue, try runtime.allocate(byteCount))).succeeded()
            }
        }
        let times = Times()
        try client.run("client") { runtime in
            let queue = try runtime.socket(.ipv4, .stream)
            let address = SocketAddress(family: .ipv4, bytes: (UInt64(server.address.ipv4Raw), 0), port: 9)
            try runtime.wait(try runtime.connect(queue, to: address)).succeeded()
            for _ in 0..<requests {
                let start = world.now
                try runtime.wait(try runtime.push(queue, try runtime.allocate(byteCount))).succeeded()
                var received = 0
                while received < byteCount, let array = try runtime.wait(try runtime.pop(queue)).popped() { received += array.byteCount }
                times.delays.append(world.now - start)
                if pause > 0 { client.sleep(nanoseconds: pause) }
            }
        }
        try world.run(until: world.now + 3_600_000_000_000) { times.delays.count == requests }
        let statistics = client.networkStatistics.tcp
        let fastest = times.delays.min() ?? 0
        let result = Result(
            fastest: fastest, addedDelays: times.delays.map { $0 - fastest }.sorted(), lost: wire.forwardStatistics.lost, probes: statistics.tailLossProbes,
            timeouts: statistics.retransmissionTimeouts)
        world.end()
        return result
    }
}
