import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

private let far = IPAddress.ipv4(192, 0, 2, 1)
private let far6 = IPAddress("2001:db8:9::1")!

/// Redirects of routers, followed only where the configuration asks for them (RFC 792, RFC 1122 section 3.2.2.2, RFC 4861 section 8).
@Suite struct RedirectTests {
    private let first = LowerPeer(254)
    private let second = LowerPeer(253)
    private let router6 = IPv6Peer(macAddress: MACAddress(value: 0x0200_0000_00fe), linkLocal: IPAddress("fe80::fe")!, address: IPAddress("2001:db8::fe")!)
    private let other6 = IPv6Peer(macAddress: MACAddress(value: 0x0200_0000_00fd), linkLocal: IPAddress("fe80::fd")!, address: IPAddress("2001:db8::fd")!)

    /// A host with both families, default routers that it knows, and a socket that has sent something far away over each.
    private final class World {
        let host: LowerHost
        let socket: UInt32
        let socket6: UInt32
        var sent: [UInt8] = []
        var sent6: [UInt8] = []

        init(_ tests: RedirectTests, _ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws {
            host = try LowerHost.ipv6 {
                $0.acceptsRedirects = true
                $0.ipv6.acceptsRedirects = true
                $0.ipv6.routes = [.init(destination: IPv6Prefix(address: .unspecifiedIPv6, length: 0), gateway: tests.router6.linkLocal)]
                configure(&$0)
            }
            socket = host.boundSocket(6_000)
            socket6 = host.boundSocket(6_001, address: .unspecifiedIPv6)
            for peer in [tests.first, tests.second] { host.introduce(peer) }
            for peer in [tests.router6, tests.other6] {
                host.receive(peer.solicitation(for: IPv6Peer.hostLinkLocal, source: peer.linkLocal))
                _ = host.output()
            }
            sent = try #require(send())
            sent6 = try #require(send6())
        }

        func send(to address: IPAddress = far) -> [UInt8]? {
            #expect(host.sendDatagram(socket, [1], to: Endpoint(address: address, port: 7)) == 0)
            return host.output().first { number($0, at: 12) == 0x0800 }
        }

        func send6(to address: IPAddress = far6) -> [UInt8]? {
            #expect(host.sendDatagram(socket6, [1], to: Endpoint(address: address, port: 7)) == 0)
            return host.output().first { $0[20] == 17 }
        }

        var nextHop: UInt8 { send()?[5] ?? 0 }
        var nextHop6: UInt8 { send6()?[5] ?? 0 }
    }

    private func redirect(_ quoted: [UInt8], to gateway: IPAddress = .ipv4(10, 0, 0, 253), from peer: LowerPeer? = nil, code: UInt8 = 1) -> [UInt8] {
        (peer ?? first).icmp([5, code, 0, 0] + ipv4Bytes(gateway) + quoted[14...])
    }

    private func redirect6(
        _ quoted: [UInt8]?, to target: IPAddress, destination: IPAddress = far6, from source: IPAddress? = nil, hopLimit: UInt8 = 255,
        hardware: MACAddress? = MACAddress(value: 0x0200_0000_00fd), code: UInt8 = 0
    ) -> [UInt8] {
        var message: [UInt8] = [137, code, 0, 0, 0, 0, 0, 0] + ipv6Bytes(target) + ipv6Bytes(destination)
        if let hardware { message += [2, 1] + macBytes(hardware) }
        if let quoted {
            var packet = Array(quoted[14...])
            packet += [UInt8](repeating: 0, count: (8 - packet.count % 8) % 8)
            message += [4, UInt8(packet.count / 8 + 1), 0, 0, 0, 0, 0, 0] + packet
        }
        return router6.icmp(message, source: source ?? router6.linkLocal, hopLimit: hopLimit)
    }

    @Test func redirectsAreRefusedUnlessTheConfigurationAcceptsThem() throws {
        let world = try World(self) {
            $0.acceptsRedirects = false
            $0.ipv6.acceptsRedirects = false
        }
        world.host.receive(redirect(world.sent))
        world.host.receive(redirect6(world.sent6, to: other6.linkLocal))
        #expect(world.host.drops(.redirectRefused) == 2)
        #expect(world.nextHop == 254 && world.nextHop6 == 254)
        world.host.end()
    }

    @Test(arguments: [UInt8(0), 1, 2, 3]) func aRedirectMovesItsDestinationAlone(code: UInt8) throws {
        let world = try World(self)
        #expect(world.nextHop == 254)
        world.host.receive(redirect(world.sent, code: code))
        #expect(world.nextHop == 253 && world.send(to: .ipv4(192, 0, 2, 2))?[5] == 254)
        #expect(world.host.stack.statistics.redirectsAccepted == 1 && world.host.stack.statistics.drops.total == 0)
        // From now on the second gateway is the first hop, and the only one that may say otherwise.
        world.host.receive(redirect(world.sent, to: first.address, from: first))
        #expect(world.nextHop == 253 && world.host.drops(.badRedirect) == 1)
        world.host.receive(redirect(world.sent, to: first.address, from: second))
        #expect(world.nextHop == 254)
        world.host.end()
    }

    /// RFC 1122 section 3.2.2.2; and what nobody here has sent is no reason to turn.
    @Test func aRedirectThatIsNotTheFirstHopsOrLeadsOffTheLinkChangesNothing() throws {
        let world = try World(self)
        var foreign = world.sent
        foreign.replaceSubrange(26..<30, with: [10, 0, 0, 77])
        var unsent = world.sent
        unsent[35] ^= 8
        let bad = [
            redirect(world.sent, from: second), redirect(world.sent, to: .ipv4(172, 16, 0, 1)), redirect(world.sent, to: LowerHost.address),
            redirect(world.sent, to: LowerHost.broadcast), redirect(world.sent, code: 4), redirect(foreign), redirect(unsent),
        ]
        for (index, message) in bad.enumerated() {
            world.host.receive(message)
            #expect(world.host.drops(.badRedirect) == UInt64(index) + 1)
        }
        world.host.receive(redirect(Array(world.sent.prefix(34))))
        #expect(world.host.drops(.badControlMessage) == 1)
        #expect(world.nextHop == 254)
        world.host.end()
    }

    /// RFC 5927 section 4.1: a segment that is in flight, and no other.
    @Test func aRedirectForAConnectionQuotesASegmentThatIsUnderWay() throws {
        let world = try World(self)
        let connection = world.host.stack.makeConnection(owner: 1)
        #expect(world.host.stack.connect(connection, to: Endpoint(address: far, port: 80)) == 0)
        let segment = try #require(world.host.output().first { number($0, at: 12) == 0x0800 && $0[23] == 6 })
        #expect(segment[5] == 254)
        var guessed = segment
        guessed[41] &+= 1
        world.host.receive(redirect(guessed))
        #expect(world.host.drops(.badRedirect) == 1)
        world.host.receive(redirect(segment))
        world.host.advance(seconds: 1)
        world.host.advance(seconds: 1)
        let again = world.host.output().filter { number($0, at: 12) == 0x0800 && $0[23] == 6 }
        #expect(!again.isEmpty && again.allSatisfy { $0[5] == 253 })
    }

    @Test func aRedirectExpiresAfterTenMinutes() throws {
        let world = try World(self)
        world.host.receive(redirect(world.sent))
        #expect(world.nextHop == 253)
        world.host.advance(seconds: 599)
        for peer in [first, second] { world.host.introduce(peer) }
        #expect(world.nextHop == 253)
        world.host.advance(seconds: 2)
        for peer in [first, second] { world.host.introduce(peer) }
        #expect(world.nextHop == 254)
        world.host.end()
    }

    @Test func aGatewayThatDoesNotAnswerIsNoBetterWay() throws {
        let world = try World(self)
        world.host.receive(redirect(world.sent, to: .ipv4(10, 0, 0, 200)))
        #expect(world.send() == nil)
        for _ in 0..<4 { world.host.advance(seconds: 1) }
        #expect(world.nextHop == 254)
        world.host.end()
    }

    @Test func redirectsAreBounded() throws {
        let world = try World(self) { $0.limits.redirectedDestinations = 2 }
        for number in 1...3 {
            let sent = try #require(world.send(to: .ipv4(198, 51, 100, UInt8(number))))
            world.host.receive(redirect(sent))
            world.host.advance(milliseconds: 1)
        }
        // The oldest one is forgotten.
        #expect((1...3).map { world.send(to: .ipv4(198, 51, 100, UInt8($0)))?[5] } == [254, 253, 253])
        world.host.end()
    }

    // MARK: IPv6

    /// RFC 4861 sections 8.1 and 8.3.
    @Test func aRouterOfIPv6NamesAnotherRouterOrTheNodeItself() throws {
        let world = try World(self)
        #expect(world.nextHop6 == 254)
        world.host.receive(redirect6(world.sent6, to: other6.linkLocal))
        #expect(world.nextHop6 == 253)
        // The hardware address that it names need not be asked for.
        let node = IPAddress("2001:db8:9::2")!
        let sent = try #require(world.send6(to: node))
        #expect(sent[5] == 254)
        world.host.receive(redirect6(sent, to: node, destination: node, hardware: MACAddress(value: 0x0200_0000_0042)))
        #expect(world.send6(to: node)?[5] == 0x42)
        #expect(world.host.stack.statistics.redirectsAccepted == 2)
        world.host.end()
    }

    @Test func aRedirectOfIPv6ThatFailsACheckChangesNothing() throws {
        let world = try World(self)
        let target = other6.linkLocal
        var unsent = world.sent6
        unsent[55] ^= 1
        let bad = [
            redirect6(world.sent6, to: target, from: other6.linkLocal), redirect6(world.sent6, to: target, from: router6.address),
            redirect6(world.sent6, to: IPAddress("2001:db8::77")!), redirect6(world.sent6, to: IPv6Peer.hostLinkLocal),
            redirect6(world.sent6, to: target, destination: IPAddress("2001:db8:9::7")!),
            redirect6(world.sent6, to: target, destination: IPAddress("ff0e::1")!), redirect6(nil, to: target), redirect6(unsent, to: target),
            redirect6(world.sent6, to: target, hardware: MACAddress(value: 0x0300_0000_00fd)),
        ]
        for (index, message) in bad.enumerated() {
            world.host.receive(message)
            #expect(world.host.drops(.badRedirect) == UInt64(index) + 1)
        }
        world.host.receive(redirect6(world.sent6, to: target, hopLimit: 254))
        world.host.receive(redirect6(world.sent6, to: target, code: 1))
        #expect(world.host.drops(.badNeighborDiscovery) == 2)
        #expect(world.nextHop6 == 254)
        world.host.end()
    }
}
