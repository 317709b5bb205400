import Demikernel
import Echo
import Glibc
import Testing

/// The echo server over real loopback sockets.
@Suite("Echo", .serialized) struct EchoTests {
    @Test("every byte comes back, from one to a million of them", arguments: [1, 2, 1_000, 2_048, 2_049, 65_536, 100_000, 1 << 20])
    func content(_ count: Int) throws {
        let report = try withEchoServer(.tcp) { address in
            let client = try Client(address)
            let bytes = pattern(count)
            #expect(try client.exchange(bytes, receiving: count) == bytes)
            #expect(try client.exchange(bytes, receiving: count) == bytes)
        }
        #expect(report.failureCount == 0)
        #expect(report.echoCount > 0)
    }

    @Test("a hundred connections at once each get their own bytes")
    func manyConnections() throws {
        let report = try withEchoServer(.tcp) { address in
            let clients = try (0..<100).map { _ in try Client(address) }
            for round in 0..<3 {
                for (index, client) in clients.enumerated() { try client.send(pattern(1_000 + index, seed: UInt64(round * 1_000 + index))) }
                for (index, client) in clients.enumerated().reversed() {
                    #expect(try client.receive(1_000 + index) == pattern(1_000 + index, seed: UInt64(round * 1_000 + index)))
                }
            }
        }
        #expect(report.failureCount == 0)
        #expect(report.runtime.queuesOpened >= 102)
    }

    @Test("after the client's end the rest still comes, then the server's end")
    func halfClose() throws {
        try withEchoServer(.tcp) { address in
            let client = try Client(address)
            let bytes = pattern(150_000)
            let sender = OwnThread {
                try? client.send(bytes)
                try? client.shutdownSend()
            }
            let rest = try client.receiveAll()
            sender.join()
            #expect(rest.bytes == bytes)
            #expect(rest.errno == 0)
        }
    }

    @Test("a connection without a byte ends without a trace")
    func emptyConnections() throws {
        let report = try withEchoServer(.tcp) { address in
            for _ in 0..<50 {
                let client = try Client(address)
                try client.shutdownSend()
                #expect(try client.receiveAll().bytes.isEmpty)
            }
        }
        #expect(report.echoCount == 1, "the harness's own")
    }

    @Test("a reset in the middle of an echo leaves the others unharmed")
    func resetByPeer() throws {
        let report = try withEchoServer(.tcp) { address in
            let other = try Client(address)
            for round in 0..<20 {
                // More than the buffers of both sides hold, so that a push is pending when the reset comes.
                let client = try Client(address, bufferByteCount: 65_536)
                let bytes = pattern(8_192)
                while try client.sendWithoutBlocking(bytes[...]) > 0 {}
                #expect(try other.exchange(pattern(3_000, seed: UInt64(round)), receiving: 3_000) == pattern(3_000, seed: UInt64(round)))
                client.resetAtEnd()
            }
        }
        #expect(report.failureCount >= 20)
    }

    @Test("a client that does not read is not read from, and gets all when it does")
    func slowReader() throws {
        try withEchoServer(.tcp, { $0.socketOptions = [.sendBuffer(byteCount: 65_536), .receiveBuffer(byteCount: 65_536)] }) { address in
            let client = try Client(address, bufferByteCount: 65_536)
            let other = try Client(address)
            let bytes = pattern(1 << 20)
            var sent = 0
            repeat {
                let before = sent
                while case let count = try client.sendWithoutBlocking(bytes[sent...]), count > 0 { sent += count }
                // The server has had its turns.
                for _ in 0..<20 { #expect(try other.exchange([1, 2, 3], receiving: 3) == [1, 2, 3]) }
                if sent == before { break }
            } while sent < bytes.count
            #expect(sent < bytes.count, "the server goes on reading")
            #expect(try client.receive(sent) == Array(bytes[..<sent]))
        }
    }

    @Test("a port in use is refused with its mend")
    func portInUse() throws {
        try withEchoServer(.tcp) { address in
            let second = try ServerThread.echo(.tcp, ServerSettings(address: address))
            let error = try #require(second.stop().error)
            #expect(error.errno == EADDRINUSE)
            #expect("\(error)".contains("choose another one"))
        }
    }

    @Test("datagrams keep their boundaries, empty ones too")
    func datagrams() throws {
        let sizes = [1, 0, 2, 100, 1_472, 1_473, 9_000, 0, 60_000, 65_507, 0]
        let report = try withEchoServer(.udp) { address in
            let clients = try (0..<3).map { _ in try Client(address, type: .datagram) }
            for (index, size) in sizes.enumerated() {
                for (number, client) in clients.enumerated() {
                    let bytes = pattern(size, seed: UInt64(index * 10 + number))
                    try client.send(bytes)
                    #expect(try client.receiveDatagram() == bytes)
                }
            }
            // Several in flight: each comes back whole, in order.
            for size in 0..<20 { try clients[0].send(pattern(size)) }
            for size in 0..<20 { #expect(try clients[0].receiveDatagram() == pattern(size)) }
        }
        #expect(report.echoCount == UInt64(3 * sizes.count + 20))
        #expect(report.failureCount == 0)
    }
}
