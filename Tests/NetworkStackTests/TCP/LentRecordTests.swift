import Glibc
import Testing
import WireFormats

@testable import NetworkStack

/// What a connection is lent beside its record, and when it gives it back: the memory of connections that idle, and of what peers can provoke.
@Suite("TCP: lent records") struct LentRecordTests {
    /// A connection that may send selective acknowledgements, and has `count` segments of 1,000 bytes in flight.
    private func sender(segments count: Int, _ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws -> (script: SegmentScript, connection: UInt32) {
        let script = try SegmentScript {
            $0.tcp.maximumSegmentSize = 1_000
            configure(&$0)
        }
        let connection = script.established(mss: 1_000, scale: 7, sackPermitted: true)
        script.advance(100)
        script.send(connection, count * 1_000)
        _ = script.takeSent()
        return (script, connection)
    }

    private func lose(first script: SegmentScript) {
        for end in 2...4 { script.peer(.ack, seq: 1, ack: 1, sack: [1_001..<1 + end * 1_000]) }
        _ = script.takeSent()
    }

    @Test("a connection's record is no larger than it has to be")
    func size() {
        #expect(MemoryLayout<Connection>.stride <= 624)
    }

    @Test("requests and their answers borrow nothing")
    func plain() throws {
        let script = try SegmentScript()
        let connection = script.established(scale: 7, timestamp: 1_000, sackPermitted: true)
        for round in 0..<20 {
            let start = 1 + 100 * round
            script.peer(.psh, seq: start, ack: start, length: 100)
            #expect(script.receive(connection).count == 100)
            script.send(connection, 100)
            script.peer(.ack, seq: start + 100, ack: start + 100)
            script.advance(1_000)
        }
        #expect(script.state(connection) == .established)
        #expect(script.tcp.lentRecords == 0)
    }

    @Test("slow start's rounds are forgotten with the pause behind them")
    func slowStart() throws {
        let (script, connection) = try sender(segments: 20)
        script.peer(.ack, seq: 1, ack: 5_001)
        _ = script.takeSent()
        #expect(script.tcp.lentRecords == 1)
        script.peer(.ack, seq: 1, ack: 20_001)
        #expect(script.tcp.lentRecords == 1)
        script.advance(seconds: 3)
        #expect(script.tcp.lentRecords == 0)
        // It goes on as any other does behind a pause.
        script.send(connection, 20_000)
        #expect(script.takeSent().count == 10)
    }

    @Test("a recovery's state is given back, and what the loss has taught is kept to the connection's end")
    func recovery() throws {
        let (script, connection) = try sender(segments: 10)
        lose(first: script)
        #expect(script.tcp.selectiveRecoveries == 1)
        #expect(script.tcp.lentRecords == 2)
        script.peer(.ack, seq: 1, ack: 10_001)
        #expect(script.tcp.lentRecords == 2)
        script.advance(seconds: 3)
        #expect(script.tcp.lentRecords == 1)
        #expect(script.stack.connectionInformation(connection).slowStartThreshold != nil)
        script.abort(connection)
        #expect(script.tcp.lentRecords == 0)
    }

    @Test("what is missing, or in flight, keeps the state however long it takes")
    func unfinished() throws {
        let script = try SegmentScript()
        let connection = script.established(sackPermitted: true)
        script.peer(.psh, seq: 101, ack: 1, length: 100)
        script.expect(.ack, seq: 1, ack: 1)
        script.advance(seconds: 100)
        #expect(script.tcp.lentRecords == 1)
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        #expect(script.receive(connection) == pattern(200))
        script.advance(seconds: 3)
        #expect(script.tcp.lentRecords == 0)
    }

    @Test("pieces behind the peer's FIN are dropped with it, and keep nothing lent")
    func piecesBehindTheEnd() throws {
        let script = try SegmentScript()
        let connection = script.established(sackPermitted: true)
        script.peer(.psh, seq: 201, ack: 1, length: 100)
        script.expect(.ack, seq: 1, ack: 1)
        #expect(script.tcp.lentRecords == 1)
        script.advance(seconds: 100)
        script.peer([.fin, .psh], seq: 1, ack: 1, length: 100)
        #expect(script.receive(connection) == pattern(100))
        #expect(script.state(connection) == .closeWait)
        _ = script.takeSent()
        script.advance(seconds: 3)
        #expect(script.tcp.lentRecords == 0)
    }

    @Test("setting what holds anyway borrows nothing")
    func defaults() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.stack.setLinger(connection, seconds: nil)
        script.stack.setUserTimeout(connection, 0)
        script.stack.setKeepAlive(connection, nil)
        #expect(script.tcp.lentRecords == 0)
        script.stack.setLinger(connection, seconds: 3)
        script.stack.setUserTimeout(connection, 1_000_000_000)
        script.stack.setLinger(connection, seconds: nil)
        script.stack.setUserTimeout(connection, 0)
        #expect(script.stack.linger(connection) == nil && script.stack.userTimeout(connection) == 0)
    }

    @Test("a patient program may wait through more timeouts than the number of them holds")
    func patience() throws {
        let script = try SegmentScript {
            $0.tcp.minimumRetransmissionTimeout = 1_000_000
            $0.tcp.initialRetransmissionTimeout = 2_000_000
            $0.tcp.maximumRetransmissionTimeout = 2_000_000
        }
        let connection = script.established()
        script.stack.setUserTimeout(connection, 1_000_000_000_000)
        script.send(connection, 100)
        for _ in 0..<66_000 {
            script.advance(3)
            _ = script.takeSent()
        }
        #expect(script.tcp.retransmissionTimeouts > 65_536)
        script.peer(.ack, seq: 1, ack: 101)
        #expect(script.stack.connectionInformation(connection).bytesInFlight == 0)
    }

    @Test("who has used up the answers of a second gets no more for giving the record back (RFC 5961, section 7)")
    func answers() throws {
        let script = try SegmentScript { $0.limits.challengesPerSecond = 10 }
        let connection = script.established()
        // Its last segment is long ago.
        script.advance(seconds: 10)
        for index in 0..<20 { script.peer(.rst, seq: 2 + index) }
        #expect(script.takeSent().count == 10)
        script.advance(900)
        for index in 0..<20 { script.peer(.rst, seq: 2 + index) }
        #expect(script.takeSent().count == 0)
        #expect(script.tcp.lentRecords == 1)
        script.advance(seconds: 2)
        #expect(script.tcp.lentRecords == 0)
        #expect(script.state(connection) == .established)
    }

    @Test("TIME_WAIT has one until it is over")
    func timeWait() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.close(connection)
        script.stack.release(connection)
        script.expect([.fin, .ack], seq: 1, ack: 1)
        script.peer([.fin, .ack], seq: 1, ack: 2)
        script.expect(.ack, seq: 2, ack: 2)
        _ = script.events(connection)
        #expect(script.tcp.lentRecords == 1)
        script.advance(seconds: 61)
        #expect(script.tcp.lentRecords == 0 && script.stack.statistics.connections == 0)
    }

    @Test("a listener has its queues once, and its connections what was set on it")
    func listener() throws {
        let script = try SegmentScript { $0.limits.maximumHalfOpen = 2 }
        let listener = script.listener()
        #expect(script.stack.listen(listener, backlog: 5) == 0)
        #expect(script.tcp.lentRecords == 1)
        script.stack.setLinger(listener, seconds: 7)
        script.stack.setUserTimeout(listener, 5_000_000_000)
        #expect(script.tcp.lentRecords == 2)
        let connection = script.accepted(listener)
        #expect(script.stack.linger(connection) == 7 && script.stack.userTimeout(connection) == 5_000_000_000)
        #expect(script.stack.keepAlive(connection) == nil)
        #expect(script.tcp.lentRecords == 3)
        // Those beyond the limit of half-open ones get a cookie, and nothing else.
        for port in 6_000..<6_100 { script.peer(.syn, seq: 0, mss: 1_460, port: UInt16(port)) }
        #expect(script.tcp.cookiesSent == 98)
        #expect(script.tcp.lentRecords == 5)
        script.abort(connection)
        script.stack.release(connection)
        script.close(listener)
        script.stack.release(listener)
        #expect(script.events(listener).isEmpty)
        #expect(script.tcp.lentRecords == 0 && script.stack.statistics.connections == 0)
    }

    @Test("a slot whose last connection ended in a recovery, with all options set, begins as if it were new", arguments: [CongestionControlAlgorithm.cubic, .newReno, .bbr])
    func reusedSlot(_ algorithm: CongestionControlAlgorithm) throws {
        let (script, connection) = try sender(segments: 30) { $0.tcp.congestionControl = algorithm }
        script.stack.setKeepAlive(connection, (idle: 5_000_000_000, interval: 1_000_000_000))
        script.stack.setUserTimeout(connection, 9_000_000_000)
        script.stack.setLinger(connection, seconds: 3)
        // A gap at either side, a duplicate to report, and a loss that is being repaired.
        script.peer(.psh, seq: 101, ack: 1, length: 100)
        script.peer(.psh, seq: 101, ack: 1, length: 100)
        lose(first: script)
        script.advance(seconds: 2)
        #expect(script.tcp.retransmittedSegments > 0)
        // The second's challenges are used up.
        for index in 0..<20 { script.peer(.rst, seq: 302 + index) }
        #expect(script.drops(.challengeRateLimited) == 10)
        script.abort(connection)
        script.stack.release(connection)
        #expect(script.events(connection).isEmpty && script.stack.statistics.connections == 0)
        #expect(script.tcp.lentRecords == 0)
        _ = script.takeSent()

        script.stackISN = 0x2000_0000
        let next = script.established(mss: 1_000, scale: 7, sackPermitted: true)
        #expect(next == connection)
        let information = script.stack.connectionInformation(next)
        #expect(information.slowStartThreshold == nil && information.retransmittedSegments == 0 && information.congestionControl == algorithm)
        #expect(script.stack.keepAlive(next) == nil && script.stack.userTimeout(next) == 0 && script.stack.linger(next) == nil)
        let before = script.tcp
        // What it is lent is new as well: what was set and counted before is not in it.
        script.stack.setLinger(next, seconds: 9)
        #expect(script.stack.keepAlive(next) == nil && script.stack.userTimeout(next) == 0 && script.stack.linger(next) == 9)
        for index in 0..<20 { script.peer(.rst, seq: 302 + index) }
        #expect(script.takeSent().count == 10)
        script.peer(.psh, seq: 1_001, ack: 1, length: 100)
        #expect(script.expect(.ack, seq: 1, ack: 1).sackBlocks == [1_001..<1_101])
        #expect(script.tcp.lentRecords == 2)
        // Nothing is kept of the gaps: these are all bytes of the stream, and the last acknowledgement tells of none behind them.
        script.peer(.psh, seq: 1, ack: 1, length: 500)
        script.peer(.psh, seq: 501, ack: 1, length: 500)
        #expect(script.takeSent().last?.ack == 1_101 && script.receive(next) == pattern(1_100))
        script.send(next, 10_000)
        #expect(script.takeSent().map(\.seq) == (0..<10).map { 1 + 1_000 * $0 })
        script.peer(.ack, seq: 1_101, ack: 10_001)
        script.advance(seconds: 20)
        #expect(script.state(next) == .established)
        #expect(script.tcp.retransmittedSegments == before.retransmittedSegments && script.tcp.keepAliveProbes == before.keepAliveProbes)
        #expect(script.tcp.spuriousRecoveries == before.spuriousRecoveries)
        script.abort(next)
    }
}
