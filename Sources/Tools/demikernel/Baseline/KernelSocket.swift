import Glibc

/// Kernel sockets, opened with the options that every side of a comparison shares: `TCP_NODELAY`, default buffers.
enum KernelSocket {
    /// A connected blocking socket. The caller owns the descriptor.
    static func connected(_ transport: TransportProtocol, to endpoint: Endpoint) throws(CommandFailure) -> Int32 {
        let descriptor = try open(transport, endpoint.family)
        if transport == .tcp { try set(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY) }
        guard endpoint.withSocketAddress({ connect(descriptor, $0, $1) }) == 0 else {
            let code = errno
            close(descriptor)
            let mend = code == ECONNREFUSED ? " (is the server running there?)" : ""
            throw CommandFailure("connect to \(endpoint): \(String(cString: strerror(code)))\(mend)")
        }
        return descriptor
    }

    /// A bound, for TCP listening, non-blocking socket. The caller owns the descriptor.
    static func listening(_ transport: TransportProtocol, on endpoint: Endpoint, backlog: Int32 = 1024) throws(CommandFailure) -> Int32 {
        let descriptor = try open(transport, endpoint.family)
        do throws(CommandFailure) {
            try set(descriptor, SOL_SOCKET, SO_REUSEADDR)
            guard endpoint.withSocketAddress({ bind(descriptor, $0, $1) }) == 0 else { throw ListenAdvice.failure(errno, endpoint) }
            if transport == .tcp {
                guard listen(descriptor, backlog) == 0 else { throw ListenAdvice.failure(errno, endpoint) }
            }
            try setNonBlocking(descriptor)
        } catch {
            close(descriptor)
            throw error
        }
        return descriptor
    }

    /// The port that a bound socket got.
    static func localPort(_ descriptor: Int32) throws(CommandFailure) -> UInt16 {
        var storage = sockaddr_in6()
        var length = socklen_t(MemoryLayout<sockaddr_in6>.size)
        let result = withUnsafeMutablePointer(to: &storage) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { getsockname(descriptor, $0, &length) }
        }
        guard result == 0 else { throw CommandFailure("getsockname", errno: errno) }
        // The port stands at the same place in the addresses of both families.
        return UInt16(bigEndian: storage.sin6_port)
    }

    static func setNonBlocking(_ descriptor: Int32) throws(CommandFailure) {
        guard fcntl(descriptor, F_SETFL, fcntl(descriptor, F_GETFL, 0) | O_NONBLOCK) == 0 else { throw CommandFailure("fcntl", errno: errno) }
    }

    /// Turns a boolean option on.
    static func set(_ descriptor: Int32, _ level: Int32, _ option: Int32) throws(CommandFailure) {
        var on: Int32 = 1
        guard setsockopt(descriptor, level, option, &on, socklen_t(MemoryLayout<Int32>.size)) == 0 else {
            throw CommandFailure("setsockopt", errno: errno)
        }
    }

    private static func open(_ transport: TransportProtocol, _ family: Endpoint.Family) throws(CommandFailure) -> Int32 {
        guard family != .path else { throw CommandFailure("a path leads to shared memory, which this command does not speak: give an address and a port") }
        let type = transport == .tcp ? SOCK_STREAM : SOCK_DGRAM
        let descriptor = socket(family == .ipv4 ? AF_INET : AF_INET6, Int32(type.rawValue | SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw CommandFailure("socket", errno: errno) }
        return descriptor
    }
}
