import NetworkStack
import Testing
import WireFormats

/// RFC 1191 and RFC 4821: segments as large as the path takes.
@Suite("TCP: path MTU") struct PathMTUTests {
    /// A router could not pass on a packet of `quoted` bytes with the segment at `seq`.
    private func tooBig(_ script: SegmentScript, mtu: Int, seq: Int, quoted: Int = 1_500) {
        let tcp = bigEndian(script.localPort) + bigEndian(script.remotePort) + bigEndian32(script.stackISN &+ UInt32(truncatingIfNeeded: seq))
        var quotation: [UInt8] = [0x45, 0] + bigEndian(UInt16(quoted)) + [0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]
        quotation.replaceSubrange(10..<12, with: bigEndian(internetChecksum(quotation)))
        var message: [UInt8] = [3, 4, 0, 0, 0, 0] + bigEndian(UInt16(mtu)) + quotation + tcp
        message.replaceSubrange(2..<4, with: bigEndian(internetChecksum(message)))
        script.injectPacket(protocolNumber: 1, message)
    }

    @Test("a message that a packet is too big makes segments that fit, at once")
    func shrink() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 4_000)
        #expect(script.takeSent().map(\.length) == [1_460, 1_460, 1_080])
        tooBig(script, mtu: 1_400, seq: 1)
        #expect(script.takeSent().map(\.length) == [1_360, 1_360, 1_280])
        // The others were too big as well, and say nothing new.
        tooBig(script, mtu: 1_400, seq: 1_461)
        script.expectNothing()
        script.peer(.ack, seq: 1, ack: 4_001)
        script.send(connection, 2_000, from: 4_000)
        #expect(script.takeSent().map(\.length) == [1_360, 640])
        #expect(script.stack.statistics.tcp.pathMTUReductions == 1 && script.stack.statistics.tcp.retransmissionTimeouts == 0)
    }

    @Test("a router that does not tell its MTU gets the next smaller plateau", arguments: [(1_500, 1_452), (1_492, 1_240), (1_006, 468)])
    func plateau(quoted: Int, expected: Int) throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 1_460)
        _ = script.takeSent()
        tooBig(script, mtu: 0, seq: 1, quoted: quoted)
        #expect(script.takeSent().first?.length == expected)
    }

    @Test("no message makes segments larger, or smaller than is worth a packet", arguments: [(1_500, 1_460), (9_000, 1_460), (67, 1_460), (68, 64), (100, 64)])
    func lies(mtu: Int, expected: Int) throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 1_460)
        _ = script.takeSent()
        tooBig(script, mtu: mtu, seq: 1)
        let sent = script.takeSent()
        #expect(expected == 1_460 ? sent.isEmpty : sent.first?.length == expected)
    }

    @Test("a message about what is not in flight is nobody's", arguments: [-1, 1_461, 1_000_000])
    func wrongSequence(seq: Int) throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 1_460)
        _ = script.takeSent()
        tooBig(script, mtu: 1_000, seq: seq)
        script.expectNothing()
        #expect(script.drops(.unmatchedControlMessage) == 1)
    }

    @Test("the next connection to the same host begins with what is known, and tries more after ten minutes")
    func memory() throws {
        let script = try SegmentScript()
        let first = script.established()
        script.send(first, 1_460)
        _ = script.takeSent()
        tooBig(script, mtu: 1_300, seq: 1)
        script.peer(.ack, seq: 1, ack: 1_461)
        script.abort(first)
        _ = script.takeSent()
        script.advance(seconds: 300)
        let second = script.established()
        script.send(second, 3_000)
        #expect(script.takeSent().first?.length == 1_260)
        script.peer(.ack, seq: 1, ack: 3_001)
        script.advance(seconds: 301)
        // The way is looked at again with a segment.
        script.send(second, 1, from: 3_000)
        script.peer(.ack, seq: 1, ack: 3_002)
        _ = script.takeSent()
        script.send(second, 3_000, from: 3_001)
        #expect(script.takeSent().first?.length == 1_460)
    }

    @Test("full segments that vanish without a word are sent smaller after the second timeout")
    func blackHole() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 3_000)
        _ = script.takeSent()
        script.advance(250)
        #expect(script.takeSent().last?.length == 1_460)
        script.advance(400)
        let smaller = script.takeSent()
        #expect(smaller.last?.length == 984)
        script.peer(.ack, seq: 1, ack: 985)
        #expect(script.takeSent().allSatisfy { $0.length <= 984 })
        script.peer(.ack, seq: 1, ack: 3_001)
        script.send(connection, 2_000, from: 3_000)
        #expect(script.takeSent().map(\.length) == [984, 984, 32])
        #expect(script.stack.statistics.tcp.blackHolesSuspected == 1)
    }

    @Test("small segments that vanish are no black hole")
    func noBlackHole() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 100)
        script.advance(seconds: 60)
        #expect(script.takeSent().allSatisfy { $0.length == 100 })
        #expect(script.stack.statistics.tcp.blackHolesSuspected == 0)
    }
}
