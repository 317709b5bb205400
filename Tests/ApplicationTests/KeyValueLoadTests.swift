import Demikernel
import Glibc
import Testing

/// Clients that ask for much, read little, or leave in the middle: bounded memory, and the others unharmed.
@Suite("Key-value server: load and slow clients", .serialized) struct KeyValueLoadTests {
    /// Small kernel buffers at the server, so that a client that does not read is felt soon.
    private static let smallBuffers: [SocketOption] = [.sendBuffer(byteCount: 65_536), .receiveBuffer(byteCount: 65_536)]

    /// `number` in decimal with leading zeros at the end of `bytes`.
    private static func append(_ number: Int, digits: Int, to bytes: inout [UInt8]) {
        var divisor = 1
        for _ in 1..<digits { divisor *= 10 }
        while divisor > 0 {
            bytes.append(UInt8(ascii: "0") + UInt8(number / divisor % 10))
            divisor /= 10
        }
    }

    @Test("a million pipelined commands of one client are all answered, in order", .timeLimit(.minutes(5)))
    func million() throws {
        let ping = Array("*2\r\n$4\r\nPING\r\n$7\r\n".utf8)
        let set = Array("*3\r\n$3\r\nSET\r\n$4\r\n".utf8)
        let value = Array("\r\n$7\r\n".utf8)
        let end = Array("\r\n".utf8)
        let pong = Array("$7\r\n".utf8)
        let okay = Array("+OK\r\n".utf8)
        var input: [UInt8] = []
        var expected: [UInt8] = []
        input.reserveCapacity(40_000_000)
        expected.reserveCapacity(12_000_000)
        for number in 0..<1_000_000 {
            if number % 2 == 0 {
                input += ping
                Self.append(number, digits: 7, to: &input)
                expected += pong
                Self.append(number, digits: 7, to: &expected)
                expected += end
            } else {
                input += set
                Self.append(number % 1_000, digits: 4, to: &input)
                input += value
                Self.append(number, digits: 7, to: &input)
                expected += okay
            }
            input += end
        }
        let report = try withKeyValueServer { address in
            let client = try Client(address)
            let replies = try client.exchange(input, receiving: expected.count)
            #expect(replies.count == expected.count)
            #expect(memcmp(replies, expected, min(replies.count, expected.count)) == 0)
            #expect(try client.bulk("GET", "0999") == Array("0999999".utf8))
            #expect(try client.line("DBSIZE") == ":500")
        }
        #expect(report.keyValue?.droppedOutOfMemory == 0)
    }

    @Test("a client that asks for much and reads nothing is not read from any more; others are served; it gets every byte in the end")
    func slowReader() async {
        // A process of its own, whose memory can be measured.
        await #expect(processExitsWith: .success) { try Self.slowReaderBody() }
    }

    private static func slowReaderBody() throws {
        let report = try withKeyValueServer({
            $0.arenaByteCount = 4 << 20
            $0.socketOptions = Self.smallBuffers
        }) { address in
            let value = pattern(65_536)
            let other = try Client(address)
            try other.send(request([Array("SET".utf8), Array("key".utf8), value]))
            #expect(try other.receiveLine() == "+OK")
            let residentBefore = residentByteCount()
            let client = try Client(address, bufferByteCount: 16_384)
            let one = request("GET", "key")
            let bytes = repeated(one, 50_000)
            // Until the kernel takes nothing more, though the server has had its turns meanwhile.
            var sent = 0
            while true {
                let before = sent
                while sent < bytes.count, case let count = try client.sendWithoutBlocking(bytes[sent...]), count > 0 { sent += count }
                for _ in 0..<50 { #expect(try other.line("PING") == "+PONG") }
                if sent == before { break }
            }
            #expect(sent < bytes.count, "the server goes on reading")
            #expect(try other.bulk("GET", "key") == value)
            // The store's memory, and the runtime's arena, which is 4 MiB.
            #expect(try #require(try other.information("used_memory")) < 1 << 20)
            #expect(residentByteCount() - residentBefore < 32 << 20)
            // What was cut off is completed, so that the replies can be counted.
            let requests = (sent + one.count - 1) / one.count
            #expect(requests >= 1_000, "the test asks for too little")
            let rest = Array(bytes[sent..<requests * one.count])
            let sender = OwnThread { try? client.send(rest) }
            defer { sender.join() }
            let reply = Array("$65536\r\n".utf8) + value + [13, 10]
            var wrong = 0
            for _ in 0..<requests where memcmp(try client.receive(reply.count), reply, reply.count) != 0 { wrong += 1 }
            #expect(wrong == 0)
            #expect(try other.line("PING") == "+PONG")
        }
        #expect(report.keyValue?.droppedOutOfMemory == 0)
        #expect(report.keyValue?.connectionsFailed == 0)
    }

    @Test("a value of six million bytes makes the round trip")
    func largeValue() throws {
        try withKeyValueServer { address in
            let value = pattern(6_000_000)
            let client = try Client(address)
            #expect(try client.exchange(request([Array("SET".utf8), Array("key".utf8), value]), receiving: 5) == Array("+OK\r\n".utf8))
            #expect(try client.bulk("GET", "key") == value)
            #expect(try client.line("STRLEN", "key") == ":6000000")
            #expect(try client.line("DEL", "key") == ":1")
            #expect(try #require(try client.information("used_memory")) < 65_536)
        }
    }

    @Test("a reset in the middle of a reply is counted once, and the others are unharmed")
    func resetInReply() throws {
        let report = try withKeyValueServer({ $0.socketOptions = Self.smallBuffers }) { address in
            let value = pattern(2_000_000)
            let other = try Client(address)
            #expect(try other.exchange(request([Array("SET".utf8), Array("key".utf8), value]), receiving: 5) == Array("+OK\r\n".utf8))
            for _ in 0..<20 {
                let client = try Client(address, bufferByteCount: 16_384)
                try client.send(request("GET", "key") + request("GET", "key"))
                #expect(try client.receive(10_000).count == 10_000)
                client.resetAtEnd()
            }
            #expect(try other.bulk("GET", "key") == value)
        }
        #expect(report.keyValue?.connectionsFailed == 20)
    }

    @Test("a client's end before it has read its replies: they are sent all the same")
    func endBeforeReading() throws {
        try withKeyValueServer { address in
            let value = pattern(500_000)
            let client = try Client(address, bufferByteCount: 262_144)
            #expect(try client.exchange(request([Array("SET".utf8), Array("key".utf8), value]), receiving: 5) == Array("+OK\r\n".utf8))
            try client.send(repeated(request("GET", "key"), 8))
            try client.shutdownSend()
            let rest = try client.receiveAll()
            #expect(rest.bytes == repeated(Array("$500000\r\n".utf8) + value + [13, 10], 8))
            #expect(rest.errno == 0)
        }
    }

    @Test("a reply that the heap cannot hold costs its client the connection, and nobody else; it is counted")
    func replyBeyondTheHeap() throws {
        let report = try withKeyValueServer({
            $0.arenaByteCount = 4 << 20
            $0.socketOptions = Self.smallBuffers
        }) { address in
            let value = pattern(500_000)
            let other = try Client(address)
            #expect(try other.exchange(request([Array("SET".utf8), Array("key".utf8), value]), receiving: 5) == Array("+OK\r\n".utf8))
            // 10 MB in one reply, from an arena of 4 MiB, for clients that do not read.
            let mget = request(["MGET"].map { Array($0.utf8) } + (0..<20).map { _ in Array("key".utf8) })
            let clients = try (0..<5).map { _ in try Client(address, bufferByteCount: 65_536) }
            for client in clients {
                try client.send(mget)
                #expect(try other.line("PING") == "+PONG")
                #expect(try other.bulk("GET", "key") == value)
            }
            for client in clients { #expect(try client.receiveAll().bytes.isEmpty, "no reply rather than a part of one") }
        }
        #expect(report.keyValue?.droppedOutOfMemory == 5)
    }

    @Test("many slow readers fill the heap: they are held or dropped, and all goes on when they leave")
    func heapFilledBySlowReaders() throws {
        let report = try withKeyValueServer({
            $0.arenaByteCount = 4 << 20
            $0.socketOptions = Self.smallBuffers
        }) { address in
            let value = pattern(200_000)
            let client = try Client(address)
            #expect(try client.exchange(request([Array("SET".utf8), Array("key".utf8), value]), receiving: 5) == Array("+OK\r\n".utf8))
            let gets = repeated(request("GET", "key"), 5)
            var readers: [Client] = []
            for _ in 0..<40 {
                let reader = try Client(address, bufferByteCount: 65_536)
                try reader.send(gets)
                readers.append(reader)
            }
            // Each gets a prefix of the replies: all of them, or what there was before it was dropped.
            let replies = repeated(Array("$200000\r\n".utf8) + value + [13, 10], 5)
            var complete = 0
            for reader in readers {
                try reader.shutdownSend()
                let rest = try reader.receiveAll()
                #expect(rest.bytes.count <= replies.count && memcmp(rest.bytes, replies, rest.bytes.count) == 0)
                if rest.bytes.count == replies.count { complete += 1 }
            }
            #expect(complete > 0)
            #expect(try client.bulk("GET", "key") == value)
        }
        #expect(report.runtime.memory.refusedApplication > 0, "the heap was not filled")
    }

    @Test("at the limit of queues further clients wait until another one leaves")
    func queueLimit() throws {
        let report = try withKeyValueServer({ $0.maximumQueues = 9 }) { address in
            var clients = try (0..<8).map { _ in try Client(address) }
            for client in clients { #expect(try client.line("PING") == "+PONG") }
            let late = try Client(address)
            clients.removeLast()
            for client in clients { #expect(try client.line("PING") == "+PONG") }
            // The kernel may take more than the server does; the next one is served after another one has left.
            _ = late
            clients.removeAll()
            let next = try Client(address)
            #expect(try next.line("PING") == "+PONG")
        }
        #expect(report.keyValue?.connectionsFailed == 0)
    }
}
