import TaskScheduler
import DatapathMemory
import Glibc

/// A limit on everything that a runtime can hold, and what happens there.
///
/// | limit | default | at the limit |
/// |---|---|---|
/// | `maximumQueues` | 65,536 | `socket`, `queue` throw `EMFILE`; an accept fails with `EMFILE` |
/// | `maximumOperations` | 262,144 | a call that makes a token throws `ENOBUFS`; counts pending and unredeemed operations |
/// | `maximumTasks` | 16,384 | `spawn` throws `EAGAIN` |
/// | `maximumTimers` | 65,536 | a wait with a timeout inside a coroutine throws `EAGAIN` |
/// | `maximumWaiters` | 16,384 | `makeWaitSet`, a wait inside a coroutine throw `EAGAIN` |
/// | `maximumUnitSize` | 258,048 bytes | a push of a larger unit throws `EMSGSIZE` |
/// | `memoryQueueDepth` | 1,024 units | a push to an in-memory queue stays pending |
/// | `sharedRingByteCount` | 1 MiB a direction | a push to a queue in shared memory stays pending; a peer that brings a larger ring is refused |
/// | `handshakeTimeout` | 10 s | a connect through shared memory fails with `ETIMEDOUT`; a peer that says nothing is dropped and counted |
/// | `discardedPushByteCount` | 1 MiB a stream | a push with `completion: .discarded` throws `EAGAIN` |
/// | `coroutineStackByteCount` | 64 KiB | a coroutine that needs more meets its guard page (a crash, not a corruption) |
/// | `closeLinger` | 60 s | a closed queue that its peer does not let go is dropped |
/// | `MemoryConfiguration.arenaByteCount` | 64 MiB | `allocate` throws `ENOBUFS`; the ladder before it is `DatapathHeap`'s |
/// | `MemoryConfiguration.maximumSegments` | 262,144 | making an array throws `ENOBUFS` |
public struct Limits: Sendable {
    /// Queues open or closing at once; at most 1,048,575.
    public var maximumQueues = 65_536
    /// Operations pending or not redeemed at once; at most 1,048,575.
    public var maximumOperations = 262_144
    /// Coroutines and tasks at once; at most 262,144.
    public var maximumTasks = 16_384
    /// Timers armed at once.
    public var maximumTimers = 65_536
    /// Wait sets and blocked coroutines at once.
    public var maximumWaiters = 16_384
    /// Bytes of the largest unit that a unit queue takes as one array (the protocol may set a lower one: 65,507 for UDP over IPv4).
    public var maximumUnitSize = DatapathHeap.maximumBufferByteCount
    /// Units that an in-memory queue holds before a push has to wait.
    public var memoryQueueDepth = 1_024
    /// Bytes of each of the two rings of a connection through shared memory: a power of two, 64 KiB to 64 MiB. A unit fills three quarters of one at most.
    public var sharedRingByteCount = 1 << 20
    /// Nanoseconds in which a connection through shared memory has to be agreed on.
    public var handshakeTimeout: UInt64 = 10_000_000_000
    /// Bytes that a queue holds of pushes that nobody waits for.
    public var discardedPushByteCount = 1 << 20
    /// Bytes of a coroutine's stack, a multiple of 4,096.
    public var coroutineStackByteCount = 65_536
    /// Nanoseconds that a closed queue waits for its peer's end.
    public var closeLinger: UInt64 = 60_000_000_000

    public init() {}

    func validate() throws(DemikernelError) {
        guard (1..<1 << 20).contains(maximumQueues), (1..<1 << 20).contains(maximumOperations) else {
            throw DemikernelError(EINVAL, .initialize, "maximumQueues and maximumOperations must be between 1 and 1048575")
        }
        guard (1...262_144).contains(maximumTasks), (1...1 << 24).contains(maximumTimers), (1...1 << 24).contains(maximumWaiters) else {
            throw DemikernelError(EINVAL, .initialize, "maximumTasks must be between 1 and 262144, maximumTimers and maximumWaiters at most 16777216")
        }
        guard coroutineStackByteCount >= 16_384, coroutineStackByteCount % 4_096 == 0 else {
            throw DemikernelError(EINVAL, .initialize, "coroutineStackByteCount must be a multiple of 4096, at least 16384")
        }
        guard maximumUnitSize >= 0, memoryQueueDepth > 0, discardedPushByteCount >= 0 else {
            throw DemikernelError(EINVAL, .initialize, "maximumUnitSize, memoryQueueDepth and discardedPushByteCount must not be negative")
        }
        guard sharedRingByteCount.nonzeroBitCount == 1, (1 << 16...1 << 26).contains(sharedRingByteCount) else {
            throw DemikernelError(EINVAL, .initialize, "sharedRingByteCount must be a power of two between 65536 and 67108864")
        }
    }
}

/// What a runtime does with its processor when nothing is ready.
@frozen
public enum IdlePolicy: Hashable, Sendable {
    /// Polls for ever: the least latency, a whole core.
    case spin
    /// Polls for that many nanoseconds after the last progress, then sleeps in the kernel until a device, a timer or an `Interrupter` wakes it. For a device
    /// that cannot wake it (DPDK's), it looks again after ever longer naps, of 50 µs to 2 ms.
    case adaptive(spinNanoseconds: UInt64)

    /// `.adaptive(spinNanoseconds:)` with 50 µs.
    public static let standard = IdlePolicy.adaptive(spinNanoseconds: 50_000)
}

/// How a runtime is made. A plain struct: tools fill it from flags, environment and files.
public struct RuntimeConfiguration {
    public var limits = Limits()
    public var memory = MemoryConfiguration()
    public var idle = IdlePolicy.standard
    /// Seeds everything that is random in the runtime, token generations among them; nil: from the kernel.
    public var seed: UInt64?
    /// Where time comes from; nil: the machine's monotonic clock.
    public var clock: RuntimeClock?

    public init() {}
}
