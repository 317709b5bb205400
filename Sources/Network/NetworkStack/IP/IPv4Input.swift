import DatapathMemory
import EthernetDevice
import WireFormats

extension NetworkStack {
    /// Takes over a frame of one segment whose IPv4 header starts at `offset`, and hands it to the protocol that it names.
    @inline(never)
    func ipv4Input(_ frame: Frame, at offset: Int, origin: PacketOrigin) {
        let byteCount = frame.segmentByteCount &- offset
        let header = frame.segmentAddress + offset
        //= RFC 1122 section 3.2.1.7
        //# A host MUST NOT discard a datagram just because it was received with TTL less than 2.
        guard IPv4View.check(header, count: byteCount) == .none else { return drop(frame, .badIPv4Header) }
        let packet = IPv4View(unchecked: header)
        if !frame.frameFlags.contains(.checksumVerified) && !packet.isChecksumValid { return drop(frame, .badIPv4Checksum) }
        // What is behind the packet has filled the frame up to Ethernet's 60 bytes.
        if byteCount > packet.totalByteCount && !DeliberateBug.isPresent(.paddingTakenAsData) { frame.truncate(to: offset &+ packet.totalByteCount) }

        let addresses = packet.rawAddresses
        let destination = UInt32(truncatingIfNeeded: addresses &>> 32)
        // A broadcast, or to a group.
        var isGroup = false
        if destination != state.pointee.primaryAddressRaw || origin != .unicastFrame {
            //= RFC 1122 section 3.2.1.3
            //# A host MUST silently discard an incoming datagram that is not destined for the host.
            let isMulticast = destination & 0xf0 == 0xe0
            //= RFC 1112 section 7.2
            //# Datagrams destined to any host group to which the host does not belong are discarded without generating any error report or log entry.
            guard accepts(destination, isMulticast, origin) else { return drop(frame, isMulticast ? .groupNotJoined : .notOurAddress) }
            isGroup = isMulticast || state.pointee.routing.isBroadcast(destination)
        }
        //= RFC 9293 section 3.9.2.3
        //# An incoming SYN with an invalid source address MUST be ignored either by TCP or by the IP layer (MUST-63).
        //= RFC 1122 section 4.1.3.6
        //# A UDP datagram received with an invalid IP source address (e.g., a broadcast or multicast address) MUST be discarded by UDP or by the IP layer.
        guard origin == .loopback || isPossibleSource(UInt32(truncatingIfNeeded: addresses)) || isFromSwitch(packet) else {
            return drop(frame, .badSourceAddress)
        }
        // A fragment has no transport header that could be looked at.
        if packet.isFragment {
            if let whole = ipv4FragmentInput(frame, packet) { ipv4Input(whole, at: EthernetHeader.byteCount, origin: origin) }
            return
        }
        //= RFC 9293 section 3.9.2
        //# When received options are passed up to TCP from the IP layer, a TCP implementation MUST ignore options that it does not understand (MUST-50): here
        //# none are passed up.
        if packet.headerByteCount > IPv4Header.byteCount, let reason = reasonToRefuseOptions(frame, packet) { return drop(frame, reason) }

        switch packet.protocolNumber {
        case IPProtocol.tcp:
            //= RFC 9293 section 3.9.2.3
            //# A TCP implementation MUST silently discard an incoming SYN segment that is addressed to a broadcast or multicast address (MUST-57).
            if isGroup { return drop(frame, .notOurAddress) }
            segmentInput(frame, packet)
        case IPProtocol.udp:
            if isGroup { return groupDatagramInput(frame, packet) }
            datagramInput(frame, packet.base, transport: packet.payload, byteCount: packet.payloadByteCount)
        case IPProtocol.icmp:
            controlMessageInput(frame, packet, isGroup: isGroup)
        case IPProtocol.igmp:
            groupMessageInput(frame, packet)
        default:
            //= RFC 1122 section 3.2.2.1
            //# A host SHOULD generate Destination Unreachable messages with code 2 (Protocol Unreachable), when the designated transport protocol
            //# is not supported.
            sendControlError(.protocolUnreachable, about: packet, in: frame)
            drop(frame, .unknownProtocol)
        }
    }

    /// Whether an IGMP packet may come from nobody: switches without an address query that way (RFC 4541, section 2.1.1).
    @inline(never)
    private func isFromSwitch(_ packet: IPv4View) -> Bool { packet.protocolNumber == IPProtocol.igmp && packet.source.isUnspecified }

    /// Hands a packet to TCP.
    @inline(__always)
    func segmentInput(_ frame: Frame, _ packet: IPv4View) {
        tcpInput(
            frame, transport: UnsafeMutableRawPointer(mutating: packet.payload), byteCount: packet.payloadByteCount, source: packet.source,
            destination: packet.destination,
            pseudoHeaderSum: InternetChecksum.pseudoHeader(
                rawAddresses: packet.rawAddresses, protocolNumber: IPProtocol.tcp, byteCount: packet.payloadByteCount),
            congestionCodepoint: packet.ecn)
    }

    /// Whether packets to `destination` are received, told apart from the plain case.
    @inline(never)
    private func accepts(_ destination: UInt32, _ isMulticast: Bool, _ origin: PacketOrigin) -> Bool {
        if state.pointee.routing.isOwn(destination) {
            //= RFC 1122 section 3.3.6
            //# A host SHOULD silently discard a datagram that is received via a link-layer broadcast but does not specify an IP multicast or
            //# broadcast destination address.
            return origin != .broadcastFrame
        }
        if isMulticast { return isHostMember(of: IPAddress(ipv4Raw: destination)) }
        return state.pointee.routing.isBroadcast(destination) || origin == .loopback && IPAddress(ipv4Raw: destination).isLoopback
    }

    /// Walks over the options; the sender is told where they are malformed.
    @inline(never)
    private func reasonToRefuseOptions(_ frame: Frame, _ packet: IPv4View) -> DropReason? {
        let summary = packet.options.summary()
        if summary.error != .none {
            //= RFC 1122 section 3.2.2.5
            //# A host SHOULD generate Parameter Problem messages.
            let pointer = UInt8(truncatingIfNeeded: IPv4Header.byteCount) &+ summary.errorOffset
            sendControlError(.parameterProblem(pointer: pointer), about: packet, in: frame)
            return .badIPv4Header
        }
        //= RFC 7126 section 4.3
        //# By default, packets that contain the LSRR option should be dropped: whoever chooses the way back can answer in another's name.
        //= RFC 7126 section 4.4
        //# By default, packets that contain the SSRR option should be dropped.
        return summary.hasSourceRoute ? .sourceRouted : nil
    }
}
