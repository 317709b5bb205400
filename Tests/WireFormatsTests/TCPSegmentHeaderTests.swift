import Testing
import WireFormats

@Suite struct TCPSegmentHeaderTests {
    private let page = GuardedPage()

    /// RFC 9293 section 3.1, with options padded to whole words by zeros: ends of the list.
    private func segment(options: [UInt8] = [], flags: UInt8 = 0x10, payload: [UInt8] = []) -> [UInt8] {
        let padded = options + [UInt8](repeating: 0, count: (4 - options.count % 4) % 4)
        return [UInt8](hexadecimal: "1389 0050 89abcdef 01234567")
            + [UInt8(5 + padded.count / 4) << 4, flags] + [UInt8](hexadecimal: "fedc 0000 0042") + padded + payload
    }

    private func parse(_ bytes: [UInt8]) -> (TCPSegmentHeader, ParseError) {
        // What an earlier segment left must not show through.
        var header = TCPSegmentHeader()
        header.hasTimestamps = true
        header.isSACKPermitted = true
        header.hasMalformedOptions = true
        header.maximumSegmentSize = 9
        header.windowScale = 9
        header.sackBlockCount = 4
        let error = TCPSegmentHeader.parse(page.place(bytes), count: bytes.count, into: &header)
        return (header, error)
    }

    private func options(_ options: [UInt8]) -> TCPSegmentHeader {
        let (header, error) = parse(segment(options: options))
        #expect(error == .none)
        return header
    }

    @Test func theFixedFieldsAreRead() {
        let (header, error) = parse(segment(flags: 0xff, payload: [1, 2, 3]))
        #expect(error == .none)
        #expect(header.sourcePort == 5001)
        #expect(header.destinationPort == 80)
        #expect(header.sequence == SequenceNumber(rawValue: 0x89ab_cdef))
        #expect(header.acknowledgement == SequenceNumber(rawValue: 0x0123_4567))
        #expect(header.flags == [.fin, .syn, .rst, .psh, .ack, .urg, .ece, .cwr])
        #expect(header.window == 0xfedc)
        #expect(header.urgentPointer == 0x42)
        #expect(header.headerByteCount == 20)
        #expect(header.payloadByteCount == 3)
        #expect(!header.hasTimestamps)
        #expect(!header.isSACKPermitted)
        #expect(!header.hasMalformedOptions)
        #expect(header.maximumSegmentSize == 0)
        #expect(header.windowScale == 0xff)
        #expect(header.sackBlockCount == 0)
    }

    @Test func eachFlagHasItsBit() {
        let flags: [TCPFlags] = [.fin, .syn, .rst, .psh, .ack, .urg, .ece, .cwr]
        for (bit, flag) in flags.enumerated() { #expect(parse(segment(flags: 1 << bit)).0.flags == flag) }
        #expect(TCPFlags([.syn, .ack]).description == "SYN|ACK")
        #expect(TCPFlags([]).description == "-")
    }

    @Test func synAndFinTakeUpSequenceNumbers() {
        #expect(parse(segment(flags: 0x10, payload: [1, 2, 3])).0.segmentLength == 3)
        #expect(parse(segment(flags: 0x02)).0.segmentLength == 1)
        #expect(parse(segment(flags: 0x11, payload: [1])).0.segmentLength == 2)
        #expect(parse(segment(flags: 0xff)).0.segmentLength == 2)
        #expect(parse(segment(flags: 0xfc)).0.segmentLength == 0)
    }

    @Test func truncatedSegmentsAreRefused() {
        for whole in [segment(), segment(options: [UInt8](hexadecimal: "0101080a 00000001 00000002")), segment(options: [1] + [2, 4, 5, 6])] {
            for count in 0..<whole.count { #expect(parse(Array(whole[..<count])).1 == .truncated) }
            #expect(parse(whole).1 == .none)
        }
    }

    @Test func dataOffsetsBelowFiveWordsAreRefused() {
        for words in 0...15 as ClosedRange<UInt8> {
            var bytes = segment(payload: [UInt8](repeating: 0, count: 10))
            bytes[12] = words << 4
            let (header, error) = parse(bytes)
            #expect(error == (words < 5 ? .badHeaderLength : words > 7 ? .truncated : .none))
            if error == .none { #expect(header.headerByteCount + header.payloadByteCount == 30) }
        }
    }

    @Test func theUsualTimestampsAreRead() {
        let header = options([UInt8](hexadecimal: "0101080a 89abcdef 01234567"))
        #expect(header.hasTimestamps)
        #expect(header.timestampValue == 0x89ab_cdef)
        #expect(header.timestampEchoReply == 0x0123_4567)
        #expect(!header.hasMalformedOptions)
    }

    @Test func theOptionsOfASynAreReadInAnyOrder() {
        let maximumSegmentSize: [UInt8] = [2, 4, 0x05, 0xb4]
        let windowScale: [UInt8] = [3, 3, 7]
        let sackPermitted: [UInt8] = [4, 2]
        let timestamps: [UInt8] = [8, 10, 0, 0, 0, 5, 0, 0, 0, 6]
        let unknown: [UInt8] = [254, 4, 0xff, 0xff]
        let all = [maximumSegmentSize, windowScale, sackPermitted, timestamps, unknown]
        for order in permutations(Array(all.indices)) {
            for padding in 0...1 {
                let header = options(order.flatMap { all[$0] + [UInt8](repeating: 1, count: padding) })
                #expect(header.maximumSegmentSize == 1460)
                #expect(header.windowScale == 7)
                #expect(header.isSACKPermitted)
                #expect(header.hasTimestamps)
                #expect(header.timestampValue == 5)
                #expect(header.timestampEchoReply == 6)
                #expect(!header.hasMalformedOptions)
            }
        }
    }

    private func permutations(_ items: [Int]) -> [[Int]] {
        guard let last = items.last else { return [[]] }
        return permutations(items.dropLast()).flatMap { shorter in
            (0...shorter.count).map { position in
                var longer = shorter
                longer.insert(last, at: position)
                return longer
            }
        }
    }

    @Test func windowScalesAreKeptAsSent() {
        for shift in [0, 14, 15, 254] as [UInt8] { #expect(options([3, 3, shift]).windowScale == shift) }
    }

    @Test func sackBlocksAreReadInTheirOrder() {
        for count in 1...4 {
            let blocks = (0..<count).map { (UInt32($0) &* 0x1111_1111 &+ 0xf000_0000, UInt32($0) &* 0x2222_2222 &+ 1) }
            let option: [UInt8] = [5, UInt8(2 + 8 * count)] + blocks.flatMap { [UInt8].bigEndian($0.0) + [UInt8].bigEndian($0.1) }
            let header = options([1, 1] + option)
            #expect(header.sackBlockCount == UInt8(count))
            #expect(!header.hasMalformedOptions)
            for (index, block) in blocks.enumerated() {
                #expect(header.sackBlock(index).left.rawValue == block.0)
                #expect(header.sackBlock(index).right.rawValue == block.1)
            }
        }
    }

    @Test func timestampsAndSackBlocksComeTogether() {
        let header = options([UInt8](hexadecimal: "0101080a 00000001 00000002 0101051a 00000010 00000020 00000030 00000040 00000050 00000060"))
        #expect(header.hasTimestamps)
        #expect(header.sackBlockCount == 3)
        #expect(header.sackBlock(2) == SACKBlock(left: SequenceNumber(rawValue: 0x50), right: SequenceNumber(rawValue: 0x60)))
    }

    @Test func optionsBehindTheEndOfTheListAreIgnored() {
        let header = options([2, 4, 1, 0, 0, 3, 3, 7])
        #expect(header.maximumSegmentSize == 256)
        #expect(header.windowScale == 0xff)
        #expect(!header.hasMalformedOptions)
    }

    /// RFC 9293 section 3.1, MUST-6: options without a meaning here are skipped by their length.
    @Test func unknownOptionsAreSkipped() {
        for kind in 0...255 as ClosedRange<UInt8> where ![0, 1, 2, 3, 4, 5, 8].contains(kind) {
            for length in 2...8 as ClosedRange<UInt8> {
                let header = options([kind, length] + [UInt8](repeating: 2, count: Int(length) - 2) + [2, 4, 0x02, 0x18])
                #expect(header.maximumSegmentSize == 536)
                #expect(!header.hasMalformedOptions)
            }
        }
    }

    /// RFC 9293 section 3.1, MUST-7: the segment counts, what follows the illegal length does not.
    @Test func optionsBehindAnIllegalLengthAreIgnored() {
        for kind in 2...255 as ClosedRange<UInt8> {
            for length in [0, 1, 13, 40, 255] as [UInt8] {
                let header = options([2, 4, 0x02, 0x18, kind, length, 3, 3, 7, 1, 1, 1, 1, 1, 1, 1])
                #expect(header.hasMalformedOptions)
                #expect(header.maximumSegmentSize == 536)
                #expect(header.windowScale == 0xff)
            }
        }
    }

    @Test func anOptionWithoutItsLengthIsMalformed() {
        let header = options([1, 1, 1, 2])
        #expect(header.hasMalformedOptions)
        #expect(header.maximumSegmentSize == 0)
    }

    @Test(
        arguments: [
            [2, 3, 9], [2, 5, 9, 9, 9], [3, 2], [3, 4, 9, 9], [4, 3, 9], [8, 9, 9, 9, 9, 9, 9, 9, 9], [8, 11, 9, 9, 9, 9, 9, 9, 9, 9, 9], [5, 2],
            [5, 9, 9, 9, 9, 9, 9, 9, 9], [5, 11, 9, 9, 9, 9, 9, 9, 9, 9, 9], [8, 2], [2, 2],
        ] as [[UInt8]])
    func knownOptionsOfAnotherLengthAreIgnored(option: [UInt8]) {
        // What follows them still counts.
        let header = options(option + (option[0] == 2 ? [3, 3, 5] : [2, 4, 0x02, 0x18]))
        #expect(header.hasMalformedOptions)
        #expect(header.maximumSegmentSize == (option[0] == 2 ? 0 : 536))
        #expect(header.windowScale == (option[0] == 2 ? 5 : 0xff))
        #expect(!header.isSACKPermitted)
        #expect(!header.hasTimestamps)
        #expect(header.sackBlockCount == 0)
    }

    @Test func theLastOfRepeatedOptionsCounts() {
        #expect(options([2, 4, 1, 0, 2, 4, 2, 0]).maximumSegmentSize == 512)
    }
}
