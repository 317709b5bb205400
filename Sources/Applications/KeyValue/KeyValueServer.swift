import Demikernel
import Glibc
import KeyValueStore

/// A key-value server that speaks the Redis protocol over a stream queue.
///
/// Requests are parsed where they lie in the popped buffers; the replies of a batch are written into blocks of the datapath heap and go out as one
/// push. One thread, one `waitNext`.
///
/// As one of several shards, it has a part of the keys, and hands requests for those of others over: see KeyValueServer+Shards.swift.
public struct KeyValueServer: ~Copyable {
    private let address: SocketAddress
    private let socketOptions: [SocketOption]
    var store: KeyValueStore
    private var isAcceptPaused = false
    private var server = QueueDescriptor(rawValue: 0)
    private var nextIdentifier: UInt64
    /// Connections by their descriptors' slots.
    let connections: UnsafeMutablePointer<UnsafeMutablePointer<Connection>?>
    let connectionCapacity: Int
    /// The queues to the other shards, when there are others.
    let links: ShardLinks?
    let router: ShardRouter
    /// The links to the others, at their index. Not initialised for this shard itself.
    var exchanges: UnsafeMutablePointer<ShardExchange>?
    /// Gathers that no connection uses.
    var freeGathers: [Gather] = []
    /// Nanoseconds from the runtime's clock to the Unix epoch.
    private var epochOffset: UInt64 = 0
    private var lastExpiry: UInt64 = 0
    /// What the server has counted.
    public internal(set) var statistics = Statistics()

    /// Counts since the server was made.
    public struct Statistics: Sendable {
        /// Batches of requests, which is what one pop brought.
        public var batches: UInt64 = 0
        public var connectionsAccepted: UInt64 = 0
        /// Connections that failed, by a reset mostly.
        public var connectionsFailed: UInt64 = 0
        /// Connections dropped because the heap had no room for their replies.
        public var droppedOutOfMemory: UInt64 = 0
        /// Batches of requests that were handed over to other shards, and such of others that were answered.
        public var batchesHandedOver: UInt64 = 0
        public var batchesAnswered: UInt64 = 0

        public init() {}
    }

    /// Bytes of replies after which a pipeline has to wait until they are sent.
    static let replyHighWaterMark = 262_144
    /// Between two rounds of removing expired keys, and keys a round.
    private static let expiryInterval: UInt64 = 100_000_000
    private static let expiryBudget = 1_000

    /// - Parameters:
    ///   - address: where to listen; port 0 lets the kernel choose.
    ///   - socketOptions: set on the listening socket; connections have the options of their listener.
    ///   - limits: what the engine refuses to exceed.
    ///   - seed: keys the engine's hash, and says which shard has a key; the same for all shards, unpredictable where clients are not trusted.
    ///   - maximumQueues: the runtime's `Limits.maximumQueues`.
    ///   - shard: which of several shards this server is, in a group of `laneCount` lanes. Nil has all keys.
    public init(
        listen address: SocketAddress, socketOptions: [SocketOption] = [], limits: KeyValueStore.Limits = .init(), seed: UInt64,
        maximumQueues: Int = Limits().maximumQueues, shard: Shard? = nil
    ) {
        self.address = address
        self.socketOptions = socketOptions
        links = shard?.links
        router = ShardRouter(shard: shard?.index ?? 0, of: shard?.count ?? 1, seed: seed)
        // The table of each store has a hash of its own, under which the keys of one shard are as even as all.
        store = KeyValueStore(limits: limits, seed: seed &+ 1 &+ UInt64(router.shard))
        store.shardCount = router.shardCount
        nextIdentifier = UInt64(router.shard) + 1
        connectionCapacity = maximumQueues + 1
        connections = .allocate(capacity: connectionCapacity)
        connections.initialize(repeating: nil, count: connectionCapacity)
    }

    deinit {
        for slot in 0..<connectionCapacity {
            guard let connection = connections[slot] else { continue }
            connection.deinitialize(count: 1)
            connection.deallocate()
        }
        connections.deallocate()
        if let exchanges {
            for index in 0..<router.shardCount where index != router.shard { (exchanges + index).deinitialize(count: 1) }
            exchanges.deallocate()
        }
    }

    /// Serves until the runtime is interrupted. It takes every completion that nobody claimed.
    /// - Parameter whenReady: called once with the address, its port filled in.
    /// - Throws: what `bind` and `listen` throw.
    public mutating func run(on runtime: borrowing Runtime, whenReady: (SocketAddress) -> Void) throws(DemikernelError) {
        var time = timespec()
        clock_gettime(CLOCK_REALTIME, &time)
        epochOffset = UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec) &- runtime.now
        try openExchanges(on: runtime)
        server = try runtime.socket(address.family, .stream)
        do {
            for option in socketOptions { try runtime.setOption(option, on: server) }
            try runtime.bind(server, to: address)
            try runtime.listen(server, backlog: 1024)
            _ = try runtime.accept(server)
            whenReady(try runtime.localAddress(server))
            try serve(on: runtime)
        } catch {
            try? runtime.close(server)
            closeExchanges(on: runtime)
            throw error
        }
        try runtime.close(server)
        closeExchanges(on: runtime)
    }

    private mutating func serve(on runtime: borrowing Runtime) throws(DemikernelError) {
        var batch = CompletionBatch(capacity: 128)
        let rooms = UnsafeMutablePointer<ReplyRooms>.allocate(capacity: 1)
        rooms.initialize(to: ReplyRooms(heap: runtime.core.heap, maximumArrayByteCount: runtime.core.limits.maximumUnitSize))
        defer {
            rooms.deinitialize(count: 1)
            rooms.deallocate()
        }
        while true {
            do throws(DemikernelError) {
                try runtime.waitNext(into: &batch, timeout: .milliseconds(100))
            } catch {
                if error.errno == EINTR { return }
                guard error.errno == ETIMEDOUT else { throw error }
            }
            let now = runtime.core.now &+ epochOffset
            while let completion = batch.next() {
                handle(completion, now, rooms, on: runtime)
            }
            if links != nil { retryAnswers(on: runtime) }
            if now &- lastExpiry >= KeyValueServer.expiryInterval {
                lastExpiry = now
                store.expireSome(now: now, budget: KeyValueServer.expiryBudget)
            }
        }
    }

    private mutating func handle(
        _ completion: consuming Completion, _ now: UInt64, _ rooms: UnsafeMutablePointer<ReplyRooms>, on runtime: borrowing Runtime
    ) {
        let queue = completion.queue
        if let exchange = exchange(of: queue) { return handle(completion, exchange, now, rooms, on: runtime) }
        switch consume completion.result {
        case .accepted(let connection, let peer):
            open(connection, peer, on: runtime)
        case .popped(let array, _):
            guard let connection = connections[queue.slot] else { return }
            statistics.batches += 1
            connection.pointee.requestTime = runtime.core.now
            receive(array, connection, now, rooms, on: runtime)
        case .pushed:
            guard let connection = connections[queue.slot], connection.pointee.queue == queue else { return }
            connection.pointee.pushesInFlight -= 1
            if connection.pointee.pushesInFlight == 0, connection.pointee.gather == nil { resume(connection, now, rooms, on: runtime) }
        case .endOfStream:
            close(queue, on: runtime)
        case .failed(let error, _):
            fail(queue, error, on: runtime)
        // The server issues no connect and no close token.
        case .connected: break
        case .closed: break
        }
    }

    // MARK: Connections

    private mutating func open(_ queue: QueueDescriptor, _ peer: SocketAddress, on runtime: borrowing Runtime) {
        let connection = UnsafeMutablePointer<Connection>.allocate(capacity: 1)
        connection.initialize(to: Connection(queue: queue, identifier: nextIdentifier))
        if peer.family == .ipv4 { connection.pointee.client.remoteIPv4Address = UInt32(truncatingIfNeeded: peer.bytes.0).bigEndian }
        connection.pointee.client.remotePort = peer.port
        nextIdentifier += UInt64(router.shardCount)
        connections[queue.slot] = connection
        statistics.connectionsAccepted += 1
        store.connectedClients += 1
        store.totalConnections += 1
        if (try? runtime.pop(queue)) == nil { close(queue, on: runtime) }
        accept(on: runtime)
    }

    private mutating func accept(on runtime: borrowing Runtime) {
        isAcceptPaused = (try? runtime.accept(server)) == nil
    }

    private mutating func fail(_ queue: QueueDescriptor, _ error: DemikernelError, on runtime: borrowing Runtime) {
        if queue == server {
            // No descriptor is left: the next connection that closes gives one back.
            isAcceptPaused = true
        } else if error.errno != ECANCELED, let connection = connections[queue.slot], connection.pointee.queue == queue {
            // Of several pushes that fail together, the first one ends the connection.
            statistics.connectionsFailed += 1
            close(queue, on: runtime)
        }
    }

    /// Ends a connection; what was pushed is still sent.
    mutating func close(_ queue: QueueDescriptor, on runtime: borrowing Runtime) {
        guard let connection = connections[queue.slot], connection.pointee.queue == queue else { return }
        connections[queue.slot] = nil
        if let gather = connection.pointee.gather { abandon(gather) }
        connection.deinitialize(count: 1)
        connection.deallocate()
        store.connectedClients -= 1
        try? runtime.close(queue)
        if isAcceptPaused { accept(on: runtime) }
    }

    // MARK: Requests

    private mutating func receive(
        _ array: consuming ScatterGatherArray, _ connection: UnsafeMutablePointer<Connection>, _ now: UInt64,
        _ rooms: UnsafeMutablePointer<ReplyRooms>, on runtime: borrowing Runtime
    ) {
        for segment in 0..<array.segmentCount {
            // Most requests come whole: they are parsed where they lie. What comes on top of an unfinished one is gathered with it.
            if connection.pointee.backlog.isEmpty && segment == array.segmentCount - 1 {
                let isOpen = array.withUnsafeBytes(ofSegment: segment) { bytes in
                    let outcome = process(bytes, connection, now, rooms, on: runtime)
                    guard let outcome else { return false }
                    if outcome.consumed < bytes.count {
                        connection.pointee.backlog.append(UnsafeRawBufferPointer(rebasing: bytes[outcome.consumed...]))
                    }
                    return true
                }
                if isOpen { popNext(connection, on: runtime) }
                return
            }
            array.withUnsafeBytes(ofSegment: segment) { connection.pointee.backlog.append($0) }
        }
        resume(connection, now, rooms, on: runtime)
    }

    /// Goes on with what waits in the backlog, then with what comes next.
    mutating func resume(
        _ connection: UnsafeMutablePointer<Connection>, _ now: UInt64, _ rooms: UnsafeMutablePointer<ReplyRooms>, on runtime: borrowing Runtime
    ) {
        if connection.pointee.backlog.count >= connection.pointee.backlog.minimumTotal, !connection.pointee.backlog.isEmpty {
            guard let outcome = process(connection.pointee.backlog.bytes, connection, now, rooms, on: runtime) else { return }
            connection.pointee.backlog.removeFirst(outcome.consumed)
        }
        popNext(connection, on: runtime)
    }

    private mutating func popNext(_ connection: UnsafeMutablePointer<Connection>, on runtime: borrowing Runtime) {
        guard connection.pointee.pushesInFlight == 0, connection.pointee.gather == nil else { return }
        if (try? runtime.pop(connection.pointee.queue)) == nil { close(connection.pointee.queue, on: runtime) }
    }

    /// Executes what is complete in `bytes` and pushes the replies.
    /// - Returns: nil when the connection has been closed.
    private mutating func process(
        _ bytes: UnsafeRawBufferPointer, _ connection: UnsafeMutablePointer<Connection>, _ now: UInt64,
        _ rooms: UnsafeMutablePointer<ReplyRooms>, on runtime: borrowing Runtime
    ) -> ProcessOutcome? {
        let queue = connection.pointee.queue
        guard let room = rooms.pointee.begin() else {
            statistics.droppedOutOfMemory += 1
            close(queue, on: runtime)
            return nil
        }
        var replies = ReplyOutput(into: rooms, room)
        let gather = links == nil ? nil : freeGathers.popLast() ?? Gather(shardCount: router.shardCount)
        let outcome: ProcessOutcome
        if let gather {
            outcome = store.process(
                input: bytes, client: &connection.pointee.client, replies: &replies, now: now, router: router, gather: gather)
        } else {
            outcome = store.process(input: bytes, client: &connection.pointee.client, replies: &replies, now: now)
        }
        if replies.isRefused {
            // A part of the replies is of no use to the client, and would hold the full heap for as long as it does not read.
            statistics.droppedOutOfMemory += 1
            rooms.pointee.discard()
            if let gather { abandon(gather) }
            close(queue, on: runtime)
            return nil
        }
        var failed = !push(replies, connection, rooms, on: runtime)
        if let gather {
            if gather.isEmpty {
                abandon(gather)
            } else if !failed {
                // What was asked of this shard alone, as a scan may be, is answered at once.
                failed = !begin(gather, connection, on: runtime) || (gather.awaited == 0 && !sendGathered(connection, now, rooms, on: runtime))
            }
        }
        switch outcome.next {
        case .close:
            if connection.pointee.gather != nil && !failed {
                connection.pointee.closesAfterGather = true
                return outcome
            }
            close(queue, on: runtime)
            return nil
        case .needMore(let minimumTotal):
            connection.pointee.backlog.minimumTotal = minimumTotal
        case .outputFull:
            connection.pointee.backlog.minimumTotal = 1
        }
        if failed {
            close(queue, on: runtime)
            return nil
        }
        return outcome
    }

    /// Pushes what was written to the rooms; false when that was refused.
    func push(
        _ replies: borrowing ReplyOutput, _ connection: UnsafeMutablePointer<Connection>, _ rooms: UnsafeMutablePointer<ReplyRooms>,
        on runtime: borrowing Runtime
    ) -> Bool {
        let queue = connection.pointee.queue
        var isPushed = true
        let pushesBefore = connection.pointee.pushesInFlight
        rooms.pointee.finish(written: replies.written) { array in
            if (try? runtime.push(queue, array)) == nil { isPushed = false } else { connection.pointee.pushesInFlight += 1 }
        }
        if connection.pointee.pushesInFlight > pushesBefore { runtime.noteReply(toRequestAt: connection.pointee.requestTime) }
        return isPushed
    }
}

extension ReplyOutput {
    /// Writes to rooms, of which `room` is the first.
    init(into rooms: UnsafeMutablePointer<ReplyRooms>, _ room: UnsafeMutableRawBufferPointer) {
        self.init(room: room, highWaterMark: KeyValueServer.replyHighWaterMark, context: rooms) { context, written, capacity in
            let rooms = context.unsafelyUnwrapped.assumingMemoryBound(to: ReplyRooms.self)
            guard let room = rooms.pointee.next(written: written) else { return nil }
            capacity.pointee = room.count
            return room.baseAddress
        }
    }
}
