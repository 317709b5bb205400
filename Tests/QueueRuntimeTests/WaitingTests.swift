import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// Which completions a wait gives, and in what order.
@Suite("Waiting") struct WaitingTests {
    /// Queues of which each has one pending pop.
    private func pendingPops(_ runtime: borrowing Runtime, _ count: Int) throws -> (queues: [QueueDescriptor], tokens: [QueueToken]) {
        var queues: [QueueDescriptor] = []
        var tokens: [QueueToken] = []
        for _ in 0..<count {
            let queue = try runtime.queue()
            queues.append(queue)
            tokens.append(try runtime.pop(queue))
        }
        return (queues, tokens)
    }

    private func complete(_ runtime: borrowing Runtime, _ queue: QueueDescriptor, _ byte: UInt8 = 1) throws {
        try runtime.push(queue, runtime.buffer([byte]), completion: .discarded)
    }

    @Test("waitAny gives the oldest completion, with its place in the array")
    func waitAnyOldestFirst() throws {
        let runtime = try makeRuntime()
        let (queues, tokens) = try pendingPops(runtime, 6)
        let order = [4, 1, 5, 0, 3, 2]
        for position in order { try complete(runtime, queues[position], UInt8(position)) }
        var left = tokens
        for position in order {
            let completion = try runtime.first(of: left)
            let index = try #require(left.firstIndex(of: tokens[position]))
            #expect(completion == Described(token: tokens[position], index: index, outcome: .popped([UInt8(position)])))
            left.removeAll { $0 == tokens[position] }
        }
        #expect(left.isEmpty)
    }

    @Test("waitAny that had to wait: the oldest, its place, and the others stay redeemable in order")
    func waitAnyBlocking() throws {
        let runtime = try makeRuntime()
        let (queues, tokens) = try pendingPops(runtime, 5)
        let order = [3, 1, 4, 0, 2]
        try runtime.spawn { runtime in
            for position in order { try? runtime.push(queues[position], runtime.buffer([UInt8(position)]), completion: .discarded) }
        }
        let completion = try runtime.first(of: tokens)
        #expect(completion.token == tokens[3])
        #expect(completion.index == 3)
        #expect(try runtime.next() == order.dropFirst().map { tokens[$0] })
    }

    @Test("the same token twice in waitAny is waited for once", arguments: [false, true])
    func waitAnyTwice(isCompleted: Bool) throws {
        let runtime = try makeRuntime()
        let (queues, tokens) = try pendingPops(runtime, 2)
        if isCompleted {
            try complete(runtime, queues[1])
        } else {
            try runtime.spawn { runtime in try? runtime.push(queues[1], runtime.buffer([1]), completion: .discarded) }
        }
        let array = [tokens[0], tokens[1], tokens[0], tokens[1]]
        let completion = try runtime.first(of: array)
        #expect(completion.token == tokens[1])
        #expect(array[completion.index] == tokens[1])
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(tokens[1]) } == EINVAL)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(tokens[0], timeout: .zero) } == ETIMEDOUT)
    }

    @Test("waitAll gives all in the order of the tokens", arguments: [0, 3, 6])
    func waitAllOrder(completedBefore: Int) throws {
        let runtime = try makeRuntime()
        let (queues, tokens) = try pendingPops(runtime, 6)
        let order = [5, 0, 3, 2, 4, 1]
        for position in order.prefix(completedBefore) { try complete(runtime, queues[position], UInt8(position)) }
        try runtime.spawn { runtime in
            for position in order.dropFirst(completedBefore) {
                runtime.yield()
                try? runtime.push(queues[position], runtime.buffer([UInt8(position)]), completion: .discarded)
            }
        }
        var batch = CompletionBatch(capacity: 6)
        try runtime.waitAll(tokens.span, into: &batch, timeout: generous)
        #expect(batch.count == 6)
        for position in 0..<6 {
            guard let completion = batch.next() else { return }
            #expect(Described(completion) == Described(token: tokens[position], index: position, outcome: .popped([UInt8(position)])))
        }
        #expect(runtime.snapshot().liveOperations == 0)
    }

    @Test("a waitAll that times out leaves all redeemable, in their order of completion")
    func waitAllTimeout() throws {
        let clock = VirtualClock(step: 100)
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let (queues, tokens) = try pendingPops(runtime, 5)
        try complete(runtime, queues[3])
        try complete(runtime, queues[1])
        try complete(runtime, queues[4])
        var batch = CompletionBatch(capacity: 5)
        // The fifth is not among them, and completed last.
        let number = errorNumber { () throws(DemikernelError) in
            try runtime.waitAll(tokens[0..<4].span, into: &batch, timeout: .microseconds(50))
        }
        #expect(number == ETIMEDOUT)
        #expect(batch.count == 0)
        #expect(try runtime.next() == [tokens[3], tokens[1], tokens[4]])
        try complete(runtime, queues[0])
        try complete(runtime, queues[2])
        #expect(try runtime.result(tokens[2]) == .popped([1]))
        #expect(try runtime.result(tokens[0]) == .popped([1]))
    }

    @Test("a wait that times out leaves the operation pending; a later wait, or waitNext, gets it")
    func timeouts() throws {
        let clock = VirtualClock(step: 100)
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let (queues, tokens) = try pendingPops(runtime, 3)
        let start = clock.now
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(tokens[0], timeout: .microseconds(10)) } == ETIMEDOUT)
        #expect(clock.now >= start + 10_000, "it did wait")
        #expect(clock.now < start + 20_000, "not longer")
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.waitAny(tokens.span, timeout: .microseconds(10)) } == ETIMEDOUT)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.next(timeout: .microseconds(10)) } == ETIMEDOUT)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(tokens[0], timeout: .zero) } == ETIMEDOUT)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(tokens[0], timeout: .seconds(-1)) } == ETIMEDOUT)
        #expect(runtime.statistics.liveOperations == 3)
        for queue in queues { try complete(runtime, queue) }
        #expect(try runtime.result(tokens[1]) == .popped([1]))
        #expect(try runtime.next() == [tokens[0], tokens[2]])
    }

    @Test("a timeout of more than all time is none")
    func endlessTimeout() throws {
        let clock = VirtualClock(now: 1 << 62, step: 1)
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let (queues, tokens) = try pendingPops(runtime, 1)
        try runtime.spawn { runtime in
            for _ in 0..<10 { runtime.yield() }
            try? runtime.push(queues[0], runtime.buffer([1]), completion: .discarded)
        }
        #expect(try runtime.result(tokens[0], timeout: .seconds(Int64.max)) == .popped([1]))
    }

    @Test("waitNext gives what nobody claimed, in order of completion, as many as fit")
    func waitNextOrder() throws {
        let runtime = try makeRuntime()
        let (queues, tokens) = try pendingPops(runtime, 8)
        let set = try runtime.makeWaitSet()
        try set.add(tokens[2])
        for position in [6, 2, 0, 7, 1, 5] { try complete(runtime, queues[position]) }
        #expect(try runtime.next(capacity: 2) == [tokens[6], tokens[0]])
        #expect(try runtime.next(capacity: 64) == [tokens[7], tokens[1], tokens[5]])
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.next() } == ETIMEDOUT)
        #expect(try set.wait().token == tokens[2])
    }

    @Test("what a wait claimed and did not take goes back between the others, in order of completion")
    func orderAcrossLists() throws {
        let runtime = try makeRuntime()
        let (queues, tokens) = try pendingPops(runtime, 6)
        // 0, 2 and 4 are claimed by the waitAny; 1, 3 and 5 by nobody.
        try runtime.spawn { runtime in
            for queue in queues { try? runtime.push(queue, runtime.buffer([1]), completion: .discarded) }
        }
        #expect(try runtime.first(of: [tokens[4], tokens[2], tokens[0]]).token == tokens[0])
        #expect(try runtime.next() == [1, 2, 3, 4, 5].map { tokens[$0] })
    }

    @Test("redeem gives what is completed and runs nothing, however often it is asked")
    func redeemTakesNoTurn() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let ran = Shared(false)
        try runtime.spawn { _ in ran.value = true }
        let turns = runtime.statistics.turns
        for round in 0..<500 {
            let pop = try runtime.pop(queue)
            #expect(try runtime.redeemed(pop) == nil, "it is pending")
            try complete(runtime, queue, UInt8(round & 0xff))
            #expect(try runtime.redeemed(pop) == .popped([UInt8(round & 0xff)]))
        }
        #expect(runtime.statistics.turns == turns)
        #expect(!ran.value)
        #expect(runtime.snapshot().liveOperations == 0)
        try runtime.run()
        #expect(ran.value)
    }

    @Test("redeem leaves a token alone that somebody waits for, and takes it once the claim has lapsed", arguments: [false, true])
    func redeemOfClaimed(isCompleted: Bool) throws {
        let runtime = try makeRuntime()
        let (queues, tokens) = try pendingPops(runtime, 1)
        do {
            let set = try runtime.makeWaitSet()
            try set.add(tokens[0])
            if isCompleted { try complete(runtime, queues[0]) }
            #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.redeem(tokens[0]) } == EBUSY)
            #expect(set.count == 1)
        }
        if !isCompleted { try complete(runtime, queues[0]) }
        #expect(try runtime.redeemed(tokens[0]) == .popped([1]))
    }

    @Test("ten thousand pending operations: each is redeemed once, by each kind of wait")
    func tenThousandPending() throws {
        let count = 10_000
        let runtime = try makeRuntime {
            $0.limits.maximumQueues = count
            $0.limits.maximumOperations = count
            $0.memory.arenaByteCount = 8 << 20
        }
        var random = SeededRandom(seed: 7)
        let (queues, tokens) = try pendingPops(runtime, count)
        #expect(runtime.statistics.liveOperations == count)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.pop(queues[0]) } == ENOBUFS)
        let set = try runtime.makeWaitSet()
        for token in tokens[0..<2_500] { try set.add(token) }
        #expect(set.count == 2_500)
        let order = (0..<count).shuffled(using: &random)
        for position in order { try complete(runtime, queues[position]) }
        var batch = CompletionBatch(capacity: 5_000)
        try runtime.waitAll(tokens[2_500..<7_500].span, into: &batch, timeout: generous)
        for token in tokens[2_500..<7_500] { #expect(batch.next()?.token == token) }
        let fromSet = order.filter { $0 < 2_500 }
        for position in fromSet { #expect(try set.wait().token == tokens[position]) }
        let rest = order.filter { $0 >= 7_500 }
        for position in rest.prefix(1_000) {
            #expect(try runtime.first(of: [tokens[position]]).token == tokens[position])
        }
        #expect(try runtime.next(capacity: count) == rest.dropFirst(1_000).map { tokens[$0] })
        #expect(runtime.snapshot().liveOperations == 0)
        #expect(runtime.snapshot().liveBlocks == 0)
    }

    @Test("a completion batch gives in order what it holds, and releases what was not taken")
    func completionBatch() throws {
        let runtime = try makeRuntime()
        let (queues, tokens) = try pendingPops(runtime, 4)
        for queue in queues { try complete(runtime, queue) }
        do {
            var batch = CompletionBatch(capacity: 3)
            try runtime.waitNext(into: &batch)
            #expect(batch.count == 3)
            #expect(batch.next()?.token == tokens[0])
            #expect(batch.count == 2)
            // A wait drops what was left.
            try runtime.waitNext(into: &batch)
            #expect(batch.count == 1)
            #expect(runtime.snapshot().liveBlocks == 1)
        }
        #expect(runtime.snapshot().liveBlocks == 0)
    }
}
