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

    /// Seeds that found a bug of the network stack, and what it was.
    @Test(arguments: [
        (34, "a FIN that was acknowledged was sent again behind itself when a segment came in FIN_WAIT_2"),
        (92, "the acknowledgement of a window probe ended the persist timer while the window was closed again"),
        (381, "challenge acknowledgements behind a refused probe were refused, and keep-alive took the peer for dead"),
        (612, "the window of the SYN and ACK of a simultaneous open was scaled"),
        (1_265, "a retransmission that moved the left edge of the window left its size as it was"),
        (1_360, "a retransmission timeout sent a whole segment into a smaller window"),
        (7_439, "a peer that answered each keep-alive probe was taken for dead where the interval is as long as the idle time"),
        (10_006, "a receive buffer smaller than a step of the window scale looked closed for ever"),
    ])
    func whatWasFoundOnceStaysMended(seed: UInt64, bug: String) {
        let report = Scenario.run(seed: seed)
        #expect(report.failure == nil, "\(bug): \(report.failure.map(\.description) ?? "")")
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
        #expect(fired.isSuperset(of: ["connections accepted", "retransmission timeouts", "zero windows advertised", "delayed acknowledgements"]))
    }
}
