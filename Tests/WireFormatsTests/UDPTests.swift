import Testing
import WireFormats

@Suite struct UDPTests {
    private let page = GuardedPage()
    private let source: [UInt8] = [192, 0, 2, 1]
    private let destination: [UInt8] = [198, 51, 100, 9]

    private func pseudoHeader(_ byteCount: Int) -> UInt64 {
        let raw = (source + destination).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        return InternetChecksum.pseudoHeader(rawAddresses: raw, protocolNumber: IPProtocol.udp, byteCount: byteCount)
    }

    private func datagram(_ payload: [UInt8]) -> [UInt8] {
        let target = page.last(8 + payload.count)
        let sum = InternetChecksum.copyAndSum(to: target + 8, from: payload, count: payload.count)
        UDPHeader.write(
            to: target, sourcePort: 0x1234, destinationPort: 53, payloadByteCount: payload.count, pseudoHeaderSum: pseudoHeader(8 + payload.count),
            payloadSum: sum)
        return bytes(target, 8 + payload.count)
    }

    /// RFC 768: ports, length, checksum over pseudo header, header and data.
    @Test func aDatagramIsWrittenInTheLayoutOfTheRFC() {
        for count in [0, 1, 2, 3, 17, 512, 1472] {
            let payload = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7) }
            let found = datagram(payload)
            let length = [UInt8].bigEndian(UInt16(8 + count))
            let header = [0x12, 0x34, 0, 53] + length
            let expected = naiveChecksum(source + destination + [0, 17] + length + header + [0, 0] + payload)
            #expect(found == header + [UInt8].bigEndian(expected) + payload)
        }
    }

    @Test func aDatagramIsRead() {
        let found = page.place(datagram(Array("question".utf8)) + [0xff, 0xff])
        #expect(UDPView.check(found, count: 18) == .none)
        let view = UDPView(unchecked: found)
        #expect(view.sourcePort == 0x1234)
        #expect(view.destinationPort == 53)
        #expect(view.byteCount == 16)
        #expect(view.hasChecksum)
        #expect(view.isChecksumValid(pseudoHeader(16)))
        #expect(!view.isChecksumValid(pseudoHeader(17)))
        #expect(bytes(view.payload, view.payloadByteCount) == Array("question".utf8))
    }

    @Test func lengthsAreChecked() {
        let whole = datagram(Array("question".utf8))
        for count in 0..<16 { #expect(UDPView.check(page.place(whole[..<count]), count: count) == .truncated) }
        for length in 0...20 as ClosedRange<UInt8> {
            var changed = whole
            changed[5] = length
            let expected: ParseError = length < 8 ? .badLength : length > 16 ? .truncated : .none
            #expect(UDPView.check(page.place(changed), count: 16) == expected)
        }
    }

    @Test func everyDamagedBitIsSeenByTheChecksum() {
        let whole = datagram(Array("odd".utf8))
        for bit in 0..<(8 * whole.count) where bit / 8 != 4 && bit / 8 != 5 {
            var damaged = whole
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(!UDPView(unchecked: page.place(damaged)).isChecksumValid(pseudoHeader(11)))
        }
    }

    @Test func noChecksumIsAccepted() {
        let target = page.last(12)
        UDPHeader.writeWithoutChecksum(to: target, sourcePort: 1, destinationPort: 2, payloadByteCount: 4)
        #expect(bytes(target, 8) == [0, 1, 0, 2, 0, 12, 0, 0])
        #expect(!UDPView(unchecked: target).hasChecksum)
        #expect(UDPView(unchecked: target).isChecksumValid(pseudoHeader(12)))
    }

    /// RFC 768: a computed zero is sent as 0xffff. Two payload bytes go through every checksum.
    @Test func noDatagramIsSentWithAChecksumOfZero() {
        var allOnes = 0
        var failures = 0
        let target = page.last(10)
        for value in UInt16.min...UInt16.max {
            target.storeBytes(of: value, toByteOffset: 8, as: UInt16.self)
            UDPHeader.write(
                to: target, sourcePort: 1, destinationPort: 2, payloadByteCount: 2, pseudoHeaderSum: pseudoHeader(10), payloadSum: UInt64(value))
            let view = UDPView(unchecked: target)
            if !view.hasChecksum || !view.isChecksumValid(pseudoHeader(10)) { failures += 1 }
            if view.checksum == 0xffff { allOnes += 1 }
        }
        #expect(failures == 0)
        #expect(allOnes == 1)
    }
}
