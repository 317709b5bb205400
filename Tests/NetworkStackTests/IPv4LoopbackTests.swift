import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// What a host sends to itself never reaches the wire.
@Suite struct IPv4LoopbackTests {
    @Test(arguments: [LowerHost.address, .ipv4(127, 0, 0, 1)])
    func aDatagramToOneselfArrivesWhenTheStackRuns(address: IPAddress) throws {
        let host = try LowerHost()
        let server = host.boundSocket(5_000)
        let client = host.boundSocket(6_000)
        #expect(host.sendDatagram(client, [1, 2, 3], to: Endpoint(address: address, port: 5_000)) == 0)
        #expect(!host.stack.hasDatagram(server))
        #expect(host.stack.nextDeadline == host.stack.now)
        host.advance()
        let datagram = try #require(host.takeDatagram(server))
        #expect(datagram.bytes == [1, 2, 3])
        #expect(datagram.source == Endpoint(address: address, port: 6_000))
        #expect(host.output().isEmpty)
        host.end()
    }

    @Test func aDatagramInSegmentsThatItsSenderKeepsIsCopied() throws {
        let host = try LowerHost()
        let server = host.boundSocket(5_000)
        let client = host.boundSocket(6_000)
        let bytes = (0..<1_400).map { UInt8(truncatingIfNeeded: $0) }
        let kept = host.makeFrame(bytes)
        let array = try #require(kept.makeSlice(offset: 0, byteCount: 1_400))
        #expect(host.stack.sendDatagram(client, array, to: Endpoint(address: LowerHost.address, port: 5_000)) == 0)
        host.advance()
        let (payload, _, _) = try #require(host.stack.receiveDatagram(server))
        #expect(host.bytes(of: payload) == bytes)
        #expect(payload.isSoleOwner)
        #expect(payload.segmentAddress != kept.segmentAddress)
        payload.releaseArray()
        kept.releaseArray()
        host.end()
    }

    @Test func aClosedPortOfOneselfIsReported() throws {
        let host = try LowerHost()
        let client = host.stack.makeDatagramSocket(owner: 1)
        #expect(host.stack.connectDatagram(client, to: Endpoint(address: .ipv4(127, 0, 0, 1), port: 5_000)) == 0)
        #expect(host.sendDatagram(client, [1]) == 0)
        host.advance()
        host.advance()
        #expect(host.stack.takeDatagramError(client) == ECONNREFUSED)
        #expect(host.output().isEmpty)
        host.end()
    }

    @Test func whatIsSentToOneselfIsBounded() throws {
        let host = try LowerHost { $0.limits.datagramQueueByteCount = 1 << 20 }
        let server = host.boundSocket(5_000)
        let client = host.boundSocket(6_000)
        var taken = 0
        while host.sendDatagram(client, [1], to: Endpoint(address: LowerHost.address, port: 5_000)) == 0 { taken += 1 }
        #expect(taken == 1_024)
        #expect(host.sendDatagram(client, [1], to: Endpoint(address: LowerHost.address, port: 5_000)) == ENOBUFS)
        host.advance()
        var received = 0
        while host.takeDatagram(server) != nil { received += 1 }
        #expect(received == 1_024)
        host.end()
    }

    @Test func aLoopbackAddressDoesNotLeaveTheHost() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000, address: .ipv4(127, 0, 0, 1))
        #expect(host.sendDatagram(socket, [1], to: LowerPeer().endpoint(9)) == EINVAL)
        #expect(host.stack.connectDatagram(socket, to: LowerPeer().endpoint(9)) == EINVAL)
        #expect(host.output().isEmpty)
    }
}
