import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// Anybody on the link can say anything.
@Suite struct ARPAttackTests {
    let peer = LowerPeer()
    let liar = MACAddress(value: 0x0266_6666_6666)

    private func lie(_ operation: UInt16) -> [UInt8] {
        var liar = peer
        liar.macAddress = self.liar
        return operation == ARPPacket.reply ? liar.arpReply() : liar.arpRequest(for: LowerHost.address)
    }

    /// Where a datagram to the peer goes.
    private func destination(_ host: LowerHost, _ socket: UInt32) -> MACAddress {
        _ = host.output()
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(9)) == 0)
        guard let frame = host.output().last else { return MACAddress(value: 0) }
        return frame.withUnsafeBytes { MACAddress(at: $0.baseAddress!) }
    }

    @Test func anAnswerThatNobodyAskedForMakesNoEntry() throws {
        let host = try LowerHost()
        host.receive(peer.arpReply())
        host.receive(peer.arp(ARPPacket.reply, target: peer.address))
        #expect(host.stack.statistics.neighbors == 0)
        #expect(host.drops(.unsolicitedARP) == 2)
        // Nor does a host that announces itself.
        host.receive(peer.arp(ARPPacket.request, target: peer.address))
        #expect(host.stack.statistics.neighbors == 0)
        #expect(host.output().isEmpty)
    }

    @Test(arguments: [ARPPacket.request, ARPPacket.reply])
    func theFirstOfSeveralAnswersCounts(operation: UInt16) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(9)) == 0)
        host.receive(peer.arpReply())
        host.advance(milliseconds: 999)
        host.receive(lie(operation))
        #expect(destination(host, socket) == peer.macAddress)
    }

    @Test(arguments: [ARPPacket.request, ARPPacket.reply])
    func aChangeOfHardwareAddressIsTakenASecondLaterAndAskedAbout(operation: UInt16) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.introduce(peer)
        #expect(destination(host, socket) == peer.macAddress)
        host.advance(seconds: 1)
        host.receive(lie(operation))
        #expect(destination(host, socket) == liar)
        // Who does not answer for it holds it for no longer than the requests take.
        for _ in 0..<3 {
            host.advance(seconds: 1)
            #expect(host.output().map { Array($0[0..<6]) } == [[2, 0x66, 0x66, 0x66, 0x66, 0x66]])
            #expect(host.sendDatagram(socket, [1], to: peer.endpoint(9)) == 0)
            _ = host.output()
        }
        host.advance(seconds: 1)
        #expect(destination(host, socket) == .broadcast)
        host.receive(peer.arpReply())
        #expect(destination(host, socket) == peer.macAddress)
    }

    @Test func anotherStationWithOurAddressIsCountedAndNotLearnt() throws {
        let host = try LowerHost()
        host.receive(peer.arp(ARPPacket.request, sender: LowerHost.address, target: LowerHost.address))
        host.receive(peer.arp(ARPPacket.reply, sender: LowerHost.address, target: peer.address))
        #expect(host.drops(.addressConflict) == 2)
        #expect(host.stack.statistics.neighbors == 0)
        #expect(host.output().isEmpty)
    }

    @Test func ourOwnFrameThatComesBackIsNoConflict() throws {
        let host = try LowerHost()
        var mirror = peer
        mirror.macAddress = LowerHost.macAddress
        host.receive(mirror.arp(ARPPacket.request, sender: LowerHost.address, target: peer.address))
        #expect(host.drops(.addressConflict) == 0)
        #expect(host.drops(.unsolicitedARP) == 1)
    }

    @Test(arguments: [
        IPAddress.ipv4(192, 0, 2, 1), .ipv4(10, 0, 1, 2), .ipv4(10, 0, 0, 255), .ipv4(255, 255, 255, 255), .ipv4(224, 0, 0, 1), .ipv4(127, 0, 0, 1),
        .ipv4(0, 0, 0, 1),
    ])
    func aSenderThatIsNoHostOfTheLinkIsRefused(sender: IPAddress) throws {
        let host = try LowerHost()
        host.receive(peer.arp(ARPPacket.request, sender: sender, target: LowerHost.address))
        #expect(host.drops(.badSourceAddress) == 1)
        #expect(host.stack.statistics.neighbors == 0)
        #expect(host.output().isEmpty)
    }

    @Test(arguments: [0xffff_ffff_ffff, 0x0100_5e00_0001, 0] as [UInt64])
    func aHardwareAddressThatNoStationHasIsRefused(value: UInt64) throws {
        let host = try LowerHost()
        var liar = peer
        liar.macAddress = MACAddress(value: value)
        host.receive(liar.arpRequest(for: LowerHost.address))
        #expect(host.drops(.badARP) == 1)
        #expect(host.stack.statistics.neighbors == 0)
        #expect(host.output().isEmpty)
    }

    @Test(arguments: [(14, 2), (15, 6), (16, 0x86), (18, 8), (19, 16), (20, 1), (21, 0), (21, 3), (21, 8)])
    func aPacketOfAnotherKindIsRefused(offset: Int, value: UInt8) throws {
        let host = try LowerHost()
        var bytes = peer.arpRequest(for: LowerHost.address)
        bytes[offset] = value
        host.receive(bytes)
        #expect(host.drops(.badARP) == 1)
        #expect(host.output().isEmpty)
    }

    @Test func aPacketThatEndsEarlyIsRefused() throws {
        let host = try LowerHost()
        let bytes = peer.arpRequest(for: LowerHost.address)
        for count in 0..<bytes.count { host.receive(Array(bytes.prefix(count))) }
        #expect(host.drops(.frameTooShort) == 14)
        #expect(host.drops(.badARP) == 28)
        #expect(host.output().isEmpty)
        host.end()
    }

    // MARK: Floods

    /// A sender of 10.x.y.z/8 with a hardware address of its own.
    private func sender(_ number: Int) -> LowerPeer {
        var sender = LowerPeer()
        sender.macAddress = MACAddress(value: 0x0200_0000_0000 | UInt64(number))
        sender.address = IPAddress(ipv4HostOrder: 0x0a00_0000 | UInt32(number))
        return sender
    }

    private func makeLargeNetwork() throws -> LowerHost {
        try LowerHost {
            $0.addresses = [IPv4Prefix(address: LowerHost.address, length: 8)]
            $0.routes = []
            $0.limits.maximumNeighbors = 64
        }
    }

    @Test func aFloodOfRequestsIsBoundedAndForgetsNobodyInUse() throws {
        let host = try makeLargeNetwork()
        let socket = host.boundSocket(5_000)
        host.introduce(peer)
        #expect(destination(host, socket) == peer.macAddress)
        for number in 256..<20_000 {
            host.receive(sender(number).arpRequest(for: LowerHost.address))
            if number % 100 == 0 { _ = host.output() }
        }
        #expect(host.stack.statistics.neighbors == 64)
        let before = host.stack.statistics.arpRequestsSent
        #expect(destination(host, socket) == peer.macAddress)
        #expect(host.stack.statistics.arpRequestsSent == before)
        host.end()
    }

    @Test func aFloodOfPacketsFromHostsThatDoNotExistForgetsNobodyInUse() throws {
        let host = try makeLargeNetwork()
        let socket = host.boundSocket(5_000)
        host.introduce(peer)
        #expect(destination(host, socket) == peer.macAddress)
        // Each of these makes the stack ask for its sender, to answer.
        for number in 256..<5_000 {
            host.receive(sender(number).echoRequest([1]))
            if number % 100 == 0 { _ = host.output() }
        }
        #expect(host.stack.statistics.neighbors == 64)
        let before = host.stack.statistics.arpRequestsSent
        #expect(destination(host, socket) == peer.macAddress)
        #expect(host.stack.statistics.arpRequestsSent == before)
        host.end()
    }

    @Test func atTheLimitTheNeighbourUsedLongestAgoIsForgotten() throws {
        let host = try LowerHost { $0.limits.maximumNeighbors = 3 }
        let socket = host.boundSocket(5_000)
        func use(_ number: UInt8) { #expect(host.sendDatagram(socket, [1], to: LowerPeer(number).endpoint(9)) == 0) }
        for number: UInt8 in 2...4 {
            host.introduce(LowerPeer(number))
            use(number)
            host.advance(milliseconds: 10)
        }
        use(2)
        host.advance(milliseconds: 10)
        _ = host.output()
        // 3 has to go.
        use(5)
        #expect(host.stack.statistics.neighbors == 3)
        _ = host.output()
        use(2)
        use(4)
        #expect(host.output().map(\.count) == [43, 43])
        use(3)
        #expect(host.output().map { number($0, at: 12) } == [0x0806])
    }

    @Test func aFloodOfAnswersChangesNothing() throws {
        let host = try LowerHost()
        for number in 0..<10_000 { host.receive(LowerPeer(UInt8(2 + number % 200)).arpReply()) }
        #expect(host.stack.statistics.neighbors == 0)
        #expect(host.drops(.unsolicitedARP) == 10_000)
        #expect(host.stack.nextDeadline == nil)
        host.end()
    }

    @Test func answersBeyondTheOutputsRoomAreNotSent() throws {
        let host = try LowerHost()
        for _ in 0..<3_000 { host.receive(peer.arpRequest(for: LowerHost.address)) }
        #expect(host.drops(.outOfMemory) == 3_000 - 1_024)
        #expect(host.output().count == 1_024)
        host.end()
    }
}
