import DatapathMemory
import EthernetDevice
import WireFormats

extension NetworkStack {
    /// Takes over a frame of one segment whose IPv6 header starts at `offset`, and hands it to the protocol behind its extension headers.
    @inline(never)
    func ipv6Input(_ frame: Frame, at offset: Int, origin: PacketOrigin, isReassembled: Bool = false) {
        let byteCount = frame.segmentByteCount &- offset
        let header = frame.segmentAddress + offset
        guard IPv6View.check(header, count: byteCount) == .none else { return drop(frame, .badIPv6Header) }
        let packet = IPv6View(unchecked: header)
        // What is behind the packet has filled the frame up to Ethernet's 60 bytes.
        if byteCount > packet.totalByteCount { frame.truncate(to: offset &+ packet.totalByteCount) }
        let (source, destination) = (packet.source, packet.destination)
        let isMulticast = destination.isMulticast
        // An IPv4-mapped address stands for IPv4 here, and never leaves a host (RFC 4291, section 2.5.5.2).
        guard accepts(destination, isMulticast, origin) else { return drop(frame, isMulticast ? .groupNotJoined : .notOurAddress) }
        guard origin == .loopback || source.isUnspecified && !source.isIPv4 || isPossibleIPv6Source(source) else { return drop(frame, .badSourceAddress) }

        let extensions = IPv6Extensions(packet)
        guard extensions.fault == .none else { return refuse(frame, packet, extensions) }
        if let fragment = extensions.fragment {
            // A fragment of what was put together already: no sender makes one.
            if isReassembled { return drop(frame, .badIPv6Header) }
            if let whole = ipv6FragmentInput(frame, packet, fragment) {
                ipv6Input(whole, at: EthernetHeader.byteCount, origin: origin, isReassembled: true)
            }
            return
        }
        //= RFC 4291 section 2.5.2
        //# The unspecified address must not be used as the destination address of IPv6 packets or in IPv6 Routing headers. An IPv6 packet with a source
        //# address of
        //# unspecified must never be forwarded by an IPv6 router.
        guard !source.isUnspecified || extensions.nextHeader == IPProtocol.icmpv6 else { return drop(frame, .badSourceAddress) }
        let transport = header + extensions.offset
        let transportByteCount = packet.totalByteCount &- extensions.offset
        switch extensions.nextHeader {
        case IPProtocol.tcp:
            //= RFC 9293 section 3.9.2.3
            //# A TCP implementation MUST silently discard an incoming SYN segment that is addressed to a broadcast or multicast address (MUST-57).
            if isMulticast { return drop(frame, .notOurAddress) }
            tcpInput(
                frame, transport: transport, byteCount: transportByteCount, source: source, destination: destination,
                pseudoHeaderSum: InternetChecksum.pseudoHeader(
                    source: source, destination: destination, protocolNumber: IPProtocol.tcp, byteCount: transportByteCount),
                congestionCodepoint: packet.ecn)
        case IPProtocol.udp:
            guard let datagram = checkIPv6Datagram(frame, packet, transport, transportByteCount) else { return }
            if isMulticast { groupDatagramInput(frame, packet, datagram) } else { ipv6DatagramInput(frame, packet, datagram) }
        case IPProtocol.icmpv6:
            ipv6ControlMessageInput(
                frame, packet, transport: transport, byteCount: transportByteCount, isFragmented: isReassembled || extensions.hasFragmentHeader)
        //= RFC 8200 section 4.7
        //# The value 59 in the Next Header field of an IPv6 header or any extension header indicates that there is nothing following that header.
        case IPv6ExtensionType.noNextHeader: drop(frame, .unknownProtocol)
        default:
            //= RFC 8200 section 4
            //# If, as a result of processing a header, the destination node is required to proceed to the next header but the Next Header value in the current
            //# header is unrecognized by the node, it should discard the packet and send an ICMP Parameter Problem message to the source of the packet, with an
            //# ICMP Code value of 1 ("unrecognized Next Header type encountered")
            sendIPv6Error(.parameterProblem(code: 1, pointer: UInt32(truncatingIfNeeded: extensions.nextHeaderOffset)), about: packet, in: frame)
            drop(frame, .unknownProtocol)
        }
    }

    /// Whether packets to `destination` are received.
    private func accepts(_ destination: IPAddress, _ isMulticast: Bool, _ origin: PacketOrigin) -> Bool {
        if destination.isIPv4 { return false }
        if isMulticast { return isHostMember(of: destination) }
        if origin == .loopback && destination.isLoopback { return true }
        //= RFC 4862 section 5.4
        //# An address on which the Duplicate Address Detection procedure is applied is said to be tentative until the procedure has completed successfully. A
        //# tentative address is not considered "assigned to an interface" in the traditional sense. That is, the interface must accept Neighbor Solicitation
        //# and
        //# Advertisement messages containing the tentative address in the Target Address field, but processes such packets differently
        return state.pointee.ipv6.isAssigned(destination) && origin != .broadcastFrame
    }

    /// Drops a packet whose extension headers lead nowhere, and tells its sender where they ask for that.
    private func refuse(_ frame: Frame, _ packet: IPv6View, _ extensions: IPv6Extensions) {
        let pointer = UInt32(truncatingIfNeeded: extensions.faultOffset)
        switch extensions.fault {
        case .none, .discard: break
        case .erroneousField: sendIPv6Error(.parameterProblem(code: 0, pointer: pointer), about: packet, in: frame)
        case .unrecognizedNextHeader: sendIPv6Error(.parameterProblem(code: 1, pointer: pointer), about: packet, in: frame)
        case .unrecognizedOption: sendIPv6Error(.parameterProblem(code: 2, pointer: pointer), about: packet, in: frame)
        case .unrecognizedOptionUnlessMulticast:
            if !packet.destination.isMulticast { sendIPv6Error(.parameterProblem(code: 2, pointer: pointer), about: packet, in: frame) }
        }
        drop(frame, .badIPv6Header)
    }
}
