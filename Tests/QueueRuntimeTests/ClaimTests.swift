import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// A token has one claimant; a second gets `EBUSY`. A claim lapses with the wait that made it.
@Suite("Claims") struct ClaimTests {
    /// Who holds a pending token, and who asks for it.
    enum Claimant: CaseIterable, Sendable {
        case wait, waitAny, waitAll, waitSet
    }

    /// Tries to get `token`, which somebody else has.
    private func attempt(_ claimant: Claimant, _ runtime: borrowing Runtime, _ token: QueueToken, free: QueueToken) -> Int32 {
        errorNumber { () throws(DemikernelError) in
            switch claimant {
            case .wait: _ = try runtime.wait(token, timeout: .zero)
            case .waitAny: _ = try runtime.waitAny([free, token].span, timeout: .zero)
            case .waitAll:
                var batch = CompletionBatch(capacity: 2)
                try runtime.waitAll([free, token].span, into: &batch, timeout: .zero)
            case .waitSet:
                let set = try runtime.makeWaitSet()
                try set.add(token)
            }
        }
    }

    /// Blocks on `token` in one of the ways; returns whether it got it.
    private func hold(_ claimant: Claimant, _ runtime: borrowing Runtime, _ token: QueueToken) throws(DemikernelError) -> Bool {
        switch claimant {
        case .wait: return try runtime.wait(token, timeout: generous).token == token
        case .waitAny: return try runtime.waitAny([token].span, timeout: generous).token == token
        case .waitAll:
            var batch = CompletionBatch(capacity: 1)
            try runtime.waitAll([token].span, into: &batch, timeout: generous)
            return batch.next()?.token == token
        case .waitSet:
            let set = try runtime.makeWaitSet()
            try set.add(token)
            return try set.wait(timeout: generous).token == token
        }
    }

    @Test("in the turn that the thread takes for its token, whoever asks for it gets EBUSY, and the wait its result")
    func turnOfTheToken() throws {
        let kept = Shared<RecordingDevice?>(nil)
        let runtime = try makeRuntime(making: [{ core in RecordingDevice.make(for: core, keeping: kept) }])
        let device = try #require(kept.value)
        let queue = try runtime.socket(.ipv4, .datagram)
        let token = try runtime.pop(queue)
        let core = runtime.core
        let seen = Shared<Int32>(0)
        device.whenPolled = {
            do throws(DemikernelError) {
                let set = try WaitSet(core: core)
                try set.add(token)
            } catch {
                seen.value = error.errno
            }
            device.whenPolled = {}
        }
        try runtime.push(queue, runtime.buffer([1, 2]), completion: .discarded)
        #expect(try runtime.result(token) == .popped([1, 2]))
        #expect(seen.value == EBUSY)
    }

    @Test("the thread holds, a coroutine asks", arguments: Claimant.allCases, Claimant.allCases)
    func threadHolds(_ holder: Claimant, _ second: Claimant) throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let token = try runtime.pop(queue)
        let free = try runtime.pop(runtime.queue())
        let seen = Shared<Int32?>(nil)
        try runtime.spawn { runtime in
            seen.value = attempt(second, runtime, token, free: free)
            try? runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        }
        #expect(try hold(holder, runtime, token))
        #expect(seen.value == EBUSY)
        // What the refused call had claimed beside it is free again.
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(free, timeout: .zero) } == ETIMEDOUT)
    }

    @Test("a coroutine holds, the thread or another coroutine asks", arguments: Claimant.allCases, Claimant.allCases)
    func coroutineHolds(_ holder: Claimant, _ second: Claimant) throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let token = try runtime.pop(queue)
        let free = try runtime.pop(runtime.queue())
        let got = Shared(false)
        let seen = Shared<Int32?>(nil)
        try runtime.spawn { runtime in got.value = (try? hold(holder, runtime, token)) ?? false }
        runtime.poll()
        #expect(attempt(second, runtime, token, free: free) == EBUSY)
        try runtime.spawn { runtime in seen.value = attempt(second, runtime, token, free: free) }
        runtime.poll()
        #expect(seen.value == EBUSY)
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        // Completed and not yet taken: still its own.
        #expect(attempt(second, runtime, token, free: free) == EBUSY)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.next(timeout: .zero) } == ETIMEDOUT)
        try runtime.run()
        #expect(got.value)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(free, timeout: .zero) } == ETIMEDOUT)
    }

    @Test("a wait set holds a token, pending or completed", arguments: Claimant.allCases, [false, true])
    func setHolds(_ second: Claimant, isCompleted: Bool) throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let token = try runtime.pop(queue)
        let free = try runtime.pop(runtime.queue())
        if isCompleted { try runtime.push(queue, runtime.buffer([1]), completion: .discarded) }
        let set = try runtime.makeWaitSet()
        try set.add(token)
        #expect(attempt(second, runtime, token, free: free) == EBUSY)
        #expect(errorNumber { () throws(DemikernelError) in try set.add(token) } == EBUSY)
        #expect(set.count == 1)
        if !isCompleted { try runtime.push(queue, runtime.buffer([1]), completion: .discarded) }
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.next(timeout: .zero) } == ETIMEDOUT)
        #expect(try set.wait().token == token)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(free, timeout: .zero) } == ETIMEDOUT)
    }

    @Test("a claim lapses with its wait: by a timeout on the thread", arguments: Claimant.allCases)
    func lapsedOnThread(_ claimant: Claimant) throws {
        let clock = VirtualClock(step: 100)
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let queue = try runtime.queue()
        let token = try runtime.pop(queue)
        let free = try runtime.pop(runtime.queue())
        for _ in 0..<3 {
            let number = attempt(claimant, runtime, token, free: free)
            #expect(number == (claimant == .waitSet ? 0 : ETIMEDOUT))
        }
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        #expect(try runtime.next() == [token])
    }

    @Test("a claim lapses with its wait: by a timeout in a coroutine", arguments: Claimant.allCases)
    func lapsedInCoroutine(_ claimant: Claimant) throws {
        let clock = VirtualClock()
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let queue = try runtime.queue()
        let token = try runtime.pop(queue)
        let number = Shared<Int32>(0)
        try runtime.spawn { runtime in
            number.value = errorNumber { () throws(DemikernelError) in
                switch claimant {
                case .wait: _ = try runtime.wait(token, timeout: .milliseconds(1))
                case .waitAny: _ = try runtime.waitAny([token].span, timeout: .milliseconds(1))
                case .waitAll:
                    var batch = CompletionBatch(capacity: 1)
                    try runtime.waitAll([token].span, into: &batch, timeout: .milliseconds(1))
                case .waitSet:
                    let set = try runtime.makeWaitSet()
                    try set.add(token)
                    _ = try set.wait(timeout: .milliseconds(1))
                }
            }
        }
        runtime.poll()
        clock.advance(by: 999_000)
        runtime.poll()
        #expect(number.value == 0, "the deadline has not come")
        clock.advance(by: 10_000)
        try runtime.run()
        #expect(number.value == ETIMEDOUT)
        #expect(runtime.statistics.timers == 0)
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        #expect(try runtime.next() == [token])
    }

    @Test("two may not block on one list: waitNext, and one set")
    func twoOnOneList() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let token = try runtime.pop(queue)
        let taken = Shared<[QueueToken]>([])
        let second = Shared<Int32>(0)
        try runtime.spawn { runtime in taken.value = (try? runtime.next(timeout: nil)) ?? [] }
        runtime.poll()
        try runtime.spawn { runtime in second.value = errorNumber { () throws(DemikernelError) in _ = try runtime.next(timeout: nil) } }
        runtime.poll()
        #expect(second.value == EBUSY)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.next(timeout: .zero) } == EBUSY)
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        try runtime.run()
        #expect(taken.value == [token])
    }
}
