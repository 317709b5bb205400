import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

@Suite("Wait sets") struct WaitSetTests {
    @Test("add, wait in order of completion, count")
    func order() throws {
        let runtime = try makeRuntime()
        let set = try runtime.makeWaitSet()
        var queues: [QueueDescriptor] = []
        var tokens: [QueueToken] = []
        for index in 0..<8 {
            queues.append(try runtime.queue())
            tokens.append(try runtime.pop(queues[index]))
        }
        for token in tokens[0..<4] { try set.add(token) }
        let order = [5, 2, 7, 0, 4, 3, 6, 1]
        for position in order { try runtime.push(queues[position], runtime.buffer([UInt8(position)]), completion: .discarded) }
        // Those that had completed before they were added stand where their completion belongs.
        for token in tokens[4..<8].reversed() { try set.add(token) }
        #expect(set.count == 8)
        for (taken, position) in order.enumerated() {
            let completion = Described(try set.wait())
            #expect(completion == Described(token: tokens[position], index: 0, outcome: .popped([UInt8(position)])))
            #expect(set.count == 7 - taken)
        }
        #expect(errorNumber { () throws(DemikernelError) in _ = try set.wait() } == EINVAL)
        // An emptied set is used again.
        let again = try runtime.push(queues[0], bytes: [1])
        try set.add(again)
        #expect(try set.wait().token == again)
    }

    @Test("a batch takes what is there, and at least one")
    func batch() throws {
        let runtime = try makeRuntime()
        let set = try runtime.makeWaitSet()
        let queue = try runtime.queue()
        var tokens: [QueueToken] = []
        for index in 0..<5 {
            tokens.append(try runtime.push(queue, bytes: [UInt8(index)]))
            try set.add(tokens[index])
        }
        var batch = CompletionBatch(capacity: 3)
        try set.wait(into: &batch)
        #expect(batch.count == 3)
        for index in 0..<3 { #expect(batch.next()?.token == tokens[index]) }
        try set.wait(into: &batch)
        #expect(batch.count == 2)
        for index in 3..<5 { #expect(batch.next()?.token == tokens[index]) }
        #expect(set.count == 0)
    }

    @Test("a removed token is nobody's again, pending or completed")
    func remove() throws {
        let runtime = try makeRuntime()
        let set = try runtime.makeWaitSet()
        let other = try runtime.makeWaitSet()
        let queue = try runtime.queue()
        let first = try runtime.push(queue, bytes: [1])
        let second = try runtime.push(queue, bytes: [2])
        let third = try runtime.push(queue, bytes: [3])
        let idle = try runtime.queue()
        let pending = try runtime.pop(idle)
        for token in [second, first, pending] { try set.add(token) }
        for token in [third, QueueToken(rawValue: 12345)] {
            #expect(errorNumber { () throws(DemikernelError) in try set.remove(token) } == EINVAL, "not in the set")
        }
        #expect(errorNumber { () throws(DemikernelError) in try other.remove(first) } == EINVAL, "in another set")
        #expect(set.count == 3)
        try set.remove(second)
        try set.remove(pending)
        #expect(set.count == 1)
        #expect(errorNumber { () throws(DemikernelError) in try set.remove(second) } == EINVAL, "removed already")
        #expect(try runtime.next() == [second, third])
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(pending, timeout: .zero) } == ETIMEDOUT)
        try other.add(pending)
        try runtime.push(idle, runtime.buffer([9]), completion: .discarded)
        #expect(try other.wait().token == pending)
        #expect(try set.wait().token == first)
    }

    @Test("a removed token goes back to its place among the unclaimed ones")
    func removeKeepsOrder() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        var tokens: [QueueToken] = []
        for index in 0..<4 { tokens.append(try runtime.push(queue, bytes: [UInt8(index)])) }
        let set = try runtime.makeWaitSet()
        try set.add(tokens[1])
        try set.remove(tokens[1])
        #expect(try runtime.next() == tokens)
    }

    @Test("at its end a set gives back what it has: pending, and completed in its place")
    func end() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let idle = try runtime.queue()
        let pending = try runtime.pop(idle)
        var tokens: [QueueToken] = []
        do {
            let set = try runtime.makeWaitSet()
            try set.add(pending)
            for index in 0..<6 {
                tokens.append(try runtime.push(queue, bytes: [UInt8(index)]))
                if index % 2 == 0 { try set.add(tokens[index]) }
            }
            #expect(set.count == 4)
        }
        #expect(try runtime.next() == tokens)
        try runtime.push(idle, runtime.buffer([9]), completion: .discarded)
        #expect(try runtime.result(pending) == .popped([9]))
        // The next set, in the same place, has nothing of it.
        let next = try runtime.makeWaitSet()
        #expect(next.count == 0)
    }

    @Test("a timeout leaves the set as it was")
    func timeout() throws {
        let clock = VirtualClock(step: 100)
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let queue = try runtime.queue()
        let set = try runtime.makeWaitSet()
        let token = try runtime.pop(queue)
        try set.add(token)
        for _ in 0..<3 {
            #expect(errorNumber { () throws(DemikernelError) in _ = try set.wait(timeout: .microseconds(10)) } == ETIMEDOUT)
            #expect(set.count == 1)
        }
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        #expect(try set.wait(timeout: .zero).token == token)
        #expect(set.count == 0)
    }
}
