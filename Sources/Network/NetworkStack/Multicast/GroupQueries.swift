import DatapathMemory
import EthernetDevice
import WireFormats

/// What routers ask about groups, and what other hosts report of them.
extension NetworkStack {
    /// Takes over an IGMP packet.
    func groupMessageInput(_ frame: Frame, _ packet: IPv4View) {
        //= RFC 3376 section 4
        //# Every IGMP message described in this document is sent with an IP Time-to-Live of 1, IP Precedence of Internetwork Control (e.g., Type of Service
        //# 0xc0), and carries an IP Router Alert option in its IP header.
        // A packet that has come over a router has no such time to live. The option is not asked for, as some switches that query leave it out.
        guard let message = IGMPView(packet.payload, count: packet.payloadByteCount), message.isChecksumValid, packet.timeToLive == 1 else {
            return drop(frame, .badGroupMessage)
        }
        // A switch that queries may have no address (RFC 4541, section 2.1.1).
        let source = packet.source
        guard source.isUnspecified || state.pointee.routing.isOnLinkHost(source.ipv4Raw) else { return drop(frame, .badGroupMessage) }
        switch message.type {
        case IGMPType.membershipQuery:
            guard let query = message.query else { return drop(frame, .badGroupMessage) }
            groupQueryInput(frame, state.pointee.igmp, query)
        case IGMPType.version1Report, IGMPType.version2Report: groupReportInput(frame, state.pointee.igmp, message.group)
        //= RFC 3376 section 4
        //# Unrecognized message types MUST be silently ignored.
        default: drop(frame, .unmatchedControlMessage)
        }
    }

    /// Takes over a query or report of MLD, whose checksum is right.
    func listenerMessageInput(_ frame: Frame, _ packet: IPv6View, _ message: ICMPv6View) {
        //= RFC 3810 section 6.2
        //# Upon reception of an MLD message that contains a Query, the node checks if the source address of the message is a valid link-local address, if the
        //# Hop Limit is set to 1, and if the Router Alert option is present in the Hop-By-Hop Options header of the IPv6 packet. If any of these checks
        //# fails,
        //# the packet is dropped.
        guard packet.source.isLinkLocal, packet.hopLimit == 1, IPv6Extensions(packet).hasRouterAlert else { return drop(frame, .badGroupMessage) }
        if message.type == ICMPv6Type.multicastListenerReportVersion1 {
            guard message.count >= 24 else { return drop(frame, .badGroupMessage) }
            return groupReportInput(frame, state.pointee.mld, IPAddress(ipv6At: message.base + 8))
        }
        guard let query = GroupQuery(mld: message) else { return drop(frame, .badGroupMessage) }
        groupQueryInput(frame, state.pointee.mld, query)
    }

    private func groupQueryInput(_ frame: Frame, _ m: GroupMembershipsPointer, _ query: GroupQuery) {
        // Each may be answered with a report.
        //= RFC 3376 section 9.1
        //# To protect against such a DoS attack, a host stack implementation could restrict the number of Group-and-Source-Specific Queries per group
        //# membership
        //# within this interval, and/or record only a limited number of sources.
        guard m.pointee.queries.take(now: state.pointee.now) else { return drop(frame, .groupQueryRateLimited) }
        if !DeliberateBug.isPresent(.olderQuerierIgnored) { noteQuerier(m, query) }
        settleVersion(m)
        if !DeliberateBug.isPresent(.groupQueryIgnored) { schedule(m, query) }
        armMembershipTimer(m)
        frame.releaseArray()
    }

    /// Takes over what a querier says of itself.
    private func noteQuerier(_ m: GroupMembershipsPointer, _ query: GroupQuery) {
        let now = state.pointee.now
        if query.version.reportsSources {
            //= RFC 3376 section 4.1.6
            //# Routers adopt the QRV value from the most recently received Query as their own [Robustness Variable] value, unless that most recently received
            //# QRV was zero
            if query.robustness > 0 { m.pointee.robustness = query.robustness }
            if query.queryInterval > 0 { m.pointee.queryInterval = query.queryInterval }
            return
        }
        //= RFC 3376 section 8.12
        //# The Older Version Querier Interval is the time-out for transitioning a host back to IGMPv3 mode once an older version query is heard. This value
        //# MUST be ((the Robustness Variable) times (the Query Interval in the last Query received)) plus (one Query Response Interval).
        //= RFC 3810 section 9.12
        //# The Older Version Querier Present Timeout is the time-out for transitioning a host back to MLDv2 Host Compatibility Mode. This value MUST be
        //# ([Robustness
        //# Variable] times (the [Query Interval] in the last Query received)) plus ([Query Response Interval]).
        let until = now &+ UInt64(m.pointee.robustness) &* m.pointee.queryInterval &+ max(query.maximumResponseTime, 10_000_000_000)
        //= RFC 3376 section 7.2.1
        //# In order to switch gracefully between versions of IGMP, hosts keep both an IGMPv1 Querier Present timer and an IGMPv2 Querier Present timer per
        //# interface. IGMPv1 Querier Present is set to Older Version Querier Present Timeout seconds whenever an IGMPv1 Membership Query is received.
        //= RFC 3810 section 8.2.1
        //# The Host Compatibility Mode of an interface is set to MLDv1 whenever an MLDv1 Multicast Address Listener Query is received on that interface: in
        //# order to
        //# be compatible with MLDv1 routers, MLDv2 hosts MUST operate in version 1 compatibility mode.
        if query.version == .igmpv1 { m.pointee.firstVersionUntil = until } else { m.pointee.secondVersionUntil = until }
    }

    /// A random time within the one that a query gives.
    //= RFC 3376 section 5.2
    //# When a system receives a Query, it does not respond immediately. Instead, it delays its response by a random amount of time, bounded by the Max Resp
    //# Time
    //# value derived from the Max Resp Code in the received Query message.
    //= RFC 3810 section 6.2
    //# the node delays its response by a random amount of time, bounded by the Maximum Response Delay
    private func responseDeadline(_ query: GroupQuery) -> UInt64 {
        if DeliberateBug.isPresent(.groupQueryAnsweredLate) { return state.pointee.now &+ query.maximumResponseTime &+ 1_000_000_000 }
        return query.maximumResponseTime == 0 ? state.pointee.now : state.pointee.now &+ state.pointee.random.next() % query.maximumResponseTime
    }

    private func schedule(_ m: GroupMembershipsPointer, _ query: GroupQuery) {
        if query.isGeneral && m.pointee.version.reportsSources {
            //= RFC 3376 section 5.2
            //# If there is a pending response to a previous General Query scheduled sooner than the selected delay, no additional response needs to be
            //# scheduled. If
            //# the received Query is a General Query, the interface timer is used to schedule a response to the General Query after the selected delay. Any
            //# previously pending response to a General Query is canceled.
            m.pointee.generalDeadline = min(m.pointee.generalDeadline, responseDeadline(query))
            return
        }
        if query.isGeneral {
            //= RFC 2236 section 3
            //# When a host receives a General Query, it sets delay timers for each group (excluding the all-systems group) of which it is a member on the
            //# interface
            //# from which it received the query. Each timer is set to a different random value
            //= RFC 2710 section 4
            //# When a node receives a General Query, it sets a delay timer for each multicast address to which it is listening on the interface from which it
            //# received the Query. Each timer is set to a different random value
            for index in 0..<m.pointee.count where m.pointee.groups[index].listeners > 0 {
                m.pointee.groups[index].responseDeadline = min(m.pointee.groups[index].responseDeadline, responseDeadline(query))
            }
            return
        }
        guard let index = m.pointee.index(of: query.group), m.pointee.groups[index].listeners > 0 else { return }
        let deadline = responseDeadline(query)
        let isPending = m.pointee.groups[index].responseDeadline != .max
        //= RFC 3376 section 5.2
        //# If the received Query is a Group-Specific Query or a Group-and-Source-Specific Query and there is no pending response to a previous Query for this
        //# group, then the group timer is used to schedule a report. If the received Query is a Group-and-Source-Specific Query, the list of queried sources
        //# is
        //# recorded to be used when generating a response. If there already is a pending response to a previous Query scheduled for this group, and either
        //# the
        //# new Query is a Group-Specific Query or the recorded source-list associated with the group is empty, then the group source-list is cleared and a
        //# single response is scheduled using the group timer. The new response is scheduled to be sent at the earliest of the remaining time for the pending
        //# report and the selected delay. If the received Query is a Group-and-Source-Specific Query and there is a pending response for this group with a
        //# non-empty source-list, then the group source list is augmented to contain the list of sources in the new Query
        m.pointee.groups[index].responseDeadline = min(m.pointee.groups[index].responseDeadline, deadline)
        if query.sourceCount == 0 || isPending && m.pointee.groups[index].sourceCount == 0 {
            m.pointee.groups[index].sourceCount = 0
        } else {
            record(m, index, query, isPending: isPending)
        }
    }

    /// Notes the sources that a query asks about. Where they are too many, the whole group is reported, which says of them all that they are wanted.
    private func record(_ m: GroupMembershipsPointer, _ index: Int, _ query: GroupQuery, isPending: Bool) {
        let sources = m.pointee.sources(index)
        var count = isPending ? m.pointee.groups[index].sourceCount : 0
        for place in 0..<query.sourceCount {
            let source = query.source(place)
            if (0..<count).contains(where: { sources[$0] == source }) { continue }
            guard count < m.pointee.sourceCapacity else {
                count = 0
                break
            }
            sources[count] = source
            count += 1
        }
        m.pointee.groups[index].sourceCount = count
    }

    /// Another host has reported a group in the way of the older versions: one report is enough for routers that speak them.
    private func groupReportInput(_ frame: Frame, _ m: GroupMembershipsPointer, _ group: IPAddress) {
        settleVersion(m)
        //= RFC 2236 section 3
        //# If a host receives another host's Report (version 1 or 2) while it has a timer running, it stops its timer for the specified group and does not
        //# send
        //# a Report, in order to suppress duplicate Reports.
        //= RFC 2710 section 4
        //# If a node receives another node's Report from an interface for a multicast address while it has a timer running for that same address on that
        //# interface, it stops its timer for the specified multicast address and does not send a Report for that address
        //= RFC 3376 section 7.2.2
        //# An IGMPv3 host may be placed on a network where there are hosts that have not yet been upgraded to IGMPv3. A host MAY allow its IGMPv3 Membership
        //# Record to be suppressed by either a Version 1 Membership Report, or a Version 2 Membership Report.
        if !m.pointee.version.reportsSources, let index = m.pointee.index(of: group), m.pointee.groups[index].listeners > 0 {
            m.pointee.groups[index].responseDeadline = .max
            m.pointee.groups[index].changesLeft = 0
            m.pointee.groups[index].isLastReporter = false
            armMembershipTimer(m)
        }
        frame.releaseArray()
    }
}
