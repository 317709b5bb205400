import EthernetDevice
import WireFormats

/// The headers of a socket's datagrams to one destination, made once, with the sums of what never changes in them.
///
/// Layout: 14 bytes of Ethernet, 20 of IPv4, 8 of UDP, in network byte order as they lie in memory, without the UDP checksum. Lengths, and the checksum
/// of the IPv4 header, are those of one size of payload: most datagrams have the size of the one before.
struct DatagramTemplate {
    private var words: (UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0)
    /// The size of payload for which the words are; more than any for none.
    private var payloadByteCount = UInt32.max
    /// With the flag that the device completes the checksum: its field then gets the sum of the pseudo header alone.
    private(set) var frameFlags = FrameFlags()
    /// Of the pseudo header and the UDP header; of the pseudo header alone where the device completes the checksum.
    private var transportSum: UInt64 = 0
    // Without lengths.
    private var networkSum: UInt64 = 0
    private var pseudoHeaderSum: UInt64 = 0
    private var portSum: UInt64 = 0

    var isOffloaded: Bool { frameFlags == .needsTransportChecksum }

    static let byteCount = EthernetHeader.byteCount + IPv4Header.byteCount + UDPHeader.byteCount

    init() {}

    init(destination: MACAddress, source: MACAddress, local: Endpoint, remote: Endpoint, hopLimit: UInt8, trafficClass: UInt8, isOffloaded: Bool) {
        if isOffloaded { frameFlags = .needsTransportChecksum }
        withUnsafeMutableBytes(of: &words) { bytes in
            let base = bytes.baseAddress.unsafelyUnwrapped
            let network = base + EthernetHeader.byteCount
            EthernetHeader.write(to: base, destination: destination, source: source, etherType: EtherType.ipv4)
            // With "don't fragment": a router on a narrower way tells, and later datagrams are cut here, where identifications do not come again soon.
            //= RFC 6864 section 4.1
            //# Originating sources MAY set the IPv4 ID field of atomic datagrams to any value.
            IPv4Header.write(
                to: network, totalByteCount: 0, identification: 0, dontFragment: true, timeToLive: hopLimit, typeOfService: trafficClass,
                protocolNumber: IPProtocol.udp, source: local.address, destination: remote.address)
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
    mutating func write(to header: UnsafeMutableRawPointer, payloadByteCount: Int, payloadSum: UInt64) {
        if self.payloadByteCount != UInt32(truncatingIfNeeded: payloadByteCount) { setPayload(payloadByteCount) }
        var checksum: UInt16
        if isOffloaded {
            checksum = InternetChecksum.fold(transportSum)
        } else {
            //= RFC 768 section Checksum
            //# Checksum is the 16-bit one's complement of the one's complement sum of a pseudo header of information from the IP header, the UDP header, and
            //# the data.
            //= RFC 1122 section 4.1.3.4
            //# An application MAY optionally be able to control whether a UDP checksum will be generated, but it MUST default to checksumming on.
            checksum = InternetChecksum.finish(transportSum &+ payloadSum)
            //= RFC 768 section Checksum
            //# If the computed checksum is zero, it is transmitted as all ones (the equivalent in one's complement arithmetic).
            if checksum == 0 { checksum = 0xffff }
        }
        header.storeBytes(of: words, as: (UInt64, UInt64, UInt64, UInt64, UInt64).self)
        header.storeBytes(of: checksum, toByteOffset: 40, as: UInt16.self)
    }

    /// Sets what the size of the payload decides.
    @inline(never)
    private mutating func setPayload(_ byteCount: Int) {
        payloadByteCount = UInt32(truncatingIfNeeded: byteCount)
        let length = UInt16(truncatingIfNeeded: byteCount &+ UDPHeader.byteCount).bigEndian
        let total = UInt16(truncatingIfNeeded: byteCount &+ UDPHeader.byteCount &+ IPv4Header.byteCount).bigEndian
        withUnsafeMutableBytes(of: &words) { bytes in
            bytes.storeBytes(of: total, toByteOffset: 16, as: UInt16.self)
            bytes.storeBytes(of: InternetChecksum.finish(networkSum &+ UInt64(total)), toByteOffset: 24, as: UInt16.self)
            bytes.storeBytes(of: length, toByteOffset: 38, as: UInt16.self)
        }
        let pseudoHeader = pseudoHeaderSum &+ UInt64(length)
        transportSum = isOffloaded ? pseudoHeader : pseudoHeader &+ portSum &+ UInt64(length)
    }
}
