import Demikernel
import Glibc
import Testing

/// A runtime over kernel sockets with a small heap and small tables.
func makeRuntime(_ change: (inout RuntimeConfiguration) -> Void = { _ in }) throws(DemikernelError) -> Runtime {
    var configuration = RuntimeConfiguration()
    configuration.memory.arenaByteCount = 8 << 20
    configuration.memory.commitsAtStart = false
    configuration.limits.maximumQueues = 256
    configuration.seed = 42
    change(&configuration)
    return try Runtime(configuration, libraryOSes: [.catnap])
}

/// Long enough for anything on loopback, and short enough that a lost event fails the test.
let generous = Duration.seconds(20)

/// What a completion said, in a form that can be compared.
enum Outcome: Equatable {
    case pushed(Int)
    case popped([UInt8])
    case endOfStream, accepted, connected, closed
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
    case .accepted: return .accepted
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
    var liveOperations, openQueues, closingQueues, liveBlocks, liveSegments, tasks, timers: Int
}

extension Runtime {
    func snapshot() -> Snapshot {
        let statistics = statistics
        return Snapshot(
            liveOperations: statistics.liveOperations, openQueues: statistics.openQueues, closingQueues: statistics.closingQueues,
            liveBlocks: statistics.memory.liveBlocks, liveSegments: statistics.memory.liveSegments, tasks: statistics.tasks, timers: statistics.timers
        )
    }

    func buffer(_ bytes: [UInt8]) throws(DemikernelError) -> Buffer { try allocate(copying: bytes.span) }

    func array(_ bytes: [UInt8]) throws(DemikernelError) -> ScatterGatherArray { try ScatterGatherArray(buffer(bytes)) }

    func push(_ queue: QueueDescriptor, bytes: [UInt8]) throws(DemikernelError) -> QueueToken { try push(queue, buffer(bytes)) }

    /// Waits, and says what came.
    func result(_ token: QueueToken, timeout: Duration? = generous) throws(DemikernelError) -> Outcome {
        let completion = try wait(token, timeout: timeout)
        return outcome(consume completion.result)
    }

    /// A listening socket on loopback, on a port of the kernel's choice.
    func listener(_ family: AddressFamily = .ipv4, backlog: Int = 16) throws(DemikernelError) -> (queue: QueueDescriptor, address: SocketAddress) {
        let queue = try socket(family, .stream)
        try bind(queue, to: .loopback(family, port: 0))
        try listen(queue, backlog: backlog)
        return (queue, try localAddress(queue))
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

    /// A TCP connection within the runtime. `prepare` sets options before it is made, on the listener and on the client.
    func connection(
        _ family: AddressFamily = .ipv4,
        prepare: (borrowing Runtime, QueueDescriptor) throws(DemikernelError) -> Void = { (_, _) throws(DemikernelError) in }
    ) throws(DemikernelError) -> Connection {
        let listening = try listener(family)
        try prepare(self, listening.queue)
        let accept = try accept(listening.queue)
        let client = try socket(family, .stream)
        try prepare(self, client)
        let connect = try connect(client, to: listening.address)
        guard try result(connect) == .connected else { throw DemikernelError(EPROTO, .connect) }
        let server = try accepted(accept).queue
        try close(listening.queue)
        return Connection(client: client, server: server)
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
            if errorNumber({ () throws(DemikernelError) in _ = try wait(token, timeout: .milliseconds(5)) }) == ETIMEDOUT {
                return (token, byteCount)
            }
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

/// How many descriptors the process has open. Only meaningful in a process of its own: an exit test.
func openDescriptorCount() -> Int {
    guard let directory = opendir("/proc/self/fd") else { return -1 }
    defer { closedir(directory) }
    var count = 0
    while readdir(directory) != nil { count += 1 }
    return count
}

/// Descriptors that Swift's own timers may open meanwhile, once, on a thread of theirs. What leaks has to happen more often than this to be seen.
let foreignDescriptors = 8
