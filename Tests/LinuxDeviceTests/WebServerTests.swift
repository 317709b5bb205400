import Demikernel
import Glibc
import Testing

/// A responder of HTTP/1.1, large enough for a client to find fault with it: whole files, and connections that stay open.
private struct WebServer {
    let body: [UInt8]

    func run(on runtime: borrowing Runtime, whenReady: () -> Void) throws(DemikernelError) {
        let listener = try runtime.socket(.ipv6, .stream)
        try runtime.bind(listener, to: .any(.ipv6, port: 80))
        try runtime.listen(listener, backlog: 256)
        whenReady()
        let response = Array("HTTP/1.1 200 OK\r\nContent-Length: \(body.count)\r\n\r\n".utf8) + body
        while true {
            let connection: QueueDescriptor
            do {
                connection = try runtime.wait(try runtime.accept(listener)).accepted()
            } catch {
                // The interruption that ends the server.
                return
            }
            try runtime.spawn { runtime in
                var conversation = StreamConversation(connection)
                do throws(DemikernelError) {
                    while try conversation.read(through: [13, 10, 13, 10], runtime) != nil { try conversation.write(response, runtime) }
                } catch {
                    // The client has gone.
                }
                try? runtime.close(connection)
            }
        }
    }
}

@Suite("Web clients", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip)) struct WebServerTests {
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

    @Test("wrk keeps sixteen connections busy, and finds no fault", .enabled(if: Shell.has("wrk"), "needs wrk"), arguments: KernelLink.Kind.allCases)
    func wrk(_ kind: KernelLink.Kind) throws {
        try inNetworkNamespace {
            let link = try KernelLink(kind)
            let server = try StackServer(link.interface) { (runtime, whenReady) throws(DemikernelError) in
                try WebServer(body: testBytes(1_000)).run(on: runtime, whenReady: whenReady)
            }
            defer { server.stop() }
            for address in ["10.0.0.2", "[2001:db8::2]"] {
                let result = Shell.run("wrk --threads 1 --connections 16 --duration 1 --timeout 60 http://\(address)/")
                #expect(result.status == 0 && result.output.contains("requests in"), "\(result.output)")
                // "Socket errors" and "Non-2xx or 3xx responses" are told where there were some.
                #expect(!result.output.contains("errors") && !result.output.contains("Non-2xx"), "\(result.output)")
            }
            #expect(server.stop().error == nil)
        }
    }
}
