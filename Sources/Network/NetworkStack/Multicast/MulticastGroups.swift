import Glibc
import WireFormats

/// The groups that sockets have joined. There are at most 64, so that those of a socket are the bits of a word.
struct MulticastGroups {
    struct Group {
        var address: IPAddress
        /// The sockets that have joined it.
        var members: Int
    }

    /// Places of groups.
    static let capacity = 64

    private let groups: UnsafeMutablePointer<Group>
    /// The places that have one.
    private(set) var used: UInt64 = 0

    init() {
        groups = .allocate(capacity: MulticastGroups.capacity)
        groups.initialize(repeating: Group(address: .unspecifiedIPv4, members: 0), count: MulticastGroups.capacity)
    }

    func deallocate() {
        groups.deallocate()
    }

    /// The place of a group that somebody has joined. O(number of groups).
    func index(of address: IPAddress) -> Int? {
        var rest = used
        while rest != 0 {
            let index = rest.trailingZeroBitCount
            if groups[index].address == address { return index }
            rest &= rest &- 1
        }
        return nil
    }

    func address(_ index: Int) -> IPAddress { groups[index].address }

    /// One more member of a group; nil where there are `limit` others.
    mutating func join(_ address: IPAddress, limit: Int) -> Int? {
        if let index = index(of: address) {
            groups[index].members += 1
            return index
        }
        guard used.nonzeroBitCount < limit else { return nil }
        let index = (~used).trailingZeroBitCount
        groups[index] = Group(address: address, members: 1)
        used |= 1 << UInt64(index)
        return index
    }

    /// One member less; the group is gone with the last one.
    mutating func leave(_ index: Int) {
        groups[index].members -= 1
        if groups[index].members == 0 { used &= ~(1 << UInt64(index)) }
    }
}

/// Membership in groups, for the library that gives sockets to programs.
extension NetworkStack {
    /// Lets a socket take the datagrams to a group that come to its port, and has routers told of it. It goes on until `leaveGroup`, or until the socket is
    /// closed. O(groups).
    /// - Returns: 0, or an errno: `EINVAL` for an address of no group, `EAFNOSUPPORT` for a group of another family than the socket's, `ENODEV` without
    ///   an address of its family on the interface, `EADDRINUSE` for a member, `ENOBUFS` at `NetworkLimits.multicastGroups` or
    ///   `multicastGroupsOfSocket`.
    //= RFC 1122 section 3.3.7
    //# A host SHOULD support local IP multicasting on all connected networks for which a mapping from Class D IP addresses to link-layer addresses has been
    //# specified.
    //= RFC 1112 section 7.1
    //# The JoinHostGroup operation requests that this host become a member of the host group identified by "group-address" on the given network interface.
    public func joinGroup(_ socket: UInt32, _ group: IPAddress) -> Int32 {
        let s = datagramSocket(socket)
        let limits = state.pointee.configuration.limits
        guard group.isMulticast else { return EINVAL }
        guard speaks(s, to: group) else { return EAFNOSUPPORT }
        guard group.isIPv4 ? state.pointee.routing.addressCount > 0 : state.pointee.ipv6.isEnabled else { return ENODEV }
        guard !isMember(socket, of: group) else { return EADDRINUSE }
        guard s.pointee.groups.nonzeroBitCount < limits.multicastGroupsOfSocket, let index = state.pointee.groups.join(group, limit: limits.multicastGroups)
        else { return ENOBUFS }
        s.pointee.groups |= 1 << UInt64(index)
        listen(to: group)
        return 0
    }

    /// Takes `joinGroup` back.
    /// - Returns: 0, or `EADDRNOTAVAIL` for a socket that is no member.
    //= RFC 1112 section 7.1
    //# The LeaveHostGroup operation requests that this host give up its membership in the host group identified by "group-address" on the given network
    //# interface.
    public func leaveGroup(_ socket: UInt32, _ group: IPAddress) -> Int32 {
        let s = datagramSocket(socket)
        guard let index = state.pointee.groups.index(of: group), s.pointee.groups >> UInt64(index) & 1 != 0 else { return EADDRNOTAVAIL }
        s.pointee.groups &= ~(1 << UInt64(index))
        state.pointee.groups.leave(index)
        stopListening(to: group)
        return 0
    }

    /// Whether the socket has joined the group.
    public func isMember(_ socket: UInt32, of group: IPAddress) -> Bool {
        state.pointee.groups.index(of: group).map { datagramSocket(socket).pointee.groups >> UInt64($0) & 1 != 0 } ?? false
    }

    /// Ends the membership of a socket that is closed.
    func leaveGroups(_ s: DatagramSocketPointer) {
        while s.pointee.groups != 0 {
            let index = s.pointee.groups.trailingZeroBitCount
            let group = state.pointee.groups.address(index)
            state.pointee.groups.leave(index)
            stopListening(to: group)
            s.pointee.groups &= s.pointee.groups &- 1
        }
    }

    /// Whether packets to a group are received: a socket has joined it, or it is that of all hosts.
    //= RFC 1112 section 4
    //# The address 224.0.0.1 is assigned to the permanent group of all IP hosts (including gateways).
    func isHostMember(of group: IPAddress) -> Bool {
        if group == .allHosts || state.pointee.groups.index(of: group) != nil { return true }
        return !group.isIPv4 && state.pointee.ipv6.isMember(group)
    }
}
