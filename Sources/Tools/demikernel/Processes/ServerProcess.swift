import Glibc

/// A server of this very program, or started by its `launch`, in a process of its own. It ends with this process.
final class ServerProcess {
    let name: String
    let process: pid_t
    private(set) var endpoint: Endpoint?
    private let output: Int32
    private let errors: Int32
    /// -1 for none.
    private let input: Int32
    private var isReaped = false

    /// How long a server may take until it listens, and how long until it has stopped, in nanoseconds.
    private static let patience: UInt64 = 10_000_000_000

    /// Starts `demikernel` with `arguments`.
    ///
    /// - Parameters:
    ///   - name: what messages call it.
    ///   - command: a program and its arguments, for `launch`.
    ///   - hasInput: whether `write` is going to be called.
    init(name: String, arguments: [String], command: [String] = [], hasInput: Bool = false) throws(CommandFailure) {
        self.name = name
        let (outputReader, outputWriter) = try Self.makePipe()
        let (errorReader, errorWriter) = try Self.makePipe()
        let (inputReader, inputWriter) = hasInput ? try Self.makePipe() : (-1, -1)
        output = outputReader
        errors = errorReader
        input = inputWriter
        defer {
            close(outputWriter)
            close(errorWriter)
            if hasInput { close(inputReader) }
        }

        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if hasInput {
            posix_spawn_file_actions_adddup2(&actions, inputReader, STDIN_FILENO)
        } else {
            posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        }
        posix_spawn_file_actions_adddup2(&actions, outputWriter, STDOUT_FILENO)
        posix_spawn_file_actions_adddup2(&actions, errorWriter, STDERR_FILENO)

        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        // This process blocks its signals for the thread that takes them; the server starts with none blocked. A group of its own keeps a Ctrl-C at the
        // terminal from it: this process decides when it ends.
        var none = sigset_t()
        sigemptyset(&none)
        posix_spawnattr_setsigmask(&attributes, &none)
        posix_spawnattr_setpgroup(&attributes, 0)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP))

        let words = (["demikernel"] + arguments + ["--end-with-parent", "\(getpid())"] + (command.isEmpty ? [] : ["--"] + command)).map { strdup($0) }
        defer { for word in words { free(word) } }
        var process = pid_t()
        let result = posix_spawn(&process, "/proc/self/exe", &actions, &attributes, words + [nil], environ)
        guard result == 0 else {
            close(outputReader)
            close(errorReader)
            if hasInput { close(inputWriter) }
            throw CommandFailure("start a server process (needs /proc)", errno: result)
        }
        self.process = process
    }

    deinit {
        stop()
        close(output)
        close(errors)
        if input >= 0 { close(input) }
    }

    /// Starts another program with `arguments`, bound to a processor, tied to this process as a server of its own would be.
    ///
    /// - Parameter processor: nil for any.
    convenience init(name: String, program: String, arguments: [String], processor: Int?, hasInput: Bool = false) throws(CommandFailure) {
        try self.init(
            name: name, arguments: ["launch"] + (processor.map { ["--cpu", "\($0)"] } ?? []), command: [program] + arguments, hasInput: hasInput)
    }

    /// Waits for the ready line and returns the address in it.
    func waitUntilReady() throws(CommandFailure) -> Endpoint {
        let endpoint = try waitForOutput { (text) -> Endpoint? in
            guard text.hasSuffix("\n") else { return nil }
            return text.split(separator: "\n").lazy.compactMap { ReadyLine.address(in: String($0)) }.first
        }
        self.endpoint = endpoint
        return endpoint
    }

    /// Waits until the program has written `text`.
    func waitUntilReady(saying text: String) throws(CommandFailure) {
        _ = try waitForOutput { $0.contains(text) ? true : nil }
    }

    /// Waits until `find` finds something in what was written.
    private func waitForOutput<Result>(_ find: (String) -> Result?) throws(CommandFailure) -> Result {
        let deadline = MonotonicClock.now() + Self.patience
        var text = ""
        while MonotonicClock.now() < deadline, !Interruption.isRequested {
            guard let chunk = read(output, timeoutMilliseconds: 100) else { continue }
            guard !chunk.isEmpty else { throw failure("ended before it was ready") }
            text += chunk
            if let found = find(text) { return found }
        }
        throw failure(Interruption.isRequested ? "was stopped" : "did not get ready within \(Self.patience / 1_000_000_000) seconds")
    }

    /// Writes a line to the program's standard input.
    func write(_ line: String) throws(CommandFailure) {
        let bytes = Array((line + "\n").utf8)
        guard input >= 0, Glibc.write(input, bytes, bytes.count) == bytes.count else { throw failure("takes no more input") }
    }

    /// Reads exactly as many bytes of its standard output as there is room for.
    func read(into buffer: UnsafeMutableRawBufferPointer) throws(CommandFailure) {
        var filled = 0
        while filled < buffer.count {
            var watched = pollfd(fd: output, events: Int16(POLLIN), revents: 0)
            guard poll(&watched, 1, Int32(Self.patience / 1_000_000)) > 0 else {
                throw failure("has not answered for \(Self.patience / 1_000_000_000) seconds")
            }
            let count = Glibc.read(output, buffer.baseAddress! + filled, buffer.count - filled)
            guard count > 0 else { throw failure("ended") }
            filled += count
        }
    }

    /// Ends the server: asks first, then kills. Does nothing when it has ended.
    func stop() {
        guard !isReaped else { return }
        // A stopped process takes no SIGTERM.
        kill(process, SIGCONT)
        kill(process, SIGTERM)
        let deadline = MonotonicClock.now() + 2_000_000_000
        while MonotonicClock.now() < deadline {
            if reap() { return }
            poll(nil, 0, 5)
        }
        kill(process, SIGKILL)
        while !reap() { poll(nil, 0, 5) }
    }

    private func reap() -> Bool {
        var status: Int32 = 0
        let result = waitpid(process, &status, WNOHANG)
        isReaped = result == process || (result < 0 && errno == ECHILD)
        return isReaped
    }

    private func failure(_ what: String) -> CommandFailure {
        let reason = read(errors, timeoutMilliseconds: 200)?.split(separator: "\n").first.map { ": \($0)" } ?? ""
        return CommandFailure("the server \(name) \(what)\(reason)")
    }

    /// What can be read within the time: nil for nothing, an empty text at the end.
    private func read(_ descriptor: Int32, timeoutMilliseconds: Int32) -> String? {
        var watched = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
        guard poll(&watched, 1, timeoutMilliseconds) > 0 else { return nil }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = Glibc.read(descriptor, &buffer, buffer.count)
        return String(decoding: buffer[..<max(0, count)], as: UTF8.self)
    }

    private static func makePipe() throws(CommandFailure) -> (reader: Int32, writer: Int32) {
        var ends: [Int32] = [-1, -1]
        guard pipe(&ends) == 0 else { throw CommandFailure("pipe", errno: errno) }
        for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
        return (ends[0], ends[1])
    }
}
