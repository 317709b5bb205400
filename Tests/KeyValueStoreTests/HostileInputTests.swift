import KeyValueStore
import Testing

@Suite struct HostileInputTests {
    static let pieces = [
        "*", "$", "\r\n", "\n", "1", "2", "3", "4", "0", "-", "9", "\"", "'", "\\", " ", "\0", "\u{FF}", "PING", "GET", "a",
        "99999999999999999999", "*1\r\n$4\r\nPING\r\n", "*2\r\n$3\r\nGET\r\n$1\r\n", "*3\r\n$3\r\nSET\r\n$1\r\na\r\n$",
        "\\x4",
    ].map { Array($0.utf8) }

    @Test func randomBytesNeverTrap() {
        var random = TestRandom(state: 5)
        let session = TestSession()
        for round in 0..<100_000 {
            var input: [UInt8] = []
            for _ in 0..<Int.random(in: 1...8, using: &random) {
                if round % 4 == 0 {
                    input.append(UInt8.random(in: 0...255, using: &random))
                } else {
                    input += Self.pieces.randomElement(using: &random)!
                }
            }
            let split = Int.random(in: 0...input.count, using: &random)
            session.reopen()
            _ = session.send(encode("FLUSHALL"))
            let inParts = session.send(Array(input[..<split])) + session.send(Array(input[split...]))
            session.reopen()
            _ = session.send(encode("FLUSHALL"))
            let whole = session.send(input)
            #expect(inParts == whole, "\(input) split at \(split)")
        }
    }

    /// Commands with random arguments, most of them of the wrong number, type or range.
    @Test func randomCommandsNeverTrap() {
        var random = TestRandom(state: 6)
        var limits = KeyValueStore.Limits()
        limits.maximumMemory = 4 << 20
        let session = TestSession(limits: limits)
        let names = session.reply("command list").split(separator: "\r\n").filter { $0.first! >= "a" && $0 != "quit" }
            .map { Array($0.utf8) }
        let arguments = [
            "a", "b", "c", "d", "", "0", "1", "-1", "10", "-10", "9223372036854775807", "-9223372036854775808", "1e308",
            "-1e308", "inf", "-inf", "nan", "0.1", "NX", "XX", "GT", "LT", "CH", "INCR", "EX", "PX", "EXAT", "PXAT", "GET",
            "KEEPTTL", "WITHSCORES", "REV", "LIMIT", "MATCH", "COUNT", "TYPE", "*", "[", "[^a-", "\\", "?*?", "set", "list",
            "info", "docs", "get", "maxmemory", "4gb", "3", "id", "setname",
        ].map { Array($0.utf8) }
        for _ in 0..<50_000 {
            var request = [names.randomElement(using: &random)!]
            for _ in 0..<Int.random(in: 0...6, using: &random) {
                request.append(arguments.randomElement(using: &random)!)
            }
            session.now += UInt64.random(in: 0...1_000_000_000, using: &random)
            #expect(!session.send(encode(request)).isEmpty)
            #expect(!session.isClosed)
        }
        #expect(session.store.usedMemory < 8 << 20)
    }

    @Test func writesAreRefusedAtTheMemoryLimit() {
        var limits = KeyValueStore.Limits()
        limits.maximumMemory = 1 << 20
        let session = TestSession(limits: limits)
        let value = String(repeating: "v", count: 1000)
        var written = 0
        while session.reply("set key\(written) \(value)") == "+OK\r\n" { written += 1 }
        #expect((900...1100).contains(written))
        let refusal = "-OOM command not allowed when used memory > 'maxmemory'.\r\n"
        for request in ["set k v", "append k v", "incr k", "lpush l v", "sadd s v", "hset h f v", "zadd z 1 v", "mset k v"] {
            #expect(session.reply(request) == refusal, "\(request)")
        }
        #expect(session.reply("get key0") == "$1000\r\n\(value)\r\n")
        #expect(session.reply("del key0 key1") == ":2\r\n")
        #expect(session.reply("set k v") == "+OK\r\n")
        #expect(session.reply("config set maxmemory 1kb") == "+OK\r\n")
        #expect(session.reply("set k v") == refusal)
    }

    @Test func aPatternOfStarsIsMatchedInPolynomialTime() {
        let session = TestSession()
        _ = session.reply("set \(String(repeating: "a", count: 5000)) v")
        let pattern = String(repeating: "*a", count: 2000) + "b"
        #expect(session.reply("scan 0 match \(pattern)") == "*2\r\n$1\r\n0\r\n*0\r\n")
    }
}
