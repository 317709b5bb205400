import Demikernel
import Glibc
import Testing
import UserNetwork

/// A call in the wrong state: the stated error, the same as over kernel sockets, and nothing has changed.
@Suite("Wrong states") struct SocketStateTests {
    enum State: CaseIterable, Sendable {
        case fresh, bound, listening, connecting, connected, sendShutDown, datagram, boundDatagram
    }

    /// The errno with which each call is refused in each state. Those that would change the state are left out.
    static let refusals: [(State, [(name: String, errno: Int32)])] = [
        (
            .fresh,
            [
                ("listen", EINVAL), ("accept", EINVAL), ("push", ENOTCONN), ("discard", ENOTCONN), ("pop", ENOTCONN), ("shutdown", ENOTCONN),
                ("peer", ENOTCONN), ("pushTo", EOPNOTSUPP), ("backlog", EINVAL), ("bind6", EAFNOSUPPORT), ("connect6", EAFNOSUPPORT),
            ]
        ),
        (.bound, [("bind", EINVAL), ("accept", EINVAL), ("push", ENOTCONN), ("pop", ENOTCONN), ("shutdown", ENOTCONN), ("peer", ENOTCONN)]),
        (.listening, [("bind", EINVAL), ("connect", EINVAL), ("push", ENOTCONN), ("pop", ENOTCONN), ("shutdown", ENOTCONN), ("peer", ENOTCONN)]),
        (
            .connecting,
            [
                ("bind", EINVAL), ("connect", EALREADY), ("listen", EINVAL), ("accept", EINVAL), ("push", ENOTCONN), ("discard", ENOTCONN),
                ("pop", ENOTCONN), ("shutdown", ENOTCONN), ("peer", ENOTCONN),
            ]
        ),
        (
            .connected,
            [
                ("bind", EINVAL), ("listen", EINVAL), ("accept", EINVAL), ("connect", EISCONN), ("pushTo", EOPNOTSUPP), ("empty", EINVAL),
                ("emptyDiscard", EINVAL),
            ]
        ),
        (.sendShutDown, [("push", EPIPE), ("discard", EPIPE), ("connect", EISCONN)]),
        (
            .datagram,
            [
                ("listen", EOPNOTSUPP), ("accept", EINVAL), ("push", EDESTADDRREQ), ("discard", EDESTADDRREQ), ("peer", ENOTCONN),
                ("shutdown", ENOTCONN), ("pushTo6", EAFNOSUPPORT), ("bind6", EAFNOSUPPORT), ("connect6", EAFNOSUPPORT), ("noDelay", EOPNOTSUPP),
                ("linger", EOPNOTSUPP), ("keepAlive", EOPNOTSUPP), ("userTimeout", EOPNOTSUPP),
            ]
        ),
        (.boundDatagram, [("bind", EINVAL), ("listen", EOPNOTSUPP), ("push", EDESTADDRREQ)]),
    ]

    private func call(_ name: String, _ runtime: borrowing Runtime, _ queue: QueueDescriptor) throws(DemikernelError) {
        switch name {
        case "bind": try runtime.bind(queue, to: Host.a(port: 0))
        case "bind6": try runtime.bind(queue, to: .loopback(.ipv6, port: 0))
        case "listen": try runtime.listen(queue, backlog: 4)
        case "backlog": try runtime.listen(queue, backlog: 0)
        case "accept": _ = try runtime.accept(queue)
        case "connect": _ = try runtime.connect(queue, to: Host.b(port: 9))
        case "connect6": _ = try runtime.connect(queue, to: .loopback(.ipv6, port: 9))
        case "push": _ = try runtime.push(queue, bytes: [1])
        case "empty": _ = try runtime.push(queue, bytes: [])
        case "discard": try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        case "emptyDiscard": try runtime.push(queue, runtime.buffer([]), completion: .discarded)
        case "pushTo": _ = try runtime.pushTo(queue, runtime.array([1]), Host.b(port: 9))
        case "pushTo6": _ = try runtime.pushTo(queue, runtime.array([1]), .loopback(.ipv6, port: 9))
        case "pop": _ = try runtime.pop(queue)
        case "shutdown": try runtime.shutdown(queue, .both)
        case "peer": _ = try runtime.peerAddress(queue)
        case "noDelay": _ = try runtime.option(.noDelay, of: queue)
        case "linger": try runtime.setOption(.linger(seconds: 0), on: queue)
        case "keepAlive": try runtime.setOption(.keepAlive(idle: 1, interval: 1), on: queue)
        case "userTimeout": _ = try runtime.option(.userTimeout, of: queue)
        default: preconditionFailure(name)
        }
    }

    @Test("each call in each state", arguments: State.allCases)
    func refusals(_ state: State) throws {
        let pair = try Pair()
        let isDatagram = state == .datagram || state == .boundDatagram
        var queue = try pair.runtime.socket(.ipv4, isDatagram ? .datagram : .stream, on: pair.a)
        var peer: QueueDescriptor?
        var connect: QueueToken?
        switch state {
        case .fresh, .datagram: break
        case .bound, .boundDatagram: try pair.runtime.bind(queue, to: Host.a(port: 0))
        case .listening:
            try pair.runtime.bind(queue, to: Host.a(port: 0))
            try pair.runtime.listen(queue, backlog: 4)
        case .connecting: connect = try pair.runtime.connect(queue, to: Host.nobody(port: 9))
        case .connected, .sendShutDown:
            let connection = try pair.connection()
            queue = connection.client
            peer = connection.server
            if state == .sendShutDown { try pair.runtime.shutdown(queue, .send) }
        }
        // Acknowledgements that are on their way must not be mistaken for a change.
        pair.settle()
        let before = pair.runtime.snapshot()
        for (name, expected) in SocketStateTests.refusals.first(where: { $0.0 == state })!.1 {
            let error = refusal { () throws(DemikernelError) in try call(name, pair.runtime, queue) }
            #expect(error?.errno == expected, "\(name), \(state)")
            #expect(error?.message.utf8CodeUnitCount ?? 0 > 0, "\(name), \(state): says why")
            #expect(pair.runtime.snapshot() == before, "\(name), \(state)")
        }
        if state == .connected, let peer {
            try pair.runtime.push(queue, pair.runtime.buffer([5]), completion: .discarded)
            #expect(try pair.runtime.result(pair.runtime.pop(peer)) == .popped([5]))
        }
        if let connect {
            try pair.runtime.cancel(connect)
            #expect(try pair.runtime.result(connect) == .failed(ECANCELED, byteCount: 0))
        }
    }
}
