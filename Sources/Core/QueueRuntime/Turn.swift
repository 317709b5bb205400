import CDatapath
import DatapathMemory
import Glibc
import TaskScheduler

/// The run loop: one turn, and what happens between turns when nothing is ready.
extension RuntimeCore {
    /// One turn: application tasks, background tasks, due timers, then the fast path of every library OS.
    /// - Returns: how much was done; 0 means that nothing was ready.
    func turn() -> Int { takeTurn(hasNoTasks: false) }

    /// `turn`, for the one place whose speed it decides.
    /// - Parameter hasNoTasks: whether it is known that there are neither tasks nor async jobs.
    @inline(__always)
    func takeTurn(hasNoTasks: Bool) -> Int {
        precondition(state.pointee.phase == .outside, "the run loop must not be entered from inside a task")
        state.pointee.phase = .turning
        state.pointee.turnlessWaitsLeft = RuntimeCore.maximumTurnlessWaits
        state.pointee.now = state.pointee.clock.now
        let scheduler = state.pointee.scheduler
        if !hasNoTasks, let executor = state.pointee.jobExecutor {
            if state.pointee.interruption.takeWakeUp() { executor.drainInbox() }
            if !state.pointee.memoryWaiters.isEmpty { resumeMemoryWaiters() }
        }
        var progress = !hasNoTasks && scheduler.hasReadyTask ? scheduler.runReadyTasks() : 0
        if scheduler.timerCount > 0 { progress &+= scheduler.runTimers(now: state.pointee.now) }
        var poller = state.pointee.pollers
        let end = poller + state.pointee.pollerCount
        while poller != end {
            progress &+= Int(poller.pointee.poll(poller.pointee.context))
            poller += 1
        }
        state.pointee.counters.turns &+= 1
        if progress > 0 { state.pointee.lastProgress = state.pointee.now }
        state.pointee.phase = .outside
        return progress
    }

    /// Takes a pending interruption.
    func takeInterruption() -> Bool {
        demi_load_relaxed_u32(state.pointee.interruptionFlag) != 0 && state.pointee.interruption.take()
    }

    /// What a wait does after a turn without progress.
    func idle(until deadline: UInt64) {
        guard case .adaptive(let spinNanoseconds) = state.pointee.idle, state.pointee.clock.isRealTime,
            state.pointee.now &- state.pointee.lastProgress >= spinNanoseconds
        else {
            // No pause instruction: it takes some 140 cycles, and the devices have just been polled.
            return
        }
        sleep(until: deadline)
    }

    /// Arms every device's wake-up, polls once more, then sleeps in the kernel until a device, a timer or an interruption.
    private func sleep(until deadline: UInt64) {
        var descriptors = InlineArray<16, pollfd>(repeating: pollfd(fd: -1, events: Int16(POLLIN), revents: 0))
        descriptors[0].fd = state.pointee.interruption.descriptor
        var count = 1
        var longest = UInt64.max
        for index in 0..<state.pointee.libraryCount {
            let library = state.pointee.libraries + index
            guard let prepare = library.pointee.prepareToSleep else { continue }
            let descriptor = prepare(library.pointee.context)
            if descriptor >= 0 {
                descriptors[count].fd = descriptor
                count += 1
            } else if descriptor == LibraryOS.cannotWake {
                longest = RuntimeCore.napNanoseconds
            }
        }
        // What came between the last poll and the arming would not wake us.
        if turn() > 0 { return }
        var wakeTime = deadline
        if let timer = state.pointee.scheduler.nextDeadline { wakeTime = min(wakeTime, timer) }
        let now = state.pointee.clock.now
        guard wakeTime > now, !state.pointee.interruption.isRequested, !state.pointee.interruption.isWakeUpPending, !state.pointee.scheduler.hasReadyTask else { return }
        longest = min(longest, wakeTime == .max ? .max : wakeTime - now)
        state.pointee.counters.sleeps &+= 1
        var span = descriptors.mutableSpan
        span.withUnsafeMutableBufferPointer { buffer in
            if longest == .max {
                _ = demi_ppoll(buffer.baseAddress, UInt64(count), nil)
            } else {
                var time = timespec(tv_sec: Int(longest / 1_000_000_000), tv_nsec: Int(longest % 1_000_000_000))
                _ = demi_ppoll(buffer.baseAddress, UInt64(count), &time)
            }
        }
        if descriptors[0].revents != 0 { state.pointee.interruption.drain() }
        // Spin again after a wake-up: more often follows.
        state.pointee.lastProgress = state.pointee.clock.now
    }

    /// The nap where some device cannot wake the thread.
    private static let napNanoseconds: UInt64 = 50_000

    /// A wait that found its result without a turn must not keep the devices from theirs for ever: every 64th one takes a turn.
    @inline(__always)
    func countTurnlessWait() {
        state.pointee.turnlessWaitsLeft &-= 1
        if state.pointee.turnlessWaitsLeft < 0 { turnAfterManyWaits() }
    }

    static let maximumTurnlessWaits = 63

    @inline(never)
    private func turnAfterManyWaits() {
        if let coroutine = state.pointee.scheduler.currentCoroutine {
            // Its waits never block, so it has to give way by itself.
            state.pointee.turnlessWaitsLeft = RuntimeCore.maximumTurnlessWaits
            state.pointee.scheduler.wake(coroutine.index)
            state.pointee.scheduler.suspendCurrent()
        } else if state.pointee.phase == .outside {
            _ = turn()
        }
    }
}
