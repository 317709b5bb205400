import DatapathMemory
import EthernetDevice
import WireFormats

extension NetworkStack {
    /// The short way for a datagram that a socket awaits, with nothing odd in any header; what is not plain goes the long way (`ethernetInput` and on).
    /// - Parameter header: the frame's Ethernet header: for this station, IPv4 without options, no fragment, protocol UDP.
    @inline(never)
    func predictDatagram(_ frame: Frame, _ header: UnsafeRawPointer, _ delivery: UnsafeMutablePointer<Delivery>) -> Prediction {
        let totalByteCount = Int((header + 16).loadUnaligned(as: UInt16.self).bigEndian)
        let byteCount = Int((header + 38).loadUnaligned(as: UInt16.self).bigEndian)
        guard totalByteCount <= frame.segmentByteCount &- EthernetHeader.byteCount, byteCount >= UDPHeader.byteCount,
            byteCount == totalByteCount &- IPv4Header.byteCount
        else { return .failed }
        let addresses = (header + 26).loadUnaligned(as: UInt64.self)
        let socket = findDatagramSocket(addresses, (header + 34).loadUnaligned(as: UInt32.self))
        guard socket != 0 else { return .failed }
        let s = state.pointee.datagramSockets[socket]
        guard s.pointee.awaitsDatagram != 0, s.pointee.queue.isEmpty, s.pointee.error == 0,
            UInt32(truncatingIfNeeded: addresses &>> 32) == state.pointee.primaryAddressRaw,
            isPossibleSource(UInt32(truncatingIfNeeded: addresses)), state.pointee.heap.usedByteCount < state.pointee.pressureByteCount
        else { return .failed }
        if !frame.frameFlags.contains(.checksumVerified) {
            guard InternetChecksum.isValid(ipv4Header: header + EthernetHeader.byteCount) else { return .failed }
            //= RFC 768 section Checksum
            //# An all zero transmitted checksum value means that the transmitter generated no checksum.
            if (header + 40).loadUnaligned(as: UInt16.self) != 0 {
                guard InternetChecksum.isValid(header + 34, byteCount: byteCount, rawAddresses: addresses, protocolNumber: IPProtocol.udp)
                else { return .failed }
            }
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
