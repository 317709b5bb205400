import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// Datagrams to all hosts of a link, and to groups of hosts.
extension NetworkStack {
    /// Whether a socket may send to broadcast addresses, which it may not at first.
    public func setBroadcast(_ socket: UInt32, _ isOn: Bool) {
        let s = datagramSocket(socket)
        if isOn { s.pointee.flags.insert(.sendsBroadcasts) } else { s.pointee.flags.remove(.sendsBroadcasts) }
        // What is ready for a broadcast address asks again.
        s.pointee.templateEpoch = 0
    }

    public func isBroadcast(_ socket: UInt32) -> Bool { datagramSocket(socket).pointee.flags.contains(.sendsBroadcasts) }

    /// Hops that a socket's datagrams to groups make at most: 1 at first, which keeps them on the link; 0 keeps them in the host.
    //= RFC 1112 section 6.1
    //# If the upper-layer protocol chooses not to specify a time-to-live, it should default to 1 for all multicast IP datagrams, so that an explicit choice
    //# is required to multicast beyond a single network.
    public func setMulticastHopLimit(_ socket: UInt32, _ hopLimit: UInt8) {
        datagramSocket(socket).pointee.multicastHopLimit = hopLimit
        datagramSocket(socket).pointee.templateEpoch = 0
    }

    public func multicastHopLimit(_ socket: UInt32) -> UInt8 { datagramSocket(socket).pointee.multicastHopLimit }

    /// Whether members on this host get what a socket sends to their group, as they do at first.
    //= RFC 1112 section 6.1
    //# A service interface should provide a way for an upper-layer protocol to inhibit local delivery of datagrams sent to a host group that the sending host
    //# is a member of.
    public func setMulticastLoop(_ socket: UInt32, _ isOn: Bool) { datagramSocket(socket).pointee.isMulticastLooped = isOn }

    public func multicastLoop(_ socket: UInt32) -> Bool { datagramSocket(socket).pointee.isMulticastLooped }

    // MARK: Receiving

    /// Takes over a UDP packet to a broadcast address or a group: every socket gets it that is bound to the port, takes what comes to any address, and
    /// has joined the group. Those of all hosts need no joining.
    func groupDatagramInput(_ frame: Frame, _ packet: IPv4View) {
        guard let datagram = checkDatagram(frame, packet.base, packet.payload, packet.payloadByteCount) else { return }
        let addresses = packet.rawAddresses
        let ports = packet.payload.loadUnaligned(as: UInt32.self)
        let group = packet.destination.isMulticast ? members(of: packet.destination) : .max
        distribute(frame, packet.base, datagram) { $0.pointee.filter.matches(addresses, ports) && $0.pointee.isMember(group) }
    }

    /// The same for a datagram over IPv6, which has been checked.
    func groupDatagramInput(_ frame: Frame, _ packet: IPv6View, _ datagram: UDPView) {
        let source = Endpoint(address: packet.source, port: datagram.sourcePort)
        let destination = packet.destination
        let group = members(of: destination)
        distribute(frame, packet.base, datagram) { $0.pointee.rank(source: source, destination: destination) > 0 && $0.pointee.isMember(group) }
    }

    /// The bit of a group in `DatagramSocket.groups`; all bits for one that every host is in, 0 for one that no socket has joined.
    private func members(of group: IPAddress) -> UInt64 {
        if group == .allHosts || group == .allNodes { return .max }
        return state.pointee.groups.index(of: group).map { 1 << UInt64($0) } ?? 0
    }

    /// Gives every socket of the port that `takes` it a descriptor of its own of the datagram's bytes. O(sockets of the port). Nobody is told when there
    /// is none.
    //= RFC 1122 section 3.2.2
    //# An ICMP error message MUST NOT be sent as the result of receiving a datagram destined to an IP broadcast or IP multicast address.
    private func distribute(_ frame: Frame, _ packet: UnsafeRawPointer, _ datagram: UDPView, takes: (DatagramSocketPointer) -> Bool) {
        var last: UInt32 = 0
        var socket = state.pointee.datagramPorts[Int(datagram.destinationPort)]
        while socket != 0 {
            let s = state.pointee.datagramSockets[socket]
            if takes(s) {
                if last != 0 { queueShare(frame, packet, datagram, at: last) }
                last = socket
            }
            socket = s.pointee.nextOnPort
        }
        guard last != 0 else { return drop(frame, .noDatagramSocket) }
        queueDatagram(frame, packet, datagram, at: last)
    }

    /// Queues the same bytes once more; the frame stays the caller's.
    private func queueShare(_ frame: Frame, _ packet: UnsafeRawPointer, _ datagram: UDPView, at socket: UInt32) {
        guard let share = frame.makeSlice(offset: 0, byteCount: frame.segmentByteCount) else { return countUnsent(.outOfMemory) }
        queueDatagram(share, packet, datagram, at: socket)
    }

    // MARK: Sending

    /// Sends to the group of the socket's template. The array is taken over when 0 is returned.
    //= RFC 1122 section 3.3.6
    //# When a host sends a datagram to a link-layer broadcast address, the IP destination address MUST be a legal IP broadcast or IP multicast address.
    func sendToGroup(_ s: DatagramSocketPointer, _ array: Frame, _ byteCount: Int) -> Int32 {
        let remote = s.pointee.templateRemote
        let isIPv6 = !remote.address.isIPv4
        let limit =
            isIPv6
            ? state.pointee.ipv6.maximumTransmissionUnit &- IPv6Header.byteCount : state.pointee.maximumTransmissionUnit &- IPv4Header.byteCount
        // Each host would have to put the fragments together.
        guard byteCount &+ UDPHeader.byteCount <= limit else { return EMSGSIZE }
        guard !state.pointee.output.pointee.isFull,
            let frame = isIPv6 ? makeIPv6DatagramFrame(s, array, byteCount) : makeDatagramFrame(s, array, byteCount)
        else { return ENOBUFS }
        state.pointee.statistics.datagramsSent &+= 1
        // The link does not bring it back to this host, which is one of those that it is for.
        //= RFC 1112 section 6.1
        //# If a datagram is sent to a group of which the sending host is a member, a copy is looped back for local delivery, unless inhibited by the sender.
        let isMulticast = remote.address.isMulticast
        if !isMulticast || s.pointee.isMulticastLooped && isHostMember(of: remote.address), state.pointee.datagramPorts[Int(remote.port)] != 0 {
            deliverCopyLocally(frame)
        }
        if isMulticast && s.pointee.multicastHopLimit == 0 { frame.releaseArray() } else { emit(frame) }
        return 0
    }

    /// Has the host receive what it sends; the frame stays the caller's. O(bytes).
    private func deliverCopyLocally(_ frame: Frame) {
        guard let copy = Frame.makeSegment(state.pointee.heap, byteCount: frame.arrayByteCount, priority: .datagram) else {
            return countUnsent(.outOfMemory)
        }
        frame.copyArray(to: copy.segmentAddress)
        deliverLocally(copy)
    }
}

extension DatagramSocket {
    /// Whether the socket is in the group of this bit; every one is where all bits are set.
    func isMember(_ group: UInt64) -> Bool { group == .max || groups & group != 0 }
}
