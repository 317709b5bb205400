import WireFormats

/// The bytes are an IGMP message.
func fuzzIGMP(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    try withGuardedBytes(input) { bytes throws(FuzzFailure) in
        guard let view = IGMPView(bytes, count: input.count) else { return try require(input.count < 8, "a whole message was refused") }
        try require(view.type == input[0] && view.group == IPAddress(ipv4HostOrder: input.number32(4)), "a field is another")
        try require(view.isChecksumValid == (referenceSum(input) == 0xffff), "the checksum is judged wrongly")
        guard let query = view.query else { return }
        try require(input[0] == 0x11 && (input.count == 8 || input.count >= 12), "what is no query is taken for one")
        let version: GroupProtocol = input.count > 8 ? .igmpv3 : input[1] == 0 ? .igmpv1 : .igmpv2
        let tenths = version == .igmpv1 ? 100 : version == .igmpv2 ? UInt64(input[1]) : floatingPoint(input[1])
        try require(query.version == version && query.maximumResponseTime == tenths * 100_000_000, "a query is read in another way")
        try checkGroup(query, firstSource: 12, input)
        guard version == .igmpv3 else { return }
        try require(query.robustness == input[8] & 7 && query.queryInterval == floatingPoint(input[9]) * 1_000_000_000, "the querier says something else")
        for index in 0..<query.sourceCount {
            try require(query.source(index) == IPAddress(ipv4HostOrder: input.number32(12 + 4 * index)), "a source is another")
        }
    }
}

/// The same of MLD, whose message the bytes are.
func checkListenerQuery(_ message: ICMPv6View, _ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    guard let query = GroupQuery(mld: message) else { return }
    try require(input[0] == 130 && (input.count == 24 || input.count >= 28), "what is no query is taken for one")
    try require(query.version == (input.count == 24 ? .mldv1 : .mldv2) && !query.group.isIPv4, "a query is of another version")
    try checkGroup(query, firstSource: 28, input)
    guard query.version == .mldv2 else { return }
    for index in 0..<query.sourceCount {
        let source = input.part(28 + 16 * index..<44 + 16 * index)
        try require(withUnsafeBytes(of: query.source(index).words) { $0.elementsEqual(source) }, "a source is another")
    }
}

/// The group is one, the sources lie in the message, and a record of them says what was read.
private func checkGroup(_ query: GroupQuery, firstSource: Int, _ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    let addressByteCount = query.group.isIPv4 ? 4 : 16
    try require(query.isGeneral || query.group.isMulticast, "a query is about an address that is no group")
    try require(query.sourceCount == 0 || firstSource + addressByteCount * query.sourceCount <= input.count, "the sources lead out of the message")
    try require(!query.isGeneral || query.sourceCount == 0, "a query is about sources of no group")
    guard query.sourceCount > 0, query.sourceCount <= 64 else { return }
    let sources = (0..<query.sourceCount).map(query.source)
    let byteCount = GroupRecord.byteCount(of: query.group, sources: sources.count)
    try withUnsafeTemporaryAllocation(byteCount: byteCount, alignment: 8) { record throws(FuzzFailure) in
        sources.withUnsafeBufferPointer {
            GroupRecord.write(to: record.baseAddress!, .modeIsInclude, group: query.group, sources: $0.baseAddress!, sourceCount: $0.count)
        }
        let head = 4 + addressByteCount
        let isRight =
            record[0] == 1 && record[1] == 0 && Int(record[2]) << 8 | Int(record[3]) == sources.count
            && record[head...].elementsEqual(input[firstSource..<firstSource + addressByteCount * sources.count])
            && record[4..<head].elementsEqual(input[(addressByteCount == 4 ? 4 : 8)..<(addressByteCount == 4 ? 8 : 24)])
        try require(isRight, "a record is written in another way than it was read")
    }
}

private func floatingPoint(_ code: UInt8) -> UInt64 {
    code < 128 ? UInt64(code) : (16 + UInt64(code & 15)) << (3 + UInt64(code >> 4 & 7))
}
