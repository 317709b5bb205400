import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// What may stand in a header: the MSS, options that lie, checksums, urgent data, sequence numbers that wrap around.
@Suite("TCP: segments") struct SegmentFormatTests {
    // MARK: Segment size (RFC 9293, section 3.7.1)

    @Test("the MSS that is offered is what the link takes")
    func offeredSegmentSize() throws {
        #expect(try SegmentScript().connect().synchronize.maximumSegmentSize == 1_460)
        #expect(try SegmentScript { $0.maximumTransmissionUnit = 9_000 }.connect().synchronize.maximumSegmentSize == 8_960)
        #expect(try SegmentScript { $0.tcp.maximumSegmentSize = 700 }.connect().synchronize.maximumSegmentSize == 700)
        let script = try SegmentScript { $0.maximumTransmissionUnit = 576 }
        _ = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460)
        #expect(script.expect([.syn, .ack]).maximumSegmentSize == 536)
    }

    @Test("without an MSS option segments have at most 536 bytes (MUST-15)")
    func defaultSegmentSize() throws {
        let script = try SegmentScript()
        let connection = script.established(mss: nil)
        script.send(connection, 5_000)
        let sent = script.takeSent()
        #expect(sent.count > 1)
        #expect(sent.dropLast().allSatisfy { $0.length == 536 })
        let passive = try SegmentScript()
        let accepted = passive.accepted(passive.listener(), mss: nil)
        passive.send(accepted, 5_000)
        #expect(passive.takeSent().first?.length == 536)
    }

    @Test("the effective MSS leaves room for the timestamps (MUST-16)")
    func effectiveSegmentSize() throws {
        let script = try SegmentScript()
        let connection = script.established(mss: 1_000, timestamp: 5)
        script.send(connection, 5_000)
        #expect(script.takeSent().prefix(4).allSatisfy { $0.length == 988 })
    }

    @Test("a large MSS is cut to the link's, a tiny one does not make the stack send floods of packets", arguments: [65_535, 1, 0, 63])
    func extremeSegmentSizes(_ mss: Int) throws {
        let script = try SegmentScript()
        let connection = script.established(mss: mss)
        script.send(connection, 20_000)
        let first = script.takeSent().first?.length ?? 0
        switch mss {
        case 65_535: #expect(first == 1_460)
        case 0: #expect(first == 536)
        default: #expect(first >= 48 && first <= 64)
        }
        #expect(script.state(connection) == .established)
    }

    // MARK: Options

    /// The stack's answer to a SYN with these options, padded.
    private func answer(to options: [UInt8]) throws -> SentSegment {
        let script = try SegmentScript()
        _ = script.listener()
        script.peer(.syn, seq: 0, extraOptions: options + [UInt8](repeating: 0, count: (4 - options.count % 4) % 4))
        return script.expect([.syn, .ack], seq: 0, ack: 1)
    }

    @Test("options that are unknown are skipped, and those behind them count")
    func unknownOptions() throws {
        let answer = try answer(to: [253, 6, 1, 2, 3, 4, 1, 30, 2, 1, 3, 3, 5])
        #expect(answer.windowScale != nil)
        #expect(answer.timestamps == nil)
    }

    @Test("options with lengths that lie do no harm (MUST-7)")
    func lyingOptions() throws {
        let lies: [[UInt8]] = [
            [2, 0, 5, 180], [2, 1, 5, 180], [2, 3, 5, 1], [2, 255, 5, 180], [3, 3], [3, 40, 1, 1], [8, 10, 1, 2], [8, 9, 1, 2, 3, 4, 5, 6, 7],
            [8, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9], [1, 1, 1, 2], [1, 1, 1, 8], [5, 2], [5, 10, 0, 0], [253], [253, 0, 0, 0], [253, 1], [3, 2, 1, 1], [3, 4, 9, 9],
            [0, 2, 4, 0], [255, 255, 255, 255], [4, 3, 1, 1],
        ]
        for lie in lies {
            let script = try SegmentScript()
            let listener = script.listener()
            script.peer(.syn, seq: 0, extraOptions: lie + [UInt8](repeating: 0, count: (4 - lie.count % 4) % 4))
            script.expect([.syn, .ack], seq: 0, ack: 1)
            script.peer(.ack, seq: 1, ack: 1, length: 4, extraOptions: lie + [UInt8](repeating: 0, count: (4 - lie.count % 4) % 4))
            let connection = script.stack.accept(listener, owner: 3)
            #expect(script.receive(connection) == pattern(4))
            script.end()
        }
    }

    @Test("nothing behind the end of the option list counts")
    func endOfOptions() throws {
        let answer = try answer(to: [0, 3, 3, 5, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8])
        #expect(answer.windowScale == nil && answer.timestamps == nil)
    }

    @Test("an option that appears twice is no contradiction that could be used")
    func duplicatedOptions() throws {
        let answer = try answer(to: [2, 4, 5, 180, 2, 4, 2, 24, 3, 3, 1, 3, 3, 2, 4, 2, 4, 2])
        #expect(answer.windowScale != nil)
    }

    @Test("segments of changing sizes, with acknowledgements between them, go the short way with right lengths, checksums and timestamps")
    func plainSegments() throws {
        let script = try SegmentScript { $0.tcp.isNoDelay = true }
        let connection = script.established(timestamp: 7)
        let before = script.stack.statistics
        var (sent, received) = (0, 0)
        let sizes = [1, 64, 64, 3, 1_000, 2, 64, 1_023]
        for (index, size) in sizes.enumerated() {
            script.advance(20)
            script.send(connection, size, from: sent)
            // The checksums are looked at as it is read.
            let segment = script.expect([.ack, .psh], seq: 1 + sent, ack: 1 + received, length: size)
            #expect(segment.payload == pattern(size, from: sent))
            #expect(segment.timestamps?.echo == script.peerTimestamp)
            sent += size
            script.peerTimestamp = UInt32(8 + index)
            for _ in 0..<2 {
                script.peer(.ack, seq: 1 + received, ack: 1 + sent, length: 10)
                received += 10
            }
            let acknowledgement = script.expect(.ack, seq: 1 + sent, ack: 1 + received, length: 0)
            #expect(acknowledgement.timestamps?.echo == script.peerTimestamp)
        }
        let statistics = script.stack.statistics
        #expect(statistics.tcp.plainSegmentsSent - before.tcp.plainSegmentsSent == UInt64(2 * sizes.count))
        #expect(statistics.tcp.segmentsSent - before.tcp.segmentsSent == UInt64(2 * sizes.count))
        #expect(statistics.framesSent - before.framesSent == UInt64(2 * sizes.count))
    }

    @Test("an MSS on anything but a SYN is ignored")
    func lateSegmentSize() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer(.ack, seq: 1, ack: 1, mss: 100)
        script.send(connection, 3_000)
        script.expect(.ack, seq: 1, length: 1_460)
    }

    @Test("headers that lie about their length are dropped")
    func lyingHeaders() throws {
        let script = try SegmentScript()
        let connection = script.established()
        for words in 0..<16 where words != 5 {
            var tcp = script.peerBytes([.ack, .psh], seq: 1, ack: 1, window: nil, options: [], payload: [1, 2])
            tcp[12] = UInt8(words) << 4
            script.inject(tcp)
        }
        let whole = script.peerBytes(.ack, seq: 1, ack: 1, window: nil, options: [], payload: [])
        for count in 0..<20 { script.injectPacket(protocolNumber: 6, Array(whole.prefix(count))) }
        #expect(script.stack.receivableByteCount(connection) == 0)
        #expect(script.state(connection) == .established)
        script.expectNothing()
    }

    @Test("reserved bits and ECN bits do not matter")
    func reservedBits() throws {
        let script = try SegmentScript()
        let connection = script.established()
        for bits: UInt8 in 1..<16 {
            var tcp = script.peerBytes([.ack, .psh, .ece, .cwr], seq: Int(bits), ack: 1, window: nil, options: [], payload: [bits])
            tcp[12] |= bits
            script.inject(tcp)
        }
        #expect(script.receive(connection) == Array(1..<16))
    }

    // RFC 9293, section 3.8.5; urgent data stays in its place.
    @Test("urgent data is data in its place")
    func urgentData() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer([.urg, .psh], seq: 1, ack: 1, length: 10, urgentPointer: 5)
        script.peer([.urg], seq: 11, ack: 1, length: 10, urgentPointer: 65_535)
        script.peer([.urg], seq: 21, ack: 1, urgentPointer: 1)
        #expect(script.receive(connection) == pattern(20))
        #expect(script.state(connection) == .established)
    }

    // MARK: Checksums

    /// A segment whose checksum is this, by choice of its last two bytes.
    private func bytes(_ script: SegmentScript, seq: Int, withChecksum wanted: UInt16) -> [UInt8] {
        var tcp = script.peerBytes([.ack, .psh], seq: seq, ack: 1, window: nil, options: [], payload: [1, 2, 3, 4, 0, 0])
        // With zeros there the sum is ~c; what is missing from it to ~wanted goes there.
        let sum = UInt32(~SegmentScript.checksum(tcp, source: SegmentScript.remote, destination: SegmentScript.local))
        var missing = UInt32(~wanted) + (0xffff - sum)
        missing = missing & 0xffff + missing >> 16
        tcp.replaceSubrange(tcp.count - 2..<tcp.count, with: bigEndian(UInt16(missing)))
        return tcp
    }

    // RFC 1071: in one's complement both spell zero.
    @Test("checksums 0x0000 and 0xffff are equal")
    func checksumZero() throws {
        let script = try SegmentScript()
        let connection = script.established()
        var next = 1
        for spelling: UInt16 in [0x0000, 0xffff] {
            for _ in 0..<2 {
                let tcp = bytes(script, seq: next, withChecksum: 0)
                let computed = SegmentScript.checksum(tcp, source: SegmentScript.remote, destination: SegmentScript.local)
                #expect(computed == 0 || computed == 0xffff)
                script.inject(tcp, checksum: spelling)
                next += 6
                #expect(script.stack.receivableByteCount(connection) == next - 1)
            }
        }
        script.advance(50)
        #expect(script.takeSent().last?.ack == next)
    }

    @Test("a wrong checksum is dropped, whichever bit is wrong")
    func wrongChecksum() throws {
        let script = try SegmentScript()
        let connection = script.established()
        let tcp = script.peerBytes([.ack, .psh], seq: 1, ack: 1, window: nil, options: [], payload: [1, 2, 3])
        let right = SegmentScript.checksum(tcp, source: SegmentScript.remote, destination: SegmentScript.local)
        for bit in 0..<16 { script.inject(tcp, checksum: right ^ 1 << UInt16(bit)) }
        #expect(script.drops(.badSegmentChecksum) == 16)
        #expect(script.stack.receivableByteCount(connection) == 0)
        script.inject(tcp, checksum: right)
        #expect(script.stack.receivableByteCount(connection) == 3)
    }

    @Test("segments of all lengths, in arrays cut anywhere, are sent with right checksums and bytes")
    func oddLengths() throws {
        let script = try SegmentScript { $0.tcp.isNoDelay = true }
        let connection = script.established(scale: 7)
        script.peer(.ack, seq: 1, ack: 1)
        var sent = 0
        var received: [UInt8] = []
        var random: UInt64 = 3
        while sent < 60_000 {
            var array: Frame?
            for _ in 0..<5 {
                random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
                let count = Int(random >> 33) % 700 + 1
                let segment = Frame.makeSegment(script.heap, byteCount: count, priority: .application)!
                pattern(count, from: sent).withUnsafeBytes { segment.segmentAddress.copyMemory(from: $0.baseAddress!, byteCount: count) }
                sent += count
                if let array { array.append(segment, behind: array.lastSegment) } else { array = segment }
            }
            #expect(script.stack.send(connection, array!) == 0)
            script.collect()
            // The harness has looked at the checksums.
            for segment in script.takeSent() { received += segment.payload }
            script.peer(.ack, seq: 1, ack: 1 + received.count)
            for segment in script.takeSent() { received += segment.payload }
        }
        script.peer(.ack, seq: 1, ack: 1 + received.count)
        #expect(received.count == sent)
        #expect(received.elementsEqual(pattern(sent)))
    }

    // MARK: Sequence numbers that wrap around

    @Test("a transfer in both directions crosses 2^32", arguments: [0xffff_ffff, 0xffff_fffe, 0xffff_fff0, 0xffff_f000, 0x7fff_fff0, 0x7fff_ffff, 0])
    func wrapAround(_ isn: UInt32) throws {
        let script = try SegmentScript(isn: isn, peerISN: isn &- 700)
        let connection = script.established()
        var next = 1
        for round in 0..<10 {
            script.send(connection, 1_000, from: 1_000 * round)
            #expect(script.expect(.ack, seq: next, length: 1_000).payload == pattern(1_000, from: 1_000 * round))
            next += 1_000
            // Out of order, to have the reassembly queue cross it, too.
            script.peer(.psh, seq: 1 + 500 * round + 250, ack: next, length: 250)
            script.peer(.psh, seq: 1 + 500 * round, ack: next, length: 250)
            _ = script.takeSent()
        }
        #expect(script.receive(connection) == pattern(5_000))
        script.close(connection)
        script.expect([.fin, .ack], seq: next)
        script.peer(.fin, seq: 5_001, ack: next + 1)
        script.expect(.ack, ack: 5_002)
        #expect(script.state(connection) == .timeWait)
    }

    @Test("a loss at 2^32 is retransmitted", arguments: [0xffff_ffff, 0xffff_f000])
    func lossAtWrapAround(_ isn: UInt32) throws {
        let script = try SegmentScript(isn: isn)
        let connection = script.established()
        script.send(connection, 5 * 1_460)
        #expect(script.takeSent().count == 5)
        for _ in 0..<3 { script.peer(.ack, seq: 1, ack: 1_461) }
        script.peer(.ack, seq: 1, ack: 1_461)
        script.expect(.ack, seq: 1_461, length: 1_460)
        script.peer(.ack, seq: 1, ack: 7_301)
        #expect(script.stack.unacknowledgedByteCount(connection) == 0)
    }
}
