import WireFormats

/// What a host has to tell routers of the groups that it listens to: changes at once and again, and answers to queries in their time, in the version that
/// the querier speaks.
struct GroupConduct {
    private var families: [Bool: Family] = [:]

    private struct Family {
        /// Groups that the host has said it listens to, and not been silent about since for a reason.
        var joined: Set<IPAddress> = []
        /// Changes that have been told once, and until when they have to be told again.
        var repeats: [IPAddress: (record: GroupRecordType, deadline: UInt64)] = [:]
        /// Until when a query has to be answered for a group.
        var answers: [IPAddress: UInt64] = [:]
        /// When a query of an older version last came.
        var olderQuerierAt: UInt64?
    }

    /// A host believes an older querier for longer than this: twice the query interval of 125 s.
    private static let trust: UInt64 = 250_000_000_000
    /// And for no longer than this: the time that a query gives for answers comes on top.
    private static let longestTrust: UInt64 = trust + 10_000_000_000

    /// What a packet of IGMP or MLD says.
    private enum Message {
        case query(GroupQuery)
        /// In the newest version.
        case report([(type: GroupRecordType, group: IPAddress)])
        case olderReport(IPAddress)
        case leave(IPAddress)
    }

    /// The time is `time` now.
    mutating func settle(_ time: UInt64) -> String? {
        for isIPv4 in families.keys {
            if let late = families[isIPv4]!.answers.first(where: { $0.value < time }) {
                families[isIPv4]!.answers[late.key] = nil
                //= RFC 3376 section 5.2
                //# When a system receives a Query, it does not respond immediately. Instead, it delays its response by a random amount of time, bounded by the
                //# Max Resp Time value
                return "did not answer a query about \(late.key) in its time"
            }
            if let late = families[isIPv4]!.repeats.first(where: { $0.value.deadline < time }) {
                families[isIPv4]!.repeats[late.key] = nil
                //= RFC 3376 section 5.1
                //# To cover the possibility of the State-Change Report being missed by one or more multicast routers, it is retransmitted
                return "told of a change of \(late.key) once"
            }
        }
        return nil
    }

    /// The host has got a packet.
    mutating func received(_ packet: PacketView, at time: UInt64) {
        //= RFC 3376 section 4
        //# Every IGMP message described in this document is sent with an IP Time-to-Live of 1
        //= RFC 3810 section 6.2
        //# Upon reception of an MLD message that contains a Query, the node checks if the source address of the message is a valid link-local address, if the
        //# Hop Limit is set to 1, and if the Router Alert option is present in the Hop-By-Hop Options header of the IPv6 packet. If any of these checks
        //# fails, the packet is dropped.
        guard packet.isHeaderChecksumValid, packet.hopLimit == 1, packet.isIPv4 || packet.source.isLinkLocal && packet.hasRouterAlert,
            let message = GroupConduct.message(packet)
        else { return }
        with(packet.isIPv4) { family in
            switch message {
            case .query(let query):
                if !query.version.reportsSources {
                    // What was to be told in the newest version is forgotten with the first of them; and who has not reported a group since need not say
                    // that it leaves.
                    if family.olderQuerierAt.map({ time - $0 > GroupConduct.trust }) ?? true { family = Family() }
                    family.olderQuerierAt = time
                    // In the first version nobody says so.
                    if query.version == .igmpv1 { family.joined = [] }
                }
                for group in family.joined where query.isGeneral || query.group == group {
                    family.answers[group] = min(family.answers[group] ?? .max, time + query.maximumResponseTime)
                }
            case .olderReport(let group):
                //= RFC 3376 section 7.2.2
                //# A host MAY allow its IGMPv3 Membership Record to be suppressed by either a Version 1 Membership Report, or a Version 2 Membership Report.
                // It does not: another host's report is nothing to one that has heard no older querier.
                guard family.olderQuerierAt.map({ time - $0 <= GroupConduct.longestTrust }) ?? false else { return }
                // It stands for the host's own, and routers need not be told when the host leaves.
                (family.answers[group], family.repeats[group]) = (nil, nil)
                family.joined.remove(group)
            case .report, .leave: break
            }
        }
    }

    /// The host sends a packet.
    mutating func transmitted(_ packet: PacketView, at time: UInt64) -> String? {
        guard let message = GroupConduct.message(packet) else { return nil }
        //= RFC 3376 section 4
        //# Every IGMP message described in this document is sent with an IP Time-to-Live of 1, IP Precedence of Internetwork Control (e.g., Type of Service
        //# 0xc0), and carries an IP Router Alert option in its IP header.
        guard packet.hopLimit == 1, packet.hasRouterAlert else { return "told of groups with a hop limit of \(packet.hopLimit), or without a router alert" }
        var complaint: String?
        with(packet.isIPv4) { family in
            let isOlder = family.olderQuerierAt.map { time > $0 && time - $0 < GroupConduct.trust } ?? false
            switch message {
            case .query: complaint = "sent a query about groups"
            case .report(let records):
                if isOlder { complaint = "reported groups in a version that the querier does not speak" }
                if packet.destination != (packet.isIPv4 ? .allIGMPv3Routers : .allMLDv2Routers) { complaint = "a report of groups to \(packet.destination)" }
                for record in records { complaint = GroupConduct.take(record.type, record.group, &family, at: time) ?? complaint }
            case .olderReport(let group):
                if packet.destination != group { complaint = "a report of \(group) to \(packet.destination)" }
                complaint = GroupConduct.complaint(about: group) ?? complaint
                family.answers[group] = nil
                family.joined.insert(group)
            case .leave(let group):
                family.answers[group] = nil
                family.joined.remove(group)
            }
        }
        return complaint
    }

    private static func take(_ type: GroupRecordType, _ group: IPAddress, _ family: inout Family, at time: UInt64) -> String? {
        if let complaint = complaint(about: group) { return complaint }
        switch type {
        case .modeIsExclude, .modeIsInclude: family.answers[group] = nil
        case .changeToExclude, .changeToInclude:
            if family.repeats[group]?.record == type {
                family.repeats[group] = nil
                return nil
            }
            // The querier may ask for more than one repetition: those are no news.
            let isNews = (type == .changeToExclude) != family.joined.contains(group)
            if isNews { family.repeats[group] = (type, time + 1_000_000_000) }
            if type == .changeToExclude {
                family.joined.insert(group)
            } else {
                family.joined.remove(group)
                family.answers[group] = nil
            }
        }
        return nil
    }

    //= RFC 3376 section 5
    //# No IGMP messages are ever sent regarding the all-systems multicast address.
    //= RFC 3810 section 6
    //# No MLD messages are ever sent regarding neither the link-scope all-nodes multicast address, nor any multicast address of scope 0 (reserved) or 1
    //# (node-local).
    private static func complaint(about group: IPAddress) -> String? {
        guard group.isMulticast else { return "told of \(group), which is no group" }
        let isForAll = group.isIPv4 ? group == .allHosts : group == .allNodes || group.words.0 >> 8 & 0xf < 2
        return isForAll ? "told of \(group), which every host listens to" : nil
    }

    private mutating func with(_ isIPv4: Bool, _ body: (inout Family) -> Void) { body(&families[isIPv4, default: Family()]) }

    private static func message(_ packet: PacketView) -> Message? {
        if packet.isIPv4 {
            guard packet.protocolNumber == IPProtocol.igmp, let message = IGMPView(packet.payload, count: packet.payloadByteCount), message.isChecksumValid
            else { return nil }
            switch message.type {
            case IGMPType.membershipQuery: return message.query.map(Message.query)
            case IGMPType.version1Report, IGMPType.version2Report: return .olderReport(message.group)
            case IGMPType.leaveGroup: return .leave(message.group)
            case IGMPType.version3Report: return .report(records(packet, addressByteCount: 4))
            default: return nil
            }
        }
        guard packet.protocolNumber == IPProtocol.icmpv6, let message = ICMPv6View(packet.payload, count: packet.payloadByteCount),
            message.isChecksumValid(source: packet.source, destination: packet.destination)
        else { return nil }
        switch message.type {
        case ICMPv6Type.multicastListenerQuery: return GroupQuery(mld: message).map(Message.query)
        case ICMPv6Type.multicastListenerReportVersion1 where message.count >= 24: return .olderReport(IPAddress(ipv6At: message.base + 8))
        case ICMPv6Type.multicastListenerDone where message.count >= 24: return .leave(IPAddress(ipv6At: message.base + 8))
        case ICMPv6Type.multicastListenerReport: return .report(records(packet, addressByteCount: 16))
        default: return nil
        }
    }

    /// The records of a report, up to its end or the first one that is none.
    static func records(_ packet: PacketView, addressByteCount: Int) -> [(type: GroupRecordType, group: IPAddress)] {
        let bytes = UnsafeRawBufferPointer(start: packet.payload, count: packet.payloadByteCount)
        var records: [(type: GroupRecordType, group: IPAddress)] = []
        var offset = 8
        while bytes.count - offset >= 4 + addressByteCount, let type = GroupRecordType(rawValue: bytes[offset]) {
            let sources = Int(bytes[offset + 2]) << 8 | Int(bytes[offset + 3])
            let address = packet.payload + offset + 4
            records.append((type, addressByteCount == 4 ? IPAddress(ipv4Raw: address.loadUnaligned(as: UInt32.self)) : IPAddress(ipv6At: address)))
            offset += 4 + addressByteCount * (1 + sources)
        }
        return records
    }
}
