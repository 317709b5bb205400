import Testing
import WireFormats

extension LowerPeer {
    /// One fragment of an IPv4 datagram, from `offset` of its payload on.
    func fragment(
        _ payload: [UInt8], at offset: Int, more: Bool, identification: UInt16 = 7, protocolNumber: UInt8 = 17, options: [UInt8] = [],
        typeOfService: UInt8 = 0, destination: IPAddress = LowerHost.address, hardware: MACAddress = LowerHost.macAddress
    ) -> [UInt8] {
        ipv4(protocolNumber, payload, destination: destination, options: options, typeOfService: typeOfService, to: hardware) {
            $0.replaceSubrange(4...5, with: bigEndian(identification))
            $0.replaceSubrange(6...7, with: bigEndian(UInt16(offset / 8) | (more ? 0x2000 : 0)))
        }
    }

    /// A datagram's fragments in order, each with `size` bytes but for the last one.
    func fragments(_ payload: [UInt8], size: Int, identification: UInt16 = 7, protocolNumber: UInt8 = 17) -> [[UInt8]] {
        stride(from: 0, to: payload.count, by: size).map { offset in
            let part = Array(payload[offset..<min(offset + size, payload.count)])
            return fragment(
                part, at: offset, more: offset + size < payload.count, identification: identification, protocolNumber: protocolNumber)
        }
    }
}

extension IPv6Peer {
    /// A UDP datagram with its checksum.
    func datagram(_ payload: [UInt8], from sourcePort: UInt16 = 7_000, to port: UInt16) -> [UInt8] { Array(udp(payload, from: sourcePort, to: port)[54...]) }

    /// One fragment of an IPv6 packet, from `offset` of what was fragmented on.
    func fragment(
        _ payload: [UInt8], at offset: Int, more: Bool, identification: UInt32 = 7, nextHeader: UInt8 = 17, reserved: UInt8 = 0, extensions: [UInt8] = [],
        firstHeader: UInt8 = 44, destination: IPAddress = hostAddress
    ) -> [UInt8] {
        let header = [nextHeader, reserved] + bigEndian(UInt16(offset) & 0xfff8 | (more ? 1 : 0)) + bigEndian32(identification)
        return packet(firstHeader, extensions + header + payload, destination: destination)
    }

    func fragments(_ payload: [UInt8], size: Int, identification: UInt32 = 7, nextHeader: UInt8 = 17) -> [[UInt8]] {
        stride(from: 0, to: payload.count, by: size).map { offset in
            fragment(
                Array(payload[offset..<min(offset + size, payload.count)]), at: offset, more: offset + size < payload.count,
                identification: identification, nextHeader: nextHeader)
        }
    }
}
