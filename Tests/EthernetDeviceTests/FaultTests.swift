import DatapathMemory
import PcapngReader
import Testing

@testable import EthernetDevice

@Suite struct FaultTests {
    private static let always: UInt32 = 1_000_000

    /// One fault of each kind, alone.
    private static let single: [(name: String, configure: @Sendable (inout FrameFaults, UInt32) -> Void, count: @Sendable (FaultCounts) -> UInt64)] = [
        ("drop", { $0.drop = $1 }, { $0.dropped }),
        ("corrupt", { $0.corrupt = $1 }, { $0.corrupted }),
        ("truncate", { $0.truncate = $1 }, { $0.truncated }),
        ("duplicate", { $0.duplicate = $1 }, { $0.duplicated }),
        ("delay", { $0.delay = $1 }, { $0.delayed }),
        ("reorder", { $0.reorder = $1 }, { $0.reordered }),
        ("loss of the good channel", { $0.burstLoss.lossWhileGood = $1 }, { $0.burstLost }),
    ]

    // MARK: Probability 0 and 1

    @Test(arguments: [true, false]) func withoutFaultsTheDeviceIsTheOneThatItWraps(isTransmit: Bool) throws {
        try withHeap { heap in
            try withFaulty(heap, FaultConfiguration.none, capacity: 8) { faulty, peer in
                let (from, to) = isTransmit ? (faulty.device, peer) : (peer, faulty.device)
                let frames = (0..<10).map { makeFrame(heap, pattern($0)) }
                #expect(from.send(frames) == 8, "back-pressure is the device's")
                #expect(to.take(5) == Array(frames[..<5]), "the same frames, in order")
                #expect(to.take() == Array(frames[5..<8]))
                for frame in frames[..<8] { frame.releaseArray() }
                let counts = isTransmit ? faulty.statistics.transmit : faulty.statistics.receive
                var expected = FaultCounts()
                expected.frames = 8
                #expect(counts == expected)
                #expect(faulty.device.prepareToSleep() == EthernetDevice.nothingToAwait)
            }
        }
    }

    @Test(arguments: 0..<FaultTests.single.count, [true, false]) func aFaultThatNeverHappensAndOneThatAlwaysDoes(kind: Int, isTransmit: Bool) throws {
        let fault = FaultTests.single[kind]
        // A second fault so rare that it does not happen makes the device look at every frame.
        for chance in [0, FaultTests.always] {
            var faults = FrameFaults()
            faults.burstLoss.begin = 1
            fault.configure(&faults, chance)
            try withHeap { heap in
                let configuration = isTransmit ? FaultConfiguration(transmit: faults) : FaultConfiguration(receive: faults)
                try withFaulty(heap, configuration) { faulty, peer in
                    let (from, to) = isTransmit ? (faulty.device, peer) : (peer, faulty.device)
                    for index in 0..<20 { #expect(from.transmit(makeFrame(heap, pattern(index, count: 100)))) }
                    var received: [[UInt8]] = []
                    for _ in 0..<100 {
                        received += to.collect()
                        if isTransmit { #expect(faulty.device.collect().isEmpty) }
                    }
                    let counts = isTransmit ? faulty.statistics.transmit : faulty.statistics.receive
                    #expect(counts.frames == 20)
                    if chance == 0 {
                        #expect(received == (0..<20).map { pattern($0, count: 100) }, "\(fault.name)")
                        #expect(fault.count(counts) == 0)
                    } else {
                        #expect(fault.count(counts) == 20, "\(fault.name)")
                        #expect(received != (0..<20).map { pattern($0, count: 100) }, "\(fault.name)")
                    }
                    let other = isTransmit ? faulty.statistics.receive : faulty.statistics.transmit
                    #expect(other == FaultCounts(), "the other direction has no faults")
                }
            }
        }
    }

    // MARK: Each fault

    @Test func dropLosesTheFrameAndItsMemory() throws {
        try withFaults({ $0.drop = FaultTests.always }) { heap, faulty, peer in
            #expect(faulty.device.transmit(makeFrame(heap, pattern(0))))
            expectNothingAlive(in: heap)
            #expect(peer.collect().isEmpty)
        }
    }

    @Test func aDuplicateIsTheSameFrameInABlockOfItsOwn() throws {
        try withFaults({ $0.duplicate = FaultTests.always }) { heap, faulty, peer in
            #expect(faulty.device.transmit(makeFrame(heap, pattern(5), segments: [14, 20])))
            #expect(faulty.device.transmit(makeFrame(heap, pattern(6))))
            let received = peer.take()
            #expect(received.map { bytes(of: $0) } == [pattern(5), pattern(5), pattern(6), pattern(6)])
            #expect(received.allSatisfy { $0.isSoleOwner })
            for frame in received { frame.releaseArray() }
        }
    }

    @Test func aDuplicateIsAsVerifiedAsTheFrame() throws {
        var faults = FrameFaults()
        faults.duplicate = FaultTests.always
        try withHeap { heap in
            let (first, second) = MemoryEthernetPair.make(elidesChecksums: true)
            let faulty = FaultyDevice.wrap(first, faults: FaultConfiguration(receive: faults), seed: 1)
            try faulty.device.attach(heap)
            try second.attach(heap)
            for flags in [[], FrameFlags.needsTransportChecksum] {
                let frame = makeFrame(heap, pattern(1))
                frame.frameFlags = flags
                #expect(second.transmit(frame))
                let received = faulty.device.take()
                #expect(received.map(\.frameFlags) == Array(repeating: flags.isEmpty ? [] : .checksumVerified, count: 2))
                for frame in received { frame.releaseArray() }
            }
            faulty.device.close()
            second.close()
        }
    }

    @Test(arguments: [1, 2, 8, 100]) func corruptionFlipsSomeBitsOfACopy(bits: Int) throws {
        try withFaults({
            $0.corrupt = FaultTests.always
            $0.maximumCorruptedBits = bits
        }) { heap, faulty, peer in
            var seen: Set<Int> = []
            for index in 0..<200 {
                let buffer = try heap.allocate(100)
                memory(buffer.address, pattern(index, count: 100))
                let frame = try ScatterGatherArray(buffer.slice(0..<100)).takeOver()
                #expect(peer.transmit(frame))
                let received = faulty.device.take()
                #expect(received.count == 1)
                let flipped = zip(bytes(of: received[0]), pattern(index, count: 100)).reduce(0) { $0 + ($1.0 ^ $1.1).nonzeroBitCount }
                #expect(flipped >= 1 && flipped <= bits)
                seen.insert(flipped)
                let original = buffer.withUnsafeBytes { Array($0) }
                #expect(original == pattern(index, count: 100), "a shared block is left alone")
                received[0].releaseArray()
                _ = consume buffer
            }
            #expect(seen.count == min(bits, seen.count) && seen.count > bits / 2)
        }
    }

    @Test(arguments: [true, false]) func aDamagedFrameIsNoLongerVerified(isTruncated: Bool) throws {
        var faults = FrameFaults()
        if isTruncated { faults.truncate = FaultTests.always } else { faults.corrupt = FaultTests.always }
        try withHeap { heap in
            let (first, second) = MemoryEthernetPair.make(elidesChecksums: true)
            let faulty = FaultyDevice.wrap(first, faults: FaultConfiguration(receive: faults), seed: 1)
            try faulty.device.attach(heap)
            try second.attach(heap)
            #expect(faulty.device.capabilities.offloads == [.receiveChecksumIPv4, .receiveChecksumTCP, .receiveChecksumUDP])
            for expected in [[], FrameFlags.checksumVerified] {
                let frame = makeFrame(heap, pattern(1))
                frame.frameFlags = .needsTransportChecksum
                #expect(second.transmit(frame))
                let received = faulty.device.take()
                #expect(received.map(\.frameFlags) == [expected])
                for frame in received { frame.releaseArray() }
                faulty.setFaults(.none)
            }
            faulty.device.close()
            second.close()
        }
    }

    @Test func truncationKeepsTheStartAndAtLeastOneByte() throws {
        try withFaults({ $0.truncate = FaultTests.always }) { heap, faulty, peer in
            var lengths: Set<Int> = []
            for index in 0..<500 {
                let content = pattern(index, count: 30)
                #expect(peer.transmit(makeFrame(heap, content)))
                let received = faulty.device.collect()
                #expect(received.count == 1)
                #expect(received[0] == Array(content.prefix(received[0].count)))
                lengths.insert(received[0].count)
            }
            #expect(lengths == Set(1...29))
        }
    }

    @Test func truncationOfSeveralSegmentsReachesIntoAllOfThem() throws {
        try withFaults({ $0.truncate = FaultTests.always }) { heap, faulty, peer in
            for index in 0..<100 {
                let content = pattern(index, count: 100)
                #expect(faulty.device.transmit(makeFrame(heap, content, segments: [14, 10, 40])))
                for frame in peer.collect() { #expect(frame == Array(content.prefix(frame.count)) && frame.count < 100) }
            }
            #expect(faulty.statistics.transmit.truncated == 100)
        }
    }

    @Test func aDelayedFrameComesAfterSoManyPolls() throws {
        try withFaults({
            $0.delay = FaultTests.always
            $0.maximumDelay = 5
        }) { heap, faulty, peer in
            var delays: Set<Int> = []
            for index in 0..<200 {
                #expect(peer.transmit(makeFrame(heap, pattern(index))))
                #expect(faulty.device.collect().isEmpty, "the poll that takes it from the device")
                #expect(faulty.device.prepareToSleep() == EthernetDevice.cannotWake)
                var polls = 1
                while case let frames = faulty.device.collect(), frames != [pattern(index)] {
                    #expect(frames.isEmpty)
                    polls += 1
                    try #require(polls <= 5)
                }
                delays.insert(polls)
                #expect(faulty.device.prepareToSleep() == EthernetDevice.nothingToAwait)
            }
            #expect(delays == [1, 2, 3, 4, 5])
        }
    }

    @Test func aReorderedFrameIsOvertakenByNoMoreThanTheDistance() throws {
        try withFaults({
            $0.reorder = 300_000
            $0.maximumReorderDistance = 4
        }) { heap, faulty, peer in
            var received: [Int] = []
            for index in 0..<1000 {
                #expect(faulty.device.transmit(makeFrame(heap, pattern(index))))
                received += peer.collect().map { number(of: $0) }
            }
            for _ in 0..<64 { #expect(faulty.device.collect().isEmpty) }
            received += peer.collect().map { number(of: $0) }
            #expect(received.sorted() == Array(0..<1000), "each frame comes once")
            #expect(received != Array(0..<1000))
            for (place, number) in received.enumerated() {
                let overtakers = received[..<place].count { $0 > number }
                #expect(overtakers <= 4)
            }
        }
    }

    @Test func theLastFrameIsNotHeldBackForEver() throws {
        try withFaults({
            $0.reorder = FaultTests.always
            $0.maximumReorderPolls = 10
        }) { heap, faulty, peer in
            #expect(faulty.device.transmit(makeFrame(heap, pattern(1))))
            for _ in 0..<9 { #expect(faulty.device.collect().isEmpty && peer.collect().isEmpty) }
            #expect(faulty.device.collect().isEmpty)
            #expect(peer.collect() == [pattern(1)])
        }
    }

    @Test func losesComeInBurstsOfTheirMeanLength() throws {
        try withFaults({
            $0.burstLoss.begin = 10_000
            $0.burstLoss.end = 100_000
        }) { heap, faulty, peer in
            var received: [Int] = []
            for index in 0..<100_000 {
                #expect(faulty.device.transmit(makeFrame(heap, pattern(index, count: 20))))
                received += peer.collect().map { number(of: $0) }
            }
            let gaps = zip(received, received.dropFirst()).map { $1 - $0 - 1 }.filter { $0 > 0 }
            let mean = Double(gaps.reduce(0, +)) / Double(gaps.count)
            #expect(mean > 8.5 && mean < 11.5, "1,000,000 / 100,000 frames")
            // A share of 10,000 / (10,000 + 100,000) of the time is bad.
            #expect(faulty.statistics.transmit.burstLost > 7_600 && faulty.statistics.transmit.burstLost < 10_600)
            #expect(faulty.statistics.transmit.dropped == 0)
        }
    }

    // MARK: Seeds and distribution

    /// What arrives, and the counts, of a run with every fault.
    private func run(
        seed: UInt64, frames: Int, collects: Bool = true, _ change: (inout FrameFaults) -> Void = { _ in }
    ) throws -> ([[UInt8]], FaultStatistics) {
        var received: [[UInt8]] = []
        var statistics = FaultStatistics()
        var faults = FrameFaults()
        faults.drop = 50_000
        faults.corrupt = 20_000
        faults.truncate = 30_000
        faults.duplicate = 40_000
        faults.delay = 60_000
        faults.reorder = 70_000
        change(&faults)
        try withHeap { heap in
            try withFaulty(heap, FaultConfiguration(both: faults), seed: seed) { faulty, peer in
                for index in 0..<frames {
                    for device in [faulty.device, peer] {
                        let frame = collects ? makeFrame(heap, pattern(index, count: 64)) : Frame.makeSegment(heap, byteCount: 64, priority: .application)!
                        if !device.transmit(frame) { frame.releaseArray() }
                    }
                    for frame in peer.take(8) + faulty.device.take(8) {
                        if collects { received.append(bytes(of: frame)) }
                        frame.releaseArray()
                    }
                }
                statistics = faulty.statistics
            }
        }
        return (received, statistics)
    }

    @Test func theSameSeedGivesTheSameFaults() throws {
        let (received, statistics) = try run(seed: 42, frames: 2000)
        let again = try run(seed: 42, frames: 2000)
        #expect(again.0 == received && again.1 == statistics)
        let other = try run(seed: 43, frames: 2000)
        #expect(other.0 != received && other.1 != statistics)
    }

    @Test func theDirectionsHaveChoicesOfTheirOwn() throws {
        let statistics = try run(seed: 42, frames: 2000).1
        #expect(statistics.transmit != statistics.receive)
    }

    @Test func theChanceOfOneFaultDoesNotChangeTheChoicesOfAnother() throws {
        let with = try run(seed: 7, frames: 3000) {
            $0.drop = 0
            $0.duplicate = 0
        }.1
        let without = try run(seed: 7, frames: 3000) {
            $0.drop = 0
            $0.duplicate = 0
            $0.corrupt = 0
            $0.truncate = 500_000
        }.1
        #expect(with.receive.delayed == without.receive.delayed && with.receive.reordered == without.receive.reordered)
        #expect(with.receive.delayed > 0 && with.receive.reordered > 0)
    }

    @Test func everyFaultHappensAboutAsOftenAsConfigured() throws {
        let statistics = try run(seed: 1, frames: 100_000, collects: false).1
        for counts in [statistics.transmit, statistics.receive] {
            #expect(counts.frames == 100_000)
            // Five standard deviations of a binomial distribution.
            func expect(_ count: UInt64, of trials: Double, _ chance: Double, _ name: Comment) {
                let deviation = 5 * (trials * chance * (1 - chance)).squareRoot()
                #expect(abs(Double(count) - trials * chance) < deviation, name)
            }
            expect(counts.dropped, of: 100_000, 0.05, "drop")
            // Those that were not dropped; both of two duplicates can be held back, and the delayed ones are not reordered as well.
            expect(counts.corrupted, of: 95_000, 0.02, "corrupt")
            expect(counts.truncated, of: 95_000, 0.03, "truncate")
            expect(counts.duplicated, of: 95_000, 0.04, "duplicate")
            expect(counts.delayed, of: 95_000 * 1.04, 0.06, "delay")
            expect(counts.reordered, of: 95_000 * 1.04 * 0.94, 0.07, "reorder")
            #expect(counts.outOfMemory == 0 && counts.holdFull == 0 && counts.burstLost == 0)
        }
    }

    // MARK: Limits

    @Test func noFrameIsLostOrDoubledWhenTheWrappedDeviceIsFull() throws {
        var faults = FrameFaults()
        faults.duplicate = 300_000
        faults.reorder = 300_000
        faults.delay = 100_000
        try withHeap { heap in
            try withFaulty(heap, FaultConfiguration(transmit: faults), capacity: 3) { faulty, peer in
                var sent = 0
                var received: [Int] = []
                while sent < 2000 {
                    sent += faulty.device.send((0..<10).map { makeFrame(heap, pattern(sent + $0)) })
                    received += peer.collect(2).map { number(of: $0) }
                    #expect(faulty.device.collect().isEmpty)
                }
                for _ in 0..<500 {
                    #expect(faulty.device.collect().isEmpty)
                    received += peer.collect().map { number(of: $0) }
                }
                #expect(Set(received) == Set(0..<sent))
                #expect(UInt64(received.count) == UInt64(sent) + faulty.statistics.transmit.duplicated)
                #expect(faulty.statistics.transmit.frames == UInt64(sent))
            }
        }
    }

    @Test func aFullHoldLetsFramesPassAndCountsThem() throws {
        try withFaults({
            $0.delay = FaultTests.always
            $0.maximumDelay = 1
        }, capacity: 1024) { heap, faulty, peer in
            for index in 0..<300 { #expect(faulty.device.transmit(makeFrame(heap, pattern(index)))) }
            #expect(faulty.statistics.transmit.delayed == 256 && faulty.statistics.transmit.holdFull == 44)
            #expect(peer.collect(300).map { number(of: $0) } == Array(256..<300))
            #expect(faulty.device.collect().isEmpty)
            #expect(peer.collect(300).map { number(of: $0) } == Array(0..<256))
        }
    }

    @Test func receiveGivesNoMoreThanItsCapacityAndKeepsTheRest() throws {
        try withFaults({ $0.duplicate = FaultTests.always }, capacity: 256) { heap, faulty, peer in
            for index in 0..<200 { #expect(peer.transmit(makeFrame(heap, pattern(index, count: 20)))) }
            var received: [Int] = []
            while case let frames = faulty.device.collect(7), !frames.isEmpty {
                #expect(frames.count <= 7)
                received += frames.map { number(of: $0) }
            }
            #expect(received == (0..<400).map { $0 / 2 })
        }
    }

    @Test func aFloodThatIsAllLostEndsTheCall() throws {
        try withFaults({ $0.drop = FaultTests.always }, capacity: 1024) { heap, faulty, peer in
            for index in 0..<1000 { #expect(peer.transmit(makeFrame(heap, pattern(index)))) }
            #expect(faulty.device.collect(100).isEmpty)
            #expect(faulty.statistics.receive.dropped == 100, "no more than was asked for")
        }
    }

    @Test func aFaultWithoutMemoryDoesNotHappenAndIsCounted() throws {
        try withFaults({
            $0.duplicate = FaultTests.always
            $0.corrupt = FaultTests.always
        }) { heap, faulty, peer in
            let frame = makeFrame(heap, pattern(1, count: 1000))
            var held: [Frame] = []
            while let segment = Frame.makeSegment(heap, byteCount: 100_000, priority: .reserve) { held.append(segment) }
            while let segment = Frame.makeSegment(heap, byteCount: 1000, priority: .datagram) { held.append(segment) }
            #expect(faulty.device.transmit(frame))
            #expect(peer.collect() == [pattern(1, count: 1000)])
            #expect(faulty.statistics.transmit.outOfMemory == 2)
            #expect(faulty.statistics.transmit.duplicated == 0 && faulty.statistics.transmit.corrupted == 0)
            for frame in held { frame.releaseArray() }
        }
    }

    @Test func closeReleasesWhatIsHeldBack() throws {
        try withFaults({
            $0.delay = 500_000
            $0.duplicate = 500_000
        }) { heap, faulty, peer in
            for index in 0..<30 {
                #expect(faulty.device.transmit(makeFrame(heap, pattern(index))))
                #expect(peer.transmit(makeFrame(heap, pattern(index))))
            }
            for frame in faulty.device.take(3) { frame.releaseArray() }
            #expect(heap.statistics.liveBlocks > 0)
        }
    }

    @Test func captureAndFaultsStackOnEachOther() throws {
        try withHeap { heap in
            var faults = FrameFaults()
            faults.drop = 500_000
            let writer = PacketCaptureWriter(inMemoryLimit: 1 << 20, clock: ManualClock(0).clock)
            let (first, second) = MemoryEthernetPair.make()
            let wire = try CapturingDevice.wrap(first, writer: writer, interfaceName: "wire")
            let faulty = FaultyDevice.wrap(wire, faults: FaultConfiguration(both: faults), seed: 3)
            let host = try CapturingDevice.wrap(faulty.device, writer: writer, interfaceName: "host")
            try host.attach(heap)
            try second.attach(heap)
            host.send((0..<40).map { makeFrame(heap, pattern($0)) })
            let arrived = second.collect().count
            #expect(arrived > 5 && arrived < 35)
            host.close()
            second.close()
            let capture = try PcapngReader(writer.withUnsafeBytes { Array($0) })
            #expect(capture.packets.count { $0.interface == 0 } == arrived)
            #expect(capture.packets.count { $0.interface == 1 } == 40)
            writer.close()
        }
    }

    // MARK: Devices

    private func withFaulty(
        _ heap: DatapathHeap, _ faults: FaultConfiguration, seed: UInt64 = 1, capacity: Int = 256, _ body: (FaultyDevice, EthernetDevice) throws -> Void
    ) throws {
        let (first, second) = MemoryEthernetPair.make(capacity: capacity)
        let faulty = FaultyDevice.wrap(first, faults: faults, seed: seed)
        defer {
            faulty.device.close()
            second.close()
        }
        try faulty.device.attach(heap)
        try second.attach(heap)
        try body(faulty, second)
    }

    private func withFaults(
        _ configure: (inout FrameFaults) -> Void, capacity: Int = 256, _ body: (DatapathHeap, FaultyDevice, EthernetDevice) throws -> Void
    ) throws {
        var faults = FrameFaults()
        configure(&faults)
        try withHeap { heap in
            try withFaulty(heap, FaultConfiguration(both: faults), capacity: capacity) { try body(heap, $0, $1) }
        }
    }

    private func memory(_ address: UnsafeMutableRawPointer, _ bytes: [UInt8]) {
        bytes.withUnsafeBytes { address.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
    }
}
