import Glibc
import WireFormats

/// Local addresses and ports of TCP sockets: a chain of bound sockets for each port.
extension NetworkStack {
    /// Gives a socket a local address; port 0 asks for any. 0.0.0.0 stands for all IPv4 addresses, :: for all of both families.
    /// - Parameter isIPv6Only: whether :: stands for the IPv6 addresses alone.
    /// - Returns: `EINVAL` when it has one or is connected, `EADDRNOTAVAIL` for an address that is not the interface's, `EADDRINUSE`.
    public func bind(_ connection: UInt32, to local: Endpoint, isIPv6Only: Bool = false) -> Int32 {
        let c = state.pointee.connections[connection]
        guard c.pointee.state == .closed, c.pointee.error == 0, !c.pointee.flags.contains(.isBound) else { return EINVAL }
        //= RFC 1122 section 3.2.1.3
        //# When a host sends any datagram, the IP source address MUST be one of its own IP addresses (but not a broadcast or multicast address).
        //= RFC 9293 section 3.9.1.1
        //# an optional "local IP address" parameter MUST be supported to allow the specification of the local IP address (MUST-43)
        //= RFC 1122 section 3.3.4.2
        //# (3) allow the application program to specify the source address for initiating connection or a request
        guard local.address.isUnspecified || isLocalAddress(local.address) else { return EADDRNOTAVAIL }
        var port = local.port
        if port == 0 {
            port = chooseUnboundPort(local.address, isIPv6Only)
            if port == 0 { return EADDRINUSE }
        } else if isBound(local.address, isIPv6Only, port, allowsSharing: c.pointee.flags.contains(.reusePort)) {
            return EADDRINUSE
        }
        c.pointee.localAddress = local.address
        c.pointee.isIPv6Only = isIPv6Only
        c.pointee.ports = UInt32(port)
        c.pointee.flags.formUnion([.isBound, .portReserved])
        c.pointee.nextOnPort = state.pointee.connectionPorts[Int(port)]
        state.pointee.connectionPorts[Int(port)] = c.pointee.index
        return 0
    }

    //= RFC 9293 section 3.9.1.1
    //# an OPEN call that will functionally allow an application to LISTEN on a port while a connection block with the same local port is in SYN-SENT or
    //# SYN-RECEIVED state (MUST-42): connections that chose their port or were accepted do not count, bound ones share it
    private func isBound(_ address: IPAddress, _ isIPv6Only: Bool, _ port: UInt16, allowsSharing: Bool) -> Bool {
        var index = state.pointee.connectionPorts[Int(port)]
        while index != 0 {
            let other = state.pointee.connections[index]
            let overlaps = NetworkStack.overlaps(address, isIPv6Only, other.pointee.localAddress, other.pointee.isIPv6Only)
            if overlaps && !(allowsSharing && other.pointee.flags.contains(.reusePort)) { return true }
            index = other.pointee.nextOnPort
        }
        return false
    }

    /// The listener for a SYN: of the address itself before one of all addresses; of several that share the port, the one that the peer hashes to.
    func findListener(_ local: IPAddress, _ port: UInt16, _ remote: IPAddress, _ remotePort: UInt16) -> UInt32 {
        var exact: UInt32 = 0
        var wildcard: UInt32 = 0
        var best: (exact: UInt64, wildcard: UInt64) = (0, 0)
        var index = state.pointee.connectionPorts[Int(port)]
        while index != 0 {
            let c = state.pointee.connections[index]
            if c.pointee.state == .listen {
                // Rendezvous hashing: each peer keeps its listener when others come and go.
                let weight = state.pointee.flows.hash(remote, local, UInt32(remotePort) ^ index &* 0x9e37_79b9) | 1
                if c.pointee.localAddress == local {
                    if weight > best.exact { (exact, best.exact) = (index, weight) }
                } else if NetworkStack.isWildcard(c.pointee.localAddress, isIPv6Only: c.pointee.isIPv6Only, for: local) {
                    if weight > best.wildcard { (wildcard, best.wildcard) = (index, weight) }
                }
            }
            index = c.pointee.nextOnPort
        }
        return exact != 0 ? exact : wildcard
    }

    func releasePort(_ c: ConnectionPointer) {
        guard c.pointee.flags.contains(.portReserved), !DeliberateBug.isPresent(.portNotReleased) else { return }
        c.pointee.flags.remove(.portReserved)
        let port = Int(c.pointee.localPort)
        var previous: UInt32 = 0
        var index = state.pointee.connectionPorts[port]
        while index != c.pointee.index {
            previous = index
            index = state.pointee.connections[index].pointee.nextOnPort
        }
        if previous == 0 {
            state.pointee.connectionPorts[port] = c.pointee.nextOnPort
        } else {
            state.pointee.connections[previous].pointee.nextOnPort = c.pointee.nextOnPort
        }
    }

    //= RFC 6056 section 3.2
    //# ephemeral port selection algorithms should use the whole range 1024-65535; here it is the range 49152-65535 of RFC 6335
    private static var firstEphemeralPort: UInt16 { 49_152 }

    /// A port that nobody is bound to; 0 for none.
    private func chooseUnboundPort(_ address: IPAddress, _ isIPv6Only: Bool) -> UInt16 {
        skipEphemeralPorts()
        for _ in 0..<16_384 {
            let port = nextEphemeralPort()
            if !isBound(address, isIPv6Only, port, allowsSharing: false) { return port }
        }
        return 0
    }

    /// A port for a connection to `remote` that neither a connection nor a bound socket has; 0 when all are taken.
    func chooseEphemeralPort(_ local: IPAddress, _ remote: Endpoint) -> UInt16 {
        skipEphemeralPorts()
        for _ in 0..<16_384 {
            let port = nextEphemeralPort()
            let ports = UInt32(remote.port) << 16 | UInt32(port)
            if state.pointee.connectionPorts[Int(port)] == 0,
                state.pointee.flows.find(remote.address, local, ports, in: state.pointee.connections) == 0
            {
                return port
            }
        }
        return 0
    }

    /// A search begins up to 512 ports behind the last one that was taken, and comes round to all of them.
    //= RFC 6056 section 3.3.5
    //# next_ephemeral = next_ephemeral + (random() % N) + 1
    //= RFC 5927 section 4.2
    //# obfuscating the client's ephemeral port: whoever has not seen the connection has to guess it
    private func skipEphemeralPorts() {
        state.pointee.nextEphemeralPort &+= UInt16(truncatingIfNeeded: state.pointee.random.next()) & 511
    }

    private func nextEphemeralPort() -> UInt16 {
        state.pointee.nextEphemeralPort &+= 1
        return NetworkStack.firstEphemeralPort | state.pointee.nextEphemeralPort & 0x3fff
    }
}
