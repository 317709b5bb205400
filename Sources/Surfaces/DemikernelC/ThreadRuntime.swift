import CDemikernel
import DatapathMemory
import Glibc
import QueueRuntime
import Synchronization

/// What the C calls of one thread work on: its runtime, the arrays that the program holds, and what sockets begin with.
struct ThreadRuntime: ~Copyable {
    let runtime: Runtime
    /// The runtime's.
    let heap: DatapathHeap
    /// Serves `demi_socket`; nil for the first that was registered.
    var socketLibraryOS: LibraryOSIdentifier?
    var arrays: ArrayTable
    let socketDefaults: SocketDefaults
    /// What becomes at the thread's end of that which is still to be sent; nil: nothing.
    let parting: Parting?
    /// The process that made it. One that was forked from it has a copy, which is none of its business.
    let process = getpid()
    /// Room for the completions of one wait for several.
    var completions = CompletionRoom()

    init(
        _ runtime: consuming Runtime, socketLibraryOS: LibraryOSIdentifier? = nil, socketDefaults: SocketDefaults, parting: Parting? = nil
    ) throws(DemikernelError) {
        arrays = try ArrayTable(generation: runtime.core.nextRandom())
        heap = runtime.core.heap
        self.runtime = runtime
        self.socketLibraryOS = socketLibraryOS
        self.socketDefaults = socketDefaults
        self.parting = parting
    }

    deinit {
        // Before the runtime, which releases its heap when the last block is back.
        arrays.deallocate()
    }
}

/// A call's hold on its thread's runtime.
///
/// A call takes the runtime away from the thread and returns it at its end. So a signal handler that calls in the middle of another call finds none, and
/// is refused instead of meeting half a change; and a thread that ends there leaves the runtime alone.
struct CurrentRuntime {
    let state: UnsafeMutablePointer<ThreadRuntime>

    /// Begins a call; nil where the thread has no runtime to give: `CurrentRuntime.refusal` says why.
    @inline(__always)
    static func enter() -> CurrentRuntime? {
        guard let runtime = demi_take_runtime() else { return nil }
        return CurrentRuntime(state: runtime.assumingMemoryBound(to: ThreadRuntime.self))
    }

    /// Ends the call.
    @inline(__always)
    func leave() {
        demi_return_runtime(state)
    }

    /// Ends the call, which has failed.
    @inline(never)
    func refuse(_ errno: Int32, _ sentence: StaticString = "") -> Int32 {
        leave()
        return CurrentRuntime.fail(errno, sentence)
    }

    @inline(never)
    func refuse(_ error: DemikernelError) -> Int32 { refuse(error.errno, error.message) }

    /// Remembers the sentence of a call that has failed.
    @inline(never)
    static func fail(_ errno: Int32, _ sentence: StaticString) -> Int32 {
        // A static string's bytes end with a NUL and live as long as the process.
        demi_set_error_sentence(UnsafeRawPointer(sentence.utf8Start).assumingMemoryBound(to: CChar.self))
        return errno
    }

    /// Why the thread has no runtime to give.
    @inline(never)
    static func refusal() -> Int32 {
        if demi_owned_runtime() != nil { return fail(EBUSY, "another call of this thread is in progress: a signal handler must not call") }
        if liveRuntimes.load(ordering: .relaxed) > 0 {
            return fail(EPERM, "a runtime belongs to the thread that made it: call demi_init on this one, too")
        }
        return fail(ENOSYS, "there is no runtime: call demi_init first")
    }

    private static let liveRuntimes = Atomic<Int>(0)

    /// Whether the calling thread has a runtime.
    static var exists: Bool { demi_owned_runtime() != nil }

    /// Makes a runtime the calling thread's. It ends with the thread.
    /// - Throws: `EEXIST` where the thread has one, `ENOMEM`.
    static func adopt(_ thread: consuming ThreadRuntime) throws(DemikernelError) {
        guard !exists else { throw DemikernelError(EEXIST, .initialize, "this thread has a runtime already") }
        let error = demi_at_thread_exit({ _ in CurrentRuntime.endWithThread() }, nil)
        guard error == 0 else { throw DemikernelError(error, .initialize, "the thread's end could not be awaited") }
        let state = UnsafeMutablePointer<ThreadRuntime>.allocate(capacity: 1)
        state.initialize(to: thread)
        demi_own(state)
        liveRuntimes.add(1, ordering: .relaxed)
    }

    /// The thread ends, and perhaps the process: what was pushed is sent before the runtime goes with it.
    private static func endWithThread() {
        guard let thread = enter(), thread.state.pointee.process == getpid() else { return }
        thread.state.pointee.parting?.sendRest(of: thread.state.pointee.runtime)
        thread.leave()
        end()
    }

    /// Ends the calling thread's runtime, if it has one and no call works on it: where a process ends inside of a call, by a signal handler, what the call
    /// was changing is not touched again.
    static func end() {
        guard let thread = enter() else { return }
        demi_own(nil)
        liveRuntimes.subtract(1, ordering: .relaxed)
        thread.state.deinitialize(count: 1)
        thread.state.deallocate()
    }
}
