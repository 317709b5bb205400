import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// RFC 4987, section 3.6: beyond the limit of half-open connections the peer keeps the state.
@Suite("TCP: SYN cookies") struct SYNCookieTests {
    /// A listener whose half-open connections are as many as it may have.
    private func flooded(_ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws -> (script: SegmentScript, listener: UInt32) {
        let script = try SegmentScript {
            $0.limits.maximumHalfOpen = 1
            configure(&$0)
        }
        let listener = script.listener()
        script.remotePort = 5_999
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        return (script, listener)
    }

    /// A SYN, and the cookie that answers it; sequence numbers count from the cookie afterwards.
    private func cookie(_ script: SegmentScript, port: UInt16, mss: Int? = 1_460, scale: Int? = nil, timestamp: UInt32? = nil) -> SentSegment {
        script.remotePort = port
        script.peer(.syn, seq: 0, mss: mss, scale: scale, timestamp: timestamp)
        let segment = script.expect([.syn, .ack], ack: 1)
        script.stackISN = segment.rawSequence
        return segment
    }

    @Test("a SYN beyond the limit takes no connection, and its acknowledgement makes one")
    func handshake() throws {
        let (script, listener) = try flooded()
        let before = script.stack.statistics.connections
        _ = cookie(script, port: 6_000)
        #expect(script.stack.statistics.connections == before && script.drops(.backlogOverflow) == 0)
        script.peer(.ack, seq: 1, ack: 1)
        script.expectNothing()
        let connection = script.stack.accept(listener, owner: 3)
        #expect(connection != 0 && script.state(connection) == .established)
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        #expect(script.receive(connection) == pattern(100))
        #expect(script.send(connection, 50) == 0)
        script.collect()
        script.expect(.ack, seq: 1, ack: 101, length: 50)
        #expect(script.stack.statistics.tcp.cookiesSent == 1 && script.stack.statistics.tcp.cookiesAccepted == 1)
    }

    @Test("data may come where the acknowledgement was lost")
    func dataFirst() throws {
        let (script, listener) = try flooded()
        _ = cookie(script, port: 6_000)
        script.peer(.psh, seq: 1, ack: 1, length: 10)
        let connection = script.stack.accept(listener, owner: 3)
        #expect(connection != 0 && script.receive(connection) == pattern(10))
    }

    // RFC 9293, section 3.8.6
    @Test("the window that a cookie has promised holds, also when the listener's buffer was made smaller since")
    func promisedWindow() throws {
        let (script, listener) = try flooded { $0.tcp.receiveBuffer = 8_192 }
        let answer = cookie(script, port: 6_000)
        #expect(answer.window == 8_192)
        script.stack.setReceiveBuffer(listener, byteCount: 2_048)
        script.peer(.psh, seq: 1, ack: 1, length: 1_000)
        script.advance(100)
        let first = script.expect(.ack, seq: 1, ack: 1_001)
        #expect(1_001 + first.window >= 1 + 8_192)
        // All of it is taken, and then the smaller buffer holds.
        let connection = script.stack.accept(listener, owner: 3)
        script.peer(.psh, seq: 1_001, ack: 1, length: 1_000)
        #expect(script.receive(connection) == pattern(2_000))
        script.advance(100)
        _ = script.takeSent()
        // Once no cookie of the larger one is valid, the smaller buffer is all that is promised.
        script.advance(seconds: 200)
        script.remotePort = 5_998
        script.peer(.syn, seq: 0, mss: 1_460)
        _ = script.takeSent()
        let later = cookie(script, port: 6_001)
        #expect(later.window == 2_048)
        script.peer(.psh, seq: 1, ack: 1, length: 1_000)
        script.advance(100)
        #expect(1_001 + script.expect(.ack, seq: 1, ack: 1_001).window == 1 + 2_048)
    }

    @Test("window scale and timestamps come back with the timestamp")
    func windowScale() throws {
        let (script, listener) = try flooded()
        let answer = cookie(script, port: 6_000, scale: 7, timestamp: 1_000)
        #expect(answer.windowScale != nil && answer.timestamps?.echo == 1_000)
        script.peerTimestamp = 1_001
        script.peer(.ack, seq: 1, ack: 1, window: 100)
        let connection = script.stack.accept(listener, owner: 3)
        #expect(connection != 0)
        // 100 << 7 = 12,800 bytes have room for 8 whole segments.
        #expect(script.send(connection, 20_000) == 0)
        script.collect()
        let sent = script.takeSent()
        #expect(sent.reduce(0) { $0 + $1.length } == 8 * 1_448 && sent.allSatisfy { $0.timestamps?.echo == 1_001 })
        // Time never goes back for the peer.
        #expect(sent.allSatisfy { Int32(bitPattern: $0.timestamps!.value &- answer.timestamps!.value) >= 0 })
    }

    // RFC 7323, section 3.2
    @Test("a segment that echoes no time of a cookie brings none back")
    func strangeEcho() throws {
        let (script, listener) = try flooded()
        let answer = cookie(script, port: 6_000, scale: 7, timestamp: 1_000)
        let time = try #require(answer.timestamps).value
        script.peerTimestamp = 900
        for echo in [0, time &+ 100, time &- 200_000] where echo != time {
            script.peer(.psh, seq: 1, ack: 1, echo: echo, length: 10)
            script.expect(.rst, seq: 1)
        }
        #expect(script.stack.accept(listener, owner: 3) == 0 && script.stack.statistics.tcp.cookiesAccepted == 0)
        script.peer(.psh, seq: 1, ack: 1, echo: time, length: 10)
        #expect(script.stack.accept(listener, owner: 3) != 0)
    }

    @Test("without timestamps no window is scaled")
    func withoutTimestamps() throws {
        let (script, listener) = try flooded()
        #expect(cookie(script, port: 6_000, scale: 7).windowScale == nil)
        script.peer(.ack, seq: 1, ack: 1, window: 100)
        let connection = script.stack.accept(listener, owner: 3)
        #expect(script.send(connection, 20_000) == 0)
        script.collect()
        #expect(script.takeSent().reduce(0) { $0 + $1.length } == 100)
    }

    @Test("what a cookie does not hold is not agreed on")
    func unheldOptions() throws {
        for timestamp: UInt32? in [nil, 1_000] {
            let (script, listener) = try flooded { $0.tcp.explicitCongestion = .on }
            script.remotePort = 6_000
            script.peer([.syn, .ece, .cwr], seq: 0, mss: 1_460, timestamp: timestamp, sackPermitted: true)
            let answer = script.expect([.syn, .ack], ack: 1)
            script.stackISN = answer.rawSequence
            #expect(answer.isSACKPermitted == (timestamp != nil))
            if timestamp != nil { script.peerTimestamp = 1_001 }
            script.peer(.ack, seq: 1, ack: 1)
            let connection = script.stack.accept(listener, owner: 3)
            #expect(connection != 0)
            // What is agreed on holds: a block tells of what came out of order.
            script.peer(.ack, seq: 11, ack: 1, length: 10)
            #expect(script.expect(.ack, seq: 1, ack: 1).sackBlocks.isEmpty == (timestamp == nil))
        }
    }

    @Test("segments are never larger than the peer takes", arguments: [(nil, 536), (40, 64), (64, 64), (535, 64), (536, 536), (1_459, 1_440), (1_460, 1_460), (9_000, 1_460)])
    func segmentSize(offered: Int?, expected: Int) throws {
        let (script, listener) = try flooded()
        _ = cookie(script, port: 6_000, mss: offered)
        script.peer(.ack, seq: 1, ack: 1)
        let connection = script.stack.accept(listener, owner: 3)
        #expect(script.send(connection, 5_000) == 0)
        script.collect()
        #expect(script.takeSent().first?.length == expected)
    }

    @Test("an acknowledgement that brings no cookie is reset")
    func forged() throws {
        let (script, listener) = try flooded()
        _ = cookie(script, port: 6_000)
        // Of other numbers, another port, another sequence number of the peer.
        for (seq, ack, port) in [(1, 2, 6_000), (1, 0x100_0001, 6_000), (1, 1, 6_001), (2, 1, 6_000)] as [(Int, Int, UInt16)] {
            script.remotePort = port
            script.peer(.ack, seq: seq, ack: ack)
            script.expect(.rst, seq: ack)
        }
        #expect(!script.stack.hasAcceptable(listener) && script.stack.statistics.tcp.cookiesAccepted == 0)
    }

    @Test("a cookie is valid for a minute or two")
    func expiry() throws {
        for (seconds, isValid) in [(60, true), (150, false)] {
            let (script, listener) = try flooded()
            _ = cookie(script, port: 6_000)
            script.advance(seconds: seconds)
            _ = script.takeSent()
            script.peer(.ack, seq: 1, ack: 1)
            #expect(script.stack.hasAcceptable(listener) == isValid)
            if !isValid { script.expect(.rst, seq: 1) }
        }
    }

    @Test("a full backlog takes no cookie, and the peer's next segment tries again")
    func fullBacklog() throws {
        let script = try SegmentScript { $0.limits.maximumHalfOpen = 1 }
        let listener = script.listener(backlog: 1)
        script.remotePort = 5_999
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack])
        _ = cookie(script, port: 6_000)
        let first = script.stackISN
        _ = cookie(script, port: 6_001)
        script.peer(.ack, seq: 1, ack: 1)
        script.remotePort = 6_000
        script.stackISN = first
        script.peer(.ack, seq: 1, ack: 1)
        #expect(script.stack.accept(listener, owner: 3) != 0)
        #expect(script.stack.accept(listener, owner: 3) == 0)
    }

    @Test("a source with its share of half-open connections gets cookies, and others none", arguments: [true, false])
    func limitPerSource(sendsCookies: Bool) throws {
        let script = try SegmentScript {
            $0.limits.maximumHalfOpenPerSource = 3
            $0.tcp.sendsCookies = sendsCookies
        }
        _ = script.listener()
        func synchronize(_ port: UInt16, from source: IPAddress) {
            script.inject(
                script.peerBytes(.syn, seq: 0, ack: nil, window: nil, options: [2, 4, 5, 180], payload: [], port: port), source: source)
        }
        for port in 6_000..<6_003 { synchronize(UInt16(port), from: SegmentScript.remote) }
        #expect(script.stack.statistics.connections == 4 && script.stack.statistics.tcp.cookiesSent == 0)
        synchronize(6_003, from: SegmentScript.remote)
        #expect(script.stack.statistics.connections == 4)
        #expect(script.stack.statistics.tcp.cookiesSent == (sendsCookies ? 1 : 0))
        #expect(script.drops(.halfOpenSourceLimit) == (sendsCookies ? 0 : 1))
        synchronize(6_003, from: .ipv4(10, 0, 0, 3))
        #expect(script.stack.statistics.connections == 5)
        // One of them ends, so that there is room for another.
        script.remotePort = 6_000
        script.peer(.rst, seq: 1)
        #expect(script.stack.statistics.connections == 4)
        synchronize(6_004, from: SegmentScript.remote)
        #expect(script.stack.statistics.connections == 5)
    }

    @Test("a flood of SYNs from anywhere keeps nobody from connecting")
    func flood() throws {
        let pair = try StackPair { _, configuration in
            configuration.limits.maximumHalfOpen = 16
            configuration.routes = [.init(destination: IPv4Prefix(address: .ipv4(0, 0, 0, 0), length: 0), gateway: StackPair.addresses[0])]
        }
        let listener = pair.listener(on: 1, backlog: 4)
        _ = pair.connect(listener: listener)
        let server = pair.stacks[1]
        var served = 0
        for count in 0..<SYNCookieTests.floodLength {
            server.receive(synchronize(pair, count))
            // What answers the flood goes where nobody is.
            if count % 64 == 63 {
                pair.collect(from: 1)
                for (_, frame) in pair.wire { frame.releaseArray() }
                pair.wire = []
            }
            if count % 10_000 == 9_999 {
                let (client, child) = pair.connect(listener: listener)
                #expect(pair.stacks[0].connectionState(client) == .established)
                pair.stacks[0].abort(client)
                pair.stacks[0].release(client)
                pair.exchange()
                pair.stacks[1].release(child)
                while server.takeConnectionEvent() != nil {}
                while pair.stacks[0].takeConnectionEvent() != nil {}
                served += 1
            }
            if count % 100_000 == 0 { #expect(server.statistics.connections <= 16 + 4 + 4) }
        }
        #expect(served == SYNCookieTests.floodLength / 10_000 && server.statistics.tcp.cookiesAccepted >= UInt64(served) - 1)
    }

    // The whole million takes minutes without optimisation.
    #if DEBUG
        private static let floodLength = 50_000
    #else
        private static let floodLength = 1_000_000
    #endif

    /// A SYN of a sender that does not exist.
    private func synchronize(_ pair: StackPair, _ count: Int) -> Frame {
        let source: [UInt8] = [20, UInt8(truncatingIfNeeded: count >> 16), UInt8(truncatingIfNeeded: count >> 8), UInt8(truncatingIfNeeded: count)]
        var tcp: [UInt8] = [0x40, UInt8(truncatingIfNeeded: count), 0, 80] + bigEndian32(UInt32(truncatingIfNeeded: count &* 977))
        tcp += [0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0, 0, 0, 0]
        let pseudo = source + [10, 0, 0, 2, 0, 6, 0, UInt8(tcp.count)]
        tcp.replaceSubrange(16..<18, with: bigEndian(internetChecksum(pseudo + tcp)))
        var packet: [UInt8] = [0x45, 0, 0, UInt8(20 + tcp.count), 0, 0, 0x40, 0, 64, 6, 0, 0] + source + [10, 0, 0, 2]
        packet.replaceSubrange(10..<12, with: bigEndian(internetChecksum(packet)))
        let bytes = [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0] + packet + tcp
        let frame = Frame.makeSegment(pair.heap, byteCount: bytes.count, priority: .reserve)!
        bytes.withUnsafeBytes { frame.segmentAddress.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
        frame.frameFlags = []
        return frame
    }
}
