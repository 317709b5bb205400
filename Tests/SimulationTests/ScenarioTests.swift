import EthernetDevice
import Testing

@testable import Simulation

@Suite struct ScenarioTests {
    @Test func aFewDozenWorldsGoWell() {
        for seed: UInt64 in 1...60 {
            let report = Scenario.run(seed: seed)
            #expect(report.failure == nil, "\(report.summary): \(report.failure.map(\.description) ?? "")")
        }
    }

    /// Each of them has failed once, and not because of the network stack.
    @Test func worldsThatWereJudgedWronglyGoWell() {
        for seed: UInt64 in [12_246, 30_875, 33_878, 35_299, 37_033, 47_571, 50_637, 55_725, 62_524, 63_332, 95_960, 96_334] {
            let report = Scenario.run(seed: seed)
            #expect(report.failure == nil, "\(report.summary): \(report.failure.map(\.description) ?? "")")
        }
    }

    /// Each of them has found a fault of the network stack.
    @Test func worldsThatFoundFaultsGoWell() {
        for seed: UInt64 in [68_400, 74_301, 79_105] {
            let report = Scenario.run(seed: seed)
            #expect(report.failure == nil, "\(report.summary): \(report.failure.map(\.description) ?? "")")
        }
    }

    @Test func damageIsHiddenWhereItLeavesTheChecksumAsItIs() {
        let sent = [UInt8](0..<100)
        func received(_ changes: [Int: UInt8]) -> [UInt8] {
            var bytes = sent
            for (index, value) in changes { bytes[index] = value }
            return bytes
        }
        #expect(!DatagramExchange.isHiddenDamage(received([10: 14, 80: 64]), of: sent, in: 2))
        // A bit more in the one frame, a bit less in the other.
        let balanced = received([10: 10 + 4, 80: 80 - 4])
        #expect(DatagramExchange.isHiddenDamage(balanced, of: sent, in: 2))
        #expect(!DatagramExchange.isHiddenDamage(balanced, of: sent, in: 1))
        // More than one word of each frame.
        #expect(!DatagramExchange.isHiddenDamage(received([10: 14, 80: 76, 20: 21, 40: 39]), of: sent, in: 2))
    }

    @Test func theSameSeedGivesTheSameBytes() {
        func capture(_ seed: UInt64) -> [UInt8] {
            let writer = PacketCaptureWriter(inMemoryLimit: 64 << 20, clock: Simulation.captureClock)
            _ = Scenario.run(seed: seed, capture: writer)
            let bytes = writer.withUnsafeBytes { Array($0) }
            #expect(writer.close().droppedPackets == 0)
            return bytes
        }
        for seed: UInt64 in [3, 4, 11, 26] {
            let first = capture(seed)
            #expect(first.count > 10_000)
            #expect(first == capture(seed))
            #expect(first != capture(seed + 1))
        }
    }

    @Test func aSweepCountsWhatFired() {
        var mechanisms = Mechanisms()
        #expect(mechanisms.missing.count == mechanisms.counts.count { $0.isRequired })
        for seed: UInt64 in 1...20 { mechanisms.add(Scenario.run(seed: seed).mechanisms) }
        let fired = Set(mechanisms.counts.filter { $0.value > 0 }.map(\.name))
        let expected: Set = [
            "connections accepted", "retransmission timeouts", "zero windows advertised", "delayed acknowledgements", "segments over IPv6",
            "datagrams over IPv6",
        ]
        #expect(fired.isSuperset(of: expected))
    }
}
