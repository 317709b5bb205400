import CDatapath
import DatapathMemory
import Glibc
import QueueRuntime
import SharedMemory

/// The directory in which sockets with IP addresses stand, under their address and port: `127.0.0.1:7`, `[::1]:7`.
///
/// So programs that know no paths find each other. Every address is this machine's; who connects to one at which nobody listens comes to the socket that listens
/// at all addresses (0.0.0.0, or ::), as with TCP. The directory is the user's own, and what it holds is reached by its owner alone.
struct SocketDirectory {
    let path: String

    /// `[` and `]`, an IPv6 address of at most 39 characters, a colon, a port of five digits, and the slash in front.
    static let maximumByteCount = PathSocket.maximumPathByteCount - 48

    /// - Throws: `EINVAL` for an empty path or one with a NUL, `ENAMETOOLONG`.
    init(_ path: String) throws(DemikernelError) {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw DemikernelError(EINVAL, .initialize, "a directory's path has at least one character, and no NUL")
        }
        guard path.utf8.count <= SocketDirectory.maximumByteCount else {
            throw DemikernelError(ENAMETOOLONG, .initialize, "the path of the directory for sockets has at most 59 bytes: choose a shorter one")
        }
        self.path = path
    }

    /// Where the socket of an address stands. What IPv6 writes of an IPv4 address is that address.
    private func file(_ address: SocketAddress) -> String {
        let name = SocketAddress(family: address.family, bytes: address.bytes, port: address.port)
        return "\(path)/\(name.unmapped)"
    }

    /// Where a socket that listens at an address stands.
    /// - Throws: `EACCES` where another user could have put something there; what the kernel says of making the directory.
    func fileForListening(at address: SocketAddress) throws(DemikernelError) -> String {
        if mkdir(path, 0o700) != 0, errno != EEXIST {
            throw DemikernelError(errno, .bind, "the directory for sockets with IP addresses cannot be made: set demikernel.catmem_directory")
        }
        try check(.bind)
        return file(address)
    }

    /// Where the sockets stand that an address may lead to, the first one first.
    /// - Throws: `EACCES` as above.
    func filesForConnecting(to address: SocketAddress) throws(DemikernelError) -> [String] {
        guard access(path, F_OK) == 0 else { return [] }
        try check(.connect)
        let address = address.orLoopback.unmapped
        var files = [file(address)]
        if address.family == .ipv4 { files.append(file(.any(.ipv4, port: address.port))) }
        // A socket of IPv6 that listens at all addresses takes IPv4 as well.
        files.append(file(.any(.ipv6, port: address.port)))
        return files
    }

    /// The directory has to be one that nobody else can put a socket into: a peer that is found there is the user's own.
    private func check(_ operation: DemikernelError.Operation) throws(DemikernelError) {
        var status = stat()
        guard lstat(path, &status) == 0 else { throw DemikernelError(errno, operation, "the directory for sockets with IP addresses cannot be seen") }
        guard status.st_mode & S_IFMT == S_IFDIR, status.st_uid == geteuid() || status.st_uid == 0, status.st_mode & 0o022 == 0 else {
            throw DemikernelError(
                EACCES, operation,
                "the directory for sockets with IP addresses is not the user's own, or others may write to it: remove it, or set demikernel.catmem_directory")
        }
    }
}

/// Addresses of sockets in shared memory.
extension SocketAddress {
    /// A socket that has no address yet.
    static func unnamed(_ family: AddressFamily) -> SocketAddress { family == .path ? .unnamedPath : .any(family, port: 0) }

    /// The end of a connection that was never bound: this machine, and no port.
    static func unnamedEnd(_ family: AddressFamily) -> SocketAddress { family == .path ? .unnamedPath : .loopback(family, port: 0) }

    private var isAny: Bool { family != .path && bytes.0 == 0 && bytes.1 == 0 }

    /// What all addresses are to one connection.
    var orLoopback: SocketAddress { isAny ? .loopback(family, port: port) : self }

    /// An IPv4-mapped address (RFC 4291, section 2.5.5.2) as the one of IPv4 that it stands for.
    fileprivate var unmapped: SocketAddress {
        guard family == .ipv6, bytes.0 == 0, bytes.1 & 0xffff_ffff == 0xffff_0000 else { return self }
        return SocketAddress(family: .ipv4, bytes: (bytes.1 >> 32, 0), port: port)
    }
}

extension SharedMemoryQueuesHandle {
    static let otherFamily: StaticString = "the address is of another family than the queue, or the path is empty"

    /// The ports from which one is taken where it is left open (RFC 6335, section 6).
    private static let dynamicPorts: ClosedRange<UInt16> = 49_152...65_535

    /// Listens at an address: at its path, or at its file in the directory of IP addresses. Port 0 becomes one that is free.
    func takePath(of address: inout SocketAddress) throws(DemikernelError) -> PathSocket.Listener {
        if let path = address.path { return try PathSocket.listen(at: path, backlog: 1) }
        guard address.port == 0 else { return try PathSocket.listen(at: state.pointee.directory.fileForListening(at: address), backlog: 1) }
        let count = UInt64(SharedMemoryQueuesHandle.dynamicPorts.count)
        let first = core.nextRandom() % count
        for offset in 0..<count {
            let port = SharedMemoryQueuesHandle.dynamicPorts.lowerBound + UInt16((first + offset) % count)
            let candidate = SocketAddress(family: address.family, bytes: address.bytes, port: port)
            let file = try state.pointee.directory.fileForListening(at: candidate)
            // What stands there may be in use, or left by a process that died; there are others.
            if access(file, F_OK) == 0 { continue }
            do throws(DemikernelError) {
                let socket = try PathSocket.listen(at: file, backlog: 1)
                address = candidate
                return socket
            } catch {
                guard error.errno == EADDRINUSE else { throw error }
            }
        }
        throw DemikernelError(EADDRINUSE, .bind, "all ports from 49152 to 65535 of this address are in use")
    }

    /// Connects a unix socket to where an address leads.
    func call(_ address: SocketAddress, _ file: Int32) throws(DemikernelError) {
        if let path = address.path { return try PathSocket.connect(file, to: path) }
        for path in try state.pointee.directory.filesForConnecting(to: address) {
            do throws(DemikernelError) {
                return try PathSocket.connect(file, to: path)
            } catch {
                guard error.errno == ENOENT || error.errno == ECONNREFUSED else { throw error }
            }
        }
        throw DemikernelError(
            ECONNREFUSED, .connect, "nobody listens at this address and port in shared memory: start the server, as the same user, or mend the address")
    }
}
