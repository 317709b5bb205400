import DatapathMemory
import EthernetDevice
import WireFormats

/// How a packet came to the stack.
enum PacketOrigin: UInt8 {
    /// In a frame to this station.
    case unicastFrame
    //= RFC 1122 section 2.4
    //# The packet receive interface between the IP layer and the link layer MUST include a flag to indicate whether the incoming packet was addressed to a
    //# link-layer broadcast address.
    /// In a frame to all stations, or to a group of them.
    case broadcastFrame
    /// From the stack itself.
    case loopback
}

extension NetworkStack {
    /// Takes over a frame from the device.
    func ethernetInput(_ frame: Frame) {
        state.pointee.statistics.framesReceived &+= 1
        let header = UnsafeRawPointer(frame.segmentAddress)
        let byteCount = frame.segmentByteCount
        // What nearly every frame is: for this station, EtherType 0x0800, version 4 and 5 words of header, all of which lie in the frame.
        guard frame.arraySegmentCount == 1, byteCount >= EthernetHeader.byteCount + IPv4Header.byteCount,
            header.loadUnaligned(as: UInt64.self) &<< 16 == state.pointee.shiftedMACAddress,
            (header + 12).loadUnaligned(as: UInt32.self) & 0xff_ffff == 0x45_0008
        else { return ethernetInputSlowly(frame) }
        let packet = header + EthernetHeader.byteCount
        let totalByteCount = Int(UInt16(bigEndian: (packet + 2).loadUnaligned(as: UInt16.self)))
        let end = EthernetHeader.byteCount &+ totalByteCount
        guard end <= byteCount, isPlain(packet, totalByteCount, frame.frameFlags) else {
            return ipv4Input(frame, at: EthernetHeader.byteCount, origin: .unicastFrame)
        }
        // What is behind the packet has filled the frame up to Ethernet's 60 bytes.
        if end < byteCount && !DeliberateBug.isPresent(.paddingTakenAsData) { frame.truncate(to: end) }
        switch (packet + 9).load(as: UInt8.self) {
        case IPProtocol.udp:
            datagramInput(frame, packet, transport: packet + IPv4Header.byteCount, byteCount: totalByteCount &- IPv4Header.byteCount)
        case IPProtocol.tcp:
            segmentInput(frame, IPv4View(unchecked: packet))
        default:
            ipv4Input(frame, at: EthernetHeader.byteCount, origin: .unicastFrame)
        }
    }

    /// Whether `ipv4Input` would find nothing to object to in a header of 20 bytes, whatever it would be.
    @inline(__always)
    private func isPlain(_ packet: UnsafeRawPointer, _ totalByteCount: Int, _ flags: FrameFlags) -> Bool {
        let addresses = (packet + 12).loadUnaligned(as: UInt64.self)
        // No fragment; DF may be set.
        guard totalByteCount >= IPv4Header.byteCount, (packet + 6).loadUnaligned(as: UInt16.self) & 0xffbf == 0,
            UInt32(truncatingIfNeeded: addresses &>> 32) == state.pointee.primaryAddressRaw,
            isPossibleSource(UInt32(truncatingIfNeeded: addresses))
        else { return false }
        if flags.contains(.checksumVerified) { return true }
        let (half, carry) = packet.loadUnaligned(as: UInt64.self).addingReportingOverflow((packet + 8).loadUnaligned(as: UInt64.self))
        let (sum, secondCarry) = half.addingReportingOverflow(UInt64((packet + 16).loadUnaligned(as: UInt32.self)))
        // A carry that is lost here makes a sum of 0, which is not valid either: `ipv4Input` then looks again.
        return InternetChecksum.isValid(sum &+ (carry ? 1 : 0) &+ (secondCarry ? 1 : 0))
    }

    @inline(never)
    private func ethernetInputSlowly(_ received: Frame) {
        // Headers are read at fixed places: a frame in pieces is put together first.
        guard let frame = received.arraySegmentCount == 1 ? received : makeLinearCopy(received) else { return }
        guard let view = EthernetView(frame.segmentAddress, count: frame.segmentByteCount) else { return drop(frame, .frameTooShort) }
        // A tag with identifier 0 gives a priority only (IEEE 802.1Q, clause 9.6); any other names a network that is not ours.
        guard view.vlanIdentifier ?? 0 == 0 else { return drop(frame, .notForThisHost) }
        // The source is not looked at: links with several active paths send from group addresses, and nothing is learnt from it.
        let destination = view.destination
        // Which groups the host is in the packet's own destination tells: several share a hardware address.
        let isGroup =
            destination.value >> 32 == 0x3333 && view.etherType == EtherType.ipv6 && state.pointee.ipv6.isEnabled
            || destination.value >> 23 == 0x0100_5e << 1 && view.etherType == EtherType.ipv4
        guard destination == state.pointee.macAddress || destination.isBroadcast || isGroup else { return drop(frame, .notForThisHost) }
        switch view.etherType {
        //= RFC 1122 section 2.3.3
        //# Every Internet host connected to a 10Mbps Ethernet cable MUST be able to send and receive packets using RFC-894 encapsulation.
        case EtherType.ipv4: ipv4Input(frame, at: view.payloadOffset, origin: destination.isGroup ? .broadcastFrame : .unicastFrame)
        case EtherType.ipv6 where state.pointee.ipv6.isEnabled:
            ipv6Input(frame, at: view.payloadOffset, origin: destination.isGroup ? .broadcastFrame : .unicastFrame)
        case EtherType.arp: arpInput(frame, at: view.payloadOffset)
        default: drop(frame, .unknownEtherType)
        }
    }
}
