import Testing
import WireFormats

@testable import Simulation

/// What the checker holds a sender to: right senders, and wrong ones that differ from them by little.
@Suite struct SenderConductTests {
    /// The server sends a segment of 1,460 bytes, which comes through after so many timeouts, and then fills the window with a segment of `fill`.
    private func talk(timeouts: Int, thenSends fill: Int, isPaced: Bool) throws -> [String] {
        var conduct = Conversation.conduct(maximumSegmentSize: 1_460)
        if isPaced { conduct.maximumPacingRate = .max }
        let talk = try Conversation(conduct: conduct)
        defer { talk.world.end() }
        talk.shakeHands(segmentSize: 1_460, window: UInt16(1_460 + fill))
        func send(_ sequence: UInt32, _ byteCount: Int, isLost: Bool = false, at time: UInt64) {
            talk.send(
                isBack: true, .ack, sequence: sequence, acknowledgement: 101, window: UInt16(1_460 + fill), byteCount: byteCount, isLost: isLost, at: time)
        }
        send(901, 1_460, isLost: true, at: 10)
        for timeout in 1..<timeouts { send(901, 1_460, isLost: true, at: 10 + 200 * (1 << UInt64(timeout) - 1)) }
        send(901, 984, at: 10_000)
        // The rest of the first segment is in flight, and so much has room behind it.
        talk.send(.ack, sequence: 101, acknowledgement: 1_885, window: UInt16(476 + fill), at: 10_010)
        send(2_361, fill, at: 10_010)
        return talk.violations
    }

    @Test(arguments: [false, true]) func aSegmentIsFullAsFarAsTimeoutsLeaveAny(isPaced: Bool) throws {
        // A packet of 1,024 bytes (RFC 4821).
        #expect(try talk(timeouts: 2, thenSends: 984, isPaced: isPaced) == [])
        #expect(try talk(timeouts: 2, thenSends: 983, isPaced: isPaced).contains { $0.contains("a silly segment of 983 bytes") })
        #expect(try talk(timeouts: 1, thenSends: 984, isPaced: isPaced).contains { $0.contains("a silly segment of 984 bytes") })
        // And of 576.
        #expect(try talk(timeouts: 3, thenSends: 536, isPaced: isPaced).contains { $0.contains("a silly segment of 536 bytes") })
        #expect(try talk(timeouts: 4, thenSends: 536, isPaced: isPaced) == [])
    }

    /// The server, which may send 1,000 bytes a second, sends four segments of 500 bytes, and then so many more for duplicates of each acknowledgement.
    private func talk(duplicates: [(count: Int, segments: Int)]) throws -> [String] {
        var conduct = Conversation.conduct(maximumSegmentSize: 500)
        conduct.maximumPacingRate = 1_000
        let talk = try Conversation(conduct: conduct)
        defer { talk.world.end() }
        talk.shakeHands(window: 20_000)
        var next: UInt32 = 901
        func send(_ segments: Int, at time: UInt64) {
            for _ in 0..<segments {
                talk.send(isBack: true, .ack, sequence: next, acknowledgement: 101, window: 20_000, byteCount: 500, at: time)
                next += 500
            }
        }
        send(4, at: 10)
        for (index, round) in duplicates.enumerated() {
            let time = 11 + UInt64(index)
            for _ in 0..<round.count + 1 { talk.send(.ack, sequence: 101, acknowledgement: 1_401 + 500 * UInt32(index), window: 20_000, at: time) }
            send(round.segments, at: time)
        }
        return talk.violations
    }

    // RFC 3042: the first two duplicates of each acknowledgement.
    @Test func duplicatesCallForASegmentEachOutOfItsTurn() throws {
        #expect(try talk(duplicates: [(2, 2), (2, 2), (1, 1), (0, 0)]) == [])
        for wrong in [[(0, 1)], [(1, 2)], [(2, 3)], [(2, 2), (0, 1)], [(2, 2), (1, 2)]] {
            #expect(try talk(duplicates: wrong).contains { $0.contains("bytes ahead of 1000 bytes a second") }, "\(wrong)")
        }
    }
}
