import EthernetDevice
import NetworkStack
import Testing
import WireFormats

/// RFC 4862, RFC 4861 section 6.3, RFC 3810.
@Suite struct AddressConfigurationTests {
    let peer = IPv6Peer()
    let prefix = IPv6Prefix(parsing: "2001:db8:1::/64")!

    /// A host without an IPv6 address of its own.
    private func bareHost(_ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws -> LowerHost {
        try LowerHost {
            $0.ipv6.isEnabled = true
            $0.ipv6.acceptsRouterAdvertisements = true
            configure(&$0)
        }
    }

    @Test func anInterfaceWithoutIPv6IgnoresIt() throws {
        let host = try LowerHost()
        host.receive(peer.solicitation(for: IPv6Peer.hostLinkLocal))
        host.receive(peer.icmp([128, 0, 0, 0, 0, 1, 0, 1], hardware: LowerHost.macAddress))
        host.advance(seconds: 10)
        #expect(host.drops(.notForThisHost) == 1 && host.drops(.unknownEtherType) == 1 && host.output().isEmpty)
        #expect(!host.stack.speaksIPv6 && host.stack.ipv6Addresses.isEmpty)
        host.end()
    }

    @Test func aLinkLocalAddressIsMadeOfTheHardwareAddressOrOfASecret() throws {
        func address(_ configure: (inout NetworkConfiguration) -> Void) throws -> IPAddress? {
            let host = try LowerHost {
                $0.ipv6.isEnabled = true
                $0.ipv6.duplicateAddressDetectionTransmits = 0
                configure(&$0)
            }
            return host.stack.ipv6Addresses.first
        }
        #expect(try address { _ in } == IPv6Peer.hostLinkLocal)
        let stable = try #require(try address { $0.ipv6.stableSecret = .init(1, 2) })
        #expect(stable.isLinkLocal && stable != IPv6Peer.hostLinkLocal)
        #expect(try address { $0.ipv6.stableSecret = .init(1, 2) } == stable)
        #expect(try address { $0.ipv6.stableSecret = .init(1, 3) } != stable)
    }

    /// RFC 4862 section 5.4.2.
    @Test func anAddressIsVerifiedBeforeItIsUsed() throws {
        let host = try LowerHost { $0.ipv6.isEnabled = true }
        host.advance(milliseconds: 1_000)
        let questions = host.output().filter { $0.count >= 78 && $0[54] == 135 }
        #expect(questions.count == 1)
        let message = expectWellFormedIPv6(questions[0])
        #expect(source(of: questions[0]) == .unspecifiedIPv6 && destination(of: questions[0]) == IPv6Peer.hostLinkLocal.solicitedNode)
        #expect(message.count == 24 && Array(message[8...]) == ipv6Bytes(IPv6Peer.hostLinkLocal) && questions[0][21] == 255)
        #expect(host.stack.ipv6Addresses.isEmpty)
        // Nobody gets an answer from it meanwhile.
        host.receive(peer.solicitation(for: IPv6Peer.hostLinkLocal))
        host.receive(peer.icmp([128, 0, 0, 0, 0, 1, 0, 1], destination: IPv6Peer.hostLinkLocal))
        #expect(host.output().filter { $0[54] == 136 || $0[54] == 129 }.isEmpty)
        host.advance(milliseconds: 1_100)
        #expect(host.stack.ipv6Addresses == [IPv6Peer.hostLinkLocal])
        host.end()
    }

    /// RFC 4862 sections 5.4.3 to 5.4.5.
    @Test(arguments: [false, true]) func anAddressThatAnotherNodeHasIsNeverUsed(isAdvertised: Bool) throws {
        let host = try LowerHost { $0.ipv6.isEnabled = true }
        let target = IPv6Peer.hostLinkLocal
        host.receive(
            isAdvertised
                ? peer.advertisement(of: target, flags: 0x20, destination: .allNodes)
                : peer.solicitation(for: target, source: .unspecifiedIPv6, sendsAddress: false))
        for _ in 0..<5 { host.advance(seconds: 1) }
        #expect(host.stack.ipv6Addresses.isEmpty && host.stack.statistics.duplicateAddresses == 1)
        _ = host.output()
        host.receive(peer.solicitation(for: target))
        #expect(host.output().isEmpty)
        host.end()
    }

    @Test func anEchoOfOurOwnQuestionIsNoDuplicate() throws {
        let host = try LowerHost { $0.ipv6.isEnabled = true }
        host.advance(milliseconds: 1_000)
        for frame in host.output() { host.receive(frame) }
        host.advance(milliseconds: 1_100)
        #expect(host.stack.ipv6Addresses == [IPv6Peer.hostLinkLocal])
        host.end()
    }

    /// RFC 4861 section 6.3.7.
    @Test func routersAreAskedThreeTimesUntilOneAnswers() throws {
        func solicitations(_ frames: [[UInt8]]) -> Int { frames.count { $0[54] == 133 && destination(of: $0) == .allRouters && $0[21] == 255 } }
        let host = try bareHost()
        var count = 0
        for _ in 0..<20 {
            host.advance(seconds: 1)
            count += solicitations(host.output())
        }
        #expect(count == 3)
        let answered = try bareHost()
        answered.receive(peer.routerAdvertisement())
        for _ in 0..<20 { answered.advance(seconds: 1) }
        #expect(solicitations(answered.output()) == 0)
        host.end()
        answered.end()
    }

    /// RFC 4862 section 5.5.3.
    @Test func anAddressIsFormedFromAnAdvertisedPrefixAndLivesAsLongAsItSays() throws {
        let host = try bareHost { $0.ipv6.duplicateAddressDetectionTransmits = 0 }
        host.receive(peer.routerAdvertisement(prefixes: [(prefix, 100, 50)]))
        let address = IPAddress("2001:db8:1::ff:fe00:1")!
        #expect(host.stack.ipv6Addresses == [IPv6Peer.hostLinkLocal, address])
        _ = host.output()
        // A destination elsewhere goes over the router, whose hardware address the advertisement told.
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        #expect(host.sendDatagram(socket, [1], to: Endpoint(address: IPAddress("2001:db8:ffff::9")!, port: 7)) == 0)
        let sent = try #require(host.output().last)
        #expect(Array(sent[0..<6]) == macBytes(peer.macAddress) && source(of: sent) == address)
        host.advance(seconds: 99)
        #expect(host.stack.ipv6Addresses.contains(address))
        host.advance(seconds: 2)
        #expect(!host.stack.ipv6Addresses.contains(address))
        host.end()
    }

    /// RFC 4862 section 5.5.3 (e): an attacker cannot end an address by a short lifetime.
    @Test func aShortLifetimeLeavesTwoHours() throws {
        let host = try bareHost { $0.ipv6.duplicateAddressDetectionTransmits = 0 }
        host.receive(peer.routerAdvertisement(prefixes: [(prefix, 86_400, 86_400)]))
        host.receive(peer.routerAdvertisement(prefixes: [(prefix, 1, 1)]))
        host.advance(seconds: 7_199)
        #expect(host.stack.ipv6Addresses.count == 2)
        host.advance(seconds: 2)
        #expect(host.stack.ipv6Addresses.count == 1)
        host.end()
    }

    @Test func advertisementsThatAreNotValidOrNotWantedChangeNothing() throws {
        let host = try bareHost { $0.ipv6.duplicateAddressDetectionTransmits = 0 }
        host.receive(peer.routerAdvertisement(prefixes: [(prefix, 100, 50)], hopLimit: 64))
        host.receive(peer.routerAdvertisement(prefixes: [(prefix, 100, 50)], source: peer.address))
        host.receive(peer.routerAdvertisement(prefixes: [(prefix, 100, 50)], options: [9, 0, 0, 0, 0, 0, 0, 0]))
        #expect(host.drops(.badNeighborDiscovery) == 3)
        host.receive(peer.routerAdvertisement(prefixes: [(prefix, 50, 100), (IPv6Prefix(parsing: "2001:db8:1::/63")!, 9, 9)]))
        host.receive(peer.routerAdvertisement(prefixes: [(IPv6Prefix(parsing: "fe80::/64")!, 100, 50)]))
        #expect(host.stack.ipv6Addresses.count == 1)
        host.receive(peer.icmp([137, 0, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 32), source: peer.linkLocal, hopLimit: 255))
        let static_ = try LowerHost.ipv6()
        static_.receive(peer.routerAdvertisement(prefixes: [(prefix, 100, 50)]))
        #expect(static_.stack.ipv6Addresses.count == 2 && static_.drops(.unmatchedControlMessage) == 1)
        host.end()
        static_.end()
    }

    @Test func advertisedPrefixesAndRoutersAreBounded() throws {
        let host = try bareHost {
            $0.ipv6.duplicateAddressDetectionTransmits = 0
            $0.limits.maximumAddresses = 8
        }
        for index in 0..<200 as Range<UInt64> {
            var router = peer
            router.linkLocal = .linkLocal(identifier: 0x1000 + index)
            let prefix = IPv6Prefix(address: IPAddress(ipv6HostOrder: 0x2001_0db8_0000_0000 | index << 8, 0), length: 64)
            host.receive(router.routerAdvertisement(prefixes: [(prefix, 1_000, 1_000)]))
        }
        #expect(host.stack.ipv6Addresses.count == 8)
        host.end()
    }

    /// RFC 3810 sections 5.2 and 6.1.
    @Test func theGroupsAreReportedTwiceAndWhenAsked() throws {
        let host = try LowerHost { $0.ipv6.isEnabled = true; $0.ipv6.duplicateAddressDetectionTransmits = 0 }
        host.advance(seconds: 0)
        host.advance(seconds: 2)
        let reports = host.output()
        #expect(reports.count == 2)
        for report in reports {
            let message = expectWellFormedIPv6(report)
            #expect(Array(report[54..<62]) == hex("3a 00 05 02 00 00 01 00") && report[20] == 0 && report[21] == 1)
            #expect(source(of: report) == IPv6Peer.hostLinkLocal && destination(of: report) == .allMLDv2Routers)
            #expect(Array(report[0..<6]) == hex("33 33 00 00 00 16"))
            #expect(Array(message[0..<2] + message[4...]) == hex("8f 00 00 00 00 01 04 00 00 00") + ipv6Bytes(IPv6Peer.hostLinkLocal.solicitedNode))
        }
        let query: [UInt8] = [130, 0, 0, 0] + bigEndian(1_000) + [0, 0] + [UInt8](repeating: 0, count: 16) + [2, 125, 0, 0]
        host.receive(
            peer.icmp(query, source: peer.linkLocal, destination: .allNodes, hopLimit: 1, extensions: hex("3a 00 05 02 00 00 01 00"), nextHeader: 0))
        host.advance(seconds: 1)
        let answer = host.output()
        #expect(answer.count == 1 && answer.first?[70] == 2)
        host.end()
    }
}
