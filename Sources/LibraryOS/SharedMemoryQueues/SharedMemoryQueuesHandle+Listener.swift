import CDatapath
import DatapathMemory
import Glibc
import QueueRuntime
import SharedMemory
import TaskScheduler

/// The server's side of making connections.
extension SharedMemoryQueuesHandle {
    /// A queue in the descriptor's slot; a negative errno on failure.
    func open(_ family: AddressFamily, _ type: SocketType, _ descriptor: QueueDescriptor) -> Int64 {
        guard type == .stream else {
            return -Int64(core.refuse(ESOCKTNOSUPPORT, "queues in shared memory have connections, and keep boundaries all the same: use .stream"))
        }
        install(descriptor, .open, family)
        return Int64(descriptor.slot)
    }

    /// Takes the path: from here on clients can reach it, and wait in the kernel's backlog until `listen`.
    func bind(_ index: Int, _ address: SocketAddress) -> Int32 {
        let queue = queue(index)
        guard address.family == queue.pointee.family, address.path?.isEmpty != true else {
            return core.refuse(EAFNOSUPPORT, SharedMemoryQueuesHandle.otherFamily)
        }
        guard queue.pointee.phase == .open else { return core.refuse(EINVAL, "the queue is bound or connected already") }
        var address = address
        do throws(DemikernelError) {
            let socket = try takePath(of: &address)
            guard watch(socket.file, queue: index, events: EPOLLIN.rawValue | EPOLLET.rawValue) else {
                let error = errno
                socket.close()
                return core.refuse(error, "the kernel cannot watch another socket: raise fs.epoll.max_user_watches")
            }
            queue.pointee.listener = SharedListener(socket: socket)
        } catch {
            return core.refuse(error.errno, error.message)
        }
        queue.pointee.address = address
        queue.pointee.isServer = true
        queue.pointee.phase = .bound
        return 0
    }

    func listen(_ index: Int, _ backlog: Int32) -> Int32 {
        let queue = queue(index)
        guard let listener = queue.pointee.listener else {
            return core.refuse(EINVAL, queue.pointee.phase == .open ? "bind the queue to an address first" : "the queue is connected or connecting")
        }
        guard Glibc.listen(listener.socket.file, backlog) == 0 else { return core.refuse(errno, "") }
        listener.backlog = Int(backlog)
        queue.pointee.phase = .listening
        serveListener(index)
        return 0
    }

    func accept(_ index: Int, _ operation: UInt32) -> Int32 {
        let queue = queue(index)
        guard queue.pointee.phase == .listening else { return core.refuse(EINVAL, "the queue does not listen") }
        core.append(operation, to: &queue.pointee.accepts)
        serveListener(index)
        return 0
    }

    /// Takes clients from the kernel as far as the backlog allows, and gives connections that stand to the accepts that wait.
    func serveListener(_ index: Int) {
        let queue = queue(index)
        guard queue.pointee.phase == .listening, let listener = queue.pointee.listener else { return }
        serveAccepts(index, listener)
        while listener.mayHaveMore, listener.arrivals.count + listener.established.count < listener.backlog {
            let file = demi_accept(listener.socket.file, nil, nil)
            if file < 0 {
                switch errno {
                case EAGAIN: listener.mayHaveMore = false
                case EINTR, ECONNABORTED: continue
                default:
                    // It stays in the kernel's backlog.
                    state.pointee.isOutOfDescriptors = true
                    return
                }
                continue
            }
            arrive(file, index, listener)
            serveAccepts(index, listener)
        }
    }

    /// A client has connected: its first message is there, or is awaited for a while.
    private func arrive(_ file: Int32, _ index: Int, _ listener: SharedListener) {
        if hear(file, index, listener) { return }
        let number = state.pointee.nextArrival
        state.pointee.nextArrival = number &+ 1 & 0x7fff_ffff
        let deadline = core.scheduler.deadline(after: core.limits.handshakeTimeout, from: core.currentTime)
        let timer = core.scheduler.armTimer(
            deadline: deadline,
            { context, argument in SharedMemoryQueuesHandle(context).giveUp(UInt32(truncatingIfNeeded: argument >> 32), of: Int(argument & 0x7fff_ffff)) },
            context: state, argument: UInt64(index) | UInt64(number) << 32)
        guard let timer else {
            // A wait that cannot be bounded is none.
            state.pointee.statistics.silentClients += 1
            Glibc.close(file)
            return
        }
        guard watch(file, arrival: number, of: index) else {
            core.scheduler.cancelTimer(timer)
            state.pointee.statistics.silentClients += 1
            Glibc.close(file)
            return
        }
        listener.arrivals.append(SharedListener.Arrival(file: file, number: number, timer: timer))
    }

    /// Something came from a client that has said nothing yet.
    func greet(_ number: UInt32, of index: Int) {
        guard let listener = queue(index).pointee.listener, let place = listener.arrivals.firstIndex(where: { $0.number == number }) else { return }
        let file = listener.arrivals[place].file
        // Heard first: a socket that the outcome has closed is watched no more.
        unwatch(file)
        if hear(file, index, listener) {
            forget(place, listener)
            serveListener(index)
        } else if !watch(file, arrival: number, of: index) {
            Glibc.close(file)
            state.pointee.statistics.silentClients += 1
            forget(place, listener)
        }
    }

    private func forget(_ place: Int, _ listener: SharedListener) {
        let arrival = listener.arrivals.remove(at: place)
        core.scheduler.cancelTimer(arrival.timer)
    }

    private func giveUp(_ number: UInt32, of index: Int) {
        guard let listener = queue(index).pointee.listener, let place = listener.arrivals.firstIndex(where: { $0.number == number }) else { return }
        state.pointee.statistics.silentClients += 1
        unwatch(listener.arrivals[place].file)
        Glibc.close(listener.arrivals[place].file)
        forget(place, listener)
        serveListener(index)
    }

    /// Reads a client's first message and answers it.
    /// - Returns: false when there is none yet. Else the socket is a connection's, or closed.
    private func hear(_ file: Int32, _ index: Int, _ listener: SharedListener) -> Bool {
        withUnsafeTemporaryAllocation(byteCount: 64, alignment: 8) { buffer in
            let outcome: HelloOutcome
            switch DescriptorMessage.receive(into: buffer, on: file) {
            case .none: return false
            case .message(let byteCount, let descriptors):
                let limits = HandshakeLimits(ringByteCount: core.limits.sharedRingByteCount, maximumUnitSize: core.limits.maximumUnitSize)
                outcome = Handshake.judge(UnsafeRawBufferPointer(rebasing: buffer[..<byteCount]), descriptors, limits: limits)
            case .end:
                state.pointee.statistics.silentClients += 1
                Glibc.close(file)
                return true
            case .failed: outcome = .malformed
            }
            switch outcome {
            case .agreed(let rings):
                if answer(file, 0, rings.maximumUnitSize) {
                    listener.established.append(SharedListener.Established(file: file, rings: rings))
                    return true
                }
                rings.unmap()
                state.pointee.statistics.silentClients += 1
            case .refused(let errno):
                _ = answer(file, errno, 0)
                state.pointee.statistics.refusedHellos += 1
            case .malformed:
                _ = answer(file, EPROTO, 0)
                state.pointee.statistics.malformedHellos += 1
            }
            Glibc.close(file)
            return true
        }
    }

    private func answer(_ file: Int32, _ error: Int32, _ maximumUnitSize: Int) -> Bool {
        let answer = Answer(error: error, maximumUnitSize: maximumUnitSize, maximumRingByteCount: core.limits.sharedRingByteCount)
        return withUnsafeBytes(of: answer) { DescriptorMessage.send($0, on: file) } == 0
    }

    private func serveAccepts(_ index: Int, _ listener: SharedListener) {
        let queue = queue(index)
        while !queue.pointee.accepts.isEmpty, !listener.established.isEmpty {
            guard core.canAdopt else {
                core.fail(
                    core.removeFirst(from: &queue.pointee.accepts), EMFILE,
                    "all queue descriptors are in use: close some or raise Limits.maximumQueues")
                continue
            }
            let connection = listener.established.removeFirst()
            let descriptor = core.adopt(beside: queue.pointee.queue).unsafelyUnwrapped
            install(descriptor, .connected, queue.pointee.family)
            let accepted = self.queue(descriptor.slot)
            accepted.pointee.rings = connection.rings
            accepted.pointee.file = connection.file
            accepted.pointee.takesPushes = true
            accepted.pointee.isReceiving = true
            accepted.pointee.address = queue.pointee.address.orLoopback
            accepted.pointee.isServer = true
            accepted.pointee.lingersZero = queue.pointee.lingersZero
            state.pointee.statistics.connectionsAccepted += 1
            accepted.pointee.keepAlive = queue.pointee.keepAlive
            core.completeAccept(core.removeFirst(from: &queue.pointee.accepts), descriptor, peer: .unnamedEnd(queue.pointee.family))
            // A socket that cannot be watched would never tell of the peer's end.
            accepted.pointee.isWatched = watch(connection.file, queue: descriptor.slot)
            if !accepted.pointee.isWatched { peerEnded(descriptor.slot) }
        }
    }

    /// Ends a listener: its path is free, and those who wait at it are dropped.
    func closeListener(_ listener: SharedListener) {
        for arrival in listener.arrivals {
            core.scheduler.cancelTimer(arrival.timer)
            unwatch(arrival.file)
            Glibc.close(arrival.file)
        }
        listener.arrivals = []
        for connection in listener.established {
            Glibc.close(connection.file)
            connection.rings.unmap()
        }
        listener.established = []
        unwatch(listener.socket.file)
        listener.socket.close()
    }
}
