import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import WireFormats

/// Sends ICMP echo requests over the device of a running stack, and sees what comes back before the stack does.
///
/// The stack answers for our addresses; the probe looks up the neighbour by itself, and sends frames of its own.
final class EchoProbe {
    private let device: EthernetDevice
    private let heap: DatapathHeap
    private let source: IPAddress
    private let destination: IPAddress
    private let nextHop: IPAddress
    private let identifier: UInt16
    private let sourceStation: MACAddress
    /// The hardware address of the next hop, once it has answered.
    var nextHopStation: MACAddress?
    /// The reply that came last, until it is taken.
    private var reply: (sequence: UInt16, byteCount: Int, hops: UInt8)?

    init(_ device: EthernetDevice, heap: DatapathHeap, source: IPAddress, destination: IPAddress, nextHop: IPAddress, identifier: UInt16) {
        self.device = device
        self.heap = heap
        self.source = source
        self.destination = destination
        self.nextHop = nextHop
        self.identifier = identifier
        sourceStation = MACAddress(value: device.capabilities.macAddress)
    }

    func takeReply() -> (sequence: UInt16, byteCount: Int, hops: UInt8)? {
        defer { reply = nil }
        return reply
    }

    /// Asks for the next hop's hardware address (ARP, or neighbour discovery).
    func solicit() {
        if nextHop.isIPv4 {
            send(to: .broadcast, etherType: EtherType.arp, byteCount: ARPPacket.byteCount) { target in
                ARPPacket(
                    operation: ARPPacket.request, senderHardware: sourceStation, senderProtocol: source, targetHardware: MACAddress(value: 0),
                    targetProtocol: nextHop
                ).write(to: target)
            }
        } else {
            let group = nextHop.solicitedNode
            send(to: group.multicastMACAddress, etherType: EtherType.ipv6, byteCount: IPv6Header.byteCount + 32) { target in
                writeIPv6(target, payloadByteCount: 32, hopLimit: 255, destination: group)
                let message = target + IPv6Header.byteCount
                let count = ICMPv6Message.writeNeighborSolicitation(to: message, for: nextHop, sender: sourceStation)
                ICMPv6Message.complete(message, count: count, source: source, destination: group)
            }
        }
    }

    /// Sends one echo request; the next hop is known.
    /// - Returns: false when the device or the heap has no room.
    @discardableResult
    func request(sequence: UInt16, payloadByteCount: Int) -> Bool {
        guard let station = nextHopStation else { return false }
        let payload = (0..<payloadByteCount).map { UInt8(truncatingIfNeeded: $0) }
        if destination.isIPv4 {
            return send(to: station, etherType: EtherType.ipv4, byteCount: 28 + payloadByteCount) { target in
                IPv4Header.write(
                    to: target, totalByteCount: 28 + payloadByteCount, identification: sequence, dontFragment: true, timeToLive: 64,
                    protocolNumber: IPProtocol.icmp, source: source, destination: destination)
                payload.withUnsafeBytes { bytes in
                    // An empty array may have no address.
                    let start = bytes.baseAddress ?? UnsafeRawPointer(target)
                    _ = ICMPv4Message.writeEchoRequest(
                        to: target + 20, identifier: identifier, sequenceNumber: sequence, payload: start, payloadByteCount: payloadByteCount)
                }
            }
        }
        return send(to: station, etherType: EtherType.ipv6, byteCount: IPv6Header.byteCount + 8 + payloadByteCount) { target in
            writeIPv6(target, payloadByteCount: 8 + payloadByteCount, hopLimit: 64, destination: destination)
            let message = target + IPv6Header.byteCount
            message.storeBytes(of: UInt32(ICMPv6Type.echoRequest), as: UInt32.self)
            message.storeBytes(of: (UInt32(identifier) << 16 | UInt32(sequence)).bigEndian, toByteOffset: 4, as: UInt32.self)
            (message + 8).copyMemory(from: payload, byteCount: payloadByteCount)
            ICMPv6Message.complete(message, count: 8 + payloadByteCount, source: source, destination: destination)
        }
    }

    private func writeIPv6(_ target: UnsafeMutableRawPointer, payloadByteCount: Int, hopLimit: UInt8, destination: IPAddress) {
        IPv6Header.write(
            to: target, payloadByteCount: payloadByteCount, nextHeader: IPProtocol.icmpv6, hopLimit: hopLimit, source: source, destination: destination)
    }

    @discardableResult
    private func send(to station: MACAddress, etherType: UInt16, byteCount: Int, _ write: (UnsafeMutableRawPointer) -> Void) -> Bool {
        guard let frame = Frame.makeSegment(heap, byteCount: EthernetHeader.byteCount + byteCount, priority: .reserve) else { return false }
        EthernetHeader.write(to: frame.segmentAddress, destination: station, source: sourceStation, etherType: etherType)
        write(frame.segmentAddress + EthernetHeader.byteCount)
        if device.transmit(frame) { return true }
        frame.releaseArray()
        return false
    }

    // MARK: What comes

    /// Looks at a received frame.
    func observe(_ frame: UnsafeRawPointer, _ byteCount: Int) {
        guard let ethernet = EthernetView(frame, count: byteCount) else { return }
        switch ethernet.etherType {
        case EtherType.arp:
            guard let packet = ARPPacket(parsing: ethernet.payload, count: ethernet.payloadByteCount), packet.senderProtocol == nextHop else { return }
            nextHopStation = packet.senderHardware
        case EtherType.ipv4:
            guard IPv4View.check(ethernet.payload, count: ethernet.payloadByteCount) == .none else { return }
            let packet = IPv4View(unchecked: ethernet.payload)
            guard packet.source == destination, packet.protocolNumber == IPProtocol.icmp else { return }
            observeEcho(packet.payload, packet.payloadByteCount, ICMPv4Type.echoReply, packet.timeToLive)
        case EtherType.ipv6: observeIPv6(ethernet.payload, ethernet.payloadByteCount)
        default: break
        }
    }

    private func observeIPv6(_ packet: UnsafeRawPointer, _ byteCount: Int) {
        // Without extension headers: what answers us has none.
        guard byteCount >= 48, packet.load(fromByteOffset: 6, as: UInt8.self) == IPProtocol.icmpv6 else { return }
        let sender = IPAddress(words: (packet.loadUnaligned(fromByteOffset: 8, as: UInt64.self), packet.loadUnaligned(fromByteOffset: 16, as: UInt64.self)))
        let message = packet + 40
        if message.load(as: UInt8.self) == ICMPv6Type.neighborAdvertisement {
            guard byteCount >= 40 + 32, message.load(fromByteOffset: 24, as: UInt8.self) == 2 else { return }
            let target = IPAddress(
                words: (message.loadUnaligned(fromByteOffset: 8, as: UInt64.self), message.loadUnaligned(fromByteOffset: 16, as: UInt64.self)))
            if target == nextHop { nextHopStation = MACAddress(at: message + 26) }
        } else if sender == destination {
            observeEcho(message, byteCount - 40, ICMPv6Type.echoReply, packet.load(fromByteOffset: 7, as: UInt8.self))
        }
    }

    private func observeEcho(_ message: UnsafeRawPointer, _ byteCount: Int, _ replyType: UInt8, _ hops: UInt8) {
        guard byteCount >= 8, message.load(as: UInt8.self) == replyType,
            UInt16(bigEndian: message.loadUnaligned(fromByteOffset: 4, as: UInt16.self)) == identifier
        else { return }
        reply = (UInt16(bigEndian: message.loadUnaligned(fromByteOffset: 6, as: UInt16.self)), byteCount, hops)
    }
}
