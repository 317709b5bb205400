import Testing
import WireFormats

@testable import Simulation

/// The checks of what hosts say of groups and ask of neighbours are shown packets that are made by hand, right ones and wrong ones.
@Suite struct GroupAndNeighborConductTests {
    private static let group = IPAddress.ipv4(239, 1, 2, 3)
    private static let second: UInt64 = 1_000_000_000

    private static func with<Result>(_ frame: [UInt8], _ body: (PacketView) throws -> Result) rethrows -> Result {
        try frame.withUnsafeBytes { try body(PacketView(EthernetView($0.baseAddress!, count: $0.count)!)!) }
    }

    // MARK: Groups

    /// - Parameter message: an IGMP message without its checksum.
    private static func igmp(_ message: [UInt8], to destination: IPAddress, timeToLive: UInt8 = 1, option: UInt8 = 0x94) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 38) + message
        bytes.withUnsafeMutableBytes { bytes in
            let base = bytes.baseAddress!
            EthernetHeader.write(to: base, destination: destination.multicastMACAddress, source: MACAddress(value: 2), etherType: EtherType.ipv4)
            IPv4Header.write(
                to: base + 14, totalByteCount: 24 + message.count, identification: 0, dontFragment: true, timeToLive: timeToLive,
                protocolNumber: IPProtocol.igmp, source: .ipv4(10, 0, 0, 1), destination: destination)
            IGMPMessage.complete(base + 38, count: message.count)
        }
        bytes[14] = 0x46
        (bytes[34], bytes[35]) = (option, 4)
        (bytes[24], bytes[25]) = (0, 0)
        let checksum = bytes.withUnsafeBytes { InternetChecksum.finish(InternetChecksum.sum($0.baseAddress! + 14, count: 24)) }
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: checksum, toByteOffset: 24, as: UInt16.self) }
        return bytes
    }

    private static func address(_ address: IPAddress) -> [UInt8] { withUnsafeBytes(of: address.ipv4Raw) { Array($0) } }

    private static func report(_ type: GroupRecordType, _ group: IPAddress = group, to destination: IPAddress = .allIGMPv3Routers) -> [UInt8] {
        igmp([0x22, 0, 0, 0, 0, 0, 0, 1, type.rawValue, 0, 0, 0] + address(group), to: destination)
    }

    private static func olderReport(_ group: IPAddress = group) -> [UInt8] { igmp([0x16, 0, 0, 0] + address(group), to: group) }

    /// A general query of version 3 that gives one second, or of version 2.
    private static func query(isOlder: Bool = false) -> [UInt8] { igmp([0x11, 10, 0, 0, 0, 0, 0, 0] + (isOlder ? [] : [2, 125, 0, 0]), to: .allHosts) }

    /// What is said of packets that a host sends and gets, each so many milliseconds after the first one.
    private func groups(_ packets: [(at: UInt64, isSent: Bool, frame: [UInt8])]) -> [String] {
        var conduct = GroupConduct()
        var complaints: [String?] = []
        for packet in packets {
            let time = packet.at * 1_000_000
            complaints.append(conduct.settle(time))
            GroupAndNeighborConductTests.with(packet.frame) { view in
                if packet.isSent { complaints.append(conduct.transmitted(view, at: time)) } else { conduct.received(view, at: time) }
            }
        }
        complaints.append(conduct.settle(1_000 * GroupAndNeighborConductTests.second))
        return complaints.compactMap { $0 }
    }

    @Test func changesThatAreToldTwiceAndAnswersInTimeAreFine() {
        typealias T = GroupAndNeighborConductTests
        #expect(
            groups([
                (0, true, T.report(.changeToExclude)), (900, true, T.report(.changeToExclude)), (2_000, false, T.query()), (2_900, true, T.report(.modeIsExclude)),
                (4_000, true, T.report(.changeToInclude)), (4_500, true, T.report(.changeToInclude)), (5_000, false, T.query()),
            ]) == [])
        // With a querier of version 2 what is still to be told is forgotten; another host's report stands for one's own.
        #expect(
            groups([
                (0, true, T.report(.changeToExclude)), (100, false, T.query(isOlder: true)), (1_000, true, T.olderReport()),
                (2_000, false, T.query(isOlder: true)), (2_500, false, T.olderReport()),
            ]) == [])
        // To one that has heard no older querier it is nothing: the change is told again as if nobody else had told of the group.
        #expect(groups([(0, true, T.report(.changeToExclude)), (100, false, T.olderReport()), (900, true, T.report(.changeToExclude))]) == [])
        // What the host drops changes nothing: a query whose IP header is damaged, or that has come over a router.
        var damaged = T.query(isOlder: true)
        damaged[19] ^= 1
        for query in [damaged, T.igmp([0x11, 10, 0, 0, 0, 0, 0, 0], to: .allHosts, timeToLive: 2)] {
            #expect(groups([(0, true, T.report(.changeToExclude)), (100, false, query), (900, true, T.report(.changeToExclude))]) == [])
        }
    }

    @Test func whatAHostMustNotSayOfGroupsOrMustSayIsFound() {
        typealias T = GroupAndNeighborConductTests
        let joined: [(at: UInt64, isSent: Bool, frame: [UInt8])] = [(0, true, T.report(.changeToExclude)), (900, true, T.report(.changeToExclude))]
        let cases: [([(at: UInt64, isSent: Bool, frame: [UInt8])], String)] = [
            ([joined[0]], "once"), (joined + [(2_000, false, T.query())], "did not answer"),
            (joined + [(2_000, false, T.query()), (3_001, true, T.report(.modeIsExclude))], "did not answer"),
            (joined + [(2_000, false, T.query(isOlder: true)), (2_500, true, T.report(.modeIsExclude))], "does not speak"),
            ([(0, true, T.report(.modeIsExclude, .allHosts))], "every host"), ([(0, true, T.report(.modeIsExclude, .ipv4(10, 0, 0, 1)))], "no group"),
            ([(0, true, T.report(.modeIsExclude, to: .allHosts))], "a report of groups to"),
            ([(0, true, T.igmp([0x16, 0, 0, 0] + T.address(T.group), to: .allHosts))], "a report of"),
            ([(0, true, T.igmp([0x16, 0, 0, 0] + T.address(T.group), to: T.group, timeToLive: 2))], "hop limit"),
            ([(0, true, T.igmp([0x16, 0, 0, 0] + T.address(T.group), to: T.group, option: 1))], "router alert"),
            ([(0, true, T.query())], "sent a query"),
        ]
        for (packets, complaint) in cases {
            let found = groups(packets)
            #expect(found.contains { $0.contains(complaint) }, "\(complaint): \(found)")
        }
    }

    /// RFC 4541: a report opens the port that it comes from, a leave closes it, and time does; what stays on the link goes everywhere.
    @Test func aSnoopingSwitchKnowsItsListeners() {
        typealias T = GroupAndNeighborConductTests
        var snooping = GroupSnooping()
        let datagram = T.igmp([0, 0, 0, 0, 0, 0, 0, 0], to: T.group)
        #expect(snooping.ports(datagram, at: 0) == [])
        snooping.observe(T.report(.changeToExclude), port: 3, at: 0)
        snooping.observe(T.olderReport(), port: 5, at: 0)
        #expect(snooping.ports(datagram, at: T.second) == [3, 5])
        #expect(snooping.ports(T.igmp([0, 0, 0, 0, 0, 0, 0, 0], to: .ipv4(239, 1, 2, 4)), at: T.second) == [])
        #expect(snooping.ports(T.igmp([0, 0, 0, 0, 0, 0, 0, 0], to: .allHosts), at: T.second) == nil)
        snooping.observe(T.report(.changeToInclude), port: 3, at: T.second)
        #expect(snooping.ports(datagram, at: T.second) == [5])
        snooping.observe(T.igmp([0x17, 0, 0, 0] + T.address(T.group), to: .allRoutersIPv4), port: 5, at: T.second)
        #expect(snooping.ports(datagram, at: T.second) == [])
        snooping.observe(T.report(.modeIsExclude), port: 1, at: T.second)
        #expect(snooping.ports(datagram, at: 22 * T.second) == [1] && snooping.ports(datagram, at: 24 * T.second) == [])
        // Damage in the IP header, and in the message.
        for place in [19, 45] {
            var damaged = T.report(.changeToExclude)
            damaged[place] ^= 1
            snooping.observe(damaged, port: 2, at: 30 * T.second)
        }
        #expect(snooping.ports(datagram, at: 30 * T.second) == [])
        for query in snooping.queries { #expect(T.with(query) { $0.destination.isMulticast && $0.hopLimit == 1 && $0.isHeaderChecksumValid }) }
    }

    /// RFC 4541, section 2.1.1: hosts do not hear each other's reports; where they do, one report speaks for all that would keep silent for it.
    @Test func aSnoopingSwitchKeepsReportsToItselfOrCountsThemForAll() {
        typealias T = GroupAndNeighborConductTests
        let datagram = T.igmp([0, 0, 0, 0, 0, 0, 0, 0], to: T.group)
        for floods in [false, true] {
            var snooping = GroupSnooping()
            snooping.floodsReports = floods
            snooping.observe(T.olderReport(), port: 3, at: 0)
            snooping.observe(T.olderReport(), port: 5, at: 15 * T.second)
            for report in [T.olderReport(), T.report(.changeToExclude)] { #expect(snooping.ports(report, at: 0) == (floods ? nil : [])) }
            #expect(snooping.ports(datagram, at: 30 * T.second) == (floods ? [3, 5] : [5]))
        }
    }

    // MARK: Neighbours

    private static let host = IPAddress("2001:db8::1")!
    private static let neighbor = IPAddress("2001:db8::2")!

    private static func icmp(
        _ type: UInt8, _ target: IPAddress = neighbor, from source: IPAddress = host, to destination: IPAddress, option: UInt8? = nil, flags: UInt8 = 0,
        hopLimit: UInt8 = 255
    ) -> [UInt8] {
        var message: [UInt8] = [type, 0, 0, 0, flags, 0, 0, 0] + withUnsafeBytes(of: target.words) { Array($0) }
        if let option { message += [option, 1, 2, 0, 0, 0, 0, 1] }
        var bytes = [UInt8](repeating: 0, count: 54) + message
        bytes.withUnsafeMutableBytes { bytes in
            let base = bytes.baseAddress!
            EthernetHeader.write(to: base, destination: MACAddress(value: 2), source: MACAddress(value: 1), etherType: EtherType.ipv6)
            IPv6Header.write(
                to: base + 14, payloadByteCount: message.count, nextHeader: IPProtocol.icmpv6, hopLimit: hopLimit, source: source, destination: destination)
            ICMPv6Message.complete(base + 54, count: message.count, source: source, destination: destination)
        }
        return bytes
    }

    private static func question(hopLimit: UInt8 = 255, option: UInt8? = 1, to destination: IPAddress? = nil, from source: IPAddress = host) -> [UInt8] {
        icmp(135, from: source, to: destination ?? neighbor.solicitedNode, option: option, hopLimit: hopLimit)
    }

    private static let answer = icmp(136, from: neighbor, to: host, option: 2, flags: 0x60)

    /// - Parameter packets: nil for an ordinary packet to the neighbour.
    private func neighbors(_ packets: [(at: UInt64, isSent: Bool, frame: [UInt8]?)]) -> [String] {
        var conduct = NeighborConduct()
        var complaints: [String?] = []
        for packet in packets {
            let time = packet.at * 1_000_000
            complaints.append(conduct.settle(time))
            guard let frame = packet.frame else {
                complaints.append(conduct.transmitted(to: GroupAndNeighborConductTests.neighbor, at: time))
                continue
            }
            GroupAndNeighborConductTests.with(frame) { view in
                let message = NeighborMessage(view)!
                if packet.isSent { complaints.append(conduct.transmitted(message, at: time)) } else { conduct.received(message, at: time) }
            }
        }
        complaints.append(conduct.settle(1_000 * GroupAndNeighborConductTests.second))
        return complaints.compactMap { $0 }
    }

    @Test func questionsOnceASecondAndWhatWaitedAtTheAnswerAreFine() {
        typealias T = GroupAndNeighborConductTests
        #expect(
            neighbors([
                (0, true, T.question()), (1_000, true, T.question()), (2_000, true, T.question()), (2_500, false, T.answer), (2_500, true, nil),
                (32_000, true, nil), (33_000, true, T.question(to: T.neighbor)), (33_001, false, T.answer), (65_000, true, nil),
            ]) == [])
        // Three that nobody answered, a pause, and three more; an address of one's own is verified once.
        let series: [UInt64] = [0, 1_000, 2_000, 6_000, 7_000, 8_000]
        #expect(neighbors(series.map { ($0, true, T.question()) }) == [])
        #expect(neighbors([(0, true, T.question(option: nil, from: .unspecifiedIPv6))]) == [])
        #expect(neighbors([(0, true, T.icmp(136, T.host, to: .allNodes, option: 2, flags: 0x20))]) == [])
    }

    @Test func whatBreaksTheRulesOfNeighbourDiscoveryIsFound() {
        typealias T = GroupAndNeighborConductTests
        let cases: [([(at: UInt64, isSent: Bool, frame: [UInt8]?)], String)] = [
            ([(0, true, T.question(hopLimit: 64))], "hop limit"), ([(0, true, T.question(to: .allNodes))], "asked ff02::1 for"),
            ([(0, true, T.question(option: nil))], "without telling"), ([(0, true, T.question(from: .unspecifiedIPv6))], "no node accepts"),
            ([0, 1_000].map { ($0, true, T.question(option: nil, from: .unspecifiedIPv6)) }, "verified 2001:db8::2 2 times"),
            ([(0, true, T.question()), (999, true, T.question())], "after 999 ms"),
            ([0, 1_000, 2_000, 3_000].map { ($0, true, T.question()) }, "4 times"), ([(0, true, T.question()), (500, false, T.answer)], "nothing was sent"),
            ([(0, true, nil), (37_001, true, nil)], "without asking"),
            ([(0, true, T.icmp(136, T.host, to: .allNodes, option: 2, flags: 0x60))], "as if that had asked"),
            ([(0, true, T.icmp(136, T.host, to: T.neighbor, flags: 0x60))], "without a hardware address"),
        ]
        for (packets, complaint) in cases {
            let found = neighbors(packets)
            #expect(found.contains { $0.contains(complaint) }, "\(complaint): \(found)")
        }
    }
}
