import Testing

@testable import TaskScheduler

/// SplitMix64: the same seed gives the same run.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}

/// A scheduler that ends with its test, in virtual time.
final class TestScheduler {
    let scheduler: TaskScheduler

    init(maximumTasks: Int = 1024, maximumTimers: Int = 1024, coroutineStackByteCount: Int = 65536, now: UInt64 = 0) {
        scheduler = TaskScheduler(
            maximumTasks: maximumTasks, maximumTimers: maximumTimers, coroutineStackByteCount: coroutineStackByteCount, now: now)
    }

    deinit { scheduler.deallocate() }
}

/// A task whose step is a closure: the context of a C-convention function is the object.
final class TestTask {
    let name: Int
    var step: (TestTask) -> Void
    private(set) var identifier: TaskIdentifier?

    init(_ name: Int, _ step: @escaping (TestTask) -> Void) {
        self.name = name
        self.step = step
    }

    /// The scheduler does not retain the task: whoever adds it keeps it.
    func add(to scheduler: TaskScheduler, _ priority: TaskPriority = .application) -> Bool {
        identifier = scheduler.addTask(
            priority,
            { context, index in
                let task = Unmanaged<TestTask>.fromOpaque(context).takeUnretainedValue()
                #expect(task.identifier?.index == index)
                task.step(task)
            }, context: Unmanaged.passUnretained(self).toOpaque())
        return identifier != nil
    }

    var index: UInt32 { identifier!.index }
}
