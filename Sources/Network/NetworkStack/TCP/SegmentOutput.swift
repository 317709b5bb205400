import DatapathMemory
import EthernetDevice
import WireFormats

/// How segments are made: headers from the template, payload copied behind them or chained without a copy.
extension NetworkStack {
    /// Below this a payload is copied behind its headers; a block of its own for the headers would cost more.
    static var zeroCopyByteCount: Int { 1_024 }

    /// TSval: milliseconds, more or less, of a clock with an offset of its own for each connection.
    //= RFC 7323 section 5.4
    //# a recommended timestamp clock frequency in the range 1 ms to 1 sec per tick
    @inline(__always)
    func timestampValue(_ c: ConnectionPointer) -> UInt32 {
        UInt32(truncatingIfNeeded: state.pointee.now &>> 20) &+ c.pointee.timestampOffset
    }

    /// Writes the headers of a segment and completes their checksums.
    /// - Parameters:
    ///   - header: room for them: 54 bytes, or 66 with timestamps; 20 more over IPv6. Nothing behind them is written.
    ///   - payloadSum: the sum of the payload, which starts at an even offset, and of further options.
    ///   - furtherOptionByteCount: options that the caller has written behind the timestamps already.
    @inline(__always)
    func writeHeaders(
        _ c: ConnectionPointer, at header: UnsafeMutableRawPointer, _ sequence: SequenceNumber, _ flags: TCPFlags, payloadByteCount: Int,
        payloadSum: UInt64,
        furtherOptionByteCount: Int = 0
    ) -> FrameFlags {
        let header = header + c.pointee.template.extraByteCount
        // As far as the ports: the payload may stand behind the headers already, and begin 54 bytes from here.
        let words = c.pointee.template.words
        header.storeBytes(of: (words.0, words.1, words.2, words.3, words.4), as: (UInt64, UInt64, UInt64, UInt64, UInt64).self)
        let tcp = header + HeaderTemplate.transportOffset
        var (flags, codepoint) = (flags, UInt8(0))
        if !c.pointee.ecn.isEmpty {
            (flags, codepoint) = mark(c, flags, sequence, payloadByteCount: payloadByteCount)
            // Over IPv6 the field stands in front of the words: `finishHeaders` writes it.
            if c.pointee.template.extraByteCount == 0 {
                (header + HeaderTemplate.ethernetByteCount + 1).storeBytes(of: codepoint | c.pointee.packetOptions.trafficClass, as: UInt8.self)
            }
        }
        // No urgent data.
        (tcp + 18).storeBytes(of: 0, as: UInt16.self)
        let hasTimestamps = c.pointee.flags.contains(.timestamps)
        let headerByteCount = (hasTimestamps ? 32 : 20) &+ furtherOptionByteCount
        let rawSequence = sequence.rawValue.bigEndian
        let rawAcknowledgement = flags.contains(.ack) ? c.pointee.receiveNext.rawValue.bigEndian : 0
        let window = UInt16(truncatingIfNeeded: advertiseWindow(c, flags))
        let rawControl = UInt32(UInt8(headerByteCount / 4) << 4) | UInt32(flags.rawValue) &<< 8 | UInt32(window.bigEndian) &<< 16
        (tcp + 4).storeBytes(of: rawSequence, as: UInt32.self)
        (tcp + 8).storeBytes(of: rawAcknowledgement, as: UInt32.self)
        (tcp + 12).storeBytes(of: rawControl, as: UInt32.self)
        var sum = c.pointee.template.transportSum &+ UInt64(rawSequence) &+ UInt64(rawAcknowledgement) &+ UInt64(rawControl) &+ payloadSum
        if hasTimestamps {
            let value = timestampValue(c).bigEndian
            let echo = (DeliberateBug.isPresent(.ownTimestampEchoed) ? timestampValue(c) : c.pointee.recentTimestamp).bigEndian
            //= RFC 7323 section 3.2
            //# Once TSopt has been successfully negotiated, the TSopt MUST be sent in every non-<RST> segment for the duration of the connection. The TSecr
            //# field is valid if the ACK bit is set in the TCP header.
            // NOP, NOP, kind 8, length 10, as RFC 7323 (appendix A) recommends.
            (tcp + 20).storeBytes(of: 0x0a08_0101, as: UInt32.self)
            (tcp + 24).storeBytes(of: value, as: UInt32.self)
            (tcp + 28).storeBytes(of: echo, as: UInt32.self)
            sum = sum &+ 0x0a08_0101 &+ UInt64(value) &+ UInt64(echo)
        }
        return finishHeaders(c, at: header, transportByteCount: headerByteCount + payloadByteCount, sum, codepoint: codepoint)
    }

    /// Writes the lengths and checksums.
    /// - Parameters:
    ///   - header: where the template's words are.
    ///   - transportSum: the sum of the TCP header and payload, and of the pseudo-header with a length of 0.
    ///   - codepoint: the ECN field: over IPv4 what was written over the template's, which is zero.
    @inline(__always)
    func finishHeaders(
        _ c: ConnectionPointer, at header: UnsafeMutableRawPointer, transportByteCount: Int, _ transportSum: UInt64, codepoint: UInt8 = 0
    ) -> FrameFlags {
        if c.pointee.template.extraByteCount == 0 {
            let totalLength = UInt16(truncatingIfNeeded: HeaderTemplate.ipv4ByteCount + transportByteCount).bigEndian
            (header + 16).storeBytes(of: totalLength, as: UInt16.self)
            let sum = c.pointee.template.networkSum &+ UInt64(totalLength) &+ UInt64(codepoint) &<< 8
            (header + 24).storeBytes(of: InternetChecksum.finish(sum), as: UInt16.self)
        } else {
            finishIPv6Header(c, at: header, transportByteCount: transportByteCount, codepoint: codepoint)
        }
        let length = UInt64(UInt16(truncatingIfNeeded: transportByteCount).bigEndian)
        let checksum = header + HeaderTemplate.transportOffset + 16
        if state.pointee.offloads.contains(.transmitChecksumTCP) {
            // The device adds the rest to the pseudo-header's sum.
            let sum = DeliberateBug.isPresent(.pseudoHeaderForgotten) ? 0 : c.pointee.template.pseudoSum &+ length
            checksum.storeBytes(of: InternetChecksum.fold(sum), as: UInt16.self)
            return .needsTransportChecksum
        }
        checksum.storeBytes(of: InternetChecksum.finish(transportSum &+ length), as: UInt16.self)
        return []
    }

    /// Makes and sends a segment without payload. Without memory it is lost, like one that the network drops.
    @inline(__always)
    func sendControl(_ c: ConnectionPointer, _ sequence: SequenceNumber, _ flags: TCPFlags) {
        guard refreshTemplate(c) else { return countUnsent(.noRoute) }
        let byteCount = HeaderTemplate.transportOffset + c.pointee.template.extraByteCount + (c.pointee.flags.contains(.timestamps) ? 32 : 20)
        guard !state.pointee.output.pointee.isExhausted,
            let frame = Frame.makeSegment(state.pointee.heap, byteCount: byteCount, headroom: state.pointee.configuration.transmitHeadroomByteCount, priority: .reserve)
        else { return countUnsent(.outOfMemory) }
        frame.frameFlags = writeHeaders(c, at: frame.segmentAddress, sequence, flags, payloadByteCount: 0, payloadSum: 0)
        transmit(c, frame)
    }

    /// Counts what was not sent, or told by no frame of ours.
    @inline(never)
    func countUnsent(_ reason: DropReason) {
        state.pointee.statistics.drops[reason] += 1
    }

    /// Makes and sends a segment with payload from the send queue.
    /// - Parameters:
    ///   - cursor: where its first byte lies; the queue holds at least `byteCount` bytes from there on.
    /// - Returns: whether it was made; without memory, or a way to the peer, nothing changes.
    @inline(__always)
    func sendData(_ c: ConnectionPointer, _ sequence: SequenceNumber, _ flags: TCPFlags, _ cursor: Frame, offset: Int, byteCount: Int) -> Bool {
        guard refreshTemplate(c) else {
            countUnsent(.noRoute)
            return false
        }
        let headerByteCount = HeaderTemplate.transportOffset + c.pointee.template.extraByteCount + (c.pointee.flags.contains(.timestamps) ? 32 : 20)
        if byteCount >= NetworkStack.zeroCopyByteCount, !state.pointee.configuration.copiesStreamsTogether,
            let frame = makeGatheredFrame(c, headerByteCount, sequence, flags, cursor, offset, byteCount)
        {
            transmit(c, frame)
            return true
        }
        guard let frame = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount &+ byteCount, headroom: state.pointee.configuration.transmitHeadroomByteCount, priority: .reserve) else {
            countUnsent(.outOfMemory)
            return false
        }
        let header = frame.segmentAddress
        let payload = header + headerByteCount
        let sum: UInt64
        if state.pointee.offloads.contains(.transmitChecksumTCP) {
            copyChain(to: payload, cursor, offset, byteCount)
            sum = 0
        } else if cursor.segmentByteCount &- offset >= byteCount {
            sum = InternetChecksum.copyAndSum(to: payload, from: cursor.segmentAddress + offset, count: byteCount)
        } else {
            copyChain(to: payload, cursor, offset, byteCount)
            sum = InternetChecksum.sum(payload, count: byteCount)
        }
        frame.frameFlags = writeHeaders(c, at: header, sequence, flags, payloadByteCount: byteCount, payloadSum: sum)
        transmit(c, frame)
        return true
    }

    /// Copies bytes that lie in several segments of the send queue.
    @inline(never)
    private func copyChain(to destination: UnsafeMutableRawPointer, _ cursor: Frame, _ offset: Int, _ byteCount: Int) {
        var segment = cursor
        var offset = offset
        var copied = 0
        while true {
            let count = min(segment.segmentByteCount - offset, byteCount - copied)
            (destination + copied).copyMemory(from: segment.segmentAddress + offset, byteCount: count)
            copied += count
            guard copied < byteCount, let next = segment.nextSegment else { return }
            segment = next
            offset = 0
        }
    }

    /// A frame of a header block and slices of the send queue, without a copy; nil when the device cannot gather that many, or nothing is left for it.
    private func makeGatheredFrame(
        _ c: ConnectionPointer, _ headerByteCount: Int, _ sequence: SequenceNumber, _ flags: TCPFlags, _ cursor: Frame, _ offset: Int,
        _ byteCount: Int
    ) -> Frame? {
        let maximumSegments = state.pointee.configuration.maximumTransmitSegments
        guard let frame = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount, headroom: state.pointee.configuration.transmitHeadroomByteCount, priority: .reserve) else { return nil }
        var last = frame
        var segment = cursor
        var offset = offset
        var left = byteCount
        var sum: UInt64 = 0
        var segments = 1
        while left > 0 {
            let count = min(segment.segmentByteCount - offset, left)
            guard segments < maximumSegments, let slice = segment.makeSlice(offset: offset, byteCount: count) else {
                frame.releaseArray()
                return nil
            }
            if !state.pointee.offloads.contains(.transmitChecksumTCP) {
                let piece = InternetChecksum.sum(slice.segmentAddress, count: count)
                // A piece that starts at an odd offset has its bytes in the other halves of the words (RFC 1071, section 2B).
                let isEven = (byteCount - left) & 1 == 0 || DeliberateBug.isPresent(.oddPieceSummedAsEven)
                sum = sum &+ (isEven ? piece : UInt64(InternetChecksum.fold(piece).byteSwapped))
            }
            frame.append(slice, behind: last)
            last = slice
            segments += 1
            left -= count
            guard left > 0, let next = segment.nextSegment else { break }
            segment = next
            offset = 0
        }
        frame.frameFlags = writeHeaders(c, at: frame.segmentAddress, sequence, flags, payloadByteCount: byteCount, payloadSum: sum)
        return frame
    }

    // MARK: Handshake

    /// Sends our SYN, or SYN and ACK.
    func sendSynchronize(_ c: ConnectionPointer, acknowledges: Bool) {
        guard refreshTemplate(c) else { return countUnsent(.noRoute) }
        let byteCount = HeaderTemplate.maximumByteCount + c.pointee.template.extraByteCount
        guard !state.pointee.output.pointee.isExhausted,
            let frame = Frame.makeSegment(state.pointee.heap, byteCount: byteCount, headroom: state.pointee.configuration.transmitHeadroomByteCount, priority: .reserve)
        else { return countUnsent(.outOfMemory) }
        let configuration = state.pointee.configuration.tcp
        let header = frame.segmentAddress + c.pointee.template.extraByteCount
        header.storeBytes(of: c.pointee.template.words, as: (UInt64, UInt64, UInt64, UInt64, UInt64).self)
        let tcp = header + HeaderTemplate.transportOffset
        var offset = 20
        //= RFC 9293 section 3.7.1
        //# TCP endpoints MUST implement both sending and receiving the MSS Option (MUST-14). TCP implementations SHOULD send an MSS Option in every SYN segment
        //# when its receive MSS differs from the default (SHLD-5), and MAY send it always (MAY-3).
        //= RFC 9293 section 3.2
        //# If this option is present, it may be sent in segments with the SYN control bit; it MUST NOT be sent in other segments (MUST-65).
        //= RFC 9293 section 3.1
        //# All TCP Options except End of Option List Option (EOL) and No-Operation (NOP) MUST have length fields (MUST-68).
        (tcp + offset).storeBytes(of: UInt16(0x0204).bigEndian, as: UInt16.self)
        (tcp + offset + 2).storeBytes(of: c.pointee.receiveSegmentSize.bigEndian, as: UInt16.self)
        offset += 4
        //= RFC 7323 section 2.2
        //# This option is an offer; a SYN,ACK carries it only in answer to a SYN that did.
        let offersScale = acknowledges ? c.pointee.flags.contains(.windowScaling) : configuration.offersWindowScale
        if offersScale {
            (tcp + offset).storeBytes(of: UInt32(0x0103_0300 | UInt32(c.pointee.receiveWindowShift)).bigEndian, as: UInt32.self)
            offset += 4
        }
        //= RFC 7323 section 3.2
        //# A TCP MAY send the TSopt in an initial <SYN> segment, and MAY send a TSopt in <SYN,ACK> only if it received one in the initial <SYN>.
        //= RFC 2018 section 2
        //# This two-byte option may be sent in a SYN by a TCP that has been extended to receive (and presumably process) the SACK option once the connection
        //# has opened. It MUST NOT be sent on non-SYN segments.
        var permitsSelective = acknowledges ? c.pointee.selective.isPermitted : configuration.offersSelectiveAcknowledgements
        if DeliberateBug.isPresent(.selectivePermittedUnasked) { permitsSelective = true }
        let hasTimestamps = acknowledges ? c.pointee.flags.contains(.timestamps) : configuration.offersTimestamps
        if permitsSelective && !hasTimestamps {
            (tcp + offset).storeBytes(of: UInt32(0x0101_0402).bigEndian, as: UInt32.self)
            offset += 4
        }
        if hasTimestamps {
            // SACK-permitted takes the place of two NOPs.
            (tcp + offset).storeBytes(of: UInt32(permitsSelective ? 0x0402_080a : 0x0101_080a).bigEndian, as: UInt32.self)
            (tcp + offset + 4).storeBytes(of: timestampValue(c).bigEndian, as: UInt32.self)
            (tcp + offset + 8).storeBytes(of: acknowledges ? c.pointee.recentTimestamp.bigEndian : 0, as: UInt32.self)
            offset += 12
        }
        frame.truncate(to: c.pointee.template.extraByteCount + HeaderTemplate.transportOffset + offset)
        //= RFC 7323 section 2.2
        //# The window field in a segment where the SYN bit is set MUST NOT be scaled.
        let window = UInt16(min(c.pointee.receiveLimit, 65_535))
        // When it is sent again, more may have been promised with an acknowledgement meanwhile.
        if c.pointee.receiveEdge.since(c.pointee.receiveNext) < Int(window) {
            c.pointee.receiveEdge = c.pointee.receiveNext.advanced(by: Int(window))
        }
        (tcp + 4).storeBytes(of: c.pointee.initialSendSequence.rawValue.bigEndian, as: UInt32.self)
        (tcp + 8).storeBytes(of: acknowledges ? c.pointee.receiveNext.rawValue.bigEndian : 0, as: UInt32.self)
        (tcp + 12).storeBytes(of: UInt8(offset / 4) << 4, as: UInt8.self)
        (tcp + 13).storeBytes(of: synchronizeFlags(c, acknowledges: acknowledges).rawValue, as: UInt8.self)
        (tcp + 14).storeBytes(of: window.bigEndian, as: UInt16.self)
        (tcp + 16).storeBytes(of: 0, as: UInt32.self)
        // The ports are in the template's sum already.
        let sum = c.pointee.template.transportSum &+ InternetChecksum.sum(tcp + 4, count: offset - 4)
        frame.frameFlags = finishHeaders(c, at: header, transportByteCount: offset, sum)
        transmit(c, frame)
        if acknowledges { noteAcknowledgementSent(c) }
        c.pointee.lastSendTime = state.pointee.now
    }
}
