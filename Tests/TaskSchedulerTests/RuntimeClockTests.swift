import Glibc
import Testing

@testable import TaskScheduler

@Suite struct RuntimeClockTests {
    @Test func theClockNeverGoesBack() {
        let clock = RuntimeClock.monotonic()
        var last = clock.now
        var steps = 0
        for _ in 0..<1_000_000 {
            let now = clock.now
            if now < last { Issue.record("\(last) was followed by \(now)") }
            if now > last { steps += 1 }
            last = now
        }
        #expect(steps > 1000)
    }

    /// 1 % over 20 ms. Each reading of the one clock lies between two of the other, so that being put off the processor does not count.
    @Test func theClockRunsAtTheRateOfTheKernels() {
        let clock = RuntimeClock.monotonic()
        let firstBefore = kernelNanoseconds()
        let start = clock.now
        let firstAfter = kernelNanoseconds()
        while kernelNanoseconds() - firstAfter < 20_000_000 {}
        let lastBefore = kernelNanoseconds()
        let end = clock.now
        let lastAfter = kernelNanoseconds()
        let elapsed = end - start
        #expect(elapsed >= (lastBefore - firstAfter) / 100 * 99)
        #expect(elapsed <= (lastAfter - firstBefore) / 100 * 101)
    }

    @Test func theClockIsCloseToTheKernels() {
        let clock = RuntimeClock.monotonic()
        let before = kernelNanoseconds()
        let now = clock.now
        let after = kernelNanoseconds()
        // 100 ppm of a test run of ten minutes.
        #expect(now + 60_000_000 >= before && now <= after + 60_000_000)
    }

    @Test func theSourceIsNamed() {
        let clock = RuntimeClock.monotonic()
        #expect(clock.isRealTime)
        #expect(clock.source == (CycleCounter.shared.multiplier == 0 ? .kernel : .cycleCounter))
    }

    @Test func anInjectedClockIsAskedEachTime() {
        let time = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)
        defer { time.deallocate() }
        time.initialize(to: 5)
        let clock = RuntimeClock(injected: { $0!.load(as: UInt64.self) }, context: time)
        #expect(!clock.isRealTime && clock.source == .injected)
        #expect(clock.now == 5)
        time.pointee = .max
        #expect(clock.now == .max)
    }
}

private func kernelNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
