import Glibc

/// The addresses that the kernel has, on all interfaces of the network namespace of the calling thread.
public struct HostAddresses: Sendable {
    /// As they lie in memory.
    public private(set) var ipv4: [UInt32] = []
    public private(set) var ipv6: [(UInt64, UInt64)] = []

    /// Asks the kernel; empty where that fails.
    public init() {
        var list: UnsafeMutablePointer<ifaddrs>?
        guard getifaddrs(&list) == 0 else { return }
        defer { freeifaddrs(list) }
        var next = list
        while let entry = next {
            next = entry.pointee.ifa_next
            guard let address = entry.pointee.ifa_addr else { continue }
            let bytes = UnsafeRawPointer(address)
            // Behind family and port; of IPv6 also behind the flow (sockaddr_in, sockaddr_in6).
            switch Int32(address.pointee.sa_family) {
            case AF_INET: ipv4.append(bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self))
            case AF_INET6:
                ipv6.append((bytes.loadUnaligned(fromByteOffset: 8, as: UInt64.self), bytes.loadUnaligned(fromByteOffset: 16, as: UInt64.self)))
            default: break
            }
        }
    }
}
