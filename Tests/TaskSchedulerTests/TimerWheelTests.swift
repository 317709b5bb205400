import Testing

@testable import TaskScheduler

/// A tick of the wheel, in nanoseconds.
private let tick: UInt64 = 1024

@Suite struct TimerWheelTests {
    // MARK: Against a list

    /// Deadlines of all scales, cancels and jumps of the clock against a plain list of deadlines.
    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10] as [UInt64], [0, 1_000_000_007, 1 << 62, .max - (1 << 50), .max - (1 << 20)] as [UInt64])
    func everyTimerFiresOnceAndNeverEarly(seed: UInt64, start: UInt64) {
        let world = TimerWorld(seed: seed, start: start)
        for _ in 0..<3000 { world.step() }
        #expect(world.fired > 100)
        world.finish()
    }

    // MARK: Edges

    @Test func aTimerFiresAtItsDeadlineToTheNanosecond() {
        for start in [0, 1, 1023, 1024, 65535, 1 << 40] as [UInt64] {
            for delay in [0, 1, 1023, 1024, 1025, 65_536, 1_000_000, 1_000_000_000, 86_400_000_000_000, 31_557_600_000_000_000] as [UInt64] {
                let test = TestScheduler(now: start)
                let deadline = start + delay
                let log = TimerLog()
                #expect(log.arm(on: test.scheduler, deadline, 7) != nil)
                #expect(test.scheduler.nextDeadline == deadline)
                if delay > 0 {
                    #expect(test.scheduler.runTimers(now: start) == 0)
                    #expect(test.scheduler.runTimers(now: deadline - 1) == 0)
                    #expect(test.scheduler.nextDeadline == deadline)
                }
                #expect(test.scheduler.runTimers(now: deadline) == 1)
                #expect(log.fired == [7])
                #expect(test.scheduler.nextDeadline == nil && test.scheduler.timerCount == 0)
                #expect(test.scheduler.runTimers(now: deadline + 10 * tick) == 0)
            }
        }
    }

    @Test func aDeadlineOfThePastIsDueAtOnce() {
        let test = TestScheduler(now: 1 << 30)
        let log = TimerLog()
        _ = test.scheduler.runTimers(now: 5 << 30)
        for deadline in [0, 1, 4 << 30, 5 << 30] as [UInt64] {
            _ = log.arm(on: test.scheduler, deadline, deadline)
            #expect(test.scheduler.nextDeadline == deadline)
            #expect(test.scheduler.runTimers(now: 5 << 30) == 1)
            #expect(log.fired.last == deadline)
        }
    }

    @Test func everySingleNanosecondAroundALevelsEdge() {
        // 64 slots a level: the edges are at 2^16, 2^22, 2^28 … nanoseconds.
        for shift in stride(from: 16, through: 58, by: 6) as StrideThrough<UInt64> {
            let edge: UInt64 = 1 << shift
            let test = TestScheduler(maximumTimers: 8192, now: edge - 3 * tick)
            let log = TimerLog()
            for offset in stride(from: 0, to: 6 * tick, by: 7) { _ = log.arm(on: test.scheduler, edge - 3 * tick + offset, edge - 3 * tick + offset) }
            var now = edge - 3 * tick
            while now < edge + 5 * tick {
                let already = log.fired.count
                _ = test.scheduler.runTimers(now: now)
                #expect(log.fired.allSatisfy { $0 <= now })
                #expect(log.fired.dropFirst(already).allSatisfy { $0 + 2 * tick > now })
                now += 97
            }
            #expect(test.scheduler.timerCount == 0)
            #expect(Set(log.fired).count == log.fired.count)
        }
    }

    @Test func theEndOfTimeIsNotEarly() {
        let end = UInt64.max
        for distance in [0, 1, 500, 1022, 1023, 1024, 1025, 5000] as [UInt64] {
            let test = TestScheduler(now: end - 100_000)
            let log = TimerLog()
            _ = log.arm(on: test.scheduler, end - distance, 1)
            #expect(test.scheduler.nextDeadline == end - distance)
            for now in [end - 50_000, end - distance - 2000, end - distance - 1024, end - distance - 1] {
                #expect(test.scheduler.runTimers(now: now) == 0, "\(distance) before the end, at \(end - now) before the end")
            }
            #expect(test.scheduler.nextDeadline == end - distance)
            #expect(test.scheduler.runTimers(now: end) == 1)
            #expect(test.scheduler.timerCount == 0)
        }
    }

    @Test func aDelayBeyondTheEndOfTimeIsTheEndOfTime() {
        let test = TestScheduler()
        #expect(test.scheduler.deadline(after: 5, from: 7) == 12)
        #expect(test.scheduler.deadline(after: 5, from: .max - 5) == .max)
        #expect(test.scheduler.deadline(after: 6, from: .max - 5) == .max)
        #expect(test.scheduler.deadline(after: .max, from: .max) == .max)
        let log = TimerLog()
        #expect(log.arm(on: test.scheduler, .max, 1) != nil)
        #expect(test.scheduler.nextDeadline == .max)
        #expect(test.scheduler.runTimers(now: 1 << 63) == 0)
    }

    // MARK: Cancelling and limits

    @Test func aCancelledTimerDoesNotFireAndAStaleOneIsIgnored() {
        let test = TestScheduler(maximumTimers: 1)
        let log = TimerLog()
        let first = log.arm(on: test.scheduler, 5000, 1)!
        #expect(log.arm(on: test.scheduler, 5000, 2) == nil, "one timer is the limit")
        #expect(test.scheduler.cancelTimer(first))
        #expect(!test.scheduler.cancelTimer(first))
        #expect(test.scheduler.timerCount == 0 && test.scheduler.nextDeadline == nil)
        let second = log.arm(on: test.scheduler, 6000, 3)!
        #expect(first != second)
        #expect(!test.scheduler.cancelTimer(first), "its successor in the same place is another timer")
        #expect(test.scheduler.timerCount == 1)
        #expect(test.scheduler.runTimers(now: 10_000) == 1)
        #expect(log.fired == [3])
        #expect(!test.scheduler.cancelTimer(second), "it has fired")
        #expect(!test.scheduler.cancelTimer(.none))
    }

    // MARK: Actions

    @Test func anActionMayArmAndCancelTimers() {
        let test = TestScheduler()
        let scheduler = test.scheduler
        let log = TimerLog()
        var later: TimerIdentifier?
        var chain: UInt64 = 0
        log.onFire = { argument in
            if argument == 1 {
                #expect(scheduler.cancelTimer(later!), "a timer that is due as well, and has not fired")
                _ = log.arm(on: scheduler, 1000, 50)
                _ = log.arm(on: scheduler, 1 << 40, 60)
                later = nil
            } else if argument == 50, chain < 10 {
                // One that is due already fires in this call or the next.
                chain += 1
                _ = log.arm(on: scheduler, 1000 + chain, 50)
            }
        }
        later = log.arm(on: scheduler, 40_000, 2)
        let ticking = log.arm(on: scheduler, 2000, 1)
        #expect(ticking != nil)
        _ = scheduler.runTimers(now: 50_000)
        _ = scheduler.runTimers(now: 50_000 + tick)
        #expect(log.fired.filter { $0 == 1 } == [1])
        #expect(!log.fired.contains(2))
        #expect(log.fired.count { $0 == 50 } == 11)
        #expect(scheduler.timerCount == 1 && scheduler.nextDeadline == 1 << 40)
    }

    @Test func aPeriodicTimerKeepsItsPeriod() {
        let test = TestScheduler()
        let scheduler = test.scheduler
        let log = TimerLog()
        log.onFire = { _ = log.arm(on: scheduler, $0 + 1_000_000, $0 + 1_000_000) }
        _ = log.arm(on: scheduler, 1_000_000, 1_000_000)
        var now: UInt64 = 0
        while now < 1_000_000_000 {
            now += 333_333
            _ = scheduler.runTimers(now: now)
        }
        #expect(log.fired == (1...1000).map { $0 * 1_000_000 })
        // A jump of the clock: every period that passed is made good, in this call.
        _ = scheduler.runTimers(now: 2_000_500_000)
        #expect(log.fired.count == 2000)
        #expect(scheduler.timerCount == 1)
    }
}

/// Writes down what fired, and lets a test act in it.
private final class TimerLog {
    var fired: [UInt64] = []
    var onFire: ((UInt64) -> Void)?

    func arm(on scheduler: TaskScheduler, _ deadline: UInt64, _ argument: UInt64) -> TimerIdentifier? {
        scheduler.armTimer(
            deadline: deadline,
            { context, argument in
                let log = Unmanaged<TimerLog>.fromOpaque(context).takeUnretainedValue()
                log.fired.append(argument)
                log.onFire?(argument)
            }, context: Unmanaged.passUnretained(self).toOpaque(), argument: argument)
    }
}

/// The model: what is armed, by name.
private final class TimerWorld {
    private let maximumTimers = 200
    private let test: TestScheduler
    private let log = TimerLog()
    private var random: SeededGenerator
    private var armed: [UInt64: (deadline: UInt64, timer: TimerIdentifier)] = [:]
    private var stale: [TimerIdentifier] = []
    private var now: UInt64
    private var nextName: UInt64 = 0
    private(set) var fired = 0

    init(seed: UInt64, start: UInt64) {
        random = SeededGenerator(seed: seed)
        now = start
        test = TestScheduler(maximumTimers: maximumTimers, now: start)
        log.onFire = { [unowned self] in fire($0) }
    }

    func step() {
        switch Int.random(in: 0..<10, using: &random) {
        case 0..<5: arm()
        case 5..<7: cancel()
        default: advance(by: delay() >> 8)
        }
        #expect(test.scheduler.timerCount == armed.count)
        #expect(test.scheduler.nextDeadline == armed.values.lazy.map(\.deadline).min())
    }

    /// Runs to the next deadline until none is left, which is at the end of time at the latest.
    func finish() {
        var rounds = 0
        while let deadline = test.scheduler.nextDeadline, now < .max, rounds < 100_000 {
            rounds += 1
            advance(by: max(deadline, now) - now + min(tick, .max - max(deadline, now)))
        }
        advance(by: 0)
        #expect(armed.isEmpty)
    }

    /// Nanoseconds of any scale: from one to years.
    private func delay() -> UInt64 { random.next() >> UInt64.random(in: 1...63, using: &random) }

    private func arm() {
        let (sum, overflow) = now.addingReportingOverflow(delay())
        var deadline = overflow ? UInt64.max - UInt64.random(in: 0...5000, using: &random) : sum
        if Int.random(in: 0..<10, using: &random) == 0 { deadline = now - min(now, delay()) }
        let timer = log.arm(on: test.scheduler, deadline, nextName)
        #expect((timer == nil) == (armed.count == maximumTimers))
        guard let timer else { return }
        armed[nextName] = (deadline, timer)
        nextName += 1
    }

    private func cancel() {
        if let timer = stale.randomElement(using: &random), Bool.random(using: &random) {
            #expect(!test.scheduler.cancelTimer(timer))
        } else if let name = armed.keys.sorted().randomElement(using: &random) {
            #expect(test.scheduler.cancelTimer(armed[name]!.timer))
            stale.append(armed[name]!.timer)
            armed[name] = nil
        }
    }

    private func advance(by delay: UInt64) {
        let (sum, overflow) = now.addingReportingOverflow(delay)
        // Near the end, time goes on in small steps.
        now = overflow ? now + (UInt64.max - now) / 2 : sum
        let before = fired
        #expect(test.scheduler.runTimers(now: now) == fired - before)
        #expect(armed.values.allSatisfy { $0.deadline > now || now - $0.deadline < tick }, "late by more than a tick")
    }

    private func fire(_ name: UInt64) {
        guard let (deadline, timer) = armed.removeValue(forKey: name) else {
            Issue.record("a timer fired that was not armed: twice, or after its cancelling")
            return
        }
        fired += 1
        #expect(deadline <= now, "a timer fired \(deadline - now) ns early")
        stale.append(timer)
        if Int.random(in: 0..<4, using: &random) == 0 { arm() }
        if Int.random(in: 0..<6, using: &random) == 0 { cancel() }
    }
}
