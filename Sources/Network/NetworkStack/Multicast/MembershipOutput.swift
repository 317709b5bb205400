import DatapathMemory
import EthernetDevice
import WireFormats

/// How reports and leaves of groups are sent.
extension NetworkStack {
    /// Reports what `recordType` says of each group: as many packets as that takes.
    func sendMembershipReport(_ m: GroupMembershipsPointer, _ recordType: (GroupMembership) -> GroupRecordType?) {
        let isIPv4 = m.pointee.isIPv4
        let header = isIPv4 ? NetworkStack.igmpHeaderByteCount : NetworkStack.mldHeaderByteCount
        // Above the IP header of an MTU that every link has.
        let room = (isIPv4 ? NetworkStack.smallestFragmentedPacket : IPv6Header.minimumMTU) - header + EthernetHeader.byteCount - 8
        var index = 0
        while index < m.pointee.count {
            let first = index
            var (count, byteCount) = (0, 0)
            while index < m.pointee.count {
                let group = m.pointee.groups[index]
                if recordType(group) != nil {
                    let recordByteCount = GroupRecord.byteCount(of: group.address)
                    guard byteCount + recordByteCount <= room else { break }
                    count += 1
                    byteCount += recordByteCount
                }
                index += 1
            }
            guard count > 0 else { return }
            let last = index
            sendGroupMessage(isIPv4: isIPv4, to: isIPv4 ? .allIGMPv3Routers : .allMLDv2Routers, byteCount: 8 + byteCount) { message in
                writeReport(to: message, isIPv4: isIPv4, records: count)
                var record = message + 8
                for place in first..<last {
                    let group = m.pointee.groups[place]
                    guard let type = recordType(group) else { continue }
                    GroupRecord.write(to: record, type, group: group.address)
                    record += GroupRecord.byteCount(of: group.address)
                }
            }
        }
    }

    /// Reports one group: that all its sources are wanted, or those of `sources` that it counts.
    func sendMembershipReport(_ m: GroupMembershipsPointer, of group: GroupMembership, sources: UnsafePointer<IPAddress>) {
        let isIPv4 = m.pointee.isIPv4
        let byteCount = 8 + GroupRecord.byteCount(of: group.address, sources: group.sourceCount)
        sendGroupMessage(isIPv4: isIPv4, to: isIPv4 ? .allIGMPv3Routers : .allMLDv2Routers, byteCount: byteCount) { message in
            writeReport(to: message, isIPv4: isIPv4, records: 1)
            GroupRecord.write(
                to: message + 8, group.sourceCount > 0 ? .modeIsInclude : .modeIsExclude, group: group.address, sources: sources,
                sourceCount: group.sourceCount)
        }
    }

    private func writeReport(to message: UnsafeMutableRawPointer, isIPv4: Bool, records count: Int) {
        if isIPv4 { IGMPMessage.writeReport(to: message, records: count) } else { ICMPv6Message.writeListenerReport(to: message, records: count) }
    }

    /// Reports a group in the way of the older versions.
    //= RFC 2236 section 3
    //# When a group's timer expires, the host multicasts a Version 2 Membership Report to the group, with IP TTL of 1.
    //= RFC 3376 section 7.2.1
    //# When Host Compatibility mode is IGMPv2, a host acts in IGMPv2 compatibility mode, using only the IGMPv2 protocol, on that interface. When Host
    //# Compatibility mode is IGMPv1, a host acts in IGMPv1 compatibility mode, using only the IGMPv1 protocol on that interface.
    func sendOlderReport(_ m: GroupMembershipsPointer, _ group: IPAddress) {
        let type =
            m.pointee.version == .igmpv1
            ? IGMPType.version1Report : m.pointee.isIPv4 ? IGMPType.version2Report : ICMPv6Type.multicastListenerReportVersion1
        sendOlderMessage(m, type: type, group, to: group)
    }

    /// Tells routers of the older versions that nobody here listens to a group any more.
    func sendLeave(_ m: GroupMembershipsPointer, _ group: IPAddress) {
        if m.pointee.isIPv4 {
            sendOlderMessage(m, type: IGMPType.leaveGroup, group, to: .allRoutersIPv4)
        } else {
            sendOlderMessage(m, type: ICMPv6Type.multicastListenerDone, group, to: .allRouters)
        }
    }

    private func sendOlderMessage(_ m: GroupMembershipsPointer, type: UInt8, _ group: IPAddress, to destination: IPAddress) {
        let isIPv4 = m.pointee.isIPv4
        sendGroupMessage(isIPv4: isIPv4, to: destination, byteCount: isIPv4 ? 8 : 24) { message in
            if isIPv4 {
                IGMPMessage.writeMessage(to: message, type: type, group: group)
            } else {
                ICMPv6Message.writeListenerMessage(to: message, type: type, group: group)
            }
        }
    }

    // MARK: Packets

    /// Bytes in front of a message: with an option of 4 bytes, and with a header of options of 8.
    private static var igmpHeaderByteCount: Int { EthernetHeader.byteCount + IPv4Header.byteCount + 4 }
    private static var mldHeaderByteCount: Int { EthernetHeader.byteCount + IPv6Header.byteCount + 8 }

    private func sendGroupMessage(isIPv4: Bool, to destination: IPAddress, byteCount: Int, _ write: (UnsafeMutableRawPointer) -> Void) {
        let headerByteCount = isIPv4 ? NetworkStack.igmpHeaderByteCount : NetworkStack.mldHeaderByteCount
        // Whoever sends streams can wait; what is not told in its time closes the group's way.
        guard !state.pointee.output.pointee.isExhausted,
            let frame = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount + byteCount, priority: .reserve)
        else { return countUnsent(.outOfMemory) }
        let message = frame.segmentAddress + headerByteCount
        write(message)
        if isIPv4 {
            writeIGMPHeaders(at: frame.segmentAddress, message, byteCount, to: destination)
        } else {
            writeMLDHeaders(at: frame.segmentAddress, message, byteCount, to: destination)
        }
        frame.frameFlags = []
        emit(frame)
        if isIPv4 { state.pointee.statistics.membershipReportsSent += 1 } else { state.pointee.statistics.listenerReportsSent += 1 }
    }

    private func writeIGMPHeaders(at header: UnsafeMutableRawPointer, _ message: UnsafeMutableRawPointer, _ byteCount: Int, to destination: IPAddress) {
        IGMPMessage.complete(message, count: byteCount)
        let source = IPAddress(ipv4Raw: state.pointee.routing.primary.address)
        writeEthernetHeader(at: header, destination: destination.multicastMACAddress)
        //= RFC 2236 section 2
        //# All IGMP messages described in this document are sent with IP TTL 1, and contain the IP Router Alert option in their IP header.
        //= RFC 3376 section 4
        //# Every IGMP message described in this document is sent with an IP Time-to-Live of 1, IP Precedence of Internetwork Control (e.g., Type of Service
        //# 0xc0), and carries an IP Router Alert option in its IP header.
        IPv4Header.write(
            to: header + EthernetHeader.byteCount, totalByteCount: IPv4Header.byteCount + 4 + byteCount,
            identification: UInt16(truncatingIfNeeded: nextIdentification(from: source, to: destination, protocolNumber: IPProtocol.igmp)),
            dontFragment: true, timeToLive: 1, typeOfService: 0xc0, protocolNumber: IPProtocol.igmp, source: source, destination: destination)
        // One word more than that.
        let network = header + EthernetHeader.byteCount
        network.storeBytes(of: 0x46, as: UInt8.self)
        network.storeBytes(of: UInt32(0x9404_0000).bigEndian, toByteOffset: IPv4Header.byteCount, as: UInt32.self)
        network.storeBytes(of: 0, toByteOffset: 10, as: UInt16.self)
        let sum = InternetChecksum.sum(network, count: IPv4Header.byteCount + 4)
        network.storeBytes(of: InternetChecksum.finish(sum), toByteOffset: 10, as: UInt16.self)
    }

    private func writeMLDHeaders(at header: UnsafeMutableRawPointer, _ message: UnsafeMutableRawPointer, _ byteCount: Int, to destination: IPAddress) {
        //= RFC 3810 section 5.2.13
        //# An MLDv2 Report MUST be sent with a valid IPv6 link-local source address, or the unspecified address (::), if the sending interface has not
        //# acquired a
        //# valid link-local address yet.
        var source = IPAddress.unspecifiedIPv6
        if let address = ipv6Source(for: .allMLDv2Routers), address.isLinkLocal { source = address }
        ICMPv6Message.complete(message, count: byteCount, source: source, destination: destination)
        //= RFC 3810 section 5
        //# All MLDv2 messages described in this document MUST be sent with a link-local IPv6 Source Address, an IPv6 Hop Limit of 1, and an IPv6 Router Alert
        //# option in a Hop-by-Hop Options header.
        writeIPv6Headers(
            at: header, hardware: destination.multicastMACAddress, payloadByteCount: 8 + byteCount, nextHeader: IPv6ExtensionType.hopByHopOptions,
            hopLimit: 1, from: source, to: destination)
        // Hop-by-hop options with a router alert (RFC 2711), padded to 8 bytes.
        (message - 8).storeBytes(of: UInt64(0x3a00_0502_0000_0100).bigEndian, as: UInt64.self)
    }
}
