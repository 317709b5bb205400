import DatapathMemory
import NetworkStack
import QueueRuntime

/// What came of a scenario. Shares are in millionths.
public struct GoodputResult: Sendable {
    /// Bits of payload a second that came out of all streams, after the start-up.
    public var goodput: UInt64 = 0
    /// The same, of what the link could have carried had it never been idle, nor carried anything twice: payload, headers and all.
    public var linkShare: UInt64 = 0
    /// Segments that were sent again, of all; and those of them that were already there.
    public var retransmittedShare: UInt64 = 0
    public var spuriousShare: UInt64 = 0
    /// Frames that found the queue full, of all, during the start-up and after it.
    public var startUpQueueLoss: UInt64 = 0
    public var queueLoss: UInt64 = 0
    /// Bytes that frames found in the queue, after the start-up.
    public var medianQueue = 0
    public var longQueue = 0
    public var timeouts: UInt64 = 0
    /// The goodput of the slowest connection, of the fastest one's.
    public var fairness: UInt64 = 1_000_000
    /// Bits a second out of each connection's stream, in each of `GoodputScenario.intervals` equal parts of the time, for a picture.
    public var courses: [[UInt64]] = []
    /// Frames that the link carried in both directions.
    public var frames: UInt64 = 0
}

extension GoodputScenario {
    /// Into how many parts a course is divided.
    public static let intervals = 100

    private final class Counts {
        var received: [Int]
        var receivedInStartUp: [Int] = []
        var courses: [[Int]]
        var isOver = false

        init(flows: Int) {
            received = Array(repeating: 0, count: flows)
            courses = Array(repeating: Array(repeating: 0, count: GoodputScenario.intervals), count: flows)
        }
    }

    /// Plays the scenario.
    /// - Throws: what making its world throws, or what must never happen and did.
    public func play(seed: UInt64 = 1) throws -> GoodputResult {
        let world = Simulation(seed: seed)
        var settings = SimulatedHost.Settings()
        settings.memory = MemoryConfiguration(arenaByteCount: 256 << 20, commitsAtStart: false, maximumSegments: 1 << 18)
        settings.tcp.congestionControl = algorithm
        configure(&settings.tcp)
        settings.receiveQueueLength = 1 << 16
        let receiver = try world.makeHost("receiver", settings)
        let sender = try world.makeHost("sender", settings)
        var backward = link
        (backward.loss, backward.reordering, backward.markThreshold) = (0, 0, nil)
        let wire = world.connect(sender, receiver, link, backward: backward)
        let counts = Counts(flows: flows)
        let begin = world.now
        try receive(on: receiver, counts, world, begin)
        for flow in 0..<flows {
            world.schedule(at: begin + UInt64(flow) * stagger) {
                // The world has room for it.
                _ = try? sender.run("source \(flow)") { try send($0, counts, port: UInt16(9 + flow), to: receiver) }
            }
        }

        try world.run(until: begin + warmUp)
        var result = GoodputResult()
        result.startUpQueueLoss = share(wire.forwardStatistics.queueFull, of: wire.forwardStatistics.frames)
        result.frames = wire.forwardStatistics.frames + wire.backwardStatistics.frames
        wire.clearStatistics()
        counts.receivedInStartUp = counts.received
        try world.run(until: begin + duration)
        counts.isOver = true

        let received = zip(counts.received, counts.receivedInStartUp).map { UInt64($0 - $1) }
        let total = received.reduce(0, +)
        result.goodput = total * 8_000 / ((duration - warmUp) / 1_000_000)
        let statistics = sender.networkStatistics.tcp
        // Ethernet, IPv4, TCP and its timestamps around a full segment.
        let bandwidth = link.bandwidth ?? 0
        result.linkShare = bandwidth == 0 ? 0 : share(result.goodput, of: bandwidth * 1_448 / 1_514)
        result.retransmittedShare = share(statistics.retransmittedSegments, of: statistics.segmentsSent)
        result.spuriousShare = share(receiver.networkStatistics.drops[.duplicateData], of: statistics.segmentsSent)
        result.timeouts = statistics.retransmissionTimeouts
        let forward = wire.forwardStatistics
        result.queueLoss = share(forward.queueFull, of: forward.frames)
        result.medianQueue = forward.queueLengths.percentile(0.5)
        result.longQueue = forward.queueLengths.percentile(0.99)
        result.fairness = share(received.min() ?? 0, of: received.max() ?? 0)
        let interval = duration / UInt64(GoodputScenario.intervals)
        result.courses = counts.courses.map { $0.map { UInt64($0) * 8_000_000 / (interval / 1_000) } }
        result.frames += forward.frames + wire.backwardStatistics.frames
        world.end()
        return result
    }

    private func share(_ part: UInt64, of whole: UInt64) -> UInt64 { whole == 0 ? 0 : part * 1_000_000 / whole }

    /// Each flow has a port of its own, so that it is known which one it is.
    private func receive(on host: SimulatedHost, _ counts: Counts, _ world: Simulation, _ begin: UInt64) throws {
        let duration = duration
        for flow in 0..<flows {
            try host.run("sink \(flow)") { runtime in
                let listener = try runtime.socket(.ipv4, .stream)
                try runtime.bind(listener, to: .any(port: UInt16(9 + flow)))
                try runtime.listen(listener, backlog: 1)
                let queue = try runtime.wait(try runtime.accept(listener)).accepted()
                while let array = try runtime.wait(try runtime.pop(queue)).popped() {
                    counts.received[flow] += array.byteCount
                    let interval = Int((world.now - begin) * UInt64(GoodputScenario.intervals) / duration)
                    if interval < GoodputScenario.intervals { counts.courses[flow][interval] += array.byteCount }
                }
            }
        }
    }

    private func send(_ runtime: borrowing Runtime, _ counts: Counts, port: UInt16, to host: SimulatedHost) throws {
        let queue = try runtime.socket(.ipv4, .stream)
        let address = SocketAddress(family: .ipv4, bytes: (UInt64(host.address.ipv4Raw), 0), port: port)
        try runtime.wait(try runtime.connect(queue, to: address)).succeeded()
        while !counts.isOver {
            // What is in it nobody looks at.
            try runtime.wait(try runtime.push(queue, try runtime.allocate(65_536))).succeeded()
        }
    }
}
