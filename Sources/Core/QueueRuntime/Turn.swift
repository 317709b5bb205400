import CDatapath
import DatapathMemory
import Glibc
import TaskScheduler

/// The run loop: one turn, and what happens between turns when nothing is ready.
extension RuntimeCore {
    /// One turn: application tasks, background tasks, due timers, then the fast path of every library OS.
    /// - Returns: how much was done; 0 means that nothing was ready.
    func turn() -> Int {
        precondition(state.pointee.phase == .outside, "the run loop must not be entered from inside a task")
        beginTurn()
        if needsAttention { attend() }
        let scheduler = state.pointee.scheduler
        var progress = scheduler.hasReadyTask ? scheduler.runReadyTasks() : 0
        if scheduler.timerCount > 0 { progress &+= scheduler.runTimers(now: state.pointee.now) }
        progress &+= pollAll()
        endTurn(progress)
        return progress
    }

    /// `turn` where there are neither tasks nor async jobs: what a wait for one operation mostly takes.
    @inline(__always)
    func takeLonelyTurn() {
        beginTurn()
        // With one library OS, the call is the last thing but one, and nearly nothing has to be kept over it.
        if state.pointee.pollerCount == 1, state.pointee.scheduler.timerCount == 0 {
            let poller = state.pointee.pollers
            endTurn(Int(poller.pointee.poll(poller.pointee.context)))
        } else {
            takeRestOfLonelyTurn()
        }
    }

    @inline(never)
    private func takeRestOfLonelyTurn() {
        var progress = state.pointee.scheduler.timerCount > 0 ? state.pointee.scheduler.runTimers(now: state.pointee.now) : 0
        progress &+= pollAll()
        endTurn(progress)
    }

    @inline(__always)
    private func beginTurn() {
        state.pointee.phase = .turning
        state.pointee.now = state.pointee.clock.now
    }

    /// The fast path of every library OS.
    @inline(__always)
    private func pollAll() -> Int {
        var progress = 0
        var poller = state.pointee.pollers
        let end = poller + state.pointee.pollerCount
        while poller != end {
            progress &+= Int(poller.pointee.poll(poller.pointee.context))
            poller += 1
        }
        return progress
    }

    @inline(__always)
    private func endTurn(_ progress: Int) {
        state.pointee.counters.turns &+= 1
        if progress > 0 { state.pointee.lastProgress = state.pointee.now }
        state.pointee.phase = .outside
    }

    /// Whether a turn has more to look at than tasks, timers and library OSes: what another thread has left, or async tasks.
    @inline(__always)
    var needsAttention: Bool { demi_load_relaxed_u32(state.pointee.interruptionFlag + 1) != 0 }

    @inline(never)
    private func attend() {
        if state.pointee.interruption.takeWakeUp() {
            state.pointee.jobExecutor?.drainInbox()
            for visit in state.pointee.interruption.takeVisits() { visit(self) }
        }
        if !state.pointee.memoryWaiters.isEmpty { resumeMemoryWaiters() }
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
                longest = napNanoseconds
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
        var isWoken = false
        var span = descriptors.mutableSpan
        span.withUnsafeMutableBufferPointer { buffer in
            if longest == .max {
                isWoken = demi_ppoll(buffer.baseAddress, UInt64(count), nil) != 0
            } else {
                var time = timespec(tv_sec: Int(longest / 1_000_000_000), tv_nsec: Int(longest % 1_000_000_000))
                isWoken = demi_ppoll(buffer.baseAddress, UInt64(count), &time) != 0
            }
        }
        if descriptors[0].revents != 0 { state.pointee.interruption.drain() }
        // Spin again after a wake-up: more often follows. What a timer or a nap's end brings is seen in the next turn.
        if isWoken { state.pointee.lastProgress = state.pointee.clock.now }
    }

    /// The nap where some device cannot wake the thread: an eighth of the time since something came last, so that what comes then is late by no more than
    /// that, and at least as long as a sleep of the kernel's takes anyway. With 2 ms at most an idle runtime uses some 1 % of its processor.
    private var napNanoseconds: UInt64 { min(max((state.pointee.now &- state.pointee.lastProgress) / 8, 50_000), 2_000_000) }

    /// A wait that found its result without a turn must not keep the devices from theirs for ever: every 64th one takes a turn, whatever turns others took.
    @inline(__always)
    func countTurnlessWait() {
        state.pointee.turnlessWaitsLeft &-= 1
        if state.pointee.turnlessWaitsLeft < 0 { turnAfterManyWaits() }
    }

    static let maximumTurnlessWaits = 63

    @inline(never)
    private func turnAfterManyWaits() {
        state.pointee.turnlessWaitsLeft = RuntimeCore.maximumTurnlessWaits
        if let coroutine = state.pointee.scheduler.currentCoroutine {
            // Its waits never block, so it has to give way by itself.
            state.pointee.scheduler.wake(coroutine.index)
            state.pointee.scheduler.suspendCurrent()
        } else if state.pointee.phase == .outside {
            _ = turn()
        }
    }
}
