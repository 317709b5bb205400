import NetworkStack
import Testing
import WireFormats

/// Loss recovery with selective acknowledgements: RFC 8985, RFC 6937, RFC 6675's pipe, RFC 2018's sender. One segment is 1,000 bytes.
@Suite("TCP: recovery with selective acknowledgements") struct SelectiveRecoveryTests {
    static let mss = 1_000
    private static let bytes = pattern(200_000)

    /// A connection with a measured round trip of 100 ms and ten segments in flight, from number `first` on.
    private func sender(
        segments: Int = 100, timestamp: UInt32? = nil, _ configure: (inout NetworkConfiguration) -> Void = { _ in }
    ) throws -> (script: SegmentScript, connection: UInt32) {
        let script = try SegmentScript {
            $0.tcp.congestionControl = .newReno
            $0.tcp.maximumSegmentSize = timestamp == nil ? SelectiveRecoveryTests.mss : SelectiveRecoveryTests.mss + 12
            configure(&$0)
        }
        let (connection, synchronize) = script.connect()
        script.advance(100)
        script.peerTimestamp = timestamp
        script.peer(
            [.syn, .ack], seq: 0, ack: 1, mss: timestamp == nil ? 1_000 : 1_012, scale: 7, echo: synchronize.timestamps?.value, sackPermitted: true)
        script.expect(.ack, seq: 1, ack: 1)
        script.peer(.ack, seq: 1, ack: 1)
        script.send(connection, Array(SelectiveRecoveryTests.bytes.prefix(segments * SelectiveRecoveryTests.mss)))
        return (script, connection)
    }

    private func sent(_ script: SegmentScript) -> [Int] { script.takeSent().filter { $0.length > 0 }.map { ($0.seq - 1) / SelectiveRecoveryTests.mss } }

    private func number(_ segment: Int) -> Int { 1 + segment * SelectiveRecoveryTests.mss }

    /// Everything up to segment `segment` has arrived, and the segments of the ranges.
    private func acknowledge(_ script: SegmentScript, _ segment: Int, _ blocks: Range<Int>..., echo: UInt32? = nil) {
        script.peer(
            .ack, seq: 1, ack: number(segment), echo: echo, sack: blocks.map { number($0.lowerBound)..<number($0.upperBound) })
    }

    // RFC 8985, section 6.2, and RFC 6675: three segments beyond a gap
    @Test("the third segment beyond a gap makes the retransmission, and no other is sent again")
    func thirdSegment() throws {
        let (script, _) = try sender()
        #expect(sent(script) == Array(0..<10))
        script.advance(100)
        acknowledge(script, 0, 1..<2)
        acknowledge(script, 0, 1..<3)
        // What was reported has left the network.
        #expect(sent(script) == [10, 11])
        acknowledge(script, 0, 1..<4)
        #expect(sent(script).filter { $0 < 10 } == [0])
        #expect(script.tcp.fastRetransmits == 1)
        acknowledge(script, 10)
        #expect(!sent(script).contains { $0 < 10 })
        #expect(script.tcp.retransmittedSegments == 1 && script.tcp.retransmissionTimeouts == 0)
    }

    // RFC 8985, section 6.2, step 5: the reordering timer
    @Test("a segment that is late by a quarter of the round trip is lost without a third report")
    func reorderingTimer() throws {
        let (script, _) = try sender(segments: 2)
        #expect(sent(script) == [0, 1])
        script.advance(100)
        acknowledge(script, 0, 1..<2)
        #expect(sent(script) == [])
        script.advance(20)
        #expect(sent(script) == [])
        script.advance(6)
        #expect(sent(script) == [0])
        #expect(script.tcp.reorderingTimeouts == 1 && script.tcp.retransmissionTimeouts == 0)
    }

    @Test("a segment that comes late in that time is not sent again")
    func reordering() throws {
        let (script, _) = try sender(segments: 2)
        _ = script.takeSent()
        script.advance(100)
        acknowledge(script, 0, 1..<2)
        script.advance(20)
        acknowledge(script, 2)
        script.advance(300)
        #expect(sent(script) == [])
        #expect(script.tcp.reorderingsDetected == 1 && script.tcp.retransmittedSegments == 0)
    }

    // RFC 8985, section 3: unlike counting, time finds a lost retransmission
    @Test("a retransmission that is lost is sent again without a timeout")
    func lostRetransmission() throws {
        let (script, _) = try sender()
        _ = script.takeSent()
        script.advance(100)
        acknowledge(script, 0, 1..<10)
        let after = sent(script)
        #expect(after.first == 0 && after.count > 1)
        script.advance(100)
        // What was sent after the retransmission has arrived, the retransmission has not.
        acknowledge(script, 0, 1..<11)
        script.advance(30)
        acknowledge(script, 0, 1..<12)
        #expect(sent(script).contains(0))
        #expect(script.tcp.retransmissionTimeouts == 0)
    }

    @Test("all holes of a flight are filled in one round trip")
    func severalHoles() throws {
        let (script, _) = try sender()
        _ = script.takeSent()
        script.advance(100)
        // 0, 3 and 6 are lost.
        acknowledge(script, 0, 1..<2)
        acknowledge(script, 0, 1..<3)
        acknowledge(script, 0, 4..<5, 1..<3)
        acknowledge(script, 0, 4..<6, 1..<3)
        acknowledge(script, 0, 7..<8, 4..<6, 1..<3)
        acknowledge(script, 0, 7..<9, 4..<6, 1..<3)
        acknowledge(script, 0, 7..<10, 4..<6, 1..<3)
        let again = sent(script).filter { $0 < 10 }
        #expect(again == [0, 3, 6])
        #expect(script.tcp.fastRetransmits == 1 && script.tcp.retransmissionTimeouts == 0)
    }

    // RFC 6937, section 3
    @Test("recovery sends half of what arrives, and ends with ssthresh")
    func proportionalReduction() throws {
        let (script, _) = try sender()
        #expect(sent(script) == Array(0..<10))
        script.advance(100)
        for index in 2...4 { acknowledge(script, 0, 1..<index) }
        // Two for the first two reports, then the retransmission.
        #expect(sent(script) == [10, 11, 0])
        var count = 0
        for index in 5...10 {
            acknowledge(script, 0, 1..<index)
            count += sent(script).count
        }
        #expect((2...3).contains(count))
        // ssthresh is half of ten: no more than five are in flight at the end.
        acknowledge(script, 12)
        let fresh = sent(script)
        #expect(count + fresh.count <= 5 && count + fresh.count >= 4)
    }

    // RFC 2018, section 8
    @Test("after a timeout what was reported counts for nothing: a receiver that has dropped it gets it again")
    func reneging() throws {
        let (script, _) = try sender(segments: 4)
        _ = script.takeSent()
        script.advance(100)
        acknowledge(script, 0, 1..<2)
        script.advance(2_000)
        #expect(script.tcp.retransmissionTimeouts > 0)
        _ = script.takeSent()
        acknowledge(script, 1)
        #expect(sent(script).contains(1))
        acknowledge(script, 2)
        acknowledge(script, 3)
        acknowledge(script, 4)
        script.advance(5_000)
        #expect(sent(script).allSatisfy { $0 < 4 })
        #expect(script.tcp.transmissionRecords == 0)
    }

    @Test("blocks that cannot be are ignored: of what was never sent, of nothing, from behind to before, of what is acknowledged")
    func badBlocks() throws {
        let (script, _) = try sender()
        _ = script.takeSent()
        script.advance(100)
        acknowledge(script, 1)
        _ = script.takeSent()
        func block(_ left: Int, _ right: Int) -> [UInt8] {
            bigEndian32(script.stackISN &+ UInt32(truncatingIfNeeded: left)) + bigEndian32(script.stackISN &+ UInt32(truncatingIfNeeded: right))
        }
        let blocks = [
            (number(50), number(60)), (number(5), number(5)), (number(7), number(3)), (number(0), number(1)), (-1 << 30, number(1)), (number(2), 1 << 31 - 1),
        ]
        for (left, right) in blocks {
            for _ in 0..<4 { script.peer(.ack, seq: 1, ack: number(1), extraOptions: [1, 1, 5, 10] + block(left, right)) }
        }
        #expect(!sent(script).contains { $0 < 10 })
        #expect(script.tcp.fastRetransmits == 0)
    }

    // RFC 8985, section 7
    @Test("a lost tail is probed after two round trips, and its loss found without a timeout")
    func tailLossProbe() throws {
        let (script, _) = try sender(segments: 4)
        #expect(sent(script) == [0, 1, 2, 3])
        script.advance(100)
        acknowledge(script, 2)
        script.advance(195)
        #expect(sent(script) == [])
        script.advance(15)
        #expect(sent(script) == [3])
        #expect(script.tcp.tailLossProbes == 1)
        script.advance(100)
        acknowledge(script, 2, 3..<4)
        script.advance(50)
        #expect(sent(script) == [2])
        acknowledge(script, 4)
        #expect(script.tcp.retransmissionTimeouts == 0)
        script.advance(3_000)
        script.expectNothing()
    }

    @Test("a probe is new data where there is some, and there is one probe at a time")
    func probeWithNewData() throws {
        let (script, _) = try sender()
        #expect(sent(script) == Array(0..<10))
        // The timer was set when one segment was in flight.
        script.advance(211)
        #expect(sent(script) == [10])
        #expect(script.tcp.tailLossProbes == 1)
        script.advance(90)
        #expect(sent(script) == [])
    }

    @Test("a probe that repaired the loss of the last segment halves the window; one that was for nothing does not")
    func probeRepairs() throws {
        for isDuplicate in [false, true] {
            let (script, connection) = try sender(segments: 10)
            _ = script.takeSent()
            script.advance(100)
            acknowledge(script, 9)
            script.advance(250)
            #expect(sent(script) == [9])
            if isDuplicate { acknowledge(script, 10) }
            script.peer(.ack, seq: 1, ack: number(10), sack: isDuplicate ? [number(9)..<number(10)] : [])
            script.send(connection, Array(SelectiveRecoveryTests.bytes.prefix(1_000)))
            #expect(sent(script) == [10])
            acknowledge(script, 11)
            #expect(script.tcp.tailLossesRepaired == (isDuplicate ? 0 : 1))
        }
    }

    // RFC 5682, section 3
    @Test("F-RTO: a timeout for segments that were only late is taken back, and nothing more is sent again")
    func spuriousTimeout() throws {
        let (script, _) = try sender()
        #expect(sent(script) == Array(0..<10))
        script.advance(1_000)
        #expect(script.tcp.retransmissionTimeouts > 0)
        let again = sent(script)
        #expect(again.contains(0))
        acknowledge(script, 1)
        #expect(sent(script).allSatisfy { $0 >= 10 })
        acknowledge(script, 2)
        #expect(script.tcp.spuriousTimeouts == 1 && script.tcp.spuriousRecoveries == 1)
        #expect(sent(script).allSatisfy { $0 >= 10 })
        acknowledge(script, 10)
        #expect(sent(script).count >= 5)
    }

    // RFC 3522, section 3.2
    @Test("an echo of the first transmission takes the recovery back")
    func eifel() throws {
        let (script, _) = try sender(timestamp: 1_000)
        let first = script.takeSent()
        #expect(first.count == 10)
        let value = first[0].timestamps!.value
        script.advance(100)
        for index in 2...4 { acknowledge(script, 0, 1..<index) }
        #expect(sent(script).contains(0))
        acknowledge(script, 4, echo: value)
        #expect(script.tcp.spuriousRecoveries == 1)
        // The window is what it was, ten segments.
        acknowledge(script, 12)
        #expect(sent(script).count >= 8)
    }

    @Test("an echo of the first transmission does not take back a recovery in which something else may be lost")
    func eifelWithLoss() throws {
        let (script, _) = try sender(timestamp: 1_000)
        let value = script.takeSent()[0].timestamps!.value
        script.advance(100)
        // 0 is late, 3 is lost.
        for index in 2...3 { acknowledge(script, 0, 1..<index) }
        for index in 5...10 { acknowledge(script, 0, 4..<index, 1..<3) }
        let again = script.takeSent().filter { $0.seq == 1 || $0.seq == 3_001 }
        try #require(again.count == 2)
        acknowledge(script, 3, 4..<10, echo: value)
        script.advance(100)
        acknowledge(script, 12, echo: again[1].timestamps!.value)
        #expect(script.tcp.spuriousRecoveries == 0 && script.tcp.fastRetransmits == 1)
    }

    // RFC 8985, section 6.2, step 3
    @Test("one acknowledgement that tells of several arrivals, the newest first, tells nothing of their order")
    func severalBlocks() throws {
        let (script, _) = try sender()
        #expect(sent(script) == Array(0..<10))
        script.advance(100)
        // The acknowledgement of 1 was lost.
        acknowledge(script, 0, 3..<4, 1..<2)
        #expect(script.tcp.reorderingsDetected == 0)
        // Here 2 has come behind 3.
        acknowledge(script, 0, 1..<4)
        #expect(script.tcp.reorderingsDetected == 1)
    }

    // RFC 8985, section 7.2
    @Test("a probe takes the place of a timeout that would come before it")
    func probeAtTimeout() throws {
        let (script, connection) = try sender(segments: 1) { $0.tcp.probeAcknowledgementDelay = 1_000_000_000 }
        let window = script.stack.connectionInformation(connection).congestionWindow
        #expect(sent(script) == [0])
        // RTO = 100 ms + 4 * 50 ms.
        script.advance(295)
        #expect(sent(script) == [])
        script.advance(10)
        #expect(sent(script) == [0])
        #expect(script.tcp.tailLossProbes == 1 && script.tcp.retransmissionTimeouts == 0)
        #expect(script.stack.connectionInformation(connection).congestionWindow == window)
        script.advance(310)
        #expect(sent(script) == [0] && script.tcp.retransmissionTimeouts == 1)
    }

    @Test("the send buffer grows to twice the congestion window, unless the program has set it, and to its maximum")
    func sendBuffer() throws {
        for (isSet, maximum) in [(false, 1 << 20), (true, 1 << 20), (false, 21_000)] {
            let (script, connection) = try sender {
                $0.tcp.sendBuffer = 20_000
                $0.tcp.maximumSendBuffer = maximum
            }
            if isSet { script.stack.setSendBuffer(connection, byteCount: 20_000) }
            script.advance(100)
            acknowledge(script, 10)
            let window = script.stack.connectionInformation(connection).congestionWindow
            #expect(window > 10_500)
            #expect(script.stack.sendBuffer(connection) == (isSet ? 20_000 : min(2 * window, maximum)))
        }
    }

    // RFC 2883, section 5
    @Test("when all that was sent again is reported as a duplicate the recovery is taken back")
    func undoByDuplicates() throws {
        let (script, _) = try sender()
        _ = script.takeSent()
        script.advance(100)
        for index in 2...4 { acknowledge(script, 0, 1..<index) }
        acknowledge(script, 4)
        #expect(script.tcp.spuriousRecoveries == 0)
        acknowledge(script, 4, 0..<1)
        #expect(script.tcp.spuriousRecoveries == 1)
    }

    @Test("a connection without data in flight holds no records, and one that ends gives its own back")
    func recordsAreGivenBack() throws {
        let (script, connection) = try sender()
        #expect(script.tcp.transmissionRecords == 10)
        _ = script.takeSent()
        acknowledge(script, 10)
        _ = script.takeSent()
        #expect(script.tcp.transmissionRecords > 0)
        script.abort(connection)
        #expect(script.tcp.transmissionRecords == 0)
    }

    @Test("without records the connection recovers by duplicate acknowledgements")
    func withoutRecords() throws {
        let (script, _) = try sender { $0.limits.transmissionRecords = 3 }
        #expect(sent(script) == Array(0..<10))
        #expect(script.tcp.transmissionsNotRecorded > 0)
        script.advance(100)
        for index in 2...4 { acknowledge(script, 0, 1..<index) }
        #expect(sent(script).contains(0))
        #expect(script.tcp.fastRetransmits == 1 && script.tcp.selectiveRecoveries == 0)
        for segment in 1...30 { acknowledge(script, segment) }
        #expect(script.tcp.retransmissionTimeouts == 0)
    }

    @Test("a FIN that is lost alone is probed")
    func lostFinish() throws {
        let (script, connection) = try sender(segments: 1)
        script.shutdown(connection)
        #expect(script.takeSent().last?.flags.contains(.fin) == true)
        script.advance(100)
        acknowledge(script, 1)
        script.advance(230)
        script.expect([.fin, .ack], seq: number(1))
        script.peer(.ack, seq: 1, ack: number(1) + 1)
        #expect(script.state(connection) == .finWait2)
    }
}
