import EthernetDevice
import WireFormats

/// The headers of a socket's datagrams to one destination, made once, with the sums of what never changes in them.
///
/// Layout: 14 bytes of Ethernet, 20 of IPv4, 8 of UDP, in network byte order as they lie in memory; lengths and checksums are zero.
struct DatagramTemplate {
    private var words: (UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0)
    private var networkSum: UInt64 = 0
    private var pseudoHeaderSum: UInt64 = 0
    private var portSum: UInt64 = 0
    /// Whether the device completes the checksum: its field then gets the sum of the pseudo header alone.
    private(set) var isOffloaded = false

    static let byteCount = EthernetHeader.byteCount + IPv4Header.byteCount + UDPHeader.byteCount

    init() {}

    init(destination: MACAddress, source: MACAddress, local: Endpoint, remote: Endpoint, timeToLive: UInt8 = 64, isOffloaded: Bool) {
        self.isOffloaded = isOffloaded
        withUnsafeMutableBytes(of: &words) { bytes in
            let base = bytes.baseAddress.unsafelyUnwrapped
            let network = base + EthernetHeader.byteCount
            EthernetHeader.write(to: base, destination: destination, source: source, etherType: EtherType.ipv4)
            // With "don't fragment": a router on a narrower way tells, and later datagrams are cut here, where identifications do not come again soon.
            //= RFC 6864 section 4.1
            //# Originating sources MAY set the IPv4 ID field of atomic datagrams to any value.
            IPv4Header.write(
                to: network, totalByteCount: 0, identification: 0, dontFragment: true, timeToLive: timeToLive, protocolNumber: IPProtocol.udp,
                source: local.address, destination: remote.address)
            network.storeBytes(of: 0, toByteOffset: 10, as: UInt16.self)
            let transport = network + IPv4Header.byteCount
            transport.storeBytes(of: local.port.bigEndian, toByteOffset: 0, as: UInt16.self)
            transport.storeBytes(of: remote.port.bigEndian, toByteOffset: 2, as: UInt16.self)
            networkSum = InternetChecksum.sum(network, count: IPv4Header.byteCount)
            portSum = InternetChecksum.sum(transport, count: 4)
        }
        pseudoHeaderSum = InternetChecksum.pseudoHeader(
            source: local.address, destination: remote.address, protocolNumber: IPProtocol.udp, byteCount: 0)
    }

    /// Writes the 42 bytes of the headers, from registers: a load of bytes just stored would wait for the stores.
    /// - Parameter payloadSum: the sum of the payload; unused where the device completes the checksum.
    @inline(__always)
    func write(to header: UnsafeMutableRawPointer, payloadByteCount: Int, payloadSum: UInt64) {
        let length = UInt64(UInt16(truncatingIfNeeded: payloadByteCount &+ UDPHeader.byteCount).bigEndian)
        let total = UInt64(UInt16(truncatingIfNeeded: payloadByteCount &+ UDPHeader.byteCount &+ IPv4Header.byteCount).bigEndian)
        let networkChecksum = InternetChecksum.finish(networkSum &+ total)
        let pseudoHeader = pseudoHeaderSum &+ length
        var checksum: UInt16
        if isOffloaded {
            checksum = InternetChecksum.fold(pseudoHeader)
        } else {
            //= RFC 768 section Checksum
            //# Checksum is the 16-bit one's complement of the one's complement sum of a pseudo header of information from the IP header, the UDP header, and
            //# the data.
            //= RFC 1122 section 4.1.3.4
            //# An application MAY optionally be able to control whether a UDP checksum will be generated, but it MUST default to checksumming on.
            checksum = InternetChecksum.finish(pseudoHeader &+ portSum &+ length &+ payloadSum)
            //= RFC 768 section Checksum
            //# If the computed checksum is zero, it is transmitted as all ones (the equivalent in one's complement arithmetic).
            if checksum == 0 { checksum = 0xffff }
        }
        // Bytes 16 and 17, 24 and 25, 38 and 39 of the headers; the rest of each word is the template's.
        header.storeBytes(of: words.0, toByteOffset: 0, as: UInt64.self)
        header.storeBytes(of: words.1, toByteOffset: 8, as: UInt64.self)
        header.storeBytes(of: words.2 | total, toByteOffset: 16, as: UInt64.self)
        header.storeBytes(of: words.3 | UInt64(networkChecksum), toByteOffset: 24, as: UInt64.self)
        header.storeBytes(of: words.4 | length &<< 48, toByteOffset: 32, as: UInt64.self)
        header.storeBytes(of: checksum, toByteOffset: 40, as: UInt16.self)
    }
}
