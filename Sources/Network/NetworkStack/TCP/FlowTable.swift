import DatapathMemory
import WireFormats

/// Finds a connection by its four addresses: open addressing over 8-byte entries, keyed with a secret so that nobody can choose collisions.
struct FlowTable {
    private struct Entry {
        var tag: UInt32
        /// 0 in an empty entry.
        var index: UInt32
    }

    private let entries: UnsafeMutablePointer<Entry>
    private let mask: Int
    private let key: (UInt64, UInt64)
    /// The connection that was found last, if it still is in the table; else `nobody`.
    var last: ConnectionPointer
    private let nobody: ConnectionPointer

    /// - Parameters:
    ///   - capacity: connections at once; the table is at most half full.
    ///   - nobody: a slot that is zeroed and stays so: no connection, and closed.
    init(capacity: Int, key: (UInt64, UInt64), nobody: ConnectionPointer) throws(DemikernelError) {
        var count = 16
        while count < 2 * capacity { count <<= 1 }
        entries = try mapTable(Entry.self, count: count)
        mask = count - 1
        self.key = key
        self.nobody = nobody
        last = nobody
    }

    func deallocate() {
        unmapTable(entries, count: mask + 1)
    }

    /// A number of the addresses that nobody without the secret can foretell.
    func hash(_ remote: IPAddress, _ local: IPAddress, _ ports: UInt32) -> UInt64 {
        if remote.isIPv4 { return hash(rawAddresses: FlowTable.rawAddresses(remote, local), ports) }
        return hash(ipv6: remote, local, ports)
    }

    @inline(__always)
    private func hash(ipv6 remote: IPAddress, _ local: IPAddress, _ ports: UInt32) -> UInt64 {
        FlowTable.mix(FlowTable.mix(remote.words.0 ^ key.0, local.words.0 ^ key.1) ^ remote.words.1, (local.words.1 &+ UInt64(ports)) ^ key.1)
    }

    @inline(__always)
    private func hash(rawAddresses: UInt64, _ ports: UInt32) -> UInt64 {
        // The ports of many connections differ in a few bits: spread over the word, they change all of the product.
        FlowTable.mix(rawAddresses ^ key.0, (UInt64(ports) &* 0x9e37_79b9_7f4a_7c15) ^ key.1)
    }

    @inline(__always)
    private static func mix(_ left: UInt64, _ right: UInt64) -> UInt64 {
        let (high, low) = left.multipliedFullWidth(by: right)
        return high ^ low
    }

    /// Both IPv4 addresses as they lie in a packet from `remote`.
    @inline(__always)
    static func rawAddresses(_ remote: IPAddress, _ local: IPAddress) -> UInt64 {
        UInt64(local.ipv4Raw) &<< 32 | UInt64(remote.ipv4Raw)
    }

    /// The connection of these addresses; 0 for none. O(1) expected.
    func find(_ remote: IPAddress, _ local: IPAddress, _ ports: UInt32, in connections: borrowing Slab<Connection>) -> UInt32 {
        if remote.isIPv4 { return find(rawAddresses: FlowTable.rawAddresses(remote, local), ports, in: connections) }
        return find(ipv6: remote, local, ports, in: connections)
    }

    /// The connection over IPv4 whose packets carry these addresses, as loaded from the packet; 0 for none. O(1) expected.
    @inline(__always)
    func find(rawAddresses: UInt64, _ ports: UInt32, in connections: borrowing Slab<Connection>) -> UInt32 {
        let hash = hash(rawAddresses: rawAddresses, ports)
        var position = Int(truncatingIfNeeded: hash) & mask
        while case let entry = entries[position], entry.index != 0 {
            if entry.tag == UInt32(truncatingIfNeeded: hash >> 32) {
                let connection = connections[entry.index]
                if connection.pointee.ports == ports && connection.pointee.rawAddresses == rawAddresses { return entry.index }
            }
            position = (position &+ 1) & mask
        }
        return 0
    }

    /// The connection over IPv6 of these addresses; 0 for none. O(1) expected.
    @inline(__always)
    func find(ipv6 remote: IPAddress, _ local: IPAddress, _ ports: UInt32, in connections: borrowing Slab<Connection>) -> UInt32 {
        let hash = hash(ipv6: remote, local, ports)
        var position = Int(truncatingIfNeeded: hash) & mask
        while case let entry = entries[position], entry.index != 0 {
            if entry.tag == UInt32(truncatingIfNeeded: hash >> 32) {
                let connection = connections[entry.index]
                if connection.pointee.ports == ports, connection.pointee.remoteAddress == remote, connection.pointee.localAddress == local {
                    return entry.index
                }
            }
            position = (position &+ 1) & mask
        }
        return 0
    }

    /// Adds a connection that is not in the table.
    func insert(_ connection: ConnectionPointer) {
        let (remote, local) = (connection.pointee.remoteAddress, connection.pointee.localAddress)
        connection.pointee.rawAddresses = remote.isIPv4 ? FlowTable.rawAddresses(remote, local) : 0
        let hash = hash(remote, local, connection.pointee.ports)
        var position = Int(truncatingIfNeeded: hash) & mask
        while entries[position].index != 0 { position = (position + 1) & mask }
        entries[position] = Entry(tag: UInt32(truncatingIfNeeded: hash >> 32), index: connection.pointee.index)
    }

    /// Takes a connection out. Entries behind it move up, so that no marks of the dead remain.
    mutating func remove(_ connection: ConnectionPointer, in connections: Slab<Connection>) {
        if last == connection { last = nobody }
        let hash = hash(connection.pointee.remoteAddress, connection.pointee.localAddress, connection.pointee.ports)
        var position = Int(truncatingIfNeeded: hash) & mask
        while entries[position].index != connection.pointee.index {
            if entries[position].index == 0 { return }
            position = (position + 1) & mask
        }
        var next = (position + 1) & mask
        while entries[next].index != 0, !DeliberateBug.isPresent(.flowChainBroken) {
            let other = connections[entries[next].index]
            let home = Int(truncatingIfNeeded: self.hash(other.pointee.remoteAddress, other.pointee.localAddress, other.pointee.ports)) & mask
            // An entry may move to the gap if its home does not lie behind it, going around.
            if (next &- home) & mask >= (next &- position) & mask {
                entries[position] = entries[next]
                position = next
            }
            next = (next + 1) & mask
        }
        entries[position] = Entry(tag: 0, index: 0)
    }
}
