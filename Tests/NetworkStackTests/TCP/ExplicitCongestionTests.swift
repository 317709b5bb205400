import NetworkStack
import Testing
import WireFormats

/// ECN (RFC 3168) and DCTCP (RFC 8257). One segment is 1,000 bytes. Codepoints: 2 is ECT(0), 3 is CE.
@Suite("TCP: explicit congestion notification") struct ExplicitCongestionTests {
    private static let mss = 1_000
    private static let bytes = pattern(400_000)

    private static func script(
        _ mode: ExplicitCongestionMode = .on, _ algorithm: CongestionControlAlgorithm = .newReno, timestamps: Bool = false
    ) throws -> SegmentScript {
        try SegmentScript {
            $0.tcp.explicitCongestion = mode
            $0.tcp.congestionControl = algorithm
            $0.tcp.offersTimestamps = timestamps
        }
    }

    /// An active open whose peer agrees to ECN.
    private static func connect(_ script: SegmentScript) -> UInt32 {
        let connection = script.stack.makeConnection(owner: 2)
        script.remotePort = 5_000
        #expect(script.stack.connect(connection, to: Endpoint(address: SegmentScript.remote, port: 5_000)) == 0)
        script.collect()
        let synchronize = script.expect([.syn, .ece, .cwr], seq: 0)
        #expect(synchronize.codepoint == 0)
        script.localPort = synchronize.sourcePort
        script.peer([.syn, .ack, .ece], seq: 0, ack: 1, mss: mss, scale: 7)
        script.expect(.ack, seq: 1, ack: 1)
        script.peer(.ack, seq: 1, ack: 1)
        return connection
    }

    // MARK: Section 6.1.1

    @Test("an ECN-setup SYN has ECE and CWR, its answer ECE alone; neither can be marked")
    func negotiation() throws {
        let script = try Self.script()
        _ = Self.connect(script)
        #expect(script.tcp.congestionCapableConnections == 1)
        let other = try Self.script(.accept)
        let listener = other.listener()
        other.peer([.syn, .ece, .cwr], seq: 0, mss: Self.mss, scale: 7)
        #expect(other.expect([.syn, .ack, .ece], seq: 0, ack: 1).codepoint == 0)
        other.peer(.ack, seq: 1, ack: 1)
        let connection = other.stack.accept(listener, owner: 3)
        other.send(connection, 100)
        #expect(other.expect(.ack, seq: 1, length: 100).codepoint == 2)
    }

    @Test("a SYN without both bits is answered without ECE, and so is every SYN when ECN is off", arguments: [TCPFlags.syn, [.syn, .ece], [.syn, .cwr]])
    func noSetup(_ flags: TCPFlags) throws {
        for (mode, flags) in [(ExplicitCongestionMode.on, flags), (.off, [.syn, .ece, .cwr])] {
            let script = try Self.script(mode)
            let listener = script.listener()
            script.peer(flags, seq: 0, mss: Self.mss, scale: 7)
            script.expect([.syn, .ack], seq: 0, ack: 1)
            script.peer(.ack, seq: 1, ack: 1)
            script.send(script.stack.accept(listener, owner: 3), 100)
            #expect(script.expect(.ack, seq: 1, length: 100).codepoint == 0)
        }
    }

    @Test("an answer that reflects both bits, or has none, is no agreement", arguments: [TCPFlags([.syn, .ack]), [.syn, .ack, .ece, .cwr], [.syn, .ack, .cwr]])
    func noAnswer(_ flags: TCPFlags) throws {
        let script = try Self.script()
        let connection = script.stack.makeConnection(owner: 2)
        _ = script.stack.connect(connection, to: Endpoint(address: SegmentScript.remote, port: 5_000))
        script.collect()
        script.localPort = script.expect([.syn, .ece, .cwr], seq: 0).sourcePort
        script.remotePort = 5_000
        script.peer(flags, seq: 0, ack: 1, mss: Self.mss, scale: 7)
        script.expect(.ack, seq: 1, ack: 1)
        script.send(connection, 100)
        #expect(script.expect(.ack, seq: 1, length: 100).codepoint == 0)
    }

    @Test("a SYN that is sent again asks for nothing, and then new data is not marked even if the first one was heard")
    func secondSynchronize() throws {
        let script = try Self.script()
        let connection = script.stack.makeConnection(owner: 2)
        _ = script.stack.connect(connection, to: Endpoint(address: SegmentScript.remote, port: 5_000))
        script.collect()
        script.localPort = script.expect([.syn, .ece, .cwr], seq: 0).sourcePort
        script.remotePort = 5_000
        script.advance(1_100)
        script.expect(.syn, seq: 0)
        script.peer([.syn, .ack, .ece], seq: 0, ack: 1, mss: Self.mss, scale: 7)
        script.expect(.ack, seq: 1, ack: 1)
        script.send(connection, 100)
        #expect(script.expect(.ack, seq: 1, length: 100).codepoint == 0)
        // But marks of what comes are echoed: "has sent at least one ECN-setup SYN".
        script.peerCodepoint = 3
        script.peer(.psh, seq: 1, ack: 101, length: 10)
        script.peer(.psh, seq: 11, ack: 101, length: 10)
        script.expect([.ack, .ece], ack: 21)
    }

    // MARK: Sections 6.1.2, 6.1.4 to 6.1.6

    @Test("new data can be marked; acknowledgements, retransmissions and probes cannot")
    func whatCanBeMarked() throws {
        let script = try Self.script()
        let connection = Self.connect(script)
        script.send(connection, 2_000)
        #expect(script.takeSent().map(\.codepoint) == [2, 2])
        script.peer(.psh, seq: 1, ack: 1, length: 10)
        script.peer(.psh, seq: 11, ack: 1, length: 10)
        #expect(script.expect(.ack, ack: 21).codepoint == 0)
        script.advance(400)
        let again = script.takeSent()
        #expect(again.allSatisfy { $0.seq < 2_001 && $0.codepoint == 0 } && !again.isEmpty)
        script.peer(.ack, seq: 21, ack: 2_001, window: 0)
        _ = script.takeSent()
        script.send(connection, 500)
        script.advance(3_000)
        let probes = script.takeSent()
        #expect(!probes.isEmpty && probes.allSatisfy { $0.codepoint == 0 && !$0.flags.contains(.cwr) })
    }

    @Test("an echo halves the window once for a window of data, and the next new data says so with CWR")
    func reaction() throws {
        let script = try Self.script()
        let connection = Self.connect(script)
        script.send(connection, Array(Self.bytes.prefix(200_000)))
        #expect(script.takeSent().count == 10)
        // Slow start to 20, 20 in flight.
        for segment in 1...10 { script.peer(.ack, seq: 1, ack: 1 + segment * 1_000) }
        #expect(script.takeSent().count == 20)
        // ssthresh and cwnd are half of 20; the echo itself lets nothing grow.
        script.peer([.ack, .ece], seq: 1, ack: 11_001)
        script.expectNothing()
        #expect(script.tcp.markedReductions == 1)
        for segment in 12...19 { script.peer([.ack, .ece], seq: 1, ack: 1 + segment * 1_000) }
        script.expectNothing()
        #expect(script.tcp.markedReductions == 1)
        for segment in 20...21 { script.peer([.ack, .ece], seq: 1, ack: 1 + segment * 1_000) }
        let next = script.takeSent()
        #expect(next.first?.flags.contains(.cwr) == true && next.first?.codepoint == 2)
        #expect(next.dropFirst().allSatisfy { !$0.flags.contains(.cwr) })
        // A mark of what was sent after the reduction counts again.
        script.peer([.ack, .ece], seq: 1, ack: 30_001)
        #expect(script.tcp.markedReductions == 1)
        let end = 30_001 + 1_000
        script.peer([.ack, .ece], seq: 1, ack: end)
        #expect(script.tcp.markedReductions == 2)
        #expect(script.tcp.retransmittedSegments == 0)
    }

    @Test("a loss is told with CWR, too")
    func lossIsTold() throws {
        let script = try Self.script()
        let connection = Self.connect(script)
        script.send(connection, Array(Self.bytes.prefix(200_000)))
        _ = script.takeSent()
        for _ in 0..<3 { script.peer(.ack, seq: 1, ack: 1) }
        let sent = script.takeSent()
        #expect(sent.allSatisfy { $0.seq != 1 || $0.codepoint == 0 && !$0.flags.contains(.cwr) })
        for _ in 0..<8 { script.peer(.ack, seq: 1, ack: 1) }
        #expect(script.takeSent().first?.flags.contains(.cwr) == true)
    }

    @Test("CUBIC reduces to seven tenths for a mark")
    func cubicReaction() throws {
        let script = try Self.script(.on, .cubic)
        let connection = Self.connect(script)
        script.send(connection, Array(Self.bytes.prefix(200_000)))
        _ = script.takeSent()
        for segment in 1...10 { script.peer(.ack, seq: 1, ack: 1 + segment * 1_000) }
        #expect(script.takeSent().count == 20)
        script.peer([.ack, .ece], seq: 1, ack: 11_001)
        for segment in 12...16 { script.peer([.ack, .ece], seq: 1, ack: 1 + segment * 1_000) }
        script.expectNothing()
        // 14 fit.
        script.peer([.ack, .ece], seq: 1, ack: 17_001)
        #expect(script.takeSent().count == 1)
    }

    @Test("an echo of a connection without ECN is none")
    func echoWithoutAgreement() throws {
        let script = try Self.script(.accept)
        let connection = script.established(mss: Self.mss, scale: 7)
        script.peer(.ack, seq: 1, ack: 1)
        script.send(connection, 100_000)
        #expect(script.takeSent().count == 10)
        script.peer([.ack, .ece], seq: 1, ack: 1_001)
        #expect(script.takeSent().count == 2)
        script.peerCodepoint = 3
        script.peer(.psh, seq: 1, ack: 1_001, length: 10)
        script.peer(.psh, seq: 11, ack: 1_001, length: 10)
        script.expect(.ack, ack: 21)
    }

    // MARK: Section 6.1.3

    @Test("a mark is echoed in every segment until CWR comes, also with delayed acknowledgements and data")
    func echo() throws {
        let script = try Self.script()
        let connection = Self.connect(script)
        script.peerCodepoint = 3
        script.peer(.psh, seq: 1, ack: 1, length: 10)
        script.expectNothing()
        script.peerCodepoint = 2
        script.advance(50)
        script.expect([.ack, .ece], ack: 11)
        script.peer(.psh, seq: 11, ack: 1, length: 10)
        script.peer(.psh, seq: 21, ack: 1, length: 10)
        script.expect([.ack, .ece], ack: 31)
        script.send(connection, 100)
        script.expect([.ack, .ece], seq: 1, ack: 31, length: 100)
        script.peer([.psh, .cwr], seq: 31, ack: 101, length: 10)
        script.peer(.psh, seq: 41, ack: 101, length: 10)
        script.expect(.ack, ack: 51)
        #expect(script.tcp.congestionMarks == 1)
        // A segment that has both begins anew.
        script.peerCodepoint = 3
        script.peer([.psh, .cwr], seq: 51, ack: 101, length: 10)
        script.peer([.psh, .cwr], seq: 61, ack: 101, length: 10)
        script.expect([.ack, .ece], ack: 71)
    }

    @Test("the mark of a segment outside of the window is ignored")
    func markOutsideOfTheWindow() throws {
        let script = try Self.script()
        _ = Self.connect(script)
        script.peer(.psh, seq: 1, ack: 1, length: 10)
        script.peer(.psh, seq: 11, ack: 1, length: 10)
        script.expect(.ack, ack: 21)
        script.peerCodepoint = 3
        script.peer(.psh, seq: 1, ack: 1, length: 10)
        script.expect(.ack, ack: 21)
        #expect(script.tcp.congestionMarks == 0)
    }

    // MARK: DCTCP

    @Test("DCTCP: marks of what a listener has no room for are not acknowledged")
    func marksInHandshake() throws {
        let script = try Self.script(.off, .dctcp)
        let listener = script.listener(backlog: 1)
        for port in [6_000, 6_001] {
            script.remotePort = UInt16(port)
            script.peer([.syn, .ece, .cwr], seq: 0, mss: Self.mss, scale: 7)
            script.expect([.syn, .ack, .ece], seq: 0, ack: 1)
        }
        script.remotePort = 6_000
        script.peer(.ack, seq: 1, ack: 1)
        script.remotePort = 6_001
        for codepoint in [3, 2, 3] {
            script.peerCodepoint = UInt8(codepoint)
            script.peer(.psh, seq: 1, ack: 1, length: 10)
            script.expectNothing()
        }
        // With room for it the same segment is received, and its mark echoed with it.
        #expect(script.stack.accept(listener, owner: 3) != 0)
        script.peer(.psh, seq: 1, ack: 1, length: 10)
        script.expect([.ack, .ece], ack: 11)
        script.end()
    }

    // RFC 8257, section 3.2
    @Test("DCTCP: acknowledgements change with the marks, each at once, and one more for what waited")
    func everyMarkIsEchoed() throws {
        let script = try Self.script(.off, .dctcp)
        _ = Self.connect(script)
        script.peerCodepoint = 2
        script.peer(.psh, seq: 1, ack: 1, length: 10)
        script.expectNothing()
        // The first segment waited: it is acknowledged without, the marked one with an echo.
        script.peerCodepoint = 3
        script.peer(.psh, seq: 11, ack: 1, length: 10)
        script.expect(.ack, ack: 11)
        script.expect([.ack, .ece], ack: 21)
        // In the same state acknowledgements are delayed.
        script.peer(.psh, seq: 21, ack: 1, length: 10)
        script.expectNothing()
        script.peer(.psh, seq: 31, ack: 1, length: 10)
        script.expect([.ack, .ece], ack: 41)
        // CWR changes nothing; the absence of a mark does.
        script.peer([.psh, .cwr], seq: 41, ack: 1, length: 10)
        script.expectNothing()
        script.peerCodepoint = 2
        script.peer(.psh, seq: 51, ack: 1, length: 10)
        script.expect([.ack, .ece], ack: 51)
        script.expect(.ack, ack: 61)
        #expect(script.tcp.congestionMarks == 4)
    }

    // RFC 8257, section 3.3
    @Test("DCTCP: the first mark halves the window, rare marks reduce it by little, and a loss halves it again")
    func proportionalReduction() throws {
        let script = try Self.script(.off, .dctcp)
        let connection = Self.connect(script)
        script.stack.setSendBuffer(connection, byteCount: 4 << 20)
        func supply() { while script.stack.unacknowledgedByteCount(connection) < 1_000_000 { script.send(connection, Self.bytes) } }
        var acknowledged = 0
        var sent = 0
        supply()
        func collect() { for segment in script.takeSent() { sent = max(sent, (segment.seq - 1) / 1_000 + 1) } }
        func round(marked: Int = 0) {
            script.advance(10)
            supply()
            let end = sent
            guard acknowledged < end else { return }
            for segment in acknowledged + 1...end {
                script.peer(segment <= acknowledged + marked ? [.ack, .ece] : .ack, seq: 1, ack: 1 + segment * 1_000)
                collect()
            }
            acknowledged = end
        }
        collect()
        #expect(sent == 10)
        round()
        round()
        #expect(sent - acknowledged == 40)
        // Alpha is 1, or nearly.
        round(marked: 1)
        #expect((20...24).contains(sent - acknowledged))
        // Without marks alpha decays by a sixteenth for each window: to a tenth after 36.
        for _ in 0..<40 { round() }
        let before = sent - acknowledged
        round(marked: 1)
        #expect(sent - acknowledged >= before * 9 / 10)
        // All are marked: alpha grows back.
        for _ in 0..<60 { round(marked: 1_000) }
        #expect(sent - acknowledged <= 4)
    }
}
