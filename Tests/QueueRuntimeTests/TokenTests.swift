import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// A token is redeemed exactly once, whoever redeems it.
@Suite("Tokens") struct TokenTests {
    /// The ways to redeem a completed token.
    enum Redeemer: CaseIterable, Sendable {
        case wait, waitAny, waitAll, waitNext, waitSet, redeem, coroutine
    }

    @Test("a token is redeemed once, in every way", arguments: Redeemer.allCases)
    func redeemedOnce(_ redeemer: Redeemer) throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let before = runtime.snapshot()
        let token = try runtime.push(queue, bytes: [1, 2, 3])
        #expect(runtime.statistics.liveOperations == before.liveOperations + 1)
        var redeemed: QueueToken?
        switch redeemer {
        case .wait: redeemed = try runtime.wait(token).token
        case .waitAny: redeemed = try runtime.waitAny([token].span).token
        case .waitAll:
            var batch = CompletionBatch(capacity: 1)
            try runtime.waitAll([token].span, into: &batch)
            redeemed = batch.next()?.token
        case .waitNext: redeemed = try runtime.next().first
        case .waitSet:
            let set = try runtime.makeWaitSet()
            try set.add(token)
            redeemed = try set.wait().token
        case .redeem: redeemed = try runtime.redeem(token)?.token
        case .coroutine:
            let seen = Shared<QueueToken?>(nil)
            try runtime.spawn { runtime in seen.value = try? runtime.wait(token).token }
            try runtime.run()
            redeemed = seen.value
        }
        #expect(redeemed == token)
        for call in TokenCall.allCases {
            #expect(errorNumber { () throws(DemikernelError) in try call.perform(runtime, token) } == EINVAL, "\(call)")
        }
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.next() } == ETIMEDOUT, "it is not on the unclaimed list")
        #expect(runtime.statistics.liveOperations == before.liveOperations)
        #expect(try runtime.result(runtime.pop(queue)) == .popped([1, 2, 3]))
        #expect(runtime.snapshot() == before)
    }

    @Test("the next operation in the slot has another token")
    func generations() throws {
        let runtime = try makeRuntime { $0.limits.maximumOperations = 1 }
        let queue = try runtime.queue()
        var seen: Set<QueueToken> = []
        for _ in 0..<1_000 {
            let push = try runtime.push(queue, bytes: [1])
            #expect(seen.insert(push).inserted)
            _ = try runtime.wait(push)
            let pop = try runtime.pop(queue)
            #expect(seen.insert(pop).inserted)
            _ = try runtime.wait(pop)
        }
        #expect(Set(seen.map { $0.rawValue & QueueToken.slotMask }).count == 1, "it was one slot all the time")
    }

    @Test("generations are seeded: the same for one seed, others for another")
    func seededGenerations() throws {
        func firstToken(seed: UInt64?) throws -> QueueToken {
            let runtime = try makeRuntime { $0.seed = seed }
            return try runtime.pop(runtime.queue())
        }
        let one = try firstToken(seed: 1)
        #expect(try firstToken(seed: 1) == one)
        #expect(try firstToken(seed: 2) != one)
        #expect(try firstToken(seed: nil) != firstToken(seed: nil))
    }

    @Test("a slot whose generations are used up is retired")
    func retirement() throws {
        let runtime = try makeRuntime { $0.limits.maximumOperations = 2 }
        let queue = try runtime.queue()
        let first = try runtime.push(queue, bytes: [1])
        let slot = runtime.core.slot(of: first)
        _ = try runtime.wait(first)
        // The last generation of the slot comes next.
        runtime.core.operation(slot).pointee.token = ~(.max << 20 | UInt64(slot))
        let last = try runtime.push(queue, bytes: [2])
        #expect(last.rawValue == .max << 20 | UInt64(slot))
        #expect(runtime.statistics.retiredTokenSlots == 0)
        #expect(try runtime.result(last) == .pushed(1))
        #expect(runtime.statistics.retiredTokenSlots == 1)
        #expect(runtime.statistics.liveOperations == 0)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(last) } == EINVAL)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(QueueToken(rawValue: UInt64(slot))) } == EINVAL)
        // One slot is left of two, and it is another one.
        let pop = try runtime.pop(queue)
        #expect(pop.rawValue & QueueToken.slotMask != UInt64(slot))
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.pop(queue) } == ENOBUFS)
        #expect(try runtime.result(pop) == .popped([1]))
    }

    @Test("a closed descriptor does not name the next queue in its slot")
    func descriptorGenerations() throws {
        let runtime = try makeRuntime { $0.limits.maximumQueues = 1 }
        var previous: QueueDescriptor?
        for _ in 0..<100 {
            let queue = try runtime.queue()
            #expect(queue.rawValue > 0)
            #expect(queue.slot == previous?.slot ?? queue.slot)
            #expect(queue != previous)
            if let previous {
                #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.pop(previous) } == EBADF)
                #expect(errorNumber { () throws(DemikernelError) in try runtime.close(previous) } == EBADF)
            }
            try runtime.close(queue)
            previous = queue
        }
    }

    @Test("descriptors stay positive when a slot's generations wrap around")
    func descriptorWrap() throws {
        let runtime = try makeRuntime { $0.limits.maximumQueues = 1 }
        for _ in 0..<5_000 {
            let queue = try runtime.queue()
            guard queue.rawValue > 0 else {
                Issue.record("descriptor \(queue.rawValue)")
                return
            }
            try runtime.close(queue)
        }
    }

    @Test("what is not redeemed when its queue is closed stays redeemable")
    func redeemableAfterClose() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let push = try runtime.push(queue, bytes: [1])
        let pop = try runtime.pop(queue)
        let pending = try runtime.pop(queue)
        let close = try runtime.closeToken(queue)
        #expect(try runtime.result(close) == .closed)
        #expect(try runtime.result(pending) == .failed(ECANCELED, byteCount: 0))
        #expect(try runtime.result(pop) == .popped([1]))
        #expect(try runtime.result(push) == .pushed(1))
        #expect(runtime.snapshot().liveOperations == 0)
        #expect(runtime.snapshot().liveBlocks == 0)
    }

    @Test("a wait that needs no turn gives its token to nobody else, however many come in a row")
    func turnlessWaits() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let ended = Shared(false)
        let stolen = Shared(0)
        // It takes whatever stands unclaimed at each of its turns.
        try runtime.spawn { runtime in
            while !ended.value {
                if let tokens = try? runtime.next(timeout: .zero) { stolen.value += tokens.count }
                runtime.yield()
            }
        }
        // In random order, so that each kind has its turn at the wait that takes one.
        var random = SeededRandom(seed: 3)
        for round in 0..<4_000 {
            let token = try round % 2 == 0 ? runtime.push(queue, bytes: [1]) : runtime.pop(queue)
            switch Int.random(in: 0..<4, using: &random) {
            case 0: _ = try runtime.wait(token)
            case 1: #expect(try runtime.first(of: [token]).token == token)
            case 2: #expect(try runtime.next(timeout: nil) == [token])
            default:
                let set = try runtime.makeWaitSet()
                try set.add(token)
                #expect(try set.wait().token == token)
            }
        }
        ended.value = true
        try runtime.run()
        #expect(stolen.value == 0)
        #expect(runtime.snapshot().liveOperations == 0)
        #expect(runtime.snapshot().liveBlocks == 0)
    }
}

/// A value that a coroutine and its test share; both run on one thread.
final class Shared<Value> {
    var value: Value
    init(_ value: Value) { self.value = value }
}
