/// A frame between the peer, 192.168.1.2, and the stack, 192.168.1.1: put together and taken apart byte by byte, without the code under test.
struct Packet: Equatable {
    struct Flags: OptionSet, Hashable {
        let rawValue: UInt8
        static let fin = Flags(rawValue: 1)
        static let syn = Flags(rawValue: 2)
        static let rst = Flags(rawValue: 4)
        static let psh = Flags(rawValue: 8)
        static let ack = Flags(rawValue: 16)
    }

    var protocolNumber: UInt8 = 6
    var flags = Flags()
    var sourcePort: UInt16 = 23456
    var destinationPort: UInt16 = 12345
    var sequence: UInt32 = 0
    var acknowledgement: UInt32 = 0
    var window: UInt16 = 65_535
    /// As they lie in the header, a multiple of four bytes.
    var options: [UInt8] = []
    var payload: [UInt8] = []
    /// Whether the peer sent it.
    var isFromPeer = true

    static let stackHardware: [UInt8] = [0x12, 0x23, 0x45, 0x67, 0x89, 0xab]
    static let peerHardware: [UInt8] = [0xab, 0x89, 0x67, 0x45, 0x23, 0x12]
    static let stackAddress: [UInt8] = [192, 168, 1, 1]
    static let peerAddress: [UInt8] = [192, 168, 1, 2]

    /// A TCP segment of the peer.
    init(
        flags: Flags, sourcePort: UInt16 = 23456, destinationPort: UInt16 = 12345, sequence: UInt32, acknowledgement: UInt32 = 0,
        maximumSegmentSize: UInt16? = nil, payload: [UInt8] = []
    ) {
        self.flags = flags
        self.sourcePort = sourcePort
        self.destinationPort = destinationPort
        self.sequence = sequence
        self.acknowledgement = acknowledgement
        self.payload = payload
        if let size = maximumSegmentSize { options = [2, 4] + bigEndian(size) }
    }

    /// A UDP datagram of the peer.
    init(datagram payload: [UInt8], destinationPort: UInt16 = 12345) {
        protocolNumber = 17
        self.destinationPort = destinationPort
        self.payload = payload
    }

    /// Takes a frame of the stack apart; nil for anything but TCP and UDP with right lengths and checksums.
    init?(frame: [UInt8]) {
        guard frame.count >= 34, frame[12...13] == [8, 0], frame[14] == 0x45, onesComplementSum(frame[14..<34]) == 0xffff else { return nil }
        isFromPeer = Array(frame[26..<30]) == Packet.peerAddress
        let total = Int(number(frame, 16))
        guard frame.count == 14 + total else { return nil }
        protocolNumber = frame[23]
        let transport = Array(frame[34...])
        guard onesComplementSum(pseudoHeader(transport.count) + transport) == 0xffff, transport.count >= 8 else { return nil }
        sourcePort = number(transport, 0)
        destinationPort = number(transport, 2)
        if protocolNumber == 17 {
            guard Int(number(transport, 4)) == transport.count else { return nil }
            payload = Array(transport[8...])
            return
        }
        guard protocolNumber == 6, transport.count >= 20, case let headerByteCount = Int(transport[12] >> 4) * 4, headerByteCount >= 20,
            transport.count >= headerByteCount
        else { return nil }
        sequence = UInt32(number(transport, 4)) << 16 | UInt32(number(transport, 6))
        acknowledgement = UInt32(number(transport, 8)) << 16 | UInt32(number(transport, 10))
        flags = Flags(rawValue: transport[13])
        window = number(transport, 14)
        options = Array(transport[20..<headerByteCount])
        payload = Array(transport[headerByteCount...])
    }

    /// The whole frame, with right checksums.
    var frame: [UInt8] {
        var transport = bigEndian(sourcePort) + bigEndian(destinationPort)
        if protocolNumber == 17 {
            transport += bigEndian(UInt16(8 + payload.count)) + [0, 0] + payload
        } else {
            transport += bigEndian(sequence) + bigEndian(acknowledgement)
            transport += [UInt8((20 + options.count) / 4) << 4, flags.rawValue] + bigEndian(window) + [0, 0, 0, 0] + options + payload
        }
        let source = isFromPeer ? Packet.peerAddress : Packet.stackAddress
        let destination = isFromPeer ? Packet.stackAddress : Packet.peerAddress
        let network: [UInt8] = [0x45, 0] + bigEndian(UInt16(20 + transport.count)) + [0, 0, 0x40, 0, 64, protocolNumber, 0, 0] + source + destination
        let hardware = isFromPeer ? Packet.stackHardware + Packet.peerHardware : Packet.peerHardware + Packet.stackHardware
        var frame = hardware + [8, 0] + network + transport
        Packet.completeChecksums(&frame)
        return frame
    }

    /// Puts the right checksums into the headers of an IPv4 packet and of the TCP or UDP in it, whatever else is wrong with them.
    static func completeChecksums(_ frame: inout [UInt8]) {
        guard frame.count >= 34 else { return }
        let transportOffset = 14 + max(20, Int(frame[14] & 15) * 4)
        guard frame.count >= transportOffset else { return }
        frame.replaceSubrange(24..<26, with: [0, 0])
        frame.replaceSubrange(24..<26, with: bigEndian(~onesComplementSum(frame[14..<transportOffset])))
        let end = min(frame.count, 14 + Int(number(frame, 16)))
        let place = transportOffset + (frame[23] == 17 ? 6 : 16)
        guard place + 2 <= end else { return }
        frame.replaceSubrange(place..<place + 2, with: [0, 0])
        let pseudoHeader = Array(frame[26..<34]) + [0, frame[23]] + bigEndian(UInt16(end - transportOffset))
        frame.replaceSubrange(place..<place + 2, with: bigEndian(~onesComplementSum(pseudoHeader + frame[transportOffset..<end])))
    }

    private func pseudoHeader(_ byteCount: Int) -> [UInt8] {
        Packet.peerAddress + Packet.stackAddress + [0, protocolNumber] + bigEndian(UInt16(byteCount))
    }
}

private func number(_ bytes: [UInt8], _ offset: Int) -> UInt16 { UInt16(bytes[offset]) << 8 | UInt16(bytes[offset + 1]) }

func bigEndian(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }

/// RFC 1071, as slowly as it is written there.
private func onesComplementSum(_ bytes: some Sequence<UInt8>) -> UInt16 {
    var sum: UInt32 = 0
    var isUpper = true
    for byte in bytes {
        sum += UInt32(byte) << (isUpper ? 8 : 0)
        sum = (sum & 0xffff) + (sum >> 16)
        isUpper.toggle()
    }
    return UInt16(sum)
}
