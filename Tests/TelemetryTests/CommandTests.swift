import CommandProcess
import Demikernel
import Glibc
import PcapngReader
import Testing

/// The commands that look at running processes, as users run them.
@Suite("demikernel top, metrics and capture", .serialized) struct CommandTests {
    private let folder = TestFolder()

    /// A server, and its number.
    private func server(_ arguments: [String]) throws -> (CommandProcess, String) {
        let server = try CommandProcess(arguments)
        try #require(server.waitForLine(containing: "listening on"))
        return (server, "\(server.identifier)")
    }

    private func run(_ arguments: String...) throws -> (status: Int32, text: String) {
        let command = try CommandProcess(arguments)
        let text = command.readAll()
        return (command.waitForEnd(), text)
    }

    @Test("top shows a server by its number, by its socket, and in a list")
    func top() throws {
        let (server, number) = try server(["kv", "--listen", "127.0.0.1:0", "--memory", "8"])
        let once = try run("top", number, "--once", "--interval", "0.05")
        #expect(once.status == 0)
        for text in ["kv, process \(number)", "runtime 0  catnap", "queues", "1 open", "heap", "operations", "replies"] {
            #expect(once.text.contains(text), "\(once.text)")
        }
        let listing = try run("top", "--once", "--interval", "0.01")
        #expect(listing.text.contains(number), "\(listing.text)")
        let lasting = try CommandProcess(["top", number, "--interval", "0.05"])
        #expect(lasting.waitForLine(containing: "operations"))
        server.terminate()
        #expect(server.waitForEnd() == 0)
        #expect(lasting.readAll().contains("has ended"))
        #expect(lasting.waitForEnd() == 0)
        let gone = try run("top", number)
        #expect(gone.status == 1 && gone.text.contains("there is no process \(number)"), "\(gone.text)")
    }

    @Test("metrics of shards are read by Prometheus' rules, and by its client")
    func metrics() throws {
        let (server, number) = try server(["kv", "--listen", "127.0.0.1:0", "--shards", "2", "--memory", "8"])
        let result = try run("metrics", number)
        #expect(result.status == 0)
        let metrics = try PrometheusReader(result.text)
        for shard in ["0", "1"] { #expect(try metrics.value("demikernel_runtime_up", ["runtime": shard]) == 1) }
        #expect(try metrics.value("demikernel_library_os_info", ["runtime": "1", "libos": "catnap"]) == 1)
        let other = try run("top", "--prometheus", number)
        #expect(try PrometheusReader(other.text).families.keys.sorted() == metrics.families.keys.sorted())
        // python3-prometheus-client, where it is installed.
        let file = folder.file("metrics.txt")
        try write(result.text, to: file)
        let script = """
            import sys; from prometheus_client.parser import text_string_to_metric_families as parse
            print(sum(len(family.samples) for family in parse(open(sys.argv[1]).read())))
            """
        if system("/usr/bin/python3 -c 'import prometheus_client' 2>/dev/null") == 0 {
            #expect(system("/usr/bin/python3 -c '\(script)' \(file) > \(folder.file("count"))") == 0)
        }
        server.terminate()
        #expect(server.waitForEnd() == 0)
    }

    @Test("a killed server leaves a socket that the next look removes")
    func stale() throws {
        let (server, number) = try server(["echo", "--listen", "127.0.0.1:0", "--memory", "8"])
        let path = TelemetryFolder.socketPath(in: try TelemetryFolder.make(), process: server.identifier)
        server.kill()
        #expect(access(path, F_OK) == 0)
        let first = try run("metrics", path)
        #expect(first.status == 1 && first.text.contains("has ended; the socket that it had left was removed"), "\(first.text)")
        #expect(access(path, F_OK) != 0)
        let second = try run("metrics", number)
        #expect(second.status == 1 && second.text.contains("there is no process"), "\(second.text)")
    }

    @Test("what is no demikernel process is told, and one of another version")
    func foreign() throws {
        for (answer, text) in [
            ("HTTP/1.1 400 Bad Request\r\n", "no demikernel process"), ("\u{0}\u{ff}", "no demikernel process"), ("", "has ended"),
            ("demikernel-telemetry 2 ok 0\n", "another version"), ("demikernel-telemetry 1 ok -1\n", "no demikernel process"),
            ("demikernel-telemetry 1 ok 99999999999\n", "no demikernel process"), ("demikernel-telemetry 1 ok 5\nabc", "has ended"),
            ("demikernel-telemetry 1 " + String(repeating: "x", count: 300), "no demikernel process"),
            ("demikernel-telemetry 1 error EBUSY too many clients: end some of them\n", "too many clients"),
        ] {
            let path = folder.file("foreign.sock")
            unlink(path)
            let listener = try FakeServer(path, answer: answer)
            let result = try run("metrics", path)
            #expect(result.status == 1 && result.text.contains(text), "\(answer): \(result.text)")
            listener.join()
        }
        for (process, text) in [
            ("1", "publishes no telemetry"), ("4194305", "there is no process"), ("nonsense", "must be the number of a process"),
            (folder.file("none.sock"), "there is no socket"), ("/dev/null", "is no socket"), (folder.path, "is no socket"),
            ("/" + String(repeating: "x", count: 200), "107 bytes"),
        ] where geteuid() == 0 || process != "1" {
            for command in ["top", "metrics"] {
                let result = try run(command, process)
                #expect(result.status == 1 && result.text.contains(text), "\(command) \(process): \(result.text)")
            }
        }
    }

    @Test("another user's process is told from none", .enabled(if: geteuid() == 0 && access("/usr/bin/setpriv", X_OK) == 0, "needs root and setpriv"))
    func otherUser() throws {
        let (server, number) = try server(["echo", "--listen", "127.0.0.1:0", "--memory", "8"])
        // Where the other user may read the program.
        let program = "/tmp/demikernel-command-\(getpid())"
        defer { unlink(program) }
        try #require(system("cp \(CommandProcess.path) \(program)") == 0)
        let path = TelemetryFolder.socketPath(in: try TelemetryFolder.make(), process: server.identifier)
        for process in [number, path] {
            let file = folder.file("output")
            let status = system("setpriv --reuid 65534 --regid 65534 --clear-groups \(program) metrics \(process) > \(file) 2>&1")
            let text = try read(file)
            #expect(status != 0 && text.contains(process == number ? "belongs to user 0" : "no permission"), "\(text)")
        }
        server.terminate()
        #expect(server.waitForEnd() == 0)
    }

    // MARK: Captures, over memif, which needs no root

    private func catnip(_ command: String, _ more: String...) throws -> (CommandProcess, String) {
        try server(
            [
                command, "--libos", "catnip", "--device", "memif:\(folder.file("m.sock")),role=server", "--address", "10.78.0.2/24", "--listen",
                "10.78.0.2:7", "--memory", "16",
            ] + more)
    }

    private func load(_ duration: String) throws -> CommandProcess {
        try CommandProcess([
            "bench", "echo", "--libos", "catnip", "--device", "memif:\(folder.file("m.sock")),role=client", "--address", "10.78.0.1/24", "--connect",
            "10.78.0.2:7", "--duration", duration, "--warmup", "0", "--quiet",
        ])
    }

    @Test("a capture of a running server is read by tcpdump and tshark, and the server's own as well")
    func capture() throws {
        let (own, attached) = (folder.file("own.pcapng"), folder.file("attached.pcapng"))
        let (server, number) = try catnip("echo", "--capture", own)
        let busy = try run("capture", number, "--output", attached)
        #expect(busy.status == 1 && busy.text.contains("another capture runs"), "\(busy.text)")
        #expect(access(attached, F_OK) != 0)
        let load = try load("0.3")
        #expect(load.waitForEnd() == 0)
        server.terminate()
        #expect(server.waitForEnd() == 0)
        try check(own, least: 20, snapshot: 2_000)

        let (second, secondNumber) = try catnip("echo")
        let capture = try CommandProcess(["capture", secondNumber, "--output", attached, "--snapshot", "70", "--count", "500"])
        let secondLoad = try self.load("1")
        #expect(capture.readAll().contains("500 packets in"))
        #expect(capture.waitForEnd() == 0)
        try check(attached, least: 500, snapshot: 70)
        let again = try run("capture", secondNumber, "--output", attached)
        #expect(again.status == 1 && again.text.contains("exists"), "\(again.text)")
        #expect(secondLoad.waitForEnd() == 0)
        // A process that ends ends the capture.
        let last = try CommandProcess(["capture", secondNumber, "--output", attached, "--force"])
        while try PrometheusReader(run("metrics", secondNumber).text).value("demikernel_device_capturing") == 0 {}
        second.terminate()
        #expect(last.readAll().contains("the process has ended"))
        #expect(last.waitForEnd() == 0 && second.waitForEnd() == 0)
    }

    @Test("a file that takes no more is told, and the server serves on")
    func fullFile() throws {
        let (server, number) = try catnip("echo")
        let capture = try CommandProcess(["capture", number, "--output", "/dev/full", "--force"])
        let load = try load("0.3")
        let text = capture.readAll()
        #expect(capture.waitForEnd() == 1 && text.contains("No space left on device"), "\(text)")
        #expect(load.waitForEnd() == 0)
        for (output, message) in [("/proc/none/x", "does not exist"), (folder.path, "folder")] {
            let result = try run("capture", number, "--output", output, "--force")
            #expect(result.status == 1 && result.text.contains(message), "\(result.text)")
        }
        #expect(try PrometheusReader(run("metrics", number).text).value("demikernel_device_capturing") == 0)
        server.terminate()
        #expect(server.waitForEnd() == 0)
    }

    @Test("a server without frames, or whose file exists, says so")
    func refusedCaptures() throws {
        let (server, number) = try server(["echo", "--listen", "127.0.0.1:0", "--memory", "8"])
        let file = folder.file("none.pcapng")
        let attached = try run("capture", number, "--output", file)
        #expect(attached.status == 1 && attached.text.contains("only catnip has frames"), "\(attached.text)")
        #expect(access(file, F_OK) != 0)
        server.terminate()
        #expect(server.waitForEnd() == 0)
        let own = try run("echo", "--listen", "127.0.0.1:0", "--capture", file)
        #expect(own.status == 64 && own.text.contains("--capture needs --libos catnip"), "\(own.text)")
        try write("precious", to: file)
        let existing = try run(
            "echo", "--libos", "catnip", "--device", "memif:\(folder.file("m.sock")),role=server", "--address", "10.78.0.2/24", "--capture", file)
        #expect(existing.status == 1 && existing.text.contains("exists"), "\(existing.text)")
        #expect(try read(file) == "precious")
    }

    private func check(_ path: String, least: Int, snapshot: Int) throws {
        let capture = try PcapngReader(Array(try read(path, bytes: true)))
        #expect(capture.packets.count >= least && capture.interfaces.count == 1)
        #expect(capture.packets.allSatisfy { $0.bytes.count <= snapshot && $0.bytes.count <= $0.originalByteCount })
        #expect(Set(capture.packets.map(\.direction)) == [1, 2])
        #expect(capture.interfaces[0].name.hasPrefix("memif:"))
        for (program, arguments) in [("tcpdump", "-n -r"), ("tshark", "-n -r")] where system("command -v \(program) > /dev/null") == 0 {
            let text = folder.file("text")
            #expect(system("\(program) \(arguments) \(path) > \(text) 2> \(folder.file("errors"))") == 0)
            #expect(try read(text).split(separator: "\n").count == capture.packets.count, "\(program)")
            #expect(try read(text).contains("10.78.0.1"), "\(program)")
        }
    }

    private func write(_ text: String, to path: String) throws {
        let file = try #require(fopen(path, "w"))
        fputs(text, file)
        fclose(file)
    }

    private func read(_ path: String) throws -> String { String(decoding: try read(path, bytes: true), as: UTF8.self) }

    private func read(_ path: String, bytes: Bool) throws -> [UInt8] {
        let file = try #require(fopen(path, "r"))
        defer { fclose(file) }
        var all: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 65_536)
        while case let count = fread(&piece, 1, piece.count, file), count > 0 { all += piece[..<count] }
        return all
    }
}

/// A server of some other kind: it answers its first client with a text, and closes.
private struct FakeServer {
    private let thread: OwnThread

    init(_ path: String, answer: String) throws {
        let listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: path.utf8) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(listener, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        try #require(result == 0 && listen(listener, 1) == 0)
        thread = OwnThread {
            let client = accept(listener, nil, nil)
            var request = [UInt8](repeating: 0, count: 256)
            _ = recv(client, &request, request.count, 0)
            _ = send(client, Array(answer.utf8), answer.utf8.count, Int32(MSG_NOSIGNAL))
            close(client)
            close(listener)
        }
    }

    func join() { thread.join() }
}
