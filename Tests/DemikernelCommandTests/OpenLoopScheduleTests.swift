import Testing

@testable import DemikernelCommand

@Suite struct OpenLoopScheduleTests {
    @Test func timesAreExactHoweverLongTheRun() {
        let schedule = OpenLoopSchedule(start: 1000, rate: 3)
        #expect(schedule.intendedTime(of: 0) == 1000)
        #expect(schedule.intendedTime(of: 1) == 1000 + 333_333_333)
        #expect(schedule.intendedTime(of: 3) == 1000 + 1_000_000_000)
        #expect(schedule.intendedTime(of: 3_000_000_000) == 1000 + 1_000_000_000 * 1_000_000_000)
    }

    @Test(arguments: [1, 3, 7, 1000, 99_999, 100_000_000] as [UInt64], [1, 999, 333_333_333, 1_000_000_000, 5_000_000_001] as [UInt64])
    func theCountMatchesTheTimes(rate: UInt64, duration: UInt64) {
        let schedule = OpenLoopSchedule(start: 0, rate: rate)
        let count = schedule.count(within: duration)
        #expect(count >= 1)
        #expect(schedule.intendedTime(of: count - 1) < duration)
        // A time is rounded down to whole nanoseconds, the count is not.
        #expect(schedule.intendedTime(of: count) + 1 >= duration)
    }
}
