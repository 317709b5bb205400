import Demikernel
import Echo
import Glibc
import KeyValue
import KeyValueStore
import Synchronization
import Testing

/// How a server under test is made.
struct ServerSettings: Sendable {
    /// Runtimes on threads of their own that share the port and the work.
    var shards = 1
    var idle = IdlePolicy.standard
    var arenaByteCount = 16 << 20
    var maximumQueues = 1_024
    var socketOptions: [SocketOption] = []
    var storeLimits = KeyValueStore.Limits()
    /// Where to listen; port 0 lets the kernel choose.
    var address = SocketAddress.loopback(port: 0)
}

/// What a server leaves behind.
struct ServerReport: Sendable {
    /// What `run` threw.
    var error: DemikernelError?
    /// The runtime's state after the end, before it is destroyed.
    var runtime = RuntimeStatistics()
    /// Of a key-value server.
    var keyValue: KeyValueServer.Statistics?
    /// Of an echo server.
    var echoCount: UInt64 = 0
    var failureCount: UInt64 = 0
    /// Of a server with several shards, what each of them left.
    var shards: [ServerReport] = []
}

extension ServerSettings {
    var runtimeConfiguration: RuntimeConfiguration {
        var configuration = RuntimeConfiguration()
        configuration.memory.arenaByteCount = arenaByteCount
        configuration.memory.commitsAtStart = false
        configuration.limits.maximumQueues = maximumQueues
        configuration.idle = idle
        configuration.seed = 42
        return configuration
    }
}

extension ServerReport {
    /// Sums up what shards leave behind.
    mutating func add(_ shards: [ServerReport]) {
        for shard in shards {
            if error == nil { error = shard.error }
            runtime.turns += shard.runtime.turns
            runtime.sleeps += shard.runtime.sleeps
            runtime.liveOperations += shard.runtime.liveOperations
            runtime.openQueues += shard.runtime.openQueues
            runtime.closingQueues += shard.runtime.closingQueues
            runtime.queuesOpened += shard.runtime.queuesOpened
            runtime.timers += shard.runtime.timers
            runtime.memory.liveSegments += shard.runtime.memory.liveSegments
            runtime.memory.liveBlocks += shard.runtime.memory.liveBlocks
            runtime.memory.usedByteCount += shard.runtime.memory.usedByteCount
            echoCount += shard.echoCount
            failureCount += shard.failureCount
            if let statistics = shard.keyValue {
                var total = keyValue ?? KeyValueServer.Statistics()
                total.batches += statistics.batches
                total.connectionsAccepted += statistics.connectionsAccepted
                total.connectionsFailed += statistics.connectionsFailed
                total.droppedOutOfMemory += statistics.droppedOutOfMemory
                total.batchesHandedOver += statistics.batchesHandedOver
                total.batchesAnswered += statistics.batchesAnswered
                keyValue = total
            }
        }
        self.shards = shards
    }
}

extension Runtime {
    /// Whether memory is lent to another shard, which gives it back at its own end at the latest.
    fileprivate var isOwed: Bool { statistics.openQueues == 0 && statistics.memory.liveSegments > 0 }
}

/// A server on a thread of its own, with a runtime made on that thread.
final class ServerThread: @unchecked Sendable {
    // Unchecked: what the thread writes is read only after it has told so through the pipe, or after it was joined.
    private(set) var address = SocketAddress.loopback(port: 0)
    private var report = ServerReport()
    private var interrupter: Interrupter?
    private var group: ShardGroup?
    private var thread: OwnThread?

    /// Returns when the server listens, or has failed to.
    /// - Parameter serve: runs the server on the runtime until it is interrupted, calls `whenReady` and fills in the report.
    init(
        _ settings: ServerSettings,
        serve: @escaping (borrowing Runtime, inout ServerReport, (SocketAddress) -> Void) throws(DemikernelError) -> Void
    ) {
        let ready = Signal()
        thread = OwnThread { [self] in
            do throws(DemikernelError) {
                let runtime = try Runtime(settings.runtimeConfiguration, libraryOSes: [.catnap])
                interrupter = runtime.interrupter
                do throws(DemikernelError) {
                    try serve(runtime, &report) { address in
                        self.address = address
                        ready.raise()
                    }
                } catch {
                    report.error = error
                }
                Self.drain(runtime)
                report.runtime = runtime.statistics
            } catch {
                report.error = error
            }
            ready.raise()
        }
        ready.wait()
    }

    /// The same with several shards.
    /// - Parameter serve: runs one shard's server on the address that it gets; the options let shards share the port.
    init(
        sharded settings: ServerSettings, laneCount: Int,
        serve:
            @escaping @Sendable (
                borrowing Runtime, Shard, SocketAddress, [SocketOption], inout ServerReport, (SocketAddress) -> Void
            ) throws(DemikernelError) -> Void
    ) throws(DemikernelError) {
        let group = try ShardGroup(count: settings.shards, laneCount: laneCount)
        self.group = group
        let ready = Signal()
        thread = OwnThread { [self] in
            final class Reports: Sendable { let list = Mutex<[ServerReport]>([]) }
            let reports = Reports()
            do throws(DemikernelError) {
                try group.run(
                    settings.address,
                    makeRuntime: { (_) throws(DemikernelError) in try Runtime(settings.runtimeConfiguration, libraryOSes: [.catnap]) },
                    whenReady: { address in
                        self.address = address
                        ready.raise()
                    },
                    serve: { (runtime, shard, address, whenReady) throws(DemikernelError) in
                        var report = ServerReport()
                        do throws(DemikernelError) {
                            try serve(runtime, shard, address, settings.socketOptions + [.reusePort(true)], &report, whenReady)
                        } catch {
                            report.error = error
                        }
                        Self.drain(runtime)
                        report.runtime = runtime.statistics
                        reports.list.withLock { $0.append(report) }
                        if let error = report.error { throw error }
                    })
            } catch {
                report.error = error
            }
            report.add(reports.list.withLock { $0 })
            ready.raise()
        }
        ready.wait()
    }

    /// The accept that ended with its listener is redeemed, and closed connections send their rest.
    private static func drain(_ runtime: borrowing Runtime) {
        var batch = CompletionBatch(capacity: 64)
        let deadline = runtime.now + UInt64(generousSeconds) * 1_000_000_000
        while runtime.statistics.liveOperations > 0 || runtime.statistics.closingQueues > 0 || runtime.isOwed,
            runtime.now < deadline
        {
            try? runtime.waitNext(into: &batch, timeout: .milliseconds(10))
            while batch.next() != nil {}
        }
    }

    /// Returns when nobody is connected any more, as the server's own runtime sees it, or after a generous time. A server of several shards is not asked.
    func waitUntilAlone() {
        final class Seen: Sendable { let openQueues = Mutex<Int>(0) }
        let deadline = ContinuousClock.now + .seconds(generousSeconds)
        guard let interrupter else { return }
        let seen = Seen()
        repeat {
            let answered = Signal()
            let isVisited = interrupter.visit { core in
                seen.openQueues.withLock { $0 = core.statistics.openQueues }
                answered.raise()
            }
            guard isVisited else { return }
            answered.wait()
        } while seen.openQueues.withLock({ $0 }) > 1 && ContinuousClock.now < deadline
    }

    /// Interrupts the server, and returns when its thread has ended.
    func stop() -> ServerReport {
        interrupter?.interrupt()
        group?.interrupt()
        thread?.join()
        thread = nil
        return report
    }

    static func keyValue(_ settings: ServerSettings) throws(DemikernelError) -> ServerThread {
        if settings.shards > 1 {
            return try ServerThread(sharded: settings, laneCount: KeyValueServer.laneCount) {
                (runtime, shard, address, options, report, whenReady) throws(DemikernelError) in
                var server = KeyValueServer(
                    listen: address, socketOptions: options, limits: settings.storeLimits, seed: 42, maximumQueues: settings.maximumQueues,
                    shard: shard)
                defer { report.keyValue = server.statistics }
                try server.run(on: runtime, whenReady: whenReady)
            }
        }
        return ServerThread(settings) { (runtime, report, whenReady) throws(DemikernelError) in
            var server = KeyValueServer(
                listen: settings.address, socketOptions: settings.socketOptions, limits: settings.storeLimits, seed: 42,
                maximumQueues: settings.maximumQueues)
            defer { report.keyValue = server.statistics }
            try server.run(on: runtime, whenReady: whenReady)
        }
    }

    static func echo(_ transport: EchoServer.Transport, _ settings: ServerSettings) throws(DemikernelError) -> ServerThread {
        if settings.shards > 1 {
            return try ServerThread(sharded: settings, laneCount: 0) { (runtime, _, address, options, report, whenReady) throws(DemikernelError) in
                var server = EchoServer(transport, listen: address, socketOptions: options)
                defer {
                    report.echoCount = server.echoCount
                    report.failureCount = server.failureCount
                }
                try server.run(on: runtime, whenReady: whenReady)
            }
        }
        return ServerThread(settings) { (runtime, report, whenReady) throws(DemikernelError) in
            var server = EchoServer(transport, listen: settings.address, socketOptions: settings.socketOptions)
            defer {
                report.echoCount = server.echoCount
                report.failureCount = server.failureCount
            }
            try server.run(on: runtime, whenReady: whenReady)
        }
    }
}

/// Runs `body` against a key-value server. When all clients are gone, nothing of theirs may be left over: this is checked.
@discardableResult
func withKeyValueServer(
    _ change: (inout ServerSettings) -> Void = { _ in }, _ body: (SocketAddress) throws -> Void
) throws -> ServerReport {
    var settings = ServerSettings()
    change(&settings)
    let server = try ServerThread.keyValue(settings)
    do {
        try body(server.address)
        // The server has seen that the others are gone when it says so.
        let last = try Client(server.address)
        while try last.information("connected_clients") != 1 {}
        try last.send("QUIT\r\n")
        #expect(try last.receiveAll().text == "+OK\r\n")
    } catch {
        _ = server.stop()
        throw error
    }
    let report = server.stop()
    expectNothingLeft(report)
    return report
}

/// Runs `body` against an echo server, as `withKeyValueServer`.
@discardableResult
func withEchoServer(
    _ transport: EchoServer.Transport, _ change: (inout ServerSettings) -> Void = { _ in }, _ body: (SocketAddress) throws -> Void
) throws -> ServerReport {
    var settings = ServerSettings()
    change(&settings)
    let server = try ServerThread.echo(transport, settings)
    do {
        try body(server.address)
        if transport == .tcp {
            // The kernel tells of this connection's end as well, but not always after it has told of the others'.
            let last = try Client(server.address)
            try last.send("last")
            try last.shutdownSend()
            #expect(try last.receiveAll().text == "last")
            server.waitUntilAlone()
        }
    } catch {
        _ = server.stop()
        throw error
    }
    let report = server.stop()
    // A datagram socket keeps one block to receive into.
    expectNothingLeft(report, keptBlocks: transport == .udp ? settings.shards : 0)
    return report
}

private func expectNothingLeft(_ report: ServerReport, keptBlocks: Int = 0) {
    #expect(report.error == nil)
    #expect(report.runtime.liveOperations == 0)
    #expect(report.runtime.openQueues == 0)
    #expect(report.runtime.closingQueues == 0)
    #expect(report.runtime.timers == 0)
    #expect(report.runtime.memory.liveSegments == 0)
    #expect(report.runtime.memory.liveBlocks == keptBlocks)
    if keptBlocks == 0 { #expect(report.runtime.memory.usedByteCount == 0) }
}
