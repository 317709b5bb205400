import Demikernel
import Glibc
import Synchronization
import Testing

/// Swift's async on a runtime's own thread, over real sockets.
///
/// Every body runs on a thread of its own: a runtime blocks its thread, and what a sleep needs to end must not wait for it.
@Suite("Async on the runtime") struct AsyncTests {
    private static func makeRuntime(_ change: (inout RuntimeConfiguration) -> Void = { _ in }) throws(DemikernelError) -> Runtime {
        var configuration = RuntimeConfiguration()
        configuration.memory.arenaByteCount = 4 << 20
        configuration.memory.commitsAtStart = false
        configuration.limits.maximumQueues = 256
        configuration.seed = 42
        change(&configuration)
        return try Runtime(configuration, libraryOSes: [.catnap])
    }

    /// What a runtime must not have any more at the end: operations, blocks, segments, tasks beside the library OS's own.
    private struct Rest: Equatable, Sendable {
        var liveOperations = 0
        var liveBlocks = 0
        var liveSegments = 0
        var openQueues = 0
        init() {}
        init(_ statistics: RuntimeStatistics) {
            liveOperations = statistics.liveOperations
            liveBlocks = statistics.memory.liveBlocks
            liveSegments = statistics.memory.liveSegments
            openQueues = statistics.openQueues
        }
    }

    /// Something that a task leaves for another one on the same thread.
    private final class Box<Value> {
        var value: Value
        init(_ value: Value) { self.value = value }
    }

    /// A buffer in an array of Swift's own.
    private final class Holder {
        let buffer: Buffer
        init(_ buffer: consuming Buffer) { self.buffer = buffer }
    }

    private static func bytes(_ array: borrowing ScatterGatherArray) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: array.byteCount) { storage, count in
            count = array.copyBytes(to: UnsafeMutableRawBufferPointer(storage))
        }
    }

    /// The errno of what an async call throws; 0 when it throws nothing.
    private static func errorNumber(_ error: (any Error)?) -> Int32 { (error as? DemikernelError)?.errno ?? (error == nil ? 0 : -1) }

    private static func listener(_ runtime: borrowing Runtime) throws(DemikernelError) -> (queue: QueueDescriptor, address: SocketAddress) {
        let queue = try runtime.socket(.ipv4, .stream)
        try runtime.bind(queue, to: .loopback(port: 0))
        try runtime.listen(queue, backlog: 128)
        return (queue, try runtime.localAddress(queue))
    }

    /// Echoes on one connection until its end.
    private static func echo(_ queue: QueueDescriptor, _ runtime: borrowing Runtime) async throws(DemikernelError) {
        while true {
            let popped = try await runtime.completion(of: runtime.pop(queue))
            switch consume popped.result {
            case .popped(let array, _): _ = try await runtime.completion(of: runtime.push(queue, array))
            case .failed(let error, _): throw error
            default: return try runtime.close(queue)
            }
        }
    }

    /// Sends `bytes`, and receives as many, one piece after the other.
    private static func roundTrip(
        _ bytes: [UInt8], piece: Int, to address: SocketAddress, _ runtime: borrowing Runtime
    ) async throws(DemikernelError) -> [UInt8] {
        let queue = try runtime.socket(.ipv4, .stream)
        let connected = try await runtime.completion(of: runtime.connect(queue, to: address))
        guard case .connected = consume connected.result else { throw DemikernelError(EPROTO, .connect) }
        var received: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: piece) {
            let part = Array(bytes[start..<min(start + piece, bytes.count)])
            let pushed = try await runtime.completion(of: runtime.push(queue, runtime.allocate(copying: part.span)))
            guard case .pushed(part.count) = consume pushed.result else { throw DemikernelError(EPROTO, .push) }
            while received.count < start + part.count {
                let popped = try await runtime.completion(of: runtime.pop(queue))
                guard case .popped(let array, _) = consume popped.result else { throw DemikernelError(EPROTO, .pop) }
                received += Self.bytes(array)
            }
        }
        try runtime.close(queue)
        return received
    }

    @Test("many tasks at once accept, connect, push and pop", .timeLimit(.minutes(1)))
    func conversations() async throws {
        let (correct, rest) = try await onOwnThread {
            let runtime = try Self.makeRuntime()
            let correct = try runtime.runAsync { runtime in
                let (listener, address) = try Self.listener(runtime)
                let server = try runtime.spawnAsync { runtime in
                    var connections: [Task<Void, Never>] = []
                    while let accepted = try? await runtime.completion(of: runtime.accept(listener)) {
                        guard case .accepted(let queue, _) = consume accepted.result else { break }
                        if let task = try? runtime.spawnAsync({ runtime in try? await Self.echo(queue, runtime) }) { connections.append(task) }
                    }
                    for connection in connections { await connection.value }
                }
                let correct = Box(0)
                var clients: [Task<Void, Never>] = []
                for number in 0..<50 {
                    let client = try runtime.spawnAsync { runtime in
                        let bytes = pattern(20_000 + number, seed: UInt64(number))
                        if try! await Self.roundTrip(bytes, piece: 3_000, to: address, runtime) == bytes { correct.value += 1 }
                    }
                    clients.append(client)
                }
                for client in clients { await client.value }
                try runtime.close(listener)
                await server.value
                return correct.value
            }
            try Self.settle(runtime)
            return (correct, Rest(runtime.statistics))
        }
        #expect(correct == 50)
        #expect(rest == Rest())
    }

    /// Closed queues go away.
    private static func settle(_ runtime: borrowing Runtime) throws {
        let deadline = runtime.now + UInt64(generousSeconds) * 1_000_000_000
        while runtime.statistics.closingQueues > 0, runtime.now < deadline { runtime.poll() }
    }

    @Test("a client of the kernel's sockets is served by tasks")
    func foreignClient() async throws {
        let received = try await onOwnThread {
            let runtime = try Self.makeRuntime()
            let (listener, address) = try Self.listener(runtime)
            let reply = Mutex<[UInt8]>([])
            try withoutActuallyEscaping({
                guard let client = try? Client(address) else { return }
                let bytes = (try? client.exchange(pattern(100_000), receiving: 100_000)) ?? []
                reply.withLock { $0 = bytes }
            }) { body in
                let thread = OwnThread(body)
                defer { thread.join() }
                try runtime.runAsync { runtime in
                    let accepted = try await runtime.completion(of: runtime.accept(listener))
                    guard case .accepted(let queue, _) = consume accepted.result else { throw DemikernelError(EPROTO, .accept) }
                    try await Self.echo(queue, runtime)
                }
            }
            return reply.withLock { $0 }
        }
        #expect(received == pattern(100_000))
    }

    @Test("a sleep ends on the runtime's own thread, and the others go on meanwhile", .timeLimit(.minutes(1)))
    func sleep() async throws {
        let (isOwnThread, passed, turns) = try await onOwnThread {
            let runtime = try Self.makeRuntime()
            return try runtime.runAsync { runtime in
                let thread = pthread_self()
                let turns = Box(0)
                let other = try runtime.spawnAsync { _ in
                    while !Task.isCancelled {
                        turns.value += 1
                        await Task.yield()
                    }
                }
                let before = runtime.now
                var isOwnThread = true
                for _ in 0..<20 {
                    try await Task.sleep(for: .milliseconds(1))
                    if pthread_self() != thread { isOwnThread = false }
                }
                let passed = runtime.now - before
                other.cancel()
                await other.value
                return (isOwnThread, passed, turns.value)
            }
        }
        #expect(isOwnThread)
        #expect(passed >= 20_000_000)
        #expect(turns > 20)
    }

    @Test("a sleeping runtime is woken by a sleep's end", .timeLimit(.minutes(1)))
    func wakeUp() async throws {
        let sleeps = try await onOwnThread {
            let runtime = try Self.makeRuntime { $0.idle = .adaptive(spinNanoseconds: 0) }
            try runtime.runAsync { _ in
                for _ in 0..<50 { try await Task.sleep(for: .milliseconds(1)) }
            }
            return runtime.statistics.sleeps
        }
        // Not one for each: a busy machine may let a sleep end before the runtime has begun its own.
        #expect(sleeps > 0)
    }

    @Test("the end of a task's work by cancellation cancels the operation", .timeLimit(.minutes(1)))
    func cancellation() async throws {
        let (errors, rest) = try await onOwnThread {
            let runtime = try Self.makeRuntime()
            let errors = try runtime.runAsync { runtime in
                let (listener, address) = try Self.listener(runtime)
                let errors = Box<[Int32]>([])
                let accepting = Box(false)
                let task = try runtime.spawnAsync { runtime in
                    accepting.value = true
                    guard let completion = try? await runtime.completion(of: runtime.accept(listener)),
                        case .failed(let error, _) = consume completion.result
                    else { return errors.value.append(-1) }
                    errors.value.append(error.errno)
                    // In a task that is cancelled already, an operation that would have to wait is cancelled at once.
                    guard let completion = try? await runtime.completion(of: runtime.accept(listener)),
                        case .failed(let error, _) = consume completion.result
                    else { return errors.value.append(-1) }
                    errors.value.append(error.errno)
                }
                while !accepting.value { await Task.yield() }
                task.cancel()
                await task.value
                // The listener is as it was.
                let client = try runtime.socket(.ipv4, .stream)
                let connect = try runtime.connect(client, to: address)
                let accepted = try await runtime.completion(of: runtime.accept(listener))
                guard case .accepted(let server, _) = consume accepted.result else { throw DemikernelError(EPROTO, .accept) }
                _ = try await runtime.completion(of: connect)
                for queue in [client, server, listener] { try runtime.close(queue) }
                return errors.value
            }
            try Self.settle(runtime)
            return (errors, Rest(runtime.statistics))
        }
        #expect(errors == [ECANCELED, ECANCELED])
        #expect(rest == Rest())
    }

    @Test("a cancellation from another thread reaches the operation", .timeLimit(.minutes(1)))
    func cancellationFromAnotherThread() async throws {
        let error = try await onOwnThread {
            let runtime = try Self.makeRuntime { $0.idle = .adaptive(spinNanoseconds: 0) }
            let error = Box(Int32(0))
            let queue = try runtime.queue()
            let token = try runtime.pop(queue)
            let task = try runtime.spawnAsync { runtime in
                guard let completion = try? await runtime.completion(of: token), case .failed(let failure, _) = consume completion.result else {
                    return
                }
                error.value = failure.errno
            }
            let thread = OwnThread { task.cancel() }
            try runtime.runAsync { _ in await task.value }
            thread.join()
            return error.value
        }
        #expect(error == ECANCELED)
    }

    @Test("an allocation waits at the heap's limit and goes on after a release", .timeLimit(.minutes(1)))
    func allocation() async throws {
        let (order, blocks) = try await onOwnThread {
            let runtime = try Self.makeRuntime()
            let order = try runtime.runAsync { runtime in
                var held: [Holder] = []
                while let buffer = try? runtime.allocate(DatapathHeap.maximumBufferByteCount) { held.append(Holder(buffer)) }
                let order = Box<[String]>([])
                let waiting = try runtime.spawnAsync { runtime in
                    order.value.append("asks")
                    guard let buffer = try? await runtime.allocateWhenAvailable(200_000) else { return }
                    order.value.append("has \(buffer.count)")
                }
                while order.value.isEmpty { await Task.yield() }
                for _ in 0..<100 { await Task.yield() }
                order.value.append("release")
                held.removeLast()
                await waiting.value
                return order.value
            }
            return (order, runtime.statistics.memory.liveBlocks)
        }
        #expect(order == ["asks", "release", "has 200000"])
        #expect(blocks == 0)
    }

    @Test("an allocation that can never be had is refused at once")
    func impossibleAllocation() async throws {
        let errors = try await onOwnThread {
            let runtime = try Self.makeRuntime()
            return try runtime.runAsync { runtime in
                var errors: [Int32] = []
                for count in [DatapathHeap.maximumBufferByteCount + 1, -1] {
                    do throws(DemikernelError) {
                        _ = try await runtime.allocateWhenAvailable(count)
                    } catch {
                        errors.append(error.errno)
                    }
                }
                return errors
            }
        }
        #expect(errors == [EMSGSIZE, EINVAL])
    }

    @Test("a blocking wait inside a job traps")
    func blockingWait() async {
        await #expect(processExitsWith: .failure) {
            let runtime = try AsyncTests.makeRuntime()
            try runtime.runAsync { runtime in
                let queue = try runtime.queue()
                let token = try runtime.pop(queue)
                _ = try runtime.wait(token, timeout: .milliseconds(1))
            }
        }
    }

    @Test("an interruption cancels the task, and runAsync ends with EINTR; the runtime goes on", .timeLimit(.minutes(1)))
    func interruption() async throws {
        let (error, operation, after) = try await onOwnThread {
            let runtime = try Self.makeRuntime { $0.idle = .adaptive(spinNanoseconds: 0) }
            let interrupter = runtime.interrupter
            let operation = Box(Int32(0))
            var error: DemikernelError?
            let started = Signal()
            let thread = OwnThread {
                started.wait()
                interrupter.interrupt()
            }
            do {
                try runtime.runAsync { runtime in
                    let queue = try runtime.queue()
                    started.raise()
                    let completion = try await runtime.completion(of: runtime.pop(queue))
                    if case .failed(let failure, _) = consume completion.result { operation.value = failure.errno }
                    try runtime.close(queue)
                }
            } catch let failure as DemikernelError {
                error = failure
            }
            thread.join()
            let after = try runtime.runAsync { _ in
                await Task.yield()
                return 7
            }
            return (error, operation.value, after)
        }
        #expect(error?.errno == EINTR)
        #expect(operation == ECANCELED)
        #expect(after == 7)
    }

    @Test("an interruption ends a task that waits for memory", .timeLimit(.minutes(1)))
    func interruptionAtTheHeapsLimit() async throws {
        let (error, allocation) = try await onOwnThread {
            let runtime = try Self.makeRuntime()
            let interrupter = runtime.interrupter
            let allocation = Box(Int32(0))
            var error: Int32 = 0
            var held: [Holder] = []
            while let buffer = try? runtime.allocate(DatapathHeap.maximumBufferByteCount) { held.append(Holder(buffer)) }
            do {
                try runtime.runAsync { runtime in
                    interrupter.interrupt()
                    do throws(DemikernelError) {
                        _ = try await runtime.allocateWhenAvailable(200_000)
                    } catch {
                        allocation.value = error.errno
                    }
                }
            } catch let failure as DemikernelError {
                error = failure.errno
            }
            return (error, allocation.value)
        }
        #expect(error == EINTR)
        #expect(allocation == ECANCELED)
    }

    @Test("a token that another task waits for is busy, a spent one is invalid", .timeLimit(.minutes(1)))
    func tokens() async throws {
        let (busy, spent, result) = try await onOwnThread {
            let runtime = try Self.makeRuntime()
            return try runtime.runAsync { runtime in
                let queue = try runtime.queue()
                let token = try runtime.pop(queue)
                let result = Box<[UInt8]>([])
                let isWaiting = Box(false)
                let waiter = try runtime.spawnAsync { runtime in
                    isWaiting.value = true
                    guard let completion = try? await runtime.completion(of: token), case .popped(let array, _) = consume completion.result else {
                        return
                    }
                    result.value = Self.bytes(array)
                }
                while !isWaiting.value { await Task.yield() }
                var errors: [Int32] = []
                do throws(DemikernelError) {
                    _ = try await runtime.completion(of: token)
                } catch {
                    errors.append(error.errno)
                }
                let bytes: [UInt8] = [1, 2, 3]
                try runtime.push(queue, runtime.allocate(copying: bytes.span), completion: .discarded)
                await waiter.value
                do throws(DemikernelError) {
                    _ = try await runtime.completion(of: token)
                } catch {
                    errors.append(error.errno)
                }
                try runtime.close(queue)
                return (errors[0], errors[1], result.value)
            }
        }
        #expect(busy == EBUSY)
        #expect(spent == EINVAL)
        #expect(result == [1, 2, 3])
    }

    @Test("what the body throws, runAsync throws")
    func bodyError() async throws {
        struct Failure: Error {}
        let isThrown = try await onOwnThread {
            let runtime = try Self.makeRuntime()
            do {
                try runtime.runAsync { _ in
                    await Task.yield()
                    throw Failure()
                }
                return false
            } catch is Failure {
                return true
            }
        }
        #expect(isThrown)
    }
}
