import DatapathMemory
import Glibc

/// The state of the library OS of in-memory queues, at one address for its whole life.
struct MemoryQueuesState {
    let core: RuntimeCore
    let queues: UnsafeMutablePointer<MemoryQueue>
    let capacity: Int
    let depth: Int
    let maximumUnitSize: Int
}

/// The library OS of in-memory queues: number 0 of every runtime. A plain handle on its state.
struct MemoryQueues {
    private let state: UnsafePointer<MemoryQueuesState>

    @inline(__always)
    private init(_ context: UnsafeMutableRawPointer) {
        state = UnsafePointer(context.assumingMemoryBound(to: MemoryQueuesState.self))
    }

    @inline(__always)
    private var core: RuntimeCore { state.pointee.core }

    @inline(__always)
    private var queues: UnsafeMutablePointer<MemoryQueue> { state.pointee.queues }

    static func register(with core: RuntimeCore) {
        let context = UnsafeMutablePointer<MemoryQueuesState>.allocate(capacity: 1)
        context.initialize(
            to: MemoryQueuesState(
                core: core, queues: core.state.pointee.memoryQueues, capacity: Int(core.state.pointee.queueCapacity) + 1,
                depth: core.limits.memoryQueueDepth, maximumUnitSize: core.limits.maximumUnitSize))
        _ = core.register(
            LibraryOS(
                name: "memory", context: context,
                socket: { context, _, _, queue in Int64(MemoryQueues(context).open(QueueDescriptor(rawValue: queue))) },
                bind: { _, _, _ in EOPNOTSUPP },
                listen: { _, _, _ in EOPNOTSUPP },
                accept: { _, _, _ in EOPNOTSUPP },
                connect: { _, _, _ in EOPNOTSUPP },
                push: { context, state, operation in MemoryQueues(context).push(Int(state), operation) },
                pushDiscarded: { context, state, array, address in
                    address != nil
                        ? EOPNOTSUPP
                        : MemoryQueues(context).pushDiscarded(Int(state), array.assumingMemoryBound(to: SegmentDescriptor.self))
                },
                pop: { context, state, operation in MemoryQueues(context).pop(Int(state), operation) },
                shutdown: { context, state, direction in
                    MemoryQueues(context).shutdown(Int(state), ShutdownDirection(rawValue: direction).unsafelyUnwrapped)
                },
                close: { context, state, operation in MemoryQueues(context).close(Int(state), operation) },
                cancel: { context, state, operation in MemoryQueues(context).cancel(Int(state), operation) },
                address: { _, _, _, _ in EOPNOTSUPP },
                setOption: { _, _, _, _, _ in EOPNOTSUPP },
                option: { _, _, _, _ in EOPNOTSUPP },
                poll: nil, prepareToSleep: nil,
                destroy: { context in
                    MemoryQueues(context).destroy()
                    context.assumingMemoryBound(to: MemoryQueuesState.self).deallocate()
                }))
    }

    /// The state index is the descriptor's slot.
    func open(_ descriptor: QueueDescriptor) -> Int {
        (queues + descriptor.slot).initialize(
            to: MemoryQueue(descriptor: descriptor, depth: state.pointee.depth, maximumUnitSize: state.pointee.maximumUnitSize))
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
            queue.pointee.updateImmediateLimit(depth: state.pointee.depth)
            core.completePush(operation, byteCount: byteCount)
        } else if queue.pointee.count < state.pointee.depth {
            queue.pointee.append(array)
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
            queue.pointee.updateImmediateLimit(depth: state.pointee.depth)
        } else if queue.pointee.count < state.pointee.depth {
            queue.pointee.append(array)
        } else {
            return core.refuse(EAGAIN, "the queue is full: wait for a push, or raise Limits.memoryQueueDepth")
        }
        return 0
    }

    @inline(__always)
    private func check(_ queue: UnsafeMutablePointer<MemoryQueue>, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> Int32 {
        if !queue.pointee.takesPushes {
            return core.refuse(EPIPE, "the queue was shut down")
        }
        if array.arrayByteCount > state.pointee.maximumUnitSize {
            return core.refuse(EMSGSIZE, "a unit is larger than Limits.maximumUnitSize")
        }
        return 0
    }

    /// Gives a unit to the pops that wait: to one, or to several where their limits cut it.
    private func deliver(_ queue: UnsafeMutablePointer<MemoryQueue>, _ array: UnsafeMutablePointer<SegmentDescriptor>) {
        var array = array
        while true {
            let pop = core.removeFirst(from: &queue.pointee.pops)
            guard let rest = core.completePop(pop, cutting: array) else { return }
            array = rest
            if queue.pointee.pops.isEmpty {
                queue.pointee.append(array)
                return
            }
        }
    }

    func pop(_ index: Int, _ operation: UInt32) -> Int32 {
        let queue = queues + index
        if let array = queue.pointee.first {
            let next = array.pointee.nextArray
            if let rest = core.completePop(operation, cutting: array) {
                rest.pointee.nextArray = next
                queue.pointee.first = rest
                if next == nil { queue.pointee.last = rest }
                return 0
            }
            queue.pointee.first = next
            if next == nil { queue.pointee.last = nil }
            queue.pointee.count &-= 1
            if !queue.pointee.pushes.isEmpty { admitPush(queue) }
        } else if !queue.pointee.takesPushes {
            core.completeEndOfStream(operation)
        } else {
            core.append(operation, to: &queue.pointee.pops)
            queue.pointee.immediateLimit = 0
        }
        return 0
    }

    /// A unit has left: the oldest waiting push takes its place.
    private func admitPush(_ queue: UnsafeMutablePointer<MemoryQueue>) {
        let operation = core.removeFirst(from: &queue.pointee.pushes)
        let array = core.operation(operation).pointee.array.unsafelyUnwrapped
        let byteCount = array.arrayByteCount
        queue.pointee.append(array)
        core.completePush(operation, byteCount: byteCount)
    }

    func shutdown(_ index: Int, _ direction: ShutdownDirection) -> Int32 {
        let queue = queues + index
        queue.pointee.takesPushes = false
        queue.pointee.immediateLimit = 0
        if direction != .send {
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
            queue.pointee.updateImmediateLimit(depth: state.pointee.depth)
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
        queue.pointee.count = 0
    }

    private func failPushes(_ queue: UnsafeMutablePointer<MemoryQueue>, _ errno: Int32) {
        while case let push = core.removeFirst(from: &queue.pointee.pushes), push != 0 {
            core.operation(push).pointee.array?.releaseArray()
            core.fail(push, errno, "the queue was closed or shut down")
        }
    }

    func destroy() {
        unmapSlab(queues, capacity: state.pointee.capacity)
    }
}
