/// The library OSes by the names that users type (`--libos`, `LIBOS`).
public enum LibraryOSName: String, CaseIterable, Sendable {
    /// Kernel sockets.
    case catnap
    /// Shared memory between processes, found by a path.
    case catmem
    /// A user-level TCP/IP stack on an Ethernet device.
    case catnip
}
