import Testing
import WireFormats

/// RFC 8200, RFC 4291, RFC 2464.
@Suite struct IPv6Tests {
    private let page = GuardedPage()
    private let source = IPAddress("2001:db8::1")!
    private let destination = IPAddress("fe80::200:ff:fe00:2")!

    /// A packet of a chain of headers: the first next-header number, and the bytes behind the fixed header.
    private func packet(_ nextHeader: UInt8, _ payload: [UInt8]) -> [UInt8] {
        written(40 + payload.count) {
            IPv6Header.write(
                to: $0, payloadByteCount: payload.count, nextHeader: nextHeader, hopLimit: 64, source: source, destination: destination)
            for (offset, byte) in payload.enumerated() { $0.storeBytes(of: byte, toByteOffset: 40 + offset, as: UInt8.self) }
        }
    }

    private func extensions(_ nextHeader: UInt8, _ payload: [UInt8]) -> IPv6Extensions {
        let bytes = packet(nextHeader, payload)
        let base = page.place(bytes)
        #expect(IPv6View.check(base, count: bytes.count) == .none)
        return IPv6Extensions(IPv6View(unchecked: base))
    }

    @Test func aHeaderIsWrittenAndReadAsTheRFCDrawsIt() {
        let bytes = written(40) {
            IPv6Header.write(
                to: $0, payloadByteCount: 0x1234, nextHeader: 17, hopLimit: 255, trafficClass: 0xab, flowLabel: 0xc_def1, source: source,
                destination: destination)
        }
        #expect(
            bytes
                == [UInt8](hexadecimal: "6abcdef1 1234 11 ff 20010db8000000000000000000000001 fe80000000000000020000fffe000002"))
        let view = IPv6View(unchecked: page.place(bytes))
        #expect(view.trafficClass == 0xab && view.ecn == 3 && view.flowLabel == 0xc_def1 && view.payloadByteCount == 0x1234)
        #expect(view.nextHeader == 17 && view.hopLimit == 255 && view.source == source && view.destination == destination)
    }

    @Test func lengthsAndVersionAreChecked() {
        let bytes = packet(17, [1, 2, 3])
        for count in 0..<43 { #expect(IPv6View.check(page.place(bytes[..<count]), count: count) == .truncated) }
        #expect(IPv6View.check(page.place(bytes), count: 43) == .none)
        #expect(IPv6View.check(page.place(bytes + [0, 0]), count: 45) == .none)
        #expect(IPv6View.check(page.place([0x45] + bytes[1...]), count: 43) == .badVersion)
    }

    @Test func extensionHeadersAreWalkedInOrder() {
        // Hop-by-hop with a router alert, destination options of 16 bytes with PadN, an atomic fragment, then UDP.
        let found = extensions(
            0,
            [60, 0, 5, 2, 0, 0, 1, 0] + [44, 1, 1, 12] + [UInt8](repeating: 0, count: 12) + [17, 0, 0, 0, 1, 2, 3, 4] + [UInt8](repeating: 9, count: 8))
        #expect(found.fault == .none && found.nextHeader == 17 && found.offset == 72 && found.hasRouterAlert && found.fragment == nil)
        #expect(found.nextHeaderOffset == 64)
        let plain = extensions(6, [])
        #expect(plain.fault == .none && plain.nextHeader == 6 && plain.offset == 40 && !plain.hasRouterAlert)
    }

    @Test func aFragmentIsSeenAsOne() {
        let first = extensions(44, [17, 0, 0, 1, 0, 0, 0, 7] + [UInt8](repeating: 9, count: 8))
        #expect(first.fragment?.offset == 0 && first.fragment?.moreFragments == true && first.fragment?.identification == 7)
        #expect(first.fragment?.nextHeader == 17 && first.offset == 48)
        let last = extensions(44, [17, 0, 0, 8, 0, 0, 0, 7])
        #expect(last.fragment?.offset == 8 && last.fragment?.moreFragments == false)
    }

    /// RFC 5095; RFC 8200 section 4.4.
    @Test func aRoutingHeaderIsSkippedOnlyWhenNothingIsLeftOfIt() {
        #expect(extensions(43, [58, 0, 0, 0, 0, 0, 0, 0]).nextHeader == 58)
        for type in [0, 2, 3] as [UInt8] {
            let found = extensions(43, [58, 0, type, 1, 0, 0, 0, 0])
            #expect(found.fault == .erroneousField && found.faultOffset == 42)
        }
    }

    /// RFC 8200 section 4.2.
    @Test func anUnknownOptionDoesWhatItsHighestBitsSay() {
        let faults: [(UInt8, IPv6Extensions.Fault)] = [
            (0x1e, .none), (0x5e, .discard), (0x9e, .unrecognizedOption), (0xde, .unrecognizedOptionUnlessMulticast),
        ]
        for (type, fault) in faults {
            let found = extensions(60, [58, 0, type, 4, 0, 0, 0, 0])
            #expect(found.fault == fault)
            if fault != .none { #expect(found.faultOffset == 42) }
        }
    }

    @Test func hopByHopOptionsBelongRightBehindTheHeader() {
        let found = extensions(60, [0, 0, 1, 4, 0, 0, 0, 0] + [58, 0, 1, 4, 0, 0, 0, 0])
        #expect(found.fault == .unrecognizedNextHeader && found.faultOffset == 40)
    }

    @Test func whatLeadsOutOfThePacketOrBeyondALimitIsDiscarded() {
        #expect(extensions(60, [58, 1, 1, 4, 0, 0, 0, 0]).fault == .discard)
        #expect(extensions(60, [58, 0, 1, 5, 0, 0, 0, 0]).fault == .discard)
        #expect(extensions(60, [58, 0, 1]).fault == .discard)
        let one: [UInt8] = [60, 0, 1, 4, 0, 0, 0, 0]
        let last: [UInt8] = [58, 0, 1, 4, 0, 0, 0, 0]
        #expect(extensions(60, [[UInt8]](repeating: one, count: 7).flatMap { $0 } + last).nextHeader == 58)
        #expect(extensions(60, [[UInt8]](repeating: one, count: 8).flatMap { $0 } + last).fault == .discard)
        #expect(extensions(60, [58, 4] + [UInt8](repeating: 0, count: 38)).fault == .discard)
    }

    @Test func noBytesOfAChainLeadOutOfIt() {
        var random = SeededGenerator(seed: 31)
        for _ in 0..<20_000 {
            let count = Int.random(in: 0...72, using: &random)
            let chain: [UInt8] = [0, 43, 44, 60, 17]
            let payload = (0..<count).map { _ in
                Bool.random(using: &random) ? chain.randomElement(using: &random)! : UInt8.random(in: 0...255, using: &random)
            }
            let found = extensions(chain.randomElement(using: &random)!, payload)
            #expect(found.offset <= 40 + count && found.faultOffset <= 40 + count)
        }
    }

    @Test func groupsAreMadeOfAddresses() {
        #expect(IPAddress("4037::1:800:200e:8c6c")!.solicitedNode == IPAddress("ff02::1:ff0e:8c6c"))
        #expect(IPAddress("ff02::1:ff0e:8c6c")!.multicastMACAddress == MACAddress(value: 0x3333_ff0e_8c6c))
        #expect(IPAddress.allNodes == IPAddress("ff02::1") && IPAddress.allRouters == IPAddress("ff02::2"))
        #expect(IPAddress.allMLDv2Routers == IPAddress("ff02::16"))
        // RFC 2464 section 4: 34-56-78-9A-BC-DE.
        #expect(IPAddress.linkLocal(identifier: MACAddress(value: 0x3456_789a_bcde).modifiedEUI64) == IPAddress("fe80::3656:78ff:fe9a:bcde"))
        #expect(IPAddress("febf::1")!.isLinkLocal && !IPAddress("fec0::1")!.isLinkLocal && !IPAddress("10.0.0.1")!.isLinkLocal)
        #expect(source.commonPrefixLength(IPAddress("2001:db8::3")!) == 126 && source.commonPrefixLength(source) == 128)
        #expect(source.commonPrefixLength(IPAddress("a001:db8::1")!) == 0)
    }

    @Test func prefixesAreReadAndCompared() {
        let prefix = IPv6Prefix(parsing: "2001:db8:0:1::5/64")
        #expect(prefix?.description == "2001:db8:0:1::5/64" && prefix?.network == IPAddress("2001:db8:0:1::"))
        #expect(prefix?.contains(IPAddress("2001:db8:0:1:ffff::")!) == true && prefix?.contains(IPAddress("2001:db8:0:2::5")!) == false)
        #expect(IPv6Prefix(parsing: "::/0")?.contains(source) == true)
        #expect(IPv6Prefix(parsing: "2001:db8::1/128")?.contains(IPAddress("2001:db8::2")!) == false)
        #expect(IPv6Prefix(parsing: "2001:db8::/33")?.contains(IPAddress("2001:db8:8000::")!) == false)
        #expect(IPv6Prefix(parsing: "2001:db8::/65")?.contains(IPAddress("2001:db8::8000:0:0:0")!) == false)
        for text in ["10.0.0.1/24", "::1", "::1/129", "::1/", "::1/-1", "::1/064", "fe80::/1x"] { #expect(IPv6Prefix(parsing: text) == nil) }
    }
}
