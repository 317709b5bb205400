import Demikernel
import Glibc

/// Which process a command is about: by its number, by its socket's path, or the only one that there is.
enum TelemetryTarget {
    /// A process that publishes.
    struct Process: Equatable {
        var identifier: pid_t
        var path: String
    }

    /// The socket that the user means.
    /// - Parameter text: a number, a path, or nil for the only process.
    static func path(_ text: String?, command: String) throws(CommandFailure) -> String {
        guard let text else { return try onlyProcess(command).path }
        if text.contains("/") { return text }
        guard let process = pid_t(text), process > 0 else {
            throw CommandFailure(
                "\"\(text)\" must be the number of a process or the path of its telemetry socket, such as 1234 or /run/user/1000/demikernel/1234.sock"
            )
        }
        return try path(of: process)
    }

    /// The processes of this user, by their numbers. Sockets of dead ones are removed.
    static func running() -> [Process] {
        var found: [Process] = []
        for folder in TelemetryFolder.candidates() where TelemetryFolder.isPrivate(folder) {
            for name in names(in: folder) {
                guard name.hasSuffix(".sock"), let identifier = pid_t(name.dropLast(5)) else { continue }
                let process = Process(identifier: identifier, path: "\(folder)/\(name)")
                // A number can have been given to another process since: only a connect tells, and clears up.
                if (try? TelemetryClient(path: process.path)) != nil { found.append(process) }
            }
        }
        return found.sorted { $0.identifier < $1.identifier }
    }

    private static func onlyProcess(_ command: String) throws(CommandFailure) -> Process {
        let processes = running()
        if processes.count == 1 { return processes[0] }
        guard !processes.isEmpty else {
            let others = geteuid() == 0 ? "" : " Processes of other users: sudo demikernel \(command) PID."
            throw CommandFailure("no process of this user publishes telemetry: start a server, such as `demikernel kv`.\(others)")
        }
        let lines = processes.map { "  demikernel \(command) \($0.identifier)   \(commandLine(of: $0.identifier))" }
        throw CommandFailure("several processes publish telemetry; name one of them:\n\(lines.joined(separator: "\n"))")
    }

    private static func path(of process: pid_t) throws(CommandFailure) -> String {
        let owner = owner(of: process)
        var folders = TelemetryFolder.candidates()
        if let owner, owner != geteuid() { folders = TelemetryFolder.candidates(ofUser: owner) + folders }
        for folder in folders {
            let path = TelemetryFolder.socketPath(in: folder, process: process)
            if access(path, F_OK) == 0 { return path }
        }
        guard let owner else { throw CommandFailure("there is no process \(process)") }
        if owner != geteuid(), geteuid() != 0 {
            throw CommandFailure("process \(process) (\(commandLine(of: process))) belongs to user \(owner): run as that user, or as root (sudo)")
        }
        throw CommandFailure(
            "process \(process) (\(commandLine(of: process))) publishes no telemetry: servers of the demikernel command do, and programs that call publishTelemetry"
        )
    }

    private static func owner(of process: pid_t) -> uid_t? {
        var status = stat()
        return stat("/proc/\(process)", &status) == 0 ? status.st_uid : nil
    }

    /// "demikernel kv --listen …", 60 letters of it.
    private static func commandLine(of process: pid_t) -> String {
        let words = (StandardStreams.readFile("/proc/\(process)/cmdline") ?? "").split(separator: "\0").joined(separator: " ")
        let printable = String(words.map { $0.isASCII && ($0.asciiValue ?? 0) >= 32 ? $0 : "?" })
        return printable.count > 60 ? printable.prefix(59) + "…" : printable
    }

    private static func names(in folder: String) -> [String] {
        guard let stream = opendir(folder) else { return [] }
        defer { closedir(stream) }
        var names: [String] = []
        while let entry = readdir(stream) {
            names.append(withUnsafeBytes(of: &entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) })
        }
        return names
    }
}
