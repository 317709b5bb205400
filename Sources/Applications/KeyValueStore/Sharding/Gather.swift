/// What one connection has asked of several shards at once, and their replies, until all are there and can be put in the order of the requests.
///
/// Each shard gets one batch of requests, in the connection's order, and answers it with one batch of replies. So a pipeline over many keys costs one round
/// between shards, and each shard sees a connection's requests in their order.
public final class Gather {
    /// How the replies of shards become the reply of one request.
    enum Combination {
        /// The reply of one shard as it is.
        case single(shard: Int)
        /// The sum of numbers; of errors, the first.
        case sum(of: UInt64)
        /// The first error, or the first reply.
        case acknowledgement(of: UInt64)
        /// Values of keys, taken in turn from the shards that `keyShards` names, `count` of them from `start` on.
        case values(of: UInt64, start: Int, count: Int)
        /// A scan's, whose cursor gets the shard's number.
        case scan(shard: Int)
        /// The sections of an `INFO` about all shards.
        case information(InformationSections)
    }

    var combinations: [(combination: Combination, usesRESP3: Bool)] = []
    var keyShards: [UInt8] = []
    /// Of each shard: the requests that are to be handed over, and the replies that have come. Of this shard, the replies alone.
    private let batches: UnsafeMutablePointer<GrowingBytes>
    let parts: UnsafeMutablePointer<GrowingBytes>
    private let shardCount: Int
    /// Shards whose replies are missing, a bit each.
    public private(set) var awaited: UInt64 = 0
    /// A shard could not give its replies: they are larger than the limit.
    public private(set) var isRefused = false
    private var batchByteCount = 0

    /// Requests of one gather, and bytes of the requests, after which the rest of a pipeline waits for its replies.
    private static let maximumRequests = 64
    private static let maximumBatchByteCount = 65_536

    public init(shardCount: Int) {
        self.shardCount = shardCount
        batches = .allocate(capacity: shardCount)
        parts = .allocate(capacity: shardCount)
        for shard in 0..<shardCount {
            (batches + shard).initialize(to: GrowingBytes())
            (parts + shard).initialize(to: GrowingBytes())
        }
    }

    deinit {
        batches.deinitialize(count: shardCount)
        parts.deinitialize(count: shardCount)
        batches.deallocate()
        parts.deallocate()
    }

    /// Whether a request waits for another shard, so that those after it have to wait, too.
    public var isEmpty: Bool { combinations.isEmpty }
    var isFull: Bool { combinations.count >= Gather.maximumRequests || batchByteCount >= Gather.maximumBatchByteCount }

    /// Ready for the next requests.
    public func removeAll() {
        combinations.removeAll(keepingCapacity: true)
        keyShards.removeAll(keepingCapacity: true)
        for shard in 0..<shardCount {
            batches[shard].removeAll()
            parts[shard].removeAll()
        }
        awaited = 0
        isRefused = false
        batchByteCount = 0
    }

    // MARK: Requests

    /// What each of the other shards has to be asked, for those that are asked anything; their replies are awaited from then on.
    /// - Returns: whether `send` did it for all of them.
    public func handOver(_ send: (_ shard: Int, _ requests: UnsafeRawBufferPointer) -> Bool) -> Bool {
        for shard in 0..<shardCount where !batches[shard].isEmpty {
            awaited |= 1 << UInt64(shard)
            guard send(shard, batches[shard].bytes) else { return false }
            batches[shard].removeAll()
        }
        return true
    }

    func add(_ combination: Combination, usesRESP3: Bool) { combinations.append((combination, usesRESP3)) }

    /// Adds a request to a shard's batch: `selection` of its arguments, as an array of bulk strings.
    func append(_ kind: BatchedRequest.Kind, to shard: Int, database: Int, usesRESP3: Bool, _ write: (UnsafeMutablePointer<GrowingBytes>) -> Void) {
        let batch = batches + shard
        let before = batch.pointee.count
        BatchedRequest.append(kind, to: batch, database: database, usesRESP3: usesRESP3, write)
        batchByteCount += batch.pointee.count - before
    }

    // MARK: Replies

    /// Adds bytes of a shard's replies.
    public func addReplies(of shard: Int, _ bytes: UnsafeRawBufferPointer) { parts[shard].append(bytes) }

    /// All replies of a shard are there.
    /// - Returns: whether no other is missing.
    public func finishReplies(of shard: Int, isRefused: Bool) -> Bool {
        if isRefused { self.isRefused = true }
        awaited &= ~(1 << UInt64(shard))
        return awaited == 0
    }
}

/// A request in a batch between shards: a header of eight bytes (database, version of the protocol, kind, 0, bytes that follow), then the request.
enum BatchedRequest {
    enum Kind: UInt8 {
        case command, summary
    }

    static let headerByteCount = 8

    static func append(
        _ kind: Kind, to batch: UnsafeMutablePointer<GrowingBytes>, database: Int, usesRESP3: Bool,
        _ write: (UnsafeMutablePointer<GrowingBytes>) -> Void
    ) {
        let header = batch.pointee.reserve(headerByteCount)
        header.storeBytes(of: UInt8(database), as: UInt8.self)
        header.storeBytes(of: usesRESP3 ? 3 : 2, toByteOffset: 1, as: UInt8.self)
        header.storeBytes(of: kind.rawValue, toByteOffset: 2, as: UInt8.self)
        header.storeBytes(of: 0, toByteOffset: 3, as: UInt8.self)
        batch.pointee.extend(4)
        let lengthOffset = batch.pointee.count
        batch.pointee.append(word: 0)
        write(batch)
        batch.pointee.set(word: UInt32(batch.pointee.count - lengthOffset - 4), at: lengthOffset)
    }
}
