import DPDKDevice
import DatapathMemory
import EthernetDevice
import Glibc
import NetworkInterface
import NetworkStack
import UserNetwork
import WireFormats
import XDPDevice

/// The network interface of a user-level stack: its device, its addresses and its ways to other networks.
public struct InterfaceConfiguration: Sendable {
    public var device: DeviceSpecification
    /// With their on-link prefixes; the first one is the default source.
    public var addresses: [IPv4Prefix]
    /// The same for IPv6, which is spoken when there is one.
    public var ipv6Addresses: [IPv6Prefix]
    /// The default gateway of each family; nil reaches what is on the link alone.
    public var gateway: IPAddress?
    public var ipv6Gateway: IPAddress?
    /// Bytes of the largest packet; nil takes the device's.
    public var maximumTransmissionUnit: Int?
    /// The stack's hardware address; nil takes the device's.
    public var macAddress: MACAddress?
    /// Neighbours that are known for good and never asked for.
    public var neighbors: [NetworkConfiguration.StaticNeighbor]

    public init(
        device: DeviceSpecification, addresses: [IPv4Prefix] = [], ipv6Addresses: [IPv6Prefix] = [], gateway: IPAddress? = nil,
        ipv6Gateway: IPAddress? = nil, maximumTransmissionUnit: Int? = nil, macAddress: MACAddress? = nil,
        neighbors: [NetworkConfiguration.StaticNeighbor] = []
    ) {
        self.device = device
        self.addresses = addresses
        self.ipv6Addresses = ipv6Addresses
        self.gateway = gateway
        self.ipv6Gateway = ipv6Gateway
        self.maximumTransmissionUnit = maximumTransmissionUnit
        self.macAddress = macAddress
        self.neighbors = neighbors
    }

    /// The same from text, as the command's settings have it.
    /// - Parameters:
    ///   - device: see `DeviceSpecification`.
    ///   - addresses: of either family with the length of the prefix, such as `10.0.0.2/24`; at least one.
    ///   - gateways: at most one of each family, on the link of an address.
    ///   - macAddress: such as `02:00:00:00:00:01`.
    ///   - neighbors: such as `10.0.0.1=02:00:00:00:00:01`.
    /// - Throws: all that is wrong with the text.
    public init(
        device: String, addresses: [String], gateways: [String] = [], maximumTransmissionUnit: Int? = nil, macAddress: String? = nil,
        neighbors: [String] = []
    ) throws(ConfigurationMistakes) {
        var mistakes: [String] = []
        var specification = DeviceSpecification.tap(.init(interface: ""))
        do throws(ConfigurationMistakes) {
            specification = try DeviceSpecification(parsing: device)
        } catch {
            mistakes += error.mistakes
        }
        self.init(device: specification, maximumTransmissionUnit: maximumTransmissionUnit)
        if addresses.isEmpty { mistakes.append("the interface needs an address, such as 10.0.0.2/24") }
        for text in addresses {
            if let prefix = IPv4Prefix(parsing: text) {
                self.addresses.append(prefix)
            } else if let prefix = IPv6Prefix(parsing: text) {
                ipv6Addresses.append(prefix)
            } else {
                mistakes.append("\"\(text)\" must be an address with the length of its prefix, such as 10.0.0.2/24 or 2001:db8::2/64")
            }
        }
        for text in gateways {
            guard let address = IPAddress(parsing: text) else {
                mistakes.append("\"\(text)\" must be the address of a gateway, such as 10.0.0.1")
                continue
            }
            if address.isIPv4 {
                if gateway != nil { mistakes.append("\(text) is a second gateway for IPv4: one can be given") }
                if !self.addresses.contains(where: { $0.contains(address) }) {
                    mistakes.append("the gateway \(text) is not on the link: it must lie in the prefix of one of the addresses")
                }
                gateway = address
            } else {
                if ipv6Gateway != nil { mistakes.append("\(text) is a second gateway for IPv6: one can be given") }
                if !address.isLinkLocal, !ipv6Addresses.contains(where: { $0.contains(address) }) {
                    mistakes.append("the gateway \(text) is not on the link: it must be link-local or lie in the prefix of one of the addresses")
                }
                ipv6Gateway = address
            }
        }
        if case .xdp(let xdp) = specification {
            if macAddress != nil { mistakes.append("an xdp device has the hardware address of its interface: leave --mac-address out") }
            if maximumTransmissionUnit != nil { mistakes.append("an xdp device has the MTU of its interface: `ip link set dev NAME mtu N`, and leave --mtu out") }
            if xdp.steering.sharesAddresses, xdp.steering.ports.isEmpty { mistakes.append("shared addresses need ports=: the others stay the kernel's") }
            if xdp.steering.sharesAddresses, neighbors.isEmpty {
                mistakes.append("with shared addresses the kernel answers for them, so that every neighbour has to be given, such as 10.0.0.1=02:00:00:00:00:01")
            }
        }
        if let macAddress {
            self.macAddress = MACAddress(parsing: macAddress)
            if self.macAddress?.isGroup ?? true { mistakes.append("\"\(macAddress)\" must be the address of one station, such as 02:00:00:00:00:01") }
        }
        for text in neighbors {
            let (address, station) = DeviceSpecification.option(text)
            if let address = IPAddress(parsing: address), let station = MACAddress(parsing: station), !station.isGroup {
                self.neighbors.append(.init(address: address, macAddress: station))
            } else {
                mistakes.append("\"\(text)\" must be a neighbour's two addresses, such as 10.0.0.1=02:00:00:00:00:01")
            }
        }
        if !mistakes.isEmpty { throw ConfigurationMistakes(mistakes) }
    }

    /// Opens the device; the caller closes it.
    /// - Parameters:
    ///   - heap: the runtime's (`RuntimeCore.heap`), which outlives the device.
    ///   - place: of the shard whose part of the interface's queues it is, the first shard before the others; nil for all of them. TAP and XDP can be
    ///     shared.
    /// - Throws: what the device needs and does not get; nothing is left behind then.
    public func openDevice(heap: DatapathHeap, at place: ShardGroup.Place? = nil) throws(DemikernelError) -> EthernetDevice {
        switch device {
        case .tap(let tap): return try tap.open(maximumTransmissionUnit, macAddress, queue: place?.shard ?? 0, of: place?.count ?? 1)
        case .memif(let memif): return try memif.open(maximumTransmissionUnit, macAddress)
        case .xdp(var xdp):
            if !xdp.steering.sharesAddresses { try refuseHostAddresses() }
            xdp.steering.ipv4Addresses += addresses.map(\.address.ipv4Raw)
            xdp.steering.ipv6Addresses += ipv6Addresses.map { .init(words: $0.address.words) }
            if let linkLocal = linkLocalAddress { xdp.steering.ipv6Addresses.append(.init(words: linkLocal.words)) }
            guard let place, place.count > 1 else { return try XDPDevice.open(xdp, heap: heap) }
            return try place.interfaces.openPart(of: xdp, place, heap: heap)
        case .dpdk(var dpdk):
            dpdk.maximumTransmissionUnit = maximumTransmissionUnit
            dpdk.macAddress = macAddress?.value
            return try DPDKDevice.open(dpdk)
        }
    }

    /// An address that the kernel has as well would be taken from it, and with it what the host itself does on the interface.
    private func refuseHostAddresses() throws(DemikernelError) {
        let host = HostAddresses()
        guard !addresses.contains(where: { host.ipv4.contains($0.address.ipv4Raw) }),
            !ipv6Addresses.contains(where: { prefix in host.ipv6.contains { $0 == prefix.address.words } })
        else {
            throw DemikernelError(
                EADDRINUSE, .initialize,
                "the kernel has an address of the stack itself: give the stack one of its own, or share it with xdp:NAME,ports=N,shared")
        }
    }

    /// On an interface that the kernel uses as well, with the same hardware address, the stack's link-local address must be another one than the kernel's,
    /// which is made from that. It is made from the stack's first address, and so always the same (RFC 4291, section 2.5.6; the universal bit is 0).
    private var linkLocalAddress: IPAddress? {
        guard case .xdp = device, let first = ipv6Addresses.first, !ipv6Addresses.contains(where: { $0.address.isLinkLocal }) else { return nil }
        var identifier = (UInt64(bigEndian: first.address.words.0) ^ UInt64(bigEndian: first.address.words.1).byteSwapped) &* 0x9e37_79b9_7f4a_7c15
        identifier ^= identifier >> 29
        return .linkLocal(identifier: identifier & ~0x0200_0000_0000_0000)
    }

    /// The stack's configuration for the open device.
    public func networkConfiguration(for device: EthernetDevice, seed: UInt64) -> NetworkConfiguration {
        var configuration = NetworkConfiguration(for: device, addresses: addresses, seed: seed)
        configuration.ipv6Addresses = ipv6Addresses
        if let linkLocalAddress { configuration.ipv6Addresses.append(IPv6Prefix(address: linkLocalAddress, length: 64)) }
        if let gateway { configuration.routes = [.init(destination: IPv4Prefix(address: .unspecifiedIPv4, length: 0), gateway: gateway)] }
        if let ipv6Gateway { configuration.ipv6.routes = [.init(destination: IPv6Prefix(address: .unspecifiedIPv6, length: 0), gateway: ipv6Gateway)] }
        if let maximumTransmissionUnit { configuration.maximumTransmissionUnit = maximumTransmissionUnit }
        configuration.staticNeighbors = neighbors
        return configuration
    }
}
