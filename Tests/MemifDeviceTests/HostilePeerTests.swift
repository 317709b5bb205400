import CDatapath
import DatapathMemory
import EthernetDevice
import Glibc
import SharedMemory
import Testing

@testable import MemifDevice

/// A client or server that speaks the control channel by hand, and has all of the memory mapped.
private final class HostilePeer {
    let file: Int32
    private(set) var memory = UnsafeMutableRawPointer(bitPattern: 8)!
    private(set) var byteCount = 0

    init(connectingTo path: SocketPath) throws {
        file = try PathSocket.make()
        try PathSocket.connect(file, to: path.text)
    }

    init?(acceptingFrom listener: Int32) {
        file = demi_accept(listener, nil, nil)
        if file < 0 { return nil }
    }

    deinit {
        if byteCount > 0 { munmap(memory, byteCount) }
        close(file)
    }

    func send(_ message: MemifMessage, _ descriptors: [Int32] = []) {
        _ = message.bytes.withUnsafeBytes { DescriptorMessage.send($0, descriptors, on: file) }
    }

    static let ringByteCount = 128 + 16 * 16
    static let total = 2 * ringByteCount + 32 * 256

    /// A client's side in full: two rings of 16, buffers of 256 bytes.
    func bringMemory() throws {
        let made = try SealedMemory(name: "hostile", byteCount: Self.total)
        memory = try made.map()
        byteCount = Self.total
        for ring in 0..<2 {
            demi_store_relaxed_u32(memory + ring * Self.ringByteCount, Memif.cookie)
            for slot in 0..<16 {
                let descriptor = memory + ring * Self.ringByteCount + 128 + slot * 16
                demi_store_relaxed_u32(descriptor + 4, 256)
                demi_store_relaxed_u32(descriptor + 8, UInt32(2 * Self.ringByteCount + (ring * 16 + slot) * 256))
            }
        }
        let events = [eventfd(0, Int32(EFD_NONBLOCK)), eventfd(0, Int32(EFD_NONBLOCK))]
        send(.initialize(identifier: 0, secret: [], name: []))
        send(.addRegion(index: 0, byteCount: UInt64(Self.total)), [made.file])
        send(.addRing(isToServer: true, region: 0, offset: 0, sizeLog2: 4), [events[0]])
        send(.addRing(isToServer: false, region: 0, offset: UInt32(Self.ringByteCount), sizeLog2: 4), [events[1]])
        send(MemifMessage(.connect))
        made.close()
        for event in events { close(event) }
    }

    /// As a server: answers everything that a client says, and maps its memory.
    func serve(_ client: End) {
        send(.hello(name: []))
        for _ in 0..<2_000 {
            var descriptor = pollfd(fd: client.device.prepareToSleep(), events: Int16(POLLIN), revents: 0)
            poll(&descriptor, 1, 1)
            _ = client.collect()
            var buffer = [UInt8](repeating: 0, count: 128)
            guard case .message(_, let descriptors) = buffer.withUnsafeMutableBytes({ DescriptorMessage.receive(into: $0, on: file) }) else { continue }
            let message = buffer.withUnsafeBytes { MemifMessage($0)! }
            if message.kind == .addRegion, let file = descriptors.first {
                byteCount = Int(message.regionByteCount)
                memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0)
            }
            for descriptor in descriptors { close(descriptor) }
            if message.kind == .connect {
                send(MemifMessage(.connected))
                return
            }
            send(MemifMessage(.acknowledge))
        }
    }

    func scribble(_ random: inout SeededRandom, ringByteCount: Int) {
        let values: [UInt32] = [0, 1, 2, 255, .max, 0xffff, 16, 15, 17, UInt32(truncatingIfNeeded: random.next()), 0x1_0001, 257, 1_000_000]
        let value = values[Int(random.next() % UInt64(values.count))]
        let ring = memory + Int(random.next() & 1) * ringByteCount
        switch random.next() % 5 {
        case 0: demi_store_release_u16(ring + Memif.headOffset, UInt16(truncatingIfNeeded: random.next() % 40))
        case 1: demi_store_release_u16(ring + Memif.tailOffset, UInt16(truncatingIfNeeded: random.next() % 40))
        case 2: demi_store_release_u16(ring + Memif.flagsOffset, UInt16(truncatingIfNeeded: value))
        case 3: demi_store_relaxed_u32(ring + 128 + Int(random.next() % UInt64((ringByteCount - 128) / 4)) * 4, value)
        default: demi_store_relaxed_u32(memory + Int(random.next() % UInt64(byteCount / 4)) * 4, value)
        }
    }
}

/// The peer is not trusted (notes of the protocol; DESIGN, tenet 9): no lie traps or leaks, each is counted, and the next peer is served.
@Suite struct HostilePeerTests {
    let path = SocketPath()

    private func comeUp(_ server: End) throws -> HostilePeer {
        let peer = try HostilePeer(connectingTo: path)
        try peer.bringMemory()
        try #require(settle([server]) { server.isUp })
        return peer
    }

    @Test func aHandMadeClientIsServed() throws {
        let server = try End(.server, path)
        let peer = try comeUp(server)
        (peer.memory + 2 * HostilePeer.ringByteCount).copyMemory(from: pattern(100), byteCount: 100)
        demi_store_relaxed_u32(peer.memory + 128 + 4, 100)
        demi_store_release_u16(peer.memory + Memif.headOffset, 1)
        #expect(server.collect() == [pattern(100)])
        #expect(demi_load_acquire_u16(peer.memory + Memif.tailOffset) == 1)
    }

    @Test(arguments: [17, 0x8000, 0xffff] as [UInt16]) func aHeadThatJumpsEndsTheLink(head: UInt16) throws {
        let server = try End(.server, path)
        let peer = try comeUp(server)
        demi_store_release_u16(peer.memory + Memif.headOffset, head)
        #expect(server.collect().isEmpty)
        #expect(!server.isUp)
        #expect(server.statistics.brokenIndices == 1)
        _ = try comeUp(server)
    }

    @Test(arguments: [(1, 0, 100), (0, HostilePeer.total - 99, 100), (0, 0xffff_fff0, 100), (0, 0, 0xffff_ffff), (15, 0, 14)] as [(Int, Int, Int)])
    func aDescriptorOutsideOfItsRegionEndsTheLink(region: Int, offset: Int, length: Int) throws {
        let server = try End(.server, path)
        let peer = try comeUp(server)
        for ring in 0..<2 {
            let descriptor = peer.memory + ring * HostilePeer.ringByteCount + 128
            demi_store_relaxed_u32(descriptor, UInt32(region) << 16)
            demi_store_relaxed_u32(descriptor + 4, UInt32(length))
            demi_store_relaxed_u32(descriptor + 8, UInt32(offset))
        }
        demi_store_release_u16(peer.memory + HostilePeer.ringByteCount + Memif.headOffset, 1)
        #expect(server.send(pattern(60)))
        #expect(!server.isUp)
        #expect(server.statistics.brokenDescriptors == 1)
        #expect(server.device.statistics.transmitLinkDown == 1)
        let again = try comeUp(server)
        let descriptor = again.memory + 128
        demi_store_relaxed_u32(descriptor, UInt32(region) << 16)
        demi_store_relaxed_u32(descriptor + 4, UInt32(length))
        demi_store_relaxed_u32(descriptor + 8, UInt32(offset))
        demi_store_release_u16(again.memory + Memif.headOffset, 1)
        #expect(server.collect().isEmpty)
        #expect(server.statistics.brokenDescriptors == 2)
    }

    @Test func aChainWithoutAnEndEndsTheLink() throws {
        let server = try End(.server, path)
        let peer = try comeUp(server)
        for slot in 0..<16 { demi_store_relaxed_u32(peer.memory + 128 + slot * 16, UInt32(Memif.isContinued)) }
        demi_store_release_u16(peer.memory + Memif.headOffset, 8)
        #expect(server.collect().isEmpty)
        #expect(server.isUp, "its end may come")
        demi_store_release_u16(peer.memory + Memif.headOffset, 16)
        #expect(server.collect().isEmpty)
        #expect(server.statistics.brokenDescriptors == 1)
    }

    @Test func framesOfALengthThatCannotBeAreDropped() throws {
        let server = try End(.server, path) { $0.maximumTransmissionUnit = 200 }
        let peer = try comeUp(server)
        for (slot, length) in [0, 13, 215, 256, 100].enumerated() { demi_store_relaxed_u32(peer.memory + 128 + slot * 16 + 4, UInt32(length)) }
        demi_store_release_u16(peer.memory + Memif.headOffset, 5)
        #expect(server.collect().map(\.count) == [100])
        #expect(server.device.statistics.receiveMalformed == 4)
    }

    @Test func liesInTheHandshakeAreRefused() throws {
        let server = try End(.server, path)
        let memory = try SealedMemory(name: "m", byteCount: HostilePeer.total)
        let mapped = try memory.map()
        defer {
            munmap(mapped, HostilePeer.total)
            memory.close()
        }
        demi_store_relaxed_u32(mapped, Memif.cookie)
        let unsealed = demi_memory_file("unsealed")
        ftruncate(unsealed, HostilePeer.total)
        let event = eventfd(0, 0)
        var ends: [Int32] = [0, 0]
        pipe(&ends)
        defer { for file in [unsealed, event] + ends { close(file) } }
        let hello = MemifMessage.initialize(identifier: 0, secret: [], name: [])
        func changed(_ message: MemifMessage, _ offset: Int, _ byte: UInt8) -> MemifMessage {
            var message = message
            message.put(byte, at: offset)
            return message
        }
        let region = MemifMessage.addRegion(index: 0, byteCount: UInt64(HostilePeer.total))
        func ring(region: UInt16 = 0, offset: UInt32 = 0, sizeLog2: UInt8 = 4) -> MemifMessage {
            .addRing(isToServer: true, region: region, offset: offset, sizeLog2: sizeLog2)
        }
        let lies: [[(MemifMessage, [Int32])]] = [
            [(MemifMessage(.acknowledge), [])], [(MemifMessage(.connect), [])], [(region, [memory.file])], [(changed(hello, 3, 9), [])],
            [(changed(hello, 8, 1), [])], [(changed(hello, 0, 200), [])], [(changed(hello, 9, 1), [])], [(hello, []), (hello, [])],
            [(hello, []), (region, [])], [(hello, []), (region, [unsealed])], [(hello, []), (region, [event])],
            [(hello, []), (.addRegion(index: 1, byteCount: 100), [memory.file])], [(hello, []), (.addRegion(index: 0, byteCount: 0), [memory.file])],
            [(hello, []), (.addRegion(index: 0, byteCount: .max), [memory.file])],
            [(hello, []), (.addRegion(index: 0, byteCount: UInt64(HostilePeer.total) + 1), [memory.file])], [(hello, []), (ring(), [event])],
        ] + [
            (ring(), []), (ring(), [ends[1]]), (ring(), [memory.file]), (ring(region: 1), [event]), (ring(offset: 4), [event]), (ring(offset: .max - 7), [event]),
            (ring(offset: 64), [event]), (ring(sizeLog2: 0), [event]), (ring(sizeLog2: 15), [event]), (ring(sizeLog2: 14), [event]), (ring(), [event, event]),
        ].map { [(hello, []), (region, [memory.file]), $0] } + [[(hello, []), (region, [memory.file]), (ring(), [event]), (ring(), [event])]]
            + [[(hello, []), (region, [memory.file]), (ring(), [event]), (MemifMessage(.connect), [])]]
        for (number, lie) in lies.enumerated() {
            let peer = try HostilePeer(connectingTo: path)
            for (message, descriptors) in lie { peer.send(message, descriptors) }
            #expect(settle([server]) { server.statistics.refusedPeers == UInt64(number + 1) }, "lie \(number)")
            #expect(!server.isUp)
        }
        let short = try HostilePeer(connectingTo: path)
        var byte: UInt8 = 1
        send(short.file, &byte, 1, 0)
        #expect(settle([server]) { server.statistics.refusedPeers == UInt64(lies.count + 1) })
        _ = try comeUp(server)
    }

    @Test func aSilentClientIsDropped() throws {
        let server = try End(.server, path)
        let silent = try HostilePeer(connectingTo: path)
        // Until the server has greeted it.
        #expect(settle([server]) { var descriptor = pollfd(fd: silent.file, events: Int16(POLLIN), revents: 0); return poll(&descriptor, 1, 0) > 0 })
        let next = try End(.client, path)
        #expect(settle([server, next]) { server.isUp && next.isUp })
        // The next one may have lost its patience as well, and come again.
        #expect(server.statistics.refusedPeers >= 1)
    }

    @Test func aClientThatScribblesHarmsItselfAlone() throws {
        let server = try End(.server, path) { $0.maximumTransmissionUnit = 600 }
        for seed in 1...150 as ClosedRange<UInt64> {
            var random = SeededRandom(seed: seed)
            let peer = try comeUp(server)
            play(server, peer, &random, ringByteCount: HostilePeer.ringByteCount)
            shutdown(peer.file, Int32(SHUT_RDWR))
            #expect(settle([server]) { !server.isUp })
        }
        #expect(server.statistics.brokenIndices > 10)
        #expect(server.statistics.brokenDescriptors > 10)
    }

    @Test func aServerThatScribblesHarmsItselfAlone() throws {
        let listener = try PathSocket.listen(at: path.text, backlog: 4)
        defer { listener.close() }
        let client = try End(.client, path) {
            $0.ringSizeLog2 = 4
            $0.bufferByteCount = 256
            $0.maximumTransmissionUnit = 600
        }
        for seed in 1...30 as ClosedRange<UInt64> {
            var random = SeededRandom(seed: seed)
            var peer: HostilePeer?
            #expect(settle([client]) {
                peer = HostilePeer(acceptingFrom: listener.file)
                return peer != nil
            })
            let server = try #require(peer)
            server.serve(client)
            #expect(settle([client]) { client.isUp })
            play(client, server, &random, ringByteCount: HostilePeer.ringByteCount)
            shutdown(server.file, Int32(SHUT_RDWR))
            #expect(settle([client]) { !client.isUp })
        }
        #expect(client.statistics.brokenIndices > 5)
    }

    private func play(_ end: End, _ peer: HostilePeer, _ random: inout SeededRandom, ringByteCount: Int) {
        for _ in 0..<100 where end.isUp {
            for _ in 0..<random.next() % 3 { peer.scribble(&random, ringByteCount: ringByteCount) }
            switch random.next() % 3 {
            case 0: _ = end.send(pattern(14 + Int(random.next() % 600)))
            case 1: for frame in end.collect() { #expect((14...614).contains(frame.count)) }
            default: _ = end.device.prepareToSleep()
            }
        }
    }
}
