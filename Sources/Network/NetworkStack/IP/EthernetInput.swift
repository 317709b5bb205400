import DatapathMemory
import EthernetDevice
import WireFormats

/// How a packet came to the stack.
enum PacketOrigin: UInt8 {
    /// In a frame to this station.
    case unicastFrame
    /// In a frame to all stations.
    case broadcastFrame
    /// From the stack itself.
    case loopback
}

extension NetworkStack {
    /// Takes over a frame from the device.
    func ethernetInput(_ frame: Frame) {
        state.pointee.statistics.framesReceived &+= 1
        let header = UnsafeRawPointer(frame.segmentAddress)
        // What nearly every frame is; 20 bytes follow the header at least, so the loads are inside.
        if frame.arraySegmentCount == 1, frame.segmentByteCount >= EthernetHeader.byteCount + IPv4Header.byteCount,
            let view = EthernetView(header, count: frame.segmentByteCount), view.etherType == EtherType.ipv4,
            view.payloadOffset == EthernetHeader.byteCount, view.destination == state.pointee.macAddress
        {
            return ipv4Input(frame, at: EthernetHeader.byteCount, origin: .unicastFrame)
        }
        ethernetInputSlowly(frame)
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
        guard destination == state.pointee.macAddress || destination.isBroadcast else { return drop(frame, .notForThisHost) }
        switch view.etherType {
        case EtherType.ipv4: ipv4Input(frame, at: view.payloadOffset, origin: destination.isBroadcast ? .broadcastFrame : .unicastFrame)
        case EtherType.arp: arpInput(frame, at: view.payloadOffset)
        default: drop(frame, .unknownEtherType)
        }
    }
}
