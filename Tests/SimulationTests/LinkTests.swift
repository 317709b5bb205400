import Simulation
import Testing
import WireFormats

/// What each condition of a link does, seen from two stations that only send and receive frames.
@Suite struct LinkTests {
    /// Two raw hosts and the link between them; frames are UDP datagrams that carry their number.
    private final class Pair {
        let world: Simulation
        let first: RawHost
        let second: RawHost
        let link: SimulatedLink
        var arrivals: [(number: Int, time: UInt64, bytes: [UInt8])] = []

        init(seed: UInt64 = 1, _ conditions: LinkConditions) {
            world = Simulation(seed: seed)
            first = world.makeRawHost("first")
            second = world.makeRawHost("second")
            link = world.connect(first, second, conditions)
            second.onFrame = { [unowned self] frame in
                arrivals.append((Int(frame[42]) | Int(frame[43]) << 8 | Int(frame[44]) << 16, world.now, frame))
            }
        }

        func frame(_ number: Int, byteCount: Int = 100) -> [UInt8] {
            var payload = [UInt8](repeating: 0x55, count: byteCount - 42)
            for byte in 0..<3 { payload[byte] = UInt8(truncatingIfNeeded: number >> (8 * byte)) }
            return ForgedFrame.udp(
                from: Endpoint(address: first.address, port: 1), to: Endpoint(address: second.address, port: 2), payload, from: first.macAddress,
                to: second.macAddress)
        }

        /// Sends `count` frames, one every `interval` nanoseconds.
        func send(_ count: Int, interval: UInt64 = 1_000, byteCount: Int = 100) throws {
            for number in 0..<count {
                world.schedule(after: UInt64(number) * interval) { [self] in first.send(frame(number, byteCount: byteCount)) }
            }
            try world.run(for: .seconds(60))
        }
    }

    @Test func aCleanLinkDeliversEveryFrameInOrderAfterItsDelay() throws {
        let pair = Pair(.clean(delay: 12_345))
        let start = pair.world.now
        try pair.send(100)
        #expect(pair.arrivals.map(\.number) == Array(0..<100))
        #expect(pair.arrivals.allSatisfy { $0.time == start + UInt64($0.number) * 1_000 + 12_345 })
        #expect(pair.arrivals[7].bytes == pair.frame(7))
    }

    @Test(arguments: [(10_000, 50...160), (200_000, 1_850...2_150), (1_000_000, 10_000...10_000)])
    func framesAreLostAtTheRate(loss: UInt32, range: ClosedRange<Int>) throws {
        var conditions = LinkConditions()
        conditions.loss = loss
        let pair = Pair(conditions)
        try pair.send(10_000)
        #expect(range.contains(10_000 - pair.arrivals.count))
        #expect(pair.link.forwardStatistics.lost == UInt64(10_000 - pair.arrivals.count))
    }

    @Test func burstsLoseFramesTogether() throws {
        var conditions = LinkConditions()
        conditions.burstLoss.begin = 10_000
        conditions.burstLoss.end = 200_000
        let pair = Pair(conditions)
        try pair.send(20_000)
        var lost = Set(0..<20_000)
        for arrival in pair.arrivals { lost.remove(arrival.number) }
        let bursts = lost.count { !lost.contains($0 - 1) }
        // About 190 bursts of 5 frames on average.
        #expect((100...300).contains(bursts))
        #expect((3.0...8.0).contains(Double(lost.count) / Double(bursts)))
    }

    @Test func duplicatesComeTwiceAndNothingElseDoes() throws {
        var conditions = LinkConditions()
        conditions.duplication = 100_000
        let pair = Pair(conditions)
        try pair.send(5_000)
        #expect((400...620).contains(pair.arrivals.count - 5_000))
        #expect(Set(pair.arrivals.map(\.number)).count == 5_000)
        #expect(pair.link.forwardStatistics.duplicated == UInt64(pair.arrivals.count - 5_000))
    }

    @Test func reorderingLetsFramesPassEachOther() throws {
        var conditions = LinkConditions()
        conditions.reordering = 50_000
        conditions.reorderDelay = 100_000
        let pair = Pair(conditions)
        try pair.send(5_000)
        #expect(pair.arrivals.count == 5_000)
        let overtaken = zip(pair.arrivals, pair.arrivals.dropFirst()).count { $0.number > $1.number }
        #expect((100...400).contains(overtaken))
        // No frame is held for longer than that.
        #expect(pair.arrivals.allSatisfy { $0.time <= 1_000_000_000 + UInt64($0.number) * 1_000 + conditions.delay + 100_001 })
    }

    @Test func jitterAloneKeepsTheOrder() throws {
        var conditions = LinkConditions()
        conditions.jitter = 1_000_000
        let pair = Pair(conditions)
        try pair.send(2_000)
        #expect(pair.arrivals.map(\.number) == Array(0..<2_000))
        #expect(Set(pair.arrivals.map { $0.time - UInt64($0.number) * 1_000 }).count > 10)
    }

    @Test func corruptionIsSeenByTheChecksums() throws {
        var conditions = LinkConditions()
        conditions.corruption = 300_000
        let pair = Pair(conditions)
        try pair.send(5_000)
        let statistics = pair.link.forwardStatistics
        #expect((1_350...1_650).contains(Int(statistics.corrupted + statistics.frameCheckFailed)))
        #expect(pair.arrivals.count == 5_000 - Int(statistics.frameCheckFailed))
        var damaged = 0
        for arrival in pair.arrivals {
            arrival.bytes.withUnsafeBytes { bytes in
                let packet = IPv4View(unchecked: bytes.baseAddress! + 14)
                let isWhole =
                    packet.isChecksumValid
                    && InternetChecksum.isValid(
                        InternetChecksum.sum(bytes.baseAddress! + 34, count: 66)
                            &+ InternetChecksum.pseudoHeader(rawAddresses: packet.rawAddresses, protocolNumber: IPProtocol.udp, byteCount: 66))
                if !isWhole { damaged += 1 }
            }
        }
        #expect(damaged == Int(statistics.corrupted))
    }

    /// A fragment, and a message behind hop-by-hop options: what is in no checksum is not damaged.
    @Test func corruptionLeavesTheHeadersOfIPv6AloneThatNoChecksumCovers() throws {
        for (nextHeader, extensions) in [(IPv6ExtensionType.fragment, [17, 0, 0, 1, 0, 0, 0, 9]), (0, [58, 0, 5, 2, 0, 0, 1, 0])] as [(UInt8, [UInt8])] {
            var conditions = LinkConditions()
            conditions.corruption = 1_000_000
            let pair = Pair(conditions)
            let addresses = [UInt8](repeating: 0x20, count: 32)
            let header: [UInt8] = [0x60, 0, 0, 0, 0, 48, nextHeader, 64] + addresses
            let frame = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd] + header + extensions + [UInt8](repeating: 0x55, count: 40)
            for _ in 0..<2_000 { pair.world.schedule(after: 1) { pair.first.send(frame) } }
            try pair.world.run(for: .seconds(1))
            let damaged = pair.arrivals.map { arrival in Set(frame.indices.filter { frame[$0] != arrival.bytes[$0] }) }
            #expect(damaged.allSatisfy { !$0.isEmpty && $0.isSubset(of: Set(22..<54).union(62..<102)) })
            #expect(damaged.contains { $0.contains { $0 < 54 } } && damaged.contains { $0.contains { $0 >= 62 } })
            #expect(pair.link.forwardStatistics.frameCheckFailed == UInt64(2_000 - damaged.count))
        }
    }

    @Test func bandwidthSerializesAndTheQueueDropsItsTail() throws {
        var conditions = LinkConditions.clean(delay: 0)
        // 1,000 bytes take 1 ms.
        conditions.bandwidth = 8_000_000
        conditions.queueByteCount = 10_000
        let pair = Pair(conditions)
        try pair.send(100, interval: 1, byteCount: 1_000)
        #expect((11...12).contains(pair.arrivals.count))
        #expect(pair.link.forwardStatistics.queueFull == UInt64(100 - pair.arrivals.count))
        // What each frame has found: the first one nothing, most of them a full queue.
        let lengths = pair.link.forwardStatistics.queueLengths
        #expect(lengths.count == 100 && (9_000...11_500).contains(lengths.percentile(0.5)) && lengths.percentile(0.001) < 1_000)
        pair.link.clearStatistics()
        #expect(pair.link.forwardStatistics == LinkStatistics())
        let gaps = zip(pair.arrivals, pair.arrivals.dropFirst()).map { $1.time - $0.time }
        #expect(gaps.allSatisfy { $0 == 1_000_000 })
    }

    @Test func aFrameLongerThanTheLinkTakesIsDropped() throws {
        var conditions = LinkConditions()
        conditions.maximumTransmissionUnit = 1_000
        let pair = Pair(conditions)
        try pair.send(1, byteCount: 1_014)
        try pair.send(1, byteCount: 1_015)
        #expect(pair.arrivals.count == 1)
        #expect(pair.link.forwardStatistics.tooLong == 1)
    }

    @Test func nothingPassesAPartition() throws {
        let pair = Pair(.clean())
        pair.link.setUp(false)
        try pair.send(10)
        #expect(pair.arrivals.isEmpty && pair.link.forwardStatistics.down == 10)
        pair.link.setUp(true)
        try pair.send(10)
        #expect(pair.arrivals.count == 10)
    }

    @Test func theConditionsOfOneDirectionLeaveTheOtherAsItWas() throws {
        let pair = Pair(.clean())
        pair.link.backward.loss = 1_000_000
        try pair.send(10)
        #expect(pair.arrivals.count == 10)
    }

    @Test func whatAnotherLinkDrawsChangesNothingHere() throws {
        func losses(withThirdHost: Bool) throws -> [Int] {
            var conditions = LinkConditions()
            conditions.loss = 100_000
            let pair = Pair(conditions)
            if withThirdHost {
                let (third, fourth) = (pair.world.makeRawHost("third"), pair.world.makeRawHost("fourth"))
                pair.world.connect(third, fourth, conditions)
                for _ in 0..<100 { third.send(pair.frame(1)) }
            }
            try pair.send(1_000)
            return pair.arrivals.map(\.number)
        }
        #expect(try losses(withThirdHost: false) == losses(withThirdHost: true))
    }

    @Test func aSwitchLearnsWhereStationsAreAndFloodsWhatItDoesNotKnow() throws {
        let world = Simulation(seed: 1)
        let node = world.makeSwitch("switch", capacity: 2)
        let stations = (0..<3).map { world.makeRawHost("station\($0)") }
        for station in stations { world.connect(station, node) }
        func send(_ from: Int, _ to: MACAddress) throws {
            stations[from].send(
                ForgedFrame.udp(
                    from: Endpoint(address: stations[from].address, port: 1), to: Endpoint(address: stations[0].address, port: 2), [1],
                    from: stations[from].macAddress, to: to))
            try world.run(for: .milliseconds(1))
        }
        try send(0, stations[1].macAddress)
        #expect(stations.map(\.receivedFrames) == [0, 1, 1])
        try send(1, stations[0].macAddress)
        #expect(stations.map(\.receivedFrames) == [1, 1, 1])
        try send(0, .broadcast)
        #expect(stations.map(\.receivedFrames) == [1, 2, 2])
        // No room for the third one: frames to it go everywhere, and still arrive.
        try send(2, stations[0].macAddress)
        try send(0, stations[2].macAddress)
        #expect(stations.map(\.receivedFrames) == [2, 3, 3])
        #expect(node.learntStationCount == 2)
    }
}
