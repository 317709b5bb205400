import NetworkStack
import Testing
import WireFormats

/// Segments that leave at a rate (SO_MAX_PACING_RATE). One segment is 1,000 bytes.
@Suite("TCP: pacing") struct PacingTests {
    private static func established(_ rate: UInt64) throws -> (script: SegmentScript, connection: UInt32) {
        let script = try SegmentScript { $0.tcp.offersTimestamps = false }
        let connection = script.established(mss: 1_000, scale: 7, sackPermitted: true)
        script.stack.setMaximumPacingRate(connection, rate)
        return (script, connection)
    }

    /// When segments with data left, in milliseconds from now on.
    private static func departures(_ script: SegmentScript, milliseconds: Int) -> [Double] {
        let start = script.now
        script.advance(milliseconds)
        return script.takeSent().filter { $0.length > 0 }.map { Double($0.time - start) / 1e6 }
    }

    @Test("at a million bytes a second the segments of a push leave 1 ms apart, no more than three together")
    func rate() throws {
        let (script, connection) = try Self.established(1_000_000)
        script.send(connection, 10_000)
        let times = Self.departures(script, milliseconds: 40)
        #expect(times.count == 10)
        for index in times.indices {
            #expect(times.filter { $0 == times[index] }.count <= 3)
            // Three may go ahead of the rate, and none is late by more than what goes together.
            #expect(times[index] >= Double(index - 3) && times[index] <= Double(index + 3))
        }
        #expect(script.stack.statistics.tcp.pacingDelays > 0)
        #expect(script.stack.connectionInformation(connection).pacingRate == 1_000_000)
        script.end()
    }

    @Test("without it they leave together")
    func unpaced() throws {
        let (script, connection) = try Self.established(0)
        script.send(connection, 10_000)
        #expect(Self.departures(script, milliseconds: 0).count == 10)
        #expect(script.stack.connectionInformation(connection).pacingRate == 0)
        script.end()
    }

    @Test("what waits goes at once when pacing is switched off")
    func switchedOff() throws {
        let (script, connection) = try Self.established(10_000)
        script.send(connection, 10_000)
        let first = Self.departures(script, milliseconds: 0).count
        #expect(first <= 3)
        script.stack.setMaximumPacingRate(connection, 0)
        script.collect()
        #expect(Self.departures(script, milliseconds: 0).count == 10 - first)
        script.end()
    }

    @Test("without a bound of the program's the window is spread over less than a round trip")
    func windowRate() throws {
        let script = try SegmentScript { $0.tcp.offersTimestamps = false }
        let (connection, _) = script.connect()
        script.advance(100)
        script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_000, scale: 7, sackPermitted: true)
        script.expect(.ack, seq: 1, ack: 1)
        script.stack.setMaximumPacingRate(connection, .max)
        script.send(connection, 10_000)
        // In slow start twice the window in a round trip.
        #expect(script.stack.connectionInformation(connection).pacingRate == 2 * 10_000 * 10)
        let times = Self.departures(script, milliseconds: 99)
        #expect(times.count == 10 && (30...55).contains(times.last ?? 0))
        script.end()
    }

    @Test("the connections of a listener have its rate")
    func listener() throws {
        let script = try SegmentScript { $0.tcp.offersTimestamps = false }
        let listener = script.listener()
        script.stack.setMaximumPacingRate(listener, 77_000)
        let connection = script.accepted(listener, mss: 1_000)
        #expect(script.stack.maximumPacingRate(connection) == 77_000)
    }

    @Test("a flood of SYNs, which are answered with cookies, takes nothing from the connections that follow")
    func cookies() throws {
        let script = try SegmentScript {
            $0.limits.maximumConnections = 8
            $0.limits.maximumHalfOpen = 1
        }
        let listener = script.listener()
        script.stack.setMaximumPacingRate(listener, 77_000)
        for port in 6_000..<6_040 { script.peer(.syn, seq: 0, mss: 1_000, port: UInt16(port)) }
        #expect(script.stack.statistics.tcp.cookiesSent == 39)
        script.peer(.ack, seq: 1, ack: 1, port: 6_000)
        #expect(script.stack.accept(listener, owner: 3) != 0)
        script.peer(.syn, seq: 0, mss: 1_000, port: 7_000)
        script.peer(.ack, seq: 1, ack: 1, port: 7_000)
        let connection = script.stack.accept(listener, owner: 4)
        #expect(connection != 0 && script.stack.maximumPacingRate(connection) == 77_000)
    }

    @Test("a probe does not wait for its turn, and takes nothing else with it")
    func probe() throws {
        let (script, connection) = try Self.established(1_000)
        script.send(connection, 10_000)
        let first = Self.departures(script, milliseconds: 0).count
        // Two seconds for the next ones by their turn; a probe of one segment before.
        #expect(Self.departures(script, milliseconds: 190).count == 1)
        #expect(first <= 3 && script.stack.statistics.tcp.tailLossProbes == 1)
    }

    // RFC 6298, section 5.4
    @Test("the earliest segment does not wait for its turn when the retransmission timer expires", arguments: [false, true])
    func timeout(permitsSelective: Bool) throws {
        let script = try SegmentScript { $0.tcp.offersTimestamps = false }
        let connection = script.established(mss: 500, scale: 7, sackPermitted: permitsSelective)
        script.stack.setMaximumPacingRate(connection, 250)
        script.send(connection, 3_000)
        let first = Self.departures(script, milliseconds: 0).count
        // Two seconds for each, and as much again until one more goes alone.
        #expect((1...3).contains(first))
        script.advance(3_500)
        let timeouts = script.stack.statistics.tcp.retransmissionTimeouts
        #expect(timeouts >= 2)
        #expect(script.takeSent().count { $0.seq == 1 && $0.length == 500 } == timeouts)
    }

    @Test("a user timeout and a fixed send buffer are two things")
    func flags() throws {
        let (script, connection) = try Self.established(0)
        script.stack.setSendBuffer(connection, byteCount: 20_000)
        script.stack.setUserTimeout(connection, 5_000_000_000)
        script.stack.setUserTimeout(connection, 0)
        #expect(script.stack.isSendBufferFixed(connection))
    }
}
