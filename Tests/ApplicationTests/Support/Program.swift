import Glibc

/// A program of the machine, run to its end.
struct Program {
    let path: String

    /// Finds it in `PATH`; nil when it is not installed.
    init?(_ name: String) {
        let directories = String(cString: getenv("PATH") ?? strdup("/usr/bin:/bin")).split(separator: ":")
        guard let directory = directories.first(where: { access("\($0)/\(name)", X_OK) == 0 }) else { return nil }
        path = "\(directory)/\(name)"
    }

    /// What a program has left.
    struct Result {
        var status: Int32 = -1
        /// What it wrote, to its output and its errors together.
        var output = ""
        /// The lines of the output; a carriage return ends one too, as progress does.
        var lines: [Substring] { output.split(whereSeparator: \.isNewline) }
    }

    /// Runs the program, gives it `input`, and waits for its end, but not for ever: after the patience it is killed.
    func run(_ arguments: [String], input: [UInt8] = [], patienceSeconds: Int = 120) throws -> Result {
        // Sockets and not pipes: to write to one whose reader has ended raises no SIGPIPE, and no other child inherits them.
        let (inputReader, inputWriter) = try Self.makeSocketPair()
        let (outputReader, outputWriter) = try Self.makeSocketPair()
        defer { close(outputReader) }
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, inputReader, STDIN_FILENO)
        posix_spawn_file_actions_adddup2(&actions, outputWriter, STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, outputWriter, STDERR_FILENO)
        let words = ([path] + arguments).map { strdup($0) }
        defer { for word in words { free(word) } }
        var process = pid_t()
        let error = posix_spawn(&process, path, &actions, nil, words + [nil], environ)
        close(inputReader)
        close(outputWriter)
        guard error == 0 else {
            close(inputWriter)
            throw ClientFailure(call: path, errno: error)
        }
        var result = Result()
        let isInTime = Self.converse(input, inputWriter, outputReader, &result, patienceSeconds)
        if !isInTime { kill(process, SIGKILL) }
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, errno == EINTR {}
        // What <sys/wait.h> calls WIFEXITED and WEXITSTATUS.
        result.status = status & 0x7f == 0 ? status >> 8 & 0xff : -(status & 0x7f)
        return result
    }

    /// Writes the input and reads the output until it ends; false when that takes too long.
    private static func converse(_ input: [UInt8], _ writer: Int32, _ reader: Int32, _ result: inout Result, _ patienceSeconds: Int) -> Bool {
        var bytes: [UInt8] = []
        defer { result.output = String(decoding: bytes, as: UTF8.self) }
        var written = 0
        var writer = writer
        func closeWriter() {
            close(writer)
            writer = -1
        }
        defer { if writer >= 0 { close(writer) } }
        var piece = [UInt8](repeating: 0, count: 65_536)
        var start = timespec()
        clock_gettime(CLOCK_MONOTONIC, &start)
        while true {
            if writer >= 0, written == input.count { closeWriter() }
            var watched = [pollfd(fd: reader, events: Int16(POLLIN), revents: 0), pollfd(fd: writer, events: Int16(POLLOUT), revents: 0)]
            poll(&watched, 2, 1_000)
            var now = timespec()
            clock_gettime(CLOCK_MONOTONIC, &now)
            if now.tv_sec - start.tv_sec > patienceSeconds { return false }
            if writer >= 0, watched[1].revents != 0 {
                let count = input[written...].withUnsafeBytes { send(writer, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT)) }
                if count > 0 { written += count } else if errno != EAGAIN { closeWriter() }
            }
            if watched[0].revents != 0 {
                let count = read(reader, &piece, piece.count)
                if count <= 0 { return true }
                bytes += piece[..<count]
            }
        }
    }

    private static func makeSocketPair() throws -> (reader: Int32, writer: Int32) {
        var ends: [Int32] = [-1, -1]
        guard socketpair(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0, &ends) == 0 else {
            throw ClientFailure(call: "socketpair", errno: errno)
        }
        return (ends[0], ends[1])
    }
}
