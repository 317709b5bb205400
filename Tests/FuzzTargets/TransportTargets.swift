import WireFormats

/// The first eight bytes are the addresses, the others a datagram, perhaps with padding.
func fuzzUDP(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    guard input.count >= 8 else { return }
    let rawAddresses = input.loadUnaligned(as: UInt64.self)
    let input = (addresses: input.part(0..<8), datagram: input.part(8..<input.count))
    try withGuardedBytes(input.datagram) { bytes throws(FuzzFailure) in
        let count = input.datagram.count
        let length = count >= 8 ? Int(input.datagram.number16(4)) : 0
        let expected: ParseError = count < 8 ? .truncated : length < 8 ? .badLength : length > count ? .truncated : .none
        let error = UDPView.check(bytes, count: count)
        try require(error == expected, "a datagram is \(error) and should be \(expected)")
        guard error == .none else { return }
        let view = UDPView(unchecked: bytes)
        try require(view.byteCount == length && view.payloadByteCount == length - 8, "a length is another")
        try require(view.sourcePort == input.datagram.number16(0) && view.destinationPort == input.datagram.number16(2), "a port is another")
        let datagram = input.datagram.part(0..<length)
        let pseudoHeaderSum = InternetChecksum.pseudoHeader(rawAddresses: rawAddresses, protocolNumber: IPProtocol.udp, byteCount: length)
        let isRight = referenceSum(input.addresses, datagram, adding: 17 + UInt32(length)) == 0xffff
        try require(view.isChecksumValid(pseudoHeaderSum) == (isRight || datagram.number16(6) == 0), "the checksum is judged wrongly")
        try withUnsafeTemporaryAllocation(byteCount: 8, alignment: 1) { header throws(FuzzFailure) in
            UDPHeader.write(
                to: header.baseAddress!, sourcePort: view.sourcePort, destinationPort: view.destinationPort,
                payloadByteCount: view.payloadByteCount, pseudoHeaderSum: pseudoHeaderSum,
                payloadSum: InternetChecksum.sum(view.payload, count: view.payloadByteCount))
            try require(header.prefix(6).elementsEqual(datagram.prefix(6)), "the header is written in another way than it was read")
            let written = UnsafeRawBufferPointer(header)
            try require(written.number16(6) != 0, "a header is written without a checksum")
            let sum = referenceSum(input.addresses, written, datagram.part(8..<length), adding: 17 + UInt32(length))
            try require(sum == 0xffff, "a header is written with a wrong checksum")
        }
    }
}

/// The first eight bytes are the addresses, the others a segment.
func fuzzTCPHeader(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    guard input.count >= 8 else { return }
    let rawAddresses = input.loadUnaligned(as: UInt64.self)
    let addresses = input.part(0..<8)
    let segment = input.part(8..<input.count)
    try withGuardedBytes(segment) { bytes throws(FuzzFailure) in
        let count = segment.count
        let headerByteCount = count >= 20 ? Int(segment[12] >> 4) * 4 : 0
        let expected: ParseError = count < 20 ? .truncated : headerByteCount < 20 ? .badHeaderLength : headerByteCount > count ? .truncated : .none
        // As after another segment: nothing of it may be left.
        var header = TCPSegmentHeader()
        header.hasTimestamps = true
        header.sackBlockCount = 4
        header.hasMalformedOptions = true
        header.windowScale = 7
        header.maximumSegmentSize = 1
        let error = TCPSegmentHeader.parse(bytes, count: count, into: &header)
        try require(error == expected, "a segment is \(error) and should be \(expected)")
        guard error == .none else { return }
        try require(header.headerByteCount == headerByteCount && header.payloadByteCount == count - headerByteCount, "a length is another")
        try require(
            header.sourcePort == segment.number16(0) && header.destinationPort == segment.number16(2)
                && header.sequence.rawValue == segment.number32(4) && header.acknowledgement.rawValue == segment.number32(8)
                && header.flags.rawValue == segment[13] && header.window == segment.number16(14) && header.urgentPointer == segment.number16(18),
            "a field is another")
        let ends = (header.flags.contains(.syn) ? 1 : 0) + (header.flags.contains(.fin) ? 1 : 0)
        try require(header.segmentLength == header.payloadByteCount + ends, "the segment takes up another number of sequence numbers")
        let reference = ReferenceOptions(Array(segment[20..<headerByteCount]))
        try require(ReferenceOptions(header) == reference, "the options are \(ReferenceOptions(header)) and should be \(reference)")
        let pseudoHeaderSum = InternetChecksum.pseudoHeader(rawAddresses: rawAddresses, protocolNumber: IPProtocol.tcp, byteCount: count)
        let isRight = referenceSum(addresses, segment, adding: 6 + UInt32(count)) == 0xffff
        try require(
            TCPSegmentHeader.isChecksumValid(bytes, count: count, pseudoHeaderSum: pseudoHeaderSum) == isRight, "the checksum is judged wrongly")
        try checkWriter(header, reference, bytes + headerByteCount, rawAddresses, addresses)
    }
}

/// Writes a header that says the same, as far as there is room, and reads it again.
private func checkWriter(
    _ header: TCPSegmentHeader, _ options: ReferenceOptions, _ payload: UnsafeRawPointer, _ rawAddresses: UInt64, _ addresses: UnsafeRawBufferPointer
) throws(FuzzFailure) {
    // Each option of a SYN is at most once there with its padding; blocks fill what is left.
    let blockCount = min(header.hasTimestamps ? 2 : 4, Int(header.sackBlockCount), header.flags.contains(.syn) ? 0 : 4)
    try withUnsafeTemporaryAllocation(byteCount: 60 + header.payloadByteCount, alignment: 1) { target throws(FuzzFailure) in
        let base = target.baseAddress!
        var writer = TCPHeaderWriter(
            to: base, sourcePort: header.sourcePort, destinationPort: header.destinationPort, sequence: header.sequence,
            acknowledgement: header.acknowledgement)
        var expected = options
        expected.isMalformed = false
        expected.blocks = Array(options.blocks.prefix(blockCount))
        if header.flags.contains(.syn) {
            expected.maximumSegmentSize = header.maximumSegmentSize
            writer.appendSynchronizeOptions(
                maximumSegmentSize: header.maximumSegmentSize, windowScale: header.windowScale, isSACKPermitted: header.isSACKPermitted,
                hasTimestamps: header.hasTimestamps, timestampValue: header.timestampValue, timestampEchoReply: header.timestampEchoReply)
        } else {
            expected.maximumSegmentSize = 0
            expected.windowScale = 0xff
            expected.isSACKPermitted = false
            if header.hasTimestamps { writer.appendTimestamps(value: header.timestampValue, echoReply: header.timestampEchoReply) }
            if blockCount > 0 { writer.appendSACK(blockCount: blockCount) }
            for index in 0..<blockCount { writer.appendSACKBlock(header.sackBlock(index)) }
        }
        let byteCount = writer.byteCount + header.payloadByteCount
        let pseudoHeaderSum = InternetChecksum.pseudoHeader(rawAddresses: rawAddresses, protocolNumber: IPProtocol.tcp, byteCount: byteCount)
        let headerByteCount = writer.finish(
            flags: header.flags, window: header.window, urgentPointer: header.urgentPointer, pseudoHeaderSum: pseudoHeaderSum,
            payloadSum: InternetChecksum.sum(payload, count: header.payloadByteCount))
        (base + headerByteCount).copyMemory(from: payload, byteCount: header.payloadByteCount)
        let written = UnsafeRawBufferPointer(start: base, count: byteCount)
        try require(referenceSum(addresses, written, adding: 6 + UInt32(byteCount)) == 0xffff, "a header is written with a wrong checksum")
        var again = TCPSegmentHeader()
        try require(TCPSegmentHeader.parse(base, count: byteCount, into: &again) == .none, "a header is written that cannot be read")
        try require(
            again.sequence == header.sequence && again.acknowledgement == header.acknowledgement && again.flags == header.flags
                && again.window == header.window && again.urgentPointer == header.urgentPointer
                && again.payloadByteCount == header.payloadByteCount,
            "the header is written in another way than it was read")
        try require(ReferenceOptions(again) == expected, "the options are written as \(ReferenceOptions(again)) and should be \(expected)")
    }
}

/// The options of a TCP header, read in the plainest way.
private struct ReferenceOptions: Equatable {
    var maximumSegmentSize: UInt16 = 0
    var windowScale: UInt8 = 0xff
    var isSACKPermitted = false
    var timestamps: [UInt32] = []
    var blocks: [UInt64] = []
    var isMalformed = false

    init(_ bytes: [UInt8]) {
        var rest = bytes
        while let kind = rest.first, kind != 0 {
            if kind == 1 {
                rest.removeFirst()
                continue
            }
            guard rest.count >= 2, rest[1] >= 2, Int(rest[1]) <= rest.count else {
                isMalformed = true
                return
            }
            let body = Array(rest[2..<Int(rest[1])])
            rest.removeFirst(Int(rest[1]))
            read(kind, body)
        }
    }

    private mutating func read(_ kind: UInt8, _ body: [UInt8]) {
        func number(_ offset: Int, _ count: Int) -> UInt64 { body[offset..<offset + count].reduce(0) { $0 << 8 | UInt64($1) } }
        switch (kind, body.count) {
        case (2, 2): maximumSegmentSize = UInt16(number(0, 2))
        // 255 is for none.
        case (3, 1): windowScale = min(body[0], 254)
        case (4, 0): isSACKPermitted = true
        case (5, 8), (5, 16), (5, 24), (5, 32): blocks = stride(from: 0, to: body.count, by: 8).map { number($0, 8) }
        case (8, 8): timestamps = [UInt32(number(0, 4)), UInt32(number(4, 4))]
        case (2, _), (3, _), (4, _), (5, _), (8, _): isMalformed = true
        default: break
        }
    }

    init(_ header: TCPSegmentHeader) {
        maximumSegmentSize = header.maximumSegmentSize
        windowScale = header.windowScale
        isSACKPermitted = header.isSACKPermitted
        if header.hasTimestamps { timestamps = [header.timestampValue, header.timestampEchoReply] }
        for index in 0..<Int(header.sackBlockCount) {
            let block = header.sackBlock(index)
            blocks.append(UInt64(block.left.rawValue) << 32 | UInt64(block.right.rawValue))
        }
        isMalformed = header.hasMalformedOptions
    }
}
