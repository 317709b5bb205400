import DatapathMemory
import EthernetDevice
import NetworkStack
import WireFormats

/// What the stack sends: taken, held against the formats, and released.
extension StackWorld {
    /// The device takes some frames, and may give some of them back.
    func takeOutput() throws(FuzzFailure) {
        let choices = input.byte()
        try takeOutput(capacity: Int(choices & 0x3f) + 1, returned: choices >> 6)
    }

    func takeAllOutput() throws(FuzzFailure) {
        var count = 0
        while stack.hasOutput {
            count += try takeOutput(capacity: 64, returned: 0)
            try require(count <= StackWorld.maximumOutput, "the output does not end")
        }
    }

    @discardableResult
    private func takeOutput(capacity: Int, returned: UInt8) throws(FuzzFailure) -> Int {
        var failure: FuzzFailure?
        let count = withUnsafeTemporaryAllocation(of: Frame.self, capacity: 64) { frames in
            let count = stack.takeOutput(into: frames.baseAddress!, capacity: capacity)
            let taken = max(0, count - Int(returned))
            for frame in frames.prefix(taken) {
                lastSent = bytes(of: frame)
                frame.releaseArray()
                do throws(FuzzFailure) { try checkFrame() } catch { failure = failure ?? error }
            }
            if taken < count { stack.returnOutput(frames.baseAddress! + taken, count: count - taken) }
            return count
        }
        if let failure { throw failure }
        return count
    }

    func bytes(of array: Frame) -> [UInt8] {
        [UInt8](unsafeUninitializedCapacity: array.arrayByteCount) { buffer, count in
            if let base = buffer.baseAddress { array.copyArray(to: base) }
            count = array.arrayByteCount
        }
    }

    /// Looks at `lastSent`.
    private func checkFrame() throws(FuzzFailure) {
        var failure: FuzzFailure?
        lastSent.withUnsafeBytes { bytes in
            do throws(FuzzFailure) { try checkFrame(bytes) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    private func checkFrame(_ bytes: UnsafeRawBufferPointer) throws(FuzzFailure) {
        guard let base = bytes.baseAddress, let frame = EthernetView(base, count: bytes.count) else {
            throw FuzzFailure(description: "a frame is cut short")
        }
        try require(bytes.count <= 14 + maximumTransmissionUnit, "a frame is longer than the link allows")
        try require(frame.source == StationFrames.macAddress && frame.vlanIdentifier == nil, "a frame has another sender")
        if frame.etherType == EtherType.ipv6 { return try checkIPv6(frame) }
        if frame.etherType == EtherType.arp {
            try require(!frame.destination.isGroup || frame.destination.isBroadcast, "a frame goes to a group")
            guard let packet = ARPPacket(parsing: frame.payload, count: frame.payloadByteCount) else {
                throw FuzzFailure(description: "a wrong ARP packet is sent")
            }
            let isOwn = packet.senderProtocol == StationFrames.address || packet.senderProtocol == StationFrames.secondAddress
            return try require(packet.senderHardware == StationFrames.macAddress && isOwn, "an ARP packet speaks for somebody else")
        }
        try require(frame.etherType == EtherType.ipv4, "a frame has another type")
        try require(IPv4View.check(frame.payload, count: frame.payloadByteCount) == .none, "a wrong IPv4 header is sent")
        let packet = IPv4View(unchecked: frame.payload)
        try require(packet.totalByteCount == frame.payloadByteCount, "a packet has another length than its frame")
        try require(packet.isChecksumValid, "an IPv4 header has a wrong checksum")
        try require(packet.source == StationFrames.address || packet.source == StationFrames.secondAddress, "a packet has another sender")
        try require(!packet.destination.isLoopback && !packet.destination.isUnspecified, "a packet goes to nobody")
        let isToItsGroup = packet.destination.isMulticast ? frame.destination == packet.destination.multicastMACAddress : !frame.destination.isGroup
        try require(isToItsGroup || frame.destination.isBroadcast, "a group's packet goes elsewhere, or another one to a group")
        try require(packet.timeToLive > 0, "a packet cannot arrive")
        if packet.isFragment {
            let isCut = packet.protocolNumber == IPProtocol.udp || packet.protocolNumber == IPProtocol.icmp
            let isWhole = packet.payloadByteCount > 0 && (!packet.moreFragments || packet.payloadByteCount % 8 == 0)
            return try require(isCut && isWhole && !packet.dontFragment, "a fragment is sent that cannot be one")
        }
        try checkTransport(packet, frame.destination)
    }

    private func checkIPv6(_ frame: EthernetView) throws(FuzzFailure) {
        try require(IPv6View.check(frame.payload, count: frame.payloadByteCount) == .none, "a wrong IPv6 header is sent")
        let packet = IPv6View(unchecked: frame.payload)
        try require(stack.speaksIPv6 && packet.totalByteCount == frame.payloadByteCount, "a packet has another length than its frame")
        let (source, destination) = (packet.source, packet.destination)
        try require(!source.isIPv4 && !destination.isIPv4 && !destination.isUnspecified, "IPv4 is sent as IPv6, or a packet goes to nobody")
        try require(!source.isMulticast && !source.isLoopback && !destination.isLoopback, "a packet comes from a group, or has left the host")
        try require(
            frame.destination == (destination.isMulticast ? destination.multicastMACAddress : frame.destination)
                && frame.destination.isGroup == destination.isMulticast, "a group's packet goes elsewhere")
        let extensions = IPv6Extensions(packet)
        try require(extensions.fault == .none, "extension headers are wrong")
        if let fragment = extensions.fragment {
            return try require(fragment.nextHeader == IPProtocol.udp || fragment.nextHeader == IPProtocol.icmpv6, "a segment is sent in fragments")
        }
        let byteCount = packet.totalByteCount - extensions.offset
        let pseudoHeader = InternetChecksum.pseudoHeader(
            source: source, destination: destination, protocolNumber: extensions.nextHeader, byteCount: byteCount)
        let sum = InternetChecksum.sum(packet.base + extensions.offset, count: byteCount)
        try require(InternetChecksum.isValid(pseudoHeader &+ sum), "a packet has a wrong checksum")
    }

    private func checkTransport(_ packet: IPv4View, _ destination: MACAddress) throws(FuzzFailure) {
        let bytes = UnsafeRawBufferPointer(start: packet.payload, count: packet.payloadByteCount)
        let pseudoHeaderSum = InternetChecksum.pseudoHeader(
            rawAddresses: packet.rawAddresses, protocolNumber: packet.protocolNumber, byteCount: bytes.count)
        switch packet.protocolNumber {
        case IPProtocol.icmp:
            try require(bytes.count >= 8 && InternetChecksum.isValid(InternetChecksum.sum(packet.payload, count: bytes.count)), "a wrong ICMP message is sent")
        case IPProtocol.igmp:
            let isRight = packet.timeToLive == 1 && packet.headerByteCount == 24 && packet.destination.isMulticast
            try require(
                isRight && bytes.count >= 8 && InternetChecksum.isValid(InternetChecksum.sum(packet.payload, count: bytes.count)),
                "a wrong IGMP message is sent")
        case IPProtocol.udp:
            try require(UDPView.check(packet.payload, count: bytes.count) == .none, "a wrong UDP header is sent")
            let datagram = UDPView(unchecked: packet.payload)
            try require(datagram.byteCount == bytes.count && datagram.hasChecksum, "a datagram has another length, or no checksum")
            try require(datagram.isChecksumValid(pseudoHeaderSum), "a datagram has a wrong checksum")
            try require(datagram.sourcePort != 0 && datagram.destinationPort != 0, "a datagram has no port")
        case IPProtocol.tcp:
            var header = TCPSegmentHeader()
            try require(TCPSegmentHeader.parse(packet.payload, count: bytes.count, into: &header) == .none, "a wrong TCP header is sent")
            try require(
                TCPSegmentHeader.isChecksumValid(packet.payload, count: bytes.count, pseudoHeaderSum: pseudoHeaderSum), "a segment has a wrong checksum")
            try require(!header.hasMalformedOptions && header.sourcePort != 0 && header.destinationPort != 0, "a segment has a wrong option, or no port")
            try require(!destination.isGroup, "a segment goes to several")
            try followSegment(packet, header, UnsafeRawBufferPointer(rebasing: bytes[header.headerByteCount...]), destination)
        default: throw FuzzFailure(description: "a packet has another protocol")
        }
    }

    private func followSegment(
        _ packet: IPv4View, _ header: TCPSegmentHeader, _ payload: UnsafeRawBufferPointer, _ destination: MACAddress
    ) throws(FuzzFailure) {
        if let known = flow(packet.destination, header.destinationPort, packet.source, header.sourcePort) {
            return try flows[known].sent(header, payload: payload, scalesWindows: scalesWindows)
        }
        // A reset to a segment that was never a connection is none now.
        guard !header.flags.contains(.rst) else { return }
        var flow = StackFlow(
            station: Station(macAddress: destination, address: packet.destination), remotePort: header.destinationPort, localAddress: packet.source,
            localPort: header.sourcePort, peerSequence: header.flags.contains(.ack) ? header.acknowledgement.rawValue : 0xffff_fff8)
        try flow.sent(header, payload: payload, scalesWindows: scalesWindows)
        keep(flow)
    }
}
