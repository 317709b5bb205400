import Demikernel
import Echo
import EthernetDevice
import NetworkStack
import Simulation
import Testing
import WireFormats

/// Hosts in networks of their own, with a router between them, and devices that compute checksums.
@Suite struct RouterTests {
    private final class Networks {
        let world = Simulation(seed: 1)
        let router: SimulatedRouter
        private(set) var hosts: [SimulatedHost] = []
        private(set) var links: [SimulatedLink] = []

        init(offloads: DeviceOffloads = [], speaksIPv6: Bool = false, _ conditions: LinkConditions = .clean()) throws {
            router = world.makeRouter("router")
            for number: UInt8 in 1...2 {
                var settings = SimulatedHost.Settings()
                settings.limits.coroutineStackByteCount = 1 << 20
                settings.offloads = offloads
                settings.speaksIPv6 = speaksIPv6
                settings.address = .ipv4(10, number, 0, number)
                settings.routes = [
                    NetworkConfiguration.Route(
                        destination: IPv4Prefix(address: .ipv4(0, 0, 0, 0), length: 0), gateway: SimulatedRouter.gateway(of: settings.address!).address)
                ]
                let host = try world.makeHost("host\(number)", settings)
                hosts.append(host)
                links.append(world.connect(host, router, conditions))
            }
        }

        /// Echoes `byteCount` bytes over the router.
        func echo(byteCount: Int, over family: AddressFamily = .ipv4) throws -> SimulatedProgram {
            try hosts[0].run("echo") { runtime in
                var server = EchoServer(.tcp, listen: .any(family, port: 7))
                try server.run(on: runtime) { _ in }
            }
            let program = try hosts[1].run("client") { runtime in
                let queue = try runtime.socket(family, .stream)
                let server: SocketAddress =
                    family == .ipv4
                    ? .ipv4(10, 1, 0, 1, port: 7) : SocketAddress(family: .ipv6, bytes: self.hosts[0].address(.ipv6).words, port: 7)
                try runtime.wait(try runtime.connect(queue, to: server)).succeeded()
                let message = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 / 7) }
                _ = try runtime.push(queue, try runtime.allocate(copying: message.span))
                var reply: [UInt8] = []
                while reply.count < byteCount, let array = try runtime.wait(try runtime.pop(queue)).popped() {
                    for segment in 0..<array.segmentCount { array.withUnsafeBytes(ofSegment: segment) { reply += $0 } }
                }
                #expect(reply == message)
                try runtime.close(queue)
            }
            try world.run(for: .seconds(600))
            return program
        }
    }

    @Test func aStreamGoesOverARouter() throws {
        let networks = try Networks()
        let program = try networks.echo(byteCount: 100_000)
        #expect(program.isFinished && program.error == nil)
        #expect(networks.router.forwardedPackets > 100 && networks.router.droppedPackets == 0)
        networks.world.end()
    }

    @Test func aRouterDropsWhatIsDamagedAndTheStreamIsWhole() throws {
        var conditions = LinkConditions.clean(delay: 1_000_000)
        conditions.corruption = 100_000
        let networks = try Networks(conditions)
        let program = try networks.echo(byteCount: 100_000)
        #expect(program.isFinished && program.error == nil)
        #expect(networks.router.droppedPackets > 0)
        networks.world.end()
    }

    /// The hosts ask the router for its hardware address with neighbour solicitations.
    @Test func aStreamGoesOverARouterInIPv6() throws {
        let networks = try Networks(speaksIPv6: true)
        let program = try networks.echo(byteCount: 100_000, over: .ipv6)
        #expect(program.isFinished && program.error == nil)
        #expect(networks.router.forwardedPackets > 100 && networks.router.droppedPackets == 0)
        #expect(networks.world.checker.ipv6.segments == networks.router.forwardedPackets)
        networks.world.end()
    }

    @Test func aDeviceCompletesAndVerifiesChecksumsOverIPv6() throws {
        var conditions = LinkConditions.clean(delay: 1_000_000)
        conditions.corruption = 50_000
        let networks = try Networks(
            offloads: [.transmitChecksumTCP, .transmitChecksumUDP, .receiveChecksumIPv4, .receiveChecksumTCP, .receiveChecksumUDP], speaksIPv6: true,
            conditions)
        let program = try networks.echo(byteCount: 100_000, over: .ipv6)
        #expect(program.isFinished && program.error == nil)
        #expect(networks.hosts[0].networkStatistics.drops[.badSegmentChecksum] > 0)
        networks.world.end()
    }

    @Test func aPacketForNobodyEndsAtTheRouter() throws {
        let networks = try Networks()
        try networks.hosts[0].run("sender") { runtime in
            let queue = try runtime.socket(.ipv4, .datagram)
            try runtime.wait(try runtime.pushTo(queue, .init(try runtime.allocate(10)), .ipv4(10, 9, 0, 9, port: 9))).succeeded()
            try runtime.close(queue)
        }
        try networks.world.run(for: .seconds(10))
        #expect(networks.router.droppedPackets == 1 && networks.router.forwardedPackets == 0)
        networks.world.end()
    }

    /// The checker sees the frames as they leave the device.
    @Test func aDeviceCompletesAndVerifiesChecksums() throws {
        var conditions = LinkConditions.clean(delay: 1_000_000)
        conditions.corruption = 50_000
        let networks = try Networks(
            offloads: [.transmitChecksumTCP, .transmitChecksumUDP, .receiveChecksumIPv4, .receiveChecksumTCP, .receiveChecksumUDP], conditions)
        let program = try networks.echo(byteCount: 100_000)
        #expect(program.isFinished && program.error == nil)
        #expect(networks.hosts[0].networkStatistics.drops[.badSegmentChecksum] > 0)
        networks.world.end()
    }
}
