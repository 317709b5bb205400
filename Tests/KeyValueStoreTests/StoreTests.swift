import Testing

@testable import KeyValueStore

@Suite struct StoreTests {
    // MARK: Expiry

    @Test func keysExpireWithTheGivenClock() {
        let session = TestSession()
        #expect(session.reply("set a 1 px 1500") == "+OK\r\n")
        #expect(session.reply("set b 2 ex 10") == "+OK\r\n")
        #expect(session.reply("pttl a") == ":1500\r\n")
        #expect(session.reply("ttl a") == ":2\r\n")
        session.now += 1_500_000_000
        #expect(session.reply("get a") == "$1\r\n1\r\n")
        #expect(session.reply("pttl a") == ":0\r\n")
        session.now += 1_000_000
        #expect(session.reply("dbsize") == ":2\r\n")
        #expect(session.reply("get a") == "$-1\r\n")
        #expect(session.reply("dbsize") == ":1\r\n")
        #expect(session.reply("ttl a") == ":-2\r\n")
        session.now += 8_499_000_000
        for (request, reply) in [
            ("exists b", ":1\r\n"), ("incr b", ":3\r\n"), ("pttl b", ":0\r\n"), ("append b 0", ":2\r\n"),
        ] {
            #expect(session.reply(request) == reply)
        }
        session.now += 1_000_000
        #expect(session.reply("incr b") == ":1\r\n")
        #expect(session.reply("ttl b") == ":-1\r\n")
    }

    @Test(arguments: ["lpush k a", "sadd k a", "hset k f v", "zadd k 1 a", "set k v"])
    func anExpiredKeyIsMissingForEveryCommand(creation: String) {
        for request in [
            "get k", "strlen k", "llen k", "lrange k 0 -1", "scard k", "smembers k", "hlen k", "zcard k", "ttl k", "type k",
            "exists k", "del k", "persist k", "expire k 10", "getdel k", "lpop k", "spop k", "zpopmin k", "mget k", "scan 0",
            "lpush k b", "sadd k b", "hset k f v", "zadd k 1 b", "append k v", "incr k",
        ] {
            let expired = TestSession()
            _ = expired.reply(creation)
            _ = expired.reply("pexpire k 1")
            expired.now += 2_000_000
            #expect(expired.reply(request) == TestSession().reply(request), "\(request) after \(creation)")
        }
    }

    @Test func expireSomeRemovesTheEarliestWithinItsBudget() {
        let session = TestSession()
        for index in 0..<1000 { _ = session.reply("set key\(index) v px \((index * 7919) % 1000 + 1)") }
        _ = session.reply("set stays v")
        #expect(session.store.expireSome(now: session.now, budget: 100) == 0)
        let later = session.now + 501_000_000
        #expect(session.store.expireSome(now: later, budget: 100) == 100)
        #expect(session.store.expireSome(now: later, budget: 1000) == 400)
        #expect(session.store.keyCount == 501)
        session.now = later
        for index in 0..<1000 where (index * 7919) % 1000 + 1 > 500 {
            #expect(session.reply("exists key\(index)") == ":1\r\n")
        }
        #expect(session.store.expireSome(now: later + 1_000_000_000, budget: 1000) == 500)
        #expect(session.store.keyCount == 1)
    }

    // MARK: Memory

    @Test func memoryReturnsToTheStart() {
        let session = TestSession()
        #expect(session.store.usedMemory == 0)
        func fill() {
            for index in 0..<2000 {
                _ = session.reply("set s\(index) \(String(repeating: "v", count: index % 300)) ex 100")
                _ = session.reply("append s\(index % 50) \(String(repeating: "w", count: 100))")
                _ = session.reply("rpush list\(index % 7) \(String(repeating: "e", count: index % 500))")
                _ = session.reply("sadd set\(index % 7) member\(index)")
                _ = session.reply("hset hash\(index % 7) field\(index % 500) \(index)")
                _ = session.reply("zadd zset\(index % 7) \(index % 13) member\(index % 700)")
            }
        }
        fill()
        #expect(session.store.usedMemory > 500_000)
        #expect(session.reply("flushall") == "+OK\r\n")
        #expect(session.store.usedMemory == 0)
        fill()
        _ = session.reply("flushdb")
        #expect(session.store.usedMemory == 0)
        #expect(session.store.peakMemory > 500_000)
    }

    @Test func removingKeyByKeyLeavesOnlyTheSmallestTable() {
        let session = TestSession()
        for index in 0..<5000 { _ = session.reply("set key\(index) v ex 100") }
        for index in 0..<5000 { _ = session.reply("del key\(index)") }
        for _ in 0..<100 { _ = session.reply("get nothing") }
        #expect(session.store.keyCount == 0)
        #expect(session.store.usedMemory < 1000)
        for kind in ["rpush k", "sadd k", "zadd k 1"] {
            for index in 0..<500 { _ = session.reply("\(kind) element\(index)") }
            let pop = kind.hasPrefix("rpush") ? "lpop k 500" : kind.hasPrefix("sadd") ? "spop k 500" : "zpopmin k 500"
            _ = session.reply(pop)
            #expect(session.store.usedMemory < 1000, "\(kind)")
        }
    }

    // MARK: SCAN

    /// The keys of a `SCAN` reply and the next cursor.
    private func scan(_ session: TestSession, _ cursor: String) -> (cursor: String, keys: [String]) {
        let lines = session.reply("scan \(cursor) count 7").split(separator: "\r\n")
        return (String(lines[2]), stride(from: 5, to: lines.count, by: 2).map { String(lines[$0]) })
    }

    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64])
    func scanReturnsEveryKeyThatStaysWhileTheTableResizes(seed: UInt64) {
        let session = TestSession(seed: seed)
        var random = TestRandom(state: seed)
        for index in 0..<300 { _ = session.reply("set stays\(index) v") }
        for index in 0..<3000 where seed % 2 == 0 { _ = session.reply("set goes\(index) v") }
        var seen: Set<String> = []
        var cursor = "0"
        var added = 0
        repeat {
            let step = scan(session, cursor)
            cursor = step.cursor
            seen.formUnion(step.keys)
            // Up to fifty changes for about seven keys scanned: the table is resized several times meanwhile.
            for _ in 0..<(added < 10_000 ? Int.random(in: 0...50, using: &random) : 0) {
                if seed % 2 == 0 {
                    _ = session.reply("del goes\(added)")
                } else {
                    _ = session.reply("set comes\(added) v")
                }
                added += 1
            }
        } while cursor != "0"
        let missed = (0..<300).filter { !seen.contains("stays\($0)") }
        #expect(missed == [])
    }

    // MARK: Hash table

    @Test func resizingIsDoneInSmallSteps() {
        var heap = Heap()
        var random = RandomSource(seed: 3)
        let hash = KeyedHash(random: &random)
        var table = HashTable(heap: &heap)
        var resizing = 0
        func withKey<Result>(_ index: Int, _ body: (ByteSlice) -> Result) -> Result {
            withUnsafeBytes(of: index) { body(ByteSlice(start: $0.baseAddress!, count: 8)) }
        }
        for index in 0..<10_000 {
            withKey(index) { key in
                #expect(table.find(key, hash: hash(key), heap: &heap) == nil)
                _ = table.insert(key, hash: hash(key), heap: &heap)
            }
            if table.isResizing { resizing += 1 }
        }
        #expect(resizing > 1000)
        #expect(table.count == 10_000)
        for index in stride(from: 0, to: 10_000, by: 2) {
            withKey(index) { key in
                guard let entry = table.find(key, hash: hash(key), heap: &heap) else {
                    Issue.record("key \(index) is missing")
                    return
                }
                table.remove(entry, heap: &heap)
            }
        }
        for index in 0..<10_000 {
            withKey(index) { key in
                #expect((table.find(key, hash: hash(key), heap: &heap) != nil) == (index % 2 == 1))
            }
        }
        var walk = HashTable.Walk()
        var walked = 0
        while table.next(&walk) != nil { walked += 1 }
        #expect(walked == 5000)
        while table.count > 0 { table.remove(table.randomEntry(&random), heap: &heap) }
        table.destroy(heap: &heap) { _, _ in }
        #expect(heap.usedBytes == 0)
    }

    @Test func theHashDependsOnItsKeyAndOnEveryByte() {
        var random = RandomSource(seed: 1)
        let first = KeyedHash(random: &random)
        let second = KeyedHash(random: &random)
        for count in 0...40 {
            var bytes = [UInt8](repeating: 0, count: count)
            func hashes(_ hash: KeyedHash) -> UInt32 {
                bytes.withUnsafeBytes { hash(ByteSlice(start: $0.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!, count: count)) }
            }
            let original = hashes(first)
            #expect(original != hashes(second))
            for index in 0..<count {
                bytes[index] = 1
                #expect(hashes(first) != original)
                bytes[index] = 0
            }
        }
    }

    // MARK: Databases

    @Test func databasesAreSeparate() {
        let session = TestSession()
        for index in 0..<16 {
            _ = session.reply("select \(index)")
            _ = session.reply("set k \(index)")
        }
        #expect(session.store.keyCount == 16)
        _ = session.reply("select 5")
        #expect(session.reply("get k") == "$1\r\n5\r\n")
        _ = session.reply("flushdb")
        #expect(session.store.keyCount == 15)
        _ = session.reply("flushall")
        #expect(session.store.keyCount == 0)
    }

    @Test func poppingFromASetIsRandomButReproducible() {
        func order(_ seed: UInt64) -> [String] {
            let session = TestSession(seed: seed)
            for index in 0..<20 { _ = session.reply("sadd s m\(index)") }
            return (0..<20).map { _ in session.reply("spop s") }
        }
        #expect(order(1) == order(1))
        #expect(order(1) != order(2))
        #expect(Set(order(1)).count == 20)
    }

    @Test(arguments: [
        ("*", "abc", true), ("a*c", "abc", true), ("a?c", "abc", true), ("a?c", "ac", false), ("[a-c]x", "bx", true),
        ("[c-a]x", "bx", true), ("[^a]x", "bx", true), ("[^a]x", "ax", false), ("\\*", "*", true), ("\\*", "a", false),
        ("[\\]]", "]", true), ("[abc", "b", true), ("", "", true), ("", "a", false), ("a*b*c", "a1b2b3c", true),
        ("a**", "a", true), ("ab", "abc", false), ("*\\", "a\\", true),
    ])
    func globPatterns(pattern: String, text: String, matches: Bool) {
        let (pattern, text) = (Array(pattern.utf8), Array(text.utf8))
        let isMatch = pattern.withUnsafeBytes { pattern in
            text.withUnsafeBytes { text in
                func slice(_ bytes: UnsafeRawBufferPointer) -> ByteSlice {
                    ByteSlice(start: bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 8)!, count: bytes.count)
                }
                return slice(pattern).isGlob(matching: slice(text))
            }
        }
        #expect(isMatch == matches)
    }
}
