import Glibc
import NetworkStack
import Testing
import WireFormats

/// Blind attacks (RFC 5961), timestamps and window scaling (RFC 7323), ICMP errors (RFC 5927, RFC 9293 section 3.9.2.2).
@Suite("TCP: defences") struct DefenceTests {
    // MARK: RFC 5961

    @Test("challenge acknowledgements are limited, and come again later (section 7)")
    func challengeLimit() throws {
        let script = try SegmentScript { $0.limits.challengesPerSecond = 10 }
        let connection = script.established()
        for index in 0..<1_000 { script.peer(.rst, seq: 2 + index) }
        #expect(script.takeSent().count == 10)
        #expect(script.drops(.challengeRateLimited) == 990)
        script.advance(1_001)
        for index in 0..<5 { script.peer([.syn, .ack], seq: index, ack: 1) }
        #expect(script.takeSent().count == 5)
        #expect(script.state(connection) == .established)
        script.send(connection, 10)
        script.expect(.ack, seq: 1, length: 10)
    }

    // RFC 9293, section 3.8.6.1: the peer keeps the connection as long as its probes are answered.
    @Test("zero-window probes and duplicates are answered also when all challenges of the second are spent")
    func challengesLeaveProbesTheirAnswers() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.stack.setReceiveBuffer(connection, byteCount: 2_048)
        var next = 1
        // The first window was promised: it is kept, then it closes.
        while true {
            script.peer(.psh, seq: next, ack: 1, length: 1_000)
            script.advance(50)
            guard let answer = script.takeSent().last, answer.ack == next + 1_000 else { break }
            next = answer.ack
            if answer.window == 0 { break }
        }
        let edge = script.stack.receivableByteCount(connection) + 1
        for _ in 0..<50 { script.peer(.ack, seq: edge, ack: 1_000_000) }
        #expect(script.takeSent().count == 10)
        script.peer(.ack, seq: edge, ack: 1, length: 1)
        script.expect(.ack, seq: 1, ack: edge, window: 0)
        for _ in 0..<1_000 { script.peer(.psh, seq: 1, ack: 1, length: 10) }
        #expect(script.takeSent().count == 100)
        #expect(script.drops(.acknowledgementRateLimited) == 900)
        // Neither do duplicates take anything from the probes, which have a bound as well.
        for _ in 0..<1_000 { script.peer(.ack, seq: edge, ack: 1, length: 1) }
        #expect(script.takeSent().count == 99)
        #expect(script.state(connection) == .established)
    }

    @Test("resets to nobody's segments are limited")
    func resetLimit() throws {
        let script = try SegmentScript { $0.limits.resetsPerSecond = 20 }
        for index in 0..<1_000 { script.peer(.ack, seq: index, ack: 1) }
        #expect(script.takeSent().count == 20)
        #expect(script.drops(.resetRateLimited) == 980)
        script.advance(1_000)
        script.peer(.ack, seq: 0, ack: 1)
        script.expect(.rst, seq: 1)
    }

    @Test("data that was injected blindly, with an acknowledgement out of range, is not taken (section 5)")
    func blindData() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 10_000)
        for acknowledgement in [-10_001, -1_000_000, 2, 1_000_000, 1 << 30] {
            script.peer(.psh, seq: 1, ack: acknowledgement, length: 100)
            script.expect(.ack, seq: 1, ack: 1)
        }
        #expect(script.stack.receivableByteCount(connection) == 0)
    }

    @Test("initial sequence numbers of different connections tell nothing of each other (RFC 6528)")
    func initialSequenceNumbers() throws {
        let script = try SegmentScript { $0.tcp.fixedInitialSequenceNumber = nil }
        var numbers = Set<UInt32>()
        for _ in 0..<50 {
            let connection = script.stack.makeConnection(owner: 1)
            #expect(script.stack.connect(connection, to: Endpoint(address: SegmentScript.remote, port: 9)) == 0)
            script.collect()
            numbers.insert(script.takeSent()[0].rawSequence >> 16)
        }
        #expect(numbers.count > 45)
    }

    @Test("the same four numbers get a later sequence number later (RFC 6528: 4 microseconds)")
    func initialSequenceNumberClock() throws {
        let script = try SegmentScript { $0.tcp.fixedInitialSequenceNumber = nil }
        _ = script.listener()
        script.peer(.syn, seq: 0)
        let first = script.takeSent()[0].rawSequence
        script.peer(.rst, seq: 1)
        script.advance(1_000)
        script.peer(.syn, seq: 0)
        let second = script.takeSent()[0].rawSequence
        #expect(second &- first == 250_000)
    }

    // MARK: Window scale (RFC 7323, section 2)

    @Test("the window scale of both sides is used once both have offered it, never in a SYN")
    func windowScale() throws {
        let script = try SegmentScript { $0.tcp.windowScale = 3 }
        let (connection, synchronize) = script.connect()
        #expect(synchronize.windowScale == 3)
        #expect(synchronize.window == 65_535)
        script.peer([.syn, .ack], seq: 0, ack: 1, window: 100, mss: 1_460, scale: 4)
        // 65,535 promised in the SYN, in units of 8.
        let answer = script.expect(.ack, seq: 1, ack: 1)
        #expect(answer.window << 3 >= 65_535 && answer.window << 3 <= 65_536 + 8)
        script.send(connection, 10_000)
        // The window of the SYN was 100 bytes.
        #expect(script.takeSent().reduce(0) { $0 + $1.length } == 100)
        script.peer(.ack, seq: 1, ack: 101, window: 100)
        // Now it is 1,600.
        #expect(script.takeSent().reduce(0) { $0 + $1.length } == 1_460)
    }

    @Test("a listener answers a window scale with its own, and scales by it")
    func windowScaleOfListener() throws {
        let script = try SegmentScript { $0.tcp.windowScale = 5 }
        let listener = script.listener()
        script.peer(.syn, seq: 0, window: 200, mss: 1_460, scale: 2)
        let answer = script.expect([.syn, .ack], seq: 0, ack: 1)
        #expect(answer.windowScale == 5)
        #expect(answer.window == 65_535)
        script.peer(.ack, seq: 1, ack: 1, window: 200)
        let connection = script.stack.accept(listener, owner: 3)
        script.send(connection, 5_000)
        #expect(script.takeSent().reduce(0) { $0 + $1.length } <= 800)
    }

    @Test("without an offer from the peer nothing is scaled")
    func noWindowScale() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 1_000)
        script.peer(.psh, seq: 1, ack: 1, window: 1_000, length: 1_000)
        script.advance(50)
        let answer = script.expect(.ack, ack: 1_001)
        #expect(answer.window > 60_000)
        #expect(script.stack.receiveBuffer(connection) <= 65_535)
        let listener = script.listener()
        script.remotePort = 7_000
        script.peer(.syn, seq: 0)
        #expect(script.expect([.syn, .ack]).windowScale == nil)
        _ = listener
    }

    @Test("a shift count of more than 14 is taken as 14")
    func largeWindowScale() throws {
        for shift in [14, 15, 30, 64, 254] {
            let script = try SegmentScript()
            let connection = script.established(scale: shift)
            script.peer(.ack, seq: 1, ack: 1, window: 1)
            // 1 << 14 bytes.
            script.send(connection, 40_000)
            var sent = script.takeSent().reduce(0) { $0 + $1.length }
            for _ in 0..<10 {
                script.peer(.ack, seq: 1, ack: 1 + sent, window: 1)
                sent += script.takeSent().reduce(0) { $0 + $1.length }
            }
            #expect(sent == 40_000)
        }
    }

    @Test("a window scale on anything but a SYN is ignored")
    func lateWindowScale() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 1_000)
        script.peer(.ack, seq: 1, ack: 1, window: 1_000, scale: 8)
        script.send(connection, 5_000)
        #expect(script.takeSent().reduce(0) { $0 + $1.length } == 1_000)
    }

    // MARK: Timestamps (RFC 7323, section 3 to 5)

    @Test("timestamps are echoed: the SYN's, then the last one that was acknowledged")
    func timestampEcho() throws {
        let script = try SegmentScript()
        let (connection, synchronize) = script.connect()
        #expect(synchronize.timestamps != nil)
        #expect(synchronize.timestamps?.echo == 0)
        script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_460, timestamp: 1_000, echo: synchronize.timestamps?.value)
        #expect(script.expect(.ack, seq: 1).timestamps?.echo == 1_000)
        script.peer(.psh, seq: 1, ack: 1, timestamp: 1_005, length: 100)
        script.advance(50)
        #expect(script.expect(.ack, ack: 101).timestamps?.echo == 1_005)
        // Delayed acknowledgement of two: the earliest one (4.3: "the earliest unacknowledged segment").
        script.peer(.psh, seq: 101, ack: 1, timestamp: 1_010, length: 100)
        script.peer(.psh, seq: 201, ack: 1, timestamp: 1_020, length: 100)
        #expect(script.expect(.ack, ack: 301).timestamps?.echo == 1_010)
        // A hole: the last one that advanced the window; the filling of the hole: the filling one.
        script.peer(.psh, seq: 401, ack: 1, timestamp: 1_030, length: 100)
        #expect(script.expect(.ack, ack: 301).timestamps?.echo == 1_010)
        script.peer(.psh, seq: 301, ack: 1, timestamp: 1_025, length: 100)
        #expect(script.expect(.ack, ack: 501).timestamps?.echo == 1_025)
        _ = connection
    }

    @Test("the timestamp clock never goes back and moves (5.4: 1 ms to 1 s a tick)")
    func timestampClock() throws {
        let script = try SegmentScript()
        let connection = script.established(timestamp: 1)
        var last: UInt32?
        for index in 0..<20 {
            script.send(connection, 1)
            let value = script.expect(.ack, seq: 1 + index, length: 1).timestamps?.value ?? 0
            if let last { #expect(value &- last >= 90 && value &- last <= 101) }
            last = value
            script.peerTimestamp = UInt32(index + 2)
            script.peer(.ack, seq: 1, ack: 2 + index)
            script.advance(100)
        }
    }

    @Test("an old timestamp is answered and dropped (5.3)")
    func oldTimestamp() throws {
        let script = try SegmentScript()
        let connection = script.established(timestamp: 1_000)
        script.peer(.psh, seq: 1, ack: 1, timestamp: 999, length: 100)
        script.expect(.ack, seq: 1, ack: 1)
        #expect(script.stack.receivableByteCount(connection) == 0)
        #expect(script.tcp.oldTimestamps == 1)
        // Equal is not old.
        script.peer(.psh, seq: 1, ack: 1, timestamp: 1_000, length: 100)
        #expect(script.stack.receivableByteCount(connection) == 100)
        // A reset is not judged by its timestamp.
        script.peer(.rst, seq: 101, timestamp: 5)
        #expect(script.state(connection) == .closed)
    }

    @Test("timestamps wrap around")
    func timestampWrap() throws {
        let script = try SegmentScript()
        let connection = script.established(timestamp: 0xffff_fff0)
        script.peer(.psh, seq: 1, ack: 1, timestamp: 0xffff_ffff, length: 10)
        script.peer(.psh, seq: 11, ack: 1, timestamp: 5, length: 10)
        script.peer(.psh, seq: 21, ack: 1, timestamp: 0xffff_ffff, length: 10)
        script.peer(.psh, seq: 21, ack: 1, timestamp: 0x7fff_ffff, length: 10)
        #expect(script.stack.receivableByteCount(connection) == 30)
    }

    @Test("a segment without a timestamp is dropped in silence where timestamps were agreed on (3.2)")
    func missingTimestamp() throws {
        let script = try SegmentScript()
        let connection = script.established(timestamp: 1_000)
        script.peer(.psh, seq: 1, ack: 1, noTimestamp: true, length: 100)
        script.peer(.fin, seq: 1, ack: 1, noTimestamp: true)
        script.expectNothing()
        #expect(script.state(connection) == .established)
        #expect(script.stack.receivableByteCount(connection) == 0)
        script.peer(.rst, seq: 1, noTimestamp: true)
        #expect(script.state(connection) == .closed)
    }

    @Test("timestamps are not used when the SYN or its answer lacked them (1.3), even if they come later")
    func timestampsNotNegotiated() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 10)
        #expect(script.expect(.ack, seq: 1, length: 10).timestamps == nil)
        script.peer(.psh, seq: 1, ack: 11, timestamp: 1_000, length: 10)
        script.peer(.psh, seq: 11, ack: 11, timestamp: 1, length: 10)
        #expect(script.stack.receivableByteCount(connection) == 20)
        #expect(script.takeSent().allSatisfy { $0.timestamps == nil })
        let listener = script.listener()
        script.remotePort = 7_000
        script.peer(.syn, seq: 0)
        #expect(script.expect([.syn, .ack]).timestamps == nil)
        _ = listener
    }

    @Test("timestamps are not offered where they are switched off, and not answered")
    func timestampsSwitchedOff() throws {
        let script = try SegmentScript { $0.tcp.offersTimestamps = false }
        #expect(script.connect().synchronize.timestamps == nil)
        let listener = script.listener()
        script.remotePort = 7_000
        script.peer(.syn, seq: 0, timestamp: 7)
        #expect(script.expect([.syn, .ack]).timestamps == nil)
        _ = listener
    }

    @Test("a timestamp from behind the window does not become the recent one (4.3)")
    func timestampOfUnacceptableSegment() throws {
        let script = try SegmentScript()
        let connection = script.established(timestamp: 1_000)
        // Outside of the window: only answered.
        script.peer(.psh, seq: 1 + 100_000, ack: 1, timestamp: 0x7000_0000, length: 10)
        #expect(script.expect(.ack, ack: 1).timestamps?.echo == 1_000)
        // In the window behind a gap: SEG.SEQ > Last.ACK.sent.
        script.peer(.psh, seq: 1_001, ack: 1, timestamp: 0x7000_0000, length: 10)
        #expect(script.expect(.ack, ack: 1).timestamps?.echo == 1_000)
        script.peer(.psh, seq: 1, ack: 1, timestamp: 1_001, length: 10)
        #expect(script.stack.receivableByteCount(connection) == 10)
    }

    @Test("after 24 days of silence the recent timestamp is not believed any more (5.5)")
    func outdatedTimestamp() throws {
        let script = try SegmentScript()
        let connection = script.established(timestamp: 1_000)
        script.advance(seconds: 25 * 86_400)
        // The peer's clock has wrapped to the other half.
        let later: UInt32 = 1_000 &+ 0x8000_0010
        script.peer(.psh, seq: 1, ack: 1, timestamp: later, length: 10)
        #expect(script.stack.receivableByteCount(connection) == 10)
        script.peer(.psh, seq: 11, ack: 1, timestamp: later + 1, length: 10)
        #expect(script.stack.receivableByteCount(connection) == 20)
        // From here on it is the recent one.
        script.peer(.psh, seq: 21, ack: 1, timestamp: later - 1, length: 10)
        #expect(script.stack.receivableByteCount(connection) == 20)
    }

    @Test("the round-trip time is taken from the echo of an acknowledgement of retransmitted data, and of no nonsense")
    func timestampMeasurement() throws {
        for nonsense in [false, true] {
            let script = try SegmentScript()
            let (connection, synchronize) = script.connect()
            script.advance(100)
            script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_460, timestamp: 1_000, echo: synchronize.timestamps?.value)
            _ = script.takeSent()
            script.send(connection, 100)
            let lost = script.expect(.ack, seq: 1, length: 100)
            script.advance(305)
            let again = script.expect(.ack, seq: 1, length: 100)
            script.advance(100)
            let echo = nonsense ? (lost.timestamps?.value ?? 0) &+ 0x4000_0000 : again.timestamps?.value
            script.peer(.ack, seq: 1, ack: 101, timestamp: 1_100, echo: echo)
            script.send(connection, 100)
            let first = script.expect(.ack, seq: 101, length: 100)
            script.advance(1_000)
            let second = script.expect(.ack, seq: 101, length: 100)
            let timeout = Double(second.time - first.time) / 1_000_000
            // With the echo a measurement of about 100 ms: RTO about 250; without one it stays backed off: 600.
            #expect(nonsense ? abs(timeout - 600) < 5 : abs(timeout - 250) < 10)
        }
    }

    // MARK: ICMP errors

    private func controlMessage(_ script: SegmentScript, type: UInt8, code: UInt8, seq: Int, rest: [UInt8] = [0, 0, 0, 0]) {
        var packet: [UInt8] = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0] + ipv4Bytes(SegmentScript.local) + ipv4Bytes(SegmentScript.remote)
        packet.replaceSubrange(10..<12, with: bigEndian(internetChecksum(packet)))
        let tcp = bigEndian(script.localPort) + bigEndian(script.remotePort) + bigEndian32(script.stackISN &+ UInt32(truncatingIfNeeded: seq))
        var message = [type, code, 0, 0] + rest + packet + tcp
        message.replaceSubrange(2..<4, with: bigEndian(internetChecksum(message)))
        script.injectPacket(protocolNumber: 1, message, source: IPAddress.ipv4(10, 0, 0, 254))
    }

    @Test("a hard error refuses a connection that is being opened", arguments: [(2, ENOPROTOOPT), (3, ECONNREFUSED)])
    func hardError(_ code: Int, _ expected: Int32) throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        controlMessage(script, type: 3, code: UInt8(code), seq: 0)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == expected)
    }

    // RFC 9293, section 3.9.2.2: MUST-56
    @Test("a soft error does not end the opening of a connection, and tells why if it fails later", arguments: [(3, 0), (3, 1), (3, 5), (11, 0), (12, 0)])
    func softError(_ type: Int, _ code: Int) throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        controlMessage(script, type: UInt8(type), code: UInt8(code), seq: 0)
        #expect(script.state(connection) == .synSent)
        script.advance(1_100)
        script.expect(.syn, seq: 0)
        script.advance(seconds: 1_000)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) != 0)
        if type == 3 && code < 2 { #expect(script.stack.connectionError(connection) == (code == 0 ? ENETUNREACH : EHOSTUNREACH)) }
    }

    @Test("a connection survives a soft error while it is opened")
    func softErrorThenSuccess() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        controlMessage(script, type: 3, code: 1, seq: 0)
        script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_460)
        script.expect(.ack, seq: 1, ack: 1)
        #expect(script.state(connection) == .established)
    }

    // RFC 5927, section 5.2
    @Test("no ICMP error ends an established connection", arguments: Array(0..<16))
    func errorWhenEstablished(_ code: Int) throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 100)
        script.expect(.ack, seq: 1, length: 100)
        controlMessage(script, type: 3, code: UInt8(code), seq: 1)
        controlMessage(script, type: 11, code: 0, seq: 1)
        controlMessage(script, type: 12, code: 0, seq: 1)
        // Source quench: RFC 6633.
        controlMessage(script, type: 4, code: 0, seq: 1)
        #expect(script.state(connection) == .established)
        script.peer(.ack, seq: 1, ack: 101)
        #expect(script.stack.unacknowledgedByteCount(connection) == 0)
    }

    // RFC 5927, section 4.1
    @Test("an ICMP error with a sequence number that is not in flight is ignored")
    func errorWithWrongSequence() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        for sequence in [-1, 1, 1_000, -1_000_000] { controlMessage(script, type: 3, code: 3, seq: sequence) }
        #expect(script.state(connection) == .synSent)
        #expect(script.drops(.unmatchedControlMessage) == 4)
        controlMessage(script, type: 3, code: 3, seq: 0)
        #expect(script.state(connection) == .closed)
    }

    @Test("an ICMP error before a timeout tells the program the reason")
    func errorIsRemembered() throws {
        let script = try SegmentScript { $0.tcp.maximumRetransmissions = 3 }
        let connection = script.established()
        script.send(connection, 100)
        controlMessage(script, type: 3, code: 1, seq: 1)
        script.advance(seconds: 1_000)
        #expect(script.stack.connectionError(connection) == EHOSTUNREACH)
    }
}
