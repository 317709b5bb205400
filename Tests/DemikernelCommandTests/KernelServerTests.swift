import Foundation
import Testing

@testable import DemikernelCommand

@Suite struct KernelServerTests {
    @Test func bytesComeOutOfAQueueAsTheyWentIn() {
        var queue = ByteQueue()
        defer { queue.deallocate() }
        var random = SplitMix64(seed: 3)
        var model: [UInt8] = []
        for _ in 0..<2000 {
            if random.next() % 2 == 0 {
                let count = Int(random.next() % 3000)
                let bytes = (0..<count).map { _ in UInt8(truncatingIfNeeded: random.next()) }
                queue.reserve(count)
                queue.room.copyBytes(from: bytes)
                queue.append(count)
                model += bytes
            } else {
                let count = Int(random.next() % UInt64(model.count + 1))
                queue.removeFirst(count)
                model.removeFirst(count)
            }
            #expect(queue.count == model.count)
            #expect(queue.bytes.elementsEqual(model))
        }
    }

    /// Runs `body` against a server on a free port and returns what the server counted.
    private func serving(_ body: (Endpoint) throws -> Void) throws -> KernelServerStatistics {
        let wakeUp = try WakeUp()
        let any = try #require(Endpoint(parsing: "127.0.0.1:0"))
        let socket = try KernelSocket.listening(.tcp, on: any)
        let endpoint = Endpoint(family: .ipv4, host: any.host, port: try KernelSocket.localPort(socket))
        let outcome = ServerOutcome()
        let thread = Thread {
            do {
                var server = try KernelServer(KeyValueService(), listener: socket, spins: false, wakeUp: wakeUp)
                try server.run()
                outcome.finish(server.statistics)
            } catch {
                outcome.finish(nil)
            }
        }
        thread.start()
        let result = Result { try body(endpoint) }
        wakeUp.signal()
        let statistics = outcome.wait()
        try result.get()
        return try #require(statistics)
    }

    @Test func theYardstickServesTheLoadGenerator() throws {
        let statistics = try serving { endpoint in
            let transport = try KernelTransport(.tcp, to: endpoint, connections: 3)
            var generator = LoadGenerator(
                transport, workload: .keyValue(size: 300, keys: 50, getRatio: 0.5, seed: 5), plan: .closedLoop(pipeline: 8))
            try generator.preload()
            let result = try generator.run(for: 50_000_000)
            #expect(result.wrong == 0 && result.unanswered == 0)
            #expect(result.completed > 0)
        }
        #expect(statistics.accepted == 3)
        #expect(statistics.receivedBytes > 0 && statistics.sentBytes > 0)
    }

    @Test func repliesLargerThanTheOutputsMarkArriveWhole() throws {
        _ = try serving { endpoint in
            let transport = try KernelTransport(.tcp, to: endpoint, connections: 1)
            var generator = LoadGenerator(
                transport, workload: .keyValue(size: 400_000, keys: 3, getRatio: 0.7, seed: 5), plan: .closedLoop(pipeline: 4))
            try generator.preload()
            let result = try generator.run(for: 100_000_000)
            #expect(result.wrong == 0 && result.unanswered == 0)
            #expect(result.completed > 0)
        }
    }

    @Test func aPortInUseIsRefusedWithTheMend() throws {
        _ = try serving { endpoint in
            #expect { _ = try KernelSocket.listening(.tcp, on: endpoint) } throws: { "\($0)".contains("--listen 127.0.0.1:") }
        }
    }
}

private final class ServerOutcome: @unchecked Sendable {
    private let done = DispatchSemaphore(value: 0)
    // Written before the semaphore is signalled, read after it was waited for.
    private var statistics: KernelServerStatistics?

    func finish(_ statistics: KernelServerStatistics?) {
        self.statistics = statistics
        done.signal()
    }

    func wait() -> KernelServerStatistics? {
        done.wait()
        return statistics
    }
}
