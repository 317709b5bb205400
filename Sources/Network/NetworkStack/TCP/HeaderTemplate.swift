import EthernetDevice
import WireFormats

/// The headers of a connection's segments, made once: Ethernet, IPv4 and the TCP ports, with the sums of what never changes in them.
///
/// Layout: 14 bytes of Ethernet, 20 of IPv4, 4 of TCP ports, then zeros up to 40 bytes; network byte order. Of the 40 bytes of an IPv6 header `front`
/// and `frontEnd` have the first six, behind those of Ethernet.
struct HeaderTemplate {
    var words: (UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0)
    var front: (UInt64, UInt64) = (0, 0)
    /// The sum of the plain segment's pseudo-header, ports and timestamp option's kind and length.
    var plainSum: UInt64 = 0
    /// The payload of the plain segment whose IPv4 length and checksum stand in `words`; `.max` for none. All others write them themselves.
    var plainPayloadByteCount = UInt32.max
    var frontEnd: UInt32 = 0
    // Sums are kept folded: of the same number modulo 2^16 - 1.
    private var foldedNetworkSum: UInt16 = 0
    private var foldedPseudoSum: UInt16 = 0
    private var foldedTransportSum: UInt16 = 0
    private var extraByteCount8: UInt8 = 0

    /// The sum of the IPv4 header with a total length of 0.
    @inline(__always)
    var networkSum: UInt64 {
        get { UInt64(foldedNetworkSum) }
        set { foldedNetworkSum = InternetChecksum.fold(newValue) }
    }

    /// The sum of the pseudo-header with a length of 0.
    @inline(__always)
    var pseudoSum: UInt64 {
        get { UInt64(foldedPseudoSum) }
        set { foldedPseudoSum = InternetChecksum.fold(newValue) }
    }

    /// The same with the ports.
    @inline(__always)
    var transportSum: UInt64 {
        get { UInt64(foldedTransportSum) }
        set { foldedTransportSum = InternetChecksum.fold(newValue) }
    }

    /// The bytes in front of `words`: none, or 20 over IPv6.
    @inline(__always)
    var extraByteCount: Int {
        get { Int(extraByteCount8) }
        set { extraByteCount8 = UInt8(truncatingIfNeeded: newValue) }
    }

    init() {}

    static let ethernetByteCount = 14
    static let ipv4ByteCount = 20
    /// Where the TCP header starts, counted from `words`.
    static let transportOffset = 34
    /// The longest header that a segment can have: 60 bytes of TCP, and `extraByteCount` more.
    static let maximumByteCount = 94
}

extension NetworkStack {
    /// Makes the connection's template when its route or its neighbour may have changed, and once a second, so that the neighbour counts as used.
    /// - Returns: false when there is no route.
    @inline(__always)
    func refreshTemplate(_ c: ConnectionPointer) -> Bool {
        if c.pointee.templateEpoch == state.pointee.neighborEpoch && state.pointee.now < c.pointee.templateValidUntil { return true }
        return makeTemplate(c)
    }

    @inline(never)
    private func makeTemplate(_ c: ConnectionPointer) -> Bool {
        guard let decision = route(to: c.pointee.remoteAddress) else { return false }
        var destination = state.pointee.macAddress
        c.pointee.flags.remove([.isLocalPeer, .neighborResolved])
        if decision.isLocal {
            c.pointee.flags.insert(.isLocalPeer)
        } else {
            let neighbor = neighbor(for: decision.nextHop)
            guard neighbor != 0 else { return false }
            c.pointee.neighbor = neighbor
            if state.pointee.neighbors[neighbor].pointee.isResolved {
                c.pointee.flags.insert(.neighborResolved)
                destination = state.pointee.neighbors[neighbor].pointee.macAddress
            }
        }
        if c.pointee.state.isSynchronized { refreshSegmentSize(c) }
        c.pointee.templateEpoch = state.pointee.neighborEpoch
        c.pointee.templateValidUntil = state.pointee.now &+ 1_000_000_000

        guard c.pointee.remoteAddress.isIPv4 else {
            c.pointee.template = makeIPv6Template(c, destination: destination)
            choosePlainHeaders(c)
            return true
        }
        var template = HeaderTemplate()
        let (networkSum, pseudoSum, portSum) = withUnsafeMutableBytes(of: &template.words) { bytes in
            let base = bytes.baseAddress!
            writeEthernetHeader(at: base, destination: destination)
            //= RFC 6864 section 4.1
            //# the identification field of an atomic datagram (not fragmented, DF set) may be set to any value
            //= RFC 9293 section 3.8.1
            //# If a retransmitted packet is identical to the original packet, then the same IPv4 Identification field MAY be used (MAY-4).
            IPv4Header.write(
                to: base + HeaderTemplate.ethernetByteCount, totalByteCount: 0, identification: 0, dontFragment: true,
                timeToLive: hopLimit(c.pointee.packetOptions, to: c.pointee.remoteAddress), typeOfService: c.pointee.packetOptions.trafficClass,
                protocolNumber: IPProtocol.tcp, source: c.pointee.localAddress, destination: c.pointee.remoteAddress)
            // The checksum is added once the length is known.
            (base + 24).storeBytes(of: 0, as: UInt16.self)
            (base + HeaderTemplate.transportOffset).storeBytes(of: c.pointee.localPort.bigEndian, as: UInt16.self)
            (base + HeaderTemplate.transportOffset + 2).storeBytes(of: c.pointee.remotePort.bigEndian, as: UInt16.self)
            return (
                InternetChecksum.sum(base + HeaderTemplate.ethernetByteCount, count: HeaderTemplate.ipv4ByteCount),
                InternetChecksum.pseudoHeader(
                    rawAddresses: (base + 26).loadUnaligned(as: UInt64.self), protocolNumber: IPProtocol.tcp, byteCount: 0),
                InternetChecksum.sum(base + HeaderTemplate.transportOffset, count: 4)
            )
        }
        template.networkSum = networkSum
        template.pseudoSum = pseudoSum
        template.transportSum = pseudoSum &+ portSum
        c.pointee.template = template
        choosePlainHeaders(c)
        return true
    }

    /// Sends a finished frame of the connection.
    @inline(__always)
    func transmit(_ c: ConnectionPointer, _ frame: Frame) {
        state.pointee.statistics.tcp.segmentsSent &+= 1
        if c.pointee.flags.contains(.neighborResolved) {
            emit(frame)
        } else if c.pointee.flags.contains(.isLocalPeer) {
            deliverLocally(frame)
        } else {
            send(frame, to: c.pointee.neighbor)
        }
    }
}
