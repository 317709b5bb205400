import Glibc
import NetworkStack
import Testing
import WireFormats

/// TIME_WAIT and what may end it (RFC 9293, section 3.6; RFC 6191).
@Suite("TCP: TIME_WAIT") struct TimeWaitTests {
    /// A connection of a listener that the stack's side has closed first.
    private func timeWait(_ script: SegmentScript, timestamp: UInt32? = nil, listens: Bool = true) -> UInt32 {
        let listener = script.listener()
        let connection = script.accepted(listener, timestamp: timestamp)
        script.close(connection)
        script.expect([.fin, .ack], seq: 1, ack: 1)
        script.peer(.fin, seq: 1, ack: 2)
        script.expect(.ack, seq: 2, ack: 2)
        #expect(script.state(connection) == .timeWait)
        if !listens { script.close(listener) }
        return connection
    }

    @Test("it lasts twice the maximum segment lifetime")
    func duration() throws {
        let script = try SegmentScript { $0.tcp.maximumSegmentLifetime = 10_000_000_000 }
        let connection = timeWait(script)
        script.advance(19_999)
        #expect(script.state(connection) == .timeWait)
        script.advance(2)
        #expect(script.state(connection) == .closed)
        #expect(script.events(connection).contains(.closed))
        script.expectNothing()
    }

    @Test("a retransmitted FIN is acknowledged and begins it anew")
    func retransmittedFinish() throws {
        let script = try SegmentScript()
        let connection = timeWait(script)
        script.advance(seconds: 50)
        script.peer(.fin, seq: 1, ack: 2)
        script.expect(.ack, seq: 2, ack: 2)
        script.advance(seconds: 59)
        #expect(script.state(connection) == .timeWait)
        script.advance(seconds: 2)
        #expect(script.state(connection) == .closed)
    }

    @Test("other segments do not prolong it")
    func otherSegments() throws {
        let script = try SegmentScript()
        let connection = timeWait(script)
        for _ in 0..<6 {
            script.advance(seconds: 9)
            script.peer(.ack, seq: 2, ack: 2)
            script.peer(.ack, seq: 1, ack: 2, length: 1)
        }
        #expect(script.state(connection) == .timeWait)
        script.advance(seconds: 7)
        #expect(script.state(connection) == .closed)
    }

    // RFC 6191, section 2, of a previous incarnation without timestamps
    @Test("without timestamps, a SYN with a greater sequence number makes a new connection; another one does not")
    func reuseWithoutTimestamps() throws {
        let script = try SegmentScript()
        let connection = timeWait(script)
        script.peer(.syn, seq: 1, mss: 1_460)
        for answer in script.takeSent() { #expect(answer.flags == .ack) }
        script.peer(.syn, seq: -1_000, mss: 1_460)
        for answer in script.takeSent() { #expect(answer.flags == .ack) }
        #expect(script.state(connection) == .timeWait)
        script.peer(.syn, seq: 100_000, mss: 1_460)
        let answer = script.expect([.syn, .ack])
        #expect(answer.ack == 100_001)
        // RFC 9293, section 3.4.2: the new sequence numbers lie behind the old ones.
        #expect(answer.seq > 2)
        #expect(script.tcp.timeWaitReused == 1)
        #expect(script.state(connection) == .closed)
    }

    @Test("a SYN with timestamps makes a new connection where the old one had none")
    func reuseWithNewTimestamps() throws {
        // "If TCP Timestamps would be enabled for the new incarnation of the connection, honor the incoming connection request."
        let script = try SegmentScript()
        _ = timeWait(script)
        script.peer(.syn, seq: -1_000, mss: 1_460, timestamp: 77)
        let answer = script.expect([.syn, .ack])
        #expect(answer.ack == -999)
        #expect(answer.timestamps?.echo == 77)
    }

    @Test("with timestamps, a later one makes a new connection whatever the sequence number, an earlier one does not")
    func reuseWithTimestamps() throws {
        let script = try SegmentScript()
        let connection = timeWait(script, timestamp: 1_000)
        script.peer(.syn, seq: 100_000, mss: 1_460, timestamp: 999)
        for answer in script.takeSent() { #expect(answer.flags == .ack) }
        #expect(script.state(connection) == .timeWait)
        // The same timestamp: the sequence number decides.
        script.peer(.syn, seq: -100, mss: 1_460, timestamp: 1_000)
        for answer in script.takeSent() { #expect(answer.flags == .ack) }
        #expect(script.state(connection) == .timeWait)
        script.peer(.syn, seq: -100, mss: 1_460, timestamp: 1_001)
        let answer = script.expect([.syn, .ack])
        #expect(answer.ack == -99)
        #expect(script.state(connection) == .closed)
    }

    @Test("with timestamps, the same one and a greater sequence number make a new connection")
    func reuseWithEqualTimestamp() throws {
        let script = try SegmentScript()
        _ = timeWait(script, timestamp: 1_000)
        script.peer(.syn, seq: 5_000, mss: 1_460, timestamp: 1_000)
        #expect(script.expect([.syn, .ack]).ack == 5_001)
    }

    @Test("a SYN without timestamps follows a connection with them by its sequence number")
    func reuseWithLostTimestamps() throws {
        let script = try SegmentScript()
        let connection = timeWait(script, timestamp: 1_000)
        script.peer(.syn, seq: -5, mss: 1_460, noTimestamp: true)
        for answer in script.takeSent() { #expect(answer.flags == .ack) }
        #expect(script.state(connection) == .timeWait)
        script.peer(.syn, seq: 5_000, mss: 1_460, noTimestamp: true)
        #expect(script.expect([.syn, .ack]).ack == 5_001)
    }

    @Test("a SYN that nobody listens for is challenged, and TIME_WAIT goes on")
    func synchronizeWithoutListener() throws {
        let script = try SegmentScript()
        let connection = timeWait(script, listens: false)
        script.peer(.syn, seq: 100_000, mss: 1_460)
        script.expect(.ack, seq: 2, ack: 2)
        #expect(script.state(connection) == .timeWait)
    }

    @Test("a reset at RCV.NXT ends it")
    func reset() throws {
        let script = try SegmentScript()
        let connection = timeWait(script)
        script.peer(.rst, seq: 1)
        #expect(script.state(connection) == .timeWait)
        script.peer(.rst, seq: 2)
        script.expectNothing()
        #expect(script.state(connection) == .closed)
    }

    @Test("at the limit the oldest one ends early")
    func limit() throws {
        let script = try SegmentScript { $0.limits.maximumTimeWait = 3 }
        let listener = script.listener()
        var connections: [UInt32] = []
        for index in 0..<5 {
            script.remotePort = 6_000 + UInt16(index)
            let connection = script.accepted(listener)
            script.close(connection)
            script.expect([.fin, .ack], seq: 1, ack: 1)
            script.peer(.fin, seq: 1, ack: 2)
            script.expect(.ack, seq: 2, ack: 2)
            connections.append(connection)
        }
        #expect(connections.map { script.state($0) } == [.closed, .closed, .timeWait, .timeWait, .timeWait])
        #expect(script.tcp.timeWaitEvicted == 2)
    }

    @Test("connections in TIME_WAIT give way to new ones when all slots are taken")
    func slotsAreReused() throws {
        let script = try SegmentScript { $0.limits.maximumConnections = 4 }
        let listener = script.listener()
        for index in 0..<20 {
            script.remotePort = 6_000 + UInt16(index)
            let connection = script.accepted(listener)
            script.close(connection)
            script.peer(.fin, seq: 1, ack: 2)
            _ = script.takeSent()
            script.stack.release(connection)
            _ = script.events(0)
        }
        #expect(script.stack.statistics.connections == 4)
    }
}
