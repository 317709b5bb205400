import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// RFC 4861 sections 7.1 to 7.3.
@Suite struct NeighborDiscoveryTests {
    let peer = IPv6Peer()

    @Test func aSolicitationIsAnsweredToItsSender() throws {
        let host = try LowerHost.ipv6()
        for target in [IPv6Peer.hostAddress, IPv6Peer.hostLinkLocal] {
            host.receive(peer.solicitation(for: target))
            let output = host.output()
            #expect(output.count == 1)
            let message = expectWellFormedIPv6(output[0])
            #expect(Array(output[0][0..<6]) == macBytes(peer.macAddress) && output[0][21] == 255)
            #expect(source(of: output[0]) == target && destination(of: output[0]) == peer.address)
            #expect(message[0..<8] == [136, 0] + message[2..<4] + [0x60, 0, 0, 0])
            #expect(Array(message[8...]) == ipv6Bytes(target) + [2, 1] + macBytes(LowerHost.macAddress))
        }
        #expect(host.stack.statistics.neighborAdvertisementsSent == 2)
        host.receive(peer.solicitation(for: IPAddress("2001:db8::9")!))
        #expect(host.output().isEmpty)
        host.end()
    }

    @Test func aNodeThatVerifiesOurAddressIsToldThroughAllNodes() throws {
        let host = try LowerHost.ipv6()
        host.receive(peer.solicitation(for: IPv6Peer.hostAddress, source: .unspecifiedIPv6, sendsAddress: false))
        let output = host.output()
        let message = expectWellFormedIPv6(try #require(output.first))
        #expect(destination(of: output[0]) == .allNodes && message[4] == 0x20)
        #expect(Array(output[0][0..<6]) == hex("33 33 00 00 00 01"))
        host.end()
    }

    /// RFC 4861 section 7.1.1 and 7.1.2.
    @Test func invalidMessagesAreCountedAndDropped() throws {
        let host = try LowerHost.ipv6()
        let target = IPv6Peer.hostAddress
        host.receive(peer.solicitation(for: target, hopLimit: 254))
        host.receive(peer.solicitation(for: .allNodes, destination: target))
        host.receive(peer.solicitation(for: target, source: .unspecifiedIPv6))
        host.receive(peer.solicitation(for: target, source: .unspecifiedIPv6, destination: .allNodes, sendsAddress: false))
        host.receive(peer.icmp([135, 1, 0, 0, 0, 0, 0, 0] + ipv6Bytes(target), hopLimit: 255))
        host.receive(peer.icmp([135, 0, 0, 0, 0, 0, 0, 0] + ipv6Bytes(target).dropLast(), hopLimit: 255))
        host.receive(peer.icmp([135, 0, 0, 0, 0, 0, 0, 0] + ipv6Bytes(target) + [1, 0, 0, 0, 0, 0, 0, 0], hopLimit: 255))
        host.receive(peer.advertisement(hopLimit: 1))
        host.receive(peer.advertisement(flags: 0x60, destination: .allNodes))
        host.receive(peer.solicitation(for: target, source: nil).dropLast() + [9])
        #expect(host.drops(.badNeighborDiscovery) == 9)
        #expect(host.drops(.badControlMessage) == 1, "a wrong checksum")
        #expect(host.stack.statistics.neighbors == 0 && host.output().isEmpty)
        host.end()
    }

    @Test func anAddressIsAskedForAndWhatWaitedIsSent() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        #expect(host.sendDatagram(socket, [1, 2, 3], to: peer.endpoint(7)) == 0)
        let question = try #require(host.output().first)
        let message = expectWellFormedIPv6(question)
        #expect(Array(question[0..<6]) == hex("33 33 ff 00 00 02") && destination(of: question) == peer.address.solicitedNode)
        #expect(message[0] == 135 && Array(message[8...]) == ipv6Bytes(peer.address) + [1, 1] + macBytes(LowerHost.macAddress))
        host.receive(peer.advertisement())
        let sent = try #require(host.output().first)
        #expect(Array(sent[0..<6]) == macBytes(peer.macAddress))
        #expect(expectWellFormedIPv6(sent) == bigEndian(5_000) + bigEndian(7) + [0, 11] + sent[60..<62] + [1, 2, 3])
        host.end()
    }

    /// RFC 4861 section 7.2.2: MAX_MULTICAST_SOLICIT is 3, RETRANS_TIMER a second.
    @Test func aNeighborThatDoesNotAnswerIsAskedThreeTimes() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(7)) == 0)
        #expect(host.sendDatagram(socket, [1]) == 0)
        for _ in 0..<3 {
            #expect(host.output().count == 1)
            host.advance(seconds: 1)
        }
        #expect(host.output().isEmpty)
        #expect(host.drops(.neighborUnreachable) == 1)
        #expect(host.stack.takeDatagramError(socket) == EHOSTUNREACH)
        #expect(host.sendDatagram(socket, [1]) == EHOSTUNREACH)
        host.end()
    }

    /// RFC 4861 section 7.2.5.
    @Test func anAdvertisementNobodyAskedForMakesNoEntry() throws {
        let host = try LowerHost.ipv6()
        host.receive(peer.advertisement(flags: 0x20, destination: .allNodes))
        #expect(host.drops(.unsolicitedAdvertisement) == 1 && host.stack.statistics.neighbors == 0)
        host.receive(peer.advertisement(of: IPv6Peer.hostAddress))
        #expect(host.drops(.addressConflict) == 1)
        host.end()
    }

    @Test func onlyAnOverrideChangesAHardwareAddress() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        let other = MACAddress(value: 0x0200_0000_0077)
        func hardware() throws -> [UInt8] {
            #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == 0)
            return Array(try #require(host.output().first)[0..<6])
        }
        host.receive(peer.advertisement(flags: 0x40, hardware: other))
        #expect(try hardware() == macBytes(peer.macAddress))
        host.receive(peer.advertisement(flags: 0x60, hardware: other))
        #expect(try hardware() == macBytes(other))
        host.end()
    }

    /// RFC 4861 section 7.3.3: STALE, DELAY, PROBE.
    @Test func aStaleNeighborIsProbedFiveSecondsBehindItsFirstUse() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        host.advance(seconds: 20)
        #expect(host.output().isEmpty, "nobody has used it")
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == 0)
        #expect(host.output().count == 1)
        host.advance(milliseconds: 4_900)
        #expect(host.output().isEmpty)
        host.advance(milliseconds: 200)
        let probe = try #require(host.output().first)
        #expect(destination(of: probe) == peer.address && Array(probe[0..<6]) == macBytes(peer.macAddress))
        host.receive(peer.advertisement())
        host.advance(seconds: 20)
        #expect(host.output().isEmpty, "it has answered")
        // Without an answer it is gone behind three probes.
        host.advance(seconds: 10)
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == 0)
        _ = host.output()
        host.advance(seconds: 6)
        for _ in 0..<4 { host.advance(seconds: 1) }
        #expect(host.output().count == 3)
        #expect(host.stack.statistics.neighbors == 0)
        host.end()
    }

    @Test func aFloodOfSolicitationsFillsNoMoreThanTheCache() throws {
        let host = try LowerHost.ipv6 { $0.limits.maximumNeighbors = 8 }
        for index in 0..<100 as Range<UInt64> {
            var stranger = peer
            stranger.address = IPAddress(ipv6HostOrder: 0x2001_0db8 << 32, 0x1000 + index)
            host.receive(stranger.solicitation(for: IPv6Peer.hostAddress))
        }
        #expect(host.stack.statistics.neighbors <= 8)
        #expect(host.output().count == 100)
        host.end()
    }
}
