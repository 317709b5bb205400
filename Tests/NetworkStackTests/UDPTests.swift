import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// RFC 768, RFC 1122 section 4.1: datagrams on the wire.
@Suite struct UDPTests {
    let peer = LowerPeer()

    // MARK: Sending

    @Test func aDatagramLooksAsTheRFCsSay() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        #expect(host.sendDatagram(socket, Array("hello".utf8), to: peer.endpoint(7)) == 0)
        let output = host.output()
        #expect(output.count == 1)
        let frame = try #require(output.first)
        #expect(Array(frame[0..<18]) == hex("02 00 00 00 00 02 02 00 00 00 00 01 08 00  45 00 00 21"))
        #expect(Array(frame[20..<24]) == hex("40 00 40 11"))
        #expect(Array(frame[26...]) == hex("0a 00 00 01 0a 00 00 02  13 88 00 07 00 0d 94 70  68 65 6c 6c 6f"))
        expectWellFormed(frame)
        #expect(host.stack.statistics.datagramsSent == 1)
        host.end()
    }

    @Test(arguments: [0, 1, 2, 3, 7, 8, 22, 64, 1_023, 1_024, 1_025, 1_471, 1_472], [[], [1], [0, 5, 0, 2]])
    func anArrayOfAnyShapeIsOneDatagram(byteCount: Int, lengths: [Int]) throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.stack.makeDatagramSocket(owner: 1)
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(7)) == 0)
        let bytes = (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ 5) }
        #expect(host.sendDatagram(socket, bytes, cutAt: lengths) == 0)
        let output = host.output()
        #expect(output.count == 1)
        expectWellFormed(output[0])
        #expect(Array(output[0][42...]) == bytes)
        host.end()
    }

    @Test func aLargePayloadIsNotCopiedWhereTheDeviceGathers() throws {
        for (maximumSegments, expected) in [(8, 3), (3, 3), (2, 1), (1, 1)] {
            let host = try LowerHost { $0.maximumTransmitSegments = maximumSegments }
            host.introduce(peer)
            let socket = host.boundSocket(5_000)
            let array = host.makeFrame([UInt8](repeating: 3, count: 1_400), cutAt: [701])
            #expect(host.stack.sendDatagram(socket, array, to: peer.endpoint(7)) == 0)
            var frame: Frame?
            withUnsafeTemporaryAllocation(of: Frame.self, capacity: 1) {
                #expect(host.stack.takeOutput(into: $0.baseAddress!, capacity: 1) == 1)
                frame = $0[0]
            }
            let sent = try #require(frame)
            #expect(sent.arraySegmentCount == expected)
            expectWellFormed(host.bytes(of: sent))
            sent.releaseArray()
            host.end()
        }
    }

    @Test func theDeviceIsLeftTheChecksumThatItOffersToCompute() throws {
        let host = try LowerHost { $0.offloads = .transmitChecksumUDP }
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        for byteCount in [5, 1_200] {
            let array = host.makeFrame([UInt8](repeating: 3, count: byteCount))
            #expect(host.stack.sendDatagram(socket, array, to: peer.endpoint(7)) == 0)
            var frame: Frame?
            withUnsafeTemporaryAllocation(of: Frame.self, capacity: 1) {
                _ = host.stack.takeOutput(into: $0.baseAddress!, capacity: 1)
                frame = $0[0]
            }
            let sent = try #require(frame)
            #expect(sent.frameFlags == .needsTransportChecksum)
            let bytes = host.bytes(of: sent)
            // The sum of the pseudo header, not complemented.
            #expect(number(bytes, at: 40) == ~internetChecksum(Array(bytes[26..<34]) + [0, 17] + bytes[38..<40]))
            sent.releaseArray()
        }
    }

    @Test func aChecksumOfZeroIsSentAsAllOnes() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        // The payload is chosen so that the sum of all else is complemented by it.
        let rest = internetChecksum([10, 0, 0, 1, 10, 0, 0, 2, 0, 17, 0, 10] + bigEndian(5_000) + bigEndian(7) + [0, 10, 0, 0])
        #expect(host.sendDatagram(socket, bigEndian(rest), to: peer.endpoint(7)) == 0)
        #expect(number(host.output()[0], at: 40) == 0xffff)
    }

    /// RFC 6864 section 4.1: what is whole and may not be cut needs no identification.
    @Test func aDatagramThatFitsIsAtomic() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == 0)
        #expect(number(host.output()[0], at: 20) == 0x4000)
    }

    @Test func aDatagramThatCannotBeSentStaysTheCallers() throws {
        let host = try LowerHost { $0.routes = [] }
        host.introduce(peer)
        let socket = host.stack.makeDatagramSocket(owner: 1)
        #expect(host.sendDatagram(socket, [1]) == EDESTADDRREQ)
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(0)) == EINVAL)
        #expect(host.sendDatagram(socket, [1], to: Endpoint(address: LowerHost.broadcast, port: 7)) == EACCES)
        #expect(host.sendDatagram(socket, [1], to: Endpoint(address: .limitedBroadcast, port: 7)) == EACCES)
        #expect(host.sendDatagram(socket, [1], to: Endpoint(address: .ipv4(192, 0, 2, 1), port: 7)) == ENETUNREACH)
        #expect(host.sendDatagram(socket, [1], to: Endpoint(address: .ipv4(240, 0, 0, 1), port: 7)) == ENETUNREACH)
        #expect(host.sendDatagram(socket, [UInt8](repeating: 0, count: 65_508), to: peer.endpoint(7)) == EMSGSIZE)
        #expect(host.stack.maximumDatagramByteCount == 65_507)
        #expect(host.output().isEmpty)
        #expect(host.stack.statistics.datagramsSent == 0)
        host.end()
    }

    @Test func aFullOutputTakesNoMoreDatagrams() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        for _ in 0..<1_024 { #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == 0) }
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == ENOBUFS)
        #expect(host.output().count == 1_024)
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == 0)
        host.end()
    }

    @Test func aFullHeapTakesNoMoreDatagrams() throws {
        let host = try LowerHost(arenaByteCount: 4 << 20)
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        let array = host.makeFrame([1])
        var ballast: [Frame] = []
        while let block = Frame.makeSegment(host.heap, byteCount: 1_000, priority: .application) { ballast.append(block) }
        while let block = Frame.makeSegment(host.heap, byteCount: 64, priority: .application) { ballast.append(block) }
        #expect(host.stack.sendDatagram(socket, array, to: peer.endpoint(7)) == ENOBUFS)
        #expect(host.output().isEmpty)
        array.releaseArray()
        for block in ballast { block.releaseArray() }
        host.end()
    }

    // MARK: Receiving

    @Test func datagramsKeepTheirOrderTheirBoundariesAndTheirSenders() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        for index: UInt8 in 0..<10 {
            host.receive(LowerPeer(2 + index).udp([UInt8](repeating: index, count: Int(index)), from: 100 + UInt16(index), to: 5_000))
        }
        for index: UInt8 in 0..<10 {
            let datagram = try #require(host.takeDatagram(socket))
            #expect(datagram.bytes == [UInt8](repeating: index, count: Int(index)))
            #expect(datagram.source == LowerPeer(2 + index).endpoint(100 + UInt16(index)))
        }
        #expect(!host.stack.hasDatagram(socket))
        #expect(host.takeDatagram(socket) == nil)
        #expect(host.stack.statistics.datagramsReceived == 10)
        host.end()
    }

    @Test func aPayloadIsTheReceivedFramesOwnMemory() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        let frame = host.makeFrame(peer.udp([1, 2, 3], to: 5_000))
        let address = frame.segmentAddress
        host.stack.receive(frame)
        let (payload, _, _) = try #require(host.stack.receiveDatagram(socket))
        #expect(payload == frame && payload.segmentAddress == address + 42)
        payload.releaseArray()
        host.end()
    }

    @Test func bytesBehindTheLengthAreNoPartOfTheDatagram() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(peer.ipv4(17, peer.datagram([1, 2, 3], from: 1, to: 5_000) + [9, 9, 9, 9, 9]))
        #expect(host.takeDatagram(socket)?.bytes == [1, 2, 3])
    }

    @Test(arguments: [0, 1, 7, 12, 65_535] as [UInt16])
    func aLengthThatCannotBeIsDropped(length: UInt16) throws {
        let host = try LowerHost()
        host.introduce(peer)
        var datagram = peer.datagram([1, 2, 3], from: 1, to: 5_000)
        datagram.replaceSubrange(4...5, with: bigEndian(length))
        host.receive(peer.ipv4(17, datagram))
        for count in 0..<8 { host.receive(peer.ipv4(17, Array(datagram.prefix(count)))) }
        #expect(host.drops(.badDatagram) == 9)
        #expect(host.output().isEmpty)
    }

    @Test func aDamagedDatagramIsDroppedWithoutAnAnswer() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        let frame = peer.udp([1, 2, 3, 4, 5], to: 5_000)
        for offset in [34, 35, 36, 37, 40, 41] + Array(42..<47) {
            var damaged = frame
            damaged[offset] ^= 0x40
            host.receive(damaged)
        }
        #expect(host.drops(.badDatagramChecksum) == 11)
        #expect(!host.stack.hasDatagram(socket))
        #expect(host.output().isEmpty)
    }

    @Test func aDatagramWithoutAChecksumIsReceived() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        var datagram = peer.datagram([1, 2, 3], from: 1, to: 5_000)
        datagram[6] = 0
        datagram[7] = 0
        host.receive(peer.ipv4(17, datagram))
        #expect(host.takeDatagram(socket)?.bytes == [1, 2, 3])
        // Nor is one looked at that the device has verified.
        datagram[6] = 0x55
        host.receive(peer.ipv4(17, datagram), flags: .checksumVerified)
        #expect(host.takeDatagram(socket)?.bytes == [1, 2, 3])
    }

    @Test func aDatagramFromPortZeroIsReceived() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        host.receive(peer.udp([1], from: 0, to: 5_000))
        #expect(host.takeDatagram(socket)?.source == peer.endpoint(0))
    }

    @Test func aSocketThatIsNotReadIsBounded() throws {
        let host = try LowerHost { $0.limits.datagramQueueByteCount = 8_192 }
        let socket = host.boundSocket(5_000)
        // Blocks of 2048 bytes.
        for _ in 0..<10 { host.receive(peer.udp([UInt8](repeating: 1, count: 1_400), to: 5_000)) }
        #expect(host.drops(.receiveQueueFull) == 6)
        var count = 0
        while host.takeDatagram(socket) != nil { count += 1 }
        #expect(count == 4)
        host.receive(peer.udp([1], to: 5_000))
        #expect(host.takeDatagram(socket) != nil)
        host.end()
    }

    @Test func datagramsAreDroppedWhenTheHeapIsNearlyFull() throws {
        let host = try LowerHost(arenaByteCount: 4 << 20)
        let socket = host.boundSocket(5_000)
        var ballast: [Frame] = []
        while host.heap.pressure < .dropDatagrams, let block = Frame.makeSegment(host.heap, byteCount: 1_000, priority: .reserve) {
            ballast.append(block)
        }
        host.receive(peer.udp([1], to: 5_000))
        #expect(host.drops(.outOfMemory) == 1)
        for block in ballast { block.releaseArray() }
        host.receive(peer.udp([1], to: 5_000))
        #expect(host.takeDatagram(socket) != nil)
        host.end()
    }
}
