import Glibc
import NetworkStack
import Testing
import WireFormats

/// Passive opens, and the limits on them.
@Suite("TCP: listeners") struct ListenerTests {
    private func handshake(_ script: SegmentScript, port: UInt16) {
        script.remotePort = port
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer(.ack, seq: 1, ack: 1)
        script.expectNothing()
    }

    @Test("a full backlog drops the SYN, which succeeds when it is sent again after an accept")
    func backlogOverflow() throws {
        let script = try SegmentScript()
        let listener = script.listener(backlog: 2)
        handshake(script, port: 6_001)
        handshake(script, port: 6_002)
        script.remotePort = 6_003
        script.peer(.syn, seq: 0, mss: 1_460)
        // Silence, not a reset: the peer tries again.
        script.expectNothing()
        #expect(script.drops(.backlogOverflow) == 1)
        #expect(script.stack.accept(listener, owner: 3) != 0)
        script.advance(1_000)
        handshake(script, port: 6_003)
        #expect(script.stack.accept(listener, owner: 3) != 0)
        #expect(script.stack.accept(listener, owner: 3) != 0)
        #expect(script.stack.accept(listener, owner: 3) == 0)
    }

    @Test("accepted connections do not count against the backlog")
    func acceptedDoNotCount() throws {
        let script = try SegmentScript()
        let listener = script.listener(backlog: 1)
        for port in 6_000..<6_050 {
            handshake(script, port: UInt16(port))
            #expect(script.stack.accept(listener, owner: 3) != 0)
        }
        #expect(script.drops(.backlogOverflow) == 0)
    }

    @Test("connections that end while they wait make room")
    func endedWhileWaiting() throws {
        let script = try SegmentScript()
        let listener = script.listener(backlog: 1)
        handshake(script, port: 6_001)
        script.peer(.rst, seq: 1)
        handshake(script, port: 6_002)
        #expect(script.stack.accept(listener, owner: 3) != 0)
        #expect(script.stack.accept(listener, owner: 3) == 0)
        #expect(script.stack.statistics.connections == 2)
    }

    @Test("connections are accepted in the order in which they were established")
    func order() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        for port: UInt16 in [6_001, 6_002, 6_003] {
            script.remotePort = port
            script.peer(.syn, seq: 0, mss: 1_460)
        }
        for port: UInt16 in [6_002, 6_003, 6_001] {
            script.remotePort = port
            script.peer(.ack, seq: 1, ack: 1)
        }
        let ports = (0..<3).map { _ in script.stack.connectionRemote(script.stack.accept(listener, owner: 3)).port }
        #expect(ports == [6_002, 6_003, 6_001])
    }

    @Test("half-open connections are limited, and end by themselves")
    func halfOpenLimit() throws {
        let script = try SegmentScript {
            $0.limits.maximumHalfOpen = 10
            $0.tcp.sendsCookies = false
        }
        let listener = script.listener()
        for port in 6_000..<6_100 {
            script.remotePort = UInt16(port)
            script.peer(.syn, seq: 0, mss: 1_460)
        }
        #expect(script.takeSent().count == 10)
        #expect(script.drops(.backlogOverflow) == 90)
        #expect(script.stack.statistics.connections == 11)
        // Their SYN and ACK is sent again, with back-off, and given up.
        script.advance(seconds: 400)
        #expect(script.takeSent().allSatisfy { $0.flags == [.syn, .ack] })
        #expect(script.stack.statistics.connections == 1)
        handshake(script, port: 7_000)
        #expect(script.stack.hasAcceptable(listener))
        #expect(script.stack.nextDeadline == nil)
    }

    @Test("a closing listener resets what nobody will accept, and then nobody listens")
    func closeListener() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        handshake(script, port: 6_001)
        script.remotePort = 6_002
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack])
        script.close(listener)
        let resets = script.takeSent()
        #expect(resets.count == 2 && resets.allSatisfy { $0.flags.contains(.rst) && $0.seq == 1 })
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.rst, .ack], ack: 1)
        script.stack.release(listener)
        _ = script.events(listener)
        #expect(script.stack.statistics.connections == 0)
        script.end()
    }

    @Test("the limit of connections drops SYNs")
    func connectionLimit() throws {
        let script = try SegmentScript { $0.limits.maximumConnections = 3 }
        let listener = script.listener()
        for port: UInt16 in [6_001, 6_002, 6_003] {
            script.remotePort = port
            script.peer(.syn, seq: 0, mss: 1_460)
        }
        #expect(script.takeSent().count == 2)
        #expect(script.drops(.connectionLimit) == 1)
        #expect(script.stack.makeConnection(owner: 1) == 0)
        _ = listener
    }

    // RFC 9293, section 3.9.1.1: a listener of one address does not answer for others; bind and listen report what is wrong.
    @Test("bind and listen refuse what is not theirs")
    func bindErrors() throws {
        let script = try SegmentScript()
        let first = script.stack.makeConnection(owner: 1)
        #expect(script.stack.listen(first, backlog: 1) == EDESTADDRREQ)
        #expect(script.stack.bind(first, to: Endpoint(address: SegmentScript.remote, port: 80)) == EADDRNOTAVAIL)
        #expect(script.stack.bind(first, to: Endpoint(address: SegmentScript.local, port: 80)) == 0)
        #expect(script.stack.bind(first, to: Endpoint(address: SegmentScript.local, port: 81)) == EINVAL)
        let second = script.stack.makeConnection(owner: 1)
        #expect(script.stack.bind(second, to: Endpoint(address: .unspecifiedIPv4, port: 80)) == EADDRINUSE)
        #expect(script.stack.bind(second, to: Endpoint(address: .unspecifiedIPv4, port: 0)) == 0)
        #expect(script.stack.connectionLocal(second).port >= 49_152)
        #expect(script.stack.listen(first, backlog: 1) == 0)
        #expect(script.stack.connect(first, to: Endpoint(address: SegmentScript.remote, port: 80)) == EINVAL)
        script.close(first)
        script.stack.release(first)
        let third = script.stack.makeConnection(owner: 1)
        #expect(script.stack.bind(third, to: Endpoint(address: SegmentScript.local, port: 80)) == 0)
    }

    @Test("the third acknowledgement is lost: the peer's data completes the handshake")
    func lostThirdAcknowledgement() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.advance(1_100)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer(.psh, seq: 1, ack: 1, length: 50)
        let connection = script.stack.accept(listener, owner: 3)
        #expect(connection != 0)
        #expect(script.receive(connection) == pattern(50))
    }

    // RFC 1122, section 2.3.2.2
    @Test("many connections that are opened at once wait for the neighbour, and none has to send its SYN again")
    func manyConnectsToUnresolvedNeighbor() throws {
        let pair = try StackPair()
        _ = pair.listener(on: 1, backlog: 256)
        var clients: [UInt32] = []
        for _ in 0..<200 {
            let client = pair.stacks[0].makeConnection(owner: 2)
            #expect(pair.stacks[0].connect(client, to: Endpoint(address: StackPair.addresses[1], port: 80)) == 0)
            clients.append(client)
        }
        pair.exchange()
        #expect(clients.allSatisfy { pair.stacks[0].connectionState($0) == .established })
        #expect(pair.stacks[0].statistics.tcp.retransmittedSegments == 0)
        #expect(pair.stacks[0].statistics.arpRequestsSent == 1)
    }
}
