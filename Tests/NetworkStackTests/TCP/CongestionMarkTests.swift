import NetworkStack
import Testing
import WireFormats

/// ECN between two stacks, over both families: the field lies in another place of each header (RFC 3168, section 5).
@Suite("TCP: marks over both families") struct CongestionMarkTests {
    private static let ipv6 = [IPAddress("2001:db8::1")!, IPAddress("2001:db8::2")!]

    /// Where a frame's ECN field is, and how far it has to be moved to the right.
    private static func field(_ frame: UnsafeRawBufferPointer) -> (offset: Int, shift: UInt8) { frame[12] == 0x86 ? (15, 4) : (15, 0) }

    private static func codepoint(_ frame: UnsafeRawBufferPointer) -> UInt8 { frame[field(frame).offset] >> field(frame).shift & 3 }

    /// As a router does: CE, and with IPv4 a checksum that says so.
    private static func mark(_ frame: UnsafeRawBufferPointer) {
        let bytes = UnsafeMutableRawBufferPointer(mutating: frame)
        bytes[field(frame).offset] |= 3 << field(frame).shift
        guard frame[12] == 0x08 else { return }
        (bytes[24], bytes[25]) = (0, 0)
        let sum = internetChecksum(Array(frame[14..<34]))
        (bytes[24], bytes[25]) = (UInt8(truncatingIfNeeded: sum >> 8), UInt8(truncatingIfNeeded: sum))
    }

    private static func isData(_ frame: UnsafeRawBufferPointer) -> Bool { frame.count > 200 }

    /// - Returns: the pair, connected, and the connections of both.
    private static func connect(
        isIPv6: Bool, _ configure: (Int, inout NetworkConfiguration) -> Void = { _, _ in }
    ) throws -> (pair: StackPair, client: UInt32, server: UInt32) {
        let pair = try StackPair { index, configuration in
            configuration.ipv6Addresses = [IPv6Prefix(address: ipv6[index], length: 64)]
            configuration.ipv6.duplicateAddressDetectionTransmits = 0
            configuration.tcp.explicitCongestion = .on
            configure(index, &configuration)
        }
        let socket = pair.stacks[1].makeConnection(owner: 1)
        let address: IPAddress = isIPv6 ? .unspecifiedIPv6 : IPAddress(ipv4Raw: 0)
        #expect(pair.stacks[1].bind(socket, to: Endpoint(address: address, port: 80)) == 0)
        #expect(pair.stacks[1].listen(socket, backlog: 16) == 0)
        let client = pair.stacks[0].makeConnection(owner: 2)
        #expect(pair.stacks[0].connect(client, to: Endpoint(address: isIPv6 ? ipv6[1] : StackPair.addresses[1], port: 80)) == 0)
        pair.exchange()
        let server = pair.stacks[1].accept(socket, owner: 3)
        try #require(server != 0, "the handshake failed")
        return (pair, client, server)
    }

    @Test("data is ECN-capable, acknowledgements and handshakes are not", arguments: [false, true])
    func capability(isIPv6: Bool) throws {
        let (pair, client, server) = try Self.connect(isIPv6: isIPv6)
        #expect(pair.stacks.allSatisfy { $0.statistics.tcp.congestionCapableConnections == 1 })
        var data: [UInt8] = []
        var others: [UInt8] = []
        pair.passes = { _, frame in
            if Self.isData(frame) { data.append(Self.codepoint(frame)) } else { others.append(Self.codepoint(frame)) }
            return true
        }
        pair.send(0, client, pattern(5_000))
        pair.advance(100_000_000)
        #expect(pair.receive(1, server) == pattern(5_000))
        #expect(data == [2, 2, 2, 2] && !others.isEmpty && others.allSatisfy { $0 == 0 })
    }

    @Test("a mark on the way is echoed until the sender tells that it has reduced its window, once", arguments: [false, true])
    func markedOnce(isIPv6: Bool) throws {
        let (pair, client, server) = try Self.connect(isIPv6: isIPv6)
        var count = 0
        pair.passes = { _, frame in
            if Self.isData(frame) {
                count += 1
                if count == 3 { Self.mark(frame) }
            }
            return true
        }
        let sent = pattern(60_000)
        pair.send(0, client, sent)
        var received: [UInt8] = []
        for _ in 0..<200 where received.count < sent.count {
            pair.advance(1_000_000)
            received += pair.receive(1, server)
        }
        #expect(received == sent)
        let (sender, receiver) = (pair.stacks[0].statistics.tcp, pair.stacks[1].statistics.tcp)
        #expect(receiver.congestionMarks == 1 && sender.congestionEchoes >= 1 && sender.markedReductions == 1)
        let drops = pair.stacks[1].statistics.drops
        #expect(sender.retransmittedSegments == 0 && drops[.badSegmentChecksum] == 0 && drops[.badIPv4Checksum] == 0)
        #expect(pair.stacks[0].connectionInformation(client).slowStartThreshold != nil)
    }

    @Test("without ECN nothing is marked capable", arguments: [false, true])
    func refused(isIPv6: Bool) throws {
        let (pair, client, server) = try Self.connect(isIPv6: isIPv6) { index, configuration in
            if index == 1 { configuration.tcp.explicitCongestion = .off }
        }
        pair.passes = { _, frame in
            #expect(Self.codepoint(frame) == 0)
            return true
        }
        pair.send(0, client, pattern(5_000))
        pair.advance(100_000_000)
        #expect(pair.receive(1, server) == pattern(5_000) && pair.stacks[0].statistics.tcp.congestionCapableConnections == 0)
    }

    @Test("DCTCP asks for marks by itself, and halves its window at the first one", arguments: [false, true])
    func dataCenter(isIPv6: Bool) throws {
        let (pair, client, server) = try Self.connect(isIPv6: isIPv6) { $1.tcp.congestionControl = .dctcp; $1.tcp.explicitCongestion = .off }
        #expect(pair.stacks[0].connectionInformation(client).usesExplicitCongestion)
        pair.passes = { _, frame in
            if Self.isData(frame) { Self.mark(frame) }
            return true
        }
        let window = pair.stacks[0].connectionInformation(client).congestionWindow
        pair.send(0, client, pattern(14_000))
        pair.advance(100_000_000)
        #expect(pair.receive(1, server) == pattern(14_000))
        #expect(pair.stacks[0].connectionInformation(client).congestionWindow <= window / 2 + 1_460)
    }
}
