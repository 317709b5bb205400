import CLinux
import Glibc

/// Two network namespaces without names, one for clients and one for servers, and the cables (veth pairs) between them. All of it is gone with the process.
///
/// The calling thread is on the clients' side, but in `onServerSide`.
final class VirtualNetwork {
    /// One end of a cable.
    struct End {
        let interface: String
        let macAddress: String
        /// An IPv4 address of the cable's own network, which nobody has yet.
        let address: String

        var addressWithPrefix: String { "\(address)/24" }
    }

    struct Cable {
        let client: End
        let server: End
    }

    private let clientSide: Int32
    private let serverSide: Int32
    private var cableCount = 0

    /// Moves the calling thread to the clients' side.
    /// - Throws: without root, and where the kernel makes no namespaces.
    init() throws(CommandFailure) {
        guard geteuid() == 0 else { throw CommandFailure("needs root, for virtual cables and AF_XDP: run it with sudo") }
        serverSide = try Self.makeSide()
        do throws(CommandFailure) {
            clientSide = try Self.makeSide()
        } catch {
            close(serverSide)
            throw error
        }
    }

    deinit {
        close(serverSide)
        close(clientSide)
    }

    private static func makeSide() throws(CommandFailure) -> Int32 {
        guard linux_unshare_network() == 0 else { throw CommandFailure("make a network namespace", errno: errno) }
        _ = try IPProgram.run("link set dev lo up")
        let descriptor = linux_open_network_namespace()
        guard descriptor >= 0 else { throw CommandFailure("open a network namespace (needs /proc)", errno: errno) }
        return descriptor
    }

    func onServerSide<Result>(_ body: () throws(CommandFailure) -> Result) throws(CommandFailure) -> Result {
        try enter(serverSide)
        let result: Result
        do throws(CommandFailure) {
            result = try body()
        } catch {
            try enter(clientSide)
            throw error
        }
        try enter(clientSide)
        return result
    }

    private func enter(_ side: Int32) throws(CommandFailure) {
        guard linux_enter_network_namespace(side) == 0 else { throw CommandFailure("enter a network namespace", errno: errno) }
    }

    /// A new cable, both ends up.
    func makeCable() throws(CommandFailure) -> Cable {
        cableCount += 1
        let number = cableCount
        func end(_ side: Int) -> End {
            End(
                interface: "demi\(number)\(side == 1 ? "c" : "s")", macAddress: "02:00:00:00:0\(number / 10):\(number % 10)\(side)",
                address: "10.77.\(number).\(side)")
        }
        let cable = Cable(client: end(1), server: end(2))
        _ = try IPProgram.run(
            """
            link add \(cable.client.interface) address \(cable.client.macAddress) type veth peer name \(cable.server.interface) \
            address \(cable.server.macAddress) netns /proc/\(getpid())/fd/\(serverSide)
            """)
        try raise(cable.client)
        try onServerSide { () throws(CommandFailure) in try raise(cable.server) }
        return cable
    }

    /// Gives an end's address to the kernel; called on the end's side.
    func address(_ end: End) throws(CommandFailure) {
        _ = try IPProgram.run("address add \(end.addressWithPrefix) dev \(end.interface)")
    }

    /// Has the kernel at one end know the other one's hardware address, where nobody would answer for it; called on the end's side.
    func addNeighbor(_ other: End, to end: End) throws(CommandFailure) {
        _ = try IPProgram.run("neighbor replace \(other.address) lladdr \(other.macAddress) dev \(end.interface)")
    }

    /// Takes from both ends what a frame on AF_XDP has not either: segmentation, merging, and checksums that nobody computes.
    func dropOffloads(_ cable: Cable) throws(CommandFailure) {
        try Ethtool.run("-K \(cable.client.interface) tx off tso off gso off gro off")
        try onServerSide { () throws(CommandFailure) in try Ethtool.run("-K \(cable.server.interface) tx off tso off gso off gro off") }
    }

    private func raise(_ end: End) throws(CommandFailure) {
        // Without IPv6 nobody but the measurement sends.
        _ = try? IPProgram.run("link set dev \(end.interface) addrgenmode none")
        _ = try IPProgram.run("link set dev \(end.interface) up")
    }
}
