import WireFormats

/// Which datagrams a socket takes, of those to its port: a pattern over the addresses and ports as they lie in the headers, and the bits of it that count.
struct DatagramFilter {
    /// Source and destination address, and source and destination port, of the datagrams to take.
    private var addresses: UInt64 = 0
    private var ports: UInt32 = 0
    private var portMask: UInt32 = 0
    private var addressMask: UInt64 = 0

    init() {}

    init(_ socket: DatagramSocket) {
        let key = DatagramFilter.key(local: socket.local, remote: socket.remote)
        addresses = key.addresses
        ports = key.ports
        guard socket.local.address.isIPv4 || socket.local.address.isUnspecified && !socket.flags.contains(.isIPv6Only) else {
            // No packet comes from 255.255.255.255 to itself: none over IPv4 matches.
            (addresses, addressMask) = (.max, .max)
            return
        }
        // The destination port has led to the socket.
        if socket.flags.contains(.isConnected) {
            addressMask = .max
            portMask = 0xffff
        } else if !socket.local.address.isUnspecified {
            addressMask = 0xffff_ffff_0000_0000
        }
    }

    /// What a datagram from `remote` to `local` has in its headers.
    static func key(local: Endpoint, remote: Endpoint) -> (addresses: UInt64, ports: UInt32) {
        (
            UInt64(remote.address.ipv4Raw) | UInt64(local.address.ipv4Raw) &<< 32,
            UInt32(remote.port.bigEndian) | UInt32(local.port.bigEndian) &<< 16
        )
    }

    @inline(__always)
    func matches(_ addresses: UInt64, _ ports: UInt32) -> Bool {
        if DeliberateBug.isPresent(.datagramAddressIgnored) { return true }
        return (addresses ^ self.addresses) & addressMask | UInt64((ports ^ self.ports) & portMask) == 0
    }

    /// 3 for a peer, 2 for a local address, 1 for any.
    var rank: Int { portMask != 0 ? 3 : addressMask != 0 ? 2 : 1 }
}

extension NetworkStack {
    /// The socket for a datagram: one that is connected to its sender, else one that is bound to its destination, else one that is bound to any
    /// address; 0 for none. Of several alike the sender's address and port choose one. O(sockets of the same port).
    /// - Parameters:
    ///   - addresses: source and destination as they lie in the IPv4 header.
    ///   - ports: source and destination as they lie in the UDP header.
    @inline(__always)
    func findDatagramSocket(_ addresses: UInt64, _ ports: UInt32) -> UInt32 {
        let port = UInt16(bigEndian: UInt16(truncatingIfNeeded: ports &>> 16))
        let socket = state.pointee.datagramPorts[Int(port)]
        guard socket != 0 else { return 0 }
        let s = state.pointee.datagramSockets[socket]
        guard s.pointee.nextOnPort == 0 else { return findAmongSeveral(first: socket, addresses, ports) }
        return s.pointee.filter.matches(addresses, ports) ? socket : 0
    }

    @inline(never)
    private func findAmongSeveral(first: UInt32, _ addresses: UInt64, _ ports: UInt32) -> UInt32 {
        findAmongSeveral(
            first: first, rank: { $0.pointee.filter.matches(addresses, ports) ? $0.pointee.filter.rank : 0 },
            key: { hash in
                hash.combine(addresses)
                hash.combine(UInt64(ports))
            })
    }

    /// The socket of the highest rank of a chain; 0 when none has a rank above 0. Of several alike a hash of the datagram's addresses chooses one.
    @inline(__always)
    func findAmongSeveral(first: UInt32, rank rankOf: (DatagramSocketPointer) -> Int, key: (inout SipHash) -> Void) -> UInt32 {
        var best: UInt32 = 0
        var bestRank = 0
        var count: UInt64 = 0
        var socket = first
        while socket != 0 {
            let s = state.pointee.datagramSockets[socket]
            let rank = rankOf(s)
            if rank > bestRank {
                (best, bestRank, count) = (socket, rank, 1)
            } else if rank == bestRank {
                count += 1
            }
            socket = s.pointee.nextOnPort
        }
        guard bestRank > 0, count > 1 else { return best }
        var hash = SipHash(state.pointee.datagramSecret)
        key(&hash)
        var left = hash.finish() % count
        socket = best
        while left > 0 {
            socket = state.pointee.datagramSockets[socket].pointee.nextOnPort
            let s = state.pointee.datagramSockets[socket]
            if rankOf(s) == bestRank { left -= 1 }
        }
        return socket
    }
}
