import WireFormats

/// Looks at every frame that hosts send and receive, and knows what no correct host does.
///
/// It is passive: it knows of a host what its frames say. What a host may send depends on what it was told, so a frame counts when the device has got it,
/// and of several statements the one that allows most.
///
/// Rules: checksums are right and addresses the host's own; a segment is no larger than the peer asked for, lies within the window that the peer
/// advertised (but for a probe of one byte), behind no FIN; an acknowledgement is of bytes that were sent, and goes back no more than the window's right
/// edge does; timestamps, once agreed on, are in every segment and do not go back; a reset has a reason of its own. Of a host
/// whose `Conduct` it was told it also knows what it must do.
public final class WireChecker {
    /// What was found, in words.
    public private(set) var violations: [String] = []
    /// Segments with RST that hosts sent, and all segments that they sent and received.
    public private(set) var resets: UInt64 = 0
    public private(set) var segments: UInt64 = 0
    /// What hosts sent over IPv6.
    public private(set) var ipv6 = IPv6Counts()
    private var stations: [ObjectIdentifier: Station] = [:]
    private var flows: [FlowKey: Flow] = [:]
    private var conducts: [FlowKey: FlowConduct] = [:]
    /// Of hosts that send cookies: what they have begun and not gone on with, the latest last.
    private var earlierFlows: [FlowKey: [EarlierFlow]] = [:]
    /// Resets that each host may have taken, and for each connection when one came last, with nothing else at that time.
    private var resetsTaken: [ObjectIdentifier: UInt64] = [:]
    private var lastResets: [FlowKey: UInt64] = [:]
    private var lastReceived: [FlowKey: UInt64] = [:]
    /// Those of whose connection a reset has come that may have been taken.
    private var resetFlows: Set<FlowKey> = []
    /// Connections to hosts that send cookies, of which one has come to nothing: a host that kept nothing has reset what did not bring the cookie back.
    private var deniedCookies: Set<FlowKey> = []
    /// How many more resets a host may send: one to each segment that it gets, and one of each connection.
    private var resetsAllowed: [FlowKey: Int] = [:]
    /// The flows in the order in which they were first seen.
    private(set) var flowKeys: [FlowKey] = []

    /// Packets over IPv6.
    public struct IPv6Counts: Sendable {
        public var segments: UInt64 = 0
        /// Whole ones, and fragments of those that are too large.
        public var datagrams: UInt64 = 0
        public var fragments: UInt64 = 0
    }

    struct Station {
        let name: String
        let macAddress: MACAddress
        let address: IPAddress
        let ipv6Address: IPAddress?
        let maximumTransmissionUnit: Int
        let sendsCookies: Bool
        var conduct: Conduct?
        /// When it sent resets to segments with an acknowledgement, within the last second.
        var resetTimes: [UInt64] = []
        /// When it last got a packet of ARP or neighbour discovery, after which it may send what has waited for one.
        var resolvedAt: UInt64?
        var neighbors = NeighborConduct()
        var groups = GroupConduct()

        /// What it is held to in a connection of the address's family: the header of IPv6 leaves 20 bytes less for a segment.
        func conduct(from local: IPAddress) -> Conduct? {
            guard var conduct, !local.isIPv4 else { return conduct }
            conduct.maximumSegmentSize = min(conduct.maximumSegmentSize, maximumTransmissionUnit - IPv6Header.byteCount - TCPSegmentHeader.minimumByteCount)
            return conduct
        }

        func isOwn(_ local: IPAddress) -> Bool { local == address || local == ipv6Address }

        /// Whether the host may send a packet from there: messages of the link come from its link-local address, or from none yet.
        func maySend(_ packet: PacketView) -> Bool {
            isOwn(packet.source) || packet.protocolNumber == IPProtocol.icmpv6 && (packet.source.isLinkLocal || packet.source == .unspecifiedIPv6)
        }
    }

    init() {}

    func add(_ host: SimulatedHost, maximumTransmissionUnit: Int, sendsCookies: Bool) {
        stations[ObjectIdentifier(host)] = Station(
            name: host.name, macAddress: host.macAddress, address: host.address, ipv6Address: host.ipv6Address,
            maximumTransmissionUnit: maximumTransmissionUnit, sendsCookies: sendsCookies)
    }

    /// Holds a host to what it must do, from now on.
    public func expect(_ conduct: Conduct, of host: SimulatedHost) { stations[ObjectIdentifier(host)]?.conduct = conduct }

    func flow(_ key: FlowKey) -> Flow? { flows[key] }

    /// The resets that the host has got and may have taken; of others it was clear that they are none of its business.
    func resetsTaken(by host: SimulatedHost) -> UInt64 { resetsTaken[ObjectIdentifier(host), default: 0] }

    /// Whether a reset has come to the flow's host that may have ended its last connection.
    func wasReset(_ key: FlowKey) -> Bool { resetFlows.contains(key) }

    /// Whether the flow's host has reset what came in a connection of which it kept nothing.
    func hasDeniedCookie(_ key: FlowKey) -> Bool { deniedCookies.contains(key) }

    /// A connection begins anew.
    func forgetDeniedCookie(_ key: FlowKey) { deniedCookies.remove(key) }

    // MARK: Frames

    /// - Parameter mayHaveWaited: the device had no room before: the frame may have been made at an earlier time.
    func transmitted(_ frame: [UInt8], by host: SimulatedHost, at time: UInt64, mayHaveWaited: Bool = false) {
        guard let station = stations[ObjectIdentifier(host)] else { return }
        if station.conduct?.asksForNeighbors == true { checkNeighbors(frame, isSent: true, host, time) }
        if station.conduct != nil { checkGroups(frame, isSent: true, host, time) }
        check(frame, from: station, ObjectIdentifier(host), time, mayHaveWaited)
    }

    func received(_ frame: SimulatedFrame, by host: SimulatedHost, at time: UInt64 = 0) {
        guard let station = stations[ObjectIdentifier(host)] else { return }
        if station.conduct?.asksForNeighbors == true { checkNeighbors(frame.bytes, isSent: false, host, time) }
        if station.conduct != nil { checkGroups(frame.bytes, isSent: false, host, time) }
        frame.bytes.withUnsafeBytes { bytes in
            if WireChecker.resolvesAddresses(bytes) { stations[ObjectIdentifier(host)]?.resolvedAt = time }
            guard let segment = Segment(bytes), segment.isChecksumValid, station.isOwn(segment.destination.address),
                MACAddress(at: bytes.baseAddress!) == station.macAddress
            else { return }
            let key = FlowKey(local: segment.destination, remote: segment.source)
            with(key) { $0.received(segment, isForged: frame.isForged) }
            for index in earlierFlows[key]?.indices ?? 0..<0 { receivedEarlier(key, index, segment, isForged: frame.isForged, station, at: time) }
            if segment.header.flags.contains(.rst) {
                if conducts[key]?.mayTakeReset(segment.header) ?? true {
                    resetsTaken[ObjectIdentifier(host), default: 0] += 1
                    resetFlows.insert(key)
                }
                if lastReceived[key] != time { lastResets[key] = time }
            } else {
                lastResets[key] = nil
                resetsAllowed[key, default: 0] += 1
            }
            lastReceived[key] = time
            guard let conduct = station.conduct(from: key.local.address), let flow = flows[key] else { return }
            if let complaint = conducts[key]?.received(segment, isForged: frame.isForged, flow, conduct, at: time) {
                report(station, "\(key.local) to \(key.remote): \(complaint)")
            }
        }
    }

    /// Whether a frame is of ARP or neighbour discovery.
    private static func resolvesAddresses(_ bytes: UnsafeRawBufferPointer) -> Bool {
        guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count) else { return false }
        return ethernet.etherType == EtherType.arp
            || ethernet.etherType == EtherType.ipv6 && PacketView(ethernet).map { $0.protocolNumber == IPProtocol.icmpv6 } ?? false
    }

    private func checkNeighbors(_ frame: [UInt8], isSent: Bool, _ host: SimulatedHost, _ time: UInt64) {
        guard var station = stations[ObjectIdentifier(host)] else { return }
        var complaint = station.neighbors.settle(time)
        frame.withUnsafeBytes { bytes in
            guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count) else { return }
            if let packet = ethernet.etherType == EtherType.arp ? ARPPacket(parsing: ethernet.payload, count: ethernet.payloadByteCount) : nil {
                if isSent {
                    complaint = station.neighbors.transmitted(packet, toAll: ethernet.destination.isGroup, at: time) ?? complaint
                } else if packet.targetProtocol == station.address {
                    station.neighbors.received(packet, at: time)
                }
            } else if PacketView.isIn(ethernet), let packet = PacketView(ethernet) {
                if let message = packet.isFragment ? nil : NeighborMessage(packet) {
                    if isSent {
                        complaint = station.neighbors.transmitted(message, at: time) ?? complaint
                    } else if message.hopLimit == 255, ethernet.destination == station.macAddress || packet.destination == .allNodes
                        || message.kind == .solicitation && station.isOwn(message.target)
                    {
                        // Not what the host only overhears.
                        station.neighbors.received(message, at: time)
                    }
                } else if isSent, !packet.destination.isMulticast {
                    complaint = station.neighbors.transmitted(to: packet.destination, at: time) ?? complaint
                }
            }
        }
        stations[ObjectIdentifier(host)]?.neighbors = station.neighbors
        if let complaint { report(station, complaint) }
    }

    private func checkGroups(_ frame: [UInt8], isSent: Bool, _ host: SimulatedHost, _ time: UInt64) {
        let key = ObjectIdentifier(host)
        guard let station = stations[key] else { return }
        var complaint = stations[key]?.groups.settle(time)
        frame.withUnsafeBytes { bytes in
            guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count), PacketView.isIn(ethernet), let packet = PacketView(ethernet),
                !packet.isFragment, packet.protocolNumber == (packet.isIPv4 ? IPProtocol.igmp : IPProtocol.icmpv6)
            else { return }
            if isSent {
                complaint = stations[key]?.groups.transmitted(packet, at: time) ?? complaint
            } else {
                stations[key]?.groups.received(packet, at: time)
            }
        }
        if let complaint { report(station, complaint) }
    }

    private func check(_ frame: [UInt8], from station: Station, _ host: ObjectIdentifier, _ time: UInt64, _ mayHaveWaited: Bool) {
        frame.withUnsafeBytes { bytes in
            guard let ethernet = EthernetView(bytes.baseAddress!, count: bytes.count) else { return report(station, "sent a frame without a header") }
            if ethernet.source != station.macAddress { report(station, "sent a frame from another hardware address, \(ethernet.source)") }
            if bytes.count > station.maximumTransmissionUnit + EthernetHeader.byteCount { report(station, "sent a frame of \(bytes.count) bytes") }
            guard PacketView.isIn(ethernet) else { return }
            guard let packet = PacketView(ethernet) else { return report(station, "sent a malformed IP packet") }
            if !packet.isHeaderChecksumValid { report(station, "sent a wrong IPv4 header checksum") }
            if !station.maySend(packet) { report(station, "sent a packet from another address, \(packet.source)") }
            if packet.isFragment { return checkFragment(packet, station) }
            switch packet.protocolNumber {
            case IPProtocol.tcp:
                if !packet.isIPv4 { ipv6.segments += 1 }
                checkSegment(bytes, station, host, time, mayHaveWaited)
            case IPProtocol.udp:
                if !packet.isIPv4 { ipv6.datagrams += 1 }
                guard UDPView.check(packet.payload, count: packet.payloadByteCount) == .none else { return report(station, "sent a malformed datagram") }
                let datagram = UDPView(unchecked: packet.payload)
                let pseudo = packet.pseudoHeader(byteCount: datagram.byteCount)
                if !datagram.hasChecksum || !datagram.isChecksumValid(pseudo) { report(station, "sent a wrong UDP checksum") }
            case IPProtocol.icmp where packet.isIPv4, IPProtocol.icmpv6 where !packet.isIPv4:
                // Only that of IPv6 covers a pseudo-header (RFC 4443, section 2.3).
                let pseudo = packet.isIPv4 ? 0 : packet.pseudoHeader(byteCount: packet.payloadByteCount)
                if !InternetChecksum.isValid(pseudo &+ InternetChecksum.sum(packet.payload, count: packet.payloadByteCount)) {
                    report(station, "sent a wrong ICMP checksum")
                }
            case IPProtocol.igmp where packet.isIPv4:
                if !InternetChecksum.isValid(InternetChecksum.sum(packet.payload, count: packet.payloadByteCount)) {
                    report(station, "sent a wrong IGMP checksum")
                }
            default: report(station, "sent a packet of protocol \(packet.protocolNumber)")
            }
        }
    }

    /// The datagram in its fragments is looked at by who receives it.
    private func checkFragment(_ packet: PacketView, _ station: Station) {
        if !packet.isIPv4 { ipv6.fragments += 1 }
        if packet.protocolNumber == IPProtocol.tcp { report(station, "sent a segment in fragments") }
        if packet.dontFragment { report(station, "sent a fragment that must not be one") }
        if packet.payloadByteCount == 0 || packet.moreFragments && packet.payloadByteCount % 8 != 0 {
            report(station, "sent a fragment of \(packet.payloadByteCount) bytes that is not the last one")
        }
    }

    private func checkSegment(_ bytes: UnsafeRawBufferPointer, _ station: Station, _ host: ObjectIdentifier, _ time: UInt64, _ mayHaveWaited: Bool) {
        guard let segment = Segment(bytes) else { return report(station, "sent a malformed segment") }
        if !segment.isChecksumValid { report(station, "sent a wrong TCP checksum") }
        segments += 1
        let key = FlowKey(local: segment.source, remote: segment.destination)
        if segment.header.flags.contains(.rst) {
            resets += 1
            //= RFC 9293 section 3.10.7.1
            //# An incoming segment containing a RST is discarded.
            // One that has waited, for the device or a neighbour, answers what came before.
            if let last = lastResets[key], last == time, time > 0, station.resolvedAt != time, !mayHaveWaited {
                report(station, "\(segment.source) to \(segment.destination): a reset in answer to a reset")
            }
            countReset(segment, key, host, at: time)
            //= RFC 9293 section 3.10.7.2
            //# Any acknowledgment is bad if it arrives on a connection still in the LISTEN state. An acceptable reset segment should be formed for any
            //# arriving ACK-bearing segment.
            if station.sendsCookies, !segment.header.flags.contains(.ack), flows[key]?.mayBeCookie ?? false { deniedCookies.insert(key) }
        }
        let peer = flows[key.reversed]
        if station.sendsCookies { takeUpEarlier(key, segment.header) }
        var complaint: String?
        let before = flows[key]
        with(key) { complaint = $0.transmitted(segment, peer: peer) }
        if let begun = flows[key]?.own, begun.initialSequence != before?.own?.initialSequence {
            resetsAllowed[key, default: 0] += 1
            resetFlows.remove(key)
        }
        if let conduct = station.conduct(from: key.local.address), let flow = flows[key], let own = flow.own {
            if conducts[key]?.isOf(own) != true {
                complaint = complaint ?? conducts[key]?.reopened(by: flow.peer, conduct, at: time)
                conducts[key] = FlowConduct(own)
            }
            let failing = conducts[key]?.transmitted(segment, before: before ?? flow, flow, conduct, at: time)
            complaint = complaint ?? failing
        }
        if let complaint { report(station, "\(segment.source) to \(segment.destination): \(complaint)") }
    }

    /// What a host that sends cookies gets may be for any of its answers.
    private func receivedEarlier(_ key: FlowKey, _ index: Int, _ segment: Segment, isForged: Bool, _ station: Station, at time: UInt64) {
        earlierFlows[key]![index].flow.received(segment, isForged: isForged)
        guard let conduct = station.conduct(from: key.local.address), let flow = earlierFlows[key]?[index].flow else { return }
        // It owes nothing while nobody has brought the answer back.
        _ = earlierFlows[key]![index].conduct?.received(segment, isForged: isForged, flow, conduct, at: time)
    }

    /// The host sends a segment, and the flow becomes the one that it belongs to: a new answer to a SYN sets the one before aside, and who goes on behind
    /// an earlier answer has taken that up.
    private func takeUpEarlier(_ key: FlowKey, _ header: TCPSegmentHeader) {
        guard !header.flags.contains(.rst), let current = flows[key], let own = current.own else { return }
        var earlier = earlierFlows[key] ?? []
        let isAnswer = header.flags.contains(.syn)
        let begun = isAnswer ? header.sequence : header.sequence + -1
        guard isAnswer ? own.initialSequence != begun : !current.includes(header.sequence) else { return }
        let found = earlier.firstIndex { $0.flow.own?.initialSequence == begun }.map { earlier.remove(at: $0) }
        guard isAnswer || found != nil else { return }
        if current.mayBeCookie { earlier.append(EarlierFlow(flow: current, conduct: conducts[key])) }
        if earlier.count > EarlierFlow.limit { earlier.removeFirst() }
        earlierFlows[key] = earlier
        if let found { (flows[key], conducts[key]) = (found.flow, found.conduct) }
    }

    private func countReset(_ segment: Segment, _ key: FlowKey, _ host: ObjectIdentifier, at time: UInt64) {
        guard let station = stations[host] else { return }
        guard let allowed = resetsAllowed[key], allowed > 0 else {
            return report(station, "\(segment.source) to \(segment.destination): a reset that nothing has provoked")
        }
        resetsAllowed[key] = allowed - 1
        //= RFC 1122 section 2.3.2.2
        //# The link layer SHOULD save at least one packet to the same unresolved IP address, and transmit the saved packet when it has been resolved.
        // When such a packet was made, and counted, nobody can tell.
        guard let conduct = station.conduct, !segment.header.flags.contains(.ack), station.resolvedAt != time else { return }
        var times = station.resetTimes.filter { time - $0 < 1_000_000_000 }
        times.append(time)
        stations[host]?.resetTimes = times
        // The second in which they are counted may begin at any time.
        if times.count > 2 * conduct.resetsPerSecond { report(station, "\(times.count) resets to segments of no connection in a second") }
    }

    private func with(_ key: FlowKey, _ body: (inout Flow) -> Void) {
        if flows[key] == nil {
            flows[key] = Flow()
            flowKeys.append(key)
        }
        body(&flows[key]!)
    }

    private func report(_ station: Station, _ complaint: String) {
        if violations.count < 16 { violations.append("\(station.name) \(complaint)") }
    }
}

/// A connection as one of its two hosts has it.
struct FlowKey: Hashable {
    let local: Endpoint
    let remote: Endpoint

    var reversed: FlowKey { FlowKey(local: remote, remote: local) }
}

/// A TCP segment in a frame.
struct Segment {
    var header = TCPSegmentHeader()
    let source: Endpoint
    let destination: Endpoint
    let isChecksumValid: Bool
    /// The ECN field of the packet (RFC 3168, section 5).
    let congestionCodepoint: UInt8

    init?(_ bytes: UnsafeRawBufferPointer) {
        guard let base = bytes.baseAddress, let ethernet = EthernetView(base, count: bytes.count), let packet = PacketView(ethernet),
            packet.protocolNumber == IPProtocol.tcp, !packet.isFragment,
            TCPSegmentHeader.parse(packet.payload, count: packet.payloadByteCount, into: &header) == .none
        else { return nil }
        congestionCodepoint = packet.congestionCodepoint
        source = Endpoint(address: packet.source, port: header.sourcePort)
        destination = Endpoint(address: packet.destination, port: header.destinationPort)
        isChecksumValid =
            packet.isHeaderChecksumValid
            && TCPSegmentHeader.isChecksumValid(
                packet.payload, count: packet.payloadByteCount, pseudoHeaderSum: packet.pseudoHeader(byteCount: packet.payloadByteCount))
    }
}
