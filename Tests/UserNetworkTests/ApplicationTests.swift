import Demikernel
import Echo
import Glibc
import KeyValue
import Testing
import UserNetwork

/// The servers that also run over kernel sockets, unchanged, with their clients in coroutines of the same thread.
@Suite("Applications") struct ApplicationTests {
    /// The servers listen on host `a`, whose library OS serves the sockets that name none.
    private static let address = Host.a(port: 7)

    /// Starts clients on host `b`; the last one that ends ends the server.
    private func spawn(
        _ count: Int, on pair: borrowing Pair, _ client: @escaping (borrowing Runtime, LibraryOSIdentifier, Int) throws -> Void
    ) throws {
        let b = pair.b
        let left = Counter(count)
        for number in 0..<count {
            try pair.runtime.spawn { runtime in
                do { try client(runtime, b, number) } catch { Issue.record(error, "client \(number)") }
                left.count -= 1
                if left.count == 0 { runtime.interrupter.interrupt() }
            }
        }
    }

    private final class Counter {
        var count: Int
        init(_ count: Int) { self.count = count }
    }

    /// Redeems the server's last accept or pop, which its close has cancelled.
    private func redeemRest(_ pair: borrowing Pair) throws {
        var batch = CompletionBatch(capacity: 8)
        try pair.runtime.waitNext(into: &batch, timeout: .zero)
        while let completion = batch.next() { #expect(outcome(consume completion.result) == .failed(ECANCELED, byteCount: 0)) }
    }

    @Test("the echo server over TCP gives twenty clients their own bytes back")
    func echoStream() throws {
        let pair = try Pair()
        try spawn(20, on: pair) { runtime, b, number in
            let client = try runtime.socket(.ipv4, .stream, on: b)
            try runtime.wait(runtime.connect(client, to: ApplicationTests.address)).succeeded()
            for byteCount in [1, 100, 1_448, 1_449, 30_000, 100_000] {
                let sent = pattern(number..<number + byteCount)
                try runtime.wait(runtime.push(client, bytes: sent)).succeeded()
                var received: [UInt8] = []
                while received.count < byteCount, let array = try runtime.wait(runtime.pop(client)).popped() { received += bytes(array) }
                #expect(received == sent)
            }
            try runtime.close(client)
        }
        var server = EchoServer(.tcp, listen: ApplicationTests.address)
        try server.run(on: pair.runtime) { #expect($0 == ApplicationTests.address) }
        #expect(server.failureCount == 0)
        #expect(server.echoCount >= 120)
        try redeemRest(pair)
        pair.expectNothingLeft()
    }

    @Test("the echo server over UDP answers each client")
    func echoDatagram() throws {
        let pair = try Pair()
        try spawn(5, on: pair) { runtime, b, number in
            let client = try runtime.socket(.ipv4, .datagram, on: b)
            for byteCount in [0, 1, 1_023, 1_024, 1_472] {
                let sent = pattern(number..<number + byteCount)
                try runtime.wait(runtime.pushTo(client, runtime.array(sent), ApplicationTests.address)).succeeded()
                guard let array = try runtime.wait(runtime.pop(client)).popped() else { throw DemikernelError(EPROTO, .pop) }
                #expect(bytes(array) == sent)
            }
            try runtime.close(client)
        }
        var server = EchoServer(.udp, listen: ApplicationTests.address)
        try server.run(on: pair.runtime) { #expect($0 == ApplicationTests.address) }
        #expect(server.failureCount == 0)
        #expect(server.echoCount == 25)
        try redeemRest(pair)
        pair.expectNothingLeft()
    }

    @Test("the key-value server keeps what it is given, large values and pipelines among it")
    func keyValue() throws {
        let pair = try Pair()
        try spawn(4, on: pair) { runtime, b, number in
            let client = try runtime.socket(.ipv4, .stream, on: b)
            try runtime.wait(runtime.connect(client, to: ApplicationTests.address)).succeeded()
            let value = pattern(number..<number + 50_000)
            let key = "key\(number)"
            let set = Array("*3\r\n$3\r\nSET\r\n$4\r\n\(key)\r\n$50000\r\n".utf8) + value + Array("\r\n".utf8)
            let get = Array("*2\r\n$3\r\nGET\r\n$4\r\n\(key)\r\n".utf8)
            let request = set + get + get + get
            let expected = Array("+OK\r\n".utf8) + (0..<3).flatMap { _ in Array("$50000\r\n".utf8) + value + Array("\r\n".utf8) }
            try runtime.wait(runtime.push(client, bytes: request)).succeeded()
            var received: [UInt8] = []
            while received.count < expected.count, let array = try runtime.wait(runtime.pop(client)).popped() { received += bytes(array) }
            #expect(received == expected)
            try runtime.close(client)
        }
        do {
            var server = KeyValueServer(listen: ApplicationTests.address, seed: 3)
            try server.run(on: pair.runtime) { #expect($0 == ApplicationTests.address) }
            #expect(server.statistics.connectionsAccepted == 4)
            #expect(server.statistics.connectionsFailed == 0)
        }
        try redeemRest(pair)
        pair.expectNothingLeft()
    }
}
