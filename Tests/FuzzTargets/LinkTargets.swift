import WireFormats

/// The bytes are a frame.
func fuzzEthernet(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    try withGuardedBytes(input) { bytes throws(FuzzFailure) in
        let isTagged = input.count >= 14 && input.number16(12) == EtherType.vlan
        guard let view = EthernetView(bytes, count: input.count) else {
            return try require(input.count < (isTagged ? 18 : 14), "a whole header was refused")
        }
        try require(input.count >= (isTagged ? 18 : 14), "a header was taken that is cut short")
        try require(view.destination.value == input.number48(0) && view.source.value == input.number48(6), "the addresses are others")
        try require(view.payloadOffset == (isTagged ? 18 : 14), "the payload begins elsewhere")
        try require(view.etherType == input.number16(view.payloadOffset - 2), "the type is another")
        try require(view.vlanIdentifier == (isTagged ? input.number16(14) & 0x0fff : nil), "the VLAN is another")
        try require(view.payloadByteCount == input.count - view.payloadOffset, "the payload has another length")
        try require(MACAddress(at: bytes) == view.destination, "an address is read in two ways")
        try require(MACAddress(parsing: view.source.description) == view.source, "an address does not survive as text")
        if !isTagged {
            try withUnsafeTemporaryAllocation(byteCount: 14, alignment: 1) { header throws(FuzzFailure) in
                EthernetHeader.write(
                    to: header.baseAddress!, destination: view.destination, source: view.source, etherType: view.etherType)
                try require(header.elementsEqual(input.prefix(14)), "the header is written in another way than it was read")
            }
        }
    }
}

/// The bytes are an ARP packet, perhaps with padding.
func fuzzARP(_ input: UnsafeRawBufferPointer) throws(FuzzFailure) {
    try withGuardedBytes(input) { bytes throws(FuzzFailure) in
        let isRight =
            input.count >= 28 && input.number16(0) == 1 && input.number16(2) == 0x0800 && input[4] == 6 && input[5] == 4
        guard let packet = ARPPacket(parsing: bytes, count: input.count) else { return try require(!isRight, "a right packet was refused") }
        try require(isRight, "a packet of another kind was taken")
        try require(packet.operation == input.number16(6), "the operation is another")
        try require(
            packet.senderHardware.value == input.number48(8) && packet.targetHardware.value == input.number48(18), "the hardware is another")
        try require(
            packet.senderProtocol.ipv4HostOrder == input.number32(14) && packet.targetProtocol.ipv4HostOrder == input.number32(24),
            "the addresses are others")
        try withUnsafeTemporaryAllocation(byteCount: 28, alignment: 1) { copy throws(FuzzFailure) in
            packet.write(to: copy.baseAddress!)
            try require(copy.elementsEqual(input.prefix(28)), "the packet is written in another way than it was read")
        }
        try require(
            IPAddress(parsing: packet.senderProtocol.description) == packet.senderProtocol, "an address does not survive as text")
    }
}
