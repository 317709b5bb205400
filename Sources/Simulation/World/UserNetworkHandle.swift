import DatapathMemory
import EthernetDevice
import NetworkStack
import QueueRuntime
import UserNetwork

/// The library OS of a simulated host, once the host's runtime has made it.
final class UserNetworkHandle {
    private var libraryOS: LibraryOS?

    func make(for core: RuntimeCore, device: EthernetDevice, configuration: NetworkConfiguration) throws(DemikernelError) -> LibraryOS {
        let made = try UserNetwork.make(for: core, device: device, configuration: configuration)
        libraryOS = made
        return made
    }

    var nextDeadline: UInt64? { nil }
    var statistics: NetworkStatistics { NetworkStatistics() }
}
