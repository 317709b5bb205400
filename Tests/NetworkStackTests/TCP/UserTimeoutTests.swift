import Glibc
import NetworkStack
import Testing
import WireFormats

/// The user timeout (RFC 5482, section 3), also where a closed window is probed (RFC 9293, section 3.8.6.1).
@Suite("TCP: user timeout") struct UserTimeoutTests {
    @Test("it does not end a connection whose peer answers probes, whether it takes their byte or not (MUST-37)", arguments: [false, true])
    func answeredProbes(takesByte: Bool) throws {
        let script = try SegmentScript()
        let connection = script.established(window: 0)
        script.stack.setUserTimeout(connection, 30_000_000_000)
        script.send(connection, 1_000)
        var next = 1
        // The interval between probes grows beyond the timeout.
        for _ in 0..<600 {
            script.advance(seconds: 1)
            let probes = script.takeSent()
            #expect(probes.allSatisfy { $0.seq == next && $0.length == 1 })
            guard !probes.isEmpty else { continue }
            if takesByte { next += 1 }
            script.peer(.ack, seq: 1, ack: next, window: 0)
        }
        #expect(script.state(connection) == .established)
    }

    @Test("it ends a connection whose probes are not answered for that long")
    func unansweredProbes() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 0)
        script.stack.setUserTimeout(connection, 30_000_000_000)
        script.send(connection, 1_000)
        script.advance(seconds: 20)
        #expect(script.state(connection) == .established)
        script.advance(seconds: 60)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ETIMEDOUT)
    }

    // RFC 5482, section 3; RFC 9293, section 3.10.8
    @Test("it ends the connection at its own deadline, not at the next retransmission", arguments: [100, 5_000, 61_000])
    func ownDeadline(milliseconds: Int) throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.stack.setUserTimeout(connection, UInt64(milliseconds) * 1_000_000)
        script.send(connection, 10)
        script.advance(milliseconds - 1)
        #expect(script.state(connection) == .established)
        script.advance(2)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ETIMEDOUT)
        #expect(script.stack.nextDeadline == nil)
    }

    @Test("one that is set while data is unacknowledged counts from its transmission")
    func setLater() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 10)
        script.advance(20_000)
        script.stack.setUserTimeout(connection, 21_000_000_000)
        script.advance(999)
        #expect(script.state(connection) == .established)
        script.advance(2)
        #expect(script.state(connection) == .closed)
    }

    @Test("it ends an attempt to connect at its own deadline")
    func whileConnecting() throws {
        let script = try SegmentScript()
        let connection = script.stack.makeConnection(owner: 2)
        script.stack.setUserTimeout(connection, 4_500_000_000)
        #expect(script.stack.connect(connection, to: Endpoint(address: SegmentScript.remote, port: 5_000)) == 0)
        script.advance(4_499)
        #expect(script.state(connection) == .synSent)
        script.advance(2)
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ETIMEDOUT)
    }

    @Test("a half-open connection of a listener ends at its listener's timeout")
    func halfOpen() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.stack.setUserTimeout(listener, 4_500_000_000)
        script.peer(.syn, seq: 0, mss: 1_460)
        script.advance(4_499)
        #expect(script.stack.statistics.connections == 2)
        script.advance(2)
        #expect(script.stack.statistics.connections == 1)
        #expect(script.state(listener) == .listen)
    }
}
