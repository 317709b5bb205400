import Testing
import WireFormats

@Suite struct ICMPv4Tests {
    private let page = GuardedPage()

    private func withChecksum(_ message: [UInt8]) -> [UInt8] {
        var message = message
        message.replaceSubrange(2..<4, with: [0, 0])
        message.replaceSubrange(2..<4, with: [UInt8].bigEndian(naiveChecksum(message)))
        return message
    }

    @Test func anEchoRequestIsRead() throws {
        let bytes = withChecksum([8, 0, 0, 0, 0x12, 0x34, 0x00, 0x07] + Array("ping!".utf8))
        let view = try #require(ICMPv4View(page.place(bytes), count: bytes.count))
        #expect(view.type == ICMPv4Type.echoRequest)
        #expect(view.code == 0)
        #expect(view.isChecksumValid)
        #expect(view.identifier == 0x1234)
        #expect(view.sequenceNumber == 7)
        #expect(view.restOfHeader == 0x1234_0007)
        #expect(view.payloadByteCount == 5)
        #expect(!view.isError)
        #expect(view.quotation == nil)
    }

    @Test func messagesBelowEightBytesAreRefused() {
        let bytes = withChecksum([8, 0, 0, 0, 0, 0, 0, 0])
        for count in 0..<8 { #expect(ICMPv4View(page.place(bytes[..<count]), count: count) == nil) }
        #expect(ICMPv4View(page.place(bytes), count: 8)?.isChecksumValid == true)
    }

    @Test func everyDamagedBitIsSeenByTheChecksum() throws {
        let bytes = withChecksum([8, 0, 0, 0, 0x12, 0x34, 0x00, 0x07] + Array("ping!".utf8))
        for bit in 0..<(8 * bytes.count) {
            var damaged = bytes
            damaged[bit / 8] ^= 1 << (bit % 8)
            #expect(try #require(ICMPv4View(page.place(damaged), count: damaged.count)).isChecksumValid == false)
        }
    }

    /// RFC 1122 section 3.2.2.6: identifier, sequence number and data come back as they were sent.
    @Test func theReplyToAnEchoReturnsEverything() throws {
        var random = SeededGenerator(seed: 9)
        for count in [8, 9, 64, 1000, 1480] {
            for code in [0, 7] as [UInt8] {
                let body = (4..<count).map { _ in UInt8.random(in: 0...255, using: &random) }
                let request = withChecksum([8, code, 0, 0] + body)
                let view = try #require(ICMPv4View(page.place(request), count: count))
                let reply = written(count) { ICMPv4Message.writeEchoReply(to: $0, request: view) }
                #expect(reply == withChecksum([0, code, 0, 0] + body))
                let inPlace = page.place(request)
                ICMPv4Message.turnIntoEchoReply(inPlace)
                #expect(bytes(inPlace, count) == reply)
            }
        }
    }

    @Test func theReplyVerifiesForEveryChecksumOfTheRequest() throws {
        var failures = 0
        for identifier in UInt16.min...UInt16.max {
            let target = page.last(8)
            let count = ICMPv4Message.writeEchoRequest(
                to: target, identifier: identifier, sequenceNumber: 1, payload: target, payloadByteCount: 0)
            let view = try #require(ICMPv4View(target, count: count))
            if !view.isChecksumValid { failures += 1 }
            ICMPv4Message.turnIntoEchoReply(target)
            if !view.isChecksumValid || view.type != 0 { failures += 1 }
        }
        #expect(failures == 0)
    }

    @Test func anEchoRequestIsWritten() {
        let payload = Array("abc".utf8)
        let found = written(11) { target in
            let count = ICMPv4Message.writeEchoRequest(to: target, identifier: 0xabcd, sequenceNumber: 2, payload: payload, payloadByteCount: 3)
            #expect(count == 11)
        }
        #expect(found == withChecksum([8, 0, 0, 0, 0xab, 0xcd, 0, 2] + payload))
    }

    private func packet(headerByteCount: Int = 20, payload: [UInt8], fragmentOffset: UInt16 = 0, protocolNumber: UInt8 = 6) -> [UInt8] {
        var header = [UInt8](repeating: 1, count: headerByteCount)
        header.replaceSubrange(0..<20, with: [UInt8](hexadecimal: "4500 0000 1234 0000 4006 0000 c0000201 c6336409"))
        header[0] = 0x40 | UInt8(headerByteCount / 4)
        header.replaceSubrange(2..<4, with: [UInt8].bigEndian(UInt16(headerByteCount + payload.count)))
        header.replaceSubrange(6..<8, with: [UInt8].bigEndian(fragmentOffset))
        header[9] = protocolNumber
        return header + payload
    }

    private let segmentStart = [UInt8](hexadecimal: "1389 0050 89abcdef 00000000 5002ffff 00000000")

    @Test(arguments: [20, 24, 60]) func anErrorMessageQuotesThePacket(headerByteCount: Int) throws {
        let original = packet(headerByteCount: headerByteCount, payload: segmentStart)
        let source = GuardedPage()
        let view = IPv4View(unchecked: source.place(original))
        let byteCount = ICMPv4Message.errorByteCount(quoting: view)
        #expect(byteCount == 8 + original.count)
        let message = written(byteCount) { target in
            let count = ICMPv4Message.writeError(
                to: target, type: ICMPv4Type.destinationUnreachable, code: ICMPv4Code.fragmentationNeeded, restOfHeader: 1280, quoting: view)
            #expect(count == byteCount)
        }
        #expect(message == withChecksum([3, 4, 0, 0, 0, 0, 0x05, 0x00] + original))
        let read = try #require(ICMPv4View(page.place(message), count: byteCount))
        #expect(read.isChecksumValid)
        #expect(read.isError)
        #expect(read.nextHopMTU == 1280)
        let quotation = try #require(read.quotation)
        #expect(quotation.source == .ipv4(192, 0, 2, 1))
        #expect(quotation.destination == .ipv4(198, 51, 100, 9))
        #expect(quotation.protocolNumber == IPProtocol.tcp)
        #expect(quotation.headerByteCount == headerByteCount)
        #expect(quotation.totalByteCount == original.count)
        #expect(quotation.sourcePort == 5001)
        #expect(quotation.destinationPort == 80)
        #expect(quotation.sequence == SequenceNumber(rawValue: 0x89ab_cdef))
        #expect(quotation.echoIdentifier == 0x89ab)
    }

    /// RFC 1812 section 4.3.2.3: no more than 576 bytes in all.
    @Test(arguments: [547, 548, 549, 1500]) func aLongPacketIsQuotedUpToTheLimit(totalByteCount: Int) {
        let original = packet(payload: [UInt8](repeating: 0x77, count: totalByteCount - 20))
        let source = GuardedPage()
        let view = IPv4View(unchecked: source.place(original))
        let byteCount = ICMPv4Message.errorByteCount(quoting: view)
        #expect(20 + byteCount == min(576, 28 + totalByteCount))
        let message = written(byteCount) { target in
            #expect(ICMPv4Message.writeError(to: target, type: 11, code: 0, quoting: view) == byteCount)
        }
        #expect(message == withChecksum([11, 0, 0, 0, 0, 0, 0, 0] + original.prefix(548)))
    }

    private func quotation(_ quoted: [UInt8], type: UInt8 = 3) -> ICMPv4Quotation? {
        let message = [type, 0, 0, 0, 0, 0, 0, 0] + quoted
        return ICMPv4View(page.place(message), count: message.count)?.quotation
    }

    /// RFC 1122 section 3.2.2: the header and at least eight bytes behind it.
    @Test(arguments: [20, 24, 60]) func aQuotationNeedsTheHeaderAndEightBytes(headerByteCount: Int) {
        let original = packet(headerByteCount: headerByteCount, payload: segmentStart)
        for count in 0...original.count {
            #expect((quotation(Array(original[..<count])) != nil) == (count >= headerByteCount + 8), "\(count) bytes")
        }
    }

    @Test func malformedQuotationsAreRefused() {
        let original = packet(payload: segmentStart)
        for type in 0...40 as ClosedRange<UInt8> { #expect((quotation(original, type: type) != nil) == [3, 4, 5, 11, 12].contains(type)) }
        for first in 0...255 as ClosedRange<UInt8> {
            var changed = original
            changed[0] = first
            // 40 bytes are there: headers of up to 32 leave eight.
            #expect((quotation(changed) != nil) == (0x45...0x48).contains(first))
        }
        // A fragment other than the first has no ports.
        #expect(quotation(packet(payload: segmentStart, fragmentOffset: 1)) == nil)
        #expect(quotation(packet(payload: segmentStart, fragmentOffset: 0x1fff)) == nil)
        #expect(quotation(packet(payload: segmentStart, fragmentOffset: 0x2000)) != nil)
        #expect(quotation(packet(payload: segmentStart, fragmentOffset: 0x4000)) != nil)
    }

    @Test func theFieldsOfOtherErrorsAreRead() throws {
        let redirect = withChecksum([5, 1, 0, 0, 10, 0, 0, 254] + packet(payload: segmentStart))
        #expect(try #require(ICMPv4View(page.place(redirect), count: redirect.count)).gateway == .ipv4(10, 0, 0, 254))
        let problem = withChecksum([12, 0, 0, 0, 21, 0, 0, 0] + packet(payload: segmentStart))
        #expect(try #require(ICMPv4View(page.place(problem), count: problem.count)).parameterPointer == 21)
    }
}
