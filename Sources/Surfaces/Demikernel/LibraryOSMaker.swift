import EthernetDevice
import KernelSockets
import SharedMemoryQueues
import UserNetwork

/// A library OS that a runtime is to have, with what it needs to be made.
public struct LibraryOSMaker: Sendable {
    public let name: LibraryOSName
    let make: @Sendable (RuntimeCore) throws(DemikernelError) -> LibraryOS

    /// Kernel sockets.
    public static var catnap: LibraryOSMaker {
        LibraryOSMaker(name: .catnap) { (core) throws(DemikernelError) in try KernelSockets.make(for: core) }
    }

    /// Shared memory between processes, found by a path.
    public static var catmem: LibraryOSMaker {
        LibraryOSMaker(name: .catmem) { (core) throws(DemikernelError) in try SharedMemoryQueues.make(for: core) }
    }

    /// A user-level TCP/IP stack on an Ethernet device, which is opened when the runtime is made and closed at its end.
    /// - Parameter place: among the shards of a group that share the interface, each with a queue of it.
    public static func catnip(_ interface: InterfaceConfiguration, at place: ShardGroup.Place? = nil) -> LibraryOSMaker {
        LibraryOSMaker(name: .catnip) { (core) throws(DemikernelError) in
            var device = try interface.openDevice(heap: core.heap, at: place)
            if let place, place.count > 1 { device = device.sharingControlFrames(place.mesh, shard: place.shard, lane: place.controlLane) }
            let name = place.map { $0.count > 1 ? "\(interface.device) queue \($0.shard)" : "\(interface.device)" }
            return try UserNetwork.make(
                for: core, device: device, configuration: interface.networkConfiguration(for: device, seed: core.nextRandom()),
                deviceName: name ?? "\(interface.device)")
        }
    }
}

extension Runtime {
    /// A runtime with the given library OSes; the first one serves `socket`.
    ///
    ///     let runtime = try Runtime(libraryOSes: [.catnap])
    ///     let runtime = try Runtime(libraryOSes: [.catnip(InterfaceConfiguration(device: "tap:demi0", addresses: ["10.0.0.2/24"]))])
    /// - Throws: as `init(_:)`, and what the library OS or its device needs and does not get.
    public init(
        _ configuration: RuntimeConfiguration = RuntimeConfiguration(), libraryOSes: [LibraryOSMaker]
    ) throws(DemikernelError) {
        try self.init(configuration, making: libraryOSes.map(\.make))
    }
}
