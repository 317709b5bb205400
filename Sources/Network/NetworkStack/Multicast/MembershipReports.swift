import DatapathMemory
import TaskScheduler
import WireFormats

typealias GroupMembershipsPointer = UnsafeMutablePointer<GroupMemberships>

/// Tells multicast routers and snooping switches which groups this host listens to: those that sockets have joined, and the solicited-node groups of its
/// IPv6 addresses. What changes is told at once and again, what a query asks for is told within the time that it gives.
///
/// Nobody asks here for single sources: a group is wanted from all of them or not at all.
extension NetworkStack {
    func memberships(_ isIPv4: Bool) -> GroupMembershipsPointer { isIPv4 ? state.pointee.igmp : state.pointee.mld }

    /// Whether routers are told of the group.
    //= RFC 3376 section 5
    //# The all-systems multicast address, 224.0.0.1, is handled as a special case. On all systems -- that is all hosts and routers, including multicast
    //# routers
    //# -- reception of packets destined to the all-systems multicast address, from all sources, is permanently enabled on all interfaces on which multicast
    //# reception is supported. No IGMP messages are ever sent regarding the all-systems multicast address.
    //= RFC 3810 section 6
    //# The link-scope all-nodes multicast address, ff02::1, is handled as a special case. No MLD messages are ever sent regarding neither the link-scope
    //# all-nodes multicast address, nor any multicast address of scope 0 (reserved) or 1 (node-local).
    private func isReported(_ group: IPAddress) -> Bool {
        if DeliberateBug.isPresent(.allHostsReported) { return true }
        return group.isIPv4 ? group != .allHosts : group != .allNodes && group.words.0 >> 8 & 0xf > 1
    }

    /// One more listener to a group.
    //= RFC 3376 section 5.1
    //# A change of interface state causes the system to immediately transmit a State-Change Report from that interface.
    func listen(to group: IPAddress) {
        guard isReported(group) else { return }
        let m = memberships(group.isIPv4)
        settleVersion(m)
        let index = m.pointee.index(of: group) ?? m.pointee.add(group)
        m.pointee.groups[index].listeners += 1
        if m.pointee.groups[index].listeners == 1 { changed(m, index) }
    }

    /// One listener less; the group is left with the last one.
    func stopListening(to group: IPAddress) {
        guard isReported(group) else { return }
        let m = memberships(group.isIPv4)
        settleVersion(m)
        guard let index = m.pointee.index(of: group) else { return }
        m.pointee.groups[index].listeners -= 1
        if m.pointee.groups[index].listeners == 0 { changed(m, index) }
    }

    private func changed(_ m: GroupMembershipsPointer, _ index: Int) {
        //= RFC 3376 section 5.1
        //# To cover the possibility of the State-Change Report being missed by one or more multicast routers, it is retransmitted [Robustness Variable] - 1
        //# more
        //# times, at intervals chosen at random from the range (0, [Unsolicited Report Interval]).
        //= RFC 3810 section 6.1
        //# To cover the possibility of the State Change Report being missed by one or more multicast routers, it is retransmitted [Robustness Variable] - 1
        //# more
        //# times, at intervals chosen at random from the range (0, [Unsolicited Report Interval]).
        m.pointee.groups[index].changesLeft = DeliberateBug.isPresent(.membershipToldOnce) ? 1 : m.pointee.robustness
        m.pointee.groups[index].responseDeadline = .max
        // With all that changes before the stack next runs what is due.
        m.pointee.changeDeadline = state.pointee.now
        armMembershipTimer(m)
    }

    /// Forgets what was to be told, where routers of another version have come or gone.
    //= RFC 3376 section 7.2.1
    //# Whenever a host changes its compatibility mode, it cancels all its pending response and retransmission timers.
    //= RFC 3810 section 8.2.1
    //# Whenever a host changes its compatibility mode, it cancels all its pending responses and retransmission timers.
    func settleVersion(_ m: GroupMembershipsPointer) {
        let version = m.pointee.currentVersion(now: state.pointee.now)
        guard version != m.pointee.version else { return }
        m.pointee.version = version
        m.pointee.changeDeadline = .max
        m.pointee.generalDeadline = .max
        for index in (0..<m.pointee.count).reversed() {
            m.pointee.groups[index].changesLeft = 0
            m.pointee.groups[index].responseDeadline = .max
            m.pointee.groups[index].isLastReporter = false
            if m.pointee.groups[index].listeners == 0 { m.pointee.remove(index) }
        }
    }

    // MARK: Timer

    /// Has the timer fire when the next report is due. O(groups).
    func armMembershipTimer(_ m: GroupMembershipsPointer) {
        var deadline = min(m.pointee.changeDeadline, m.pointee.generalDeadline)
        for index in 0..<m.pointee.count { deadline = min(deadline, m.pointee.groups[index].responseDeadline) }
        guard deadline != m.pointee.timerDeadline else { return }
        state.pointee.timers.cancel(m.pointee.timer)
        m.pointee.timer = .none
        m.pointee.timerDeadline = deadline
        guard deadline != .max else { return }
        // The wheel has a place for it.
        m.pointee.timer =
            state.pointee.timers.arm(
                deadline: max(deadline, state.pointee.now),
                action: { context, argument in
                    let stack = NetworkStack(state: context.assumingMemoryBound(to: StackState.self))
                    stack.membershipTimerFired(stack.memberships(argument == 1))
                }, context: state, argument: m.pointee.isIPv4 ? 1 : 0
            ).unsafelyUnwrapped
    }

    private func membershipTimerFired(_ m: GroupMembershipsPointer) {
        m.pointee.timer = .none
        m.pointee.timerDeadline = .max
        settleVersion(m)
        let now = state.pointee.now
        if m.pointee.changeDeadline <= now { reportChanges(m) }
        if m.pointee.generalDeadline <= now {
            m.pointee.generalDeadline = .max
            //= RFC 3376 section 5.2
            //# If the expired timer is the interface timer (i.e., it is a pending response to a General Query), then one Current-State Record is sent for
            //# each
            //# multicast address for which the specified interface has reception state
            sendMembershipReport(m) { $0.listeners > 0 ? .modeIsExclude : nil }
        }
        for index in 0..<m.pointee.count where m.pointee.groups[index].responseDeadline <= now { answerGroupQuery(m, index) }
        armMembershipTimer(m)
    }

    /// Tells all that has changed lately.
    private func reportChanges(_ m: GroupMembershipsPointer) {
        if m.pointee.version.reportsSources {
            //= RFC 3376 section 5.1
            //# However these records are not transmitted in a message but instead merged with the contents of the pending report, to create the new
            //# State-Change
            //# report.
            sendMembershipReport(m) { $0.changesLeft == 0 ? nil : $0.listeners > 0 ? .changeToExclude : .changeToInclude }
        } else {
            //= RFC 2236 section 3
            //# When a host joins a multicast group, it should immediately transmit an unsolicited Version 2 Membership Report for that group, in case it is
            //# the
            //# first member of that group on the network. To cover the possibility of the initial Membership Report being lost or damaged, it is recommended
            //# that it be repeated once or twice after short delays.
            //= RFC 2710 section 4
            //# When a node starts listening to a multicast address on an interface, it should immediately transmit an unsolicited Report for that address on
            //# that
            //# interface. To cover the possibility of the initial Report being lost or damaged, it is recommended that it be repeated once or twice after
            //# short
            //# delays.
            for index in 0..<m.pointee.count where m.pointee.groups[index].changesLeft > 0 { tellOlderRouters(m, index) }
        }
        var isAnyLeft = false
        for index in (0..<m.pointee.count).reversed() where m.pointee.groups[index].changesLeft > 0 {
            m.pointee.groups[index].changesLeft -= 1
            if m.pointee.groups[index].changesLeft > 0 {
                isAnyLeft = true
            } else if m.pointee.groups[index].listeners == 0 {
                m.pointee.remove(index)
            }
        }
        m.pointee.changeDeadline = isAnyLeft ? state.pointee.now &+ 1 &+ state.pointee.random.next() % m.pointee.unsolicitedInterval : .max
    }

    /// One group's change, as the older versions tell it.
    private func tellOlderRouters(_ m: GroupMembershipsPointer, _ index: Int) {
        guard m.pointee.groups[index].listeners == 0 else { return sendOlderReport(m, index) }
        //= RFC 2236 section 3
        //# When a host leaves a multicast group, if it was the last host to reply to a Query with a Membership Report for that group, it SHOULD send a Leave
        //# Group message to the all-routers multicast group (224.0.0.2). If it was not the last host to reply to a Query, it MAY send nothing as there must
        //# be
        //# another member on the subnet.
        //= RFC 2710 section 4
        //# When a node ceases to listen to a multicast address on an interface, it SHOULD send a single Multicast Listener Done message to the link-scope
        //# all-routers multicast address (FF02::2). If the node's most recent Report message was suppressed by hearing another Report message, it MAY send
        //# nothing
        if m.pointee.version != .igmpv1 && m.pointee.groups[index].isLastReporter { sendLeave(m, m.pointee.groups[index].address) }
        // Routers ask then who is left: once is enough.
        m.pointee.groups[index].changesLeft = 1
    }

    /// Reports a group in the way of the older versions.
    private func sendOlderReport(_ m: GroupMembershipsPointer, _ index: Int) {
        m.pointee.groups[index].isLastReporter = true
        sendOlderReport(m, m.pointee.groups[index].address)
    }

    /// The time that a query about one group has given is over.
    private func answerGroupQuery(_ m: GroupMembershipsPointer, _ index: Int) {
        let group = m.pointee.groups[index]
        m.pointee.groups[index].responseDeadline = .max
        m.pointee.groups[index].sourceCount = 0
        guard group.listeners > 0 else { return }
        guard m.pointee.version.reportsSources else { return sendOlderReport(m, index) }
        //= RFC 3376 section 5.2
        //# If the expired timer is a group timer and the list of recorded sources for the that group is empty (i.e., it is a pending response to a
        //# Group-Specific Query), then if and only if the interface has reception state for that group address, a single Current-State Record is sent for
        //# that
        //# address. If the expired timer is a group timer and the list of recorded sources for that group is non-empty (i.e., it is a pending response to a
        //# Group-and-Source-Specific Query), then if and only if the interface has reception state for that group address, the contents of the responding
        //# Current-State Record is determined from the interface state and the pending response record: EXCLUDE (B), A: IS_IN (A-B)
        //= RFC 3810 section 6.3
        //# If the pending response is to a Multicast Address and Source Specific Query, then, if and only if the interface has listening state for that
        //# address, the contents of the responding Current State Record are determined from the per-interface state and the pending response record
        sendMembershipReport(m, of: group, sources: m.pointee.sources(index))
    }
}
