import Glibc
import QueueRuntime

/// Options of the IP layer. An IPv6 socket that takes both families has those of both, which are set together.
extension KernelSocketsHandle {
    func setPacketOption(_ index: Int, _ name: SocketOption.Name, _ value: Int32) -> Int32 {
        let isIPv6 = socket(index).pointee.family == .ipv6
        switch name {
        case .hopLimit:
            guard (1...255).contains(value) else { return core.refuse(EINVAL, "a hop limit is between 1 and 255") }
            let error = isIPv6 ? set(index, Int32(IPPROTO_IPV6), IPV6_UNICAST_HOPS, value) : 0
            return error == 0 ? set(index, Int32(IPPROTO_IP), IP_TTL, value) : error
        case .differentiatedServices:
            guard (0...63).contains(value) else { return core.refuse(EINVAL, "a codepoint is between 0 and 63") }
            let error = isIPv6 ? set(index, Int32(IPPROTO_IPV6), IPV6_TCLASS, value << 2) : 0
            return error == 0 ? set(index, Int32(IPPROTO_IP), IP_TOS, value << 2) : error
        default:
            guard isIPv6 else { return core.refuse(EOPNOTSUPP, "only an IPv6 socket has this option") }
            return set(index, Int32(IPPROTO_IPV6), IPV6_V6ONLY, value == 0 ? 0 : 1)
        }
    }

    func packetOption(_ index: Int, _ name: SocketOption.Name, _ values: UnsafeMutablePointer<Int64>) -> Int32 {
        let isIPv6 = socket(index).pointee.family == .ipv6
        let level = isIPv6 ? Int32(IPPROTO_IPV6) : Int32(IPPROTO_IP)
        var value: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        let option: Int32
        switch name {
        case .hopLimit: option = isIPv6 ? IPV6_UNICAST_HOPS : IP_TTL
        case .differentiatedServices: option = isIPv6 ? IPV6_TCLASS : IP_TOS
        default:
            guard isIPv6 else { return core.refuse(EOPNOTSUPP, "only an IPv6 socket has this option") }
            option = IPV6_V6ONLY
        }
        guard getsockopt(socket(index).pointee.file, level, option, &value, &length) == 0 else { return core.refuse(errno, "") }
        values[0] = Int64(name == .differentiatedServices ? value >> 2 : value)
        return 0
    }
}
