import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// The unit queues in memory: boundaries, limits, back-pressure, shutdown, close, cancel.
@Suite("In-memory queues") struct MemoryQueueTests {
    @Test("what was pushed as one array is popped as one, with its segments, in order")
    func unitBoundaries() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        for count in 1...16 {
            var array = try runtime.array([UInt8(count), 0])
            for segment in 1..<count { try array.append(runtime.buffer([UInt8(count), UInt8(segment)])) }
            #expect(try runtime.result(runtime.push(queue, array)) == .pushed(2 * count))
        }
        for count in 1...16 {
            let completion = try runtime.wait(runtime.pop(queue))
            guard case .popped(let array, let source) = consume completion.result else {
                Issue.record("no array")
                return
            }
            #expect(source == nil)
            #expect(array.segmentCount == count)
            for segment in 0..<count {
                let bytes = array.withUnsafeBytes(ofSegment: segment) { [UInt8]($0) }
                #expect(bytes == [UInt8(count), UInt8(segment)])
            }
        }
        #expect(runtime.snapshot().liveBlocks == 0)
    }

    @Test("an empty unit is a unit")
    func emptyUnit() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        #expect(try runtime.result(runtime.push(queue, bytes: [])) == .pushed(0))
        #expect(try runtime.result(runtime.push(queue, bytes: [1])) == .pushed(1))
        #expect(try runtime.result(runtime.pop(queue)) == .popped([]))
        #expect(try runtime.result(runtime.pop(queue)) == .popped([1]))
    }

    /// A unit of three segments, 4 + 5 + 6 bytes numbered from 0, and what pops of these limits make of it.
    @Test(
        "a pop's limits cut a unit; the rest stays queued before the next unit",
        arguments: [
            (16, 100, [15]), (16, 15, [15]), (16, 14, [14, 1]), (16, 9, [9, 6]), (16, 10, [10, 5]), (16, 4, [4, 4, 4, 3]),
            (16, 1, Array(repeating: 1, count: 15)),
            (1, 100, [4, 5, 6]), (2, 100, [9, 6]), (3, 100, [15]), (1, 3, [3, 1, 3, 2, 3, 3]), (2, 5, [5, 5, 5]),
        ] as [(Int, Int, [Int])], [false, true])
    func popLimits(_ limits: (segments: Int, bytes: Int, expected: [Int]), popsFirst: Bool) throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        func unit(_ runtime: borrowing Runtime) throws -> ScatterGatherArray {
            var array = try runtime.array([0, 1, 2, 3])
            try array.append(runtime.buffer([4, 5, 6, 7, 8]))
            try array.append(runtime.buffer([9, 10, 11, 12, 13, 14]))
            return array
        }
        if !popsFirst {
            try runtime.push(queue, unit(runtime), completion: .discarded)
            try runtime.push(queue, runtime.buffer([100]), completion: .discarded)
        }
        var tokens: [QueueToken] = []
        for _ in limits.expected { tokens.append(try runtime.pop(queue, maximumSegments: limits.segments, maximumBytes: limits.bytes)) }
        tokens.append(try runtime.pop(queue))
        if popsFirst {
            try runtime.push(queue, unit(runtime), completion: .discarded)
            try runtime.push(queue, runtime.buffer([100]), completion: .discarded)
        }
        var position: UInt8 = 0
        for (token, count) in zip(tokens, limits.expected) {
            #expect(try runtime.result(token) == .popped((position..<position + UInt8(count)).map { $0 }))
            position += UInt8(count)
        }
        #expect(try runtime.result(tokens[tokens.count - 1]) == .popped([100]))
        #expect(runtime.snapshot().liveBlocks == 0)
        #expect(runtime.snapshot().liveSegments == 0)
    }

    @Test("at memoryQueueDepth a push stays pending; pushes are admitted in order as units leave")
    func backPressure() throws {
        let runtime = try makeRuntime { $0.limits.memoryQueueDepth = 2 }
        let queue = try runtime.queue()
        var pushes: [QueueToken] = []
        for index in 0..<6 { pushes.append(try runtime.push(queue, bytes: [UInt8(index)])) }
        #expect(try runtime.next() == [pushes[0], pushes[1]])
        for index in 2..<6 {
            #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(pushes[index], timeout: .zero) } == ETIMEDOUT)
        }
        for index in 0..<6 {
            #expect(try runtime.result(runtime.pop(queue)) == .popped([UInt8(index)]))
            if index + 2 < 6 { #expect(try runtime.next() == [pushes[index + 2]], "one unit left, one push is admitted") }
        }
        // A unit that is popped in parts leaves only with its last byte.
        pushes = try [runtime.push(queue, bytes: [1, 2]), runtime.push(queue, bytes: [3]), runtime.push(queue, bytes: [4])]
        #expect(try runtime.next() == [pushes[0], pushes[1]])
        #expect(try runtime.result(runtime.pop(queue, maximumBytes: 1)) == .popped([1]))
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(pushes[2], timeout: .zero) } == ETIMEDOUT)
        #expect(try runtime.result(runtime.pop(queue, maximumBytes: 1)) == .popped([2]))
        #expect(try runtime.result(pushes[2]) == .pushed(1))
    }

    @Test("a push that nobody waits for is refused with EAGAIN at a full queue, and goes again afterwards")
    func discardedPush() throws {
        let runtime = try makeRuntime { $0.limits.memoryQueueDepth = 2 }
        let queue = try runtime.queue()
        for index in 0..<2 { try runtime.push(queue, runtime.buffer([UInt8(index)]), completion: .discarded) }
        let before = runtime.snapshot()
        #expect(
            refusal { () throws(DemikernelError) in try runtime.push(queue, runtime.buffer([9]), completion: .discarded) }
                == DemikernelError(EAGAIN, .push))
        #expect(runtime.snapshot() == before)
        #expect(before.liveOperations == 0, "it holds no operation slot")
        #expect(try runtime.result(runtime.pop(queue)) == .popped([0]))
        try runtime.push(queue, runtime.buffer([2]), completion: .discarded)
        #expect(try runtime.result(runtime.pop(queue)) == .popped([1]))
        #expect(try runtime.result(runtime.pop(queue)) == .popped([2]))
    }

    @Test("shutdown(.send): later pushes EPIPE, what was pushed is popped, then endOfStream")
    func shutdownSend() throws {
        let runtime = try makeRuntime { $0.limits.memoryQueueDepth = 1 }
        let queue = try runtime.queue()
        let pushes = try [runtime.push(queue, bytes: [1]), runtime.push(queue, bytes: [2])]
        try runtime.shutdown(queue, .send)
        let before = runtime.snapshot()
        #expect(refusal { () throws(DemikernelError) in _ = try runtime.push(queue, bytes: [3]) } == DemikernelError(EPIPE, .push))
        #expect(
            refusal { () throws(DemikernelError) in try runtime.push(queue, runtime.buffer([3]), completion: .discarded) }
                == DemikernelError(EPIPE, .push))
        #expect(runtime.snapshot() == before)
        #expect(try runtime.result(runtime.pop(queue)) == .popped([1]))
        #expect(try runtime.result(runtime.pop(queue)) == .popped([2]))
        for push in pushes { #expect(try runtime.result(push) == .pushed(1)) }
        for _ in 0..<3 { #expect(try runtime.result(runtime.pop(queue)) == .endOfStream) }
        // Again is not an error.
        try runtime.shutdown(queue, .send)
    }

    @Test("shutdown ends waiting pops with endOfStream", arguments: [ShutdownDirection.send, .receive, .both])
    func shutdownEndsPops(_ direction: ShutdownDirection) throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let pops = try [runtime.pop(queue), runtime.pop(queue)]
        try runtime.shutdown(queue, direction)
        #expect(try runtime.next() == pops)
        #expect(try runtime.result(runtime.pop(queue)) == .endOfStream)
    }

    @Test("shutdown(.receive) and .both: units are dropped, waiting pushes fail with EPIPE", arguments: [ShutdownDirection.receive, .both])
    func shutdownReceive(_ direction: ShutdownDirection) throws {
        let runtime = try makeRuntime { $0.limits.memoryQueueDepth = 1 }
        let queue = try runtime.queue()
        let pushes = try [runtime.push(queue, bytes: [1]), runtime.push(queue, bytes: [2])]
        try runtime.shutdown(queue, direction)
        #expect(try runtime.result(pushes[0]) == .pushed(1))
        #expect(try runtime.result(pushes[1]) == .failed(EPIPE, byteCount: 0))
        #expect(try runtime.result(runtime.pop(queue)) == .endOfStream)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.push(queue, bytes: [3]) } == EPIPE)
        #expect(runtime.snapshot().liveBlocks == 0)
    }

    @Test("close: pending pops and pushes end with ECANCELED, units are released")
    func close() throws {
        let runtime = try makeRuntime { $0.limits.memoryQueueDepth = 1 }
        let full = try runtime.queue()
        let empty = try runtime.queue()
        let pushes = try [runtime.push(full, bytes: [1]), runtime.push(full, bytes: [2])]
        let pop = try runtime.pop(empty)
        try runtime.close(full)
        try runtime.close(empty)
        #expect(runtime.snapshot().liveBlocks == 0)
        #expect(runtime.statistics.openQueues == 0)
        #expect(runtime.statistics.closingQueues == 0)
        #expect(try runtime.result(pushes[0]) == .pushed(1))
        #expect(try runtime.result(pushes[1]) == .failed(ECANCELED, byteCount: 0))
        #expect(try runtime.result(pop) == .failed(ECANCELED, byteCount: 0))
    }

    @Test("cancel: a pending operation ends with ECANCELED, a completed one keeps its result")
    func cancel() throws {
        let runtime = try makeRuntime { $0.limits.memoryQueueDepth = 1 }
        let queue = try runtime.queue()
        let pops = try [runtime.pop(queue), runtime.pop(queue), runtime.pop(queue)]
        try runtime.cancel(pops[1])
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        try runtime.cancel(pops[0])
        try runtime.push(queue, runtime.buffer([2]), completion: .discarded)
        #expect(try runtime.result(pops[0]) == .popped([1]), "a popped result is never discarded")
        #expect(try runtime.result(pops[1]) == .failed(ECANCELED, byteCount: 0))
        #expect(try runtime.result(pops[2]) == .popped([2]))
        let pushes = try [runtime.push(queue, bytes: [3]), runtime.push(queue, bytes: [4]), runtime.push(queue, bytes: [5])]
        try runtime.cancel(pushes[0])
        try runtime.cancel(pushes[1])
        try runtime.cancel(pushes[1])
        #expect(try runtime.result(runtime.pop(queue)) == .popped([3]), "the queue had taken it")
        #expect(try runtime.result(runtime.pop(queue)) == .popped([5]))
        #expect(try runtime.result(pushes[0]) == .pushed(1))
        #expect(try runtime.result(pushes[1]) == .failed(ECANCELED, byteCount: 0))
        #expect(try runtime.result(pushes[2]) == .pushed(1))
        #expect(runtime.snapshot().liveBlocks == 0)
    }

    @Test("without a free segment descriptor a pop that would have to cut a segment fails with ENOBUFS, and nothing is lost")
    func cutWithoutDescriptor() throws {
        let runtime = try makeRuntime { $0.memory.maximumSegments = 1 }
        let queue = try runtime.queue()
        try runtime.push(queue, runtime.buffer([1, 2, 3]), completion: .discarded)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.push(queue, bytes: [4]) } == ENOBUFS)
        #expect(try runtime.result(runtime.pop(queue, maximumBytes: 2)) == .failed(ENOBUFS, byteCount: 0))
        #expect(try runtime.result(runtime.pop(queue, maximumBytes: 3)) == .popped([1, 2, 3]))
        #expect(runtime.snapshot().liveBlocks == 0)
    }
}
