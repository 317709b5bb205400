import CDatapath
import Demikernel
import Glibc
import SharedMemory
import Testing
@testable import SharedMemoryQueues

/// Memory that a peer can write is hostile (DESIGN, tenet 9): no lie traps, leaks, or reaches another connection; each is counted.
@Suite struct HostilePeerTests {
    let folder = Folder()

    // MARK: The ring

    @Test(arguments: [
        1, 0x7fff_ffff, RingLayout.isWhole | 40_001, RingLayout.isWhole | RingLayout.lengthMask, RingLayout.isWhole | RingLayout.isEnd | 1, .max,
    ] as [UInt32])
    func aHeaderThatCannotBeFailsTheConnection(header: UInt32) throws {
        let world = try World { $0.limits.maximumUnitSize = 40_000 }
        let listener = try world.runtime.listener(folder.address())
        let peer = try HostilePeer(connectingTo: folder.file())
        let server = try world.runtime.accepted(world.runtime.accept(listener))
        let pop = try world.runtime.pop(server)
        demi_store_fenced_u32(peer.data(0), header)
        #expect(try world.runtime.result(pop) == .failed(EPROTO))
        #expect(try world.runtime.result(world.runtime.pop(server)) == .failed(EPROTO))
        // Also when the peer makes it right again.
        demi_store_fenced_u32(peer.data(0), RingLayout.isWhole)
        #expect(try world.runtime.result(world.runtime.pop(server)) == .failed(EPROTO))
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.push(server, bytes: [1]) }?.errno == EPIPE)
        #expect(world.statistics.brokenHeaders == 1)
    }

    @Test(arguments: [UInt64.max, 1 << 63, 100_000, 65_537] as [UInt64])
    func aProgressThatCannotBeFailsTheConnection(consumed: UInt64) throws {
        let world = try World()
        let listener = try world.runtime.listener(folder.address())
        let peer = try HostilePeer(connectingTo: folder.file())
        let server = try world.runtime.accepted(world.runtime.accept(listener))
        var pushes: [QueueToken] = []
        for _ in 0..<20 { pushes.append(try world.runtime.push(server, bytes: pattern(4_096))) }
        let pop = try world.runtime.pop(server)
        demi_store_fenced_u64(peer.control(1) + RingLayout.consumedOffset, consumed)
        #expect(try world.runtime.result(pushes[19]) == .failed(EPROTO))
        #expect(try world.runtime.result(pop) == .failed(EPROTO))
        #expect(world.statistics.brokenProgress == 1)
    }

    @Test func aProgressThatGoesBackFailsTheConnection() throws {
        let world = try World()
        let listener = try world.runtime.listener(folder.address())
        let peer = try HostilePeer(connectingTo: folder.file())
        let server = try world.runtime.accepted(world.runtime.accept(listener))
        for _ in 0..<15 { _ = try world.runtime.push(server, bytes: pattern(4_096)) }
        // Each of these, with what is in the ring, needs more than is known to be free: the peer's word is asked for.
        demi_store_fenced_u64(peer.control(1) + RingLayout.consumedOffset, 8_000)
        _ = try world.runtime.push(server, bytes: pattern(4_096))
        demi_store_fenced_u64(peer.control(1) + RingLayout.consumedOffset, 7_000)
        let error = refusal { () throws(DemikernelError) in for _ in 0..<2 { _ = try world.runtime.push(server, bytes: pattern(4_096)) } }
        #expect(error?.errno == EPIPE)
        #expect(error.map { "\($0.message)".contains("broken the rules") } == true)
        #expect(try world.runtime.result(world.runtime.pop(server)) == .failed(EPROTO))
        #expect(world.statistics.brokenProgress == 1)
    }

    /// Each seed is one peer that writes anything anywhere between the server's calls.
    @Test func aClientThatScribblesHarmsItselfAlone() throws {
        let world = try World { $0.limits.maximumUnitSize = 40_000 }
        let listener = try world.runtime.listener(folder.address())
        let good = try world.runtime.connected(folder.address())
        let goodServer = try world.runtime.accepted(world.runtime.accept(listener))
        let before = world.runtime.statistics
        for seed in 1...300 as ClosedRange<UInt64> {
            var random = SeededRandom(seed: seed)
            let peer = try HostilePeer(connectingTo: folder.file())
            let server = try world.runtime.accepted(world.runtime.accept(listener))
            try play(world.runtime, server, peer, &random)
            try world.runtime.close(server)
            let unit = pattern(Int(random.next() % 200), seed: Int(seed))
            _ = try world.runtime.result(world.runtime.push(good, bytes: unit))
            #expect(try world.runtime.result(world.runtime.pop(goodServer)) == .popped(unit), "seed \(seed)")
        }
        #expect(world.statistics.brokenHeaders > 30)
        #expect(world.statistics.brokenProgress > 10)
        let after = world.runtime.statistics
        #expect(after.memory.liveBlocks == before.memory.liveBlocks)
        #expect(after.memory.liveSegments == before.memory.liveSegments)
        #expect(after.openQueues == before.openQueues)
    }

    @Test func aServerThatScribblesHarmsItselfAlone() throws {
        let world = try World { $0.limits.maximumUnitSize = 40_000 }
        let socket = try PathSocket.listen(at: folder.file(), backlog: 4)
        defer { socket.close() }
        let before = world.runtime.statistics
        for seed in 1...100 as ClosedRange<UInt64> {
            var random = SeededRandom(seed: seed)
            let queue = try world.runtime.socket(.path, .stream)
            let connect = try world.runtime.connect(queue, to: folder.address())
            let peer = try #require(HostilePeer(acceptingFrom: socket.file))
            #expect(try world.runtime.result(connect) == .connected)
            try play(world.runtime, queue, peer, &random)
            try world.runtime.close(queue)
        }
        #expect(world.statistics.brokenHeaders > 10)
        let after = world.runtime.statistics
        #expect(after.memory.liveBlocks == before.memory.liveBlocks)
        #expect(after.openQueues == before.openQueues)
    }

    private func play(_ runtime: borrowing Runtime, _ queue: QueueDescriptor, _ peer: HostilePeer, _ random: inout SeededRandom) throws {
        var tokens: [QueueToken] = []
        for _ in 0..<60 {
            for _ in 0..<random.next() % 3 { peer.scribble(&random) }
            switch random.next() % 5 {
            case 0, 1: if let token = try? runtime.push(queue, runtime.allocate(Int(random.next() % 5_000))) { tokens.append(token) }
            case 2, 3: if let token = try? runtime.pop(queue) { tokens.append(token) }
            default: peer.sendJunk(&random)
            }
            if random.next() % 8 == 0, let token = tokens.last { try? runtime.cancel(token) }
            runtime.poll()
        }
        if random.next() & 1 == 0 { shutdown(peer.file, Int32(SHUT_RDWR)) }
        for token in tokens {
            try? runtime.cancel(token)
            _ = try runtime.result(token)
        }
    }

    /// A second thread stands for a process that writes while this one reads: to memory they are the same.
    @Test func aPeerThatScribblesAtTheSameTimeHarmsItselfAlone() throws {
        let world = try World { $0.limits.maximumUnitSize = 40_000 }
        let listener = try world.runtime.listener(folder.address())
        for seed in 1...20 as ClosedRange<UInt64> {
            let peer = try HostilePeer(connectingTo: folder.file())
            let server = try world.runtime.accepted(world.runtime.accept(listener))
            let scribbler = Scribbler(peer, seed: seed)
            var failed = false
            for _ in 0..<20_000 where !failed {
                let pop = try world.runtime.pop(server)
                try? world.runtime.push(server, world.runtime.allocate(copying: pattern(64).span), completion: .discarded)
                world.runtime.poll()
                try world.runtime.cancel(pop)
                switch try world.runtime.result(pop) {
                case .failed(ECANCELED): break
                case .popped(let bytes): #expect(bytes.count <= 40_000)
                case .endOfStream: failed = true
                case let other:
                    #expect(other == .failed(EPROTO))
                    failed = true
                }
            }
            scribbler.stop()
            try world.runtime.close(server)
        }
        _ = try world.runtime.connected(folder.address())
    }

    // MARK: The handshake

    @Test func liesInTheFirstMessageAreCounted() throws {
        let world = try World { $0.limits.handshakeTimeout = 20_000_000 }
        let listener = try world.runtime.listener(folder.address(), backlog: 64)
        let accept = try world.runtime.accept(listener)
        let good = RingLayout.totalByteCount(ringByteCount: 1 << 16)
        var files: [Int32] = []
        defer { for file in files { close(file) } }

        func client(_ hello: Hello?, _ descriptors: [Int32], bytes: [UInt8] = []) throws {
            let file = try PathSocket.make()
            files.append(file)
            try PathSocket.connect(file, to: folder.file())
            if let hello { HostilePeer.send(hello, descriptors, on: file) } else { _ = bytes.withUnsafeBytes { DescriptorMessage.send($0, descriptors, on: file) } }
        }
        func hello(ringByteCount: Int = 1 << 16, _ change: (inout Hello) -> Void = { _ in }) -> Hello {
            var hello = Hello(ringByteCount: ringByteCount, maximumUnitSize: 1_000)
            change(&hello)
            return hello
        }
        let memory = try SealedMemory(name: "good", byteCount: good)
        let small = try SealedMemory(name: "small", byteCount: good - 1)
        let unsealed = demi_memory_file("unsealed")
        ftruncate(unsealed, good)
        let readOnly = demi_memory_file("read-only")
        ftruncate(readOnly, good)
        #expect(demi_add_seals(readOnly, Int32(DEMI_SEAL_SHRINK | DEMI_SEAL_WRITE)) == 0)
        let plain = open(folder.file("plain"), O_RDWR | O_CREAT, 0o600)
        ftruncate(plain, good)
        files += [memory.file, small.file, unsealed, readOnly, plain]

        var malformed: UInt64 = 0
        for (message, descriptors) in [
            (hello { $0.magic += 1 }, [memory.file]), (hello { $0.ringByteCount = 0 }, [memory.file]), (hello { $0.ringByteCount = 3 }, [memory.file]),
            (hello { $0.ringByteCount = 1 << 12 }, [memory.file]), (hello(), []), (hello(), [memory.file, memory.file]), (hello(), [small.file]),
            (hello(), [unsealed]), (hello(), [readOnly]), (hello(), [plain]), (hello(), [STDIN_FILENO]),
        ] {
            try client(message, descriptors)
            malformed += 1
        }
        try client(nil, [memory.file], bytes: [1, 2, 3])
        try client(nil, [memory.file], bytes: [UInt8](repeating: 7, count: 500))
        malformed += 2
        try client(hello { $0.version = 2 }, [memory.file])
        try client(hello(ringByteCount: 1 << 20), [memory.file])
        // One that says nothing, and one that leaves.
        files.append(try PathSocket.make())
        try PathSocket.connect(files.last!, to: folder.file())
        let leaver = try PathSocket.make()
        try PathSocket.connect(leaver, to: folder.file())
        close(leaver)
        try world.runtime.turns {
            let counts = world.statistics
            return counts.malformedHellos == malformed && counts.refusedHellos == 2 && counts.silentClients == 2
        }
        #expect(world.statistics.connectionsAccepted == 0)
        let client = try world.runtime.connected(folder.address())
        let server = try world.runtime.accepted(accept)
        _ = try world.runtime.push(client, bytes: [3])
        #expect(try world.runtime.result(world.runtime.pop(server)) == .popped([3]))
    }

    @Test func liesInTheAnswerFailTheConnect() throws {
        let world = try World { $0.limits.handshakeTimeout = 20_000_000 }
        let socket = try PathSocket.listen(at: folder.file(), backlog: 4)
        defer { socket.close() }
        func connect(_ change: (inout Answer) -> Void) throws -> Outcome {
            let queue = try world.runtime.socket(.path, .stream)
            let connect = try world.runtime.connect(queue, to: folder.address())
            var answer = Answer(error: 0, maximumUnitSize: 1_000, maximumRingByteCount: 1 << 16)
            change(&answer)
            let peer = try #require(HostilePeer(acceptingFrom: socket.file, answer: answer))
            defer { withExtendedLifetime(peer) {} }
            let outcome = try world.runtime.result(connect)
            try world.runtime.close(queue)
            return outcome
        }
        #expect(try connect { _ in } == .connected)
        #expect(try connect { $0.magic = 0 } == .failed(EPROTO))
        #expect(try connect { $0.version = 9 } == .failed(EPROTO))
        #expect(try connect { $0.maximumUnitSize = .max } == .failed(EPROTO))
        #expect(try connect { $0.error = -5 } == .failed(EPROTO))
        #expect(try connect { $0.error = EMSGSIZE } == .failed(EMSGSIZE))
        // A server that takes the client and ends, and one that says nothing.
        let queue = try world.runtime.socket(.path, .stream)
        let first = try world.runtime.connect(queue, to: folder.address())
        close(demi_accept(socket.file, nil, nil))
        #expect(try world.runtime.result(first) == .failed(ECONNRESET))
        #expect(try world.runtime.result(world.runtime.connect(queue, to: folder.address())) == .failed(ETIMEDOUT))
    }

    @Test func anotherKindOfSocketIsNamed() throws {
        let file = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(file) }
        var address = sockaddr_un()
        let length = demi_unix_address(&address, folder.file())
        _ = withUnsafePointer(to: &address) { $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(file, $0, length) } }
        listen(file, 1)
        let world = try World()
        let error = refusal { () throws(DemikernelError) in _ = try world.runtime.connected(folder.address()) }
        #expect(error?.errno == EPROTOTYPE)
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.listener(folder.address()) }?.errno == EADDRINUSE)
    }
}

/// Scribbles on a thread of its own until it is stopped.
final class Scribbler: @unchecked Sendable {
    private let peer: HostilePeer
    private let seed: UInt64
    private var thread = pthread_t()
    private let isStopped = UnsafeMutableRawPointer.allocate(byteCount: 4, alignment: 4)

    init(_ peer: HostilePeer, seed: UInt64) {
        self.peer = peer
        self.seed = seed
        demi_store_relaxed_u32(isStopped, 0)
        pthread_create(
            &thread, nil,
            { context in
                let scribbler = Unmanaged<Scribbler>.fromOpaque(context!).takeUnretainedValue()
                var random = SeededRandom(seed: scribbler.seed)
                while demi_load_relaxed_u32(scribbler.isStopped) == 0 { scribbler.peer.scribble(&random) }
                return nil
            }, Unmanaged.passUnretained(self).toOpaque())
    }

    func stop() {
        demi_store_relaxed_u32(isStopped, 1)
        pthread_join(thread, nil)
        isStopped.deallocate()
    }
}
