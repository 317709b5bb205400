import DatapathMemory
import Demikernel
import NetworkStack
import Simulation
import Testing

/// Transfers over a bottleneck, in virtual time: what the recovery of losses is worth.
private struct Bottleneck {
    /// 100 Mbit/s and a round trip of 50 ms.
    static var conditions: LinkConditions {
        var conditions = LinkConditions()
        conditions.bandwidth = 100_000_000
        conditions.delay = 25_000_000
        conditions.queueByteCount = 1 << 20
        return conditions
    }

    let simulation: Simulation
    let server: SimulatedHost
    let client: SimulatedHost

    init(seed: UInt64, _ forward: LinkConditions, isSelective: Bool) throws {
        simulation = Simulation(seed: seed)
        var settings = SimulatedHost.Settings()
        settings.memory = MemoryConfiguration(arenaByteCount: 64 << 20, commitsAtStart: false, maximumSegments: 1 << 16)
        settings.limits.coroutineStackByteCount = 1 << 20
        settings.tcp.offersSelectiveAcknowledgements = isSelective
        // A window that CUBIC opens loses frames in the bottleneck's queue, which is not what is looked at here.
        settings.tcp.congestionControl = .newReno
        // As many as wait behind a frame that is late by a round trip.
        settings.networkLimits.reassemblyPieces = 1_024
        server = try simulation.makeHost("server", settings)
        client = try simulation.makeHost("client", settings)
        simulation.connect(client, server, forward, backward: Bottleneck.conditions)
    }

    /// Sends `messages` of `byteCount` bytes each, and waits for a byte in answer where `isAnswered`.
    /// - Returns: when each was sent, and when it had arrived or its answer had, in nanoseconds.
    func transfer(messages: Int, byteCount: Int, isAnswered: Bool) throws -> (sent: [UInt64], arrived: [UInt64]) {
        final class Times { var sent: [UInt64] = [], arrived: [UInt64] = [] }
        let times = Times()
        let simulation = self.simulation
        try server.run("sink") { runtime in
            let listener = try runtime.socket(.ipv4, .stream)
            try runtime.bind(listener, to: .any(port: 9))
            try runtime.listen(listener, backlog: 1)
            let queue = try runtime.wait(try runtime.accept(listener)).accepted()
            var received = 0
            var count = 0
            while count < messages, let array = try runtime.wait(try runtime.pop(queue)).popped() {
                received += array.byteCount
                while count < messages && received >= (count + 1) * byteCount {
                    count += 1
                    if !isAnswered { times.arrived.append(simulation.now) }
                    let answer: [UInt8] = [1]
                    if isAnswered { try runtime.wait(try runtime.push(queue, try runtime.allocate(copying: answer.span))).succeeded() }
                }
            }
        }
        try client.run("source") { runtime in
            let queue = try runtime.socket(.ipv4, .stream)
            try runtime.wait(try runtime.connect(queue, to: .ipv4(10, 0, 0, 1, port: 9))).succeeded()
            let message = [UInt8](repeating: 7, count: byteCount)
            for _ in 0..<messages {
                times.sent.append(simulation.now)
                try runtime.wait(try runtime.push(queue, try runtime.allocate(copying: message.span))).succeeded()
                guard isAnswered else { continue }
                _ = try runtime.wait(try runtime.pop(queue)).popped()
                times.arrived.append(simulation.now)
            }
        }
        try simulation.run(until: simulation.now + 900_000_000_000) { times.arrived.count == messages }
        return (times.sent, times.arrived)
    }
}

/// Whole programs over a network that loses or reorders frames.
@Suite struct LossRecoveryTests {
    /// A frame in a hundred is lost.
    @Test func lossesAreRepairedWithoutTimeouts() throws {
        var forward = Bottleneck.conditions
        forward.loss = 10_000
        let world = try Bottleneck(seed: 2, forward, isSelective: true)
        _ = try world.transfer(messages: 200, byteCount: 50_000, isAnswered: false)
        let statistics = world.client.networkStatistics.tcp
        #expect(statistics.selectiveRecoveries > 20 && statistics.retransmissionTimeouts == 0)
        // 10 MB are 6,850 frames.
        #expect(statistics.retransmittedSegments < 100)
        world.simulation.end()
    }

    @Test func aSmallRequestThatIsLostIsSentAgainAfterTwoRoundTrips() throws {
        var forward = Bottleneck.conditions
        forward.loss = 30_000
        let world = try Bottleneck(seed: 5, forward, isSelective: true)
        let (sent, arrived) = try world.transfer(messages: 500, byteCount: 64, isAnswered: true)
        let delays = zip(sent, arrived).map { $1 - $0 }
        #expect(world.client.networkStatistics.tcp.tailLossProbes > 5)
        // A request is lost in thirty, and once in a thousand its probe is, too.
        #expect(delays.filter { $0 > 50_000_000 + 2 * 50_000_000 + 11_000_000 }.count <= 2)
        world.simulation.end()
    }

    /// Seconds for 20 MB where one frame in twenty is held back for up to a round trip.
    private static func reordered(isSelective: Bool) throws -> (seconds: Double, statistics: TCPStatistics) {
        var forward = Bottleneck.conditions
        forward.reordering = 50_000
        forward.reorderDelay = 50_000_000
        let world = try Bottleneck(seed: 6, forward, isSelective: isSelective)
        let (sent, arrived) = try world.transfer(messages: 400, byteCount: 50_000, isAnswered: false)
        defer { world.simulation.end() }
        return (Double(arrived.last! - sent.first!) / 1e9, world.client.networkStatistics.tcp)
    }

    @Test func framesThatAreOnlyLateDoNotSlowASenderDown() throws {
        let plain = try Self.reordered(isSelective: false)
        let selective = try Self.reordered(isSelective: true)
        #expect(selective.seconds * 3 < plain.seconds)
        // One in a hundred at most.
        #expect(selective.statistics.retransmittedSegments * 100 < selective.statistics.segmentsSent)
        #expect(selective.statistics.retransmittedSegments < plain.statistics.retransmittedSegments)
        #expect(selective.statistics.spuriousRecoveries > 0 && selective.statistics.retransmissionTimeouts == 0)
    }
}
