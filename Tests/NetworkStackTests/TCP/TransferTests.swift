import DatapathMemory
import EthernetDevice
import NetworkStack
import Testing
import WireFormats

/// Bytes between two stacks, on good wires and bad ones.
@Suite("TCP: transfer") struct TransferTests {
    @Test("a handshake, a few bytes each way, an orderly end")
    func smallExchange() throws {
        let pair = try StackPair()
        let listener = pair.listener(on: 1)
        let (client, server) = pair.connect(listener: listener)
        #expect(pair.stacks[0].connectionState(client) == .established)
        #expect(pair.stacks[1].connectionState(server) == .established)
        pair.send(0, client, [1, 2, 3])
        pair.exchange()
        #expect(pair.receive(1, server) == [1, 2, 3])
        pair.send(1, server, [4, 5])
        pair.exchange()
        #expect(pair.receive(0, client) == [4, 5])
        pair.stacks[0].close(client)
        pair.exchange()
        #expect(pair.stacks[1].isAtEndOfStream(server))
        #expect(pair.stacks[0].connectionState(client) == .finWait2)
        pair.stacks[1].close(server)
        pair.exchange()
        #expect(pair.stacks[1].connectionState(server) == .closed)
        #expect(pair.stacks[0].connectionState(client) == .timeWait)
        pair.advance(61_000_000_000)
        #expect(pair.stacks[0].connectionState(client) == .closed)
    }

    @Test("a push larger than the MSS keeps its tail", arguments: [1_461, 2_920, 3_000, 100_000, 1_000_000])
    func largePush(_ count: Int) throws {
        let pair = try StackPair()
        let listener = pair.listener(on: 1)
        let (client, server) = pair.connect(listener: listener)
        let bytes = pattern(count)
        pair.send(0, client, bytes)
        var received = [UInt8]()
        for _ in 0..<2_000 where received.count < count {
            pair.advance(1_000_000)
            received += pair.receive(1, server)
        }
        #expect(received.count == bytes.count)
        #expect(received.elementsEqual(bytes))
        #expect(pair.stacks[0].statistics.tcp.retransmittedSegments == 0)
    }

    @Test("every byte arrives in order over a wire that loses one frame in n", arguments: [4, 7, 20])
    func lossyTransfer(_ rate: Int) throws {
        let pair = try StackPair()
        let listener = pair.listener(on: 1)
        let (client, server) = pair.connect(listener: listener)
        var random = UInt64(rate) | 1
        pair.passes = { _, _ in
            random = random &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return (random >> 33) % UInt64(rate) != 0
        }
        let bytes = pattern(60_000)
        pair.send(0, client, bytes)
        var received = [UInt8]()
        for _ in 0..<3_000 where received.count < bytes.count {
            pair.advance(100_000_000)
            received += pair.receive(1, server)
        }
        #expect(received.count == bytes.count)
        #expect(received.elementsEqual(bytes))
        #expect(pair.stacks[0].statistics.tcp.retransmittedSegments > 0)
    }

    @Test("without a descriptor to cut a segment, never more is given than asked for, and nothing is lost")
    func takeWithoutDescriptor() throws {
        let script = try SegmentScript()
        let connection = script.established()
        for index in 0..<3 { script.peer(.psh, seq: 1 + 100 * index, ack: 1, length: 100) }
        var held: [Frame] = []
        while script.heap.hasFreeSegment, let frame = Frame.makeSegment(script.heap, byteCount: 1, priority: .reserve) { held.append(frame) }
        #expect(!script.heap.hasFreeSegment)
        #expect(script.stack.takeReceived(connection, maximumSegments: 16, maximumBytes: 50) == nil)
        #expect(script.stack.receivableByteCount(connection) == 300)
        #expect(!script.stack.isAtEndOfStream(connection))
        // What fits in whole segments; and that frees a descriptor, so that the next one can be cut.
        let whole = try #require(script.stack.takeReceived(connection, maximumSegments: 16, maximumBytes: 250))
        #expect(whole.arrayByteCount == 200)
        for frame in held { frame.releaseArray() }
        var bytes = [UInt8](repeating: 0, count: 200)
        bytes.withUnsafeMutableBytes { whole.copyArray(to: $0.baseAddress!) }
        whole.releaseArray()
        bytes += script.receive(connection, maximumBytes: 50)
        #expect(bytes.count == 250)
        bytes += script.receive(connection)
        #expect(bytes == pattern(300))
        script.close(connection)
        script.end()
    }
}
