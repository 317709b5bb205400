import DatapathMemory
import Glibc

/// The descriptors of a runtime.
extension RuntimeCore {
    /// The slot of an open descriptor.
    @inline(__always)
    func lookUp(_ queue: QueueDescriptor, _ operation: DemikernelError.Operation) throws(DemikernelError) -> UnsafeMutablePointer<QueueSlot> {
        // The table has a slot for every slot number; slot 0 is never open, and says so to descriptor 0.
        let slot = state.pointee.queues + queue.slot
        guard slot.pointee.openDescriptor == queue.rawValue else { throw badDescriptor(operation) }
        return slot
    }

    @inline(never)
    private func badDescriptor(_ operation: DemikernelError.Operation) -> DemikernelError {
        DemikernelError(EBADF, operation, "no open queue has this descriptor")
    }

    /// Takes a free slot; nil at the limit. The caller opens it.
    func takeQueueSlot() -> QueueDescriptor? {
        let index: UInt32
        if state.pointee.firstFreeQueue != 0 {
            index = state.pointee.firstFreeQueue
            state.pointee.firstFreeQueue = state.pointee.queues[Int(index)].nextFree
            if state.pointee.firstFreeQueue == 0 { state.pointee.lastFreeQueue = 0 }
        } else {
            index = state.pointee.carvedQueues
            guard index <= state.pointee.queueCapacity else { return nil }
            state.pointee.carvedQueues = index + 1
            (state.pointee.queues + Int(index)).initialize(to: QueueSlot(waitingPops: state.pointee.noPops))
        }
        return QueueDescriptor(slot: index, generation: UInt32(state.pointee.queues[Int(index)].generation))
    }

    func openQueueSlot(_ queue: QueueDescriptor, libraryOS index: Int, state libraryState: UInt32) {
        let slot = state.pointee.queues + queue.slot
        slot.pointee.libraryOS = state.pointee.libraries + index
        slot.pointee.libraryOSIndex = UInt8(index)
        slot.pointee.state = libraryState
        slot.pointee.memoryQueue = index == 0 ? state.pointee.memoryQueues + queue.slot : nil
        slot.pointee.phase = .open
        slot.pointee.openDescriptor = queue.rawValue
        state.pointee.openQueues += 1
        state.pointee.counters.queuesOpened += 1
    }

    /// The descriptor's name ends; its slot stays taken until `freeQueueSlot`.
    func retireDescriptor(_ queue: QueueDescriptor) {
        let slot = state.pointee.queues + queue.slot
        slot.pointee.phase = .closing
        slot.pointee.openDescriptor = 0
        slot.pointee.generation = slot.pointee.generation == UInt16(QueueDescriptor.maximumGeneration) ? 1 : slot.pointee.generation + 1
        state.pointee.openQueues -= 1
        state.pointee.closingQueues += 1
    }

    func freeQueueSlot(_ index: Int) {
        let slot = state.pointee.queues + index
        slot.pointee.phase = .free
        slot.pointee.waitingPops = state.pointee.noPops
        slot.pointee.nextFree = 0
        if state.pointee.lastFreeQueue != 0 {
            state.pointee.queues[Int(state.pointee.lastFreeQueue)].nextFree = UInt32(index)
        } else {
            state.pointee.firstFreeQueue = UInt32(index)
        }
        state.pointee.lastFreeQueue = UInt32(index)
    }

    /// For a library OS: whether a connection can be given a descriptor.
    public var canAdopt: Bool {
        state.pointee.firstFreeQueue != 0 || state.pointee.carvedQueues <= state.pointee.queueCapacity
    }

    /// For a library OS: gives an accepted connection a descriptor beside its listener's; nil at `maximumQueues`.
    /// - Parameter libraryState: the connection's state index; nil: the descriptor's slot.
    public func adopt(_ libraryState: UInt32? = nil, beside listener: QueueDescriptor) -> QueueDescriptor? {
        guard let queue = takeQueueSlot() else { return nil }
        let index = Int(state.pointee.queues[listener.slot].libraryOSIndex)
        openQueueSlot(queue, libraryOS: index, state: libraryState ?? UInt32(queue.slot))
        return queue
    }

    /// For a library OS: the closed queue is gone. Its slot is free again, and the operation of `closeToken`, if there is one, completes.
    public func finishClose(_ queue: QueueDescriptor, operation: UInt32) {
        precondition(state.pointee.queues[queue.slot].phase == .closing, "finishClose on a queue that was not closed")
        state.pointee.closingQueues -= 1
        freeQueueSlot(queue.slot)
        if operation != 0 { complete(operation) }
    }
}
