import DatapathMemory
import Glibc
import WireFormats

/// How the interface speaks IPv6. It does so when `isEnabled` says so or `NetworkConfiguration.ipv6Addresses` has an address; it then has a link-local
/// address besides.
public struct IPv6Configuration: Sendable {
    /// Switches IPv6 on without an address of the configuration.
    public var isEnabled = false
    /// Routes beyond the link, looked up by longest prefix, before the default routers that advertise themselves.
    public var routes: [Route] = []
    /// Takes routers, on-link prefixes and addresses of one's own from router advertisements (RFC 4861 section 6.3, RFC 4862 section 5.5). Off unless
    /// switched on: whoever is on the link can send them.
    public var acceptsRouterAdvertisements = false
    /// Takes the word of the router that it sends to for a better way (RFC 4861 section 8). Off unless switched on, for the same reason; what is refused is
    /// counted as `redirectRefused`.
    public var acceptsRedirects = false
    /// Makes interface identifiers that do not tell the hardware address (RFC 7217), the same ones for the same secret and network.
    public var stableSecret: StableSecret?
    /// Neighbour solicitations for an address before it is used (DupAddrDetectTransmits of RFC 4862 section 5.1); 0 uses it at once.
    //= RFC 4862 section 5.1
    //# DupAddrDetectTransmits: The number of consecutive Neighbor Solicitation messages sent while performing Duplicate Address Detection on a tentative
    //# address. A value of zero indicates that Duplicate Address Detection is not performed on tentative addresses. Default: 1
    public var duplicateAddressDetectionTransmits = 1
    /// Nanoseconds between them, and until an address is used behind the last one (RetransTimer of RFC 4861 section 10).
    public var duplicateAddressDetectionInterval: UInt64 = 1_000_000_000

    public init() {}

    /// A way to the addresses of `destination`, over a gateway on the link.
    public struct Route: Sendable {
        public var destination: IPv6Prefix
        public var gateway: IPAddress

        public init(destination: IPv6Prefix, gateway: IPAddress) {
            self.destination = destination
            self.gateway = gateway
        }
    }

    /// 128 bits that nobody else knows.
    public struct StableSecret: Sendable {
        public var first: UInt64
        public var second: UInt64

        public init(_ first: UInt64, _ second: UInt64) {
            self.first = first
            self.second = second
        }
    }
}

extension NetworkConfiguration {
    /// Whether the interface speaks IPv6.
    var speaksIPv6: Bool { ipv6.isEnabled || !ipv6Addresses.isEmpty }

    func validateIPv6() throws(DemikernelError) {
        guard speaksIPv6 else { return }
        //= RFC 8200 section 5
        //# IPv6 requires that every link in the Internet have an MTU of 1280 octets or greater.
        guard maximumTransmissionUnit >= IPv6Header.minimumMTU else {
            throw DemikernelError(EINVAL, .initialize, "the MTU must be at least 1280 for IPv6")
        }
        // The link-local address is one more.
        guard ipv6Addresses.count < limits.maximumAddresses else {
            throw DemikernelError(EINVAL, .initialize, "there are more IPv6 addresses than NetworkLimits.maximumAddresses leaves beside the link-local one")
        }
        guard ipv6Addresses.allSatisfy({ !$0.address.isUnspecified && !$0.address.isMulticast && !$0.address.isLoopback }) else {
            throw DemikernelError(EINVAL, .initialize, "an interface's IPv6 address must be a unicast address")
        }
        guard ipv6.routes.allSatisfy({ route in route.gateway.isLinkLocal || ipv6Addresses.contains { $0.contains(route.gateway) } }) else {
            throw DemikernelError(EINVAL, .initialize, "an IPv6 gateway must be on the link: link-local, or inside one of the interface's prefixes")
        }
        guard (0...16).contains(ipv6.duplicateAddressDetectionTransmits), (1_000...10_000_000_000).contains(ipv6.duplicateAddressDetectionInterval) else {
            throw DemikernelError(EINVAL, .initialize, "duplicate address detection takes 0 to 16 transmits at 1 us to 10 s")
        }
    }
}
