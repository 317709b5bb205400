import Testing
import WireFormats

@Suite struct EthernetTests {
    private let station = MACAddress(value: 0x0200_0000_0001)
    private let peer = MACAddress(value: 0x02aa_bbcc_ddee)
    private let header = [UInt8](hexadecimal: "020000000001 02aabbccddee")

    @Test func anUntaggedHeaderIsWrittenAndRead() throws {
        let frame = written(14) { EthernetHeader.write(to: $0, destination: station, source: peer, etherType: EtherType.ipv4) }
        #expect(frame == header + [0x08, 0x00])
        let page = GuardedPage()
        let view = try #require(EthernetView(page.place(frame + [1, 2, 3]), count: 17))
        #expect(view.destination == station)
        #expect(view.source == peer)
        #expect(view.etherType == EtherType.ipv4)
        #expect(view.vlanIdentifier == nil)
        #expect(view.payloadOffset == 14)
        #expect(bytes(view.payload, view.payloadByteCount) == [1, 2, 3])
    }

    @Test func oneTagIsLookedThrough() throws {
        let page = GuardedPage()
        // Priority 5, drop eligible, VLAN 0x123.
        let view = try #require(EthernetView(page.place(header + [0x81, 0x00, 0xb1, 0x23, 0x86, 0xdd, 9]), count: 19))
        #expect(view.etherType == EtherType.ipv6)
        #expect(view.vlanIdentifier == 0x123)
        #expect(view.payloadOffset == 18)
        #expect(bytes(view.payload, view.payloadByteCount) == [9])
    }

    @Test func aSecondTagIsAnUnknownType() throws {
        let page = GuardedPage()
        let double = try #require(EthernetView(page.place(header + [0x81, 0, 0, 1, 0x81, 0, 0, 2, 8, 0]), count: 22))
        #expect(double.etherType == EtherType.vlan)
        let service = try #require(EthernetView(page.place(header + [0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 8, 0]), count: 22))
        #expect(service.etherType == EtherType.serviceVLAN)
        #expect(service.vlanIdentifier == nil)
    }

    @Test func aFrameThatEndsInItsHeaderIsRefused() {
        let page = GuardedPage()
        let tagged = header + [0x81, 0x00, 0x00, 0x01, 0x08, 0x00]
        for count in 0...18 {
            let view = EthernetView(page.place(tagged[..<count]), count: count)
            #expect((view != nil) == (count == 18))
        }
        let untagged = header + [0x08, 0x00]
        for count in 0...14 {
            let view = EthernetView(page.place(untagged[..<count]), count: count)
            #expect((view != nil) == (count == 14))
            #expect(view?.payloadByteCount ?? 0 == 0)
        }
    }
}

@Suite struct ARPPacketTests {
    /// RFC 826: hardware 1, protocol 0x0800, lengths 6 and 4, operation, sender, target.
    private let request = [UInt8](hexadecimal: "0001 0800 06 04 0001 02aabbccddee c0000201 000000000000 c0000202")
    private let packet = ARPPacket(
        operation: ARPPacket.request, senderHardware: MACAddress(value: 0x02aa_bbcc_ddee), senderProtocol: .ipv4(192, 0, 2, 1),
        targetHardware: MACAddress(value: 0), targetProtocol: .ipv4(192, 0, 2, 2))

    @Test func aPacketIsWrittenInTheLayoutOfTheRFCAndReadBack() {
        let target = written(28) { packet.write(to: $0) }
        #expect(target == request)
        let page = GuardedPage()
        #expect(ARPPacket(parsing: page.place(target), count: 28) == packet)
    }

    @Test func paddingIsIgnored() {
        let page = GuardedPage()
        #expect(ARPPacket(parsing: page.place(request + [UInt8](repeating: 0xff, count: 18)), count: 46) == packet)
    }

    @Test func otherOperationsAreKeptAsNumbers() {
        let page = GuardedPage()
        var bytes = request
        bytes[6] = 0x12
        bytes[7] = 0x34
        #expect(ARPPacket(parsing: page.place(bytes), count: 28)?.operation == 0x1234)
    }

    @Test func truncatedPacketsAreRefused() {
        let page = GuardedPage()
        for count in 0..<28 { #expect(ARPPacket(parsing: page.place(request[..<count]), count: count) == nil) }
    }

    @Test func otherHardwareProtocolsAndSizesAreRefused() {
        let page = GuardedPage()
        for offset in 0..<6 {
            for bit in 0..<8 {
                var bytes = request
                bytes[offset] ^= 1 << bit
                #expect(ARPPacket(parsing: page.place(bytes), count: 28) == nil)
            }
        }
    }

    @Test func randomPacketsSurviveTheWire() throws {
        var random = SeededGenerator(seed: 7)
        for _ in 0..<2000 {
            let packet = ARPPacket(
                operation: UInt16.random(in: 0...65535, using: &random), senderHardware: MACAddress(value: random.next()),
                senderProtocol: IPAddress(ipv4Raw: UInt32.random(in: 0...UInt32.max, using: &random)),
                targetHardware: MACAddress(value: random.next()),
                targetProtocol: IPAddress(ipv4Raw: UInt32.random(in: 0...UInt32.max, using: &random)))
            let target = written(28) { packet.write(to: $0) }
            #expect(target.withUnsafeBytes { ARPPacket(parsing: $0.baseAddress!, count: 28) } == packet)
        }
    }
}
