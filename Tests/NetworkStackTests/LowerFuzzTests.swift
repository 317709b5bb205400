import DatapathMemory
import EthernetDevice
import NetworkStack
import Testing
import WireFormats

/// Whatever arrives: nothing traps, nothing leaks, nothing grows.
@Suite struct LowerFuzzTests {
    private struct Generator: RandomNumberGenerator {
        var state: UInt64

        mutating func next() -> UInt64 {
            state &+= 0x9e37_79b9_7f4a_7c15
            var value = state
            value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
            value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
            return value ^ (value >> 31)
        }
    }

    /// Frames that are right, to be spoiled: an ARP request and answer, datagrams, echoes, errors, options, fragments, TCP.
    private func seeds(about sent: [UInt8]) -> [[UInt8]] {
        let peer = LowerPeer()
        return [
            peer.arpRequest(for: LowerHost.address), peer.arpReply(), LowerPeer(9).arpRequest(for: LowerHost.address),
            peer.udp([1, 2, 3], to: 5_000), peer.udp([UInt8](repeating: 7, count: 300), from: 9, to: 6_000), peer.udp([], to: 1),
            peer.ipv4(17, peer.datagram([1, 2], from: 9, to: 5_000), options: hex("01 07 07 04 00 00 00 00")),
            peer.ipv4(17, peer.datagram([1, 2], from: 9, to: 5_000), options: hex("83 07 04 00 00 00 00 00")),
            peer.echoRequest([1, 2, 3]), LowerPeer(8).echoRequest([]),
            peer.icmp([3, 3, 0, 0, 0, 0, 0, 0] + sent[14...].prefix(28)), peer.icmp([3, 4, 0, 0, 0, 0, 2, 0] + sent[14...].prefix(28)),
            peer.icmp([11, 0, 0, 0, 0, 0, 0, 0] + sent[14...].prefix(28)),
            peer.ipv4(6, hex("1b 58 13 88 00 00 00 01 00 00 00 00 50 02 ff ff 00 00 00 00")), peer.ipv4(99, [1]),
            peer.udp([1], to: 5_000, destination: LowerHost.broadcast, hardware: .broadcast),
        ]
    }

    @Test func randomFramesNeitherTrapNorLeak() throws {
        let host = try LowerHost {
            $0.limits.maximumNeighbors = 16
            $0.limits.datagramQueueByteCount = 4_096
        }
        let peer = LowerPeer()
        host.introduce(peer)
        let bound = host.boundSocket(5_000)
        let connected = host.boundSocket(6_000)
        #expect(host.stack.connectDatagram(connected, to: peer.endpoint(9)) == 0)
        #expect(host.sendDatagram(connected, [1, 2, 3]) == 0)
        let seeds = seeds(about: host.output()[0])
        var generator = Generator(state: 7)
        for seed in 0..<200_000 {
            var bytes = seeds[seed % seeds.count]
            switch generator.next() % 8 {
            case 0: bytes = (0..<Int.random(in: 0...128, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            case 1: bytes = Array(bytes.prefix(Int.random(in: 0...bytes.count, using: &generator)))
            case 2:
                bytes.append(contentsOf: (0..<Int.random(in: 1...32, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) })
            case 3: break
            default:
                for _ in 0..<Int.random(in: 1...4, using: &generator) {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
                }
            }
            // A device that says that the checksums are right lets damage through to the code behind them.
            let cuts = generator.next() % 16 == 0 ? [Int.random(in: 0...bytes.count, using: &generator)] : []
            host.receive(bytes, cutAt: cuts, flags: generator.next() % 2 == 0 ? .checksumVerified : [])
            if seed % 16 == 0 {
                _ = host.takeDatagram(bound)
                _ = host.sendDatagram(connected, [1])
                _ = host.sendDatagram(bound, [1], to: LowerPeer(UInt8.random(in: 0...255, using: &generator)).endpoint(9))
            }
            if seed % 64 == 0 {
                for frame in host.output() { expectWellFormed(frame) }
                host.advance(milliseconds: UInt64.random(in: 0...2_000, using: &generator))
                while host.stack.takeDatagramEvent() != nil {}
                #expect(host.stack.statistics.neighbors <= 16)
            }
        }
        #expect(host.stack.statistics.framesReceived == 200_000 + 1)
        #expect(host.stack.statistics.datagramsReceived > 1_000)
        #expect(host.stack.statistics.echoRepliesSent > 1_000)
        host.end()
    }

    @Test func theSameEventsGiveTheSameFrames() throws {
        func run() throws -> [[UInt8]] {
            let host = try LowerHost()
            let socket = host.stack.makeDatagramSocket(owner: 1)
            #expect(host.stack.connectDatagram(socket, to: LowerPeer().endpoint(9)) == 0)
            var result: [[UInt8]] = []
            for number: UInt8 in 2..<200 {
                host.receive(LowerPeer(number).echoRequest([number]))
                host.receive(LowerPeer(number).arpReply())
                result.append([UInt8(host.sendDatagram(socket, [number]))])
                host.advance(milliseconds: 300)
                result += host.output()
            }
            host.end()
            return result
        }
        let first = try run()
        #expect(first.count > 500)
        #expect(try run() == first)
    }
}
