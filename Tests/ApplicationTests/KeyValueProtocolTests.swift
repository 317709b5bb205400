import Demikernel
import Glibc
import Testing

/// Requests as a peer may send them, whole and broken, to a server that serves others at the same time.
@Suite("Key-value server: requests", .serialized) struct KeyValueProtocolTests {
    @Test("a pipeline may be split anywhere between two writes")
    func everySplit() throws {
        let value = String(decoding: (0..<64).map { _ in UInt8(ascii: "v") }, as: UTF8.self)
        let input =
            request("SET", "key", value) + Array("PING\r\n".utf8) + request("GET", "key") + request("INCR", "n") + Array("GET  missing \r\n".utf8)
            + request("ECHO", "\r\n$3\r\n") + request("DEL", "key", "n")
        let expected = "+OK\r\n+PONG\r\n$64\r\n\(value)\r\n:1\r\n$-1\r\n$6\r\n\r\n$3\r\n\r\n:2\r\n"
        try withKeyValueServer { address in
            let client = try Client(address)
            let other = try Client(address)
            for split in 1..<input.count {
                try client.send(Array(input[..<split]))
                // The server has read the first part when it has served the other one after it.
                #expect(try other.line("PING") == "+PONG")
                try client.send(Array(input[split...]))
                #expect(try client.receiveText(expected.utf8.count) == expected, "split at \(split)")
            }
        }
    }

    @Test("byte by byte")
    func byteByByte() throws {
        try withKeyValueServer { address in
            let client = try Client(address)
            for byte in request("SET", "key", "value") + request("GET", "key") { try client.send([byte]) }
            #expect(try client.receiveText(16) == "+OK\r\n$5\r\nvalue\r\n")
        }
    }

    static let malformed: [(input: String, reply: String)] = [
        ("*1\r\n$536870912\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        ("*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        ("*1\r\n$4x\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        ("*1\r\n$99999999999999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        ("*2147483648\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        ("*x\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        ("*1\r\n:1\r\n", "-ERR Protocol error: expected '$', got ':'\r\n"),
        ("*1\r\nPING\r\n", "-ERR Protocol error: expected '$', got 'P'\r\n"),
        ("SET \"key\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        ("*" + String(repeating: "1", count: 70_000), "-ERR Protocol error: too big mbulk count string\r\n"),
        ("*1\r\n$" + String(repeating: "1", count: 70_000), "-ERR Protocol error: too big bulk count string\r\n"),
        (String(repeating: "a", count: 70_000), "-ERR Protocol error: too big inline request\r\n"),
    ]

    @Test("a malformed request closes its connection with Redis's error, and no other", arguments: malformed.indices)
    func malformedRequest(_ index: Int) throws {
        let (input, reply) = Self.malformed[index]
        let report = try withKeyValueServer { address in
            let other = try Client(address)
            #expect(try other.line("SET", "key", "value") == "+OK")
            // What was complete before the error is answered.
            let client = try Client(address)
            try client.send("PING\r\n" + input)
            let rest = try client.receiveAll()
            #expect(rest.text == "+PONG\r\n" + reply)
            #expect(rest.errno == 0)
            #expect(try other.bulk("GET", "key") == Array("value".utf8))
        }
        #expect(report.keyValue?.connectionsFailed == 0)
    }

    @Test("bytes behind an error do not cost the client its error reply")
    func bytesBehindAnError() throws {
        try withKeyValueServer { address in
            for _ in 0..<20 {
                let client = try Client(address)
                try client.send(Array("*1\r\n$-5\r\n".utf8) + pattern(200_000))
                let rest = try client.receiveAll()
                #expect(rest.text == "-ERR Protocol error: invalid bulk length\r\n")
            }
        }
    }

    @Test(
        "a request cut short by the client's end leaves nothing", arguments: ["*", "*2\r\n$3\r\nGET\r\n$", "*1\r\n$8000000\r\nabc", "GET ke", "\""])
    func truncated(_ input: String) throws {
        try withKeyValueServer { address in
            let other = try Client(address)
            for _ in 0..<10 {
                let client = try Client(address)
                try client.send("PING\r\n" + input)
                try client.shutdownSend()
                #expect(try client.receiveAll().text == "+PONG\r\n")
            }
            #expect(try other.line("PING") == "+PONG")
        }
    }

    @Test("what a client claims will come takes no memory")
    func claims() async {
        // A process of its own, whose memory can be measured.
        await #expect(processExitsWith: .success) { try Self.claimsBody() }
    }

    private static func claimsBody() throws {
        try withKeyValueServer { address in
            let other = try Client(address)
            let usedBefore = try #require(try other.information("used_memory"))
            let residentBefore = residentByteCount()
            // The largest that is allowed, from many clients; then the largest counts of arguments.
            let clients = try (0..<200).map { _ in try Client(address) }
            for (index, client) in clients.enumerated() {
                try client.send(index % 2 == 0 ? "*2\r\n$3\r\nGET\r\n$8388608\r\nx" : "*1048576\r\n$1\r\nx\r\n")
            }
            #expect(try other.line("PING") == "+PONG")
            #expect(try #require(try other.information("used_memory")) - usedBefore < 1 << 20)
            #expect(residentByteCount() - residentBefore < 64 << 20, "200 claims of 8 MiB are 1.6 GiB")
            // Beyond what is allowed, the claim ends the connection.
            for _ in 0..<20 {
                let client = try Client(address)
                try client.send("*1\r\n$536870912\r\n")
                #expect(try client.receiveAll().text == "-ERR Protocol error: invalid bulk length\r\n")
            }
            #expect(residentByteCount() - residentBefore < 64 << 20)
        }
    }

    @Test("QUIT answers, sends what was asked before, and closes")
    func quit() throws {
        let report = try withKeyValueServer { address in
            let client = try Client(address)
            #expect(try client.line("SET", "key", "value") == "+OK")
            try client.send(request("GET", "key") + request("QUIT") + request("PING"))
            let rest = try client.receiveAll()
            #expect(rest.text == "$5\r\nvalue\r\n+OK\r\n")
            #expect(rest.errno == 0)
        }
        #expect(report.keyValue?.connectionsFailed == 0)
    }

    @Test("clients that come and go, in every way")
    func comeAndGo() throws {
        let report = try withKeyValueServer { address in
            for round in 0..<500 {
                let client = try Client(address)
                switch round % 5 {
                case 0: break
                case 1: #expect(try client.line("INCR", "n") == ":\(round / 5 + 1)")
                case 2: try client.send("*3\r\n$3\r\nSET\r\n")
                case 3:
                    try client.send("PING\r\n")
                    client.resetAtEnd()
                default:
                    try client.send("QUIT\r\n")
                    #expect(try client.receiveAll().text == "+OK\r\n")
                }
            }
            let clients = try (0..<200).map { _ in try Client(address) }
            for client in clients { #expect(try client.line("PING") == "+PONG") }
            #expect(try clients[0].information("connected_clients") == 200)
        }
        #expect(report.keyValue?.connectionsAccepted == 701)
    }

    @Test("a port in use is refused with its mend")
    func portInUse() throws {
        try withKeyValueServer { address in
            let second = try ServerThread.keyValue(ServerSettings(address: address)).stop()
            let error = try #require(second.error)
            #expect(error == DemikernelError(EADDRINUSE, .bind))
            #expect("\(error)".contains("choose another one"))
            #expect(second.runtime.openQueues == 0)
            #expect(try Client(address).line("PING") == "+PONG")
        }
    }

    @Test("an address that is not local, and a port that needs a privilege, are refused with their mends")
    func refusedAddresses() throws {
        // TEST-NET-1 (RFC 5737) is nobody's.
        let elsewhere = try ServerThread.keyValue(ServerSettings(address: .ipv4(192, 0, 2, 1, port: 0))).stop()
        #expect(elsewhere.error == DemikernelError(EADDRNOTAVAIL, .bind))
        #expect(elsewhere.error?.message.utf8CodeUnitCount ?? 0 > 0)
    }
}
