import Demikernel
import Glibc
import Testing

/// Addresses that cannot be had, connections that do not come about, listeners.
@Suite("Bind, connect, accept") struct ConnectTests {
    @Test("port in use: EADDRINUSE", arguments: [SocketType.stream, .datagram])
    func portInUse(_ type: SocketType) throws {
        let runtime = try makeRuntime()
        let first = try runtime.socket(.ipv4, type)
        try runtime.bind(first, to: .loopback(port: 0))
        if type == .stream { try runtime.listen(first, backlog: 1) }
        let second = try runtime.socket(.ipv4, type)
        let before = runtime.snapshot()
        let error = refusal { () throws(DemikernelError) in try runtime.bind(second, to: runtime.localAddress(first)) }
        #expect(error == DemikernelError(EADDRINUSE, .bind))
        #expect(error?.message.utf8CodeUnitCount ?? 0 > 0, "it names the mend")
        #expect(runtime.snapshot() == before)
        // The socket is as it was: it takes another port.
        try runtime.bind(second, to: .loopback(port: 0))
    }

    @Test("address not local: EADDRNOTAVAIL")
    func addressNotLocal() throws {
        let runtime = try makeRuntime()
        let socket = try runtime.socket(.ipv4, .stream)
        // TEST-NET-1 (RFC 5737) is no machine's own.
        let error = refusal { () throws(DemikernelError) in try runtime.bind(socket, to: .ipv4(192, 0, 2, 1, port: 0)) }
        #expect(error == DemikernelError(EADDRNOTAVAIL, .bind))
        #expect(error?.message.utf8CodeUnitCount ?? 0 > 0, "it names the mend")
        try runtime.bind(socket, to: .loopback(port: 0))
    }

    /// The first port that needs no privilege; 0 where every port is free for all, as in some containers.
    static var firstUnprivilegedPort: Int {
        guard let file = fopen("/proc/sys/net/ipv4/ip_unprivileged_port_start", "r") else { return 1_024 }
        defer { fclose(file) }
        var text = [CChar](repeating: 0, count: 32)
        return fgets(&text, 31, file) == nil ? 1_024 : atol(text)
    }

    @Test(
        "no permission: EACCES",
        .enabled(if: ConnectTests.firstUnprivilegedPort > 1, "this machine lets everybody have every port (net.ipv4.ip_unprivileged_port_start)"))
    func noPermission() async {
        await #expect(processExitsWith: .success) {
            // A child of its own, so that the other tests keep their privileges.
            if geteuid() == 0 { try #require(setgid(65_534) == 0 && setuid(65_534) == 0) }
            let runtime = try makeRuntime()
            let socket = try runtime.socket(.ipv4, .stream)
            let error = refusal { () throws(DemikernelError) in try runtime.bind(socket, to: .loopback(port: 1)) }
            #expect(error == DemikernelError(EACCES, .bind))
            #expect(error?.message.utf8CodeUnitCount ?? 0 > 0, "it names the mend")
        }
    }

    @Test("nobody listens: ECONNREFUSED, and the socket connects afterwards", arguments: [AddressFamily.ipv4, .ipv6])
    func refused(_ family: AddressFamily) throws {
        let runtime = try makeRuntime()
        let reserved = try runtime.socket(family, .stream)
        try runtime.bind(reserved, to: .loopback(family, port: 0))
        let socket = try runtime.socket(family, .stream)
        let token = try runtime.connect(socket, to: runtime.localAddress(reserved))
        #expect(try runtime.result(token) == .failed(ECONNREFUSED, byteCount: 0))
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.push(socket, bytes: [1]) } == ENOTCONN)
        let listening = try runtime.listener(family)
        let accept = try runtime.accept(listening.queue)
        #expect(try runtime.result(runtime.connect(socket, to: listening.address)) == .connected)
        let server = try runtime.accepted(accept).queue
        try runtime.push(socket, runtime.buffer([1]), completion: .discarded)
        #expect(try runtime.result(runtime.pop(server)) == .popped([1]))
        try runtime.close(socket)
        #expect(try runtime.result(runtime.pop(server)) == .endOfStream)
    }

    @Test("a cancelled connect ends with ECANCELED, and the socket connects afterwards")
    func cancelConnect() throws {
        let runtime = try makeRuntime()
        let full = try FullListener()
        let socket = try runtime.socket(.ipv4, .stream)
        let token = try runtime.connect(socket, to: full.address)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .milliseconds(10)) } == ETIMEDOUT)
        try runtime.cancel(token)
        #expect(try runtime.result(token) == .failed(ECANCELED, byteCount: 0))
        let listening = try runtime.listener()
        let accept = try runtime.accept(listening.queue)
        #expect(try runtime.result(runtime.connect(socket, to: listening.address)) == .connected)
        let server = try runtime.accepted(accept).queue
        try runtime.push(server, runtime.buffer([1]), completion: .discarded)
        #expect(try runtime.result(runtime.pop(socket)) == .popped([1]))
    }

    @Test("a socket that is closed while it connects: ECANCELED")
    func closeWhileConnecting() throws {
        let runtime = try makeRuntime()
        let full = try FullListener()
        let socket = try runtime.socket(.ipv4, .stream)
        let token = try runtime.connect(socket, to: full.address)
        let close = try runtime.closeToken(socket)
        #expect(try runtime.result(token) == .failed(ECANCELED, byteCount: 0))
        #expect(try runtime.result(close) == .closed)
        #expect(runtime.snapshot().openQueues + runtime.snapshot().closingQueues == 0)
    }

    @Test("bytes and the end that come with the edge of the connect are not lost")
    func bytesWithConnect() throws {
        let runtime = try makeRuntime()
        let server = try makeRuntime()
        let listening = try server.listener()
        let accept = try server.accept(listening.queue)
        let socket = try runtime.socket(.ipv4, .stream)
        let connect = try runtime.connect(socket, to: listening.address)
        // The server's runtime does all its work before the client's looks once.
        let accepted = try server.accepted(accept).queue
        try server.push(accepted, server.buffer([1, 2, 3]), completion: .discarded)
        try server.close(accepted)
        #expect(try runtime.result(connect) == .connected)
        #expect(try runtime.result(runtime.pop(socket)) == .popped([1, 2, 3]))
        #expect(try runtime.result(runtime.pop(socket)) == .endOfStream)
    }

    @Test("accepts take connections in order; one that is cancelled takes none")
    func accepts() throws {
        let runtime = try makeRuntime()
        let listening = try runtime.listener(backlog: 8)
        let accepts = try [runtime.accept(listening.queue), runtime.accept(listening.queue), runtime.accept(listening.queue)]
        try runtime.cancel(accepts[1])
        #expect(try runtime.result(accepts[1]) == .failed(ECANCELED, byteCount: 0))
        var clients: [QueueDescriptor] = []
        for _ in 0..<5 {
            let client = try runtime.socket(.ipv4, .stream)
            #expect(try runtime.result(runtime.connect(client, to: listening.address)) == .connected)
            clients.append(client)
        }
        // The first two were taken by the accepts that waited; the others wait in the backlog.
        var servers: [QueueDescriptor] = []
        for token in [accepts[0], accepts[2]] { servers.append(try runtime.accepted(token).queue) }
        for _ in 0..<3 { servers.append(try runtime.accepted(runtime.accept(listening.queue)).queue) }
        for (client, server) in zip(clients, servers) { #expect(try runtime.peerAddress(server) == runtime.localAddress(client)) }
        // Closing the listener ends its accepts, and no connection.
        let last = try runtime.accept(listening.queue)
        try runtime.close(listening.queue)
        #expect(try runtime.result(last) == .failed(ECANCELED, byteCount: 0))
        try runtime.push(servers[4], runtime.buffer([1]), completion: .discarded)
        #expect(try runtime.result(runtime.pop(clients[4])) == .popped([1]))
    }

    @Test("at maximumQueues a socket and an accept fail with EMFILE, and go again afterwards")
    func maximumQueues() throws {
        let runtime = try makeRuntime { $0.limits.maximumQueues = 2 }
        let client = try makeRuntime()
        let listening = try runtime.listener()
        let spare = try runtime.queue()
        #expect(refusal { () throws(DemikernelError) in _ = try runtime.socket(.ipv4, .stream) } == DemikernelError(EMFILE, .socket))
        let accept = try runtime.accept(listening.queue)
        let first = try client.socket(.ipv4, .stream)
        #expect(try client.result(client.connect(first, to: listening.address)) == .connected)
        #expect(try runtime.result(accept) == .failed(EMFILE, byteCount: 0))
        try runtime.close(spare)
        let again = try runtime.accept(listening.queue)
        let second = try client.socket(.ipv4, .stream)
        #expect(try client.result(client.connect(second, to: listening.address)) == .connected)
        let server = try runtime.accepted(again).queue
        try runtime.close(server)
        #expect(runtime.statistics.openQueues == 1)
    }

    @Test("no file descriptor left: accept fails with EMFILE, and serves the connection after one is closed")
    func descriptorExhaustion() async {
        await #expect(processExitsWith: .success) {
            let runtime = try makeRuntime()
            let listening = try runtime.listener()
            let client = try runtime.socket(.ipv4, .stream)
            #expect(try runtime.result(runtime.connect(client, to: listening.address)) == .connected)
            // No descriptor beyond those that are open.
            var limit = rlimit(rlim_cur: 0, rlim_max: 0)
            try #require(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
            let highest = dup(0)
            close(highest)
            limit.rlim_cur = rlim_t(highest)
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
            #expect(refusal { () throws(DemikernelError) in _ = try runtime.socket(.ipv4, .stream) } == DemikernelError(EMFILE, .socket))
            let before = runtime.snapshot()
            for _ in 0..<3 { #expect(try runtime.result(runtime.accept(listening.queue)) == .failed(EMFILE, byteCount: 0)) }
            #expect(runtime.snapshot() == before)
            // A runtime needs descriptors too: it says so, and leaves nothing open.
            #expect(errorNumber { () throws(DemikernelError) in _ = try makeRuntime() } == EMFILE)
            limit.rlim_cur += 1
            try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
            #expect(errorNumber { () throws(DemikernelError) in _ = try makeRuntime() } == EMFILE)
            let server = try runtime.accepted(runtime.accept(listening.queue)).queue
            try runtime.push(client, runtime.buffer([1]), completion: .discarded)
            #expect(try runtime.result(runtime.pop(server)) == .popped([1]))
        }
    }
}
