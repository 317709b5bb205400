import Glibc
import NetworkStack
import Testing
import WireFormats

/// The retransmission timer (RFC 6298) and the protocol's patience (RFC 9293, section 3.8.3).
@Suite("TCP: retransmission timer") struct RetransmissionTests {
    /// A connection whose handshake took 100 ms: SRTT 100, RTTVAR 50, RTO 300.
    private func connection(_ script: SegmentScript, roundTrip: Int = 100, scale: Int? = nil) -> UInt32 {
        let (connection, _) = script.connect()
        script.advance(roundTrip)
        script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_460, scale: scale)
        script.expect(.ack, seq: 1, ack: 1)
        return connection
    }

    private func milliseconds(_ from: SentSegment, _ to: SentSegment) -> Double { Double(to.time - from.time) / 1_000_000 }

    private func isClose(_ value: Double, _ expected: Double) -> Bool { abs(value - expected) < 0.01 }

    @Test("the first timeout is one second and doubles (2.1, 5.5)")
    func initialTimeout() throws {
        let script = try SegmentScript()
        let (_, first) = script.connect()
        script.advance(seconds: 20)
        let repeated = script.takeSent()
        #expect(repeated.count == 4)
        for (segment, after) in zip(repeated, [1_000.0, 3_000, 7_000, 15_000]) {
            #expect(segment.flags == .syn && segment.seq == 0)
            #expect(isClose(milliseconds(first, segment), after))
        }
    }

    // RFC 9293, section 3.8.3: MUST-23
    @Test("a SYN is sent again for at least three minutes before the attempt fails with ETIMEDOUT")
    func synchronizePatience() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.advance(seconds: 180)
        #expect(script.state(connection) == .synSent)
        script.advance(seconds: 200)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ETIMEDOUT)
        #expect(script.events(connection).contains(.failed))
        #expect(script.stack.nextDeadline == nil)
    }

    @Test("a SYN is sent again as often as configured")
    func synchronizeRetransmissions() throws {
        let script = try SegmentScript { $0.tcp.maximumSYNRetransmissions = 2 }
        let (connection, _) = script.connect()
        script.advance(6_999)
        #expect(script.takeSent().count == 2)
        #expect(script.state(connection) == .synSent)
        script.advance(2)
        #expect(script.state(connection) == .closed)
        #expect(script.takeSent().allSatisfy { $0.flags.contains(.rst) })
    }

    @Test("the first measurement gives SRTT = R, RTTVAR = R/2, RTO = SRTT + 4 RTTVAR (2.2)")
    func firstMeasurement() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 100)
        let first = script.expect(.ack, seq: 1, length: 100)
        script.advance(1_000)
        let second = script.expect(.ack, seq: 1, length: 100)
        #expect(isClose(milliseconds(first, second), 300))
        // 300, 600, ...
        script.advance(1_000)
        let third = script.expect(.ack, seq: 1, length: 100)
        #expect(isClose(milliseconds(second, third), 600))
    }

    /// How long the stack waits until it sends data again that nobody acknowledges, in milliseconds.
    private func timeout(_ script: SegmentScript, _ connection: UInt32) -> Double {
        script.send(connection, 100)
        let first = script.expect(.ack, seq: 1, length: 100)
        script.advance(4_000)
        return milliseconds(first, script.expect(.ack, seq: 1, length: 100))
    }

    // RFC 6298, section 3: Karn's algorithm
    @Test("a SYN and ACK that was sent again for a repeated SYN gives no sample")
    func repeatedSynchronizeIsNoSample() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.advance(500)
        script.peer(.syn, seq: 0, mss: 1_460)
        _ = script.takeSent()
        script.advance(10)
        script.peer(.ack, seq: 1, ack: 1)
        let connection = script.stack.accept(listener, owner: 3)
        // No timer has expired, so it is the first timeout (2.1).
        #expect(isClose(timeout(script, connection), 1_000))
    }

    // RFC 6298, section 3: "The only case when TCP can safely take RTT samples from retransmitted segments is when the TCP timestamp option is employed"
    @Test("with timestamps a SYN and ACK that was sent again gives the sample of its own transmission")
    func repeatedSynchronizeWithTimestamps() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peerTimestamp = 1_000
        script.peer(.syn, seq: 0, mss: 1_460)
        script.advance(500)
        script.peer(.syn, seq: 0, mss: 1_460)
        _ = script.takeSent()
        script.advance(100)
        script.peer(.ack, seq: 1, ack: 1)
        let connection = script.stack.accept(listener, owner: 3)
        #expect((290...320).contains(timeout(script, connection)))
    }

    // RFC 6298, sections 3 and 5.7
    @Test("a simultaneous open after a repeated SYN gives no sample, and data begins with three seconds", arguments: [false, true])
    func simultaneousOpenIsNoSample(isRepeated: Bool) throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.advance(isRepeated ? 1_100 : 600)
        script.peer(.syn, seq: 0, mss: 1_460)
        script.advance(50)
        script.peer(.ack, seq: 1, ack: 1)
        _ = script.takeSent()
        #expect(script.state(connection) == .established)
        #expect(isClose(timeout(script, connection), isRepeated ? 3_000 : 1_000))
    }

    @Test("the next measurements move SRTT by 1/8 and RTTVAR by 1/4 (2.3)")
    func nextMeasurement() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 100)
        script.expect(.ack, seq: 1, length: 100)
        script.advance(200)
        script.peer(.ack, seq: 1, ack: 101)
        // RTTVAR = 3/4 50 + 1/4 |100 - 200| = 62.5; SRTT = 7/8 100 + 1/8 200 = 112.5; RTO = 362.5
        script.send(connection, 100)
        let first = script.expect(.ack, seq: 101, length: 100)
        script.advance(1_000)
        #expect(isClose(milliseconds(first, script.expect(.ack, seq: 101, length: 100)), 362.5))
    }

    @Test("the timeout does not sink below its minimum (2.4) and doubles up to its maximum (2.5, 5.5)")
    func bounds() throws {
        let script = try SegmentScript {
            $0.tcp.minimumRetransmissionTimeout = 250_000_000
            $0.tcp.maximumRetransmissions = 15
        }
        let connection = connection(script, roundTrip: 1)
        script.send(connection, 1)
        var previous = script.expect(.ack, seq: 1, length: 1)
        script.advance(seconds: 500)
        let repeated = script.takeSent()
        var expected = 250.0
        #expect(repeated.count > 10)
        for segment in repeated {
            #expect(isClose(milliseconds(previous, segment), expected))
            expected = min(2 * expected, 60_000)
            previous = segment
        }
    }

    @Test("a retransmitted segment is not measured, and the backed-off timeout stays (Karn; section 3 and 5)")
    func karn() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 100)
        script.expect(.ack, seq: 1, length: 100)
        script.advance(310)
        script.expect(.ack, seq: 1, length: 100)
        script.peer(.ack, seq: 1, ack: 101)
        script.send(connection, 100)
        let first = script.expect(.ack, seq: 101, length: 100)
        script.advance(1_000)
        #expect(isClose(milliseconds(first, script.expect(.ack, seq: 101, length: 100)), 600))
    }

    @Test("a new measurement ends the back-off (section 5)")
    func backOffEnds() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 100)
        script.advance(310)
        script.peer(.ack, seq: 1, ack: 101)
        script.send(connection, 100)
        script.advance(100)
        script.peer(.ack, seq: 1, ack: 201)
        _ = script.takeSent()
        // RTTVAR = 37.5, SRTT = 100, RTO = 250.
        script.send(connection, 100)
        let first = script.expect(.ack, seq: 201, length: 100)
        script.advance(500)
        #expect(isClose(milliseconds(first, script.expect(.ack, seq: 201, length: 100)), 250))
    }

    @Test("an acknowledgement of new data starts the timer again (5.3)")
    func restart() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 100)
        script.send(connection, 100)
        let first = script.expect(.ack, seq: 1, length: 100)
        script.expect(.ack, seq: 101, length: 100)
        script.advance(200)
        script.peer(.ack, seq: 1, ack: 101)
        script.advance(300)
        script.expectNothing()
        script.advance(100)
        // 200 and the new RTO of 362.5.
        #expect(isClose(milliseconds(first, script.expect(.ack, seq: 101, length: 100)), 562.5))
    }

    @Test("a duplicate acknowledgement does not start the timer again")
    func duplicateDoesNotRestart() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 100)
        let first = script.expect(.ack, seq: 1, length: 100)
        script.advance(200)
        script.peer(.ack, seq: 1, ack: 1)
        script.advance(200)
        #expect(isClose(milliseconds(first, script.expect(.ack, seq: 1, length: 100)), 300))
    }

    @Test("the timer is off when everything is acknowledged (5.2)")
    func timerOff() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 100)
        script.send(connection, 100)
        script.peer(.ack, seq: 1, ack: 201)
        _ = script.takeSent()
        #expect(script.stack.nextDeadline == nil)
        script.advance(seconds: 1_000)
        script.expectNothing()
    }

    @Test("further segments do not put the timer off (5.1)")
    func timerRuns() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 10)
        let first = script.expect(.ack, seq: 1, length: 10)
        for index in 1..<6 {
            script.advance(50)
            script.send(connection, 10)
            script.expect(.ack, seq: 1 + 10 * index, length: 10)
        }
        script.advance(60)
        let again = script.takeSent()
        #expect(again.first.map { isClose(milliseconds(first, $0), 300) && $0.seq == 1 } == true)
    }

    @Test("after the loss of a SYN data begins with a timeout of 3 s (5.7)", arguments: [false, true])
    func afterLostSynchronize(_ isPassive: Bool) throws {
        let script = try SegmentScript()
        let connection: UInt32
        if isPassive {
            let listener = script.listener()
            script.peer(.syn, seq: 0, mss: 1_460)
            script.advance(1_500)
            script.peer(.ack, seq: 1, ack: 1)
            connection = script.stack.accept(listener, owner: 3)
        } else {
            connection = script.connect().connection
            script.advance(1_500)
            script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_460)
        }
        _ = script.takeSent()
        script.send(connection, 10)
        let first = script.expect(.ack, seq: 1, length: 10)
        script.advance(4_000)
        #expect(isClose(milliseconds(first, script.expect(.ack, seq: 1, length: 10)), 3_000))
    }

    // RFC 9293, section 3.8.3: R2 at least 100 s; ETIMEDOUT to the program.
    @Test("unacknowledged data ends the connection with ETIMEDOUT, not before 100 s")
    func patience() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 10)
        script.advance(seconds: 100)
        #expect(script.state(connection) == .established)
        script.advance(seconds: 1_000)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ETIMEDOUT)
        #expect(script.events(connection).contains([.failed, .closed]))
        #expect(script.tcp.connectionsTimedOut == 1)
        #expect(script.send(connection, 1) == ETIMEDOUT)
        #expect(script.stack.nextDeadline == nil)
        script.stack.release(connection)
        script.end()
    }

    // RFC 5482
    @Test("a user timeout ends the connection when data was unacknowledged for that long, and not before")
    func userTimeout() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.stack.setUserTimeout(connection, 5_000_000_000)
        script.advance(seconds: 1_000)
        #expect(script.state(connection) == .established)
        script.send(connection, 10)
        script.advance(4_900)
        #expect(script.state(connection) == .established)
        script.advance(10_000)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ETIMEDOUT)
    }

    @Test("acknowledgements of new data keep a user timeout from ending the connection")
    func userTimeoutWithProgress() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.stack.setUserTimeout(connection, 3_000_000_000)
        for index in 0..<20 {
            script.send(connection, 10)
            script.advance(2_000)
            script.peer(.ack, seq: 1, ack: 11 + 10 * index)
        }
        #expect(script.state(connection) == .established)
    }

    @Test("everything is sent again in order after a timeout, as acknowledgements come, each byte as it was")
    func goBack() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 10 * 1_460)
        #expect(script.takeSent().count == 10)
        script.advance(310)
        var acknowledged = 1
        var bytes: [UInt8] = []
        for _ in 0..<20 where acknowledged < 14_601 {
            for segment in script.takeSent() {
                #expect(segment.seq == acknowledged)
                bytes += segment.payload
                acknowledged += segment.length
            }
            script.peer(.ack, seq: 1, ack: acknowledged)
        }
        #expect(acknowledged == 14_601)
        #expect(bytes.elementsEqual(pattern(14_600)))
        #expect(script.stack.unacknowledgedByteCount(connection) == 0)
    }

    @Test("an acknowledgement of everything after a timeout ends the retransmission")
    func spuriousTimeout() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 10 * 1_460)
        #expect(script.takeSent().count == 10)
        script.advance(310)
        script.expect(.ack, seq: 1, length: 1_460)
        script.peer(.ack, seq: 1, ack: 14_601)
        script.expectNothing()
        #expect(script.stack.unacknowledgedByteCount(connection) == 0)
        script.send(connection, 100, from: 14_600)
        script.expect(.ack, seq: 14_601, length: 100)
        #expect(script.stack.nextDeadline != nil)
    }

    // RFC 9293, section 3.4: an acknowledgement whose sequence number lies before the window tells the peer nothing.
    @Test("while data is sent again, acknowledgements of the peer's data carry a sequence number that it takes")
    func acknowledgementWhileSendingAgain() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 4 * 1_460)
        #expect(script.takeSent().count == 4)
        script.advance(310)
        _ = script.takeSent()
        // The peer has everything; only its acknowledgements are lost.
        for index in 0..<2 { script.peer(.psh, seq: 1 + 100 * index, ack: 1, length: 100) }
        script.advance(50)
        let answers = script.takeSent().filter { $0.length == 0 }
        #expect(answers.last?.ack == 201)
        #expect(answers.last?.seq == 1 + 4 * 1_460)
    }

    @Test("the delayed acknowledgement does not wait for the retransmission timer")
    func delayedAcknowledgementBesideRetransmission() throws {
        let script = try SegmentScript()
        let connection = connection(script)
        script.send(connection, 10)
        script.expect(.ack, seq: 1, length: 10)
        script.advance(290)
        script.peer(.psh, seq: 1, ack: 1, length: 10)
        script.advance(20)
        // The retransmission carries the acknowledgement with it.
        script.expect(.ack, seq: 1, ack: 11, length: 10)
        script.advance(590)
        script.peer(.psh, seq: 11, ack: 1, length: 10)
        script.advance(45)
        #expect(script.takeSent().contains { $0.ack == 21 })
    }
}
