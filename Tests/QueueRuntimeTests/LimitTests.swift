import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// At every limit its error, with nothing changed, and it goes on when there is room again.
@Suite("Limits") struct LimitTests {
    @Test("maximumQueues: EMFILE, and again after a close")
    func queues() throws {
        let runtime = try makeSocketRuntime { $0.limits.maximumQueues = 3 }
        var open: [QueueDescriptor] = []
        for _ in 0..<3 { open.append(try runtime.queue()) }
        let before = runtime.snapshot()
        for _ in 0..<3 {
            let error = refusal { () throws(DemikernelError) in _ = try runtime.queue() }
            #expect(error == DemikernelError(EMFILE, .queue))
            #expect(error?.message.utf8CodeUnitCount ?? 0 > 0, "it names the mend")
            #expect(refusal { () throws(DemikernelError) in _ = try runtime.socket(.ipv4, .stream) } == DemikernelError(EMFILE, .socket))
        }
        #expect(runtime.snapshot() == before)
        for round in 0..<10 {
            try runtime.close(open[round % 3])
            open[round % 3] = round % 2 == 0 ? try runtime.socket(.ipv4, .datagram) : try runtime.queue()
            #expect(open[round % 3].slot <= 3)
        }
        #expect(Set(open.map(\.slot)).count == 3)
    }

    @Test("maximumOperations: ENOBUFS, counting what is not redeemed; a discarded push needs no slot")
    func operations() throws {
        let runtime = try makeRuntime { $0.limits.maximumOperations = 4 }
        let queue = try runtime.queue()
        let tokens = try [runtime.push(queue, bytes: [1]), runtime.push(queue, bytes: [2]), runtime.pop(queue), runtime.pop(queue)]
        let before = runtime.snapshot()
        for call in [QueueCall.pop, .pushArray, .pushBuffer, .closeToken] {
            let error = refusal { () throws(DemikernelError) in try call.perform(runtime, queue) }
            #expect(error == DemikernelError(ENOBUFS, call.operation))
            #expect(error?.message.utf8CodeUnitCount ?? 0 > 0, "it names the mend")
            #expect(runtime.snapshot() == before)
        }
        try runtime.push(queue, runtime.buffer([3]), completion: .discarded)
        #expect(try runtime.result(tokens[2]) == .popped([1]))
        #expect(try runtime.result(runtime.pop(queue)) == .popped([3]))
        for token in [tokens[0], tokens[1], tokens[3]] { _ = try runtime.wait(token) }
        #expect(runtime.statistics.liveOperations == 0)
    }

    @Test("maximumTasks: EAGAIN, and again when one has ended")
    func tasks() throws {
        let runtime = try makeRuntime { $0.limits.maximumTasks = 2 }
        let isReleased = Shared(false)
        for _ in 0..<2 { try runtime.spawn { runtime in while !isReleased.value { runtime.yield() } } }
        let before = runtime.snapshot()
        for _ in 0..<3 {
            #expect(refusal { () throws(DemikernelError) in try runtime.spawn { _ in } } == DemikernelError(EAGAIN, .spawn))
        }
        #expect(runtime.snapshot() == before)
        isReleased.value = true
        try runtime.run()
        let hasRun = Shared(0)
        for _ in 0..<2 { try runtime.spawn { _ in hasRun.value += 1 } }
        try runtime.run()
        #expect(hasRun.value == 2)
    }

    @Test("maximumWaiters: so many wait sets and blocked coroutines, then EAGAIN, and again when one has ended")
    func waiters() throws {
        let runtime = try makeRuntime { $0.limits.maximumWaiters = 2 }
        let queue = try runtime.queue()
        let first = try runtime.makeWaitSet()
        let pending = try runtime.pop(queue)
        let got = Shared<Outcome?>(nil)
        try runtime.spawn { runtime in got.value = try? runtime.result(pending) }
        runtime.poll()
        let before = runtime.snapshot()
        #expect(refusal { () throws(DemikernelError) in _ = try runtime.makeWaitSet() } == DemikernelError(EAGAIN, .wait))
        let number = Shared<Int32>(0)
        try runtime.spawn { runtime in
            number.value = errorNumber { () throws(DemikernelError) in _ = try runtime.wait(QueueToken(rawValue: pending.rawValue), timeout: .zero) }
        }
        runtime.poll()
        #expect(number.value == EAGAIN)
        #expect(runtime.snapshot() == before)
        // The thread's own waits need none.
        let own = try runtime.pop(runtime.queue())
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(own, timeout: .zero) } == ETIMEDOUT)
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        try runtime.run()
        #expect(got.value == .popped([1]))
        let second = try runtime.makeWaitSet()
        #expect(first.count + second.count == 0)
    }

    @Test("maximumTimers: a timeout inside a coroutine is EAGAIN, its operation stays pending, and the waiter is free again")
    func timers() throws {
        let clock = VirtualClock()
        let runtime = try makeRuntime {
            $0.limits.maximumTimers = 1
            $0.clock = clock.clock
        }
        let queue = try runtime.queue()
        let numbers = Shared<[Int32]>([])
        let tokens = try [runtime.pop(queue), runtime.pop(queue)]
        for token in tokens {
            try runtime.spawn { runtime in
                numbers.value.append(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: .milliseconds(1)) })
            }
        }
        runtime.poll()
        #expect(numbers.value == [EAGAIN])
        clock.advance(by: 2_000_000)
        try runtime.run()
        #expect(numbers.value == [EAGAIN, ETIMEDOUT])
        for byte in 0..<2 { try runtime.push(queue, runtime.buffer([UInt8(byte)]), completion: .discarded) }
        #expect(try runtime.next() == tokens)
    }

    @Test("a runtime has at most fifteen library OSes; one more is refused and nothing of it is left")
    func libraryOSes() async {
        await #expect(processExitsWith: .success) {
            let before = openDescriptorCount()
            var configuration = RuntimeConfiguration()
            configuration.memory.arenaByteCount = 4 << 20
            for _ in 0..<20 {
                let error = refusal { () throws(DemikernelError) in
                    _ = try Runtime(configuration, libraryOSes: Array(repeating: .catnap, count: 16))
                }
                #expect(error?.errno == ENOSPC)
            }
            #expect(openDescriptorCount() <= before + foreignDescriptors)
            do {
                let runtime = try Runtime(configuration, libraryOSes: Array(repeating: .catnap, count: 15))
                let kept = Shared<RecordingDevice?>(nil)
                let extra = RecordingDevice.make(for: runtime.core, keeping: kept)
                #expect(refusal { () throws(DemikernelError) in try runtime.register(extra) }?.errno == ENOSPC)
                extra.destroy(extra.context)
            }
            #expect(openDescriptorCount() <= before + foreignDescriptors)
        }
    }
}
