import Demikernel
import Echo
import Glibc
import KeyValue
import Synchronization
import Testing

/// Several stacks with the same addresses, each on a queue of one interface, with the Linux kernel at its other end.
@Suite("Shards on one interface", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip))
struct ShardTests {
    /// What each shard has left.
    private final class Endings: Sendable {
        let echoes = Mutex<[Int: UInt64]>([:])
        let statistics = Mutex<[RuntimeStatistics]>([])
        let failure = Mutex<DemikernelError?>(nil)
    }

    enum Kind: String, CaseIterable, CustomTestStringConvertible {
        case tap
        case xdp
        var testDescription: String { rawValue }
    }

    /// Runs `body` with an interface that has two queues, and a way to run something at its other end, which has 10.0.0.1 and 2001:db8::1.
    private func withLink(_ kind: Kind, _ body: @escaping (_ atTheOtherEnd: (@escaping () throws -> Void) throws -> Void) throws -> Void) throws {
        switch kind {
        case .tap:
            try inNetworkNamespace {
                // Without detection of duplicates: the kernel would begin with connections from another address.
                try Shell.check(
                    "ip tuntap add dev demi0 mode tap multi_queue", "ip link set demi0 up", "ip address add 10.0.0.1/24 dev demi0",
                    "ip -6 address add 2001:db8::1/64 dev demi0 nodad")
                try body { try $0() }
            }
        case .xdp:
            try withCable(options: "numrxqueues 2 numtxqueues 2") { peer in
                // A veth has no hash of its own, and else a SYN that is sent again, while its address is looked for, takes the other queue.
                try peer.run { try Shell.check("sysctl -q net.core.txrehash=0") }
                try body(peer.run)
            }
        }
    }

    /// Runs `body` against a group of two shards, and returns what they left.
    private func withGroup(
        _ kind: Kind, _ port: UInt16, laneCount: Int = 0, idle: IdlePolicy = .standard, _ endings: Endings, serve: @escaping ShardGroup.Server,
        _ body: @escaping () throws -> Void
    ) throws {
        try withLink(kind) { atTheOtherEnd in
            let interface = try InterfaceConfiguration(device: "\(kind):demi0", addresses: ["10.0.0.2/24", "2001:db8::2/64"])
            let group = try ShardGroup(count: 2, laneCount: laneCount)
            let ready = Signal()
            let thread = OwnThread {
                do throws(DemikernelError) {
                    try group.run(
                        .any(.ipv6, port: port),
                        makeRuntime: { (place) throws(DemikernelError) in
                            var configuration = RuntimeConfiguration()
                            configuration.memory.arenaByteCount = 32 << 20
                            configuration.idle = idle
                            return try Runtime(configuration, libraryOSes: [.catnip(interface, at: place)])
                        },
                        whenReady: { _ in ready.raise() },
                        serve: { (runtime, shard, address, whenReady) throws(DemikernelError) in
                            try serve(runtime, shard, address, whenReady)
                            endings.statistics.withLock { $0.append(runtime.statistics) }
                        })
                } catch {
                    endings.failure.withLock { $0 = error }
                }
                ready.raise()
            }
            ready.wait()
            defer {
                group.interrupt()
                thread.join()
            }
            if let failure = endings.failure.withLock({ $0 }) { throw failure }
            try atTheOtherEnd(body)
        }
        if let failure = endings.failure.withLock({ $0 }) { throw failure }
    }

    private func echo(_ transport: EchoServer.Transport, _ endings: Endings) -> ShardGroup.Server {
        { (runtime, shard, address, whenReady) throws(DemikernelError) in
            var server = EchoServer(transport, listen: address)
            try server.run(on: runtime, whenReady: whenReady)
            let count = server.echoCount
            endings.echoes.withLock { $0[shard.index] = count }
        }
    }

    @Test("connections of both families are spread over the shards, and each stays with its own", arguments: Kind.allCases)
    func streams(_ kind: Kind) throws {
        let endings = Endings()
        try withGroup(kind, 7, idle: .adaptive(spinNanoseconds: 0), endings, serve: echo(.tcp, endings)) {
            for peer in [KernelClient.Peer.ipv4("10.0.0.2"), .ipv6("2001:db8::2")] {
                let clients = try (0..<24).map { _ in try KernelClient(.stream, to: peer, port: 7) }
                for client in clients { try expectEcho(client, 20_000) }
            }
        }
        let echoes = endings.echoes.withLock { $0 }
        #expect(echoes.count == 2 && echoes.values.allSatisfy { $0 > 0 }, "\(echoes)")
        // A shard that has nothing to do sleeps: it is woken by frames of its queue, by timers, and by what the other one hands on.
        for statistics in endings.statistics.withLock({ $0 }) {
            #expect(statistics.sleeps > 0)
            #expect(statistics.turns < 20 * statistics.sleeps, "\(statistics.turns) turns, \(statistics.sleeps) sleeps")
        }
    }

    @Test("datagrams, whole and in fragments, are answered by either shard", arguments: Kind.allCases)
    func datagrams(_ kind: Kind) throws {
        let endings = Endings()
        try withGroup(kind, 7, endings, serve: echo(.udp, endings)) {
            for index in 0..<24 {
                let client = try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7)
                for size in [10, 4_000] {
                    let bytes = testBytes(size, seed: UInt64(index * 2 + size))
                    try client.sendAll(bytes)
                    #expect(try client.receive() == bytes, "\(size) bytes")
                }
            }
        }
        let echoes = endings.echoes.withLock { $0 }
        #expect(echoes.values.allSatisfy { $0 > 0 }, "\(echoes)")
    }

    @Test("a key-value server over both", .enabled(if: Shell.has("redis-benchmark"), "needs redis-tools"), arguments: Kind.allCases)
    func keyValue(_ kind: Kind) throws {
        let endings = Endings()
        try withGroup(
            kind, 6379, laneCount: KeyValueServer.laneCount, endings,
            serve: { (runtime, shard, address, whenReady) throws(DemikernelError) in
                var server = KeyValueServer(listen: address, seed: 42, maximumQueues: runtime.core.limits.maximumQueues, shard: shard)
                try server.run(on: runtime, whenReady: whenReady)
                let count = server.statistics.batchesHandedOver
                endings.echoes.withLock { $0[shard.index] = count }
            }
        ) {
            for pipeline in [1, 16] {
                let result = Shell.run("redis-benchmark -h 10.0.0.2 -n 3000 -q -P \(pipeline) -r 1000 -t set,get,mset")
                #expect(result.status == 0 && result.output.contains("MSET"), "\(result.output)")
                #expect(!result.output.contains("rror"), "\(result.output)")
            }
            #expect(Shell.run("redis-cli -h 10.0.0.2 set key value").output == "OK\n")
            #expect(Shell.run("redis-cli -h 2001:db8::2 get key").output == "value\n")
        }
        let batches = endings.echoes.withLock { $0 }
        #expect(batches.values.allSatisfy { $0 > 0 }, "\(batches)")
    }

    @Test("more shards than the interface has queues are refused, and nothing is left")
    func tooFewQueues() throws {
        try withCable { _ in
            let interface = try InterfaceConfiguration(device: "xdp:demi0", addresses: ["10.0.0.2/24"])
            let group = try ShardGroup(count: 2)
            let error = #expect(throws: DemikernelError.self) {
                try group.run(
                    .any(port: 7),
                    makeRuntime: { (place) throws(DemikernelError) in try Runtime(libraryOSes: [.catnip(interface, at: place)]) },
                    whenReady: { _ in }, serve: { (_, _, _, _) throws(DemikernelError) in })
            }
            #expect(error?.errno == ENOSPC && "\(error!)".contains("ethtool"))
            #expect(!Shell.run("ip link show demi0").output.contains("xdp"))
        }
    }
}
