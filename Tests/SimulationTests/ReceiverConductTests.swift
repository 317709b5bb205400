import Testing
import WireFormats

@testable import Simulation

/// What the checker holds a receiver to: right receivers, and wrong ones that differ from them by little.
@Suite struct ReceiverConductTests {
    /// The client speaks until the server, whose listener may have no room, has answered something that it could not accept.
    private func talkToListenerWithoutRoom() throws -> Conversation {
        let talk = try Conversation(conduct: Conversation.conduct())
        talk.shakeHands()
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500, at: 10)
        // At the right edge of the window, where nothing is acceptable.
        talk.send(.ack, sequence: 1_101, acknowledgement: 901, at: 20)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 101, at: 20)
        return talk
    }

    @Test func aListenerWithoutRoomAnswersWhatItCannotAcceptAndTakesNothing() throws {
        let talk = try talkToListenerWithoutRoom()
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500, at: 30)
        talk.send(.ack, sequence: 1_101, acknowledgement: 901, at: 40)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 101, at: 40)
        #expect(talk.violations == [])
        talk.world.end()
    }

    @Test func whoHasAcknowledgedByItselfHasRoom() throws {
        let talk = try talkToListenerWithoutRoom()
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 101, at: 30)
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500, at: 40)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 101, at: 50)
        #expect(talk.violations.contains { $0.contains("an acknowledgement of 101, where everything up to 601 has arrived") })
        talk.world.end()
    }

    /// A byte before the edge, a segment without data is acceptable: nothing calls for the answer but a handshake that is complete.
    @Test func whoAnswersWhatItCanAcceptHasRoom() throws {
        let talk = try Conversation(conduct: Conversation.conduct())
        talk.shakeHands()
        talk.send(.ack, sequence: 1_100, acknowledgement: 901, at: 10)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 101, at: 10)
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500, at: 20)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 101, at: 30)
        #expect(talk.violations.contains { $0.contains("an acknowledgement of 101, where everything up to 601 has arrived") })
        talk.world.end()
    }

    /// A listener that has refused a cookie is silent where others reset what belongs to nobody: no frame tells when a connection of its has ended.
    @Test(arguments: [(true, 2_000, true), (true, 1_000, false), (false, 2_000, false)])
    func whoMayForgetSilentlyOwesNothingAfterALongSilence(mayForget: Bool, milliseconds: UInt64, isFine: Bool) throws {
        var conduct = Conversation.conduct()
        conduct.mayForgetSilently = mayForget
        let talk = try Conversation(conduct: conduct)
        talk.shakeHands()
        for received: UInt32 in [0, 250] {
            talk.send(.ack, sequence: 101 + received, acknowledgement: 901, byteCount: 250, at: 10)
            talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 351 + received, at: 10)
        }
        for time: UInt64 in [0, 700] { talk.send(.ack, sequence: 601, acknowledgement: 901, byteCount: 400, at: 10 + milliseconds + time) }
        #expect(talk.violations.contains { $0.contains("data was not acknowledged within half a second") } != isFine)
        talk.world.end()
    }

    /// Two pieces come before the handshake is complete, two behind it, and the gaps between them are filled.
    private func talkOutOfOrder(reassemblyPieces: Int) throws -> Conversation {
        let talk = try Conversation(conduct: Conversation.conduct(reassemblyPieces: reassemblyPieces))
        func answer(_ acknowledgement: UInt32, at time: UInt64) {
            talk.send(isBack: true, .ack, sequence: 901, acknowledgement: acknowledgement, at: time)
        }
        talk.shakeHands()
        talk.send(.ack, sequence: 201, acknowledgement: 901, byteCount: 100, at: 10)
        talk.send(.ack, sequence: 301, acknowledgement: 901, byteCount: 100, at: 10)
        answer(101, at: 10)
        talk.send(.ack, sequence: 501, acknowledgement: 901, byteCount: 100, at: 20)
        talk.send(.ack, sequence: 601, acknowledgement: 901, byteCount: 100, at: 20)
        answer(101, at: 20)
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 100, at: 30)
        answer(401, at: 30)
        talk.send(.ack, sequence: 401, acknowledgement: 901, byteCount: 100, at: 40)
        answer(501, at: 50)
        return talk
    }

    @Test func piecesThatCameBeforeTheHandshakeWasCompleteTakeRoomFromLaterOnes() throws {
        let small = try talkOutOfOrder(reassemblyPieces: 3)
        #expect(small.violations == [])
        small.world.end()
        let large = try talkOutOfOrder(reassemblyPieces: 4)
        #expect(large.violations.contains { $0.contains("an acknowledgement of 501, where everything up to 701 has arrived") })
        large.world.end()
    }

    /// The window is closed, and opens in answer to a probe, by `field` of eight bytes each.
    private func talkWithProbe(opensBy field: UInt16) throws -> [String] {
        let talk = try Conversation(conduct: Conversation.conduct())
        defer { talk.world.end() }
        talk.shakeHands(options: [1, 3, 3, 3])
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 497, at: 10)
        talk.send(.ack, sequence: 598, acknowledgement: 901, byteCount: 497, at: 10)
        talk.send(.ack, sequence: 1_095, acknowledgement: 901, byteCount: 6, at: 10)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 1_101, window: 0, at: 10)
        talk.send(.ack, sequence: 1_101, acknowledgement: 901, byteCount: 1, at: 20)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 1_101, window: field, at: 20)
        return talk.violations
    }

    @Test func aClosedWindowIsAnnouncedWhenItOpensByTwoSegmentsAndWhatItsScaleHides() throws {
        // Two segments of 500 bytes, and twice seven bytes.
        #expect(try talkWithProbe(opensBy: 1_008 / 8) == [])
        #expect(try talkWithProbe(opensBy: 1_016 / 8).contains { $0.contains("opens by 1016 bytes only when it is probed") })
    }
}
