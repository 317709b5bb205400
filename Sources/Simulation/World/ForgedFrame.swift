import WireFormats

/// Frames made by hand, for raw hosts.
public enum ForgedFrame {
    /// A TCP segment, with correct checksums.
    public struct Segment {
        public var source: Endpoint
        public var destination: Endpoint
        public var sequence: UInt32 = 0
        public var acknowledgement: UInt32 = 0
        public var flags: TCPFlags = []
        public var window: UInt16 = 65_535
        /// Whole options; padded with ends of list to a multiple of four bytes, cut to 40.
        public var options: [UInt8] = []
        public var payload: [UInt8] = []

        public init(from source: Endpoint, to destination: Endpoint) {
            self.source = source
            self.destination = destination
        }
    }

    public static func tcp(_ segment: Segment, from source: MACAddress, to destination: MACAddress) -> [UInt8] {
        var options = Array(segment.options.prefix(40))
        while options.count % 4 != 0 { options.append(TCPOptionKind.endOfList) }
        var tcp: [UInt8] = []
        append(segment.source.port, to: &tcp)
        append(segment.destination.port, to: &tcp)
        append(segment.sequence, to: &tcp)
        append(segment.acknowledgement, to: &tcp)
        tcp += [UInt8((20 + options.count) / 4) << 4, segment.flags.rawValue]
        append(segment.window, to: &tcp)
        tcp += [0, 0, 0, 0]
        tcp += options
        tcp += segment.payload
        return packet(
            IPProtocol.tcp, tcp, checksumAt: 16, segment.source.address, segment.destination.address, from: source, to: destination)
    }

    /// A UDP datagram, with a correct checksum.
    public static func udp(
        from source: Endpoint, to destination: Endpoint, _ payload: [UInt8], from sourceMAC: MACAddress, to destinationMAC: MACAddress
    ) -> [UInt8] {
        var udp: [UInt8] = []
        append(source.port, to: &udp)
        append(destination.port, to: &udp)
        append(UInt16(8 + payload.count), to: &udp)
        udp += [0, 0]
        udp += payload
        return packet(IPProtocol.udp, udp, checksumAt: 6, source.address, destination.address, from: sourceMAC, to: destinationMAC)
    }

    public static func arp(_ packet: ARPPacket, from source: MACAddress, to destination: MACAddress) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: EthernetHeader.byteCount + ARPPacket.byteCount)
        bytes.withUnsafeMutableBytes { buffer in
            let base = buffer.baseAddress!
            EthernetHeader.write(to: base, destination: destination, source: source, etherType: EtherType.arp)
            packet.write(to: base + EthernetHeader.byteCount)
        }
        return bytes
    }

    /// A neighbour's answer to a solicitation for its IPv6 address.
    public static func neighborAdvertisement(
        of address: IPAddress, to solicitor: IPAddress, from source: MACAddress, to destination: MACAddress
    ) -> [UInt8] {
        var message = [UInt8](repeating: 0, count: ICMPv6Message.maximumNeighborDiscoveryByteCount)
        message.withUnsafeMutableBytes { buffer in
            _ = ICMPv6Message.writeNeighborAdvertisement(
                to: buffer.baseAddress!, of: address, macAddress: source, isSolicited: true, overrides: true)
        }
        return packet(IPProtocol.icmpv6, message, checksumAt: 2, address, solicitor, hopLimit: 255, from: source, to: destination)
    }

    private static func packet(
        _ protocolNumber: UInt8, _ transport: [UInt8], checksumAt offset: Int, _ source: IPAddress, _ destination: IPAddress,
        hopLimit: UInt8 = 64, from sourceMAC: MACAddress, to destinationMAC: MACAddress
    ) -> [UInt8] {
        let headerByteCount = source.isIPv4 ? IPv4Header.byteCount : IPv6Header.byteCount
        var bytes = [UInt8](repeating: 0, count: EthernetHeader.byteCount + headerByteCount) + transport
        bytes.withUnsafeMutableBytes { buffer in
            let base = buffer.baseAddress!
            EthernetHeader.write(
                to: base, destination: destinationMAC, source: sourceMAC, etherType: source.isIPv4 ? EtherType.ipv4 : EtherType.ipv6)
            let header = base + EthernetHeader.byteCount
            if source.isIPv4 {
                IPv4Header.write(
                    to: header, totalByteCount: headerByteCount + transport.count, identification: 0, dontFragment: true, timeToLive: 64,
                    protocolNumber: protocolNumber, source: source, destination: destination)
            } else {
                IPv6Header.write(
                    to: header, payloadByteCount: transport.count, nextHeader: protocolNumber, hopLimit: hopLimit, source: source,
                    destination: destination)
            }
            let pseudo = InternetChecksum.pseudoHeader(
                source: source, destination: destination, protocolNumber: protocolNumber, byteCount: transport.count)
            let body = header + headerByteCount
            (body + offset).storeBytes(
                of: InternetChecksum.finish(InternetChecksum.sum(body, count: transport.count) &+ pseudo), as: UInt16.self)
        }
        return bytes
    }

    private static func append(_ value: some FixedWidthInteger, to bytes: inout [UInt8]) {
        withUnsafeBytes(of: value.bigEndian) { bytes += $0 }
    }
}
