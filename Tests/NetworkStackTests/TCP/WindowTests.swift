import Glibc
import NetworkStack
import Testing
import WireFormats

/// Flow control in both directions (RFC 9293, section 3.8.6), Nagle's algorithm (3.7.4) and delayed acknowledgements (3.8.6.3).
@Suite("TCP: windows") struct WindowTests {
    private func milliseconds(_ from: SentSegment, _ to: SentSegment) -> Double { Double(to.time - from.time) / 1_000_000 }

    // MARK: Zero windows (3.8.6.1)

    @Test("a closed window is probed, with back-off, and the connection stays open while probes are answered")
    func zeroWindowProbes() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 100)
        script.expect(.ack, seq: 1, length: 100)
        script.peer(.ack, seq: 1, ack: 101, window: 0)
        script.send(connection, 5_000, from: 100)
        script.expectNothing()
        var probes: [SentSegment] = []
        for _ in 0..<36_000 {
            script.advance(100)
            for probe in script.takeSent() {
                // "at least one octet of new data", which the peer refuses.
                #expect(probe.seq == 101 && probe.length == 1 && probe.payload == pattern(1, from: 100))
                probes.append(probe)
                script.peer(.ack, seq: 1, ack: 101, window: 0)
            }
        }
        // An hour: far more probes than a connection survives without answers.
        #expect(script.state(connection) == .established)
        #expect(probes.count > 60)
        for index in 1..<6 { #expect(milliseconds(probes[index], probes[index + 1]) > 1.9 * milliseconds(probes[index - 1], probes[index])) }
        for index in 20..<probes.count { #expect(milliseconds(probes[index - 1], probes[index]) < 61_000) }
        // The window opens: all that fits is sent at once.
        script.peer(.ack, seq: 1, ack: 101, window: 65_535)
        let sent = script.takeSent()
        #expect(sent.first?.seq == 101)
        #expect(sent.reduce(0) { $0 + $1.length } == 5_000)
        #expect(sent.flatMap(\.payload).elementsEqual(pattern(5_000, from: 100)))
        script.peer(.ack, seq: 1, ack: 5_101)
        #expect(script.stack.nextDeadline == nil)
    }

    @Test("unanswered probes end the connection with ETIMEDOUT")
    func unansweredProbes() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 0)
        script.send(connection, 100)
        script.advance(seconds: 100)
        #expect(script.state(connection) == .established)
        script.advance(seconds: 2_000)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ETIMEDOUT)
    }

    @Test("the peer takes a probe's byte and keeps its window closed: probing goes on")
    func acceptedProbe() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 0)
        script.send(connection, 1_000)
        var next = 1
        for _ in 0..<5 {
            script.advance(seconds: 120)
            let probes = script.takeSent()
            #expect(!probes.isEmpty)
            #expect(probes.allSatisfy { $0.seq == next && $0.length == 1 })
            next += 1
            script.peer(.ack, seq: 1, ack: next, window: 0)
        }
        // The window update was lost: a probe finds out.
        script.advance(seconds: 120)
        #expect(!script.takeSent().isEmpty)
        script.peer(.ack, seq: 1, ack: next + 1, window: 10_000)
        let sent = script.takeSent()
        #expect(sent.first?.seq == next + 1)
        #expect(sent.reduce(0) { $0 + $1.length } == 1_000 - next)
        script.peer(.ack, seq: 1, ack: 1_001)
        #expect(script.stack.unacknowledgedByteCount(connection) == 0)
    }

    @Test("a window that opens while a probe is on its way is used, and the probe's byte counts")
    func probeAcknowledgedByOpening() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 0)
        script.send(connection, 1_000)
        script.advance(300)
        script.expect(.ack, seq: 1, length: 1)
        script.peer(.ack, seq: 1, ack: 2, window: 5_000)
        script.expect(.ack, seq: 2, length: 999)
    }

    @Test("a program that closes while the window is closed gets its bytes and its FIN delivered when it opens")
    func closeIntoClosedWindow() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 0)
        script.send(connection, 500)
        script.close(connection)
        for _ in 0..<10 {
            script.advance(seconds: 60)
            for segment in script.takeSent() {
                #expect(segment.seq == 1 && segment.length == 1)
                script.peer(.ack, seq: 1, ack: 1, window: 0)
            }
        }
        script.peer(.ack, seq: 1, ack: 1, window: 5_000)
        script.expect([.fin, .ack], seq: 1, length: 500)
        script.peer(.ack, seq: 1, ack: 502)
        #expect(script.state(connection) == .finWait2)
    }

    // RFC 9293, section 3.8.6.1: MUST-37
    @Test("a FIN alone before a closed window waits as long as the peer answers")
    func finishIntoClosedWindow() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 0)
        script.close(connection)
        for _ in 0..<3_600 {
            script.advance(1_000)
            for segment in script.takeSent() {
                #expect(segment.flags.contains(.fin) && segment.seq == 1)
                script.peer(.ack, seq: 1, ack: 1, window: 0)
            }
            _ = script.takeSent()
        }
        #expect(script.state(connection) == .finWait1)
        script.peer(.ack, seq: 1, ack: 2, window: 1_000)
        #expect(script.state(connection) == .finWait2)
    }

    @Test("a window that the peer takes back is obeyed, and the connection goes on when it opens")
    func shrunkWindow() throws {
        // "A TCP endpoint MUST be robust against window shrinking" (MUST-34)
        let script = try SegmentScript()
        let connection = script.established(window: 5_840)
        script.send(connection, 20_000)
        #expect(script.takeSent().count == 4)
        script.peer(.ack, seq: 1, ack: 1_461, window: 1_000)
        // The usable window is negative: nothing new.
        #expect(script.takeSent().allSatisfy { $0.seq + $0.length <= 5_841 })
        script.peer(.ack, seq: 1, ack: 1_461, window: 0)
        var answered = 0
        for _ in 0..<600 {
            script.advance(1_000)
            for segment in script.takeSent() where segment.length > 0 {
                #expect(segment.seq == 1_461 && segment.seq + segment.length <= 5_841)
                answered += 1
                script.peer(.ack, seq: 1, ack: 1_461, window: 0)
            }
        }
        #expect(answered > 8)
        #expect(script.state(connection) == .established)
        var next = 1_461
        var bytes: [UInt8] = []
        script.peer(.ack, seq: 1, ack: next, window: 8_000)
        for _ in 0..<100 where next < 20_001 {
            for segment in script.takeSent() where segment.seq == next {
                next += segment.length
                bytes += segment.payload
            }
            script.peer(.ack, seq: 1, ack: next, window: 8_000)
            if script.sent.isEmpty { script.advance(1_000) }
        }
        #expect(bytes.elementsEqual(pattern(18_540, from: 1_460)))
    }

    // RFC 9293, section 3.8.6: SHLD-16, MUST-35
    @Test("after a timeout only what fits a window that has shrunk is sent again, one byte if it is closed", arguments: [500, 1, 0])
    func retransmissionIntoShrunkWindow(_ window: Int) throws {
        let script = try SegmentScript()
        let connection = script.established(window: 5_840)
        script.send(connection, 5_840)
        #expect(script.takeSent().count == 4)
        script.peer(.ack, seq: 1, ack: 1_461, window: window)
        script.expectNothing()
        script.advance(201)
        script.expect(.ack, seq: 1_461, length: max(window, 1))
        // The peer takes what fitted, and opens its window.
        let next = 1_461 + window
        script.peer(.ack, seq: 1, ack: next, window: 8_000)
        let sent = script.takeSent()
        #expect(sent.first?.seq == next)
        #expect(sent.allSatisfy { $0.seq >= next && $0.seq + $0.length <= 5_841 })
        #expect(script.state(connection) == .established)
    }

    // RFC 9293, section 3.8.6: SHLD-17
    @Test("a window that shrinks to zero over data in flight is probed like any other, as long as the peer answers")
    func windowShrunkToZero() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 5_840)
        script.send(connection, 5_840)
        _ = script.takeSent()
        script.peer(.ack, seq: 1, ack: 1_461, window: 0)
        var probes: [SentSegment] = []
        for _ in 0..<3_600 {
            script.advance(1_000)
            for probe in script.takeSent() {
                #expect(probe.seq == 1_461 && probe.length == 1)
                probes.append(probe)
                script.peer(.ack, seq: 1, ack: 1_461, window: 0)
            }
        }
        #expect(script.state(connection) == .established)
        #expect(probes.count > 50 && script.tcp.zeroWindowProbes == probes.count - 1)
        script.peer(.ack, seq: 1, ack: 1_461, window: 10_000)
        #expect(script.takeSent().first?.seq == 1_461)
        script.peer(.ack, seq: 1, ack: 5_841, window: 10_000)
        #expect(script.stack.unacknowledgedByteCount(connection) == 0)
        #expect(script.stack.nextDeadline == nil)
    }

    @Test("an old segment does not change the window, a new one does")
    func windowUpdateOrder() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 3_000)
        script.send(connection, 3_000)
        _ = script.takeSent()
        script.peer(.ack, seq: 1, ack: 1_461, window: 1_540)
        script.peer(.ack, seq: 1, ack: 2_921, window: 100)
        // The first one again, late: its window was larger.
        script.peer(.ack, seq: 1, ack: 1_461, window: 60_000)
        script.send(connection, 3_000, from: 3_000)
        script.expectNothing()
        _ = connection
    }

    // MARK: Silly windows

    @Test("a sender does not fill small windows (3.8.6.2.1), but does not wait for ever")
    func sillyWindowSender() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 8_760)
        script.send(connection, 30_000)
        #expect(script.takeSent().count == 6)
        script.peer(.ack, seq: 1, ack: 8_761, window: 200)
        // 200 bytes are neither a segment nor half of the largest window.
        script.expectNothing()
        script.advance(seconds: 1)
        // "the override timeout"
        let sent = script.takeSent()
        #expect(sent.first?.seq == 8_761)
        #expect(sent.first.map { $0.length >= 1 && $0.length <= 200 } == true)
    }

    // RFC 9293, section 3.8.6.2.1: "The override timeout should be in the range 0.1 - 1.0 seconds"
    @Test("a small window is used after a second at most, however long the retransmission timeout is")
    func overrideTimeout() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        // A SYN was lost: the timeout is three seconds (RFC 6298, section 5.7).
        script.advance(1_100)
        script.peer([.syn, .ack], seq: 0, ack: 1, window: 8_760, mss: 1_460)
        _ = script.takeSent()
        script.peer(.ack, seq: 1, ack: 1, window: 200)
        script.send(connection, 3_000)
        script.advance(99)
        script.expectNothing()
        script.advance(902)
        script.expect(.ack, seq: 1, length: 200)
        // Each piece that is taken is followed by another one, without back-off.
        for index in 1...5 {
            script.peer(.ack, seq: 1, ack: 1 + 200 * index, window: 200)
            script.expectNothing()
            script.advance(1_001)
            script.expect(.ack, seq: 1 + 200 * index, length: 200)
        }
    }

    // RFC 9293, section 3.8.6.2.1: the override timeout ends the wait whatever else arrives
    @Test("segments with a small window do not put the override timeout off")
    func overrideTimeoutGoesOn() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 8_760)
        script.peer(.ack, seq: 1, ack: 1, window: 200)
        script.send(connection, 3_000)
        var next = 1
        for _ in 0..<40 {
            script.advance(50)
            script.peer(.psh, seq: next, ack: 1, window: 200, length: 10)
            next += 10
        }
        let first = script.takeSent().first { $0.length > 0 }
        #expect(first.map { $0.seq == 1 && $0.length == 200 } == true)
    }

    @Test("a sender uses a window of half the largest one")
    func halfWindow() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 1_000)
        script.send(connection, 3_000)
        script.expect(.ack, seq: 1, length: 1_000)
        script.peer(.ack, seq: 1, ack: 1_001, window: 499)
        script.expectNothing()
        script.peer(.ack, seq: 1, ack: 1_001, window: 500)
        script.expect(.ack, seq: 1_001, length: 500)
    }

    @Test("a receiver does not offer small windows (3.8.6.2.2)")
    func sillyWindowReceiver() throws {
        let script = try SegmentScript { $0.tcp.receiveBuffer = 10_000 }
        let connection = script.established()
        var next = 1
        for _ in 0..<10 {
            script.peer(.psh, seq: next, ack: 1, length: 1_000)
            next += 1_000
        }
        script.advance(100)
        #expect(script.takeSent().last?.window == 0)
        // A few bytes of room are not worth a segment.
        _ = script.receive(connection, maximumBytes: 500)
        script.advance(1_000)
        script.expectNothing()
        // Nor is the window raised by less than a segment when a probe asks.
        script.peer(.psh, seq: next, ack: 1, length: 1)
        #expect(script.expect(.ack, ack: next).window == 0)
        _ = script.receive(connection, maximumBytes: 5_500)
        let update = script.expect(.ack, ack: next)
        #expect(update.window >= 1_460)
    }

    @Test("the program's reading opens a closed window at once")
    func windowUpdate() throws {
        let script = try SegmentScript { $0.tcp.receiveBuffer = 10_000 }
        let connection = script.established()
        for index in 0..<10 { script.peer(.psh, seq: 1 + 1_000 * index, ack: 1, length: 1_000) }
        script.advance(100)
        #expect(script.takeSent().last?.window == 0)
        #expect(script.receive(connection).elementsEqual(pattern(10_000)))
        #expect(script.takeSent().last.map { $0.ack == 10_001 && $0.window >= 9_000 } == true)
        script.peer(.psh, seq: 10_001, ack: 1, length: 1_000)
        #expect(script.receive(connection).elementsEqual(pattern(1_000, from: 10_000)))
    }

    @Test("a lost window update is repeated when a probe asks")
    func lostWindowUpdate() throws {
        let script = try SegmentScript { $0.tcp.receiveBuffer = 10_000 }
        let connection = script.established()
        for index in 0..<10 { script.peer(.psh, seq: 1 + 1_000 * index, ack: 1, length: 1_000) }
        _ = script.receive(connection)
        _ = script.takeSent()
        script.peer(.ack, seq: 10_000, ack: 1, length: 1)
        #expect(script.expect(.ack, ack: 10_001).window >= 9_000)
    }

    @Test("the right edge of the window never moves left, whatever segments come", arguments: [0, 7])
    func rightEdge(_ scale: Int) throws {
        let script = try SegmentScript { $0.tcp.receiveBuffer = 20_000 }
        let connection = script.established(scale: scale == 0 ? nil : scale)
        let shift = scale == 0 ? 0 : 7
        var edge = 0
        var next = 1
        var random: UInt64 = 5
        for step in 0..<300 {
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            let length = Int(random >> 33) % 1_460 + 1
            script.peer(.psh, seq: next, ack: 1, payload: [UInt8](repeating: 1, count: length))
            if step % 3 == 0 { _ = script.receive(connection, maximumBytes: Int(random >> 50) % 3_000 + 1) }
            if step % 5 == 0 { script.advance(50) }
            for segment in script.takeSent() {
                let newEdge = segment.ack + segment.window << shift
                #expect(newEdge >= edge - (shift == 0 ? 0 : 1 << shift))
                edge = max(edge, newEdge)
                next = max(next, segment.ack)
            }
        }
    }

    @Test("what a peer can make a program's queue hold is bounded by the buffer, also in single bytes", arguments: [1, 100, 1_460])
    func queueIsBounded(_ length: Int) throws {
        let script = try SegmentScript { $0.tcp.receiveBuffer = 8_192 }
        let connection = script.established(scale: 7)
        let payload = [UInt8](repeating: 7, count: length)
        var next = 1
        for _ in 0..<(20_000 / length) {
            script.peer(.psh, seq: next, ack: 1, payload: payload)
            for segment in script.takeSent() { next = max(next, segment.ack) }
            if script.stack.receivableByteCount(connection) + 1 > next { next = script.stack.receivableByteCount(connection) + 1 }
        }
        #expect(script.stack.receivableByteCount(connection) <= 2 * 8_192)
        // Nor does it hold much more memory than that.
        #expect(script.heap.usedByteCount < 64 << 10)
    }

    @Test("data behind the right edge is not taken")
    func beyondTheWindow() throws {
        let script = try SegmentScript { $0.tcp.receiveBuffer = 4_096 }
        let connection = script.established()
        script.peer(.psh, seq: 1 + 4_000, ack: 1, length: 1_000)
        script.expect(.ack, ack: 1)
        for index in 0..<4 { script.peer(.psh, seq: 1 + 1_000 * index, ack: 1, length: 1_000) }
        #expect(script.stack.receivableByteCount(connection) == 4_096)
        #expect(script.receive(connection).elementsEqual(pattern(4_096)))
    }

    @Test("the receive buffer grows while the program keeps up, and not where it was set")
    func bufferGrowth() throws {
        for isFixed in [false, true] {
            let script = try SegmentScript()
            let (connection, _) = script.connect()
            script.advance(10)
            script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_460, scale: 7)
            if isFixed { script.stack.setReceiveBuffer(connection, byteCount: 65_536) }
            _ = script.takeSent()
            let payload = [UInt8](repeating: 1, count: 1_460)
            var next = 1
            var largest = 0
            for _ in 0..<20 {
                for _ in 0..<40 {
                    script.peer(.psh, seq: next, ack: 1, payload: payload)
                    next += 1_460
                }
                _ = script.receive(connection)
                script.advance(1)
                for segment in script.takeSent() { largest = max(largest, segment.window << 7) }
            }
            #expect(isFixed ? largest <= 65_536 + 128 : largest > 200_000)
            #expect((script.tcp.receiveBufferGrowths > 0) == !isFixed)
            #expect(script.stack.receiveBuffer(connection) == (isFixed ? 65_536 : script.stack.receiveBuffer(connection)))
        }
    }

    @Test("segments of one byte fill a buffer that nobody reads: rounding the window up to its scale does not make it larger", arguments: [3, 7])
    func tinySegmentsWithScale(scale: Int) throws {
        let size = 8_192
        let script = try SegmentScript { configuration in
            configuration.tcp.windowScale = UInt8(scale)
            configuration.tcp.receiveBuffer = size
            configuration.tcp.maximumReceiveBuffer = size
        }
        let connection = script.established(scale: 0)
        var next = 1
        var edge = size + 1
        // As long as the window, which every second segment tells, has room.
        while next < edge {
            script.peer(.ack, seq: next, ack: 1, length: 1)
            next += 1
            for acknowledgement in script.takeSent() { edge = max(edge, acknowledgement.ack + acknowledgement.window << scale) }
            #expect(next <= 2 * size)
            if next > 2 * size { break }
        }
        #expect(edge - 1 < size + 1 << scale)
        #expect(script.stack.receivableByteCount(connection) == next - 1)
    }

    // MARK: Nagle (3.7.4)

    @Test("Nagle's algorithm gathers small pushes while data is in flight, until a segment is full")
    func nagle() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.stack.setNoDelay(connection, false)
        script.send(connection, 10)
        script.expect(.ack, seq: 1, length: 10)
        for index in 1..<20 { script.send(connection, 10, from: 10 * index) }
        script.expectNothing()
        script.peer(.ack, seq: 1, ack: 11)
        script.expect(.ack, seq: 11, length: 190)
        script.send(connection, 1_500, from: 200)
        script.expect(.ack, seq: 201, length: 1_460)
        script.expectNothing()
        script.peer(.ack, seq: 1, ack: 1_661)
        script.expect(.ack, seq: 1_661, length: 40)
        script.send(connection, 5, from: 1_700)
        script.expectNothing()
        // Switching it off sends what has waited.
        script.stack.setNoDelay(connection, true)
        script.collect()
        script.expect(.ack, seq: 1_701, length: 5)
    }

    @Test("without Nagle's algorithm every push goes at once")
    func noDelay() throws {
        let script = try SegmentScript()
        let connection = script.established()
        #expect(script.stack.isNoDelay(connection))
        for index in 0..<5 {
            script.send(connection, 10, from: 10 * index)
            script.expect(.ack, seq: 1 + 10 * index, length: 10)
        }
    }

    @Test("Nagle's algorithm does not hold the last bytes back from a close")
    func nagleAndClose() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.stack.setNoDelay(connection, false)
        script.send(connection, 10)
        script.send(connection, 10, from: 10)
        script.expect(.ack, seq: 1, length: 10)
        script.expectNothing()
        script.close(connection)
        script.expect([.fin, .ack], seq: 11, length: 10)
    }

    // MARK: Delayed acknowledgements (3.8.6.3)

    @Test("a single segment is acknowledged within the delay, every second one at once")
    func delayedAcknowledgement() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        script.advance(39)
        script.expectNothing()
        script.advance(2)
        script.expect(.ack, seq: 1, ack: 101)
        script.peer(.psh, seq: 101, ack: 1, length: 100)
        script.expectNothing()
        script.peer(.psh, seq: 201, ack: 1, length: 100)
        script.expect(.ack, ack: 301)
        script.advance(1_000)
        script.expectNothing()
        #expect(script.tcp.delayedAcknowledgements == 1)
        _ = connection
    }

    @Test("data that is sent meanwhile carries the acknowledgement")
    func piggyback() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        script.advance(20)
        script.send(connection, 5)
        script.expect(.ack, seq: 1, ack: 101, length: 5)
        script.peer(.ack, seq: 101, ack: 6)
        script.advance(1_000)
        script.expectNothing()
    }

    // RFC 5681, section 4.2
    @Test("out-of-order segments and those that fill gaps are acknowledged at once")
    func immediateAcknowledgement() throws {
        let script = try SegmentScript()
        let connection = script.established()
        for index in 2..<5 {
            script.peer(.psh, seq: 1 + 100 * index, ack: 1, length: 100)
            script.expect(.ack, ack: 1)
        }
        // A part of the gap, then the rest.
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        script.expect(.ack, ack: 101)
        script.peer(.psh, seq: 101, ack: 1, length: 100)
        script.expect(.ack, ack: 501)
        script.expectNothing()
        #expect(script.receive(connection).elementsEqual(pattern(500)))
    }

    @Test("duplicate data is acknowledged at once")
    func duplicateData() throws {
        let script = try SegmentScript()
        _ = script.established()
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        script.advance(50)
        script.expect(.ack, ack: 101)
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        script.expect(.ack, ack: 101)
    }

    @Test("pure acknowledgements are not acknowledged")
    func pureAcknowledgements() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 1_000)
        script.expect(.ack, seq: 1, length: 1_000)
        for ack in stride(from: 101, through: 1_001, by: 100) { script.peer(.ack, seq: 1, ack: ack) }
        for window in 0..<50 { script.peer(.ack, seq: 1, ack: 1_001, window: 60_000 - window) }
        script.advance(seconds: 10)
        script.expectNothing()
    }
}
