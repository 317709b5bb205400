import Glibc
import NetworkStack
import Testing
import WireFormats

/// How connections begin and end in all orders (RFC 9293, sections 3.5 and 3.6).
@Suite("TCP: open and close") struct OpenCloseTests {
    // MARK: Simultaneous open (RFC 9293, section 3.5, figure 8)

    @Test("two SYNs that cross make one connection")
    func simultaneousOpen() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        #expect(script.state(connection) == .synReceived)
        script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_460)
        #expect(script.state(connection) == .established)
        for answer in script.takeSent() { #expect(answer.flags == .ack && answer.ack == 1) }
        #expect(script.events(connection).contains(.connected))
        script.send(connection, 10)
        script.expect(.ack, seq: 1, ack: 1, length: 10)
    }

    @Test("a simultaneous open is completed by a plain acknowledgement as well")
    func simultaneousOpenPlainAcknowledgement() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer(.ack, seq: 1, ack: 1)
        script.expectNothing()
        #expect(script.state(connection) == .established)
    }

    // RFC 7323, section 2.2: "The window field in a segment where the SYN bit is set (i.e., a <SYN> or <SYN,ACK>) MUST NOT be scaled."
    @Test("the window of a simultaneous open's SYN and ACK is not scaled")
    func simultaneousOpenWindow() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.peer(.syn, seq: 0, window: 1_000, mss: 1_460, scale: 7)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer([.syn, .ack], seq: 0, ack: 1, window: 1_000, mss: 1_460, scale: 7)
        #expect(script.state(connection) == .established)
        _ = script.takeSent()
        script.send(connection, 5_000)
        #expect(script.takeSent().reduce(0) { $0 + $1.length } <= 1_000)
    }

    @Test("a simultaneous open that is reset is refused")
    func simultaneousOpenReset() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer(.rst, seq: 1)
        script.expectNothing()
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ECONNREFUSED)
    }

    @Test("two stacks that connect to each other at once are connected")
    func simultaneousOpenOfTwoStacks() throws {
        let pair = try StackPair()
        let sockets = (0..<2).map { index in
            let socket = pair.stacks[index].makeConnection(owner: 9)
            #expect(pair.stacks[index].bind(socket, to: Endpoint(address: StackPair.addresses[index], port: 700)) == 0)
            return socket
        }
        // The neighbours are known first, so that the SYNs cross.
        let listener = pair.listener(on: 1)
        _ = pair.connect(listener: listener)
        for index in 0..<2 { #expect(pair.stacks[index].connect(sockets[index], to: Endpoint(address: StackPair.addresses[1 - index], port: 700)) == 0) }
        pair.exchange()
        for index in 0..<2 {
            #expect(pair.stacks[index].connectionState(sockets[index]) == .established)
            #expect(pair.stacks[index].statistics.tcp.simultaneousOpens == 1)
        }
        pair.send(0, sockets[0], pattern(5_000))
        pair.send(1, sockets[1], pattern(3_000))
        pair.advance(100_000_000)
        let received = [pair.receive(0, sockets[0]), pair.receive(1, sockets[1])]
        #expect(received[0].count == 3_000 && received[0].elementsEqual(pattern(3_000)))
        #expect(received[1].count == 5_000 && received[1].elementsEqual(pattern(5_000)))
    }

    @Test("a connection with itself is established, and echoes to itself")
    func selfConnection() throws {
        let script = try SegmentScript()
        let socket = script.stack.makeConnection(owner: 1)
        let own = Endpoint(address: SegmentScript.local, port: 700)
        #expect(script.stack.bind(socket, to: own) == 0)
        let error = script.stack.connect(socket, to: own)
        guard error == 0 else { return }
        script.advance(seconds: 2)
        #expect(script.state(socket) == .established)
        script.send(socket, 100)
        script.advance(100)
        #expect(script.receive(socket) == pattern(100))
        script.close(socket)
        script.advance(seconds: 200)
        #expect(script.state(socket) == .closed)
    }

    // MARK: Close

    @Test("two FINs that cross are a simultaneous close")
    func simultaneousClose() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.close(connection)
        script.expect([.fin, .ack], seq: 1, ack: 1)
        script.peer(.fin, seq: 1, ack: 1)
        script.expect(.ack, seq: 2, ack: 2)
        #expect(script.state(connection) == .closing)
        script.peer(.ack, seq: 2, ack: 2)
        #expect(script.state(connection) == .timeWait)
        script.advance(seconds: 59)
        #expect(script.state(connection) == .timeWait)
        script.advance(seconds: 2)
        #expect(script.state(connection) == .closed)
        script.expectNothing()
        #expect(script.tcp.simultaneousCloses == 1)
    }

    @Test("after our half-close the peer's data still arrives")
    func halfCloseByUs() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 10)
        script.expect(.ack, seq: 1, length: 10)
        script.shutdown(connection)
        script.expect([.fin, .ack], seq: 11, ack: 1)
        #expect(script.send(connection, 1) == EPIPE)
        script.peer(.ack, seq: 1, ack: 12)
        for round in 0..<10 {
            script.peer(.psh, seq: 1 + round * 1_000, ack: 12, length: 1_000)
            #expect(script.receive(connection).elementsEqual(pattern(1_000, from: round * 1_000)))
        }
        // However long it takes: the program has not closed.
        script.advance(seconds: 3_600)
        #expect(script.state(connection) == .finWait2)
        script.peer(.fin, seq: 10_001, ack: 12)
        #expect(script.takeSent().last?.ack == 10_002)
        #expect(script.state(connection) == .timeWait)
        #expect(script.stack.isAtEndOfStream(connection))
    }

    @Test("after the peer's half-close our data still goes out")
    func halfCloseByPeer() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer(.fin, seq: 1, ack: 1, length: 0)
        script.expect(.ack, ack: 2)
        #expect(script.events(connection).contains(.readable))
        #expect(script.stack.isAtEndOfStream(connection))
        script.send(connection, 3_000)
        script.expect(.ack, seq: 1, ack: 2, length: 1_460)
        script.expect(.ack, seq: 1_461, ack: 2, length: 1_460)
        script.expect(.ack, seq: 2_921, ack: 2, length: 80)
        script.peer(.ack, seq: 2, ack: 3_001)
        script.close(connection)
        script.expect([.fin, .ack], seq: 3_001, ack: 2)
        script.peer(.ack, seq: 2, ack: 3_002)
        #expect(script.state(connection) == .closed)
        #expect(script.events(connection).contains(.closed))
        script.stack.release(connection)
        #expect(script.stack.statistics.connections == 0)
        script.end()
    }

    @Test("what was pushed before the close is sent before the FIN, and the FIN rides on the last of it")
    func closeBehindData() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 1_000)
        script.send(connection, 2_000)
        script.expect(.ack, seq: 1, length: 1_000)
        script.close(connection)
        script.expectNothing()
        #expect(script.state(connection) == .finWait1)
        script.peer(.ack, seq: 1, ack: 1_001, window: 1_000)
        script.expect([.fin, .ack], seq: 1_001, length: 1_000)
        script.peer(.ack, seq: 1, ack: 2_001, window: 1_000)
        // The bytes are there, the FIN is not.
        #expect(script.state(connection) == .finWait1)
        script.peer(.ack, seq: 1, ack: 2_002, window: 1_000)
        #expect(script.state(connection) == .finWait2)
    }

    @Test("a FIN that overtakes the segment before it counts with that segment")
    func finishBehindNextSegment() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer(.fin, seq: 101, ack: 1)
        script.expect(.ack, ack: 1)
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        script.expect(.ack, ack: 102)
        #expect(script.state(connection) == .closeWait)
        #expect(script.receive(connection) == pattern(100))
        #expect(script.stack.isAtEndOfStream(connection))
    }

    @Test("a FIN that overtakes data counts when the data is there")
    func finishOutOfOrder() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer(.fin, seq: 201, ack: 1)
        script.expect(.ack, ack: 1)
        #expect(script.state(connection) == .established)
        script.peer(.psh, seq: 101, ack: 1, length: 100)
        script.expect(.ack, ack: 1)
        #expect(!script.stack.isAtEndOfStream(connection))
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        script.expect(.ack, ack: 202)
        script.expectNothing()
        #expect(script.state(connection) == .closeWait)
        #expect(script.receive(connection) == pattern(200))
        #expect(script.stack.isAtEndOfStream(connection))
    }

    @Test("a FIN behind a gap, on data, counts when the gap is filled")
    func finishOnDataOutOfOrder() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer([.fin, .psh], seq: 101, ack: 1, length: 50)
        script.expect(.ack, ack: 1)
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        script.expect(.ack, ack: 152)
        #expect(script.state(connection) == .closeWait)
        #expect(script.receive(connection) == pattern(150))
    }

    @Test("our FIN is sent again until it is acknowledged")
    func finishRetransmission() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.close(connection)
        let first = script.expect([.fin, .ack], seq: 1, ack: 1)
        script.advance(seconds: 3)
        let second = script.expect([.fin, .ack], seq: 1, ack: 1)
        let third = script.expect([.fin, .ack], seq: 1, ack: 1)
        #expect(third.time - second.time > second.time - first.time)
        _ = script.takeSent()
        script.peer(.ack, seq: 1, ack: 2)
        #expect(script.state(connection) == .finWait2)
        script.advance(seconds: 30)
        script.expectNothing()
    }

    @Test("data and FIN that were lost together are sent again together")
    func dataAndFinishRetransmission() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 100)
        script.expect(.ack, seq: 1, length: 100)
        script.shutdown(connection)
        script.expect([.fin, .ack], seq: 101)
        script.advance(1_100)
        // Either the FIN rides on the data or follows it.
        let again = script.takeSent()
        #expect(again.first?.seq == 1 && again.first?.length == 100)
        #expect(again.contains { $0.flags.contains(.fin) && $0.seq + $0.length == 101 })
        script.peer(.ack, seq: 1, ack: 102)
        #expect(script.state(connection) == .finWait2)
        #expect(script.stack.unacknowledgedByteCount(connection) == 0)
    }

    @Test("nobody waits in FIN_WAIT_2 for ever once the program has closed")
    func finWait2EndsByItself() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.close(connection)
        script.expect([.fin, .ack], seq: 1)
        script.peer(.ack, seq: 1, ack: 2)
        #expect(script.state(connection) == .finWait2)
        script.advance(seconds: 61)
        #expect(script.state(connection) == .closed)
        script.stack.release(connection)
        _ = script.events(connection)
        #expect(script.stack.statistics.connections == 0)
    }

    // RFC 9293, section 3.6.1; RFC 2525, section 2.17
    @Test("a close with unread bytes is a reset", arguments: [false, true])
    func closeWithUnreadBytes(_ hasShutDown: Bool) throws {
        let script = try SegmentScript()
        let connection = script.established()
        var next = 1
        if hasShutDown {
            script.shutdown(connection)
            script.expect([.fin, .ack], seq: 1)
            next = 2
            script.peer(.ack, seq: 1, ack: 2)
        }
        script.peer(.psh, seq: 1, ack: next, length: 10)
        _ = script.takeSent()
        script.close(connection)
        let reset = script.expect([.rst, .ack], seq: next)
        #expect(reset.ack == 11)
        #expect(script.state(connection) == .closed)
    }

    // RFC 9293, section 3.6.1: SHLD-3; RFC 2525, section 2.17: whatever else is under way
    @Test("a close with unread bytes is a reset also while pushed bytes wait", arguments: [ConnectionState.established, .closeWait, .finWait1])
    func closeWithUnreadAndUnsentBytes(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let connection = script.established(window: 2_000)
        script.send(connection, 5_000)
        script.peer(.psh, seq: 1, ack: 1, window: 2_000, length: 10)
        if state == .closeWait { script.peer(.fin, seq: 11, ack: 1, window: 2_000) }
        if state == .finWait1 { script.shutdown(connection) }
        #expect(script.state(connection) == state)
        let sent = script.takeSent().map { $0.seq + $0.length }.max() ?? 0
        script.close(connection)
        let reset = script.expect([.rst, .ack], seq: sent)
        #expect(reset.ack == (state == .closeWait ? 12 : 11))
        #expect(script.state(connection) == .closed)
        script.advance(seconds: 10)
        script.expectNothing()
        script.stack.release(connection)
        script.end()
    }

    // RFC 9293, section 3.6.1: SHLD-3
    @Test("data behind the program's close is answered with a reset", arguments: [ConnectionState.finWait1, .finWait2])
    func dataAfterClose(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.close(connection)
        script.expect([.fin, .ack], seq: 1)
        if state == .finWait2 { script.peer(.ack, seq: 1, ack: 2) }
        script.peer(.psh, seq: 1, ack: state == .finWait2 ? 2 : 1, length: 10)
        let reset = script.expect([.rst, .ack])
        #expect(reset.seq == 2)
        #expect(script.state(connection) == .closed)
        #expect(script.drops(.dataAfterClose) == 1)
    }

    // RFC 2018, section 8
    @Test("what was acknowledged selectively before the program's close is not asked for again")
    func selectedBeforeClose() throws {
        let script = try SegmentScript { $0.tcp.offersTimestamps = false }
        let connection = script.established(mss: 1_000, sackPermitted: true)
        script.send(connection, 5)
        script.expect([.psh, .ack], seq: 1, length: 5)
        script.peer(.ack, seq: 1_001, ack: 1, length: 1_000)
        #expect(script.expect(.ack, ack: 1).sackBlocks == [1_001..<2_001])
        script.close(connection)
        script.expect([.fin, .ack], seq: 6)
        // Nobody reads it, but what was pushed is still on its way.
        script.peer(.ack, seq: 1, ack: 1, length: 1_000)
        script.expect(.ack, ack: 2_001)
        #expect(script.drops(.dataAfterClose) == 2)
        script.peer(.fin, seq: 2_001, ack: 7)
        script.expect(.ack, ack: 2_002)
        #expect(script.state(connection) == .timeWait)
        script.end()
    }

    @Test("a linger of zero makes the close a reset", arguments: [ConnectionState.established, .finWait1, .finWait2, .closeWait])
    func lingerZero(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let connection = script.established()
        switch state {
        case .closeWait: script.peer(.fin, seq: 1, ack: 1)
        case .finWait1, .finWait2:
            script.shutdown(connection)
            if state == .finWait2 { script.peer(.ack, seq: 1, ack: 2) }
        default: script.send(connection, 100)
        }
        _ = script.takeSent()
        #expect(script.state(connection) == state)
        script.stack.setLinger(connection, seconds: 0)
        script.close(connection)
        script.expect([.rst, .ack])
        #expect(script.state(connection) == .closed)
        script.advance(seconds: 100)
        script.expectNothing()
    }

    // RFC 9293, section 3.10.5
    @Test("an abort resets and forgets the connection in every state")
    func abort() throws {
        for depth in 0..<5 {
            let script = try SegmentScript()
            let connection = script.established()
            if depth >= 1 { script.shutdown(connection) }
            if depth == 2 { script.peer(.ack, seq: 1, ack: 2) }
            if depth == 3 { script.peer(.fin, seq: 1, ack: 1) }
            if depth == 4 { script.peer(.fin, seq: 1, ack: 2) }
            _ = script.takeSent()
            #expect(script.state(connection) == [.established, .finWait1, .finWait2, .closing, .timeWait][depth])
            script.abort(connection)
            // "CLOSING, LAST-ACK, TIME-WAIT: Respond with ok and delete the TCB."
            if depth < 3 { script.expect([.rst, .ack]) } else { _ = script.takeSent() }
            #expect(script.state(connection) == .closed)
            script.stack.release(connection)
            _ = script.events(connection)
            #expect(script.stack.statistics.connections == 0)
            script.end()
        }
    }

    @Test("a linger ends with a reset when its time is over")
    func lingerEnds() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.send(connection, 100)
        script.stack.setLinger(connection, seconds: 2)
        script.close(connection)
        script.advance(1_900)
        #expect(script.state(connection) == .finWait1)
        _ = script.takeSent()
        script.advance(200)
        #expect(script.takeSent().last?.flags.contains(.rst) == true)
        #expect(script.state(connection) == .closed)
    }

    @Test("closing a socket in SYN_SENT forgets it; what comes for it later is reset")
    func closeInSynSent() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.close(connection)
        script.expectNothing()
        script.peer([.syn, .ack], seq: 0, ack: 1)
        script.expect(.rst, seq: 1)
    }

    @Test("shutting down what is not connected is refused")
    func shutdownUnconnected() throws {
        let script = try SegmentScript()
        let socket = script.stack.makeConnection(owner: 1)
        #expect(script.stack.shutdown(socket, receive: false, send: true) == ENOTCONN)
        #expect(script.send(socket, 1) == ENOTCONN)
        let listener = script.listener()
        #expect(script.stack.shutdown(listener, receive: true, send: true) == ENOTCONN)
    }

    @Test("after shutting down the receiving side the peer's data is acknowledged and forgotten")
    func receiveShutDown() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.shutdown(connection, receive: true, send: false)
        #expect(script.stack.isAtEndOfStream(connection))
        for round in 0..<200 { script.peer(.psh, seq: 1 + round * 1_000, ack: 1, length: 1_000) }
        script.advance(100)
        #expect(script.takeSent().last?.ack == 200_001)
        #expect(script.receive(connection).isEmpty)
        script.send(connection, 5)
        script.expect(.ack, seq: 1, length: 5)
    }
}
