import CDatapath
import DatapathMemory
import Glibc
import TaskScheduler

/// How a runtime is made, opens and closes its queues, and ends.
extension RuntimeCore {
    static func make(_ configuration: RuntimeConfiguration) throws(DemikernelError) -> RuntimeCore {
        let limits = configuration.limits
        try limits.validate()
        let clock = configuration.clock ?? RuntimeClock.monotonic()
        let now = clock.now
        var seed = configuration.seed ?? 0
        if configuration.seed == nil {
            guard getrandom(&seed, 8, 0) == 8 else { throw DemikernelError(EIO, .initialize, "the kernel gave no random seed") }
        }
        var random = SeededRandom(seed: seed)
        // In the lower half, so that a slot lasts for at least 2^43 operations; never 0, which marks slots that were never used.
        let firstGeneration = random.next() & (1 << 43 - 1) | 1
        let interruption = try Interrupter()
        let heap = try DatapathHeap(configuration.memory)
        let operations = try mapSlab(Operation.self, capacity: 1 << 20)
        // Slot 0 is nobody's: a number that leads to another slot, so that no forged token matches it.
        operations.pointee.token = 1
        operations.pointee.openToken = 1
        let queues = try mapSlab(QueueSlot.self, capacity: 1 << QueueDescriptor.slotBits)
        queues.pointee.openDescriptor = -1
        let memoryQueues = try mapSlab(MemoryQueue.self, capacity: limits.maximumQueues + 1)
        // Two more: for what nobody claims, and for the thread.
        let waiterCapacity = limits.maximumWaiters + 2
        let waiters = try mapSlab(Waiter.self, capacity: waiterCapacity)
        waiters.initializeEmpty()
        (waiters + 1).initializeEmpty()
        let scheduler = TaskScheduler(
            maximumTasks: limits.maximumTasks, maximumTimers: limits.maximumTimers, coroutineStackByteCount: limits.coroutineStackByteCount, now: now)
        let state = UnsafeMutablePointer<CoreState>.allocate(capacity: 1)
        let noPops = UnsafeMutablePointer<WaitingPops>.allocate(capacity: 1)
        noPops.initialize(to: WaitingPops())
        state.initialize(
            to: CoreState(
                ownerThread: UInt(demi_thread_pointer()), operations: operations, operationCapacity: UInt32(limits.maximumOperations),
                queues: queues, queueCapacity: UInt32(limits.maximumQueues), noPops: noPops, waiters: waiters, heap: heap, scheduler: scheduler, clock: clock,
                now: now, lastProgress: now, libraries: .allocate(capacity: 16), pollers: .allocate(capacity: 16), memoryQueues: memoryQueues,
                idle: configuration.idle, limits: limits,
                interruption: interruption, interruptionFlag: interruption.flag, firstGeneration: firstGeneration, random: random, waiterCapacity: UInt32(waiterCapacity)))
        let core = RuntimeCore(state: state)
        MemoryQueues.register(with: core)
        return core
    }

    /// Drops every queue, releases every result that nobody redeemed, and unmaps the tables. The heap lives on until its last buffer is gone.
    func destroy() {
        checkThread()
        for index in (0..<state.pointee.libraryCount).reversed() {
            let library = state.pointee.libraries + index
            closeAll(of: index)
            library.pointee.destroy(library.pointee.context)
        }
        for index in 1..<state.pointee.carvedOperations {
            let operation = operation(index)
            if operation.pointee.isCompleted, operation.pointee.kind == .pop,
                operation.pointee.outcome == .succeeded || operation.pointee.outcome == .succeededFromAddress
            {
                operation.pointee.array?.releaseArray()
            }
        }
        state.pointee.interruption.endVisits()
        state.pointee.jobExecutor?.end()
        state.pointee.replyTimes?.deinitialize(count: 1)
        state.pointee.replyTimes?.deallocate()
        state.pointee.scheduler.deallocate()
        unmapSlab(state.pointee.operations, capacity: 1 << 20)
        state.pointee.noPops.deallocate()
        unmapSlab(state.pointee.queues, capacity: 1 << QueueDescriptor.slotBits)
        unmapSlab(state.pointee.waiters, capacity: Int(state.pointee.waiterCapacity))
        state.pointee.libraries.deallocate()
        state.pointee.pollers.deallocate()
        state.pointee.heap.close()
        state.deinitialize(count: 1)
        state.deallocate()
    }

    /// Closes the open queues of a library OS.
    func closeAll(of libraryOS: Int) {
        for slot in 1..<Int(state.pointee.carvedQueues)
        where state.pointee.queues[slot].phase == .open && Int(state.pointee.queues[slot].libraryOSIndex) == libraryOS {
            let queue = QueueDescriptor(slot: UInt32(slot), generation: UInt32(state.pointee.queues[slot].generation))
            close(state.pointee.queues + slot, queue, operation: 0)
        }
    }

    func register(_ libraryOS: LibraryOS) -> LibraryOSIdentifier? {
        let index = state.pointee.libraryCount
        guard index < 16 else { return nil }
        (state.pointee.libraries + index).initialize(to: libraryOS)
        if let poll = libraryOS.poll {
            (state.pointee.pollers + state.pointee.pollerCount).initialize(to: Poller(poll: poll, context: libraryOS.context))
            state.pointee.pollerCount += 1
        }
        state.pointee.libraryCount = index + 1
        return LibraryOSIdentifier(index: index)
    }

    /// Traps unless the caller is on the runtime's own thread.
    @inlinable
    @inline(__always)
    public func checkThread() {
        precondition(isOnOwnThread, "a runtime belongs to the thread that made it")
    }

    /// Whether the caller is on the runtime's own thread.
    @inlinable
    @inline(__always)
    public var isOnOwnThread: Bool { UInt(demi_thread_pointer()) == state.pointee.ownerThread }

    /// Traps where a blocking wait would stop the run loop itself.
    func checkMayBlock() {
        precondition(
            state.pointee.scheduler.isInCoroutine || state.pointee.phase == .outside,
            "a wait inside a task or an async job would stop the run loop: return and be woken, or await")
    }

    // MARK: Queues

    func open(
        _ libraryIndex: Int, _ operation: DemikernelError.Operation, _ family: AddressFamily, _ type: SocketType
    ) throws(DemikernelError) -> QueueDescriptor {
        guard libraryIndex < state.pointee.libraryCount else {
            throw DemikernelError(ENODEV, operation, "the runtime has no library OS for sockets: register one")
        }
        guard let queue = takeQueueSlot() else {
            throw DemikernelError(EMFILE, operation, "all queue descriptors are in use: close some or raise Limits.maximumQueues")
        }
        let library = state.pointee.libraries + libraryIndex
        let result = library.pointee.socket(library.pointee.context, family.rawValue, type.rawValue, queue.rawValue)
        guard result >= 0 else {
            freeQueueSlot(queue.slot)
            throw refusalError(Int32(-result), operation)
        }
        openQueueSlot(queue, libraryOS: libraryIndex, state: UInt32(result))
        return queue
    }

    func close(_ slot: UnsafeMutablePointer<QueueSlot>, _ queue: QueueDescriptor, operation: UInt32) {
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        retireDescriptor(queue)
        library.pointee.close(library.pointee.context, slot.pointee.state, operation)
    }

    func address(of queue: QueueDescriptor, isPeer: Bool) throws(DemikernelError) -> SocketAddress {
        checkThread()
        let slot = try lookUp(queue, .address)
        let library = slot.pointee.libraryOS.unsafelyUnwrapped
        var address = SocketAddress.any(port: 0)
        let error = library.pointee.address(library.pointee.context, slot.pointee.state, isPeer, &address)
        guard error == 0 else { throw refusalError(error, .address) }
        return address
    }

    // MARK: Submission

    /// A pending operation.
    /// - Throws: `ENOBUFS` at the limit.
    @inline(__always)
    func begin(
        _ kind: OperationKind, _ queue: QueueDescriptor, _ name: DemikernelError.Operation
    ) throws(DemikernelError) -> UInt32 {
        let operation = makeOperation(kind, queue)
        guard operation != 0 else { throw tooManyOperations(name) }
        return operation
    }

    @inline(never)
    func tooManyOperations(_ name: DemikernelError.Operation) -> DemikernelError {
        DemikernelError(ENOBUFS, name, "too many operations: redeem completed tokens or raise Limits.maximumOperations")
    }

    /// The token of a submitted operation; throws if the library OS refused it.
    @inline(__always)
    func submitted(_ operation: UInt32, _ error: Int32, _ name: DemikernelError.Operation) throws(DemikernelError) -> QueueToken {
        guard error == 0 else {
            releaseOperation(operation)
            throw refusalError(error, name)
        }
        return token(operation)
    }

    // MARK: State

    /// A snapshot of the runtime's counts, for library OSes and visits.
    public var statistics: RuntimeStatistics {
        var statistics = RuntimeStatistics()
        statistics.turns = state.pointee.counters.turns
        statistics.sleeps = state.pointee.counters.sleeps
        statistics.liveOperations = state.pointee.liveOperations
        statistics.openQueues = state.pointee.openQueues
        statistics.closingQueues = state.pointee.closingQueues
        statistics.queuesOpened = state.pointee.counters.queuesOpened
        statistics.retiredTokenSlots = state.pointee.counters.retiredTokenSlots
        statistics.tasks = state.pointee.scheduler.taskCount
        statistics.timers = state.pointee.scheduler.timerCount
        statistics.clockSource = state.pointee.clock.source
        statistics.memory = state.pointee.heap.statistics
        statistics.operationsCompleted = state.pointee.completions
        return statistics
    }

    // MARK: Another event loop

    func makeEventSource() throws(DemikernelError) -> Int32 {
        if let source = state.pointee.eventSource { return source.descriptor }
        guard let source = EventSource(interruption: state.pointee.interruption.descriptor) else {
            throw DemikernelError(EMFILE, .wait, "no descriptor is left for the event source: raise the limit with ulimit -n")
        }
        for index in 0..<state.pointee.libraryCount {
            let library = state.pointee.libraries + index
            guard let prepare = library.pointee.prepareToSleep else { continue }
            let descriptor = prepare(library.pointee.context)
            if descriptor == LibraryOS.cannotWake {
                throw DemikernelError(EOPNOTSUPP, .wait, "a device of this runtime cannot wake a sleeper: poll it instead")
            }
            if descriptor >= 0 { source.watchDevice(descriptor) }
        }
        state.pointee.eventSource = source
        settleEventSource()
        return source.descriptor
    }

    func settleEventSource() {
        guard let source = state.pointee.eventSource else { return }
        for index in 0..<state.pointee.libraryCount {
            let library = state.pointee.libraries + index
            guard let prepare = library.pointee.prepareToSleep else { continue }
            let descriptor = prepare(library.pointee.context)
            if descriptor >= 0 { source.watchDevice(descriptor) }
        }
        // A wake-up that came late may have left its descriptor readable with nothing behind it. Drained first: what is asked for after that shows again.
        state.pointee.interruption.drain()
        let isReady =
            state.pointee.scheduler.hasReadyTask || state.pointee.interruption.isRequested || state.pointee.interruption.isWakeUpPending
        source.settle(
            isReady: isReady, nextDeadline: state.pointee.scheduler.nextDeadline, now: state.pointee.clock.now)
    }
}
