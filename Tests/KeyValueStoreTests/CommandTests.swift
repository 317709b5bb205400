import Testing

@testable import KeyValueStore

@Suite struct CommandTests {
    static let scripts: [[Exchange]] = [
        Exchange.strings, Exchange.counters, Exchange.lists, Exchange.sets, Exchange.hashes, Exchange.sortedSets,
        Exchange.keys, Exchange.connections, Exchange.server,
    ]

    @Test(arguments: scripts)
    func repliesAreThoseOfRedis(script: [Exchange]) {
        for version in [2, 3] {
            let session = TestSession()
            _ = session.reply("hello \(version)")
            for exchange in script {
                let expected = version == 2 ? exchange.resp2 : exchange.resp3
                #expect(session.reply(exchange.request) == expected, "\(exchange.request) in RESP\(version)")
                if exchange.request == "reset" { _ = session.reply("hello \(version)") }
            }
        }
    }

    @Test(arguments: scripts)
    func pipelinedRequestsGiveTheSameReplies(script: [Exchange]) {
        let session = TestSession()
        #expect(session.text(script.flatMap(\.encoded)) == script.map(\.resp2).joined())
    }

    /// Run by run, every request is cut one byte later, so that each piece ends one request and begins the next.
    @Test(arguments: scripts)
    func everySplitGivesTheSameReplies(script: [Exchange]) {
        let requests = script.map(\.encoded)
        let expected = script.map(\.resp2).joined()
        for cut in 1..<(requests.map(\.count).max() ?? 1) {
            let session = TestSession()
            var replies: [UInt8] = []
            var piece: [UInt8] = []
            for request in requests {
                replies += session.send(piece + request.prefix(cut))
                piece = Array(request.dropFirst(cut))
            }
            replies += session.send(piece)
            let isSame = String(decoding: replies, as: UTF8.self) == expected
            #expect(isSame, "cut after \(cut) bytes")
        }
    }

    @Test(arguments: scripts)
    func byteByByteGivesTheSameReplies(script: [Exchange]) {
        let session = TestSession()
        let replies = script.flatMap(\.encoded).flatMap { session.send([$0]) }
        #expect(replies == Array(script.map(\.resp2).joined().utf8))
    }

    @Test func helloTellsTheServer() {
        let session = TestSession()
        let expected =
            "$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$6\r\n7.0.15\r\n$5\r\nproto\r\n:%\r\n$2\r\nid\r\n:1\r\n"
            + "$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
        func body(_ version: String) -> String {
            expected.split(separator: "%", omittingEmptySubsequences: false).joined(separator: version)
        }
        #expect(session.reply("hello") == "*14\r\n" + body("2"))
        #expect(session.reply("hello 3 auth default x setname jim") == "%7\r\n" + body("3"))
        #expect(session.reply("client getname") == "$3\r\njim\r\n")
        #expect(session.reply("hello") == "%7\r\n" + body("3"))
        #expect(session.reply("hello 2") == "*14\r\n" + body("2"))
    }

    @Test func quitClosesAfterItsReply() {
        let session = TestSession()
        #expect(session.text(encode("quit") + encode("ping")) == "+OK\r\n")
        #expect(session.isClosed)
    }

    @Test(arguments: ["POST", "Host:"])
    func requestsOfWebPagesAreDropped(name: String) {
        let session = TestSession()
        #expect(session.text(Array("\(name) / HTTP/1.1\r\n".utf8)) == "")
        #expect(session.isClosed)
    }

    @Test func errorsQuoteWhatWasSentOnOneLine() {
        let session = TestSession()
        #expect(
            session.text(encode("a\r\nb", "c\nd", "e\0f"))
                == "-ERR unknown command 'a  b', with args beginning with: 'c d' 'e' \r\n")
    }

    @Test func commandIsAnsweredFromTheTable() {
        let session = TestSession()
        #expect(session.reply("command count") == ":\(commandTable.count)\r\n")
        #expect(session.reply("command").hasPrefix("*\(commandTable.count)\r\n"))
        #expect(
            session.reply("command info get mset what")
                == "*3\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n"
                + "*3\r\n+@read\r\n+@string\r\n+@fast\r\n*0\r\n*0\r\n*0\r\n"
                + "*10\r\n$4\r\nmset\r\n:-3\r\n*2\r\n+write\r\n+denyoom\r\n:1\r\n:-1\r\n:2\r\n"
                + "*3\r\n+@write\r\n+@string\r\n+@slow\r\n*0\r\n*0\r\n*0\r\n$-1\r\n")
        #expect(
            session.reply("command docs get")
                == "*2\r\n$3\r\nget\r\n*4\r\n$7\r\nsummary\r\n$22\r\nGet the value of a key\r\n$5\r\ngroup\r\n$6\r\nstring\r\n")
        for row in commandTable { #expect(session.reply("\(row.name)").contains("unknown") == false) }
    }

    @Test func infoAndClientListTellTheState() {
        let session = TestSession()
        session.store.connectedClients = 3
        session.store.totalConnections = 7
        _ = session.reply("set a b ex 100")
        _ = session.reply("get a")
        _ = session.reply("get c")
        session.now += 5_000_000_000
        let text = session.reply("info")
        for line in [
            "# Server", "redis_version:7.0.15", "uptime_in_seconds:5", "# Clients", "connected_clients:3", "# Memory",
            "maxmemory:0", "# Stats", "total_connections_received:7", "total_commands_processed:4", "keyspace_hits:1",
            "keyspace_misses:1", "# Keyspace", "db0:keys=1,expires=1,avg_ttl=0",
        ] {
            #expect(text.contains(line + "\r\n"), "\(line)")
        }
        #expect(session.reply("info keyspace") == "$44\r\n# Keyspace\r\ndb0:keys=1,expires=1,avg_ttl=0\r\n\r\n")
        session.client.remoteIPv4Address = 0x7F00_0001
        session.client.remotePort = 5000
        _ = session.reply("client setname jim")
        #expect(session.reply("client list").contains("id=1 addr=127.0.0.1:5000 name=jim "))
        #expect(session.reply("client setinfo lib-name test") == "+OK\r\n")
    }
}
