import DatapathMemory
import EthernetDevice
import Glibc
import Testing
import WireFormats

@testable import NetworkStack

/// RFC 792, RFC 1122 section 3.2.2, RFC 1812 section 4.3.2.
@Suite struct ICMPTests {
    let peer = LowerPeer()

    // MARK: Echo

    @Test func anEchoRequestIsAnsweredWithItsData() throws {
        let host = try LowerHost()
        host.introduce(peer)
        // "abcdefgh" with identifier 0x1234 and number 1, by hand.
        host.receive(
            hex(
                """
                02 00 00 00 00 01 02 00 00 00 00 02 08 00
                45 00 00 24 00 07 00 00 01 01 a5 d0 0a 00 00 02 0a 00 00 01
                08 00 54 35 12 34 00 01 61 62 63 64 65 66 67 68
                """))
        let output = host.output()
        #expect(output.count == 1)
        let reply = try #require(output.first)
        expectWellFormed(reply)
        #expect(Array(reply[0..<14]) == hex("02 00 00 00 00 02 02 00 00 00 00 01 08 00"))
        #expect(reply[22] == 64)
        #expect(Array(reply[26..<34]) == [10, 0, 0, 1, 10, 0, 0, 2])
        #expect(Array(reply[34...]) == hex("00 00 5c 35 12 34 00 01 61 62 63 64 65 66 67 68"))
        #expect(host.stack.statistics.echoRepliesSent == 1)
        host.end()
    }

    @Test(arguments: [0, 1, 2, 7, 8, 9, 63, 64, 65, 1_000, 1_472])
    func anEchoRequestOfAnyLengthIsAnswered(byteCount: Int) throws {
        let host = try LowerHost()
        host.introduce(peer)
        let data = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 7) }
        // Options, padding and a tag are not part of the answer.
        host.receive(peer.echoRequest(data))
        host.receive(peer.echoRequest(data, options: hex("01 01 01 00")))
        host.receive(peer.echoRequest(data) + [9, 9, 9])
        host.receive(peer.echoRequest(data), cutAt: [20, 10])
        var tagged = peer.echoRequest(data)
        tagged.insert(contentsOf: [0x81, 0, 0, 0], at: 12)
        host.receive(tagged)
        let output = host.output()
        #expect(output.count == 5)
        for reply in output {
            expectWellFormed(reply)
            #expect(reply[34] == 0)
            #expect(Array(reply[42...]) == data)
        }
        host.end()
    }

    @Test func aRequestWhoseBlockIsSharedIsNotWritten() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let request = peer.echoRequest([1, 2, 3])
        let frame = host.makeFrame(request)
        let kept = try #require(frame.makeSlice(offset: 0, byteCount: request.count))
        host.stack.receive(frame)
        #expect(host.bytes(of: kept) == request)
        #expect(host.output().map { Array($0[42...]) } == [[1, 2, 3]])
        kept.releaseArray()
        host.end()
    }

    @Test func theAnswerComesFromTheAddressThatWasAsked() throws {
        let second = IPAddress.ipv4(172, 16, 0, 5)
        let host = try LowerHost { $0.addresses.append(IPv4Prefix(address: second, length: 16)) }
        host.introduce(peer)
        host.receive(peer.echoRequest([1], destination: second))
        #expect(host.output().map { Array($0[26..<30]) } == [[172, 16, 0, 5]])
    }

    @Test(arguments: [LowerHost.broadcast, .limitedBroadcast])
    func anEchoRequestToAllIsNotAnswered(destination: IPAddress) throws {
        let host = try LowerHost()
        host.introduce(peer)
        host.receive(peer.echoRequest([1], destination: destination))
        #expect(host.output().isEmpty)
        #expect(host.drops(.unmatchedControlMessage) == 1)
    }

    @Test func aDamagedMessageIsDropped() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let request = peer.echoRequest([1, 2, 3, 4])
        for bit in 0..<96 {
            var damaged = request
            damaged[34 + bit / 8] ^= 1 << UInt8(bit % 8)
            host.receive(damaged)
        }
        #expect(host.drops(.badControlMessage) == 96)
        for count in 0..<8 { host.receive(peer.ipv4(1, Array(repeating: 8, count: count))) }
        #expect(host.drops(.badControlMessage) == 104)
        #expect(host.output().isEmpty)
    }

    @Test(arguments: [0, 1, 2, 4, 5, 6, 7, 9, 10, 13, 14, 15, 16, 17, 18, 30, 40, 255] as [UInt8])
    func aMessageThatConcernsNobodyIsDroppedAndNotAnswered(type: UInt8) throws {
        let host = try LowerHost()
        host.introduce(peer)
        host.receive(peer.icmp([type, 0, 0, 0] + [UInt8](repeating: 0, count: 60)))
        #expect(host.drops(type == ICMPv4Type.redirect ? .redirectRefused : .unmatchedControlMessage) == 1)
        #expect(host.output().isEmpty)
    }

    // MARK: Errors out

    @Test func aDatagramToAClosedPortIsAnsweredWithPortUnreachable() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let datagram = peer.udp([1, 2, 3, 4], from: 7_000, to: 5_000)
        host.receive(datagram)
        let output = host.output()
        #expect(output.count == 1)
        let error = try #require(output.first)
        expectWellFormed(error)
        #expect(Array(error[26..<34]) == [10, 0, 0, 1, 10, 0, 0, 2])
        #expect(Array(error[34..<36]) == [3, 3])
        #expect(Array(error[38..<42]) == [0, 0, 0, 0])
        // The whole packet is quoted as it came.
        #expect(Array(error[42...]) == Array(datagram[14...]))
        #expect(host.drops(.noDatagramSocket) == 1)
        #expect(host.stack.statistics.controlMessagesSent == 1)
        host.end()
    }

    @Test func anUnknownProtocolIsAnsweredWithProtocolUnreachable() throws {
        let host = try LowerHost()
        host.introduce(peer)
        host.receive(peer.ipv4(132, [1, 2, 3]))
        #expect(host.output().map { Array($0[34..<36]) } == [[3, 2]])
        #expect(host.drops(.unknownProtocol) == 1)
    }

    @Test func anErrorQuotesAsMuchAsFitsInto576Bytes() throws {
        let host = try LowerHost()
        host.introduce(peer)
        host.receive(peer.udp([UInt8](repeating: 7, count: 1_400), to: 5_000))
        let output = host.output()
        #expect(output.map(\.count) == [14 + 576])
        expectWellFormed(output[0])
    }

    @Test func errorsAreLimitedInRate() throws {
        let host = try LowerHost {
            $0.limits.controlMessageBurst = 5
            $0.limits.controlMessagesPerSecond = 10
        }
        host.introduce(peer)
        host.advance(seconds: 10)
        for _ in 0..<100 { host.receive(peer.udp([1], to: 5_000)) }
        #expect(host.output().count == 5)
        #expect(host.drops(.controlMessageRateLimited) == 95)
        host.advance(milliseconds: 200)
        for _ in 0..<100 { host.receive(peer.udp([1], to: 5_000)) }
        #expect(host.output().count == 2)
    }

    @Test func nothingThatWasSentToAllIsAnsweredWithAnError() throws {
        let host = try LowerHost()
        host.introduce(peer)
        for destination in [LowerHost.broadcast, .limitedBroadcast] {
            host.receive(peer.udp([1], to: 5_000, destination: destination))
            host.receive(peer.udp([1], to: 5_000, destination: destination, hardware: .broadcast))
            host.receive(peer.ipv4(132, [1], destination: destination))
            host.receive(peer.ipv4(17, peer.datagram([1], from: 1, to: 2), destination: destination, options: hex("07 01 00 00")))
        }
        #expect(host.output().isEmpty)
        #expect(host.drops(.noDatagramSocket) == 4)
    }

    @Test func anErrorIsNotAnsweredWithAnError() throws {
        let host = try LowerHost()
        host.introduce(peer)
        // Malformed options on an ICMP error, on a cut-off message and on one of an unknown type.
        for message in [[3, 3, 0, 0, 0, 0, 0, 0], [3], [99, 0, 0, 0, 0, 0, 0, 0]] as [[UInt8]] {
            host.receive(peer.ipv4(1, message, options: hex("07 01 00 00")))
        }
        #expect(host.output().isEmpty)
        host.receive(peer.echoRequest([1], options: hex("07 01 00 00")))
        #expect(host.output().map { $0[34] } == [12])
    }

    @Test func anErrorToSomebodyWithoutARouteIsNotSent() throws {
        let host = try LowerHost { $0.routes = [] }
        host.receive(peer.udp([1], to: 5_000, source: .ipv4(192, 0, 2, 1)))
        #expect(host.output().isEmpty)
        #expect(host.stack.statistics.controlMessagesSent == 0)
    }

    // MARK: Errors in

    /// An error about the first `quotedByteCount` bytes of a packet that the host has sent.
    private func error(_ type: UInt8, _ code: UInt8, rest: [UInt8] = [0, 0, 0, 0], about sent: [UInt8], quotedByteCount: Int = 28) -> [UInt8] {
        peer.icmp([type, code, 0, 0] + rest + sent[14...].prefix(quotedByteCount))
    }

    @Test(
        arguments: [
            (3, 0, ENETUNREACH), (3, 1, EHOSTUNREACH), (3, 2, ENOPROTOOPT), (3, 3, ECONNREFUSED), (3, 4, EMSGSIZE), (3, 5, EOPNOTSUPP),
            (3, 6, ENETUNREACH),
            (3, 7, EHOSTUNREACH), (3, 8, EHOSTUNREACH), (3, 9, EHOSTUNREACH), (3, 10, EHOSTUNREACH), (3, 11, ENETUNREACH), (3, 12, EHOSTUNREACH),
            (3, 13, EHOSTUNREACH), (3, 14, EHOSTUNREACH), (3, 15, EHOSTUNREACH), (11, 0, EHOSTUNREACH), (11, 1, EHOSTUNREACH), (12, 0, EPROTO),
        ] as [(UInt8, UInt8, Int32)])
    func anErrorReachesTheSocketThatItConcerns(type: UInt8, code: UInt8, expected: Int32) throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.stack.makeDatagramSocket(owner: 8)
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(9)) == 0)
        #expect(host.sendDatagram(socket, [1, 2, 3]) == 0)
        let sent = host.output()[0]
        host.receive(error(type, code, about: sent))
        let event = try #require(host.stack.takeDatagramEvent())
        #expect(event.socket == socket && event.owner == 8)
        #expect(host.stack.takeDatagramError(socket) == expected)
        #expect(host.stack.takeDatagramError(socket) == 0)
        #expect(host.stack.statistics.drops.total == 0)
        host.end()
    }

    @Test func theNextHopsMTUIsPassedOn() throws {
        let message: [UInt8] = [3, 4, 0, 0, 0, 0, 0x05, 0x14]
        message.withUnsafeBytes {
            #expect(ControlError(ICMPv4View($0.baseAddress!, count: 8)!) == .fragmentationNeeded(mtu: 1_300))
        }
    }

    @Test func anErrorThatQuotesNothingOfOursIsCountedOnly() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.stack.makeDatagramSocket(owner: 8)
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(9)) == 0)
        #expect(host.sendDatagram(socket, [1, 2, 3]) == 0)
        let sent = host.output()[0]
        // The source, the destination, the source port, the destination port, the protocol; and an unknown code.
        for offset in [29, 33, 35, 37, 23] {
            var other = sent
            other[offset] ^= 1
            host.receive(error(3, 3, about: other))
        }
        host.receive(error(3, 16, about: sent))
        #expect(host.drops(.unmatchedControlMessage) == 6)
        // A segment that another host has sent.
        host.receive(error(3, 3, about: peer.ipv4(6, [0, 1, 0, 2, 0, 0, 0, 3])))
        #expect(host.drops(.unmatchedControlMessage) == 7)
        #expect(host.stack.takeDatagramError(socket) == 0)
        #expect(host.stack.takeDatagramEvent() == nil)
    }

    @Test func anErrorThatQuotesTooLittleIsDropped() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.stack.makeDatagramSocket(owner: 8)
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(9)) == 0)
        #expect(host.sendDatagram(socket, [1, 2, 3]) == 0)
        let sent = host.output()[0]
        for count in 0..<28 { host.receive(error(3, 3, about: sent, quotedByteCount: count)) }
        #expect(host.drops(.badControlMessage) == 28)
        // A fragment that is not the first has no ports; a header of 60 bytes is not all there.
        for (offset, value) in [(21, 1), (14, 0x4f), (14, 0x65), (14, 0x44)] as [(Int, UInt8)] {
            var other = sent
            other[offset] = value
            host.receive(error(3, 3, about: other))
        }
        #expect(host.drops(.badControlMessage) == 32)
        #expect(host.stack.takeDatagramError(socket) == 0)
    }

    @Test func anErrorIsNotGivenToASocketWithManyPeers() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(9)) == 0)
        host.receive(error(3, 3, about: host.output()[0]))
        #expect(host.stack.takeDatagramError(socket) == 0)
        #expect(host.drops(.unmatchedControlMessage) == 1)
    }
}
