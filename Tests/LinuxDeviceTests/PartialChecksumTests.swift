import Testing

@testable import XDPDevice

/// Frames as a kernel leaves them to a network card, written by hand.
@Suite struct PartialChecksumTests {
    /// UDP from 10.0.0.1:1000 to 10.0.0.2:7 with the data "hi!!"; the checksum holds the pseudo-header's sum: 0a00+0001+0a00+0002+0011+000c.
    private static let ipv4: [UInt8] = [
        2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00,
        0x45, 0, 0, 32, 0, 1, 0x40, 0, 64, 17, 0x26, 0xca, 10, 0, 0, 1, 10, 0, 0, 2,
        0x03, 0xe8, 0, 7, 0, 12, 0x14, 0x20, 0x68, 0x69, 0x21, 0x21,
    ]

    /// The same over IPv6 from fe80::1 to fe80::2: fe80+0001+fe80+0002+0011+000c = 1fd20, folded fd21.
    private static let ipv6: [UInt8] =
        [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x86, 0xdd, 0x60, 0, 0, 0, 0, 12, 17, 64]
        + [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1] + [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]
        + [0x03, 0xe8, 0, 7, 0, 12, 0xfd, 0x21, 0x68, 0x69, 0x21, 0x21]

    private func isPartial(_ frame: [UInt8]) -> Bool { frame.withUnsafeBytes { PartialChecksum.isPartial($0.baseAddress!, $0.count) } }

    @Test func theSumOfThePseudoHeaderIsRecognised() {
        #expect(isPartial(Self.ipv4))
        #expect(isPartial(Self.ipv6))
        #expect(isPartial(Self.ipv4 + [0, 0, 0, 0]), "bytes behind the packet are padding")
    }

    @Test func anyOtherChecksumIsNot() {
        for frame in [Self.ipv4, Self.ipv6] {
            for place in [frame.count - 6, frame.count - 5] {
                var frame = frame
                frame[place] ^= 1
                #expect(!isPartial(frame))
            }
        }
        var badHeader = Self.ipv4
        badHeader[24] ^= 1
        #expect(!isPartial(badHeader), "the header's own checksum is never partial")
    }

    @Test func nothingIsReadBeyondTheFrame() {
        for frame in [Self.ipv4, Self.ipv6] {
            for count in 0..<frame.count { #expect(!isPartial(Array(frame[..<count]))) }
            // Lengths that lie.
            for place in 14..<frame.count {
                for value in [0, 0x0f, 0x45, 0x4f, 0x6f, 0xff] as [UInt8] {
                    var frame = frame
                    frame[place] = value
                    _ = isPartial(frame)
                }
            }
        }
    }

    @Test func fragmentsHaveNone() {
        var frame = Self.ipv4
        // More fragments; the header's checksum follows.
        frame[20] = 0x20
        frame[24] = 0x46
        #expect(!isPartial(frame))
    }
}
