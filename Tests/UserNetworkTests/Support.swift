import Demikernel
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import UserNetwork
import WireFormats

/// A clock that goes on by `step` nanoseconds with every reading: with every turn of the runtimes that have it.
struct VirtualClock {
    private let words: UnsafeMutablePointer<UInt64>

    init(step: UInt64 = 1_000) {
        // Lives as long as the process: runtimes read it until they end.
        words = .allocate(capacity: 2)
        words[0] = 1_000_000_000
        words[1] = step
    }

    var now: UInt64 { words[0] }

    var step: UInt64 {
        get { words[1] }
        nonmutating set { words[1] = newValue }
    }

    func advance(seconds: Double) { words[0] += UInt64(seconds * 1e9) }

    var clock: RuntimeClock {
        RuntimeClock(
            injected: { context in
                let words = context.unsafelyUnwrapped.assumingMemoryBound(to: UInt64.self)
                words[0] &+= words[1]
                return words[0]
            }, context: words)
    }
}

/// The addresses of the two hosts, 10.0.0.1 and 10.0.0.2, on one link.
enum Host {
    static let a = IPv4Prefix(address: .ipv4(10, 0, 0, 1), length: 24)
    static let b = IPv4Prefix(address: .ipv4(10, 0, 0, 2), length: 24)

    static func a(port: UInt16) -> SocketAddress { .ipv4(10, 0, 0, 1, port: port) }
    static func b(port: UInt16) -> SocketAddress { .ipv4(10, 0, 0, 2, port: port) }
    /// An address on the link that nobody has.
    static func nobody(port: UInt16) -> SocketAddress { .ipv4(10, 0, 0, 99, port: port) }
}

/// Two hosts in one runtime, each a library OS of its own with one end of a link, in virtual time.
struct Pair: ~Copyable {
    let runtime: Runtime
    let clock: VirtualClock
    let a, b: LibraryOSIdentifier
    let libraryA, libraryB: LibraryOS
    private let faulty: FaultyDevice

    init(
        capacity: Int = 1_024, faults: FaultConfiguration = .none, wrap: (EthernetDevice) throws -> EthernetDevice = { $0 },
        runtime change: (inout RuntimeConfiguration) -> Void = { _ in }, network adjust: (inout NetworkConfiguration) -> Void = { _ in }
    ) throws {
        let clock = VirtualClock()
        let runtime = try Runtime(configuration(clock, change))
        var (deviceA, deviceB) = MemoryEthernetPair.make(capacity: capacity)
        let faulty = FaultyDevice.wrap(deviceA, faults: faults, seed: 7)
        deviceA = faulty.device
        deviceB = try wrap(deviceB)
        let libraryA = try UserNetwork.make(for: runtime.core, device: deviceA, addresses: [Host.a], adjust: adjust)
        let a = try runtime.register(libraryA)
        let libraryB = try UserNetwork.make(for: runtime.core, device: deviceB, addresses: [Host.b], adjust: adjust)
        let b = try runtime.register(libraryB)
        self.runtime = runtime
        self.clock = clock
        self.faulty = faulty
        (self.a, self.b) = (a, b)
        (self.libraryA, self.libraryB) = (libraryA, libraryB)
    }

    /// Loses every frame from now on.
    func silence() {
        var faults = FrameFaults()
        faults.drop = 1_000_000
        faulty.setFaults(FaultConfiguration(both: faults))
    }

    /// The stack of host `a`, as it counts.
    var network: NetworkStatistics { UserNetwork.statistics(of: libraryA).network }

    /// A listening socket of host `b`.
    func listener(port: UInt16 = 7, backlog: Int = 16) throws(DemikernelError) -> QueueDescriptor {
        let queue = try runtime.socket(.ipv4, .stream, on: b)
        try runtime.bind(queue, to: Host.b(port: port))
        try runtime.listen(queue, backlog: backlog)
        return queue
    }

    /// A connection from `a` to `b`. `prepare` sets options before it is made, on the listener and on the client.
    func connection(
        prepare: (borrowing Runtime, QueueDescriptor) throws(DemikernelError) -> Void = { (_, _) throws(DemikernelError) in }
    ) throws(DemikernelError) -> Connection {
        let listening = try listener()
        try prepare(runtime, listening)
        let accept = try runtime.accept(listening)
        let client = try runtime.socket(.ipv4, .stream, on: a)
        try prepare(runtime, client)
        let connect = try runtime.connect(client, to: Host.b(port: 7))
        guard try runtime.result(connect) == .connected else { throw DemikernelError(EPROTO, .connect) }
        let server = try runtime.accepted(accept).queue
        try runtime.close(listening)
        return Connection(client: client, server: server)
    }

    /// A bound datagram socket.
    func datagramSocket(_ library: LibraryOSIdentifier, port: UInt16 = 0) throws(DemikernelError) -> QueueDescriptor {
        let queue = try runtime.socket(.ipv4, .datagram, on: library)
        try runtime.bind(queue, to: .any(port: port))
        return queue
    }

    /// Runs until both hosts have nothing to do but to wait, or for so many turns.
    func settle(turns: Int = 200) {
        for _ in 0..<turns { runtime.poll() }
    }

    /// Closes what is open and expects that nothing is left, when every connection has had the time to end.
    func expectNothingLeft(sourceLocation: SourceLocation = #_sourceLocation) {
        clock.step = 100_000_000
        settle(turns: 2_000)
        clock.step = 1_000
        let left = runtime.snapshot()
        #expect(left.liveOperations == 0, sourceLocation: sourceLocation)
        #expect(left.closingQueues == 0, sourceLocation: sourceLocation)
        #expect(left.liveBlocks == 0, sourceLocation: sourceLocation)
        #expect(left.liveSegments == 0, sourceLocation: sourceLocation)
        #expect(left.timers == 0, sourceLocation: sourceLocation)
        for library in [libraryA, libraryB] {
            let statistics = UserNetwork.statistics(of: library).network
            #expect(statistics.connections + statistics.datagramSockets <= left.openQueues, sourceLocation: sourceLocation)
        }
    }
}

private func configuration(_ clock: VirtualClock, _ change: (inout RuntimeConfiguration) -> Void) -> RuntimeConfiguration {
    var configuration = RuntimeConfiguration()
    configuration.memory.arenaByteCount = 32 << 20
    configuration.memory.commitsAtStart = false
    configuration.limits.maximumQueues = 4_096
    configuration.seed = 42
    configuration.clock = clock.clock
    change(&configuration)
    return configuration
}

/// Two hosts with a runtime, and so with a heap, of their own: the link copies.
struct TwoRuntimes: ~Copyable {
    let a, b: Runtime
    let clock: VirtualClock

    init() throws {
        let clock = VirtualClock()
        let (deviceA, deviceB) = MemoryEthernetPair.make()
        let a = try Runtime(configuration(clock) { _ in }, making: [UserNetwork.maker(device: deviceA, addresses: [Host.a])])
        let b = try Runtime(configuration(clock) { $0.seed = 43 }, making: [UserNetwork.maker(device: deviceB, addresses: [Host.b])])
        self.a = a
        self.b = b
        self.clock = clock
    }

    /// Turns both until the operation on `a`, or on `b`, has completed.
    func result(a token: QueueToken) throws -> Outcome { try result(token, a, b) }
    func result(b token: QueueToken) throws -> Outcome { try result(token, b, a) }

    private func result(_ token: QueueToken, _ one: borrowing Runtime, _ other: borrowing Runtime) throws -> Outcome {
        for _ in 0..<2_000_000 {
            if let completion = try one.redeem(token) { return outcome(consume completion.result) }
            one.poll()
            other.poll()
        }
        throw DemikernelError(ETIMEDOUT, .wait)
    }

    func settle(turns: Int = 200) {
        for _ in 0..<turns {
            a.poll()
            b.poll()
        }
    }
}

/// Virtual time long enough for anything that needs no timer of the protocol but the shortest.
let generous = Duration.seconds(2)

/// What a completion said, in a form that can be compared.
enum Outcome: Equatable {
    case pushed(Int)
    case popped([UInt8])
    case accepted(QueueDescriptor)
    case endOfStream, connected, closed
    case failed(Int32, byteCount: Int)

    var errorNumber: Int32 {
        if case .failed(let number, _) = self { return number }
        return 0
    }
}

func outcome(_ result: consuming OperationResult) -> Outcome {
    switch consume result {
    case .pushed(let byteCount): return .pushed(byteCount)
    case .popped(let array, _): return .popped(bytes(array))
    case .endOfStream: return .endOfStream
    case .accepted(let queue, _): return .accepted(queue)
    case .connected: return .connected
    case .closed: return .closed
    case .failed(let error, let byteCount): return .failed(error.errno, byteCount: byteCount)
    }
}

func bytes(_ array: borrowing ScatterGatherArray) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: array.byteCount) { storage, count in
        count = array.copyBytes(to: UnsafeMutableRawBufferPointer(storage))
    }
}

/// What a call refused; nil when it did not.
func refusal(_ body: () throws(DemikernelError) -> Void) -> DemikernelError? {
    do throws(DemikernelError) {
        try body()
        return nil
    } catch {
        return error
    }
}

/// The errno that a call refused with; 0 when it did not.
func errorNumber(_ body: () throws(DemikernelError) -> Void) -> Int32 { refusal(body)?.errno ?? 0 }

/// The ends of a connection.
struct Connection {
    var client, server: QueueDescriptor
}

/// Everything that a refused call must leave as it was.
struct Snapshot: Equatable {
    var liveOperations, openQueues, closingQueues, liveBlocks, liveSegments, timers: Int
}

extension Runtime {
    func snapshot() -> Snapshot {
        let statistics = statistics
        return Snapshot(
            liveOperations: statistics.liveOperations, openQueues: statistics.openQueues, closingQueues: statistics.closingQueues,
            liveBlocks: statistics.memory.liveBlocks, liveSegments: statistics.memory.liveSegments, timers: statistics.timers)
    }

    func buffer(_ bytes: [UInt8]) throws(DemikernelError) -> Buffer { try allocate(copying: bytes.span) }

    func array(_ bytes: [UInt8]) throws(DemikernelError) -> ScatterGatherArray { try ScatterGatherArray(buffer(bytes)) }

    func push(_ queue: QueueDescriptor, bytes: [UInt8]) throws(DemikernelError) -> QueueToken { try push(queue, buffer(bytes)) }

    /// Waits, and says what came.
    func result(_ token: QueueToken, timeout: Duration? = generous) throws(DemikernelError) -> Outcome {
        let completion = try wait(token, timeout: timeout)
        return outcome(consume completion.result)
    }

    /// Whether the operation has not completed after so many turns; it stays redeemable.
    func isPending(_ token: QueueToken, turns: Int = 200) throws(DemikernelError) -> Bool {
        for _ in 0..<turns { poll() }
        return errorNumber { () throws(DemikernelError) in _ = try wait(token, timeout: .zero) } == ETIMEDOUT
    }

    /// Takes one connection of a listener.
    func accepted(_ token: QueueToken) throws(DemikernelError) -> (queue: QueueDescriptor, peer: SocketAddress) {
        let completion = try wait(token, timeout: generous)
        switch consume completion.result {
        case .accepted(let queue, let peer): return (queue, peer)
        case .failed(let error, _): throw error
        default: throw DemikernelError(EPROTO, .accept)
        }
    }

    /// Pops until `count` bytes are there, or the stream ends.
    func receive(_ queue: QueueDescriptor, count: Int) throws(DemikernelError) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            guard case .popped(let more) = try result(pop(queue, maximumBytes: count - bytes.count)) else { break }
            bytes += more
        }
        return bytes
    }

    /// Pops to the end of the stream; what came, and how it ended.
    func receiveAll(_ queue: QueueDescriptor) throws(DemikernelError) -> (bytes: [UInt8], end: Outcome) {
        var bytes: [UInt8] = []
        while true {
            let outcome = try result(pop(queue))
            guard case .popped(let more) = outcome else { return (bytes, outcome) }
            bytes += more
        }
    }

    /// Pushes until one does not complete at once; the completed ones are redeemed.
    /// - Returns: the pending token, and the bytes that were pushed with it and before it.
    func fill(_ queue: QueueDescriptor, unit: Int) throws(DemikernelError) -> (pending: QueueToken, byteCount: Int) {
        var byteCount = 0
        while true {
            let token = try push(queue, bytes: pattern(byteCount..<byteCount + unit))
            byteCount += unit
            if try isPending(token) { return (token, byteCount) }
        }
    }
}

/// Bytes of a seeded, unbounded sequence: what arrives can be checked at any position.
///
/// It repeats after a prime number of bytes, which no buffer or segment has as its size, so that bytes in the wrong place show.
func pattern(_ range: Range<Int>) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: range.count) { storage, count in
        while count < range.count {
            let start = (range.lowerBound + count) % period.count
            let length = min(period.count - start, range.count - count)
            period.withUnsafeBytes { (storage.baseAddress! + count).update(from: $0.bindMemory(to: UInt8.self).baseAddress! + start, count: length) }
            count += length
        }
    }
}

private let period: [UInt8] = {
    var random = SeededRandom(seed: 1)
    return (0..<65_521).map { _ in UInt8(truncatingIfNeeded: random.next()) }
}()
