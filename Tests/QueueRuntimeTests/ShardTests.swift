import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// Two or more runtimes that hand each other messages over rings.
@Suite("Shards") struct ShardTests {
    private static let ringDepth = Int(ShardRing.slotCount)

    private func pattern(_ count: Int, seed: Int) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ seed) } }

    /// A message that is copied into its slot, and one that is lent.
    private static let sizes = [0, 1, ShardRing.inlineByteCount, ShardRing.inlineByteCount + 1, 5_000, 258_048]

    @Test("a unit of any size arrives whole and in order, in the other heap, and what was lent goes home", arguments: sizes)
    func units(_ size: Int) throws {
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let right = try makeRuntime()
        let toRight = try left.join(mesh, as: 0).queue(to: 1)
        let toLeft = try right.join(mesh, as: 1).queue(to: 0)
        for round in 0..<3 {
            let unit = pattern(size, seed: round)
            #expect(try left.result(left.push(toRight, bytes: unit)) == .pushed(size))
            let isLent = size > ShardRing.inlineByteCount
            #expect(left.statistics.memory.liveBlocks == (isLent ? 1 : 0), "a copied one is the ring's, a lent one still its owner's")
            #expect(try right.result(right.pop(toLeft)) == .popped(unit))
            #expect(right.statistics.memory.liveBlocks == 0)
            left.poll()
            #expect(left.snapshot().liveBlocks == 0 && left.snapshot().liveSegments == 0)
        }
    }

    @Test("an array of sixteen segments is popped as one segment")
    func segments() throws {
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let right = try makeRuntime()
        let toRight = try left.join(mesh, as: 0).queue(to: 1)
        let toLeft = try right.join(mesh, as: 1).queue(to: 0)
        for size in [3, 700] {
            var array = try left.array(pattern(size, seed: 0))
            for index in 1..<16 { try array.append(left.buffer(pattern(size, seed: index))) }
            try left.push(toRight, array, completion: .discarded)
            guard let popped = try right.wait(right.pop(toLeft)).popped() else { throw DemikernelError(EPROTO, .pop) }
            let segmentCount = popped.segmentCount
            let content = bytes(popped)
            #expect(segmentCount == 1)
            #expect(content == (0..<16).flatMap { pattern(size, seed: $0) })
        }
    }

    @Test("a pop with a limit leaves the rest of the unit for the next pop")
    func limitedPop() throws {
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let right = try makeRuntime()
        let toRight = try left.join(mesh, as: 0).queue(to: 1)
        let toLeft = try right.join(mesh, as: 1).queue(to: 0)
        try left.push(toRight, left.buffer([1, 2, 3, 4, 5]), completion: .discarded)
        try left.push(toRight, left.buffer([6]), completion: .discarded)
        #expect(try right.result(right.pop(toLeft, maximumBytes: 2)) == .popped([1, 2]))
        #expect(try right.result(right.pop(toLeft)) == .popped([3, 4, 5]))
        #expect(try right.result(right.pop(toLeft)) == .popped([6]))
    }

    @Test("a full ring keeps pushes pending, in order, and refuses one that nobody waits for", arguments: [8, 1_000])
    func fullRing(_ size: Int) throws {
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let right = try makeRuntime()
        let toRight = try left.join(mesh, as: 0).queue(to: 1)
        let toLeft = try right.join(mesh, as: 1).queue(to: 0)
        for number in 0..<Self.ringDepth { #expect(try left.result(left.push(toRight, bytes: pattern(size, seed: number))) == .pushed(size)) }
        let waiting = try (0..<3).map { try left.push(toRight, bytes: pattern(size, seed: Self.ringDepth + $0)) }
        left.poll()
        for token in waiting { #expect(try left.redeemed(token) == nil) }
        #expect(errorNumber { () throws(DemikernelError) in try left.push(toRight, left.buffer([0]), completion: .discarded) } == EAGAIN)
        try left.cancel(waiting[1])
        #expect(try left.result(waiting[1]) == .failed(ECANCELED, byteCount: 0))
        #expect(try right.result(right.pop(toLeft)) == .popped(pattern(size, seed: 0)))
        #expect(try left.result(waiting[0]) == .pushed(size))
        #expect(try left.redeemed(waiting[2]) == nil)
        for number in 1...Self.ringDepth { #expect(try right.result(right.pop(toLeft)) == .popped(pattern(size, seed: number))) }
        #expect(try left.result(waiting[2]) == .pushed(size))
        #expect(try right.result(right.pop(toLeft)) == .popped(pattern(size, seed: Self.ringDepth + 2)))
        left.poll()
        #expect(left.snapshot().liveBlocks == 0 && left.snapshot().liveOperations == 0)
    }

    @Test("lanes do not wait for each other, and each shard has its own link to each other one")
    func lanes() throws {
        let mesh = try ShardMesh(shardCount: 3, laneCount: 2)
        let first = try makeRuntime()
        let second = try makeRuntime()
        let third = try makeRuntime()
        let links = (try first.join(mesh, as: 0), try second.join(mesh, as: 1), try third.join(mesh, as: 2))
        for _ in 0..<Self.ringDepth { try first.push(links.0.queue(to: 1, lane: 0), first.buffer([0]), completion: .discarded) }
        try first.push(links.0.queue(to: 1, lane: 1), first.buffer([1]), completion: .discarded)
        try first.push(links.0.queue(to: 2, lane: 0), first.buffer([2]), completion: .discarded)
        try third.push(links.2.queue(to: 1, lane: 0), third.buffer([3]), completion: .discarded)
        #expect(try second.result(second.pop(links.1.queue(to: 0, lane: 1))) == .popped([1]))
        #expect(try third.result(third.pop(links.2.queue(to: 0, lane: 0))) == .popped([2]))
        #expect(try second.result(second.pop(links.1.queue(to: 2, lane: 0))) == .popped([3]))
    }

    @Test("a broadcast gives every other shard a copy, wakes those that sleep, and drops what a full ring does not take", arguments: [60, 1_500])
    func broadcast(_ size: Int) throws {
        let mesh = try ShardMesh(shardCount: 3, laneCount: 2)
        let left = try makeRuntime()
        let right = try makeRuntime()
        #expect(try left.join(mesh, as: 0, queueLaneCount: 1).queueLaneCount == 1)
        _ = try right.join(mesh, as: 1, queueLaneCount: 1)
        let descriptor = try right.eventDescriptor()
        while right.poll() {}
        func isReadable() -> Bool {
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            return Glibc.poll(&entry, 1, 0) == 1
        }
        #expect(!isReadable())
        var sender = ShardBroadcast(mesh, shard: 0, lane: 1)
        var receiver = ShardBroadcast(mesh, shard: 1, lane: 1)
        let frame = try left.array(pattern(size, seed: 3)).takeOver()
        sender.send(copyOf: frame, left.core.heap)
        #expect(isReadable())
        for _ in 0..<Self.ringDepth { sender.send(copyOf: frame, left.core.heap) }
        frame.releaseArray()
        let drops = sender.dropCount
        #expect(drops == 2, "one for each of two shards that take none")
        var count = 0
        while let copy = receiver.receive(right.core.heap) {
            let content = bytes(ScatterGatherArray(unsafelyTakingOver: copy))
            #expect(content == pattern(size, seed: 3))
            count += 1
        }
        #expect(count == Self.ringDepth)
        #expect(right.snapshot().liveBlocks == 0)
        // Both runtimes end here, with copies on their way.
        let last = try right.array(pattern(size, seed: 4)).takeOver()
        receiver.send(copyOf: last, right.core.heap)
        last.releaseArray()
    }

    @Test("a unit for which the heap has no block waits in the ring, and loses nothing")
    func memoryPressure() throws {
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let right = try makeRuntime()
        let toRight = try left.join(mesh, as: 0).queue(to: 1)
        let toLeft = try right.join(mesh, as: 1).queue(to: 0)
        var hoard: [ScatterGatherArray.Owned] = []
        while let buffer = try? right.allocate(4_096), let array = try? ScatterGatherArray(buffer) { hoard.append(.init(array)) }
        let unit = pattern(3_000, seed: 7)
        try left.push(toRight, left.buffer(unit), completion: .discarded)
        let pop = try right.pop(toLeft)
        for _ in 0..<3 { right.poll() }
        #expect(try right.redeemed(pop) == nil)
        hoard.removeAll()
        #expect(try right.result(pop) == .popped(unit))
    }

    // MARK: Refusals

    @Test("what cannot be is refused")
    func refusals() throws {
        #expect(errorNumber { () throws(DemikernelError) in _ = try ShardMesh(shardCount: 0) } == EINVAL)
        #expect(errorNumber { () throws(DemikernelError) in _ = try ShardMesh(shardCount: 65) } == EINVAL)
        #expect(errorNumber { () throws(DemikernelError) in _ = try ShardMesh(shardCount: 2, laneCount: 5) } == EINVAL)
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let right = try makeRuntime()
        let queue = try left.join(mesh, as: 0).queue(to: 1)
        #expect(errorNumber { () throws(DemikernelError) in _ = try right.join(mesh, as: 0) } == EALREADY)
        #expect(errorNumber { () throws(DemikernelError) in _ = try left.accept(queue) } == EOPNOTSUPP)
        #expect(errorNumber { () throws(DemikernelError) in _ = try left.connect(queue, to: .loopback(port: 1)) } == EOPNOTSUPP)
        #expect(errorNumber { () throws(DemikernelError) in _ = try left.pushTo(queue, left.array([1]), .loopback(port: 1)) } == EOPNOTSUPP)
        let error = errorNumber { () throws(DemikernelError) in
            var array = try ScatterGatherArray(left.allocate(200_000))
            try array.append(left.allocate(100_000))
            _ = try left.push(queue, array)
        }
        #expect(error == EMSGSIZE)
        #expect(left.snapshot().liveBlocks == 0 && left.snapshot().liveOperations == 0)
    }

    // MARK: The end of a shard

    @Test("what a shard pushed before its end is still popped, then comes the end; pushes to it fail with EPIPE, and its debts come home")
    func endOfShard() throws {
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let toRight = try left.join(mesh, as: 0).queue(to: 1)
        var waiting: [QueueToken] = []
        do {
            let right = try makeRuntime()
            let toLeft = try right.join(mesh, as: 1).queue(to: 0)
            try right.push(toLeft, right.buffer([1]), completion: .discarded)
            try right.push(toLeft, right.buffer(pattern(9_000, seed: 1)), completion: .discarded)
            // Lent, and never popped; then more than the ring holds.
            for _ in 0..<Self.ringDepth { try left.push(toRight, left.buffer(pattern(500, seed: 0)), completion: .discarded) }
            waiting = try (0..<2).map { _ in try left.push(toRight, bytes: [3]) }
        }
        for token in waiting { #expect(try left.result(token) == .failed(EPIPE, byteCount: 0)) }
        #expect(errorNumber { () throws(DemikernelError) in _ = try left.push(toRight, bytes: [4]) } == EPIPE)
        #expect(try left.result(left.pop(toRight)) == .popped([1]))
        #expect(try left.result(left.pop(toRight)) == .popped(pattern(9_000, seed: 1)), "its memory outlives it")
        #expect(try left.result(left.pop(toRight)) == .endOfStream)
        #expect(try left.result(left.pop(toRight)) == .endOfStream)
        #expect(left.snapshot().liveBlocks == 0 && left.snapshot().liveSegments == 0 && left.snapshot().liveOperations == 0)
    }

    @Test("a shard that could not be made is left out, and its peers see its end")
    func shardThatNeverJoined() throws {
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let toRight = try left.join(mesh, as: 0).queue(to: 1)
        let pop = try left.pop(toRight)
        left.poll()
        #expect(try left.redeemed(pop) == nil)
        mesh.leave(1)
        #expect(try left.result(pop) == .endOfStream)
        #expect(errorNumber { () throws(DemikernelError) in _ = try left.push(toRight, bytes: [4]) } == EPIPE)
    }

    @Test("a closed link ends as a shard does, and its runtime lives on")
    func closedLink() throws {
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let right = try makeRuntime()
        let toRight = try left.join(mesh, as: 0).queue(to: 1)
        let toLeft = try right.join(mesh, as: 1).queue(to: 0)
        let pop = try left.pop(toRight)
        try left.push(toRight, left.buffer(pattern(2_000, seed: 5)), completion: .discarded)
        try left.close(toRight)
        #expect(try left.result(pop) == .failed(ECANCELED, byteCount: 0))
        #expect(try right.result(right.pop(toLeft)) == .popped(pattern(2_000, seed: 5)))
        #expect(try right.result(right.pop(toLeft)) == .endOfStream)
        #expect(errorNumber { () throws(DemikernelError) in _ = try right.push(toLeft, bytes: [4]) } == EPIPE)
        left.poll()
        #expect(left.snapshot().liveBlocks == 0 && left.snapshot().openQueues == 0)
    }

    // MARK: Two threads

    /// Runs `body` as shard 1 on a thread of its own.
    private func withPeer(
        _ mesh: ShardMesh, _ idle: IdlePolicy, _ body: @escaping @Sendable (borrowing Runtime, QueueDescriptor) throws -> Void
    ) -> pthread_t {
        onOtherThread {
            do {
                let runtime = try makeRuntime { $0.idle = idle }
                try body(runtime, runtime.join(mesh, as: 1).queue(to: 0))
            } catch {
                Issue.record("\(error)")
            }
        }
    }

    @Test(
        "two threads that hand each other messages lose, double and swap none, whether they spin or sleep",
        arguments: [IdlePolicy.spin, .adaptive(spinNanoseconds: 0)])
    func twoThreads(_ idle: IdlePolicy) throws {
        let count = 1_000
        let mesh = try ShardMesh(shardCount: 2)
        let sizes = [1, 100, 240, 241, 3_000, 20_000]
        let thread = withPeer(mesh, idle) { (runtime, queue) throws in
            // It answers each message with its bytes, when the ring has room again.
            while case .popped(let bytes) = try runtime.result(runtime.pop(queue)) {
                #expect(try runtime.result(runtime.push(queue, bytes: bytes)) == .pushed(bytes.count))
            }
        }
        do {
            let runtime = try makeRuntime { $0.idle = idle }
            let queue = try runtime.join(mesh, as: 0).queue(to: 1)
            var pushed = 0
            var popped = 0
            var pending: [QueueToken] = []
            while popped < count {
                while pushed < count, pushed - popped < 40 {
                    pending.append(try runtime.push(queue, bytes: pattern(sizes[pushed % sizes.count], seed: pushed)))
                    pushed += 1
                }
                #expect(try runtime.result(runtime.pop(queue)) == .popped(pattern(sizes[popped % sizes.count], seed: popped)))
                popped += 1
                #expect(try runtime.result(pending.removeFirst()) == .pushed(sizes[(popped - 1) % sizes.count]))
            }
            try runtime.close(queue)
        }
        pthread_join(thread, nil)
    }

    @Test("a producer far ahead of its consumer is held back at the ring's depth")
    func backPressure() throws {
        let count = 2_000
        let mesh = try ShardMesh(shardCount: 2)
        let thread = withPeer(mesh, .adaptive(spinNanoseconds: 0)) { (runtime, queue) throws in
            for number in 0..<count {
                #expect(
                    try runtime.result(runtime.push(queue, bytes: [UInt8(truncatingIfNeeded: number), UInt8(truncatingIfNeeded: number >> 8)]))
                        == .pushed(2))
            }
        }
        let runtime = try makeRuntime { $0.idle = .adaptive(spinNanoseconds: 0) }
        let queue = try runtime.join(mesh, as: 0).queue(to: 1)
        for number in 0..<count {
            #expect(try runtime.result(runtime.pop(queue)) == .popped([UInt8(truncatingIfNeeded: number), UInt8(truncatingIfNeeded: number >> 8)]))
        }
        #expect(try runtime.result(runtime.pop(queue)) == .endOfStream)
        pthread_join(thread, nil)
    }

    @Test("a shard that sleeps is woken by a message, by room, and by the other's end; while nothing comes it takes no turns")
    func sleep() throws {
        let mesh = try ShardMesh(shardCount: 2)
        let thread = withPeer(mesh, .adaptive(spinNanoseconds: 0)) { (runtime, queue) throws in
            // A wait of any length is one sleep: the turn before the arming, the one behind it, and those of the wake-up.
            let before = runtime.statistics
            #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(runtime.pop(queue), timeout: .milliseconds(50)) } == ETIMEDOUT)
            #expect(runtime.statistics.sleeps - before.sleeps <= 2)
            #expect(runtime.statistics.turns - before.turns <= 8)
            #expect(runtime.statistics.sleeps > before.sleeps)
            try runtime.push(queue, runtime.buffer([99]), completion: .discarded)
            while case .popped(let bytes) = try runtime.result(runtime.pop(queue)) {
                try runtime.push(queue, runtime.buffer(bytes), completion: .discarded)
            }
        }
        do {
            let runtime = try makeRuntime { $0.idle = .adaptive(spinNanoseconds: 0) }
            let queue = try runtime.join(mesh, as: 0).queue(to: 1)
            #expect(try runtime.result(runtime.pop(queue)) == .popped([99]), "the other shard has slept alone")
            // The peer's pop that timed out takes the first one.
            try runtime.push(queue, runtime.buffer([0]), completion: .discarded)
            for number in 1..<200 {
                try runtime.push(queue, runtime.buffer([UInt8(number)]), completion: .discarded)
                #expect(try runtime.result(runtime.pop(queue)) == .popped([UInt8(number)]))
            }
            #expect(runtime.statistics.sleeps > 0)
        }
        pthread_join(thread, nil)
    }

    @Test("the event descriptor of a shard is readable when a message has come, and not otherwise")
    func eventDescriptor() throws {
        let mesh = try ShardMesh(shardCount: 2)
        let left = try makeRuntime()
        let right = try makeRuntime()
        let toRight = try left.join(mesh, as: 0).queue(to: 1)
        let toLeft = try right.join(mesh, as: 1).queue(to: 0)
        let descriptor = try right.eventDescriptor()
        func isReadable() -> Bool {
            var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            return Glibc.poll(&entry, 1, 0) == 1
        }
        for round in 0..<5 {
            let pop = try right.pop(toLeft)
            while right.poll() {}
            #expect(!isReadable(), "nothing has come, round \(round)")
            try left.push(toRight, left.buffer([UInt8(round)]), completion: .discarded)
            #expect(isReadable())
            while right.poll() {}
            #expect(try right.redeemed(pop) == .popped([UInt8(round)]))
        }
    }
}

extension ScatterGatherArray {
    /// An array that a collection can hold.
    final class Owned {
        private let head: UnsafeMutablePointer<SegmentDescriptor>
        init(_ array: consuming ScatterGatherArray) { head = array.takeOver() }
        deinit { head.releaseArray() }
    }
}
