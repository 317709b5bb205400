import Foundation

/// What the repository says of the C interface.
enum Interface {
    static let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
    static let headers = root.appendingPathComponent("Sources/Surfaces/CDemikernel/include/demi")
    /// Where the package's products lie: beside the tests.
    static let products = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().deletingLastPathComponent()

    /// The promises of `abi.txt`: the words of each line.
    static func promises() throws -> [[String]] {
        let text = try String(contentsOf: root.appendingPathComponent("scripts/c-interface/abi.txt"), encoding: .utf8)
        return text.split(separator: "\n").filter { !$0.hasPrefix("#") }.map { $0.split(separator: " ").map(String.init) }
    }

    /// For each call of the headers, the names of the errors that its comment lists.
    static func documentedErrors() throws -> [String: Set<String>] {
        var errors: [String: Set<String>] = [:]
        for header in ["libos", "sga", "wait", "extra"] {
            let text = try String(contentsOf: headers.appendingPathComponent("\(header).h"), encoding: .utf8)
            var call: String?
            var isInErrors = false
            for line in text.split(separator: "\n", omittingEmptySubsequences: false) {
                if line.hasPrefix(" * demi_"), let colon = line.firstIndex(of: ":"), !line[..<colon].dropFirst(3).contains(" ") {
                    call = String(line[..<colon].dropFirst(3))
                    errors[call!] = ["ENOSYS", "EPERM", "EBUSY"]
                    isInErrors = false
                } else if line == " * Errors:" {
                    isInErrors = true
                } else if isInErrors, line.hasPrefix(" *   E"), let call {
                    errors[call]!.insert(String(line.dropFirst(5).prefix { $0 != " " }))
                } else if line == " */" {
                    isInErrors = false
                }
            }
        }
        return errors
    }
}

/// Runs a program to its end; what it writes, to its output and its errors together.
func run(_ path: String, _ arguments: [String], environment: [String: String]? = nil) throws -> (status: Int32, output: String) {
    let process = Process()
    process.executableURL = URL(fileURLWithPath: path)
    process.arguments = arguments
    if let environment { process.environment = environment }
    let output = Pipe()
    process.standardOutput = output
    process.standardError = output
    try process.run()
    let text = String(decoding: output.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self)
    process.waitUntilExit()
    return (process.terminationStatus, text)
}
