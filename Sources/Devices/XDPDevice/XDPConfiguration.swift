/// How an AF_XDP device is opened.
public struct XDPConfiguration: Equatable, Sendable {
    /// Where in the kernel's receive path the program runs.
    public enum Mode: String, CaseIterable, Sendable {
        /// In the driver; in the generic path where the driver cannot, and the capabilities say so.
        case automatic
        /// In the driver, or not at all.
        case native
        /// In the generic path.
        case generic
    }

    /// The name of the kernel's network interface, such as "eth0".
    public var interface: String
    public var mode = Mode.automatic
    /// Which frames come to the device. All others go on to the kernel.
    public var steering = XDPSteering()
    /// What a transport checksum that holds the sum of the pseudo-header alone means; nil takes it for a right one on a veth, and in the
    /// generic path, where the kernel has verified segments before it merged them.
    ///
    /// A kernel at the other end of a veth leaves checksums to be completed by a network card, which there is none of, and nothing in the frame says so.
    public var acceptsPartialChecksums: Bool?
    /// Whether the checksums of large TCP segments are left to the kernel, where it copies frames (Linux 6.11), and so to the network card. On a veth nobody
    /// computes them then: a kernel at the other end knows that nothing was corrupted on the way, another program there may not. It also costs more than
    /// it saves there, so that it has to be asked for.
    public var offloadsChecksums = false

    public init(interface: String) {
        self.interface = interface
    }
}

/// Which frames an interface's XDP program takes from the kernel: those for the given addresses, and the ARP and neighbour discovery about them.
public struct XDPSteering: Equatable, Sendable {
    /// An IPv6 address as it lies in memory.
    public struct IPv6Address: Equatable, Sendable {
        public var words: (UInt64, UInt64)

        public init(words: (UInt64, UInt64)) {
            self.words = words
        }

        public static func == (left: IPv6Address, right: IPv6Address) -> Bool { left.words == right.words }
    }

    /// IPv4 addresses as they lie in memory, groups among them.
    public var ipv4Addresses: [UInt32] = []
    public var ipv6Addresses: [IPv6Address] = []
    /// Only these destination ports of TCP and UDP; empty takes all. Fragments and packets with IPv4 options, whose ports are not looked for, come too.
    public var ports: [ClosedRange<UInt16>] = []
    /// The kernel has the addresses as well: only TCP and UDP to `ports` are taken, and ARP, neighbour discovery, ICMP and fragments stay the kernel's.
    public var sharesAddresses = false

    /// The most addresses of each family, and the most port ranges.
    public static let maximumAddresses = 64
    public static let maximumPortRanges = 64

    public init() {}
}
