import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// What a programmer must not do ends the process: a trap (SIGILL on x86-64), where an error or a success would end it otherwise.
@Suite("Traps") struct TrapTests {
    @Test("a call from another thread", arguments: QueueCall.allCases)
    func foreignThread(_ call: QueueCall) async {
        await #expect(processExitsWith: .signal(SIGILL)) { [call] in
            dieQuietly()
            let runtime = try makeSocketRuntime()
            let queue = try runtime.queue()
            nonisolated(unsafe) let core = runtime.core
            let thread = onOtherThread {
                Runtime.borrowing(core) { runtime in _ = refusal { () throws(DemikernelError) in try call.perform(runtime, queue) } }
            }
            pthread_join(thread, nil)
            exit(EXIT_SUCCESS)
        }
    }

    @Test("a wait or a cancel from another thread", arguments: TokenCall.allCases)
    func foreignThread(_ call: TokenCall) async {
        await #expect(processExitsWith: .signal(SIGILL)) { [call] in
            dieQuietly()
            let runtime = try makeRuntime()
            let token = try runtime.push(runtime.queue(), bytes: [1])
            nonisolated(unsafe) let core = runtime.core
            let thread = onOtherThread {
                Runtime.borrowing(core) { runtime in _ = refusal { () throws(DemikernelError) in try call.perform(runtime, token) } }
            }
            pthread_join(thread, nil)
            exit(EXIT_SUCCESS)
        }
    }

    /// What is not about one queue or token.
    enum OtherCall: String, CaseIterable, Codable, Sendable {
        case socket, queue, allocate, allocateCopying, waitNext, makeWaitSet, poll, run, spawn, statistics, eventDescriptor, end

        func perform(_ runtime: borrowing Runtime) throws(DemikernelError) {
            switch self {
            case .socket: _ = try runtime.socket(.ipv4, .stream)
            case .queue: _ = try runtime.queue()
            case .allocate: _ = try runtime.allocate(1)
            case .allocateCopying: _ = try runtime.buffer([1])
            case .waitNext: _ = try runtime.next()
            case .makeWaitSet: _ = try runtime.makeWaitSet()
            case .poll: runtime.poll()
            case .run: try runtime.run()
            case .spawn: try runtime.spawn { _ in }
            case .statistics: _ = runtime.statistics
            case .eventDescriptor: _ = try runtime.eventDescriptor()
            case .end: runtime.core.destroy()
            }
        }
    }

    @Test("every other call from another thread", arguments: OtherCall.allCases)
    func foreignThread(_ call: OtherCall) async {
        await #expect(processExitsWith: .signal(SIGILL)) { [call] in
            dieQuietly()
            let runtime = try makeSocketRuntime()
            nonisolated(unsafe) let core = runtime.core
            let thread = onOtherThread {
                Runtime.borrowing(core) { runtime in _ = refusal { () throws(DemikernelError) in try call.perform(runtime) } }
            }
            pthread_join(thread, nil)
            exit(EXIT_SUCCESS)
        }
    }

    @Test("a blocking wait inside a task function")
    func blockingWaitInsideTask() async {
        await #expect(processExitsWith: .signal(SIGILL)) {
            dieQuietly()
            try waitInsideTask { runtime in _ = try? runtime.result(runtime.pop(runtime.queue())) }
        }
    }

    @Test("waitNext and a set's wait inside a task function")
    func otherWaitsInsideTask() async {
        await #expect(processExitsWith: .signal(SIGILL)) {
            dieQuietly()
            try waitInsideTask { runtime in _ = try? runtime.next(timeout: nil) }
        }
        await #expect(processExitsWith: .signal(SIGILL)) {
            dieQuietly()
            try waitInsideTask { runtime in
                let set = try! runtime.makeWaitSet()
                try! set.add(runtime.pop(runtime.queue()))
                _ = try! set.wait()
            }
        }
    }

    @Test("a run loop inside a coroutine or a task")
    func nestedRunLoop() async {
        await #expect(processExitsWith: .signal(SIGILL)) {
            dieQuietly()
            let runtime = try makeRuntime()
            try runtime.spawn { runtime in try? runtime.run() }
            runtime.poll()
            exit(EXIT_SUCCESS)
        }
        await #expect(processExitsWith: .signal(SIGILL)) {
            dieQuietly()
            let runtime = try makeRuntime()
            try runtime.spawn { runtime in runtime.poll() }
            runtime.poll()
            exit(EXIT_SUCCESS)
        }
        await #expect(processExitsWith: .signal(SIGILL)) {
            dieQuietly()
            try waitInsideTask { runtime in runtime.poll() }
        }
    }

    @Test("yield outside a coroutine")
    func yieldOutside() async {
        await #expect(processExitsWith: .signal(SIGILL)) {
            dieQuietly()
            let runtime = try makeRuntime()
            runtime.yield()
            exit(EXIT_SUCCESS)
        }
    }

    @Test("a coroutine that needs more than its stack meets the guard page")
    func stackOverflow() async {
        await #expect(processExitsWith: .signal(SIGSEGV)) {
            dieQuietly()
            let runtime = try makeRuntime { $0.limits.coroutineStackByteCount = 16_384 }
            try runtime.spawn { _ in
                @inline(never) func deeper(_ depth: Int) -> Int {
                    withUnsafeTemporaryAllocation(byteCount: 1_024, alignment: 8) { space in
                        space.storeBytes(of: depth, as: Int.self)
                        return depth == 0 ? 0 : deeper(depth - 1) + space.load(as: Int.self)
                    }
                }
                exit(deeper(1_000) > 0 ? EXIT_SUCCESS : 3)
            }
            runtime.poll()
            exit(EXIT_SUCCESS)
        }
    }
}

/// Leaves a trap to the kernel: the toolchain's own report of a crash takes seconds.
private func dieQuietly() {
    for number in [SIGILL, SIGTRAP, SIGSEGV, SIGBUS] { signal(number, SIG_DFL) }
}

/// Runs `body` inside a task that is not a coroutine; ends the process with success should it come back.
private func waitInsideTask(_ body: @escaping (borrowing Runtime) -> Void) throws {
    let runtime = try makeRuntime()
    let context = Unmanaged.passRetained(Shared((runtime.core, body))).toOpaque()
    let task = runtime.core.scheduler.addTask(
        .application,
        { context, _ in
            let (core, body) = Unmanaged<Shared<(RuntimeCore, (borrowing Runtime) -> Void)>>.fromOpaque(context).takeUnretainedValue().value
            Runtime.borrowing(core, body)
        }, context: context)
    runtime.core.scheduler.wake(task!.index)
    runtime.poll()
    exit(EXIT_SUCCESS)
}
