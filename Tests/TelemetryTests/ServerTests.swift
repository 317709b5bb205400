import Demikernel
import Glibc
import Synchronization
import Testing

/// What a process tells of itself at its telemetry socket, and what clients cannot do to it.
@Suite("The telemetry socket") struct ServerTests {
    private let folder = TestFolder()
    private var path: String { folder.file("telemetry.sock") }

    @Test("tells what a runtime counts, in Prometheus' format")
    func metrics() throws {
        let runtime = try PublishedRuntime(at: path) { (runtime, _) throws(DemikernelError) in
            let queue = try runtime.queue()
            for _ in 0..<3 { try runtime.push(queue, runtime.allocate(100), completion: .discarded) }
            var batch = CompletionBatch(capacity: 8)
            try runtime.waitNext(into: &batch)
        }
        let client = try RawClient(path)
        let metrics = try client.metrics()
        #expect(try metrics.value("demikernel_process_info", ["program": "test \"one\"", "pid": "\(getpid())"]) == 1)
        #expect(try metrics.value("demikernel_runtime_up", ["runtime": "0"]) == 1)
        #expect(try metrics.value("demikernel_queues_open") == 1)
        #expect(try metrics.value("demikernel_queues_opened_total") == 1)
        #expect(try metrics.value("demikernel_heap_live_blocks") == 3)
        #expect(try metrics.value("demikernel_heap_used_bytes") >= 300)
        #expect(try metrics.value("demikernel_heap_used_bytes") < metrics.value("demikernel_heap_limit_bytes"))
        // The same client may ask again, and others as well.
        #expect(try client.metrics().value("demikernel_queues_open") == 1)
        #expect(try RawClient(path).metrics().value("demikernel_queues_open") == 1)
        withExtendedLifetime(runtime) {}
    }

    @Test("belongs to its user alone, and goes with the server")
    func permissions() throws {
        do {
            let server = try TelemetryServer(program: "test", path: path)
            var status = stat()
            #expect(lstat(path, &status) == 0 && status.st_mode & S_IFMT == S_IFSOCK && status.st_mode & 0o777 == 0o600)
            #expect(throws: DemikernelError(EADDRINUSE, .bind)) { try TelemetryServer(program: "test", path: path) }
            #expect(try RawClient(path).metrics().families["demikernel_runtime_up"] == nil)
            server.close()
        }
        #expect(access(path, F_OK) != 0)
    }

    @Test("is in a folder that nobody else can enter, or in none")
    func folders() throws {
        let own = folder.file("own")
        mkdir(own, 0o700)
        defer { rmdir(own) }
        #expect(TelemetryFolder.isPrivate(own))
        #expect(!TelemetryFolder.isPrivate(own, ofUser: geteuid() &+ 1))
        chmod(own, 0o750)
        #expect(!TelemetryFolder.isPrivate(own))
        symlink("/root", folder.file("link"))
        #expect(!TelemetryFolder.isPrivate(folder.file("link")))
        let made = try TelemetryFolder.make()
        #expect(TelemetryFolder.isPrivate(made) && TelemetryFolder.candidates().contains(made))
        #expect(TelemetryFolder.candidates(ofUser: 4_242_424).last == "/tmp/demikernel-4242424")
    }

    @Test(
        "refuses what is no request, and goes on",
        arguments: [
            ("\n", "EINVAL"), ("GET /metrics HTTP/1.1\r\n", "EINVAL"), ("demikernel-telemetry\n", "EINVAL"),
            ("demikernel-telemetry 1 reboot\n", "EINVAL"),
            ("demikernel-telemetry 1 metrics now\n", "EINVAL"), ("demikernel-telemetry 2 metrics\n", "EPROTONOSUPPORT"),
            ("demikernel-telemetry -1 metrics\n", "EPROTONOSUPPORT"), ("demikernel-telemetry 99999999999999999999 metrics\n", "EINVAL"),
            ("demikernel-telemetry 1 capture runtime=0\n", "EINVAL"), ("demikernel-telemetry 1 capture runtime=-1 snapshot=96\n", "EINVAL"),
            ("demikernel-telemetry 1 capture runtime=0 snapshot=0\n", "EINVAL"),
            ("demikernel-telemetry 1 capture runtime=0 snapshot=9999999\n", "EINVAL"),
            ("demikernel-telemetry 1 capture runtime=7 snapshot=96\n", "ESRCH"),
            ("demikernel-telemetry 1 capture runtime=0 snapshot=96\n", "EOPNOTSUPP"),
            (String(repeating: "x", count: 256), "EINVAL"), (String(repeating: "x", count: 100_000), "EINVAL"), ("\u{0}\u{1}\u{fffd}\n", "EINVAL"),
        ])
    func refusals(request: String, error: String) throws {
        let runtime = try PublishedRuntime(at: path)
        let client = try RawClient(path)
        client.send(request)
        #expect(client.line().hasPrefix("demikernel-telemetry 1 error \(error) "))
        #expect(client.rest() == [])
        #expect(try RawClient(path).metrics().value("demikernel_runtime_up") == 1)
        withExtendedLifetime(runtime) {}
    }

    @Test("takes requests in pieces, and several at once")
    func pieces() throws {
        let runtime = try PublishedRuntime(at: path)
        let client = try RawClient(path)
        for piece in ["demikernel-tele", "metry 1 met", "rics"] { client.send(piece) }
        #expect(try RawClient(path).metrics().value("demikernel_runtime_up") == 1)
        client.send("\ndemikernel-telemetry 1 metrics\ndemikernel-telemetry 3 metrics\n")
        for _ in 0..<2 {
            let words = client.line().split(separator: " ")
            let count = try #require(Int(words.last ?? ""))
            #expect(client.receive(count).count == count)
        }
        #expect(client.line().hasPrefix("demikernel-telemetry 1 error EPROTONOSUPPORT"))
        withExtendedLifetime(runtime) {}
    }

    @Test("has a limit of clients, and room again when they go")
    func tooMany() throws {
        var limits = TelemetryLimits()
        limits.maximumClients = 3
        let runtime = try PublishedRuntime(at: path, limits: limits)
        var clients = try (0..<3).map { _ in try RawClient(path) }
        for client in clients { #expect(try client.metrics().value("demikernel_runtime_up") == 1) }
        let other = try RawClient(path)
        #expect(other.line().hasPrefix("demikernel-telemetry 1 error EBUSY "))
        #expect(other.rest() == [])
        clients.removeFirst()
        // The server hears of it before it accepts the next one: both come to the same thread, in order.
        #expect(try clients[0].metrics().value("demikernel_runtime_up") == 1)
        #expect(try RawClient(path).metrics().value("demikernel_runtime_up") == 1)
        withExtendedLifetime(runtime) {}
    }

    @Test("drops a client that says nothing, and one that does not take its answers")
    func silence() throws {
        var limits = TelemetryLimits()
        limits.silence = 100
        limits.reception = 100
        let runtime = try PublishedRuntime(at: path, limits: limits)
        #expect(try RawClient(path).rest() == [])
        let greedy = try RawClient(path)
        // What the sockets' buffers hold is far less than what is asked for.
        for _ in 0..<2_000 where !greedy.send("demikernel-telemetry 1 metrics\n") { break }
        #expect(try RawClient(path).metrics().value("demikernel_runtime_up") == 1)
        var room = pollfd(fd: greedy.socket, events: 0, revents: 0)
        #expect(poll(&room, 1, 20_000) == 1, "it is dropped")
        #expect(try RawClient(path).metrics().value("demikernel_runtime_up") == 1)
        withExtendedLifetime(runtime) {}
    }

    @Test("tells of a runtime whose thread is busy that it is, and forgets one that has ended")
    func busy() throws {
        var limits = TelemetryLimits()
        limits.collection = 100
        let isBusy = Busy()
        let runtime = try PublishedRuntime(at: path, limits: limits) { (runtime, _) throws(DemikernelError) in
            isBusy.wait()
            var batch = CompletionBatch(capacity: 8)
            try runtime.waitNext(into: &batch)
        }
        let client = try RawClient(path)
        let metrics = try client.metrics()
        #expect(try metrics.value("demikernel_runtime_up", ["runtime": "0"]) == 0)
        #expect(metrics.families["demikernel_queues_open"] == nil)
        isBusy.end()
        while try client.metrics().value("demikernel_runtime_up", ["runtime": "0"]) == 0 {}
        runtime.end()
        #expect(try client.metrics().families["demikernel_runtime_up"] == nil)
    }

    @Test("clients that go at any moment leave nothing behind")
    func goneClients() throws {
        let runtime = try PublishedRuntime(at: path)
        for request in ["", "demikernel-", "demikernel-telemetry 1 metrics\n", "demikernel-telemetry 1 capture runtime=0 snapshot=96\n"] {
            for _ in 0..<50 { try RawClient(path).send(request) }
        }
        #expect(try RawClient(path).metrics().value("demikernel_runtime_up") == 1)
        withExtendedLifetime(runtime) {}
    }

    @Test("the clients' own parser reads what is written")
    func text() {
        var metrics = MetricList()
        metrics.commonLabels = [Metric.Label("path", "a\\b\"c\nd")]
        metrics.gauge("demikernel_gauge", "A \\ and\na line.", -5)
        metrics.counter("demikernel_counter_total", "Counts.", .max, Metric.Label("x", "é"))
        metrics.gauge("demikernel_gauge", "A \\ and\na line.", 7, Metric.Label("x", ""))
        #expect(
            PrometheusText.format(metrics) == """
                # HELP demikernel_gauge A \\\\ and\\na line.
                # TYPE demikernel_gauge gauge
                demikernel_gauge{path="a\\\\b\\"c\\nd"} 0
                demikernel_gauge{path="a\\\\b\\"c\\nd",x=""} 7
                # HELP demikernel_counter_total Counts.
                # TYPE demikernel_counter_total counter
                demikernel_counter_total{path="a\\\\b\\"c\\nd",x="é"} 18446744073709551615

                """)
    }

    /// Keeps a runtime's thread busy until it is told.
    private final class Busy: Sendable {
        nonisolated(unsafe) private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

        init() { sem_init(semaphore, 0, 0) }

        func wait() { while sem_wait(semaphore) != 0 {} }

        func end() { sem_post(semaphore) }
    }
}
