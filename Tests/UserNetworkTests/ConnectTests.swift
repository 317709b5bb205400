import Demikernel
import Glibc
import NetworkStack
import Testing
import UserNetwork

/// Addresses that cannot be had, connections that do not come about, listeners.
@Suite("Bind, connect, accept") struct ConnectTests {
    @Test("port in use: EADDRINUSE", arguments: [SocketType.stream, .datagram])
    func portInUse(_ type: SocketType) throws {
        let pair = try Pair()
        let first = try pair.runtime.socket(.ipv4, type, on: pair.a)
        try pair.runtime.bind(first, to: Host.a(port: 80))
        let second = try pair.runtime.socket(.ipv4, type, on: pair.a)
        let before = pair.runtime.snapshot()
        for address in [Host.a(port: 80), .any(port: 80)] {
            let error = refusal { () throws(DemikernelError) in try pair.runtime.bind(second, to: address) }
            #expect(error == DemikernelError(EADDRINUSE, .bind))
            #expect(error?.message.utf8CodeUnitCount ?? 0 > 0, "it names the mend")
        }
        #expect(pair.runtime.snapshot() == before)
        // The socket is as it was: it takes another port. And the port is free again when its socket is gone.
        try pair.runtime.bind(second, to: .any(port: 81))
        try pair.runtime.close(first)
        let third = try pair.runtime.socket(.ipv4, type, on: pair.a)
        try pair.runtime.bind(third, to: Host.a(port: 80))
        // Another host has ports of its own.
        try pair.runtime.bind(pair.runtime.socket(.ipv4, type, on: pair.b), to: Host.b(port: 80))
    }

    @Test("several sockets share a port if all of them say so", arguments: [SocketType.stream, .datagram])
    func reusePort(_ type: SocketType) throws {
        let pair = try Pair()
        for _ in 0..<3 {
            let socket = try pair.runtime.socket(.ipv4, type, on: pair.a)
            try pair.runtime.setOption(.reusePort(true), on: socket)
            try pair.runtime.bind(socket, to: .any(port: 80))
        }
        let other = try pair.runtime.socket(.ipv4, type, on: pair.a)
        #expect(errorNumber { () throws(DemikernelError) in try pair.runtime.bind(other, to: .any(port: 80)) } == EADDRINUSE)
    }

    @Test("port 0 gets one that nobody has")
    func anyPort() throws {
        let pair = try Pair()
        var ports: Set<UInt16> = []
        for _ in 0..<200 {
            let socket = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
            try pair.runtime.bind(socket, to: .any(port: 0))
            ports.insert(try pair.runtime.localAddress(socket).port)
        }
        #expect(ports.count == 200 && !ports.contains(0))
    }

    @Test("address not local: EADDRNOTAVAIL", arguments: [SocketType.stream, .datagram])
    func addressNotLocal(_ type: SocketType) throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, type, on: pair.a)
        let error = refusal { () throws(DemikernelError) in try pair.runtime.bind(socket, to: Host.b(port: 80)) }
        #expect(error == DemikernelError(EADDRNOTAVAIL, .bind))
        #expect(error?.message.utf8CodeUnitCount ?? 0 > 0, "it names the mend")
        try pair.runtime.bind(socket, to: Host.a(port: 80))
    }

    @Test("IPv6: EAFNOSUPPORT, with the reason")
    func ipv6() throws {
        let pair = try Pair()
        let error = refusal { () throws(DemikernelError) in _ = try pair.runtime.socket(.ipv6, .stream, on: pair.a) }
        #expect(error == DemikernelError(EAFNOSUPPORT, .socket))
        #expect(error?.message.utf8CodeUnitCount ?? 0 > 0)
        #expect(pair.runtime.statistics.openQueues == 0)
    }

    @Test("nobody listens: ECONNREFUSED, and the socket connects afterwards with its options and its address")
    func refused() throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        try pair.runtime.bind(socket, to: Host.a(port: 5_000))
        try pair.runtime.setOption(.noDelay(false), on: socket)
        try pair.runtime.setOption(.linger(seconds: 9), on: socket)
        for _ in 0..<2 {
            #expect(try pair.runtime.result(pair.runtime.connect(socket, to: Host.b(port: 7))) == .failed(ECONNREFUSED, byteCount: 0))
            #expect(errorNumber { () throws(DemikernelError) in _ = try pair.runtime.push(socket, bytes: [1]) } == ENOTCONN)
            #expect(try pair.runtime.localAddress(socket) == Host.a(port: 5_000))
        }
        let listening = try pair.listener()
        let accept = try pair.runtime.accept(listening)
        #expect(try pair.runtime.result(pair.runtime.connect(socket, to: Host.b(port: 7))) == .connected)
        let (server, peer) = try pair.runtime.accepted(accept)
        #expect(peer == Host.a(port: 5_000))
        #expect(try pair.runtime.option(.noDelay, of: socket) == .noDelay(false))
        #expect(try pair.runtime.option(.linger, of: socket) == .linger(seconds: 9))
        try pair.runtime.push(socket, pair.runtime.buffer([1]), completion: .discarded)
        #expect(try pair.runtime.result(pair.runtime.pop(server)) == .popped([1]))
        try pair.runtime.close(socket)
        #expect(try pair.runtime.result(pair.runtime.pop(server)) == .endOfStream)
        try pair.runtime.close(server)
        try pair.runtime.close(listening)
        pair.expectNothingLeft()
    }

    @Test("nobody answers: ETIMEDOUT, after the SYN was repeated")
    func connectTimeout() throws {
        let pair = try Pair(network: { $0.tcp.maximumSYNRetransmissions = 3 })
        let socket = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        // The neighbour is known, and then silent.
        #expect(try pair.runtime.result(pair.runtime.connect(socket, to: Host.b(port: 7))) == .failed(ECONNREFUSED, byteCount: 0))
        pair.silence()
        let sent = pair.network.tcp.segmentsSent
        pair.clock.step = 1_000_000
        let start = pair.clock.now
        let connect = try pair.runtime.connect(socket, to: Host.b(port: 7))
        #expect(try pair.runtime.result(connect, timeout: nil) == .failed(ETIMEDOUT, byteCount: 0))
        #expect(pair.network.tcp.segmentsSent - sent == 4)
        #expect((15_000_000_000...15_100_000_000).contains(pair.clock.now - start), "1 + 2 + 4 + 8 seconds")
        try pair.runtime.close(socket)
        pair.expectNothingLeft()
    }

    @Test("no such neighbour: EHOSTUNREACH")
    func unreachableNeighbor() throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        pair.clock.step = 100_000
        #expect(try pair.runtime.result(pair.runtime.connect(socket, to: Host.nobody(port: 7)), timeout: nil) == .failed(EHOSTUNREACH, byteCount: 0))
        #expect(pair.network.arpRequestsSent == 3)
        try pair.runtime.close(socket)
        pair.expectNothingLeft()
    }

    @Test("no route: ENETUNREACH", arguments: [SocketType.stream, .datagram])
    func noRoute(_ type: SocketType) throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, type, on: pair.a)
        #expect(try pair.runtime.result(pair.runtime.connect(socket, to: .ipv4(192, 0, 2, 1, port: 7))) == .failed(ENETUNREACH, byteCount: 0))
    }

    @Test("a cancelled connect ends with ECANCELED, and the socket connects afterwards")
    func cancelConnect() throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        let token = try pair.runtime.connect(socket, to: Host.nobody(port: 7))
        #expect(try pair.runtime.isPending(token))
        try pair.runtime.cancel(token)
        #expect(try pair.runtime.result(token) == .failed(ECANCELED, byteCount: 0))
        #expect(try pair.runtime.option(.linger, of: socket) == .linger(seconds: nil))
        let listening = try pair.listener()
        let accept = try pair.runtime.accept(listening)
        #expect(try pair.runtime.result(pair.runtime.connect(socket, to: Host.b(port: 7))) == .connected)
        let server = try pair.runtime.accepted(accept).queue
        try pair.runtime.push(server, pair.runtime.buffer([1]), completion: .discarded)
        #expect(try pair.runtime.result(pair.runtime.pop(socket)) == .popped([1]))
        try pair.runtime.close(listening)
        try pair.runtime.close(socket)
        try pair.runtime.close(server)
        pair.expectNothingLeft()
    }

    @Test("a socket that is closed while it connects: ECANCELED")
    func closeWhileConnecting() throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        let token = try pair.runtime.connect(socket, to: Host.nobody(port: 7))
        let close = try pair.runtime.closeToken(socket)
        #expect(try pair.runtime.result(token) == .failed(ECANCELED, byteCount: 0))
        #expect(try pair.runtime.result(close) == .closed)
        pair.expectNothingLeft()
    }

    @Test("bytes and the end that come together with the handshake's end are not lost")
    func bytesWithConnect() throws {
        let pair = try Pair()
        let listening = try pair.listener()
        let accept = try pair.runtime.accept(listening)
        let socket = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        let connect = try pair.runtime.connect(socket, to: Host.b(port: 7))
        let server = try pair.runtime.accepted(accept).queue
        try pair.runtime.push(server, pair.runtime.buffer([1, 2, 3]), completion: .discarded)
        try pair.runtime.close(server)
        pair.settle()
        #expect(try pair.runtime.result(connect) == .connected)
        #expect(try pair.runtime.result(pair.runtime.pop(socket)) == .popped([1, 2, 3]))
        #expect(try pair.runtime.result(pair.runtime.pop(socket)) == .endOfStream)
    }

    @Test("accepts take connections in order; one that is cancelled takes none")
    func accepts() throws {
        let pair = try Pair()
        let listening = try pair.listener(backlog: 8)
        let accepts = try [pair.runtime.accept(listening), pair.runtime.accept(listening), pair.runtime.accept(listening)]
        try pair.runtime.cancel(accepts[1])
        #expect(try pair.runtime.result(accepts[1]) == .failed(ECANCELED, byteCount: 0))
        var clients: [QueueDescriptor] = []
        for _ in 0..<5 {
            let client = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
            #expect(try pair.runtime.result(pair.runtime.connect(client, to: Host.b(port: 7))) == .connected)
            clients.append(client)
        }
        // The first two were taken by the accepts that waited; the others wait in the backlog.
        var servers: [QueueDescriptor] = []
        for token in [accepts[0], accepts[2]] { servers.append(try pair.runtime.accepted(token).queue) }
        for _ in 0..<3 { servers.append(try pair.runtime.accepted(pair.runtime.accept(listening)).queue) }
        for (client, server) in zip(clients, servers) { #expect(try pair.runtime.peerAddress(server) == pair.runtime.localAddress(client)) }
        // Closing the listener ends its accepts, and no connection.
        let last = try pair.runtime.accept(listening)
        try pair.runtime.close(listening)
        #expect(try pair.runtime.result(last) == .failed(ECANCELED, byteCount: 0))
        try pair.runtime.push(servers[4], pair.runtime.buffer([1]), completion: .discarded)
        #expect(try pair.runtime.result(pair.runtime.pop(clients[4])) == .popped([1]))
    }

    @Test("closing a listener resets the connections that nobody has accepted")
    func closeWithBacklog() throws {
        let pair = try Pair()
        let listening = try pair.listener()
        let client = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        #expect(try pair.runtime.result(pair.runtime.connect(client, to: Host.b(port: 7))) == .connected)
        pair.settle()
        try pair.runtime.close(listening)
        #expect(try pair.runtime.result(pair.runtime.pop(client)) == .failed(ECONNRESET, byteCount: 0))
        try pair.runtime.close(client)
        pair.expectNothingLeft()
    }

    @Test("accepted connections do not count against the backlog")
    func backlog() throws {
        let pair = try Pair()
        let listening = try pair.listener(backlog: 2)
        var servers: [QueueDescriptor] = []
        for _ in 0..<10 {
            let client = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
            #expect(try pair.runtime.result(pair.runtime.connect(client, to: Host.b(port: 7)), timeout: .milliseconds(100)) == .connected)
            servers.append(try pair.runtime.accepted(pair.runtime.accept(listening)).queue)
        }
        #expect(Set(servers).count == 10)
        // Two more wait; the next one's SYN is not answered until one of them is accepted.
        for _ in 0..<2 {
            let client = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
            #expect(try pair.runtime.result(pair.runtime.connect(client, to: Host.b(port: 7)), timeout: .milliseconds(100)) == .connected)
        }
        let late = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        let connect = try pair.runtime.connect(late, to: Host.b(port: 7))
        #expect(try pair.runtime.isPending(connect))
        #expect(UserNetwork.statistics(of: pair.libraryB).network.drops[.backlogOverflow] > 0)
        _ = try pair.runtime.accepted(pair.runtime.accept(listening))
        #expect(try pair.runtime.result(connect, timeout: .seconds(5)) == .connected, "with the repeated SYN")
    }

    @Test("at maximumQueues a socket and an accept fail with EMFILE, the connection stays in the backlog, and is served when there is room")
    func maximumQueues() throws {
        let pair = try Pair(runtime: { $0.limits.maximumQueues = 3 })
        let listening = try pair.listener()
        let client = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        let spare = try pair.runtime.queue()
        #expect(refusal { () throws(DemikernelError) in _ = try pair.runtime.socket(.ipv4, .stream, on: pair.a) } == DemikernelError(EMFILE, .socket))
        let accept = try pair.runtime.accept(listening)
        #expect(try pair.runtime.result(pair.runtime.connect(client, to: Host.b(port: 7))) == .connected)
        #expect(try pair.runtime.result(accept) == .failed(EMFILE, byteCount: 0))
        #expect(try pair.runtime.result(pair.runtime.accept(listening)) == .failed(EMFILE, byteCount: 0))
        try pair.runtime.push(client, pair.runtime.buffer([5]), completion: .discarded)
        try pair.runtime.close(spare)
        let server = try pair.runtime.accepted(pair.runtime.accept(listening)).queue
        #expect(try pair.runtime.result(pair.runtime.pop(server)) == .popped([5]), "what came before the accept is there")
    }

    @Test("at NetworkLimits a socket is ENOBUFS")
    func stackLimits() throws {
        let pair = try Pair(network: {
            $0.limits.maximumConnections = 2
            $0.limits.maximumDatagramSockets = 1
        })
        for (type, count) in [(SocketType.stream, 2), (.datagram, 1)] {
            var sockets: [QueueDescriptor] = []
            for _ in 0..<count { sockets.append(try pair.runtime.socket(.ipv4, type, on: pair.a)) }
            #expect(refusal { () throws(DemikernelError) in _ = try pair.runtime.socket(.ipv4, type, on: pair.a) } == DemikernelError(ENOBUFS, .socket))
            try pair.runtime.close(sockets[0])
            pair.settle()
            _ = try pair.runtime.socket(.ipv4, type, on: pair.a)
        }
    }

    @Test("a connection to the host's own address")
    func toItself() throws {
        let pair = try Pair()
        let listening = try pair.listener()
        let accept = try pair.runtime.accept(listening)
        let client = try pair.runtime.socket(.ipv4, .stream, on: pair.b)
        #expect(try pair.runtime.result(pair.runtime.connect(client, to: Host.b(port: 7))) == .connected)
        let server = try pair.runtime.accepted(accept).queue
        let push = try pair.runtime.push(client, bytes: pattern(0..<250_000))
        #expect(try pair.runtime.receive(server, count: 250_000) == pattern(0..<250_000))
        #expect(try pair.runtime.result(push) == .pushed(250_000))
        try pair.runtime.close(client)
        try pair.runtime.close(server)
        #expect(UserNetwork.statistics(of: pair.libraryB).device.transmittedFrames == 0)
        pair.expectNothingLeft()
    }
}
