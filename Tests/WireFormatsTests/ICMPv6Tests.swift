import Testing
import WireFormats

/// RFC 4443, RFC 4861, RFC 3810.
@Suite struct ICMPv6Tests {
    private let page = GuardedPage()
    private let source = IPAddress("fe80::1")!
    private let destination = IPAddress("fe80::2")!
    private let macAddress = MACAddress(value: 0x0200_0000_0001)

    private func isComplete(_ message: [UInt8]) -> Bool {
        let pseudoHeader = bytes16(source) + bytes16(destination) + [UInt8].bigEndian(UInt32(message.count)) + [0, 0, 0, 58]
        return naiveChecksum(pseudoHeader + message) == 0
    }

    private func bytes16(_ address: IPAddress) -> [UInt8] {
        written(16) { $0.storeBytes(of: address.words, as: (UInt64, UInt64).self) }
    }

    @Test func theChecksumCoversThePseudoHeader() throws {
        var message = [UInt8](hexadecimal: "8000 0000 1234 0007") + Array("ping!".utf8)
        message = written(message.count) {
            for (offset, byte) in message.enumerated() { $0.storeBytes(of: byte, toByteOffset: offset, as: UInt8.self) }
            ICMPv6Message.complete($0, count: message.count, source: source, destination: destination)
        }
        #expect(isComplete(message))
        let view = try #require(ICMPv6View(page.place(message), count: message.count))
        #expect(view.type == ICMPv6Type.echoRequest && view.restOfHeader == 0x1234_0007 && !view.isError && view.quotation == nil)
        #expect(view.isChecksumValid(source: source, destination: destination))
        #expect(!view.isChecksumValid(source: source, destination: IPAddress("fe80::3")!))
        for bit in 0..<(8 * message.count) {
            var damaged = message
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(ICMPv6View(page.place(damaged), count: damaged.count)?.isChecksumValid(source: source, destination: destination) == false)
        }
        for count in 0..<8 { #expect(ICMPv6View(page.place(message[..<count]), count: count) == nil) }
    }

    @Test func anErrorQuotesAsMuchAsFitsIntoTheMinimumMTU() throws {
        for payloadByteCount in [8, 1_000, 1_232, 1_233, 1_452] {
            let packet = written(40 + payloadByteCount) {
                $0.initializeMemory(as: UInt8.self, repeating: 7, count: 40 + payloadByteCount)
                IPv6Header.write(
                    to: $0, payloadByteCount: payloadByteCount, nextHeader: 17, hopLimit: 1, source: source, destination: destination)
            }
            let view = IPv6View(unchecked: page.place(packet))
            let byteCount = ICMPv6Message.errorByteCount(quoting: view)
            #expect(40 + byteCount == min(1_280, 88 + payloadByteCount))
            let message = written(byteCount) {
                #expect(ICMPv6Message.writeError(to: $0, type: 4, code: 1, restOfHeader: 40, quoting: view) == byteCount)
            }
            #expect(message[..<8] == [4, 1, 0, 0, 0, 0, 0, 40] && Array(message[8...]) == Array(packet.prefix(byteCount - 8)))
        }
    }

    @Test func aQuotationIsFollowedToItsTransportHeader() throws {
        func quotation(_ next: UInt8, _ payload: [UInt8]) -> ICMPv6Quotation? {
            let packet = written(40) {
                IPv6Header.write(to: $0, payloadByteCount: 999, nextHeader: next, hopLimit: 1, source: source, destination: destination)
            }
            let message: [UInt8] = [1, 4, 0, 0, 0, 0, 0, 0] + packet + payload
            return ICMPv6View(page.place(message), count: message.count)?.quotation
        }
        let udp = try #require(quotation(17, [0x13, 0x88, 0, 7, 0, 8, 0, 0]))
        #expect(udp.protocolNumber == 17 && udp.sourcePort == 5_000 && udp.destinationPort == 7)
        #expect(udp.source == source && udp.destination == destination)
        let tcp = try #require(quotation(60, [6, 0, 1, 4, 0, 0, 0, 0] + [0, 1, 0, 2, 0, 0, 0, 3]))
        #expect(tcp.protocolNumber == 6 && tcp.sequence.rawValue == 3)
        #expect(quotation(44, [6, 0, 0, 1, 0, 0, 0, 0] + [0, 1, 0, 2, 0, 0, 0, 3])?.destinationPort == 2)
        #expect(quotation(44, [6, 0, 0, 8, 0, 0, 0, 0] + [0, 1, 0, 2, 0, 0, 0, 3]) == nil)
        #expect(quotation(17, [0x13, 0x88, 0, 7, 0, 8, 0]) == nil)
        #expect(quotation(60, [6, 255, 1, 4, 0, 0, 0, 0] + [0, 1, 0, 2, 0, 0, 0, 3]) == nil)
    }

    @Test func neighborDiscoveryMessagesLookAsTheRFCDrawsThem() {
        #expect(
            written(32) { _ = ICMPv6Message.writeNeighborSolicitation(to: $0, for: destination, sender: macAddress) }
                == [UInt8](hexadecimal: "8700 0000 00000000 fe800000000000000000000000000002 0101 020000000001"))
        let short = written(24) { _ = ICMPv6Message.writeNeighborSolicitation(to: $0, for: destination, sender: nil) }
        #expect(Array(short[8...]) == bytes16(destination))
        #expect(
            written(32) {
                _ = ICMPv6Message.writeNeighborAdvertisement(to: $0, of: source, macAddress: macAddress, isSolicited: true, overrides: true)
            } == [UInt8](hexadecimal: "8800 0000 60000000 fe800000000000000000000000000001 0201 020000000001"))
        #expect(
            written(16) { _ = ICMPv6Message.writeRouterSolicitation(to: $0, sender: macAddress) }
                == [UInt8](hexadecimal: "8500 0000 00000000 0101 020000000001"))
        #expect(
            written(28) {
                ICMPv6Message.writeListenerReport(to: $0, records: 1)
                GroupRecord.write(to: $0 + 8, .changeToExclude, group: .allNodes)
            } == [UInt8](hexadecimal: "8f00 0000 0000 0001 0400 0000 ff020000000000000000000000000001"))
    }

    @Test func optionsAreReadAndMalformedOnesRefused() throws {
        let prefix = [UInt8](hexadecimal: "0304 40c0 00000e10 00000708 00000000 20010db8000100000000000000000000")
        let bytes = [UInt8](hexadecimal: "0101 020000000009 0501 0000 000005dc 2001 000000000000") + prefix
        var options = try #require(NeighborDiscoveryOptions(page.place(bytes), count: bytes.count))
        #expect(options.linkLayerAddress(1) == MACAddress(value: 0x0200_0000_0009) && options.linkLayerAddress(2) == nil)
        let (first, second, unknown) = (options.next(), options.next(), options.next())
        #expect(first?.type == 1 && second?.mtu == 1_500 && unknown?.type == 0x20)
        let third = options.next()
        let information = try #require(third?.prefix)
        #expect(information.prefix == IPv6Prefix(parsing: "2001:db8:1::/64") && information.isOnLink && information.isAutonomous)
        #expect(information.validSeconds == 3_600 && information.preferredSeconds == 1_800)
        let last = options.next()
        #expect(last?.type == nil)
        #expect(NeighborDiscoveryOptions(page.place(bytes[..<0]), count: 0) != nil)
        for bad in ["0100 020000000009", "0102 020000000009", "0101 0200000000"] {
            let bytes = [UInt8](hexadecimal: bad)
            #expect(NeighborDiscoveryOptions(page.place(bytes), count: bytes.count) == nil)
        }
        let short = [UInt8](hexadecimal: "0301 40c0 00000e10")
        var shortOptions = try #require(NeighborDiscoveryOptions(page.place(short), count: 8))
        let option = shortOptions.next()
        #expect(option?.type == 3 && option?.prefix == nil)
    }
}
