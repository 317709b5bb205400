import CDatapath
import Glibc

/// The stacks of a scheduler's coroutines: mapped once, used again.
@usableFromInline
struct CoroutinePool {
    /// Bytes of a stack without its guard page.
    let stackByteCount: Int
    private(set) var free: [UnsafeMutableRawPointer] = []
    /// The coroutine that runs now; nil on the thread's own stack.
    @usableFromInline var current: UnsafeMutablePointer<Coroutine>?
    /// Where the thread's own stack stands while a coroutine runs.
    @usableFromInline let thread: UnsafeMutablePointer<demi_execution>

    static let guardByteCount = 4096

    init(stackByteCount: Int) {
        precondition(stackByteCount >= 16384 && stackByteCount % 4096 == 0, "a coroutine stack is a multiple of 4096 bytes, at least 16384")
        self.stackByteCount = stackByteCount
        thread = .allocate(capacity: 1)
        thread.initialize(to: demi_execution())
    }

    /// The lowest address of a stack's mapping, which is its guard page; nil when the kernel has no memory.
    mutating func takeStack() -> UnsafeMutableRawPointer? {
        if let stack = free.popLast() { return stack }
        let size = stackByteCount + CoroutinePool.guardByteCount
        guard let mapping = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | Int32(MAP_STACK), -1, 0), mapping != MAP_FAILED
        else { return nil }
        guard mprotect(mapping, CoroutinePool.guardByteCount, PROT_NONE) == 0 else {
            munmap(mapping, size)
            return nil
        }
        return mapping
    }

    /// Keeps up to 64 stacks for the next coroutine.
    mutating func returnStack(_ stack: UnsafeMutableRawPointer) {
        if free.count < 64 {
            free.append(stack)
        } else {
            munmap(stack, stackByteCount + CoroutinePool.guardByteCount)
        }
    }

    func deallocate() {
        thread.deallocate()
        for stack in free { munmap(stack, stackByteCount + CoroutinePool.guardByteCount) }
    }
}

/// A coroutine with a stack of its own: straight-line code that `suspendCurrent` leaves and a wake-up continues.
@usableFromInline
struct Coroutine {
    /// Where it stands while it is suspended. The first field: its address is the coroutine's.
    @usableFromInline var execution: demi_execution
    let scheduler: TaskScheduler
    let stack: UnsafeMutableRawPointer
    var task: TaskIdentifier
    var body: (() -> Void)?
    var isFinished = false
}

extension TaskScheduler {
    /// Starts a coroutine: `body` runs from the next pass on, on a stack of its own.
    /// - Returns: nil when the limit of tasks is reached or no stack can be mapped.
    public func addCoroutine(_ body: @escaping () -> Void) -> TaskIdentifier? {
        guard let stack = state.pointee.coroutines.takeStack() else { return nil }
        let coroutine = UnsafeMutablePointer<Coroutine>.allocate(capacity: 1)
        guard let task = addTask(.application, function: nil, context: coroutine) else {
            coroutine.deallocate()
            state.pointee.coroutines.returnStack(stack)
            return nil
        }
        let execution = demi_prepare_execution(
            stack + CoroutinePool.guardByteCount + state.pointee.coroutines.stackByteCount,
            { context in
                // A coroutine's entry never returns: its last switch leaves for good.
                TaskScheduler.runBody(context.unsafelyUnwrapped)
            }, coroutine)
        coroutine.initialize(to: Coroutine(execution: execution, scheduler: self, stack: stack, task: task, body: body))
        wake(task.index)
        return task
    }

    /// The task of the coroutine that runs now; nil on the thread's own stack.
    public var currentCoroutine: TaskIdentifier? {
        state.pointee.coroutines.current?.pointee.task
    }

    /// Whether the code runs on a coroutine's stack.
    public var isInCoroutine: Bool { state.pointee.coroutines.current != nil }

    /// Leaves the running coroutine until its task is woken. Traps on the thread's own stack.
    @inlinable
    public func suspendCurrent() {
        guard let coroutine = state.pointee.coroutines.current else {
            preconditionFailure("only a coroutine can be suspended")
        }
        demi_switch(
            UnsafeMutableRawPointer(coroutine).assumingMemoryBound(to: demi_execution.self), state.pointee.coroutines.thread)
    }

    /// Makes every coroutine ready, whatever it waits for. O(number of tasks).
    public func wakeCoroutines() {
        for index in 0..<state.pointee.carved where state.pointee.tasks[index].isCoroutine { wake(UInt32(index)) }
    }

    /// Continues a coroutine until it suspends or ends. As part of the pass, whose registers are saved already, it costs little more than the switch.
    @inline(__always)
    func continueCoroutine(_ context: UnsafeMutableRawPointer) {
        let coroutine = context.assumingMemoryBound(to: Coroutine.self)
        state.pointee.coroutines.current = coroutine
        demi_switch(state.pointee.coroutines.thread, context.assumingMemoryBound(to: demi_execution.self))
        state.pointee.coroutines.current = nil
        if coroutine.pointee.isFinished { endCoroutine(coroutine) }
    }

    @inline(never)
    private func endCoroutine(_ coroutine: UnsafeMutablePointer<Coroutine>) {
        removeTask(coroutine.pointee.task)
        state.pointee.coroutines.returnStack(coroutine.pointee.stack)
        coroutine.deinitialize(count: 1)
        coroutine.deallocate()
    }

    /// A function of its own, so that what the body holds is released when it returns: its caller never does.
    @inline(never)
    private static func callBody(of coroutine: UnsafeMutablePointer<Coroutine>) {
        let body = coroutine.pointee.body.take()!
        body()
    }

    private static func runBody(_ context: UnsafeMutableRawPointer) {
        let coroutine = context.assumingMemoryBound(to: Coroutine.self)
        callBody(of: coroutine)
        coroutine.pointee.isFinished = true
        coroutine.pointee.scheduler.suspendCurrent()
    }
}
