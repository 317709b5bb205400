import Testing
import WireFormats

/// Queries of IGMP and MLD as the RFCs draw them.
@Suite struct GroupQueryTests {
    private let page = GuardedPage()

    private func igmp(_ text: String) -> GroupQuery? {
        let bytes = [UInt8](hexadecimal: text)
        return GroupQuery(igmp: page.place(bytes), count: bytes.count)
    }

    private func mld(_ text: String) -> GroupQuery? {
        let bytes = [UInt8](hexadecimal: text)
        return ICMPv6View(page.place(bytes), count: bytes.count).flatMap(GroupQuery.init(mld:))
    }

    /// RFC 3376 section 7.1.
    @Test func theLengthAndTheCodeTellTheVersion() throws {
        let first = try #require(igmp("1100 0000 00000000"))
        #expect(first.version == .igmpv1 && first.isGeneral && first.maximumResponseTime == 10_000_000_000)
        let second = try #require(igmp("1164 0000 ef010203"))
        #expect(second.version == .igmpv2 && second.group == .ipv4(239, 1, 2, 3) && second.maximumResponseTime == 10_000_000_000)
        let third = try #require(igmp("110a 0000 ef010203 0a7d 0002 c0000201 c0000202"))
        #expect(third.version == .igmpv3 && third.maximumResponseTime == 1_000_000_000 && third.robustness == 2)
        #expect(third.queryInterval == 125_000_000_000 && third.sourceCount == 2 && third.source(1) == .ipv4(192, 0, 2, 2))
        #expect(igmp("110a 0000 ef010203 0a7d") == nil && igmp("120a 0000 ef010203") == nil && igmp("110a 0000 0a010203") == nil)
    }

    /// RFC 3376 sections 4.1.1 and 4.1.7.
    @Test func largeValuesAreFloatingPoint() throws {
        // 0x9c: (0xc | 0x10) << 4; 0xff: (0xf | 0x10) << 10.
        let query = try #require(igmp("119c 0000 00000000 00ff 0000"))
        #expect(query.maximumResponseTime == 448 * 100_000_000 && query.queryInterval == 31_744 * 1_000_000_000)
        #expect(igmp("117f 0000 00000000 0080 0000")?.maximumResponseTime == 127 * 100_000_000)
        #expect(igmp("117f 0000 00000000 0080 0000")?.queryInterval == 128 * 1_000_000_000)
    }

    /// RFC 3810 sections 5.1.3 and 8.1.
    @Test func theSameForMLD() throws {
        let group = "ff120000000000000000000080000005"
        let first = try #require(mld("8200 0000 03e8 0000" + group))
        #expect(first.version == .mldv1 && first.maximumResponseTime == 1_000_000_000 && first.group == IPAddress("ff12::8000:5")!)
        let second = try #require(mld("8200 0000 8001 0000" + group + "0a7d 0001 20010db8000000000000000000000001"))
        #expect(second.version == .mldv2 && second.maximumResponseTime == (0x1001 << 3) * 1_000_000 && second.sourceCount == 1)
        #expect(second.source(0) == IPAddress("2001:db8::1")! && second.robustness == 2)
        #expect(mld("8200 0000 03e8 0000" + group + "0000") == nil)
        #expect(mld("8200 0000 03e8 0000" + group + "0a7d 0001 2001") == nil)
        // An IPv4 group in an IPv4-mapped address is no group of IPv6.
        #expect(mld("8200 0000 03e8 0000 00000000000000000000ffffef010203") == nil)
    }
}
