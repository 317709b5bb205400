import Demikernel
import Echo
import Glibc
import Testing

@Suite("Keep-alive with the Linux kernel", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip)) struct KeepAliveTests {
    /// Segments that the kernel's end has received, pure probes among them: `tcpi_segs_in` of `struct tcp_info` (include/uapi/linux/tcp.h).
    private func segmentsReceived(_ client: KernelClient) throws -> UInt32 {
        var information = [UInt8](repeating: 0, count: 144)
        var length = socklen_t(information.count)
        guard getsockopt(client.descriptor, Int32(IPPROTO_TCP), TCP_INFO, &information, &length) == 0, length == 144 else {
            throw SystemFailure(call: "getsockopt", errno: errno)
        }
        return information.withUnsafeBytes { $0.load(fromByteOffset: 140, as: UInt32.self) }
    }

    @Test(
        "an idle connection outlasts many times what either end waits before it probes: probes are answered, and both still exchange bytes",
        arguments: KernelLink.Kind.allCases)
    func idleConnection(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer(link.interface) { (runtime, whenReady) throws(DemikernelError) in
                // The second that stands for the hours of real settings.
                var server = EchoServer(.tcp, listen: .any(port: 7), socketOptions: [.keepAlive(idle: 1, interval: 1)])
                try server.run(on: runtime) { _ in whenReady() }
            }
            defer { server.stop() }
            let client = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7)
            // The kernel probes as well, and gives up after two without an answer.
            for (level, name, value) in [
                (SOL_SOCKET, SO_KEEPALIVE, Int32(1)), (Int32(IPPROTO_TCP), TCP_KEEPIDLE, 1), (Int32(IPPROTO_TCP), TCP_KEEPINTVL, 1),
                (Int32(IPPROTO_TCP), TCP_KEEPCNT, 2),
            ] {
                var value = value
                #expect(setsockopt(client.descriptor, level, name, &value, 4) == 0)
            }
            try client.sendAll([1, 2, 3])
            #expect(try client.receiveExactly(3) == [1, 2, 3])
            let before = try segmentsReceived(client)
            var readable = pollfd(fd: client.descriptor, events: Int16(POLLIN), revents: 0)
            // A probe or an answer of the stack's a second: more than the two that the kernel would have borne without.
            while try segmentsReceived(client) < before + 4 {
                #expect(poll(&readable, 1, 100) == 0, "an idle connection has nothing to read, and no error")
                if readable.revents != 0 { break }
            }
            try expectEcho(client, 10_000)
            #expect(server.stop().error == nil)
        }
    }
}
