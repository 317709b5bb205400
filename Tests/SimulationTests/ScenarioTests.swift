import EthernetDevice
import Simulation
import Testing

@Suite struct ScenarioTests {
    @Test func aFewDozenWorldsGoWell() {
        for seed: UInt64 in 1...60 {
            let report = Scenario.run(seed: seed)
            #expect(report.failure == nil, "\(report.summary): \(report.failure.map(\.description) ?? "")")
        }
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
