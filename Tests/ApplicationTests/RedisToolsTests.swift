import Demikernel
import Glibc
import Testing

/// Redis's own clients against the key-value server: what they check, and what they print.
///
/// Needs redis-benchmark and redis-cli: apt-get install redis-tools.
@Suite(
    "Redis tools", .serialized,
    .enabled(if: Program("redis-benchmark") != nil && Program("redis-cli") != nil, "needs redis-tools: apt-get install redis-tools"))
struct RedisToolsTests {
    private func benchmark(_ address: SocketAddress, _ arguments: String...) throws -> Program.Result {
        try #require(Program("redis-benchmark")).run(["-p", "\(address.port)"] + arguments)
    }

    private func commandLine(_ address: SocketAddress, _ arguments: [String], input: [UInt8] = []) throws -> Program.Result {
        try #require(Program("redis-cli")).run(["-p", "\(address.port)"] + arguments, input: input)
    }

    /// The tests of redis-benchmark 7's default suite, as it prints them.
    private static let suite = [
        "PING_INLINE", "PING_MBULK", "SET", "GET", "INCR", "LPUSH", "RPUSH", "LPOP", "RPOP", "SADD", "HSET", "SPOP", "ZADD", "ZPOPMIN",
        "LPUSH (needed to benchmark LRANGE)", "LRANGE_100 (first 100 elements)", "LRANGE_300 (first 300 elements)",
        "LRANGE_500 (first 500 elements)", "LRANGE_600 (first 600 elements)", "MSET (10 keys)",
    ]

    @Test("redis-benchmark's default suite, on one shard and on two", arguments: [1, 16], [1, 2])
    func defaultSuite(_ pipeline: Int, shards: Int) throws {
        let report = try withKeyValueServer({ $0.shards = shards }) { address in
            let result = try benchmark(address, "-n", "2000", "-q", "-P", "\(pipeline)")
            #expect(result.status == 0)
            for name in Self.suite {
                #expect(result.lines.contains { $0.hasPrefix("\(name): ") && $0.contains(" requests per second") }, "\(name)")
            }
            #expect(!result.output.contains("WARNING") && !result.output.contains("rror"), "\(result.output)")
        }
        #expect(report.keyValue?.connectionsFailed == 0)
        #expect(report.keyValue?.droppedOutOfMemory == 0)
    }

    @Test("redis-benchmark with random keys, large values and many clients", arguments: [1, 2])
    func variations(shards: Int) throws {
        try withKeyValueServer({ $0.shards = shards }) { address in
            let result = try benchmark(address, "-n", "5000", "-q", "-c", "200", "-r", "1000", "-d", "10000", "-t", "set,get", "-P", "4")
            #expect(result.status == 0)
            #expect(result.lines.contains { $0.hasPrefix("GET: ") && $0.contains(" requests per second") })
            #expect(!result.output.contains("rror"), "\(result.output)")
        }
    }

    /// A session: commands as typed, and what redis-cli prints for each when its output is no terminal.
    private static let session: [(command: String, output: String)] = [
        ("PING", "PONG"), ("SET key value", "OK"), ("GET key", "value"), ("GET missing", ""), ("SET key other NX", ""),
        ("SET key second XX GET", "value"), ("APPEND key ary", "9"), ("STRLEN key", "9"), ("INCR n", "1"), ("INCRBY n 41", "42"), ("DECR n", "41"),
        ("INCR key", "ERR value is not an integer or out of range"), ("MSET a 1 b 2", "OK"), ("MGET a b missing", "1\n2\n"),
        ("LPUSH list x", "1"), ("RPUSH list y z", "3"), ("LRANGE list 0 -1", "x\ny\nz"), ("LPOP list", "x"), ("RPOP list", "z"),
        ("SADD set m", "1"), ("SADD set m", "0"), ("SPOP set", "m"), ("HSET hash f 1 g 2", "2"), ("HGET hash g", "2"),
        ("ZADD zset 1 one 2 two 3 three", "3"), ("ZADD zset XX CH 5 one", "1"), ("ZRANGE zset 0 -1 WITHSCORES", "two\n2\nthree\n3\none\n5"),
        ("ZPOPMIN zset", "two\n2"), ("TYPE zset", "zset"), ("TYPE missing", "none"),
        ("GET list", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("EXPIRE key 100", "1"), ("TTL key", "100"), ("PERSIST key", "1"), ("TTL key", "-1"), ("TTL missing", "-2"), ("PEXPIRE key 0", "1"),
        ("EXISTS key", "0"), ("ECHO \"a b\"", "a b"), ("GETDEL n", "41"), ("SELECT 1", "OK"), ("DBSIZE", "0"), ("SELECT 0", "OK"),
        ("DEL a b", "2"), ("NOSUCH x", "ERR unknown command 'NOSUCH', with args beginning with: 'x' "),
        ("GET", "ERR wrong number of arguments for 'get' command"), ("FLUSHALL", "OK"), ("DBSIZE", "0"),
    ]

    @Test("a redis-cli session over every type", arguments: [1, 2])
    func commandLineSession(shards: Int) throws {
        try withKeyValueServer({ $0.shards = shards }) { address in
            let input = Self.session.map { $0.command + "\n" }.joined()
            let result = try commandLine(address, [], input: Array(input.utf8))
            #expect(result.status == 0)
            // redis-cli ends an error's text with an empty line more than a value's.
            let printed = result.output.split(separator: "\n", omittingEmptySubsequences: true)
            let expected = Self.session.map(\.output).joined(separator: "\n").split(separator: "\n", omittingEmptySubsequences: true)
            #expect(printed == expected)
        }
    }

    @Test("redis-cli's exit code tells an error with -e", arguments: [1, 2])
    func exitCode(shards: Int) throws {
        try withKeyValueServer({ $0.shards = shards }) { address in
            #expect(try commandLine(address, ["-e", "SET", "key", "value"]).status == 0)
            let wrong = try commandLine(address, ["-e", "INCR", "key"])
            #expect(wrong.status == 1)
            #expect(wrong.output.contains("ERR value is not an integer"))
        }
    }

    @Test("redis-cli with RESP3", arguments: [1, 2])
    func thirdProtocol(shards: Int) throws {
        try withKeyValueServer({ $0.shards = shards }) { address in
            let commands = [
                "HSET hash f 1", "HGETALL hash", "GET missing", "ZADD zset 1.5 m", "ZRANGE zset 0 -1 WITHSCORES", "SADD set a", "SMEMBERS set",
                "HELLO",
            ]
            let result = try commandLine(address, ["-3", "--no-raw"], input: Array(commands.map { $0 + "\n" }.joined().utf8))
            #expect(result.status == 0)
            #expect(result.output.contains("1# \"f\" => \"1\""), "a map: \(result.output)")
            #expect(result.output.contains("(nil)"))
            #expect(result.output.contains("(double) 1.5"), "a number: \(result.output)")
            #expect(result.output.contains("1~ \"a\""), "a set: \(result.output)")
            #expect(result.output.contains("\"proto\" => (integer) 3"))
            #expect(!result.output.contains("rror"))
        }
    }

    @Test("redis-cli --pipe loads ten thousand commands, and --scan finds them all", arguments: [1, 2])
    func massInsertion(shards: Int) throws {
        try withKeyValueServer({ $0.shards = shards }) { address in
            let commands = (0..<10_000).flatMap { request("SET", "key:\($0)", "value:\($0)") }
            let result = try commandLine(address, ["--pipe"], input: commands)
            #expect(result.status == 0)
            #expect(result.output.contains("errors: 0, replies: 10000"), "\(result.output)")
            let scan = try commandLine(address, ["--scan", "--pattern", "key:*"])
            #expect(scan.status == 0)
            #expect(Set(scan.lines) == Set((0..<10_000).map { Substring("key:\($0)") }))
            #expect(scan.lines.count == 10_000, "a table that does not change gives each key once")
            #expect(try commandLine(address, ["GET", "key:9999"]).output == "value:9999\n")
        }
    }

    @Test("redis-cli --pipe tells the errors of the commands that failed", arguments: [1, 2])
    func massInsertionWithErrors(shards: Int) throws {
        try withKeyValueServer({ $0.shards = shards }) { address in
            let commands = (0..<1_000).flatMap { $0 % 10 == 0 ? request("INCR", "text") : request("SET", "text", "a") }
            let result = try commandLine(address, ["--pipe"], input: commands)
            #expect(result.status == 1)
            // The first INCR finds no key yet.
            #expect(result.output.contains("errors: 99, replies: 1000"), "\(result.output)")
        }
    }
}
