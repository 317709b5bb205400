import WireFormats

/// An IP packet of either family, as a frame has it behind its Ethernet header. It borrows the frame's bytes.
struct PacketView {
    let source: IPAddress
    let destination: IPAddress
    /// What the payload is: of IPv6 the number behind all extension headers.
    let protocolNumber: UInt8
    let payload: UnsafeRawPointer
    let payloadByteCount: Int
    /// The ECN field (RFC 3168, section 5).
    let congestionCodepoint: UInt8
    /// The time to live over IPv4.
    let hopLimit: UInt8
    let hasRouterAlert: Bool
    let isFragment: Bool
    let moreFragments: Bool
    let dontFragment: Bool
    /// Whether the header's own checksum is right. IPv6 has none.
    let isHeaderChecksumValid: Bool

    var isIPv4: Bool { source.isIPv4 }

    /// Whether the frame claims to have one.
    static func isIn(_ ethernet: EthernetView) -> Bool { ethernet.etherType == EtherType.ipv4 || ethernet.etherType == EtherType.ipv6 }

    /// Nil for a frame of anything else, and for a malformed packet.
    init?(_ ethernet: EthernetView) {
        if ethernet.etherType == EtherType.ipv4, IPv4View.check(ethernet.payload, count: ethernet.payloadByteCount) == .none {
            let packet = IPv4View(unchecked: ethernet.payload)
            (source, destination, protocolNumber) = (packet.source, packet.destination, packet.protocolNumber)
            (payload, payloadByteCount, congestionCodepoint) = (packet.payload, packet.payloadByteCount, packet.ecn)
            (isFragment, moreFragments, dontFragment) = (packet.isFragment, packet.moreFragments, packet.dontFragment)
            isHeaderChecksumValid = packet.isChecksumValid
            // As the first option (RFC 2113).
            (hopLimit, hasRouterAlert) = (packet.timeToLive, packet.headerByteCount > 20 && packet.base.load(fromByteOffset: 20, as: UInt8.self) == 0x94)
        } else if ethernet.etherType == EtherType.ipv6, IPv6View.check(ethernet.payload, count: ethernet.payloadByteCount) == .none {
            let packet = IPv6View(unchecked: ethernet.payload)
            let extensions = IPv6Extensions(packet)
            guard extensions.fault == .none, !packet.source.isIPv4 else { return nil }
            let offset = extensions.fragment.map { $0.headerOffset + IPv6FragmentHeader.byteCount } ?? extensions.offset
            (source, destination, protocolNumber) = (packet.source, packet.destination, extensions.fragment?.nextHeader ?? extensions.nextHeader)
            (payload, payloadByteCount, congestionCodepoint) = (packet.base + offset, packet.totalByteCount - offset, packet.ecn)
            (isFragment, moreFragments, dontFragment) = (extensions.fragment != nil, extensions.fragment?.moreFragments ?? false, false)
            isHeaderChecksumValid = true
            (hopLimit, hasRouterAlert) = (packet.hopLimit, extensions.hasRouterAlert)
        } else {
            return nil
        }
    }

    /// The sum of the pseudo-header of `byteCount` bytes of the payload's protocol.
    func pseudoHeader(byteCount: Int) -> UInt64 {
        InternetChecksum.pseudoHeader(source: source, destination: destination, protocolNumber: protocolNumber, byteCount: byteCount)
    }
}
