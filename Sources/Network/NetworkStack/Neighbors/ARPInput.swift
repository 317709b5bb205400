import DatapathMemory
import EthernetDevice
import WireFormats

/// The Address Resolution Protocol (RFC 826).
///
/// Anybody on the link can say anything. So what is not asked for makes no entry, unless the sender wants to talk to us: a request for one of our
/// addresses. An entry that is there is changed by every packet of its address, because a host whose hardware address has changed tells so unasked
/// (RFC 5227, section 2.3), and telling requests from replies would not stop one who lies; but not within a second of the last answer, so that of several
/// answers to one question the first one counts and a liar cannot overwrite it; and a changed entry is asked about after another second.
extension NetworkStack {
    /// Takes over a frame whose ARP packet starts at `offset`.
    func arpInput(_ frame: Frame, at offset: Int) {
        guard let packet = ARPPacket(parsing: frame.segmentAddress + offset, count: frame.segmentByteCount &- offset),
            packet.operation == ARPPacket.request || packet.operation == ARPPacket.reply,
            !packet.senderHardware.isGroup, packet.senderHardware.value != 0
        else { return drop(frame, .badARP) }
        let isRequest = packet.operation == ARPPacket.request
        let isForUs = state.pointee.routing.isOwn(packet.targetProtocol.ipv4Raw)

        let sender = packet.senderProtocol
        //= RFC 5227 section 2.1.1
        //# The 'sender IP address' field MUST be set to all zeroes; this is to avoid polluting ARP caches in other hosts.
        if sender.isUnspecified {
            guard isRequest && isForUs else { return drop(frame, .notOurAddress) }
            sendARPReply(to: packet)
            return frame.releaseArray()
        }
        // One's own frame that comes back is no conflict.
        if state.pointee.routing.isOwn(sender.ipv4Raw) {
            return drop(frame, packet.senderHardware == state.pointee.macAddress ? .unsolicitedARP : .addressConflict)
        }
        guard state.pointee.routing.isOnLinkHost(sender.ipv4Raw) else { return drop(frame, .badSourceAddress) }

        //= RFC 826 section Packet Reception
        //# If the pair <protocol type, sender protocol address> is already in my translation table, update the sender hardware address field of the entry with
        //# the new information in the packet and set Merge_flag to true.
        let slot = findNeighbor(sender)
        let isTaken = slot != 0 && merge(slot, packet.senderHardware, isRequest: isRequest)
        guard isForUs && isRequest else {
            return isTaken ? frame.releaseArray() : drop(frame, isRequest ? .notOurAddress : .unsolicitedARP)
        }
        // Who asks is answered, even if the entry says otherwise.
        if slot == 0 { learn(sender, packet.senderHardware) } else if !isTaken { state.pointee.statistics.drops[.unsolicitedARP] += 1 }
        sendARPReply(to: packet)
        frame.releaseArray()
    }

    /// Brings what a packet says of its sender into the entry.
    /// - Returns: whether it told anything that is believed.
    private func merge(_ slot: UInt32, _ macAddress: MACAddress, isRequest: Bool) -> Bool {
        let neighbor = state.pointee.neighbors[slot]
        switch neighbor.pointee.state {
        case .permanent:
            return isRequest && neighbor.pointee.macAddress == macAddress
        case .incomplete, .failed, .probing:
            resolve(slot, to: macAddress, verifiesAfter: NeighborTimes.reachable)
            return true
        // Stale and delayed are states of IPv6 neighbours.
        case .reachable, .stale, .delayed:
            // A request is no answer: it does not say that the neighbour hears us.
            if neighbor.pointee.macAddress == macAddress { return isRequest }
            guard state.pointee.now &- neighbor.pointee.confirmed >= NeighborTimes.locked else { return false }
            resolve(slot, to: macAddress, verifiesAfter: NeighborTimes.requestInterval)
            return true
        }
    }

    /// Enters a host that asks for us (RFC 826, "Packet Reception": if Merge_flag is false): what it wants to send will have to be answered.
    //= RFC 826 section Packet Reception
    //# If Merge_flag is false, add the triplet <protocol type, sender protocol address, sender hardware address> to the translation table.
    private func learn(_ address: IPAddress, _ macAddress: MACAddress) {
        let slot = addNeighbor(address, isLearning: true)
        guard slot != 0 else { return }
        chain(slot, in: .learnt)
        resolve(slot, to: macAddress, verifiesAfter: NeighborTimes.reachable)
    }

    // MARK: Output

    //= RFC 826 section Packet Reception
    //# Yes: swap hardware and protocol fields, putting the local hardware and protocol addresses in the sender fields. Set the ar$op field to ares_op$REPLY.
    //# Send the packet to the (new) target hardware address on the same hardware on which the request was received.
    private func sendARPReply(to request: ARPPacket) {
        let reply = ARPPacket(
            operation: ARPPacket.reply, senderHardware: state.pointee.macAddress, senderProtocol: request.targetProtocol,
            targetHardware: request.senderHardware, targetProtocol: request.senderProtocol)
        if sendARP(reply, to: request.senderHardware) { state.pointee.statistics.arpRepliesSent += 1 }
    }

    /// Asks who has `address`: all stations, or the one that last said so.
    func sendARPRequest(for address: IPAddress, to destination: MACAddress) {
        let request = ARPPacket(
            operation: ARPPacket.request, senderHardware: state.pointee.macAddress,
            senderProtocol: IPAddress(ipv4Raw: state.pointee.routing.source(onLinkTo: address.ipv4Raw)), targetHardware: MACAddress(value: 0),
            targetProtocol: address)
        if sendARP(request, to: destination) { state.pointee.statistics.arpRequestsSent += 1 }
    }

    /// - Returns: whether there was memory, and room in the output.
    private func sendARP(_ packet: ARPPacket, to destination: MACAddress) -> Bool {
        guard !state.pointee.output.pointee.isFull,
            let frame = Frame.makeSegment(state.pointee.heap, byteCount: EthernetHeader.byteCount + ARPPacket.byteCount, priority: .reserve)
        else {
            countUnsent(.outOfMemory)
            return false
        }
        EthernetHeader.write(to: frame.segmentAddress, destination: destination, source: state.pointee.macAddress, etherType: EtherType.arp)
        packet.write(to: frame.segmentAddress + EthernetHeader.byteCount)
        frame.frameFlags = []
        emit(frame)
        return true
    }
}
