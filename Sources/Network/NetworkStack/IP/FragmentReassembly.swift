import DatapathMemory
import EthernetDevice
import Glibc
import TaskScheduler
import WireFormats

/// Puts the fragments of IPv4 and IPv6 datagrams together.
///
/// Fragments wait in their own frames. When all have come, the datagram is one fresh block of the heap that they are copied to: the one place where the
/// stack copies what it receives. It then goes the way of any other packet, whatever its protocol is.
///
/// Everything is bounded (`NetworkLimits`): bytes, datagrams, datagrams of a source, pieces of a datagram, and time. At a limit it is the oldest
/// datagram that goes, so that nobody can keep others out for longer than the flood lasts.
extension NetworkStack {
    // MARK: The two families

    /// Takes over a fragment, whose packet is checked and ends with the frame.
    /// - Returns: the whole datagram in a frame of its own, from its Ethernet header on, if this was what it lacked.
    //= RFC 791 section 3.2
    //# Every internet destination must be able to receive a datagram of 576 octets either in one piece or in fragments to be reassembled.
    //= RFC 1122 section 3.3.2
    //# EMTU_R MUST be greater than or equal to 576, SHOULD be either configurable or indefinite: it is 65,535
    //= RFC 1122 section 3.2.1.4
    //# The Internet model requires that every host support reassembly.
    func ipv4FragmentInput(_ frame: Frame, _ packet: IPv4View) -> Frame? {
        state.pointee.statistics.fragmentsReceived &+= 1
        let (offset, byteCount) = (packet.fragmentOffset, packet.payloadByteCount)
        if let reason = reasonToRefuse(packet, offset, byteCount) {
            drop(frame, reason)
            return nil
        }
        let key = FragmentKey(
            source: packet.source, destination: packet.destination, identification: UInt32(packet.identification), protocolNumber: packet.protocolNumber)
        let piece = FragmentPiece(frame, offset: offset, payloadOffset: UnsafeRawPointer(frame.segmentAddress).distance(to: packet.payload))
        let slot = keep(piece, of: key, isLast: !packet.moreFragments, codepoint: packet.ecn)
        return slot == 0 ? nil : assemble(slot)
    }

    private func reasonToRefuse(_ packet: IPv4View, _ offset: Int, _ byteCount: Int) -> DropReason? {
        //= RFC 791 section 3.1
        //# The fragment offset is measured in units of 8 octets (64 bits).
        if packet.moreFragments && byteCount & 7 != 0 { return .fragmentMisaligned }
        // A ping of death: it would end behind the last byte that a total length can tell.
        if offset &+ byteCount &+ packet.headerByteCount > 65_535 { return .fragmentTooLong }
        if byteCount == 0 { return .fragmentTooShort }
        guard packet.protocolNumber == IPProtocol.tcp else { return nil }
        //= RFC 1858 section 3.2.1
        //# if FO=0 and PROTOCOL=TCP and TRANSPORTLEN < tmin then DROP PACKET
        if offset == 0 && byteCount < NetworkStack.smallestFirstFragment { return .fragmentTooShort }
        // RFC 3128 asks for both.
        //= RFC 1858 section 3.2.2
        //# if FO=1 and PROTOCOL=TCP then DROP PACKET
        return offset == 8 ? .fragmentTooShort : nil
    }

    /// The part of a TCP header that a first fragment has to hold: up to the flags, and what the first 8 bytes of a second one could change.
    private static var smallestFirstFragment: Int { 16 }

    /// As `ipv4FragmentInput`, of a packet whose headers up to the fragment header have been walked over.
    //= RFC 8200 section 4.5
    //# In reassembling, an original packet is reassembled only from fragment packets that have the same Source Address, Destination Address, and Fragment
    //# Identification.
    func ipv6FragmentInput(_ frame: Frame, _ packet: IPv6View, _ fragment: IPv6Extensions.Fragment) -> Frame? {
        state.pointee.statistics.fragmentsReceived &+= 1
        let payloadOffset = fragment.headerOffset &+ IPv6FragmentHeader.byteCount
        let byteCount = packet.totalByteCount &- payloadOffset
        if let reason = reasonToRefuse(frame, packet, fragment, byteCount) {
            drop(frame, reason)
            return nil
        }
        let key = FragmentKey(source: packet.source, destination: packet.destination, identification: fragment.identification, protocolNumber: 0)
        let packetOffset = UnsafeRawPointer(frame.segmentAddress).distance(to: packet.base)
        let piece = FragmentPiece(frame, offset: fragment.offset, payloadOffset: packetOffset &+ payloadOffset)
        let slot = keep(piece, of: key, isLast: !fragment.moreFragments, codepoint: packet.ecn)
        return slot == 0 ? nil : assemble(slot)
    }

    private func reasonToRefuse(_ frame: Frame, _ packet: IPv6View, _ fragment: IPv6Extensions.Fragment, _ byteCount: Int) -> DropReason? {
        //= RFC 8200 section 4.5
        //# If the length of a fragment, as derived from the fragment packet's Payload Length field, is not a multiple of 8 octets and the M flag of that
        //# fragment is 1, then that fragment must be discarded and an ICMP Parameter Problem, Code 0, message should be sent to the source of the fragment,
        //# pointing to the Payload Length field of the fragment packet.
        if fragment.moreFragments && byteCount & 7 != 0 {
            sendIPv6Error(.parameterProblem(code: 0, pointer: 4), about: packet, in: frame)
            return .fragmentMisaligned
        }
        //= RFC 8200 section 4.5
        //# If the length and offset of a fragment are such that the Payload Length of the packet reassembled from that fragment would exceed 65,535 octets,
        //# then that fragment must be discarded and an ICMP Parameter Problem, Code 0, message should be sent to the source of the fragment, pointing to the
        //# Fragment Offset field of the fragment packet.
        if fragment.headerOffset &- IPv6Header.byteCount &+ fragment.offset &+ byteCount > 65_535 {
            let pointer = UInt32(truncatingIfNeeded: fragment.headerOffset &+ 2)
            sendIPv6Error(.parameterProblem(code: 0, pointer: pointer), about: packet, in: frame)
            return .fragmentTooLong
        }
        if byteCount == 0 { return .fragmentTooShort }
        //= RFC 8200 section 4.5
        //# If the first fragment does not include all headers through an Upper-Layer header, then that fragment should be discarded and an ICMP Parameter
        //# Problem, Code 3, message should be sent to the source of the fragment, with the Pointer field set to zero.
        //= RFC 7112 section 5
        //# A host that receives a First Fragment that does not satisfy the above-stated requirement SHOULD discard the packet and SHOULD send an ICMPv6 error
        //# message to the source address of the offending packet
        if fragment.offset == 0 && !IPv6FragmentHeader.isChainComplete(packet, behind: fragment) {
            sendIPv6Error(.parameterProblem(code: 3, pointer: 0), about: packet, in: frame)
            return .fragmentTooShort
        }
        return nil
    }

    // MARK: Pieces

    /// Takes over a piece, and puts it where it belongs.
    /// - Returns: the datagram's slot when nothing is missing, else 0.
    private func keep(_ piece: FragmentPiece, of key: FragmentKey, isLast: Bool, codepoint: UInt8) -> UInt32 {
        let frame = piece.frame
        if state.pointee.heap.usedByteCount >= state.pointee.pressureByteCount && state.pointee.heap.pressure >= .dropDatagrams {
            drop(frame, .outOfMemory)
            return 0
        }
        let slot = partialDatagram(key)
        let datagram = state.pointee.reassembly.datagrams[slot]
        if let reason = place(piece, in: datagram, isLast: isLast) {
            drop(frame, reason)
            //= RFC 5722 section 4
            //# When reassembling an IPv6 datagram, if one or more its constituent fragments is determined to be an overlapping fragment, the entire datagram
            //# (and any constituent fragments, including those not yet received) MUST be silently discarded.
            if reason != .duplicateFragment { abandon(slot) }
            return 0
        }
        datagram.pointee.codepoints |= 1 &<< codepoint
        if datagram.pointee.endOffset > 0 && datagram.pointee.receivedByteCount == datagram.pointee.endOffset { return slot }
        limitPinned(keeping: slot)
        return 0
    }

    /// The datagram that a fragment belongs to; where there is none, a new one takes the place of an old one at the limits.
    private func partialDatagram(_ key: FragmentKey) -> UInt32 {
        let limits = state.pointee.configuration.limits
        let found = state.pointee.reassembly.find(key)
        if found.slot != 0 { return found.slot }
        if found.count >= limits.fragmentedDatagramsOfSource {
            forget(found.oldest, .reassemblyLimit)
        } else if state.pointee.reassembly.datagrams.liveCount >= limits.fragmentedDatagrams {
            forget(state.pointee.reassembly.firstToExpire(), .reassemblyLimit)
        }
        let slot = state.pointee.reassembly.add(key, now: state.pointee.now)
        armReassemblyTimer()
        return slot
    }

    /// Puts a piece between its neighbours: the last one is looked at first, as most fragments come in order. O(pieces), which are bounded.
    /// - Returns: nil, or why the piece does not fit; it is then the caller's. All of its datagram goes with it, unless it is a duplicate.
    // RFC 815 keeps a list of holes; here it is one of pieces, of which a datagram without holes has as many bytes as it is long.
    private func place(_ piece: FragmentPiece, in datagram: UnsafeMutablePointer<PartialDatagram>, isLast: Bool) -> DropReason? {
        if datagram.pointee.isAbandoned { return .fragmentOverlap }
        var previous: FragmentPiece?
        var next: FragmentPiece?
        if let last = datagram.pointee.last, case let kept = FragmentPiece(kept: last), kept.offset < piece.offset {
            previous = kept
        } else {
            var current = datagram.pointee.first
            while let frame = current, case let kept = FragmentPiece(kept: frame) {
                if kept.offset >= piece.offset {
                    next = kept
                    break
                }
                previous = kept
                current = frame.pointee.nextArray
            }
        }
        if let next, isDuplicate(piece, of: next, isLast: isLast, datagram) { return .duplicateFragment }
        if let previous, previous.end > piece.offset { return .fragmentOverlap }
        if let next, piece.end > next.offset { return .fragmentOverlap }
        // A last fragment that ends before others do, or at another place than the last one did; and what lies behind the end.
        let end = datagram.pointee.endOffset
        if end > 0 ? isLast || piece.end > end : isLast && next != nil { return .fragmentBeyondEnd }
        if datagram.pointee.pieceCount >= state.pointee.configuration.limits.fragmentsOfDatagram { return .tooManyFragments }
        if isLast { datagram.pointee.endOffset = piece.end }
        piece.keep()
        piece.frame.pointee.nextArray = next?.frame
        if let previous { previous.frame.pointee.nextArray = piece.frame } else { datagram.pointee.first = piece.frame }
        if next == nil { datagram.pointee.last = piece.frame }
        datagram.pointee.pieceCount += 1
        datagram.pointee.receivedByteCount += piece.byteCount
        datagram.pointee.pinnedByteCount += piece.frame.blockByteCount
        state.pointee.reassembly.pinnedByteCount += piece.frame.blockByteCount
        return nil
    }

    //= RFC 8200 section 4.5
    //# It should be noted that fragments may be duplicated in the network. Instead of treating these exact duplicate fragments as overlapping fragments, an
    //# implementation may choose to detect this case and drop exact duplicate fragments while keeping the other fragments belonging to the same packet.
    private func isDuplicate(_ piece: FragmentPiece, of kept: FragmentPiece, isLast: Bool, _ datagram: UnsafeMutablePointer<PartialDatagram>) -> Bool {
        guard kept.offset == piece.offset, kept.byteCount == piece.byteCount, isLast == (datagram.pointee.endOffset == kept.end) else { return false }
        return memcmp(piece.payload, kept.payload, piece.byteCount) == 0
    }

    // MARK: Ends

    /// Releases what has come of a datagram. O(pieces).
    private func releasePieces(_ slot: UInt32) {
        let datagram = state.pointee.reassembly.datagrams[slot]
        state.pointee.reassembly.pinnedByteCount -= datagram.pointee.pinnedByteCount
        datagram.pointee.pinnedByteCount = 0
        while let frame = datagram.pointee.first {
            datagram.pointee.first = frame.pointee.nextArray
            frame.pointee.nextArray = nil
            frame.pointee.operation = 0
            frame.releaseArray()
        }
        datagram.pointee.last = nil
    }

    /// Releases what has come of a datagram, and takes nothing more of it until its time is over.
    private func abandon(_ slot: UInt32) {
        releasePieces(slot)
        state.pointee.reassembly.datagrams[slot].pointee.isAbandoned = true
    }

    /// Ends a datagram that will not be whole, and counts it; one that was abandoned is counted already.
    private func forget(_ slot: UInt32, _ reason: DropReason) {
        if !state.pointee.reassembly.datagrams[slot].pointee.isAbandoned { state.pointee.statistics.drops[reason] += 1 }
        releasePieces(slot)
        state.pointee.reassembly.remove(slot)
    }

    /// Ends the oldest datagrams while all together pin too much; that of the fragment that has just come goes last.
    private func limitPinned(keeping slot: UInt32) {
        let limit = state.pointee.configuration.limits.fragmentByteCount
        while state.pointee.reassembly.pinnedByteCount > limit {
            let oldest = state.pointee.reassembly.firstToExpire(otherThan: slot)
            forget(oldest == 0 ? slot : oldest, .reassemblyLimit)
        }
    }

    /// Releases what waits to be put together.
    func endReassembly() {
        while case let slot = state.pointee.reassembly.firstToExpire(), slot != 0 {
            releasePieces(slot)
            state.pointee.reassembly.remove(slot)
        }
    }

    // MARK: Time

    private func armReassemblyTimer() {
        let slot = state.pointee.reassembly.firstToExpire()
        let deadline = slot == 0 ? .max : state.pointee.reassembly.datagrams[slot].pointee.expires
        guard deadline != state.pointee.reassembly.timerDeadline else { return }
        state.pointee.timers.cancel(state.pointee.reassembly.timer)
        state.pointee.reassembly.timer = .none
        state.pointee.reassembly.timerDeadline = deadline
        guard deadline != .max, !DeliberateBug.isPresent(.reassemblyNeverEnds) else { return }
        // The wheel has a place for it.
        state.pointee.reassembly.timer =
            state.pointee.timers.arm(
                deadline: deadline,
                action: { context, _ in NetworkStack(state: context.assumingMemoryBound(to: StackState.self)).reassemblyTimerFired() }, context: state,
                argument: 0
            ).unsafelyUnwrapped
    }

    private func reassemblyTimerFired() {
        state.pointee.reassembly.timer = .none
        state.pointee.reassembly.timerDeadline = .max
        while case let slot = state.pointee.reassembly.firstToExpire(), slot != 0,
            state.pointee.reassembly.datagrams[slot].pointee.expires <= state.pointee.now
        {
            tellExpiry(state.pointee.reassembly.datagrams[slot])
            forget(slot, .reassemblyTimeout)
        }
        armReassemblyTimer()
    }

    /// Tells the sender of a datagram whose beginning has come that the rest was late.
    private func tellExpiry(_ datagram: UnsafeMutablePointer<PartialDatagram>) {
        //= RFC 792 section Time Exceeded Message
        //# If fragment zero is not available then no time exceeded need be sent at all.
        guard let beginning = datagram.pointee.beginning else { return }
        let header = UnsafeRawPointer(beginning.frame.segmentAddress) + headerOffset(of: beginning)
        if datagram.pointee.key.isIPv6 {
            //= RFC 8200 section 4.5
            //# If the first fragment (i.e., the one with a Fragment Offset of zero) has been received, an ICMP Time Exceeded -- Fragment Reassembly Time
            //# Exceeded message should be sent to the source of that fragment.
            sendIPv6Error(.reassemblyTimeExceeded, about: IPv6View(unchecked: header), in: beginning.frame)
        } else {
            //= RFC 1122 section 3.3.2
            //# If this timeout expires, the partially-reassembled datagram MUST be discarded and an ICMP Time Exceeded message sent to the source host (if
            //# fragment zero has been received).
            sendControlError(.reassemblyTimeExceeded, about: IPv4View(unchecked: header), in: beginning.frame)
        }
    }

    /// Where the IP header of a frame begins, which has been looked at before.
    private func headerOffset(of piece: FragmentPiece) -> Int {
        EthernetView(piece.frame.segmentAddress, count: piece.frame.segmentByteCount).map(\.payloadOffset) ?? EthernetHeader.byteCount
    }

    // MARK: The whole

    /// Copies the pieces of a datagram that lacks nothing behind the headers of its beginning, and ends it. Nil, and counted, when the heap has no block
    /// for it or the marks of its fragments contradict each other. O(bytes).
    private func assemble(_ slot: UInt32) -> Frame? {
        let datagram = state.pointee.reassembly.datagrams[slot]
        guard let beginning = datagram.pointee.beginning else { preconditionFailure("a datagram that lacks nothing has a beginning") }
        let offset = headerOffset(of: beginning)
        let isIPv6 = datagram.pointee.key.isIPv6
        let headerByteCount = beginning.payloadOffset &- offset &- (isIPv6 ? IPv6FragmentHeader.byteCount : 0)
        let byteCount = headerByteCount &+ datagram.pointee.endOffset
        //= RFC 3168 section 5.3
        //# if any fragment of an IP packet to be reassembled has the CE codepoint set, then one of two actions MUST be taken: Set the CE codepoint on the
        //# reassembled packet. However, this MUST NOT occur if any of the other fragments contributing to this reassembly carries the Not-ECT codepoint. The
        //# packet is dropped, instead of being reassembled, for any other reason.
        let isMarked = datagram.pointee.codepoints & 8 != 0
        guard !isMarked || datagram.pointee.codepoints & 1 == 0 else {
            forget(slot, .fragmentMarks)
            return nil
        }
        // Only the headers of the first fragment are kept: those of the others may be shorter, and then the sum of both is too long.
        guard byteCount &- (isIPv6 ? IPv6Header.byteCount : 0) <= 65_535 else {
            forget(slot, .fragmentTooLong)
            return nil
        }
        guard let whole = Frame.makeSegment(state.pointee.heap, byteCount: EthernetHeader.byteCount &+ byteCount, priority: .datagram) else {
            forget(slot, .outOfMemory)
            return nil
        }
        let header = whole.segmentAddress + EthernetHeader.byteCount
        whole.segmentAddress.copyMemory(from: beginning.frame.segmentAddress, byteCount: EthernetHeader.byteCount)
        // A tag stays behind.
        whole.segmentAddress.storeBytes(of: (isIPv6 ? EtherType.ipv6 : EtherType.ipv4).bigEndian, toByteOffset: 12, as: UInt16.self)
        header.copyMemory(from: beginning.frame.segmentAddress + offset, byteCount: headerByteCount)
        var current = datagram.pointee.first
        while let frame = current, case let piece = FragmentPiece(kept: frame) {
            // The rules of `place` keep every piece below the end.
            (header + (headerByteCount &+ piece.offset)).copyMemory(from: piece.payload, byteCount: piece.byteCount)
            current = frame.pointee.nextArray
        }
        if isIPv6 {
            completeIPv6Header(header, byteCount, isMarked, beginning.frame.segmentAddress + offset)
        } else {
            completeIPv4Header(header, byteCount, headerByteCount, isMarked)
        }
        // What the device has verified was the fragments' headers at most.
        whole.frameFlags = []
        releasePieces(slot)
        state.pointee.reassembly.remove(slot)
        armReassemblyTimer()
        state.pointee.statistics.datagramsReassembled &+= 1
        return whole
    }

    private func completeIPv4Header(_ header: UnsafeMutableRawPointer, _ byteCount: Int, _ headerByteCount: Int, _ isMarked: Bool) {
        header.storeBytes(of: UInt16(truncatingIfNeeded: byteCount).bigEndian, toByteOffset: 2, as: UInt16.self)
        header.storeBytes(of: 0, toByteOffset: 6, as: UInt16.self)
        if isMarked { header.storeBytes(of: header.load(fromByteOffset: 1, as: UInt8.self) | 3, toByteOffset: 1, as: UInt8.self) }
        header.storeBytes(of: 0, toByteOffset: 10, as: UInt16.self)
        let checksum = InternetChecksum.finish(InternetChecksum.sum(header, count: headerByteCount))
        header.storeBytes(of: checksum, toByteOffset: 10, as: UInt16.self)
    }

    private func completeIPv6Header(_ header: UnsafeMutableRawPointer, _ byteCount: Int, _ isMarked: Bool, _ first: UnsafeRawPointer) {
        // The same walk over the same headers as when the fragment came.
        if let fragment = IPv6Extensions(IPv6View(unchecked: first)).fragment {
            //= RFC 8200 section 4.5
            //# The Next Header field of the last header of the Per-Fragment headers is obtained from the Next Header field of the first fragment's Fragment
            //# header.
            header.storeBytes(of: fragment.nextHeader, toByteOffset: fragment.nextHeaderOffset, as: UInt8.self)
        }
        //= RFC 8200 section 4.5
        //# The Payload Length of the reassembled packet is computed from the length of the Per-Fragment headers and the length and offset of the last fragment.
        header.storeBytes(of: UInt16(truncatingIfNeeded: byteCount &- IPv6Header.byteCount).bigEndian, toByteOffset: 4, as: UInt16.self)
        // The codepoint is in the two bits below the upper half of the second byte.
        if isMarked { header.storeBytes(of: header.load(fromByteOffset: 1, as: UInt8.self) | 0x30, toByteOffset: 1, as: UInt8.self) }
    }
}
