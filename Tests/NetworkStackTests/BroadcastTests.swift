import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

private let peer = LowerPeer()

/// Datagrams to all hosts of the link (RFC 919, RFC 1122 section 3.3.6).
struct BroadcastTests {
    /// A socket that may send to all.
    private func broadcaster(_ host: LowerHost, port: UInt16 = 6_000) -> UInt32 {
        let socket = host.boundSocket(port)
        host.stack.setBroadcast(socket, true)
        return socket
    }

    // MARK: Sending

    @Test(arguments: [LowerHost.broadcast, .limitedBroadcast])
    func aBroadcastLeavesInAFrameToAllStationsAndAsksNobody(destination: IPAddress) throws {
        let host = try LowerHost()
        let socket = broadcaster(host)
        #expect(host.sendDatagram(socket, [1, 2, 3], to: Endpoint(address: destination, port: 7)) == 0)
        let frames = host.output()
        #expect(frames.count == 1)
        expectWellFormed(frames[0])
        #expect(Array(frames[0][0..<6]) == [UInt8](repeating: 0xff, count: 6))
        #expect(Array(frames[0][26..<30]) == ipv4Bytes(LowerHost.address))
        #expect(Array(frames[0][30..<34]) == ipv4Bytes(destination))
        #expect(Array(frames[0][42...]) == [1, 2, 3])
        host.end()
    }

    @Test func aDirectedBroadcastComesFromTheAddressOnItsNetwork() throws {
        let second = IPAddress.ipv4(172, 16, 0, 1)
        let host = try LowerHost { $0.addresses.append(IPv4Prefix(address: second, length: 16)) }
        let socket = broadcaster(host)
        #expect(host.sendDatagram(socket, [1], to: Endpoint(address: .ipv4(172, 16, 255, 255), port: 7)) == 0)
        #expect(Array(host.output()[0][26..<30]) == ipv4Bytes(second))
    }

    @Test func sendingNeedsTheOptionWhichCanBeTakenBack() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(6_000)
        let all = Endpoint(address: .limitedBroadcast, port: 7)
        #expect(!host.stack.isBroadcast(socket))
        #expect(host.sendDatagram(socket, [1], to: all) == EACCES)
        host.stack.setBroadcast(socket, true)
        #expect(host.sendDatagram(socket, [1], to: all) == 0)
        host.stack.setBroadcast(socket, false)
        #expect(host.sendDatagram(socket, [1], to: all) == EACCES)
        #expect(host.output().count == 1)
        host.end()
    }

    @Test func aConnectedSocketSendsBroadcasts() throws {
        let host = try LowerHost()
        let socket = broadcaster(host)
        #expect(host.stack.connectDatagram(socket, to: Endpoint(address: LowerHost.broadcast, port: 7)) == 0)
        #expect(host.stack.datagramLocal(socket).address == LowerHost.address)
        #expect(host.sendDatagram(socket, [1]) == 0)
        #expect(host.output().count == 1)
    }

    @Test func aBroadcastIsNotFragmented() throws {
        let host = try LowerHost()
        let socket = broadcaster(host)
        let all = Endpoint(address: .limitedBroadcast, port: 7)
        #expect(host.sendDatagram(socket, [UInt8](repeating: 1, count: 1_473), to: all) == EMSGSIZE)
        #expect(host.sendDatagram(socket, [UInt8](repeating: 1, count: 1_472), to: all) == 0)
        #expect(host.output().map(\.count) == [1_514])
        host.end()
    }

    @Test func theSendersOwnHostIsOneOfAll() throws {
        let host = try LowerHost()
        let socket = broadcaster(host)
        let receiver = host.boundSocket(7)
        #expect(host.sendDatagram(socket, [1, 2], to: Endpoint(address: .limitedBroadcast, port: 7)) == 0)
        host.advance(milliseconds: 1)
        let datagram = host.takeDatagram(receiver)
        #expect(datagram?.bytes == [1, 2] && datagram?.source == Endpoint(address: LowerHost.address, port: 6_000))
        #expect(host.takeDatagram(receiver) == nil)
        host.end()
    }

    @Test func withoutAnAddressNothingIsBroadcast() throws {
        let host = try LowerHost {
            $0.addresses = []
            $0.routes = []
            $0.ipv6.isEnabled = true
        }
        #expect(host.sendDatagram(broadcaster(host), [1], to: Endpoint(address: .limitedBroadcast, port: 7)) == ENETUNREACH)
    }

    // MARK: Receiving

    @Test(arguments: [LowerHost.broadcast, .limitedBroadcast])
    func everySocketThatTakesItGetsItsOwn(destination: IPAddress) throws {
        let host = try LowerHost()
        let takers = (0..<3).map { _ in host.boundSocket(5_000, reusePort: true) }
        let bound = host.boundSocket(5_000, address: LowerHost.address, reusePort: true)
        let other = host.boundSocket(5_001)
        host.receive(peer.udp([1, 2], to: 5_000, destination: destination, hardware: .broadcast))
        for socket in takers {
            let datagram = host.takeDatagram(socket)
            #expect(datagram?.bytes == [1, 2] && datagram?.source == peer.endpoint(7_000))
            #expect(host.takeDatagram(socket) == nil)
        }
        #expect(!host.stack.hasDatagram(bound) && !host.stack.hasDatagram(other))
        #expect(host.stack.statistics.datagramsReceived == 3)
        host.end()
    }

    @Test func theirBytesAreThoseOfOneBlock() throws {
        let host = try LowerHost()
        let sockets = (0..<3).map { _ in host.boundSocket(5_000, reusePort: true) }
        host.receive(peer.udp([1, 2], to: 5_000, destination: LowerHost.broadcast, hardware: .broadcast))
        #expect(host.heap.statistics.liveBlocks == 1)
        for socket in sockets { #expect(host.takeDatagram(socket)?.bytes == [1, 2]) }
        #expect(host.heap.statistics.liveBlocks == 0)
    }

    @Test func aFullQueueKeepsABroadcastFromNobodyElse() throws {
        let host = try LowerHost { $0.limits.datagramQueueByteCount = 2_048 }
        let full = host.boundSocket(5_000, reusePort: true)
        while host.drops(.receiveQueueFull) == 0 { host.receive(peer.udp([0], to: 5_000)) }
        let empty = host.boundSocket(5_000, reusePort: true)
        host.receive(peer.udp([1], to: 5_000, destination: LowerHost.broadcast, hardware: .broadcast))
        #expect(host.takeDatagram(empty)?.bytes == [1])
        #expect(host.takeDatagram(full)?.bytes == [0])
        #expect(host.drops(.receiveQueueFull) == 2)
    }

    /// RFC 1122 section 3.2.2.
    @Test func aBroadcastThatNobodyTakesIsNotAnswered() throws {
        let host = try LowerHost()
        host.introduce(peer)
        _ = host.boundSocket(5_000, address: LowerHost.address)
        host.receive(peer.udp([1], to: 5_000, destination: LowerHost.broadcast, hardware: .broadcast))
        host.receive(peer.udp([1], to: 5_001, destination: .limitedBroadcast))
        #expect(host.drops(.noDatagramSocket) == 2)
        #expect(host.output().isEmpty)
        host.end()
    }

    @Test func aSpoiltBroadcastReachesNobody() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        var frame = peer.udp([1, 2], to: 5_000, destination: LowerHost.broadcast, hardware: .broadcast)
        frame[43] ^= 1
        host.receive(frame)
        host.receive(peer.ipv4(17, [0x1b, 0x58, 0x13, 0x88, 0, 7, 0, 0], destination: LowerHost.broadcast, to: .broadcast))
        #expect(host.drops(.badDatagramChecksum) == 1 && host.drops(.badDatagram) == 1)
        #expect(!host.stack.hasDatagram(socket))
        host.end()
    }
}
