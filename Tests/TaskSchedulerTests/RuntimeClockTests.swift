import Glibc
import Testing

@testable import TaskScheduler

@Suite struct RuntimeClockTests {
    /// On a busy machine the thread loses the processor between the two clocks for longer than the calibration lasts: 50 ms that only one of them has would
    /// make the clock run at many times its rate.
    @Test(arguments: [0, 1, 2, 5, 14]) func aLookThatWasInterruptedSetsNoRate(interrupted: Int) {
        var look: UInt64 = 0
        // Three cycles a nanosecond; a look takes 40 ns, the last of all 20.
        let closest = CycleCounter.closest {
            let start = 1_000 * look
            let lost: UInt64 = look == UInt64(interrupted) ? 50_000_000 : 0
            let length: UInt64 = look == UInt64(CycleCounter.sampleCount - 1) ? 20 : 40
            look += 1
            return (before: 3 * start, nanoseconds: start + lost + length / 2, after: 3 * (start + lost + length))
        }
        #expect(look == UInt64(CycleCounter.sampleCount))
        #expect(closest.nanoseconds == 1_000 * (look - 1) + 10)
        #expect(closest.cycles == 3 * closest.nanoseconds)
    }

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
