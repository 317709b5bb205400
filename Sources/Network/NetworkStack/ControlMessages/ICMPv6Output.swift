import DatapathMemory
import EthernetDevice
import WireFormats

/// The errors that this host tells senders of IPv6 packets.
enum OutgoingIPv6Error {
    case portUnreachable
    /// Where in the packet the fault lies.
    case parameterProblem(code: UInt8, pointer: UInt32)
    /// The rest of a packet whose first fragment this is has not come.
    case reassemblyTimeExceeded
}

extension NetworkStack {
    /// Tells the sender of `packet`, which lies in `frame` behind its whole Ethernet header, what was wrong with it; unless there are reasons not to.
    /// The frame stays the caller's.
    func sendIPv6Error(_ error: OutgoingIPv6Error, about packet: IPv6View, in frame: Frame) {
        guard mayBeAnswered(packet, in: frame, error), let decision = route(to: packet.source) else { return }
        //= RFC 4443 section 2.4
        //# an IPv6 node MUST limit the rate of ICMPv6 error messages it originates
        guard state.pointee.errorBucket.take(now: state.pointee.now) else { return countUnsent(.controlMessageRateLimited) }
        let headerByteCount = EthernetHeader.byteCount + IPv6Header.byteCount
        let byteCount = ICMPv6Message.errorByteCount(quoting: packet)
        guard !state.pointee.output.pointee.isFull,
            let message = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount &+ byteCount, priority: .datagram)
        else { return countUnsent(.outOfMemory) }
        let target = message.segmentAddress + headerByteCount
        switch error {
        //= RFC 4443 section 3.1
        //# A destination node SHOULD originate a Destination Unreachable message with Code 4 in response to a packet for which the transport protocol (e.g.,
        //# UDP)
        //# has no listener
        case .portUnreachable:
            _ = ICMPv6Message.writeError(to: target, type: ICMPv6Type.destinationUnreachable, code: ICMPv6Code.portUnreachable, quoting: packet)
        //= RFC 4443 section 3.3
        //# code 1 (fragment reassembly time exceeded)
        case .reassemblyTimeExceeded: _ = ICMPv6Message.writeError(to: target, type: ICMPv6Type.timeExceeded, code: 1, quoting: packet)
        //= RFC 4443 section 3.4
        //# If an IPv6 node processing a packet finds a problem with a field in the IPv6 header or extension headers such that it cannot complete processing the
        //# packet, it MUST discard the packet and SHOULD originate an ICMPv6 Parameter Problem message to the packet's source
        case .parameterProblem(let code, let pointer):
            _ = ICMPv6Message.writeError(to: target, type: ICMPv6Type.parameterProblem, code: code, restOfHeader: pointer, quoting: packet)
        }
        //= RFC 4443 section 2.2
        //# If the message is a response to a message sent to one of the node's unicast addresses, the Source Address of the reply MUST be that same address.
        let source = packet.destination.isMulticast ? decision.source : packet.destination
        ICMPv6Message.complete(target, count: byteCount, source: source, destination: packet.source)
        writeIPv6Headers(
            at: message.segmentAddress, hardware: MACAddress(value: 0), payloadByteCount: byteCount, nextHeader: IPProtocol.icmpv6,
            hopLimit: state.pointee.ipv6.hopLimit, from: source, to: packet.source)
        message.frameFlags = []
        state.pointee.statistics.controlMessagesSent += 1
        sendPacket(message, by: decision)
    }

    //= RFC 4443 section 2.4
    //# An ICMPv6 error message MUST NOT be originated as a result of receiving the following: an ICMPv6 error message, an ICMPv6 redirect message, a packet
    //# destined to an IPv6 multicast address (there are two exceptions: Packet Too Big and Parameter Problem code 2), a packet sent as a link-layer
    //# multicast, a packet whose source address does not uniquely identify a single node
    private func mayBeAnswered(_ packet: IPv6View, in frame: Frame, _ error: OutgoingIPv6Error) -> Bool {
        guard !packet.source.isUnspecified, !packet.source.isMulticast else { return false }
        var isAnsweredToGroups = false
        if case .parameterProblem(code: 2, _) = error { isAnsweredToGroups = true }
        guard isAnsweredToGroups || !packet.destination.isMulticast && !MACAddress(at: frame.segmentAddress).isGroup else { return false }
        // Whatever extension headers were not walked over are taken as they are.
        let extensions = IPv6Extensions(packet)
        // Of fragments the first one tells what it is a part of.
        let nextHeader = extensions.fragment.map { $0.offset == 0 ? $0.nextHeader : IPv6ExtensionType.noNextHeader } ?? extensions.nextHeader
        guard nextHeader == IPProtocol.icmpv6, extensions.fault == .none else { return true }
        guard let message = ICMPv6View(packet.base + extensions.offset, count: packet.totalByteCount &- extensions.offset) else { return false }
        return !message.isError && message.type != ICMPv6Type.redirect
    }

    /// Writes the Ethernet and IPv6 headers of a packet.
    func writeIPv6Headers(
        at header: UnsafeMutableRawPointer, hardware: MACAddress, payloadByteCount: Int, nextHeader: UInt8, hopLimit: UInt8,
        trafficClass: UInt8 = 0, from source: IPAddress, to destination: IPAddress
    ) {
        EthernetHeader.write(to: header, destination: hardware, source: state.pointee.macAddress, etherType: EtherType.ipv6)
        IPv6Header.write(
            to: header + EthernetHeader.byteCount, payloadByteCount: payloadByteCount, nextHeader: nextHeader, hopLimit: hopLimit,
            trafficClass: trafficClass, source: source, destination: destination)
    }

    /// Makes a message of the link and sends it to a hardware address, or to the group's.
    /// - Parameters:
    ///   - byteCount: room for the message.
    ///   - write: writes the message without its checksum, and returns its length.
    /// - Returns: whether there was memory, and room in the output.
    func sendOnLink(
        from source: IPAddress, to destination: IPAddress, hardware: MACAddress, byteCount: Int, _ write: (UnsafeMutableRawPointer) -> Int
    ) -> Bool {
        let headerByteCount = EthernetHeader.byteCount + IPv6Header.byteCount
        guard !state.pointee.output.pointee.isFull,
            let frame = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount + byteCount, priority: .reserve)
        else {
            countUnsent(.outOfMemory)
            return false
        }
        let message = frame.segmentAddress + headerByteCount
        let written = write(message)
        ICMPv6Message.complete(message, count: written, source: source, destination: destination)
        //= RFC 4861 section 7.1.1
        //# The IP Hop Limit field has a value of 255, i.e., the packet could not possibly have been forwarded by a router.
        writeIPv6Headers(
            at: frame.segmentAddress, hardware: hardware, payloadByteCount: written, nextHeader: IPProtocol.icmpv6, hopLimit: 255, from: source,
            to: destination)
        frame.truncate(to: headerByteCount + written)
        frame.frameFlags = []
        emit(frame)
        return true
    }
}
