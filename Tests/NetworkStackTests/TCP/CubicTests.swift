import NetworkStack
import Testing
import WireFormats

/// CUBIC (RFC 9438) and HyStart++ (RFC 9406). One segment is 1,000 bytes, a round trip 100 ms.
@Suite("TCP: CUBIC") struct CubicTests {
    private static let mss = 1_000
    private static let bytes = pattern(400_000)

    /// A connection with more to send than any window allows, which is driven round by round: everything in flight is acknowledged segment by segment.
    private final class Sender {
        let script: SegmentScript
        let connection: UInt32
        /// Segments acknowledged, and sent.
        var acknowledged = 0
        var sent = 0
        /// Whether there is always more to send.
        var isGreedy = true
        private let roundTrip: Int
        private let hasTimestamps: Bool

        init(roundTrip: Int = 100, hasTimestamps: Bool = false, _ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws {
            self.roundTrip = roundTrip
            self.hasTimestamps = hasTimestamps
            script = try SegmentScript {
                $0.tcp.detectsBlackHoles = false
                $0.tcp.sendBuffer = 4 << 20
                $0.tcp.minimumRetransmissionTimeout = 1_000_000_000
                configure(&$0)
            }
            let synchronize: SentSegment
            (connection, synchronize) = script.connect()
            script.advance(roundTrip)
            script.peerTimestamp = hasTimestamps ? 1 : nil
            script.peer([.syn, .ack], seq: 0, ack: 1, mss: mss + (hasTimestamps ? 12 : 0), scale: 7, echo: synchronize.timestamps?.value)
            script.expect(.ack, seq: 1, ack: 1)
            script.peer(.ack, seq: 1, ack: 1)
            supply()
            count()
        }

        private func supply() {
            while isGreedy, script.stack.unacknowledgedByteCount(connection) < 1_000_000 { script.send(connection, CubicTests.bytes) }
        }

        private func count() {
            for segment in script.takeSent() where segment.length > 0 {
                #expect(segment.length == mss)
                sent = max(sent, (segment.seq - 1) / mss + 1)
            }
        }

        var inFlight: Int { sent - acknowledged }

        func acknowledge(_ segment: Int, echo: UInt32? = nil) {
            acknowledged = max(acknowledged, segment)
            script.peer(.ack, seq: 1, ack: 1 + segment * mss, timestamp: hasTimestamps ? 1 : nil, echo: echo)
            count()
        }

        /// A round trip passes, and all that is in flight is acknowledged.
        func round(_ milliseconds: Int? = nil) {
            let echo = script.lastTimestampOfStack
            supply()
            script.advance(milliseconds ?? roundTrip)
            guard acknowledged < sent else { return }
            for segment in acknowledged + 1...sent { acknowledge(segment, echo: hasTimestamps ? echo : nil) }
        }

        /// The first segment in flight is lost, and everything else arrives.
        func lose() {
            let end = sent
            for _ in 0..<max(3, inFlight - 1) { acknowledge(acknowledged) }
            script.advance(roundTrip)
            acknowledge(end)
        }
    }

    // RFC 9438, section 4.6
    @Test("a loss reduces the window to seven tenths of what was in flight")
    func multiplicativeDecrease() throws {
        let sender = try Sender()
        for _ in 0..<3 { sender.round() }
        let before = sender.inFlight
        #expect(before == 80)
        for _ in 0..<3 { sender.acknowledge(0 + sender.acknowledged) }
        let end = sender.sent
        sender.script.advance(100)
        sender.acknowledge(end)
        // One more than what is in flight, and then as much as ssthresh: slow start to 56, and on from there.
        while sender.inFlight < 40 { sender.round() }
        sender.round()
        #expect((54...60).contains(sender.inFlight))
    }

    // RFC 9438, sections 4.2 and 4.4: concave up to W_max, which is reached after K = cubic root (W_max * (1 - 0.7) / 0.4) seconds, then convex
    @Test("the window comes back to where it was after K, slower and slower, and then grows faster and faster")
    func cubicGrowth() throws {
        // So long a round trip that CUBIC is far above its Reno-friendly region.
        let sender = try Sender(roundTrip: 400)
        for _ in 0..<4 { sender.round() }
        let maximum = sender.inFlight
        #expect(maximum == 160)
        sender.lose()
        // Slow start has ssthresh at once: what was in flight left the network one by one.
        while sender.inFlight < maximum * 7 / 10 - 2 { sender.round() }
        var windows: [Int] = []
        // K is the cubic root of 48 / 0.4, about 4.9 s: 12 round trips.
        for _ in 0..<24 {
            windows.append(sender.inFlight)
            sender.round()
        }
        let growth = zip(windows.dropFirst(), windows).map { $0 - $1 }
        #expect(windows[12] >= maximum - 6 && windows[12] <= maximum + 6)
        // Quick at first, flat in the middle, quick at the end.
        #expect(growth[1] > 6 && growth[11] <= 3 && growth[22] > growth[16])
        #expect(windows[23] > maximum + 20)
    }

    // RFC 9438, section 4.7
    @Test("fast convergence: a second loss below the last maximum leaves room to others")
    func fastConvergence() throws {
        func plateau(growsBack: Bool) throws -> (Int, Int) {
            let sender = try Sender(roundTrip: 400)
            for _ in 0..<4 { sender.round() }
            sender.lose()
            let target = growsBack ? 170 : 120
            var rounds = 0
            while sender.inFlight < target, rounds < 60 {
                sender.round()
                rounds += 1
            }
            let maximum = sender.inFlight
            sender.lose()
            while sender.inFlight < maximum * 7 / 10 - 2 { sender.round() }
            // The flattest place of the way up is W_max.
            var windows: [Int] = []
            for _ in 0..<16 {
                windows.append(sender.inFlight)
                sender.round()
            }
            let growth = zip(windows.dropFirst(), windows).map { $0 - $1 }
            return (maximum, windows[growth.firstIndex(of: growth.min()!)!])
        }
        let (high, highPlateau) = try plateau(growsBack: true)
        #expect(abs(highPlateau - high) <= high / 12)
        let (low, lowPlateau) = try plateau(growsBack: false)
        // W_max = cwnd * (1 + 0.7) / 2
        #expect(abs(lowPlateau - low * 17 / 20) <= low / 12)
    }

    // RFC 9438, section 4.3
    @Test("on a short path the window grows as Reno's would: about half a segment for each round trip, one above the last maximum")
    func renoFriendly() throws {
        let sender = try Sender(roundTrip: 5)
        for _ in 0..<2 { sender.round() }
        sender.lose()
        while sender.inFlight < 27 { sender.round() }
        let before = sender.inFlight
        for _ in 0..<10 { sender.round() }
        // alpha is 9/17.
        #expect((4...7).contains(sender.inFlight - before))
        while sender.inFlight < 42 { sender.round() }
        let later = sender.inFlight
        for _ in 0..<10 { sender.round() }
        #expect((8...12).contains(sender.inFlight - later))
    }

    // RFC 9438, section 4.8
    @Test("after a timeout: one segment, slow start to seven tenths, and no memory of where the window was")
    func timeout() throws {
        let sender = try Sender(roundTrip: 400)
        for _ in 0..<4 { sender.round() }
        #expect(sender.inFlight == 160)
        sender.script.advance(seconds: 3)
        _ = sender.script.takeSent()
        #expect(sender.script.tcp.retransmissionTimeouts >= 1)
        // All of it had arrived.
        sender.acknowledge(sender.sent)
        while sender.inFlight < 110 { sender.round() }
        var windows: [Int] = []
        for _ in 0..<12 {
            sender.round()
            windows.append(sender.inFlight)
        }
        // K is 0: convex from the first round trip on, and no plateau at the old maximum.
        #expect(windows[0] <= 118)
        let growth = zip(windows.dropFirst(), windows).map { $0 - $1 }
        #expect(growth.last! > growth.first! && growth.last! > 6)
    }

    // RFC 9438, section 4.2: time in which the application is the limit does not count
    @Test("a pause of the application is no time in which the window grows")
    func applicationLimited() throws {
        let sender = try Sender(roundTrip: 400) { $0.tcp.minimumRetransmissionTimeout = 5_000_000_000; $0.tcp.initialRetransmissionTimeout = 5_000_000_000 }
        for _ in 0..<4 { sender.round() }
        sender.lose()
        while sender.inFlight < 118 { sender.round() }
        for _ in 0..<3 { sender.round() }
        let before = sender.inFlight
        // The program sends nothing for 3 s, which is less than the timeout after which the window would be the initial one.
        sender.isGreedy = false
        while sender.inFlight > 0 { sender.round() }
        sender.script.advance(seconds: 3)
        sender.isGreedy = true
        sender.round()
        sender.acknowledge(sender.acknowledged)
        sender.round()
        sender.round()
        // Without the pause it would be near K, at 160 and above.
        #expect((before - 4...before + 16).contains(sender.inFlight))
    }

    // MARK: HyStart++

    // RFC 9406, section 4.2
    @Test("growing round trips end slow start: first a quarter of the growth, after five rounds congestion avoidance")
    func delayIncrease() throws {
        let sender = try Sender(roundTrip: 50, hasTimestamps: true)
        sender.round()
        sender.round()
        let before = sender.inFlight
        #expect(before == 40)
        // Less than the threshold of max (4 ms, 50 / 8 ms) changes nothing.
        sender.round(53)
        #expect(sender.inFlight == 80)
        #expect(sender.script.tcp.conservativeSlowStarts == 0)
        sender.round(66)
        #expect(sender.script.tcp.conservativeSlowStarts == 1)
        // The first 8 samples of the round were needed to know.
        #expect((100...160).contains(sender.inFlight))
        let conservative = sender.inFlight
        sender.round(66)
        #expect(abs(sender.inFlight - conservative * 5 / 4) <= 2)
        for _ in 0..<5 { sender.round(66) }
        let avoidance = sender.inFlight
        sender.round(66)
        #expect(sender.inFlight - avoidance <= 3)
        #expect(sender.script.tcp.fastRetransmits == 0)
    }

    // RFC 9406, section 4.2: "if (currentRoundMinRTT < cssBaselineMinRtt)"
    @Test("round trips that become short again resume slow start")
    func falseAlarm() throws {
        let sender = try Sender(roundTrip: 50, hasTimestamps: true)
        sender.round()
        sender.round()
        sender.round(66)
        // Of the last round a few samples were short.
        sender.round(66)
        #expect(sender.script.tcp.conservativeSlowStarts == 1)
        let conservative = sender.inFlight
        sender.round(50)
        sender.round(50)
        #expect(sender.inFlight > conservative * 3)
    }

    // RFC 9406, section 4.3: "MUST only be used for the initial slow start"
    @Test("after a timeout slow start is the standard one")
    func onlyInitially() throws {
        let sender = try Sender(roundTrip: 50, hasTimestamps: true)
        for _ in 0..<3 { sender.round() }
        #expect(sender.inFlight == 80)
        sender.script.advance(1_500)
        _ = sender.script.takeSent()
        sender.acknowledge(sender.sent)
        let start = sender.inFlight
        sender.round(50)
        sender.round(70)
        sender.round(90)
        #expect(sender.inFlight == 8 * start)
        #expect(sender.script.tcp.conservativeSlowStarts == 0)
    }

    @Test("a socket's own algorithm: NewReno halves")
    func perSocket() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.stack.setCongestionControl(listener, .newReno)
        let connection = script.accepted(listener, scale: 7)
        #expect(script.stack.congestionControl(listener) == .newReno)
        #expect(script.stack.congestionControl(connection) == .newReno)
        script.stack.setCongestionControl(connection, .cubic)
        #expect(script.stack.congestionControl(connection) == .cubic)
        let other = script.stack.makeConnection(owner: 9)
        #expect(script.stack.congestionControl(other) == .cubic)
    }
}
