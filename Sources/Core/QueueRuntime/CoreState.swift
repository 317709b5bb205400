import DatapathMemory
import Glibc
import TaskScheduler

/// A descriptor's slot.
struct QueueSlot {
    /// The descriptor while it is open, else 0: one comparison says that a descriptor is good.
    var openDescriptor: Int32 = 0
    var state: UInt32 = 0
    var libraryOS: UnsafeMutablePointer<LibraryOS>?
    /// The queue itself if it is an in-memory one: its fast path saves the call.
    var memoryQueue: UnsafeMutablePointer<MemoryQueue>?
    /// Where the runtime adds pops by itself; a list at which there may always be something for the others.
    var waitingPops: UnsafeMutablePointer<WaitingPops>
    var nextFree: UInt32 = 0
    var generation: UInt16 = 1
    var libraryOSIndex: UInt8 = 0
    var phase = Phase.free

    /// `closing`: the descriptor is retired, the library OS still has work to do.
    enum Phase: UInt8 {
        case free, open, closing
    }

    init(waitingPops: UnsafeMutablePointer<WaitingPops>) {
        self.waitingPops = waitingPops
    }
}

/// Somebody who waits: the thread, a coroutine, a wait set; number 0 is `waitNext`, which sees what nobody claimed.
///
/// Each has a list of completed operations. Raising the epoch drops all its claims at once.
@usableFromInline
struct Waiter {
    /// Opens and closes the ring of its completed operations. The first field, so that both have one address.
    @usableFromInline var ring = ListLink()
    var epoch: UInt32 = 1
    /// Completed operations in the list.
    @usableFromInline var count: UInt32 = 0
    /// Completions that it takes to wake the waiter.
    @usableFromInline var needed: UInt32 = 1
    /// The coroutine to wake, or `noTask`.
    @usableFromInline var task: UInt32 = Waiter.noTask
    /// The async task to resume, when `task` says so.
    var continuation: UnsafeContinuation<Void, Never>?
    /// Operations claimed and not yet redeemed, for a wait set.
    var members: UInt32 = 0
    var nextFree: UInt32 = 0
    /// Whether somebody is blocked on it now.
    var isBlocked = false

    @inlinable static var noTask: UInt32 { .max }
    /// In `task`: an async task waits, which `continuation` resumes.
    static let asyncTask = UInt32.max - 1
    /// The thread's own waits.
    static let thread: UInt32 = 1

    init() {}
}

extension UnsafeMutablePointer<Waiter> {
    @inlinable
    @inline(__always)
    var ring: UnsafeMutablePointer<ListLink> { UnsafeMutableRawPointer(self).assumingMemoryBound(to: ListLink.self) }

    /// A waiter with nothing on its list.
    func initializeEmpty() {
        initialize(to: Waiter())
        ring.makeRing()
    }

    /// The oldest completed operation of the list; nil when it is empty.
    @inline(__always)
    var first: UnsafeMutablePointer<Operation>? {
        pointee.count == 0 ? nil : pointee.ring.next.unsafelyUnwrapped.operation
    }
}

/// The fast path of a library OS.
struct Poller {
    let poll: @convention(c) (LibraryOS.Context) -> Int32
    let context: LibraryOS.Context
}

/// What the runtime is doing, so that a nested run loop is seen.
@usableFromInline
enum RunPhase: UInt8 {
    case outside, turning, inJob
}

/// The runtime's state, at one address for its whole life. Reached through `RuntimeCore`.
@usableFromInline
struct CoreState {
    @usableFromInline let ownerThread: UInt
    @usableFromInline let operations: UnsafeMutablePointer<Operation>
    let operationCapacity: UInt32
    var carvedOperations: UInt32 = 1
    /// The free slots, chained.
    @usableFromInline var freeOperation: UnsafeMutablePointer<ListLink>?
    @usableFromInline var liveOperations = 0
    @usableFromInline var completions: UInt32 = 0
    let queues: UnsafeMutablePointer<QueueSlot>
    let queueCapacity: UInt32
    /// Of queues to which the runtime adds no pops by itself.
    let noPops: UnsafeMutablePointer<WaitingPops>
    @usableFromInline let waiters: UnsafeMutablePointer<Waiter>
    let heap: DatapathHeap
    let scheduler: TaskScheduler
    @usableFromInline let clock: RuntimeClock
    @usableFromInline var now: UInt64
    @usableFromInline var phase = RunPhase.outside
    /// How many more waits may find their result without a turn.
    @usableFromInline var turnlessWaitsLeft = RuntimeCore.maximumTurnlessWaits
    var lastProgress: UInt64
    var refusal: StaticString = ""

    let libraries: UnsafeMutablePointer<LibraryOS>
    /// The fast paths of those libraries that have one, in their order.
    let pollers: UnsafeMutablePointer<Poller>
    var pollerCount = 0
    let memoryQueues: UnsafeMutablePointer<MemoryQueue>
    var libraryCount = 0
    let idle: IdlePolicy
    let limits: Limits
    let interruption: Interrupter
    /// Of `interruption`, which lives as long: every turn looks at it, and the object would be retained for that.
    let interruptionFlag: UnsafeMutablePointer<UInt32>
    let firstGeneration: UInt64
    var random: SeededRandom
    let waiterCapacity: UInt32
    var carvedWaiters: UInt32 = 2
    var freeWaiter: UInt32 = 0
    var carvedQueues: UInt32 = 1
    // First in, first out, so that a slot's generations last longer.
    var firstFreeQueue: UInt32 = 0
    var lastFreeQueue: UInt32 = 0
    /// Tasks that are not coroutines of the program, for which `run` does not wait.
    var libraryTaskCount = 0
    /// Every wait of a coroutine throws `EINTR`.
    var interruptsCoroutines = false
    var openQueues = 0
    var closingQueues = 0
    var eventSource: EventSource?
    var jobExecutor: JobExecutor?
    /// Async tasks that wait for memory, and how much was used when they began to.
    var memoryWaiters: [(UnsafeContinuation<Void, Never>, Int)] = []
    var counters = RuntimeCounters()
    /// Times from requests to their replies, while somebody is interested.
    var replyTimes: UnsafeMutablePointer<ReplyTimes>?
}

/// Counts of the runtime since it was made.
struct RuntimeCounters {
    var turns: UInt64 = 0
    var sleeps: UInt64 = 0
    var queuesOpened: UInt64 = 0
    var retiredTokenSlots: UInt64 = 0
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): small, seedable, and good enough where no adversary counts on it.
public struct SeededRandom: RandomNumberGenerator, Sendable {
    private var state: UInt64

    public init(seed: UInt64) {
        state = seed
    }

    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}

/// A slab at one address, backed page by page as it is used, zeroed.
func mapSlab<Element>(_ type: Element.Type, capacity: Int) throws(DemikernelError) -> UnsafeMutablePointer<Element> {
    let byteCount = capacity * MemoryLayout<Element>.stride
    guard let mapping = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | Int32(MAP_NORESERVE), -1, 0), mapping != MAP_FAILED
    else { throw DemikernelError(ENOMEM, .initialize, "the runtime's tables could not be mapped: configure lower limits") }
    return mapping.bindMemory(to: type, capacity: capacity)
}

func unmapSlab<Element>(_ slab: UnsafeMutablePointer<Element>, capacity: Int) {
    munmap(slab, capacity * MemoryLayout<Element>.stride)
}
