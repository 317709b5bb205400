import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// What a stack outlives: full outputs, empty heaps, exhausted ports, confused peers, and very many connections.
@Suite("TCP: resilience") struct ResilienceTests {
    @Test("two stacks that disagree about sequence numbers fall silent")
    func acknowledgementStorm() throws {
        let pair = try StackPair { _, configuration in
            configuration.tcp.offersTimestamps = false
            // Without loss probes two segments are all there are.
            configuration.tcp.offersSelectiveAcknowledgements = false
        }
        let listener = pair.listener(on: 1)
        let (client, server) = pair.connect(listener: listener)
        // An attacker has put a byte into each direction: both acknowledge what was never sent.
        var frames: [[UInt8]] = []
        pair.passes = { _, bytes in
            // Segments of TCP alone.
            if bytes[12] == 8 && bytes[13] == 0 && bytes[23] == 6 { frames.append(Array(bytes)) }
            return true
        }
        pair.send(0, client, [1])
        pair.advance(100_000_000)
        pair.send(1, server, [1])
        pair.advance(100_000_000)
        #expect(pair.receive(1, server).count == 1 && pair.receive(0, client).count == 1)
        let data = frames.filter { $0.count == 14 + 20 + 20 + 1 }
        #expect(data.count == 2)
        for index in 0..<2 {
            var forged = data[1 - index]
            // Data that follows what was received, with the acknowledgement as it was.
            let sequence = number32(forged, at: 38) &+ 1
            forged.replaceSubrange(38..<42, with: bigEndian32(sequence))
            forged.replaceSubrange(50..<52, with: [0, 0])
            let tcp = Array(forged[34...])
            let source = IPAddress.ipv4(forged[26], forged[27], forged[28], forged[29])
            let destination = IPAddress.ipv4(forged[30], forged[31], forged[32], forged[33])
            forged.replaceSubrange(50..<52, with: bigEndian(SegmentScript.checksum(tcp, source: source, destination: destination)))
            let target = source == StackPair.addresses[0] ? 1 : 0
            let frame = Frame.makeSegment(pair.heap, byteCount: forged.count, priority: .reserve)!
            forged.withUnsafeBytes { frame.segmentAddress.copyMemory(from: $0.baseAddress!, byteCount: $0.count) }
            frame.frameFlags = []
            pair.stacks[target].receive(frame)
        }
        #expect(pair.stacks[0].receivableByteCount(client) == 1 && pair.stacks[1].receivableByteCount(server) == 1)
        frames = []
        pair.advance(10_000_000_000)
        let storm = frames.count
        #expect(storm > 0 && storm < 60)
        pair.advance(60_000_000_000)
        #expect(frames.count == storm)
    }

    @Test("while the device takes nothing no byte is lost, and all connections go on when it does")
    func deviceIsFull() throws {
        let script = try SegmentScript(arenaByteCount: 64 << 20)
        var connections: [(connection: UInt32, port: UInt16)] = []
        for _ in 0..<150 {
            let connection = script.established(scale: 7)
            script.peer(.ack, seq: 1, ack: 1)
            connections.append((connection, script.localPort))
        }
        script.deviceTakesFrames = false
        let payload = pattern(20 * 1_460)
        for (connection, _) in connections { #expect(script.send(connection, payload) == 0) }
        script.deviceTakesFrames = true
        script.collect()
        var received: [UInt16: [UInt8]] = [:]
        for round in 0..<40 {
            for segment in script.takeSent() where segment.length > 0 {
                let have = received[segment.sourcePort]?.count ?? 0
                if segment.seq == 1 + have { received[segment.sourcePort, default: []] += segment.payload }
            }
            // Within the first round no timer has run: everything that the congestion windows allow has come.
            if round == 0 { #expect(connections.allSatisfy { received[$0.port]?.count == 10 * 1_460 }) }
            for (_, port) in connections where (received[port]?.count ?? 0) < payload.count {
                script.localPort = port
                script.peer(.ack, seq: 1, ack: 1 + (received[port]?.count ?? 0))
            }
        }
        #expect(connections.allSatisfy { received[$0.port]?.elementsEqual(payload) == true })
        #expect(script.tcp.retransmittedSegments == 0)
    }

    @Test("frames that are given back go out first, in their order")
    func returnedOutput() throws {
        let script = try SegmentScript()
        let connection = script.established()
        script.deviceTakesFrames = false
        script.send(connection, 5 * 1_460)
        withUnsafeTemporaryAllocation(of: Frame.self, capacity: 3) { frames in
            #expect(script.stack.takeOutput(into: frames.baseAddress!, capacity: 3) == 3)
            script.stack.returnOutput(frames.baseAddress! + 1, count: 2)
            frames[0].releaseArray()
        }
        script.deviceTakesFrames = true
        script.collect()
        #expect(script.takeSent().map(\.seq) == [1_461, 2_921, 4_381, 5_841])
    }

    @Test("a heap that is exhausted in the middle of a transfer costs time, no bytes")
    func heapExhaustion() throws {
        let script = try SegmentScript(arenaByteCount: 8 << 20)
        let connection = script.established(scale: 7)
        script.peer(.ack, seq: 1, ack: 1)
        let payload = pattern(120_000)
        #expect(script.send(connection, payload) == 0)
        var received: [UInt8] = []
        func take() {
            for segment in script.takeSent() where segment.seq == 1 + received.count { received += segment.payload }
        }
        take()
        #expect(!received.isEmpty)
        // The peer's segment is there before the memory is gone.
        var hoard: [Frame] = []
        for size in [65_536, 2_048, 256, 64, 16] {
            while let block = Frame.makeSegment(script.heap, byteCount: size, priority: .reserve) { hoard.append(block) }
        }
        #expect(!hoard.isEmpty)
        for _ in 0..<5 {
            hoard.removeLast().releaseArray()
            script.peer(.ack, seq: 1, ack: 1 + received.count)
            take()
            while let block = Frame.makeSegment(script.heap, byteCount: 64, priority: .reserve) { hoard.append(block) }
            script.advance(1_000)
            take()
        }
        #expect(script.state(connection) == .established)
        for block in hoard { block.releaseArray() }
        for _ in 0..<300 where received.count < payload.count {
            script.peer(.ack, seq: 1, ack: 1 + received.count)
            take()
            script.advance(1_000)
            take()
        }
        #expect(received.count == payload.count && received.elementsEqual(payload))
        script.peer(.ack, seq: 1, ack: 1 + received.count)
        #expect(script.stack.unacknowledgedByteCount(connection) == 0)
        script.end()
    }

    @Test("ports are exhausted for one peer at a time, and come back")
    func portExhaustion() throws {
        let script = try SegmentScript()
        script.deviceTakesFrames = false
        var sockets: [UInt32] = []
        let peer = Endpoint(address: SegmentScript.remote, port: 9)
        var ports = Set<UInt16>()
        for _ in 0..<16_384 {
            let socket = script.stack.makeConnection(owner: 1)
            guard script.stack.connect(socket, to: peer) == 0 else { break }
            ports.insert(script.stack.connectionLocal(socket).port)
            sockets.append(socket)
        }
        #expect(sockets.count == 16_384 && ports.count == 16_384)
        let socket = script.stack.makeConnection(owner: 1)
        #expect(script.stack.connect(socket, to: peer) == EADDRNOTAVAIL)
        #expect(script.stack.connect(socket, to: Endpoint(address: SegmentScript.remote, port: 10)) == 0)
        script.stack.close(sockets[77])
        script.stack.release(sockets[77])
        let next = script.stack.makeConnection(owner: 1)
        #expect(script.stack.connect(next, to: peer) == 0)
        script.end()
    }

    @Test("100,000 connections, opened and closed in different ways, leave nothing (a quarter of them in a build without optimisation)")
    func manyConnections() throws {
        #if DEBUG
        let rounds = 25
        #else
        let rounds = 100
        #endif
        let heap = try DatapathHeap(MemoryConfiguration(arenaByteCount: 32 << 20, commitsAtStart: false))
        defer { heap.close() }
        var now: UInt64 = 1_000_000_000
        let stacks = try (0..<2).map { index in
            var configuration = NetworkConfiguration(
                macAddress: MACAddress(value: 0x0200_0000_0001 + UInt64(index)), addresses: [IPv4Prefix(address: StackPair.addresses[index], length: 24)],
                seed: UInt64(index) + 7)
            configuration.staticNeighbors = [.init(address: StackPair.addresses[1 - index], macAddress: MACAddress(value: 0x0200_0000_0002 - UInt64(index)))]
            configuration.offloads = .transmitChecksumTCP
            return try NetworkStack(configuration, heap: heap, now: now)
        }
        let frames = UnsafeMutablePointer<Frame>.allocate(capacity: 64)
        defer { frames.deallocate() }
        func exchange() {
            var isBusy = true
            while isBusy {
                isBusy = false
                for index in 0..<2 {
                    while case let count = stacks[index].takeOutput(into: frames, capacity: 64), count > 0 {
                        isBusy = true
                        for position in 0..<count {
                            frames[position].frameFlags = .checksumVerified
                            stacks[1 - index].receive(frames[position])
                        }
                    }
                }
            }
        }
        func dropEvents() {
            for stack in stacks { while stack.takeConnectionEvent() != nil {} }
        }
        let listener = stacks[1].makeConnection(owner: 1)
        #expect(stacks[1].bind(listener, to: Endpoint(address: .unspecifiedIPv4, port: 80)) == 0)
        #expect(stacks[1].listen(listener, backlog: 2_000) == 0)
        var accepted = 0
        var batch: [UInt32] = []
        for round in 0..<rounds {
            batch.removeAll(keepingCapacity: true)
            for _ in 0..<1_000 {
                let socket = stacks[0].makeConnection(owner: 1)
                if stacks[0].connect(socket, to: Endpoint(address: StackPair.addresses[1], port: 80)) != 0 { Issue.record("no connection") }
                batch.append(socket)
                if batch.count % 500 == 0 { exchange() }
            }
            exchange()
            // One in ten rounds both ends close in order, else one end resets.
            while case let connection = stacks[1].accept(listener, owner: 2), connection != 0 {
                accepted += 1
                if round % 10 == 0 || round % 10 == 5 { stacks[1].close(connection) } else if round % 2 == 1 { stacks[1].abort(connection) }
                stacks[1].release(connection)
                if accepted % 500 == 0 { exchange() }
            }
            exchange()
            for socket in batch {
                if round % 10 == 0 || round % 10 == 5 { stacks[0].close(socket) } else { stacks[0].abort(socket) }
                stacks[0].release(socket)
            }
            exchange()
            dropEvents()
            now += 61_000_000_000
            for stack in stacks { stack.advance(to: now) }
            exchange()
            dropEvents()
        }
        #expect(accepted == 1_000 * rounds)
        #expect(stacks[0].statistics.connections == 0)
        #expect(stacks[1].statistics.connections == 1)
        #expect(stacks.allSatisfy { $0.nextDeadline == nil })
        #expect(heap.statistics.liveBlocks == 0 && heap.statistics.liveSegments == 0)
        #expect(stacks[0].statistics.tcp.connectionsTimedOut == 0)
        for stack in stacks { stack.deallocate() }
    }

    @Test("random segments to a connection in any state do no harm")
    func randomSegments() throws {
        for seed in 1...40 {
            var random = ReassemblyTests.Generator(state: UInt64(seed) &* 99_991)
            let script = try SegmentScript()
            let listener = script.listener()
            let connection = script.accepted(listener)
            var isClosed = false
            for _ in 0..<150 {
                let flags = TCPFlags(rawValue: UInt8(random.next(10) == 0 ? random.next(256) : [16, 24, 17, 16][random.next(4)]))
                let sequence = [1, 0, 2, random.next(3_000) - 1_000, random.next(1 << 31) - 1 << 30][random.next(5)]
                let acknowledgement = [1, 1, 2, random.next(4_000) - 2_000, random.next(1 << 31)][random.next(5)]
                var tcp = script.peerBytes(
                    flags, seq: sequence, ack: acknowledgement, window: random.next(65_536), options: random.next(3) == 0 ? [2, 4, 0, 9, 3, 3, 200, 0] : [],
                    payload: [UInt8](repeating: 1, count: random.next(2) * random.next(1_460)))
                if random.next(8) == 0 { tcp[random.next(tcp.count)] ^= UInt8(1 << random.next(8)) }
                script.inject(tcp)
                switch random.next(12) {
                case 0 where !isClosed: script.send(connection, random.next(5_000) + 1)
                case 1 where !isClosed: _ = script.receive(connection, maximumBytes: random.next(3_000) + 1)
                case 2: script.advance(random.next(2_000))
                case 3 where random.next(10) == 0 && !isClosed:
                    script.close(connection)
                    isClosed = true
                case 4 where random.next(10) == 0: _ = script.stack.shutdown(connection, receive: random.next(2) == 0, send: true)
                default: break
                }
                _ = script.takeSent()
                #expect(script.stack.receivableByteCount(connection) <= 70_000)
            }
            if !isClosed { script.close(connection) }
            script.stack.release(connection)
            script.close(listener)
            script.stack.release(listener)
            script.advance(seconds: 4_000)
            _ = script.events(0)
            #expect(script.stack.statistics.connections == 0, "seed \(seed)")
            _ = script.takeSent()
            script.end()
        }
    }
}
