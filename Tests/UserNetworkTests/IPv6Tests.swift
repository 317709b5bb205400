import Demikernel
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import UserNetwork
import WireFormats

/// Sockets of both families over a network that speaks both.
@Suite("IPv6") struct IPv6Tests {
    private static let a = address("[2001:db8::1]:5")
    private static let b = address("[2001:db8::2]:7")
    /// 10.0.0.2, as an IPv6 socket sees it.
    private static let mappedB = address("[::ffff:10.0.0.2]:7")

    private func pair() throws -> Pair {
        try Pair(network: { configuration in
            let number = UInt64(configuration.addresses[0].address.ipv4HostOrder & 0xff)
            configuration.ipv6Addresses = [IPv6Prefix(address: IPAddress(ipv6HostOrder: 0x2001_0db8 << 32, number), length: 64)]
            configuration.ipv6.duplicateAddressDetectionTransmits = 0
        })
    }

    private func datagram(_ runtime: borrowing Runtime, _ token: QueueToken) throws -> (bytes: [UInt8], from: SocketAddress?) {
        let completion = try runtime.wait(token, timeout: generous)
        guard case .popped(let array, let source) = consume completion.result else {
            Issue.record("no datagram")
            return ([], nil)
        }
        return (bytes(array), source)
    }

    @Test("a stream over IPv6, and the addresses of both ends")
    func stream() throws {
        let pair = try pair()
        let listening = try pair.runtime.socket(.ipv6, .stream, on: pair.b)
        try pair.runtime.bind(listening, to: .any(.ipv6, port: 7))
        try pair.runtime.listen(listening, backlog: 4)
        let accept = try pair.runtime.accept(listening)
        let client = try pair.runtime.socket(.ipv6, .stream, on: pair.a)
        #expect(try pair.runtime.localAddress(client) == .any(.ipv6, port: 0))
        #expect(try pair.runtime.result(pair.runtime.connect(client, to: IPv6Tests.b)) == .connected)
        let (server, peer) = try pair.runtime.accepted(accept)
        #expect(try pair.runtime.localAddress(client) == peer && peer.family == .ipv6)
        #expect(try pair.runtime.peerAddress(client) == IPv6Tests.b)
        #expect(try pair.runtime.localAddress(server) == IPv6Tests.b)
        let sent = pattern(0..<100_000)
        let push = try pair.runtime.push(client, bytes: sent)
        #expect(try pair.runtime.receive(server, count: sent.count) == sent)
        #expect(try pair.runtime.result(push) == .pushed(sent.count))
        for queue in [client, server, listening] { try pair.runtime.close(queue) }
        pair.expectNothingLeft()
    }

    @Test("an IPv6 listener takes IPv4 connections, as IPv4-mapped peers; an IPv4 socket tells IPv4 addresses")
    func dualStack() throws {
        let pair = try pair()
        let listening = try pair.runtime.socket(.ipv6, .stream, on: pair.b)
        try pair.runtime.bind(listening, to: .any(.ipv6, port: 7))
        try pair.runtime.listen(listening, backlog: 4)
        let accept = try pair.runtime.accept(listening)
        let client = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        #expect(try pair.runtime.result(pair.runtime.connect(client, to: Host.b(port: 7))) == .connected)
        let (server, peer) = try pair.runtime.accepted(accept)
        #expect(peer == address("[::ffff:10.0.0.1]:\(peer.port)"))
        #expect(try pair.runtime.localAddress(server) == IPv6Tests.mappedB)
        #expect(try pair.runtime.peerAddress(client) == Host.b(port: 7))
        // And the other way round.
        let mapped = try pair.runtime.socket(.ipv6, .stream, on: pair.a)
        let second = try pair.runtime.accept(listening)
        #expect(try pair.runtime.result(pair.runtime.connect(mapped, to: IPv6Tests.mappedB)) == .connected)
        let last = try pair.runtime.accepted(second).queue
        for queue in [client, server, listening, mapped, last] { try pair.runtime.close(queue) }
        pair.expectNothingLeft()
    }

    @Test("a socket that is told to take IPv6 alone leaves the port to IPv4", arguments: [SocketType.stream, .datagram])
    func ipv6Only(_ type: SocketType) throws {
        let pair = try pair()
        func error(_ option: SocketOption, _ queue: QueueDescriptor) -> Int32 {
            do throws(DemikernelError) {
                try pair.runtime.setOption(option, on: queue)
                return 0
            } catch {
                return error.errno
            }
        }
        let alone = try pair.runtime.socket(.ipv6, type, on: pair.b)
        #expect(try pair.runtime.option(.ipv6Only, of: alone) == .ipv6Only(false))
        try pair.runtime.setOption(.ipv6Only(true), on: alone)
        #expect(try pair.runtime.option(.ipv6Only, of: alone) == .ipv6Only(true))
        try pair.runtime.bind(alone, to: .any(.ipv6, port: 7))
        #expect(error(.ipv6Only(false), alone) == EINVAL)
        let ipv4 = try pair.runtime.socket(.ipv4, type, on: pair.b)
        try pair.runtime.bind(ipv4, to: .any(port: 7))
        #expect(error(.ipv6Only(true), ipv4) == EOPNOTSUPP)
        // One that takes both finds the port taken by either.
        let both = try pair.runtime.socket(.ipv6, type, on: pair.b)
        #expect(throws: DemikernelError.self) { try pair.runtime.bind(both, to: .any(.ipv6, port: 7)) }
        for queue in [alone, ipv4, both] { try pair.runtime.close(queue) }
        pair.expectNothingLeft()
    }

    @Test("datagrams over both families reach one IPv6 socket, with their senders")
    func datagrams() throws {
        let pair = try pair()
        let receiver = try pair.runtime.socket(.ipv6, .datagram, on: pair.b)
        try pair.runtime.bind(receiver, to: .any(.ipv6, port: 7))
        let six = try pair.runtime.socket(.ipv6, .datagram, on: pair.a)
        try pair.runtime.bind(six, to: IPv6Tests.a)
        let four = try pair.datagramSocket(pair.a, port: 6)
        for round in 0..<3 as Range<UInt8> {
            let pops = try [pair.runtime.pop(receiver), pair.runtime.pop(receiver)]
            #expect(try pair.runtime.result(pair.runtime.pushTo(six, pair.runtime.array([round, 6]), IPv6Tests.b)) == .pushed(2))
            let first = try datagram(pair.runtime, pops[0])
            #expect(first.bytes == [round, 6] && first.from == IPv6Tests.a)
            #expect(try pair.runtime.result(pair.runtime.pushTo(four, pair.runtime.array([round, 4]), Host.b(port: 7))) == .pushed(2))
            let second = try datagram(pair.runtime, pops[1])
            #expect(second.bytes == [round, 4] && second.from == address("[::ffff:10.0.0.1]:6"))
        }
        // An answer to each of them.
        #expect(try pair.runtime.result(pair.runtime.pushTo(receiver, pair.runtime.array([1]), IPv6Tests.a)) == .pushed(1))
        #expect(try datagram(pair.runtime, pair.runtime.pop(six)).from == IPv6Tests.b)
        #expect(try pair.runtime.result(pair.runtime.pushTo(receiver, pair.runtime.array([2]), address("[::ffff:10.0.0.1]:6"))) == .pushed(1))
        #expect(try datagram(pair.runtime, pair.runtime.pop(four)).from == Host.b(port: 7))
        for queue in [receiver, six, four] { try pair.runtime.close(queue) }
        pair.expectNothingLeft()
    }

    @Test("addresses of the other family are refused, and those that nobody has")
    func refusals() throws {
        let pair = try pair()
        let four = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        let six = try pair.runtime.socket(.ipv6, .stream, on: pair.a)
        #expect(errorNumber { () throws(DemikernelError) in try pair.runtime.bind(four, to: .any(.ipv6, port: 7)) } == EAFNOSUPPORT)
        #expect(errorNumber { () throws(DemikernelError) in try pair.runtime.bind(six, to: .any(port: 7)) } == EAFNOSUPPORT)
        #expect(errorNumber { () throws(DemikernelError) in try pair.runtime.bind(six, to: IPv6Tests.b) } == EADDRNOTAVAIL)
        #expect(errorNumber { () throws(DemikernelError) in _ = try pair.runtime.connect(four, to: IPv6Tests.b) } == EAFNOSUPPORT)
        #expect(try pair.runtime.result(pair.runtime.connect(six, to: address("[2001:db9::1]:7"))) == .failed(ENETUNREACH, byteCount: 0))
        #expect(try pair.runtime.result(pair.runtime.connect(six, to: address("[2001:db8::2]:8"))) == .failed(ECONNREFUSED, byteCount: 0))
        for queue in [four, six] { try pair.runtime.close(queue) }
        pair.expectNothingLeft()
    }
}

/// The address that the text names.
private func address(_ text: String) -> SocketAddress {
    do {
        return try SocketAddress(parsing: text)
    } catch {
        preconditionFailure("\(text) is no address")
    }
}
