import DatapathMemory
import EthernetDevice
import NetworkStack
import Testing
import WireFormats

/// What an owner awaits is handed over in the turn in which it comes.
@Suite struct DeliveryTests {
    /// A turn of stack 1 with what stack 0 has sent.
    private func turn(_ pair: StackPair) -> (deliveries: [(bytes: [UInt8], owner: UInt32)], events: [ConnectionEvent]) {
        pair.collect(from: 0)
        var frames = pair.wire.map(\.frame)
        pair.wire = []
        var deliveries: [(bytes: [UInt8], owner: UInt32)] = []
        var events: [ConnectionEvent] = []
        withUnsafeTemporaryAllocation(of: Delivery.self, capacity: 16) { delivered in
            let result = frames.withUnsafeMutableBufferPointer {
                pair.stacks[1].turn(to: pair.now, frames: $0.baseAddress!, count: $0.count, deliveries: delivered.baseAddress!)
            }
            for delivery in delivered.prefix(result.endOfDeliveries - delivered.baseAddress!) {
                var bytes = [UInt8](repeating: 0, count: delivery.payload.arrayByteCount)
                bytes.withUnsafeMutableBytes { if let base = $0.baseAddress { delivery.payload.copyArray(to: base) } }
                deliveries.append((bytes, delivery.owner))
                delivery.payload.releaseArray()
            }
            while let event = pair.stacks[1].takeConnectionEvent() { events.append(event) }
            #expect((result.eventCount != 0) == !events.isEmpty)
        }
        return (deliveries, events)
    }

    private func connect() throws -> (pair: StackPair, client: UInt32, server: UInt32) {
        let pair = try StackPair()
        let (client, server) = pair.connect(listener: pair.listener(on: 1))
        while pair.stacks[1].takeConnectionEvent() != nil {}
        pair.stacks[0].setNoDelay(client, true)
        return (pair, client, server)
    }

    @Test func theNextBytesGoToWhoAwaitsThemAndNoEventTellsOfThem() throws {
        let (pair, client, server) = try connect()
        pair.stacks[1].awaitData(server)
        pair.send(0, client, [1, 2, 3])
        let (deliveries, events) = turn(pair)
        #expect(deliveries.map(\.bytes) == [[1, 2, 3]] && deliveries.map(\.owner) == [3])
        #expect(events.isEmpty && pair.stacks[1].receivableByteCount(server) == 0)
    }

    @Test func onlyOneSegmentIsDeliveredForEachCall() throws {
        let (pair, client, server) = try connect()
        pair.stacks[1].awaitData(server)
        for byte in 1...3 { pair.send(0, client, [UInt8(byte)]) }
        let (deliveries, events) = turn(pair)
        #expect(deliveries.map(\.bytes) == [[1]])
        #expect(events.map(\.events) == [.readable] && pair.receive(1, server) == [2, 3])
    }

    @Test func bytesThatWaitAreNotOvertaken() throws {
        let (pair, client, server) = try connect()
        pair.send(0, client, [1])
        #expect(turn(pair).deliveries.isEmpty)
        pair.stacks[1].awaitData(server)
        pair.send(0, client, [2])
        #expect(turn(pair).deliveries.isEmpty && pair.receive(1, server) == [1, 2])
    }

    @Test func whatArrivesOutOfOrderIsQueuedAndEndsTheWaiting() throws {
        let (pair, client, server) = try connect()
        pair.stacks[1].awaitData(server)
        for byte in 1...3 { pair.send(0, client, [UInt8(byte)]) }
        pair.collect(from: 0)
        // The second one first: it fills the gap from behind, in the same turn.
        pair.wire.swapAt(0, 1)
        let (deliveries, _) = turn(pair)
        #expect(deliveries.isEmpty || deliveries.map(\.bytes) == [[1]])
        #expect(deliveries.flatMap(\.bytes) + pair.receive(1, server) == [1, 2, 3])
    }

    @Test func theWaitingCanBeTakenBack() throws {
        let (pair, client, server) = try connect()
        pair.stacks[1].awaitData(server)
        pair.stacks[1].stopAwaitingData(server)
        pair.send(0, client, [1])
        let (deliveries, events) = turn(pair)
        #expect(deliveries.isEmpty && events.map(\.events) == [.readable] && pair.receive(1, server) == [1])
    }

    @Test func deliveredBytesAreAcknowledgedAndKeepTheWindowOpen() throws {
        let (pair, client, server) = try connect()
        for round in 0..<2_000 {
            pair.stacks[1].awaitData(server)
            #expect(pair.send(0, client, [UInt8(truncatingIfNeeded: round)]) == 0)
            #expect(turn(pair).deliveries.map(\.bytes) == [[UInt8(truncatingIfNeeded: round)]])
            pair.exchange()
        }
        pair.advance(50_000_000)
        #expect(pair.stacks[0].statistics.tcp.retransmittedSegments == 0 && pair.stacks[0].statistics.tcp.zeroWindowProbes == 0)
        #expect(pair.stacks[1].statistics.tcp.zeroWindowsAdvertised == 0)
    }

    @Test func aDatagramGoesToWhoAwaitsItWithItsSender() throws {
        let pair = try StackPair()
        let sender = pair.stacks[0].makeDatagramSocket(owner: 4)
        let receiver = pair.stacks[1].makeDatagramSocket(owner: 5)
        #expect(pair.stacks[0].bindDatagram(sender, to: Endpoint(address: StackPair.addresses[0], port: 900), reusePort: false) == 0)
        #expect(pair.stacks[1].bindDatagram(receiver, to: Endpoint(address: .unspecifiedIPv4, port: 901), reusePort: false) == 0)
        func send(_ bytes: [UInt8]) {
            let array = Frame.makeSegment(pair.heap, byteCount: bytes.count, priority: .application)!
            bytes.withUnsafeBytes { if let base = $0.baseAddress { array.segmentAddress.copyMemory(from: base, byteCount: $0.count) } }
            #expect(pair.stacks[0].sendDatagram(sender, array, to: Endpoint(address: StackPair.addresses[1], port: 901)) == 0)
        }
        // The first one asks for the neighbour.
        send([9])
        pair.exchange()
        #expect(pair.stacks[1].receiveDatagram(receiver)?.payload.releaseArray() != nil)
        pair.stacks[1].awaitDatagram(receiver)
        for bytes in [[1, 2], [3]] as [[UInt8]] { send(bytes) }
        pair.collect(from: 0)
        var frames = pair.wire.map(\.frame)
        pair.wire = []
        withUnsafeTemporaryAllocation(of: Delivery.self, capacity: 2) { delivered in
            let result = frames.withUnsafeMutableBufferPointer {
                pair.stacks[1].turn(to: pair.now, frames: $0.baseAddress!, count: $0.count, deliveries: delivered.baseAddress!)
            }
            #expect(result.endOfDeliveries - delivered.baseAddress! == 1 && result.eventCount != 0)
            let delivery = delivered[0]
            #expect(delivery.owner == 5 && delivery.payload.arrayByteCount == 2)
            #expect(IPAddress(ipv4Raw: delivery.rawSourceAddress) == StackPair.addresses[0] && delivery.sourcePort == 900)
            delivery.payload.releaseArray()
        }
        #expect(pair.stacks[1].receiveDatagram(receiver).map { ($0.payload.arrayByteCount, $0.payload.releaseArray()).0 } == 1)
    }
}
