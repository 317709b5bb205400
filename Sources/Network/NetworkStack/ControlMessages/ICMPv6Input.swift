import DatapathMemory
import EthernetDevice
import WireFormats

extension NetworkStack {
    /// Takes over an ICMPv6 packet, whose message has `byteCount` bytes from `transport` on.
    /// - Parameter isFragmented: whether it came with a fragment header.
    func ipv6ControlMessageInput(_ frame: Frame, _ packet: IPv6View, transport: UnsafeMutableRawPointer, byteCount: Int, isFragmented: Bool) {
        let (source, destination) = (packet.source, packet.destination)
        // Devices verify those of UDP and TCP alone.
        guard let message = ICMPv6View(transport, count: byteCount), message.isChecksumValid(source: source, destination: destination) else {
            return drop(frame, .badControlMessage)
        }
        switch message.type {
        case ICMPv6Type.echoRequest:
            guard !source.isUnspecified else { return drop(frame, .badSourceAddress) }
            answerIPv6EchoRequest(frame, packet, message)
        //= RFC 4443 section 2.4
        //# In those cases where the internet-layer protocol is required to pass an ICMPv6 error message to the upper-layer process, the upper-layer protocol
        //# type
        //# is extracted from the original packet
        case ICMPv6Type.destinationUnreachable, ICMPv6Type.packetTooBig, ICMPv6Type.timeExceeded, ICMPv6Type.parameterProblem:
            ipv6ControlErrorInput(frame, message)
        case ICMPv6Type.multicastListenerQuery, ICMPv6Type.multicastListenerReportVersion1: listenerMessageInput(frame, packet, message)
        case ICMPv6Type.neighborSolicitation, ICMPv6Type.neighborAdvertisement, ICMPv6Type.routerAdvertisement, ICMPv6Type.routerSolicitation,
            ICMPv6Type.redirect:
            //= RFC 6980 section 5
            //# Nodes MUST silently ignore the following Neighbor Discovery messages if the packets carrying them include an IPv6 Fragmentation Header: Neighbor
            //# Solicitation, Neighbor Advertisement, Router Solicitation, Router Advertisement, Redirect
            if isFragmented { return drop(frame, .badNeighborDiscovery) }
            neighborDiscoveryInput(frame, packet, message)
        //= RFC 4443 section 2.4
        //# If an ICMPv6 informational message of unknown type is received, it MUST be silently discarded.
        default: drop(frame, .unmatchedControlMessage)
        }
    }

    /// Turns the request into its reply, in place where nobody else holds the block.
    //= RFC 4443 section 4.2
    //# Every node MUST implement an ICMPv6 Echo responder function that receives Echo Requests and originates corresponding Echo Replies.
    private func answerIPv6EchoRequest(_ request: Frame, _ packet: IPv6View, _ message: ICMPv6View) {
        let asker = packet.source
        let byteCount = message.count
        guard let decision = route(to: asker) else { return drop(request, .noRoute) }
        //= RFC 4443 section 4.2
        //# The source address of an Echo Reply sent in response to a unicast Echo Request message MUST be the same as the destination address of that Echo
        //# Request message.
        let source = packet.destination.isMulticast ? decision.source : packet.destination
        guard !state.pointee.output.pointee.isFull else { return drop(request, .outOfMemory) }
        let headerByteCount = EthernetHeader.byteCount + IPv6Header.byteCount
        guard let frame = makeReply(to: request, message.base, byteCount: byteCount, headerByteCount: headerByteCount) else { return }
        let reply = frame.segmentAddress + headerByteCount
        ICMPv6Message.turnIntoEchoReply(reply)
        ICMPv6Message.complete(reply, count: byteCount, source: source, destination: asker)
        writeIPv6Headers(
            at: frame.segmentAddress, hardware: MACAddress(value: 0), payloadByteCount: byteCount, nextHeader: IPProtocol.icmpv6,
            hopLimit: state.pointee.ipv6.hopLimit, from: source, to: asker)
        frame.frameFlags = []
        state.pointee.statistics.echoRepliesSent += 1
        let packet = PacketToFragment(
            source: source, destination: asker, protocolNumber: IPProtocol.icmpv6, hopLimit: state.pointee.ipv6.hopLimit)
        sendEchoReply(frame, packet, by: decision)
    }

    /// Takes over an error message, and tells it to the connection or socket whose packet it quotes.
    private func ipv6ControlErrorInput(_ frame: Frame, _ message: ICMPv6View) {
        guard let quotation = message.quotation else { return drop(frame, .badControlMessage) }
        // Nothing that is said over IPv6 concerns what went over IPv4.
        guard !quotation.source.isIPv4, isLocalAddress(quotation.source), let error = ControlError(message), deliver(error, about: quotation) else {
            return drop(frame, .unmatchedControlMessage)
        }
        frame.releaseArray()
    }
}

extension ControlError {
    /// Nil for a message that is no error, and for one whose code is not known (RFC 4443 section 3).
    init?(_ message: ICMPv6View) {
        switch message.type {
        case ICMPv6Type.destinationUnreachable:
            switch message.code {
            case ICMPv6Code.noRoute: self = .netUnreachable
            case ICMPv6Code.prohibited, ICMPv6Code.sourcePolicy, ICMPv6Code.rejectRoute: self = .adminProhibited
            case ICMPv6Code.beyondScope, ICMPv6Code.addressUnreachable: self = .hostUnreachable
            //= RFC 4443 section 3.1
            //# Destination Unreachable, code 4 (Port unreachable), is for a transport protocol that has no listener
            case ICMPv6Code.portUnreachable: self = .portUnreachable
            default: return nil
            }
        //= RFC 4443 section 3.2
        //# An incoming Packet Too Big message MUST be passed to the upper-layer process if the relevant process can be identified.
        case ICMPv6Type.packetTooBig: self = .fragmentationNeeded(mtu: UInt16(clamping: message.restOfHeader))
        //= RFC 4443 section 3.3
        //# An incoming Time Exceeded message MUST be passed to the upper-layer process if the relevant process can be identified
        case ICMPv6Type.timeExceeded: self = .timeExceeded
        //= RFC 4443 section 3.4
        //# A node receiving this ICMPv6 message MUST notify the upper-layer process if the relevant process can be identified
        case ICMPv6Type.parameterProblem:
            self = message.code == 1 ? .protocolUnreachable : .parameterProblem(pointer: UInt8(truncatingIfNeeded: message.restOfHeader))
        default: return nil
        }
    }
}
