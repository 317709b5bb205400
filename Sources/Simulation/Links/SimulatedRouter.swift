import WireFormats

/// A router of IPv4 and IPv6 with a network and one host on each of its ports. It knows the hosts' hardware addresses, and answers for its own.
///
/// It speaks IPv6 with the addresses that belong to its IPv4 addresses, and advertises nothing.
///
/// What it cannot forward it drops without a word: a damaged packet, one for nobody, one that has no hop left.
public final class SimulatedRouter: SimulatedNode {
    public let name: String
    /// Packets that went on, and those that did not.
    public private(set) var forwardedPackets: UInt64 = 0
    public private(set) var droppedPackets: UInt64 = 0
    private var ends: [LinkEnd] = []

    init(_ name: String) { self.name = name }

    /// The router in the network of a host, which is a /16: the network's last address.
    public static func gateway(of host: IPAddress) -> (macAddress: MACAddress, address: IPAddress) {
        let network = host.ipv4HostOrder & 0xffff_0000
        return (MACAddress(value: 0x0200_0001_0000 | UInt64(network >> 16 & 0xff)), IPAddress(ipv4HostOrder: network | 0xfffe))
    }

    public func attach(_ end: LinkEnd) -> Int {
        ends.append(end)
        return ends.count - 1
    }

    public func receive(_ frame: SimulatedFrame, port: Int) {
        guard let host = host(at: port) else { return }
        let own = SimulatedRouter.gateway(of: host.address)
        frame.bytes.withUnsafeBytes { bytes in
            guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count) else { return }
            if ethernet.etherType == EtherType.arp, let packet = ARPPacket(parsing: ethernet.payload, count: ethernet.payloadByteCount) {
                guard packet.operation == ARPPacket.request, packet.targetProtocol == own.address else { return }
                let reply = ARPPacket(
                    operation: ARPPacket.reply, senderHardware: own.macAddress, senderProtocol: own.address, targetHardware: packet.senderHardware,
                    targetProtocol: packet.senderProtocol)
                ends[port].send(SimulatedFrame(ForgedFrame.arp(reply, from: own.macAddress, to: packet.senderHardware)).padded)
            } else if let solicitor = solicitor(ethernet, of: Simulation.ipv6Address(of: own.address)) {
                let reply = ForgedFrame.neighborAdvertisement(
                    of: Simulation.ipv6Address(of: own.address), to: solicitor, from: own.macAddress, to: ethernet.source)
                ends[port].send(SimulatedFrame(reply).padded)
            } else if ethernet.etherType == EtherType.ipv4, ethernet.destination == own.macAddress {
                forward(frame, ethernet)
            } else if ethernet.etherType == EtherType.ipv6, ethernet.destination == own.macAddress {
                forwardIPv6(frame, ethernet)
            }
        }
    }

    /// Who asks for the neighbour that has `address`; nil for any other frame.
    private func solicitor(_ ethernet: EthernetView, of address: IPAddress) -> IPAddress? {
        guard ethernet.etherType == EtherType.ipv6, let packet = PacketView(ethernet), packet.protocolNumber == IPProtocol.icmpv6, !packet.isFragment,
            let message = ICMPv6View(packet.payload, count: packet.payloadByteCount), message.type == ICMPv6Type.neighborSolicitation,
            message.isChecksumValid(source: packet.source, destination: packet.destination), message.count >= 24,
            IPAddress(ipv6At: packet.payload + 8) == address
        else { return nil }
        return packet.source
    }

    /// As `forward`, with the header of IPv6 (RFC 8200, section 3), which has no checksum.
    private func forwardIPv6(_ frame: SimulatedFrame, _ ethernet: EthernetView) {
        guard IPv6View.check(ethernet.payload, count: ethernet.payloadByteCount) == .none, case let packet = IPv6View(unchecked: ethernet.payload),
            packet.hopLimit > 1, let port = ends.indices.first(where: { host(at: $0)?.ipv6Address == packet.destination }), let host = host(at: port)
        else {
            droppedPackets += 1
            return
        }
        forwardedPackets += 1
        var forwarded = frame
        forwarded.bytes.withUnsafeMutableBytes { bytes in
            let own = SimulatedRouter.gateway(of: host.address)
            EthernetHeader.write(to: bytes.baseAddress!, destination: host.macAddress, source: own.macAddress, etherType: EtherType.ipv6)
            (bytes.baseAddress! + EthernetHeader.byteCount).storeBytes(of: packet.hopLimit - 1, toByteOffset: 7, as: UInt8.self)
        }
        ends[port].send(forwarded)
    }

    /// As RFC 1812, section 5.2, has it: the header is checked, there is one hop less to live, and the destination says where to.
    private func forward(_ frame: SimulatedFrame, _ ethernet: EthernetView) {
        guard IPv4View.check(ethernet.payload, count: ethernet.payloadByteCount) == .none, case let packet = IPv4View(unchecked: ethernet.payload),
            packet.isChecksumValid, packet.timeToLive > 1,
            let port = ends.indices.first(where: { host(at: $0)?.address == packet.destination }), let host = host(at: port)
        else {
            droppedPackets += 1
            return
        }
        forwardedPackets += 1
        let own = SimulatedRouter.gateway(of: host.address)
        var forwarded = frame
        forwarded.bytes.withUnsafeMutableBytes { bytes in
            EthernetHeader.write(to: bytes.baseAddress!, destination: host.macAddress, source: own.macAddress, etherType: EtherType.ipv4)
            let header = bytes.baseAddress! + EthernetHeader.byteCount
            header.storeBytes(of: packet.timeToLive - 1, toByteOffset: 8, as: UInt8.self)
            header.storeBytes(of: 0, toByteOffset: 10, as: UInt16.self)
            let checksum = InternetChecksum.finish(InternetChecksum.sum(header, count: packet.headerByteCount))
            header.storeBytes(of: checksum, toByteOffset: 10, as: UInt16.self)
        }
        ends[port].send(forwarded)
    }

    private func host(at port: Int) -> SimulatedHost? { ends[port].peer as? SimulatedHost }
}
