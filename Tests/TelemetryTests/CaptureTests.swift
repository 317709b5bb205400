import Demikernel
import EthernetDevice
import Glibc
import PcapngReader
import Synchronization
import Testing
import UserNetwork
import WireFormats

/// Captures of a running process's frames over its telemetry socket.
@Suite("A capture over the telemetry socket") struct CaptureTests {
    private let folder = TestFolder()
    private var path: String { folder.file("telemetry.sock") }

    /// A runtime with two hosts on one link, of which one sends the other datagrams of 1,000 bytes without end; counted when they have come.
    private func talkingRuntime(_ count: Counter) throws -> PublishedRuntime {
        let isReady = Counter()
        defer { isReady.wait(for: 1) }
        return try PublishedRuntime(at: path) { (runtime, ending) throws(DemikernelError) in
            let (a, b) = MemoryEthernetPair.make()
            let core = runtime.core
            let first = try runtime.register(
                try UserNetwork.make(for: core, device: a, addresses: [IPv4Prefix(address: .ipv4(10, 0, 0, 1), length: 24)]))
            let second = try runtime.register(
                try UserNetwork.make(for: core, device: b, addresses: [IPv4Prefix(address: .ipv4(10, 0, 0, 2), length: 24)]))
            let sender = try runtime.socket(.ipv4, .datagram, on: first)
            let receiver = try runtime.socket(.ipv4, .datagram, on: second)
            try runtime.bind(sender, to: .any(port: 0))
            try runtime.bind(receiver, to: .any(port: 7))
            isReady.add()
            while !ending.hasCome {
                let pop = try runtime.pop(receiver)
                let buffer = try runtime.allocate(1_000)
                buffer.address.initializeMemory(as: UInt8.self, repeating: 0xa5, count: 1_000)
                try runtime.pushTo(sender, ScatterGatherArray(buffer), .ipv4(10, 0, 0, 2, port: 7), completion: .discarded)
                _ = try runtime.wait(pop)
                count.add()
            }
        }
    }

    private func begin(_ client: RawClient, snapshot: Int = 2_000) -> Bool {
        client.send("demikernel-telemetry 1 capture runtime=0 snapshot=\(snapshot)\n")
        return client.line() == "demikernel-telemetry 1 ok stream"
    }

    @Test("has the frames in both directions, and the counts at its end")
    func frames() throws {
        let count = Counter()
        let runtime = try talkingRuntime(count)
        let client = try RawClient(path)
        #expect(begin(client, snapshot: 60))
        #expect(try RawClient(path).metrics().value("demikernel_device_capturing", ["libos": "catnip"]) == 1)
        #expect(try RawClient(path).metrics().value("demikernel_device_capturing", ["libos": "catnip-2"]) == 0)
        var bytes = client.receive(20_000)
        client.endSending()
        bytes += try #require(client.rest())
        let capture = try PcapngReader(bytes)
        #expect(capture.interfaces.count == 1 && capture.packets.count > 100)
        // ARP went with them.
        let datagrams = capture.packets.filter { $0.bytes[12..<14] == [8, 0] }
        #expect(datagrams.count > 100)
        #expect(datagrams.allSatisfy { $0.bytes.count == 60 && $0.direction == 2 && $0.originalByteCount == 1_042 })
        #expect(capture.interfaces[0].received == UInt64(capture.packets.count) + (capture.interfaces[0].dropped ?? 0))
        // Afterwards nothing is captured, and it can be again.
        let second = try RawClient(path)
        #expect(begin(second))
        second.endSending()
        #expect(try PcapngReader(try #require(second.rest())).interfaces.count == 1)
        withExtendedLifetime(runtime) {}
    }

    @Test("is one at a time, and ends by who began it alone")
    func oneAtATime() throws {
        let count = Counter()
        let runtime = try talkingRuntime(count)
        let client = try RawClient(path)
        #expect(begin(client))
        for _ in 0..<3 {
            let other = try RawClient(path)
            other.send("demikernel-telemetry 1 capture runtime=0 snapshot=96\n")
            #expect(other.line().hasPrefix("demikernel-telemetry 1 error EBUSY "))
        }
        // Who goes while it is being refused ends nobody else's.
        for _ in 0..<20 { try RawClient(path).send("demikernel-telemetry 1 capture runtime=0 snapshot=96\n") }
        #expect(client.receive(4_000_000).count == 4_000_000)
        client.endSending()
        #expect(try #require(client.rest()).count > 0)
        withExtendedLifetime(runtime) {}
    }

    @Test("drops for a client that does not read, and the process goes on")
    func slowReader() throws {
        let count = Counter()
        let runtime = try talkingRuntime(count)
        let client = try RawClient(path)
        #expect(begin(client))
        // Far more than the buffers between them hold.
        count.wait(for: 10_000)
        client.endSending()
        let capture = try PcapngReader(try #require(client.rest()))
        let dropped = try #require(capture.interfaces.first?.dropped)
        #expect(dropped > 1_000 && capture.packets.count > 500)
        #expect(capture.interfaces[0].received == dropped + UInt64(capture.packets.count))
        withExtendedLifetime(runtime) {}
    }

    @Test("ends when its client goes, in whatever way")
    func goneClient() throws {
        let count = Counter()
        let runtime = try talkingRuntime(count)
        #expect(begin(try RawClient(path)))
        // As soon as the last one has been noticed, another can begin.
        var hasBegun = false
        for _ in 0..<1_000 where !hasBegun { hasBegun = begin(try RawClient(path)) }
        #expect(hasBegun)
        count.wait(for: 100)
        withExtendedLifetime(runtime) {}
    }

    @Test("is whole when the runtime ends before")
    func endOfRuntime() throws {
        let count = Counter()
        let runtime = try talkingRuntime(count)
        let client = try RawClient(path)
        #expect(begin(client))
        let head = client.receive(100_000)
        // Meanwhile somebody reads: a runtime that ends waits a second for one who does not.
        let rest = Mutex<[UInt8]>([])
        let socket = client.socket
        let reader = OwnThread {
            var bytes = [UInt8](repeating: 0, count: 65_536)
            while case let count = recv(socket, &bytes, bytes.count, 0), count > 0 { rest.withLock { $0 += bytes[..<count] } }
        }
        runtime.end()
        reader.join()
        let capture = try PcapngReader(head + rest.withLock { $0 })
        #expect(capture.packets.count > 50)
        #expect(capture.interfaces[0].received != nil)
    }

    @Test("every drop reason has a label of its own, as metrics spell names")
    func dropReasons() throws {
        let runtime = try talkingRuntime(Counter())
        let metrics = try RawClient(path).metrics()
        let reasons = try #require(metrics.families["demikernel_drops_total"]).samples.filter { $0.labels["device"] != nil }.compactMap {
            $0.labels["reason"]
        }
        #expect(reasons.contains("bad_ipv4_header") && reasons.contains("bad_segment_checksum") && reasons.contains("bad_arp"))
        #expect(reasons.allSatisfy { $0.allSatisfy { $0.isLowercase || $0.isNumber || $0 == "_" } })
        #expect(Set(reasons).count >= 50)
        withExtendedLifetime(runtime) {}
    }

    /// Counts what has happened, for one who waits for it.
    private final class Counter: Sendable {
        // A semaphore is made to be used by several threads.
        nonisolated(unsafe) private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

        init() { sem_init(semaphore, 0, 0) }

        deinit {
            sem_destroy(semaphore)
            semaphore.deallocate()
        }

        func add() { sem_post(semaphore) }

        func wait(for count: Int) {
            for _ in 0..<count {
                while sem_wait(semaphore) != 0 {}
            }
        }
    }
}
