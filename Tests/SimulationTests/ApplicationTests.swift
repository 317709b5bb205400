import Demikernel
import Echo
import EthernetDevice
import KeyValue
import Simulation
import Testing

/// Whole programs run unchanged on simulated hosts.
@Suite struct ProgramsUnderSimulationTests {
    private struct World {
        let simulation: Simulation
        let server: SimulatedHost
        let client: SimulatedHost
        let link: SimulatedLink

        init(seed: UInt64, _ conditions: LinkConditions, capture: PacketCaptureWriter? = nil) throws {
            simulation = Simulation(seed: seed, capture: capture)
            var settings = SimulatedHost.Settings()
            settings.limits.coroutineStackByteCount = 1 << 20
            server = try simulation.makeHost("server", settings)
            client = try simulation.makeHost("client", settings)
            link = simulation.connect(server, client, conditions)
        }
    }

    private static var lossy: LinkConditions {
        var conditions = LinkConditions()
        conditions.loss = 20_000
        conditions.reordering = 20_000
        conditions.duplication = 10_000
        conditions.corruption = 10_000
        conditions.delay = 1_000_000
        conditions.jitter = 500_000
        return conditions
    }

    /// Connects, and tries again while nobody listens yet.
    private static func connect(_ runtime: borrowing Runtime, _ port: UInt16) throws -> QueueDescriptor {
        let queue = try runtime.socket(.ipv4, .stream)
        try runtime.wait(try runtime.connect(queue, to: .ipv4(10, 0, 0, 1, port: port))).succeeded()
        return queue
    }

    private static func exchange(_ runtime: borrowing Runtime, _ queue: QueueDescriptor, _ request: [UInt8], replyByteCount: Int) throws -> [UInt8] {
        try runtime.wait(try runtime.push(queue, try runtime.allocate(copying: request.span))).succeeded()
        var reply: [UInt8] = []
        while reply.count < replyByteCount, let array = try runtime.wait(try runtime.pop(queue)).popped() {
            for segment in 0..<array.segmentCount { array.withUnsafeBytes(ofSegment: segment) { reply += $0 } }
        }
        return reply
    }

    private static func echo(_ world: World, _ transport: EchoServer.Transport, rounds: Int) throws -> SimulatedProgram {
        try world.server.run("echo") { runtime in
            var server = EchoServer(transport, listen: .any(port: 7))
            try server.run(on: runtime) { _ in }
        }
        return try world.client.run("client") { runtime in
            let queue = try connect(runtime, 7)
            for round in 0..<rounds {
                let message = (0..<5_000).map { UInt8(truncatingIfNeeded: $0 &* (round + 1)) }
                #expect(try exchange(runtime, queue, message, replyByteCount: message.count) == message)
            }
            try runtime.close(queue)
        }
    }

    @Test func theEchoServerRunsOverALossyLink() throws {
        let world = try World(seed: 1, Self.lossy)
        let program = try Self.echo(world, .tcp, rounds: 100)
        try world.simulation.run(for: .seconds(600))
        #expect(program.isFinished && program.error == nil)
        #expect(world.client.networkStatistics.tcp.retransmittedSegments > 0)
        #expect(world.link.forwardStatistics.lost > 0 && world.link.forwardStatistics.corrupted > 0)
        world.simulation.end()
    }

    @Test func theKeyValueServerRunsOverALossyLink() throws {
        let world = try World(seed: 2, Self.lossy)
        try world.server.run("kv") { runtime in
            var server = KeyValueServer(listen: .any(port: 6_379), seed: 1, maximumQueues: 4_096)
            try server.run(on: runtime) { _ in }
        }
        let program = try world.client.run("client") { runtime in
            let queue = try Self.connect(runtime, 6_379)
            for number in 0..<200 {
                let value = String(repeating: "v", count: 1 + number * 10)
                #expect(try Self.exchange(runtime, queue, Array("SET key\(number) \(value)\r\n".utf8), replyByteCount: 5) == Array("+OK\r\n".utf8))
                let expected = Array("$\(value.utf8.count)\r\n\(value)\r\n".utf8)
                #expect(try Self.exchange(runtime, queue, Array("GET key\(number)\r\n".utf8), replyByteCount: expected.count) == expected)
            }
            try runtime.close(queue)
        }
        try world.simulation.run(for: .seconds(600))
        #expect(program.isFinished && program.error == nil)
        world.simulation.end()
    }

    @Test func aServerGoesOnAfterAPartitionAndAJumpOfItsClock() throws {
        let world = try World(seed: 3, .clean(delay: 1_000_000))
        let program = try Self.echo(world, .tcp, rounds: 2_000)
        world.simulation.schedule(after: 50_000_000) { world.link.setUp(false) }
        world.simulation.schedule(after: 2_050_000_000) { world.link.setUp(true) }
        world.simulation.schedule(after: 4_000_000_000) { world.server.jumpClock(nanoseconds: 3_000_000_000) }
        try world.simulation.run(for: .seconds(600))
        #expect(program.isFinished && program.error == nil)
        #expect(world.link.forwardStatistics.down + world.link.backwardStatistics.down > 0)
        world.simulation.end()
    }

    @Test func aHostWithoutMemoryRecoversWhenItIsGivenBack() throws {
        let world = try World(seed: 4, .clean())
        let program = try Self.echo(world, .tcp, rounds: 1_000)
        world.simulation.schedule(after: 5_000_000) { world.server.grabMemory(leaving: 0, priority: .reserve) }
        world.simulation.schedule(after: 1_005_000_000) { world.server.returnMemory() }
        try world.simulation.run(for: .seconds(600))
        #expect(program.isFinished && program.error == nil)
        #expect(world.server.deviceStatistics.receiveOutOfMemory > 0)
        world.simulation.end()
    }

    @Test func theSameSeedWritesTheSameCapture() throws {
        func capture(_ seed: UInt64) throws -> [UInt8] {
            let writer = PacketCaptureWriter(inMemoryLimit: 16 << 20, clock: Simulation.captureClock)
            let world = try World(seed: seed, Self.lossy, capture: writer)
            _ = try Self.echo(world, .tcp, rounds: 20)
            try world.simulation.run(for: .seconds(60))
            world.simulation.end()
            let bytes = writer.withUnsafeBytes { Array($0) }
            writer.close()
            return bytes
        }
        let first = try capture(5)
        #expect(first.count > 100_000)
        #expect(try capture(5) == first)
        #expect(try capture(6) != first)
    }

    @Test func theEndOfTheWorldEndsItsServersAndSleepers() throws {
        let world = try World(seed: 8, .clean())
        let client = try Self.echo(world, .tcp, rounds: 1)
        let sleeper = try world.client.run("sleeper") { [host = world.client] runtime in
            for _ in 0..<10 { host.sleep(nanoseconds: 3_600_000_000_000) }
        }
        try world.simulation.run(for: .seconds(60))
        let servers = world.server.runningPrograms
        #expect(client.isFinished && servers.count == 1 && !sleeper.isFinished)
        world.simulation.end()
        #expect(servers.allSatisfy { $0.isFinished && $0.error == nil } && sleeper.isFinished)
    }

    @Test func aProgramThatNeverWaitsIsNamed() throws {
        let world = try World(seed: 7, .clean())
        try world.client.run("restless") { runtime in
            while true { runtime.yield() }
        }
        let failure = #expect(throws: SimulationFailure.self) { try world.simulation.run(for: .seconds(1)) }
        #expect(failure?.reason.contains("client never becomes quiet") == true)
        world.simulation.end()
    }
}
