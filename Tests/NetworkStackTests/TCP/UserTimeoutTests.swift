import Glibc
import NetworkStack
import Testing

/// The user timeout (RFC 5482, section 3) where a closed window is probed (RFC 9293, section 3.8.6.1).
@Suite("TCP: user timeout of probes") struct UserTimeoutTests {
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
}
