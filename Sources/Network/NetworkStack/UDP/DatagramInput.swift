import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

extension NetworkStack {
    /// Takes over a UDP packet, and queues it at the socket that it is for.
    /// - Parameters:
    ///   - packet: the IPv4 header, which has been checked.
    ///   - transport: the UDP header, with `byteCount` bytes up to the end of the packet.
    func datagramInput(_ frame: Frame, _ packet: UnsafeRawPointer, transport: UnsafeRawPointer, byteCount: Int) {
        guard let datagram = checkDatagram(frame, packet, transport, byteCount) else { return }
        let socket = findDatagramSocket((packet + 12).loadUnaligned(as: UInt64.self), transport.loadUnaligned(as: UInt32.self))
        guard socket != 0 else { return refuseDatagram(frame, IPv4View(unchecked: packet)) }
        queueDatagram(frame, packet, datagram, at: socket)
    }

    /// The datagram in a packet when its length and checksum are right; else the frame is dropped.
    @inline(__always)
    func checkDatagram(_ frame: Frame, _ packet: UnsafeRawPointer, _ transport: UnsafeRawPointer, _ byteCount: Int) -> UDPView? {
        guard UDPView.check(transport, count: byteCount) == .none else {
            drop(frame, .badDatagram)
            return nil
        }
        let datagram = UDPView(unchecked: transport)
        //= RFC 768 section IP Interface
        //# The UDP module must be able to determine the source and destination internet addresses and the protocol field from the internet header.
        let addresses = (packet + 12).loadUnaligned(as: UInt64.self)
        if !frame.frameFlags.contains(.checksumVerified) {
            let pseudoHeader = InternetChecksum.pseudoHeader(
                rawAddresses: addresses, protocolNumber: IPProtocol.udp, byteCount: datagram.byteCount)
            guard datagram.isChecksumValid(pseudoHeader) else {
                drop(frame, .badDatagramChecksum)
                return nil
            }
        }
        return datagram
    }

    /// Puts a datagram, which has been checked, into the queue of its socket.
    /// - Parameter packet: the IP header of either family.
    @inline(__always)
    func queueDatagram(_ frame: Frame, _ packet: UnsafeRawPointer, _ datagram: UDPView, at socket: UInt32) {
        let s = state.pointee.datagramSockets[socket]
        // By block, because that is what a datagram keeps from others; one fits always.
        let queuedByteCount = s.pointee.queuedByteCount &+ frame.blockByteCount
        guard queuedByteCount <= state.pointee.configuration.limits.datagramQueueByteCount || s.pointee.queue.isEmpty else {
            return drop(frame, .receiveQueueFull)
        }
        if state.pointee.heap.usedByteCount >= state.pointee.pressureByteCount && state.pointee.heap.pressure >= .dropDatagrams {
            return drop(frame, .outOfMemory)
        }
        // The headers stay where they are, in front of the payload; where they begin is told by the word that an array in no queue has no use for.
        frame.pointee.operation = UInt32(truncatingIfNeeded: packet.distance(to: datagram.payload))
        frame.removeFirst(UnsafeRawPointer(frame.segmentAddress).distance(to: datagram.payload))
        frame.truncate(to: datagram.payloadByteCount)
        s.pointee.queuedByteCount = queuedByteCount
        s.pointee.enqueue(frame)
        state.pointee.statistics.datagramsReceived &+= 1
        raiseDatagramEvent(socket)
    }

    @inline(never)
    private func refuseDatagram(_ frame: Frame, _ packet: IPv4View) {
        //= RFC 1122 section 4.1.3.1
        //# If a datagram arrives addressed to a UDP port for which there is no pending LISTEN call, UDP SHOULD send an ICMP Port Unreachable message.
        sendControlError(.portUnreachable, about: packet, in: frame)
        drop(frame, .noDatagramSocket)
    }

    /// Takes an error that concerns what a socket has sent. That a path takes less than was sent concerns every socket, and the next datagram fits.
    ///
    /// RFC 1122, section 4.1.3.3, wants all errors told. A socket with many peers is not: one of them that is gone, or one who pretends, would stop it
    /// from talking to the others, and it could not tell which one is meant.
    /// - Parameter quotedByteCount: the length of the packet that the error is about, as quoted.
    /// - Returns: whether there is such a socket, and it was told.
    //= RFC 1122 section 4.1.3.3
    //# UDP MUST pass to the application layer all ICMP error messages that it receives from the IP layer.
    func datagramControlMessage(_ error: ControlError, local: Endpoint, remote: Endpoint, quotedByteCount: Int) -> Bool {
        let key = DatagramFilter.key(local: local, remote: remote)
        let socket = local.address.isIPv4 ? findDatagramSocket(key.addresses, key.ports) : findIPv6DatagramSocket(remote, local)
        guard socket != 0 else { return false }
        let s = state.pointee.datagramSockets[socket]
        let isConnected = s.pointee.flags.contains(.isConnected)
        if case .fragmentationNeeded(let mtu) = error {
            datagramTooBig(s, to: remote.address, Int(mtu), quotedByteCount: quotedByteCount)
            guard isConnected else { return true }
        }
        guard isConnected else { return false }
        state.pointee.datagramSockets[socket].pointee.error = error.errorNumber
        raiseDatagramEvent(socket)
        return true
    }

    // MARK: Taking

    /// Whether a datagram has come that nobody has taken.
    public func hasDatagram(_ socket: UInt32) -> Bool { !datagramSocket(socket).pointee.queue.isEmpty }

    /// The oldest datagram that has come, who sent it, and how far in front of its payload its IP header lies; nil for none. The payload, which may be empty, is the received frame's own memory; it is
    /// the caller's. O(1).
    //= RFC 768 section User Interface
    //# receive operations on the receive ports that return the data octets and an indication of source port and source address
    public func receiveDatagram(_ socket: UInt32) -> (payload: Frame, source: Endpoint, headerDistance: Int)? {
        let s = datagramSocket(socket)
        guard let frame = s.pointee.dequeue() else { return nil }
        s.pointee.queuedByteCount &-= frame.blockByteCount
        // The headers have been checked, and the block is the frame's: they are still what they were.
        let payload = UnsafeRawPointer(frame.segmentAddress)
        let header = payload - Int(frame.pointee.operation)
        let source = Endpoint(
            address: header.load(as: UInt8.self) >> 4 == 4
                ? IPAddress(ipv4Raw: header.loadUnaligned(fromByteOffset: 12, as: UInt32.self)) : IPAddress(ipv6At: header + 8),
            port: UInt16(bigEndian: payload.loadUnaligned(fromByteOffset: -UDPHeader.byteCount, as: UInt16.self)))
        frame.pointee.operation = 0
        frame.pointee.nextArray = nil
        if DeliberateBug.isPresent(.datagramsMerged), let next = s.pointee.dequeue() { frame.join(next, behind: frame.lastSegment) }
        return (frame, source, payload - header)
    }
}
