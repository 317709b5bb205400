import DatapathMemory
import Glibc

/// The queues that `queue()` makes: unit queues in memory, between tasks of one runtime. An array goes in and comes out as it is, without a copy.
struct MemoryQueue {
    var descriptor = QueueDescriptor(rawValue: 0)
    /// Arrays that wait for a pop, chained through their first descriptors.
    var first: UnsafeMutablePointer<SegmentDescriptor>?
    var last: UnsafeMutablePointer<SegmentDescriptor>?
    var depth = 0
    var pops = OperationList()
    /// Pushes that wait for room; their arrays are still with the operations.
    var pushes = OperationList()
    var isSendShutDown = false
    var isReceiveShutDown = false
}

/// The library OS of in-memory queues: number 0 of every runtime.
struct MemoryQueues {
    let core: RuntimeCore
    let queues: UnsafeMutablePointer<MemoryQueue>
    let capacity: Int
    let depth: Int
    let maximumUnitSize: Int

    static func register(with core: RuntimeCore) throws(DemikernelError) {
        let capacity = Int(core.state.pointee.queueCapacity) + 1
        let queues = try mapSlab(MemoryQueue.self, capacity: capacity)
        let context = UnsafeMutablePointer<MemoryQueues>.allocate(capacity: 1)
        context.initialize(
            to: MemoryQueues(
                core: core, queues: queues, capacity: capacity, depth: core.limits.memoryQueueDepth, maximumUnitSize: core.limits.maximumUnitSize))
        _ = core.register(
            LibraryOS(
                name: "memory", context: context,
                socket: { context, _, _, queue in Int64(memoryQueues(context).open(QueueDescriptor(rawValue: queue))) },
                bind: { _, _, _ in EOPNOTSUPP },
                listen: { _, _, _ in EOPNOTSUPP },
                accept: { _, _, _ in EOPNOTSUPP },
                connect: { _, _, _ in EOPNOTSUPP },
                push: { context, state, operation in memoryQueues(context).push(Int(state), operation) },
                pushDiscarded: { context, state, array, address in
                    address != nil
                        ? EOPNOTSUPP
                        : memoryQueues(context).pushDiscarded(Int(state), array.assumingMemoryBound(to: SegmentDescriptor.self))
                },
                pop: { context, state, operation in memoryQueues(context).pop(Int(state), operation) },
                shutdown: { context, state, direction in
                    memoryQueues(context).shutdown(Int(state), ShutdownDirection(rawValue: direction).unsafelyUnwrapped)
                },
                close: { context, state, operation in memoryQueues(context).close(Int(state), operation) },
                cancel: { context, state, operation in memoryQueues(context).cancel(Int(state), operation) },
                address: { _, _, _, _ in EOPNOTSUPP },
                setOption: { _, _, _, _, _ in EOPNOTSUPP },
                option: { _, _, _, _ in EOPNOTSUPP },
                poll: nil, prepareToSleep: nil,
                destroy: { context in
                    memoryQueues(context).destroy()
                    context.assumingMemoryBound(to: MemoryQueues.self).deallocate()
                }))
    }

    /// The state index is the descriptor's slot.
    func open(_ descriptor: QueueDescriptor) -> Int {
        (queues + descriptor.slot).initialize(to: MemoryQueue())
        queues[descriptor.slot].descriptor = descriptor
        return descriptor.slot
    }

    func push(_ index: Int, _ operation: UInt32) -> Int32 {
        let queue = queues + index
        let slot = core.operation(operation)
        if slot.pointee.kind == .pushTo { return EOPNOTSUPP }
        let array = slot.pointee.array.unsafelyUnwrapped
        let error = check(queue, array)
        if error != 0 { return error }
        let byteCount = array.arrayByteCount
        if !queue.pointee.pops.isEmpty {
            deliver(queue, array)
            core.completePush(operation, byteCount: byteCount)
        } else if queue.pointee.depth < depth {
            enqueue(queue, array)
            core.completePush(operation, byteCount: byteCount)
        } else {
            core.append(operation, to: &queue.pointee.pushes)
        }
        return 0
    }

    func pushDiscarded(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> Int32 {
        let queue = queues + index
        let error = check(queue, array)
        if error != 0 { return error }
        if !queue.pointee.pops.isEmpty {
            deliver(queue, array)
        } else if queue.pointee.depth < depth {
            enqueue(queue, array)
        } else {
            return core.refuse(EAGAIN, "the queue is full: wait for a push, or raise Limits.memoryQueueDepth")
        }
        return 0
    }

    @inline(__always)
    private func check(_ queue: UnsafeMutablePointer<MemoryQueue>, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> Int32 {
        if queue.pointee.isSendShutDown || queue.pointee.isReceiveShutDown {
            return core.refuse(EPIPE, "the queue was shut down")
        }
        if array.arrayByteCount > maximumUnitSize {
            return core.refuse(EMSGSIZE, "a unit is larger than Limits.maximumUnitSize")
        }
        return 0
    }

    /// Gives a unit to the pops that wait: to one, or to several where their limits cut it.
    private func deliver(_ queue: UnsafeMutablePointer<MemoryQueue>, _ array: UnsafeMutablePointer<SegmentDescriptor>) {
        var array = array
        while true {
            let pop = core.removeFirst(from: &queue.pointee.pops)
            let rest = core.cut(array, for: pop)
            core.completePop(pop, array)
            guard let rest else { return }
            array = rest
            if queue.pointee.pops.isEmpty {
                enqueue(queue, array)
                return
            }
        }
    }

    private func enqueue(_ queue: UnsafeMutablePointer<MemoryQueue>, _ array: UnsafeMutablePointer<SegmentDescriptor>) {
        array.pointee.nextArray = nil
        if let last = queue.pointee.last { last.pointee.nextArray = array } else { queue.pointee.first = array }
        queue.pointee.last = array
        queue.pointee.depth &+= 1
    }

    func pop(_ index: Int, _ operation: UInt32) -> Int32 {
        let queue = queues + index
        if let array = queue.pointee.first {
            let rest = core.cut(array, for: operation)
            if let rest {
                rest.pointee.nextArray = array.pointee.nextArray
                queue.pointee.first = rest
                if array.pointee.nextArray == nil { queue.pointee.last = rest }
            } else {
                queue.pointee.first = array.pointee.nextArray
                if array.pointee.nextArray == nil { queue.pointee.last = nil }
                queue.pointee.depth &-= 1
            }
            core.completePop(operation, array)
            if rest != nil { return 0 }
            if !queue.pointee.pushes.isEmpty { admitPush(queue) }
        } else if queue.pointee.isSendShutDown || queue.pointee.isReceiveShutDown {
            core.completeEndOfStream(operation)
        } else {
            core.append(operation, to: &queue.pointee.pops)
        }
        return 0
    }

    /// A unit has left: the oldest waiting push takes its place.
    private func admitPush(_ queue: UnsafeMutablePointer<MemoryQueue>) {
        let operation = core.removeFirst(from: &queue.pointee.pushes)
        let array = core.operation(operation).pointee.array.unsafelyUnwrapped
        let byteCount = array.arrayByteCount
        enqueue(queue, array)
        core.completePush(operation, byteCount: byteCount)
    }

    func shutdown(_ index: Int, _ direction: ShutdownDirection) -> Int32 {
        let queue = queues + index
        if direction != .receive { queue.pointee.isSendShutDown = true }
        if direction != .send {
            queue.pointee.isReceiveShutDown = true
            dropUnits(queue)
            failPushes(queue, EPIPE)
        }
        // Units that wait are still popped; only then comes the end.
        while !queue.pointee.pops.isEmpty { core.completeEndOfStream(core.removeFirst(from: &queue.pointee.pops)) }
        return 0
    }

    func close(_ index: Int, _ operation: UInt32) {
        let queue = queues + index
        dropUnits(queue)
        core.failAll(&queue.pointee.pops, ECANCELED, "the queue was closed")
        // Nobody is left to pop: a push that still waits for room can never be taken.
        failPushes(queue, ECANCELED)
        core.finishClose(queue.pointee.descriptor, operation: operation)
    }

    func cancel(_ index: Int, _ operation: UInt32) {
        let queue = queues + index
        let slot = core.operation(operation)
        if slot.pointee.kind == .pop {
            core.remove(operation, from: &queue.pointee.pops)
        } else {
            core.remove(operation, from: &queue.pointee.pushes)
            slot.pointee.array?.releaseArray()
        }
        core.fail(operation, ECANCELED)
    }

    private func dropUnits(_ queue: UnsafeMutablePointer<MemoryQueue>) {
        while let array = queue.pointee.first {
            queue.pointee.first = array.pointee.nextArray
            array.releaseArray()
        }
        queue.pointee.last = nil
        queue.pointee.depth = 0
    }

    private func failPushes(_ queue: UnsafeMutablePointer<MemoryQueue>, _ errno: Int32) {
        while case let push = core.removeFirst(from: &queue.pointee.pushes), push != 0 {
            core.operation(push).pointee.array?.releaseArray()
            core.fail(push, errno, "the queue was closed or shut down")
        }
    }

    func destroy() {
        unmapSlab(queues, capacity: capacity)
    }
}

/// The context as what it is: `register` made it.
private func memoryQueues(_ context: UnsafeMutableRawPointer) -> MemoryQueues {
    context.assumingMemoryBound(to: MemoryQueues.self).pointee
}
