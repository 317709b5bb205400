import KernelSockets
import SharedMemoryQueues

/// The library OSes by the names that users type (`--libos`, `LIBOS`).
public enum LibraryOSName: String, CaseIterable, Sendable {
    /// Kernel sockets.
    case catnap
    /// Shared memory between processes, found by a path.
    case catmem

    var make: (RuntimeCore) throws(DemikernelError) -> LibraryOS {
        switch self {
        case .catnap: KernelSockets.make
        case .catmem: SharedMemoryQueues.make
        }
    }
}

extension Runtime {
    /// A runtime with the named library OSes; the first one serves `socket`.
    ///
    ///     let runtime = try Runtime(libraryOSes: [.catnap])
    /// - Throws: as `init(_:)`, and what the library OS needs and does not get.
    public init(
        _ configuration: RuntimeConfiguration = RuntimeConfiguration(), libraryOSes: [LibraryOSName]
    ) throws(DemikernelError) {
        try self.init(configuration, making: libraryOSes.map(\.make))
    }
}
