import Testing
import WireFormats

@Suite struct IPv4Tests {
    /// A header seen on the wire: UDP from 192.168.0.1 to 192.168.0.199, 115 bytes.
    private let example = [UInt8](hexadecimal: "4500 0073 0000 4000 4011 b861 c0a8 0001 c0a8 00c7")

    private func packet(_ header: [UInt8]) -> [UInt8] { header + [UInt8](repeating: 0x5a, count: Int(header.number16(2)) - header.count) }

    @Test func anExampleIsRead() {
        let page = GuardedPage()
        let bytes = page.place(packet(example))
        #expect(IPv4View.check(bytes, count: 115) == .none)
        let view = IPv4View(unchecked: bytes)
        #expect(view.headerByteCount == 20)
        #expect(view.totalByteCount == 115)
        #expect(view.payloadByteCount == 95)
        #expect(view.payload == UnsafeRawPointer(bytes + 20))
        #expect(view.identification == 0)
        #expect(view.dontFragment)
        #expect(!view.moreFragments)
        #expect(!view.isFragment)
        #expect(view.fragmentOffset == 0)
        #expect(view.timeToLive == 64)
        #expect(view.protocolNumber == IPProtocol.udp)
        #expect(view.source == .ipv4(192, 168, 0, 1))
        #expect(view.destination == .ipv4(192, 168, 0, 199))
        #expect(withUnsafeBytes(of: view.rawAddresses) { Array($0) } == [192, 168, 0, 1, 192, 168, 0, 199])
        #expect(view.isChecksumValid)
        #expect(view.options.isEmpty)
    }

    @Test func theExampleIsWritten() {
        let header = written(20) {
            IPv4Header.write(
                to: $0, totalByteCount: 115, identification: 0, dontFragment: true, timeToLive: 64, typeOfService: 0,
                protocolNumber: IPProtocol.udp, source: .ipv4(192, 168, 0, 1), destination: .ipv4(192, 168, 0, 199))
        }
        #expect(header == example)
    }

    @Test func randomHeadersSurviveTheWire() {
        var random = SeededGenerator(seed: 8)
        let page = GuardedPage()
        for _ in 0..<2000 {
            let total = Int.random(in: 20...4000, using: &random)
            let identification = UInt16.random(in: 0...65535, using: &random)
            let dontFragment = Bool.random(using: &random)
            let moreFragments = Bool.random(using: &random)
            let offset = 8 * Int.random(in: 0...8191, using: &random)
            let service = UInt8.random(in: 0...255, using: &random)
            let source = IPAddress(ipv4Raw: UInt32.random(in: 0...UInt32.max, using: &random))
            let destination = IPAddress(ipv4Raw: UInt32.random(in: 0...UInt32.max, using: &random))
            let target = page.last(total)
            IPv4Header.write(
                to: target, totalByteCount: total, identification: identification, dontFragment: dontFragment, moreFragments: moreFragments,
                fragmentOffset: offset, timeToLive: 3, typeOfService: service, protocolNumber: 253, source: source, destination: destination)
            #expect(IPv4View.check(target, count: total) == .none)
            let view = IPv4View(unchecked: target)
            #expect(view.totalByteCount == total)
            #expect(view.identification == identification)
            #expect(view.dontFragment == dontFragment)
            #expect(view.moreFragments == moreFragments)
            #expect(view.fragmentOffset == offset)
            #expect(view.isFragment == (moreFragments || offset > 0))
            #expect(view.typeOfService == service)
            #expect(view.dscp == service >> 2)
            #expect(view.ecn == service & 3)
            #expect(view.timeToLive == 3)
            #expect(view.protocolNumber == 253)
            #expect(view.source == source)
            #expect(view.destination == destination)
            #expect(view.isChecksumValid)
            #expect(naiveChecksum(bytes(target, 20)) == 0)
        }
    }

    @Test func everyDamagedBitOfAHeaderIsSeenByTheChecksum() {
        let page = GuardedPage()
        for options in [[], [UInt8](hexadecimal: "0101010794040000")] {
            var header = example + options
            header[0] = 0x40 | UInt8(header.count / 4)
            header[10] = 0
            header[11] = 0
            header.replaceSubrange(10..<12, with: [UInt8].bigEndian(naiveChecksum(header)))
            #expect(IPv4View(unchecked: page.place(header)).isChecksumValid)
            // The header length is the caller's to check before.
            for bit in 8..<(8 * header.count) {
                var damaged = header
                damaged[bit / 8] ^= 1 << (bit % 8)
                #expect(!IPv4View(unchecked: page.place(damaged)).isChecksumValid, "bit \(bit)")
            }
        }
    }

    /// Identifications from 0 to 65535 go through every checksum, 0x0000 included; 0xffff in its place is the same number.
    @Test func everyValueOfTheChecksumVerifies() {
        var zeros = 0
        var failures = 0
        let page = GuardedPage()
        let target = page.last(20)
        for identification in UInt16.min...UInt16.max {
            IPv4Header.write(
                to: target, totalByteCount: 20, identification: identification, dontFragment: false, timeToLive: 64, protocolNumber: 6,
                source: .ipv4(10, 0, 0, 1), destination: .ipv4(10, 0, 0, 2))
            if !IPv4View(unchecked: target).isChecksumValid { failures += 1 }
            if target.load(fromByteOffset: 10, as: UInt8.self) == 0, target.load(fromByteOffset: 11, as: UInt8.self) == 0 {
                zeros += 1
                target.storeBytes(of: 0xffff, toByteOffset: 10, as: UInt16.self)
                if !IPv4View(unchecked: target).isChecksumValid { failures += 1 }
            }
        }
        #expect(failures == 0)
        #expect(zeros == 1)
    }

    @Test func truncatedPacketsAreRefused() {
        let page = GuardedPage()
        let whole = packet(example)
        for count in 0..<115 { #expect(IPv4View.check(page.place(whole[..<count]), count: count) == .truncated) }
        // What follows the packet is padding.
        #expect(IPv4View.check(page.place(whole + [0, 0, 0]), count: 118) == .none)
        #expect(IPv4View(unchecked: page.place(whole + [0, 0, 0])).payloadByteCount == 95)
    }

    @Test func malformedHeadersAreRefusedForTheirReason() {
        let page = GuardedPage()
        func check(_ change: (inout [UInt8]) -> Void) -> ParseError {
            var bytes = packet(example)
            change(&bytes)
            return IPv4View.check(page.place(bytes), count: bytes.count)
        }
        for version in 0...15 as ClosedRange<UInt8> where version != 4 { #expect(check { $0[0] = version << 4 | 5 } == .badVersion) }
        for words in 0...4 as ClosedRange<UInt8> { #expect(check { $0[0] = 0x40 | words } == .badHeaderLength) }
        for words in 5...15 as ClosedRange<UInt8> { #expect(check { $0[0] = 0x40 | words } == .none) }
        #expect(check { $0[3] = 19 } == .badTotalLength)
        #expect(check { $0[3] = 0 } == .badTotalLength)
        #expect(check { $0[3] = 20 } == .none)
        #expect(check { ($0[0], $0[3]) = (0x46, 23) } == .badTotalLength)
        #expect(check { ($0[0], $0[3]) = (0x46, 24) } == .none)
        #expect(check { $0[3] = 116 } == .truncated)
        #expect(check { $0[2] = 0xff } == .truncated)
    }

    private func summary(_ options: [UInt8]) -> IPv4Options.Summary {
        let page = GuardedPage()
        return IPv4Options(base: page.place(options), count: options.count).summary()
    }

    @Test func wellFormedOptionsAreWalkedOver() {
        #expect(summary([]).error == .none)
        #expect(summary([1, 1, 1, 1]).error == .none)
        #expect(summary([0, 0xff, 0xff, 0xff]).error == .none)
        // Router alert, record route, an unknown one.
        #expect(summary([UInt8](hexadecimal: "94040000 07070401020304 01 de03aa 00")).error == .none)
        #expect(!summary([UInt8](hexadecimal: "94040000 07070401020304 01 de03aa 00")).hasSourceRoute)
        #expect(summary([0x94, 2]).error == .none)
    }

    @Test func sourceRoutesAreRecognised() {
        #expect(summary([UInt8](hexadecimal: "8307040a000001 00")).hasSourceRoute)
        #expect(summary([UInt8](hexadecimal: "01 8907040a000001")).hasSourceRoute)
        #expect(summary([UInt8](hexadecimal: "94040000 8907040a000001 00")).hasSourceRoute)
        // Behind the end of the list there are no options.
        #expect(!summary([UInt8](hexadecimal: "00 8907040a000001")).hasSourceRoute)
    }

    @Test func optionsWithBadLengthsAreTold() {
        for length in [0, 1, 6, 255] as [UInt8] {
            let found = summary([1, 1, 0x94, length, 0, 0, 0])
            #expect(found.error == .badOptions)
            #expect(found.errorOffset == 2)
        }
        #expect(summary([0x94]).error == .badOptions)
        #expect(summary([1, 1, 1, 0x83]).error == .badOptions)
        #expect(!summary([1, 1, 1, 0x83]).hasSourceRoute)
    }
}
