import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// Datagrams to all hosts of a link.
extension NetworkStack {
    /// Whether a socket may send to broadcast addresses, which it may not at first.
    public func setBroadcast(_ socket: UInt32, _ isOn: Bool) {
        let s = datagramSocket(socket)
        if isOn { s.pointee.flags.insert(.sendsBroadcasts) } else { s.pointee.flags.remove(.sendsBroadcasts) }
        // What is ready for a broadcast address asks again.
        s.pointee.templateEpoch = 0
    }

    public func isBroadcast(_ socket: UInt32) -> Bool { datagramSocket(socket).pointee.flags.contains(.sendsBroadcasts) }

    // MARK: Receiving

    /// Takes over a UDP packet to a broadcast address: every socket gets it that is bound to the port and takes what comes to any address.
    func groupDatagramInput(_ frame: Frame, _ packet: IPv4View) {
        guard let datagram = checkDatagram(frame, packet.base, packet.payload, packet.payloadByteCount) else { return }
        let addresses = packet.rawAddresses
        let ports = packet.payload.loadUnaligned(as: UInt32.self)
        distribute(frame, packet.base, datagram) { $0.pointee.filter.matches(addresses, ports) }
    }

    /// Gives every socket of the port that `takes` it a descriptor of its own of the datagram's bytes. O(sockets of the port). Nobody is told when there
    /// is none.
    //= RFC 1122 section 3.2.2
    //# An ICMP error message MUST NOT be sent as the result of receiving a datagram destined to an IP broadcast or IP multicast address.
    private func distribute(_ frame: Frame, _ packet: UnsafeRawPointer, _ datagram: UDPView, takes: (DatagramSocketPointer) -> Bool) {
        var last: UInt32 = 0
        var socket = state.pointee.datagramPorts[Int(datagram.destinationPort)]
        while socket != 0 {
            let s = state.pointee.datagramSockets[socket]
            if takes(s) {
                if last != 0 { queueShare(frame, packet, datagram, at: last) }
                last = socket
            }
            socket = s.pointee.nextOnPort
        }
        guard last != 0 else { return drop(frame, .noDatagramSocket) }
        queueDatagram(frame, packet, datagram, at: last)
    }

    /// Queues the same bytes once more; the frame stays the caller's.
    private func queueShare(_ frame: Frame, _ packet: UnsafeRawPointer, _ datagram: UDPView, at socket: UInt32) {
        guard let share = frame.makeSlice(offset: 0, byteCount: frame.segmentByteCount) else { return countUnsent(.outOfMemory) }
        queueDatagram(share, packet, datagram, at: socket)
    }

    // MARK: Sending

    /// Sends to the group of the socket's template. The array is taken over when 0 is returned.
    //= RFC 1122 section 3.3.6
    //# When a host sends a datagram to a link-layer broadcast address, the IP destination address MUST be a legal IP broadcast or IP multicast address.
    func sendToGroup(_ s: DatagramSocketPointer, _ array: Frame, _ byteCount: Int) -> Int32 {
        // Each host would have to put the fragments together.
        guard byteCount &+ UDPHeader.byteCount &+ IPv4Header.byteCount <= state.pointee.maximumTransmissionUnit else { return EMSGSIZE }
        guard !state.pointee.output.pointee.isFull, let frame = makeDatagramFrame(s, array, byteCount) else { return ENOBUFS }
        state.pointee.statistics.datagramsSent &+= 1
        // The link does not bring it back to this host, which is one of those that it is for.
        if state.pointee.datagramPorts[Int(s.pointee.templateRemote.port)] != 0 { deliverCopyLocally(frame) }
        emit(frame)
        return 0
    }

    /// Has the host receive what it sends; the frame stays the caller's. O(bytes).
    private func deliverCopyLocally(_ frame: Frame) {
        guard let copy = Frame.makeSegment(state.pointee.heap, byteCount: frame.arrayByteCount, priority: .datagram) else {
            return countUnsent(.outOfMemory)
        }
        frame.copyArray(to: copy.segmentAddress)
        deliverLocally(copy)
    }
}
