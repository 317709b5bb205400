import Foundation
import Testing

/// The C examples, compiled against the headers and the shared library as their users do it, over kernel sockets.
@Suite struct ExampleTests {
    private static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    /// Where the package's products lie: beside the tests.
    private static let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()

    private static func find(_ program: String) -> String? {
        let directories = (ProcessInfo.processInfo.environment["PATH"] ?? "/usr/bin").split(separator: ":")
        return directories.map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
    }

    /// Runs a program to its end.
    private static func run(_ path: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: path)
        process.arguments = arguments
        let output = Pipe()
        process.standardOutput = output
        process.standardError = output
        try process.run()
        let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, text)
    }

    @Test(.enabled(if: find("gcc") != nil, "needs gcc: apt-get install gcc libc6-dev"), arguments: [["-std=c99"], ["-x", "c++", "-std=c++17"]])
    func theExamplesCompileAndTalkToEachOther(language: [String]) throws {
        let library = ExampleTests.products.appendingPathComponent("libDemikernelC.so").path
        try #require(FileManager.default.fileExists(atPath: library), "the shared library was not built beside the tests")
        if language.contains("c++") && ExampleTests.find("g++") == nil { return }
        let build = FileManager.default.temporaryDirectory.appendingPathComponent("c-examples-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: build, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: build) }
        let sources = ExampleTests.root.appendingPathComponent("Examples/C").path
        for program in ["echo", "ping-pong", "push-pop"] {
            let compilation = try ExampleTests.run(
                try #require(ExampleTests.find("gcc")),
                language + [
                    "-D_POSIX_C_SOURCE=199309L", "-Wall", "-Wextra", "-Werror", "-pedantic",
                    "-I", ExampleTests.root.appendingPathComponent("Sources/Surfaces/CDemikernel/include").path,
                    "-o", build.appendingPathComponent(program).path, "\(sources)/\(program).c", "\(sources)/common.c", "-x", "none",
                    "-L", ExampleTests.products.path, "-lDemikernelC", "-Wl,-rpath,\(ExampleTests.products.path)",
                ])
            try #require(compilation.status == 0, "\(compilation.output)")
        }
        let exchange = try ExampleTests.run("\(sources)/exchange", [build.path])
        #expect(exchange.status == 0, "\(exchange.output)")
        let lines = exchange.output.split(separator: "\n").sorted()
        #expect(
            lines == ["20 messages came back", "20 messages came back", "20 pings, 20 pongs", "20 pings, 20 pongs", "20480 bytes came", "20480 bytes came"])
    }
}
