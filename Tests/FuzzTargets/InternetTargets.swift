import WireFormats

/// The bytes are an IPv4 packet, perhaps with padding.
func fuzzIPv4(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    try withGuardedBytes(input) { bytes throws(FuzzFailure) in
        try checkQuotation(bytes, input)
        let error = IPv4View.check(bytes, count: input.count)
        try require(error == referenceIPv4Error(input), "a header is \(error) and should be \(referenceIPv4Error(input))")
        guard error == .none else { return }
        let view = IPv4View(unchecked: bytes)
        try require(view.headerByteCount == Int(input[0] & 15) * 4 && view.totalByteCount == Int(input.number16(2)), "a length is another")
        try require(view.payloadByteCount >= 0 && view.headerByteCount + view.payloadByteCount <= input.count, "the payload leads out of the packet")
        let header = input.part(0..<view.headerByteCount)
        try require(view.isChecksumValid == (referenceSum(header) == 0xffff), "the checksum is judged wrongly")
        try require(view.dscp << 2 | view.ecn == input[1] && view.identification == input.number16(4), "a field is another")
        let isFragment = input.number16(6) & 0x3fff != 0
        try require(view.isFragment == isFragment && (view.moreFragments || view.fragmentOffset > 0) == isFragment, "a fragment is not seen as one")
        try require(view.fragmentOffset % 8 == 0 && view.dontFragment == (input[6] & 0x40 != 0), "a fragment lies elsewhere")
        try require(view.source.ipv4HostOrder == input.number32(12) && view.destination.ipv4HostOrder == input.number32(16), "an address is another")
        try checkOptions(view.options, header.part(20..<header.count))
        try withUnsafeTemporaryAllocation(byteCount: 20, alignment: 1) { copy throws(FuzzFailure) in
            IPv4Header.write(
                to: copy.baseAddress!, totalByteCount: view.totalByteCount, identification: view.identification, dontFragment: view.dontFragment,
                moreFragments: view.moreFragments, fragmentOffset: view.fragmentOffset, timeToLive: view.timeToLive,
                typeOfService: view.typeOfService, protocolNumber: view.protocolNumber, source: view.source, destination: view.destination)
            try require(referenceSum(UnsafeRawBufferPointer(copy)) == 0xffff, "a header is written with a wrong checksum")
            let isPlain = view.headerByteCount == 20 && input[6] & 0x80 == 0
            if isPlain {
                let isSame = copy.prefix(10).elementsEqual(input.prefix(10)) && copy[12...].elementsEqual(input[12..<20])
                try require(isSame, "the header is written in another way than it was read")
            }
        }
    }
}

private func referenceIPv4Error(_ input: UnsafeRawBufferPointer) -> ParseError {
    guard input.count >= 20 else { return .truncated }
    let header = Int(input[0] & 15) * 4
    let total = Int(input.number16(2))
    if input[0] >> 4 != 4 { return .badVersion }
    if header < 20 { return .badHeaderLength }
    if total < header { return .badTotalLength }
    return total > input.count ? .truncated : .none
}

private func checkOptions(_ options: IPv4Options, _ reference: UnsafeRawBufferPointer) throws(FuzzFailure) {
    var rest = Array(reference)
    var isMalformed = false
    var hasSourceRoute = false
    while let type = rest.first, type != 0 {
        if type == 1 {
            rest.removeFirst()
            continue
        }
        guard rest.count >= 2, rest[1] >= 2, Int(rest[1]) <= rest.count else {
            isMalformed = true
            break
        }
        if type == 131 || type == 137 { hasSourceRoute = true }
        rest.removeFirst(Int(rest[1]))
    }
    let summary = options.summary()
    try require((summary.error == .badOptions) == isMalformed && (summary.error == .none) == !isMalformed, "options are judged wrongly")
    try require(summary.hasSourceRoute == hasSourceRoute, "a source route is not seen")
    if isMalformed { try require(Int(summary.errorOffset) == reference.count - rest.count, "the fault is told to be elsewhere") }
}

/// What an error message would quote.
private func checkQuotation(_ bytes: UnsafeRawPointer, _ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    guard let quotation = ICMPv4Quotation(bytes, count: input.count) else { return }
    let header = Int(input[0] & 15) * 4
    try require(quotation.headerByteCount == header && header >= 20 && header + 8 <= input.count, "a quotation is taken that is cut short")
    try require(quotation.protocolNumber == input[9] && quotation.totalByteCount == Int(input.number16(2)), "a quoted field is another")
    try require(
        quotation.source.ipv4HostOrder == input.number32(12) && quotation.destination.ipv4HostOrder == input.number32(16),
        "a quoted address is another")
    try require(
        quotation.sourcePort == input.number16(header) && quotation.destinationPort == input.number16(header + 2)
            && quotation.sequence.rawValue == input.number32(header + 4) && quotation.echoIdentifier == input.number16(header + 4),
        "what lies behind the quoted header is another")
}

/// The bytes are an ICMP message: the payload of a packet.
func fuzzICMPv4(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    try withGuardedBytes(input) { bytes throws(FuzzFailure) in
        guard let view = ICMPv4View(bytes, count: input.count) else { return try require(input.count < 8, "a whole message was refused") }
        try require(input.count >= 8, "a message was taken that is cut short")
        try require(view.type == input[0] && view.code == input[1] && view.restOfHeader == input.number32(4), "a field is another")
        try require(view.nextHopMTU == view.sequenceNumber && view.parameterPointer == input[4], "a field is another")
        try require(view.isChecksumValid == (referenceSum(input) == 0xffff), "the checksum is judged wrongly")
        if let quotation = view.quotation {
            try require(view.isError, "a message that is no error quotes something")
            let end = quotation.base - bytes + quotation.headerByteCount + 8
            try require(end <= input.count, "the quotation leads out of the message")
            try checkQuotation(view.payload, input.part(8..<input.count))
        }
        try withUnsafeTemporaryAllocation(byteCount: input.count, alignment: 1) { reply throws(FuzzFailure) in
            ICMPv4Message.writeEchoReply(to: reply.baseAddress!, request: view)
            try require(reply[0] == 0 && reply[4...].elementsEqual(input[4...]), "a reply has not the request's data")
            let isValid = referenceSum(UnsafeRawBufferPointer(reply)) == 0xffff
            if view.isChecksumValid { try require(isValid, "a right request has a reply with a wrong checksum") }
        }
        try withUnsafeTemporaryAllocation(byteCount: input.count, alignment: 1) { message throws(FuzzFailure) in
            let byteCount = ICMPv4Message.writeEchoRequest(
                to: message.baseAddress!, identifier: view.identifier, sequenceNumber: view.sequenceNumber, payload: view.payload,
                payloadByteCount: view.payloadByteCount)
            try require(byteCount == input.count && message[4...].elementsEqual(input[4...]), "a request is not what was asked for")
            try require(referenceSum(UnsafeRawBufferPointer(message)) == 0xffff, "a request is written with a wrong checksum")
        }
        try checkError(view, input)
    }
}

/// An error message about the packet that the input is, if it is one.
private func checkError(_ view: ICMPv4View, _ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    guard IPv4View.check(view.base, count: input.count) == .none else { return }
    let packet = IPv4View(unchecked: view.base)
    let byteCount = ICMPv4Message.errorByteCount(quoting: packet)
    try require(byteCount <= 576 - 20, "an error message is too long")
    try withUnsafeTemporaryAllocation(byteCount: byteCount, alignment: 1) { message throws(FuzzFailure) in
        let written = ICMPv4Message.writeError(
            to: message.baseAddress!, type: ICMPv4Type.parameterProblem, code: 0, restOfHeader: 0x1400_0000, quoting: packet)
        try require(written == byteCount, "an error message has another length than was told")
        try require(message[8...].elementsEqual(input.prefix(byteCount - 8)), "an error message quotes something else")
        try require(referenceSum(UnsafeRawBufferPointer(message)) == 0xffff, "an error message has a wrong checksum")
    }
}
