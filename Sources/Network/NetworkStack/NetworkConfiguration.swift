import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// How a network stack is made: its interface, its routes and its protocols' parameters.
public struct NetworkConfiguration: Sendable {
    /// The interface's hardware address.
    public var macAddress: MACAddress
    /// The interface's IPv4 addresses with their on-link prefixes; the first one is the default source. None where it speaks IPv6 only.
    //= RFC 1122 section 3.2.2.9
    //# A host MUST support the first of the following methods for determining the address mask(s): (1) static configuration information.
    public var addresses: [IPv4Prefix]
    /// Routes beyond the link, looked up by longest prefix.
    //= RFC 1122 section 3.3.1.2
    //# The IP layer MAY also have a table of static routes.
    //= RFC 1122 section 3.3.1.6
    //# The following MUST be configurable: (1) IP address(es). (2) Address mask(s). (3) A list of default gateways. A manual method of entering this
    //# configuration data MUST be provided.
    public var routes: [Route] = []
    /// The interface's IPv6 addresses with their on-link prefixes, beside a link-local one.
    public var ipv6Addresses: [IPv6Prefix] = []
    /// Whether and how the interface speaks IPv6.
    public var ipv6 = IPv6Configuration()
    /// Takes the word of the router that it sends to for a better way over IPv4 (RFC 792, RFC 1122 section 3.2.2.2). Off unless switched on: whoever is on the
    /// link could take over the traffic. What is refused is counted as `redirectRefused`.
    public var acceptsRedirects = false
    /// Neighbours that are known for good and never asked for.
    public var staticNeighbors: [StaticNeighbor] = []
    /// Bytes of the largest IP packet on the link, at least 576.
    public var maximumTransmissionUnit = 1_500
    /// What the device computes and verifies for the stack.
    public var offloads = DeviceOffloads()
    /// The most segments of one frame that the device can gather; 1 means that every frame is copied together.
    public var maximumTransmitSegments = 8
    /// Whether the pieces of a stream are copied together into one segment, although the device could gather them.
    public var copiesStreamsTogether = false
    /// Bytes to leave free in front of a segment whose checksum the device completes.
    public var transmitHeadroomByteCount = 0
    /// Seeds everything that is random in the stack.
    public var seed: UInt64
    public var tcp = TCPConfiguration()
    public var limits = NetworkLimits()

    public init(macAddress: MACAddress, addresses: [IPv4Prefix], seed: UInt64) {
        self.macAddress = macAddress
        self.addresses = addresses
        self.seed = seed
    }

    /// A way to the addresses of `destination`, over a gateway on the link.
    public struct Route: Sendable {
        public var destination: IPv4Prefix
        public var gateway: IPAddress

        public init(destination: IPv4Prefix, gateway: IPAddress) {
            self.destination = destination
            self.gateway = gateway
        }
    }

    /// A neighbour's hardware address that is given instead of asked for.
    public struct StaticNeighbor: Sendable {
        public var address: IPAddress
        public var macAddress: MACAddress

        public init(address: IPAddress, macAddress: MACAddress) {
            self.address = address
            self.macAddress = macAddress
        }
    }

    func validate() throws(DemikernelError) {
        try validateIPv6()
        guard !addresses.isEmpty || speaksIPv6, addresses.count <= limits.maximumAddresses else {
            throw DemikernelError(EINVAL, .initialize, "a network stack needs at least one address, and no more than NetworkLimits.maximumAddresses")
        }
        guard addresses.allSatisfy({ $0.address.isIPv4 && !$0.address.isUnspecified && !$0.address.isMulticast && !$0.address.isLimitedBroadcast })
        else {
            throw DemikernelError(EINVAL, .initialize, "an interface address must be a unicast IPv4 address")
        }
        //= RFC 791 section 3.1
        //# All hosts must be prepared to accept datagrams of up to 576 octets.
        guard (576...65_535).contains(maximumTransmissionUnit) else {
            throw DemikernelError(EINVAL, .initialize, "the MTU must be between 576 and 65535")
        }
        guard !macAddress.isGroup else {
            throw DemikernelError(EINVAL, .initialize, "an interface's hardware address must not be a group address")
        }
        guard routes.allSatisfy({ route in addresses.contains { $0.contains(route.gateway) } }) else {
            throw DemikernelError(EINVAL, .initialize, "a gateway must be on the link: inside one of the interface's prefixes")
        }
        guard staticNeighbors.count <= limits.maximumNeighbors else {
            throw DemikernelError(EINVAL, .initialize, "there are more static neighbours than NetworkLimits.maximumNeighbors")
        }
        try tcp.validate()
        try limits.validate()
    }
}
