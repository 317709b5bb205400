import Testing

@testable import KeyValueStore

@Suite struct RequestParserTests {
    /// What Redis answers, `+PONG` from a following request included where the connection stays open.
    static let requests: [(bytes: String, replies: String, closes: Bool)] = [
        ("*1\r\n$4\r\nPING\r\n", "+PONG\r\n", false),
        ("*0\r\n*-1\r\nPING\r\n", "+PONG\r\n", false),
        ("*1\rx$4\rxPINGxx", "+PONG\r\n", false),
        ("*\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true),
        ("*a\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true),
        ("*01\r\n$4\r\nPING\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true),
        ("*+1\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true),
        ("*1 \r\n", "-ERR Protocol error: invalid multibulk length\r\n", true),
        ("*1000000000\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true),
        ("*2147483648\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true),
        ("*99999999999999999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n", true),
        ("*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n", true),
        ("*1\r\n$\r\n", "-ERR Protocol error: invalid bulk length\r\n", true),
        ("*1\r\n$04\r\nPING\r\n", "-ERR Protocol error: invalid bulk length\r\n", true),
        ("*1\r\n$4x\r\nPING\r\n", "-ERR Protocol error: invalid bulk length\r\n", true),
        ("*1\r\n$536870912\r\n", "-ERR Protocol error: invalid bulk length\r\n", true),
        ("*1\r\n$99999999999999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n", true),
        ("*1\r\n:4\r\n", "-ERR Protocol error: expected '$', got ':'\r\n", true),
        ("*1\r\n\r\n", "-ERR Protocol error: expected '$', got ' '\r\n", true),
        ("PING\r\n", "+PONG\r\n", false),
        ("PING\n", "+PONG\r\n", false),
        ("\r\n\r\n  PING   \r\n", "+PONG\r\n", false),
        ("PING \"a b\"\r\n", "$3\r\na b\r\n", false),
        ("PING 'a b'\r\n", "$3\r\na b\r\n", false),
        ("PING \"a\\x41\\n\\t\\\"b\"\r\n", "$6\r\naA\n\t\"b\r\n", false),
        ("PING 'a\\'b'\r\n", "$3\r\na'b\r\n", false),
        ("PING 'a\\nb'\r\n", "$4\r\na\\nb\r\n", false),
        ("PING \"\"\r\n", "$0\r\n\r\n", false),
        ("PING \\x41\r\n", "$4\r\n\\x41\r\n", false),
        ("PING \"\\q\\xzz\"\r\n", "$4\r\nqxzz\r\n", false),
        ("\"PING\"\r\n", "+PONG\r\n", false),
        ("PING a\"b\"\r\n", "$2\r\nab\r\n", false),
        ("PING \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n", true),
        ("PING \"a\"b\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n", true),
        ("PING 'a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n", true),
        ("PING \"a\\\"\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n", true),
    ]

    @Test(arguments: requests)
    func requestsInEverySplit(bytes: String, replies: String, closes: Bool) {
        let bytes = Array(bytes.utf8)
        for split in 0...bytes.count {
            let session = TestSession()
            let answer = session.send(Array(bytes[..<split])) + session.send(Array(bytes[split...]))
            #expect(String(decoding: answer, as: UTF8.self) == replies, "split at \(split)")
            #expect(session.isClosed == closes)
        }
    }

    @Test(arguments: [
        (String(repeating: "A", count: 70_000), "too big inline request"),
        ("*" + String(repeating: "1", count: 70_000), "too big mbulk count string"),
        ("*1\r\n$" + String(repeating: "1", count: 70_000), "too big bulk count string"),
    ])
    func longLinesAreRefused(line: String, reason: String) {
        for step in [1000, 70_000] {
            let session = TestSession()
            let bytes = Array(line.utf8)
            var answer: [UInt8] = []
            for start in stride(from: 0, to: bytes.count, by: step) where !session.isClosed {
                answer += session.send(Array(bytes[start..<min(start + step, bytes.count)]))
            }
            #expect(String(decoding: answer, as: UTF8.self) == "-ERR Protocol error: \(reason)\r\n")
            #expect(session.isClosed)
        }
    }

    @Test func theLongestInlineRequestIsTaken() {
        let session = TestSession()
        let word = String(repeating: "a", count: 65_536 - 5)
        #expect(session.text(Array("PING \(word)\n".utf8)) == "$\(word.utf8.count)\r\n\(word)\r\n")
    }

    @Test func aLargeValueInPiecesIsReadOnceAndItsSizeForetold() {
        let session = TestSession()
        let value = [UInt8](repeating: UInt8(ascii: "v"), count: 5 << 20)
        let request = encode([Array("SET".utf8), Array("k".utf8), value])
        var input: [UInt8] = []
        input.reserveCapacity(request.count)
        let room = ReplyRoom(size: 256)
        var output = room.makeOutput()
        var calls = 0
        for start in stride(from: 0, to: request.count, by: 1024) {
            input += request[start..<min(start + 1024, request.count)]
            let outcome = input.withUnsafeBytes {
                session.store.process(input: $0, client: &session.client, replies: &output, now: 0)
            }
            calls += 1
            if input.count < request.count {
                #expect(outcome == ProcessOutcome(consumed: 0, next: .needMore(minimumTotal: request.count)))
            } else {
                #expect(outcome == ProcessOutcome(consumed: request.count, next: .needMore(minimumTotal: 1)))
            }
        }
        #expect(calls == 5121)
        #expect(session.reply("strlen k") == ":\(value.count)\r\n")
        #expect(session.send(encode("GET", "k")) == Array("$\(value.count)\r\n".utf8) + value + Array("\r\n".utf8))
    }

    @Test func manyArgumentsInPieces() {
        let session = TestSession()
        let count = 100_001
        let request = encode((0..<count).map { Array(($0 == 0 ? "DEL" : "key\($0)").utf8) })
        var answer: [UInt8] = []
        for start in stride(from: 0, to: request.count, by: 4096) {
            answer += session.send(Array(request[start..<min(start + 4096, request.count)]))
        }
        #expect(answer == Array(":0\r\n".utf8))
        #expect(session.reply("ping") == "+PONG\r\n")
    }

    @Test func limitsAreKept() {
        var limits = KeyValueStore.Limits()
        limits.maximumBulkLength = 10
        limits.maximumArguments = 3
        limits.maximumRequestLength = 40
        limits.maximumClientNameLength = 4
        let session = { TestSession(limits: limits) }
        #expect(session().reply("echo 0123456789") == "$10\r\n0123456789\r\n")
        #expect(session().reply("echo 01234567890") == "-ERR Protocol error: invalid bulk length\r\n")
        #expect(session().reply("del a b c") == "-ERR Protocol error: invalid multibulk length\r\n")
        #expect(session().reply("mget 0123456789 0123456789") == "-ERR Protocol error: too big request\r\n")
        #expect(session().reply("client setname jimmy") == "-ERR Client name is too long\r\n")
        let appending = session()
        #expect(appending.reply("append k 012345") == ":6\r\n")
        #expect(appending.reply("append k 0123") == ":10\r\n")
        #expect(appending.reply("append k 0").hasPrefix("-ERR string exceeds maximum allowed size"))
    }

    @Test func processingStopsAtTheHighWaterMark() {
        let session = TestSession()
        let pings = [[UInt8]](repeating: encode("PING"), count: 100).flatMap { $0 }
        let room = ReplyRoom(size: 256)
        var output = room.makeOutput(highWaterMark: 20)
        let outcome = pings.withUnsafeBytes {
            session.store.process(input: $0, client: &session.client, replies: &output, now: 0)
        }
        #expect(outcome == ProcessOutcome(consumed: 3 * 14, next: .outputFull))
        let written = output.totalWritten
        #expect(written == 21)
        #expect(session.send(pings, highWaterMark: 50).count == 700)
    }

    @Test func aRefusalOfRoomClosesTheConnection() {
        let session = TestSession()
        _ = session.send(encode([Array("SET".utf8), Array("k".utf8), [UInt8](repeating: 0, count: 10_000)]))
        let room = ReplyRoom(size: 300)
        room.grants = 2
        var output = room.makeOutput()
        let requests = encode("GET", "k") + encode("PING")
        let outcome = requests.withUnsafeBytes {
            session.store.process(input: $0, client: &session.client, replies: &output, now: 0)
        }
        #expect(outcome.next == .close)
        let isRefused = output.isRefused
        #expect(isRefused)
        #expect(room.collected.count == 900)
        #expect(session.reply("ping") == "+PONG\r\n")
    }

    @Test func repliesCrossRooms() {
        let small = TestSession(roomSize: 256)
        let large = TestSession(roomSize: 1 << 20)
        for session in [small, large] {
            for index in 0..<1000 { _ = session.reply("rpush l value\(index)") }
        }
        #expect(small.reply("lrange l 0 -1") == large.reply("lrange l 0 -1"))
    }
}
