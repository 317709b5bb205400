import DatapathMemory
import EthernetDevice
import WireFormats

/// The short way out for what most segments are: to a resolved neighbor, with timestamps and no further option, without congestion marks. They are summed
/// here, while they are copied, also where the device could do that: asking it costs more.
/// It is compiled for each family, since all lengths of headers are constants then.
/// Everything else goes the long way (`sendData`, `sendControl`), which knows every case and makes the same bytes of these.
extension NetworkStack {
    /// Decides whether the connection's segments may go the short way; whatever that depends on has just changed.
    func choosePlainHeaders(_ c: ConnectionPointer) {
        let isPlain =
            c.pointee.state.isSynchronized && c.pointee.flags.isSuperset(of: [.timestamps, .neighborResolved]) && c.pointee.ecn.isEmpty
        let isIPv4 = c.pointee.template.extraByteCount == 0
        c.pointee.plainHeaderEpoch = isPlain && isIPv4 ? c.pointee.templateEpoch : 0
        c.pointee.plainIPv6HeaderEpoch = isPlain && !isIPv4 ? c.pointee.templateEpoch : 0
    }

    /// Whether a segment of the family can be made now whose headers are plain.
    @inline(__always)
    private func mayWritePlainHeaders(_ c: ConnectionPointer, isIPv4: Bool) -> Bool {
        (isIPv4 ? c.pointee.plainHeaderEpoch : c.pointee.plainIPv6HeaderEpoch) == state.pointee.neighborEpoch
            && state.pointee.now < c.pointee.templateValidUntil
    }

    /// Ethernet, IP, and TCP with timestamps.
    @inline(__always)
    private static func plainHeaderByteCount(isIPv4: Bool) -> Int { HeaderTemplate.transportOffset + (isIPv4 ? 0 : ipv6ExtraByteCount) + 32 }

    /// Sends an acknowledgement and nothing else. Where nothing has to be looked for it makes no call, and so needs no stack frame.
    @inline(__always)
    func sendAcknowledgement(_ c: ConnectionPointer) {
        // Two jumps: here nothing is saved for either.
        if c.pointee.plainHeaderEpoch == state.pointee.neighborEpoch { sendAcknowledgementOverIPv4(c) } else { sendAcknowledgementOverIPv6(c) }
    }

    @inline(never)
    private func sendAcknowledgementOverIPv4(_ c: ConnectionPointer) {
        if !sendPlainAcknowledgementAtOnce(c, isIPv4: true) { sendAcknowledgementWithCalls(c) }
    }

    @inline(never)
    private func sendAcknowledgementOverIPv6(_ c: ConnectionPointer) {
        if !sendPlainAcknowledgementAtOnce(c, isIPv4: false) { sendAcknowledgementWithCalls(c) }
    }

    /// - Parameter isIPv4: a constant.
    /// - Returns: false when something has to be looked for, or it has to go the long way; nothing has changed then.
    @inline(__always)
    private func sendPlainAcknowledgementAtOnce(_ c: ConnectionPointer, isIPv4: Bool) -> Bool {
        let window = UnmovedWindow(c)
        guard mayAcknowledgePlainly(c), mayWritePlainHeaders(c, isIPv4: isIPv4), window.holds(c), c.pointee.template.plainPayloadByteCount == 0,
            c.pointee.flightSize <= c.pointee.sendWindow,
            let frame = Frame.makeSegmentAtOnce(state.pointee.heap, byteCount: NetworkStack.plainHeaderByteCount(isIPv4: isIPv4), priority: .reserve)
        else { return false }
        advertise(c, window)
        writePlainHeaders(c, at: frame.segmentAddress, c.pointee.sendMaximum, .ack, window: window.field, payloadSum: 0, isIPv4: isIPv4)
        emitPlain(frame)
        return true
    }

    /// The same in all cases.
    @inline(never)
    private func sendAcknowledgementWithCalls(_ c: ConnectionPointer) {
        if mayAcknowledgePlainly(c) && sendPlainSegment(c, acceptableSequence(c), .ack, nil, 0) { return }
        if c.pointee.selective.isPermitted && (!c.pointee.reassembly.isEmpty || c.pointee.selective.hasDuplicate) { return sendSelectiveAcknowledgement(c) }
        sendControl(c, acceptableSequence(c), .ack)
    }

    @inline(__always)
    private func mayAcknowledgePlainly(_ c: ConnectionPointer) -> Bool {
        c.pointee.reassembly.isEmpty && !c.pointee.selective.hasDuplicate && !state.pointee.output.pointee.isExhausted
    }

    /// Sends one short segment with the bytes of `array`, which are one segment of memory, at `sendNext`, without a call. The caller has seen that there is
    /// room for a frame.
    /// - Parameters:
    ///   - byteCount: 1 to 127.
    ///   - isIPv4: a constant.
    /// - Returns: false when something has to be looked for, or it has to go the long way; nothing has changed then.
    @inline(__always)
    func sendPlainDataAtOnce(_ c: ConnectionPointer, _ array: Frame, _ byteCount: Int, isIPv4: Bool) -> Bool {
        let headerByteCount = NetworkStack.plainHeaderByteCount(isIPv4: isIPv4)
        let window = UnmovedWindow(c)
        guard mayWritePlainHeaders(c, isIPv4: isIPv4), window.holds(c), Int(c.pointee.template.plainPayloadByteCount) == byteCount,
            let frame = Frame.makeSegmentAtOnce(state.pointee.heap, byteCount: headerByteCount &+ byteCount, priority: .reserve)
        else { return false }
        let header = frame.segmentAddress
        let sum = InternetChecksum.copyAndSum(to: header + headerByteCount, from: array.segmentAddress, count: byteCount)
        advertise(c, window)
        writePlainHeaders(c, at: header, c.pointee.sendNext, [.ack, .psh], window: window.field, payloadSum: sum, isIPv4: isIPv4)
        emitPlain(frame)
        return true
    }

    /// Sends one short segment, of either family, with the first bytes of `array`, which are one segment of memory. The caller has seen that there is room
    /// for a frame.
    /// - Returns: false when it has to go the long way; nothing has changed then.
    @inline(__always)
    func sendPlainSegment(_ c: ConnectionPointer, _ sequence: SequenceNumber, _ flags: TCPFlags, _ array: Frame?, _ byteCount: Int) -> Bool {
        guard byteCount < NetworkStack.zeroCopyByteCount else { return false }
        if mayWritePlainHeaders(c, isIPv4: true) { return sendPlainSegment(c, sequence, flags, array, byteCount, isIPv4: true) }
        return mayWritePlainHeaders(c, isIPv4: false) && sendPlainSegment(c, sequence, flags, array, byteCount, isIPv4: false)
    }

    @inline(__always)
    private func sendPlainSegment(
        _ c: ConnectionPointer, _ sequence: SequenceNumber, _ flags: TCPFlags, _ array: Frame?, _ byteCount: Int, isIPv4: Bool
    ) -> Bool {
        let headerByteCount = NetworkStack.plainHeaderByteCount(isIPv4: isIPv4)
        guard let frame = Frame.makeSegment(state.pointee.heap, byteCount: headerByteCount &+ byteCount, priority: .reserve) else { return false }
        if Int(c.pointee.template.plainPayloadByteCount) != byteCount { setPlainPayload(c, byteCount) }
        let header = frame.segmentAddress
        var sum: UInt64 = 0
        if let array { sum = InternetChecksum.copyAndSum(to: header + headerByteCount, from: array.segmentAddress, count: byteCount) }
        writePlainHeaders(c, at: header, sequence, flags, window: advertiseWindow(c, flags), payloadSum: sum, isIPv4: isIPv4)
        emitPlain(frame)
        return true
    }

    /// The caller has seen that there is room.
    @inline(__always)
    private func emitPlain(_ frame: Frame) {
        state.pointee.output.pointee.append(frame)
        state.pointee.statistics.tcp.plainSegmentsSent &+= 1
    }

    /// Writes the 66 or 86 bytes of headers and their checksums: what `writeHeaders` writes in this case. The template is one for so much payload.
    /// - Parameter payloadSum: the sum of the payload, which starts at an even offset.
    @inline(__always)
    private func writePlainHeaders(
        _ c: ConnectionPointer, at start: UnsafeMutableRawPointer, _ sequence: SequenceNumber, _ flags: TCPFlags, window: Int, payloadSum: UInt64, isIPv4: Bool
    ) {
        if !isIPv4 {
            start.storeBytes(of: c.pointee.template.front, as: (UInt64, UInt64).self)
            (start + 16).storeBytes(of: c.pointee.template.frontEnd, as: UInt32.self)
        }
        let header = start + (isIPv4 ? 0 : NetworkStack.ipv6ExtraByteCount)
        let words = c.pointee.template.words
        // As far as the ports, and two bytes of the sequence number.
        header.storeBytes(of: (words.0, words.1, words.2, words.3, words.4), as: (UInt64, UInt64, UInt64, UInt64, UInt64).self)
        let tcp = header + HeaderTemplate.transportOffset
        let rawSequence = sequence.rawValue.bigEndian
        let rawAcknowledgement = c.pointee.receiveNext.rawValue.bigEndian
        let rawControl = 0x80 | UInt32(flags.rawValue) &<< 8 | UInt32(UInt16(truncatingIfNeeded: window).bigEndian) &<< 16
        let value = timestampValue(c).bigEndian
        let echo = (DeliberateBug.isPresent(.ownTimestampEchoed) ? timestampValue(c) : c.pointee.recentTimestamp).bigEndian
        (tcp + 4).storeBytes(of: rawSequence, as: UInt32.self)
        (tcp + 8).storeBytes(of: rawAcknowledgement, as: UInt32.self)
        (tcp + 12).storeBytes(of: rawControl, as: UInt32.self)
        //= RFC 7323 section 3.2
        //# Once TSopt has been successfully negotiated, the TSopt MUST be sent in every non-<RST> segment for the duration of the connection. The TSecr
        //# field is valid if the ACK bit is set in the TCP header.
        (tcp + 20).storeBytes(of: NetworkStack.plainTimestampOption, as: UInt32.self)
        (tcp + 24).storeBytes(of: value, as: UInt32.self)
        (tcp + 28).storeBytes(of: echo, as: UInt32.self)
        let sum =
            c.pointee.template.plainSum &+ payloadSum &+ UInt64(rawSequence) &+ UInt64(rawAcknowledgement) &+ UInt64(rawControl) &+ UInt64(value)
            &+ UInt64(echo)
        // The checksum, and an urgent pointer of zero.
        (tcp + 16).storeBytes(of: UInt32(InternetChecksum.finish(sum)), as: UInt32.self)
    }

    /// Makes the template one for plain segments with so much payload: most follow one of the same size.
    @inline(never)
    private func setPlainPayload(_ c: ConnectionPointer, _ payloadByteCount: Int) {
        let transportByteCount = 32 &+ payloadByteCount
        if c.pointee.template.extraByteCount == 0 {
            let totalLength = UInt16(truncatingIfNeeded: HeaderTemplate.ipv4ByteCount &+ transportByteCount).bigEndian
            let checksum = InternetChecksum.finish(c.pointee.template.networkSum &+ UInt64(totalLength))
            withUnsafeMutableBytes(of: &c.pointee.template.words) { bytes in
                bytes.storeBytes(of: totalLength, toByteOffset: 16, as: UInt16.self)
                bytes.storeBytes(of: checksum, toByteOffset: 24, as: UInt16.self)
            }
        } else {
            // The first six bytes of the IPv6 header end with the payload length, and `frontEnd` with them.
            let length = UInt32(UInt16(truncatingIfNeeded: transportByteCount).bigEndian)
            c.pointee.template.frontEnd = c.pointee.template.frontEnd & 0xffff | length &<< 16
        }
        c.pointee.template.plainSum =
            c.pointee.template.transportSum &+ UInt64(NetworkStack.plainTimestampOption) &+ UInt64(UInt16(truncatingIfNeeded: transportByteCount).bigEndian)
        c.pointee.template.plainPayloadByteCount = UInt32(truncatingIfNeeded: payloadByteCount)
    }

    /// NOP, NOP, kind 8, length 10, as RFC 7323 (appendix A) recommends, as they are loaded from memory.
    private static var plainTimestampOption: UInt32 { 0x0a08_0101 }
}
