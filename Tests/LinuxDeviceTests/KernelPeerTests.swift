import Demikernel
import Echo
import Glibc
import Testing

/// The stack on a real device, with the Linux kernel and its programs at the other end.
@Suite("The Linux kernel as the other end", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip))
struct KernelPeerTests {
    @Test("a TCP stream comes back byte for byte", arguments: KernelLink.Kind.allCases)
    func streamEcho(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            for (peer, address) in [
                (KernelClient.Peer.ipv4("10.0.0.2"), SocketAddress.any(port: 7)), (.ipv6("2001:db8::2"), .any(.ipv6, port: 7)),
            ] {
                let server = try StackServer.echo(link.interface, .tcp, address)
                defer { server.stop() }
                let client = try KernelClient(.stream, to: peer, port: 7)
                try expectEcho(client, 3_000_000)
                let report = server.stop()
                #expect(report.error == nil)
                #expect(report.network?.network.drops[.badSegmentChecksum] == 0)
            }
        }
    }

    @Test("a stream through the generic path of XDP")
    func genericPath() throws {
        try inNetworkNamespace {
            var interface = try KernelLink(.xdp).interface
            interface.device = try DeviceSpecification(parsing: "xdp:demi0,mode=generic")
            let server = try StackServer.echo(interface, .tcp, .any(port: 7))
            defer { server.stop() }
            try expectEcho(try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7), 1_000_000)
            // The peer's segments come as it has them, before a network card would cut them.
            #expect(server.stop().network?.device.receiveMalformed == 0)
        }
    }

    @Test("an idle server sleeps, and wakes for every frame", .enabled(if: Shell.has("ping"), "needs iputils-ping"), arguments: KernelLink.Kind.allCases)
    func idleServer(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer.echo(link.interface, .udp, .any(port: 7), idle: .adaptive(spinNanoseconds: 1_000_000))
            let result = Shell.run("ping -c 5 -i 0.2 -W 20 10.0.0.2")
            #expect(result.output.contains(" 0% packet loss"), "\(result.output)")
            let report = server.stop()
            // A sleep between any two frames at least.
            #expect(report.runtime.sleeps >= 4)
        }
    }

    @Test("datagrams of all sizes come back", arguments: KernelLink.Kind.allCases)
    func datagramEcho(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            for (peer, address) in [
                (KernelClient.Peer.ipv4("10.0.0.2"), SocketAddress.any(port: 7)), (.ipv6("2001:db8::2"), .any(.ipv6, port: 7)),
            ] {
                let server = try StackServer.echo(link.interface, .udp, address)
                defer { server.stop() }
                let client = try KernelClient(.datagram, to: peer, port: 7)
                // Up to the largest that fits, and in fragments.
                for size in [1, 2, 63, 64, 512, 1452, 1472, 1473, 4000, 20_000] where kind.passesIPv4Fragments || address.family == .ipv6 || size <= 1472 {
                    let bytes = testBytes(size, seed: UInt64(size))
                    try client.sendAll(bytes)
                    #expect(try client.receive() == bytes, "\(size) bytes")
                }
            }
        }
    }

    @Test("redis-benchmark and redis-cli against kv", .enabled(if: Shell.has("redis-benchmark"), "needs redis-tools"), arguments: KernelLink.Kind.allCases)
    func redisTools(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer.keyValue(link.interface, .any(port: 6379))
            defer { server.stop() }
            for pipeline in [1, 16] {
                let result = Shell.run("redis-benchmark -h 10.0.0.2 -n 5000 -q -P \(pipeline) -t ping,set,get,lrange")
                #expect(result.status == 0 && result.output.contains("LRANGE_600"), "\(result.output)")
                #expect(!result.output.contains("rror"), "\(result.output)")
            }
            #expect(Shell.run("redis-cli -h 10.0.0.2 set key value").output == "OK\n")
            #expect(Shell.run("redis-cli -h 10.0.0.2 get key").output == "value\n")
            #expect(server.stop().error == nil)
        }
    }

    @Test("ping is answered, whole and in fragments", .enabled(if: Shell.has("ping"), "needs iputils-ping"), arguments: KernelLink.Kind.allCases)
    func ping(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer.echo(link.interface, .udp, .any(port: 7))
            defer { server.stop() }
            for host in ["10.0.0.2", "2001:db8::2"] {
                for size in [56, 1400, 4000] where kind.passesIPv4Fragments || host != "10.0.0.2" || size <= 1400 {
                    let result = Shell.run("ping -c 3 -i 0.01 -W 20 -s \(size) \(host)")
                    #expect(result.output.contains(" 0% packet loss"), "\(result.output)")
                }
                // As fast as answers come.
                let result = Shell.run("ping -f -c 500 -W 20 \(host)")
                #expect(result.output.contains("500 received"), "\(result.output)")
            }
        }
    }
}

/// Sends bytes while it receives them back, and compares.
func expectEcho(_ client: KernelClient, _ count: Int, sourceLocation: SourceLocation = #_sourceLocation) throws {
    let bytes = testBytes(count)
    var failure: (any Error)?
    let sender = OwnThread {
        do {
            try client.sendAll(bytes)
            client.endSending()
        } catch {
            failure = error
        }
    }
    defer { sender.join() }
    let received = try client.receiveAll()
    #expect(received.count == count && received == bytes, "\(received.count) of \(count) bytes came back", sourceLocation: sourceLocation)
    if let failure { throw failure }
}
