import Demikernel
import Echo
import Glibc
import KeyValue
import KeyValueStore
import Testing

/// How a server under test is made.
struct ServerSettings {
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
}

/// A server on a thread of its own, with a runtime made on that thread.
final class ServerThread: @unchecked Sendable {
    // Unchecked: what the thread writes is read only after it has told so through the pipe, or after it was joined.
    private(set) var address = SocketAddress.loopback(port: 0)
    private var report = ServerReport()
    private var interrupter: Interrupter?
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
                var configuration = RuntimeConfiguration()
                configuration.memory.arenaByteCount = settings.arenaByteCount
                configuration.memory.commitsAtStart = false
                configuration.limits.maximumQueues = settings.maximumQueues
                configuration.seed = 42
                let runtime = try Runtime(configuration, libraryOSes: [.catnap])
                interrupter = runtime.interrupter
                do throws(DemikernelError) {
                    try serve(runtime, &report) { address in
                        self.address = address
                        ready.raise()
                    }
                } catch {
                    report.error = error
                }
                drain(runtime)
                report.runtime = runtime.statistics
            } catch {
                report.error = error
            }
            ready.raise()
        }
        ready.wait()
    }

    /// The accept that ended with its listener is redeemed, and closed connections send their rest.
    private func drain(_ runtime: borrowing Runtime) {
        var batch = CompletionBatch(capacity: 64)
        let deadline = runtime.now + UInt64(generousSeconds) * 1_000_000_000
        while runtime.statistics.liveOperations > 0 || runtime.statistics.closingQueues > 0, runtime.now < deadline {
            try? runtime.waitNext(into: &batch, timeout: .milliseconds(10))
            while batch.next() != nil {}
        }
    }

    /// Interrupts the server, and returns when its thread has ended.
    func stop() -> ServerReport {
        interrupter?.interrupt()
        thread?.join()
        thread = nil
        return report
    }

    static func keyValue(_ settings: ServerSettings) -> ServerThread {
        ServerThread(settings) { (runtime, report, whenReady) throws(DemikernelError) in
            var server = KeyValueServer(
                listen: settings.address, socketOptions: settings.socketOptions, limits: settings.storeLimits, seed: 42,
                maximumQueues: settings.maximumQueues)
            defer { report.keyValue = server.statistics }
            try server.run(on: runtime, whenReady: whenReady)
        }
    }

    static func echo(_ transport: EchoServer.Transport, _ settings: ServerSettings) -> ServerThread {
        ServerThread(settings) { (runtime, report, whenReady) throws(DemikernelError) in
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
    let server = ServerThread.keyValue(settings)
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
    let server = ServerThread.echo(transport, settings)
    do {
        try body(server.address)
        if transport == .tcp {
            // What the kernel has told of the others, it has told before this connection's end.
            let last = try Client(server.address)
            try last.send("last")
            try last.shutdownSend()
            #expect(try last.receiveAll().text == "last")
        }
    } catch {
        _ = server.stop()
        throw error
    }
    let report = server.stop()
    // A datagram socket keeps one block to receive into.
    expectNothingLeft(report, keptBlocks: transport == .udp ? 1 : 0)
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
