import DatapathMemory
import QueueRuntime
import TaskScheduler
import WireFormats

/// One socket of the network stack behind a queue.
struct NetworkSocket {
    /// The first field, so that both have one address: a delivery goes there.
    var pops = WaitingPops()
    var queue = QueueDescriptor(rawValue: 0)
    /// The stack's connection, or its datagram socket.
    var index: UInt32 = 0
    var type = SocketType.stream
    /// An IPv6 socket takes both families, and tells IPv4 addresses as IPv4-mapped ones.
    var family = AddressFamily.ipv4
    var phase = Phase.free
    /// The end of sending follows the pushes that wait.
    var isSendShutDown = false
    /// The connect has failed or was cancelled, and the stack had no room for the connection of the next one.
    var needsRenewal = false
    /// The receive buffer was set, and does not grow by itself.
    var isReceiveBufferFixed = false
    /// Of a datagram socket, for its bind.
    var reusesPort = false
    /// Does not take IPv4 where it binds to ::.
    var isIPv6Only = false
    /// Tells where its datagrams were sent to, and what their headers say.
    var tellsInformation = false
    /// Has datagrams for which the stack had no room, in the list of those that do.
    var isStarved = false
    var nextStarved: UInt32 = 0
    /// An errno that the connection met, once and for all.
    var failure: Int32 = 0
    var connectOperation: UInt32 = 0
    var closeOperation: UInt32 = 0
    /// Bytes waiting in pushes that nobody waits for; fewer than 2^32 (`Limits.discardedPushByteCount`).
    private var discardedByteCount32: UInt32 = 0
    /// Arrays not yet taken by the stack, chained through their first descriptors.
    var firstToSend: UnsafeMutablePointer<SegmentDescriptor>?
    var lastToSend: UnsafeMutablePointer<SegmentDescriptor>?
    /// The rest of a datagram that exceeded its pop's limits.
    var rest: UnsafeMutablePointer<SegmentDescriptor>?
    /// `restAddress` of a datagram socket, `bound` of a stream's.
    private var address = SocketAddress.any(port: 0)
    var closeTimer = TimerIdentifier.none

    /// The accepts of a listener, which has no pops: in the same list.
    var accepts: OperationList {
        get { pops.list }
        set { pops.list = newValue }
    }

    var discardedByteCount: Int {
        get { Int(discardedByteCount32) }
        set { discardedByteCount32 = UInt32(truncatingIfNeeded: newValue) }
    }

    /// Where the rest of a datagram came from.
    var restAddress: SocketAddress {
        get { address }
        set { address = newValue }
    }

    /// What a stream socket was bound to, for a connect after one that failed; the port is 0 while it is not bound.
    var bound: Endpoint {
        get { address.endpoint }
        // In the stack's own form, whatever the family.
        set { address = SocketAddress(newValue, as: .ipv6) }
    }

    /// Where a socket stands.
    enum Phase: UInt8 {
        /// The slot has none.
        case free
        /// No connection. A datagram socket stays here for life.
        case open
        case listening, connecting, connected
        /// Closed by the program: what was pushed waits for room in the stack.
        case flushing
        /// Closed by the program, and all is with the stack: waits for the connection's end, for `closeToken`.
        case awaitingEnd
    }
}
