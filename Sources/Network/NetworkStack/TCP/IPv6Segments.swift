import DatapathMemory
import EthernetDevice
import WireFormats

/// What is different for segments over IPv6: their headers are 20 bytes longer, and have no checksum.
extension NetworkStack {
    /// The bytes by which an IPv6 header is longer than an IPv4 header.
    static var ipv6ExtraByteCount: Int { IPv6Header.byteCount - IPv4Header.byteCount }

    /// Makes the headers of a connection over IPv6: Ethernet, IPv6 and the TCP ports.
    ///
    /// `words` begin `extraByteCount` bytes behind the start, so that the ports lie in them where they lie in those of IPv4.
    func makeIPv6Template(_ c: ConnectionPointer, destination: MACAddress) -> HeaderTemplate {
        var template = HeaderTemplate()
        let extra = NetworkStack.ipv6ExtraByteCount
        withUnsafeTemporaryAllocation(byteCount: HeaderTemplate.transportOffset + extra, alignment: 8) { bytes in
            let base = bytes.baseAddress.unsafelyUnwrapped
            writeIPv6Headers(
                at: base, hardware: destination, payloadByteCount: 0, nextHeader: IPProtocol.tcp,
                hopLimit: hopLimit(c.pointee.packetOptions, to: c.pointee.remoteAddress),
                trafficClass: c.pointee.packetOptions.trafficClass, from: c.pointee.localAddress, to: c.pointee.remoteAddress)
            template.front = base.loadUnaligned(as: (UInt64, UInt64).self)
            template.frontEnd = (base + 16).loadUnaligned(as: UInt32.self)
            template.transportSum = withUnsafeMutableBytes(of: &template.words) { words in
                let target = words.baseAddress.unsafelyUnwrapped
                target.copyMemory(from: base + extra, byteCount: HeaderTemplate.transportOffset)
                let transport = target + HeaderTemplate.transportOffset
                transport.storeBytes(of: c.pointee.localPort.bigEndian, as: UInt16.self)
                (transport + 2).storeBytes(of: c.pointee.remotePort.bigEndian, as: UInt16.self)
                return InternetChecksum.sum(transport, count: 4)
            }
        }
        template.extraByteCount = extra
        template.pseudoSum = InternetChecksum.pseudoHeader(
            source: c.pointee.localAddress, destination: c.pointee.remoteAddress, protocolNumber: IPProtocol.tcp, byteCount: 0)
        template.transportSum = template.transportSum &+ template.pseudoSum
        return template
    }

    /// Writes what stands in front of the template's words, the payload length and the ECN field.
    /// - Parameter header: where the words are.
    @inline(never)
    func finishIPv6Header(_ c: ConnectionPointer, at header: UnsafeMutableRawPointer, transportByteCount: Int, codepoint: UInt8) {
        let start = header - NetworkStack.ipv6ExtraByteCount
        start.storeBytes(of: c.pointee.template.front, as: (UInt64, UInt64).self)
        (start + 16).storeBytes(of: c.pointee.template.frontEnd, as: UInt32.self)
        //= RFC 3168 section 5
        //# The IPv4 TOS octet corresponds to the Traffic Class octet in IPv6, and the ECN field is defined identically in both cases.
        // That octet's low half is the high one of the header's second byte. No checksum covers it.
        let second = start + EthernetHeader.byteCount + 1
        second.storeBytes(of: second.load(as: UInt8.self) | codepoint &<< 4, as: UInt8.self)
        (start + EthernetHeader.byteCount + 4).storeBytes(of: UInt16(truncatingIfNeeded: transportByteCount).bigEndian, as: UInt16.self)
    }

    /// What the link's MTU leaves for a segment without options to or from `remote`: 20 bytes less over IPv6.
    func segmentSize(with remote: IPAddress) -> Int {
        if remote.isIPv4 { return segmentSizeOfLink }
        return min(
            state.pointee.ipv6.maximumTransmissionUnit - IPv6Header.byteCount - TCPSegmentHeader.minimumByteCount,
            state.pointee.configuration.tcp.maximumSegmentSize ?? .max)
    }

    /// The segment size of a peer that does not tell one.
    //= RFC 9293 section 3.7.1
    //# If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send MSS of 536 (576 - 40) for IPv4 or 1220 (1280 - 60)
    //# for IPv6 (MUST-15).
    func defaultSegmentSize(with remote: IPAddress) -> Int { remote.isIPv4 ? 536 : IPv6Header.minimumMTU - IPv6Header.byteCount - 20 }
}
