import QueueRuntime
import Testing
import WireFormats

@testable import Simulation

/// The checker is shown conversations that are made by hand, right ones and wrong ones.
@Suite struct WireCheckerTests {
    private static let timestamps: [UInt8] = [1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 5]

    @Test func aConversationThatKeepsTheRulesIsFine() throws {
        let talk = try Conversation()
        talk.shakeHands()
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500)
        talk.send([.ack, .psh], sequence: 601, acknowledgement: 901, byteCount: 500)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 1_101, window: 0)
        // A probe of the closed window.
        talk.send(.ack, sequence: 1_101, acknowledgement: 901, byteCount: 1)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 1_101, window: 500)
        talk.send([.fin, .ack], sequence: 1_101, acknowledgement: 901, byteCount: 500)
        talk.send([.fin, .ack], sequence: 1_101, acknowledgement: 901, byteCount: 500)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 1_602, window: 1_000)
        #expect(talk.violations == [])
        talk.world.end()
    }

    @Test func aWrongChecksumIsFound() throws {
        let talk = try Conversation()
        talk.send(.syn, sequence: 100) { $0[50] ^= 1 }
        #expect(talk.violations.contains { $0.contains("wrong TCP checksum") })
        talk.send(.syn, sequence: 100) { $0[24] ^= 1 }
        #expect(talk.violations.contains { $0.contains("wrong IPv4 header checksum") })
        talk.world.end()
    }

    @Test func aConversationOverIPv6IsReadAsOneOverIPv4() throws {
        let talk = try Conversation(.ipv6)
        talk.shakeHands()
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 601, window: 1_000)
        #expect(talk.violations == [] && talk.world.checker.ipv6.segments == 5)
        talk.send(.ack, sequence: 1_102, acknowledgement: 901, byteCount: 500)
        #expect(talk.violations == ["client [2001:db8:0:a00::1]:5000 to [2001:db8:0:a00::2]:80: a segment from 1102 to 1602, 1 bytes beyond the window"])
        talk.world.end()
    }

    @Test func aWrongChecksumOverIPv6IsFound() throws {
        for byte in [14 + 8, 14 + 40, 14 + 60] {
            let talk = try Conversation(.ipv6)
            // An address, a port, and the text are all in the segment's checksum.
            talk.send(.ack, sequence: 100, byteCount: 10) { $0[byte] ^= 1 }
            #expect(talk.violations.contains { $0.contains("wrong TCP checksum") })
            talk.world.end()
        }
    }

    @Test func aMessageOfTheLinkComesFromTheHostOrFromItsLinkLocalAddress() throws {
        let talk = try Conversation(.ipv6)
        let (from, to) = (talk.client, talk.server)
        let linkLocal = IPAddress.linkLocal(identifier: from.macAddress.modifiedEUI64)
        for source in [from.address(.ipv6), linkLocal] {
            let frame = ForgedFrame.neighborAdvertisement(of: source, to: to.address(.ipv6), from: from.macAddress, to: to.macAddress)
            talk.world.checker.transmitted(frame, by: from, at: 0)
        }
        #expect(talk.violations == [])
        let foreign = ForgedFrame.neighborAdvertisement(
            of: to.address(.ipv6), to: from.address(.ipv6), from: from.macAddress, to: to.macAddress)
        talk.world.checker.transmitted(foreign, by: from, at: 0)
        #expect(talk.violations.contains { $0.contains("from another address") })
        talk.world.end()
    }

    @Test func dataBeyondTheWindowIsFound() throws {
        let talk = try Conversation()
        talk.shakeHands()
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500)
        talk.send(.ack, sequence: 602, acknowledgement: 901, byteCount: 500)
        #expect(talk.violations == ["client 10.0.0.1:5000 to 10.0.0.2:80: a segment from 602 to 1102, 1 bytes beyond the window"])
        talk.world.end()
    }

    @Test func aWindowCountsWhenItHasArrived() throws {
        let talk = try Conversation()
        talk.shakeHands()
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 101, window: 5_000, isLost: true)
        talk.send(.ack, sequence: 1_001, acknowledgement: 901, byteCount: 500)
        #expect(talk.violations.count == 1)
        talk.world.end()
    }

    @Test func aSegmentLargerThanThePeerTakesIsFound() throws {
        let talk = try Conversation()
        talk.shakeHands()
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 501)
        #expect(talk.violations.contains { $0.contains("where the peer takes 500") })
        talk.world.end()
    }

    @Test func dataBehindTheFINIsFound() throws {
        let talk = try Conversation()
        talk.shakeHands()
        talk.send([.fin, .ack], sequence: 101, acknowledgement: 901)
        talk.send(.ack, sequence: 102, acknowledgement: 901, byteCount: 1)
        #expect(talk.violations.contains { $0.contains("behind the FIN") })
        talk.world.end()
    }

    @Test func anAcknowledgementOfWhatWasNotSentIsFound() throws {
        let talk = try Conversation()
        talk.shakeHands()
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 102)
        #expect(talk.violations.contains { $0.contains("an acknowledgement of 102, where 101 was sent") })
        talk.world.end()
    }

    @Test func anAcknowledgementThatGoesBackIsFound() throws {
        let talk = try Conversation()
        talk.shakeHands()
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 100)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 201)
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 200, window: 2_000)
        #expect(talk.violations.contains { $0.contains("an acknowledgement of 200 after one of 201") })
        talk.world.end()
    }

    @Test func aWindowThatShrinksIsFound() throws {
        let talk = try Conversation()
        talk.shakeHands()
        talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 101, window: 999)
        #expect(talk.violations.contains { $0.contains("edge moves left by 1 bytes") })
        talk.world.end()
    }

    @Test func timestampsThatAreMissingOrGoBackAreFound() throws {
        let talk = try Conversation()
        talk.shakeHands(options: Self.timestamps)
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 1)
        #expect(talk.violations.contains { $0.contains("without the timestamps") })
        var earlier = Self.timestamps
        earlier[7] = 4
        talk.send(.ack, sequence: 101, acknowledgement: 901, options: earlier, byteCount: 1)
        #expect(talk.violations.contains { $0.contains("a timestamp that goes back") })
        talk.world.end()
    }

    @Test func aConnectionBeginsWithTheCookieThatComesBack() throws {
        for tooMany: UInt32 in [0, 1] {
            let talk = try Conversation(conduct: Conversation.conduct())
            let size: [UInt8] = [2, 4, 1, 0xf4]
            talk.send(.syn, sequence: 100, options: size)
            talk.send(isBack: true, [.syn, .ack], sequence: 900, acknowledgement: 101, options: size)
            // A copy of the SYN, and an answer that is lost.
            talk.send(.syn, sequence: 100, options: size, at: 10)
            talk.send(isBack: true, [.syn, .ack], sequence: 70_000, acknowledgement: 101, options: size, isLost: true, at: 10)
            talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500, at: 20)
            talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 601 + tooMany, byteCount: 500, at: 30)
            talk.send(.ack, sequence: 601, acknowledgement: 1_401, at: 40)
            talk.send(isBack: true, .ack, sequence: 1_401, acknowledgement: 601 + tooMany, byteCount: 500, at: 50)
            #expect(talk.violations.isEmpty == (tooMany == 0))
            talk.world.end()
        }
    }

    /// What belongs to nobody is reset without an acknowledgement of one's own (RFC 9293, section 3.10.7.1): with one a connection ends that is there.
    @Test func aCookieIsDeniedByResetsOfHostsThatHaveKeptNothing() throws {
        for (flags, goesOn, isDenied): (TCPFlags, Bool, Bool) in [(.rst, false, true), ([.rst, .ack], false, false), (.rst, true, false)] {
            let talk = try Conversation()
            let size: [UInt8] = [2, 4, 1, 0xf4]
            talk.send(.syn, sequence: 100, options: size)
            talk.send(isBack: true, [.syn, .ack], sequence: 900, acknowledgement: 101, options: size)
            talk.send(.ack, sequence: 101, acknowledgement: 901, isLost: true, at: 10)
            if goesOn { talk.send(isBack: true, .ack, sequence: 901, acknowledgement: 101, byteCount: 1, at: 10) }
            talk.send(.ack, sequence: 201, acknowledgement: 901, byteCount: 100, at: 20)
            talk.send(isBack: true, flags, sequence: 901, acknowledgement: 101, at: 20)
            let server = Endpoint(address: talk.server.address(.ipv4), port: 80)
            let key = FlowKey(local: server, remote: Endpoint(address: talk.client.address(.ipv4), port: 5_000))
            #expect(talk.world.checker.hasDeniedCookie(key) == isDenied)
            talk.world.checker.forgetDeniedCookie(key)
            #expect(!talk.world.checker.hasDeniedCookie(key) && !talk.world.checker.hasDeniedCookie(key.reversed))
            talk.world.end()
        }
    }

    private static let permitsSelective: [UInt8] = [1, 1, 4, 2]

    @Test func aSYNIsAnAnswerToTheOneWithoutAcknowledgement() throws {
        // The client has taken somebody else's SYN for the server's, and answers that with what it does not permit.
        let talk = try Conversation()
        talk.send(.syn, sequence: 100, options: Self.permitsSelective)
        talk.send([.syn, .ack], sequence: 100, acknowledgement: 5_000)
        talk.send(isBack: true, [.syn, .ack], sequence: 900, acknowledgement: 101, options: Self.permitsSelective)
        #expect(talk.violations == [])
        talk.world.end()
        let other = try Conversation()
        other.send(.syn, sequence: 100)
        other.send([.syn, .ack], sequence: 100, acknowledgement: 5_000, options: Self.permitsSelective)
        other.send(isBack: true, [.syn, .ack], sequence: 900, acknowledgement: 101, options: Self.permitsSelective)
        #expect(other.violations.contains { $0.contains("permitted in answer to a SYN that does not permit them") })
        other.world.end()
    }

    @Test func theSYNThatIsAnsweredIsTheOneWhoseOptionsCount() throws {
        let talk = try Conversation()
        talk.send(.syn, sequence: 100, options: Self.timestamps)
        // In the server's name, and then the server itself, before the client says anything.
        talk.send(isBack: true, .syn, sequence: 7_000)
        talk.send(isBack: true, [.syn, .ack], sequence: 900, acknowledgement: 101, options: Self.timestamps)
        talk.send([.syn, .ack], sequence: 100, acknowledgement: 7_001)
        talk.send(.ack, sequence: 101, acknowledgement: 7_001)
        #expect(talk.violations == [])
        talk.world.end()
    }

    @Test func aFrameInSomebodyElsesNameIsFound() throws {
        let talk = try Conversation()
        let segment = ForgedFrame.Segment(
            from: Endpoint(address: talk.server.address, port: 1), to: Endpoint(address: talk.server.address, port: 2))
        talk.world.checker.transmitted(ForgedFrame.tcp(segment, from: talk.server.macAddress, to: talk.server.macAddress), by: talk.client, at: 0)
        #expect(talk.violations.contains { $0.contains("from another hardware address") } && talk.violations.contains { $0.contains("from another address") })
        talk.world.end()
    }

    @Test func aResetThatNothingHasProvokedIsFound() throws {
        let talk = try Conversation()
        talk.shakeHands()
        talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500)
        // Each end may end the connection once, and answer each segment.
        for _ in 0..<4 { talk.send(isBack: true, .rst, sequence: 901, isLost: true) }
        #expect(talk.violations == [])
        talk.send(isBack: true, .rst, sequence: 901, isLost: true)
        #expect(talk.violations.contains { $0.contains("a reset that nothing has provoked") })
        talk.world.end()
    }

    @Test func aResetInAnswerToAResetIsFoundUnlessItMayHaveWaitedForTheDevice() throws {
        for mayHaveWaited in [false, true] {
            let talk = try Conversation()
            talk.shakeHands()
            talk.send(.ack, sequence: 101, acknowledgement: 901, byteCount: 500, at: 10)
            talk.send(.rst, sequence: 601, at: 20)
            talk.send(isBack: true, .rst, sequence: 901, at: 20, mayHaveWaited: mayHaveWaited)
            #expect(talk.violations.contains { $0.contains("a reset in answer to a reset") } != mayHaveWaited)
            talk.world.end()
        }
    }

    @Test func tooManyResetsAreFoundUnlessTheyHaveWaitedForANeighbour() throws {
        for isResolvedNow in [false, true] {
            let talk = try Conversation(conduct: Conversation.conduct(resetsPerSecond: 1))
            for index: UInt32 in 0..<3 {
                talk.send(.ack, sequence: 500 + index, acknowledgement: 1, at: 10)
                let time: UInt64 = 20 + UInt64(index)
                if isResolvedNow, index == 1 {
                    let answer = ForgedFrame.arp(
                        ARPPacket(
                            operation: ARPPacket.reply, senderHardware: talk.client.macAddress, senderProtocol: talk.client.address,
                            targetHardware: talk.server.macAddress, targetProtocol: talk.server.address), from: talk.client.macAddress,
                        to: talk.server.macAddress)
                    talk.world.checker.received(SimulatedFrame(answer), by: talk.server, at: time * 1_000_000)
                }
                talk.send(isBack: true, .rst, sequence: 1, isLost: true, at: time)
            }
            #expect(talk.violations.contains { $0.contains("3 resets to segments of no connection in a second") } != isResolvedNow)
            talk.world.end()
        }
    }

    @Test func aViolationEndsTheSimulation() throws {
        let talk = try Conversation()
        talk.world.schedule(after: 1_000) { talk.send(.syn, sequence: 100) { $0[50] ^= 1 } }
        #expect(throws: SimulationFailure.self) { try talk.world.run(for: .seconds(1)) }
        talk.world.end()
    }
}

/// The model of a stream finds what comes out differently.
@Suite struct StreamRecordTests {
    private func deliver(_ bytes: [UInt8], to record: StreamRecord) throws -> String? {
        let world = Simulation(seed: 1)
        let host = try world.makeHost("host")
        defer { world.end() }
        return try host.perform { runtime in
            let buffer = try runtime.allocate(copying: bytes.span)
            return record.deliver(try .init(buffer))
        }
    }

    private func bytes(of record: StreamRecord, from offset: Int, count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        bytes.withUnsafeMutableBytes { record.fill($0.baseAddress!, from: offset, count: count) }
        return bytes
    }

    @Test func theBytesAreTheSameHoweverTheyAreCut() {
        let record = StreamRecord(name: "stream", number: 1, seed: 2)
        let whole = bytes(of: record, from: 0, count: 100)
        for cut in 0...100 { #expect(bytes(of: record, from: 0, count: cut) + bytes(of: record, from: cut, count: 100 - cut) == whole) }
        #expect(whole != bytes(of: StreamRecord(name: "other", number: 2, seed: 2), from: 0, count: 100))
    }

    @Test func whatComesOutDifferentlyIsFound() throws {
        let record = StreamRecord(name: "stream", number: 1, seed: 2)
        record.pushed = 40
        #expect(try deliver(bytes(of: record, from: 0, count: 20), to: record) == nil)
        // The same bytes again.
        #expect(try deliver(bytes(of: record, from: 0, count: 20), to: record)?.contains("the byte at 20") == true)
        #expect(record.end()?.contains("its sender has not ended it") == true)
        record.isEnded = true
        #expect(record.end()?.contains("after 20 of 40 bytes") == true)
    }

    @Test func bytesThatNobodyPushedAreFound() throws {
        let record = StreamRecord(name: "stream", number: 1, seed: 2)
        record.pushed = 10
        #expect(try deliver(bytes(of: record, from: 0, count: 11), to: record)?.contains("11 bytes came out, 10 were pushed") == true)
    }
}
