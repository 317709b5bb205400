import CDatapath
import DatapathMemory
import Glibc
import QueueRuntime
import SharedMemory
import TaskScheduler

/// The client's side of making connections, and the ends of all of them.
extension SharedMemoryQueuesHandle {
    // MARK: Connect

    func connect(_ index: Int, _ operation: UInt32) -> Int32 {
        let queue = queue(index)
        let address = core.operation(operation).pointee.address
        guard address.family == queue.pointee.family, address.path?.isEmpty != true else {
            return core.refuse(EAFNOSUPPORT, SharedMemoryQueuesHandle.otherFamily)
        }
        switch queue.pointee.phase {
        case .connecting: return core.refuse(EALREADY, "a connect is under way")
        case .connected: return core.refuse(EISCONN, "the queue is connected")
        case .bound, .listening: return core.refuse(EINVAL, "a queue that is bound can only listen")
        case .free, .open, .flushing, .awaitingPeer: break
        }
        queue.pointee.phase = .connecting
        queue.pointee.connectOperation = operation
        queue.pointee.address = address
        do throws(DemikernelError) {
            queue.pointee.file = try PathSocket.make()
            guard armTimer(index, after: core.limits.handshakeTimeout) else {
                throw DemikernelError(EAGAIN, .connect, "all timers are armed: raise Limits.maximumTimers")
            }
            try callServer(index)
        } catch {
            failConnect(index, error.errno, error.message)
        }
        return 0
    }

    /// Connects to the address's socket and sends the first message, with the memory of both rings.
    private func callServer(_ index: Int) throws(DemikernelError) {
        let queue = queue(index)
        do throws(DemikernelError) {
            try call(queue.pointee.address, queue.pointee.file)
        } catch {
            guard error.errno == EAGAIN else { throw error }
            // No event tells when there is room: it is tried again in each of the turns that an open handshake brings.
            return try callAgainLater(index)
        }
        let ringByteCount = core.limits.sharedRingByteCount
        let memory = try SealedMemory(name: "demikernel-catmem", byteCount: RingLayout.totalByteCount(ringByteCount: ringByteCount))
        defer { memory.close() }
        let maximumUnitSize = min(core.limits.maximumUnitSize, RingLayout.largestUnit(ringByteCount: ringByteCount))
        queue.pointee.rings = try SharedConnection(memory, ringByteCount: ringByteCount, maximumUnitSize: maximumUnitSize, isClient: true)
        let hello = Hello(ringByteCount: ringByteCount, maximumUnitSize: maximumUnitSize)
        let error = withUnsafeBytes(of: hello) { DescriptorMessage.send($0, [memory.file], on: queue.pointee.file) }
        guard error == 0 else { throw DemikernelError(error, .connect, Handshake.message(error)) }
        guard watch(queue.pointee.file, queue: index) else {
            throw DemikernelError(errno, .connect, "the kernel cannot watch another socket: raise fs.epoll.max_user_watches")
        }
        state.pointee.connectCount += 1
        queue.pointee.isWatched = true
    }

    private static let retryInterval: UInt64 = 1_000_000

    private func callAgainLater(_ index: Int) throws(DemikernelError) {
        let queue = queue(index)
        let deadline = core.scheduler.deadline(after: SharedMemoryQueuesHandle.retryInterval, from: core.currentTime)
        let armed = core.scheduler.armTimer(
            deadline: deadline, { context, argument in SharedMemoryQueuesHandle(context).callAgain(argument) }, context: state,
            argument: UInt64(index) | UInt64(queue.pointee.epoch) << 32)
        guard let armed else { throw DemikernelError(EAGAIN, .connect, "all timers are armed: raise Limits.maximumTimers") }
        queue.pointee.retryTimer = armed
    }

    private func callAgain(_ argument: UInt64) {
        let index = Int(argument & 0xffff_ffff)
        let queue = queue(index)
        guard queue.pointee.epoch == UInt32(argument >> 32), queue.pointee.phase == .connecting, !queue.pointee.isWatched else { return }
        do throws(DemikernelError) {
            try callServer(index)
        } catch {
            failConnect(index, error.errno, error.message)
        }
    }

    /// The server has answered, or ended.
    func readAnswer(_ index: Int) {
        let queue = queue(index)
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { buffer in
            switch DescriptorMessage.receive(into: buffer, on: queue.pointee.file) {
            case .none: return
            case .end: failConnect(index, ECONNRESET, Handshake.message(ECONNRESET))
            case .failed(let error): failConnect(index, error, Handshake.message(error))
            case .message(let byteCount, let descriptors):
                let ringByteCount = core.limits.sharedRingByteCount
                let answer = Handshake.read(UnsafeRawBufferPointer(rebasing: buffer[..<byteCount]), descriptors, ringByteCount: ringByteCount)
                guard answer.errno == 0 else { return failConnect(index, answer.errno, Handshake.message(answer.errno)) }
                finishConnect(index, answer.maximumUnitSize)
            }
        }
    }

    private func finishConnect(_ index: Int, _ maximumUnitSize: Int) {
        let queue = queue(index)
        // No more than this side has asked for.
        queue.pointee.rings!.limitUnits(to: min(maximumUnitSize, queue.pointee.rings!.maximumUnitSize))
        state.pointee.connectCount -= 1
        cancelTimers(queue)
        queue.pointee.phase = .connected
        queue.pointee.takesPushes = true
        queue.pointee.isReceiving = true
        state.pointee.statistics.connectionsMade += 1
        let operation = queue.pointee.connectOperation
        queue.pointee.connectOperation = 0
        core.completeConnect(operation)
    }

    private func failConnect(_ index: Int, _ error: Int32, _ message: StaticString) {
        let operation = queue(index).pointee.connectOperation
        queue(index).pointee.connectOperation = 0
        dissolveConnect(index)
        core.fail(operation, error, message)
    }

    /// Ends a connect that failed or was cancelled; the queue can connect again.
    func dissolveConnect(_ index: Int) {
        let queue = queue(index)
        if queue.pointee.isWatched { state.pointee.connectCount -= 1 }
        letGo(queue)
        queue.pointee.address = .unnamed(queue.pointee.family)
        queue.pointee.phase = .open
    }

    // MARK: Shutdown and close

    func shutdown(_ index: Int, _ direction: ShutdownDirection) -> Int32 {
        let queue = queue(index)
        guard queue.pointee.phase == .connected else { return core.refuse(ENOTCONN, "the queue is not connected") }
        if direction != .receive, !queue.pointee.isSendShutDown {
            queue.pointee.isSendShutDown = true
            queue.pointee.takesPushes = false
            if queue.pointee.firstToSend == nil { sendEnd(index) }
        }
        if direction != .send {
            queue.pointee.hasReceivedEnd = true
            queue.pointee.isReceiving = false
            queue.pointee.rings!.consumer.close()
            // A push of the peer's that waits for room waits for nothing.
            wakePeer(index)
            releaseRest(queue)
            endPops(index)
        }
        return 0
    }

    /// Nothing waits to be put into the ring any more: what was put off until then follows.
    func sentEverything(_ index: Int) {
        let queue = queue(index)
        if queue.pointee.phase == .flushing {
            endSending(index)
        } else if queue.pointee.isSendShutDown {
            sendEnd(index)
        }
    }

    private func sendEnd(_ index: Int) {
        let queue = queue(index)
        queue.pointee.rings!.producer.end()
        if queue.pointee.rings!.producer.takeSleep() { wakePeer(index) }
    }

    func close(_ index: Int, _ operation: UInt32) {
        let queue = queue(index)
        queue.pointee.closeOperation = operation
        core.failAll(&queue.pointee.pops, ECANCELED, "the queue was closed")
        core.failAll(&queue.pointee.accepts, ECANCELED, "the queue was closed")
        if queue.pointee.connectOperation != 0 {
            let connect = queue.pointee.connectOperation
            queue.pointee.connectOperation = 0
            dissolveConnect(index)
            core.fail(connect, ECANCELED, "the queue was closed")
        }
        releaseRest(queue)
        guard queue.pointee.phase == .connected, queue.pointee.failure == 0 else { return gone(index) }
        if queue.pointee.lingersZero {
            dropSends(index, ECANCELED)
            return gone(index)
        }
        queue.pointee.rings!.consumer.close()
        if queue.pointee.firstToSend == nil { return endSending(index) }
        queue.pointee.phase = .flushing
        armCloseTimer(index)
    }

    /// Everything that was pushed is in the ring: the end follows.
    private func endSending(_ index: Int) {
        let queue = queue(index)
        let mayEnd = !queue.pointee.hasPeerEnded && (queue.pointee.takesPushes || queue.pointee.isSendShutDown)
        guard mayEnd else { return gone(index) }
        sendEnd(index)
        // The ring is the peer's as well: it reads to the end, whatever becomes of this side's mapping.
        if queue.pointee.closeOperation == 0 { return gone(index) }
        queue.pointee.phase = .awaitingPeer
        _ = Glibc.shutdown(queue.pointee.file, Int32(SHUT_WR))
        armCloseTimer(index)
    }

    private func armCloseTimer(_ index: Int) {
        guard queue(index).pointee.timer == .none else { return }
        if armTimer(index, after: core.limits.closeLinger) { return }
        // All of `Limits.maximumTimers` are armed: a close that cannot be bounded ends now.
        dropSends(index, ETIMEDOUT)
        gone(index)
    }

    private func armTimer(_ index: Int, after delay: UInt64) -> Bool {
        let queue = queue(index)
        let armed = core.scheduler.armTimer(
            deadline: core.scheduler.deadline(after: delay, from: core.currentTime),
            { context, argument in SharedMemoryQueuesHandle(context).timeOut(argument) }, context: state,
            argument: UInt64(index) | UInt64(queue.pointee.epoch) << 32)
        guard let armed else { return false }
        queue.pointee.timer = armed
        return true
    }

    /// A connect or a close has lasted for as long as it may.
    private func timeOut(_ argument: UInt64) {
        let index = Int(argument & 0xffff_ffff)
        let queue = queue(index)
        guard queue.pointee.epoch == UInt32(argument >> 32) else { return }
        queue.pointee.timer = .none
        switch queue.pointee.phase {
        case .connecting: failConnect(index, ETIMEDOUT, Handshake.message(ETIMEDOUT))
        case .flushing, .awaitingPeer:
            dropSends(index, ETIMEDOUT)
            gone(index)
        case .free, .open, .bound, .listening, .connected: break
        }
    }

    /// The peer's end of the socket is closed: what stands in the ring is all that will ever come.
    func peerEnded(_ index: Int) {
        let queue = queue(index)
        guard !queue.pointee.hasPeerEnded else { return }
        queue.pointee.hasPeerEnded = true
        queue.pointee.takesPushes = false
        closeSocket(queue)
        if queue.pointee.phase == .connected {
            dropSends(index, ECONNRESET)
            _ = receive(index)
        } else {
            dropSends(index, ECONNRESET)
            gone(index)
        }
    }

    /// The connection cannot go on: pushes and pops tell why, once and for all.
    func fail(_ index: Int, _ error: Int32) {
        let queue = queue(index)
        queue.pointee.failure = error
        queue.pointee.takesPushes = false
        queue.pointee.isReceiving = false
        closeSocket(queue)
        dropSends(index, error)
        if queue.pointee.phase == .connected { endPops(index) } else { gone(index) }
    }

    private func releaseRest(_ queue: UnsafeMutablePointer<SharedQueue>) {
        if let rest = queue.pointee.rest {
            queue.pointee.rest = nil
            rest.releaseArray()
        }
    }

    /// The queue is gone: gives back what it has, and tells the runtime.
    func gone(_ index: Int) {
        let queue = queue(index)
        let descriptor = queue.pointee.queue
        let operation = queue.pointee.closeOperation
        release(index)
        core.finishClose(descriptor, operation: operation)
    }

    /// Gives back all that a queue has.
    func release(_ index: Int) {
        let queue = queue(index)
        unwatchRings(index)
        if let listener = queue.pointee.listener {
            queue.pointee.listener = nil
            closeListener(listener)
        }
        releaseRest(queue)
        letGo(queue)
        queue.pointee.phase = .free
        // What an event or a timer still names is another one's from here on.
        queue.pointee.epoch &+= 1
    }

    /// Gives back a connection's timers, socket and mapping.
    private func letGo(_ queue: UnsafeMutablePointer<SharedQueue>) {
        cancelTimers(queue)
        closeSocket(queue)
        if let rings = queue.pointee.rings {
            queue.pointee.rings = nil
            rings.unmap()
        }
    }

    private func closeSocket(_ queue: UnsafeMutablePointer<SharedQueue>) {
        guard queue.pointee.file >= 0 else { return }
        if queue.pointee.isWatched { unwatch(queue.pointee.file) }
        queue.pointee.isWatched = false
        Glibc.close(queue.pointee.file)
        queue.pointee.file = -1
    }

    private func cancelTimers(_ queue: UnsafeMutablePointer<SharedQueue>) {
        core.scheduler.cancelTimer(queue.pointee.timer)
        core.scheduler.cancelTimer(queue.pointee.retryTimer)
        queue.pointee.timer = .none
        queue.pointee.retryTimer = .none
    }

    // MARK: Addresses and options

    func address(_ index: Int, isPeer: Bool, _ address: UnsafeMutablePointer<SocketAddress>) -> Int32 {
        let queue = queue(index)
        let isConnected = queue.pointee.rings != nil && queue.pointee.phase == .connected
        if isPeer, !isConnected { return core.refuse(ENOTCONN, "the queue is not connected") }
        if isPeer != queue.pointee.isServer {
            address.pointee = isPeer ? queue.pointee.address.orLoopback : queue.pointee.address
        } else {
            address.pointee = isConnected ? .unnamedEnd(queue.pointee.family) : .unnamed(queue.pointee.family)
        }
        return 0
    }

    func setOption(_ index: Int, _ name: SocketOption.Name, _ value: Int64, _ second: Int64) -> Int32 {
        switch name {
        case .linger:
            guard value >= -1 else { return core.refuse(EINVAL, "the value is out of range") }
            queue(index).pointee.lingersZero = value == 0
            return 0
        // Nothing is ever held back, and what a dead process left at an address never keeps another one from it.
        case .noDelay, .reuseAddress: return 0
        case .keepAlive:
            guard let idle = Int32(exactly: value), let interval = Int32(exactly: second), value < 0 || (idle > 0 && interval > 0) else {
                return core.refuse(EINVAL, "the value is out of range")
            }
            queue(index).pointee.keepAlive = value < 0 ? (-1, -1) : (idle, interval)
            return 0
        default: return core.refuse(EOPNOTSUPP, "queues in shared memory have no such option")
        }
    }

    func option(_ index: Int, _ name: SocketOption.Name, _ values: UnsafeMutablePointer<Int64>) -> Int32 {
        switch name {
        case .linger: values[0] = queue(index).pointee.lingersZero ? 0 : -1
        case .noDelay, .reuseAddress: values[0] = 1
        case .keepAlive: (values[0], values[1]) = (Int64(queue(index).pointee.keepAlive.idle), Int64(queue(index).pointee.keepAlive.interval))
        default: return core.refuse(EOPNOTSUPP, "queues in shared memory have no such option")
        }
        return 0
    }
}
