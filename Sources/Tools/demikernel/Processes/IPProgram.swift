import Glibc

/// iproute2's `ip`, run to its end.
enum IPProgram {
    /// What it printed.
    /// - Parameter arguments: words without anything that a shell would read.
    static func run(_ arguments: String) throws(CommandFailure) -> String {
        try SystemProgram(name: "ip", package: "iproute2").run(arguments)
    }

    static func succeeds(_ arguments: String) throws(CommandFailure) -> Bool {
        try SystemProgram(name: "ip", package: "iproute2").attempt(arguments).status == 0
    }
}

/// ethtool, run to its end.
enum Ethtool {
    /// - Parameter arguments: words without anything that a shell would read.
    static func run(_ arguments: String) throws(CommandFailure) {
        _ = try SystemProgram(name: "ethtool", package: "ethtool").run(arguments)
    }
}

/// A program of the system that is run to its end.
private struct SystemProgram {
    let name: String
    /// Debian's.
    let package: String

    func run(_ arguments: String) throws(CommandFailure) -> String {
        let (status, output) = try attempt(arguments)
        guard status == 0 else {
            throw CommandFailure(
                status == 127
                    ? "`\(name)` is not installed: apt-get install \(package)"
                    : "\(name) \(arguments): \(output.split(separator: "\n").joined(separator: "; "))")
        }
        return output
    }

    func attempt(_ arguments: String) throws(CommandFailure) -> (status: Int32, output: String) {
        guard let pipe = popen("PATH=$PATH:/usr/sbin:/sbin \(name) \(arguments) 2>&1 </dev/null", "re") else {
            throw CommandFailure("start \(name)", errno: errno)
        }
        var bytes: [UInt8] = []
        var piece = [UInt8](repeating: 0, count: 4096)
        while case let count = fread(&piece, 1, piece.count, pipe), count > 0 { bytes += piece[..<count] }
        let status = pclose(pipe)
        // What <sys/wait.h> calls WIFEXITED and WEXITSTATUS.
        return (status & 0x7f == 0 ? status >> 8 & 0xff : -1, String(decoding: bytes, as: UTF8.self))
    }
}
