import Glibc
import Synchronization

/// One shard of a server: a runtime on a thread of its own that has a part of the work.
public struct Shard: Sendable {
    public let index: Int
    public let count: Int
    /// Its queues to the others; nil for a shard without others.
    public let links: ShardLinks?
}

/// Runs one server as several shards, each with a thread and a runtime of its own.
///
/// They end together: when one of them fails or the group is interrupted, all are interrupted.
public final class ShardGroup: Sendable {
    public let count: Int
    private let mesh: ShardMesh
    private let interfaces = DividedInterfaces()
    private let laneCount: Int
    private let state = Mutex(State())
    // A semaphore is made to be used by several threads; its address does not change.
    nonisolated(unsafe) private let isReady: UnsafeMutablePointer<sem_t>

    private struct State {
        var interrupters: [Interrupter] = []
        var isInterrupted = false
        var failure: DemikernelError?
    }

    /// Which of the shards a runtime is made for, for devices that they share.
    public struct Place: Sendable {
        public let shard: Int
        public let count: Int
        let mesh: ShardMesh
        let controlLane: Int
        let interfaces: DividedInterfaces
    }

    /// Makes a shard's runtime, on the shard's own thread.
    public typealias RuntimeMaker = @Sendable (_ place: Place) throws(DemikernelError) -> Runtime
    /// Serves `address` on a shard's runtime until that is interrupted. Calls `whenReady` once, with the address and its port.
    public typealias Server =
        @Sendable (
            _ runtime: borrowing Runtime, _ shard: Shard, _ address: SocketAddress, _ whenReady: (SocketAddress) -> Void
        ) throws(DemikernelError) -> Void

    /// - Parameters:
    ///   - count: 1 to 64.
    ///   - laneCount: of the queues between the shards, 0 to 3.
    /// - Throws: `EINVAL`, `EMFILE` when no descriptor is left.
    public init(count: Int, laneCount: Int = 0) throws(DemikernelError) {
        // The last lane is for what concerns the stacks of all shards.
        mesh = try ShardMesh(shardCount: count, laneCount: laneCount + 1)
        self.laneCount = laneCount
        self.count = count
        isReady = .allocate(capacity: 1)
        isReady.initialize(to: sem_t())
        sem_init(isReady, 0, 0)
    }

    deinit {
        sem_destroy(isReady)
        isReady.deallocate()
    }

    /// Ends all shards' waits, and with them `run`. From any thread.
    public func interrupt() {
        let interrupters = state.withLock { state in
            state.isInterrupted = true
            return state.interrupters
        }
        for interrupter in interrupters { interrupter.interrupt() }
    }

    /// Runs the shards: the first one on this thread, and when it serves, the others on threads that this call makes and joins.
    /// - Parameters:
    ///   - address: where the first one listens; the others listen where that has been bound.
    ///   - whenReady: called once, when all of them serve.
    /// - Throws: what the first of them that failed has thrown.
    public func run(
        _ address: SocketAddress, makeRuntime: @escaping RuntimeMaker, whenReady: (SocketAddress) -> Void, serve: @escaping Server
    ) throws(DemikernelError) {
        var threads: [pthread_t] = []
        runShard(0, address, makeRuntime, serve) { bound in
            for index in 1..<max(count, 1) {
                threads.append(
                    ShardGroup.startThread { [self] in
                        var hasTold = false
                        runShard(index, bound, makeRuntime, serve) { _ in
                            hasTold = true
                            sem_post(isReady)
                        }
                        if !hasTold { sem_post(isReady) }
                    })
            }
            for _ in threads {
                while sem_wait(isReady) != 0 {}
            }
            if state.withLock({ $0.failure == nil }) { whenReady(bound) }
        }
        interrupt()
        for thread in threads { pthread_join(thread, nil) }
        if let failure = state.withLock({ $0.failure }) { throw failure }
    }

    private func runShard(
        _ index: Int, _ address: SocketAddress, _ makeRuntime: RuntimeMaker, _ serve: @escaping Server, _ whenReady: (SocketAddress) -> Void
    ) {
        do throws(DemikernelError) {
            let runtime = try makeRuntime(Place(shard: index, count: count, mesh: mesh, controlLane: laneCount, interfaces: interfaces))
            let links = count > 1 ? try runtime.join(mesh, as: index, queueLaneCount: laneCount) : nil
            let interrupter = runtime.interrupter
            let isInterrupted = state.withLock { state in
                state.interrupters.append(interrupter)
                return state.isInterrupted
            }
            if isInterrupted { interrupter.interrupt() }
            try serve(runtime, Shard(index: index, count: count, links: links), address, whenReady)
        } catch {
            state.withLock { if $0.failure == nil { $0.failure = error } }
        }
        mesh.leave(index)
        interrupt()
    }

    private static func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
        final class Body: Sendable {
            let run: @Sendable () -> Void
            init(_ run: @escaping @Sendable () -> Void) { self.run = run }
        }
        var thread = pthread_t()
        let result = pthread_create(
            &thread, nil,
            { argument in
                Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(Body(body)).toOpaque())
        precondition(result == 0, "no thread could be started")
        return thread
    }
}
