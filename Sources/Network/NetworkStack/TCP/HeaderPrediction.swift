import DatapathMemory
import EthernetDevice
import WireFormats

/// The short way for what most frames are: the next data, or an acknowledgement of something new, of an established connection, with nothing odd in
/// any header (Van Jacobson's header prediction, from the Ethernet header on).
///
/// Everything is compared in the form in which it lies in the frame, and nothing is changed before all of it is known to be plain. What is not plain
/// goes the long way (`ethernetInput` and on), which knows every rule. A connection that is found vouches for its addresses: they were looked at when
/// it was made.
extension NetworkStack {
    /// - Parameter place: where what is awaited goes; nil where nobody takes deliveries.
    @inline(__always)
    func predict(_ frame: Frame, _ place: UnsafeMutablePointer<Delivery>?) -> Prediction {
        let header = UnsafeRawPointer(frame.segmentAddress)
        let frameByteCount = frame.segmentByteCount
        // Ethernet, IPv4 and UDP.
        guard frameByteCount >= DatagramTemplate.byteCount, frame.nextSegment == nil,
            header.loadUnaligned(as: UInt64.self) & 0xffff_ffff_ffff == state.pointee.rawMACAddress
        else { return .failed }
        let kind = (header + 12).loadUnaligned(as: UInt32.self)
        // EtherType 0x0800, version 4, 5 words of header.
        guard kind & 0xff_ffff == 0x45_0008 else {
            return kind & 0xf0_ffff == 0x60_dd86 ? predictIPv6(frame, header, place) : .failed
        }
        // A router's mark is counted, and echoed, on the long way.
        guard kind & 0x300_0000 != 0x300_0000,
            // Neither a fragment nor one of many; DF may be set.
            (header + 20).loadUnaligned(as: UInt16.self) & 0xffbf == 0
        else { return .failed }
        let protocolNumber = (header + 23).load(as: UInt8.self)
        // TCP without options.
        guard protocolNumber == IPProtocol.tcp, frameByteCount >= HeaderTemplate.transportOffset + 20 else {
            guard protocolNumber == IPProtocol.udp, let place else { return .failed }
            return predictDatagram(frame, header, place)
        }
        let totalByteCount = Int((header + 16).loadUnaligned(as: UInt16.self).bigEndian)
        guard totalByteCount <= frameByteCount &- HeaderTemplate.ethernetByteCount else { return .failed }
        let transport = header + HeaderTemplate.transportOffset
        let addresses = (header + 26).loadUnaligned(as: UInt64.self)
        let ports = transport.loadUnaligned(as: UInt32.self).bigEndian
        let c: ConnectionPointer
        // Segments come in trains: mostly it is the connection of the one before.
        if let last = state.pointee.flows.last, last.pointee.rawAddresses == addresses, last.pointee.ports == ports {
            c = last
        } else {
            let index = state.pointee.flows.find(rawAddresses: addresses, ports, in: state.pointee.connections)
            guard index != 0 else { return .failed }
            c = state.pointee.connections[index]
            state.pointee.flows.last = c
        }
        return predictSegment(
            frame, c, transport, byteCount: totalByteCount &- HeaderTemplate.ipv4ByteCount, isIPv4: true, place)
    }

    /// The same from EtherType 0x86dd and version 6 on.
    @inline(never)
    private func predictIPv6(_ frame: Frame, _ header: UnsafeRawPointer, _ place: UnsafeMutablePointer<Delivery>?) -> Prediction {
        let transportOffset = EthernetHeader.byteCount + IPv6Header.byteCount
        guard frame.segmentByteCount >= transportOffset + TCPSegmentHeader.minimumByteCount,
            // No extension headers.
            (header + 20).load(as: UInt8.self) == IPProtocol.tcp,
            // A router's mark.
            (header + 15).load(as: UInt8.self) & 0x30 != 0x30
        else { return .failed }
        let byteCount = Int((header + 18).loadUnaligned(as: UInt16.self).bigEndian)
        guard byteCount <= frame.segmentByteCount &- transportOffset else { return .failed }
        let transport = header + transportOffset
        let ports = transport.loadUnaligned(as: UInt32.self).bigEndian
        let (remote, local) = (IPAddress(ipv6At: header + 22), IPAddress(ipv6At: header + 38))
        let c: ConnectionPointer
        if let last = state.pointee.flows.last, last.pointee.ports == ports, last.pointee.remoteAddress == remote, last.pointee.localAddress == local {
            c = last
        } else {
            let index = state.pointee.flows.find(ipv6: remote, local, ports, in: state.pointee.connections)
            guard index != 0 else { return .failed }
            c = state.pointee.connections[index]
            state.pointee.flows.last = c
        }
        // Addresses that stand for IPv4 ones are none of a packet.
        guard c.pointee.rawAddresses == 0 else { return .failed }
        return predictSegment(frame, c, transport, byteCount: byteCount, isIPv4: false, place)
    }

    /// From the TCP header on, of either family.
    /// - Parameters:
    ///   - transportByteCount: what the packet has from `transport` on; it lies in the frame, and is at least a header without options.
    ///   - isIPv4: a constant.
    @inline(__always)
    private func predictSegment(
        _ frame: Frame, _ c: ConnectionPointer, _ transport: UnsafeRawPointer, byteCount transportByteCount: Int, isIPv4: Bool,
        _ place: UnsafeMutablePointer<Delivery>?
    ) -> Prediction {
        // The data offset that the connection's options make, and the flags ACK or ACK and PSH.
        let control = (transport + 12).loadUnaligned(as: UInt16.self) | 0x0800
        let headerByteCount = Int(control & 0xf0) &>> 2
        let byteCount = transportByteCount &- headerByteCount
        guard c.pointee.state == .established, c.pointee.recovery.isPlain, control == c.pointee.plainControl, byteCount >= 0 else { return .failed }
        if DeliberateBug.isPresent(.zeroChecksumRefused) && (transport + 16).loadUnaligned(as: UInt16.self) == 0 { return .failed }
        let hasTimestamps = headerByteCount == 32
        var timestamp: UInt32 = 0
        if hasTimestamps {
            timestamp = (transport + 24).loadUnaligned(as: UInt32.self).bigEndian
            guard (transport + 20).loadUnaligned(as: UInt32.self) == 0x0a08_0101,
                Int32(bitPattern: timestamp &- c.pointee.recentTimestamp) >= 0
            else { return .failed }
        }
        let sequence = SequenceNumber(rawValue: (transport + 4).loadUnaligned(as: UInt32.self).bigEndian)
        let acknowledgement = SequenceNumber(rawValue: (transport + 8).loadUnaligned(as: UInt32.self).bigEndian)
        let acknowledged = acknowledgement.since(c.pointee.sendUnacknowledged)
        guard sequence == c.pointee.receiveNext, acknowledged >= 0, acknowledged <= c.pointee.sendMaximum.since(c.pointee.sendUnacknowledged)
        else { return .failed }
        if byteCount == 0 {
            guard acknowledged > 0 else { return .failed }
        } else {
            guard byteCount <= c.pointee.receiveEdge.since(c.pointee.receiveNext), c.pointee.reassembly.isEmpty,
                // A FIN that came early may stand right behind these bytes.
                c.pointee.flags.isDisjoint(with: [.receiveShutDown, .finKnown])
            else { return .failed }
        }
        //= RFC 9293 section 3.1
        //# The checksum is mandatory: the sender MUST generate it (MUST-2), and the receiver MUST check it (MUST-3).
        if !frame.frameFlags.contains(.checksumVerified) {
            if isIPv4 {
                let network = transport - HeaderTemplate.ipv4ByteCount
                guard InternetChecksum.isValid(ipv4Header: network),
                    InternetChecksum.isValid(
                        transport, byteCount: transportByteCount, rawAddresses: (network + 12).loadUnaligned(as: UInt64.self),
                        protocolNumber: IPProtocol.tcp)
                else { return .failed }
            } else {
                // The addresses stand right in front of the segment.
                let sum = InternetChecksum.sum(transport - 32, count: 32) &+ InternetChecksum.sum(transport, count: transportByteCount)
                let rest = UInt64(UInt32(truncatingIfNeeded: transportByteCount).bigEndian) &+ UInt64(IPProtocol.tcp) &<< 8
                guard InternetChecksum.isValid(sum &+ rest) else { return .failed }
            }
        }

        state.pointee.statistics.tcp.headerPredictions &+= 1
        //= RFC 7323 section 5.6
        //# Header Prediction: the timestamps are compared among the other conditions, and TS.Recent is updated as ever.
        c.pointee.lastReceiveTime = state.pointee.now
        //= RFC 7323 section 4.3
        //# If SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent, then SEG.TSval is copied to TS.Recent; otherwise, it is ignored.
        if hasTimestamps && sequence.since(c.pointee.lastAcknowledged) <= 0 { c.pointee.recentTimestamp = timestamp }
        if acknowledged > 0 {
            let echo = hasTimestamps ? (transport + 28).loadUnaligned(as: UInt32.self).bigEndian : nil
            acknowledgeNewData(c, acknowledgement, timestampEcho: echo)
        }
        let window = (transport + 14).loadUnaligned(as: UInt16.self).bigEndian
        // The same window from the same acknowledgement says nothing new, and lets nothing go that has waited.
        let maySend = acknowledged > 0 || UInt32(window) &<< UInt32(c.pointee.sendWindowShift) != c.pointee.sendWindow32
        if maySend { updateSendWindow(c, sequence, acknowledgement, window) }
        var result = Prediction.taken
        if byteCount > 0 {
            // The frame shrinks to its payload, which is what the program gets.
            frame.removeFirst((isIPv4 ? HeaderTemplate.transportOffset : EthernetHeader.byteCount + IPv6Header.byteCount) &+ headerByteCount)
            frame.truncate(to: byteCount)
            if let place, c.pointee.awaitsData != 0, c.pointee.receiveHead == nil {
                c.pointee.awaitsData = 0
                c.pointee.receiveNext = c.pointee.receiveNext.advanced(by: byteCount)
                if c.pointee.receiveNext.since(c.pointee.growthSequence) >= 0 { growReceiveBuffer(c) }
                place.initialize(to: Delivery(payload: frame, owner: c.pointee.owner))
                result = .delivered
            } else {
                appendReceived(c, frame, byteCount)
            }
            acknowledgeReceived(c)
        } else {
            frame.releaseArray()
        }
        if maySend, c.pointee.sendNext.since(c.pointee.sendUnacknowledged) != c.pointee.sendByteCount || c.pointee.flags.contains(.finQueued) { sendPending(c) }
        return result
    }
}

/// What came of a frame on the short way.
enum Prediction {
    /// It has to go the long way, and is unchanged.
    case failed
    case taken
    /// It was awaited, and lies at the place for deliveries.
    case delivered
}
