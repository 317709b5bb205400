import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

private let router = LowerPeer()
private let router6 = IPv6Peer()
private let group = IPAddress.ipv4(239, 129, 2, 3)
private let group6 = IPAddress("ff12::8000:5")!
private let allHosts = IPAddress.allHosts
private let alert = hex("94 04 00 00")

/// A report or leave as it was sent, whatever its family.
private struct Report: Equatable, CustomStringConvertible {
    var type: UInt8
    var destination: IPAddress
    /// Record type, group and sources; 0 for a message of the older versions.
    var records: [Record]

    struct Record: Equatable {
        var type: UInt8
        var group: IPAddress
        var sources: [IPAddress] = []
    }

    var description: String { "type \(type) to \(destination): " + records.map { "\($0.type) \($0.group) \($0.sources)" }.joined(separator: ", ") }

    /// Checks the headers on the way. Nil for another frame.
    init?(_ frame: [UInt8]) {
        if number(frame, at: 12) == 0x0800 {
            guard frame[23] == 2 else { return nil }
            let header = Array(frame[14..<38])
            let message = Array(frame[38...])
            // RFC 3376 section 4: a time to live of 1, 0xc0, and a router alert.
            #expect(header[0] == 0x46 && header[1] == 0xc0 && header[8] == 1 && Array(header[20...]) == alert)
            #expect(internetChecksum(header) == 0 && internetChecksum(message) == 0 && Int(number(header, at: 2)) == frame.count - 14)
            #expect(Array(header[12..<16]) == ipv4Bytes(LowerHost.address))
            self.init(message, destination: Report.ipv4(frame, 30), newest: 0x22, groupOffset: 4, Report.ipv4, addressByteCount: 4)
        } else {
            guard number(frame, at: 12) == 0x86dd, frame[20] == 0, [131, 132, 143].contains(frame[62]) else { return nil }
            let message = expectWellFormedIPv6(frame)
            #expect(Array(frame[54..<62]) == hex("3a 00 05 02 00 00 01 00") && frame[21] == 1 && source(of: frame) == IPv6Peer.hostLinkLocal)
            self.init(message, destination: NetworkStackTests.destination(of: frame), newest: 143, groupOffset: 8, Report.ipv6, addressByteCount: 16)
        }
        // RFC 1112 section 6.4, RFC 2464 section 7.
        #expect(Array(frame[0..<6]) == macBytes(destination.multicastMACAddress))
    }

    private init(
        _ message: [UInt8], destination: IPAddress, newest: UInt8, groupOffset: Int, _ address: ([UInt8], Int) -> IPAddress, addressByteCount: Int
    ) {
        type = message[0]
        self.destination = destination
        records = []
        guard type == newest else {
            #expect(message.count == groupOffset + addressByteCount)
            records = [Record(type: 0, group: address(message, groupOffset))]
            return
        }
        var offset = 8
        for _ in 0..<number(message, at: 6) {
            let count = Int(number(message, at: offset + 2))
            var record = Record(type: message[offset], group: address(message, offset + 4))
            offset += 4 + addressByteCount
            for _ in 0..<count {
                record.sources.append(address(message, offset))
                offset += addressByteCount
            }
            records.append(record)
        }
        #expect(offset == message.count)
    }

    init(_ type: UInt8, to destination: IPAddress, _ records: [Record]) {
        self.type = type
        self.destination = destination
        self.records = records
    }

    private static func ipv4(_ bytes: [UInt8], _ offset: Int) -> IPAddress { .ipv4(bytes[offset], bytes[offset + 1], bytes[offset + 2], bytes[offset + 3]) }
    private static func ipv6(_ bytes: [UInt8], _ offset: Int) -> IPAddress {
        bytes.withUnsafeBytes { IPAddress(ipv6At: $0.baseAddress! + offset) }
    }

    static func newest(_ type: UInt8, _ group: IPAddress, _ sources: [IPAddress] = []) -> Report {
        let record = Record(type: type, group: group, sources: sources)
        return group.isIPv4 ? Report(0x22, to: .ipv4(224, 0, 0, 22), [record]) : Report(143, to: IPAddress("ff02::16")!, [record])
    }

    static func older(_ type: UInt8, _ group: IPAddress, to destination: IPAddress? = nil) -> Report {
        Report(type, to: destination ?? group, [Record(type: 0, group: group)])
    }
}

extension LowerHost {
    fileprivate func reports() -> [Report] { output().compactMap(Report.init) }

    /// What is sent within a time, looked at every millisecond, with how many milliseconds had passed.
    fileprivate func reports(within milliseconds: Int) -> [(after: Int, report: Report)] {
        var result: [(Int, Report)] = []
        for passed in 1...milliseconds {
            advance(milliseconds: 1)
            for report in reports() { result.append((passed, report)) }
        }
        return result
    }

    fileprivate func memberOf(_ group: IPAddress, port: UInt16 = 5_000) -> UInt32 {
        let socket = boundSocket(port, address: group.isIPv4 ? .unspecifiedIPv4 : .unspecifiedIPv6, reusePort: true)
        #expect(stack.joinGroup(socket, group) == 0)
        return socket
    }

    /// A member whose reports have all been sent. The addresses of either host share a solicited-node group.
    fileprivate func settledMemberOf(_ group: IPAddress) -> UInt32 {
        let socket = memberOf(group)
        _ = reports(within: 1_001)
        return socket
    }
}

/// - Parameters:
///   - code: Max Resp Code.
///   - newest: the fields behind the group (S, QRV, QQIC, sources) of version 3.
private func igmpQuery(
    _ group: IPAddress = .unspecifiedIPv4, code: UInt8, newest: [UInt8]? = nil, source: IPAddress? = nil, destination: IPAddress? = nil, timeToLive: UInt8 = 1
) -> [UInt8] {
    let destination = destination ?? (group.isUnspecified ? allHosts : group)
    let message = router.withChecksum([0x11, code, 0, 0] + ipv4Bytes(group) + (newest ?? []))
    return router.ipv4(
        2, message, source: source, destination: destination, options: alert, timeToLive: timeToLive,
        to: destination.isMulticast ? destination.multicastMACAddress : LowerHost.macAddress)
}

private func igmpReport(_ type: UInt8, _ group: IPAddress, source: IPAddress? = nil) -> [UInt8] {
    router.ipv4(
        2, router.withChecksum([type, 0, 0, 0] + ipv4Bytes(group)), source: source, destination: group, options: alert, timeToLive: 1,
        to: group.multicastMACAddress)
}

private func mldMessage(
    _ type: UInt8 = 130, _ group: IPAddress = .unspecifiedIPv6, code: UInt16 = 0, newest: [UInt8]? = nil, destination: IPAddress? = nil, hopLimit: UInt8 = 1,
    source: IPAddress = router6.linkLocal, hasAlert: Bool = true
) -> [UInt8] {
    router6.icmp(
        [type, 0, 0, 0] + bigEndian(code) + [0, 0] + ipv6Bytes(group) + (newest ?? []), source: source,
        destination: destination ?? (group.isUnspecified ? .allNodes : group), hopLimit: hopLimit,
        extensions: hasAlert ? hex("3a 00 05 02 00 00 01 00") : [], nextHeader: hasAlert ? 0 : 58)
}

/// Robustness 2, a query interval of 125 s.
private let ordinary: [UInt8] = [2, 125, 0, 0]

/// What routers and snooping switches are told of groups: IGMP (RFC 2236, RFC 3376) and MLD (RFC 2710, RFC 3810).
@Suite struct MembershipReportTests {
    // MARK: Changes

    /// RFC 3376 section 5.1, RFC 3810 section 6.1.
    @Test(arguments: [group, group6]) func aGroupIsReportedAtOnceAndAgainWithinASecond(group: IPAddress) throws {
        let host = try LowerHost.ipv6()
        let socket = host.memberOf(group)
        host.advance()
        #expect(host.reports() == [.newest(4, group)])
        var later = host.reports(within: 3_000)
        #expect(later.map(\.report) == [.newest(4, group)] && later.first!.after <= 1_001)
        #expect(host.stack.leaveGroup(socket, group) == 0)
        host.advance()
        #expect(host.reports() == [.newest(3, group)])
        later = host.reports(within: 3_000)
        #expect(later.map(\.report) == [.newest(3, group)] && later.first!.after <= 1_001)
        #expect(host.stack.statistics.membershipReportsSent == (group.isIPv4 ? 4 : 0))
        host.end()
    }

    @Test func onlyTheFirstMemberAndTheLastOneAreNews() throws {
        let host = try LowerHost()
        let first = host.settledMemberOf(group)
        let second = host.memberOf(group)
        #expect(host.stack.leaveGroup(first, group) == 0)
        #expect(host.reports(within: 2_000).isEmpty)
        // A socket that is closed leaves, too.
        host.stack.closeDatagram(second)
        #expect(host.reports(within: 2_000).map(\.report) == [.newest(3, group), .newest(3, group)])
        host.end()
    }

    /// RFC 3376 section 5.1: a change that comes while another one is still being told goes with it.
    @Test func changesAreToldTogether() throws {
        let host = try LowerHost()
        let socket = host.memberOf(group)
        let other = IPAddress.ipv4(239, 0, 0, 1)
        #expect(host.stack.joinGroup(socket, other) == 0)
        host.advance()
        #expect(host.reports() == [Report(0x22, to: .ipv4(224, 0, 0, 22), [.init(type: 4, group: group), .init(type: 4, group: other)])])
        #expect(host.stack.leaveGroup(socket, group) == 0)
        host.advance()
        #expect(host.reports() == [Report(0x22, to: .ipv4(224, 0, 0, 22), [.init(type: 3, group: group), .init(type: 4, group: other)])])
        #expect(host.reports(within: 2_000).map(\.report) == [.newest(3, group)])
        host.end()
    }

    /// RFC 3376 section 5, RFC 3810 section 6.
    @Test func theGroupsOfAllHostsAreNeverReported() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        for group in [allHosts, .allNodes, IPAddress("ff01::1234")!, IPAddress("ff10::1")!] { #expect(host.stack.joinGroup(socket, group) == 0) }
        host.receive(igmpQuery(code: 10, newest: ordinary))
        host.receive(igmpQuery(allHosts, code: 10, newest: ordinary))
        #expect(host.reports(within: 2_000).isEmpty)
        host.stack.closeDatagram(socket)
        #expect(host.reports(within: 2_000).isEmpty)
        host.end()
    }

    @Test func sixtyFourGroupsOfEitherFamilyAreReportedInPacketsThatEveryLinkTakes() throws {
        let host = try LowerHost.ipv6()
        var groups: Set<IPAddress> = []
        for number in 0..<60 {
            let group = number < 30 ? IPAddress.ipv4(239, 0, 0, UInt8(number)) : IPAddress("ff05::\(number)")!
            let socket = host.boundSocket(UInt16(5_000 + number), address: group.isIPv4 ? .unspecifiedIPv4 : .unspecifiedIPv6)
            #expect(host.stack.joinGroup(socket, group) == 0)
            groups.insert(group)
        }
        host.advance()
        let frames = host.output()
        #expect(frames.allSatisfy { $0.count <= 14 + 576 || $0.count <= 14 + 1_280 && number($0, at: 12) == 0x86dd })
        #expect(Set(frames.compactMap(Report.init).flatMap(\.records).map(\.group)).isSuperset(of: groups))
        host.end()
    }

    @Test func groupsThatAreLeftLeaveNoRoomTaken() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        for number in 0..<1_000 {
            let group = IPAddress.ipv4(239, 1, UInt8(number >> 8), UInt8(number & 0xff))
            #expect(host.stack.joinGroup(socket, group) == 0 && host.stack.leaveGroup(socket, group) == 0)
        }
        host.advance()
        // 64 members and 32 that are being left.
        #expect(host.reports().flatMap(\.records).count == 96)
        host.end()
    }

    // MARK: Queries

    /// RFC 3376 section 5.2, RFC 3810 sections 6.2 and 6.3: within the time that the query gives, by a random delay.
    @Test(arguments: [group, group6]) func aGeneralQueryIsAnsweredWithAllGroupsInTime(group: IPAddress) throws {
        var delays: Set<Int> = []
        for seed in 0..<8 {
            let host = try LowerHost.ipv6 { $0.seed = UInt64(seed) }
            _ = host.settledMemberOf(group)
            host.receive(group.isIPv4 ? igmpQuery(code: 20, newest: ordinary) : mldMessage(code: 2_000, newest: ordinary))
            let answers = host.reports(within: 4_000)
            #expect(answers.count == 1 && answers.first!.after <= 2_001)
            #expect(answers.first?.report.records.contains(.init(type: 2, group: group)) ?? false)
            #expect(answers.first?.report.records.count == (group.isIPv4 ? 1 : 2))
            delays.insert(answers.first?.after ?? 0)
        }
        #expect(delays.count > 4)
    }

    /// RFC 3376 section 4.1.1: a mantissa and an exponent.
    @Test func aLongTimeIsAFloatingPointNumber() throws {
        var longest = 0
        for seed in 0..<8 {
            let host = try LowerHost { $0.seed = UInt64(seed) }
            _ = host.settledMemberOf(group)
            // (0xf | 0x10) << 3 tenths of a second: 24.8 s.
            host.receive(igmpQuery(code: 0x8f, newest: ordinary))
            let answers = host.reports(within: 26_000)
            #expect(answers.count == 1 && answers.first!.after <= 24_801)
            longest = max(longest, answers.first?.after ?? 0)
        }
        #expect(longest > 12_700)
    }

    @Test(arguments: [group, group6]) func aQueryAboutAGroupIsAnsweredByItsMembersAlone(group: IPAddress) throws {
        let host = try LowerHost.ipv6()
        _ = host.settledMemberOf(group)
        let other = group.isIPv4 ? IPAddress.ipv4(239, 7, 7, 7) : IPAddress("ff12::7")!
        func ask(_ group: IPAddress, _ destination: IPAddress? = nil) {
            host.receive(
                group.isIPv4
                    ? igmpQuery(group, code: 10, newest: ordinary, destination: destination)
                    : mldMessage(130, group, code: 1_000, newest: ordinary, destination: destination))
        }
        ask(other, group)
        #expect(host.reports(within: 2_000).isEmpty)
        ask(group)
        // A second one is answered together with it.
        ask(group)
        let answers = host.reports(within: 2_000)
        #expect(answers.map(\.report) == [.newest(2, group)] && answers.first!.after <= 1_001)
        host.end()
    }

    /// RFC 3376 section 5.2: the pending response's sources are augmented, and a query about the whole group takes their place.
    @Test(arguments: [group, group6]) func aQueryAboutSourcesIsAnsweredForThem(group: IPAddress) throws {
        let host = try LowerHost.ipv6 { $0.limits.queriedSources = 3 }
        _ = host.settledMemberOf(group)
        let sources = (1...4).map { group.isIPv4 ? IPAddress.ipv4(192, 0, 2, UInt8($0)) : IPAddress("2001:db8:1::\($0)")! }
        func ask(_ sources: [IPAddress]) {
            let list = sources.flatMap { group.isIPv4 ? ipv4Bytes($0) : ipv6Bytes($0) }
            let fields = [2, 125] + bigEndian(UInt16(sources.count)) + list
            host.receive(group.isIPv4 ? igmpQuery(group, code: 10, newest: fields) : mldMessage(130, group, code: 1_000, newest: fields))
        }
        func answers() -> [Report] { host.reports(within: 1_100).map(\.report) }
        ask(Array(sources[0..<2]))
        #expect(answers() == [.newest(1, group, Array(sources[0..<2]))])
        ask(Array(sources[0..<2]))
        ask(Array(sources[1..<3]))
        #expect(answers() == [.newest(1, group, Array(sources[0..<3]))])
        ask(Array(sources[0..<2]))
        ask([])
        #expect(answers() == [.newest(2, group)])
        ask([])
        ask(Array(sources[0..<2]))
        #expect(answers() == [.newest(2, group)])
        // More than there is room for: the group as a whole.
        ask(sources)
        #expect(answers() == [.newest(2, group)])
        host.end()
    }

    /// RFC 3376 section 4.1.6: the querier says how often a change is told.
    @Test func theQueriersRobustnessIsTakenOver() throws {
        let host = try LowerHost()
        host.receive(igmpQuery(code: 1, newest: [4, 125, 0, 0]))
        host.advance(milliseconds: 200)
        #expect(host.stack.joinGroup(host.boundSocket(1), group) == 0)
        #expect(host.reports(within: 5_000).map(\.report) == [Report](repeating: .newest(4, group), count: 4))
        // Zero says nothing.
        host.receive(igmpQuery(code: 1, newest: [0, 125, 0, 0]))
        #expect(host.stack.joinGroup(host.boundSocket(2), .ipv4(239, 0, 0, 2)) == 0)
        #expect(host.reports(within: 5_000).count == 4 + 1)
        host.end()
    }

    // MARK: Older versions

    /// RFC 2236 section 3, RFC 3376 section 7.2.1.
    @Test func aQuerierOfVersion2GetsReportsOfVersion2() throws {
        let host = try LowerHost()
        let socket = host.settledMemberOf(group)
        host.receive(igmpQuery(code: 100))
        let answers = host.reports(within: 12_000)
        #expect(answers.map(\.report) == [.older(0x16, group)] && answers.first!.after <= 10_001)
        let second = host.memberOf(.ipv4(239, 0, 0, 9), port: 5_001)
        let joined = host.reports(within: 12_000)
        #expect(joined.map(\.report) == [Report](repeating: .older(0x16, .ipv4(239, 0, 0, 9)), count: 2) && joined.first!.after == 1)
        #expect(host.stack.leaveGroup(socket, group) == 0)
        #expect(host.reports(within: 12_000).map(\.report) == [.older(0x17, group, to: .ipv4(224, 0, 0, 2))])
        // RFC 3376 section 8.12: 2 times 125 s, and 10 s.
        host.advance(seconds: 260)
        #expect(host.stack.leaveGroup(second, .ipv4(239, 0, 0, 9)) == 0)
        #expect(host.reports(within: 2_000).first?.report == .newest(3, .ipv4(239, 0, 0, 9)))
        host.end()
    }

    /// RFC 2236 section 4, RFC 1112 appendix I: no leave, and ten seconds.
    @Test func aQuerierOfVersion1GetsReportsOfVersion1() throws {
        let host = try LowerHost()
        let socket = host.settledMemberOf(group)
        host.receive(igmpQuery(code: 0))
        let answers = host.reports(within: 12_000)
        #expect(answers.map(\.report) == [.older(0x12, group)] && answers.first!.after <= 10_001)
        // Of two queriers the older one counts.
        host.receive(igmpQuery(code: 10))
        #expect(host.reports(within: 1_100).map(\.report) == [.older(0x12, group)])
        #expect(host.stack.leaveGroup(socket, group) == 0)
        #expect(host.reports(within: 12_000).isEmpty)
        host.end()
    }

    /// RFC 2710 section 4, RFC 3810 section 8.2.1.
    @Test func aQuerierOfMLDVersion1GetsReportsOfVersion1() throws {
        let host = try LowerHost.ipv6()
        let socket = host.settledMemberOf(group6)
        host.receive(mldMessage(code: 1_000))
        let answers = host.reports(within: 1_500)
        #expect(answers.count == 2 && answers.allSatisfy { $0.report.type == 131 && $0.report.destination == $0.report.records[0].group })
        #expect(answers.contains { $0.report == .older(131, group6) })
        #expect(host.stack.leaveGroup(socket, group6) == 0)
        #expect(host.reports(within: 12_000).map(\.report) == [.older(132, group6, to: IPAddress("ff02::2")!)])
        host.advance(seconds: 260)
        _ = host.memberOf(group6, port: 5_001)
        host.advance()
        #expect(host.reports() == [.newest(4, group6)])
        host.end()
    }

    /// RFC 2236 section 3, RFC 2710 section 4: one report is enough, and whose was not the last one says nothing when it leaves.
    @Test(arguments: [group, group6]) func anotherHostsReportStandsForOurs(group: IPAddress) throws {
        let host = try LowerHost.ipv6()
        let socket = host.settledMemberOf(group)
        let query = group.isIPv4 ? igmpQuery(group, code: 100) : mldMessage(130, group, code: 10_000)
        let report = group.isIPv4 ? igmpReport(0x16, group) : mldMessage(131, group)
        host.receive(query)
        host.receive(report)
        #expect(host.reports(within: 12_000).isEmpty)
        #expect(host.stack.leaveGroup(socket, group) == 0)
        #expect(host.reports(within: 12_000).isEmpty)
        host.end()
    }

    /// RFC 3376 section 7.2.2: in version 3 all hosts report, as switches and routers count them.
    @Test func inVersion3NothingIsSuppressed() throws {
        let host = try LowerHost()
        _ = host.settledMemberOf(group)
        host.receive(igmpQuery(code: 10, newest: ordinary))
        host.receive(igmpReport(0x16, group))
        #expect(host.reports(within: 1_100).map(\.report) == [.newest(2, group)])
        host.end()
    }

    // MARK: Bad input

    @Test func whatDoesNotComeFromTheLinkOrIsMalformedIsCountedAndDropped() throws {
        let host = try LowerHost()
        let member = host.settledMemberOf(group)
        var damaged = igmpQuery(code: 10, newest: ordinary)
        damaged[damaged.count - 1] ^= 1
        let bad = [
            igmpQuery(code: 10, newest: ordinary, timeToLive: 2), igmpQuery(code: 10, newest: ordinary, source: .ipv4(192, 0, 2, 1)), damaged,
            igmpQuery(code: 10, newest: [2, 125]), igmpQuery(.ipv4(10, 0, 0, 9), code: 10, destination: allHosts),
            // It promises a source that is not there, and asks for sources of no group.
            igmpQuery(group, code: 10, newest: [2, 125, 0, 2, 192, 0, 2, 1]), igmpQuery(code: 10, newest: [2, 125, 0, 1, 192, 0, 2, 1]),
            router.ipv4(2, [0x11, 0, 0], destination: allHosts, options: alert, timeToLive: 1, to: allHosts.multicastMACAddress),
        ]
        for (index, query) in bad.enumerated() {
            host.receive(query)
            #expect(host.drops(.badGroupMessage) == UInt64(index) + 1)
        }
        #expect(host.reports(within: 12_000).isEmpty)
        // Switches query without an address (RFC 4541).
        host.receive(igmpQuery(code: 10, newest: ordinary, source: .unspecifiedIPv4))
        #expect(host.reports(within: 1_100).count == 1)
        // Nobody is told that another type is not known.
        host.receive(router.ipv4(2, router.withChecksum([0x99, 0, 0, 0, 0, 0, 0, 0]), timeToLive: 1))
        #expect(host.output().isEmpty && host.drops(.unmatchedControlMessage) == 1)
        #expect(!host.stack.hasDatagram(member))
        host.end()
    }

    /// RFC 3810 section 6.2.
    @Test func aQueryOfMLDThatDoesNotComeFromTheLinkIsCountedAndDropped() throws {
        let host = try LowerHost.ipv6()
        _ = host.settledMemberOf(group6)
        let bad = [
            mldMessage(code: 1_000, newest: ordinary, hopLimit: 2), mldMessage(code: 1_000, newest: ordinary, source: router6.address),
            mldMessage(code: 1_000, newest: ordinary, hasAlert: false), mldMessage(code: 1_000, newest: [2, 125]),
            mldMessage(130, group6, code: 1_000, newest: [2, 125, 0, 1] + ipv6Bytes(router6.address).dropLast()),
            mldMessage(131, group6, hopLimit: 2),
        ]
        for (index, query) in bad.enumerated() {
            host.receive(query)
            #expect(host.drops(.badGroupMessage) == UInt64(index) + 1)
        }
        #expect(host.reports(within: 12_000).isEmpty)
        host.end()
    }

    @Test func aFloodOfQueriesIsDroppedAndGetsNoFloodOfReports() throws {
        let host = try LowerHost { $0.limits.groupQueriesPerSecond = 10 }
        _ = host.settledMemberOf(group)
        for _ in 0..<1_000 { host.receive(igmpQuery(group, code: 0, newest: ordinary)) }
        #expect(host.drops(.groupQueryRateLimited) == 990)
        #expect(host.reports(within: 1_000).count == 1)
        host.end()
    }

    /// A group in an old report or a query that nobody here has joined leaves no trace.
    @Test func groupsOfOthersTakeNoRoom() throws {
        let host = try LowerHost()
        _ = host.settledMemberOf(group)
        host.receive(igmpQuery(code: 100))
        for number in 0..<200 {
            host.receive(igmpReport(0x16, .ipv4(239, 3, 0, UInt8(number))))
            host.receive(igmpQuery(.ipv4(239, 3, 0, UInt8(number)), code: 1, destination: allHosts))
        }
        #expect(host.reports(within: 12_000).map(\.report) == [.older(0x16, group)])
        host.end()
    }
}
