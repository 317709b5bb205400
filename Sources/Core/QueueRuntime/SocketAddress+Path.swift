import DatapathMemory
import Glibc
import Synchronization

/// Addresses that are paths: what names a unix socket, and so a queue in shared memory.
extension SocketAddress {
    /// Bytes of the longest path (unix(7)).
    public static let maximumPathByteCount = 107
    /// Paths that a process can use in its life: an address holds a path's number, and the path stays for as long as the process runs.
    public static let maximumPaths = 65_536

    /// The address of a path in the file system, as in `/run/user/1000/kv.sock`. Addresses of equal paths are equal.
    /// - Throws: `EINVAL` for an empty path or one with a NUL, `ENAMETOOLONG` beyond 107 bytes, `ENOBUFS` beyond `maximumPaths` different ones.
    public init(path: String) throws(DemikernelError) {
        guard !path.isEmpty, !path.utf8.contains(0) else { throw DemikernelError(EINVAL, .address, "a path has at least one character, and no NUL") }
        guard path.utf8.count <= SocketAddress.maximumPathByteCount else {
            throw DemikernelError(ENAMETOOLONG, .address, "the path of a socket has at most 107 bytes: choose a shorter one")
        }
        guard let number = PathTable.number(of: path) else {
            throw DemikernelError(ENOBUFS, .address, "a process can use 65536 different paths: use the same ones again")
        }
        self.init(family: .path, bytes: (number, 0), port: 0)
    }

    /// The end of a connection that was never bound to a path.
    public static var unnamedPath: SocketAddress { SocketAddress(family: .path, bytes: (0, 0), port: 0) }

    /// The path; nil for an IP address, and empty for the unnamed one.
    public var path: String? { family == .path ? PathTable.path(bytes.0) : nil }
}

/// The paths of the process's addresses, by number: an address stays a plain value that costs no reference count to copy. Peers cannot add to it.
private enum PathTable {
    private struct Paths {
        var texts = [""]
        var numbers: [String: UInt64] = [:]
    }

    private static let paths = Mutex(Paths())

    static func number(of path: String) -> UInt64? {
        paths.withLock { paths in
            if let number = paths.numbers[path] { return number }
            guard paths.texts.count <= SocketAddress.maximumPaths else { return nil }
            let number = UInt64(paths.texts.count)
            paths.texts.append(path)
            paths.numbers[path] = number
            return number
        }
    }

    static func path(_ number: UInt64) -> String {
        paths.withLock { number < UInt64($0.texts.count) ? $0.texts[Int(number)] : "" }
    }
}
