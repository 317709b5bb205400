import EthernetDevice
import NetworkStack
import Testing
import WireFormats

/// RFC 791 section 3.2, RFC 815, RFC 1122 section 3.3.2, RFC 1858, RFC 3128: fragments over IPv4.
@Suite struct IPv4ReassemblyTests {
    let peer = LowerPeer()

    /// A UDP datagram for port 5000 with its header.
    private func datagram(_ count: Int) -> [UInt8] { peer.datagram(pattern(count), from: 7_000, to: 5_000) }

    @Test func aDatagramInFragmentsIsDeliveredWhole() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        for fragment in peer.fragments(datagram(4_000), size: 1_480) {
            #expect(!host.stack.hasDatagram(socket))
            host.receive(fragment)
        }
        let received = try #require(host.takeDatagram(socket))
        #expect(received.bytes == pattern(4_000) && received.source == peer.endpoint(7_000))
        #expect(host.stack.statistics.fragmentsReceived == 3 && host.stack.statistics.datagramsReassembled == 1)
        #expect(host.stack.statistics.drops.total == 0)
        host.end()
    }

    /// RFC 815: whatever the order, and whatever the sizes.
    @Test(arguments: [8, 16, 24, 56, 1_480]) func theOrderOfFragmentsIsNothingToTheDatagram(size: Int) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        let fragments = peer.fragments(datagram(size * 6 + 3), size: size)
        var orders: [[Int]] = [Array(fragments.indices.reversed())]
        for step in [1, 2, 3, 5] { orders.append(fragments.indices.sorted { ($0 * step % 7, $0) < ($1 * step % 7, $1) }) }
        for (number, order) in orders.enumerated() {
            for index in order {
                var fragment = fragments[index]
                fragment.replaceSubrange(18...19, with: bigEndian(UInt16(number)))
                fragment.replaceSubrange(24...25, with: [0, 0])
                fragment.replaceSubrange(24...25, with: bigEndian(internetChecksum(Array(fragment[14..<34]))))
                host.receive(fragment)
            }
            #expect(host.takeDatagram(socket)?.bytes == pattern(size * 6 + 3))
        }
        host.end()
    }

    @Test func theLargestDatagramThereIsIsDelivered() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        for fragment in peer.fragments(datagram(65_507), size: 1_480).reversed() { host.receive(fragment) }
        #expect(host.takeDatagram(socket)?.bytes == pattern(65_507))
        for fragment in peer.fragments(datagram(65_507), size: 552, identification: 8) { host.receive(fragment) }
        #expect(host.takeDatagram(socket)?.bytes == pattern(65_507))
        host.end()
    }

    /// RFC 791: source, destination, protocol and identification tell datagrams apart.
    @Test func datagramsOfOthersAreNotMixedIn() throws {
        let host = try LowerHost { $0.addresses.append(IPv4Prefix(address: .ipv4(10, 0, 0, 7), length: 24)) }
        let socket = host.boundSocket(5_000)
        let other = LowerPeer(3)
        let whole = datagram(40)
        host.receive(peer.fragment(Array(whole[..<24]), at: 0, more: true))
        host.receive(other.fragment(Array(whole[24...]), at: 24, more: false))
        host.receive(peer.fragment(Array(whole[24...]), at: 24, more: false, identification: 8))
        host.receive(peer.fragment(Array(whole[24...]), at: 24, more: false, protocolNumber: 1))
        host.receive(peer.fragment(Array(whole[24...]), at: 24, more: false, destination: .ipv4(10, 0, 0, 7)))
        #expect(!host.stack.hasDatagram(socket))
        host.receive(peer.fragment(Array(whole[24...]), at: 24, more: false))
        #expect(host.takeDatagram(socket)?.bytes == pattern(40))
        host.end()
    }

    @Test func anEchoRequestInFragmentsIsAnswered() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let message = peer.withChecksum([8, 0, 0, 0, 1, 2, 0, 3] + pattern(900))
        for fragment in peer.fragments(message, size: 304, protocolNumber: 1) { host.receive(fragment) }
        let output = host.output()
        #expect(output.count == 1)
        expectWellFormed(output[0])
        #expect(Array(output[0][42...]) == pattern(900) && output[0][34] == 0)
        host.end()
    }

    @Test func aSegmentInFragmentsReachesTCP() throws {
        let host = try LowerHost()
        host.introduce(peer)
        var segment = hex("1b 58 13 88 00 00 00 01 00 00 00 00 50 02 ff ff 00 00 00 00") + pattern(20)
        let pseudoHeader = ipv4Bytes(peer.address) + ipv4Bytes(LowerHost.address) + [0, 6] + bigEndian(UInt16(segment.count))
        segment.replaceSubrange(16...17, with: bigEndian(internetChecksum(pseudoHeader + segment)))
        for fragment in peer.fragments(segment, size: 24, protocolNumber: 6) { host.receive(fragment) }
        // Nobody listens there.
        let reset = try #require(host.output().first)
        #expect(reset[23] == 6 && reset[47] == 0x14)
        #expect(host.stack.statistics.datagramsReassembled == 1)
        host.end()
    }

    @Test func theOptionsOfTheFirstFragmentAreThoseOfTheDatagram() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        let whole = datagram(40)
        host.receive(peer.fragment(Array(whole[..<24]), at: 0, more: true, options: hex("01 07 07 04 00 00 00 00")))
        host.receive(peer.fragment(Array(whole[24...]), at: 24, more: false))
        #expect(host.takeDatagram(socket)?.bytes == pattern(40))
        // A source route is refused in a datagram that comes in pieces as well.
        host.receive(peer.fragment(Array(whole[..<24]), at: 0, more: true, identification: 9, options: hex("83 07 04 00 00 00 00 00")))
        host.receive(peer.fragment(Array(whole[24...]), at: 24, more: false, identification: 9))
        #expect(host.drops(.sourceRouted) == 1 && !host.stack.hasDatagram(socket))
        host.end()
    }

    @Test func fragmentsInPiecesAndWithATagAndPaddingArePutTogether() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        let whole = datagram(24)
        let first = peer.fragment(Array(whole[..<16]), at: 0, more: true)
        host.receive(Array(first[..<12]) + [0x81, 0, 0, 0] + first[12...] + [UInt8](repeating: 0xee, count: 9))
        host.receive(peer.fragment(Array(whole[16...]), at: 16, more: false) + [UInt8](repeating: 0xee, count: 10), cutAt: [10, 20])
        #expect(host.takeDatagram(socket)?.bytes == pattern(24))
        host.end()
    }

    @Test func aDamagedDatagramIsFoundOutByItsOwnChecksum() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        var fragments = peer.fragments(datagram(40), size: 24)
        fragments[1][40] ^= 1
        // The device has verified what it can verify.
        for fragment in fragments { host.receive(fragment, flags: .checksumVerified) }
        #expect(host.drops(.badDatagramChecksum) == 1 && !host.stack.hasDatagram(socket))
        host.end()
    }

    // MARK: What is dropped

    @Test func anExactDuplicateIsIgnored() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        let fragments = peer.fragments(datagram(100), size: 32)
        for fragment in fragments.dropLast() {
            host.receive(fragment)
            host.receive(fragment)
        }
        host.receive(fragments[0])
        #expect(host.drops(.duplicateFragment) == UInt64(fragments.count))
        host.receive(fragments[fragments.count - 1])
        #expect(host.takeDatagram(socket)?.bytes == pattern(100))
        host.end()
    }

    /// RFC 1858 section 4: the ways to overlap, and none lets bytes be chosen twice.
    @Test(arguments: [(8, 16, true), (0, 8, true), (16, 16, true), (8, 24, false), (24, 24, true), (0, 56, true)] as [(Int, Int, Bool)])
    func anOverlapEndsTheWholeDatagram(offset: Int, count: Int, more: Bool) throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        let whole = datagram(48)
        let fragments = peer.fragments(whole, size: 24)
        host.receive(fragments[0])
        host.receive(fragments[1])
        host.receive(peer.fragment([UInt8](repeating: 0xff, count: count), at: offset, more: more))
        #expect(host.drops(.fragmentOverlap) == 1)
        #expect(host.heap.statistics.liveBlocks == 0)
        // Nor does what comes later complete it.
        for fragment in fragments { host.receive(fragment) }
        #expect(!host.stack.hasDatagram(socket) && host.stack.statistics.datagramsReassembled == 0)
        // Its identification can be used again when its time is over.
        host.advance(seconds: 31)
        for fragment in fragments { host.receive(fragment) }
        #expect(host.takeDatagram(socket)?.bytes == pattern(48))
        host.end()
    }

    @Test func theSameBytesOtherwiseAreAnOverlap() throws {
        let host = try LowerHost()
        let first = peer.fragment(pattern(24), at: 0, more: true)
        host.receive(first)
        host.receive(peer.fragment([1] + pattern(24)[1...], at: 0, more: true))
        #expect(host.drops(.fragmentOverlap) == 1 && host.drops(.duplicateFragment) == 0)
        host.end()
    }

    @Test func nothingLiesBehindTheEndAndThereIsOneEnd() throws {
        let host = try LowerHost()
        host.receive(peer.fragment(pattern(24), at: 24, more: false))
        host.receive(peer.fragment(pattern(8), at: 48, more: true))
        #expect(host.drops(.fragmentBeyondEnd) == 1)
        host.receive(peer.fragment(pattern(24), at: 24, more: false, identification: 8))
        host.receive(peer.fragment(pattern(8), at: 48, more: false, identification: 8))
        #expect(host.drops(.fragmentBeyondEnd) == 2)
        // A last fragment that ends in front of others.
        host.receive(peer.fragment(pattern(24), at: 24, more: true, identification: 9))
        host.receive(peer.fragment(pattern(3), at: 8, more: false, identification: 9))
        #expect(host.drops(.fragmentBeyondEnd) == 3)
        #expect(host.heap.statistics.liveBlocks == 0)
        host.end()
    }

    @Test func aLengthThatIsNoMultipleOfEightEndsADatagramAlone() throws {
        let host = try LowerHost()
        host.introduce(peer)
        host.receive(peer.fragment(pattern(25), at: 0, more: true))
        #expect(host.drops(.fragmentMisaligned) == 1 && host.output().isEmpty)
        host.end()
    }

    @Test func aFragmentThatEndsBehindTheLastPossibleByteIsDropped() throws {
        let host = try LowerHost()
        host.receive(peer.fragment(pattern(8), at: 65_512, more: false))
        #expect(host.drops(.fragmentTooLong) == 1)
        host.receive(peer.fragment(pattern(3), at: 65_512, more: false))
        #expect(host.drops(.fragmentTooLong) == 1)
        // It fits behind a header of 20 bytes, and the first one has more.
        let first = pattern(65_512)
        for offset in stride(from: 0, to: 65_512, by: 1_464) {
            let part = Array(first[offset..<min(offset + 1_464, 65_512)])
            host.receive(peer.fragment(part, at: offset, more: true, options: offset == 0 ? [1, 1, 1, 0] : []))
        }
        #expect(host.drops(.fragmentTooLong) == 2 && host.heap.statistics.liveBlocks == 0)
        host.end()
    }

    /// RFC 1858 section 3, RFC 3128 section 3.
    @Test func aTinyFragmentDoesNotHideTheFlagsOfASegment() throws {
        let host = try LowerHost()
        host.receive(peer.fragment(pattern(8), at: 0, more: true, protocolNumber: 6))
        host.receive(peer.fragment(pattern(24), at: 8, more: false, identification: 8, protocolNumber: 6))
        host.receive(peer.fragment([], at: 8, more: true, identification: 9))
        host.receive(peer.fragment([], at: 8, more: false, identification: 9))
        #expect(host.drops(.fragmentTooShort) == 4)
        #expect(host.heap.statistics.liveBlocks == 0)
        host.receive(peer.fragment(pattern(16), at: 0, more: true, protocolNumber: 6))
        #expect(host.drops(.fragmentTooShort) == 4)
        host.end()
    }

    /// RFC 3168 section 5.3.
    @Test func aMarkOfOneFragmentIsThatOfTheDatagram() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let message = peer.withChecksum([8, 0, 0, 0, 1, 2, 0, 3] + pattern(40))
        func send(_ first: UInt8, _ second: UInt8, _ identification: UInt16) {
            host.receive(peer.fragment(Array(message[..<24]), at: 0, more: true, identification: identification, protocolNumber: 1, typeOfService: first))
            host.receive(peer.fragment(Array(message[24...]), at: 24, more: false, identification: identification, protocolNumber: 1, typeOfService: second))
        }
        send(2, 3, 1)
        send(3, 3, 2)
        send(2, 1, 3)
        #expect(host.drops(.fragmentMarks) == 0 && host.output().count == 3)
        send(0, 3, 4)
        send(3, 0, 5)
        #expect(host.drops(.fragmentMarks) == 2 && host.output().isEmpty)
        host.end()
    }

    // MARK: Time

    /// RFC 1122 section 3.3.2, RFC 792: code 1, from the beginning alone.
    @Test func theSenderOfABeginningIsToldThatTheRestWasLate() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let first = peer.fragment(Array(datagram(40)[..<24]), at: 0, more: true)
        host.receive(first)
        host.receive(peer.fragment(pattern(8), at: 24, more: false, identification: 8))
        host.advance(seconds: 29)
        #expect(host.drops(.reassemblyTimeout) == 0 && host.heap.statistics.liveBlocks == 2)
        host.introduce(peer)
        host.advance(seconds: 1)
        #expect(host.drops(.reassemblyTimeout) == 2)
        let output = host.output().filter { number($0, at: 12) == 0x0800 }
        #expect(output.count == 1)
        expectWellFormed(output[0])
        #expect(Array(output[0][34..<36]) == [11, 1] && Array(output[0][42...]) == Array(first[14...]))
        host.end()
    }

    @Test func aDatagramIsNotKeptAliveByItsFragments() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        let fragments = peer.fragments(datagram(100), size: 24)
        for fragment in fragments.dropLast() {
            host.receive(fragment)
            host.advance(seconds: 8)
        }
        host.receive(fragments[fragments.count - 1])
        #expect(host.drops(.reassemblyTimeout) == 1 && !host.stack.hasDatagram(socket))
        host.end()
    }

    // MARK: Bounds

    @Test func aDatagramOfEndlessFragmentsIsDropped() throws {
        let host = try LowerHost { $0.limits.fragmentsOfDatagram = 10 }
        for number in 0..<11 { host.receive(peer.fragment(pattern(8), at: number * 16, more: true)) }
        #expect(host.drops(.tooManyFragments) == 1 && host.heap.statistics.liveBlocks == 0)
        host.receive(peer.fragment(pattern(8), at: 8, more: true))
        #expect(host.heap.statistics.liveBlocks == 0)
        host.end()
    }

    @Test func oneSourceHoldsNoMoreDatagramsThanItMay() throws {
        let host = try LowerHost {
            $0.limits.fragmentedDatagrams = 6
            $0.limits.fragmentedDatagramsOfSource = 4
        }
        let socket = host.boundSocket(5_000)
        let other = LowerPeer(9)
        let fragments = other.fragments(other.datagram(pattern(40), from: 7_000, to: 5_000), size: 24)
        host.receive(fragments[0])
        for identification in 0..<20 { host.receive(peer.fragment(pattern(24), at: 0, more: true, identification: UInt16(identification))) }
        #expect(host.drops(.reassemblyLimit) == 16)
        host.receive(fragments[1])
        #expect(host.takeDatagram(socket)?.bytes == pattern(40))
        host.end()
    }

    @Test func theOldestDatagramMakesRoomForANewOne() throws {
        let host = try LowerHost { $0.limits.fragmentedDatagrams = 4 }
        for number in 2..<12 { host.receive(LowerPeer(UInt8(number)).fragment(pattern(24), at: 0, more: true)) }
        #expect(host.drops(.reassemblyLimit) == 6 && host.heap.statistics.liveBlocks == 4)
        host.end()
    }

    @Test func theBytesOfAllDatagramsAreBounded() throws {
        let host = try LowerHost { $0.limits.fragmentByteCount = 16_384 }
        for identification in 0..<100 { host.receive(peer.fragment(pattern(1_400), at: 0, more: true, identification: UInt16(identification))) }
        #expect(host.heap.usedByteCount <= 2 * 16_384)
        #expect(host.drops(.reassemblyLimit) >= 80)
        // One datagram alone is no exception.
        for number in 1..<40 { host.receive(peer.fragment(pattern(1_400), at: 1_400 * number, more: true, identification: 99)) }
        #expect(host.heap.usedByteCount <= 2 * 16_384)
        host.end()
    }

    @Test func withoutMemoryADatagramIsDroppedAndCounted() throws {
        let host = try LowerHost(arenaByteCount: 4 << 20)
        let socket = host.boundSocket(5_000)
        var fragments = peer.fragments(datagram(40_000), size: 1_480)
        let last = fragments.removeLast()
        for fragment in fragments { host.receive(fragment) }
        let frame = host.makeFrame(last)
        var held: [Frame] = []
        while let block = Frame.makeSegment(host.heap, byteCount: 40_100, priority: .reserve) { held.append(block) }
        host.stack.receive(frame)
        #expect(host.drops(.outOfMemory) == 1 && !host.stack.hasDatagram(socket))
        for block in held { block.releaseArray() }
        host.end()
    }
}
