import CLinuxDevices
import Glibc
import Testing

/// A blocking socket of the kernel that talks to the stack. A patience far beyond what any answer takes ends a test that would hang.
final class KernelClient {
    let descriptor: Int32
    static let patienceSeconds = 90

    enum Transport {
        case stream, datagram
    }

    enum Peer {
        case ipv4(String)
        case ipv6(String)
    }

    /// - Parameter localPort: where the client's end is; 0 lets the kernel choose.
    init(_ transport: Transport, to peer: Peer, port: UInt16, localPort: UInt16 = 0) throws {
        let family = if case .ipv4 = peer { AF_INET } else { AF_INET6 }
        descriptor = socket(family, Int32((transport == .stream ? SOCK_STREAM : SOCK_DGRAM).rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        guard descriptor >= 0 else { throw SystemFailure(call: "socket", errno: errno) }
        var patience = timeval(tv_sec: Self.patienceSeconds, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(descriptor, SOL_SOCKET, option, &patience, socklen_t(MemoryLayout<timeval>.size))
        }
        var on: Int32 = 1
        setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, 4)
        if localPort != 0 {
            let result = Self.withAddress(.ipv4("0.0.0.0"), localPort) { Glibc.bind(descriptor, $0, $1) }
            guard result == 0 else { throw SystemFailure(call: "bind", errno: errno) }
        }
        let result = Self.withAddress(peer, port) { Glibc.connect(descriptor, $0, $1) }
        guard result == 0 else { throw SystemFailure(call: "connect to \(peer):\(port)", errno: errno) }
    }

    deinit { close(descriptor) }

    func sendAll(_ bytes: [UInt8]) throws {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes { Glibc.send(descriptor, $0.baseAddress! + sent, $0.count - sent, Int32(MSG_NOSIGNAL)) }
            guard count > 0 else { throw SystemFailure(call: "send", errno: errno) }
            sent += count
        }
    }

    func endSending() { shutdown(descriptor, Int32(SHUT_WR)) }

    /// What comes next, at most `limit` bytes; empty at the end of the stream.
    func receive(_ limit: Int = 65_536) throws -> [UInt8] {
        var failure: Int32 = 0
        let bytes = [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
            let result = recv(descriptor, buffer.baseAddress, limit, 0)
            if result < 0 { failure = errno }
            count = max(result, 0)
        }
        if failure != 0 { throw SystemFailure(call: "recv", errno: failure) }
        return bytes
    }

    /// All that comes up to the end of the stream.
    func receiveAll() throws -> [UInt8] {
        var all: [UInt8] = []
        while case let bytes = try receive(), !bytes.isEmpty { all += bytes }
        return all
    }

    func receiveExactly(_ count: Int) throws -> [UInt8] {
        var all: [UInt8] = []
        while all.count < count {
            let bytes = try receive(count - all.count)
            if bytes.isEmpty { break }
            all += bytes
        }
        return all
    }

    private static func withAddress(_ peer: Peer, _ port: UInt16, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32) -> Int32 {
        switch peer {
        case .ipv4(let host):
            var address = sockaddr_in()
            address.sin_family = sa_family_t(AF_INET)
            address.sin_port = port.bigEndian
            inet_pton(AF_INET, host, &address.sin_addr)
            return withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in>.size)) }
            }
        case .ipv6(let host):
            var address = sockaddr_in6()
            address.sin6_family = sa_family_t(AF_INET6)
            address.sin6_port = port.bigEndian
            inet_pton(AF_INET6, host, &address.sin6_addr)
            return withUnsafePointer(to: &address) {
                $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, socklen_t(MemoryLayout<sockaddr_in6>.size)) }
            }
        }
    }
}

/// Bytes that repeat in no way that a lost or doubled piece would leave right.
func testBytes(_ count: Int, seed: UInt64 = 1) -> [UInt8] {
    var state = seed &* 0x9e37_79b9_7f4a_7c15 | 1
    return [UInt8](unsafeUninitializedCapacity: count) { buffer, initialized in
        for index in 0..<count {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            buffer[index] = UInt8(truncatingIfNeeded: state >> 56)
        }
        initialized = count
    }
}
