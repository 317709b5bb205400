import DatapathMemory
import EthernetDevice
import WireFormats

/// Tells multicast routers and snooping switches which groups the interface listens to (MLDv2, RFC 3810): the solicited-node groups of its addresses.
extension NetworkStack {
    /// Has the groups reported, and once more within a second in case a report is lost.
    //= RFC 3810 section 6.1
    //# To cover the possibility of the State Change Report being missed by one or more multicast routers, it is retransmitted [Robustness Variable] - 1 more
    //# times, at intervals chosen at random from the range (0, [Unsolicited Report Interval]).
    func reportGroups() {
        state.pointee.ipv6.reports = 2
        state.pointee.ipv6.reportDeadline = state.pointee.now
    }

    func sendDueReport() {
        state.pointee.ipv6.reports -= 1
        state.pointee.ipv6.reportDeadline =
            state.pointee.ipv6.reports == 0 ? .max : state.pointee.now &+ 1 &+ state.pointee.random.next() % 1_000_000_000
        sendListenerReport(isChange: true)
    }

    func answerListenerQuery() {
        state.pointee.ipv6.queryDeadline = .max
        sendListenerReport(isChange: false)
    }

    /// Takes over a query; it is answered after a random delay.
    func multicastListenerQueryInput(_ frame: Frame, _ packet: IPv6View, _ message: ICMPv6View) {
        //= RFC 3810 section 6.2
        //# Upon reception of an MLD message that contains a Query, the node checks if the source address of the message is a valid link-local address, if the
        //# Hop
        //# Limit is set to 1, and if the Router Alert option is present in the Hop-By-Hop Options header of the IPv6 packet. If any of these checks fails, the
        //# packet is dropped.
        guard message.count >= 24, packet.source.isLinkLocal, packet.hopLimit == 1, IPv6Extensions(packet).hasRouterAlert else {
            return drop(frame, .badControlMessage)
        }
        //= RFC 3810 section 5.1.3
        //# The Maximum Response Code field specifies the maximum time allowed before sending a responding Report.
        let code = UInt64(message.restOfHeader >> 16)
        let milliseconds = code < 32_768 ? code : (code & 0xfff | 0x1000) << (code >> 12 & 7 + 3)
        let deadline = state.pointee.now &+ state.pointee.random.next() % (min(max(milliseconds, 1), 10_000) &* 1_000_000)
        if deadline < state.pointee.ipv6.queryDeadline { state.pointee.ipv6.queryDeadline = deadline }
        armIPv6Timer()
        frame.releaseArray()
    }

    /// Sends one report about all groups.
    private func sendListenerReport(isChange: Bool) {
        let interface = state.pointee.ipv6.addresses
        var count = 0
        for index in 0..<state.pointee.ipv6.addressCount where interface[index].state != .duplicate { count += 1 }
        guard count > 0 else { return }
        // Hop-by-hop options with a router alert (RFC 2711), padded to 8 bytes.
        let optionsByteCount = 8
        let headerByteCount = EthernetHeader.byteCount + IPv6Header.byteCount + optionsByteCount
        // 64 groups at most, which fit into the smallest MTU but for a few.
        count = min(count, (IPv6Header.minimumMTU - IPv6Header.byteCount - optionsByteCount - 8) / 20)
        let byteCount = ICMPv6Message.listenerReportByteCount(groups: count)
        guard !state.pointee.output.pointee.isFull,
            let frame = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount + byteCount, priority: .reserve)
        else { return countUnsent(.outOfMemory) }
        let message = frame.segmentAddress + headerByteCount
        ICMPv6Message.writeListenerReport(to: message, groups: count)
        var written = 0
        for index in 0..<state.pointee.ipv6.addressCount where interface[index].state != .duplicate && written < count {
            ICMPv6Message.writeListenerRecord(to: message + 8 + 20 * written, group: interface[index].address.solicitedNode, isChange: isChange)
            written += 1
        }
        //= RFC 3810 section 5.2.13
        //# An MLDv2 Report MUST be sent with a valid IPv6 link-local source address, or the unspecified address (::), if the sending interface has not
        //# acquired a
        //# valid link-local address yet.
        var source = IPAddress.unspecifiedIPv6
        if let address = ipv6Source(for: .allMLDv2Routers), address.isLinkLocal { source = address }
        ICMPv6Message.complete(message, count: byteCount, source: source, destination: .allMLDv2Routers)
        //= RFC 3810 section 5
        //# All MLDv2 messages described in this document MUST be sent with a link-local IPv6 Source Address, an IPv6 Hop Limit of 1, and an IPv6 Router Alert
        //# option
        //# in a Hop-by-Hop Options header.
        writeIPv6Headers(
            at: frame.segmentAddress, hardware: IPAddress.allMLDv2Routers.multicastMACAddress, payloadByteCount: optionsByteCount + byteCount,
            nextHeader: IPv6ExtensionType.hopByHopOptions, hopLimit: 1, from: source, to: .allMLDv2Routers)
        let options = message - optionsByteCount
        options.storeBytes(of: UInt64(0x3a00_0502_0000_0100).bigEndian, as: UInt64.self)
        frame.frameFlags = []
        emit(frame)
        state.pointee.statistics.listenerReportsSent += 1
    }
}
