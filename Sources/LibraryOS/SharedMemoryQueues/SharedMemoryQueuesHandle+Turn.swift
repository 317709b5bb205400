import CDatapath
import DatapathMemory
import Glibc
import QueueRuntime
import SharedMemory

/// What happens in a turn, and before a sleep.
extension SharedMemoryQueuesHandle {
    /// Nanoseconds after which the sockets are looked at although the rings keep the turn busy: a call into the kernel. Between two looks the peers' ends
    /// and new clients wait that long.
    private static let controlInterval: UInt64 = 100_000

    /// One turn: the rings of the connections that wait for something, now and then the sockets.
    func poll() -> Int32 {
        var progress: Int32 = 0
        var position = state.pointee.polledCount
        state.pointee.isOutOfMemory = false
        while position > 0 {
            position &-= 1
            let index = Int(state.pointee.polled[position])
            let queue = queue(index)
            if !queue.pointee.pops.isEmpty {
                progress &+= receive(index)
            } else if queue.pointee.firstToSend == nil {
                // Removing puts the last one, which was looked at already, into its place.
                unwatchRings(index, position)
            }
            if queue.pointee.firstToSend != nil { progress &+= flush(index) }
        }
        if core.now &- state.pointee.lastControl >= SharedMemoryQueuesHandle.controlInterval
            || state.pointee.controlTurnsDue | state.pointee.connectCount != 0
        {
            progress &+= control()
        }
        if progress > 0, state.pointee.isArmed { disarm() }
        return progress
    }

    /// Has the rings looked at in each turn.
    @inline(__always)
    func watchRings(_ index: Int) {
        let queue = queue(index)
        guard !queue.pointee.isPolled else { return }
        queue.pointee.isPolled = true
        state.pointee.polled[state.pointee.polledCount] = UInt32(truncatingIfNeeded: index)
        state.pointee.polledCount &+= 1
    }

    private func unwatchRings(_ index: Int, _ position: Int) {
        queue(index).pointee.isPolled = false
        state.pointee.polledCount &-= 1
        state.pointee.polled[position] = state.pointee.polled[state.pointee.polledCount]
    }

    /// As `unwatchRings`, where the position is not known. O(connections polled).
    func unwatchRings(_ index: Int) {
        guard queue(index).pointee.isPolled else { return }
        for position in 0..<state.pointee.polledCount where Int(state.pointee.polled[position]) == index {
            return unwatchRings(index, position)
        }
    }

    // MARK: Sockets

    /// What an event is about: a queue by its slot and epoch, or a client that arrived at a listener, by its number.
    private static let arrivalMark: UInt64 = 1 << 63
    private static let epochMask: UInt64 = 1 << 31 - 1

    /// Has the kernel report a queue's socket. False when it refuses.
    func watch(_ file: Int32, queue index: Int, events: UInt32 = EPOLLIN.rawValue | EPOLLRDHUP.rawValue) -> Bool {
        watch(file, UInt64(index) | (UInt64(queue(index).pointee.epoch) & SharedMemoryQueuesHandle.epochMask) << 32, events)
    }

    func watch(_ file: Int32, arrival number: UInt32, of index: Int) -> Bool {
        watch(
            file, SharedMemoryQueuesHandle.arrivalMark | UInt64(index) | (UInt64(number) & SharedMemoryQueuesHandle.epochMask) << 32,
            EPOLLIN.rawValue | EPOLLRDHUP.rawValue)
    }

    private func watch(_ file: Int32, _ data: UInt64, _ events: UInt32) -> Bool {
        var event = epoll_event()
        event.events = events
        event.data.u64 = data
        guard epoll_ctl(state.pointee.eventFile, EPOLL_CTL_ADD, file, &event) == 0 else { return false }
        state.pointee.watchedCount += 1
        return true
    }

    /// Ends the kernel's reports, before the socket is closed or given to another queue.
    func unwatch(_ file: Int32) {
        var event = epoll_event()
        if epoll_ctl(state.pointee.eventFile, EPOLL_CTL_DEL, file, &event) == 0 { state.pointee.watchedCount -= 1 }
    }

    /// Looks at the sockets.
    @inline(never)
    private func control() -> Int32 {
        state.pointee.lastControl = core.now
        if state.pointee.controlTurnsDue > 0 { state.pointee.controlTurnsDue -= 1 }
        if state.pointee.isOutOfDescriptors { retryListeners() }
        guard state.pointee.watchedCount > 0 else { return 0 }
        let events = state.pointee.readyEvents
        let count = epoll_wait(state.pointee.eventFile, events, Int32(SharedMemoryQueuesHandle.eventCapacity), 0)
        guard count > 0 else { return 0 }
        for position in 0..<Int(count) {
            let data = events[position].data.u64
            let index = Int(data & 0x7fff_ffff)
            let number = UInt32(data >> 32 & SharedMemoryQueuesHandle.epochMask)
            if data & SharedMemoryQueuesHandle.arrivalMark != 0 {
                greet(number, of: index)
            } else if UInt64(queue(index).pointee.epoch) & SharedMemoryQueuesHandle.epochMask == UInt64(number) {
                handleSocket(index)
            }
        }
        return count
    }

    private func handleSocket(_ index: Int) {
        switch queue(index).pointee.phase {
        case .bound, .listening:
            queue(index).pointee.listener?.mayHaveMore = true
            serveListener(index)
        case .connecting: readAnswer(index)
        case .connected, .flushing, .awaitingPeer: drainWakeUps(index)
        case .free, .open: break
        }
    }

    /// Takes the peer's wake-ups off its socket, a bounded number at a time, and notices its end.
    private func drainWakeUps(_ index: Int) {
        let file = queue(index).pointee.file
        var scratch: UInt64 = 0
        for _ in 0..<16 {
            let outcome = withUnsafeMutableBytes(of: &scratch) { DescriptorMessage.receive(into: $0, on: file) }
            switch outcome {
            case .none: return
            case .message(_, let descriptors):
                // Nobody sends any here, but a peer that wants to use ours up.
                for descriptor in descriptors { Glibc.close(descriptor) }
            case .failed(EMSGSIZE): continue
            case .end, .failed: return peerEnded(index)
            }
        }
    }

    /// Wakes a peer that sleeps. A socket that is full wakes it as well.
    func wakePeer(_ index: Int) {
        let file = queue(index).pointee.file
        guard file >= 0 else { return }
        state.pointee.statistics.wakeUpsSent &+= 1
        var one: UInt8 = 1
        _ = send(file, &one, 1, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL))
    }

    /// Tries once more to take the clients that wait for a descriptor.
    private func retryListeners() {
        state.pointee.isOutOfDescriptors = false
        for index in 0..<state.pointee.carvedQueues where queue(index).pointee.listener?.mayHaveMore == true { serveListener(index) }
    }

    // MARK: Sleep

    /// Asks every peer from whom something is awaited for a wake-up.
    func prepareToSleep() -> Int32 {
        state.pointee.controlTurnsDue = 2
        if state.pointee.isOutOfMemory || state.pointee.isOutOfDescriptors { return LibraryOS.cannotWake }
        for position in 0..<state.pointee.polledCount {
            let queue = queue(Int(state.pointee.polled[position]))
            if !queue.pointee.pops.isEmpty { queue.pointee.rings!.consumer.setSleeps(true) }
            if queue.pointee.firstToSend != nil { queue.pointee.rings!.producer.setWaits(true) }
        }
        state.pointee.isArmed = true
        return state.pointee.watchedCount > 0 ? state.pointee.eventFile : LibraryOS.nothingToAwait
    }

    /// Takes the wishes back, so that a peer's push costs it no call into the kernel.
    @inline(never)
    private func disarm() {
        state.pointee.isArmed = false
        for position in 0..<state.pointee.polledCount {
            let queue = queue(Int(state.pointee.polled[position]))
            queue.pointee.rings!.consumer.setSleeps(false)
            queue.pointee.rings!.producer.setWaits(false)
        }
    }
}
