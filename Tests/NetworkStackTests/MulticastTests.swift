import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

private let peer = LowerPeer()
private let peer6 = IPv6Peer()
private let group = IPAddress.ipv4(239, 129, 2, 3)
private let groupHardware = MACAddress(value: 0x0100_5e01_0203)
private let group6 = IPAddress("ff12::8000:5")!

/// Membership in groups of hosts, and datagrams to them (RFC 1112, RFC 2464 section 7).
struct MulticastTests {
    private func member(_ host: LowerHost, port: UInt16 = 5_000) -> UInt32 {
        let socket = host.boundSocket(port, reusePort: true)
        #expect(host.stack.joinGroup(socket, group) == 0)
        return socket
    }

    private func toGroup(_ bytes: [UInt8], group: IPAddress = group, hardware: MACAddress = groupHardware) -> [UInt8] {
        peer.udp(bytes, to: 5_000, destination: group, hardware: hardware)
    }

    // MARK: Receiving

    @Test func everyMemberGetsItsOwnDescriptorOfOneBlock() throws {
        let host = try LowerHost()
        let members = (0..<3).map { _ in member(host) }
        let others = [host.boundSocket(5_000, reusePort: true), member(host, port: 5_001)]
        host.receive(toGroup([1, 2]))
        #expect(host.heap.statistics.liveBlocks == 1)
        for socket in members {
            let datagram = host.takeDatagram(socket)
            #expect(datagram?.bytes == [1, 2] && datagram?.source == peer.endpoint(7_000))
        }
        for socket in others { #expect(!host.stack.hasDatagram(socket)) }
        host.end()
    }

    /// RFC 1112 section 6.4: 32 groups share a hardware address.
    @Test func aGroupThatNobodyHasJoinedIsDroppedWhateverItsFrame() throws {
        let host = try LowerHost()
        let socket = member(host)
        host.receive(toGroup([1], group: .ipv4(239, 1, 2, 3)))
        host.receive(toGroup([1], group: .ipv4(239, 1, 2, 4), hardware: MACAddress(value: 0x0100_5e01_0204)))
        host.receive(toGroup([1], group: .ipv4(239, 1, 2, 4), hardware: LowerHost.macAddress))
        #expect(host.drops(.groupNotJoined) == 3)
        #expect(!host.stack.hasDatagram(socket) && host.output().isEmpty)
        host.end()
    }

    @Test func membershipLastsUntilTheLastMemberLeavesOrIsClosed() throws {
        let host = try LowerHost()
        let (first, second) = (member(host), member(host))
        #expect(host.stack.leaveGroup(first, group) == 0)
        #expect(host.stack.leaveGroup(first, group) == EADDRNOTAVAIL)
        host.receive(toGroup([1]))
        #expect(!host.stack.hasDatagram(first) && host.takeDatagram(second)?.bytes == [1])
        host.stack.closeDatagram(second)
        host.receive(toGroup([2]))
        #expect(host.drops(.groupNotJoined) == 1)
        // The place of a group that is gone is another one's, and nobody else's.
        #expect(host.stack.joinGroup(first, .ipv4(239, 0, 0, 9)) == 0)
        #expect(!host.stack.isMember(first, of: group) && host.stack.isMember(first, of: .ipv4(239, 0, 0, 9)))
        host.end()
    }

    @Test func aSocketOfOneAddressOrPeerTakesNoGroup() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let bound = host.boundSocket(5_000, address: LowerHost.address, reusePort: true)
        let connected = member(host)
        #expect(host.stack.joinGroup(bound, group) == 0)
        #expect(host.stack.connectDatagram(connected, to: peer.endpoint(7_000)) == 0)
        host.receive(toGroup([1]))
        #expect(!host.stack.hasDatagram(bound) && !host.stack.hasDatagram(connected))
        #expect(host.drops(.noDatagramSocket) == 1 && host.output().isEmpty)
    }

    /// RFC 1112 section 7.2 and RFC 1122 section 3.2.2: no error and no echo reply answers what goes to a group.
    @Test func nothingToAGroupIsAnswered() throws {
        let host = try LowerHost()
        host.introduce(peer)
        _ = member(host, port: 4_000)
        host.receive(toGroup([1]))
        host.receive(peer.ipv4(1, peer.withChecksum([8, 0, 0, 0, 0, 1, 0, 1]), destination: group, to: groupHardware))
        host.receive(peer.ipv4(99, [1], destination: group, to: groupHardware))
        host.receive(toGroup([1], group: .allHosts, hardware: MACAddress(value: 0x0100_5e00_0001)))
        #expect(host.output().isEmpty)
        host.end()
    }

    @Test func aPacketToUsInAFrameToAGroupIsDropped() throws {
        let host = try LowerHost()
        let socket = member(host)
        host.receive(peer.udp([1], to: 5_000, hardware: groupHardware))
        #expect(host.drops(.notOurAddress) == 1 && !host.stack.hasDatagram(socket))
    }

    @Test func datagramsToAllHostsNeedNoMembership() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(toGroup([1], group: .allHosts, hardware: MACAddress(value: 0x0100_5e00_0001)))
        #expect(host.takeDatagram(socket)?.bytes == [1])
    }

    /// RFC 9293 section 3.9.2.3 (MUST-57).
    @Test func aSegmentToAGroupIsDroppedAndNotReset() throws {
        let host = try LowerHost()
        host.introduce(peer)
        _ = member(host)
        let segment = hex("1b 58 13 88 00 00 00 01 00 00 00 00 50 02 ff ff 00 00 00 00")
        host.receive(peer.ipv4(6, segment, destination: group, to: groupHardware))
        #expect(host.drops(.notOurAddress) == 1 && host.output().isEmpty)
        #expect(host.stack.statistics.tcp.segmentsReceived == 0)
    }

    /// RFC 1122 section 4.2.3.10, RFC 9293 section 3.9.1.1 (MUST-46).
    @Test(arguments: [group, group6, LowerHost.broadcast, .limitedBroadcast])
    func aConnectionToSeveralHostsIsRefused(address: IPAddress) throws {
        let host = try LowerHost.ipv6()
        let connection = host.stack.makeConnection(owner: 1)
        #expect(host.stack.connect(connection, to: Endpoint(address: address, port: 80)) == EINVAL)
        #expect(host.output().isEmpty)
    }

    @Test func whatCannotBeJoinedIsRefused() throws {
        let host = try LowerHost {
            $0.limits.multicastGroups = 3
            $0.limits.multicastGroupsOfSocket = 2
        }
        func group(_ number: UInt8) -> IPAddress { .ipv4(239, 0, 0, number) }
        let (first, second) = (host.boundSocket(1), host.boundSocket(2))
        #expect(host.stack.joinGroup(first, LowerHost.address) == EINVAL)
        #expect(host.stack.joinGroup(first, group6) == EAFNOSUPPORT)
        #expect(host.stack.joinGroup(host.stack.makeDatagramSocket(owner: 3, isIPv6: true), group6) == ENODEV)
        #expect(host.stack.joinGroup(first, group(1)) == 0)
        #expect(host.stack.joinGroup(first, group(1)) == EADDRINUSE)
        #expect(host.stack.joinGroup(first, group(2)) == 0)
        #expect(host.stack.joinGroup(first, group(3)) == ENOBUFS)
        #expect(host.stack.joinGroup(second, group(3)) == 0)
        #expect(host.stack.joinGroup(second, group(4)) == ENOBUFS)
        #expect(host.stack.joinGroup(second, group(1)) == 0)
    }

    // MARK: Sending

    /// RFC 1112 sections 6.1 and 6.4.
    @Test func aDatagramToAGroupGoesToItsHardwareAddressAndStaysOnTheLink() throws {
        let host = try LowerHost { $0.routes = [] }
        let socket = host.boundSocket(6_000)
        #expect(host.sendDatagram(socket, [1, 2, 3], to: Endpoint(address: group, port: 7)) == 0)
        host.stack.setMulticastHopLimit(socket, 9)
        #expect(host.sendDatagram(socket, [4], to: Endpoint(address: group, port: 7)) == 0)
        let frames = host.output()
        #expect(frames.count == 2)
        for frame in frames {
            expectWellFormed(frame)
            #expect(Array(frame[0..<6]) == [0x01, 0x00, 0x5e, 0x01, 0x02, 0x03])
            #expect(Array(frame[26..<30]) == ipv4Bytes(LowerHost.address) && Array(frame[30..<34]) == ipv4Bytes(group))
        }
        #expect(frames.map { $0[22] } == [1, 9])
        host.end()
    }

    @Test func membersOnTheSendersHostGetItUnlessItSaysOtherwise() throws {
        let host = try LowerHost()
        let (sender, receiver) = (host.boundSocket(6_000), member(host))
        let other = host.boundSocket(5_000, reusePort: true)
        let destination = Endpoint(address: group, port: 5_000)
        #expect(host.sendDatagram(sender, [1], to: destination) == 0)
        host.stack.setMulticastLoop(sender, false)
        #expect(host.sendDatagram(sender, [2], to: destination) == 0)
        host.stack.setMulticastLoop(sender, true)
        host.stack.setMulticastHopLimit(sender, 0)
        #expect(host.sendDatagram(sender, [3], to: destination) == 0)
        host.advance(milliseconds: 1)
        #expect(host.takeDatagram(receiver)?.bytes == [1] && host.takeDatagram(receiver)?.bytes == [3] && host.takeDatagram(receiver) == nil)
        #expect(!host.stack.hasDatagram(other))
        // A hop limit of 0 leaves no host.
        #expect(host.output().filter { $0[23] == 17 }.map(\.last) == [1, 2])
        host.end()
    }

    @Test func aDatagramToAGroupIsNotFragmented() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(6_000)
        #expect(host.sendDatagram(socket, [UInt8](repeating: 1, count: 1_473), to: Endpoint(address: group, port: 7)) == EMSGSIZE)
        #expect(host.sendDatagram(socket, [UInt8](repeating: 1, count: 1_472), to: Endpoint(address: group, port: 7)) == 0)
        host.end()
    }

    // MARK: IPv6

    @Test func groupsOfIPv6AreJoinedAndSentTo() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6, reusePort: true)
        let other = host.boundSocket(5_000, address: .unspecifiedIPv6, reusePort: true)
        host.receive(peer6.udp([1], to: 5_000, destination: group6))
        #expect(host.drops(.groupNotJoined) == 1)
        #expect(host.stack.joinGroup(socket, group6) == 0)
        host.receive(peer6.udp([2], to: 5_000, destination: group6))
        #expect(host.takeDatagram(socket)?.bytes == [2] && !host.stack.hasDatagram(other))
        _ = host.output()
        #expect(host.sendDatagram(other, [3], to: Endpoint(address: group6, port: 5_000)) == 0)
        #expect(host.sendDatagram(other, [4], to: Endpoint(address: IPAddress("ff0e::9")!, port: 5_000)) == 0)
        let frames = host.output()
        #expect(frames.map { Array($0[0..<6]) } == [[0x33, 0x33, 0x80, 0, 0, 5], [0x33, 0x33, 0, 0, 0, 9]])
        #expect(frames.allSatisfy { $0[21] == 1 })
        // RFC 6724 section 5, rule 2: the source has the scope of the group.
        #expect(source(of: frames[0]) == IPv6Peer.hostLinkLocal && source(of: frames[1]) == IPv6Peer.hostAddress)
        host.advance(milliseconds: 1)
        #expect(host.takeDatagram(socket)?.bytes == [3] && host.takeDatagram(socket) == nil)
        host.end()
    }
}
