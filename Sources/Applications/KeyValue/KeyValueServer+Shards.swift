import Demikernel
import Glibc
import KeyValueStore

/// How the shards of a server work together.
///
/// What a pop brings is executed up to the first request for a key of another shard. From there on replies wait in a gather: each other shard gets its requests as
/// one batch, and when all have answered, the replies leave in the order of the requests and the connection goes on. A connection has one gather at most, so
/// that what waits anywhere is bounded by the connections. Requests and replies have lanes of their own, and replies are always taken: so shards that wait for
/// each other go on.
extension KeyValueServer {
    /// Lanes that a group of key-value servers needs.
    public static var laneCount: Int { ShardExchange.laneCount }

    /// Gathers that are kept for the next connections.
    private static let maximumFreeGathers = 64

    mutating func openExchanges(on runtime: borrowing Runtime) throws(DemikernelError) {
        guard let links else { return }
        precondition(links.queueLaneCount >= KeyValueServer.laneCount, "a group of key-value servers has KeyValueServer.laneCount lanes")
        let exchanges = UnsafeMutablePointer<ShardExchange>.allocate(capacity: router.shardCount)
        for index in 0..<router.shardCount where index != router.shard { (exchanges + index).initialize(to: ShardExchange(shard: index, links)) }
        self.exchanges = exchanges
        for index in 0..<router.shardCount where index != router.shard {
            _ = try runtime.pop(exchanges[index].requests)
            _ = try runtime.pop(exchanges[index].replies)
        }
    }

    func closeExchanges(on runtime: borrowing Runtime) {
        guard let exchanges else { return }
        for index in 0..<router.shardCount where index != router.shard {
            try? runtime.close(exchanges[index].requests)
            try? runtime.close(exchanges[index].replies)
        }
    }

    /// The exchange that a queue belongs to.
    func exchange(of queue: QueueDescriptor) -> UnsafeMutablePointer<ShardExchange>? {
        guard let exchanges, connections[queue.slot] == nil else { return nil }
        for index in 0..<router.shardCount where index != router.shard {
            if exchanges[index].requests == queue || exchanges[index].replies == queue { return exchanges + index }
        }
        return nil
    }

    mutating func handle(
        _ completion: consuming Completion, _ exchange: UnsafeMutablePointer<ShardExchange>, _ now: UInt64, _ rooms: UnsafeMutablePointer<ReplyRooms>,
        on runtime: borrowing Runtime
    ) {
        let isReply = completion.queue == exchange.pointee.replies
        switch consume completion.result {
        case .popped(let unit, _):
            if isReply {
                receiveReplies(unit, exchange, now, rooms, on: runtime)
                if (try? runtime.pop(exchange.pointee.replies)) == nil { lose(exchange, on: runtime) }
            } else if exchange.pointee.receiveRequests(unit) {
                statistics.batchesAnswered += 1
                exchange.pointee.executeBatch(&store, now: now)
                sendAnswer(exchange, on: runtime)
            } else {
                popRequests(exchange, on: runtime)
            }
        case .pushed:
            guard isReply else { return }
            exchange.pointee.repliesInFlight -= 1
            popRequests(exchange, on: runtime)
        case .endOfStream: lose(exchange, on: runtime)
        case .failed: lose(exchange, on: runtime)
        // Of the links, nothing else is asked.
        case .accepted: break
        case .connected: break
        case .closed: break
        }
    }

    // MARK: Requests that others hand over

    private mutating func sendAnswer(_ exchange: UnsafeMutablePointer<ShardExchange>, on runtime: borrowing Runtime) {
        // Without memory it waits for `retryAnswers`. When it was pushed, the completion asks for the next batch.
        guard exchange.pointee.sendAnswer(on: runtime) else { return }
        if exchange.pointee.repliesInFlight == 0 { lose(exchange, on: runtime) }
    }

    private mutating func popRequests(_ exchange: UnsafeMutablePointer<ShardExchange>, on runtime: borrowing Runtime) {
        guard exchange.pointee.repliesInFlight == 0, !exchange.pointee.hasAnswer, !exchange.pointee.isGone else { return }
        if (try? runtime.pop(exchange.pointee.requests)) == nil { lose(exchange, on: runtime) }
    }

    /// Sends answers for which there was no memory.
    mutating func retryAnswers(on runtime: borrowing Runtime) {
        guard let exchanges else { return }
        for index in 0..<router.shardCount where index != router.shard && exchanges[index].hasAnswer && !exchanges[index].isGone {
            sendAnswer(exchanges + index, on: runtime)
        }
    }

    // MARK: Requests for others

    /// Hands the batches of a connection's gather over; false when that cannot be.
    mutating func begin(_ gather: Gather, _ connection: UnsafeMutablePointer<Connection>, on runtime: borrowing Runtime) -> Bool {
        connection.pointee.gather = gather
        let header = MessageHeader(connection: connection.pointee.queue.rawValue)
        var pushes = 0
        return gather.handOver { shard, requests in
            guard let exchange = exchanges.map({ $0 + shard }), !exchange.pointee.isGone else { return false }
            guard ShardExchange.send(header, requests, to: exchange.pointee.requests, on: runtime, count: &pushes) else {
                statistics.droppedOutOfMemory += 1
                return false
            }
            statistics.batchesHandedOver += 1
            return true
        }
    }

    private mutating func receiveReplies(
        _ unit: borrowing ScatterGatherArray, _ exchange: UnsafeMutablePointer<ShardExchange>, _ now: UInt64,
        _ rooms: UnsafeMutablePointer<ReplyRooms>,
        on runtime: borrowing Runtime
    ) {
        let shard = exchange.pointee.shard
        var finished: UnsafeMutablePointer<Connection>?
        exchange.pointee.receiveReplies(unit) { header, bytes, isLast in
            let queue = QueueDescriptor(rawValue: header.connection)
            // A connection that has failed meanwhile is gone.
            guard let connection = connections[queue.slot], connection.pointee.queue == queue, let gather = connection.pointee.gather else { return }
            gather.addReplies(of: shard, bytes)
            if isLast, gather.finishReplies(of: shard, isRefused: header.flags & MessageHeader.refused != 0) { finished = connection }
        }
        if let finished { finish(finished, now, rooms, on: runtime) }
    }

    /// All shards have answered: sends the replies, and goes on with what waits in the connection.
    private mutating func finish(
        _ connection: UnsafeMutablePointer<Connection>, _ now: UInt64, _ rooms: UnsafeMutablePointer<ReplyRooms>, on runtime: borrowing Runtime
    ) {
        guard sendGathered(connection, now, rooms, on: runtime), !connection.pointee.closesAfterGather else {
            return close(connection.pointee.queue, on: runtime)
        }
        if connection.pointee.pushesInFlight == 0 { resume(connection, now, rooms, on: runtime) }
    }

    /// Sends the replies of a connection's gather, which is complete; false when the connection cannot be served any more.
    mutating func sendGathered(
        _ connection: UnsafeMutablePointer<Connection>, _ now: UInt64, _ rooms: UnsafeMutablePointer<ReplyRooms>, on runtime: borrowing Runtime
    ) -> Bool {
        guard let gather = connection.pointee.gather.take() else { return false }
        defer { abandon(gather) }
        guard let room = rooms.pointee.begin() else {
            statistics.droppedOutOfMemory += 1
            return false
        }
        var replies = ReplyOutput(into: rooms, room)
        guard store.finish(gather, replies: &replies, now: now, router: router) else {
            statistics.droppedOutOfMemory += 1
            rooms.pointee.discard()
            return false
        }
        return push(replies, connection, rooms, on: runtime)
    }

    /// A gather that nobody waits for any more.
    mutating func abandon(_ gather: Gather) {
        gather.removeAll()
        if freeGathers.count < KeyValueServer.maximumFreeGathers { freeGathers.append(gather) }
    }

    /// Another shard has ended: who waits for it, waits in vain.
    private mutating func lose(_ exchange: UnsafeMutablePointer<ShardExchange>, on runtime: borrowing Runtime) {
        guard !exchange.pointee.isGone else { return }
        exchange.pointee.isGone = true
        let bit = UInt64(1) << UInt64(exchange.pointee.shard)
        for slot in 0..<connectionCapacity {
            guard let connection = connections[slot], let gather = connection.pointee.gather, gather.awaited & bit != 0 else { continue }
            statistics.connectionsFailed += 1
            close(connection.pointee.queue, on: runtime)
        }
    }
}
