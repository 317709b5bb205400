import DatapathMemory
import EthernetDevice
import NetworkStack
import Testing
import WireFormats

/// Congestion control by NewReno: RFC 5681, RFC 6582 and RFC 6928. One segment is 1,460 bytes.
@Suite("TCP: congestion control") struct CongestionTests {
    static let mss = 1_460

    private static func script(_ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws -> SegmentScript {
        try SegmentScript {
            $0.tcp.congestionControl = .newReno
            configure(&$0)
        }
    }

    /// A connection with more to send than any window allows; the initial window is in flight.
    private func sender(_ script: SegmentScript, mss: Int = mss, bytes: Int = 200_000) -> UInt32 {
        let connection = script.established(mss: mss, scale: 7)
        // The first window that is scaled.
        script.peer(.ack, seq: 1, ack: 1)
        script.send(connection, Array(CongestionTests.bytes.prefix(bytes)))
        return connection
    }

    private static let bytes = pattern(200_000)

    /// Acknowledges everything up to `segment` segments.
    private func acknowledge(_ script: SegmentScript, _ segment: Int) {
        script.peer(.ack, seq: 1, ack: 1 + segment * CongestionTests.mss)
    }

    /// The new segments' numbers.
    private func segments(_ script: SegmentScript) -> [Int] {
        script.takeSent().map { sent in
            #expect(sent.length == CongestionTests.mss)
            return (sent.seq - 1) / CongestionTests.mss
        }
    }

    // RFC 6928, section 2: min (10*MSS, max (2*MSS, 14600))
    @Test("the initial window", arguments: [(1_460, 10), (536, 10), (1_000, 10), (100, 10)])
    func initialWindow(_ mss: Int, _ expected: Int) throws {
        let script = try Self.script()
        _ = sender(script, mss: mss, bytes: 100_000)
        let sent = script.takeSent()
        #expect(sent.count == expected)
        #expect(sent.allSatisfy { $0.length == mss })
    }

    @Test("the initial window of large segments is 14,600 bytes, or two of them")
    func initialWindowOfLargeSegments() throws {
        for (mss, expected) in [(4_000, 14_600), (8_960, 17_920)] {
            let script = try Self.script { $0.maximumTransmissionUnit = 9_000 }
            _ = sender(script, mss: mss, bytes: 100_000)
            let bytes = script.takeSent().reduce(0) { $0 + $1.length }
            #expect(bytes <= expected && bytes > expected - mss)
        }
    }

    // RFC 5681, section 3.1, and RFC 6928, section 2: not for one lost SYN, but for more.
    @Test("the initial window is one segment after a SYN was lost more than once")
    func initialWindowAfterLoss() throws {
        let script = try Self.script()
        let (connection, _) = script.connect()
        script.advance(3_500)
        script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_460, scale: 7)
        _ = script.takeSent()
        script.send(connection, 100_000)
        #expect(segments(script) == [0])
    }

    // RFC 5681, section 3.1
    @Test("slow start: one more segment for each acknowledgement, at most, and only for new data")
    func slowStart() throws {
        let script = try Self.script()
        _ = sender(script)
        #expect(segments(script) == Array(0..<10))
        acknowledge(script, 1)
        #expect(segments(script) == [10, 11])
        acknowledge(script, 2)
        #expect(segments(script) == [12, 13])
        // Two segments in one acknowledgement: "by at most SMSS bytes".
        acknowledge(script, 4)
        #expect(segments(script) == [14, 15, 16])
        // A part of a segment grows the window by no more than that part.
        script.peer(.ack, seq: 1, ack: 1 + 4 * CongestionTests.mss + 10)
        #expect(script.takeSent().reduce(0) { $0 + $1.length } <= CongestionTests.mss)
    }

    // RFC 5681, section 3.2
    @Test("exactly the third duplicate makes the fast retransmission")
    func thirdDuplicate() throws {
        let script = try Self.script()
        _ = sender(script)
        #expect(segments(script) == Array(0..<10))
        acknowledge(script, 0)
        acknowledge(script, 0)
        // RFC 3042 lets new segments go here, never an old one.
        #expect(segments(script) == [10, 11])
        acknowledge(script, 0)
        #expect(segments(script).filter { $0 < 10 } == [0])
        acknowledge(script, 0)
        #expect(!segments(script).contains { $0 < 10 })
        #expect(script.tcp.fastRetransmits == 1)
    }

    // RFC 3042, section 2
    @Test("limited transmit: each of the first two duplicates sends one new segment, and cwnd stays as it is")
    func limitedTransmit() throws {
        let script = try Self.script()
        _ = sender(script)
        #expect(segments(script) == Array(0..<10))
        acknowledge(script, 0)
        #expect(segments(script) == [10])
        acknowledge(script, 0)
        #expect(segments(script) == [11])
        // It was no loss: cwnd is 10 and grows by one, 11 are in flight after the acknowledgement, and 11 fit.
        acknowledge(script, 1)
        #expect(segments(script) == [])
        acknowledge(script, 2)
        #expect(segments(script) == [12, 13])
        // Another two duplicates count anew.
        acknowledge(script, 2)
        acknowledge(script, 2)
        #expect(segments(script) == [14, 15])
        #expect(script.tcp.retransmittedSegments == 0)
    }

    // RFC 5681, section 3.2, step 2: "additional data sent in limited transmit MUST NOT be included in this calculation"
    @Test("what limited transmit sent does not count for ssthresh")
    func limitedTransmitLeavesThreshold() throws {
        let script = try Self.script()
        _ = sender(script, bytes: 12 * CongestionTests.mss + 100 * CongestionTests.mss)
        #expect(segments(script) == Array(0..<10))
        for _ in 0..<3 { acknowledge(script, 0) }
        #expect(segments(script) == [10, 11, 0])
        // ssthresh is half of 10, not of 12: cwnd is 5 + 3, and the twelve in flight are reached by the fourth further duplicate.
        for _ in 0..<4 { acknowledge(script, 0) }
        #expect(segments(script) == [])
        acknowledge(script, 0)
        #expect(segments(script) == [12])
        // All of it is acknowledged: cwnd is ssthresh, or one more than what is in flight.
        acknowledge(script, 12)
        #expect(segments(script) == [13])
    }

    // RFC 3042, section 2: "the receiver's advertised window allows the transmission of the segment"
    @Test("limited transmit sends nothing beyond the peer's window, and no old segment after a timeout")
    func limitedTransmitIsBounded() throws {
        let script = try Self.script()
        let connection = script.established(mss: CongestionTests.mss, window: 10 * CongestionTests.mss)
        script.send(connection, 20 * CongestionTests.mss)
        #expect(segments(script) == Array(0..<10))
        for _ in 0..<2 { script.peer(.ack, seq: 1, ack: 1, window: 10 * CongestionTests.mss) }
        script.expectNothing()
        script.advance(210)
        #expect(segments(script) == [0])
        // Nothing that waits is new: the timeout sends all of it again, in slow start.
        for _ in 0..<2 { script.peer(.ack, seq: 1, ack: 1, window: 10 * CongestionTests.mss) }
        script.expectNothing()
    }

    // RFC 5681, section 2: the definition
    @Test("what is no duplicate acknowledgement")
    func noDuplicates() throws {
        let script = try Self.script()
        let connection = sender(script, bytes: 10 * CongestionTests.mss)
        #expect(segments(script) == Array(0..<10))
        acknowledge(script, 1)
        let ack = 1 + CongestionTests.mss
        // (b) with data
        for index in 0..<5 { script.peer(.psh, seq: 1 + 10 * index, ack: ack, length: 10) }
        // (e) with another window
        for index in 0..<5 { script.peer(.ack, seq: 51, ack: ack, window: 60_000 - index) }
        // (d) of less than was acknowledged before
        for _ in 0..<5 { script.peer(.ack, seq: 51, ack: 1, window: 59_996) }
        // outside of the window
        for _ in 0..<5 { script.peer(.ack, seq: 50, ack: ack, window: 59_996) }
        #expect(!script.takeSent().contains { $0.length > 0 })
        #expect(script.tcp.fastRetransmits == 0)
        // (a) without data in flight
        acknowledge(script, 10)
        for _ in 0..<5 { script.peer(.ack, seq: 51, ack: 1 + 10 * CongestionTests.mss) }
        #expect(script.tcp.fastRetransmits == 0)
        script.advance(50)
        #expect(!script.takeSent().contains { $0.length > 0 })
        #expect(script.stack.unacknowledgedByteCount(connection) == 0)
    }

    @Test("an acknowledgement of new data starts the count of duplicates again")
    func duplicatesAreInARow() throws {
        let script = try Self.script()
        _ = sender(script, bytes: 10 * CongestionTests.mss)
        _ = script.takeSent()
        for segment in 0..<5 {
            for _ in 0..<3 where segment > 0 || script.tcp.duplicateAcknowledgements < 2 { acknowledge(script, segment) }
        }
        #expect(script.tcp.fastRetransmits == 0)
    }

    // RFC 6582, section 3.2
    @Test("fast recovery: the window is inflated by duplicates and deflated at the end")
    func fastRecovery() throws {
        let script = try Self.script()
        _ = sender(script)
        #expect(segments(script) == Array(0..<10))
        for _ in 0..<3 { acknowledge(script, 0) }
        var fresh = segments(script).filter { $0 >= 10 }
        // ssthresh 5, cwnd 5 + 3; in flight 12, two of them by limited transmit. Four more duplicates fill it, each further one lets a segment go.
        for _ in 0..<8 {
            acknowledge(script, 0)
            fresh += segments(script)
        }
        #expect(fresh == [10, 11, 12, 13, 14, 15])
        // All that was sent before recovery: cwnd = min (ssthresh, max (FlightSize, SMSS) + SMSS) = 5; in flight 4.
        acknowledge(script, 12)
        #expect(segments(script) == [16])
        // Congestion avoidance: about one segment more for a window's worth of acknowledgements.
        var count = 0
        for segment in 13...17 {
            acknowledge(script, segment)
            count += segments(script).count
        }
        #expect(count == 6)
        for segment in 18...23 {
            acknowledge(script, segment)
            count += segments(script).count
        }
        #expect(count == 13)
        #expect(script.tcp.retransmittedSegments == 1)
    }

    // RFC 6582, section 3.2, step 3
    @Test("a partial acknowledgement sends the next hole again at once")
    func partialAcknowledgement() throws {
        let script = try Self.script()
        _ = sender(script)
        _ = script.takeSent()
        // Segments 0, 3 and 6 are lost.
        for _ in 0..<7 { acknowledge(script, 0) }
        #expect(segments(script).filter { $0 < 10 } == [0])
        acknowledge(script, 3)
        #expect(segments(script).filter { $0 < 10 } == [3])
        acknowledge(script, 6)
        #expect(segments(script).filter { $0 < 10 } == [6])
        // Limited transmit has sent two more before the loss was seen.
        acknowledge(script, 12)
        #expect(!segments(script).contains { $0 < 10 })
        #expect(script.tcp.fastRetransmits == 1)
        #expect(script.tcp.retransmissionTimeouts == 0)
        #expect(script.tcp.partialAcknowledgements == 2)
    }

    @Test("the first partial acknowledgement starts the retransmission timer, later ones do not")
    func partialAcknowledgementTimer() throws {
        // "For the first partial ACK that arrives during fast recovery, also reset the retransmit timer."
        let script = try Self.script { $0.tcp.minimumRetransmissionTimeout = 1_000_000_000 }
        _ = sender(script)
        _ = script.takeSent()
        for _ in 0..<4 { acknowledge(script, 0) }
        script.advance(600)
        acknowledge(script, 2)
        script.advance(600)
        acknowledge(script, 4)
        #expect(script.tcp.retransmissionTimeouts == 0)
        script.advance(399)
        #expect(script.tcp.retransmissionTimeouts == 0)
        script.advance(2)
        #expect(script.tcp.retransmissionTimeouts == 1)
    }

    @Test("duplicates of less than recover make no second fast retransmission")
    func noSecondFastRetransmission() throws {
        let script = try Self.script()
        _ = sender(script, bytes: 10 * CongestionTests.mss)
        _ = script.takeSent()
        // A timeout: recover is the highest sequence number sent.
        script.advance(210)
        _ = script.takeSent()
        for _ in 0..<5 { acknowledge(script, 0) }
        acknowledge(script, 2)
        for _ in 0..<5 { acknowledge(script, 2) }
        #expect(script.tcp.fastRetransmits == 0)
    }

    @Test("beyond recover a new loss is a new fast retransmission")
    func secondFastRetransmission() throws {
        let script = try Self.script()
        _ = sender(script)
        _ = script.takeSent()
        for _ in 0..<9 { acknowledge(script, 0) }
        acknowledge(script, 12)
        acknowledge(script, 13)
        _ = script.takeSent()
        for _ in 0..<3 { acknowledge(script, 13) }
        #expect(segments(script).contains(13))
        #expect(script.tcp.fastRetransmits == 2)
    }

    @Test("a loss is found by duplicates also when the last one lies more than 2^31 bytes back")
    func fastRetransmissionAfterManyBytes() throws {
        let script = try SegmentScript(arenaByteCount: 64 << 20) {
            $0.tcp.congestionControl = .newReno
            $0.maximumTransmissionUnit = 65_535
            $0.offloads = .transmitChecksumTCP
            $0.maximumTransmitSegments = 8
        }
        let connection = script.established(mss: 65_495, scale: 14)
        script.stack.setSendBuffer(connection, byteCount: 8 << 20)
        script.peer(.ack, seq: 1, ack: 1)
        script.deviceTakesFrames = false
        // What the stack has sent at most, as an offset from its first byte; only headers are looked at.
        var sent: UInt32 = 0
        func drain() {
            withUnsafeTemporaryAllocation(of: Frame.self, capacity: 64) { frames in
                while case let count = script.stack.takeOutput(into: frames.baseAddress!, capacity: 64), count > 0 {
                    for frame in frames.prefix(count) {
                        let sequence = UInt32(bigEndian: (frame.segmentAddress + 38).loadUnaligned(as: UInt32.self))
                        let headerByteCount = 34 + Int((frame.segmentAddress + 46).load(as: UInt8.self) >> 4) * 4
                        let end = sequence &+ UInt32(frame.arrayByteCount - headerByteCount) &- script.stackISN &- 1
                        if Int32(bitPattern: end &- sent) > 0 { sent = end }
                        frame.releaseArray()
                    }
                }
            }
        }
        func fill() {
            while true {
                let array = Frame.makeSegment(script.heap, byteCount: 131_072, priority: .application)!
                guard script.stack.send(connection, array) == 0 else { return array.releaseArray() }
                drain()
            }
        }
        func acknowledge(_ end: UInt32) { script.peer(.ack, seq: 1, ack: 1 + Int(end)) }
        fill()
        for _ in 0..<3 { acknowledge(0) }
        #expect(script.tcp.fastRetransmits == 1)
        drain()
        var total = 0
        var acknowledged: UInt32 = 0
        while total < 1 << 31 + 1 << 24 {
            total += Int(sent &- acknowledged)
            acknowledged = sent
            acknowledge(sent)
            drain()
            fill()
        }
        for _ in 0..<3 { acknowledge(acknowledged) }
        #expect(script.tcp.fastRetransmits == 2)
        #expect(script.tcp.retransmissionTimeouts == 0)
        drain()
    }

    // RFC 5681, section 3.1: equation 4, and the loss window
    @Test("after a timeout: one segment, slow start to half of what was in flight, then congestion avoidance")
    func timeout() throws {
        let script = try Self.script()
        _ = sender(script)
        #expect(segments(script) == Array(0..<10))
        script.advance(201)
        #expect(segments(script) == [0])
        acknowledge(script, 1)
        #expect(segments(script).count == 2)
        acknowledge(script, 2)
        #expect(segments(script).count == 2)
        acknowledge(script, 3)
        #expect(segments(script).count == 2)
        acknowledge(script, 4)
        #expect(segments(script).count == 2)
        // cwnd = ssthresh = 5: from here on one segment for each acknowledgement, and one more for a window's worth.
        var count = 0
        for segment in 5...9 {
            acknowledge(script, segment)
            count += segments(script).count
        }
        #expect(count == 6)
    }

    @Test("a second timeout of the same segment leaves ssthresh")
    func secondTimeout() throws {
        let script = try Self.script { $0.tcp.detectsBlackHoles = false }
        _ = sender(script)
        _ = script.takeSent()
        script.advance(700)
        #expect(segments(script) == [0, 0])
        for segment in 1...4 {
            acknowledge(script, segment)
            #expect(segments(script).count == 2)
        }
    }

    // RFC 5681, section 4.1
    @Test("after an idle period of more than a timeout the window is the initial one again")
    func idleRestart() throws {
        let script = try Self.script()
        let connection = sender(script, bytes: 60 * CongestionTests.mss)
        var next = 0
        for _ in 0..<60 {
            next += segments(script).count
            acknowledge(script, next)
        }
        #expect(next == 60)
        script.send(connection, 60 * CongestionTests.mss)
        var burst = segments(script).count
        #expect(burst > 12)
        for _ in 0..<60 where burst > 0 {
            next += burst
            acknowledge(script, next)
            burst = segments(script).count
        }
        #expect(next == 120)
        script.advance(seconds: 5)
        script.send(connection, 60 * CongestionTests.mss)
        #expect(segments(script).count == 10)
        #expect(script.tcp.idleRestarts == 1)
    }

    // RFC 9293, section 3.8.6: what is sent again is never more than what was sent before.
    @Test("a retransmission contains nothing that was never sent, and stays in the peer's window")
    func retransmissionOfAShortSegment() throws {
        let script = try Self.script()
        let connection = script.established(window: 1_000)
        script.send(connection, 600)
        script.expect(.ack, seq: 1, length: 600)
        script.send(connection, 2_000, from: 600)
        _ = script.takeSent()
        script.advance(210)
        let end = script.takeSent().map { $0.seq + $0.length }.max() ?? 0
        #expect(end >= 601 && end <= 1_001)
        // The acknowledgement of all that was sent is believed.
        script.peer(.ack, seq: 1, ack: end, window: 1_000)
        #expect(script.stack.unacknowledgedByteCount(connection) == 2_600 - (end - 1))
        script.expect(.ack, seq: end, length: 1_000)
    }
}
