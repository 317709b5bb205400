import Demikernel

// One operation is: wake, resume, yield.

private func makeScheduler() -> TaskScheduler {
    TaskScheduler(maximumTasks: 1_024, maximumTimers: 1_024, coroutineStackByteCount: 65_536, now: 0)
}

/// 64 tasks, each of which wakes itself and yields: every pass finds 64 ready.
@inline(never)
func runReadyTasks(_ count: Int) {
    let scheduler = makeScheduler()
    let context = UnsafeMutablePointer<TaskScheduler>.allocate(capacity: 1)
    context.initialize(to: scheduler)
    for _ in 0..<64 {
        let task = scheduler.addTask(
            .application, { context, task in context.assumingMemoryBound(to: TaskScheduler.self).pointee.wake(task) }, context: context)
        scheduler.wake(task!.index)
    }
    var resumed = 0
    while resumed < count { resumed &+= scheduler.runReadyTasks() }
    scheduler.deallocate()
    context.deallocate()
}

/// 1,024 tasks asleep, of which one at a time is woken; each time another one, far from the last.
@inline(never)
func runOneTask(_ count: Int) {
    let scheduler = makeScheduler()
    let context = UnsafeMutablePointer<Int>.allocate(capacity: 1)
    context.initialize(to: 0)
    for _ in 0..<1_024 {
        _ = scheduler.addTask(.application, { context, _ in context.assumingMemoryBound(to: Int.self).pointee &+= 1 }, context: context)
    }
    var index: UInt32 = 0
    for _ in 0..<count {
        scheduler.wake(index)
        _ = scheduler.runReadyTasks()
        index = (index &+ 389) & 1_023
    }
    precondition(context.pointee == count)
    scheduler.deallocate()
    context.deallocate()
}

/// 64 coroutines, each of which wakes itself and suspends.
@inline(never)
func runReadyCoroutines(_ count: Int) {
    let scheduler = makeScheduler()
    let isEnding = UnsafeMutablePointer<Bool>.allocate(capacity: 1)
    isEnding.initialize(to: false)
    for _ in 0..<64 {
        _ = scheduler.addCoroutine {
            let index = scheduler.currentCoroutine!.index
            while !isEnding.pointee {
                scheduler.wake(index)
                scheduler.suspendCurrent()
            }
        }
    }
    var resumed = 0
    while resumed < count { resumed &+= scheduler.runReadyTasks() }
    isEnding.pointee = true
    _ = scheduler.runReadyTasks()
    precondition(scheduler.taskCount == 0)
    scheduler.deallocate()
    isEnding.deallocate()
}

/// 1,024 coroutines asleep, of which one at a time is woken.
@inline(never)
func runOneCoroutine(_ count: Int) {
    let scheduler = makeScheduler()
    let isEnding = UnsafeMutablePointer<Bool>.allocate(capacity: 1)
    isEnding.initialize(to: false)
    for _ in 0..<1_024 {
        _ = scheduler.addCoroutine {
            while !isEnding.pointee { scheduler.suspendCurrent() }
        }
    }
    _ = scheduler.runReadyTasks()
    var index: UInt32 = 0
    for _ in 0..<count {
        scheduler.wake(index)
        _ = scheduler.runReadyTasks()
        index = (index &+ 389) & 1_023
    }
    isEnding.pointee = true
    for index in 0..<1_024 { scheduler.wake(UInt32(index)) }
    _ = scheduler.runReadyTasks()
    precondition(scheduler.taskCount == 0)
    scheduler.deallocate()
    isEnding.deallocate()
}

/// A timer armed and cancelled, among 100 others; the deadlines are spread as those of retransmissions are: 1 to 200 ms away.
@inline(never)
func armAndCancel(_ count: Int) {
    let scheduler = makeScheduler()
    let context = UnsafeMutablePointer<Int>.allocate(capacity: 1)
    context.initialize(to: 0)
    for number in 0..<100 { _ = scheduler.armTimer(deadline: UInt64(number + 1) * 2_000_000, { _, _ in }, context: context) }
    var delay: UInt64 = 1_000_000
    for _ in 0..<count {
        let timer = scheduler.armTimer(deadline: delay, { _, _ in }, context: context)
        scheduler.cancelTimer(timer.unsafelyUnwrapped)
        delay &+= 1_234_567
        if delay > 200_000_000 { delay &-= 199_000_000 }
    }
    precondition(scheduler.timerCount == 100)
    scheduler.deallocate()
    context.deallocate()
}
