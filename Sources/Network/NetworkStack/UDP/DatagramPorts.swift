import Glibc
import WireFormats

/// Which socket has which port: for each port a chain of sockets, mostly of one.
extension NetworkStack {
    /// Gives a socket its local endpoint. O(sockets of the same port); for port 0, O(ephemeral ports in use).
    /// - Parameters:
    ///   - local: 0.0.0.0 takes what comes to any of the interface's IPv4 addresses, and broadcasts; :: that of both families; port 0 takes a free one
    ///     of 49152...65535.
    ///   - isIPv6Only: whether :: stands for the IPv6 addresses alone.
    ///   - reusePort: whether others may bind the same endpoint, if all of them say so; senders are then spread over them.
    /// - Returns: 0, or an errno: `EINVAL` for a socket that is bound, `EADDRNOTAVAIL` for an address that is not the interface's, `EADDRINUSE`.
    public func bindDatagram(_ socket: UInt32, to local: Endpoint, reusePort: Bool, isIPv6Only: Bool = false) -> Int32 {
        let s = datagramSocket(socket)
        guard s.pointee.local.port == 0 else { return EINVAL }
        //= RFC 1122 section 4.1.3.5
        //# An application program MUST be able to specify the IP source address to be used for sending a UDP datagram or to leave it unspecified.
        guard local.address.isUnspecified || isLocalAddress(local.address) else { return EADDRNOTAVAIL }
        if isIPv6Only { s.pointee.flags.insert(.isIPv6Only) } else { s.pointee.flags.remove(.isIPv6Only) }
        if local.port == 0 {
            guard bindEphemeral(socket, local.address) else { return EADDRINUSE }
        } else {
            guard isFree(local, isIPv6Only: isIPv6Only, reusesPort: reusePort) else { return EADDRINUSE }
            enter(socket, local)
        }
        if reusePort { s.pointee.flags.insert(.reusesPort) }
        return 0
    }

    /// Sets the default destination, and takes datagrams and errors of it alone from now on. A socket that is not bound gets a port, and the local
    /// address becomes the one that the route names, unless it was bound to one. May be called again.
    /// - Returns: 0, or an errno: `EINVAL` for port 0, `EACCES` for a broadcast address before `setBroadcast`, `EAFNOSUPPORT` for an address of another
    ///   family than the one that the socket is bound to, `ENETUNREACH` without a route, `EADDRINUSE` when no port is left.
    public func connectDatagram(_ socket: UInt32, to remote: Endpoint) -> Int32 {
        let s = datagramSocket(socket)
        guard remote.port != 0 else { return EINVAL }
        let isBroadcast = isBroadcastAddress(remote.address)
        let isGroup = isBroadcast || remote.address.isMulticast
        guard !isBroadcast || s.pointee.flags.contains(.sendsBroadcasts) else { return EACCES }
        guard speaks(s, to: remote.address) else { return EAFNOSUPPORT }
        guard let decision = isGroup ? routeToGroup(remote.address) : route(to: remote.address) else { return ENETUNREACH }
        let isChosen = s.pointee.local.address.isUnspecified || s.pointee.flags.contains(.choseAddress)
        guard isChosen || decision.isLocal || !s.pointee.local.address.isLoopback else { return EINVAL }
        if s.pointee.local.port == 0 && !bindEphemeral(socket, unboundAddress(s, for: remote.address)) { return EADDRINUSE }
        if isChosen {
            s.pointee.local.address = decision.source
            s.pointee.flags.insert(.choseAddress)
        }
        s.pointee.flags.insert(.isConnected)
        s.pointee.remote = remote
        s.pointee.filter = DatagramFilter(s.pointee)
        s.pointee.templateEpoch = 0
        state.pointee.lastSender = LastSender()
        return 0
    }

    /// Whether the socket can talk to an address of that family.
    func speaks(_ s: DatagramSocketPointer, to remote: IPAddress) -> Bool {
        s.pointee.local.port == 0 && s.pointee.local.address.isIPv4
            || NetworkStack.isOfFamily(remote, of: s.pointee.local.address, isIPv6Only: s.pointee.flags.contains(.isIPv6Only))
    }

    /// What a socket that is not bound gets bound to when it sends to `remote`.
    func unboundAddress(_ s: DatagramSocketPointer, for remote: IPAddress) -> IPAddress {
        remote.isIPv4 ? s.pointee.local.address : .unspecifiedIPv6
    }

    /// Binds to the first free port from a random one on.
    //= RFC 6335 section 6
    //# the Dynamic Ports, also known as the Private or Ephemeral Ports, from 49152-65535 (never assigned)
    //= RFC 6056 section 3.3.1
    //# next_ephemeral = min_ephemeral + (random() % num_ephemeral)
    func bindEphemeral(_ socket: UInt32, _ address: IPAddress) -> Bool {
        let first: UInt32 = 49_152
        let count = 65_536 - first
        let start = UInt32(truncatingIfNeeded: state.pointee.random.next()) % count
        for distance in 0..<count {
            let port = first + (start + distance) % count
            guard state.pointee.datagramPorts[Int(port)] == 0 else { continue }
            enter(socket, Endpoint(address: address, port: UInt16(port)))
            return true
        }
        return false
    }

    /// Whether nobody has an endpoint that overlaps, or only such as share it.
    private func isFree(_ local: Endpoint, isIPv6Only: Bool, reusesPort: Bool) -> Bool {
        var other = state.pointee.datagramPorts[Int(local.port)]
        while other != 0 {
            let s = state.pointee.datagramSockets[other]
            let overlaps = NetworkStack.overlaps(
                s.pointee.local.address, s.pointee.flags.contains(.isIPv6Only), local.address, isIPv6Only)
            if overlaps && !(reusesPort && s.pointee.flags.contains(.reusesPort)) { return false }
            other = s.pointee.nextOnPort
        }
        return true
    }

    private func enter(_ socket: UInt32, _ local: Endpoint) {
        let s = state.pointee.datagramSockets[socket]
        s.pointee.local = local
        s.pointee.filter = DatagramFilter(s.pointee)
        s.pointee.nextOnPort = state.pointee.datagramPorts[Int(local.port)]
        state.pointee.datagramPorts[Int(local.port)] = socket
        state.pointee.lastSender = LastSender()
    }

    /// Takes a socket out of the chain of its port.
    func unbindDatagram(_ socket: UInt32) {
        let s = state.pointee.datagramSockets[socket]
        let port = Int(s.pointee.local.port)
        guard port != 0 else { return }
        state.pointee.lastSender = LastSender()
        if state.pointee.datagramPorts[port] == socket {
            state.pointee.datagramPorts[port] = s.pointee.nextOnPort
        } else {
            var previous = state.pointee.datagramSockets[state.pointee.datagramPorts[port]]
            while previous.pointee.nextOnPort != socket { previous = state.pointee.datagramSockets[previous.pointee.nextOnPort] }
            previous.pointee.nextOnPort = s.pointee.nextOnPort
        }
        s.pointee.local.port = 0
    }
}
