import Glibc

/// An IPv4 or IPv6 address with a port, as the kernel's socket calls take it, or the path of a queue in shared memory.
struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    enum Family: Hashable, Sendable {
        case ipv4
        case ipv6
        /// A unix socket's path, behind which lies shared memory.
        case path
    }

    let family: Family
    /// The address without brackets, or the path, as the user wrote it.
    let host: String
    var port: UInt16

    init(family: Family, host: String, port: UInt16) {
        self.family = family
        self.host = host
        self.port = port
    }

    init(path: String) {
        self.init(family: .path, host: path, port: 0)
    }

    /// Parses a path, which has a slash, or `127.0.0.1:6379`, `[::1]:6379` or `localhost:6379`. Names other than `localhost` are refused: a benchmark should say what it measures.
    init?(parsing text: String) {
        if text.contains("/") {
            self.init(path: text)
            return
        }
        guard let colon = text.lastIndex(of: ":"), let port = UInt16(text[text.index(after: colon)...]) else { return nil }
        var host = String(text[..<colon])
        if host == "localhost" { host = "127.0.0.1" }
        if host.hasPrefix("["), host.hasSuffix("]") {
            host = String(host.dropFirst().dropLast())
            var address = in6_addr()
            guard inet_pton(AF_INET6, host, &address) == 1 else { return nil }
            self.init(family: .ipv6, host: host, port: port)
        } else {
            var address = in_addr()
            guard inet_pton(AF_INET, host, &address) == 1 else { return nil }
            self.init(family: .ipv4, host: host, port: port)
        }
    }

    var description: String {
        switch family {
        case .ipv4: "\(host):\(port)"
        case .ipv6: "[\(host)]:\(port)"
        case .path: host
        }
    }

    /// Calls `body` with the address in the kernel's form.
    func withSocketAddress<Result>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Result) -> Result {
        switch family {
        case .ipv4:
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            inet_pton(AF_INET, host, &address.sin_addr)
            return withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
            }
        case .ipv6:
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            inet_pton(AF_INET6, host, &address.sin6_addr)
            return withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in6>.size)) }
            }
        case .path: preconditionFailure("\(host) is no address of a kernel socket")
        }
    }
}
