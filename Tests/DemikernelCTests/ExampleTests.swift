import Foundation
import Testing

/// The C examples, compiled against the headers and the shared library as their users do it, over kernel sockets and, unchanged, over shared memory.
@Suite struct ExampleTests {
    private static func find(_ program: String) -> String? {
        let directories = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin").split(separator: ":")
        return directories.map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
    }

    @Test(.enabled(if: find("gcc") != nil, "needs gcc: apt-get install gcc libc6-dev"), arguments: [["-std=c99"], ["-x", "c++", "-std=c++17"]])
    func theExamplesCompileAndTalkToEachOther(language: [String]) throws {
        let library = Interface.products.appendingPathComponent("libDemikernelC.so").path
        try #require(FileManager.default.fileExists(atPath: library), "the shared library was not built beside the tests")
        if language.contains("c++") && ExampleTests.find("g++") == nil { return }
        let build = FileManager.default.temporaryDirectory.appendingPathComponent("c-examples-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: build, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: build) }
        let sources = Interface.root.appendingPathComponent("Examples/C").path
        for program in ["echo", "ping-pong", "push-pop"] {
            let compilation = try run(
                try #require(ExampleTests.find("gcc")),
                language + [
                    "-D_POSIX_C_SOURCE=199309L", "-Wall", "-Wextra", "-Werror", "-pedantic",
                    "-I", Interface.root.appendingPathComponent("Sources/Surfaces/CDemikernel/include").path,
                    "-o", build.appendingPathComponent(program).path, "\(sources)/\(program).c", "\(sources)/common.c", "-x", "none",
                    "-L", Interface.products.path, "-lDemikernelC", "-Wl,-rpath,\(Interface.products.path)",
                ])
            try #require(compilation.status == 0, "\(compilation.output)")
        }
        let exchange = try run("\(sources)/exchange", [build.path])
        #expect(exchange.status == 0, "\(exchange.output)")
        let lines = exchange.output.split(separator: "\n").sorted()
        #expect(
            lines == ["20 messages came back", "20 messages came back", "20 pings, 20 pongs", "20 pings, 20 pongs", "20480 bytes came", "20480 bytes came"])

        let settings = build.appendingPathComponent("demikernel.yaml")
        try "demikernel:\n  catmem_directory: \(build.path)/sockets\n".write(to: settings, atomically: true, encoding: .utf8)
        var environment = ProcessInfo.processInfo.environment
        environment.merge(["LIBOS": "catmem", "CONFIG_PATH": settings.path, "PROTOCOLS": "tcp", "LISTEN": "0.0.0.0", "ADDRESS": "10.1.2.3"]) { $1 }
        let shared = try run("\(sources)/exchange", [build.path], environment: environment)
        #expect(shared.status == 0, "\(shared.output)")
        #expect(shared.output.split(separator: "\n").sorted() == ["20 messages came back", "20 pings, 20 pongs", "20480 bytes came"])
        // The sockets stood in the directory that the settings name, and are gone with their listeners.
        #expect(try FileManager.default.contentsOfDirectory(atPath: build.appendingPathComponent("sockets").path).isEmpty)
    }
}
