import CDatapath
import DatapathMemory
import Glibc

/// A shard's queues to the others, by peer and lane.
public struct ShardLinks: Sendable {
    public let shard: Int
    public let shardCount: Int
    /// Lanes that have queues: those from 0 on.
    public let queueLaneCount: Int
    fileprivate var queues: [QueueDescriptor]

    /// The queue to `peer`, which is another shard: what is pushed to it, `peer` pops from its queue to this one.
    public func queue(to peer: Int, lane: Int = 0) -> QueueDescriptor {
        precondition((0..<shardCount).contains(peer) && peer != shard && (0..<queueLaneCount).contains(lane), "no such link of this shard")
        return queues[peer * queueLaneCount + lane]
    }
}

extension Runtime {
    /// Joins the shards of a program: opens a unit queue to every other shard in each lane.
    ///
    /// A push completes when the ring has taken the unit, and stays pending while it is full. A unit is at most `Limits.maximumUnitSize` bytes, and is
    /// popped as one segment in memory of the popping shard's own heap. When the other shard has closed its queue or has ended, what it pushed is still
    /// popped, then comes the end of the stream; a push fails with `EPIPE`. A message wakes a shard that sleeps.
    /// - Parameter queueLaneCount: lanes that get queues, from lane 0 on; nil for all. The others are for `ShardBroadcast`.
    /// - Throws: `EALREADY` when somebody has joined as this shard, `ENOSPC` for a runtime with 15 library OSes, `EMFILE` at `Limits.maximumQueues`.
    public func join(_ mesh: ShardMesh, as shard: Int, queueLaneCount: Int? = nil) throws(DemikernelError) -> ShardLinks {
        core.checkThread()
        let queueLaneCount = queueLaneCount ?? mesh.laneCount
        precondition((0..<mesh.shardCount).contains(shard), "no such shard in the mesh")
        precondition((0...mesh.laneCount).contains(queueLaneCount), "the mesh has fewer lanes")
        guard mesh.takePlace(shard) else { throw DemikernelError(EALREADY, .initialize, "another runtime has joined the mesh as this shard") }
        let queues = ShardQueues(mesh, shard, core)
        let identifier: LibraryOSIdentifier
        do throws(DemikernelError) {
            identifier = try register(queues.libraryOS)
        } catch {
            queues.destroy()
            throw error
        }
        var links = ShardLinks(shard: shard, shardCount: mesh.shardCount, queueLaneCount: queueLaneCount, queues: [])
        for peer in 0..<mesh.shardCount {
            for lane in 0..<queueLaneCount {
                guard peer != shard else {
                    links.queues.append(QueueDescriptor(rawValue: 0))
                    continue
                }
                queues.state.pointee.opening = peer * mesh.laneCount + lane
                defer { queues.state.pointee.opening = -1 }
                links.queues.append(try core.open(identifier.index, .queue, .ipv4, .datagram))
            }
        }
        return links
    }
}

/// One end of the two rings between two shards.
private struct ShardLink {
    var queue = QueueDescriptor(rawValue: 0)
    var sender: ShardSender
    var receiver: ShardReceiver
    let peer: Int
    var pops = OperationList()
    var pushes = OperationList()
    var isOpen = false
    /// What a pop with a limit has left of a message.
    var rest: UnsafeMutablePointer<SegmentDescriptor>?
    /// The heap had no block for a message.
    var isStarved = false
}

private struct ShardQueuesState {
    let core: RuntimeCore
    /// Keeps the rings for as long as this end uses them.
    let mesh: ShardMesh
    let shard: Int
    let links: UnsafeMutablePointer<ShardLink>
    let linkCount: Int
    /// The link whose queue is being opened.
    var opening = -1
    var isArmed = false
}

/// The library OS of a shard's queues to others. A plain handle on its state.
private struct ShardQueues {
    let state: UnsafeMutablePointer<ShardQueuesState>

    init(_ mesh: ShardMesh, _ shard: Int, _ core: RuntimeCore) {
        let count = mesh.shardCount * mesh.laneCount
        state = .allocate(capacity: 1)
        state.initialize(to: ShardQueuesState(core: core, mesh: mesh, shard: shard, links: .allocate(capacity: count), linkCount: count))
        for index in 0..<count {
            let peer = index / mesh.laneCount
            let lane = index % mesh.laneCount
            (state.pointee.links + index).initialize(
                to: ShardLink(
                    sender: ShardSender(mesh.ring(from: shard, to: peer, lane: lane)),
                    receiver: ShardReceiver(mesh.ring(from: peer, to: shard, lane: lane)),
                    peer: peer))
        }
    }

    @inline(__always)
    private init(_ context: UnsafeMutableRawPointer) {
        state = context.assumingMemoryBound(to: ShardQueuesState.self)
    }

    @inline(__always)
    private var core: RuntimeCore { state.pointee.core }

    @inline(__always)
    private func link(_ index: Int) -> UnsafeMutablePointer<ShardLink> { state.pointee.links + index }

    var libraryOS: LibraryOS {
        LibraryOS(
            name: "shards", context: state,
            socket: { context, _, _, queue in ShardQueues(context).open(QueueDescriptor(rawValue: queue)) },
            bind: { _, _, _ in EOPNOTSUPP },
            listen: { _, _, _ in EOPNOTSUPP },
            accept: { _, _, _ in EOPNOTSUPP },
            connect: { _, _, _ in EOPNOTSUPP },
            push: { context, index, operation in ShardQueues(context).push(Int(index), operation) },
            pushDiscarded: { context, index, array, address in
                address != nil ? EOPNOTSUPP : ShardQueues(context).pushDiscarded(Int(index), array.assumingMemoryBound(to: SegmentDescriptor.self))
            },
            pop: { context, index, operation in ShardQueues(context).pop(Int(index), operation) },
            shutdown: { _, _, _ in EOPNOTSUPP },
            close: { context, index, operation in ShardQueues(context).close(Int(index), operation) },
            cancel: { context, index, operation in ShardQueues(context).cancel(Int(index), operation) },
            address: { _, _, _, _ in EOPNOTSUPP },
            setOption: { _, _, _, _, _ in EOPNOTSUPP },
            option: { _, _, _, _ in EOPNOTSUPP },
            poll: { context in ShardQueues(context).poll() },
            prepareToSleep: { context in ShardQueues(context).prepareToSleep() },
            destroy: { context in ShardQueues(context).destroy() })
    }

    private func open(_ queue: QueueDescriptor) -> Int64 {
        let index = state.pointee.opening
        guard index >= 0 else { return -Int64(core.refuse(EOPNOTSUPP, "the queues between shards are opened by Runtime.join")) }
        link(index).pointee.queue = queue
        link(index).pointee.isOpen = true
        return Int64(index)
    }

    // MARK: Push

    private func push(_ index: Int, _ operation: UInt32) -> Int32 {
        let slot = core.operation(operation)
        if slot.pointee.kind == .pushTo { return EOPNOTSUPP }
        let array = slot.pointee.array.unsafelyUnwrapped
        let error = check(index, array)
        if error != 0 { return error }
        let link = link(index)
        if link.pointee.pushes.isEmpty, link.pointee.sender.hasRoom() {
            let byteCount = array.arrayByteCount
            link.pointee.sender.send(array)
            state.pointee.mesh.wake(link.pointee.peer)
            core.completePush(operation, byteCount: byteCount)
        } else {
            core.append(operation, to: &link.pointee.pushes)
            link.pointee.sender.ring.awaitRoom()
        }
        return 0
    }

    private func pushDiscarded(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> Int32 {
        let error = check(index, array)
        if error != 0 { return error }
        let link = link(index)
        guard link.pointee.pushes.isEmpty, link.pointee.sender.hasRoom() else {
            return core.refuse(EAGAIN, "the ring to the other shard is full: wait for a push")
        }
        link.pointee.sender.send(array)
        state.pointee.mesh.wake(link.pointee.peer)
        return 0
    }

    private func check(_ index: Int, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> Int32 {
        if link(index).pointee.sender.ring.isConsumerGone { return core.refuse(EPIPE, "the other shard has ended") }
        if array.arrayByteCount > core.limits.maximumUnitSize { return core.refuse(EMSGSIZE, "a unit is larger than Limits.maximumUnitSize") }
        return 0
    }

    /// Sends what waits, as far as there is room.
    private func flush(_ link: UnsafeMutablePointer<ShardLink>) -> Int {
        if link.pointee.sender.ring.isConsumerGone { return failPushes(link, EPIPE, "the other shard has ended") }
        var count = 0
        while !link.pointee.pushes.isEmpty {
            guard link.pointee.sender.hasRoom() else {
                link.pointee.sender.ring.awaitRoom()
                // The consumer may have made room before it could see the wish.
                demi_fence()
                if link.pointee.sender.hasRoom() { continue }
                break
            }
            let operation = core.removeFirst(from: &link.pointee.pushes)
            let array = core.operation(operation).pointee.array.unsafelyUnwrapped
            let byteCount = array.arrayByteCount
            link.pointee.sender.send(array)
            core.completePush(operation, byteCount: byteCount)
            count += 1
        }
        if count > 0 { state.pointee.mesh.wake(link.pointee.peer) }
        return count
    }

    private func failPushes(_ link: UnsafeMutablePointer<ShardLink>, _ errno: Int32, _ message: StaticString) -> Int {
        var count = 0
        while case let push = core.removeFirst(from: &link.pointee.pushes), push != 0 {
            core.operation(push).pointee.array?.releaseArray()
            core.fail(push, errno, message)
            count += 1
        }
        return count
    }

    // MARK: Pop

    private func pop(_ index: Int, _ operation: UInt32) -> Int32 {
        core.append(operation, to: &link(index).pointee.pops)
        _ = servePops(link(index))
        return 0
    }

    private func servePops(_ link: UnsafeMutablePointer<ShardLink>) -> Int {
        var count = 0
        var lentCount = 0
        link.pointee.isStarved = false
        serving: while !link.pointee.pops.isEmpty {
            if let rest = link.pointee.rest {
                link.pointee.rest = core.completePop(core.removeFirst(from: &link.pointee.pops), cutting: rest)
                count += 1
                continue
            }
            switch link.pointee.receiver.receive(core.heap) {
            case .message(let array, let wasLent):
                if wasLent { lentCount += 1 }
                link.pointee.rest = core.completePop(core.removeFirst(from: &link.pointee.pops), cutting: array)
                count += 1
            case .empty:
                // Asked in this order: what was pushed before the end is popped before it.
                guard link.pointee.receiver.ring.isProducerGone, !link.pointee.receiver.hasMessage() else { break serving }
                core.completeEndOfStream(core.removeFirst(from: &link.pointee.pops))
                count += 1
            case .outOfMemory:
                link.pointee.isStarved = true
                break serving
            }
        }
        if count > 0 {
            demi_fence()
            if link.pointee.receiver.ring.takeAwaitsRoom() || lentCount > 0 { state.pointee.mesh.wake(link.pointee.peer) }
        }
        return count
    }

    // MARK: One turn

    private func poll() -> Int32 {
        var progress = 0
        for index in 0..<state.pointee.linkCount {
            let link = link(index)
            if link.pointee.sender.lentCount > 0 { link.pointee.sender.takeReturns() }
            guard link.pointee.isOpen else { continue }
            if !link.pointee.pushes.isEmpty { progress += flush(link) }
            if !link.pointee.pops.isEmpty { progress += servePops(link) }
        }
        if progress > 0, state.pointee.isArmed {
            state.pointee.isArmed = false
            state.pointee.mesh.disarmWakeUp(state.pointee.shard)
        }
        return Int32(truncatingIfNeeded: progress)
    }

    private func prepareToSleep() -> Int32 {
        let mesh = state.pointee.mesh
        mesh.armWakeUp(state.pointee.shard)
        state.pointee.isArmed = true
        for index in 0..<state.pointee.linkCount {
            let link = link(index)
            // What waits for memory has no wake-up.
            if link.pointee.isStarved, !link.pointee.pops.isEmpty { return LibraryOS.cannotWake }
            let hasWork =
                link.pointee.sender.hasReturns || (!link.pointee.isOpen && link.pointee.receiver.ring.tail != link.pointee.receiver.ring.head)
                || (!link.pointee.pops.isEmpty && (link.pointee.receiver.hasMessage() || link.pointee.receiver.ring.isProducerGone))
                || (!link.pointee.pushes.isEmpty && (link.pointee.sender.hasRoom() || link.pointee.sender.ring.isConsumerGone))
            if hasWork {
                mesh.makeReadable(state.pointee.shard)
                break
            }
        }
        return mesh.descriptor(of: state.pointee.shard)
    }

    // MARK: End

    private func cancel(_ index: Int, _ operation: UInt32) {
        let slot = core.operation(operation)
        if slot.pointee.kind == .pop {
            core.remove(operation, from: &link(index).pointee.pops)
        } else {
            core.remove(operation, from: &link(index).pointee.pushes)
            slot.pointee.array?.releaseArray()
        }
        core.fail(operation, ECANCELED)
    }

    /// Units that the ring has taken are still popped by the other shard.
    private func close(_ index: Int, _ operation: UInt32) {
        let link = link(index)
        link.pointee.isOpen = false
        core.failAll(&link.pointee.pops, ECANCELED, "the queue was closed")
        _ = failPushes(link, ECANCELED, "the queue was closed")
        link.pointee.rest?.releaseArray()
        link.pointee.rest = nil
        link.pointee.sender.takeReturns()
        link.pointee.sender.ring.endProducer()
        link.pointee.receiver.ring.endConsumer()
        state.pointee.mesh.wake(link.pointee.peer)
        core.finishClose(link.pointee.queue, operation: operation)
    }

    func destroy() {
        // A lane without queues is another one's, who knows what it has lent.
        for index in 0..<state.pointee.linkCount where link(index).pointee.queue.rawValue != 0 { link(index).pointee.sender.takeReturns() }
        state.pointee.mesh.end(state.pointee.shard)
        state.pointee.links.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }
}
