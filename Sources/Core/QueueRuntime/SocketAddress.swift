import DatapathMemory
import Glibc

/// The address families of PDPIX sockets.
@frozen
public enum AddressFamily: UInt8, Sendable {
    case ipv4, ipv6
    /// Paths in the file system, for queues in shared memory.
    case path
}

/// The types of PDPIX sockets.
@frozen
public enum SocketType: UInt8, Sendable {
    /// With connections. TCP: a stream queue. Shared memory: a unit queue.
    case stream
    /// UDP: a unit queue.
    case datagram
}

/// An IPv4 or IPv6 address and a port, or a path.
@frozen
public struct SocketAddress: Hashable, Sendable {
    /// The address's bytes in network order, as they lie in memory: IPv4 in the first four. For a path, its number in this process.
    public let bytes: (UInt64, UInt64)
    /// The IPv6 scope (RFC 4007): an interface index, 0 where none is needed.
    public let scope: UInt32
    /// The port, in host order.
    public let port: UInt16
    public let family: AddressFamily

    @inlinable
    public init(family: AddressFamily, bytes: (UInt64, UInt64), port: UInt16, scope: UInt32 = 0) {
        self.family = family
        self.bytes = bytes
        self.port = port
        self.scope = scope
    }

    /// An IPv4 address from its four numbers, as in 127.0.0.1.
    @inlinable
    public static func ipv4(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, port: UInt16) -> SocketAddress {
        let value = UInt64(a) | UInt64(b) << 8 | UInt64(c) << 16 | UInt64(d) << 24
        return SocketAddress(family: .ipv4, bytes: (value, 0), port: port)
    }

    /// 127.0.0.1, or ::1.
    @inlinable
    public static func loopback(_ family: AddressFamily = .ipv4, port: UInt16) -> SocketAddress {
        family == .ipv4 ? .ipv4(127, 0, 0, 1, port: port) : SocketAddress(family: .ipv6, bytes: (0, UInt64(1) << 56), port: port)
    }

    /// 0.0.0.0, or ::, which stands for every local address.
    @inlinable
    public static func any(_ family: AddressFamily = .ipv4, port: UInt16) -> SocketAddress {
        SocketAddress(family: family, bytes: (0, 0), port: port)
    }

    @inlinable
    public static func == (left: SocketAddress, right: SocketAddress) -> Bool {
        left.bytes.0 == right.bytes.0 && left.bytes.1 == right.bytes.1 && left.port == right.port && left.family == right.family
            && left.scope == right.scope
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(bytes.0)
        hasher.combine(bytes.1)
        hasher.combine(port)
    }

    /// Reads `127.0.0.1:7`, `[::1]:7` or `[fe80::1%2]:7`, or a path, which has a slash: `/run/x.sock` or `./x.sock`.
    /// - Throws: `EINVAL` for anything else; host names are not resolved. As `init(path:)`.
    public init(parsing text: some StringProtocol) throws(DemikernelError) {
        if text.utf8.contains(UInt8(ascii: "/")) {
            try self.init(path: String(text))
            return
        }
        let invalid = DemikernelError(EINVAL, .address, "an address is written 127.0.0.1:6379 or [::1]:6379, and a path /run/x.sock or ./x.sock")
        // The numbers are digits alone, and the kernel's parser would end at a NUL.
        guard let colon = text.lastIndex(of: ":"), !text.utf8.contains(0), let port = UInt16(digits: text[text.index(after: colon)...]) else {
            throw invalid
        }
        var host = String(text[..<colon])
        var scope: UInt32 = 0
        if host.hasPrefix("[") {
            guard host.hasSuffix("]") else { throw invalid }
            host = String(host.dropFirst().dropLast())
            if let percent = host.firstIndex(of: "%") {
                guard let number = UInt32(digits: host[host.index(after: percent)...]) else { throw invalid }
                scope = number
                host = String(host[..<percent])
            }
            var address = in6_addr()
            guard inet_pton(AF_INET6, host, &address) == 1 else { throw invalid }
            let words = withUnsafeBytes(of: address) { ($0.load(as: UInt64.self), $0.load(fromByteOffset: 8, as: UInt64.self)) }
            self.init(family: .ipv6, bytes: words, port: port, scope: scope)
        } else {
            var address = in_addr()
            guard inet_pton(AF_INET, host, &address) == 1 else { throw invalid }
            self.init(family: .ipv4, bytes: (UInt64(address.s_addr), 0), port: port)
        }
    }
}

extension SocketAddress {
    /// Who sent a datagram that lies behind its headers.
    @inlinable
    @inline(__always)
    init(ofDatagram payload: UnsafeMutablePointer<SegmentDescriptor>, _ result: PlainResult) {
        let end = UnsafeRawPointer(payload.segmentAddress)
        // An IPv4 header without options has 20 bytes, the source from the 12th on (RFC 791, section 3.1); a UDP header 8, the source port first (RFC 768).
        let address = UInt64(end.loadUnaligned(fromByteOffset: -16, as: UInt32.self))
        let port = UInt16(bigEndian: end.loadUnaligned(fromByteOffset: -8, as: UInt16.self))
        if result == .poppedBehindHeaders {
            self.init(family: .ipv4, bytes: (address, 0), port: port)
        } else {
            self.init(family: .ipv6, bytes: (0, address << 32 | 0xffff_0000), port: port)
        }
    }
}

extension SocketAddress: CustomStringConvertible {
    /// `127.0.0.1:7`, `[::1]:7` or `/run/x.sock`.
    public var description: String {
        if let path { return path.isEmpty ? "unnamed" : path }
        var words = bytes
        var text = [CChar](repeating: 0, count: 64)
        _ = inet_ntop(family == .ipv4 ? AF_INET : AF_INET6, &words, &text, 64)
        let host = text.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        return family == .ipv4 ? "\(host):\(port)" : scope == 0 ? "[\(host)]:\(port)" : "[\(host)%\(scope)]:\(port)"
    }
}

extension FixedWidthInteger {
    /// A decimal number without a sign; nil for anything else.
    fileprivate init?(digits text: some StringProtocol) {
        guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }) else { return nil }
        self.init(text)
    }
}
