import ArgumentParser
import Glibc
import Testing

@testable import DemikernelCommand

@Suite struct ServerTextTests {
    @Test func endpointsAreParsed() {
        #expect(Endpoint(parsing: "127.0.0.1:6379")?.description == "127.0.0.1:6379")
        #expect(Endpoint(parsing: "[::1]:7")?.description == "[::1]:7")
        #expect(Endpoint(parsing: "localhost:0")?.host == "127.0.0.1")
    }

    @Test(arguments: ["", ":", "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:-1", "::1:7", "[::1]", "[1.2.3.4]:7", "example.org:7", "1.2.3:4"])
    func otherTextIsNoEndpoint(text: String) {
        #expect(Endpoint(parsing: text) == nil)
    }

    @Test func theReadyLineNamesTheAddress() {
        #expect(ReadyLine.address(in: "demikernel kv: listening on 127.0.0.1:6379 (catnap)")?.port == 6379)
        #expect(ReadyLine.address(in: "demikernel kv: listening on [::1]:80 (catnap)")?.host == "::1")
        #expect(ReadyLine.address(in: "something else") == nil)
    }

    @Test func refusalsNameTheMend() throws {
        let endpoint = try #require(Endpoint(parsing: "127.0.0.1:80"))
        let inUse = ListenAdvice.message(EADDRINUSE, endpoint)
        #expect(inUse.contains("port 80") && inUse.contains("--listen 127.0.0.1:81"))
        let noPermission = ListenAdvice.message(EACCES, endpoint)
        #expect(noPermission.contains("--listen 127.0.0.1:8080") && noPermission.contains("setcap"))
        #expect(ListenAdvice.message(EADDRNOTAVAIL, endpoint).contains("ip address"))
        #expect(ListenAdvice.message(ENOMEM, endpoint).contains("127.0.0.1:80"))
        let last = try #require(Endpoint(parsing: "[::1]:65535"))
        #expect(ListenAdvice.message(EADDRINUSE, last).contains("--listen [::1]:"))
    }

    @Test func theMemoryThatIsLeftIsRead() {
        #expect(AvailableMemory.byteCount(in: "MemTotal: 9 kB\nMemAvailable:      24 kB\n") == 24 * 1024)
        #expect(AvailableMemory.byteCount(in: "nothing") == nil)
    }

    @Test func jsonTakesAFileOrNone() {
        #expect(ReportOptions.expandingJSON(["bench", "--json", "-q"]) == ["bench", "--json", "-q"])
        #expect(ReportOptions.expandingJSON(["--json=a=b", "-q"]) == ["--json-file", "a=b", "-q"])
        #expect(ReportOptions.expandingJSON(["--", "--json=a"]) == ["--", "--json=a"])
    }

    @Test(arguments: [
        ["bench", "kv", "--connect", "127.0.0.1:1", "--rate", "5", "--pipeline", "3"], ["bench", "echo", "--connect", "nowhere"],
        ["bench", "echo", "--connect", "127.0.0.1:1", "--size", "0"], ["bench", "echo", "--connect", "127.0.0.1:1", "--protocol", "udp", "--size", "65508"],
        ["bench", "kv", "--connect", "127.0.0.1:1", "--get-ratio", "1.5"], ["bench", "kv", "--connect", "127.0.0.1:1", "--pause-idle-server"],
        ["demo", "--libos", "catnpa"], ["kv", "--listen", "6379"], ["frobnicate"],
    ])
    func mistakesInArgumentsAreUsageErrors(arguments: [String]) {
        #expect { _ = try RootCommand.parseAsRoot(arguments) } throws: { RootCommand.exitCode(for: $0).rawValue == 64 }
    }

    @Test func serverAndLoadGetDifferentCores() throws {
        #expect(ProcessorPinning.processorList("0,2-4\n") == [0, 2, 3, 4])
        #expect(ProcessorPinning.processorList("x,5-1,") == [])
        #expect(ProcessorPinning.separatePair([3]) { [$0] } == nil)
        #expect(try #require(ProcessorPinning.separatePair([0, 1, 2, 3]) { _ in [0, 3] }) == (0, 2))
        #expect(try #require(ProcessorPinning.separatePair([0, 1]) { _ in [0, 1] }) == (0, 1))
    }
}
