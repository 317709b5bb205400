import EthernetDevice
import NetworkStack
import Testing
import WireFormats

/// A station of the link that speaks IPv6, and what it sends.
struct IPv6Peer {
    var macAddress = MACAddress(value: 0x0200_0000_0002)
    var linkLocal = IPAddress("fe80::2")!
    var address = IPAddress("2001:db8::2")!

    static let hostAddress = IPAddress("2001:db8::1")!
    static let hostLinkLocal = IPAddress("fe80::ff:fe00:1")!

    func endpoint(_ port: UInt16) -> Endpoint { Endpoint(address: address, port: port) }

    /// A packet in a frame; to a group it goes in a frame to that group.
    func packet(
        _ nextHeader: UInt8, _ payload: [UInt8], source: IPAddress? = nil, destination: IPAddress = hostAddress, hopLimit: UInt8 = 64,
        hardware: MACAddress? = nil
    ) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: 54) + payload
        bytes.withUnsafeMutableBytes {
            EthernetHeader.write(
                to: $0.baseAddress!, destination: hardware ?? (destination.isMulticast ? destination.multicastMACAddress : LowerHost.macAddress),
                source: macAddress, etherType: 0x86dd)
            IPv6Header.write(
                to: $0.baseAddress! + 14, payloadByteCount: payload.count, nextHeader: nextHeader, hopLimit: hopLimit, source: source ?? address,
                destination: destination)
        }
        return bytes
    }

    /// A message with its checksum at `offset`.
    func completed(_ message: [UInt8], _ protocolNumber: UInt8, at offset: Int, source: IPAddress, destination: IPAddress) -> [UInt8] {
        var message = message
        message.replaceSubrange(offset..<offset + 2, with: [0, 0])
        let checksum = internetChecksum(ipv6PseudoHeader(source, destination, protocolNumber, message.count) + message)
        message.replaceSubrange(offset..<offset + 2, with: bigEndian(checksum))
        return message
    }

    func icmp(
        _ message: [UInt8], source: IPAddress? = nil, destination: IPAddress = hostAddress, hopLimit: UInt8 = 64, extensions: [UInt8] = [],
        nextHeader: UInt8 = 58, hardware: MACAddress? = nil
    ) -> [UInt8] {
        let message = completed(message, 58, at: 2, source: source ?? address, destination: destination)
        return packet(nextHeader, extensions + message, source: source, destination: destination, hopLimit: hopLimit, hardware: hardware)
    }

    func udp(_ payload: [UInt8], from sourcePort: UInt16 = 7_000, to port: UInt16, destination: IPAddress = hostAddress) -> [UInt8] {
        let datagram = bigEndian(sourcePort) + bigEndian(port) + bigEndian(UInt16(8 + payload.count)) + [0, 0] + payload
        return packet(17, completed(datagram, 17, at: 6, source: address, destination: destination), destination: destination)
    }

    // MARK: Neighbour discovery

    func solicitation(
        for target: IPAddress, source: IPAddress? = nil, destination: IPAddress? = nil, sendsAddress: Bool = true, hopLimit: UInt8 = 255
    ) -> [UInt8] {
        icmp(
            [135, 0, 0, 0, 0, 0, 0, 0] + ipv6Bytes(target) + (sendsAddress ? [1, 1] + macBytes(macAddress) : []), source: source,
            destination: destination ?? target.solicitedNode, hopLimit: hopLimit)
    }

    /// - Parameter flags: router 0x80, solicited 0x40, override 0x20.
    func advertisement(
        of target: IPAddress? = nil, flags: UInt8 = 0x60, hardware: MACAddress? = nil, destination: IPAddress = hostAddress, hopLimit: UInt8 = 255,
        sendsAddress: Bool = true
    ) -> [UInt8] {
        icmp(
            [136, 0, 0, 0, flags, 0, 0, 0] + ipv6Bytes(target ?? address) + (sendsAddress ? [2, 1] + macBytes(hardware ?? macAddress) : []),
            destination: destination, hopLimit: hopLimit)
    }

    /// - Parameters:
    ///   - lifetime: of the router, in seconds.
    ///   - prefixes: with their valid and preferred lifetimes.
    func routerAdvertisement(
        lifetime: UInt16 = 1_800, prefixes: [(prefix: IPv6Prefix, valid: UInt32, preferred: UInt32)] = [], options: [UInt8] = [], source: IPAddress? = nil,
        hopLimit: UInt8 = 255
    ) -> [UInt8] {
        var message: [UInt8] = [134, 0, 0, 0, 64, 0] + bigEndian(lifetime) + [UInt8](repeating: 0, count: 8) + [1, 1] + macBytes(macAddress)
        for (prefix, valid, preferred) in prefixes {
            message += [3, 4, prefix.length, 0xc0] + bigEndian32(valid) + bigEndian32(preferred) + [0, 0, 0, 0] + ipv6Bytes(prefix.network)
        }
        return icmp(message + options, source: source ?? linkLocal, destination: .allNodes, hopLimit: hopLimit)
    }
}

extension LowerHost {
    /// A host 2001:db8::1/64 (and 10.0.0.1/24), which uses its addresses at once.
    static func ipv6(_ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws -> LowerHost {
        let host = try LowerHost {
            $0.ipv6Addresses = [IPv6Prefix(address: IPv6Peer.hostAddress, length: 64)]
            $0.ipv6.duplicateAddressDetectionTransmits = 0
            configure(&$0)
        }
        // The two reports of its groups.
        host.advance()
        host.advance(seconds: 2)
        _ = host.output()
        return host
    }

    /// Lets the stack learn a neighbour that asks for it.
    func introduce(_ peer: IPv6Peer) {
        receive(peer.solicitation(for: IPv6Peer.hostAddress))
        _ = output()
    }
}

func ipv6Bytes(_ address: IPAddress) -> [UInt8] { withUnsafeBytes(of: address.words) { Array($0) } }

func macBytes(_ address: MACAddress) -> [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: address.value >> UInt64(40 - 8 * $0)) } }

func ipv6PseudoHeader(_ source: IPAddress, _ destination: IPAddress, _ protocolNumber: UInt8, _ count: Int) -> [UInt8] {
    ipv6Bytes(source) + ipv6Bytes(destination) + bigEndian32(UInt32(count)) + [0, 0, 0, protocolNumber]
}

/// Whether a sent frame is an IPv6 packet that is right, whatever it carries. Returns its ICMPv6, UDP or TCP part.
@discardableResult
func expectWellFormedIPv6(_ frame: [UInt8], sourceLocation: SourceLocation = #_sourceLocation) -> [UInt8] {
    guard frame.count >= 54 else {
        Issue.record("too short a frame", sourceLocation: sourceLocation)
        return []
    }
    #expect(Array(frame[6..<14]) == [2, 0, 0, 0, 0, 1, 0x86, 0xdd], sourceLocation: sourceLocation)
    #expect(frame[14] >> 4 == 6 && Int(number(frame, at: 18)) == frame.count - 54 && frame[21] > 0, sourceLocation: sourceLocation)
    var (next, offset) = (frame[20], 54)
    if next == 0 { (next, offset) = (frame[54], 62) }
    let payload = Array(frame[offset...])
    let pseudoHeader = Array(frame[22..<54]) + bigEndian32(UInt32(payload.count)) + [0, 0, 0, next]
    #expect(internetChecksum(pseudoHeader + payload) == 0, sourceLocation: sourceLocation)
    return payload
}

func source(of frame: [UInt8]) -> IPAddress { frame.withUnsafeBytes { IPAddress(ipv6At: $0.baseAddress! + 22) } }
func destination(of frame: [UInt8]) -> IPAddress { frame.withUnsafeBytes { IPAddress(ipv6At: $0.baseAddress! + 38) } }
