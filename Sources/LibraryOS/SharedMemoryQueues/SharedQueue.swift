import DatapathMemory
import QueueRuntime
import SharedMemory
import TaskScheduler

/// One queue of the library OS: a listener, or one end of a connection.
struct SharedQueue {
    var queue = QueueDescriptor(rawValue: 0)
    /// The unix socket of a connection: it carries the agreement and the wake-ups, and its end is the notice of the peer's. -1 when it has ended.
    var file: Int32 = -1
    /// Tells this queue's events from those of the one that had the slot before.
    var epoch: UInt32 = 0
    var phase = Phase.free
    /// Connected, and neither shut down for sending nor failed.
    var takesPushes = false
    /// Connected, and neither shut down for receiving, nor failed, nor at the end.
    var isReceiving = false
    var isSendShutDown = false
    /// The producer's last record was taken, or `shutdown(.receive)` was called.
    var hasReceivedEnd = false
    /// The socket has ended; units may still stand in the ring.
    var hasPeerEnded = false
    /// The kernel reports the socket's events.
    var isWatched = false
    /// Has a place in the list of the polled.
    var isPolled = false
    /// A close resets the connection.
    var lingersZero = false
    /// The smallest unit that may be pushed: 1 where an IP address stands for a stream, on which nothing at all would look like its end.
    var minimumUnitSize = 0
    /// As it was set, in seconds; -1 for off. The unix socket's end is the notice of a lost peer, so there is nothing to probe.
    var keepAlive: (idle: Int32, interval: Int32) = (-1, -1)
    /// Why the connection failed, once and for all.
    var failure: Int32 = 0
    var rings: SharedConnection?
    var pops = OperationList()
    /// Arrays that wait for room, chained through their first descriptors.
    var firstToSend: UnsafeMutablePointer<SegmentDescriptor>?
    var lastToSend: UnsafeMutablePointer<SegmentDescriptor>?
    /// Bytes waiting in pushes that nobody waits for.
    var discardedByteCount = 0
    /// The rest of a unit that exceeded its pop's limits.
    var rest: UnsafeMutablePointer<SegmentDescriptor>?
    var accepts = OperationList()
    var connectOperation: UInt32 = 0
    var closeOperation: UInt32 = 0
    /// What bounds a connect, or a close.
    var timer = TimerIdentifier.none
    /// When a connect that found the listener's backlog full is tried again.
    var retryTimer = TimerIdentifier.none
    var family = AddressFamily.path
    /// The address that it listens at, or that it is connected to.
    var address = SocketAddress.unnamedPath
    /// Whether `address` is its own: a listener's, or an accepted connection's.
    var isServer = false
    /// A listener's socket and those who came to it; nil for a connection.
    var listener: SharedListener?

    /// Where a queue stands.
    enum Phase: UInt8 {
        /// The slot is nobody's.
        case free
        /// Neither bound nor connected.
        case open
        /// Bound to a path: clients wait in the kernel's backlog.
        case bound
        case listening
        /// The path's socket is connected, or its backlog full; the server's answer is awaited.
        case connecting
        case connected
        /// Closed by the program: what was pushed still goes into the ring.
        case flushing
        /// Closed by the program, and everything is in the ring: waits for the peer's end, for `closeToken`.
        case awaitingPeer
    }
}

/// What a listener has beside its path. Touched where connections are made, not where units are moved.
final class SharedListener {
    let socket: PathSocket.Listener
    var backlog = 1
    /// Clients that are connected to the socket and have said nothing yet.
    var arrivals: [Arrival] = []
    /// Connections that stand and wait for an accept, oldest first.
    var established: [Established] = []
    /// The kernel's backlog may hold another client.
    var mayHaveMore = true

    init(socket: PathSocket.Listener) {
        self.socket = socket
    }

    struct Arrival {
        let file: Int32
        let number: UInt32
        let timer: TimerIdentifier
    }

    struct Established {
        let file: Int32
        let rings: SharedConnection
    }
}
