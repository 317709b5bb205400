import Glibc

/// The `demikernel` command in a process of its own, for tests of two processes. A target that uses it depends on `DemikernelCommand`, so that there is one.
public final class CommandProcess {
    private let process: pid_t
    /// The number of the process.
    public var identifier: pid_t { process }
    private let output: Int32
    private var text = ""
    private var status: Int32?

    /// The command stands beside the bundle of the tests.
    public static let path: String = {
        let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
        let folder = bundle.lastIndex(of: "/").map { String(bundle[..<$0]) } ?? "."
        return "\(folder)/demikernel"
    }()

    public struct StartFailure: Error {
        public let path: String
        public let errno: Int32
    }

    public init(_ arguments: [String]) throws {
        var ends: [Int32] = [-1, -1]
        // A pair of sockets and not a pipe: closed on exec from the start, so that no other child holds its end.
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw StartFailure(path: "socketpair", errno: errno)
        }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)
        let words = (["demikernel"] + arguments).map { strdup($0) }
        defer { for word in words { free(word) } }
        var process = pid_t()
        let error = posix_spawn(&process, Self.path, &actions, nil, words + [nil], environ)
        close(ends[1])
        guard error == 0 else {
            close(ends[0])
            throw StartFailure(path: Self.path, errno: error)
        }
        self.process = process
        output = ends[0]
    }

    deinit {
        kill()
        close(output)
    }

    /// Reads until a line says `text`; false when the process ends before, or after twenty seconds.
    public func waitForLine(containing text: String) -> Bool {
        while !self.text.contains(text) {
            var watched = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            guard poll(&watched, 1, 20_000) > 0 else { return false }
            var bytes = [UInt8](repeating: 0, count: 4_096)
            let count = read(output, &bytes, bytes.count)
            guard count > 0 else { return false }
            self.text += String(decoding: bytes[..<count], as: UTF8.self)
        }
        return true
    }

    /// Reads until the process closes its output, as it does when it ends.
    /// - Returns: all that it has said.
    public func readAll() -> String {
        var bytes = [UInt8](repeating: 0, count: 65_536)
        while case let count = read(output, &bytes, bytes.count), count > 0 { text += String(decoding: bytes[..<count], as: UTF8.self) }
        return text
    }

    /// Ends the process at once, as a crash does, and waits until it is gone.
    public func kill() {
        guard status == nil else { return }
        Glibc.kill(process, SIGKILL)
        _ = waitForEnd()
    }

    /// Asks the process to end.
    public func terminate() {
        Glibc.kill(process, SIGTERM)
    }

    /// The exit status; negative for a signal.
    public func waitForEnd() -> Int32 {
        if let status { return status }
        var word: Int32 = 0
        while waitpid(process, &word, 0) < 0, errno == EINTR {}
        let result = word & 0x7f == 0 ? word >> 8 & 0xff : -(word & 0x7f)
        status = result
        return result
    }
}
