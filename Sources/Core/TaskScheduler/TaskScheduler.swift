import CDatapath

/// Names a task. A stale one (the task has ended) names nothing.
@frozen
public struct TaskIdentifier: Hashable, Sendable {
    public let index: UInt32
    @usableFromInline let generation: UInt32

    @usableFromInline
    init(index: UInt32, generation: UInt32) {
        self.index = index
        self.generation = generation
    }
}

/// One step of a task: a C-convention function on its context. It returns soon, and runs again when the task is woken.
public typealias TaskFunction = @convention(c) (_ context: UnsafeMutableRawPointer, _ task: UInt32) -> Void

/// Which tasks come first.
@frozen
public enum TaskPriority: UInt8, Sendable {
    /// The application's own work: runs first.
    case application
    /// Retransmission, delayed acknowledgement, set-up and close: runs after the application's.
    case background
}

@frozen
@usableFromInline
struct TaskSlot {
    @usableFromInline var function: TaskFunction?
    @usableFromInline var context: UnsafeMutableRawPointer?
    @usableFromInline var generation: UInt32
    @usableFromInline var nextFree: UInt32
    /// Then there is no function: the context is the `Coroutine`.
    @usableFromInline var isCoroutine = false
    /// Where the task stands when it is ready: the application's or the background set.
    @usableFromInline var readySet: UnsafeMutablePointer<ReadySet>

    @usableFromInline
    init(generation: UInt32, readySet: UnsafeMutablePointer<ReadySet>) {
        function = nil
        context = nil
        self.generation = generation
        nextFree = .max
        self.readySet = readySet
    }
}

@frozen
@usableFromInline
struct SchedulerState {
    // At addresses of their own, because tasks change a set while a pass goes through it.
    @usableFromInline let application: UnsafeMutablePointer<ReadySet>
    @usableFromInline let background: UnsafeMutablePointer<ReadySet>
    @usableFromInline let tasks: UnsafeMutablePointer<TaskSlot>
    let capacity: Int
    var carved = 0
    var freeHead: UInt32 = .max
    var taskCount = 0
    var timers: TimerWheel
    @usableFromInline var coroutines: CoroutinePool

    init(capacity: Int, timers: TimerWheel, coroutines: CoroutinePool) {
        application = .allocate(capacity: 1)
        application.initialize(to: ReadySet(capacity: capacity))
        background = .allocate(capacity: 1)
        background.initialize(to: ReadySet(capacity: capacity))
        tasks = .allocate(capacity: capacity)
        self.capacity = capacity
        self.timers = timers
        self.coroutines = coroutines
    }
}

/// The coroutine scheduler of one runtime: tasks in a slab, ready words, timers and stackful coroutines, all on the runtime's own thread.
///
/// A plain handle; the runtime that made the scheduler owns it and ends it with `deallocate`.
@frozen
public struct TaskScheduler {
    @usableFromInline let state: UnsafeMutablePointer<SchedulerState>

    /// - Parameters:
    ///   - maximumTasks: tasks at once, at most 262,144.
    ///   - maximumTimers: timers armed at once.
    ///   - coroutineStackByteCount: bytes of a coroutine's stack, a multiple of 4096; a guard page is added.
    ///   - now: the time to start from, in nanoseconds.
    public init(maximumTasks: Int, maximumTimers: Int, coroutineStackByteCount: Int, now: UInt64) {
        state = .allocate(capacity: 1)
        state.initialize(
            to: SchedulerState(
                capacity: maximumTasks, timers: TimerWheel(capacity: maximumTimers, now: now),
                coroutines: CoroutinePool(stackByteCount: coroutineStackByteCount)))
    }

    /// Ends the scheduler. No coroutine may be alive.
    public func deallocate() {
        state.pointee.coroutines.deallocate()
        state.pointee.timers.deallocate()
        for set in [state.pointee.application, state.pointee.background] {
            set.pointee.deallocate()
            set.deallocate()
        }
        state.pointee.tasks.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    // MARK: Tasks

    /// Adds a task, asleep. O(1).
    /// - Returns: nil when `maximumTasks` are alive.
    public func addTask(_ priority: TaskPriority, _ function: @escaping TaskFunction, context: UnsafeMutableRawPointer) -> TaskIdentifier? {
        addTask(priority, function: function, context: context)
    }

    /// A task without a function is a coroutine.
    func addTask(_ priority: TaskPriority, function: TaskFunction?, context: UnsafeMutableRawPointer) -> TaskIdentifier? {
        let index: UInt32
        if state.pointee.freeHead != .max {
            index = state.pointee.freeHead
            state.pointee.freeHead = state.pointee.tasks[Int(index)].nextFree
        } else {
            guard state.pointee.carved < state.pointee.capacity else { return nil }
            index = UInt32(state.pointee.carved)
            state.pointee.carved += 1
            (state.pointee.tasks + Int(index)).initialize(to: TaskSlot(generation: 1, readySet: state.pointee.application))
        }
        let slot = state.pointee.tasks + Int(index)
        slot.pointee.function = function
        slot.pointee.isCoroutine = function == nil
        slot.pointee.context = context
        slot.pointee.readySet = priority == .background ? state.pointee.background : state.pointee.application
        state.pointee.taskCount += 1
        return TaskIdentifier(index: index, generation: slot.pointee.generation)
    }

    /// Ends a task; it never runs again. A stale identifier does nothing. O(1).
    public func removeTask(_ task: TaskIdentifier) {
        guard isAlive(task) else { return }
        let slot = state.pointee.tasks + Int(task.index)
        slot.pointee.readySet.pointee.remove(task.index)
        slot.pointee.generation &+= 1
        slot.pointee.function = nil
        slot.pointee.isCoroutine = false
        slot.pointee.nextFree = state.pointee.freeHead
        state.pointee.freeHead = task.index
        state.pointee.taskCount -= 1
    }

    /// Whether the task has not ended.
    public func isAlive(_ task: TaskIdentifier) -> Bool {
        Int(task.index) < state.pointee.carved && state.pointee.tasks[Int(task.index)].generation == task.generation
            && (state.pointee.tasks[Int(task.index)].function != nil || state.pointee.tasks[Int(task.index)].isCoroutine)
    }

    /// Makes a live task ready; it runs in the next pass over its priority. Waking it twice is waking it once. O(1).
    @inlinable
    public func wake(_ index: UInt32) {
        state.pointee.tasks[Int(index)].readySet.pointee.insert(index)
    }

    /// How many tasks are alive.
    public var taskCount: Int { state.pointee.taskCount }

    /// Whether any task is ready.
    @inlinable
    public var hasReadyTask: Bool { !(state.pointee.application.pointee.isEmpty && state.pointee.background.pointee.isEmpty) }

    /// Runs each task that is ready now once, the application's first. A task woken meanwhile runs in the next pass at the latest.
    /// - Returns: how many ran.
    @inlinable
    public func runReadyTasks() -> Int {
        run(state.pointee.application) &+ run(state.pointee.background)
    }

    @inlinable
    @inline(__always)
    func run(_ set: UnsafeMutablePointer<ReadySet>) -> Int {
        if set.pointee.top != 0 { return runWords(of: set) }
        let index = set.pointee.lone
        if index == ReadySet.none { return 0 }
        set.pointee.lone = ReadySet.none
        let slot = state.pointee.tasks + Int(index)
        guard let function = slot.pointee.function else { return runLoneCoroutine(slot) }
        function(slot.pointee.context.unsafelyUnwrapped, index)
        return 1
    }

    // One that was woken after its end is neither.
    @usableFromInline
    @inline(never)
    func runLoneCoroutine(_ slot: UnsafeMutablePointer<TaskSlot>) -> Int {
        guard slot.pointee.isCoroutine else { return 0 }
        continueCoroutine(slot.pointee.context.unsafelyUnwrapped)
        return 1
    }

    // The pass goes through the words in their order and never back, and looks once at what is ready in one: so a task which wakes itself waits for
    // the next pass. But each task stays in its word until it runs: one that is removed by an earlier task does not run, nor does a new one in its
    // place, and one that is woken once more before it runs, runs once.
    @usableFromInline
    @inline(never)
    func runWords(of set: UnsafeMutablePointer<ReadySet>) -> Int {
        var count = 0
        let tasks = state.pointee.tasks
        var wordIndex = set.pointee.firstWord
        while true {
            let word = set.pointee.words + wordIndex
            var ready = word.pointee
            // Not zero: the words above it say so.
            repeat {
                let rest = ready & (ready &- 1)
                word.pointee ^= ready ^ rest
                let index = wordIndex &<< 6 | ready.trailingZeroBitCount
                if let function = tasks[index].function {
                    function(tasks[index].context.unsafelyUnwrapped, UInt32(truncatingIfNeeded: index))
                    count &+= 1
                } else if tasks[index].isCoroutine {
                    continueCoroutine(tasks[index].context.unsafelyUnwrapped)
                    count &+= 1
                }
                ready = rest & word.pointee
            } while ready != 0
            if word.pointee == 0 { set.pointee.removeEmpty(wordIndex) }
            guard set.pointee.top != 0, let next = set.pointee.word(after: wordIndex) else { return count }
            wordIndex = next
        }
    }

    // MARK: Timers

    /// Arms a timer for `deadline`, in nanoseconds of the runtime's clock. O(1).
    /// - Returns: nil when `maximumTimers` are armed.
    public func armTimer(
        deadline: UInt64, _ action: @escaping TimerAction, context: UnsafeMutableRawPointer, argument: UInt64 = 0
    ) -> TimerIdentifier? {
        state.pointee.timers.arm(deadline: deadline, action: action, context: context, argument: argument)
    }

    /// Cancels a timer; a stale one is ignored. O(1).
    /// - Returns: whether it was armed.
    @discardableResult
    public func cancelTimer(_ timer: TimerIdentifier) -> Bool {
        state.pointee.timers.cancel(timer)
    }

    /// Fires every timer that is due at `now`, each once.
    /// - Returns: how many fired.
    public func runTimers(now: UInt64) -> Int {
        var count = 0
        while let timer = state.pointee.timers.popExpired(now: now) {
            timer.action(timer.context, timer.argument)
            count += 1
        }
        return count
    }

    /// The deadline `delay` nanoseconds after `time`, or the end of time.
    public func deadline(after delay: UInt64, from time: UInt64) -> UInt64 {
        let (sum, overflow) = time.addingReportingOverflow(delay)
        return overflow ? .max : sum
    }

    /// The earliest deadline of an armed timer.
    public var nextDeadline: UInt64? { state.pointee.timers.nextDeadline }

    /// How many timers are armed.
    public var timerCount: Int { state.pointee.timers.count }
}
