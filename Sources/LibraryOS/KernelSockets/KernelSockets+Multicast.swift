import Glibc
import QueueRuntime

extension SocketOption.Name {
    /// Whether the option is about groups.
    var isMulticast: Bool {
        switch self {
        case .joinGroup, .leaveGroup, .multicastHopLimit, .multicastLoop: true
        default: false
        }
    }
}

/// Groups of the kernel's datagram sockets.
extension KernelSocketsHandle {
    func setMulticastOption(_ file: Int32, _ name: SocketOption.Name, _ first: Int64, _ second: Int64) -> Int32 {
        if name == .joinGroup || name == .leaveGroup {
            return changeGroups(file, SocketAddress(numbers: (first, second)), isJoin: name == .joinGroup)
        }
        guard var value = UInt8(exactly: name == .multicastLoop ? (first == 0 ? 0 : 1) : first).map(Int32.init) else {
            return core.refuse(EINVAL, "the value is out of range")
        }
        let (level, option) = multicastLevel(file, name)
        let result = setsockopt(file, level, option, &value, socklen_t(MemoryLayout<Int32>.size))
        return result == 0 ? 0 : core.refuse(errno, "the kernel refused the option's value")
    }

    func multicastOption(_ file: Int32, _ name: SocketOption.Name, _ values: UnsafeMutablePointer<Int64>) -> Int32 {
        guard name == .multicastHopLimit || name == .multicastLoop else {
            return core.refuse(EOPNOTSUPP, "which groups a socket has joined cannot be read")
        }
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        let (level, option) = multicastLevel(file, name)
        guard getsockopt(file, level, option, &value, &length) == 0 else { return core.refuse(errno, "") }
        values[0] = Int64(value)
        return 0
    }

    /// The kernel's option for the socket's family.
    private func multicastLevel(_ file: Int32, _ name: SocketOption.Name) -> (level: Int32, option: Int32) {
        var domain: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        if getsockopt(file, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0, domain == AF_INET6 {
            return (Int32(IPPROTO_IPV6), name == .multicastLoop ? IPV6_MULTICAST_LOOP : IPV6_MULTICAST_HOPS)
        }
        return (Int32(IPPROTO_IP), name == .multicastLoop ? IP_MULTICAST_LOOP : IP_MULTICAST_TTL)
    }

    /// On the interface that the kernel chooses for the group.
    private func changeGroups(_ file: Int32, _ group: SocketAddress, isJoin: Bool) -> Int32 {
        let result: Int32
        if group.family == .ipv4 {
            var request = ip_mreq()
            request.imr_multiaddr.s_addr = UInt32(truncatingIfNeeded: group.bytes.0)
            result = setsockopt(
                file, Int32(IPPROTO_IP), isJoin ? IP_ADD_MEMBERSHIP : IP_DROP_MEMBERSHIP, &request, socklen_t(MemoryLayout<ip_mreq>.size))
        } else {
            var request = ipv6_mreq()
            withUnsafeMutableBytes(of: &request.ipv6mr_multiaddr) {
                $0.storeBytes(of: group.bytes.0, as: UInt64.self)
                $0.storeBytes(of: group.bytes.1, toByteOffset: 8, as: UInt64.self)
            }
            result = setsockopt(
                file, Int32(IPPROTO_IPV6), isJoin ? IPV6_JOIN_GROUP : IPV6_LEAVE_GROUP, &request, socklen_t(MemoryLayout<ipv6_mreq>.size))
        }
        return result == 0 ? 0 : core.refuse(errno, "the kernel did not change the membership: is the address a group's, and has it a route?")
    }
}
