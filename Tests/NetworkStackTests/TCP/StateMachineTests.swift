import Glibc
import NetworkStack
import Testing
import WireFormats

/// RFC 9293, section 3.10.7: what a segment does in each state.
@Suite("TCP: states") struct StateMachineTests {
    // MARK: CLOSED (3.10.7.1)

    @Test("a segment to nobody is answered with a reset that the sender believes")
    func closedAnswers() throws {
        let script = try SegmentScript()
        // "If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>"
        script.peer(.syn, seq: 0, mss: 1_460)
        #expect(script.expect([.rst, .ack], ack: 1).rawSequence == 0)
        script.peer([.fin, .psh], seq: 10, length: 7)
        #expect(script.expect([.rst, .ack], ack: 18).rawSequence == 0)
        // "If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>"
        script.peer(.ack, seq: 5, ack: 77, length: 3)
        let reset = script.expect(.rst, seq: 77)
        #expect(reset.rawAcknowledgement == 0)
        // "An incoming segment containing a RST is discarded."
        script.peer(.rst, seq: 0)
        script.peer([.rst, .ack], seq: 0, ack: 1)
        script.peer([.rst, .syn], seq: 0)
        script.expectNothing()
        script.end()
    }

    // MARK: LISTEN (3.10.7.2)

    @Test("a listener ignores resets, resets acknowledgements, ignores what has no SYN, and answers SYNs")
    func listenAnswers() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peer(.rst, seq: 0)
        script.peer([.rst, .ack], seq: 0, ack: 5)
        script.peer([.rst, .syn], seq: 0)
        script.expectNothing()
        script.peer(.ack, seq: 0, ack: 5)
        script.expect(.rst, seq: 5)
        script.peer([.syn, .ack], seq: 0, ack: 9)
        script.expect(.rst, seq: 9)
        script.peer(.fin, seq: 0)
        script.peer([], seq: 0, length: 10)
        script.peer(.psh, seq: 3)
        script.expectNothing()
        #expect(script.state(listener) == .listen)
        #expect(script.stack.statistics.connections == 1)
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.end()
    }

    @Test("data that comes with a SYN is not acknowledged by the SYN and ACK, and can be sent again")
    func dataWithSynchronize() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460, payload: pattern(10))
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer(.ack, seq: 1, ack: 1, length: 10)
        let connection = script.stack.accept(listener, owner: 3)
        #expect(script.receive(connection) == pattern(10))
    }

    // MARK: SYN-SENT (3.10.7.3)

    @Test("SYN_SENT: an unacceptable acknowledgement is reset, unless it is a reset itself")
    func synSentBadAcknowledgement() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        // "If SEG.ACK =< ISS, or SEG.ACK > SND.NXT, send a reset <SEQ=SEG.ACK><CTL=RST>"
        for bad in [0, -1, 2, 1_000] {
            script.peer(.ack, seq: 0, ack: bad)
            script.expect(.rst, seq: bad)
            script.peer([.syn, .ack], seq: 0, ack: bad)
            script.expect(.rst, seq: bad)
            script.peer([.rst, .ack], seq: 0, ack: bad)
            script.expectNothing()
        }
        #expect(script.state(connection) == .synSent)
        // What is neither a SYN nor a reset is dropped, also with an acceptable acknowledgement.
        script.peer(.ack, seq: 0, ack: 1)
        script.peer([.fin, .ack], seq: 0, ack: 1, length: 4)
        script.peer([], seq: 0, length: 4)
        // "If the ACK bit is off, drop the segment and return" of a reset.
        script.peer(.rst, seq: 0)
        script.expectNothing()
        #expect(script.state(connection) == .synSent)
        script.peer([.syn, .ack], seq: 0, ack: 1)
        script.expect(.ack, seq: 1, ack: 1)
        #expect(script.state(connection) == .established)
    }

    @Test("SYN_SENT: a reset with an acceptable acknowledgement refuses the connection")
    func synSentReset() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.peer([.rst, .ack], seq: 0, ack: 1)
        script.expectNothing()
        #expect(script.state(connection) == .closed)
        #expect(script.stack.connectionError(connection) == ECONNREFUSED)
        #expect(script.events(connection).contains([.failed, .closed]))
        script.advance(seconds: 300)
        script.expectNothing()
    }

    @Test("SYN_SENT: data and FIN of the SYN and ACK count")
    func synSentDataAndFinish() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.peer([.syn, .ack, .fin], seq: 0, ack: 1, mss: 1_460, payload: pattern(5))
        #expect(script.takeSent().last?.ack == 7)
        #expect(script.state(connection) == .closeWait)
        #expect(script.receive(connection) == pattern(5))
        #expect(script.stack.isAtEndOfStream(connection))
    }

    // MARK: SYN-RECEIVED

    @Test("SYN_RECEIVED: a bad acknowledgement is reset and the handshake goes on")
    func synReceivedBadAcknowledgement() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        for bad in [0, -5, 2, 99] {
            // "If the segment acknowledgment is not acceptable, form a reset segment <SEQ=SEG.ACK><CTL=RST> and send it."
            script.peer(.ack, seq: 1, ack: bad)
            script.expect(.rst, seq: bad)
        }
        #expect(!script.stack.hasAcceptable(listener))
        script.peer([], seq: 1, length: 4)
        script.expectNothing()
        script.peer(.ack, seq: 1, ack: 1)
        #expect(script.stack.hasAcceptable(listener))
    }

    @Test("SYN_RECEIVED: a repeated SYN is answered again")
    func synReceivedRepeatedSynchronize() throws {
        let script = try SegmentScript()
        _ = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460)
        let first = script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer(.syn, seq: 0, mss: 1_460)
        let second = script.expect([.syn, .ack], seq: 0, ack: 1)
        #expect(first.rawSequence == second.rawSequence)
        #expect(script.stack.statistics.connections == 2)
    }

    @Test("SYN_RECEIVED of a listener: the exact reset goes back to LISTEN, others do not")
    func synReceivedReset() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        // RFC 5961, section 3.2: outside the window nothing, inside a challenge.
        script.peer(.rst, seq: 0)
        script.peer(.rst, seq: 70_000)
        script.expectNothing()
        script.peer(.rst, seq: 100)
        script.expect(.ack, ack: 1)
        #expect(script.stack.statistics.connections == 2)
        script.peer(.rst, seq: 1)
        script.expectNothing()
        #expect(script.stack.statistics.connections == 1)
        #expect(script.state(listener) == .listen)
        // "The user need not be informed."
        #expect(script.events(listener) == [])
    }

    @Test("a peer that forgot its half-open connection can begin another one")
    func synReceivedNewIncarnation() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        // The new SYN is outside the old window: an acknowledgement, which the peer resets, as its SYN_SENT demands.
        script.peer(.syn, seq: 0x2000_0000, mss: 1_460)
        let answer = script.takeSent()
        #expect(answer.count == 1)
        if answer.first?.flags == .ack {
            script.peer(.rst, seq: answer[0].ack)
            script.peerISN &+= 0x2000_0000
            script.peer(.syn, seq: 0, mss: 1_460)
            script.expect([.syn, .ack], seq: 0, ack: 1)
        }
        script.peer(.ack, seq: 1, ack: 1)
        #expect(script.stack.hasAcceptable(listener))
    }

    // RFC 9293, section 3.10.7.4, fourth
    @Test("SYN_RECEIVED of a listener: another SYN in the window goes back to LISTEN, and the next one opens")
    func synReceivedSynchronizeInWindow() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer(.syn, seq: 1_000, mss: 1_460)
        script.expectNothing()
        #expect(script.stack.statistics.connections == 1)
        #expect(script.state(listener) == .listen)
        #expect(script.events(listener) == [])
        // The peer's SYN is sent again, as it was not answered.
        script.peerISN &+= 1_000
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer(.ack, seq: 1, ack: 1)
        #expect(script.stack.hasAcceptable(listener))
    }

    // RFC 9293, section 3.10.7.4, fourth: "Otherwise, handle per the directions for synchronized states"
    @Test("SYN_RECEIVED of a simultaneous open: another SYN gets a challenge")
    func synReceivedSynchronizeOfSimultaneousOpen() throws {
        let script = try SegmentScript()
        let (connection, _) = script.connect()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer(.syn, seq: 1_000, mss: 1_460)
        script.expect(.ack, seq: 1, ack: 1)
        #expect(script.state(connection) == .synReceived)
        script.peer(.ack, seq: 1, ack: 1)
        #expect(script.state(connection) == .established)
    }

    @Test("the handshake's last acknowledgement may carry data and a FIN")
    func handshakeWithDataAndFinish() throws {
        let script = try SegmentScript()
        let listener = script.listener()
        script.peer(.syn, seq: 0, mss: 1_460)
        script.expect([.syn, .ack], seq: 0, ack: 1)
        script.peer([.fin, .psh], seq: 1, ack: 1, length: 20)
        script.expect(.ack, seq: 1, ack: 22)
        let connection = script.stack.accept(listener, owner: 3)
        #expect(script.state(connection) == .closeWait)
        #expect(script.receive(connection) == pattern(20))
        #expect(script.stack.isAtEndOfStream(connection))
    }

    // MARK: Synchronized states (3.10.7.4)

    /// A connection in the given state; the stack's and the peer's next sequence numbers come with it.
    private func connection(in state: ConnectionState, _ script: SegmentScript) -> (connection: UInt32, next: Int, peerNext: Int) {
        let connection = script.established()
        switch state {
        case .established: return (connection, 1, 1)
        case .finWait1:
            script.shutdown(connection)
            script.expect([.fin, .ack], seq: 1, ack: 1)
            return (connection, 2, 1)
        case .finWait2:
            script.shutdown(connection)
            script.expect([.fin, .ack], seq: 1, ack: 1)
            script.peer(.ack, seq: 1, ack: 2)
            return (connection, 2, 1)
        case .closeWait:
            script.peer(.fin, seq: 1, ack: 1)
            script.expect(.ack, seq: 1, ack: 2)
            return (connection, 1, 2)
        case .closing:
            script.shutdown(connection)
            script.expect([.fin, .ack], seq: 1, ack: 1)
            script.peer(.fin, seq: 1, ack: 1)
            script.expect(.ack, seq: 2, ack: 2)
            return (connection, 2, 2)
        case .lastAcknowledgement:
            script.peer(.fin, seq: 1, ack: 1)
            script.expect(.ack, seq: 1, ack: 2)
            script.shutdown(connection)
            script.expect([.fin, .ack], seq: 1, ack: 2)
            return (connection, 2, 2)
        case .timeWait:
            script.shutdown(connection)
            script.expect([.fin, .ack], seq: 1, ack: 1)
            script.peer(.fin, seq: 1, ack: 2)
            script.expect(.ack, seq: 2, ack: 2)
            return (connection, 2, 2)
        default: fatalError("not a synchronized state")
        }
    }

    static let synchronized: [ConnectionState] = [.established, .finWait1, .finWait2, .closeWait, .closing, .lastAcknowledgement, .timeWait]

    @Test("every synchronized state is reached by its segments", arguments: synchronized)
    func reachesState(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, _, _) = connection(in: state, script)
        #expect(script.state(connection) == state)
        script.expectNothing()
    }

    // RFC 5961, section 3.2
    @Test("a reset at RCV.NXT ends the connection, in the window it is challenged, outside it is ignored", arguments: synchronized)
    func reset(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, next, peerNext) = connection(in: state, script)
        script.peer(.rst, seq: peerNext - 1)
        script.peer([.rst, .ack], seq: peerNext - 1, ack: next)
        script.peer(.rst, seq: peerNext + 70_000)
        script.peer(.rst, seq: peerNext - 1, length: 10)
        script.expectNothing()
        #expect(script.state(connection) == state)
        script.peer(.rst, seq: peerNext + 5)
        script.expect(.ack, seq: next, ack: peerNext)
        #expect(script.state(connection) == state)
        script.peer(.rst, seq: peerNext)
        script.expectNothing()
        #expect(script.state(connection) == .closed)
        // "Enter the CLOSED state, delete the TCB": in CLOSING, LAST-ACK and TIME-WAIT nothing is lost.
        let isAnError = state == .established || state == .finWait1 || state == .finWait2 || state == .closeWait
        #expect(script.stack.connectionError(connection) == (isAnError ? ECONNRESET : 0))
    }

    // RFC 9293, section 3.5.3: SHLD-2
    @Test("a reset may carry data")
    func resetWithData() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.peer([.rst, .ack], seq: 1, ack: 1, payload: [1, 2, 3])
        #expect(script.state(connection) == .closed)
    }

    // RFC 5961, section 4.2
    @Test("a SYN is challenged wherever it lies, and changes nothing", arguments: synchronized)
    func synchronize(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, next, peerNext) = connection(in: state, script)
        for sequence in [0, peerNext, peerNext + 100, peerNext + 100_000_000] {
            script.peer([.syn, .ack], seq: sequence, ack: next)
            script.expect(.ack, seq: next, ack: peerNext)
        }
        if state != .timeWait {
            script.peer(.syn, seq: peerNext, mss: 1_460)
            script.expect(.ack, seq: next, ack: peerNext)
        }
        #expect(script.state(connection) == state)
    }

    @Test("a segment without the ACK bit is dropped", arguments: synchronized)
    func noAcknowledgement(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, _, peerNext) = connection(in: state, script)
        script.peer([], seq: peerNext)
        script.peer([], seq: peerNext, length: 10)
        script.peer(.fin, seq: peerNext)
        script.peer(.psh, seq: peerNext, length: 10)
        script.expectNothing()
        #expect(script.state(connection) == state)
        #expect(script.stack.receivableByteCount(connection) == 0)
    }

    @Test("an acknowledgement of something not sent is answered and dropped with its data", arguments: synchronized)
    func futureAcknowledgement(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, next, peerNext) = connection(in: state, script)
        // "If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the segment, and return."
        script.peer(.ack, seq: peerNext, ack: next + 1)
        script.expect(.ack, seq: next, ack: peerNext)
        script.peer(.ack, seq: peerNext, ack: next + 1, length: 10)
        script.expect(.ack, seq: next, ack: peerNext)
        script.peer(.fin, seq: peerNext, ack: next + 1_000_000)
        script.expect(.ack, seq: next, ack: peerNext)
        #expect(script.state(connection) == state)
        #expect(script.stack.receivableByteCount(connection) == 0)
    }

    // RFC 5961, section 5.2: SND.UNA - MAX.SND.WND =< SEG.ACK
    @Test("an acknowledgement older than the largest window is answered and dropped with its data")
    func ancientAcknowledgement() throws {
        let script = try SegmentScript()
        let connection = script.established(window: 1_000)
        script.peer(.ack, seq: 1, ack: 1 - 1_001, window: 1_000, length: 10)
        script.expect(.ack, seq: 1, ack: 1)
        #expect(script.stack.receivableByteCount(connection) == 0)
        // Within that range it is a duplicate, which can be ignored; its data counts.
        script.peer(.ack, seq: 1, ack: 1 - 1_000, window: 1_000, length: 10)
        #expect(script.stack.receivableByteCount(connection) == 10)
    }

    @Test("an unacceptable segment is answered with an acknowledgement", arguments: synchronized)
    func unacceptable(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, next, peerNext) = connection(in: state, script)
        // Before the window, behind it; with data and without.
        script.peer(.ack, seq: peerNext - 1, ack: next, length: 1)
        script.expect(.ack, seq: next, ack: peerNext)
        script.peer(.ack, seq: peerNext - 1, ack: next)
        script.expect(.ack, seq: next, ack: peerNext)
        script.peer(.ack, seq: peerNext + 65_536, ack: next, length: 1)
        script.expect(.ack, seq: next, ack: peerNext)
        script.peer(.ack, seq: peerNext + 70_000, ack: next)
        script.expect(.ack, seq: next, ack: peerNext)
        #expect(script.state(connection) == state)
    }

    @Test("an acceptable pure acknowledgement of nothing new is not answered", arguments: synchronized)
    func pureAcknowledgement(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, next, peerNext) = connection(in: state, script)
        let own = state == .finWait1 || state == .closing || state == .lastAcknowledgement ? next - 1 : next
        script.peer(.ack, seq: peerNext, ack: own)
        script.peer(.ack, seq: peerNext, ack: own - 1)
        script.expectNothing()
        #expect(script.state(connection) == state)
    }

    @Test("data is received in ESTABLISHED, FIN_WAIT_1 and FIN_WAIT_2", arguments: [ConnectionState.established, .finWait1, .finWait2])
    func dataIsReceived(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, next, _) = connection(in: state, script)
        let own = state == .finWait1 ? next - 1 : next
        script.peer(.psh, seq: 1, ack: own, length: 100)
        script.advance(50)
        script.expect(.ack, seq: next, ack: 101)
        #expect(script.receive(connection) == pattern(100))
        #expect(script.state(connection) == state)
    }

    @Test("data behind the peer's FIN is ignored", arguments: [ConnectionState.closeWait, .closing, .lastAcknowledgement, .timeWait])
    func dataBehindFinish(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, next, peerNext) = connection(in: state, script)
        let own = state == .closing || state == .lastAcknowledgement ? next - 1 : next
        script.peer(.psh, seq: peerNext, ack: own, length: 100)
        // Whether it is answered or not, nothing of it is acknowledged or received.
        for answer in script.takeSent() { #expect(answer.flags == .ack && answer.ack == peerNext) }
        #expect(script.stack.receivableByteCount(connection) == 0)
        #expect(script.state(connection) == state)
    }

    @Test("a FIN moves each state where the RFC says")
    func finish() throws {
        let cases: [(ConnectionState, Bool, ConnectionState)] = [
            (.established, false, .closeWait), (.finWait1, false, .closing), (.finWait1, true, .timeWait), (.finWait2, true, .timeWait),
        ]
        for (state, acknowledgesOurs, expected) in cases {
            let script = try SegmentScript()
            let (connection, next, peerNext) = connection(in: state, script)
            let own = state == .finWait1 && !acknowledgesOurs ? next - 1 : next
            script.peer(.fin, seq: peerNext, ack: own)
            script.expect(.ack, seq: next, ack: peerNext + 1)
            #expect(script.state(connection) == expected)
            #expect(script.stack.isAtEndOfStream(connection))
        }
    }

    @Test("a retransmitted FIN is acknowledged again and changes nothing", arguments: [ConnectionState.closeWait, .closing, .lastAcknowledgement, .timeWait])
    func repeatedFinish(_ state: ConnectionState) throws {
        let script = try SegmentScript()
        let (connection, next, peerNext) = connection(in: state, script)
        let own = state == .closing || state == .lastAcknowledgement ? next - 1 : next
        script.peer(.fin, seq: peerNext - 1, ack: own)
        script.expect(.ack, seq: next, ack: peerNext)
        script.expectNothing()
        #expect(script.state(connection) == state)
    }

    @Test("the acknowledgement of our FIN moves FIN_WAIT_1, CLOSING and LAST_ACK")
    func finishAcknowledged() throws {
        for (state, expected) in [(ConnectionState.finWait1, ConnectionState.finWait2), (.closing, .timeWait), (.lastAcknowledgement, .closed)] {
            let script = try SegmentScript()
            let (connection, next, peerNext) = connection(in: state, script)
            script.peer(.ack, seq: peerNext, ack: next)
            script.expectNothing()
            #expect(script.state(connection) == expected)
            script.advance(seconds: 10)
            script.expectNothing()
        }
    }
}
