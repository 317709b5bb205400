import Demikernel
import EthernetDevice
import Glibc
import NetworkStack
import UserNetwork
import WireFormats

// The user-level network. Set-up is the same for every count (so it vanishes in the difference of two runs): the frames that are received are made
// and held before the loop. 64 bytes of payload, IPv4, timestamps, checksums in software.

/// The connection of an accept.
func accepted(_ completion: consuming Completion) -> QueueDescriptor {
    switch consume completion.result {
    case .accepted(let queue, _): return queue
    default: fatalError("the accept failed")
    }
}

/// Frames that are made before a loop begins: what the initial congestion window lets a peer send.
private let framesMade = 220

struct Session: ~Copyable {
    let device: PeerDevice
    let runtime: Runtime

    init() throws(DemikernelError) {
        let device = PeerDevice()
        var configuration = RuntimeConfiguration()
        configuration.clock = device.clock
        configuration.idle = .spin
        // Hashes and tokens are drawn from it: with another seed in each run a figure would be another in each run.
        configuration.seed = 1
        runtime = try Runtime(
            configuration,
            making: [
                UserNetwork.maker(device: device.device(), addresses: [IPv4Prefix(address: PeerDevice.stackAddress, length: PeerDevice.link)]) {
                    PeerDevice.addIPv6(PeerDevice.stackIPv6Address, to: &$0)
                }
            ])
        self.device = device
    }

    func settle() {
        for _ in 0..<64 { runtime.poll() }
    }

    /// A connection of the runtime's to a listener of the peer's.
    func connect(_ family: AddressFamily = .ipv4) throws(DemikernelError) -> (queue: QueueDescriptor, peer: UInt32) {
        let listener = device.peer.makeConnection(owner: 1)
        let address = family == .ipv4 ? PeerDevice.peerAddress : PeerDevice.peerIPv6Address
        guard device.peer.bind(listener, to: Endpoint(address: address, port: 7)) == 0, device.peer.listen(listener, backlog: 16) == 0 else {
            fatalError("the peer does not listen")
        }
        let queue = try runtime.socket(family, .stream)
        let remote: SocketAddress = family == .ipv4 ? .ipv4(10, 0, 0, 2, port: 7) : try SocketAddress(parsing: "[2001:db8::2]:7")
        let token = try runtime.connect(queue, to: remote)
        settle()
        _ = try runtime.wait(token)
        return (queue, device.peer.accept(listener, owner: 2))
    }

    func unit() throws(DemikernelError) -> ScatterGatherArray {
        try ScatterGatherArray(runtime.allocate(64))
    }

    /// Has the peer make segments of 64 bytes, and holds them.
    func holdSegments(of connections: [UInt32], count: Int) throws(DemikernelError) {
        device.mode = .hold
        device.peer.setTime(runtime.core.now)
        for index in 0..<count {
            let array = try unit().takeOver()
            guard device.peer.send(connections[index % connections.count], array) == 0 else { fatalError("the peer cannot send") }
            // The peer's output is bounded.
            if index % 256 == 255 { device.holdOutput() }
        }
        device.holdOutput()
        guard device.heldCount >= count else { fatalError("the peer did not send all segments") }
        device.mode = .play
    }
}

/// A segment in order comes in: pop, the frame, wait; and half of an acknowledgement.
@inline(never)
func receiveSegments(_ count: Int, _ family: AddressFamily = .ipv4) throws(DemikernelError) {
    let session = try Session()
    let (queue, peer) = try session.connect(family)
    try session.holdSegments(of: [peer], count: framesMade)
    for _ in 0..<count {
        let array = popped(try session.runtime.wait(try session.runtime.pop(queue)))
        precondition(array.byteCount == 64)
    }
    session.device.discardHeld()
}

/// A push goes out: push, the frame at the device, wait.
@inline(never)
func pushSegments(_ count: Int, _ family: AddressFamily = .ipv4) throws(DemikernelError) {
    let session = try Session()
    let (queue, _) = try session.connect(family)
    session.device.mode = .play
    let units = UnsafeMutableBufferPointer<UnsafeMutablePointer<SegmentDescriptor>>.allocate(capacity: framesMade)
    for index in 0..<framesMade { units[index] = try session.unit().takeOver() }
    for index in 0..<count {
        pushed(try session.runtime.wait(try session.runtime.push(queue, ScatterGatherArray(unsafelyTakingOver: units[index]))))
    }
    for index in count..<framesMade { units[index].releaseArray() }
    units.deallocate()
}

/// An acknowledgement of two segments comes in.
@inline(never)
func receiveAcknowledgements(_ count: Int) throws(DemikernelError) {
    let session = try Session()
    let (queue, _) = try session.connect()
    session.device.mode = .hold
    for _ in 0..<framesMade { pushed(try session.runtime.wait(try session.runtime.push(queue, session.unit()))) }
    session.device.holdOutput()
    guard session.device.heldCount >= framesMade / 2 - 1 else { fatalError("the peer did not acknowledge") }
    session.device.mode = .play
    for _ in 0..<count { session.runtime.poll() }
    session.device.discardHeld()
}

/// A turn of the runtime with nothing to do.
@inline(never)
func turnWithoutWork(_ count: Int) throws(DemikernelError) {
    let session = try Session()
    _ = try session.connect()
    for _ in 0..<count { session.runtime.poll() }
}

/// As `receiveSegments`, over many connections in random order, with a pop pending on each.
@inline(never)
func receiveSegments(_ count: Int, over connectionCount: Int) throws(DemikernelError) {
    let session = try Session()
    let listener = try session.runtime.socket(.ipv4, .stream)
    try session.runtime.bind(listener, to: .any(port: 9))
    try session.runtime.listen(listener, backlog: 1_024)
    var peers: [UInt32] = []
    while peers.count < connectionCount {
        let peer = session.device.peer.makeConnection(owner: 5)
        guard session.device.peer.connect(peer, to: Endpoint(address: PeerDevice.stackAddress, port: 9)) == 0 else { fatalError("the peer cannot connect") }
        peers.append(peer)
        let token = try session.runtime.accept(listener)
        let queue = accepted(try session.runtime.wait(token))
        _ = try session.runtime.pop(queue)
    }
    var random = SeededRandom(seed: 11)
    peers.shuffle(using: &random)
    try session.holdSegments(of: peers, count: max(min(connectionCount, 8_192), framesMade))
    var batch = CompletionBatch(capacity: 1)
    for _ in 0..<count {
        try session.runtime.waitNext(into: &batch)
        while let completion = batch.next() {
            let queue = completion.queue
            _ = popped(completion)
            _ = try session.runtime.pop(queue)
        }
    }
    session.device.discardHeld()
}

/// A datagram comes in: pop, the frame, wait.
@inline(never)
func receiveDatagrams(_ count: Int) throws(DemikernelError) {
    let session = try Session()
    let queue = try session.runtime.socket(.ipv4, .datagram)
    try session.runtime.bind(queue, to: .any(port: 8))
    let peer = session.device.peer.makeDatagramSocket(owner: 1)
    func send() throws(DemikernelError) {
        let array = try session.unit().takeOver()
        guard session.device.peer.sendDatagram(peer, array, to: Endpoint(address: PeerDevice.stackAddress, port: 8)) == 0 else {
            fatalError("the peer cannot send")
        }
    }
    // The first one asks for the address.
    try send()
    let first = popped(try session.runtime.wait(try session.runtime.pop(queue)))
    precondition(first.byteCount == 64)
    session.device.mode = .hold
    for _ in 0..<framesMade { try send() }
    session.device.holdOutput()
    session.device.mode = .play
    for _ in 0..<count { _ = popped(try session.runtime.wait(try session.runtime.pop(queue))) }
    session.device.discardHeld()
}

/// A datagram goes out on a connected socket: push, the frame at the device, wait.
/// - Parameter isForQueue: whether the buffers are allocated for the queue, with headroom for its headers.
@inline(never)
func pushDatagrams(_ count: Int, isForQueue: Bool = false) throws(DemikernelError) {
    let session = try Session()
    let queue = try session.runtime.socket(.ipv4, .datagram)
    _ = try session.runtime.wait(try session.runtime.connect(queue, to: .ipv4(10, 0, 0, 2, port: 7)))
    pushed(try session.runtime.wait(try session.runtime.push(queue, session.unit())))
    session.settle()
    session.device.mode = .play
    let units = UnsafeMutableBufferPointer<UnsafeMutablePointer<SegmentDescriptor>>.allocate(capacity: framesMade)
    for index in 0..<framesMade {
        let buffer = isForQueue ? try session.runtime.allocate(64, for: queue) : try session.runtime.allocate(64)
        units[index] = try ScatterGatherArray(buffer).takeOver()
    }
    for index in 0..<count {
        pushed(try session.runtime.wait(try session.runtime.push(queue, ScatterGatherArray(unsafelyTakingOver: units[index]))))
    }
    for index in count..<framesMade { units[index].releaseArray() }
    units.deallocate()
}

/// The two ends of a link, each a library OS of one runtime: a request of 64 bytes and its echo.
struct EchoPair: ~Copyable {
    let runtime: Runtime
    let clock: PeerDevice
    let client: LibraryOSIdentifier
    let server: LibraryOSIdentifier

    init() throws(DemikernelError) {
        let clock = PeerDevice()
        var configuration = RuntimeConfiguration()
        configuration.clock = clock.clock
        configuration.idle = .spin
        // Hashes and tokens are drawn from it: with another seed in each run a figure would be another in each run.
        configuration.seed = 1
        let runtime = try Runtime(configuration)
        let (left, right) = MemoryEthernetPair.make(capacity: 256)
        let client = try runtime.register(
            try UserNetwork.make(for: runtime.core, device: left, addresses: [IPv4Prefix(address: PeerDevice.stackAddress, length: PeerDevice.link)]))
        let server = try runtime.register(
            try UserNetwork.make(for: runtime.core, device: right, addresses: [IPv4Prefix(address: PeerDevice.peerAddress, length: PeerDevice.link)]))
        self.clock = clock
        self.client = client
        self.server = server
        self.runtime = runtime
    }

    /// The two ends of a connection.
    func connect() throws(DemikernelError) -> (client: QueueDescriptor, server: QueueDescriptor) {
        let listener = try runtime.socket(.ipv4, .stream, on: server)
        try runtime.bind(listener, to: .any(port: 7))
        try runtime.listen(listener, backlog: 16)
        let accept = try runtime.accept(listener)
        let connection = try runtime.socket(.ipv4, .stream, on: client)
        _ = try runtime.wait(try runtime.connect(connection, to: .ipv4(10, 0, 0, 2, port: 7)))
        return (connection, accepted(try runtime.wait(accept)))
    }

    /// The runtime, for somebody else.
    consuming func intoRuntime() -> Runtime { runtime }
}

@inline(never)
func echoOverStream(_ count: Int) throws(DemikernelError) {
    let pair = try EchoPair()
    let (client, server) = try pair.connect()
    var unit = try ScatterGatherArray(pair.runtime.allocate(64))
    for _ in 0..<count {
        try pair.runtime.push(client, unit, completion: .discarded)
        let request = popped(try pair.runtime.wait(try pair.runtime.pop(server)))
        try pair.runtime.push(server, request, completion: .discarded)
        unit = popped(try pair.runtime.wait(try pair.runtime.pop(client)))
    }
}

@inline(never)
func echoOverDatagrams(_ count: Int) throws(DemikernelError) {
    let pair = try EchoPair()
    let server = try pair.runtime.socket(.ipv4, .datagram, on: pair.server)
    try pair.runtime.bind(server, to: .any(port: 7))
    let client = try pair.runtime.socket(.ipv4, .datagram, on: pair.client)
    try pair.runtime.bind(client, to: .any(port: 8))
    var unit = try ScatterGatherArray(pair.runtime.allocate(64))
    for _ in 0..<count {
        try pair.runtime.pushTo(client, unit, .ipv4(10, 0, 0, 2, port: 7), completion: .discarded)
        let request = popped(try pair.runtime.wait(try pair.runtime.pop(server)))
        try pair.runtime.pushTo(server, request, .ipv4(10, 0, 0, 1, port: 8), completion: .discarded)
        unit = popped(try pair.runtime.wait(try pair.runtime.pop(client)))
    }
}

/// Streams `count` bytes from one stack to the other, 64 KiB a push, both on this core, and prints the rate.
func measureBulkTransfer(_ count: Int) throws(DemikernelError) {
    let pair = try EchoPair()
    let (client, server) = try pair.connect()
    let start = monotonicNanoseconds()
    var received = 0
    var batch = CompletionBatch(capacity: 64)
    _ = try pair.runtime.push(client, pair.runtime.allocate(65_536))
    _ = try pair.runtime.pop(server)
    while received < count {
        try pair.runtime.waitNext(into: &batch)
        while let completion = batch.next() {
            switch consume completion.result {
            case .pushed: _ = try pair.runtime.push(client, pair.runtime.allocate(65_536))
            case .popped(let array, _):
                received += array.byteCount
                _ = try pair.runtime.pop(server)
            default: fatalError("the transfer failed")
            }
        }
    }
    print("bulk transfer: \(received * 8 / Int(monotonicNanoseconds() - start)) Gbit/s")
}

func monotonicNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

/// Prints the time of a round trip, the median of eleven runs of `count`.
func measureTime(_ name: String, _ count: Int, _ operation: (Int) throws(DemikernelError) -> Void) throws(DemikernelError) {
    var times: [UInt64] = []
    for _ in 0..<11 {
        let start = monotonicNanoseconds()
        try operation(count)
        times.append((monotonicNanoseconds() - start) / UInt64(count))
    }
    times.sort()
    print("\(name): \(times[5]) ns, from \(times[0]) to \(times[10])")
}
