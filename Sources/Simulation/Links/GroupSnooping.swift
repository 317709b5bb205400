import WireFormats

/// What a snooping switch knows of groups (RFC 4541): which of its ports have listeners to which, by the reports that came from there. It also queries, as
/// the switch of a link without a multicast router.
public struct GroupSnooping {
    /// The versions in which it queries, and in which nobody may report more than it understands.
    public var igmp = GroupProtocol.igmpv3
    public var mld = GroupProtocol.mldv2
    /// Between two queries, and how long hosts have to answer one, in nanoseconds.
    public var queryInterval: UInt64 = 10_000_000_000
    public var maximumResponseTime: UInt64 = 1_000_000_000
    /// Whether reports go to all ports and not to routers alone, of which there are none: then hosts hear each other's, and in the older versions keep
    /// silent for them.
    public var floodsReports = false

    private struct Membership: Hashable {
        let port: Int
        let group: IPAddress
    }

    /// Until when each counts.
    private var memberships: [Membership: UInt64] = [:]

    public init() {}

    /// The ports that a frame to a group goes to; nil for all of them.
    func ports(_ frame: [UInt8], at time: UInt64) -> Set<Int>? {
        frame.withUnsafeBytes { bytes in
            guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count), let packet = PacketView(ethernet), packet.destination.isMulticast
            else { return nil }
            // RFC 4541, section 2.1.1: reports are forwarded to routers alone, unless the switch was told otherwise, as in the older versions they can keep
            // other hosts from joining.
            if GroupSnooping.isReport(packet) { return floodsReports ? nil : [] }
            guard GroupSnooping.isSnooped(packet.destination) else { return nil }
            return Set(memberships.lazy.filter { $0.key.group == packet.destination && $0.value >= time }.map(\.key.port))
        }
    }

    private static func isReport(_ packet: PacketView) -> Bool {
        guard packet.payloadByteCount >= 8, !packet.isFragment else { return false }
        let type = packet.payload.load(as: UInt8.self)
        switch packet.protocolNumber {
        case IPProtocol.igmp where packet.isIPv4: return [IGMPType.version1Report, IGMPType.version2Report, IGMPType.version3Report].contains(type)
        case IPProtocol.icmpv6: return [ICMPv6Type.multicastListenerReportVersion1, ICMPv6Type.multicastListenerReport].contains(type)
        default: return false
        }
    }

    /// RFC 4541, sections 2.1.2 and 3: what stays on the link goes everywhere, as not all of it is reported.
    private static func isSnooped(_ group: IPAddress) -> Bool {
        group.isIPv4 ? group.ipv4HostOrder >> 8 != 0xe0_0000 && !group.isLimitedBroadcast : group.words.0 >> 8 & 0xf > 2
    }

    /// Takes notice of a frame that has come from a port.
    mutating func observe(_ frame: [UInt8], port: Int, at time: UInt64) {
        frame.withUnsafeBytes { bytes in
            guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count), let packet = PacketView(ethernet), packet.payloadByteCount >= 8,
                GroupSnooping.isChecksumValid(packet)
            else { return }
            let type = packet.payload.load(as: UInt8.self)
            switch (packet.protocolNumber, type) {
            case (IPProtocol.igmp, IGMPType.version3Report), (IPProtocol.icmpv6, ICMPv6Type.multicastListenerReport):
                for record in GroupConduct.records(packet, addressByteCount: packet.isIPv4 ? 4 : 16) {
                    // The host at a port is the only one there.
                    let isLeave = record.type == .changeToInclude
                    memberships[Membership(port: port, group: record.group)] = isLeave ? nil : end(of: time)
                }
            case (IPProtocol.igmp, IGMPType.version1Report), (IPProtocol.igmp, IGMPType.version2Report):
                takeOlderReport(IPAddress(ipv4Raw: packet.payload.loadUnaligned(fromByteOffset: 4, as: UInt32.self)), port: port, at: time)
            case (IPProtocol.igmp, IGMPType.leaveGroup):
                memberships[Membership(port: port, group: IPAddress(ipv4Raw: packet.payload.loadUnaligned(fromByteOffset: 4, as: UInt32.self)))] = nil
            case (IPProtocol.icmpv6, ICMPv6Type.multicastListenerReportVersion1) where packet.payloadByteCount >= 24:
                takeOlderReport(IPAddress(ipv6At: packet.payload + 8), port: port, at: time)
            case (IPProtocol.icmpv6, ICMPv6Type.multicastListenerDone) where packet.payloadByteCount >= 24:
                memberships[Membership(port: port, group: IPAddress(ipv6At: packet.payload + 8))] = nil
            default: break
            }
        }
    }

    /// RFC 3376, section 8.4: twice the query interval, and the time to answer; and what a link delays.
    private func end(of time: UInt64) -> UInt64 { time + 2 * queryInterval + maximumResponseTime + 500_000_000 }

    private mutating func takeOlderReport(_ group: IPAddress, port: Int, at time: UInt64) {
        memberships[Membership(port: port, group: group)] = end(of: time)
        // Who hears it need not say the same.
        guard floodsReports else { return }
        for membership in memberships.keys where membership.group == group && memberships[membership]! >= time { memberships[membership] = end(of: time) }
    }

    /// RFC 4541, section 2.1.1: no use is made of packets whose IP or IGMP header has an error.
    private static func isChecksumValid(_ packet: PacketView) -> Bool {
        guard packet.isHeaderChecksumValid else { return false }
        switch packet.protocolNumber {
        case IPProtocol.igmp: return IGMPView(packet.payload, count: packet.payloadByteCount)?.isChecksumValid ?? false
        case IPProtocol.icmpv6:
            return ICMPv6View(packet.payload, count: packet.payloadByteCount)?.isChecksumValid(source: packet.source, destination: packet.destination) ?? false
        default: return false
        }
    }

    /// A general query of each family.
    var queries: [[UInt8]] { [igmpQuery, mldQuery] }

    private static let macAddress = MACAddress(value: 0x0200_00ff_ff01)

    private var igmpQuery: [UInt8] {
        // Tenths of a second, seconds, and a robustness of 2. The oldest version has no time.
        let code = igmp == .igmpv1 ? 0 : UInt8(min(maximumResponseTime / 100_000_000, 127))
        var message: [UInt8] = [IGMPType.membershipQuery, code, 0, 0, 0, 0, 0, 0]
        if igmp == .igmpv3 { message += [2, UInt8(min(queryInterval / 1_000_000_000, 127)), 0, 0] }
        let destination = IPAddress.allHosts
        var bytes = [UInt8](repeating: 0, count: EthernetHeader.byteCount + IPv4Header.byteCount) + message
        bytes.withUnsafeMutableBytes { bytes in
            let base = bytes.baseAddress!
            EthernetHeader.write(to: base, destination: destination.multicastMACAddress, source: GroupSnooping.macAddress, etherType: EtherType.ipv4)
            // A switch has no address of its own.
            IPv4Header.write(
                to: base + EthernetHeader.byteCount, totalByteCount: IPv4Header.byteCount + message.count, identification: 0, dontFragment: true,
                timeToLive: 1, protocolNumber: IPProtocol.igmp, source: .unspecifiedIPv4, destination: destination)
            IGMPMessage.complete(base + EthernetHeader.byteCount + IPv4Header.byteCount, count: message.count)
        }
        return bytes
    }

    private var mldQuery: [UInt8] {
        let milliseconds = UInt16(min(maximumResponseTime / 1_000_000, 32_767))
        var message = [UInt8](repeating: 0, count: 24)
        message[0] = ICMPv6Type.multicastListenerQuery
        (message[4], message[5]) = (UInt8(milliseconds >> 8), UInt8(milliseconds & 0xff))
        if mld == .mldv2 { message += [2, UInt8(min(queryInterval / 1_000_000_000, 127)), 0, 0] }
        let (source, destination) = (IPAddress.linkLocal(identifier: GroupSnooping.macAddress.modifiedEUI64), IPAddress.allNodes)
        let alert: [UInt8] = [IPProtocol.icmpv6, 0, 5, 2, 0, 0, 1, 0]
        var bytes = [UInt8](repeating: 0, count: EthernetHeader.byteCount + IPv6Header.byteCount) + alert + message
        bytes.withUnsafeMutableBytes { bytes in
            let base = bytes.baseAddress!
            EthernetHeader.write(to: base, destination: destination.multicastMACAddress, source: GroupSnooping.macAddress, etherType: EtherType.ipv6)
            IPv6Header.write(
                to: base + EthernetHeader.byteCount, payloadByteCount: alert.count + message.count, nextHeader: IPv6ExtensionType.hopByHopOptions, hopLimit: 1,
                source: source, destination: destination)
            ICMPv6Message.complete(
                base + EthernetHeader.byteCount + IPv6Header.byteCount + alert.count, count: message.count, source: source, destination: destination)
        }
        return bytes
    }
}
