import EthernetDevice
import WireFormats

/// One UDP socket.
struct DatagramSocket: SlabElement {
    struct Flags: OptionSet {
        let rawValue: UInt8
        static let isOpen = Flags(rawValue: 1)
        /// Takes datagrams of `remote` alone.
        static let isConnected = Flags(rawValue: 2)
        /// The local address was chosen by connecting, and may be chosen again.
        static let choseAddress = Flags(rawValue: 4)
        /// Other sockets may have the same address and port.
        static let reusesPort = Flags(rawValue: 8)
        /// In the queue of `takeDatagramEvent`.
        static let hasEvent = Flags(rawValue: 16)
        /// Bound to ::, but not for IPv4.
        static let isIPv6Only = Flags(rawValue: 64)
        /// May send to broadcast addresses.
        static let sendsBroadcasts = Flags(rawValue: 128)
    }

    /// How the datagrams to the template's destination leave.
    enum Link: UInt8 {
        /// The neighbour's hardware address is in the template.
        case resolved
        /// The same, but the way is known to take less than the link does.
        case narrow
        /// As `resolved`, over IPv6.
        case resolvedIPv6
        case unresolved
        /// The destination is this host.
        case local
        /// All stations of the link, or a group of them: nobody is asked for a hardware address.
        case group
    }

    var flags = Flags()
    /// 1 while the owner waits for the next datagram: if there is nothing to tell before, `turn` delivers it as it comes.
    var awaitsDatagram: UInt8 = 0
    var link = Link.unresolved
    /// Whether the template is for `remote`, to which the socket is connected.
    var isTemplateOfPeer = false
    var owner: UInt32 = 0
    /// The port is 0 while the socket is not bound.
    var local = Endpoint(address: .unspecifiedIPv4, port: 0)
    var remote = Endpoint(address: .unspecifiedIPv4, port: 0)
    var filter = DatagramFilter()
    /// Why the next datagram must not be delivered past the queue, 0 for no reason: an errno to tell before, whether the owner asks about headers, and
    /// whether something is in the queue.
    private(set) var deliveryObstacles: UInt64 = 0
    /// An errno that came from the network, 0 for none.
    var error: Int32 {
        get { Int32(truncatingIfNeeded: deliveryObstacles) }
        set { deliveryObstacles = deliveryObstacles & ~0xffff_ffff | UInt64(UInt32(bitPattern: newValue)) }
    }
    /// Whether what is received tells where its headers lie.
    var tellsHeaders: Bool {
        get { deliveryObstacles & 1 << 32 != 0 }
        set { deliveryObstacles = deliveryObstacles & ~(1 << 32) | (newValue ? 1 << 32 : 0) }
    }
    /// Received datagrams, each trimmed to its payload, and the bytes of their blocks.
    private(set) var queue = FrameQueue()
    var queuedByteCount = 0
    /// The next socket with the same local port.
    var nextOnPort: UInt32 = 0
    var nextFree: UInt32 = 0
    /// Places in `MulticastGroups` of those that it has joined.
    var groups: UInt64 = 0
    /// Of datagrams to groups, and whether the host's own members get them.
    var multicastHopLimit: UInt8 = 1
    var isMulticastLooped = true

    // What was last sent to, so that the next datagram to it finds everything ready.
    var templateEpoch: UInt32 = 0
    var packetOptions = PacketOptions()
    var neighbor: UInt32 = 0
    var templateRemote = Endpoint(address: .unspecifiedIPv4, port: 0)
    var template = DatagramTemplate()
    /// Of destinations over IPv6.
    var ipv6Template = IPv6DatagramTemplate()

    init() {}

    mutating func enqueue(_ frame: Frame) {
        queue.append(frame)
        deliveryObstacles |= 1 << 33
    }

    /// The datagram that has waited longest; nil for none.
    mutating func dequeue() -> Frame? {
        let frame = queue.removeFirst()
        if queue.isEmpty { deliveryObstacles &= ~(1 << 33) }
        return frame
    }
}

typealias DatagramSocketPointer = UnsafeMutablePointer<DatagramSocket>

/// UDP sockets, for the library that gives them to programs. A socket is named by its slot, from 1 on, until it is closed; a call with another number traps.
extension NetworkStack {
    @inline(__always)
    func datagramSocket(_ socket: UInt32) -> DatagramSocketPointer {
        precondition(
            socket < state.pointee.datagramSockets.carvedCount && state.pointee.datagramSockets[socket].pointee.flags.contains(.isOpen),
            "no such datagram socket")
        return state.pointee.datagramSockets[socket]
    }

    /// A new socket, not bound; `owner` comes back with its events.
    /// - Parameter isIPv6: whether it gets bound to ::, for both families, when it sends before it is bound; else to all addresses of the first
    ///   destination's family.
    /// - Returns: 0 at `NetworkLimits.maximumDatagramSockets`.
    public func makeDatagramSocket(owner: UInt32, isIPv6: Bool = false) -> UInt32 {
        let socket = state.pointee.datagramSockets.take()
        guard socket != 0 else { return 0 }
        state.pointee.datagramSockets[socket].pointee.flags = .isOpen
        state.pointee.datagramSockets[socket].pointee.owner = owner
        if isIPv6 { state.pointee.datagramSockets[socket].pointee.local.address = .unspecifiedIPv6 }
        return socket
    }

    /// Ends a socket; what it has received and nobody has taken is released. O(sockets of the same port).
    public func closeDatagram(_ socket: UInt32) {
        let s = datagramSocket(socket)
        unbindDatagram(socket)
        leaveGroups(s)
        while let frame = s.pointee.dequeue() { frame.releaseArray() }
        s.pointee.flags.remove(.isOpen)
        s.pointee.templateEpoch = 0
        if !s.pointee.flags.contains(.hasEvent) { state.pointee.datagramSockets.free(socket) }
    }

    /// Releases what the sockets hold.
    func endUDP() {
        for socket in 1..<max(state.pointee.datagramSockets.carvedCount, 1)
        where state.pointee.datagramSockets[socket].pointee.flags.contains(.isOpen) {
            closeDatagram(socket)
        }
    }

    /// The local endpoint; the port is 0 while the socket is not bound.
    //= RFC 1122 section 4.1.3.5
    //# There SHOULD be a way to communicate the chosen address up to the application layer: a connected socket has it.
    public func datagramLocal(_ socket: UInt32) -> Endpoint { datagramSocket(socket).pointee.local }

    /// The endpoint that the socket is connected to.
    public func datagramPeer(_ socket: UInt32) -> Endpoint? {
        let s = datagramSocket(socket)
        return s.pointee.flags.contains(.isConnected) ? s.pointee.remote : nil
    }

    /// The errno that the network has reported since the last call, and 0 for none: `ECONNREFUSED`, `EHOSTUNREACH`, `ENETUNREACH`, `EMSGSIZE` and
    /// their like. Only connected sockets get one: of any other it could not be told whose fault it was.
    public func takeDatagramError(_ socket: UInt32) -> Int32 {
        let s = datagramSocket(socket)
        let error = s.pointee.error
        s.pointee.error = 0
        return error
    }

    /// Whether the owner is told, in `receiveDatagram`'s result, where the headers of a datagram lie: from the next one that comes on.
    //= RFC 1122 section 4.1.3.5
    //# When a UDP datagram is received, its specific-destination address MUST be passed up to the application layer.
    //= RFC 1122 section 3.2.1.6
    //# The IP layer SHOULD pass received TOS values up to the transport layer.
    //= RFC 1122 section 4.1.4
    //# UDP MAY pass the received TOS up to the application layer.
    public func setTellsHeaders(_ socket: UInt32, _ isOn: Bool) {
        let s = datagramSocket(socket)
        s.pointee.tellsHeaders = isOn
        if isOn { s.pointee.awaitsDatagram = 0 }
    }

    public func tellsHeaders(_ socket: UInt32) -> Bool { datagramSocket(socket).pointee.tellsHeaders }

    // MARK: Events

    /// A socket that has become readable or got an error since it was last taken, and its owner; nil for none. O(1).
    public func takeDatagramEvent() -> (socket: UInt32, owner: UInt32)? {
        while case let socket = state.pointee.datagramEvents.removeFirst(), socket != 0 {
            state.pointee.eventCount &-= 1
            let s = state.pointee.datagramSockets[socket]
            s.pointee.flags.remove(.hasEvent)
            if s.pointee.flags.contains(.isOpen) { return (socket, s.pointee.owner) }
            // Closed while it was in the queue, which kept its slot.
            state.pointee.datagramSockets.free(socket)
        }
        return nil
    }

    /// Puts a socket at the end of the queue of events, unless it is there already.
    @inline(__always)
    func raiseDatagramEvent(_ socket: UInt32) {
        let s = state.pointee.datagramSockets[socket]
        s.pointee.awaitsDatagram = 0
        guard !s.pointee.flags.contains(.hasEvent) else { return }
        s.pointee.flags.insert(.hasEvent)
        state.pointee.datagramEvents.append(socket)
        state.pointee.eventCount &+= 1
    }
}
