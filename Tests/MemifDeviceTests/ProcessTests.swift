import CommandProcess
import Demikernel
import Glibc
import Testing

/// TCP between two processes: the user-level stack at both ends of a memif link.
@Suite(.serialized) struct ProcessTests {
    let path = SocketPath()

    private static let generous = Duration.seconds(20)

    private func server(_ command: String, role: String) throws -> CommandProcess {
        let server = try CommandProcess([
            command, "--libos", "catnip", "--device", "memif:\(path.text),role=\(role)", "--address", "10.77.0.2/24", "--listen", "10.77.0.2:7",
        ])
        #expect(server.waitForLine(containing: "(catnip on memif:\(path.text),role=\(role))"))
        return server
    }

    private func runtime(role: String) throws -> Runtime {
        var configuration = RuntimeConfiguration()
        configuration.memory.arenaByteCount = 16 << 20
        configuration.limits.maximumQueues = 256
        let interface = try InterfaceConfiguration(device: "memif:\(path.text),role=\(role)", addresses: ["10.77.0.1/24"])
        return try Runtime(configuration, libraryOSes: [.catnip(interface)])
    }

    private func connect(_ runtime: borrowing Runtime) throws -> QueueDescriptor {
        let queue = try runtime.socket(.ipv4, .stream)
        let completion = try runtime.wait(runtime.connect(queue, to: .ipv4(10, 77, 0, 2, port: 7)), timeout: Self.generous)
        if case .failed(let error, _) = consume completion.result { throw error }
        return queue
    }

    /// Sends and takes back; false when the connection fails on the way.
    private func echo(_ runtime: borrowing Runtime, _ queue: QueueDescriptor, _ bytes: [UInt8]) throws -> Bool {
        _ = try runtime.wait(runtime.push(queue, runtime.allocate(copying: bytes.span)), timeout: Self.generous)
        var back: [UInt8] = []
        while back.count < bytes.count {
            let completion = try runtime.wait(runtime.pop(queue), timeout: Self.generous)
            guard case .popped(let array, _) = consume completion.result else { return false }
            for segment in 0..<array.segmentCount { back += array.withUnsafeBytes(ofSegment: segment) { Array($0) } }
        }
        #expect(back == bytes)
        return true
    }

    @Test(arguments: ["server", "client"]) func bytesGoToAnotherProcessAndBack(role: String) throws {
        // Either comes first: a client finds its server when it is there.
        let server = try server("echo", role: role)
        defer { server.kill() }
        let runtime = try runtime(role: role == "server" ? "client" : "server")
        let queue = try connect(runtime)
        for round in 0..<100 { #expect(try echo(runtime, queue, pattern(1 + round * 97 % 5_000, seed: round))) }
    }

    @Test func aKilledServerComesBack() throws {
        let runtime = try runtime(role: "client")
        for round in 0..<3 {
            let server = try server("echo", role: "server")
            let queue = try connect(runtime)
            #expect(try echo(runtime, queue, pattern(300, seed: round)))
            try runtime.setOption(.linger(seconds: 0), on: queue)
            server.kill()
            try runtime.close(queue)
        }
    }

    @Test func theKeyValueServerAnswers() throws {
        let server = try server("kv", role: "server")
        defer { server.kill() }
        let runtime = try runtime(role: "client")
        let queue = try connect(runtime)
        func ask(_ request: String) throws -> String {
            _ = try runtime.wait(runtime.push(queue, runtime.allocate(copying: Array(request.utf8).span)), timeout: Self.generous)
            let completion = try runtime.wait(runtime.pop(queue), timeout: Self.generous)
            guard case .popped(let array, _) = consume completion.result else { return "" }
            return array.withUnsafeBytes(ofSegment: 0) { String(decoding: $0, as: UTF8.self) }
        }
        #expect(try ask("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$5\r\nhello\r\n") == "+OK\r\n")
        #expect(try ask("*2\r\n$3\r\nGET\r\n$1\r\nk\r\n") == "$5\r\nhello\r\n")
    }

    @Test func mistakesInADeviceAreTold() {
        for (text, part) in [
            ("memif:", "path"), ("memif:/run/x.sock,role=master", "role=server or role=client"), ("memif:/run/x.sock,id=x", "number"),
            ("memif:/run/x.sock,colour=red", "no option"), ("memif:/run/x.sock,secret=\(String(repeating: "s", count: 25))", "24 bytes"),
        ] {
            let error = #expect(throws: ConfigurationMistakes.self) { _ = try DeviceSpecification(parsing: text) }
            #expect(error?.description.contains(part) == true, "\(text)")
        }
        #expect((try? DeviceSpecification(parsing: "memif:/run/x.sock,role=server,id=3"))?.description == "memif:/run/x.sock,role=server,id=3")
    }
}
