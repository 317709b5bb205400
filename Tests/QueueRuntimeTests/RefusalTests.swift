import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// What a call refuses, it throws, and nothing has changed.
@Suite("Refused calls") struct RefusalTests {
    @Test("a descriptor that names no open queue is EBADF", arguments: QueueCall.allCases)
    func badDescriptor(_ call: QueueCall) throws {
        let runtime = try makeSocketRuntime()
        let closedSocket = try runtime.socket(.ipv4, .stream)
        let closedQueue = try runtime.queue()
        try runtime.close(closedSocket)
        try runtime.close(closedQueue)
        // Open queues around them, one of them in a slot that a closed one had.
        let open = try runtime.queue()
        let socket = try runtime.socket(.ipv4, .stream)
        #expect([open.slot, socket.slot].contains(closedQueue.slot) || [open.slot, socket.slot].contains(closedSocket.slot))
        let bad: [Int32] = [
            0, -1, .min, .max, closedSocket.rawValue, closedQueue.rawValue, open.rawValue ^ 1 << 20, -open.rawValue,
            open.rawValue + 100, Int32(open.slot), open.rawValue | 1 << 19,
        ]
        let before = runtime.snapshot()
        for rawValue in bad {
            let error = refusal { () throws(DemikernelError) in try call.perform(runtime, QueueDescriptor(rawValue: rawValue)) }
            #expect(error == DemikernelError(EBADF, call.operation), "descriptor \(rawValue)")
            #expect(runtime.snapshot() == before, "descriptor \(rawValue)")
        }
    }

    @Test("an in-memory queue has no sockets' calls", arguments: QueueCall.allCases.filter(\.isForSockets))
    func socketCallOnMemoryQueue(_ call: QueueCall) throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let before = runtime.snapshot()
        let error = refusal { () throws(DemikernelError) in try call.perform(runtime, queue) }
        #expect(error == DemikernelError(EOPNOTSUPP, call.operation))
        #expect(runtime.snapshot() == before)
    }

    @Test("a token that names nothing is EINVAL", arguments: TokenCall.allCases)
    func badToken(_ call: TokenCall) throws {
        let runtime = try makeRuntime()
        let other = try makeRuntime { $0.seed = 43 }
        let queue = try runtime.queue()
        let otherQueue = try other.queue()
        // The same slot of another runtime.
        let foreign = try other.pop(otherQueue)
        let pending = try runtime.pop(queue)
        let spent = try runtime.push(queue, bytes: [1])
        _ = try runtime.wait(spent)
        _ = try runtime.wait(pending)
        let live = try runtime.pop(queue)
        let before = runtime.snapshot()
        let bad: [UInt64] = [
            0, 1, 2, 5, 1 << 20 - 1, .max, spent.rawValue, pending.rawValue, foreign.rawValue, live.rawValue + 1 << 20, live.rawValue - 1 << 20,
            live.rawValue & (1 << 20 - 1), live.rawValue ^ 1, live.rawValue ^ 1 << 63, live.rawValue + 77,
        ]
        for rawValue in bad {
            let number = errorNumber { () throws(DemikernelError) in try call.perform(runtime, QueueToken(rawValue: rawValue)) }
            #expect(number == EINVAL, "token \(rawValue)")
            #expect(runtime.snapshot() == before, "token \(rawValue)")
        }
        // The live operation next to them was not disturbed.
        try runtime.push(queue, runtime.buffer([7]), completion: .discarded)
        #expect(try runtime.result(live) == .popped([7]))
    }

    @Test("a bad token among good ones: nothing is redeemed, nothing stays claimed, nothing changes its place")
    func badTokenAmongGoodOnes() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let idle = try runtime.queue()
        let first = try runtime.push(queue, bytes: [1])
        let second = try runtime.push(queue, bytes: [2])
        let third = try runtime.push(queue, bytes: [3])
        let pending = try runtime.pop(idle)
        let spent = QueueToken(rawValue: 1 << 40)
        let before = runtime.snapshot()
        var batch = CompletionBatch(capacity: 8)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.waitAny([pending, first, spent].span) } == EINVAL)
        #expect(errorNumber { () throws(DemikernelError) in try runtime.waitAll([pending, first, second, spent].span, into: &batch) } == EINVAL)
        #expect(batch.count == 0)
        #expect(runtime.snapshot() == before)
        #expect(try runtime.next() == [first, second, third])
        try runtime.push(idle, runtime.buffer([9]), completion: .discarded)
        #expect(try runtime.next() == [pending])
    }

    @Test("waits without a token, without room, with a token twice")
    func malformedWaits() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let pending = try runtime.pop(queue)
        let other = try runtime.queue()
        let completed = try runtime.push(other, bytes: [1])
        let before = runtime.snapshot()
        let none: [QueueToken] = []
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.waitAny(none.span) } == EINVAL)
        var small = CompletionBatch(capacity: 1)
        #expect(errorNumber { () throws(DemikernelError) in try runtime.waitAll([completed, pending].span, into: &small) } == EINVAL)
        var batch = CompletionBatch(capacity: 4)
        #expect(errorNumber { () throws(DemikernelError) in try runtime.waitAll([pending, pending].span, into: &batch) } == EINVAL)
        #expect(errorNumber { () throws(DemikernelError) in try runtime.waitAll([completed, completed].span, into: &batch) } == EINVAL)
        let set = try runtime.makeWaitSet()
        #expect(errorNumber { () throws(DemikernelError) in _ = try set.wait() } == EINVAL, "an empty set never ends")
        #expect(runtime.snapshot() == before)
        try runtime.push(queue, runtime.buffer([9]), completion: .discarded)
        #expect(try runtime.result(completed) == .pushed(1))
        #expect(try runtime.result(pending) == .popped([9]))
        // All of no tokens have completed.
        try runtime.waitAll(none.span, into: &batch)
        #expect(batch.count == 0)
    }

    @Test("limits of a pop below one", arguments: [(0, 1), (-1, 1), (1, 0), (1, -1), (Int.min, Int.min)])
    func popLimits(_ segments: Int, _ bytes: Int) throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        let before = runtime.snapshot()
        let error = refusal { () throws(DemikernelError) in _ = try runtime.pop(queue, maximumSegments: segments, maximumBytes: bytes) }
        #expect(error == DemikernelError(EINVAL, .pop))
        #expect(runtime.snapshot() == before)
        #expect(try runtime.result(runtime.pop(queue)) == .popped([1]))
    }

    @Test("a seventeenth segment is EMSGSIZE and leaves the array as it was")
    func overlongArray() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        var array = try runtime.array([0])
        for index in 1..<16 { try array.append(runtime.buffer([UInt8(index)])) }
        let before = runtime.snapshot()
        var number: Int32 = 0
        do throws(DemikernelError) { try array.append(runtime.buffer([99])) } catch { number = error.errno }
        #expect(number == EMSGSIZE)
        #expect(runtime.snapshot() == before)
        let token = try runtime.push(queue, array)
        #expect(try runtime.result(token) == .pushed(16))
        #expect(try runtime.result(runtime.pop(queue)) == .popped((0..<16).map { UInt8($0) }))
    }

    @Test("a unit above maximumUnitSize is EMSGSIZE, one of that size is not")
    func oversizedUnit() throws {
        let runtime = try makeRuntime { $0.limits.maximumUnitSize = 10 }
        let queue = try runtime.queue()
        let before = runtime.snapshot()
        let eleven = [UInt8](repeating: 1, count: 11)
        #expect(refusal { () throws(DemikernelError) in _ = try runtime.push(queue, bytes: eleven) } == DemikernelError(EMSGSIZE, .push))
        #expect(
            refusal { () throws(DemikernelError) in try runtime.push(queue, runtime.buffer(eleven), completion: .discarded) }
                == DemikernelError(EMSGSIZE, .push))
        #expect(runtime.snapshot() == before)
        #expect(try runtime.result(runtime.push(queue, bytes: [UInt8](repeating: 1, count: 10))) == .pushed(10))
    }

    @Test("without a library OS there are no sockets")
    func noLibraryOS() throws {
        let runtime = try makeRuntime()
        let before = runtime.snapshot()
        #expect(refusal { () throws(DemikernelError) in _ = try runtime.socket(.ipv4, .stream) } == DemikernelError(ENODEV, .socket))
        #expect(runtime.snapshot() == before)
    }

    @Test("limits out of range: a runtime is not made")
    func limitsOutOfRange() {
        let changes: [@Sendable (inout RuntimeConfiguration) -> Void] = [
            { $0.limits.maximumQueues = 0 }, { $0.limits.maximumQueues = 1 << 20 }, { $0.limits.maximumQueues = -1 },
            { $0.limits.maximumOperations = 0 }, { $0.limits.maximumOperations = 1 << 20 },
            { $0.limits.maximumTasks = 0 }, { $0.limits.maximumTasks = 262_145 },
            { $0.limits.maximumTimers = 0 }, { $0.limits.maximumWaiters = 0 },
            { $0.limits.coroutineStackByteCount = 16_383 }, { $0.limits.coroutineStackByteCount = 16_385 }, { $0.limits.coroutineStackByteCount = 0 },
            { $0.limits.maximumUnitSize = -1 }, { $0.limits.memoryQueueDepth = 0 }, { $0.limits.discardedPushByteCount = -1 },
            { $0.memory.arenaByteCount = 1 }, { $0.memory.arenaByteCount = -1 }, { $0.memory.maximumSegments = 0 },
        ]
        for (index, change) in changes.enumerated() {
            let number = errorNumber { () throws(DemikernelError) in _ = try makeRuntime(change) }
            #expect(number == EINVAL, "change \(index)")
        }
    }
}
