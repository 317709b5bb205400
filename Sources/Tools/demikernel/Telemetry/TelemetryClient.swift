import CDatapath
import Demikernel
import Glibc
import SharedMemory

/// A connection to the telemetry socket of a process.
final class TelemetryClient {
    let path: String
    private let socket: Int32

    /// Bytes of an answer that are believed.
    private static let maximumAnswerByteCount = 64 << 20
    /// Seconds to wait for an answer.
    private static let patience = 5

    /// - Throws: what is wrong and what mends it. A socket that a dead process has left is removed.
    init(path: String) throws(CommandFailure) {
        self.path = path
        do throws(DemikernelError) {
            socket = try PathSocket.make(.stream)
        } catch {
            throw CommandFailure("\(error)")
        }
        do throws(DemikernelError) {
            try PathSocket.connect(socket, to: path)
        } catch {
            close(socket)
            throw Self.failure(error.errno, path)
        }
        // Not before: connect(2) of a unix socket waits for room in the backlog only while it may block.
        _ = fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) & ~O_NONBLOCK)
        var time = timeval(tv_sec: Self.patience, tv_usec: 0)
        for option in [SO_RCVTIMEO, SO_SNDTIMEO] {
            setsockopt(socket, SOL_SOCKET, option, &time, socklen_t(MemoryLayout<timeval>.size))
        }
    }

    deinit {
        close(socket)
    }

    private static func failure(_ error: Int32, _ path: String) -> CommandFailure {
        switch error {
        case ENOENT, ENOTDIR: return CommandFailure("there is no socket at \(path): is the process still running?")
        case ECONNREFUSED:
            var status = stat()
            guard lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK else {
                return CommandFailure("\(path) is no socket: name the telemetry socket of a demikernel process")
            }
            let isRemoved = unlink(path) == 0
            return CommandFailure("the process that published at \(path) has ended\(isRemoved ? "; the socket that it had left was removed" : "")")
        case EACCES, EPERM:
            return CommandFailure("no permission to use \(path): the process belongs to another user; run as that user, or as root (sudo)")
        case EPROTOTYPE: return CommandFailure("\(path) is the socket of another kind of program: it is no demikernel process's telemetry")
        case EAGAIN: return CommandFailure("the process at \(path) does not take connections: it is stopped, or has too many clients")
        case ENAMETOOLONG: return CommandFailure("the path of a socket has 107 bytes at most")
        default: return CommandFailure("connect to \(path)", errno: error)
        }
    }

    // MARK: Requests

    /// The metrics of the process, in Prometheus' text exposition format.
    func metrics() throws(CommandFailure) -> String {
        let words = try ask(.metrics)
        guard let byteCount = words.first.flatMap({ Int($0) }), (0...Self.maximumAnswerByteCount).contains(byteCount) else { throw foreign }
        return String(decoding: try receive(byteCount), as: UTF8.self)
    }

    /// Has the frames of a runtime written to the connection.
    /// - Returns: a descriptor to read a pcapng file from, which lives as long as the client.
    func beginCapture(runtime: Int, snapshotByteCount: Int) throws(CommandFailure) -> Int32 {
        guard try ask(.capture(runtime: runtime, snapshotByteCount: snapshotByteCount)).first == "stream" else { throw foreign }
        return socket
    }

    /// Sends a request.
    /// - Returns: the words of the answer behind "ok".
    private func ask(_ request: TelemetryProtocol.Request) throws(CommandFailure) -> [Substring] {
        let line = Array(TelemetryProtocol.line(request).utf8)
        guard send(socket, line, line.count, Int32(MSG_NOSIGNAL)) == line.count else { throw gone(errno) }
        let answer = try receiveLine()
        let words = answer.split(separator: " ", maxSplits: 4, omittingEmptySubsequences: false)
        guard words.count >= 3, words[0] == TelemetryProtocol.name, let version = Int(words[1]) else { throw foreign }
        guard version == TelemetryProtocol.version else {
            throw CommandFailure(
                "the process at \(path) is of another version of demikernel (its telemetry has version \(version), and not \(TelemetryProtocol.version)): "
                    + "use the command of that version")
        }
        if words[2] == "ok" { return Array(words[3...]) }
        guard words[2] == "error" else { throw foreign }
        throw CommandFailure("\(path): \(words.count > 4 ? words[4] : "refused")")
    }

    /// One byte at a time: behind the line the capture begins.
    private func receiveLine() throws(CommandFailure) -> String {
        var bytes: [UInt8] = []
        while bytes.count < TelemetryProtocol.maximumLineByteCount {
            let byte = try receive(1)[0]
            if byte == UInt8(ascii: "\n") { return String(decoding: bytes, as: UTF8.self) }
            bytes.append(byte)
            // Something else that talks is told at once.
            if bytes.count <= TelemetryProtocol.name.utf8.count, byte != Array(TelemetryProtocol.name.utf8)[bytes.count - 1] { throw foreign }
        }
        throw foreign
    }

    private func receive(_ byteCount: Int) throws(CommandFailure) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: byteCount)
        var received = 0
        while received < byteCount {
            let count = bytes.withUnsafeMutableBytes { recv(socket, $0.baseAddress.unsafelyUnwrapped + received, byteCount - received, 0) }
            if count > 0 {
                received += count
            } else if count == 0 {
                throw gone(0)
            } else if errno != EINTR {
                throw gone(errno)
            }
        }
        return bytes
    }

    private var foreign: CommandFailure { CommandFailure("\(path): what answers there is no demikernel process") }

    private func gone(_ error: Int32) -> CommandFailure {
        error == EAGAIN
            ? CommandFailure("the process at \(path) does not answer: it is stopped, or what listens there is no demikernel process")
            : CommandFailure("the process at \(path) has ended")
    }
}
