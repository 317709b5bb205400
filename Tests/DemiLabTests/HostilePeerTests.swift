import Testing

@testable import DemiLab

/// Nothing that a peer sends ends the stack, stays in its memory, or makes it send what is malformed.
@Suite("Hostile frames") struct HostilePeerTests {
    @Test("nearly right segments in every state of a connection", arguments: [1, 2])
    func everyState(seed: UInt64) throws {
        let peer = try HostilePeer(seed: seed, timestamps: seed.isMultiple(of: 2))
        for _ in 0..<8 {
            for stage in HostilePeer.Stage.allCases { try peer.attack(stage, count: 8) }
        }
        #expect(try peer.isServed())
        try peer.end()
        #expect(peer.malformed.isEmpty)

        let statistics = try #require(peer.script.laboratory.world).statistics
        #expect(statistics.runtime.liveOperations == 0)
        #expect(statistics.runtime.openQueues == 0)
        #expect(statistics.runtime.closingQueues == 0)
        #expect(statistics.runtime.memory.liveBlocks == 0)
        #expect(statistics.runtime.memory.liveSegments == 0)
        #expect(statistics.network.connections == 0)
        #expect(statistics.network.datagramSockets == 0)
    }
}
