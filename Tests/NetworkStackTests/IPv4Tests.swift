import EthernetDevice
import Glibc
import Testing
import WireFormats

@testable import NetworkStack

/// RFC 791, RFC 1122 sections 3.2.1 and 3.3: what is received, and which way things go.
@Suite struct IPv4Tests {
    let peer = LowerPeer()

    /// "hi" from 10.0.0.2:7000 to 10.0.0.1:5000, padded to Ethernet's 60 bytes, put together by hand.
    private let byHand = hex(
        """
        02 00 00 00 00 01 02 00 00 00 00 02 08 00
        45 00 00 1e 12 34 40 00 40 11 14 99 0a 00 00 02 0a 00 00 01
        1b 58 13 88 00 0a 54 8e 68 69
        00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        """)

    @Test func aPaddedFrameGivesItsPayload() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(byHand)
        let datagram = try #require(host.takeDatagram(socket))
        #expect(datagram.bytes == Array("hi".utf8))
        #expect(datagram.source == Endpoint(address: .ipv4(10, 0, 0, 2), port: 7_000))
        #expect(host.stack.statistics.framesReceived == 1)
        #expect(host.stack.statistics.drops.total == 0)
        host.end()
    }

    @Test func aFrameInPiecesIsReceived() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(byHand, cutAt: [1, 14, 20])
        host.receive(byHand, cutAt: [44])
        #expect(host.takeDatagram(socket)?.bytes == Array("hi".utf8))
        #expect(host.takeDatagram(socket)?.bytes == Array("hi".utf8))
        host.end()
    }

    @Test func aFrameThatEndsEarlyIsDroppedWhereverItEnds() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        for count in 0..<44 { host.receive(Array(byHand.prefix(count))) }
        #expect(!host.stack.hasDatagram(socket))
        #expect(host.drops(.frameTooShort) == 14)
        #expect(host.drops(.badIPv4Header) == 30)
        host.end()
    }

    // MARK: Ethernet

    @Test(arguments: ["02 00 00 00 00 03", "01 80 c2 00 00 01", "33 33 00 00 00 01"])
    func aFrameToAnotherStationIsDropped(destination: String) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(hex(destination) + byHand.dropFirst(6))
        #expect(host.drops(.notForThisHost) == 1)
        #expect(!host.stack.hasDatagram(socket))
    }

    @Test func aFrameFromAGroupAddressIsReceived() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        var frame = byHand
        frame[6] |= 1
        host.receive(frame)
        #expect(host.stack.hasDatagram(socket))
    }

    @Test(arguments: [(0x86, 0xdd), (0x88, 0xcc), (0x00, 0x2e), (0x88, 0xa8)] as [(UInt8, UInt8)])
    func aPayloadOfAnotherTypeIsDropped(high: UInt8, low: UInt8) throws {
        let host = try LowerHost()
        var frame = byHand
        frame[12] = high
        frame[13] = low
        host.receive(frame)
        #expect(host.drops(.unknownEtherType) == 1)
    }

    @Test func aPriorityTagIsSkippedAndANetworkTagIsNotOurs() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        var tagged = byHand
        tagged.insert(contentsOf: [0x81, 0x00, 0xa0, 0x00], at: 12)
        host.receive(tagged)
        #expect(host.takeDatagram(socket)?.source == peer.endpoint(7_000))
        tagged[15] = 1
        host.receive(tagged)
        #expect(!host.stack.hasDatagram(socket))
        #expect(host.drops(.notForThisHost) == 1)
        // A second tag is a type that nobody knows.
        tagged[15] = 0
        tagged.insert(contentsOf: [0x81, 0x00, 0x00, 0x00], at: 12)
        host.receive(tagged)
        #expect(host.drops(.unknownEtherType) == 1)
        host.end()
    }

    // MARK: Header

    @Test(arguments: [0x55, 0x65, 0x44, 0x4f, 0x40] as [UInt8])
    func aHeaderOfAnotherVersionOrLengthIsDropped(first: UInt8) throws {
        let host = try LowerHost()
        host.receive(peer.ipv4(17, [], edit: { $0[0] = first }))
        #expect(host.drops(.badIPv4Header) == 1)
        #expect(host.output().isEmpty)
    }

    @Test(arguments: [0, 19, 31, 1_500, 65_535] as [UInt16])
    func aTotalLengthThatCannotBeIsDropped(length: UInt16) throws {
        let host = try LowerHost()
        host.receive(peer.ipv4(17, [UInt8](repeating: 0, count: 10), edit: { $0.replaceSubrange(2...3, with: bigEndian(length)) }))
        #expect(host.drops(.badIPv4Header) == 1)
    }

    @Test func aDamagedHeaderIsDroppedUnlessTheDeviceHasVerifiedIt() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        var frame = byHand
        frame[24] ^= 1
        host.receive(frame)
        #expect(host.drops(.badIPv4Checksum) == 1)
        #expect(!host.stack.hasDatagram(socket))
        host.receive(frame, flags: .checksumVerified)
        #expect(host.takeDatagram(socket) != nil)
        host.end()
    }

    @Test func everyFlippedBitOfTheHeaderIsFound() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        for bit in 0..<160 {
            var frame = byHand
            frame[14 + bit / 8] ^= 1 << UInt8(bit % 8)
            host.receive(frame)
        }
        #expect(!host.stack.hasDatagram(socket))
        #expect(host.output().isEmpty)
    }

    @Test(arguments: [0, 1, 255] as [UInt8])
    func whatIsAboutToExpireIsReceived(timeToLive: UInt8) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(peer.ipv4(17, peer.datagram([1], from: 1, to: 5_000), timeToLive: timeToLive))
        #expect(host.stack.hasDatagram(socket))
    }

    @Test(arguments: [0x2000, 0x0001, 0x3fff, 0x1fff] as [UInt16])
    func aFragmentAloneIsNeitherDeliveredNorAnswered(flags: UInt16) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.introduce(peer)
        host.receive(peer.ipv4(17, peer.datagram([1], from: 1, to: 5_000), edit: { $0.replaceSubrange(6...7, with: bigEndian(flags)) }))
        #expect(!host.stack.hasDatagram(socket))
        #expect(host.output().isEmpty)
        host.end()
    }

    // MARK: Addresses

    @Test(arguments: [
        IPAddress.ipv4(0, 0, 0, 0), .ipv4(0, 1, 2, 3), .ipv4(127, 0, 0, 1), .ipv4(224, 0, 0, 1), .ipv4(239, 255, 255, 255), .ipv4(240, 0, 0, 1),
        .ipv4(255, 255, 255, 255), LowerHost.address, LowerHost.broadcast,
    ])
    func aSourceThatIsNoOtherHostIsDropped(source: IPAddress) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(peer.udp([1], to: 5_000, source: source))
        #expect(host.drops(.badSourceAddress) == 1)
        #expect(!host.stack.hasDatagram(socket))
        #expect(host.output().isEmpty)
    }

    @Test(arguments: [
        IPAddress.ipv4(10, 0, 0, 3), .ipv4(192, 0, 2, 1), .ipv4(240, 0, 0, 1), .ipv4(0, 0, 0, 0), .ipv4(127, 0, 0, 1), .ipv4(10, 0, 1, 255),
    ])
    func aPacketToAnotherHostIsDroppedAndNotAnswered(destination: IPAddress) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(peer.udp([1], to: 5_000, destination: destination))
        #expect(host.drops(.notOurAddress) == 1)
        #expect(!host.stack.hasDatagram(socket))
        #expect(host.output().isEmpty)
    }

    @Test(arguments: [LowerHost.broadcast, .limitedBroadcast], [MACAddress.broadcast, LowerHost.macAddress])
    func aBroadcastDatagramReachesASocketOfAnyAddress(destination: IPAddress, hardware: MACAddress) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(peer.udp([1], to: 5_000, destination: destination, hardware: hardware))
        #expect(host.takeDatagram(socket)?.source == peer.endpoint(7_000))
    }

    @Test func aPacketToUsInABroadcastFrameIsDropped() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(peer.udp([1], to: 5_000, hardware: .broadcast))
        #expect(host.drops(.notOurAddress) == 1)
        #expect(!host.stack.hasDatagram(socket))
    }

    @Test func aSegmentToABroadcastAddressIsDroppedAndNotReset() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let segment = hex("1b 58 13 88 00 00 00 01 00 00 00 00 50 02 ff ff 00 00 00 00")
        host.receive(peer.ipv4(6, segment, destination: LowerHost.broadcast, to: .broadcast))
        host.receive(peer.ipv4(6, segment, destination: .limitedBroadcast))
        #expect(host.drops(.notOurAddress) == 2)
        #expect(host.output().isEmpty)
    }

    @Test func aSecondAddressIsOursToo() throws {
        let second = IPAddress.ipv4(172, 16, 0, 5)
        let host = try LowerHost { $0.addresses.append(IPv4Prefix(address: second, length: 16)) }
        let socket = host.boundSocket(5_000)
        host.receive(peer.udp([1], to: 5_000, destination: second))
        host.receive(peer.udp([2], to: 5_000, destination: .ipv4(172, 16, 255, 255)))
        #expect(host.takeDatagram(socket)?.bytes == [1])
        #expect(host.takeDatagram(socket)?.bytes == [2])
        host.receive(peer.udp([1], to: 5_000, source: second))
        #expect(host.drops(.badSourceAddress) == 1)
    }

    // MARK: Options

    @Test(arguments: ["01 01 01 00", "07 07 04 00 00 00 00 00", "44 08 05 00 00 00 00 00", "94 04 00 00", "00 ff ff ff", "de 04 aa bb"])
    func optionsThatAreWellFormedAreIgnored(options: String) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(peer.ipv4(17, peer.datagram([1, 2], from: 77, to: 5_000), options: hex(options)))
        let datagram = try #require(host.takeDatagram(socket))
        #expect(datagram.bytes == [1, 2])
        #expect(datagram.source == peer.endpoint(77))
    }

    @Test(arguments: ["83 07 04 0a 00 00 09 00", "89 07 04 0a 00 00 09 00", "01 01 83 03 04 00 00 00"])
    func aSourceRouteIsDropped(options: String) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(peer.ipv4(17, peer.datagram([1], from: 77, to: 5_000), options: hex(options)))
        #expect(host.drops(.sourceRouted) == 1)
        #expect(!host.stack.hasDatagram(socket))
        #expect(host.output().isEmpty)
    }

    @Test(arguments: [("07 01 00 00", 20), ("01 07 00 00", 21), ("01 01 01 07", 23), ("07 05 00 00", 20)] as [(String, UInt8)])
    func theSenderOfMalformedOptionsIsToldWhereTheyAre(options: String, pointer: UInt8) throws {
        let host = try LowerHost()
        host.introduce(peer)
        host.receive(peer.ipv4(17, peer.datagram([1], from: 77, to: 5_000), options: hex(options)))
        #expect(host.drops(.badIPv4Header) == 1)
        let output = host.output()
        #expect(output.count == 1)
        expectWellFormed(output[0])
        #expect(Array(output[0][34..<36]) == [12, 0])
        #expect(output[0][38] == pointer)
    }

    // MARK: Routing

    @Test func theLongestPrefixNamesTheWay() throws {
        let host = try LowerHost {
            $0.addresses.append(IPv4Prefix(address: .ipv4(172, 16, 0, 5), length: 16))
            $0.routes.append(.init(destination: IPv4Prefix(address: .ipv4(192, 0, 2, 0), length: 24), gateway: .ipv4(172, 16, 0, 1)))
            $0.routes.append(.init(destination: IPv4Prefix(address: .ipv4(192, 0, 0, 0), length: 16), gateway: .ipv4(10, 0, 0, 253)))
            $0.routes.append(.init(destination: IPv4Prefix(address: .ipv4(10, 0, 0, 128), length: 25), gateway: .ipv4(10, 0, 0, 3)))
        }
        let expected: [(IPAddress, source: IPAddress, nextHop: IPAddress)] = [
            (.ipv4(10, 0, 0, 9), LowerHost.address, .ipv4(10, 0, 0, 9)),
            (.ipv4(10, 0, 0, 200), LowerHost.address, .ipv4(10, 0, 0, 3)),
            (.ipv4(172, 16, 9, 9), .ipv4(172, 16, 0, 5), .ipv4(172, 16, 9, 9)),
            (.ipv4(192, 0, 2, 9), .ipv4(172, 16, 0, 5), .ipv4(172, 16, 0, 1)),
            (.ipv4(192, 0, 3, 9), LowerHost.address, .ipv4(10, 0, 0, 253)),
            (.ipv4(8, 8, 8, 8), LowerHost.address, LowerHost.gateway),
        ]
        for (destination, source, nextHop) in expected {
            let decision = try #require(host.stack.route(to: destination))
            #expect(decision.source == source && decision.nextHop == nextHop && !decision.isLocal, "\(destination)")
        }
        for local in [LowerHost.address, .ipv4(172, 16, 0, 5), .ipv4(127, 0, 0, 1), .ipv4(127, 9, 9, 9)] {
            let decision = try #require(host.stack.route(to: local))
            #expect(decision.isLocal && decision.source == local && decision.nextHop == local)
        }
    }

    @Test(arguments: [
        IPAddress.ipv4(0, 0, 0, 0), .ipv4(0, 1, 1, 1), .ipv4(224, 0, 0, 1), .ipv4(240, 0, 0, 1), .ipv4(255, 255, 255, 255), .ipv4(10, 0, 0, 255),
        IPAddress(words: (1, 1)),
    ])
    func thereIsNoWayToWhatIsNoHost(destination: IPAddress) throws {
        let host = try LowerHost()
        #expect(host.stack.route(to: destination) == nil)
        host.end()
    }

    @Test func thereIsNoWayBeyondTheLinkWithoutARoute() throws {
        let host = try LowerHost { $0.routes = [] }
        #expect(host.stack.route(to: .ipv4(192, 0, 2, 1)) == nil)
        #expect(host.stack.route(to: .ipv4(10, 0, 0, 9)) != nil)
    }

    @Test func aPointToPointLinkHasNoBroadcastAddress() throws {
        let host = try LowerHost {
            $0.addresses = [IPv4Prefix(address: .ipv4(10, 0, 0, 0), length: 31)]
            $0.routes = []
        }
        #expect(host.stack.route(to: .ipv4(10, 0, 0, 1))?.nextHop == .ipv4(10, 0, 0, 1))
    }
}

extension RouteDecision: Equatable {
    public static func == (left: RouteDecision, right: RouteDecision) -> Bool {
        left.source == right.source && left.nextHop == right.nextHop && left.isLocal == right.isLocal
    }
}
