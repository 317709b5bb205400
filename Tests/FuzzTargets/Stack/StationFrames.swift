import WireFormats

/// Another station of the link, or a host behind it.
struct Station {
    let macAddress: MACAddress
    let address: IPAddress

    /// Two neighbours that the stack knows (the second is the gateway), one that it has to ask for, one behind the gateway, and the stack itself.
    static let all = [
        Station(macAddress: MACAddress(value: 0x0200_0000_0002), address: .ipv4(10, 0, 0, 2)),
        Station(macAddress: MACAddress(value: 0x0200_0000_00fe), address: .ipv4(10, 0, 0, 254)),
        Station(macAddress: MACAddress(value: 0x0200_0000_0003), address: .ipv4(10, 0, 0, 3)),
        Station(macAddress: MACAddress(value: 0x0200_0000_00fe), address: .ipv4(198, 51, 100, 7)),
        Station(macAddress: StationFrames.macAddress, address: StationFrames.address),
    ]
}

/// Frames to the stack, made of parts that may be wrong, with checksums that are right.
enum StationFrames {
    static let macAddress = MACAddress(value: 0x0200_0000_0001)
    static let address = IPAddress.ipv4(10, 0, 0, 1)
    static let secondAddress = IPAddress.ipv4(10, 9, 0, 1)

    /// An IPv4 packet in a frame. Options are cut to 40 bytes and padded to whole words.
    static func ipv4(
        _ protocolNumber: UInt8, _ payload: [UInt8], from station: Station, to destination: IPAddress = address, options: [UInt8] = [],
        flags: UInt16 = 0x4000, hardware: MACAddress = macAddress
    ) -> [UInt8] {
        var options = Array(options.prefix(40))
        while options.count % 4 != 0 { options.append(0) }
        var bytes = [UInt8](repeating: 0, count: 34) + options + payload
        bytes.withUnsafeMutableBytes { frame in
            let base = frame.baseAddress!
            EthernetHeader.write(to: base, destination: hardware, source: station.macAddress, etherType: EtherType.ipv4)
            IPv4Header.write(
                to: base + 14, totalByteCount: frame.count - 14, identification: 7, dontFragment: false, timeToLive: 64,
                protocolNumber: protocolNumber, source: station.address, destination: destination)
        }
        bytes[14] = 0x45 + UInt8(options.count / 4)
        bytes[20] = UInt8(flags >> 8)
        bytes[21] = UInt8(flags & 0xff)
        correctChecksums(&bytes)
        return bytes
    }

    /// A fragment behind the header of its packet, in a frame.
    static func fragment(_ header: [UInt8], _ payload: [UInt8], at offset: Int, more: Bool) -> [UInt8] {
        var bytes = header
        let field = UInt16(truncatingIfNeeded: offset / 8) & 0x1fff | (more ? 0x2000 : 0)
        bytes.replaceSubrange(16..<18, with: bigEndian(UInt16(truncatingIfNeeded: header.count - 14 + payload.count)))
        bytes.replaceSubrange(20..<22, with: bigEndian(field))
        bytes.replaceSubrange(24..<26, with: [0, 0])
        let checksum = bytes.withUnsafeBytes { InternetChecksum.finish(InternetChecksum.sum($0.baseAddress! + 14, count: $0.count - 14)) }
        withUnsafeBytes(of: checksum) { bytes.replaceSubrange(24..<26, with: $0) }
        return bytes + payload
    }

    /// Writes every checksum anew that can be found, so that a changed frame gets past them.
    static func correctChecksums(_ frame: inout [UInt8]) {
        frame.withUnsafeMutableBytes { frame in
            let bytes = UnsafeRawBufferPointer(frame)
            guard let base = frame.baseAddress, frame.count >= 34, bytes.number16(12) == EtherType.ipv4 else { return }
            let headerByteCount = Int(bytes[14] & 15) * 4
            guard headerByteCount >= 20, 14 + headerByteCount <= frame.count else { return }
            let packet = base + 14
            (packet + 10).storeBytes(of: 0, as: UInt16.self)
            (packet + 10).storeBytes(of: InternetChecksum.finish(InternetChecksum.sum(packet, count: headerByteCount)), as: UInt16.self)
            let total = Int(bytes.number16(16))
            guard total > headerByteCount, 14 + total <= frame.count else { return }
            let protocolNumber = bytes[23]
            let count = total - headerByteCount
            let field: Int
            switch protocolNumber {
            case IPProtocol.tcp: field = 16
            case IPProtocol.udp: field = 6
            case IPProtocol.icmp: field = 2
            default: return
            }
            guard count >= field + 2 else { return }
            let transport = packet + headerByteCount
            (transport + field).storeBytes(of: 0, as: UInt16.self)
            var sum = InternetChecksum.sum(transport, count: count)
            if protocolNumber != IPProtocol.icmp {
                sum &+= InternetChecksum.pseudoHeader(
                    rawAddresses: (packet + 12).loadUnaligned(as: UInt64.self), protocolNumber: protocolNumber, byteCount: count)
            }
            (transport + field).storeBytes(of: InternetChecksum.finish(sum), as: UInt16.self)
        }
    }

    /// A TCP segment without its checksum. Options are cut to 40 bytes and padded to whole words.
    static func segment(
        from sourcePort: UInt16, to destinationPort: UInt16, sequence: UInt32, acknowledgement: UInt32, flags: UInt8, window: UInt16,
        urgentPointer: UInt16, options: [UInt8], payload: [UInt8]
    ) -> [UInt8] {
        var options = Array(options.prefix(40))
        while options.count % 4 != 0 { options.append(1) }
        var bytes = bigEndian(sourcePort) + bigEndian(destinationPort) + bigEndian(sequence) + bigEndian(acknowledgement)
        bytes += [UInt8((20 + options.count) / 4) << 4, flags]
        bytes += bigEndian(window) + [0, 0] + bigEndian(urgentPointer)
        return bytes + options + payload
    }

    static func datagram(from sourcePort: UInt16, to destinationPort: UInt16, length: UInt16?, payload: [UInt8]) -> [UInt8] {
        bigEndian(sourcePort) + bigEndian(destinationPort) + bigEndian(length ?? UInt16(8 + payload.count)) + [0, 0] + payload
    }

    static func arp(
        _ operation: UInt16, from station: Station, target: IPAddress, targetHardware: MACAddress, hardware: MACAddress
    ) -> [UInt8] {
        let packet = ARPPacket(
            operation: operation, senderHardware: station.macAddress, senderProtocol: station.address, targetHardware: targetHardware,
            targetProtocol: target)
        var bytes = [UInt8](repeating: 0, count: 14 + ARPPacket.byteCount)
        bytes.withUnsafeMutableBytes { frame in
            EthernetHeader.write(to: frame.baseAddress!, destination: hardware, source: station.macAddress, etherType: EtherType.arp)
            packet.write(to: frame.baseAddress! + 14)
        }
        return bytes
    }

    static func bigEndian(_ value: some FixedWidthInteger) -> [UInt8] { withUnsafeBytes(of: value.bigEndian) { Array($0) } }
}
