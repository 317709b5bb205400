import Testing

@testable import TaskScheduler

@Suite struct ReadyTaskTests {
    // MARK: Passes

    @Test func aTaskRunsOnceForAWakingAndSleepsAgain() {
        let test = TestScheduler()
        var runs = 0
        let task = TestTask(0) { _ in runs += 1 }
        #expect(task.add(to: test.scheduler))
        #expect(!test.scheduler.hasReadyTask)
        #expect(test.scheduler.runReadyTasks() == 0 && runs == 0, "a task starts asleep")
        test.scheduler.wake(task.index)
        #expect(test.scheduler.hasReadyTask)
        #expect(test.scheduler.runReadyTasks() == 1 && runs == 1)
        #expect(!test.scheduler.hasReadyTask)
        #expect(test.scheduler.runReadyTasks() == 0 && runs == 1)
    }

    @Test func wakingTwiceIsWakingOnce() {
        let test = TestScheduler()
        var runs = 0
        let task = TestTask(0) { _ in runs += 1 }
        #expect(task.add(to: test.scheduler))
        for _ in 0..<3 { test.scheduler.wake(task.index) }
        #expect(test.scheduler.runReadyTasks() == 1 && runs == 1)
        #expect(test.scheduler.runReadyTasks() == 0)
    }

    @Test func theApplicationRunsBeforeTheBackground() {
        let test = TestScheduler()
        var log: [Int] = []
        // Background tasks in the lower slots, and the two kinds mixed.
        let tasks = (0..<200).map { TestTask($0) { log.append($0.name) } }
        for task in tasks { #expect(task.add(to: test.scheduler, task.name % 3 == 0 ? .background : .application)) }
        for task in tasks { test.scheduler.wake(task.index) }
        #expect(test.scheduler.runReadyTasks() == 200)
        let kinds = log.map { $0 % 3 == 0 }
        #expect(kinds == kinds.sorted { !$0 && $1 })
        #expect(Set(log).count == 200)
    }

    @Test func aTaskThatWakesItselfRunsOnceAPass() {
        let test = TestScheduler()
        var runs = 0
        let scheduler = test.scheduler
        let task = TestTask(0) {
            runs += 1
            scheduler.wake($0.index)
        }
        #expect(task.add(to: scheduler))
        scheduler.wake(task.index)
        for pass in 1...100 {
            #expect(scheduler.runReadyTasks() == 1)
            #expect(runs == pass)
            #expect(scheduler.hasReadyTask)
        }
    }

    @Test(arguments: [1, 63, 64, 65, 128, 4095, 4096, 4097, 5000])
    func aTaskWokenDuringThePassRunsInTheNextAtTheLatest(distance: Int) {
        let test = TestScheduler(maximumTasks: 8192)
        let scheduler = test.scheduler
        var log: [Int] = []
        let tasks = (0..<6000).map { TestTask($0) { log.append($0.name) } }
        for task in tasks { #expect(task.add(to: scheduler)) }
        // One that is behind the running task in the order of slots, and one before it.
        for (waker, woken) in [(500, 500 + distance), (500 + distance, 500)] {
            log = []
            tasks[waker].step = {
                log.append($0.name)
                scheduler.wake(tasks[woken].index)
            }
            scheduler.wake(tasks[waker].index)
            // A neighbour that is ready too, so that the pass comes by.
            let neighbour = woken / 64 * 64 + (woken + 2) % 64
            scheduler.wake(tasks[neighbour].index)
            _ = scheduler.runReadyTasks()
            _ = scheduler.runReadyTasks()
            #expect(log.sorted() == [waker, woken, neighbour].sorted())
            #expect(!scheduler.hasReadyTask, "nobody is ready any more")
            tasks[waker].step = { log.append($0.name) }
        }
    }

    @Test func aBackgroundTaskWokenByTheApplicationRunsInTheSameCall() {
        let test = TestScheduler()
        let scheduler = test.scheduler
        var log: [String] = []
        let background = TestTask(0) { _ in log.append("background") }
        let application = TestTask(1) { _ in
            log.append("application")
            scheduler.wake(background.index)
        }
        #expect(background.add(to: scheduler, .background) && application.add(to: scheduler))
        scheduler.wake(application.index)
        #expect(scheduler.runReadyTasks() == 2)
        #expect(log == ["application", "background"])
    }

    // MARK: Removal

    @Test(arguments: [1, 64, 4096]) func aTaskRemovedDuringThePassDoesNotRun(distance: Int) {
        let test = TestScheduler(maximumTasks: 8192)
        let scheduler = test.scheduler
        var ran: [Int] = []
        let tasks = (0..<5000).map { TestTask($0) { ran.append($0.name) } }
        for task in tasks { #expect(task.add(to: scheduler)) }
        // Each removes the other: whichever comes first, the second must not run.
        for (one, other) in [(0, distance), (distance, 0)] {
            tasks[one].step = {
                ran.append($0.name)
                scheduler.removeTask(tasks[other].identifier!)
            }
        }
        scheduler.wake(tasks[0].index)
        scheduler.wake(tasks[distance].index)
        #expect(scheduler.runReadyTasks() == 1)
        #expect(ran.count == 1)
        #expect(!scheduler.hasReadyTask)
        #expect(scheduler.runReadyTasks() == 0)
        #expect(scheduler.taskCount == 4999)
    }

    /// The new task takes the slot of one that was ready in this pass. It was not woken, so it sleeps.
    @Test(arguments: [TaskPriority.application, .background], [1, 64]) func aTaskAddedDuringThePassSleeps(priority: TaskPriority, distance: Int) {
        let test = TestScheduler(maximumTasks: distance + 1)
        let scheduler = test.scheduler
        var log: [String] = []
        let newcomer = TestTask(1000) { _ in log.append("newcomer") }
        let tasks = (0...distance).map { TestTask($0) { _ in log.append("other") } }
        for task in tasks { #expect(task.add(to: scheduler)) }
        for (one, other) in [(0, distance), (distance, 0)] {
            tasks[one].step = { _ in
                log.append("first")
                scheduler.removeTask(tasks[other].identifier!)
                #expect(newcomer.add(to: scheduler, priority), "the slot is free at once")
            }
        }
        scheduler.wake(tasks[0].index)
        scheduler.wake(tasks[distance].index)
        _ = scheduler.runReadyTasks()
        _ = scheduler.runReadyTasks()
        #expect(log == ["first"])
        #expect(!scheduler.hasReadyTask)
        scheduler.wake(newcomer.index)
        #expect(scheduler.runReadyTasks() == 1)
        #expect(log == ["first", "newcomer"])
    }

    @Test func aTaskThatIsAddedAndWokenDuringThePassRunsOnce() {
        let test = TestScheduler(maximumTasks: 2)
        let scheduler = test.scheduler
        var log: [Int] = []
        let newcomer = TestTask(2) { log.append($0.name) }
        let tasks = (0..<2).map { TestTask($0) { log.append($0.name) } }
        for task in tasks { #expect(task.add(to: scheduler)) }
        for task in tasks {
            task.step = {
                log.append($0.name)
                scheduler.removeTask(tasks[1 - $0.name].identifier!)
                #expect(newcomer.add(to: scheduler))
                scheduler.wake(newcomer.index)
            }
            scheduler.wake(task.index)
        }
        _ = scheduler.runReadyTasks()
        _ = scheduler.runReadyTasks()
        #expect(log.count == 2 && log.last == 2)
    }

    @Test func aTaskMayRemoveItself() {
        let test = TestScheduler(maximumTasks: 1)
        let scheduler = test.scheduler
        for round in 0..<10 {
            var runs = 0
            let task = TestTask(round) {
                runs += 1
                scheduler.wake($0.index)
                scheduler.removeTask($0.identifier!)
            }
            #expect(task.add(to: scheduler))
            scheduler.wake(task.index)
            #expect(scheduler.runReadyTasks() == 1)
            #expect(scheduler.runReadyTasks() == 0)
            #expect(runs == 1)
            #expect(!scheduler.isAlive(task.identifier!) && scheduler.taskCount == 0)
        }
    }

    @Test func aReadyTaskThatIsRemovedDoesNotRun() {
        let test = TestScheduler()
        var runs = 0
        for priority in [TaskPriority.application, .background] {
            let task = TestTask(0) { _ in runs += 1 }
            #expect(task.add(to: test.scheduler, priority))
            test.scheduler.wake(task.index)
            test.scheduler.removeTask(task.identifier!)
            #expect(!test.scheduler.hasReadyTask)
            #expect(test.scheduler.runReadyTasks() == 0)
        }
        #expect(runs == 0)
    }

    // MARK: Limits and identifiers

    @Test(arguments: [1, 2, 63, 64, 65, 1000]) func theLimitOfTasksIsTheStatedOne(maximumTasks: Int) {
        let test = TestScheduler(maximumTasks: maximumTasks)
        let tasks = (0...maximumTasks).map { TestTask($0) { _ in } }
        for _ in 0..<3 {
            for task in tasks.dropLast() { #expect(task.add(to: test.scheduler)) }
            #expect(test.scheduler.taskCount == maximumTasks)
            #expect(!tasks[maximumTasks].add(to: test.scheduler))
            #expect(test.scheduler.addCoroutine {} == nil)
            #expect(test.scheduler.taskCount == maximumTasks)
            for task in tasks.dropLast() { test.scheduler.wake(task.index) }
            #expect(test.scheduler.runReadyTasks() == maximumTasks)
            for task in tasks.dropLast() { test.scheduler.removeTask(task.identifier!) }
            #expect(test.scheduler.taskCount == 0)
        }
    }

    @Test func aStaleIdentifierNamesNothing() {
        let test = TestScheduler(maximumTasks: 1)
        var stale: [TaskIdentifier] = []
        for round in 0..<100 {
            var runs = 0
            let task = TestTask(round) { _ in runs += 1 }
            #expect(task.add(to: test.scheduler))
            #expect(test.scheduler.isAlive(task.identifier!))
            #expect(!stale.contains(task.identifier!))
            for identifier in stale {
                #expect(!test.scheduler.isAlive(identifier))
                test.scheduler.removeTask(identifier)
            }
            #expect(test.scheduler.taskCount == 1)
            test.scheduler.wake(task.index)
            #expect(test.scheduler.runReadyTasks() == 1 && runs == 1)
            test.scheduler.removeTask(task.identifier!)
            stale.append(task.identifier!)
        }
        #expect(!test.scheduler.isAlive(TaskIdentifier(index: 5, generation: 1)), "one that was never given out")
    }

    @Test func theLargestSchedulerFindsEveryTask() {
        let test = TestScheduler(maximumTasks: 262_144)
        let scheduler = test.scheduler
        let seen = UnsafeMutablePointer<UInt32>.allocate(capacity: 262_144)
        seen.initialize(repeating: 0, count: 262_144)
        defer { seen.deallocate() }
        for _ in 0..<262_144 {
            let task = scheduler.addTask(
                .application, { context, index in context.assumingMemoryBound(to: UInt32.self)[Int(index)] += 1 }, context: seen)
            #expect(task != nil)
        }
        for index in [0, 63, 64, 4095, 4096, 131_071, 262_143] as [UInt32] {
            scheduler.wake(index)
            #expect(scheduler.runReadyTasks() == 1)
            #expect(seen[Int(index)] == 1)
            seen[Int(index)] = 0
        }
        for index in 0..<262_144 as Range<UInt32> { scheduler.wake(index) }
        #expect(scheduler.runReadyTasks() == 262_144)
        #expect((0..<262_144).allSatisfy { seen[$0] == 1 })
        #expect(!scheduler.hasReadyTask)
    }

    @Test func moreTasksThanTheReadyWordsHoldTrap() async {
        await #expect(processExitsWith: .failure) {
            let scheduler = TaskScheduler(maximumTasks: 262_145, maximumTimers: 1, coroutineStackByteCount: 65536, now: 0)
            scheduler.deallocate()
        }
    }
}
