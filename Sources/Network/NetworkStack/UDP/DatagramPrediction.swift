import DatapathMemory
import EthernetDevice
import WireFormats

/// The short way for a datagram that a socket awaits, with nothing odd in any header; what is not plain goes the long way (`ethernetInput` and on).
extension NetworkStack {
    /// A turn of one frame that seems to be a datagram. One of the last sender, short and awaited, makes no call, so that no register has to be saved.
    @inline(__always)
    func receiveOneDatagram(_ frames: UnsafeMutablePointer<Frame>, _ deliveries: UnsafeMutablePointer<Delivery>) -> TurnResult {
        let frame = frames.pointee
        let header = UnsafeRawPointer(frame.segmentAddress)
        guard isPlainIPv4Datagram(frame, header), case let byteCount = datagramByteCount(frame, header), byteCount > 0 else {
            return receiveDatagrams(frames, 1, deliveries)
        }
        guard byteCount < InternetChecksum.longByteCount, isOfLastSender(header) else { return receiveOtherDatagram(frame, header, byteCount, deliveries) }
        guard deliver(frame, header, byteCount, state.pointee.lastSender.socket.unsafelyUnwrapped, deliveries) else {
            return receiveDatagrams(frames, 1, deliveries)
        }
        return endTurn(1, deliveries + 1)
    }

    /// The same for a plain datagram that is long or of another sender.
    @inline(never)
    private func receiveOtherDatagram(
        _ frame: Frame, _ header: UnsafeRawPointer, _ byteCount: Int, _ deliveries: UnsafeMutablePointer<Delivery>
    ) -> TurnResult {
        if let s = plainSocket(header), deliver(frame, header, byteCount, s, deliveries) { return endTurn(1, deliveries + 1) }
        ethernetInput(frame)
        return endTurn(1, deliveries)
    }

    /// A turn of any number of frames, most of which seem to be datagrams.
    @inline(never)
    func receiveDatagrams(_ frames: UnsafeMutablePointer<Frame>, _ count: Int, _ deliveries: UnsafeMutablePointer<Delivery>) -> TurnResult {
        var delivery = deliveries
        let end = frames + count
        var frame = frames
        repeat {
            let header = UnsafeRawPointer(frame.pointee.segmentAddress)
            if isPlainIPv4Datagram(frame.pointee, header), predictDatagram(frame.pointee, header, delivery) {
                delivery += 1
            } else {
                delivery = receiveOther(frame.pointee, delivery)
            }
            frame += 1
        } while frame != end
        return endTurn(count, delivery)
    }

    /// A frame among datagrams that does not go their short way.
    /// - Returns: where the next delivery goes.
    @inline(never)
    private func receiveOther(_ frame: Frame, _ place: UnsafeMutablePointer<Delivery>) -> UnsafeMutablePointer<Delivery> {
        var delivery = place
        if !predict(frame, &delivery, mayDeliver: true) { ethernetInput(frame) }
        return delivery
    }

    /// - Parameter header: the frame's Ethernet header: for this station, IPv4 without options, no fragment, protocol UDP.
    /// - Returns: whether it was delivered; if not, it is unchanged, and goes the long way.
    @inline(never)
    func predictOneDatagram(_ frame: Frame, _ header: UnsafeRawPointer, _ delivery: UnsafeMutablePointer<Delivery>) -> Bool {
        predictDatagram(frame, header, delivery)
    }

    @inline(__always)
    private func predictDatagram(_ frame: Frame, _ header: UnsafeRawPointer, _ delivery: UnsafeMutablePointer<Delivery>) -> Bool {
        let byteCount = datagramByteCount(frame, header)
        guard byteCount > 0, let s = plainSocket(header) else { return false }
        return deliver(frame, header, byteCount, s, delivery)
    }

    // MARK: Steps

    /// Whether the frame is for this station, and holds IPv4 without options, no fragment, and protocol UDP.
    @inline(__always)
    private func isPlainIPv4Datagram(_ frame: Frame, _ header: UnsafeRawPointer) -> Bool {
        frame.segmentByteCount >= DatagramTemplate.byteCount && frame.nextSegment == nil
            && header.loadUnaligned(as: UInt64.self) &<< 16 == state.pointee.shiftedMACAddress
            // EtherType 0x0800, version 4, 5 words of header; best effort, and no marks.
            && (header + 12).loadUnaligned(as: UInt32.self) == 0x0045_0008
            // Neither a fragment nor one of many; DF may be set. Then the time to live, and the protocol.
            && (header + 20).loadUnaligned(as: UInt32.self) & 0xff00_ffbf == UInt32(IPProtocol.udp) << 24
    }

    /// The length of the datagram with its header, if IPv4's and UDP's agree and the frame has so much; else 0.
    @inline(__always)
    private func datagramByteCount(_ frame: Frame, _ header: UnsafeRawPointer) -> Int {
        let byteCount = Int((header + 38).loadUnaligned(as: UInt16.self).bigEndian)
        let isPlain =
            byteCount >= UDPHeader.byteCount
            && UInt16(truncatingIfNeeded: byteCount &+ IPv4Header.byteCount).bigEndian == (header + 16).loadUnaligned(as: UInt16.self)
            && byteCount &+ (EthernetHeader.byteCount + IPv4Header.byteCount) <= frame.segmentByteCount
        return isPlain ? byteCount : 0
    }

    @inline(__always)
    private func isOfLastSender(_ header: UnsafeRawPointer) -> Bool {
        state.pointee.lastSender.addresses == (header + 26).loadUnaligned(as: UInt64.self)
            && state.pointee.lastSender.ports == UInt64((header + 34).loadUnaligned(as: UInt32.self))
    }

    /// The socket that the datagram is for, if nothing about its addresses is odd.
    @inline(__always)
    private func plainSocket(_ header: UnsafeRawPointer) -> DatagramSocketPointer? {
        if isOfLastSender(header) { return state.pointee.lastSender.socket }
        let addresses = (header + 26).loadUnaligned(as: UInt64.self)
        let ports = (header + 34).loadUnaligned(as: UInt32.self)
        let socket = findDatagramSocket(addresses, ports)
        guard socket != 0, UInt32(truncatingIfNeeded: addresses &>> 32) == state.pointee.primaryAddressRaw,
            isPossibleSource(UInt32(truncatingIfNeeded: addresses))
        else { return nil }
        let s = state.pointee.datagramSockets[socket]
        state.pointee.lastSender = LastSender(addresses: addresses, ports: UInt64(ports), socket: s)
        return s
    }

    /// Delivers a datagram if it is awaited and right.
    @inline(__always)
    private func deliver(
        _ frame: Frame, _ header: UnsafeRawPointer, _ byteCount: Int, _ s: DatagramSocketPointer, _ delivery: UnsafeMutablePointer<Delivery>
    ) -> Bool {
        guard s.pointee.awaitsDatagram != 0, s.pointee.deliveryObstacles == 0,
            state.pointee.heap.usedByteCount < state.pointee.pressureByteCount
        else { return false }
        if !frame.frameFlags.contains(.checksumVerified) {
            // A datagram without a checksum goes the long way, which knows that it may be.
            guard InternetChecksum.isValid(ipv4Header: header + EthernetHeader.byteCount),
                InternetChecksum.isValid(
                    header + 34, byteCount: byteCount, rawAddresses: (header + 26).loadUnaligned(as: UInt64.self), protocolNumber: IPProtocol.udp)
            else { return false }
        }
        state.pointee.statistics.datagramPredictions &+= 1
        s.pointee.awaitsDatagram = 0
        frame.removeFirst(DatagramTemplate.byteCount)
        frame.truncate(to: byteCount &- UDPHeader.byteCount)
        delivery.initialize(to: Delivery(payload: frame, owner: s.pointee.owner))
        return true
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
