import Glibc
import Testing

@testable import TaskScheduler

@Suite struct CoroutineTests {
    // MARK: Life

    @Test func aCoroutineStartsSuspendsAndFinishes() throws {
        let test = TestScheduler()
        let scheduler = test.scheduler
        var log: [String] = []
        let task = try #require(
            scheduler.addCoroutine {
                log.append("a")
                scheduler.suspendCurrent()
                log.append("b")
                scheduler.suspendCurrent()
                log.append("c")
            })
        #expect(log == [], "it runs from the next pass on")
        #expect(scheduler.isAlive(task) && scheduler.taskCount == 1)
        #expect(scheduler.runReadyTasks() == 1)
        #expect(log == ["a"])
        #expect(scheduler.runReadyTasks() == 0, "suspended until it is woken")
        scheduler.wake(task.index)
        scheduler.wake(task.index)
        #expect(scheduler.runReadyTasks() == 1)
        #expect(log == ["a", "b"] && scheduler.isAlive(task))
        scheduler.wake(task.index)
        #expect(scheduler.runReadyTasks() == 1)
        #expect(log == ["a", "b", "c"])
        #expect(!scheduler.isAlive(task) && scheduler.taskCount == 0 && !scheduler.hasReadyTask)
    }

    @Test func aCoroutineKnowsThatItIsOne() throws {
        let test = TestScheduler()
        let scheduler = test.scheduler
        var seen: [TaskIdentifier?] = []
        var inside: [Bool] = []
        let tasks = try (0..<3).map { _ in
            try #require(
                scheduler.addCoroutine {
                    for _ in 0..<2 {
                        seen.append(scheduler.currentCoroutine)
                        inside.append(scheduler.isInCoroutine)
                        scheduler.suspendCurrent()
                    }
                })
        }
        #expect(scheduler.currentCoroutine == nil && !scheduler.isInCoroutine)
        _ = scheduler.runReadyTasks()
        #expect(Set(seen) == Set(tasks) && inside == [true, true, true])
        #expect(scheduler.currentCoroutine == nil && !scheduler.isInCoroutine)
        for _ in 0..<2 {
            for task in tasks { scheduler.wake(task.index) }
            _ = scheduler.runReadyTasks()
        }
        #expect(seen.count == 6 && scheduler.taskCount == 0)
    }

    @Test func aCoroutineMayStartAnother() throws {
        let test = TestScheduler()
        let scheduler = test.scheduler
        var log: [Int] = []
        func start(_ depth: Int) {
            _ = scheduler.addCoroutine {
                log.append(depth)
                if depth < 100 { start(depth + 1) }
            }
        }
        start(0)
        while scheduler.hasReadyTask { _ = scheduler.runReadyTasks() }
        #expect(log == Array(0...100))
        #expect(scheduler.taskCount == 0)
    }

    @Test func suspendingOnTheThreadsOwnStackTraps() async {
        await #expect(processExitsWith: .failure) {
            let scheduler = TaskScheduler(maximumTasks: 8, maximumTimers: 8, coroutineStackByteCount: 65536, now: 0)
            scheduler.suspendCurrent()
        }
    }

    // MARK: Many

    @Test func aThousandCoroutinesKeepTheirOwnLocals() throws {
        let test = TestScheduler(maximumTasks: 1000)
        let scheduler = test.scheduler
        var sums = [Int](repeating: 0, count: 1000)
        var order: [Int] = []
        let tasks = try (0..<1000).map { number in
            try #require(
                scheduler.addCoroutine {
                    var sum = number
                    for round in 1...10 {
                        order.append(number)
                        scheduler.suspendCurrent()
                        sum += round * number
                    }
                    sums[number] = sum
                })
        }
        #expect(scheduler.addCoroutine {} == nil, "the limit of tasks")
        #expect(scheduler.runReadyTasks() == 1000)
        for _ in 0..<10 {
            for task in tasks { scheduler.wake(task.index) }
            #expect(scheduler.runReadyTasks() == 1000)
        }
        #expect(sums == (0..<1000).map { $0 * 56 })
        // Fair: in each pass everyone has one turn.
        for round in 0..<10 { #expect(Set(order[(round * 1000)..<(round * 1000 + 1000)]).count == 1000) }
        #expect(scheduler.taskCount == 0)
    }

    @Test func coroutinesThatYieldTakeTurns() throws {
        let test = TestScheduler()
        let scheduler = test.scheduler
        var order: [Int] = []
        for number in 0..<5 {
            _ = try #require(
                scheduler.addCoroutine {
                    for _ in 0..<50 {
                        order.append(number)
                        scheduler.wake(scheduler.currentCoroutine!.index)
                        scheduler.suspendCurrent()
                    }
                })
        }
        while scheduler.hasReadyTask { _ = scheduler.runReadyTasks() }
        #expect(order.count == 250)
        for round in 0..<50 { #expect(Set(order[(round * 5)..<(round * 5 + 5)]) == [0, 1, 2, 3, 4]) }
    }

    @Test(arguments: [1, 2, 3] as [UInt64]) func randomWakingsReachTheRightCoroutine(seed: UInt64) throws {
        let test = TestScheduler()
        let scheduler = test.scheduler
        var random = SeededGenerator(seed: seed)
        var expected: [Int: Int] = [:]
        var counts: [Int: Int] = [:]
        var alive: [(name: Int, task: TaskIdentifier)] = []
        var finish: Set<Int> = []
        for name in 0..<3000 {
            if alive.count < 100 {
                let task = try #require(
                    scheduler.addCoroutine {
                        repeat {
                            counts[name, default: 0] += 1
                            scheduler.suspendCurrent()
                        } while !finish.contains(name)
                    })
                alive.append((name, task))
                expected[name] = 1
                _ = scheduler.runReadyTasks()
            }
            let index = Int.random(in: 0..<alive.count, using: &random)
            if Bool.random(using: &random) {
                expected[alive[index].name]! += 1
            } else {
                finish.insert(alive[index].name)
            }
            scheduler.wake(alive[index].task.index)
            _ = scheduler.runReadyTasks()
            #expect(scheduler.isAlive(alive[index].task) == !finish.contains(alive[index].name))
            if finish.contains(alive[index].name) { alive.remove(at: index) }
        }
        #expect(counts == expected)
        finish.formUnion(0..<3000)
        for coroutine in alive { scheduler.wake(coroutine.task.index) }
        _ = scheduler.runReadyTasks()
        #expect(scheduler.taskCount == 0)
    }

    // MARK: Stacks

    @Test func aStackIsUsedAgain() {
        let test = TestScheduler()
        let scheduler = test.scheduler
        var places: Set<UInt> = []
        for _ in 0..<2000 {
            _ = scheduler.addCoroutine { places.insert(stackAddress()) }
            #expect(scheduler.runReadyTasks() == 1)
        }
        #expect(places.count == 1)
    }

    @Test func stacksAreApart() throws {
        let test = TestScheduler()
        let scheduler = test.scheduler
        var places: [UInt] = []
        let tasks = try (0..<200).map { _ in
            try #require(
                scheduler.addCoroutine {
                    places.append(stackAddress())
                    scheduler.suspendCurrent()
                })
        }
        _ = scheduler.runReadyTasks()
        places.sort()
        #expect(zip(places, places.dropFirst()).allSatisfy { $1 - $0 >= 65536 + 4096 }, "a whole stack and its guard page lie between")
        for task in tasks { scheduler.wake(task.index) }
        _ = scheduler.runReadyTasks()
        #expect(scheduler.taskCount == 0)
    }

    @Test func theStackHoldsFortyKibibytesOfLocals() throws {
        let test = TestScheduler()
        let scheduler = test.scheduler
        var used: [UInt] = []
        let tasks = try (0..<3).map { number in
            try #require(
                scheduler.addCoroutine {
                    used.append(descend(from: stackAddress(), atLeast: 40 * 1024, fill: UInt8(number)) { scheduler.suspendCurrent() })
                })
        }
        _ = scheduler.runReadyTasks()
        for task in tasks { scheduler.wake(task.index) }
        _ = scheduler.runReadyTasks()
        #expect(used.count == 3)
        #expect(used.allSatisfy { (40 * 1024..<60 * 1024).contains($0) })
    }

    @Test func theConfiguredStackIsTheOneMade() throws {
        let test = TestScheduler(coroutineStackByteCount: 1 << 20)
        let scheduler = test.scheduler
        var used: UInt = 0
        _ = try #require(scheduler.addCoroutine { used = descend(from: stackAddress(), atLeast: 1 << 20 - 16384, fill: 1) {} })
        _ = scheduler.runReadyTasks()
        #expect(used >= 1 << 20 - 16384)
    }

    /// The neighbour's stack lies right below. Without a guard page the overflow would run on into it, and the process would end well.
    @Test func anOverflowHitsTheGuardPage() async {
        await #expect(processExitsWith: .signal(SIGSEGV)) {
            let scheduler = TaskScheduler(maximumTasks: 8, maximumTimers: 8, coroutineStackByteCount: 65536, now: 0)
            var places: [UInt] = []
            for number in 0..<4 {
                _ = scheduler.addCoroutine {
                    places.append(stackAddress())
                    scheduler.suspendCurrent()
                    if number == 0 { _ = descend(from: stackAddress(), atLeast: 65536, fill: 1) {} }
                }
            }
            guard scheduler.runReadyTasks() == 4, places[0] > places[3] else { return }
            scheduler.wake(0)
            _ = scheduler.runReadyTasks()
        }
    }

    @Test(arguments: [0, 4096, 65535]) func anImpossibleStackSizeTraps(byteCount: Int) async {
        await #expect(processExitsWith: .failure) { [byteCount] in
            TaskScheduler(maximumTasks: 8, maximumTimers: 8, coroutineStackByteCount: byteCount, now: 0).deallocate()
        }
    }

    /// In a process of its own, where nobody else maps memory.
    @Test func theStacksGoWithTheScheduler() async {
        await #expect(processExitsWith: .success) {
            var limit = rlimit(rlim_cur: 4 << 30, rlim_max: 4 << 30)
            setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
            // 200 × 500 × 68 KiB would be 6.8 GB.
            for _ in 0..<200 {
                let scheduler = TaskScheduler(maximumTasks: 512, maximumTimers: 8, coroutineStackByteCount: 65536, now: 0)
                for _ in 0..<500 { try #require(scheduler.addCoroutine {} != nil) }
                #expect(scheduler.runReadyTasks() == 500)
                scheduler.deallocate()
            }
        }
    }

    @Test func withoutMemoryForAStackNoCoroutineStarts() async {
        await #expect(processExitsWith: .success) {
            let scheduler = TaskScheduler(maximumTasks: 100_000, maximumTimers: 8, coroutineStackByteCount: 64 << 20, now: 0)
            var limit = rlimit(rlim_cur: 8 << 30, rlim_max: 8 << 30)
            setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
            var count = 0
            while scheduler.addCoroutine({}) != nil { count += 1 }
            #expect(count < 200)
            #expect(scheduler.taskCount == count)
            #expect(scheduler.runReadyTasks() == count)
            #expect(scheduler.addCoroutine {} != nil, "the stacks of the finished are there again")
            #expect(scheduler.runReadyTasks() == 1)
        }
    }

    // MARK: What a body holds

    @Test func theBodysObjectsAreReleasedAtItsEnd() throws {
        let test = TestScheduler()
        let scheduler = test.scheduler
        weak var witness: Witness?
        var task: TaskIdentifier?
        do {
            let object = Witness()
            witness = object
            task = scheduler.addCoroutine {
                object.touched += 1
                scheduler.suspendCurrent()
                object.touched += 1
            }
        }
        #expect(witness != nil)
        _ = scheduler.runReadyTasks()
        #expect(witness?.touched == 1)
        scheduler.wake(try #require(task).index)
        _ = scheduler.runReadyTasks()
        #expect(scheduler.taskCount == 0)
        #expect(witness == nil)
    }

    @Test func aRefusedBodysObjectsAreReleasedAtOnce() {
        let test = TestScheduler(maximumTasks: 1)
        #expect(test.scheduler.addCoroutine {} != nil)
        weak var witness: Witness?
        do {
            let object = Witness()
            witness = object
            #expect(test.scheduler.addCoroutine { object.touched += 1 } == nil)
        }
        #expect(witness == nil)
        #expect(test.scheduler.runReadyTasks() == 1)
    }
}

private final class Witness {
    var touched = 0
}

/// Where the stack stands.
@inline(never)
private func stackAddress() -> UInt {
    var local: UInt8 = 0
    return withUnsafeMutablePointer(to: &local) { UInt(bitPattern: $0) }
}

/// Calls itself, with half a kibibyte of locals each time, until so many bytes of the stack are used; `body` runs at the bottom. On the way back
/// the locals have to be what they were.
/// - Returns: the bytes that were used.
@inline(never)
private func descend(from top: UInt, atLeast byteCount: UInt, fill: UInt8, _ body: () -> Void) -> UInt {
    var locals = InlineArray<512, UInt8>(repeating: fill)
    let used = withUnsafeMutablePointer(to: &locals) { top - min(top, UInt(bitPattern: $0)) }
    var result = used
    if used < byteCount {
        result = descend(from: top, atLeast: byteCount, fill: fill &+ 1, body)
    } else {
        body()
    }
    var isIntact = true
    for index in locals.indices where locals[index] != fill { isIntact = false }
    #expect(isIntact)
    return result
}
