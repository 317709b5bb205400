import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// Datagrams that are larger than what their way takes, and what routers say of that.
extension NetworkStack {
    /// Bytes of the largest payload of a datagram over IPv4: those of the largest packet behind its headers.
    public var maximumDatagramByteCount: Int { UDPHeader.maximumPayloadByteCount }

    /// The same over IPv6, whose length does not count the IP header.
    public var maximumIPv6DatagramByteCount: Int { 65_535 - UDPHeader.byteCount }

    /// Sends a datagram in fragments to the neighbour of the socket's template. The array is taken over when 0 is returned.
    func sendLargeDatagram(_ s: DatagramSocketPointer, _ array: Frame, _ byteCount: Int, limit: Int) -> Int32 {
        let remote = s.pointee.templateRemote
        var local = s.pointee.local
        if local.address.isUnspecified {
            guard let decision = route(to: remote.address) else { return ENETUNREACH }
            local.address = decision.source
        }
        // The checksum is that of the whole datagram, which no device sees: it is always computed here.
        var header: UInt64 = 0
        let pseudoHeader = InternetChecksum.pseudoHeader(
            source: local.address, destination: remote.address, protocolNumber: IPProtocol.udp, byteCount: UDPHeader.byteCount &+ byteCount)
        let sum = sumOfArray(array)
        withUnsafeMutableBytes(of: &header) {
            UDPHeader.write(
                to: $0.baseAddress.unsafelyUnwrapped, sourcePort: local.port, destinationPort: remote.port, payloadByteCount: byteCount,
                pseudoHeaderSum: pseudoHeader, payloadSum: sum)
        }
        let packet = PacketToFragment(
            source: local.address, destination: remote.address, protocolNumber: IPProtocol.udp,
            typeOfService: s.pointee.packetOptions.trafficClass, hopLimit: hopLimit(s.pointee.packetOptions, to: remote.address), transportHeader: header)
        let error = sendInFragments(packet, array, to: s.pointee.neighbor, limit: limit)
        guard error == 0 else { return error }
        array.releaseArray()
        state.pointee.statistics.datagramsSent &+= 1
        return 0
    }

    /// A router could not pass on a datagram: the next ones go in smaller fragments.
    ///
    /// Nothing in a datagram tells that the router has really seen it. So this is remembered apart from what is known by the segments of TCP, and sizes
    /// are not reduced below what paths take nearly everywhere.
    /// - Parameters:
    ///   - byteCount: the next hop's MTU; 0 when the router does not tell.
    ///   - quotedByteCount: the length of the packet that was too large, as quoted.
    func datagramTooBig(_ s: DatagramSocketPointer, to destination: IPAddress, _ byteCount: Int, quotedByteCount: Int) {
        let current = pathMTU(to: destination)
        // Below what was sent, and not below what is known: several that were under way make one step.
        let told = byteCount == 0 ? PathMTU.plateau(below: quotedByteCount) : byteCount
        //= RFC 8201 section 4
        //# If a node receives a Packet Too Big message reporting a next-hop MTU that is less than the IPv6 minimum link MTU, it must discard it. A node must
        //# not reduce its estimate of the Path MTU below the IPv6 minimum link MTU on receipt of a Packet Too Big message.
        //= RFC 5927 section 7.2
        //# A message whose claimed MTU is not smaller than the packet that it is about is discarded.
        guard told >= (destination.isIPv4 ? PathMTU.smallest : PathMTU.smallestIPv6), told < quotedByteCount else { return }
        if told < current { state.pointee.datagramPathMTUs.set(told, to: destination, now: state.pointee.now) }
        // The template is made again, and then knows, also of what another socket has met.
        s.pointee.templateEpoch = 0
    }
}
