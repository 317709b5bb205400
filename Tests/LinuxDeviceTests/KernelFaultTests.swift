import DatapathMemory
import Demikernel
import EthernetDevice
import Glibc
import NetworkInterface
import Testing
import UserNetwork

/// What goes wrong between the stack and the Linux kernel at the other end.
@Suite("Faults between the stack and the kernel", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip)) struct KernelFaultTests {
    /// Drops packets at random, in both directions.
    private static func lose(_ percent: Int, on interface: String) throws {
        try Shell.check("nft add table netdev faults")
        let match = percent < 100 ? "numgen random mod 100 '<' \(percent)" : ""
        for hook in ["ingress", "egress"] {
            try Shell.check(
                "nft add chain netdev faults \(hook) '{ type filter hook \(hook) device \(interface) priority 0; }'",
                "nft add rule netdev faults \(hook) \(match) counter drop")
        }
    }

    private static let losses = KernelLink.Kind.ofTheKernel.flatMap { kind in [1, 5, 20].map { (kind, $0) } }

    @Test("random loss in both directions", .enabled(if: Shell.has("nft"), "needs nftables: apt-get install nftables"), arguments: losses)
    func randomLoss(_ kind: KernelLink.Kind, _ percent: Int) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer.echo(link.interface, .tcp, .any(port: 7))
            defer { server.stop() }
            var client = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7)
            try Self.lose(percent, on: link.kernelInterface)
            // Chance decides what is lost: until something was, in either direction. Of merged segments there are few.
            for _ in 0..<200 {
                try expectEcho(client, percent > 10 ? 60_000 : 1_000_000)
                let rules = Shell.run("nft list table netdev faults").output
                guard rules.contains("counter packets") else { break }
                if !rules.contains("counter packets 0 ") { return }
                client = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7)
            }
            Issue.record("nothing was lost: \(Shell.run("nft list table netdev faults").output)")
        }
    }

    @Test("packets of 1280 to 9000 bytes", arguments: KernelLink.Kind.ofTheKernel, [1280, 1500, 4000, 9000])
    func packetSizes(_ kind: KernelLink.Kind, _ mtu: Int) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind, mtu: mtu)
            let server = try StackServer.echo(link.interface, .tcp, .any(.ipv6, port: 7))
            try expectEcho(try KernelClient(.stream, to: .ipv6("2001:db8::2"), port: 7), 2_000_000)
            var report = server.stop()
            #expect(report.network?.device.receiveMalformed == 0 && report.network?.device.transmitTooLong == 0)
            let datagrams = try StackServer.echo(link.interface, .udp, .any(port: 7))
            let client = try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7)
            for size in [mtu - 29, mtu - 28, mtu - 27, 30_000] {
                try client.sendAll(testBytes(size))
                #expect(try client.receive() == testBytes(size), "\(size) bytes")
            }
            report = datagrams.stop()
            #expect(report.error == nil)
        }
    }

    @Test("a peer that has forgotten its connection", .enabled(if: Shell.has("nft"), "needs nftables"), arguments: KernelLink.Kind.ofTheKernel)
    func peerReboot(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer.echo(link.interface, .tcp, .any(port: 7))
            defer { server.stop() }
            var client: KernelClient? = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7, localPort: 5000)
            try client?.sendAll([1, 2, 3])
            #expect(try client?.receiveExactly(3) == [1, 2, 3])
            // Its last words are not heard, and with a linger of 0 it remembers nothing.
            try Self.lose(100, on: link.kernelInterface)
            var linger = Glibc.linger(l_onoff: 1, l_linger: 0)
            setsockopt(try #require(client).descriptor, SOL_SOCKET, SO_LINGER, &linger, socklen_t(MemoryLayout<Glibc.linger>.size))
            client = nil
            try Shell.check("nft delete table netdev faults")
            // The same two ends again: to the stack the old connection is still there.
            let again = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7, localPort: 5000)
            try expectEcho(again, 50_000)
        }
    }

    @Test("the link goes down and up again", arguments: KernelLink.Kind.ofTheKernel)
    func carrier(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer.echo(link.interface, .tcp, .any(port: 7))
            defer { server.stop() }
            let client = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7)
            try expectRoundTrip(client, 1)
            for round in 2...4 {
                // The end that the stack is on, and the peer's.
                let interface = round == 3 ? link.kernelInterface : "demi0"
                try Shell.check("ip link set \(interface) down")
                try client.sendAll([UInt8(round)])
                try Shell.check("ip link set \(interface) up")
                #expect(try client.receive() == [UInt8(round)])
            }
            try expectRoundTrip(client, 5)
            #expect(server.stop().network?.device.isGone == false)
        }
    }

    private func expectRoundTrip(_ client: KernelClient, _ value: UInt8) throws {
        try client.sendAll([value])
        #expect(try client.receive() == [value])
    }

    @Test("the interface is removed while it is in use", arguments: KernelLink.Kind.ofTheKernel)
    func removal(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer.echo(link.interface, .tcp, .any(port: 7))
            let client = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7)
            try expectRoundTrip(client, 1)
            try Shell.check("ip link delete demi0")
            let report = server.stop()
            #expect(report.error == nil)
            #expect(report.runtime.memory.liveSegments < 64)
        }
    }

    @Test("a device says that its interface is gone, and waits for nothing more", arguments: KernelLink.Kind.ofTheKernel)
    func goneDevice(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let runtime = try Runtime(RuntimeConfiguration())
            let device = try link.interface.openDevice(heap: runtime.core.heap)
            defer { device.close() }
            try device.attach(runtime.core.heap)
            #expect(device.prepareToSleep() >= 0)
            try Shell.check("ip link delete demi0")
            withUnsafeTemporaryAllocation(of: Frame.self, capacity: 8) { frames in
                while device.receive(frames.baseAddress!, capacity: 8) > 0 {}
            }
            #expect(device.prepareToSleep() == EthernetDevice.nothingToAwait)
            #expect(device.statistics.isGone)
            let frame = try #require(Frame.makeSegment(runtime.core.heap, byteCount: 60, priority: .reserve))
            #expect(device.transmit(frame))
            #expect(device.statistics.transmitLinkDown == 1)
        }
    }

    @Test("an address that the peer has as well is not used", arguments: KernelLink.Kind.ofTheKernel)
    func duplicateAddress(_ kind: KernelLink.Kind) throws {
        // The kernel's side of a TAP interface is the peer. On a shared interface an address of its own kernel would be refused.
        if kind == .tap {
            try inNetworkNamespace {
                let link = try KernelLink(.tap)
                try Shell.check("ip -6 address add 2001:db8::2/64 dev demi0 nodad")
                try expectDuplicate(link.interface)
            }
        } else {
            try withCable { peer in
                try peer.run { try Shell.check("ip -6 address add 2001:db8::2/64 dev demi1 nodad") }
                try expectDuplicate(try InterfaceConfiguration(device: "xdp:demi0", addresses: ["10.0.0.2/24", "2001:db8::2/64"]))
            }
        }
    }

    private func expectDuplicate(_ interface: InterfaceConfiguration) throws {
        var configuration = RuntimeConfiguration()
        configuration.memory.arenaByteCount = 16 << 20
        let runtime = try Runtime(configuration)
        let device = try interface.openDevice(heap: runtime.core.heap)
        let libraryOS = try UserNetwork.make(for: runtime.core, device: device, configuration: interface.networkConfiguration(for: device, seed: 1))
        try runtime.register(libraryOS)
        // At most two seconds by the RFC; the event ends the wait.
        let end = runtime.now + 30_000_000_000
        while UserNetwork.statistics(of: libraryOS).network.duplicateAddresses == 0, runtime.now < end { _ = runtime.poll() }
        #expect(UserNetwork.statistics(of: libraryOS).network.duplicateAddresses == 1)
    }

    @Test("killing the process leaves the interface to the kernel", arguments: KernelLink.Kind.ofTheKernel)
    func killedProcess(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            // What the host itself has on the interface afterwards.
            if kind == .xdp { try Shell.check("ip address add 10.0.0.9/24 dev demi0") }
            for _ in 0..<3 {
                let process = try CommandProcess(["kv", "--libos", "catnip", "--device", "\(link.interface.device)", "--address", "10.0.0.2/24"])
                #expect(process.readLine().contains("listening on 0.0.0.0:6379 (catnip on \(link.interface.device))"))
                let client = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 6379)
                try client.sendAll(Array("PING\r\n".utf8))
                #expect(try client.receiveExactly(7) == Array("+PONG\r\n".utf8))
                process.kill()
                let shown = Shell.run("ip link show demi0").output
                #expect(shown.contains("demi0") && !shown.contains("xdp"), "\(shown)")
            }
        }
    }
}
