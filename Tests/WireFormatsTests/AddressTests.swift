import Testing
import WireFormats

@Suite struct MACAddressTests {
    @Test func textIsReadAndWritten() throws {
        let address = try #require(MACAddress(parsing: "02:00:00:00:aB:01"))
        #expect(address.value == 0x0200_0000_ab01)
        #expect(address.description == "02:00:00:00:ab:01")
    }

    @Test(arguments: [
        "", "02:00:00:00:00", "02:00:00:00:00:1", "02:00:00:00:00:01:", "02:00:00:00:00:01:02", "02-00-00-00-00-01", "0g:00:00:00:00:00",
        "020000000001", ":02:00:00:00:00:0", "02:00:00:00:00:011",
    ])
    func otherTextIsRefused(text: String) {
        #expect(MACAddress(parsing: text) == nil)
    }

    @Test func bytesAreInTheOrderOfTheWire() {
        let address = MACAddress(value: 0x0102_0304_0506)
        #expect(written(6) { address.store(to: $0) } == [1, 2, 3, 4, 5, 6])
        let page = GuardedPage()
        #expect(MACAddress(at: page.place([1, 2, 3, 4, 5, 6])) == address)
    }

    @Test func groupsAreToldFromStations() {
        #expect(MACAddress.broadcast.isBroadcast)
        #expect(MACAddress.broadcast.isGroup)
        #expect(MACAddress(value: 0x0100_5e00_0001).isGroup)
        #expect(!MACAddress(value: 0x0100_5e00_0001).isBroadcast)
        #expect(!MACAddress(value: 0x02ff_ffff_ffff).isGroup)
        #expect(MACAddress(value: 0xffff_0200_0000_0001).value == 0x0200_0000_0001)
    }
}

@Suite struct IPAddressTests {
    @Test func anIPv4AddressIsHeldAsTheMappedIPv6Address() throws {
        let address = IPAddress.ipv4(10, 20, 30, 40)
        #expect(withUnsafeBytes(of: address.words) { Array($0) } == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 20, 30, 40])
        #expect(address.isIPv4)
        #expect(address.ipv4HostOrder == 0x0a14_1e28)
        #expect(withUnsafeBytes(of: address.ipv4Raw) { Array($0) } == [10, 20, 30, 40])
        #expect(IPAddress(ipv4Raw: address.ipv4Raw) == address)
        #expect(IPAddress(ipv4HostOrder: 0x0a14_1e28) == address)
        #expect(IPAddress(parsing: "::ffff:10.20.30.40") == address)
        #expect(IPAddress(parsing: "::ffff:a14:1e28") == address)
        #expect(IPAddress(parsing: "::10.20.30.40") != address)
    }

    @Test(arguments: ["0.0.0.0", "10.0.0.1", "127.0.0.1", "192.168.100.200", "255.255.255.255"])
    func dottedQuadsAreReadAndWritten(text: String) throws {
        let address = try #require(IPAddress(parsing: text))
        #expect(address.isIPv4)
        #expect(address.description == text)
    }

    @Test(arguments: [
        "", "1", "1.2.3", "1.2.3.", ".1.2.3.4", "1.2.3.4.", "1.2.3.4.5", "1.2.3.256", "1.2.3.04", "01.2.3.4", "1.2.3.00", "1..2.3", "1.2.3.4 ",
        " 1.2.3.4", "0x1.2.3.4", "1.2.3.-4", "1.2.3.+4", "1.2.3.1000", "1.2.3.4\0", "1.2.3.4/24", "١.2.3.4", "a.b.c.d", "10.0.0.1:80",
    ])
    func otherQuadsAreRefused(text: String) {
        #expect(IPAddress(parsing: text) == nil)
    }

    @Test(arguments: [
        ("::", "::"), ("::1", "::1"), ("1::", "1::"), ("2001:db8::1", "2001:db8::1"), ("2001:DB8:0:0:8:800:200C:417A", "2001:db8::8:800:200c:417a"),
        ("ff01:0:0:0:0:0:0:101", "ff01::101"), ("1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"), ("1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"),
        ("::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"), ("2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"), ("1:0:0:2:0:0:0:3", "1:0:0:2::3"),
        ("1:0:0:2:3:0:0:4", "1::2:3:0:0:4"), ("0001:0002::00ff", "1:2::ff"), ("1:2:3:4:5:6:1.2.3.4", "1:2:3:4:5:6:102:304"),
        ("64:ff9b::192.0.2.33", "64:ff9b::c000:221"), ("0:0:0:0:0:0:0:0", "::"), ("1:0:0:0:0:0:0:0", "1::"), ("fe80:0::0:1", "fe80::1"),
    ])
    func ipv6TextIsReadAndWrittenInItsCanonicalForm(text: String, canonical: String) throws {
        let address = try #require(IPAddress(parsing: text))
        #expect(address.description == canonical)
        #expect(IPAddress(parsing: canonical) == address)
        #expect(!address.isIPv4)
    }

    @Test(arguments: [
        ":", ":::", "1", "1:", ":1", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "1:2:3:4:5:6:7:8:", ":1:2:3:4:5:6:7:8", "1::2::3", "::1::", "12345::",
        "g::", "1:2:3:4:5:6:7:1.2.3.4", "1.2.3.4::", "::1.2.3", "::1.2.3.4:5", "::1.2.3.256", "fe80::1%eth0", "[::1]", "1:::2", "::1/64",
        "1:2:3:4::5:6:7:8", " ::1", "::1 ", "1::2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8::", "::01.2.3.4",
    ])
    func otherIPv6TextIsRefused(text: String) {
        #expect(IPAddress(parsing: text) == nil)
    }

    @Test func randomIPv6AddressesSurviveTheirText() {
        var random = SeededGenerator(seed: 6)
        for _ in 0..<3000 {
            let mask = random.next() & random.next()
            var words = (random.next(), random.next())
            // Zero groups, many of them.
            for group in 0..<4 {
                if mask >> UInt64(group) & 1 == 1 { words.0 &= ~(0xffff << UInt64(16 * group)) }
                if mask >> UInt64(group + 4) & 1 == 1 { words.1 &= ~(0xffff << UInt64(16 * group)) }
            }
            let address = IPAddress(words: words)
            #expect(IPAddress(parsing: address.description) == address, "\(address)")
        }
    }

    @Test(arguments: [
        ("0.0.0.0", "unspecified"), ("::", "unspecified"), ("224.0.0.1", "multicast"), ("239.255.255.255", "multicast"), ("ff02::1", "multicast"),
        ("223.255.255.255", ""), ("240.0.0.0", ""), ("127.0.0.1", "loopback"), ("127.255.255.255", "loopback"), ("::1", "loopback"), ("::2", ""),
        ("128.0.0.1", ""), ("1::1", ""), ("255.255.255.255", "broadcast"), ("255.255.255.254", ""), ("fe80::1", ""), ("0.0.0.1", ""), ("::ff00", ""),
    ])
    func classesOfAddressesAreRecognised(text: String, expected: String) throws {
        let address = try #require(IPAddress(parsing: text))
        #expect(address.isUnspecified == (expected == "unspecified"))
        #expect(address.isMulticast == (expected == "multicast"))
        #expect(address.isLoopback == (expected == "loopback"))
        #expect(address.isLimitedBroadcast == (expected == "broadcast"))
    }

    @Test func endpointsDifferByAddressAndPort() {
        let one = Endpoint(address: .ipv4(10, 0, 0, 1), port: 7)
        #expect(one == Endpoint(address: .ipv4(10, 0, 0, 1), port: 7))
        #expect(Set([one, Endpoint(address: .ipv4(10, 0, 0, 2), port: 7), Endpoint(address: .ipv4(10, 0, 0, 1), port: 8), one]).count == 3)
        #expect(one.description == "10.0.0.1:7")
        #expect(Endpoint(address: IPAddress(parsing: "fe80::1")!, port: 7).description == "[fe80::1]:7")
    }
}

@Suite struct IPv4PrefixTests {
    @Test func aPrefixContainsTheAddressesOfItsNetwork() throws {
        let prefix = try #require(IPv4Prefix(parsing: "10.0.1.77/23"))
        #expect(prefix.address == .ipv4(10, 0, 1, 77))
        #expect(prefix.network == .ipv4(10, 0, 0, 0))
        #expect(prefix.broadcast == .ipv4(10, 0, 1, 255))
        #expect(prefix.contains(.ipv4(10, 0, 0, 0)))
        #expect(prefix.contains(.ipv4(10, 0, 1, 255)))
        #expect(!prefix.contains(.ipv4(10, 0, 2, 0)))
        #expect(!prefix.contains(.ipv4(9, 255, 255, 255)))
        #expect(!prefix.contains(IPAddress(parsing: "::a00:1")!))
        #expect(prefix.description == "10.0.1.77/23")
    }

    @Test func everyLengthHasItsMask() throws {
        for length in 0...32 as ClosedRange<UInt8> {
            let prefix = try #require(IPv4Prefix(parsing: "255.255.255.255/\(length)"))
            #expect(prefix.maskHostOrder.leadingZeroBitCount == (length == 0 ? 32 : 0))
            #expect(prefix.maskHostOrder.nonzeroBitCount == Int(length))
            #expect(prefix.network.ipv4HostOrder == prefix.maskHostOrder)
            #expect(prefix.contains(.ipv4(0, 0, 0, 0)) == (length == 0))
        }
    }

    /// RFC 3021 section 2.1: both addresses of a /31 are hosts.
    @Test func networksOfOneOrTwoAddressesHaveNoDirectedBroadcast() throws {
        #expect(try #require(IPv4Prefix(parsing: "10.0.0.0/31")).broadcast == .limitedBroadcast)
        #expect(try #require(IPv4Prefix(parsing: "10.0.0.1/32")).broadcast == .limitedBroadcast)
        #expect(try #require(IPv4Prefix(parsing: "10.0.0.0/30")).broadcast == .ipv4(10, 0, 0, 3))
    }

    @Test(arguments: [
        "", "/", "10.0.0.0", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/024", "10.0.0.0/08", "10.0.0.0/-1", "10.0.0.0/+8", "10.0.0/8", "10.0.0.0/8/8",
        "::ffff:10.0.0.0/8", "fe80::/10", "10.0.0.0/a", "10.0.0.0/ 8",
    ])
    func otherTextIsRefused(text: String) {
        #expect(IPv4Prefix(parsing: text) == nil)
    }
}
