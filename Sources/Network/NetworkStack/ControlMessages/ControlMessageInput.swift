import DatapathMemory
import EthernetDevice
import WireFormats

extension NetworkStack {
    /// Takes over an ICMP packet.
    func controlMessageInput(_ frame: Frame, _ packet: IPv4View, isGroup: Bool) {
        guard let message = ICMPv4View(packet.payload, count: packet.payloadByteCount), message.isChecksumValid else {
            return drop(frame, .badControlMessage)
        }
        //= RFC 1122 section 3.2.2.6
        //# An ICMP Echo Request destined to an IP broadcast or IP multicast address MAY be silently discarded.
        if isGroup { return drop(frame, .unmatchedControlMessage) }
        //= RFC 1122 section 3.2.2
        //# If an ICMP message of unknown type is received, it MUST be silently discarded.
        switch message.type {
        case ICMPv4Type.echoRequest: answerEchoRequest(frame, packet)
        //= RFC 1122 section 3.2.2.4
        //# An incoming Time Exceeded message MUST be passed to the transport layer.
        //= RFC 1122 section 3.2.2.5
        //# An incoming Parameter Problem message MUST be passed to the transport layer, and it MAY be reported to the user.
        case ICMPv4Type.destinationUnreachable, ICMPv4Type.timeExceeded, ICMPv4Type.parameterProblem: controlErrorInput(frame, message)
        case ICMPv4Type.redirect: redirectInput(frame, packet, message)
        //= RFC 9293 section 3.9.2.2
        //# TCP implementations MUST silently discard any received ICMP Source Quench messages (MUST-55).
        //= RFC 5927 section 6.2
        //# hosts should completely ignore ICMP Source Quench: silently drop any received ICMP Source Quench messages
        default: drop(frame, .unmatchedControlMessage)
        }
    }

    /// Turns the request into its reply, in place where nobody else holds the block.
    //= RFC 1122 section 3.2.2.6
    //# Every host MUST implement an ICMP Echo server function that receives Echo Requests and sends corresponding Echo Replies.
    private func answerEchoRequest(_ request: Frame, _ packet: IPv4View) {
        let destination = packet.source
        let byteCount = packet.payloadByteCount
        // The ECN bits are the path's, the others the asker's (RFC 1349, section 5.1).
        let typeOfService = packet.typeOfService & 0xfc
        //= RFC 1122 section 3.2.2.6
        //# The IP source address in an ICMP Echo Reply MUST be the same as the specific-destination address of the corresponding Echo Request.
        let source = packet.destination
        guard let decision = route(to: destination) else { return drop(request, .noRoute) }
        guard !state.pointee.output.pointee.isFull else { return drop(request, .outOfMemory) }
        let headerByteCount = EthernetHeader.byteCount + IPv4Header.byteCount
        guard let frame = makeReply(to: request, packet.payload, byteCount: byteCount, headerByteCount: headerByteCount) else { return }
        ICMPv4Message.turnIntoEchoReply(frame.segmentAddress + headerByteCount)
        writeControlHeaders(at: frame.segmentAddress, messageByteCount: byteCount, typeOfService: typeOfService, from: source, to: destination)
        frame.frameFlags = []
        state.pointee.statistics.echoRepliesSent += 1
        let reply = PacketToFragment(
            source: source, destination: destination, protocolNumber: IPProtocol.icmp, typeOfService: typeOfService, hopLimit: 64)
        sendEchoReply(frame, reply, by: decision)
    }

    /// Takes over a request, and makes a frame of its message behind new headers: of the request itself where nobody else holds its block, and what was
    /// in front of the message, such as options and a tag, is left behind. Nil, and counted, when there is no memory.
    /// - Parameter message: `byteCount` bytes in the request.
    func makeReply(to request: Frame, _ message: UnsafeRawPointer, byteCount: Int, headerByteCount: Int) -> Frame? {
        if request.isSoleOwner {
            request.removeFirst(UnsafeRawPointer(request.segmentAddress).distance(to: message) &- headerByteCount)
            return request
        }
        guard let copy = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount &+ byteCount, priority: .datagram) else {
            drop(request, .outOfMemory)
            return nil
        }
        (copy.segmentAddress + headerByteCount).copyMemory(from: message, byteCount: byteCount)
        request.releaseArray()
        return copy
    }

    /// Takes over an error message, and tells it to the connection or socket whose packet it quotes.
    private func controlErrorInput(_ frame: Frame, _ message: ICMPv4View) {
        guard let quotation = message.quotation else { return drop(frame, .badControlMessage) }
        guard isLocalAddress(quotation.source), let error = ControlError(message), deliver(error, about: quotation) else {
            return drop(frame, .unmatchedControlMessage)
        }
        frame.releaseArray()
    }

    /// Tells an error to the connection or socket that sent the quoted packet.
    /// - Returns: whether there is somebody who may be concerned; TCP compares the sequence number itself.
    //= RFC 1122 section 3.2.2.1
    //# A Destination Unreachable message that is received MUST be reported to the transport layer.
    func deliver(_ error: ControlError, about quotation: some ControlMessageQuotation) -> Bool {
        let local = Endpoint(address: quotation.source, port: quotation.sourcePort)
        let remote = Endpoint(address: quotation.destination, port: quotation.destinationPort)
        //= RFC 1122 section 3.2.2
        //# the IP protocol number MUST be extracted from the original header and used to select the appropriate transport protocol entity to handle the error
        //= RFC 1122 section 3.4
        //# certain ICMP messages MUST be passed up from the IP layer to the appropriate transport-layer routine
        switch quotation.protocolNumber {
        case IPProtocol.tcp:
            tcpControlMessage(error, local: local, remote: remote, sequence: quotation.sequence, quotedByteCount: quotation.totalByteCount)
            return true
        case IPProtocol.udp:
            return datagramControlMessage(error, local: local, remote: remote, quotedByteCount: quotation.totalByteCount)
        default:
            return false
        }
    }
}
