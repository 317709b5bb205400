import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

extension DatagramSocket {
    /// How well the socket suits a datagram over IPv6: 3 for its peer, 2 for its local address, 1 for any; 0 when it does not take it.
    func rank(source: Endpoint, destination: IPAddress) -> Int {
        if flags.contains(.isConnected) { return remote == source && local.address == destination ? 3 : 0 }
        if local.address == .unspecifiedIPv6 { return 1 }
        return local.address == destination ? 2 : 0
    }
}

extension NetworkStack {
    /// The datagram in a packet, which begins at `transport` and has at most `byteCount` bytes, when its length and checksum are right; else the frame is
    /// dropped.
    func checkIPv6Datagram(_ frame: Frame, _ packet: IPv6View, _ transport: UnsafeMutableRawPointer, _ byteCount: Int) -> UDPView? {
        guard UDPView.check(transport, count: byteCount) == .none else {
            drop(frame, .badDatagram)
            return nil
        }
        let datagram = UDPView(unchecked: transport)
        //= RFC 8200 section 8.1
        //# IPv6 receivers must discard UDP packets containing a zero checksum and should log the error.
        var isValid = datagram.hasChecksum
        if isValid && !frame.frameFlags.contains(.checksumVerified) {
            let pseudoHeader = InternetChecksum.pseudoHeader(
                source: packet.source, destination: packet.destination, protocolNumber: IPProtocol.udp, byteCount: datagram.byteCount)
            isValid = datagram.isChecksumValid(pseudoHeader)
        }
        guard isValid else {
            drop(frame, .badDatagramChecksum)
            return nil
        }
        return datagram
    }

    /// Takes over a UDP datagram over IPv6, which has been checked, and queues it at the socket that it is for.
    func ipv6DatagramInput(_ frame: Frame, _ packet: IPv6View, _ datagram: UDPView) {
        let (source, destination) = (packet.source, packet.destination)
        let local = Endpoint(address: destination, port: datagram.destinationPort)
        let socket = findIPv6DatagramSocket(Endpoint(address: source, port: datagram.sourcePort), local)
        guard socket != 0 else {
            //= RFC 4443 section 3.1
            //# A destination node SHOULD originate a Destination Unreachable message with Code 4 in response to a packet for which the transport protocol
            //# (e.g.,
            //# UDP) has no listener, if that transport protocol has no alternative means to inform the sender.
            sendIPv6Error(.portUnreachable, about: packet, in: frame)
            return drop(frame, .noDatagramSocket)
        }
        queueDatagram(frame, packet.base, datagram, at: socket)
    }

    /// The socket for a datagram over IPv6, as `findDatagramSocket` finds one for IPv4; 0 for none. O(sockets of the same port).
    func findIPv6DatagramSocket(_ source: Endpoint, _ destination: Endpoint) -> UInt32 {
        let first = state.pointee.datagramPorts[Int(destination.port)]
        guard first != 0 else { return 0 }
        return findAmongSeveral(
            first: first, rank: { $0.pointee.rank(source: source, destination: destination.address) },
            key: { hash in
                hash.combine(source.address.words.0)
                hash.combine(source.address.words.1)
                hash.combine(destination.address.words.0)
                hash.combine(destination.address.words.1)
                hash.combine(UInt64(source.port) << 16 | UInt64(destination.port))
            })
    }

    /// The datagram behind its IPv6 headers, as `makeDatagramFrame` makes it for IPv4.
    func makeIPv6DatagramFrame(_ s: DatagramSocketPointer, _ array: Frame, _ byteCount: Int) -> Frame? {
        guard array.arraySegmentCount == 1, array.headroom >= IPv6DatagramTemplate.byteCount, array.isSoleOwner else {
            return makeLargeFrame(s, array, byteCount)
        }
        let sum = s.pointee.ipv6Template.isOffloaded ? 0 : InternetChecksum.sum(array.segmentAddress, count: byteCount)
        // The opposite of dropping bytes from the front.
        array.removeFirst(-IPv6DatagramTemplate.byteCount)
        writeIPv6DatagramHeaders(s, array, byteCount, sum)
        return array
    }

    func writeIPv6DatagramHeaders(_ s: DatagramSocketPointer, _ frame: Frame, _ byteCount: Int, _ sum: UInt64) {
        s.pointee.ipv6Template.write(to: frame.segmentAddress, payloadByteCount: byteCount, payloadSum: sum)
        frame.frameFlags = s.pointee.ipv6Template.isOffloaded ? .needsTransportChecksum : []
    }
}

/// The headers of a socket's datagrams to one destination over IPv6, made once, with the sums of what never changes in them.
///
/// Layout: 14 bytes of Ethernet, 40 of IPv6, 8 of UDP, in network byte order; lengths and checksum are zero.
struct IPv6DatagramTemplate {
    private var words: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
    private var pseudoHeaderSum: UInt64 = 0
    private var portSum: UInt64 = 0
    /// Whether the device completes the checksum: its field then gets the sum of the pseudo header alone.
    private(set) var isOffloaded = false

    static let byteCount = EthernetHeader.byteCount + IPv6Header.byteCount + UDPHeader.byteCount

    init() {}

    init(destination: MACAddress, source: MACAddress, local: Endpoint, remote: Endpoint, hopLimit: UInt8, trafficClass: UInt8, isOffloaded: Bool) {
        self.isOffloaded = isOffloaded
        withUnsafeMutableBytes(of: &words) { bytes in
            let base = bytes.baseAddress.unsafelyUnwrapped
            EthernetHeader.write(to: base, destination: destination, source: source, etherType: EtherType.ipv6)
            IPv6Header.write(
                to: base + EthernetHeader.byteCount, payloadByteCount: 0, nextHeader: IPProtocol.udp, hopLimit: hopLimit,
                trafficClass: trafficClass, source: local.address, destination: remote.address)
            let transport = base + EthernetHeader.byteCount + IPv6Header.byteCount
            transport.storeBytes(of: local.port.bigEndian, toByteOffset: 0, as: UInt16.self)
            transport.storeBytes(of: remote.port.bigEndian, toByteOffset: 2, as: UInt16.self)
            portSum = InternetChecksum.sum(transport, count: 4)
        }
        pseudoHeaderSum = InternetChecksum.pseudoHeader(
            source: local.address, destination: remote.address, protocolNumber: IPProtocol.udp, byteCount: 0)
    }

    /// Writes the 62 bytes of the headers.
    /// - Parameter payloadSum: the sum of the payload; unused where the device completes the checksum.
    func write(to header: UnsafeMutableRawPointer, payloadByteCount: Int, payloadSum: UInt64) {
        withUnsafeBytes(of: words) { header.copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: IPv6DatagramTemplate.byteCount) }
        let length = UInt16(truncatingIfNeeded: payloadByteCount &+ UDPHeader.byteCount).bigEndian
        let pseudoHeader = pseudoHeaderSum &+ UInt64(length)
        var checksum = InternetChecksum.fold(pseudoHeader)
        if !isOffloaded {
            //= RFC 8200 section 8.1
            //# Unlike IPv4, the default behavior when UDP packets are originated by an IPv6 node is that the UDP checksum is not optional. That is, whenever
            //# originating a UDP packet, an IPv6 node must compute a UDP checksum over the packet and the pseudo-header, and, if that computation yields a
            //# result of
            //# zero, it must be changed to hex FFFF for placement in the UDP header.
            checksum = InternetChecksum.finish(pseudoHeader &+ portSum &+ UInt64(length) &+ payloadSum)
            if checksum == 0 { checksum = 0xffff }
        }
        header.storeBytes(of: length, toByteOffset: EthernetHeader.byteCount + 4, as: UInt16.self)
        let transport = header + (EthernetHeader.byteCount + IPv6Header.byteCount)
        transport.storeBytes(of: length, toByteOffset: 4, as: UInt16.self)
        transport.storeBytes(of: checksum, toByteOffset: 6, as: UInt16.self)
    }
}
