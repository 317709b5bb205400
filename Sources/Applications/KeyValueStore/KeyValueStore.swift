import Glibc

/// The data and the commands of a key-value server that speaks the Redis protocol: bytes of requests in, bytes of replies out.
///
/// It owns all memory of keys and values, and has no I/O, clock or thread of its own; it belongs to the thread that calls it.
/// What a peer sends may end in an error reply or in `.close`, never in a trap.
public struct KeyValueStore: ~Copyable {
    /// Connections open at present: told by the server, reported by `INFO`.
    public var connectedClients = 0
    /// Connections accepted so far: told by the server, reported by `INFO`.
    public var totalConnections = 0

    /// How many stores share the keys, evenly. `Limits.maximumMemory` is that of all of them together.
    public var shardCount = 1

    var limits: Limits
    var heap = Heap()
    let hash: KeyedHash
    var random: RandomSource
    var statistics = Statistics()
    let databases: UnsafeMutablePointer<Database>
    var parser: RequestParser
    let dispatch = CommandDispatch()
    /// What the store itself occupies before it holds a key.
    private let initialBytes: Int

    /// Makes an empty store. `seed` keys the hash of the tables, so it should be unpredictable where peers are not trusted, and
    /// drives the choices of `SPOP`.
    public init(limits: Limits = Limits(), seed: UInt64) {
        precondition(
            limits.maximumBulkLength > 0 && limits.maximumBulkLength <= 1 << 30
                && limits.maximumRequestLength <= 2 << 30 && limits.maximumArguments > 0
                && limits.maximumInlineLength > 0,
            "a limit of the key-value store is out of range")
        self.limits = limits
        random = RandomSource(seed: seed)
        hash = KeyedHash(random: &random)
        parser = RequestParser(limits: limits)
        databases = .allocate(capacity: Self.databaseCount)
        for index in 0..<Self.databaseCount {
            (databases + index).initialize(to: Database(heap: &heap))
        }
        initialBytes = heap.usedBytes
    }

    deinit {
        // The account ends with the store, so another heap may release its blocks.
        var heap = Heap()
        for index in 0..<Self.databaseCount { (databases + index).move().destroy(heap: &heap) }
        databases.deallocate()
    }

    /// Bytes held by keys and values, the allocator's overhead included; 0 when the store is empty.
    public var usedMemory: Int { heap.usedBytes - initialBytes }
    /// The most bytes that keys and values ever held.
    public var peakMemory: Int { heap.peakBytes - initialBytes }
    /// Keys in all databases, expired ones that have not been removed yet included.
    public var keyCount: Int {
        var count = 0
        for index in 0..<Self.databaseCount { count += databases[index].keys.count }
        return count
    }

    /// Executes the complete requests at the start of `input`, in order, and writes their replies.
    ///
    /// - Parameters:
    ///   - input: received bytes that begin with the first byte not yet consumed. Not kept after the call.
    ///   - client: the state of the connection that they came from.
    ///   - replies: where the replies go.
    ///   - now: nanoseconds since the Unix epoch, for expiry. Does not go back between calls.
    public mutating func process(
        input: UnsafeRawBufferPointer, client: inout ClientState, replies: inout ReplyOutput, now: UInt64
    ) -> ProcessOutcome {
        precondition(client.scan.offset <= input.count, "the input must begin with the bytes left over from the last call")
        let milliseconds = Int64(now / 1_000_000)
        if statistics.startTime == 0 { statistics.startTime = milliseconds }
        replies.usesRESP3 = client.protocolVersion == 3
        var position = 0
        while position < input.count {
            let outcome = parser.parse(
                input.baseAddress! + position, available: input.count - position, scan: &client.scan)
            switch outcome {
            case .request(let length):
                position += length
                if parser.count > 0 {
                    let request = Request(
                        arguments: parser.arguments, count: parser.count, database: databases + client.database,
                        now: milliseconds)
                    execute(request, &client, &replies)
                    if client.wantsClose || replies.isRefused {
                        return ProcessOutcome(consumed: position, next: .close)
                    }
                    if replies.isFull { return ProcessOutcome(consumed: position, next: .outputFull) }
                }
            case .incomplete(let minimumTotal):
                return ProcessOutcome(consumed: position, next: .needMore(minimumTotal: minimumTotal))
            case .violation(let violation):
                violation.write(to: &replies)
                return ProcessOutcome(consumed: position, next: .close)
            }
        }
        return ProcessOutcome(consumed: position, next: .needMore(minimumTotal: 1))
    }

    /// Removes up to `budget` keys whose time has passed, the earliest first, and returns how many. O(log n) for each; call it
    /// now and then, so that keys which nobody asks for do not stay.
    @discardableResult
    public mutating func expireSome(now: UInt64, budget: Int) -> Int {
        let milliseconds = Int64(now / 1_000_000)
        var removed = 0
        for index in 0..<Self.databaseCount {
            while removed < budget, let deadline = databases[index].expiries.earliest, deadline.time < milliseconds {
                remove(deadline.entry, from: databases + index)
                statistics.expiredKeys += 1
                removed += 1
            }
        }
        return removed
    }

    /// The command of a request, unless there is none of that name, or it has another number of arguments.
    func checkedCommand(_ request: Request) -> Command? {
        guard let slot = dispatch.find(request[0]) else { return nil }
        let arity = Int(slot.arity)
        return (arity >= 0 ? request.count == arity : request.count >= -arity) ? slot.command : nil
    }

    @inline(__always)
    mutating func execute(_ request: Request, _ client: inout ClientState, _ replies: inout ReplyOutput) {
        guard let slot = dispatch.find(request[0]) else { return unknownCommand(request, &client, &replies) }
        let arity = Int(slot.arity)
        guard arity >= 0 ? request.count == arity : request.count >= -arity else {
            return replies.wrongArity(commandTable[Int(slot.command.rawValue)].name)
        }
        if slot.deniesOutOfMemory && limits.maximumMemory > 0 && usedMemory > limits.maximumMemory / shardCount {
            return replies.error("OOM command not allowed when used memory > 'maxmemory'.")
        }
        statistics.commandsProcessed &+= 1
        run(slot.command, request, &client, &replies)
    }

    @inline(__always)
    private mutating func run(
        _ command: Command, _ request: Request, _ client: inout ClientState, _ replies: inout ReplyOutput
    ) {
        switch command {
        case .ping: ping(request, &replies)
        case .echo: replies.bulk(request[1])
        case .quit: quit(&client, &replies)
        case .select: select(request, &client, &replies)
        case .hello: hello(request, &client, &replies)
        case .auth: authenticate(request, &replies)
        case .reset: reset(&client, &replies)
        case .set: set(request, &replies)
        case .get: get(request, &replies)
        case .incr: increment(request, by: 1, &replies)
        case .decr: increment(request, by: -1, &replies)
        case .incrby: incrementBy(request, &replies)
        case .decrby: decrementBy(request, &replies)
        case .append: append(request, &replies)
        case .strlen: stringLength(request, &replies)
        case .getdel: getAndDelete(request, &replies)
        case .mget: multipleGet(request, &replies)
        case .mset: multipleSet(request, &replies)
        case .lpush: push(request, at: .front, &replies)
        case .rpush: push(request, at: .back, &replies)
        case .lpop: pop(request, at: .front, "lpop", &replies)
        case .rpop: pop(request, at: .back, "rpop", &replies)
        case .lrange: listRange(request, &replies)
        case .llen: listLength(request, &replies)
        case .sadd: setAdd(request, &replies)
        case .spop: setPop(request, &replies)
        case .scard: setCount(request, &replies)
        case .smembers: setMembers(request, &replies)
        case .hset: hashSet(request, &replies)
        case .hget: hashGet(request, &replies)
        case .hgetall: hashGetAll(request, &replies)
        case .hlen: hashCount(request, &replies)
        case .zadd: sortedSetAdd(request, &replies)
        case .zpopmin: sortedSetPopMinimum(request, &replies)
        case .zcard: sortedSetCount(request, &replies)
        case .zrange: sortedSetRange(request, &replies)
        case .delete, .unlink: delete(request, &replies)
        case .exists: exists(request, &replies)
        case .expire: expire(request, .relative, .seconds, "expire", &replies)
        case .pexpire: expire(request, .relative, .milliseconds, "pexpire", &replies)
        case .expireat: expire(request, .absolute, .seconds, "expireat", &replies)
        case .pexpireat: expire(request, .absolute, .milliseconds, "pexpireat", &replies)
        case .ttl: timeToLive(request, .seconds, &replies)
        case .pttl: timeToLive(request, .milliseconds, &replies)
        case .persist: persist(request, &replies)
        case .type: type(request, &replies)
        case .scan: scan(request, &replies)
        case .dbsize: replies.integer(request.database.pointee.keys.count)
        case .flushall: flush(request, isAll: true, &replies)
        case .flushdb: flush(request, isAll: false, &replies)
        case .info: information(request, &replies)
        case .config: configuration(request, &replies)
        case .command: describeCommands(request, &replies)
        case .client: manageClient(request, &client, &replies)
        }
    }

    @inline(never)
    private mutating func unknownCommand(_ request: Request, _ client: inout ClientState, _ replies: inout ReplyOutput) {
        // An HTTP request is a web page's attempt to reach a server on its visitor's machine.
        if request[0].matches("post") || request[0].matches("host:") {
            client.wantsClose = true
            return
        }
        replies.raw("-ERR unknown command '")
        replies.appendOneLine(request[0].prefix(128))
        replies.raw("', with args beginning with: ")
        var quoted = 0
        for index in 1..<max(1, request.count) where quoted < 128 {
            let argument = request[index].prefix(128 - quoted)
            replies.raw("'")
            replies.appendOneLine(argument)
            replies.raw("' ")
            quoted += argument.count + 3
        }
        replies.raw("\r\n")
    }
}

/// One request while it is executed.
struct Request {
    private let arguments: UnsafePointer<ByteSlice>
    /// The number of arguments, the command's name included; at least 1.
    let count: Int
    /// The database that the client has selected.
    let database: UnsafeMutablePointer<Database>
    /// Milliseconds since the Unix epoch.
    let now: Int64

    init(arguments: UnsafePointer<ByteSlice>, count: Int, database: UnsafeMutablePointer<Database>, now: Int64) {
        self.arguments = arguments
        self.count = count
        self.database = database
        self.now = now
    }

    @inline(__always)
    subscript(index: Int) -> ByteSlice {
        precondition(index >= 0 && index < count)
        return arguments[index]
    }
}

/// Counters that `INFO` reports and `CONFIG RESETSTAT` clears.
struct Statistics {
    /// Milliseconds since the Unix epoch at the first request.
    var startTime: Int64 = 0
    var commandsProcessed = 0
    var keyspaceHits = 0
    var keyspaceMisses = 0
    var expiredKeys = 0
}
