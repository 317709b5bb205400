import Testing

@testable import TaskScheduler

/// Random wakings, additions and removals, also from inside the tasks, against sets of names.
@Suite struct ReadyTaskModelTests {
    @Test(arguments: [1, 2, 3, 4, 5, 6, 7, 8] as [UInt64]) func everyWakingRunsOnceAndNothingElseRuns(seed: UInt64) {
        let world = World(seed: seed, maximumTasks: [40, 70, 300, 5000][Int(seed % 4)])
        for _ in 0..<2000 {
            for _ in 0..<Int.random(in: 0...6, using: &world.random) { world.act() }
            #expect(world.scheduler.hasReadyTask == !world.ready.isEmpty)
            world.pass()
        }
        #expect(world.runs > 2000)
    }

    @Test func theSameSeedGivesTheSameOrder() {
        func log(_ seed: UInt64) -> [Int] {
            let world = World(seed: seed, maximumTasks: 200)
            for _ in 0..<300 {
                for _ in 0..<10 { world.act() }
                world.pass()
            }
            return world.log
        }
        #expect(log(5) == log(5))
        #expect(log(5) != log(6))
    }
}

private final class World {
    let test: TestScheduler
    let maximumTasks: Int
    var random: SeededGenerator
    var log: [Int] = []
    var runs = 0
    /// Names of the tasks that were woken and have not run since.
    private(set) var ready: Set<Int> = []
    private var alive: [TestTask] = []
    private var background: Set<Int> = []
    private var ranInThisPass: Set<Int> = []
    private var backgroundHasRun = false
    private var isInPass = false
    private var nextName = 0

    var scheduler: TaskScheduler { test.scheduler }

    init(seed: UInt64, maximumTasks: Int) {
        random = SeededGenerator(seed: seed)
        self.maximumTasks = maximumTasks
        test = TestScheduler(maximumTasks: maximumTasks)
        for _ in 0..<(maximumTasks * 3 / 4) { add() }
    }

    /// One random call.
    func act() {
        switch Int.random(in: 0..<10, using: &random) {
        case 0: add()
        case 1: remove()
        default: wake()
        }
    }

    /// A whole pass: what was ready before it and still lives has to run in it.
    func pass() {
        ranInThisPass = []
        backgroundHasRun = false
        let due = ready
        isInPass = true
        let before = runs
        #expect(scheduler.runReadyTasks() == runs - before)
        isInPass = false
        let missed = due.subtracting(ranInThisPass).filter { name in alive.contains { $0.name == name } }
        #expect(missed.isEmpty)
    }

    private func run(_ task: TestTask) {
        runs += 1
        log.append(task.name)
        #expect(ready.remove(task.name) != nil, "a task ran that was not woken")
        #expect(ranInThisPass.insert(task.name).inserted, "a task ran twice in one pass")
        if background.contains(task.name) { backgroundHasRun = true } else { #expect(!backgroundHasRun, "the background ran first") }
        if Int.random(in: 0..<2, using: &random) == 0 { act() }
        if Int.random(in: 0..<8, using: &random) == 0, alive.contains(where: { $0 === task }) {
            scheduler.wake(task.index)
            ready.insert(task.name)
        }
    }

    private func add() {
        let task = TestTask(nextName) { [unowned self] in run($0) }
        let priority = Bool.random(using: &random) ? TaskPriority.application : .background
        let wasAdded = task.add(to: scheduler, priority)
        #expect(wasAdded == (alive.count < maximumTasks))
        guard wasAdded else { return }
        nextName += 1
        alive.append(task)
        if priority == .background { background.insert(task.name) }
        #expect(scheduler.taskCount == alive.count)
    }

    private func remove() {
        guard !alive.isEmpty else { return }
        let task = alive.remove(at: Int.random(in: 0..<alive.count, using: &random))
        graveyard.append(task)
        ready.remove(task.name)
        scheduler.removeTask(task.identifier!)
        #expect(!scheduler.isAlive(task.identifier!))
    }

    /// A removed task's memory must not go while it runs.
    private var graveyard: [TestTask] = []

    private func wake() {
        guard let task = alive.randomElement(using: &random) else { return }
        scheduler.wake(task.index)
        ready.insert(task.name)
    }
}
