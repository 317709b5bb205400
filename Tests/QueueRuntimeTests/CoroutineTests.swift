import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// Straight-line code that gives way where it waits.
@Suite("Coroutines") struct CoroutineTests {
    @Test("a coroutine whose waits never block gives way all the same")
    func busyCoroutineGivesWay() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let isEnding = Shared(false)
        let rounds = Shared(0)
        try runtime.spawn { runtime in
            // Bounded, so that the test fails instead of hanging when it never gives way.
            while !isEnding.value && rounds.value < 100_000 {
                _ = try? runtime.result(runtime.push(queue, bytes: [1]))
                _ = try? runtime.result(runtime.pop(queue))
                rounds.value += 1
            }
        }
        try runtime.spawn { _ in isEnding.value = true }
        try runtime.run()
        #expect(rounds.value < 1_000)
    }

    @Test("all kinds of wait inside coroutines, one thread, no order but that of the queues")
    func waits() throws {
        let runtime = try makeRuntime()
        let queues = try (0..<4).map { _ in try runtime.queue() }
        let log = Shared<[String]>([])
        let failed = Shared<DemikernelError?>(nil)
        func spawn(_ runtime: borrowing Runtime, _ body: @escaping (borrowing Runtime) throws(DemikernelError) -> Void) throws {
            try runtime.spawn { runtime in
                do throws(DemikernelError) { try body(runtime) } catch { failed.value = error }
            }
        }
        try spawn(runtime) { (runtime) throws(DemikernelError) in
            log.value.append("wait \(try runtime.result(runtime.pop(queues[0])))")
        }
        try spawn(runtime) { (runtime) throws(DemikernelError) in
            let tokens = try [runtime.pop(queues[1]), runtime.pop(queues[2])]
            let first = try runtime.first(of: tokens)
            log.value.append("any \(first.index) \(first.outcome)")
            let second = try runtime.result(tokens[1 - first.index])
            log.value.append("rest \(second)")
        }
        try spawn(runtime) { (runtime) throws(DemikernelError) in
            let tokens = try [runtime.pop(queues[1]), runtime.pop(queues[2])]
            var batch = CompletionBatch(capacity: 2)
            try runtime.waitAll(tokens.span, into: &batch)
            while let completion = batch.next() { log.value.append("all \(Described(completion).outcome)") }
        }
        try spawn(runtime) { (runtime) throws(DemikernelError) in
            let set = try runtime.makeWaitSet()
            try set.add(runtime.pop(queues[3]))
            log.value.append("set \(Described(try set.wait()).outcome)")
            let token = try runtime.push(queues[3], bytes: [9])
            guard try runtime.next(timeout: nil) == [token] else { return }
            log.value.append("next")
        }
        runtime.poll()
        #expect(log.value.isEmpty)
        #expect(runtime.statistics.tasks == 4)
        func push(_ runtime: borrowing Runtime, _ index: Int, _ byte: UInt8) throws {
            try runtime.push(queues[index], runtime.buffer([byte]), completion: .discarded)
            runtime.poll()
        }
        try push(runtime, 2, 1)
        #expect(log.value == ["any 1 popped([1])"])
        try push(runtime, 2, 2)
        #expect(log.value.count == 1, "waitAll has one of two")
        try push(runtime, 1, 3)
        #expect(log.value.last == "rest popped([3])")
        try push(runtime, 1, 4)
        #expect(log.value.suffix(2) == ["all popped([4])", "all popped([2])"])
        try push(runtime, 0, 5)
        #expect(log.value.last == "wait popped([5])")
        try push(runtime, 3, 6)
        #expect(log.value.suffix(2) == ["set popped([6])", "next"])
        try runtime.run()
        #expect(failed.value == nil)
        #expect(runtime.statistics.tasks == 0)
        #expect(runtime.statistics.liveOperations == 0)
    }

    @Test("timeouts fire by the injected clock, in order, and not before their time")
    func timeouts() throws {
        let clock = VirtualClock()
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let queue = try runtime.queue()
        let log = Shared<[Int]>([])
        for milliseconds in [5, 1, 300, 70, 20_000] {
            try runtime.spawn { runtime in
                let number = errorNumber { () throws(DemikernelError) in
                    _ = try runtime.wait(runtime.pop(queue), timeout: .milliseconds(milliseconds))
                }
                log.value.append(number == ETIMEDOUT ? milliseconds : -1)
            }
        }
        runtime.poll()
        #expect(runtime.statistics.timers == 5)
        var expected: [Int] = []
        for milliseconds in [1, 5, 70, 300, 20_000] {
            clock.advance(by: UInt64(milliseconds) * 1_000_000 - (clock.now - 1_000_000) - 2_000)
            while runtime.poll() {}
            #expect(log.value == expected, "\(milliseconds) ms have not passed")
            clock.advance(by: 4_000)
            while runtime.poll() {}
            expected.append(milliseconds)
            #expect(log.value == expected)
        }
        try runtime.run()
        #expect(runtime.statistics.timers == 0)
        #expect(runtime.statistics.liveOperations == 5, "the operations are pending")
        try runtime.close(queue)
        #expect(try runtime.next().count == 5)
    }

    @Test("a wait that comes to its end in time takes its timer off")
    func timersOff() throws {
        let clock = VirtualClock()
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let queue = try runtime.queue()
        let count = Shared(0)
        for _ in 0..<100 {
            try runtime.spawn { runtime in
                if case .popped? = try? runtime.result(runtime.pop(queue), timeout: .seconds(1)) { count.value += 1 }
            }
        }
        runtime.poll()
        #expect(runtime.statistics.timers == 100)
        for _ in 0..<100 { try runtime.push(queue, runtime.buffer([1]), completion: .discarded) }
        try runtime.run()
        #expect(count.value == 100)
        #expect(runtime.statistics.timers == 0)
    }

    @Test("yield lets the others run, each once a turn")
    func yields() throws {
        let runtime = try makeRuntime()
        let log = Shared<[Int]>([])
        for number in 0..<3 {
            try runtime.spawn { runtime in
                for _ in 0..<3 {
                    log.value.append(number)
                    runtime.yield()
                }
            }
        }
        for turn in 1...3 {
            runtime.poll()
            #expect(log.value.count == 3 * turn)
            #expect(Set(log.value.suffix(3)) == [0, 1, 2])
        }
        try runtime.run()
        #expect(log.value.count == 9)
    }

    @Test("run ends when the last coroutine has, those spawned meanwhile as well")
    func run() throws {
        let runtime = try makeRuntime()
        let ended = Shared(0)
        let identifier = try runtime.spawn { runtime in
            runtime.yield()
            for _ in 0..<10 {
                _ = try? runtime.spawn { runtime in
                    runtime.yield()
                    ended.value += 1
                }
            }
            ended.value += 1
        }
        let wasAlive = runtime.isAlive(identifier)
        #expect(wasAlive)
        try runtime.run()
        #expect(ended.value == 11)
        let isAlive = runtime.isAlive(identifier)
        #expect(!isAlive)
        // With none it ends at once.
        try runtime.run()
    }

    @Test("a thousand coroutines in a chain of queues hand one buffer on, by address")
    func chain() throws {
        let count = 1_000
        let runtime = try makeRuntime { $0.limits.maximumQueues = count + 1 }
        var queues: [QueueDescriptor] = []
        for _ in 0...count { queues.append(try runtime.queue()) }
        for index in 0..<count {
            let (from, to) = (queues[index], queues[index + 1])
            try runtime.spawn { runtime in
                guard let token = try? runtime.pop(from), let completion = try? runtime.wait(token) else { return }
                if case .popped(let array, _) = consume completion.result { try? runtime.push(to, array, completion: .discarded) }
            }
        }
        let buffer = try runtime.buffer([1, 2, 3])
        let address = buffer.address
        try runtime.push(queues[0], buffer, completion: .discarded)
        try runtime.run()
        let completion = try runtime.wait(runtime.pop(queues[count]))
        guard case .popped(let array, _) = consume completion.result else { throw DemikernelError(EPROTO, .pop) }
        #expect(array.withUnsafeBytes(ofSegment: 0) { $0.baseAddress } == UnsafeRawPointer(address))
        #expect(runtime.statistics.tasks == 0)
    }

    @Test("an error that is thrown inside a coroutine stays inside")
    func thrownErrors() throws {
        let runtime = try makeRuntime()
        let numbers = Shared<[Int32]>([])
        try runtime.spawn { runtime in
            for _ in 0..<3 {
                numbers.value.append(errorNumber { () throws(DemikernelError) in try runtime.close(QueueDescriptor(rawValue: 77)) })
                runtime.yield()
            }
        }
        try runtime.run()
        #expect(numbers.value == [EBADF, EBADF, EBADF])
    }

    @Test("interrupted coroutines end: whatever one waits for, its wait throws EINTR, and so does the next one")
    func interruption() throws {
        let clock = VirtualClock()
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let queue = try runtime.queue()
        let numbers = Shared<[String: [Int32]]>([:])
        func spawn(_ runtime: borrowing Runtime, _ name: String, _ wait: @escaping (borrowing Runtime) throws(DemikernelError) -> Void) throws {
            try runtime.spawn { runtime in
                for _ in 0..<2 {
                    do throws(DemikernelError) { try wait(runtime) } catch { numbers.value[name, default: []].append(error.errno) }
                }
            }
        }
        try spawn(runtime, "one") { (runtime) throws(DemikernelError) in _ = try runtime.wait(runtime.pop(queue)) }
        try spawn(runtime, "with a deadline") { (runtime) throws(DemikernelError) in _ = try runtime.wait(runtime.pop(queue), timeout: .seconds(1)) }
        try spawn(runtime, "any") { (runtime) throws(DemikernelError) in _ = try runtime.first(of: [runtime.pop(queue), runtime.pop(queue)]) }
        try spawn(runtime, "set") { (runtime) throws(DemikernelError) in
            let set = try runtime.makeWaitSet()
            try set.add(runtime.pop(queue))
            _ = try set.wait()
        }
        while runtime.poll() {}
        #expect(numbers.value.isEmpty)
        let haveEnded = runtime.interruptCoroutines()
        #expect(haveEnded)
        #expect(numbers.value == ["one": [EINTR, EINTR], "with a deadline": [EINTR, EINTR], "any": [EINTR, EINTR], "set": [EINTR, EINTR]])
        #expect(runtime.statistics.tasks == 0 && runtime.statistics.timers == 0)
    }

    @Test("a coroutine that goes on in spite of its interruption keeps no other one from ending, and the thread no longer than it is told")
    func stubbornness() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let token = try runtime.pop(queue)
        let (isOver, rounds, hasOtherEnded) = (Shared(false), Shared(0), Shared(false))
        try runtime.spawn { runtime in
            while !isOver.value {
                _ = try? runtime.wait(token)
                rounds.value += 1
            }
        }
        try runtime.spawn { runtime in
            if let token = try? runtime.pop(queue) { _ = try? runtime.wait(token) }
            hasOtherEnded.value = true
        }
        while runtime.poll() {}
        let haveEnded = runtime.interruptCoroutines(turns: 10)
        #expect(!haveEnded && hasOtherEnded.value)
        #expect(1...10 ~= rounds.value)
        isOver.value = true
        let haveEndedNow = runtime.interruptCoroutines()
        #expect(haveEndedNow)
    }
}
