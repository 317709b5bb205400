import WireFormats

/// The bytes are an IPv6 packet, perhaps with padding.
func fuzzIPv6(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    try withGuardedBytes(input) { bytes throws(FuzzFailure) in
        _ = ICMPv6Quotation(bytes, count: input.count)
        let isShort = input.count < 40 || Int(input.number16(4)) > input.count - 40
        let error = IPv6View.check(bytes, count: input.count)
        if input.count >= 40 && input[0] >> 4 != 6 { return try require(error == .badVersion, "another version is taken") }
        try require((error == .truncated) == isShort && (error == .none) == !isShort, "a length is judged wrongly")
        guard error == .none else { return }
        let view = IPv6View(unchecked: bytes)
        try require(view.totalByteCount <= input.count && view.payloadByteCount == Int(input.number16(4)), "the payload leads out of the packet")
        try withUnsafeTemporaryAllocation(byteCount: 40, alignment: 1) { copy throws(FuzzFailure) in
            IPv6Header.write(
                to: copy.baseAddress!, payloadByteCount: view.payloadByteCount, nextHeader: view.nextHeader, hopLimit: view.hopLimit,
                trafficClass: view.trafficClass, flowLabel: view.flowLabel, source: view.source, destination: view.destination)
            try require(copy.elementsEqual(input.prefix(40)), "the header is written in another way than it was read")
        }
        let extensions = IPv6Extensions(view)
        if let fragment = extensions.fragment { try checkFragment(view, fragment) }
        try checkExtensions(extensions, input.part(0..<view.totalByteCount))
    }
}

/// What is told of a fragment header makes the same header again, and the headers behind it are walked over within the packet.
private func checkFragment(_ packet: IPv6View, _ fragment: IPv6Extensions.Fragment) throws(FuzzFailure) {
    _ = IPv6FragmentHeader.isChainComplete(packet, behind: fragment)
    try withUnsafeTemporaryAllocation(byteCount: 8, alignment: 1) { header throws(FuzzFailure) in
        IPv6FragmentHeader.write(
            to: header.baseAddress!, nextHeader: fragment.nextHeader, offset: fragment.offset, moreFragments: fragment.moreFragments,
            identification: fragment.identification)
        // But for the reserved fields.
        let mask: [UInt8] = [0xff, 0, 0xff, 0xf9, 0xff, 0xff, 0xff, 0xff]
        let read = UnsafeRawBufferPointer(start: packet.base + fragment.headerOffset, count: 8)
        try require(zip(zip(read, header), mask).allSatisfy { ($0.0 ^ $0.1) & $1 == 0 }, "a fragment header is written in another way than it was read")
    }
}

/// The chain of headers, walked plainly.
private func checkExtensions(_ found: IPv6Extensions, _ packet: UnsafeRawBufferPointer) throws(FuzzFailure) {
    // A header that is missing begins where the packet ends.
    let mayBeAtEnd = found.fault == .discard
    try require(
        found.offset <= packet.count && found.faultOffset < packet.count + (mayBeAtEnd ? 1 : 0), "a header is told to lie outside of the packet")
    guard found.fault == .none else { return }
    var (next, nameOffset, offset) = (packet[6], 6, 40)
    var count = 0
    while [0, 43, 44, 60].contains(next) {
        count += 1
        try require(count <= IPv6Extensions.maximumHeaders && packet.count - offset >= 8, "a chain is taken that breaks its limits")
        if next == 44 && packet.number16(offset + 2) & 0xfff9 != 0 {
            let fragment = IPv6Extensions.Fragment(
                headerOffset: offset, nextHeaderOffset: nameOffset, nextHeader: packet[offset], offset: Int(packet.number16(offset + 2) & 0xfff8),
                moreFragments: packet[offset + 3] & 1 == 1, identification: packet.number32(offset + 4))
            return try require(found.fragment == fragment && found.offset == offset + 8, "a fragment is another")
        }
        try require(next != 43 || packet[offset + 3] == 0, "a routing header is taken that has segments left")
        try require(next != 0 || offset == 40, "hop-by-hop options are taken behind others")
        let byteCount = next == 44 ? 8 : (Int(packet[offset + 1]) + 1) * 8
        (next, nameOffset, offset) = (packet[offset], offset, offset + byteCount)
        try require(offset <= packet.count, "a header leads out of the packet")
    }
    try require(
        found.fragment == nil && found.nextHeader == next && found.nextHeaderOffset == nameOffset && found.offset == offset,
        "the protocol is told to be another, or elsewhere")
}

/// The bytes are a source and a destination address, and an ICMPv6 message between them.
func fuzzICMPv6(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    guard input.count >= 32 else { return }
    let count = input.count - 32
    try withGuardedBytes(input) { bytes throws(FuzzFailure) in
        let (source, destination) = (IPAddress(ipv6At: bytes), IPAddress(ipv6At: bytes + 16))
        let message = bytes + 32
        try checkOptions(message, count)
        guard let view = ICMPv6View(message, count: count) else { return try require(count < 8, "a whole message was refused") }
        let sum = referenceSum(input, adding: UInt32(count) + 58)
        try require(view.isChecksumValid(source: source, destination: destination) == (sum == 0xffff), "the checksum is judged wrongly")
        try require(view.type == input[32] && view.isError == (input[32] < 128) && view.restOfHeader == input.number32(36), "a field is another")
        try checkListenerQuery(view, input.part(32..<input.count))
        if let quotation = view.quotation {
            let end = quotation.base - message + quotation.transportOffset + 8
            try require(view.isError && quotation.transportOffset >= 40 && end <= count, "the quotation leads out of the message")
            try require(quotation.sourcePort == input.number16(32 + end - 8), "a quoted port is another")
        }
        if count >= 24 {
            for offset in stride(from: 8, through: 24, by: 8) where offset <= count { try checkOptions(message + offset, count - offset) }
        }
    }
}

private func checkOptions(_ bytes: UnsafeRawPointer, _ count: Int) throws(FuzzFailure) {
    guard var options = NeighborDiscoveryOptions(bytes, count: count) else { return }
    _ = options.linkLayerAddress(NeighborDiscoveryOption.sourceLinkLayerAddress)
    var byteCount = 0
    while let option = options.next() {
        try require(option.base == bytes + byteCount && option.byteCount >= 8, "an option lies elsewhere")
        byteCount += option.byteCount
        _ = option.macAddress
        _ = option.mtu
        if let prefix = option.prefix { try require(option.byteCount == 32 && prefix.prefix.length <= 128, "a prefix is read of another option") }
    }
    try require(byteCount == count, "the options do not end where the message does")
}
