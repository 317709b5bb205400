import Demikernel
import Glibc
import Testing

/// A responder of HTTP/1.1, large enough for a client to find fault with it: whole files, and connections that stay open.
private struct WebServer {
    let body: [UInt8]

    func run(on runtime: borrowing Runtime, whenReady: () -> Void) throws(DemikernelError) {
        let listener = try runtime.socket(.ipv4, .stream)
        try runtime.bind(listener, to: .any(port: 80))
        try runtime.listen(listener, backlog: 16)
        whenReady()
        while true {
            let connection: QueueDescriptor
            do {
                connection = try runtime.wait(try runtime.accept(listener)).accepted()
            } catch {
                // The interruption that ends the server.
                return
            }
            try serve(runtime, connection)
            try runtime.close(connection)
        }
    }

    private func serve(_ runtime: borrowing Runtime, _ connection: QueueDescriptor) throws(DemikernelError) {
        var request: [UInt8] = []
        while let array = try runtime.wait(try runtime.pop(connection)).popped() {
            for index in 0..<array.segmentCount { array.withUnsafeBytes(ofSegment: index) { request += $0 } }
            guard request.count >= 4, request.suffix(4) == [13, 10, 13, 10] else { continue }
            request = []
            try send(Array("HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n".utf8), runtime, connection)
            try send(body, runtime, connection)
        }
    }

    private func send(_ bytes: [UInt8], _ runtime: borrowing Runtime, _ connection: QueueDescriptor) throws(DemikernelError) {
        var start = 0
        while start < bytes.count {
            let count = min(bytes.count - start, 16_384)
            var buffer = try runtime.allocate(count)
            buffer.withUnsafeMutableBytes { $0.copyBytes(from: bytes[start..<start + count]) }
            try runtime.wait(try runtime.push(connection, buffer)).succeeded()
            start += count
        }
    }
}

@Suite("curl", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip)) struct WebServerTests {
    @Test("curl fetches files whole, one after the other on one connection", .enabled(if: Shell.has("curl"), "needs curl"), arguments: KernelLink.Kind.allCases)
    func curl(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let body = testBytes(3_000_000)
            let server = try StackServer(link.interface) { (runtime, whenReady) throws(DemikernelError) in
                try WebServer(body: body).run(on: runtime, whenReady: whenReady)
            }
            defer { server.stop() }
            let folder = "/tmp/demikernel-curl.\(getpid()).\(kind.rawValue)"
            defer { _ = Shell.run("rm -r \(folder)") }
            try Shell.check(
                "mkdir \(folder)", "cd \(folder) && curl --silent --show-error --max-time 60 --remote-name-all http://10.0.0.2/a http://10.0.0.2/b http://10.0.0.2/c")
            for name in ["a", "b", "c"] {
                let file = try #require(fopen("\(folder)/\(name)", "re"))
                defer { fclose(file) }
                var bytes = [UInt8](repeating: 0, count: body.count + 1)
                #expect(fread(&bytes, 1, bytes.count, file) == body.count && bytes.dropLast() == body[...], "\(name) differs")
            }
            #expect(server.stop().error == nil)
        }
    }
}
