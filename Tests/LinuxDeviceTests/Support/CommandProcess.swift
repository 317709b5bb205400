import Glibc
import Testing

/// The command that was built with the tests, in a process of its own in the network namespace of the caller.
final class CommandProcess {
    private let process: pid_t
    private let output: UnsafeMutablePointer<FILE>
    private var hasEnded = false

    /// `.build/debug` of this package: where `swift test` builds it.
    static let path = #filePath.split(separator: "/").dropLast(4).reduce(into: "") { $0 += "/" + $1 } + "/.build/debug/demikernel"

    init(_ arguments: [String]) throws {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0, let output = fdopen(ends[0], "r") else { throw SystemFailure(call: "pipe", errno: errno) }
        defer { close(ends[1]) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDERR_FILENO)
        let words = (["demikernel"] + arguments).map { strdup($0) }
        defer { for word in words { free(word) } }
        var process = pid_t()
        let result = posix_spawn(&process, Self.path, &actions, nil, words + [nil], environ)
        guard result == 0 else {
            fclose(output)
            throw SystemFailure(call: Self.path, errno: result)
        }
        self.process = process
        self.output = output
    }

    deinit {
        kill()
        fclose(output)
    }

    /// The next line of what it prints; empty at its end.
    func readLine() -> String {
        var line: [UInt8] = []
        while case let character = getc(output), character >= 0, character != 10 { line.append(UInt8(character)) }
        return String(decoding: line, as: UTF8.self)
    }

    /// Kills it as the kernel would (SIGKILL), and returns when it is gone.
    func kill() {
        if hasEnded { return }
        hasEnded = true
        Glibc.kill(process, SIGKILL)
        waitpid(process, nil, 0)
    }
}
