import Testing
import WireFormats

@Suite struct TCPHeaderWriterTests {
    private let page = GuardedPage()
    private let source: [UInt8] = [192, 0, 2, 1]
    private let destination: [UInt8] = [198, 51, 100, 9]

    private func pseudoHeader(_ byteCount: Int) -> UInt64 {
        let raw = (source + destination).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
        return InternetChecksum.pseudoHeader(rawAddresses: raw, protocolNumber: IPProtocol.tcp, byteCount: byteCount)
    }

    /// A header with the options that `append` adds, and `payload` behind it, complete with its checksum.
    private func segment(
        flags: TCPFlags = .ack, urgentPointer: UInt16 = 0, payload: [UInt8] = [], append: (inout TCPHeaderWriter) -> Void
    ) -> [UInt8] {
        let target = page.last(60)
        var writer = TCPHeaderWriter(
            to: target, sourcePort: 5001, destinationPort: 80, sequence: SequenceNumber(rawValue: 0x89ab_cdef),
            acknowledgement: SequenceNumber(rawValue: 0x0123_4567))
        append(&writer)
        let payloadSum = payload.withUnsafeBytes { $0.isEmpty ? 0 : InternetChecksum.sum($0.baseAddress!, count: $0.count) }
        let announced = writer.byteCount
        let count = writer.finish(
            flags: flags, window: 0xfedc, urgentPointer: urgentPointer, pseudoHeaderSum: pseudoHeader(writer.byteCount + payload.count),
            payloadSum: payloadSum)
        #expect(count == announced)
        return bytes(target, count) + payload
    }

    private func parse(_ segment: [UInt8]) -> TCPSegmentHeader {
        var header = TCPSegmentHeader()
        let bytes = page.place(segment)
        #expect(TCPSegmentHeader.parse(bytes, count: segment.count, into: &header) == .none)
        #expect(TCPSegmentHeader.isChecksumValid(bytes, count: segment.count, pseudoHeaderSum: pseudoHeader(segment.count)))
        let pseudo = source + destination + [0, 6] + .bigEndian(UInt16(segment.count))
        #expect(naiveChecksum(pseudo + segment) == 0)
        return header
    }

    @Test func aHeaderWithoutOptionsHasTheLayoutOfTheRFC() {
        var found = segment(flags: [.psh, .ack, .urg], urgentPointer: 0x42) { _ in }
        #expect(parse(found).flags == [.psh, .ack, .urg])
        found.replaceSubrange(16..<18, with: [0, 0])
        #expect(found == [UInt8](hexadecimal: "1389 0050 89abcdef 01234567 5038 fedc 0000 0042"))
    }

    @Test func timestampsHaveTheUsualLayout() {
        let found = segment(payload: [1, 2, 3]) { $0.appendTimestamps(value: 0xa1a2_a3a4, echoReply: 0xb1b2_b3b4) }
        #expect(Array(found[20..<32]) == [UInt8](hexadecimal: "0101080a a1a2a3a4 b1b2b3b4"))
        let header = parse(found)
        #expect(header.headerByteCount == 32)
        #expect(header.payloadByteCount == 3)
        #expect(header.hasTimestamps)
        #expect(header.timestampValue == 0xa1a2_a3a4)
        #expect(header.timestampEchoReply == 0xb1b2_b3b4)
    }

    @Test func everyChoiceOfSynOptionsIsReadBack() {
        for choice in 0..<8 {
            let (hasScale, isSACKPermitted, hasTimestamps) = (choice & 1 != 0, choice & 2 != 0, choice & 4 != 0)
            let found = segment(flags: .syn) {
                $0.appendSynchronizeOptions(
                    maximumSegmentSize: 1460, windowScale: hasScale ? 7 : 0xff, isSACKPermitted: isSACKPermitted, hasTimestamps: hasTimestamps,
                    timestampValue: 5, timestampEchoReply: 6)
            }
            let header = parse(found)
            #expect(header.maximumSegmentSize == 1460)
            #expect(header.windowScale == (hasScale ? 7 : 0xff))
            #expect(header.isSACKPermitted == isSACKPermitted)
            #expect(header.hasTimestamps == hasTimestamps)
            if hasTimestamps {
                #expect(header.timestampValue == 5)
                #expect(header.timestampEchoReply == 6)
            }
            #expect(!header.hasMalformedOptions)
            #expect(header.headerByteCount <= 40)
        }
    }

    @Test func sackBlocksAreReadBack() {
        for count in 1...4 {
            let blocks = (0..<count).map { index in
                SACKBlock(left: SequenceNumber(rawValue: UInt32(index) &* 0x1234_5678), right: SequenceNumber(rawValue: ~UInt32(index)))
            }
            let found = segment { writer in
                if count < 4 { writer.appendTimestamps(value: 1, echoReply: 2) }
                writer.appendSACK(blockCount: count)
                for block in blocks { writer.appendSACKBlock(block) }
            }
            let header = parse(found)
            #expect(header.sackBlockCount == UInt8(count))
            for (index, block) in blocks.enumerated() { #expect(header.sackBlock(index) == block) }
            #expect(header.hasTimestamps == (count < 4))
        }
    }

    @Test func aHeaderWithoutAChecksumHasZeroInItsPlace() {
        let target = page.last(60)
        var writer = TCPHeaderWriter(
            to: target, sourcePort: 1, destinationPort: 2, sequence: SequenceNumber(rawValue: 3), acknowledgement: SequenceNumber(rawValue: 4))
        writer.appendMaximumSegmentSize(536)
        #expect(writer.finishWithoutChecksum(flags: .rst, window: 5) == 24)
        #expect(bytes(target, 24) == [UInt8](hexadecimal: "0001 0002 00000003 00000004 6004 0005 0000 0000 02040218"))
    }

    /// Windows from 0 to 65535 go through every checksum, 0x0000 included; 0xffff in its place is the same number.
    @Test func everyValueOfTheChecksumVerifies() {
        var zeros = 0
        var failures = 0
        let target = page.last(20)
        for window in UInt16.min...UInt16.max {
            var writer = TCPHeaderWriter(
                to: target, sourcePort: 1, destinationPort: 2, sequence: SequenceNumber(rawValue: 3), acknowledgement: SequenceNumber(rawValue: 4))
            writer.finish(flags: .ack, window: window, pseudoHeaderSum: pseudoHeader(20), payloadSum: 0)
            if !TCPSegmentHeader.isChecksumValid(target, count: 20, pseudoHeaderSum: pseudoHeader(20)) { failures += 1 }
            if target.load(fromByteOffset: 16, as: UInt16.self) == 0 {
                zeros += 1
                target.storeBytes(of: 0xffff, toByteOffset: 16, as: UInt16.self)
                if !TCPSegmentHeader.isChecksumValid(target, count: 20, pseudoHeaderSum: pseudoHeader(20)) { failures += 1 }
            }
        }
        #expect(failures == 0)
        #expect(zeros == 1)
    }

    @Test func everyDamagedBitIsSeenByTheChecksum() {
        let whole = segment(payload: Array("odd".utf8)) { $0.appendTimestamps(value: 1, echoReply: 2) }
        for bit in 0..<(8 * whole.count) {
            var damaged = whole
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(
                !TCPSegmentHeader.isChecksumValid(page.place(damaged), count: damaged.count, pseudoHeaderSum: pseudoHeader(damaged.count)))
        }
    }
}
