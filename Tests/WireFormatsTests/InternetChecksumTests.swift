import CDatapath
import Testing
import WireFormats

@Suite struct InternetChecksumTests {
    private func sum(_ bytes: [UInt8]) -> UInt64 { bytes.withUnsafeBytes { InternetChecksum.sum($0.baseAddress!, count: $0.count) } }

    /// RFC 1071 section 3: the sum is 2ddf0, folded ddf2.
    @Test func theExampleOfRFC1071Holds() {
        let example: [UInt8] = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]
        #expect(UInt16(bigEndian: InternetChecksum.fold(sum(example))) == 0xddf2)
        #expect(UInt16(bigEndian: InternetChecksum.finish(sum(example))) == 0x220d)
        let message = example + [0x22, 0x0d]
        #expect(InternetChecksum.isValid(sum(message)))
    }

    /// RFC 1071 section 3 adds the example in pieces of odd length too, whose sums are swapped.
    @Test func piecesOfOddLengthCombineAsInTheExample() {
        let first = sum([0x00, 0x01, 0xf2])
        let second = sum([0x03, 0xf4, 0xf5, 0xf6, 0xf7])
        #expect(UInt16(bigEndian: InternetChecksum.fold(InternetChecksum.combine(first, second, offset: 3))) == 0xddf2)
    }

    @Test func theSumIsTheNaiveOneForEveryLengthAndAlignment() {
        let page = GuardedPage()
        var random = SeededGenerator(seed: 1)
        for count in 0...288 {
            for distance in 0..<16 {
                // At distance 0 a read behind the bytes crashes.
                let start = page.last(count + distance)
                let content = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
                start.copyMemory(from: content, byteCount: count)
                let expected = naiveChecksum(content)
                let found = UInt16(bigEndian: InternetChecksum.finish(InternetChecksum.sum(start, count: count)))
                #expect(found == expected, "\(count) bytes, \(distance) before the end of a page")
            }
        }
    }

    @Test(arguments: [129, 255, 576, 1460, 1461, 1500, 4095, 9000, 65535])
    func theSumOfLongRunsIsTheNaiveOne(count: Int) {
        var generator = SeededGenerator(seed: UInt64(count))
        let random = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
        for content in [random, [UInt8](repeating: 0xff, count: count), [UInt8](repeating: 0, count: count)] {
            #expect(UInt16(bigEndian: InternetChecksum.finish(sum(content))) == naiveChecksum(content))
        }
    }

    /// What a processor without wide vectors runs.
    @Test(arguments: [128, 129, 255, 1460, 1461, 9000, 65535])
    func theSumOfLongRunsWithoutVectorsIsTheNaiveOne(count: Int) {
        var random = SeededGenerator(seed: UInt64(count))
        for var content in [(0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }, [UInt8](repeating: 0xff, count: count)] {
            let expected = naiveChecksum(content)
            content.withUnsafeMutableBufferPointer { bytes in
                let sum = demi_checksum_short(false, bytes.baseAddress!, bytes.baseAddress!, count)
                #expect(UInt16(bigEndian: InternetChecksum.finish(sum)) == expected)
            }
        }
    }

    @Test func copyAndSumCopiesAndSumsAtEveryLengthAndAlignment() {
        let source = GuardedPage()
        let target = GuardedPage()
        var random = SeededGenerator(seed: 2)
        for count in 0...288 {
            for (distance, targetDistance) in [(0, 0), (1, 0), (0, 1), (7, 3), (16, 9)] {
                let from = source.last(count + distance)
                let to = target.last(count + targetDistance + 8) + 8
                let content = (0..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
                from.copyMemory(from: content, byteCount: count)
                (to - 8).initializeMemory(as: UInt8.self, repeating: 0xa5, count: count + targetDistance + 8)
                let found = InternetChecksum.copyAndSum(to: to, from: from, count: count)
                #expect(UInt16(bigEndian: InternetChecksum.finish(found)) == naiveChecksum(content))
                #expect(bytes(to, count) == content)
                let around = bytes(to - 8, 8) + bytes(to + count, targetDistance)
                #expect(around.allSatisfy { $0 == 0xa5 }, "\(count) bytes: a byte outside of the target was written")
            }
        }
    }

    @Test func aMessageInPiecesHasTheSumOfTheWhole() {
        var random = SeededGenerator(seed: 3)
        for _ in 0..<2000 {
            let content = (0..<Int.random(in: 1...300, using: &random)).map { _ in UInt8.random(in: 0...255, using: &random) }
            var total: UInt64 = 0
            var offset = 0
            while offset < content.count {
                let count = Int.random(in: 1...(content.count - offset), using: &random)
                let piece = content.withUnsafeBytes { InternetChecksum.sum($0.baseAddress! + offset, count: count) }
                total = InternetChecksum.combine(total, piece, offset: offset)
                offset += count
            }
            #expect(UInt16(bigEndian: InternetChecksum.finish(total)) == naiveChecksum(content))
        }
    }

    /// Every value of one word: the checksum computed for it verifies, and so does the other spelling of zero.
    @Test func zeroAndItsComplementVerifyAlike() {
        var failures: [UInt16] = []
        for value in UInt16.min...UInt16.max {
            let data = 0x1_0203 + UInt64(value)
            let checksum = InternetChecksum.finish(data)
            if !InternetChecksum.isValid(data + UInt64(checksum)) { failures.append(value) }
            if checksum == 0, !InternetChecksum.isValid(data + 0xffff) { failures.append(value) }
            if checksum == 0xffff, !InternetChecksum.isValid(data + 0) { failures.append(value) }
            // Any other stored checksum does not.
            if InternetChecksum.isValid(data + UInt64(checksum ^ 0x0100)) { failures.append(value) }
        }
        #expect(failures.isEmpty)
        // The word that makes the sum 0xffff, whose checksum is zero, is among them.
        #expect((UInt16.min...UInt16.max).contains { InternetChecksum.finish(0x1_0203 + UInt64($0)) == 0 })
    }

    @Test func nothingButZerosIsNoValidMessage() {
        #expect(!InternetChecksum.isValid(0))
        #expect(InternetChecksum.finish(0) == 0xffff)
        #expect(InternetChecksum.isValid(0xffff))
    }

    @Test func foldAddsEveryCarry() {
        var random = SeededGenerator(seed: 4)
        for value in [1, 0xffff, 0x1_0000, 0xffff_ffff, 0x1_0000_0000, 0xffff_ffff_ffff, UInt64.max] + (0..<10000).map({ _ in random.next() }) {
            let remainder = value % 65535
            #expect(InternetChecksum.fold(value) == (remainder == 0 ? 0xffff : UInt16(remainder)), "\(value)")
        }
    }

    /// RFC 1624 section 4: the older equation gives the other zero here.
    @Test func theExampleOfRFC1624Holds() {
        #expect(InternetChecksum.update(0xdd2f, replacing: 0x5555 as UInt16, with: 0x3285) == 0x0000)
    }

    @Test func anUpdatedChecksumIsTheRecomputedOne() {
        var random = SeededGenerator(seed: 5)
        for _ in 0..<5000 {
            var message = (0..<40).map { _ in UInt8.random(in: 0...255, using: &random) }
            let before = InternetChecksum.finish(sum(message))
            let offset = 2 * Int.random(in: 0..<19, using: &random)
            let old = message.withUnsafeBytes { $0.loadUnaligned(fromByteOffset: offset, as: UInt32.self) }
            let new: UInt32 = Bool.random(using: &random) ? UInt32.random(in: 0...UInt32.max, using: &random) : 0
            message.withUnsafeMutableBytes { $0.storeBytes(of: new, toByteOffset: offset, as: UInt32.self) }
            let after = InternetChecksum.finish(sum(message))
            #expect(InternetChecksum.update(before, replacing: old, with: new) == after)
            let low = InternetChecksum.update(before, replacing: UInt16(truncatingIfNeeded: old), with: UInt16(truncatingIfNeeded: new))
            #expect(InternetChecksum.update(low, replacing: UInt16(old >> 16), with: UInt16(new >> 16)) == after)
        }
    }

    /// RFC 9293 section 3.1: source, destination, a zero, the protocol, the length.
    @Test func thePseudoHeaderOfIPv4IsThatOfTheRFC() {
        let source: [UInt8] = [192, 0, 2, 1]
        let destination: [UInt8] = [198, 51, 100, 77]
        for byteCount in [0, 8, 20, 1480, 65535] {
            let layout = source + destination + [0, 6] + .bigEndian(UInt16(byteCount))
            let raw = (source + destination).withUnsafeBytes { $0.loadUnaligned(as: UInt64.self) }
            let found = InternetChecksum.pseudoHeader(rawAddresses: raw, protocolNumber: IPProtocol.tcp, byteCount: byteCount)
            #expect(UInt16(bigEndian: InternetChecksum.finish(found)) == naiveChecksum(layout))
            let mapped = InternetChecksum.pseudoHeader(
                source: .ipv4(192, 0, 2, 1), destination: .ipv4(198, 51, 100, 77), protocolNumber: IPProtocol.tcp, byteCount: byteCount)
            #expect(InternetChecksum.finish(mapped) == InternetChecksum.finish(found))
        }
    }

    /// RFC 8200 section 8.1: source, destination, the length in four bytes, three zeros, the next header.
    @Test func thePseudoHeaderOfIPv6IsThatOfTheRFC() throws {
        let source = try #require(IPAddress(parsing: "2001:db8::1234:5678"))
        let destination = try #require(IPAddress(parsing: "fe80::ff:fe00:9abc"))
        let addresses = [source, destination].flatMap { address in withUnsafeBytes(of: address.words) { Array($0) } }
        for byteCount in [8, 1480, 65535, 70000] {
            let layout = addresses + .bigEndian(UInt32(byteCount)) + [0, 0, 0, 58]
            let found = InternetChecksum.pseudoHeader(
                source: source, destination: destination, protocolNumber: IPProtocol.icmpv6, byteCount: byteCount)
            #expect(UInt16(bigEndian: InternetChecksum.finish(found)) == naiveChecksum(layout))
        }
    }
}
