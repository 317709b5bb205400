import Testing
import WireFormats

@Suite struct SequenceNumberTests {
    private func number(_ value: UInt32) -> SequenceNumber { SequenceNumber(rawValue: value) }

    /// RFC 9293 section 3.4: modulo 2^32.
    @Test func laterNumbersCompareGreaterAroundTheWrap() {
        for start in [0, 1, 0x7fff_ffff, 0x8000_0000, 0x8000_0001, 0xffff_fff0, 0xffff_ffff] as [UInt32] {
            for distance in [1, 2, 100, 65535, 0x3fff_ffff, 0x7fff_ffff] {
                let earlier = number(start)
                let later = earlier + distance
                #expect(earlier < later)
                #expect(earlier <= later)
                #expect(later > earlier)
                #expect(later >= earlier)
                #expect(!(later < earlier))
                #expect(!(later <= earlier))
                #expect(!(earlier > later))
                #expect(!(earlier >= later))
                #expect(later - earlier == distance)
                #expect(earlier - later == -distance)
                #expect(later - distance == earlier)
                #expect(later + -distance == earlier)
                #expect(SequenceNumber.max(earlier, later) == later)
                #expect(SequenceNumber.max(later, earlier) == later)
                #expect(SequenceNumber.min(earlier, later) == earlier)
                #expect(SequenceNumber.min(later, earlier) == earlier)
            }
        }
    }

    @Test func equalNumbersAreNeitherEarlierNorLater() {
        for value in [0, 0x8000_0000, 0xffff_ffff] as [UInt32] {
            #expect(!(number(value) < number(value)))
            #expect(!(number(value) > number(value)))
            #expect(number(value) <= number(value))
            #expect(number(value) >= number(value))
            #expect(number(value) - number(value) == 0)
        }
    }

    @Test func additionWraps() {
        var value = number(0xffff_fffe)
        value += 3
        #expect(value == number(1))
        value -= 2
        #expect(value == number(0xffff_ffff))
        #expect(number(5) + (1 << 32) == number(5))
    }

    @Test func halfTheSpaceAwayIsTheLowestDistance() {
        #expect(number(0x8000_0000) - number(0) == -0x8000_0000)
        #expect(number(0) - number(0x8000_0000) == -0x8000_0000)
    }
}
