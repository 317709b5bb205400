import WireFormats

/// The interface's addresses and the ways to other networks: the configuration's arrays, copied once to fixed addresses, so that no packet counts
/// references. Addresses are as they lie in memory.
struct RoutingTable {
    struct InterfaceAddress {
        let address: UInt32
        /// The directed broadcast address; 255.255.255.255 where the network has none.
        let broadcast: UInt32

        init(_ prefix: IPv4Prefix) {
            address = prefix.address.ipv4Raw
            broadcast = prefix.broadcast.ipv4Raw
        }
    }

    /// A way to the addresses of one prefix.
    struct Entry {
        let network: UInt32
        //= RFC 1122 section 3.2.1.3
        //# A host MUST support the subnet extensions to IP: there will be an address mask associated with each of the host's local IP addresses.
        let mask: UInt32
        /// 0: the prefix is on the link.
        let gateway: UInt32
        /// The interface's address on the network that the packet goes to first.
        let source: UInt32
    }

    private let addresses: UnsafeMutablePointer<InterfaceAddress>
    let addressCount: Int
    /// The first of `addresses`, and often the only one.
    let primary: InterfaceAddress
    /// Longest prefix first; of two as long, the one that is on the link.
    private let entries: UnsafeMutablePointer<Entry>
    private let entryCount: Int

    init(_ configuration: NetworkConfiguration) {
        addressCount = configuration.addresses.count
        addresses = .allocate(capacity: addressCount)
        // Without an IPv4 address nothing comes from anywhere: `isPossibleSource` is false before this one counts.
        primary = InterfaceAddress(configuration.addresses.first ?? IPv4Prefix(address: .unspecifiedIPv4, length: 32))
        var sorted: [(length: UInt8, entry: Entry)] = []
        for (index, prefix) in configuration.addresses.enumerated() {
            (addresses + index).initialize(to: InterfaceAddress(prefix))
            let entry = Entry(network: prefix.network.ipv4Raw, mask: prefix.maskHostOrder.bigEndian, gateway: 0, source: prefix.address.ipv4Raw)
            sorted.append((prefix.length, entry))
        }
        for route in configuration.routes {
            guard let source = configuration.addresses.first(where: { $0.contains(route.gateway) }) else { continue }
            let entry = Entry(
                network: route.destination.network.ipv4Raw, mask: route.destination.maskHostOrder.bigEndian, gateway: route.gateway.ipv4Raw,
                source: source.address.ipv4Raw)
            sorted.append((route.destination.length, entry))
        }
        entryCount = sorted.count
        entries = .allocate(capacity: entryCount)
        var index = 0
        for length in (0...32).reversed() {
            for candidate in sorted where Int(candidate.length) == length {
                (entries + index).initialize(to: candidate.entry)
                index += 1
            }
        }
    }

    func deallocate() {
        addresses.deallocate()
        entries.deallocate()
    }

    /// Whether `address` is one of the interface's. O(number of addresses).
    @inline(__always)
    func isOwn(_ address: UInt32) -> Bool {
        for index in 0..<addressCount where addresses[index].address == address { return true }
        return false
    }

    /// Whether `address` is that of all hosts of the link, or of one of its networks. O(number of addresses).
    //= RFC 1122 section 3.3.6
    //# A host MUST recognize any of these forms in the destination address of an incoming datagram.
    @inline(__always)
    func isBroadcast(_ address: UInt32) -> Bool {
        if address == .max { return true }
        for index in 0..<addressCount where addresses[index].broadcast == address { return true }
        return false
    }

    /// Whether `address` can be that of one host somewhere: not in 0/8, 127/8, 224/4 (multicast) or 240/4 (reserved, with the limited broadcast).
    @inline(__always)
    static func isHost(_ address: UInt32) -> Bool {
        let first = address & 0xff
        return first &- 1 < 223 && first != 127
    }

    /// The entry of the longest prefix that `address` lies in. O(number of routes).
    //= RFC 1122 section 3.3.1.2
    //# if the cache contains no information for a particular destination, the IP layer MUST pick a gateway from its list of default gateways
    func entry(for address: UInt32) -> Entry? {
        for index in 0..<entryCount where (address ^ entries[index].network) & entries[index].mask == 0 { return entries[index] }
        return nil
    }

    /// The address that a neighbour sees us by: the one that shares a prefix with it, or the first. O(number of routes).
    func source(onLinkTo address: UInt32) -> UInt32 {
        for index in 0..<entryCount where entries[index].gateway == 0 && (address ^ entries[index].network) & entries[index].mask == 0 {
            return entries[index].source
        }
        return primary.address
    }

    /// Whether `address` is that of a host in one of the interface's prefixes. O(number of routes).
    func isOnLinkHost(_ address: UInt32) -> Bool {
        guard RoutingTable.isHost(address), !isBroadcast(address) else { return false }
        for index in 0..<entryCount where entries[index].gateway == 0 && (address ^ entries[index].network) & entries[index].mask == 0 { return true }
        return false
    }
}
