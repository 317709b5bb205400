import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// RFC 791 section 3.2, RFC 6864, RFC 8200 section 4.5, RFC 7739: datagrams that are larger than their way takes.
@Suite struct FragmentationTests {
    let peer = LowerPeer()

    /// The payload of the packet that these frames are the fragments of, and its identification. Every rule of the headers is looked at.
    private func join(_ frames: [[UInt8]], limit: Int = 1_500, protocolNumber: UInt8 = 17) throws -> (payload: [UInt8], identification: UInt16) {
        var payload: [UInt8] = []
        let identification = number(try #require(frames.first), at: 18)
        for (index, frame) in frames.enumerated() {
            let isLast = index == frames.count - 1
            #expect(frame.count - 14 <= limit && internetChecksum(Array(frame[14..<34])) == 0)
            #expect(Int(number(frame, at: 16)) == frame.count - 14 && frame[23] == protocolNumber && frame[22] == 64)
            #expect(number(frame, at: 18) == identification)
            // "Don't fragment" is off, "more fragments" on in all but the last one.
            #expect(Int(number(frame, at: 20)) == payload.count / 8 | (isLast ? 0 : 0x2000))
            if !isLast { #expect((frame.count - 34) % 8 == 0 && frame.count - 14 > limit - 8) }
            payload += frame[34...]
        }
        return (payload, identification)
    }

    @Test(arguments: [1_473, 1_480, 2_953, 9_000, 65_507])
    func aLargeDatagramLeavesInFragments(count: Int) throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        for lengths in [[], [1, 700, 3]] {
            #expect(host.sendDatagram(socket, pattern(count), to: peer.endpoint(7), cutAt: lengths) == 0)
            let frames = host.output()
            #expect(frames.count == (count + 8 + 1_479) / 1_480)
            let datagram = try join(frames).payload
            #expect(Array(datagram[8...]) == pattern(count) && Int(number(datagram, at: 4)) == count + 8)
            #expect(number(datagram, at: 0) == 5_000 && number(datagram, at: 2) == 7)
            let pseudoHeader = ipv4Bytes(LowerHost.address) + ipv4Bytes(peer.address) + [0, 17] + datagram[4...5]
            #expect(internetChecksum(pseudoHeader + datagram) == 0)
        }
        #expect(host.stack.statistics.datagramsFragmented == 2 && host.stack.statistics.datagramsSent == 2)
        host.end()
    }

    /// A device that completes checksums cannot do so for fragments.
    @Test func theChecksumOfFragmentsIsComputedWhateverTheDeviceDoes() throws {
        let host = try LowerHost { $0.offloads = .transmitChecksumUDP }
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        #expect(host.sendDatagram(socket, pattern(3_000), to: peer.endpoint(7)) == 0)
        let datagram = try join(host.output()).payload
        let pseudoHeader = ipv4Bytes(LowerHost.address) + ipv4Bytes(peer.address) + [0, 17] + datagram[4...5]
        #expect(internetChecksum(pseudoHeader + datagram) == 0)
        host.end()
    }

    /// RFC 6864 section 4.3, RFC 7739: they do not come again soon, and one destination's tell nothing of another's.
    @Test func identificationsDifferAndCannotBeForetold() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        var first: [UInt16] = []
        for number: UInt8 in 2..<12 {
            host.introduce(LowerPeer(number))
            var identifications: [UInt16] = []
            for _ in 0..<100 {
                #expect(host.sendDatagram(socket, pattern(1_600), to: LowerPeer(number).endpoint(7)) == 0)
                identifications.append(try join(host.output()).identification)
            }
            #expect(Set(identifications).count == 100)
            first.append(identifications[0])
        }
        #expect(Set(zip(first, first.dropFirst()).map { $1 &- $0 }).count == 9)
        host.end()
    }

    @Test func fragmentsWaitForTheNeighbourTogether() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        #expect(host.sendDatagram(socket, pattern(4_000), to: peer.endpoint(7)) == 0)
        #expect(host.output().filter { number($0, at: 12) == 0x0800 }.isEmpty)
        host.receive(peer.arpReply())
        #expect(Array(try join(host.output()).payload[8...]) == pattern(4_000))
        host.end()
    }

    @Test func allFragmentsLeaveOrNone() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        for _ in 0..<1_023 { #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == 0) }
        #expect(host.sendDatagram(socket, pattern(1_473), to: peer.endpoint(7)) == ENOBUFS)
        #expect(host.output().count == 1_023)
        #expect(host.sendDatagram(socket, pattern(1_473), to: peer.endpoint(7)) == 0)
        #expect(host.output().count == 2)
        host.end()
    }

    @Test func whatIsSentToThisHostIsNotCut() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        #expect(host.sendDatagram(socket, pattern(65_507), to: Endpoint(address: LowerHost.address, port: 5_000)) == 0)
        host.advance()
        #expect(host.takeDatagram(socket)?.bytes == pattern(65_507))
        #expect(host.stack.statistics.datagramsFragmented == 0 && host.output().isEmpty)
        host.end()
    }

    @Test func aLargeEchoReplyLeavesInFragments() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let request = peer.withChecksum([8, 0, 0, 0, 1, 2, 0, 3] + pattern(4_000))
        for fragment in peer.fragments(request, size: 1_480, protocolNumber: 1) { host.receive(fragment) }
        let message = try join(host.output(), protocolNumber: 1).payload
        #expect(message[0] == 0 && internetChecksum(message) == 0 && Array(message[8...]) == pattern(4_000))
        host.end()
    }

    // MARK: Path MTU

    /// A router that cannot pass on what was sent.
    private func tooBig(_ sent: [UInt8], _ mtu: UInt16) -> [UInt8] { peer.icmp([3, 4, 0, 0, 0, 0] + bigEndian(mtu) + sent[14..<42]) }

    @Test(arguments: [false, true]) func whatARouterSaysOfTheWayIsUsed(isConnected: Bool) throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        if isConnected { #expect(host.stack.connectDatagram(socket, to: peer.endpoint(7)) == 0) }
        #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
        host.receive(tooBig(host.output()[0], 1_000))
        // Who is connected is told that the datagram is lost.
        #expect(host.stack.takeDatagramError(socket) == (isConnected ? EMSGSIZE : 0))
        #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
        #expect(Array(try join(host.output(), limit: 1_000).payload[8...]) == pattern(1_400))
        #expect(host.sendDatagram(socket, pattern(972), to: peer.endpoint(7)) == 0)
        #expect(number(try #require(host.output().first), at: 20) == 0x4000)
        // RFC 1191 section 6.3.
        host.advance(seconds: 601)
        host.introduce(peer)
        #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
        #expect(host.output().filter { number($0, at: 12) == 0x0800 }.map(\.count) == [1_442])
        host.end()
    }

    /// Who has sent before the way was known learns of it when a router complains again.
    @Test func everySocketLearnsWhatTheWayTakes() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let sockets = [host.boundSocket(5_000), host.boundSocket(5_001)]
        var sent: [[UInt8]] = []
        for socket in sockets {
            #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
            sent += host.output()
        }
        for (socket, frame) in zip(sockets, sent) {
            host.receive(tooBig(frame, 1_000))
            #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
            #expect(Array(try join(host.output(), limit: 1_000).payload[8...]) == pattern(1_400))
        }
        host.end()
    }

    /// RFC 1191 section 5: a router that does not tell its MTU leads to the next plateau, however many packets it could not pass on.
    @Test func aRouterThatDoesNotTellLeadsToTheNextPlateau() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        #expect(host.sendDatagram(socket, pattern(1_472), to: peer.endpoint(7)) == 0)
        let sent = host.output()[0]
        for _ in 0..<5 { host.receive(tooBig(sent, 0)) }
        #expect(host.sendDatagram(socket, pattern(1_472), to: peer.endpoint(7)) == 0)
        #expect(host.output().map { $0.count - 14 } == [1_492, 28])
        host.end()
    }

    @Test func aLieOfARouterDoesNotMakeAThousandPacketsOfOne() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
        let sent = host.output()[0]
        for mtu: UInt16 in [1_428, 1_500, 9_000, 67] { host.receive(tooBig(sent, mtu)) }
        #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
        #expect(host.output().count == 1)
        host.receive(tooBig(sent, 68))
        #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
        #expect(host.output().map { $0.count - 14 } == [572, 572, 324])
        host.end()
    }

    // MARK: IPv6

    @Test func aLargeDatagramOverIPv6LeavesInFragments() throws {
        let host = try LowerHost.ipv6()
        let peer = IPv6Peer()
        host.introduce(peer)
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        func expectFragments(of count: Int, limit: Int) throws -> UInt32 {
            #expect(host.sendDatagram(socket, pattern(count), to: peer.endpoint(7)) == 0)
            let frames = host.output()
            var datagram: [UInt8] = []
            let identification = Array(try #require(frames.first)[58..<62])
            for (index, frame) in frames.enumerated() {
                let isLast = index == frames.count - 1
                #expect(frame.count - 14 <= limit && Int(number(frame, at: 18)) == frame.count - 54 && frame[20] == 44 && frame[21] == 64)
                #expect(frame[54] == 17 && frame[55] == 0 && Int(number(frame, at: 56)) == datagram.count | (isLast ? 0 : 1))
                #expect(Array(frame[58..<62]) == identification)
                if !isLast { #expect((frame.count - 62) % 8 == 0 && frame.count - 14 > limit - 8) }
                datagram += frame[62...]
            }
            #expect(Array(datagram[8...]) == pattern(count))
            #expect(internetChecksum(ipv6PseudoHeader(IPv6Peer.hostAddress, peer.address, 17, datagram.count) + datagram) == 0)
            return identification.reduce(0) { $0 << 8 | UInt32($1) }
        }
        let identifications = try [1_453, 4_000, 65_527].map { try expectFragments(of: $0, limit: 1_500) }
        #expect(Set(identifications).count == 3)
        // RFC 8201: the way takes less, but never less than 1,280.
        #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
        let sent = try #require(host.output().first)
        host.receive(peer.icmp([2, 0, 0, 0, 0, 0] + bigEndian(1_279) + sent[14...]))
        #expect(host.sendDatagram(socket, pattern(1_400), to: peer.endpoint(7)) == 0)
        #expect(host.output().count == 1)
        host.receive(peer.icmp([2, 0, 0, 0, 0, 0] + bigEndian(1_300) + sent[14...]))
        _ = try expectFragments(of: 1_400, limit: 1_300)
        // A reply to an echo takes the same way.
        let message = Array(peer.icmp([128, 0, 0, 0, 1, 2, 0, 3] + pattern(1_400))[54...])
        host.receive(peer.packet(58, message))
        #expect(host.output().map { $0.count - 14 }.max() == 1_296)
        host.end()
    }
}
