import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import QueueRuntime
import UserNetwork
import WireFormats

/// The settings of the user-level network.
extension FileSettings {
    /// What makes the user-level network over a device.
    /// - Parameter open: opens the device, for a runtime's heap.
    /// - Throws: `EINVAL` where the settings name no address.
    func userNetwork(
        over open: @escaping (RuntimeCore) throws(DemikernelError) -> EthernetDevice
    ) throws(InitializationFailure) -> (RuntimeCore) throws(DemikernelError) -> LibraryOS {
        guard localIPv4Address != nil || localIPv6Address != nil else {
            throw InitializationFailure(EINVAL, "demikernel.local_ipv4_addr: the user-level network needs an address: set CONFIG_PATH to a file that has one")
        }
        return { (core) throws(DemikernelError) in
            let device = try open(core)
            var configuration = NetworkConfiguration(for: device, addresses: [], seed: core.nextRandom())
            apply(to: &configuration)
            return try UserNetwork.make(for: core, device: device, configuration: configuration)
        }
    }

    /// Sets what the settings say.
    func apply(to configuration: inout NetworkConfiguration) {
        if let localIPv4Address { configuration.addresses = [IPv4Prefix(address: localIPv4Address, length: localIPv4PrefixLength)] }
        if let localIPv6Address { configuration.ipv6Addresses = [IPv6Prefix(address: localIPv6Address, length: localIPv6PrefixLength)] }
        if let localLinkAddress { configuration.macAddress = localLinkAddress }
        if let gatewayIPv4Address {
            let everywhere = IPv4Prefix(address: .ipv4(0, 0, 0, 0), length: 0)
            configuration.routes = [NetworkConfiguration.Route(destination: everywhere, gateway: gatewayIPv4Address)]
        }
        // No more than the device has.
        if let maximumTransmissionUnit {
            configuration.maximumTransmissionUnit = min(maximumTransmissionUnit, configuration.maximumTransmissionUnit)
        }
        configuration.tcp.maximumSegmentSize = maximumSegmentSize
        if let noDelay = socketDefaults.noDelay { configuration.tcp.isNoDelay = noDelay }
        configuration.staticNeighbors = neighbors.map { NetworkConfiguration.StaticNeighbor(address: $0.address, macAddress: $0.macAddress) }
        if offloadsTCPChecksum == false { configuration.offloads.subtract([.receiveChecksumTCP, .transmitChecksumTCP]) }
        if offloadsUDPChecksum == false { configuration.offloads.subtract([.receiveChecksumUDP, .transmitChecksumUDP]) }
    }
}
