import Testing

@testable import KeyValueStore

/// Several stores that share the keys, and one connection to one of them. Batches go to and fro as they would between threads.
final class ShardedSession {
    private let stores: [Box]
    private let router: ShardRouter
    private let gather: Gather
    private var client = ClientState(identifier: 1)
    private var pending: [UInt8] = []
    private(set) var isClosed = false
    let now: UInt64 = 1_700_000_000_000_000_000
    /// Batches that were handed over.
    private(set) var batchCount = 0

    final class Box {
        var store: KeyValueStore
        init(_ store: consuming KeyValueStore) { self.store = store }
    }

    init(shard: Int = 0, of shardCount: Int, sharing other: ShardedSession? = nil, limits: KeyValueStore.Limits = .init()) {
        stores =
            other?.stores
            ?? (0..<shardCount).map { _ in
                var store = KeyValueStore(limits: limits, seed: 1)
                store.shardCount = shardCount
                return Box(store)
            }
        router = ShardRouter(shard: shard, of: shardCount, seed: 7)
        gather = Gather(shardCount: shardCount)
    }

    /// Keys of each shard.
    var keyCounts: [Int] { stores.map { $0.store.keyCount } }

    func send(_ bytes: [UInt8], highWaterMark: Int = .max) -> [UInt8] {
        pending += bytes
        var replies: [UInt8] = []
        while !isClosed {
            let room = ReplyRoom(size: 4096)
            var output = room.makeOutput(highWaterMark: highWaterMark)
            let outcome = pending.withUnsafeBytes {
                stores[router.shard].store.process(input: $0, client: &client, replies: &output, now: now, router: router, gather: gather)
            }
            pending.removeFirst(outcome.consumed)
            if !gather.isEmpty {
                var asked: [Int] = []
                let isHandedOver = gather.handOver { shard, requests in
                    asked.append(shard)
                    batchCount += 1
                    let answer = UnsafeMutablePointer<GrowingBytes>.allocate(capacity: 1)
                    answer.initialize(to: GrowingBytes())
                    let isWithinLimit = stores[shard].store.answer(requests, into: answer, now: now)
                    gather.addReplies(of: shard, answer.pointee.bytes)
                    answer.deinitialize(count: 1)
                    answer.deallocate()
                    #expect(isWithinLimit)
                    return true
                }
                #expect(isHandedOver)
                for shard in asked { #expect(gather.finishReplies(of: shard, isRefused: false) == (shard == asked.last)) }
                let isFinished = stores[router.shard].store.finish(gather, replies: &output, now: now, router: router)
                #expect(isFinished)
            }
            #expect(gather.isEmpty)
            room.collect(output.written)
            replies += room.collected
            switch outcome.next {
            case .needMore: return replies
            case .outputFull: break
            case .close: isClosed = true
            }
        }
        return replies
    }

    func text(_ bytes: [UInt8]) -> String { String(decoding: send(bytes), as: UTF8.self) }
    func reply(_ request: String) -> String { text(Exchange(request, "").encoded) }
}

/// A store of several shards answers as one of one shard does.
@Suite struct ShardedStoreTests {
    /// Without the scans of a whole database: over several shards they take several calls.
    static let scripts = CommandTests.scripts.map { $0.filter { !$0.request.hasPrefix("scan 0") } }

    @Test(arguments: scripts, [1, 2, 3, 64])
    func repliesAreThoseOfOneStore(script: [Exchange], shardCount: Int) {
        for version in [2, 3] {
            let session = ShardedSession(shard: shardCount / 2, of: shardCount)
            _ = session.reply("hello \(version)")
            for exchange in script {
                let expected = version == 2 ? exchange.resp2 : exchange.resp3
                #expect(session.reply(exchange.request) == expected, "\(exchange.request) in RESP\(version) on \(shardCount) shards")
                if exchange.request == "reset" { _ = session.reply("hello \(version)") }
            }
        }
    }

    @Test(arguments: scripts, [2, 5])
    func pipelinedRequestsKeepTheirOrder(script: [Exchange], shardCount: Int) {
        let session = ShardedSession(of: shardCount)
        #expect(session.text(script.flatMap(\.encoded)) == script.map(\.resp2).joined())
    }

    /// Requests of a few keys in two databases, of all kinds that are split, and a store of one shard as the model.
    @Test(arguments: 0..<40)
    func randomPipelines(seed: Int) {
        var random = TestRandom(state: UInt64(seed))
        let shardCount = Int.random(in: 2...4, using: &random)
        let sharded = ShardedSession(shard: Int.random(in: 0..<shardCount, using: &random), of: shardCount)
        let model = TestSession()
        for _ in 0..<20 {
            let pipeline = (0..<Int.random(in: 1...150, using: &random)).flatMap { _ in Self.request(&random) }
            let highWaterMark = Bool.random(using: &random) ? Int.max : 100
            let replies = sharded.send(pipeline, highWaterMark: highWaterMark)
            let expected = model.send(pipeline)
            #expect(String(decoding: replies, as: UTF8.self) == String(decoding: expected, as: UTF8.self))
        }
        #expect(sharded.keyCounts.reduce(0, +) == model.store.keyCount)
        #expect(sharded.keyCounts.allSatisfy { $0 > 0 }, "every shard has a part of the keys")
        #expect(sharded.reply("dbsize") == model.reply("dbsize"))
    }

    private static func request(_ random: inout TestRandom) -> [UInt8] {
        func key() -> String { "key:\(Int.random(in: 0..<60, using: &random))" }
        func keys() -> [String] { (0..<Int.random(in: 1...5, using: &random)).map { _ in key() } }
        func value() -> String { String(repeating: "v", count: Int.random(in: 0...300, using: &random)) }
        var words: [String]
        switch Int.random(in: 0..<22, using: &random) {
        case 0...3: words = ["SET", key(), value()]
        case 4...6: words = ["GET", key()]
        case 7: words = ["INCR", "n" + key()]
        case 8...9: words = ["MGET"] + keys()
        case 10: words = ["MSET"] + keys().flatMap { [$0, value()] }
        case 11: words = ["DEL"] + keys()
        case 12: words = ["EXISTS"] + keys()
        case 13: words = ["LPUSH", "l" + key(), value()]
        case 14: words = ["LRANGE", "l" + key(), "0", "-1"]
        case 15: words = ["DBSIZE"]
        case 16: words = ["SELECT", Bool.random(using: &random) ? "0" : "1"]
        case 17: words = ["PING"]
        case 18: words = ["MGET", "l" + key(), key()]
        case 19: words = ["NONSENSE", key()]
        case 20: words = ["HELLO", Bool.random(using: &random) ? "3" : "2"]
        default: words = Int.random(in: 0..<30, using: &random) == 0 ? ["FLUSHDB"] : ["SET", key()]
        }
        return encode(words.map { Array($0.utf8) })
    }

    @Test func aPipelineOverManyKeysIsOneRound() {
        let session = ShardedSession(of: 2)
        _ = session.send((0..<50).flatMap { encode("SET", "key:\($0)", "value") })
        #expect(session.batchCount == 1, "all that is for the other shard goes at once")
    }

    @Test func twoConnectionsAtDifferentShardsSeeTheSameKeys() {
        let first = ShardedSession(shard: 0, of: 3)
        let second = ShardedSession(shard: 2, of: 3, sharing: first)
        for number in 0..<30 { #expect(first.reply("set key:\(number) \(number)") == "+OK\r\n") }
        for number in 0..<30 { #expect(second.reply("incr key:\(number)") == ":\(number + 1)\r\n") }
        #expect(second.reply("dbsize") == ":30\r\n")
    }

    @Test(arguments: [1, 2, 3, 64])
    func aScanFindsEveryKeyOnce(shardCount: Int) {
        let session = ShardedSession(of: shardCount)
        for number in 0..<500 { _ = session.reply("set key:\(number) v") }
        var found: [String] = []
        var cursor = "0"
        repeat {
            let lines = session.reply("scan \(cursor) count 7").split(separator: "\r\n").map(String.init)
            cursor = lines[2]
            found += lines.dropFirst(4).filter { !$0.hasPrefix("$") }
        } while cursor != "0"
        #expect(found.count == 500)
        #expect(Set(found) == Set((0..<500).map { "key:\($0)" }))
    }

    @Test func anyCursorIsAnswered() {
        let session = ShardedSession(of: 3)
        for cursor in ["1", "2", "18446744073709551615", "9223372036854775807", "4294967296"] {
            #expect(session.reply("scan \(cursor)").hasPrefix("*2\r\n"), "\(cursor)")
        }
        #expect(session.reply("scan x") == "-ERR invalid cursor\r\n")
    }

    @Test func informationIsAboutAllShards() {
        let session = ShardedSession(of: 4)
        for number in 0..<100 { _ = session.reply("set key:\(number) v") }
        let text = session.reply("info keyspace")
        #expect(text.contains("db0:keys=100,expires=0"), "\(text)")
        #expect(session.reply("info memory").contains("used_memory:"))
        #expect(session.reply("flushall") == "+OK\r\n")
        #expect(session.keyCounts == [0, 0, 0, 0])
        #expect(session.reply("info memory").contains("used_memory:0\r\n"))
    }

    @Test func theMemoryLimitIsThatOfAllShards() {
        let session = ShardedSession(of: 4)
        #expect(session.reply("config set maxmemory 400000") == "+OK\r\n")
        #expect(session.reply("config get maxmemory").contains("400000"))
        var refused = 0
        for number in 0..<800 where session.reply("set key:\(number) " + String(repeating: "v", count: 1_000)).hasPrefix("-OOM") { refused += 1 }
        #expect((200...600).contains(refused), "\(refused) of 800 values of 1,000 bytes did not fit in 400,000")
    }

    @Test func repliesLargerThanMayWaitAreRefused() {
        var store = KeyValueStore(seed: 1)
        let replies = UnsafeMutablePointer<GrowingBytes>.allocate(capacity: 1)
        replies.initialize(to: GrowingBytes())
        let batch = UnsafeMutablePointer<GrowingBytes>.allocate(capacity: 1)
        batch.initialize(to: GrowingBytes())
        defer {
            for bytes in [replies, batch] {
                bytes.deinitialize(count: 1)
                bytes.deallocate()
            }
        }
        func add(_ words: String...) {
            BatchedRequest.append(.command, to: batch, database: 0, usesRESP3: false) { batch in
                encode(words.map { Array($0.utf8) }).withUnsafeBytes { batch.pointee.append($0) }
            }
        }
        add("SET", "key", String(repeating: "v", count: 4 << 20))
        let areSmall = store.answer(batch.pointee.bytes, into: replies, now: 1)
        #expect(areSmall)
        batch.pointee.removeAll()
        replies.pointee.removeAll()
        for _ in 0..<17 { add("GET", "key") }
        let areLarge = !store.answer(batch.pointee.bytes, into: replies, now: 1)
        #expect(areLarge)
    }

    @Test func aRefusedPartEndsTheConnection() {
        var store = KeyValueStore(seed: 1)
        let router = ShardRouter(shard: 0, of: 2, seed: 7)
        let gather = Gather(shardCount: 2)
        var client = ClientState(identifier: 1)
        let room = ReplyRoom(size: 4096)
        var output = room.makeOutput()
        let input = (0..<20).flatMap { encode("GET", "key:\($0)") }
        _ = input.withUnsafeBytes { store.process(input: $0, client: &client, replies: &output, now: 1, router: router, gather: gather) }
        #expect(gather.handOver { _, _ in true })
        #expect(gather.awaited == 2)
        #expect(gather.finishReplies(of: 1, isRefused: true))
        let isFinished = store.finish(gather, replies: &output, now: 1, router: router)
        #expect(!isFinished)
        #expect(gather.isEmpty)
    }
}
