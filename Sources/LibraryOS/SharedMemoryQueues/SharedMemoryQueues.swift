import CDatapath
import DatapathMemory
import Glibc
import QueueRuntime
import SharedMemory

/// The library OS over shared memory between the processes of one machine (Catmem): unit queues with connections, found by a path.
///
/// A server binds a socket of the family `.path`, listens and accepts; a client connects. Each connection has a ring of units in either direction, in memory
/// that the client makes and sends over the unix socket at the path; who may write to that file, its owner, may connect. Boundaries are kept: what is pushed
/// as one array is popped as one unit, of one segment, and may be empty. A push completes when the unit is in the ring.
///
/// Programs that know IP addresses and ports instead of paths run unchanged: their sockets stand in a directory of the user's, under the address and port as
/// their name (SocketDirectory.swift). There a unit stands for the next bytes of a stream, and is never empty.
///
/// The peer is not trusted: a unit is copied out before anybody looks at it, and a peer that breaks the rules of the ring fails its connection with
/// `EPROTO`, counted. When a peer's process ends without closing, what it had put into the ring is still popped, then pops fail with `ECONNRESET`.
public enum SharedMemoryQueues {
    /// Where sockets with IP addresses stand unless it is said: `/tmp/demikernel-` and the number of the user.
    public static var standardDirectory: String { "/tmp/demikernel-\(geteuid())" }
    /// Bytes of the longest path of a directory for sockets with IP addresses, which leaves room for the longest of their names.
    public static let maximumDirectoryByteCount = SocketDirectory.maximumByteCount

    /// Makes the library OS for a runtime, which owns it once it is registered.
    /// - Parameter directory: where sockets with IP addresses stand; of 1 to `maximumDirectoryByteCount` bytes.
    /// - Throws: `EMFILE` when no descriptor is left; `EINVAL`, `ENAMETOOLONG` for what is no such directory's path.
    public static func make(for core: RuntimeCore, directory: String = standardDirectory) throws(DemikernelError) -> LibraryOS {
        let directory = try SocketDirectory(directory)
        let events = epoll_create1(Int32(EPOLL_CLOEXEC))
        guard events >= 0 else {
            throw DemikernelError(errno, .initialize, "no descriptor is left for epoll: raise the limit with ulimit -n")
        }
        let capacity = core.limits.maximumQueues + 1
        let state = UnsafeMutablePointer<SharedMemoryQueuesState>.allocate(capacity: 1)
        state.initialize(
            to: SharedMemoryQueuesState(
                core: core, heap: core.heap, directory: directory, eventFile: events, queues: .allocate(capacity: capacity), polled: .allocate(capacity: capacity),
                readyEvents: .allocate(capacity: SharedMemoryQueuesHandle.eventCapacity)))
        return libraryOS(state)
    }

    /// The counts of a library OS that `make` made and whose runtime lives.
    public static func statistics(of libraryOS: LibraryOS) -> SharedMemoryQueuesStatistics {
        SharedMemoryQueuesHandle(libraryOS.context).state.pointee.statistics
    }

    private static func libraryOS(_ state: UnsafeMutablePointer<SharedMemoryQueuesState>) -> LibraryOS {
        LibraryOS(
            name: "catmem", context: state,
            socket: { context, family, type, queue in
                SharedMemoryQueuesHandle(context).open(
                    AddressFamily(rawValue: family).unsafelyUnwrapped, SocketType(rawValue: type).unsafelyUnwrapped,
                    QueueDescriptor(rawValue: queue))
            },
            bind: { context, state, address in
                SharedMemoryQueuesHandle(context).bind(Int(state), address.assumingMemoryBound(to: SocketAddress.self).pointee)
            },
            listen: { context, state, backlog in SharedMemoryQueuesHandle(context).listen(Int(state), backlog) },
            accept: { context, state, operation in SharedMemoryQueuesHandle(context).accept(Int(state), operation) },
            connect: { context, state, operation in SharedMemoryQueuesHandle(context).connect(Int(state), operation) },
            push: { context, state, operation in SharedMemoryQueuesHandle(context).push(Int(state), operation) },
            pushDiscarded: { context, state, array, address in
                SharedMemoryQueuesHandle(context).pushDiscarded(
                    Int(state), array.assumingMemoryBound(to: SegmentDescriptor.self), isAddressed: address != nil)
            },
            pushNow: { context, state, array, address in
                SharedMemoryQueuesHandle(context).pushNow(
                    Int(state), array.assumingMemoryBound(to: SegmentDescriptor.self), isAddressed: address != nil)
            },
            pop: { context, state, operation in SharedMemoryQueuesHandle(context).pop(Int(state), operation) },
            shutdown: { context, state, direction in
                SharedMemoryQueuesHandle(context).shutdown(Int(state), ShutdownDirection(rawValue: direction).unsafelyUnwrapped)
            },
            close: { context, state, operation in SharedMemoryQueuesHandle(context).close(Int(state), operation) },
            cancel: { context, state, operation in SharedMemoryQueuesHandle(context).cancel(Int(state), operation) },
            address: { context, state, isPeer, address in
                SharedMemoryQueuesHandle(context).address(Int(state), isPeer: isPeer, address.assumingMemoryBound(to: SocketAddress.self))
            },
            setOption: { context, state, name, first, second in
                SharedMemoryQueuesHandle(context).setOption(Int(state), SocketOption.Name(rawValue: name).unsafelyUnwrapped, first, second)
            },
            option: { context, state, name, values in
                SharedMemoryQueuesHandle(context).option(
                    Int(state), SocketOption.Name(rawValue: name).unsafelyUnwrapped, values.assumingMemoryBound(to: Int64.self))
            },
            poll: { context in SharedMemoryQueuesHandle(context).poll() },
            prepareToSleep: { context in SharedMemoryQueuesHandle(context).prepareToSleep() },
            destroy: { context in SharedMemoryQueuesHandle(context).destroy() },
            metrics: { context, source in
                source.assumingMemoryBound(to: (any MetricSource)?.self).pointee = SharedMemoryQueuesHandle(context).state.pointee.statistics
            })
    }
}

/// Counts of one library OS since it was made, each loss under its reason.
public struct SharedMemoryQueuesStatistics: Equatable, Sendable {
    public var connectionsAccepted: UInt64 = 0
    public var connectionsMade: UInt64 = 0
    /// Connections whose peer's process ended, or closed, without saying so in the ring.
    public var peersLost: UInt64 = 0
    /// Connections failed because a record's header could not be.
    public var brokenHeaders: UInt64 = 0
    /// Connections failed because the peer told a progress that could not be.
    public var brokenProgress: UInt64 = 0
    /// Clients dropped because their first message, or their memory, was not what the protocol wants.
    public var malformedHellos: UInt64 = 0
    /// Clients refused with an errno: too large a ring, another version, no room.
    public var refusedHellos: UInt64 = 0
    /// Clients dropped because they said nothing within `Limits.handshakeTimeout`, or left before they did.
    public var silentClients: UInt64 = 0
    /// Wake-ups sent to peers that slept: a peer that polls costs none.
    public var wakeUpsSent: UInt64 = 0

    public init() {}
}

/// The state of the library OS, at one address for its whole life.
struct SharedMemoryQueuesState: ~Copyable {
    let core: RuntimeCore
    let heap: DatapathHeap
    /// Where sockets with IP addresses stand.
    let directory: SocketDirectory
    /// Watches the unix sockets: of listeners, of clients that have said nothing yet, of connections.
    let eventFile: Int32
    /// Indexed by the descriptor's slot; those below `carvedQueues` are initialised.
    let queues: UnsafeMutablePointer<SharedQueue>
    var carvedQueues = 0
    /// The slots of the connections whose rings are looked at in each turn: those with a waiting pop or push.
    let polled: UnsafeMutablePointer<UInt32>
    var polledCount = 0
    let readyEvents: UnsafeMutablePointer<epoll_event>
    /// Sockets that are watched.
    var watchedCount = 0
    /// Connects under way, for which the sockets are looked at in each turn.
    var connectCount = 0
    /// When the sockets were looked at last.
    var lastControl: UInt64 = 0
    /// Turns in which they are looked at all the same: after a sleep was prepared.
    var controlTurnsDue = 0
    /// The peers were asked to wake this process.
    var isArmed = false
    /// A unit stays in its ring because the heap was full in this turn.
    var isOutOfMemory = false
    /// A client stays in the kernel because no descriptor is left: no socket will tell when there is one.
    var isOutOfDescriptors = false
    /// Numbers the clients that arrive.
    var nextArrival: UInt32 = 1
    var statistics = SharedMemoryQueuesStatistics()
}

/// A plain handle on the state: its methods touch one field at a time, so that a completion may call back in.
struct SharedMemoryQueuesHandle {
    let state: UnsafeMutablePointer<SharedMemoryQueuesState>

    @inline(__always)
    init(_ context: UnsafeMutableRawPointer) {
        state = context.assumingMemoryBound(to: SharedMemoryQueuesState.self)
    }

    @inline(__always)
    var core: RuntimeCore { state.pointee.core }

    @inline(__always)
    func queue(_ index: Int) -> UnsafeMutablePointer<SharedQueue> { state.pointee.queues + index }

    static let eventCapacity = 64

    /// A queue in the descriptor's slot, as new.
    func install(_ descriptor: QueueDescriptor, _ phase: SharedQueue.Phase, _ family: AddressFamily) {
        while state.pointee.carvedQueues <= descriptor.slot {
            queue(state.pointee.carvedQueues).initialize(to: SharedQueue())
            state.pointee.carvedQueues += 1
        }
        let queue = queue(descriptor.slot)
        let epoch = queue.pointee.epoch &+ 1
        queue.pointee = SharedQueue()
        queue.pointee.epoch = epoch
        queue.pointee.queue = descriptor
        queue.pointee.phase = phase
        queue.pointee.family = family
        queue.pointee.address = .unnamed(family)
        queue.pointee.minimumUnitSize = family == .path ? 0 : 1
    }

    func destroy() {
        for index in 0..<state.pointee.carvedQueues where queue(index).pointee.phase != .free {
            dropSends(index, ECANCELED)
            release(index)
        }
        state.pointee.queues.deinitialize(count: state.pointee.carvedQueues)
        Glibc.close(state.pointee.eventFile)
        state.pointee.readyEvents.deallocate()
        state.pointee.polled.deallocate()
        state.pointee.queues.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }
}
