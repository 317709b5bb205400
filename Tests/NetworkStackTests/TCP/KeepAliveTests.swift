import Glibc
import NetworkStack
import Testing
import WireFormats

/// Keep-alive (RFC 9293, section 3.8.4).
@Suite("TCP: keep-alive") struct KeepAliveTests {
    @Test("keep-alive is off by default")
    func keepAliveIsOff() throws {
        let script = try SegmentScript()
        let connection = script.established()
        #expect(script.stack.keepAlive(connection) == nil)
        script.advance(seconds: 100_000)
        script.expectNothing()
        #expect(script.state(connection) == .established)
        #expect(script.stack.nextDeadline == nil)
    }

    @Test("a silent peer is probed, and lives as long as it answers")
    func keepAliveAnswered() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.stack.setKeepAlive(connection, (idle: 10_000_000_000, interval: 1_000_000_000))
        for _ in 0..<50 {
            script.advance(10_500)
            // "SEG.SEQ = SND.NXT-1"
            script.expect(.ack, seq: 0, ack: 1)
            script.expectNothing()
            script.peer(.ack, seq: 1, ack: 1)
        }
        #expect(script.state(connection) == .established)
        script.stack.setKeepAlive(connection, nil)
        script.advance(seconds: 1_000)
        script.expectNothing()
    }

    @Test("a peer that answers no probe is given up with ETIMEDOUT")
    func keepAliveUnanswered() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.stack.setKeepAlive(connection, (idle: 10_000_000_000, interval: 1_000_000_000))
        script.advance(seconds: 12)
        #expect(script.state(connection) == .established)
        script.advance(seconds: 30)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ETIMEDOUT)
        // "MUST NOT interpret failure to respond to any specific probe as a dead connection"
        #expect(script.tcp.keepAliveProbes > 1)
    }

    // MUST-26: "Keep-alive packets MUST only be sent when no sent data is outstanding"
    @Test("no probe is sent while data is outstanding")
    func keepAliveWithOutstandingData() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.stack.setKeepAlive(connection, (idle: 10_000_000_000, interval: 1_000_000_000))
        script.send(connection, 100)
        script.advance(seconds: 60)
        #expect(script.takeSent().allSatisfy { $0.length == 100 })
        #expect(script.tcp.keepAliveProbes == 0)
    }

    @Test("a keep-alive probe of the peer is answered, with its garbage byte and without", arguments: [0, 1])
    func keepAliveOfPeer(_ length: Int) throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer(.psh, seq: 1, ack: 1, length: 50)
        script.advance(50)
        script.expect(.ack, ack: 51)
        script.peer(.ack, seq: 50, ack: 1, length: length)
        script.expect(.ack, seq: 1, ack: 51)
        #expect(script.receive(connection).count == 50)
    }
}
