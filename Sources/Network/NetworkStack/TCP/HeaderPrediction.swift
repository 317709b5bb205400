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
    /// - Parameters:
    ///   - delivery: where what is awaited goes; it moves on behind that.
    ///   - mayDeliver: a constant: whether somebody takes deliveries.
    /// - Returns: false when the frame has to go the long way, and is unchanged.
    @inline(__always)
    func predict(_ frame: Frame, _ delivery: inout UnsafeMutablePointer<Delivery>, mayDeliver: Bool) -> Bool {
        let header = UnsafeRawPointer(frame.segmentAddress)
        // Ethernet, IPv4 and UDP.
        guard frame.segmentByteCount >= DatagramTemplate.byteCount, frame.nextSegment == nil,
            header.loadUnaligned(as: UInt64.self) &<< 16 == state.pointee.shiftedMACAddress
        else { return false }
        // EtherType 0x0800, version 4, 5 words of header; best effort, and no marks.
        let kind = (header + 12).loadUnaligned(as: UInt32.self)
        guard kind == 0x0045_0008 else {
            // EtherType 0x86dd and version 6, without marks.
            guard kind & 0x30f0_ffff == 0x60_dd86 else { return predictOtherClasses(frame, header, &delivery, mayDeliver: mayDeliver) }
            guard let end = predictIPv6(frame, header, mayDeliver ? delivery : NetworkStack.nowhere) else { return false }
            delivery = end
            return true
        }
        return predictIPv4(frame, header, &delivery, mayDeliver: mayDeliver)
    }

    /// The place of those who take no deliveries: nothing is written there.
    static var nowhere: UnsafeMutablePointer<Delivery> { UnsafeMutablePointer(bitPattern: MemoryLayout<Delivery>.alignment).unsafelyUnwrapped }

    /// The same for the other classes of traffic, and what may be marked.
    @inline(never)
    private func predictOtherClasses(
        _ frame: Frame, _ header: UnsafeRawPointer, _ delivery: inout UnsafeMutablePointer<Delivery>, mayDeliver: Bool
    ) -> Bool {
        let kind = (header + 12).loadUnaligned(as: UInt32.self)
        // A router's mark is counted, and echoed, on the long way.
        if kind & 0xf0_ffff == 0x60_dd86 && kind & 0x3000_0000 != 0x3000_0000 {
            guard let end = predictIPv6(frame, header, mayDeliver ? delivery : NetworkStack.nowhere) else { return false }
            delivery = end
            return true
        }
        guard kind & 0xff_ffff == 0x45_0008, kind & 0x300_0000 != 0x300_0000 else { return false }
        return predictIPv4(frame, header, &delivery, mayDeliver: mayDeliver)
    }

    /// From the IPv4 header on, whose first two bytes were looked at.
    @inline(__always)
    private func predictIPv4(
        _ frame: Frame, _ header: UnsafeRawPointer, _ delivery: inout UnsafeMutablePointer<Delivery>, mayDeliver: Bool
    ) -> Bool {
        // Neither a fragment nor one of many; DF may be set. Then the time to live, and the protocol.
        let kind = (header + 20).loadUnaligned(as: UInt32.self) & 0xff00_ffbf
        let frameByteCount = frame.segmentByteCount
        guard kind == UInt32(IPProtocol.tcp) << 24, frameByteCount >= HeaderTemplate.transportOffset + 20 else {
            guard kind == UInt32(IPProtocol.udp) << 24, mayDeliver else { return false }
            guard predictOneDatagram(frame, header, delivery) else { return false }
            delivery += 1
            return true
        }
        let totalByteCount = Int((header + 16).loadUnaligned(as: UInt16.self).bigEndian)
        guard totalByteCount <= frameByteCount &- HeaderTemplate.ethernetByteCount else { return false }
        let transport = header + HeaderTemplate.transportOffset
        let addresses = (header + 26).loadUnaligned(as: UInt64.self)
        let ports = transport.loadUnaligned(as: UInt32.self).bigEndian
        // Segments come in trains: mostly it is the connection of the one before.
        var c = state.pointee.flows.last
        if _slowPath(c.pointee.rawAddresses != addresses || c.pointee.ports != ports) {
            let index = state.pointee.flows.find(rawAddresses: addresses, ports, in: state.pointee.connections)
            guard index != 0 else { return false }
            c = state.pointee.connections[index]
            state.pointee.flows.last = c
        }
        let byteCount = totalByteCount &- HeaderTemplate.ipv4ByteCount
        guard (transport + 12).load(as: UInt8.self) == 0x80 else {
            guard let end = predictWithoutTimestamps(frame, c, transport, byteCount, isIPv4: true, mayDeliver ? delivery : NetworkStack.nowhere) else {
                return false
            }
            delivery = end
            return true
        }
        return predictSegment(frame, c, transport, byteCount: byteCount, isIPv4: true, hasTimestamps: true, &delivery, mayDeliver: mayDeliver)
    }

    /// A segment without options.
    /// - Parameter place: where a delivery goes, or `nowhere`.
    /// - Returns: the place behind what was delivered; nil when the frame has to go the long way.
    @inline(never)
    private func predictWithoutTimestamps(
        _ frame: Frame, _ c: ConnectionPointer, _ transport: UnsafeRawPointer, _ byteCount: Int, isIPv4: Bool, _ place: UnsafeMutablePointer<Delivery>
    ) -> UnsafeMutablePointer<Delivery>? {
        var delivery = place
        let isPredicted = predictSegment(
            frame, c, transport, byteCount: byteCount, isIPv4: isIPv4, hasTimestamps: false, &delivery, mayDeliver: place != NetworkStack.nowhere)
        return isPredicted ? delivery : nil
    }

    /// The same over IPv6, whose first two bytes were looked at.
    /// - Parameter place: where a delivery goes, or `nowhere`.
    /// - Returns: the place behind what was delivered; nil when the frame has to go the long way.
    @inline(never)
    private func predictIPv6(_ frame: Frame, _ header: UnsafeRawPointer, _ place: UnsafeMutablePointer<Delivery>) -> UnsafeMutablePointer<Delivery>? {
        let transportOffset = EthernetHeader.byteCount + IPv6Header.byteCount
        guard frame.segmentByteCount >= transportOffset + TCPSegmentHeader.minimumByteCount,
            // No extension headers.
            (header + 20).load(as: UInt8.self) == IPProtocol.tcp
        else { return nil }
        let byteCount = Int((header + 18).loadUnaligned(as: UInt16.self).bigEndian)
        guard byteCount <= frame.segmentByteCount &- transportOffset else { return nil }
        let transport = header + transportOffset
        var c = state.pointee.flows.last
        if _slowPath(!isOf(c, transport)) {
            c = findIPv6(header)
            guard c.pointee.state != .closed else { return nil }
            state.pointee.flows.last = c
        }
        // Addresses that stand for IPv4 ones are none of a packet.
        guard c.pointee.rawAddresses == 0 else { return nil }
        guard (transport + 12).load(as: UInt8.self) == 0x80 else {
            return predictWithoutTimestamps(frame, c, transport, byteCount, isIPv4: false, place)
        }
        var delivery = place
        let isPredicted = predictSegment(
            frame, c, transport, byteCount: byteCount, isIPv4: false, hasTimestamps: true, &delivery, mayDeliver: place != NetworkStack.nowhere)
        return isPredicted ? delivery : nil
    }

    /// Whether the segment, with the IPv6 addresses in front of it, is the connection's.
    @inline(__always)
    private func isOf(_ c: ConnectionPointer, _ transport: UnsafeRawPointer) -> Bool {
        c.pointee.ports == transport.loadUnaligned(as: UInt32.self).bigEndian && c.pointee.remoteAddress == IPAddress(ipv6At: transport - 32)
            && c.pointee.localAddress == IPAddress(ipv6At: transport - 16)
    }

    /// The connection that a segment over IPv6 is for; `connections[0]`, a closed one, for none.
    @inline(never)
    private func findIPv6(_ header: UnsafeRawPointer) -> ConnectionPointer {
        let ports = (header + EthernetHeader.byteCount + IPv6Header.byteCount).loadUnaligned(as: UInt32.self).bigEndian
        return state.pointee.connections[
            state.pointee.flows.find(
                ipv6: IPAddress(ipv6At: header + 22), IPAddress(ipv6At: header + 38), ports, in: state.pointee.connections)]
    }

    /// A turn of one frame that seems to be an acknowledgement alone, over IPv4 and with timestamps: all lengths are constants then, and what an
    /// acknowledgement does is compiled in.
    @inline(__always)
    func receiveAcknowledgement(_ frames: UnsafeMutablePointer<Frame>, _ deliveries: UnsafeMutablePointer<Delivery>) -> TurnResult {
        let frame = frames.pointee
        let header = UnsafeRawPointer(frame.segmentAddress)
        let transport = header + HeaderTemplate.transportOffset
        let c = state.pointee.flows.last
        var nowhere = NetworkStack.nowhere
        guard frame.segmentByteCount >= HeaderTemplate.transportOffset + 32, frame.nextSegment == nil,
            header.loadUnaligned(as: UInt64.self) &<< 16 == state.pointee.shiftedMACAddress,
            (header + 12).loadUnaligned(as: UInt32.self) == 0x0045_0008,
            (header + 20).loadUnaligned(as: UInt32.self) & 0xff00_ffbf == UInt32(IPProtocol.tcp) << 24,
            c.pointee.rawAddresses == (header + 26).loadUnaligned(as: UInt64.self), c.pointee.ports == transport.loadUnaligned(as: UInt32.self).bigEndian,
            (transport + 12).load(as: UInt8.self) == 0x80,
            predictSegment(frame, c, transport, byteCount: 32, isIPv4: true, hasTimestamps: true, &nowhere, mayDeliver: false, acknowledgesAlone: true)
        else { return turnOfSegments(state.pointee.now, frames, 1, deliveries) }
        return endTurn(1, deliveries)
    }

    /// From the TCP header on, of either family.
    /// - Parameters:
    ///   - c: the connection that was found last. It is read from there again behind a call, which costs less than to keep it.
    ///   - transportByteCount: what the packet has from `transport` on; it lies in the frame, and is at least a header without options.
    ///   - hasTimestamps: a constant: whether the header is as long as one with timestamps and nothing else; otherwise it has no options.
    ///   - acknowledgesAlone: a constant: compile in what an acknowledgement does.
    @inline(__always)
    private func predictSegment(
        _ frame: Frame, _ c: ConnectionPointer, _ transport: UnsafeRawPointer, byteCount transportByteCount: Int, isIPv4: Bool, hasTimestamps: Bool,
        _ delivery: inout UnsafeMutablePointer<Delivery>, mayDeliver: Bool, acknowledgesAlone: Bool = false
    ) -> Bool {
        let headerByteCount = hasTimestamps ? 32 : 20
        let byteCount = transportByteCount &- headerByteCount
        // The data offset that the connection's options make, and the flags ACK or ACK and PSH.
        guard (transport + 12).loadUnaligned(as: UInt16.self) | 0x0800 == c.pointee.plainControl, c.pointee.state == .established,
            c.pointee.recovery.isPlain, byteCount >= 0
        else { return false }
        if DeliberateBug.isPresent(.zeroChecksumRefused) && (transport + 16).loadUnaligned(as: UInt16.self) == 0 { return false }
        // Before the numbers, which need not be kept meanwhile.
        //= RFC 9293 section 3.1
        //# The checksum is mandatory: the sender MUST generate it (MUST-2), and the receiver MUST check it (MUST-3).
        if !frame.frameFlags.contains(.checksumVerified) {
            guard hasValidChecksums(transport, transportByteCount, isIPv4: isIPv4) else { return false }
        }
        var timestamp: UInt32 = 0
        if hasTimestamps {
            timestamp = (transport + 24).loadUnaligned(as: UInt32.self).bigEndian
            guard (transport + 20).loadUnaligned(as: UInt32.self) == 0x0a08_0101,
                Int32(bitPattern: timestamp &- c.pointee.recentTimestamp) >= 0
            else { return false }
        }
        let sequence = SequenceNumber(rawValue: (transport + 4).loadUnaligned(as: UInt32.self).bigEndian)
        let acknowledgement = SequenceNumber(rawValue: (transport + 8).loadUnaligned(as: UInt32.self).bigEndian)
        let acknowledged = acknowledgement.since(c.pointee.sendUnacknowledged)
        guard sequence == c.pointee.receiveNext, acknowledged >= 0, acknowledged <= c.pointee.sendMaximum.since(c.pointee.sendUnacknowledged)
        else { return false }
        if byteCount == 0 {
            guard acknowledged > 0 else { return false }
        } else {
            guard byteCount <= c.pointee.receiveEdge.since(c.pointee.receiveNext), c.pointee.reassembly.isEmpty,
                // A FIN that came early may stand right behind these bytes.
                c.pointee.flags.isDisjoint(with: [.receiveShutDown, .finKnown])
            else { return false }
        }

        state.pointee.statistics.tcp.headerPredictions &+= 1
        //= RFC 7323 section 5.6
        //# Header Prediction: the timestamps are compared among the other conditions, and TS.Recent is updated as ever.
        c.pointee.lastReceiveTime = state.pointee.now
        //= RFC 7323 section 4.3
        //# If SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent, then SEG.TSval is copied to TS.Recent; otherwise, it is ignored.
        if hasTimestamps && c.pointee.receiveNext.since(c.pointee.lastAcknowledged) <= 0 { c.pointee.recentTimestamp = timestamp }
        var maySend = acknowledged > 0
        if maySend {
            if acknowledgesAlone { acknowledgePlainlyInline(c, acknowledgement, transport) } else { acknowledgePlainly(c, acknowledgement, transport) }
        } else if _slowPath(UInt32((transport + 14).loadUnaligned(as: UInt16.self).bigEndian) &<< UInt32(c.pointee.sendWindowShift) != c.pointee.sendWindow32) {
            // The same window from the same acknowledgement says nothing new, and lets nothing go that has waited.
            updateWindowPlainly(c, transport)
            maySend = true
        }
        if byteCount > 0 {
            // The frame shrinks to its payload, which is what the program gets.
            frame.removeFirst((isIPv4 ? HeaderTemplate.transportOffset : EthernetHeader.byteCount + IPv6Header.byteCount) &+ headerByteCount)
            frame.truncate(to: byteCount)
            let c = state.pointee.flows.last
            if mayDeliver && _fastPath(c.pointee.awaitsData != 0 && c.pointee.receiveHead == nil) {
                c.pointee.awaitsData = 0
                c.pointee.receiveNext = c.pointee.receiveNext.advanced(by: byteCount)
                delivery.initialize(to: Delivery(payload: frame, owner: c.pointee.owner))
                delivery += 1
                if _slowPath(c.pointee.receiveNext.since(c.pointee.growthSequence) >= 0) { growReceiveBuffer(c) }
            } else {
                appendReceived(c, frame, byteCount)
            }
            acknowledgeReceived(state.pointee.flows.last)
        } else {
            frame.releaseArray()
        }
        if maySend {
            let c = state.pointee.flows.last
            if _slowPath(c.pointee.sendNext.since(c.pointee.sendUnacknowledged) != c.pointee.sendByteCount || c.pointee.flags.contains(.finQueued)) {
                sendPending(c)
            }
        }
        return true
    }

    @inline(__always)
    private func hasValidChecksums(_ transport: UnsafeRawPointer, _ byteCount: Int, isIPv4: Bool) -> Bool {
        if isIPv4 {
            let network = transport - HeaderTemplate.ipv4ByteCount
            return InternetChecksum.isValid(ipv4Header: network)
                && InternetChecksum.isValid(
                    transport, byteCount: byteCount, rawAddresses: (network + 12).loadUnaligned(as: UInt64.self), protocolNumber: IPProtocol.tcp)
        }
        // The addresses stand right in front of the segment.
        return InternetChecksum.isValid(transport, byteCount: byteCount, ipv6Addresses: transport - 32, protocolNumber: IPProtocol.tcp)
    }
}
