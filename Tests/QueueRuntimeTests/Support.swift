import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// A runtime with a small heap and small tables. It spins, so that no test depends on how the kernel wakes a sleeper unless it says so.
func makeRuntime(
    making libraryOSes: [(RuntimeCore) throws(DemikernelError) -> LibraryOS] = [], _ change: (inout RuntimeConfiguration) -> Void = { _ in }
) throws(DemikernelError) -> Runtime {
    var configuration = RuntimeConfiguration()
    configuration.memory.arenaByteCount = 4 << 20
    configuration.memory.commitsAtStart = false
    configuration.limits.maximumQueues = 256
    configuration.idle = .spin
    configuration.seed = 42
    change(&configuration)
    return try Runtime(configuration, making: libraryOSes)
}

/// A runtime over kernel sockets, as `makeRuntime`.
func makeSocketRuntime(_ change: (inout RuntimeConfiguration) -> Void = { _ in }) throws(DemikernelError) -> Runtime {
    var configuration = RuntimeConfiguration()
    configuration.memory.arenaByteCount = 4 << 20
    configuration.memory.commitsAtStart = false
    configuration.limits.maximumQueues = 256
    configuration.idle = .spin
    configuration.seed = 42
    change(&configuration)
    return try Runtime(configuration, libraryOSes: [.catnap])
}

/// Long enough for anything on loopback, and short enough that a lost event fails the test.
let generous = Duration.seconds(20)

/// Time that moves only when a test moves it, or by `step` at every reading.
final class VirtualClock {
    private let state: UnsafeMutablePointer<(now: UInt64, step: UInt64)>

    init(now: UInt64 = 1_000_000, step: UInt64 = 0) {
        state = .allocate(capacity: 1)
        state.initialize(to: (now, step))
    }

    deinit { state.deallocate() }

    var clock: RuntimeClock {
        RuntimeClock(
            injected: { context in
                let state = context!.assumingMemoryBound(to: (now: UInt64, step: UInt64).self)
                state.pointee.now += state.pointee.step
                return state.pointee.now
            }, context: state)
    }

    var now: UInt64 { state.pointee.now }

    func advance(by nanoseconds: UInt64) { state.pointee.now += nanoseconds }
}

/// What a completion said, in a form that can be compared.
enum Outcome: Equatable {
    case pushed(Int)
    case popped([UInt8])
    case endOfStream, accepted, connected, closed
    case failed(Int32, byteCount: Int)
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

/// A completion that can be compared.
struct Described: Equatable {
    var token: QueueToken
    var index: Int
    var outcome: Outcome

    init(token: QueueToken, index: Int, outcome: Outcome) {
        self.token = token
        self.index = index
        self.outcome = outcome
    }

    init(_ completion: consuming Completion) {
        token = completion.token
        index = completion.index
        outcome = QueueRuntimeTests.outcome(consume completion.result)
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

/// Everything that a refused call must leave as it was.
struct Snapshot: Equatable {
    var liveOperations, openQueues, closingQueues, liveBlocks, liveSegments, usedByteCount, tasks, timers: Int
    var queuesOpened: UInt64
}

extension Runtime {
    func snapshot() -> Snapshot {
        let statistics = statistics
        return Snapshot(
            liveOperations: statistics.liveOperations, openQueues: statistics.openQueues, closingQueues: statistics.closingQueues,
            liveBlocks: statistics.memory.liveBlocks, liveSegments: statistics.memory.liveSegments,
            usedByteCount: statistics.memory.usedByteCount, tasks: statistics.tasks, timers: statistics.timers,
            queuesOpened: statistics.queuesOpened)
    }

    /// A buffer with these bytes.
    func buffer(_ bytes: [UInt8]) throws(DemikernelError) -> Buffer { try allocate(copying: bytes.span) }

    /// An array of one segment.
    func array(_ bytes: [UInt8]) throws(DemikernelError) -> ScatterGatherArray { try ScatterGatherArray(buffer(bytes)) }

    func push(_ queue: QueueDescriptor, bytes: [UInt8]) throws(DemikernelError) -> QueueToken { try push(queue, buffer(bytes)) }

    /// Waits, and says what came.
    func result(_ token: QueueToken, timeout: Duration? = generous) throws(DemikernelError) -> Outcome {
        let completion = try wait(token, timeout: timeout)
        return outcome(consume completion.result)
    }

    /// What `redeem` gives; nil while the operation is pending.
    func redeemed(_ token: QueueToken) throws(DemikernelError) -> Outcome? {
        guard let completion = try redeem(token) else { return nil }
        return outcome(consume completion.result)
    }

    /// What `waitAny` gives.
    func first(of tokens: [QueueToken], timeout: Duration? = generous) throws(DemikernelError) -> Described {
        Described(try waitAny(tokens.span, timeout: timeout))
    }

    /// What one `waitNext` gives, in order.
    func next(capacity: Int = 64, timeout: Duration? = .zero) throws(DemikernelError) -> [QueueToken] {
        var batch = CompletionBatch(capacity: capacity)
        try waitNext(into: &batch, timeout: timeout)
        var tokens: [QueueToken] = []
        while let completion = batch.next() { tokens.append(completion.token) }
        return tokens
    }
}

/// The runtime of a core on another thread, for what is forbidden there and for `Interrupter`.
func onOtherThread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
    final class Box: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
    var thread = pthread_t()
    let context = Unmanaged.passRetained(Box(body)).toOpaque()
    let error = pthread_create(
        &thread, nil,
        { context in
            Unmanaged<Box>.fromOpaque(context!).takeRetainedValue().body()
            return nil
        }, context)
    precondition(error == 0, "no thread")
    return thread
}

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
