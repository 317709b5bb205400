import DatapathMemory
import QueueRuntime
import TaskScheduler

/// One kernel socket behind a queue.
struct KernelSocket {
    var queue = QueueDescriptor(rawValue: 0)
    var file: Int32 = -1
    /// Tells this socket's events from those of the one that had the slot before.
    var epoch: UInt32 = 0
    var family = AddressFamily.ipv4
    var type = SocketType.stream
    var phase = Phase.open
    var isWatched = false
    /// Whether a read, or an accept, may find something: set by an event, cleared when the kernel says that there is no more. Events are
    /// edge-triggered, so that each costs one system call and not one for every turn.
    var mayBeReadable = false
    var mayBeWritable = true
    /// Waits for memory, in the list of those that do.
    var isStarved = false
    var nextStarved: UInt32 = 0
    var isSendShutDown = false
    /// The kernel has reported the peer's end, or an error, which may stand behind bytes that are not read yet.
    var isEndPending = false
    /// The peer has sent its end, or `shutdown(.receive)` was called.
    var hasReceivedEnd = false
    /// An error that the connection met, once and for all.
    var failure: Int32 = 0
    /// Tells where its datagrams were sent to, and what their headers say.
    var tellsInformation = false
    var lingersZero = false
    /// The kernel's own lingering is on, which would block a close.
    var lingersInKernel = false
    /// How much to receive at once: doubled when it was filled, halved when little came.
    var receiveByteCount: UInt32 = KernelSocket.smallestReceive
    var pops = OperationList()
    var accepts = OperationList()
    var connectOperation: UInt32 = 0
    var closeOperation: UInt32 = 0
    /// Arrays not yet taken by the kernel, chained through their first descriptors.
    var firstToSend: UnsafeMutablePointer<SegmentDescriptor>?
    var lastToSend: UnsafeMutablePointer<SegmentDescriptor>?
    /// Bytes of the first array that the kernel has taken.
    var sentOfFirst = 0
    /// Bytes waiting in pushes that nobody waits for.
    var discardedByteCount = 0
    /// The rest of a datagram that exceeded its pop's limits, and where it came from.
    var rest: UnsafeMutablePointer<SegmentDescriptor>?
    var restAddress = SocketAddress.any(port: 0)
    var closeTimer = TimerIdentifier.none

    static let smallestReceive: UInt32 = 2_048
    static let largestReceive: UInt32 = 65_536

    /// Where a socket stands.
    enum Phase: UInt8 {
        /// No connection. A datagram socket stays here for life.
        case open
        case listening, connecting, connected
        /// Closed by the program: what was pushed is still sent.
        case flushing
        /// Closed by the program and sent: waits for the peer's end, for `closeToken`.
        case awaitingPeer
    }
}
