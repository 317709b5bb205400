import DatapathMemory
import TaskScheduler
import WireFormats

/// A group that routers and snooping switches are told of.
struct GroupMembership {
    var address: IPAddress
    /// Sockets and addresses of the interface that want it; 0 while routers are being told that nobody does any more.
    var listeners: Int
    /// Times that the latest change is still told.
    var changesLeft: UInt8 = 0
    /// Whether the last report that routers have seen came from this host, as far as it knows: then they wait for its leave (older versions).
    var isLastReporter = false
    /// When the group is reported because a query has asked for it.
    var responseDeadline = UInt64.max
    /// Sources that the query was about; 0 where it was about the group.
    var sourceCount = 0
}

/// What one family tells routers of the groups that this host listens to (IGMP, MLD): who has to be told what and when. It has one timer, armed for the
/// earliest of its deadlines.
struct GroupMemberships {
    let isIPv4: Bool
    let groups: UnsafeMutablePointer<GroupMembership>
    private(set) var count = 0
    let capacity: Int
    /// For each group as many sources as `NetworkLimits.queriedSources` says.
    private let sources: UnsafeMutablePointer<IPAddress>
    let sourceCapacity: Int

    /// The version that routers were last known to need, and until when they need one that is older than the present one.
    var version: GroupProtocol
    var firstVersionUntil: UInt64 = 0
    var secondVersionUntil: UInt64 = 0
    /// Of the querier, which all hosts take over.
    //= RFC 3376 section 8.1
    //# The Robustness Variable allows tuning for the expected packet loss on a network. Default: 2
    //= RFC 3810 section 9.1
    //# The Robustness Variable allows tuning for the expected packet loss on a link. Default value: 2.
    var robustness: UInt8 = 2
    //= RFC 3376 section 8.2
    //# The Query Interval is the interval between General Queries sent by the Querier. Default: 125 seconds.
    var queryInterval: UInt64 = 125_000_000_000

    var changeDeadline = UInt64.max
    var generalDeadline = UInt64.max
    var timer = TimerIdentifier.none
    var timerDeadline = UInt64.max
    var queries: TokenBucket

    /// Groups that are being left at once; beyond them the leave of one is not told again.
    static let maximumLeaving = 32

    init(isIPv4: Bool, _ configuration: NetworkConfiguration) throws(DemikernelError) {
        self.isIPv4 = isIPv4
        let limits = configuration.limits
        // Those of sockets, and the solicited-node group of every address.
        capacity = MulticastGroups.capacity + (isIPv4 || !configuration.speaksIPv6 ? 0 : limits.maximumAddresses) + GroupMemberships.maximumLeaving
        sourceCapacity = limits.queriedSources
        groups = .allocate(capacity: capacity)
        do {
            sources = try mapTable(IPAddress.self, count: max(capacity * sourceCapacity, 1))
        } catch {
            groups.deallocate()
            throw error
        }
        version = isIPv4 ? .igmpv3 : .mldv2
        queries = TokenBucket(perSecond: limits.groupQueriesPerSecond, burst: limits.groupQueriesPerSecond)
    }

    func deallocate() {
        groups.deallocate()
        unmapTable(sources, count: max(capacity * sourceCapacity, 1))
    }

    /// Where a group stands; nil for one that nobody listens to or has left lately. O(groups).
    func index(of address: IPAddress) -> Int? {
        for index in 0..<count where groups[index].address == address { return index }
        return nil
    }

    /// The sources that a query about a group has named.
    func sources(_ index: Int) -> UnsafeMutablePointer<IPAddress> { sources + index * sourceCapacity }

    /// A new group. There is room, as those that listen are limited, and of those being left one is forgotten.
    mutating func add(_ address: IPAddress) -> Int {
        if count == capacity, let left = (0..<count).first(where: { groups[$0].listeners == 0 }) { remove(left) }
        precondition(count < capacity, "more groups than sockets and addresses can have")
        (groups + count).initialize(to: GroupMembership(address: address, listeners: 0))
        count += 1
        return count - 1
    }

    mutating func remove(_ index: Int) {
        count -= 1
        guard index != count else { return }
        groups[index] = groups[count]
        sources(index).update(from: sources(count), count: groups[index].sourceCount)
    }

    /// Which version reports have to be of.
    //= RFC 3376 section 7.2.1
    //# When Host Compatibility Mode is IGMPv3, a host acts using the IGMPv3 protocol on that interface.
    func currentVersion(now: UInt64) -> GroupProtocol {
        if now < firstVersionUntil { return .igmpv1 }
        if now < secondVersionUntil { return isIPv4 ? .igmpv2 : .mldv1 }
        return isIPv4 ? .igmpv3 : .mldv2
    }

    /// The longest time between two of the reports that tell a change.
    //= RFC 3376 section 8.11
    //# The Unsolicited Report Interval is the time between repetitions of a host's initial report of membership in a group. Default: 1 second.
    //= RFC 3810 section 9.11
    //# The Unsolicited Report Interval is the time between repetitions of a node's initial report of interest in a multicast address. Default value: 1
    //# second.
    //= RFC 2236 section 8.10
    //# The Unsolicited Report Interval is the time between repetitions of a host's initial report of membership in a group. Default: 10 seconds.
    var unsolicitedInterval: UInt64 { version.reportsSources ? 1_000_000_000 : 10_000_000_000 }
}
