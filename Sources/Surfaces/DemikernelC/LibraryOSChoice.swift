import DatapathMemory
import Demikernel
import Glibc
import KernelSockets
import QueueRuntime
import SharedMemoryQueues
import XDPDevice

/// The library OSes by the names that `LIBOS` may have. What this library has not is known, so that it can be told.
enum LibraryOSChoice: String, CaseIterable {
    case catnap, catnip, catpowder, catmem
    /// Another name of catmem: the original's for sockets with IP addresses over shared memory.
    case catloop
    case catmint, cattree

    /// What makes the library OS for a runtime.
    /// - Throws: `ENOTSUP` where this library cannot, `EINVAL` where the settings lack what it needs.
    func maker(_ settings: FileSettings) throws(InitializationFailure) -> (RuntimeCore) throws(DemikernelError) -> LibraryOS {
        switch self {
        case .catnap: KernelSockets.make
        case .catnip: try settings.userNetwork(on: settings.device, or: "demikernel.device: LIBOS=catnip needs a device, such as tap:demi0 or xdp:eth0")
        case .catpowder:
            try settings.userNetwork(
                on: settings.device ?? settings.interfaceName.map { .xdp(XDPConfiguration(interface: $0)) },
                or: "raw_socket.linux_interface_name: LIBOS=catpowder needs the name of an interface")
        case .catmem, .catloop:
            { (core) throws(DemikernelError) in
                try SharedMemoryQueues.make(for: core, directory: settings.sharedMemoryDirectory ?? SharedMemoryQueues.standardDirectory)
            }
        case .catmint: throw unsupported("RDMA is not part of this library yet")
        case .cattree: throw unsupported("storage is not part of this library yet")
        }
    }

    /// Whether it registers the heap's memory with a device.
    var hasDevice: Bool {
        switch self {
        case .catnap, .catmem, .catloop, .cattree: false
        case .catnip, .catpowder, .catmint: true
        }
    }

    private func unsupported(_ reason: String) -> InitializationFailure {
        InitializationFailure(ENOTSUP, "LIBOS=\(rawValue): \(reason); LIBOS=catnap works over kernel sockets")
    }

    /// The library OS that `LIBOS` names; catnap where it is not set.
    /// - Throws: `EINVAL` for any other name.
    static func named(_ name: String?) throws(InitializationFailure) -> LibraryOSChoice {
        guard let name, !name.isEmpty else { return .catnap }
        guard let choice = LibraryOSChoice(rawValue: name) else {
            throw InitializationFailure(EINVAL, "LIBOS=\(name): there is no such library OS; there are \(allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return choice
    }
}
