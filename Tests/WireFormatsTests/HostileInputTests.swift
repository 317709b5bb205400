import Testing
import WireFormats

/// Random bytes at the end of accessible memory: no parser traps, reads beyond them, or lets through what leads outside.
@Suite struct HostileInputTests {
    private static let rounds = 100_000

    /// Calls `body` with 0 to `limit` random bytes, `rounds` times. `shape` may make some of them plausible, so that not all fail at the first test.
    private func forEachInput(
        _ seed: UInt64, upTo limit: Int, shape: (UnsafeMutableRawPointer, Int, inout SeededGenerator) -> Void,
        _ body: (UnsafeMutableRawPointer, Int) -> Bool
    ) {
        let page = GuardedPage()
        var random = SeededGenerator(seed: seed)
        var failures = 0
        for _ in 0..<HostileInputTests.rounds {
            let count = Int(random.next() % UInt64(limit + 1))
            let start = page.last(count)
            var offset = 0
            while offset < count {
                withUnsafeBytes(of: random.next()) { word in
                    (start + offset).copyMemory(from: word.baseAddress!, byteCount: min(8, count - offset))
                }
                offset += 8
            }
            if random.next() & 3 != 0 { shape(start, count, &random) }
            if !body(start, count) { failures += 1 }
        }
        #expect(failures == 0)
    }

    private func set(_ bytes: UnsafeMutableRawPointer, _ count: Int, _ offset: Int, _ value: UInt8) {
        if offset < count { bytes.storeBytes(of: value, toByteOffset: offset, as: UInt8.self) }
    }

    @Test func ethernetFrames() {
        forEachInput(11, upTo: 24) { bytes, count, _ in
            set(bytes, count, 12, 0x81)
            set(bytes, count, 13, 0x00)
        } _: { bytes, count in
            guard let view = EthernetView(bytes, count: count) else { return count < 18 }
            _ = (view.destination, view.source, view.vlanIdentifier)
            return view.payloadOffset <= count && view.payloadByteCount == count - view.payloadOffset
        }
    }

    @Test func arpPackets() {
        forEachInput(12, upTo: 40) { bytes, count, _ in
            for (offset, value) in [0, 1, 8, 0, 6, 4].enumerated() { set(bytes, count, offset, UInt8(value)) }
        } _: { bytes, count in
            guard let packet = ARPPacket(parsing: bytes, count: count) else { return true }
            return count >= 28 && packet.senderProtocol.isIPv4 && packet.targetHardware.value >> 48 == 0
        }
    }

    @Test func ipv4PacketsAndTheirOptions() {
        forEachInput(13, upTo: 80) { bytes, count, random in
            set(bytes, count, 0, 0x40 | UInt8(truncatingIfNeeded: random.next() & 15))
            set(bytes, count, 2, 0)
            set(bytes, count, 3, UInt8(truncatingIfNeeded: random.next() % 96))
        } _: { bytes, count in
            guard IPv4View.check(bytes, count: count) == .none else { return true }
            let view = IPv4View(unchecked: bytes)
            _ = (view.source, view.destination, view.rawAddresses, view.isChecksumValid, view.isFragment, view.fragmentOffset)
            let summary = view.options.summary()
            return view.headerByteCount >= 20 && view.totalByteCount >= view.headerByteCount && view.totalByteCount <= count
                && 20 + view.options.count == view.headerByteCount && summary.errorOffset <= 40
        }
    }

    @Test func icmpMessagesAndTheirQuotations() {
        forEachInput(14, upTo: 90) { bytes, count, random in
            set(bytes, count, 0, [3, 4, 5, 11, 12][Int(random.next() % 5)])
            set(bytes, count, 8, 0x40 | UInt8(truncatingIfNeeded: random.next() & 15))
            set(bytes, count, 14, 0)
            set(bytes, count, 15, 0)
        } _: { bytes, count in
            guard let view = ICMPv4View(bytes, count: count) else { return count < 8 }
            _ = (view.isChecksumValid, view.nextHopMTU, view.gateway)
            guard let quotation = view.quotation else { return true }
            _ = (quotation.source, quotation.destination, quotation.sourcePort, quotation.destinationPort, quotation.sequence)
            return 8 + quotation.headerByteCount + 8 <= count
        }
    }

    @Test func udpDatagrams() {
        forEachInput(15, upTo: 40) { bytes, count, random in
            set(bytes, count, 4, 0)
            set(bytes, count, 5, UInt8(truncatingIfNeeded: random.next() % 48))
        } _: { bytes, count in
            guard UDPView.check(bytes, count: count) == .none else { return true }
            let view = UDPView(unchecked: bytes)
            _ = view.isChecksumValid(random16(bytes))
            return view.byteCount >= 8 && view.byteCount <= count
        }
    }

    private func random16(_ bytes: UnsafeRawPointer) -> UInt64 { UInt64(bytes.loadUnaligned(as: UInt16.self)) }

    @Test func tcpSegments() {
        forEachInput(16, upTo: 80) { bytes, count, random in
            set(bytes, count, 12, UInt8(truncatingIfNeeded: random.next()) | 0x50)
            // Kinds and lengths that occur.
            let pieces: [[UInt8]] = [[1], [0], [2, 4], [3, 3], [4, 2], [8, 10], [5, 10], [5, 18], [5, 34], [5, 42], [2, 0], [254, 6]]
            var offset = 20
            while offset < min(count, 60) {
                let piece = pieces[Int(random.next() % UInt64(pieces.count))]
                for (index, byte) in piece.enumerated() { set(bytes, count, offset + index, byte) }
                offset += piece.count == 1 ? 1 : max(2, Int(piece[1]))
            }
        } _: { bytes, count in
            var header = TCPSegmentHeader()
            guard TCPSegmentHeader.parse(bytes, count: count, into: &header) == .none else { return true }
            _ = TCPSegmentHeader.isChecksumValid(bytes, count: count, pseudoHeaderSum: 0)
            return header.headerByteCount >= 20 && header.headerByteCount + header.payloadByteCount == count && header.payloadByteCount >= 0
                && header.sackBlockCount <= 4
        }
    }

    @Test func addressesInText() {
        var random = SeededGenerator(seed: 17)
        let alphabet = Array("0123456789abcdefF:.:.::%/g-".unicodeScalars)
        var failures = 0
        for _ in 0..<HostileInputTests.rounds {
            var text = ""
            for _ in 0..<(random.next() % 20) { text.unicodeScalars.append(alphabet[Int(random.next() % UInt64(alphabet.count))]) }
            _ = (MACAddress(parsing: text), IPv4Prefix(parsing: text))
            guard let address = IPAddress(parsing: text) else { continue }
            if IPAddress(parsing: address.description) != address { failures += 1 }
        }
        #expect(failures == 0)
    }
}
