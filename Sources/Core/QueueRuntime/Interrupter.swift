import CDatapath
import DatapathMemory
import Glibc
import Synchronization

/// Ends a runtime's wait from outside: the wait in progress, or the next one, throws `EINTR`.
///
/// The one thing of a runtime that other threads, and signal handlers, may use.
public final class Interrupter: Sendable {
    /// A kernel descriptor, readable while an interruption is pending.
    let descriptor: Int32
    // Two 32-bit words in memory of its own, reached only through atomics: so sharing the address between threads is sound. The first one is an interruption;
    // the second one has the bits below.
    nonisolated(unsafe) let flag: UnsafeMutablePointer<UInt32>
    /// What other threads have asked the runtime's own to do; nil when the runtime is gone.
    private let visits = Mutex<[Visit]?>([])

    /// In the second word: another thread has left work.
    private static let wakeUp: UInt32 = 1
    /// In the second word: every turn has more to look at, from now on.
    private static let standing: UInt32 = 2

    /// Something that another thread asks for.
    public typealias Visit = @Sendable (_ core: RuntimeCore) -> Void

    /// Visits that wait at once.
    public static let maximumVisits = 64

    /// - Throws: `EMFILE` when no descriptor is left.
    init() throws(DemikernelError) {
        let descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        guard descriptor >= 0 else {
            throw DemikernelError(errno, .initialize, "no descriptor is left for the runtime's wake-up: raise the limit with ulimit -n")
        }
        self.descriptor = descriptor
        flag = .allocate(capacity: 2)
        flag.initialize(repeating: 0, count: 2)
    }

    deinit {
        close(descriptor)
        flag.deallocate()
    }

    /// Interrupts the runtime. From any thread and from a signal handler (it writes an atomic and eight bytes to a descriptor).
    public func interrupt() {
        _ = demi_exchange_u32(flag, 1)
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }

    var isRequested: Bool { demi_load_relaxed_u32(flag) != 0 }

    /// Ends the runtime's sleep without ending its wait: another thread has left work.
    func wake() {
        _ = demi_fetch_or_u32(flag + 1, Interrupter.wakeUp)
        var one: UInt64 = 1
        _ = write(descriptor, &one, 8)
    }

    var isWakeUpPending: Bool { demi_load_relaxed_u32(flag + 1) & Interrupter.wakeUp != 0 }

    /// From now on no turn is a plain one.
    func requireAttention() {
        _ = demi_fetch_or_u32(flag + 1, Interrupter.standing)
    }

    /// Takes a pending wake-up.
    func takeWakeUp() -> Bool {
        guard isWakeUpPending, demi_fetch_and_u32(flag + 1, ~Interrupter.wakeUp) & Interrupter.wakeUp != 0 else { return false }
        if !isRequested { drain() }
        return true
    }

    /// Has the runtime's own thread call `visit` at the start of one of its next turns, and wakes it for that. From any thread, not from a signal handler.
    ///
    /// A visit looks at the runtime from within, and must neither wait nor run turns. It has to be patient while the thread is busy with something else than
    /// the runtime. A runtime that ends forgets the visits that have not come.
    /// - Returns: false, and nothing happens, when the runtime has ended or `maximumVisits` wait already.
    public func visit(_ visit: @escaping Visit) -> Bool {
        let isTaken = visits.withLock { visits in
            guard let count = visits?.count, count < Interrupter.maximumVisits else { return false }
            visits?.append(visit)
            return true
        }
        if isTaken { wake() }
        return isTaken
    }

    /// Whether the runtime has ended, and takes no more visits.
    public var hasEnded: Bool { visits.withLock { $0 == nil } }

    /// Takes the visits that wait.
    func takeVisits() -> [Visit] {
        visits.withLock { visits in
            guard visits != nil else { return [] }
            defer { visits?.removeAll() }
            return visits.unsafelyUnwrapped
        }
    }

    /// At the runtime's end.
    func endVisits() {
        visits.withLock { $0 = nil }
    }

    /// After a sleep: takes what is left on the descriptor of an interruption that was taken between its flag and its write. The flags are set
    /// before the write, so whoever looks at them next misses nothing.
    func drain() {
        var value: UInt64 = 0
        _ = read(descriptor, &value, 8)
    }

    /// Takes a pending interruption.
    func take() -> Bool {
        guard isRequested, demi_exchange_u32(flag, 0) != 0 else { return false }
        drain()
        return true
    }
}
