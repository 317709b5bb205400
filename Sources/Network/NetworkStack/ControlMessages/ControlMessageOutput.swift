import DatapathMemory
import EthernetDevice
import WireFormats

/// The errors that this host tells senders of.
enum OutgoingControlError {
    case protocolUnreachable, portUnreachable
    /// Where in the packet the fault lies.
    case parameterProblem(pointer: UInt8)
    /// The rest of a datagram whose first fragment this is has not come.
    case reassemblyTimeExceeded
}

extension NetworkStack {
    /// Tells the sender of `packet`, which lies in `frame` behind its whole Ethernet header, what was wrong with it; unless there are reasons not to.
    /// The frame stays the caller's.
    //= RFC 1122 section 3.3.8
    //# Wherever practical, hosts MUST return ICMP error datagrams on detection of an error, except in those cases where returning an ICMP error message is
    //# specifically prohibited.
    func sendControlError(_ error: OutgoingControlError, about packet: IPv4View, in frame: Frame) {
        guard mayBeAnswered(packet, in: frame), let decision = route(to: packet.source) else { return }
        //= RFC 1812 section 4.3.2.8
        //# A router SHOULD also be able to limit the rate at which it sends other sorts of ICMP error messages.
        guard state.pointee.errorBucket.take(now: state.pointee.now) else { return countUnsent(.controlMessageRateLimited) }
        let headerByteCount = EthernetHeader.byteCount + IPv4Header.byteCount
        let byteCount = ICMPv4Message.errorByteCount(quoting: packet)
        guard !state.pointee.output.pointee.isFull,
            let message = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount &+ byteCount, priority: .datagram)
        else { return countUnsent(.outOfMemory) }
        let target = message.segmentAddress + headerByteCount
        switch error {
        //= RFC 792 section Destination Unreachable Message
        //# If, in the destination host, the IP module cannot deliver the datagram because the indicated protocol module or process port is not active, the
        //# destination host may send a destination unreachable message to the source host.
        case .protocolUnreachable:
            _ = ICMPv4Message.writeError(
                to: target, type: ICMPv4Type.destinationUnreachable, code: ICMPv4Code.protocolUnreachable, quoting: packet)
        case .portUnreachable:
            _ = ICMPv4Message.writeError(to: target, type: ICMPv4Type.destinationUnreachable, code: ICMPv4Code.portUnreachable, quoting: packet)
        //= RFC 792 section Time Exceeded Message
        //# If a host reassembling a fragmented datagram cannot complete the reassembly due to missing fragments within its time limit it discards the
        //# datagram, and it may send a time exceeded message.
        case .reassemblyTimeExceeded: _ = ICMPv4Message.writeError(to: target, type: ICMPv4Type.timeExceeded, code: 1, quoting: packet)
        //= RFC 792 section Parameter Problem Message
        //# The pointer identifies the octet of the original datagram's header where the error was detected.
        case .parameterProblem(let pointer):
            _ = ICMPv4Message.writeError(
                to: target, type: ICMPv4Type.parameterProblem, code: 0, restOfHeader: UInt32(pointer) &<< 24, quoting: packet)
        }
        //= RFC 1122 section 3.2.2
        //# An ICMP error message SHOULD be sent with normal (i.e., zero) TOS bits.
        writeControlHeaders(at: message.segmentAddress, messageByteCount: byteCount, typeOfService: 0, from: packet.destination, to: packet.source)
        state.pointee.statistics.controlMessagesSent += 1
        sendPacket(message, by: decision)
    }

    /// Writes the Ethernet and IPv4 headers of an ICMP message.
    func writeControlHeaders(
        at header: UnsafeMutableRawPointer, messageByteCount: Int, typeOfService: UInt8, from source: IPAddress, to destination: IPAddress
    ) {
        let identification = UInt16(truncatingIfNeeded: nextIdentification(from: source, to: destination, protocolNumber: IPProtocol.icmp))
        writeEthernetHeader(at: header, destination: MACAddress(value: 0))
        //= RFC 1122 section 3.2.1.7
        //# A host MUST NOT send a datagram with a Time-to-Live (TTL) value of zero.
        IPv4Header.write(
            to: header + EthernetHeader.byteCount, totalByteCount: IPv4Header.byteCount &+ messageByteCount,
            identification: identification, dontFragment: false, timeToLive: 64, typeOfService: typeOfService,
            protocolNumber: IPProtocol.icmp, source: source, destination: destination)
    }

    //= RFC 1122 section 3.2.2
    //# An ICMP error message MUST NOT be sent as the result of receiving an ICMP error message, a datagram destined to an IP broadcast or IP
    //# multicast address, a datagram sent as a link-layer broadcast, a non-initial fragment, or a datagram whose source address does not define a
    //# single host.
    private func mayBeAnswered(_ packet: IPv4View, in frame: Frame) -> Bool {
        guard packet.fragmentOffset == 0, isLocalAddress(packet.destination), !MACAddress(at: frame.segmentAddress).isGroup else { return false }
        guard packet.protocolNumber == IPProtocol.icmp else { return true }
        // An echo may be answered; what ends before its type, or is an error or of an unknown type, may not.
        guard let message = ICMPv4View(packet.payload, count: packet.payloadByteCount) else { return false }
        return message.type == ICMPv4Type.echoRequest || message.type == ICMPv4Type.echoReply
    }
}
