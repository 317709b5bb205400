import Demikernel
import Echo
import Glibc
import KeyValue
import KeyValueStore
import Synchronization
import Testing

/// Servers of several runtimes that share one port, with rings between them.
@Suite("Shards of a server", .serialized) struct ShardTests {
    private func keyValue(_ shards: Int, _ body: (SocketAddress) throws -> Void) throws -> ServerReport {
        try withKeyValueServer({ $0.shards = shards }, body)
    }

    @Test("connections of an echo server are spread over its shards, and each gets its bytes")
    func echo() throws {
        let report = try withEchoServer(.tcp, { $0.shards = 2 }) { address in
            let clients = try (0..<64).map { _ in try Client(address) }
            for (index, client) in clients.enumerated() {
                #expect(try client.exchange(pattern(3_000, seed: UInt64(index)), receiving: 3_000) == pattern(3_000, seed: UInt64(index)))
            }
        }
        #expect(report.failureCount == 0)
        #expect(report.shards.count == 2)
        // The kernel hashes ports: that all of 64 meet one shard has a chance of 2^-63.
        #expect(report.shards.allSatisfy { $0.echoCount > 0 })
    }

    @Test("a datagram server answers from each shard")
    func datagrams() throws {
        let report = try withEchoServer(.udp, { $0.shards = 2 }) { address in
            for index in 0..<64 {
                let client = try Client(address, type: .datagram)
                try client.send([UInt8(index)])
                #expect(try client.receiveDatagram() == [UInt8(index)])
            }
        }
        #expect(report.shards.allSatisfy { $0.echoCount > 0 })
    }

    @Test("a pipeline over the keys of all shards is answered in its order, on every connection", arguments: [2, 3])
    func pipeline(_ shards: Int) throws {
        let report = try keyValue(shards) { address in
            let clients = try (0..<24).map { _ in try Client(address) }
            for (number, client) in clients.enumerated() {
                var input: [UInt8] = []
                for key in 0..<200 { input += request("SET", "key:\(number):\(key)", "value:\(key)") + request("INCR", "count:\(key)") }
                try client.send(input)
            }
            for (number, client) in clients.enumerated() {
                for _ in 0..<200 {
                    #expect(try client.receiveLine() == "+OK")
                    #expect(try client.receiveLine().hasPrefix(":"))
                }
                try client.send((0..<200).flatMap { request("GET", "key:\(number):\($0)") })
                for key in 0..<200 { #expect(try client.receiveBulk() == Array("value:\(key)".utf8)) }
            }
            // Each increment was counted once, whichever shard it came to.
            for key in 0..<200 { #expect(try clients[0].bulk("GET", "count:\(key)") == Array("\(clients.count)".utf8)) }
            #expect(try clients[0].line("DBSIZE") == ":\(24 * 200 + 200)")
        }
        #expect(report.shards.count == shards)
        for shard in report.shards {
            #expect((shard.keyValue?.batchesHandedOver ?? 0) > 0)
            #expect((shard.keyValue?.batchesAnswered ?? 0) > 0)
        }
        let total = report.keyValue ?? .init()
        #expect(total.batchesHandedOver == total.batchesAnswered, "nothing was lost on the way")
        #expect(total.batchesHandedOver < 24 * 600 / 10, "a pipeline goes over in batches")
    }

    @Test("requests that end the connection are answered behind those that wait for another shard")
    func lastWords() throws {
        _ = try keyValue(2) { address in
            let keys = (0..<20).flatMap { request("SET", "key:\($0)", "v") }
            let quitting = try Client(address)
            try quitting.send(keys + request("QUIT") + request("GET", "key:1"))
            #expect(try quitting.receiveAll().text == String(repeating: "+OK\r\n", count: 21))
            let violating = try Client(address)
            try violating.send(keys + Array("*1\r\n$-5\r\n".utf8))
            let rest = try violating.receiveAll()
            #expect(rest.text == String(repeating: "+OK\r\n", count: 20) + "-ERR Protocol error: invalid bulk length\r\n")
            #expect(rest.errno == 0)
        }
    }

    @Test("values of any size go from shard to shard", arguments: [0, 200, 65_500, 65_536, 300_000, 3 << 20])
    func sizes(_ size: Int) throws {
        _ = try withKeyValueServer({
            $0.shards = 2
            $0.arenaByteCount = 48 << 20
        }) { address in
            let client = try Client(address)
            for key in 0..<3 {
                let value = pattern(size, seed: UInt64(key + 1))
                try client.send(request([Array("SET".utf8), Array("key:\(key)".utf8), value]))
                #expect(try client.receiveLine() == "+OK")
                #expect(try client.bulk("GET", "key:\(key)") == value)
            }
        }
    }

    @Test("clients that go while their requests are with another shard leave nothing behind")
    func clientsThatGo() throws {
        _ = try keyValue(2) { address in
            for _ in 0..<100 {
                let client = try Client(address)
                try client.send((0..<100).flatMap { request("SET", "key:\($0)", "value") })
                client.resetAtEnd()
            }
            let client = try Client(address)
            try client.send(request("MGET", "key:1", "key:2", "key:3"))
            #expect(try client.receiveLine() == "*3")
            for _ in 0..<3 { #expect(try client.receiveBulk() == Array("value".utf8)) }
        }
    }

    @Test("shards that have nothing to do sleep: no turns but those of the sleeps themselves")
    func idle() throws {
        let report = try withKeyValueServer({
            $0.shards = 2
            $0.idle = .adaptive(spinNanoseconds: 0)
        }) { address in
            let client = try Client(address)
            for number in 0..<50 { #expect(try client.line("SET", "key:\(number)", "v") == "+OK") }
        }
        #expect(report.runtime.sleeps > 20)
        // The turn that finds nothing, the one behind the arming, and what an event takes.
        #expect(report.runtime.turns < 8 * report.runtime.sleeps, "\(report.runtime.turns) turns, \(report.runtime.sleeps) sleeps")
    }

    @Test("a group of which one shard cannot be made ends with that error, and one that is interrupted ends at once")
    func groupThatFails() throws {
        let group = try ShardGroup(count: 3)
        final class Notes: Sendable {
            let endings = Atomic(0)
            let readiness = Atomic(0)
        }
        let notes = Notes()
        do throws(DemikernelError) {
            try group.run(
                .loopback(port: 0),
                makeRuntime: { (place) throws(DemikernelError) in
                    if place.shard == 2 { throw DemikernelError(ENOMEM, .initialize, "no memory for this one") }
                    return try Runtime(ServerSettings().runtimeConfiguration, libraryOSes: [.catnap])
                },
                whenReady: { _ in notes.readiness.add(1, ordering: .relaxed) },
                serve: { (runtime, shard, address, whenReady) throws(DemikernelError) in
                    let queue = try runtime.queue()
                    whenReady(address)
                    do throws(DemikernelError) { _ = try runtime.wait(runtime.pop(queue)) } catch {
                        #expect(error.errno == EINTR)
                    }
                    notes.endings.add(1, ordering: .relaxed)
                })
            Issue.record("the group has not failed")
        } catch {
            #expect(error.errno == ENOMEM)
        }
        let counts = (notes.readiness.load(ordering: .relaxed), notes.endings.load(ordering: .relaxed))
        #expect(counts == (0, 2))
    }
}
