import CDatapath
import DatapathMemory
import Glibc

/// Unix sockets that are found by a path in the file system. Non-blocking, and closed on exec.
public enum PathSocket {
    public enum Kind: Sendable {
        /// `SOCK_SEQPACKET`: message boundaries are kept.
        case messages
        /// `SOCK_STREAM`.
        case stream
    }

    /// The longest path, in bytes (unix(7)).
    public static let maximumPathByteCount = 107

    /// Makes a socket.
    /// - Throws: `EMFILE` when no descriptor is left.
    public static func make(_ kind: Kind = .messages) throws(DemikernelError) -> Int32 {
        let type = Int32((kind == .messages ? SOCK_SEQPACKET : SOCK_STREAM).rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        let file = socket(AF_UNIX, type, 0)
        guard file >= 0 else { throw DemikernelError(errno, .socket, "no descriptor is left: raise the limit with ulimit -n") }
        return file
    }

    /// Connects to the socket at `path`.
    /// - Throws: `EAGAIN` while the listener's backlog is full; `ENOENT`, `ECONNREFUSED`, `EACCES`, `EPROTOTYPE`, `ENOTDIR` with their mends.
    public static func connect(_ file: Int32, to path: String) throws(DemikernelError) {
        let result = try withAddress(path, .connect) { Glibc.connect(file, $0, $1) }
        if result != 0 { throw DemikernelError(errno, .connect, connectMessage(errno)) }
    }

    private static func connectMessage(_ error: Int32) -> StaticString {
        switch error {
        case ENOENT, ENOTDIR: "there is no socket at this path: start the server, or mend the path"
        case ECONNREFUSED: "the process that made the socket is gone, or it is no socket: start the server"
        case EACCES, EPERM: "the socket at this path belongs to another user: run as that user"
        case EPROTOTYPE: "the socket at this path is of another kind: another program listens there"
        case EAGAIN: "the listener's backlog is full"
        default: ""
        }
    }

    /// A socket that listens at a path, and the file that stands for it.
    public struct Listener: Sendable {
        public let file: Int32
        public let path: String
        private let device: UInt
        private let inode: UInt

        fileprivate init(file: Int32, path: String) {
            self.file = file
            self.path = path
            var status = stat()
            let isThere = lstat(path, &status) == 0
            device = isThere ? status.st_dev : 0
            inode = isThere ? status.st_ino : 0
        }

        /// Closes the socket and removes its file, unless another one stands there now.
        public func close() {
            var status = stat()
            if lstat(path, &status) == 0, status.st_dev == device, status.st_ino == inode { unlink(path) }
            Glibc.close(file)
        }
    }

    /// Listens at `path`. The file can be reached by its owner alone (mode 0600). A socket that a process left there when it died is replaced.
    /// - Throws: `EADDRINUSE` when a process listens there, or when the file is no socket; `ENOENT`, `EACCES`, `EMFILE` with their mends.
    public static func listen(at path: String, backlog: Int32, _ kind: Kind = .messages) throws(DemikernelError) -> Listener {
        let file = try make(kind)
        do throws(DemikernelError) {
            // The kernel gives the file the mode of the socket (unix_bind), so that it is nobody else's for no moment.
            guard fchmod(file, 0o600) == 0 else { throw DemikernelError(errno, .bind) }
            try bind(file, to: path, backlog, kind)
            return Listener(file: file, path: path)
        } catch {
            Glibc.close(file)
            throw error
        }
    }

    private static func bind(_ file: Int32, to path: String, _ backlog: Int32, _ kind: Kind) throws(DemikernelError) {
        if try bindAndListen(file, path, backlog) { return }
        // From the look at the old file until the new one listens nobody else may do the same: another process would remove what was just made.
        let lock = open(folder(of: path), O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard lock >= 0 else { throw DemikernelError(errno, .bind, bindMessage(errno)) }
        defer { Glibc.close(lock) }
        guard flock(lock, LOCK_EX | LOCK_NB) == 0 else {
            throw DemikernelError(EADDRINUSE, .bind, "another process is taking over this path: choose another path, or try again")
        }
        try removeStale(path, kind)
        if try bindAndListen(file, path, backlog) { return }
        throw DemikernelError(EADDRINUSE, .bind, bindMessage(EADDRINUSE))
    }

    /// False when something stands at the path.
    private static func bindAndListen(_ file: Int32, _ path: String, _ backlog: Int32) throws(DemikernelError) -> Bool {
        let result = try withAddress(path, .bind) { Glibc.bind(file, $0, $1) }
        if result != 0 {
            if errno == EADDRINUSE { return false }
            throw DemikernelError(errno, .bind, bindMessage(errno))
        }
        guard Glibc.listen(file, backlog) == 0 else { throw DemikernelError(errno, .bind) }
        return true
    }

    /// Removes a socket that nobody listens at.
    private static func removeStale(_ path: String, _ kind: Kind) throws(DemikernelError) {
        var status = stat()
        // It may have been removed in between.
        guard lstat(path, &status) == 0 else { return }
        guard status.st_mode & S_IFMT == S_IFSOCK else {
            throw DemikernelError(EADDRINUSE, .bind, "a file that is no socket stands at this path: choose another path, or remove it")
        }
        let probe = try make(kind)
        defer { Glibc.close(probe) }
        let result = try withAddress(path, .bind) { Glibc.connect(probe, $0, $1) }
        if result == 0 || errno != ECONNREFUSED { throw DemikernelError(EADDRINUSE, .bind, bindMessage(EADDRINUSE)) }
        guard unlink(path) == 0 || errno == ENOENT else {
            throw DemikernelError(errno, .bind, "the socket that a dead process left at this path cannot be removed: remove it, or choose another path")
        }
    }

    private static func bindMessage(_ error: Int32) -> StaticString {
        switch error {
        case EADDRINUSE: "a process listens at this path: choose another path, or end that process (ss -xlp shows it)"
        case ENOENT, ENOTDIR: "the folder of this path does not exist: make it, or choose another path"
        case EACCES, EPERM: "no permission to make a socket there: choose a path in a folder of your own"
        case EROFS: "the folder of this path cannot be written: choose another path"
        default: ""
        }
    }

    private static func folder(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    private static func withAddress(
        _ path: String, _ operation: DemikernelError.Operation, _ body: (UnsafePointer<sockaddr>, socklen_t) -> Int32
    ) throws(DemikernelError) -> Int32 {
        var address = sockaddr_un()
        let length = demi_unix_address(&address, path)
        guard length > 0 else { throw DemikernelError(ENAMETOOLONG, operation, "the path of a socket has 1 to 107 bytes: choose a shorter one") }
        return withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }
}
