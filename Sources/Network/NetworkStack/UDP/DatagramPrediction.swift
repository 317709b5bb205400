import DatapathMemory
import EthernetDevice
import WireFormats

extension NetworkStack {
    /// The same from the Ethernet header on.
    @inline(__always)
    func predictDatagram(_ frame: Frame, _ delivery: UnsafeMutablePointer<Delivery>) -> Prediction {
        let header = UnsafeRawPointer(frame.segmentAddress)
        guard frame.segmentByteCount >= DatagramTemplate.byteCount, frame.nextSegment == nil,
            header.loadUnaligned(as: UInt64.self) &<< 16 == state.pointee.shiftedMACAddress,
            // EtherType 0x0800, version 4, 5 words of header; best effort, and no marks.
            (header + 12).loadUnaligned(as: UInt32.self) == 0x0045_0008,
            // Neither a fragment nor one of many; DF may be set. Then the time to live, and the protocol.
            (header + 20).loadUnaligned(as: UInt32.self) & 0xff00_ffbf == UInt32(IPProtocol.udp) << 24
        else { return .failed }
        return predictDatagram(frame, header, delivery)
    }

    /// From the IPv4 header on, as a function of its own.
    @inline(never)
    func predictOneDatagram(_ frame: Frame, _ header: UnsafeRawPointer, _ delivery: UnsafeMutablePointer<Delivery>) -> Prediction {
        predictDatagram(frame, header, delivery)
    }

    /// The short way for a datagram that a socket awaits, with nothing odd in any header; what is not plain goes the long way (`ethernetInput` and on).
    /// - Parameter header: the frame's Ethernet header: for this station, IPv4 without options, no fragment, protocol UDP.
    @inline(__always)
    func predictDatagram(_ frame: Frame, _ header: UnsafeRawPointer, _ delivery: UnsafeMutablePointer<Delivery>) -> Prediction {
        let totalByteCount = Int((header + 16).loadUnaligned(as: UInt16.self).bigEndian)
        let byteCount = Int((header + 38).loadUnaligned(as: UInt16.self).bigEndian)
        guard totalByteCount <= frame.segmentByteCount &- EthernetHeader.byteCount, byteCount >= UDPHeader.byteCount,
            byteCount == totalByteCount &- IPv4Header.byteCount
        else { return .failed }
        let addresses = (header + 26).loadUnaligned(as: UInt64.self)
        let ports = (header + 34).loadUnaligned(as: UInt32.self)
        let s: DatagramSocketPointer
        if state.pointee.lastSender.addresses == addresses, state.pointee.lastSender.ports == UInt64(ports) {
            s = state.pointee.lastSender.socket.unsafelyUnwrapped
        } else {
            let socket = findDatagramSocket(addresses, ports)
            guard socket != 0, UInt32(truncatingIfNeeded: addresses &>> 32) == state.pointee.primaryAddressRaw,
                isPossibleSource(UInt32(truncatingIfNeeded: addresses))
            else { return .failed }
            s = state.pointee.datagramSockets[socket]
            state.pointee.lastSender = LastSender(addresses: addresses, ports: UInt64(ports), socket: s)
        }
        guard s.pointee.awaitsDatagram != 0, s.pointee.queue.isEmpty, s.pointee.deliveryObstacles == 0,
            state.pointee.heap.usedByteCount < state.pointee.pressureByteCount
        else { return .failed }
        if !frame.frameFlags.contains(.checksumVerified) {
            // A datagram without a checksum goes the long way, which knows that it may be.
            guard InternetChecksum.isValid(ipv4Header: header + EthernetHeader.byteCount),
                InternetChecksum.isValid(header + 34, byteCount: byteCount, rawAddresses: addresses, protocolNumber: IPProtocol.udp)
            else { return .failed }
        }
        state.pointee.statistics.framesReceived &+= 1
        state.pointee.statistics.datagramsReceived &+= 1
        s.pointee.awaitsDatagram = 0
        frame.removeFirst(DatagramTemplate.byteCount)
        frame.truncate(to: byteCount &- UDPHeader.byteCount)
        delivery.initialize(to: Delivery(payload: frame, owner: s.pointee.owner))
        return .delivered
    }
}

/// Who sent the last datagram of the short way, and the socket that it was for. What is known of it then, that addresses and socket belong together and
/// may send and receive, holds until a socket is bound, connected or closed, which forgets it.
struct LastSender {
    /// Source and destination as they lie in the headers.
    var addresses: UInt64 = 0
    /// More than 32 bits hold for none, which no header matches.
    var ports = UInt64.max
    /// Nil only with such ports.
    var socket: DatagramSocketPointer?
}
