import CDatapath
import DatapathMemory
import Glibc
import QueueRuntime
import TaskScheduler

/// The library OS over kernel sockets (Catnap): TCP and UDP over IPv4 and IPv6, non-blocking, one edge-triggered epoll a turn.
///
/// It needs nothing but Linux, so it works everywhere; every byte is copied once, by the kernel.
public enum KernelSockets {
    /// Makes the library OS for a runtime, which owns it once it is registered.
    /// - Throws: `EMFILE` when no descriptor is left.
    public static func make(for core: RuntimeCore) throws(DemikernelError) -> LibraryOS {
        let events = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard events >= 0 else {
            throw DemikernelError(errno, .initialize, "no descriptor is left for epoll: raise the limit with ulimit -n")
        }
        let capacity = core.limits.maximumQueues + 1
        let state = UnsafeMutablePointer<KernelSocketsState>.allocate(capacity: 1)
        state.initialize(
            to: KernelSocketsState(core: core, eventFile: events, sockets: .allocate(capacity: capacity), readyEvents: .allocate(capacity: 256)))
        state.pointee.sockets.initialize(to: KernelSocket())
        return libraryOS(state)
    }

    private static func libraryOS(_ state: UnsafeMutablePointer<KernelSocketsState>) -> LibraryOS {
        LibraryOS(
            name: "catnap", context: state,
            socket: { context, family, type, queue in
                KernelSocketsHandle(context).open(
                    AddressFamily(rawValue: family).unsafelyUnwrapped, SocketType(rawValue: type).unsafelyUnwrapped,
                    QueueDescriptor(rawValue: queue))
            },
            bind: { context, state, address in
                KernelSocketsHandle(context).bind(Int(state), address.assumingMemoryBound(to: SocketAddress.self).pointee)
            },
            listen: { context, state, backlog in KernelSocketsHandle(context).listen(Int(state), backlog) },
            accept: { context, state, operation in KernelSocketsHandle(context).accept(Int(state), operation) },
            connect: { context, state, operation in KernelSocketsHandle(context).connect(Int(state), operation) },
            push: { context, state, operation in KernelSocketsHandle(context).push(Int(state), operation) },
            pushDiscarded: { context, state, array, address in
                KernelSocketsHandle(context).pushDiscarded(
                    Int(state), array.assumingMemoryBound(to: SegmentDescriptor.self),
                    address?.assumingMemoryBound(to: SocketAddress.self).pointee)
            },
            pop: { context, state, operation in KernelSocketsHandle(context).pop(Int(state), operation) },
            shutdown: { context, state, direction in
                KernelSocketsHandle(context).shutdown(Int(state), ShutdownDirection(rawValue: direction).unsafelyUnwrapped)
            },
            close: { context, state, operation in KernelSocketsHandle(context).close(Int(state), operation) },
            cancel: { context, state, operation in KernelSocketsHandle(context).cancel(Int(state), operation) },
            address: { context, state, isPeer, address in
                KernelSocketsHandle(context).address(Int(state), isPeer: isPeer, address.assumingMemoryBound(to: SocketAddress.self))
            },
            setOption: { context, state, name, first, second in
                KernelSocketsHandle(context).setOption(Int(state), SocketOption.Name(rawValue: name).unsafelyUnwrapped, first, second)
            },
            option: { context, state, name, values in
                KernelSocketsHandle(context).option(
                    Int(state), SocketOption.Name(rawValue: name).unsafelyUnwrapped, values.assumingMemoryBound(to: Int64.self))
            },
            poll: { context in KernelSocketsHandle(context).poll() },
            prepareToSleep: { context in KernelSocketsHandle(context).prepareToSleep() },
            destroy: { context in KernelSocketsHandle(context).destroy() })
    }
}

/// The state of the library OS, at one address for its whole life.
struct KernelSocketsState: ~Copyable {
    let core: RuntimeCore
    let eventFile: Int32
    /// Indexed by the descriptor's slot; those below `carvedSockets` are initialised, so that a runtime starts without touching megabytes.
    let sockets: UnsafeMutablePointer<KernelSocket>
    var carvedSockets = 1
    let readyEvents: UnsafeMutablePointer<epoll_event>
    var watchedCount = 0
    /// A block to receive datagrams into, whose size is known only afterwards.
    var datagramBlock: Buffer?
    /// The socket that received last, and how many receives in a row it had.
    var lastReceiver: UInt32 = 0
    var receiverStreak: UInt32 = 0
    /// Polls since epoll was asked last.
    var pollsSinceEvents: UInt32 = 0
    /// Sockets that could not receive because the heap was full.
    var firstStarved: UInt32 = 0
    /// Datagrams of discarded pushes that the kernel had no room for.
    var droppedSendBufferFull: UInt64 = 0
}

/// A plain handle on the state: its methods touch one field at a time, so that a completion may call back in.
struct KernelSocketsHandle {
    let state: UnsafeMutablePointer<KernelSocketsState>

    @inline(__always)
    init(_ context: UnsafeMutableRawPointer) {
        state = context.assumingMemoryBound(to: KernelSocketsState.self)
    }

    @inline(__always)
    var core: RuntimeCore { state.pointee.core }

    @inline(__always)
    func socket(_ index: Int) -> UnsafeMutablePointer<KernelSocket> { state.pointee.sockets + index }

    // MARK: Readiness

    /// Has the kernel report the socket's edges.
    func watch(_ index: Int) {
        let socket = socket(index)
        guard !socket.pointee.isWatched else { return }
        var event = epoll_event()
        event.events = EPOLLIN.rawValue | EPOLLOUT.rawValue | EPOLLRDHUP.rawValue | EPOLLET.rawValue
        event.data.u64 = UInt64(index) | UInt64(socket.pointee.epoch) << 32
        guard epoll_ctl(state.pointee.eventFile, EPOLL_CTL_ADD, socket.pointee.file, &event) == 0 else {
            // At fs.epoll.max_user_watches, which peers' connections can reach: until there is room it is looked at in every turn.
            return starve(index)
        }
        socket.pointee.isWatched = true
        state.pointee.watchedCount += 1
    }

    /// One turn: the edges that the kernel has, and the sockets that waited for memory.
    func poll() -> Int32 {
        if state.pointee.firstStarved != 0 { retryStarved() }
        guard state.pointee.watchedCount > 0 else { return 0 }
        if state.pointee.receiverStreak >= KernelSocketsHandle.streakForDirectReceive, let progress = receiveDirectly() { return progress }
        let events = state.pointee.readyEvents
        let count = epoll_wait(state.pointee.eventFile, events, 256, 0)
        guard count > 0 else { return 0 }
        for position in 0..<Int(count) {
            let data = events[position].data.u64
            let index = Int(data & 0xffff_ffff)
            let socket = socket(index)
            guard socket.pointee.epoch == UInt32(data >> 32), socket.pointee.file >= 0 else { continue }
            handle(index, events[position].events)
        }
        return count
    }

    /// Receives in a row by one socket after which it is read directly.
    static let streakForDirectReceive: UInt32 = 16
    /// Polls of a directly read socket after which the others are looked at again.
    private static let directPolls: UInt32 = 4

    /// While one socket alone receives, as in a ping-pong, it is read without asking epoll first: that saves one of the three system calls of an
    /// echo. The other sockets are asked after every few polls, and what they receive ends it.
    /// - Returns: nil when it is epoll's turn.
    private func receiveDirectly() -> Int32? {
        let polls = state.pointee.pollsSinceEvents &+ 1
        state.pointee.pollsSinceEvents = polls
        let index = Int(state.pointee.lastReceiver)
        let socket = socket(index)
        guard polls < KernelSocketsHandle.directPolls, socket.pointee.phase == .connected, socket.pointee.file >= 0,
            !socket.pointee.pops.isEmpty
        else {
            state.pointee.pollsSinceEvents = 0
            return nil
        }
        let streak = state.pointee.receiverStreak
        socket.pointee.mayBeReadable = true
        servePops(index)
        return state.pointee.receiverStreak == streak ? 0 : 1
    }

    private func handle(_ index: Int, _ events: UInt32) {
        let socket = socket(index)
        let failed = events & (EPOLLERR.rawValue | EPOLLHUP.rawValue) != 0
        if socket.pointee.phase == .connecting {
            if failed || events & EPOLLOUT.rawValue != 0 { finishConnect(index) }
            // The peer's first bytes, or its end, may have come with the same edge.
            guard socket.pointee.phase == .connected else { return }
        }
        if failed || events & (EPOLLIN.rawValue | EPOLLRDHUP.rawValue) != 0 {
            socket.pointee.mayBeReadable = true
            if failed || events & EPOLLRDHUP.rawValue != 0 { socket.pointee.isEndPending = true }
            readable(index)
        }
        // The program cannot have closed it in between: completions do not run program code. But its end may have been seen.
        if socket.pointee.file >= 0, failed || events & EPOLLOUT.rawValue != 0 {
            socket.pointee.mayBeWritable = true
            if socket.pointee.firstToSend != nil { flush(index) }
        }
    }

    func readable(_ index: Int) {
        let socket = socket(index)
        switch socket.pointee.phase {
        case .listening: serveAccepts(index)
        case .awaitingPeer: discardUntilEnd(index)
        case .open, .connected: servePops(index)
        case .connecting, .flushing: break
        }
    }

    /// The epoll descriptor is readable exactly when `poll` would find an edge.
    func prepareToSleep() -> Int32 {
        if state.pointee.firstStarved != 0 { return LibraryOS.cannotWake }
        return state.pointee.watchedCount > 0 ? state.pointee.eventFile : LibraryOS.nothingToAwait
    }

    // MARK: Memory

    /// Remembers a socket that has something to receive but no memory for it (its data stay in the kernel, whose window closes), or that the kernel
    /// would not watch.
    func starve(_ index: Int) {
        let socket = socket(index)
        guard !socket.pointee.isStarved else { return }
        socket.pointee.isStarved = true
        socket.pointee.nextStarved = state.pointee.firstStarved
        state.pointee.firstStarved = UInt32(index)
    }

    private func retryStarved() {
        var next = state.pointee.firstStarved
        state.pointee.firstStarved = 0
        while next != 0 {
            let socket = socket(Int(next))
            let index = Int(next)
            next = socket.pointee.nextStarved
            socket.pointee.isStarved = false
            guard socket.pointee.file >= 0 else { continue }
            if socket.pointee.isWatched { readable(index) } else { watchAgain(index) }
        }
    }

    /// Tries once more to have a socket watched, and looks at it directly as long as that fails.
    private func watchAgain(_ index: Int) {
        watch(index)
        var descriptor = pollfd(fd: socket(index).pointee.file, events: Int16(POLLIN | POLLOUT), revents: 0)
        guard Glibc.poll(&descriptor, 1, 0) > 0 else { return }
        // The bits of poll(2) and epoll are the same.
        handle(index, UInt32(UInt16(bitPattern: descriptor.revents)))
    }

    // MARK: End

    func destroy() {
        for index in 1..<state.pointee.carvedSockets where socket(index).pointee.file >= 0 {
            dropSends(index, ECANCELED)
            release(index)
        }
        Glibc.close(state.pointee.eventFile)
        state.pointee.readyEvents.deallocate()
        state.pointee.sockets.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }
}
