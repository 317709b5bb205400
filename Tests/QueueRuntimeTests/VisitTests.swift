import Demikernel
import Glibc
import Synchronization
import Testing

@testable import QueueRuntime

/// Other threads that look at a runtime, by having its own thread look.
@Suite("Visits") struct VisitTests {
    @Test(
        "a visit comes on the runtime's own thread while that waits, and the wait goes on",
        arguments: [IdlePolicy.spin, .adaptive(spinNanoseconds: 0)])
    func whileWaiting(_ idle: IdlePolicy) throws {
        let runtime = try makeSocketRuntime { $0.idle = idle }
        let queue = try runtime.queue()
        let token = try runtime.pop(queue)
        let interrupter = runtime.interrupter
        let visits = Atomic(0)
        let thread = onOtherThread {
            for _ in 0..<20 {
                let isTaken = interrupter.visit { core in
                    core.checkThread()
                    visits.add(1, ordering: .relaxed)
                }
                if !isTaken { return }
            }
            // The last one ends the wait.
            _ = interrupter.visit { _ in interrupter.interrupt() }
        }
        #expect(refusal { () throws(DemikernelError) in _ = try runtime.wait(token, timeout: generous) } == DemikernelError(EINTR, .wait))
        pthread_join(thread, nil)
        #expect(visits.load(ordering: .relaxed) == 20)
        try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
        #expect(try runtime.result(token) == .popped([1]))
    }

    @Test("waits that always find something do not keep a visit out")
    func underLoad() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.queue()
        let hasCome = Atomic(false)
        #expect(runtime.interrupter.visit { _ in hasCome.store(true, ordering: .relaxed) })
        var batch = CompletionBatch(capacity: 4)
        var rounds = 0
        while !hasCome.load(ordering: .relaxed), rounds < 1_000 {
            _ = try runtime.pop(queue)
            try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
            try runtime.waitNext(into: &batch)
            while batch.next() != nil {}
            rounds += 1
        }
        #expect(rounds < 1_000)
    }

    @Test("nor do waits for one token that are over within their first turn")
    func underLoadOfShortWaits() throws {
        let clock = VirtualClock(step: 1_000)
        let runtime = try makeRuntime { $0.clock = clock.clock }
        let queue = try runtime.queue()
        let hasCome = Atomic(false)
        #expect(runtime.interrupter.visit { _ in hasCome.store(true, ordering: .relaxed) })
        var rounds = 0
        while !hasCome.load(ordering: .relaxed), rounds < 1_000 {
            let pop = try runtime.pop(queue)
            try runtime.push(queue, runtime.buffer([1]), completion: .discarded)
            #expect(try runtime.result(pop) == .popped([1]))
            rounds += 1
        }
        #expect(rounds < 1_000)
    }

    @Test("a poll in another event loop takes a visit, and its descriptor says that it is there")
    func inAnotherEventLoop() throws {
        let runtime = try makeSocketRuntime()
        let descriptor = try runtime.eventDescriptor()
        while runtime.poll() {}
        var entry = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        #expect(Glibc.poll(&entry, 1, 0) == 0)
        let count = Atomic(0)
        #expect(runtime.interrupter.visit { _ in count.add(1, ordering: .relaxed) })
        #expect(Glibc.poll(&entry, 1, 0) == 1)
        runtime.poll()
        #expect(count.load(ordering: .relaxed) == 1)
        while runtime.poll() {}
        #expect(Glibc.poll(&entry, 1, 0) == 0 && count.load(ordering: .relaxed) == 1)
    }

    @Test("at the limit a visit is refused; a runtime that has ended takes none and forgets those that wait")
    func limits() throws {
        let count = Atomic(0)
        let interrupter: Interrupter
        do {
            let runtime = try makeRuntime()
            interrupter = runtime.interrupter
            for _ in 0..<Interrupter.maximumVisits { #expect(interrupter.visit { _ in count.add(1, ordering: .relaxed) }) }
            #expect(!interrupter.visit { _ in count.add(1, ordering: .relaxed) })
            runtime.poll()
            #expect(count.load(ordering: .relaxed) == Interrupter.maximumVisits)
            #expect(interrupter.visit { _ in count.add(1, ordering: .relaxed) })
            #expect(!interrupter.hasEnded)
        }
        #expect(interrupter.hasEnded)
        #expect(!interrupter.visit { _ in count.add(1, ordering: .relaxed) })
        #expect(count.load(ordering: .relaxed) == Interrupter.maximumVisits)
    }

    @Test("replies are timed from the first look on, for some minutes")
    func replyTimes() throws {
        let clock = VirtualClock(now: 1_000_000)
        let runtime = try makeRuntime { $0.clock = clock.clock }
        runtime.noteReply(toRequestAt: clock.now)
        #expect(runtime.core.takeSnapshot().replyTimes.count == 0)
        let time = clock.now
        clock.advance(by: 5_000)
        runtime.noteReply(toRequestAt: time)
        let times = runtime.core.takeSnapshot().replyTimes
        #expect(times.count == 1 && times.sum == 5_000)
        clock.advance(by: 299_000_000_000)
        runtime.noteReply(toRequestAt: clock.now)
        #expect(runtime.core.takeSnapshot().replyTimes.count == 2)
        clock.advance(by: 301_000_000_000)
        runtime.noteReply(toRequestAt: clock.now)
        #expect(runtime.core.takeSnapshot().replyTimes.count == 2)
    }

    @Test("every time falls into the bucket whose bounds it lies between")
    func histogram() {
        var last: UInt64 = 0
        for bucket in 0..<LatencyHistogram.bucketCount - 1 {
            let bound = LatencyHistogram.upperBound(of: bucket) ?? 0
            #expect(bound > last)
            #expect(bucket == 0 || Double(bound) / Double(last) <= 1.25)
            #expect(LatencyHistogram.bucket(of: last + 1) == bucket && LatencyHistogram.bucket(of: bound) == bucket)
            last = bound
        }
        #expect(last == 1 << 34)
        #expect(LatencyHistogram.upperBound(of: LatencyHistogram.bucketCount - 1) == nil)
        for time in [last + 1, .max] { #expect(LatencyHistogram.bucket(of: time) == LatencyHistogram.bucketCount - 1) }
        #expect(LatencyHistogram.bucket(of: 0) == 0)
        var histogram = LatencyHistogram()
        for time in [1, 256, 257, 1_000_000, UInt64(1) << 40] { histogram.record(time) }
        #expect(histogram.count == 5 && histogram[0] == 2 && histogram[1] == 1 && histogram[LatencyHistogram.bucketCount - 1] == 1)
    }
}
