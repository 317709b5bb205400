import DatapathMemory
import EthernetDevice
import WireFormats

extension NetworkStack {
    /// Resets a connection that both sides know: the peer takes it because the sequence number is the one that it expects.
    func sendReset(_ c: ConnectionPointer) {
        state.pointee.statistics.tcp.resetsSent += 1
        sendControl(c, acceptableSequence(c), [.rst, .ack])
    }

    /// Answers a segment that belongs to no connection (RFC 9293, section 3.10.7.1), or whose acknowledgement is of something never sent.
    func sendReset(about header: TCPSegmentHeader, source: IPAddress, destination: IPAddress) {
        //= RFC 9293 section 3.10.7.1
        //# An incoming segment containing a RST is discarded.
        //= RFC 9293 section 3.5.2
        //# If the connection does not exist (CLOSED), then a reset is sent in response to any incoming segment except another reset.
        if header.flags.contains(.rst) && !DeliberateBug.isPresent(.resetAnswered) { return }
        guard state.pointee.resetBucket.take(now: state.pointee.now) || DeliberateBug.isPresent(.resetsUnlimited) else { return countUnsent(.resetRateLimited) }
        let reply: (sequence: SequenceNumber, acknowledgement: SequenceNumber, flags: TCPFlags)
        if header.flags.contains(.ack) {
            //= RFC 9293 section 3.10.7.1
            //# If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>
            reply = (header.acknowledgement, SequenceNumber(rawValue: 0), .rst)
        } else {
            //= RFC 9293 section 3.10.7.1
            //# If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
            reply = (SequenceNumber(rawValue: 0), header.sequence.advanced(by: header.segmentLength), [.rst, .ack])
        }
        guard let decision = route(to: source) else { return countUnsent(.noRoute) }
        let extra = source.isIPv4 ? 0 : NetworkStack.ipv6ExtraByteCount
        guard !state.pointee.output.pointee.isFull,
            let frame = Frame.makeSegment(state.pointee.heap, byteCount: HeaderTemplate.transportOffset + extra + 20, priority: .reserve)
        else { return countUnsent(.outOfMemory) }
        let base = frame.segmentAddress
        if source.isIPv4 {
            writeEthernetHeader(at: base, destination: state.pointee.macAddress)
            IPv4Header.write(
                to: base + HeaderTemplate.ethernetByteCount, totalByteCount: 40, identification: 0, dontFragment: true, timeToLive: 64, typeOfService: 0,
                protocolNumber: IPProtocol.tcp, source: destination, destination: source)
        } else {
            writeIPv6Headers(
                at: base, hardware: state.pointee.macAddress, payloadByteCount: 20, nextHeader: IPProtocol.tcp, hopLimit: state.pointee.ipv6.hopLimit,
                from: destination, to: source)
        }
        let tcp = base + HeaderTemplate.transportOffset + extra
        tcp.storeBytes(of: header.destinationPort.bigEndian, as: UInt16.self)
        (tcp + 2).storeBytes(of: header.sourcePort.bigEndian, as: UInt16.self)
        (tcp + 4).storeBytes(of: reply.sequence.rawValue.bigEndian, as: UInt32.self)
        (tcp + 8).storeBytes(of: reply.acknowledgement.rawValue.bigEndian, as: UInt32.self)
        (tcp + 12).storeBytes(of: 5 << 4, as: UInt8.self)
        (tcp + 13).storeBytes(of: reply.flags.rawValue, as: UInt8.self)
        (tcp + 14).storeBytes(of: 0, as: UInt16.self)
        (tcp + 16).storeBytes(of: 0, as: UInt32.self)
        let pseudo = InternetChecksum.pseudoHeader(source: destination, destination: source, protocolNumber: IPProtocol.tcp, byteCount: 20)
        (tcp + 16).storeBytes(of: InternetChecksum.finish(pseudo &+ InternetChecksum.sum(tcp, count: 20)), as: UInt16.self)
        frame.frameFlags = []
        state.pointee.statistics.tcp.resetsSent += 1
        state.pointee.statistics.tcp.segmentsSent += 1
        sendPacket(frame, by: decision)
    }
}
