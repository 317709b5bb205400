import Demikernel
import Glibc
import Testing

/// A call in the wrong state: the stated error, and nothing has changed.
@Suite("Wrong states") struct SocketStateTests {
    enum State: CaseIterable, Sendable {
        case fresh, bound, listening, connecting, connected, sendShutDown, datagram, boundDatagram
    }

    /// The errno with which each call is refused in each state, or 0 where it is not refused. Those that would change the state are left out.
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
                ("connect", EALREADY), ("listen", EINVAL), ("accept", EINVAL), ("push", ENOTCONN), ("discard", ENOTCONN), ("pop", ENOTCONN),
                ("shutdown", ENOTCONN),
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
                ("shutdown", ENOTCONN), ("pushTo6", EAFNOSUPPORT), ("bind6", EAFNOSUPPORT), ("noDelay", EOPNOTSUPP), ("linger", EOPNOTSUPP),
                ("keepAlive", EOPNOTSUPP), ("userTimeout", EOPNOTSUPP),
            ]
        ),
        (.boundDatagram, [("bind", EINVAL), ("listen", EOPNOTSUPP), ("push", EDESTADDRREQ)]),
    ]

    private func call(_ name: String, _ runtime: borrowing Runtime, _ queue: QueueDescriptor) throws(DemikernelError) {
        switch name {
        case "bind": try runtime.bind(queue, to: .loopback(port: 0))
        case "bind6": try runtime.bind(queue, to: .loopback(.ipv6, port: 0))
        case "listen": try runtime.listen(queue, backlog: 4)
        case "backlog": try runtime.listen(queue, backlog: 0)
        case "accept": _ = try runtime.accept(queue)
        case "connect": _ = try runtime.connect(queue, to: .loopback(port: 9))
        case "connect6": _ = try runtime.connect(queue, to: .loopback(.ipv6, port: 9))
        case "push": _ = try runtime.push(queue, bytes: [1])
        case "empty": _ = try runtime.push(queue, bytes: [])
        case "discard": try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        case "emptyDiscard": try runtime.push(queue, runtime.buffer([]), completion: .discarded)
        case "pushTo": _ = try runtime.pushTo(queue, runtime.array([1]), .loopback(port: 9))
        case "pushTo6": _ = try runtime.pushTo(queue, runtime.array([1]), .loopback(.ipv6, port: 9))
        case "pop": _ = try runtime.pop(queue)
        case "shutdown": try runtime.shutdown(queue, .both)
        case "peer": _ = try runtime.peerAddress(queue)
        case "noDelay": _ = try runtime.option(.noDelay, of: queue)
        case "linger": try runtime.setOption(.linger(seconds: 0), on: queue)
        case "userTimeout": _ = try runtime.option(.userTimeout, of: queue)
        case "keepAlive": try runtime.setOption(.keepAlive(idle: 1, interval: 1), on: queue)
        default: preconditionFailure(name)
        }
    }

    @Test("each call in each state", arguments: State.allCases)
    func refusals(_ state: State) throws {
        let runtime = try makeRuntime()
        let isDatagram = state == .datagram || state == .boundDatagram
        var queue = try runtime.socket(.ipv4, isDatagram ? .datagram : .stream)
        var peer: QueueDescriptor?
        var connect: QueueToken?
        switch state {
        case .fresh, .datagram: break
        case .bound, .boundDatagram: try runtime.bind(queue, to: .loopback(port: 0))
        case .listening:
            try runtime.bind(queue, to: .loopback(port: 0))
            try runtime.listen(queue, backlog: 4)
        case .connecting:
            let full = try FullListener()
            connect = try runtime.connect(queue, to: full.address)
            try check(runtime, queue, state)
            try runtime.cancel(#require(connect))
            #expect(try runtime.result(#require(connect)) == .failed(ECANCELED, byteCount: 0))
            return
        case .connected, .sendShutDown:
            let connection = try runtime.connection()
            queue = connection.client
            peer = connection.server
            if state == .sendShutDown { try runtime.shutdown(queue, .send) }
        }
        try check(runtime, queue, state)
        if state == .connected, let peer {
            try runtime.push(queue, runtime.buffer([5]), completion: .discarded)
            #expect(try runtime.result(runtime.pop(peer)) == .popped([5]))
        }
    }

    private func check(_ runtime: borrowing Runtime, _ queue: QueueDescriptor, _ state: State) throws {
        let before = runtime.snapshot()
        for (name, expected) in SocketStateTests.refusals.first(where: { $0.0 == state })!.1 {
            #expect(errorNumber { () throws(DemikernelError) in try call(name, runtime, queue) } == expected, "\(name), \(state)")
            #expect(runtime.snapshot() == before, "\(name), \(state)")
        }
    }
}

/// A kernel listener whose backlog is full, so that one more connect stays under way.
struct FullListener: ~Copyable {
    let address: SocketAddress
    private let listener: Int32
    private var clients: [Int32] = []

    init() throws {
        listener = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var name = sockaddr_in()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = listener
        try withUnsafeMutablePointer(to: &name) { pointer in
            try pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                try #require(bind(descriptor, $0, length) == 0)
                try #require(listen(descriptor, 0) == 0)
                try #require(getsockname(descriptor, $0, &length) == 0)
            }
        }
        address = .ipv4(127, 0, 0, 1, port: UInt16(bigEndian: name.sin_port))
        for _ in 0..<3 {
            let client = socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
            withUnsafePointer(to: &name) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { _ = connect(client, $0, length) }
            }
            clients.append(client)
        }
    }

    deinit {
        for client in clients { close(client) }
        close(listener)
    }
}
