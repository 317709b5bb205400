import DatapathMemory
import EthernetDevice
import NetworkStack
import Testing
import WireFormats

/// Hop limit and differentiated services of what a socket sends (RFC 9293, MUST-48; RFC 1122, sections 3.2.1.7 and 4.1.4).
@Suite("Packet options") struct PacketOptionsTests {
    private static let addresses = [IPAddress("2001:db8::1")!, IPAddress("2001:db8::2")!]
    private static let options: PacketOptions = {
        var options = PacketOptions()
        options.hopLimit = 3
        options.differentiatedServices = 46
        return options
    }()

    private func pair(_ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws -> StackPair {
        try StackPair { index, configuration in
            configuration.ipv6Addresses = [IPv6Prefix(address: PacketOptionsTests.addresses[index], length: 64)]
            configuration.ipv6.duplicateAddressDetectionTransmits = 0
            configure(&configuration)
        }
    }

    /// The hop limit and the traffic class of a packet of UDP or TCP, and whether its IPv4 header is right; nil for any other.
    private func fields(_ frame: [UInt8]) -> (hopLimit: UInt8, trafficClass: UInt8)? {
        switch number(frame, at: 12) {
        case 0x0800 where frame[23] == 6 || frame[23] == 17:
            #expect(internetChecksum(Array(frame[14..<34])) == 0)
            return (frame[22], frame[15])
        case 0x86dd where frame[20] == 6 || frame[20] == 17 || frame[20] == 44: return (frame[21], frame[14] << 4 | frame[15] >> 4)
        default: return nil
        }
    }

    @Test("segments of a connection, and of a listener's connections, carry them in every way out", arguments: [true, false], [true, false])
    func connections(isIPv6: Bool, hasTimestamps: Bool) throws {
        let pair = try pair {
            $0.tcp.offersTimestamps = hasTimestamps
            $0.tcp.isNoDelay = true
        }
        var wrong = 0
        var count = 0
        var isChanged = false
        pair.passes = { target, bytes in
            guard let found = self.fields(Array(bytes)) else { return true }
            let expected: (UInt8, UInt8) = target == 1 && isChanged ? (9, 0) : (3, 46 << 2)
            if found != expected { wrong += 1 }
            count += 1
            return true
        }
        let server = pair.stacks[1].makeConnection(owner: 1)
        #expect(pair.stacks[1].bind(server, to: Endpoint(address: isIPv6 ? .unspecifiedIPv6 : .unspecifiedIPv4, port: 80)) == 0)
        pair.stacks[1].setPacketOptions(server, PacketOptionsTests.options)
        #expect(pair.stacks[1].listen(server, backlog: 4) == 0)
        let client = pair.stacks[0].makeConnection(owner: 2)
        pair.stacks[0].setPacketOptions(client, PacketOptionsTests.options)
        let remote = isIPv6 ? PacketOptionsTests.addresses[1] : StackPair.addresses[1]
        #expect(pair.stacks[0].connect(client, to: Endpoint(address: remote, port: 80)) == 0)
        pair.exchange()
        let child = pair.stacks[1].accept(server, owner: 3)
        try #require(child != 0)
        #expect(pair.stacks[1].packetOptions(child) == PacketOptionsTests.options)
        for size in [10, 64, 5_000] {
            pair.send(0, client, pattern(size))
            pair.exchange()
            #expect(pair.receive(1, child) == pattern(size))
        }
        #expect(wrong == 0 && count >= 8)
        // From the next segment on.
        var changed = PacketOptions()
        changed.hopLimit = 9
        pair.stacks[0].setPacketOptions(client, changed)
        isChanged = true
        count = 0
        pair.send(0, client, pattern(10))
        pair.exchange()
        #expect(pair.receive(1, child) == pattern(10) && wrong == 0 && count >= 1)
    }

    @Test("a mark of ECN stands beside the codepoint", arguments: [true, false])
    func explicitCongestion(isIPv6: Bool) throws {
        let pair = try pair { $0.tcp.explicitCongestion = .on }
        var classes = Set<UInt8>()
        pair.passes = { target, bytes in
            if target == 1, let found = self.fields(Array(bytes)) { classes.insert(found.trafficClass) }
            return true
        }
        let server = pair.stacks[1].makeConnection(owner: 1)
        #expect(pair.stacks[1].bind(server, to: Endpoint(address: isIPv6 ? .unspecifiedIPv6 : .unspecifiedIPv4, port: 80)) == 0)
        #expect(pair.stacks[1].listen(server, backlog: 4) == 0)
        let client = pair.stacks[0].makeConnection(owner: 2)
        pair.stacks[0].setPacketOptions(client, PacketOptionsTests.options)
        #expect(pair.stacks[0].connect(client, to: Endpoint(address: isIPv6 ? PacketOptionsTests.addresses[1] : StackPair.addresses[1], port: 80)) == 0)
        pair.exchange()
        pair.send(0, client, pattern(100))
        pair.exchange()
        // ECT(0) on data alone.
        #expect(classes.sorted() == [46 << 2, 46 << 2 | 2])
    }

    @Test("datagrams carry them, whole or in fragments", arguments: [true, false], [100, 4_000])
    func datagrams(isIPv6: Bool, byteCount: Int) throws {
        let pair = try pair()
        var seen: [(UInt8, UInt8)] = []
        pair.passes = { _, bytes in
            if let found = self.fields(Array(bytes)) { seen.append(found) }
            return true
        }
        let socket = pair.stacks[0].makeDatagramSocket(owner: 1)
        pair.stacks[0].setDatagramPacketOptions(socket, PacketOptionsTests.options)
        #expect(pair.stacks[0].datagramPacketOptions(socket) == PacketOptionsTests.options)
        let array = try #require(Frame.makeSegment(pair.heap, byteCount: byteCount, priority: .application))
        array.segmentAddress.initializeMemory(as: UInt8.self, repeating: 7, count: byteCount)
        let remote = isIPv6 ? PacketOptionsTests.addresses[1] : StackPair.addresses[1]
        #expect(pair.stacks[0].sendDatagram(socket, array, to: Endpoint(address: remote, port: 9)) == 0)
        pair.exchange()
        // What comes back tells that the port is closed; its headers are the host's own.
        #expect(seen.count == (byteCount + 8 + 1_439) / 1_440 && seen.allSatisfy { $0 == (3, 46 << 2) })
    }
}
