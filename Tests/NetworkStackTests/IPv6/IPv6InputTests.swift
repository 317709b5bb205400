import EthernetDevice
import Glibc
import Testing
import WireFormats

@testable import NetworkStack

/// RFC 8200, RFC 4443, RFC 8200 section 8.1: packets in, echoes, errors and datagrams.
@Suite struct IPv6InputTests {
    let peer = IPv6Peer()

    @Test(arguments: [0, 1, 8, 63, 1_000, 1_452]) func anEchoRequestIsAnsweredWithItsData(byteCount: Int) throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        let data = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        host.receive(peer.icmp([128, 0, 0, 0, 0x12, 0x34, 0, 1] + data))
        host.receive(peer.icmp([128, 0, 0, 0, 0x12, 0x34, 0, 1] + data, extensions: [58, 0, 1, 4, 0, 0, 0, 0], nextHeader: 60))
        host.receive(peer.icmp([128, 0, 0, 0, 0x12, 0x34, 0, 1] + data, destination: .allNodes))
        let output = host.output()
        #expect(output.count == 3)
        for reply in output {
            let message = expectWellFormedIPv6(reply)
            #expect(source(of: reply) == IPv6Peer.hostAddress && destination(of: reply) == peer.address)
            #expect(Array(message[0..<2] + message[4...]) == [129, 0, 0x12, 0x34, 0, 1] + data)
        }
        host.end()
    }

    @Test func whatIsNotForThisHostOrComesFromNobodyIsDropped() throws {
        let host = try LowerHost.ipv6()
        let echo: [UInt8] = [128, 0, 0, 0, 0, 1, 0, 1]
        for destination in ["2001:db8::9", "ff02::99", "::1", "::", "::ffff:10.0.0.1"] {
            host.receive(peer.icmp(echo, destination: IPAddress(destination)!, hardware: LowerHost.macAddress))
        }
        #expect(host.drops(.notOurAddress) == 4 && host.drops(.groupNotJoined) == 1)
        for source in ["ff02::1", "::1", "::ffff:10.0.0.2", "2001:db8::1", "::"] { host.receive(peer.icmp(echo, source: IPAddress(source)!)) }
        #expect(host.drops(.badSourceAddress) == 5)
        host.receive(Array(peer.icmp(echo).dropLast()))
        host.receive(peer.packet(44, [58, 0, 0, 1, 0, 0, 0, 9] + echo))
        #expect(host.drops(.badIPv6Header) == 1)
        #expect(host.output().isEmpty)
        host.end()
    }

    /// RFC 4443 section 3.4.
    @Test func theSenderOfAPacketThatCannotBeProcessedIsTold() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        let cases: [(packet: [UInt8], code: UInt8, pointer: UInt8)] = [
            (peer.packet(99, [1, 2, 3, 4]), 1, 6), (peer.packet(43, [58, 0, 0, 1, 0, 0, 0, 0]), 0, 42),
            (peer.packet(60, [58, 0, 0x9e, 4, 0, 0, 0, 0]), 2, 42), (peer.packet(60, [58, 0, 0x9e, 4, 0, 0, 0, 0], destination: .allNodes), 2, 42),
            (peer.packet(60, [99, 0, 1, 4, 0, 0, 0, 0]), 1, 40),
        ]
        for (packet, code, pointer) in cases {
            host.receive(packet)
            let output = host.output()
            let message = expectWellFormedIPv6(try #require(output.first))
            #expect(Array(message[0..<2] + message[4..<8]) == [4, code, 0, 0, 0, pointer])
            #expect(Array(message[8...]) == Array(packet[14...]))
            #expect(source(of: output[0]) == IPv6Peer.hostAddress)
        }
        host.end()
    }

    /// RFC 4443 section 2.4 (e).
    @Test func noErrorAnswersAnErrorOrAGroup() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        host.receive(peer.udp([1], to: 9, destination: .allNodes))
        host.receive(peer.packet(60, [58, 0, 0xde, 4, 0, 0, 0, 0], destination: .allNodes))
        host.receive(peer.icmp([1, 4, 0, 0, 0, 0, 0, 0] + [UInt8](repeating: 0, count: 48)))
        host.receive(peer.packet(99, [1], destination: .allNodes))
        #expect(host.output().isEmpty)
        host.end()
    }

    @Test func errorsAreSentAtALimitedRate() throws {
        let host = try LowerHost.ipv6 { $0.limits.controlMessageBurst = 5 }
        host.introduce(peer)
        for _ in 0..<20 { host.receive(peer.udp([1], to: 9)) }
        #expect(host.output().count == 5 && host.drops(.controlMessageRateLimited) == 15)
        host.end()
    }

    @Test func datagramsGoBothWays() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        let socket = host.boundSocket(53, address: .unspecifiedIPv6)
        host.receive(peer.udp([1, 2, 3], from: 7_000, to: 53))
        let received = try #require(host.takeDatagram(socket))
        #expect(received.bytes == [1, 2, 3] && received.source == peer.endpoint(7_000))
        for byteCount in [0, 1, 1_023, 1_024, 1_452] {
            let bytes = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            #expect(host.sendDatagram(socket, bytes, to: peer.endpoint(7), cutAt: byteCount > 3 ? [3] : []) == 0)
            let frame = try #require(host.output().first)
            let datagram = expectWellFormedIPv6(frame)
            #expect(Array(datagram[8...]) == bytes && number(datagram, at: 4) == UInt16(8 + byteCount) && frame[21] == 64)
            #expect(source(of: frame) == IPv6Peer.hostAddress)
        }
        #expect(host.sendDatagram(socket, [UInt8](repeating: 0, count: 65_528), to: peer.endpoint(7)) == EMSGSIZE)
        host.end()
    }

    /// RFC 8200 section 8.1.
    @Test func aDatagramWithoutAChecksumIsDropped() throws {
        let host = try LowerHost.ipv6()
        _ = host.boundSocket(53, address: .unspecifiedIPv6)
        var bytes = peer.udp([1, 2, 3], to: 53)
        bytes.replaceSubrange(60..<62, with: [0, 0])
        host.receive(bytes)
        bytes[60] = 1
        host.receive(bytes)
        #expect(host.drops(.badDatagramChecksum) == 2)
        host.end()
    }

    @Test func anUnspecifiedAddressOfIPv6TakesBothFamiliesUnlessItIsForIPv6Only() throws {
        let host = try LowerHost.ipv6()
        let ipv4 = LowerPeer()
        host.introduce(peer)
        host.introduce(ipv4)
        let dual = host.boundSocket(53, address: .unspecifiedIPv6)
        let other = host.stack.makeDatagramSocket(owner: 9)
        #expect(host.stack.bindDatagram(other, to: Endpoint(address: .unspecifiedIPv4, port: 53), reusePort: false) == EADDRINUSE)
        host.receive(ipv4.udp([4], to: 53))
        host.receive(peer.udp([6], to: 53))
        #expect(host.takeDatagram(dual)?.source == ipv4.endpoint(7_000))
        #expect(host.takeDatagram(dual)?.source == peer.endpoint(7_000))
        #expect(host.sendDatagram(dual, [1], to: ipv4.endpoint(7)) == 0 && host.sendDatagram(dual, [1], to: peer.endpoint(7)) == 0)
        #expect(host.output().map { $0[12] } == [0x08, 0x86])

        let only6 = host.stack.makeDatagramSocket(owner: 2)
        #expect(host.stack.bindDatagram(only6, to: Endpoint(address: .unspecifiedIPv6, port: 54), reusePort: false, isIPv6Only: true) == 0)
        let only4 = host.boundSocket(54)
        host.receive(ipv4.udp([4], to: 54))
        host.receive(peer.udp([6], to: 54))
        #expect(host.takeDatagram(only6)?.bytes == [6] && host.takeDatagram(only6) == nil)
        #expect(host.takeDatagram(only4)?.bytes == [4] && host.takeDatagram(only4) == nil)
        #expect(host.sendDatagram(only6, [1], to: ipv4.endpoint(7)) == EAFNOSUPPORT)
        #expect(host.sendDatagram(only4, [1], to: peer.endpoint(7)) == EAFNOSUPPORT)
        host.end()
    }

    @Test func theSocketOfThePeerOrTheAddressComesFirst() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        let any = host.boundSocket(53, address: .unspecifiedIPv6, reusePort: true)
        let bound = host.boundSocket(53, address: IPv6Peer.hostAddress, reusePort: true)
        let connected = host.boundSocket(53, address: .unspecifiedIPv6, reusePort: true)
        #expect(host.stack.connectDatagram(connected, to: peer.endpoint(7_001)) == 0)
        #expect(host.stack.datagramLocal(connected) == Endpoint(address: IPv6Peer.hostAddress, port: 53))
        host.receive(peer.udp([1], from: 7_001, to: 53))
        host.receive(peer.udp([2], from: 7_002, to: 53))
        host.receive(peer.udp([3], from: 7_001, to: 53, destination: IPv6Peer.hostLinkLocal))
        #expect(host.takeDatagram(connected)?.bytes == [1] && host.takeDatagram(bound)?.bytes == [2] && host.takeDatagram(any)?.bytes == [3])
        host.end()
    }

    /// RFC 4443 section 3.
    @Test func errorsReachTheConnectedSocketThatTheyAreAbout() throws {
        let cases: [(UInt8, UInt8, UInt32, Int32)] = [
            (1, 0, 0, ENETUNREACH), (1, 1, 0, EHOSTUNREACH), (1, 3, 0, EHOSTUNREACH), (1, 4, 0, ECONNREFUSED), (2, 0, 1_280, EMSGSIZE),
            (3, 0, 0, EHOSTUNREACH), (4, 1, 6, ENOPROTOOPT), (4, 0, 6, EPROTO),
        ]
        for (type, code, rest, expected) in cases {
            let host = try LowerHost.ipv6()
            host.introduce(peer)
            let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
            #expect(host.stack.connectDatagram(socket, to: peer.endpoint(7)) == 0)
            #expect(host.sendDatagram(socket, [1, 2, 3]) == 0)
            let sent = try #require(host.output().first)
            host.receive(peer.icmp([type, code, 0, 0] + bigEndian32(rest) + sent[14...]))
            #expect(host.stack.takeDatagramError(socket) == expected)
            // One about somebody else's packet reaches nobody.
            var foreign = Array(sent[14...])
            foreign[41] ^= 1
            host.receive(peer.icmp([type, code, 0, 0] + bigEndian32(rest) + foreign))
            #expect(host.stack.takeDatagramError(socket) == 0 && host.drops(.unmatchedControlMessage) == 1)
            host.end()
        }
    }

    @Test func aHostWithoutAnIPv4AddressTakesNothingOverIPv4() throws {
        let host = try LowerHost.ipv6 {
            $0.addresses = []
            $0.routes = []
        }
        let ipv4 = LowerPeer()
        let socket = host.boundSocket(53)
        for destination in [IPAddress.ipv4(0, 0, 0, 0), .ipv4(255, 255, 255, 255), .ipv4(10, 0, 0, 1), .ipv4(127, 0, 0, 1)] {
            host.receive(ipv4.udp([1], to: 53, destination: destination))
            host.receive(ipv4.ipv4(1, ipv4.withChecksum([8, 0, 0, 0, 0, 0, 0, 0]), destination: destination))
        }
        host.receive(ipv4.arpRequest(for: .ipv4(10, 0, 0, 1)))
        #expect(host.takeDatagram(socket) == nil && host.output().isEmpty)
        #expect(host.sendDatagram(socket, [1], to: ipv4.endpoint(7)) == ENETUNREACH)
        host.end()
    }

    @Test func aHostReachesItselfOverTheLoopbackAndItsOwnAddress() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(53, address: .unspecifiedIPv6)
        for address in [IPAddress("::1")!, IPv6Peer.hostAddress, IPv6Peer.hostLinkLocal] {
            #expect(host.sendDatagram(socket, [7], to: Endpoint(address: address, port: 53)) == 0)
            host.advance()
            let received = host.takeDatagram(socket)
            #expect(received?.bytes == [7] && received?.source == Endpoint(address: address, port: 53))
        }
        #expect(host.output().isEmpty)
        host.end()
    }
}
