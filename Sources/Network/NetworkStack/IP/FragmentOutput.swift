import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// A packet that is too large for its path, and what all its fragments have in their headers.
struct PacketToFragment {
    let source: IPAddress
    let destination: IPAddress
    let protocolNumber: UInt8
    var typeOfService: UInt8 = 0
    let hopLimit: UInt8
    /// The transport header where the payload does not begin with it, as it lies in memory: 8 bytes.
    var transportHeader: UInt64?

    var isIPv6: Bool { !destination.isIPv4 }
    /// Bytes of a fragment in front of its part of the packet.
    var headerByteCount: Int { isIPv6 ? IPv6Header.byteCount + IPv6FragmentHeader.byteCount : IPv4Header.byteCount }
}

/// Reads the bytes of an array from the front, segment by segment.
private struct ArrayReader {
    private var segment: Frame?
    private var offset = 0

    init(_ array: Frame) {
        segment = array
    }

    mutating func copy(to target: UnsafeMutableRawPointer, byteCount: Int) {
        var written = 0
        while written < byteCount, let current = segment {
            let count = min(byteCount &- written, current.segmentByteCount &- offset)
            if count > 0 { (target + written).copyMemory(from: current.segmentAddress + offset, byteCount: count) }
            written &+= count
            offset &+= count
            if offset == current.segmentByteCount { (segment, offset) = (current.nextSegment, 0) }
        }
    }
}

extension NetworkStack {
    /// Bytes of the largest packet that the way to `destination` takes, as far as is known: what the link takes, or less.
    //= RFC 8201 section 5.2
    //# When a Packet Too Big message is received, the node determines which path the message applies to based on the contents of the message: here it is the
    //# destination's.
    func pathMTU(to destination: IPAddress) -> Int {
        var byteCount = destination.isIPv4 ? state.pointee.maximumTransmissionUnit : state.pointee.ipv6.maximumTransmissionUnit
        if let path = state.pointee.pathMTUs.path(to: destination, now: state.pointee.now) { byteCount = min(byteCount, path.byteCount) }
        if let path = state.pointee.datagramPathMTUs.path(to: destination, now: state.pointee.now) { byteCount = min(byteCount, path.byteCount) }
        return max(byteCount, NetworkStack.smallestFragmentedPacket)
    }

    /// Smaller packets are not made whatever a path is said to take: a lie would make a thousand packets of one. Routers may cut further over IPv4.
    static var smallestFragmentedPacket: Int { 576 }

    /// Sends a packet in fragments of at most `limit` bytes; each is a frame of its own that its part is copied into. All are sent, or none.
    /// - Parameters:
    ///   - payload: stays the caller's.
    ///   - neighbor: who gets the frames.
    /// - Returns: 0, or `ENOBUFS` when the output or the heap has no room for all of them.
    //= RFC 1122 section 3.3.3
    //# Optionally, the IP layer MAY implement a mechanism to fragment outgoing datagrams intentionally.
    //= RFC 791 section 3.2
    //# If the total length is less than or equal the maximum transmission unit then submit this datagram to the next step in datagram processing; otherwise
    //# cut the datagram into two fragments
    func sendInFragments(_ packet: PacketToFragment, _ payload: Frame, to neighbor: UInt32, limit: Int) -> Int32 {
        let byteCount = payload.arrayByteCount &+ (packet.transportHeader == nil ? 0 : 8)
        //= RFC 8200 section 4.5
        //# The Fragmentable Part of the original packet is divided into fragments. The lengths of the fragments must be chosen such that the resulting fragment
        //# packets fit within the MTU of the path to the packet's destination(s). Each complete fragment, except possibly the last ("rightmost") one, is an
        //# integer multiple of 8 octets long.
        let size = (limit &- packet.headerByteCount) & ~7 &+ (DeliberateBug.isPresent(.fragmentTooLarge) ? 8 : 0)
        let count = (byteCount &+ size &- 1) / size
        guard state.pointee.output.pointee.count &+ count <= OutputRing.capacity else { return ENOBUFS }
        var fragments = FrameQueue()
        let frontByteCount = EthernetHeader.byteCount &+ packet.headerByteCount
        for index in 0..<count {
            let part = min(size, byteCount &- index &* size)
            guard let frame = Frame.makeSegment(state.pointee.heap, byteCount: frontByteCount &+ part, priority: .application) else {
                while let made = fragments.removeFirst() { made.releaseArray() }
                return ENOBUFS
            }
            fragments.append(frame)
        }
        let identification = nextIdentification(from: packet.source, to: packet.destination, protocolNumber: packet.isIPv6 ? 0 : packet.protocolNumber)
        var reader = ArrayReader(payload)
        var offset = 0
        while let frame = fragments.removeFirst() {
            let part = min(size, byteCount &- offset)
            let isLast = offset &+ part == byteCount && !DeliberateBug.isPresent(.lastFragmentOpen)
            writeFragmentHeaders(packet, frame.segmentAddress, byteCount: part, offset: offset, isLast: isLast, identification)
            var target = frame.segmentAddress + frontByteCount
            var left = part
            if offset == 0, let header = packet.transportHeader {
                target.storeBytes(of: header, as: UInt64.self)
                target += 8
                left &-= 8
            }
            reader.copy(to: target, byteCount: left)
            frame.frameFlags = []
            offset &+= part
            state.pointee.statistics.fragmentsSent &+= 1
            send(frame, to: neighbor)
        }
        state.pointee.statistics.datagramsFragmented &+= 1
        return 0
    }

    private func writeFragmentHeaders(
        _ packet: PacketToFragment, _ header: UnsafeMutableRawPointer, byteCount: Int, offset: Int, isLast: Bool, _ identification: UInt32
    ) {
        guard packet.isIPv6 else {
            writeEthernetHeader(at: header, destination: MACAddress(value: 0))
            // Whoever finds them too large still may cut them again.
            return IPv4Header.write(
                to: header + EthernetHeader.byteCount, totalByteCount: IPv4Header.byteCount &+ byteCount,
                identification: UInt16(truncatingIfNeeded: identification), dontFragment: false, moreFragments: !isLast, fragmentOffset: offset,
                timeToLive: packet.hopLimit, typeOfService: packet.typeOfService, protocolNumber: packet.protocolNumber, source: packet.source,
                destination: packet.destination)
        }
        writeIPv6Headers(
            at: header, hardware: MACAddress(value: 0), payloadByteCount: IPv6FragmentHeader.byteCount &+ byteCount,
            nextHeader: IPv6ExtensionType.fragment, hopLimit: packet.hopLimit, trafficClass: packet.typeOfService,
            from: packet.source, to: packet.destination)
        IPv6FragmentHeader.write(
            to: header + (EthernetHeader.byteCount + IPv6Header.byteCount), nextHeader: packet.protocolNumber, offset: offset, moreFragments: !isLast,
            identification: identification)
    }

    /// Takes over an echo reply behind its headers, and sends it, in fragments where it is too large for its way.
    func sendEchoReply(_ frame: Frame, _ packet: PacketToFragment, by decision: RouteDecision) {
        let byteCount = frame.segmentByteCount &- EthernetHeader.byteCount
        let limit = pathMTU(to: packet.destination)
        if decision.isLocal || byteCount <= limit { return sendPacket(frame, by: decision) }
        let neighbor = neighbor(for: decision.nextHop)
        guard neighbor != 0 else { return drop(frame, .neighborUnreachable) }
        frame.removeFirst(EthernetHeader.byteCount &+ (packet.isIPv6 ? IPv6Header.byteCount : IPv4Header.byteCount))
        guard sendInFragments(packet, frame, to: neighbor, limit: limit) == 0 else { return drop(frame, .outOfMemory) }
        frame.releaseArray()
    }
}
