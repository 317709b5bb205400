import Demikernel
import Glibc
import Synchronization
import Testing

/// A folder of the test's own, removed with all that is in it.
final class TestFolder: Sendable {
    let path: String

    init() {
        var template = Array("/tmp/demikernel-test-XXXXXX".utf8CString)
        path = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)) }
    }

    deinit {
        if let folder = opendir(path) {
            while let entry = readdir(folder) {
                let name = withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
                unlink("\(path)/\(name)")
            }
            closedir(folder)
        }
        rmdir(path)
    }

    func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// A client that says what it likes.
final class RawClient {
    let socket: Int32

    init(_ path: String) throws {
        socket = Glibc.socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { connect(socket, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        try #require(result == 0, "connect to \(path): \(String(cString: strerror(errno)))")
        // A lost answer fails the test, and does not stop it.
        var time = timeval(tv_sec: 20, tv_usec: 0)
        setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &time, socklen_t(MemoryLayout<timeval>.size))
    }

    deinit {
        close(socket)
    }

    @discardableResult
    func send(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        return Glibc.send(socket, bytes, bytes.count, Int32(MSG_NOSIGNAL)) == bytes.count
    }

    func endSending() { shutdown(socket, Int32(SHUT_WR)) }

    /// The next line without its end; empty at the end of the stream.
    func line() -> String {
        var line: [UInt8] = []
        var byte: UInt8 = 0
        while recv(socket, &byte, 1, 0) == 1, byte != 10 { line.append(byte) }
        return String(decoding: line, as: UTF8.self)
    }

    func receive(_ count: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let received = recv(socket, &bytes, count, Int32(MSG_WAITALL))
        return Array(bytes[..<max(received, 0)])
    }

    /// All up to the end of the stream; nil when it does not end.
    func rest() -> [UInt8]? {
        var all: [UInt8] = []
        var bytes = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = recv(socket, &bytes, bytes.count, 0)
            if count < 0 { return errno == ECONNRESET ? all : nil }
            if count == 0 { return all }
            all += bytes[..<count]
        }
    }

    /// The metrics, as a client gets them.
    func metrics() throws -> PrometheusReader {
        send("demikernel-telemetry 1 metrics\n")
        let words = line().split(separator: " ")
        try #require(words.count == 4 && words[..<3] == ["demikernel-telemetry", "1", "ok"], "\(words)")
        return try PrometheusReader(String(decoding: receive(try #require(Int(words[3]))), as: UTF8.self))
    }
}

/// A kernel thread that runs one closure. It has to be joined.
struct OwnThread {
    private var thread = pthread_t()

    init(_ body: @escaping @Sendable () -> Void) {
        final class Body: Sendable {
            let run: @Sendable () -> Void
            init(_ run: @escaping @Sendable () -> Void) { self.run = run }
        }
        let error = pthread_create(
            &thread, nil,
            { context in
                Unmanaged<Body>.fromOpaque(context!).takeRetainedValue().run()
                return nil
            }, Unmanaged.passRetained(Body(body)).toOpaque())
        precondition(error == 0, "no thread can be made")
    }

    func join() { pthread_join(thread, nil) }
}

/// A runtime on a thread of its own, whose telemetry is published.
final class PublishedRuntime {
    let server: TelemetryServer
    private let interrupter: Interrupter
    private let thread: OwnThread
    private var hasEnded = false
    private let ending: Ending

    /// Says to a body that never waits for long that it is over.
    final class Ending: Sendable {
        private let flag = Atomic(false)
        var hasCome: Bool { flag.load(ordering: .relaxed) }
        fileprivate func come() { flag.store(true, ordering: .relaxed) }
    }

    /// - Parameter body: runs until the runtime is interrupted.
    init(
        at path: String, limits: TelemetryLimits = TelemetryLimits(),
        _ body: @escaping @Sendable (borrowing Runtime, Ending) throws(DemikernelError) -> Void = { (runtime, _) throws(DemikernelError) in
            var batch = CompletionBatch(capacity: 8)
            try runtime.waitNext(into: &batch)
        }
    ) throws {
        final class Start: Sendable {
            let interrupter = Mutex<Interrupter?>(nil)
            nonisolated(unsafe) let ready = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
            init() { sem_init(ready, 0, 0) }
        }
        let server = try TelemetryServer(program: "test \"one\"", path: path, limits: limits)
        let start = Start()
        let ending = Ending()
        self.ending = ending
        thread = OwnThread {
            var configuration = RuntimeConfiguration()
            configuration.memory.arenaByteCount = 16 << 20
            configuration.memory.commitsAtStart = false
            configuration.limits.maximumQueues = 256
            do throws(DemikernelError) {
                let runtime = try Runtime(configuration)
                server.add(runtime)
                start.interrupter.withLock { $0 = runtime.interrupter }
                sem_post(start.ready)
                try body(runtime, ending)
            } catch {
                if error.errno != EINTR { Issue.record("\(error)") }
                sem_post(start.ready)
            }
        }
        while sem_wait(start.ready) != 0 {}
        self.server = server
        interrupter = try #require(start.interrupter.withLock { $0 })
    }

    deinit {
        end()
        server.close()
    }

    /// Ends the runtime; the server goes on.
    func end() {
        guard !hasEnded else { return }
        hasEnded = true
        ending.come()
        interrupter.interrupt()
        thread.join()
    }
}
