import NetworkStack
import Testing
import WireFormats

/// RFC 8200 section 4.5, RFC 5722, RFC 6946, RFC 7112: fragments over IPv6.
@Suite struct IPv6ReassemblyTests {
    let peer = IPv6Peer()

    @Test func aDatagramInFragmentsIsDeliveredWhole() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        let whole = peer.datagram(pattern(4_000), to: 5_000)
        for fragment in peer.fragments(whole, size: 1_448) { host.receive(fragment) }
        #expect(host.takeDatagram(socket)?.bytes == pattern(4_000))
        for fragment in peer.fragments(whole, size: 1_232, identification: 8).reversed() { host.receive(fragment) }
        let received = try #require(host.takeDatagram(socket))
        #expect(received.bytes == pattern(4_000) && received.source == peer.endpoint(7_000))
        #expect(host.stack.statistics.datagramsReassembled == 2 && host.stack.statistics.drops.total == 0)
        host.end()
    }

    @Test func theLargestDatagramThereIsIsDelivered() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        for fragment in peer.fragments(peer.datagram(pattern(65_527), to: 5_000), size: 1_448) { host.receive(fragment) }
        #expect(host.takeDatagram(socket)?.bytes == pattern(65_527))
        host.end()
    }

    /// The per-fragment headers of the first fragment stay, and its fragment header names the protocol, whatever those of the others say.
    @Test func theHeadersOfTheFirstFragmentAreThoseOfThePacket() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        // Destination options behind the fragment header are a part of what was fragmented.
        let whole: [UInt8] = [17, 0, 1, 4, 0, 0, 0, 0] + peer.datagram(pattern(40), to: 5_000)
        let options: [UInt8] = [44, 0, 1, 4, 0, 0, 0, 0]
        host.receive(peer.fragment(Array(whole[32...]), at: 32, more: false, nextHeader: 99, reserved: 0xff))
        host.receive(peer.fragment(Array(whole[..<32]), at: 0, more: true, nextHeader: 60, reserved: 0xff, extensions: options, firstHeader: 60))
        #expect(host.takeDatagram(socket)?.bytes == pattern(40))
        host.end()
    }

    @Test func anEchoRequestInFragmentsIsAnswered() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        let message = Array(peer.icmp([128, 0, 0, 0, 1, 2, 0, 3] + pattern(900))[54...])
        for fragment in peer.fragments(message, size: 304, nextHeader: 58) { host.receive(fragment) }
        let output = host.output()
        #expect(output.count == 1)
        let reply = expectWellFormedIPv6(try #require(output.first))
        #expect(reply[0] == 129 && Array(reply[8...]) == pattern(900))
        host.end()
    }

    /// RFC 6946 section 4: it is processed by itself, whatever else has its identification.
    @Test func anAtomicFragmentIsAPacketOfItsOwn() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        let whole = peer.datagram(pattern(40), to: 5_000)
        host.receive(peer.fragment(Array(whole[..<24]), at: 0, more: true))
        host.receive(peer.fragment(peer.datagram([1, 2], to: 5_000), at: 0, more: false))
        #expect(host.takeDatagram(socket)?.bytes == [1, 2])
        host.receive(peer.fragment(Array(whole[24...]), at: 24, more: false))
        #expect(host.takeDatagram(socket)?.bytes == pattern(40))
        host.end()
    }

    /// RFC 5722 section 4: and no error is sent.
    @Test func anOverlapEndsTheWholePacketInSilence() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        host.introduce(peer)
        let fragments = peer.fragments(peer.datagram(pattern(48), to: 5_000), size: 24)
        host.receive(fragments[0])
        host.receive(peer.fragment(pattern(24), at: 16, more: true))
        #expect(host.drops(.fragmentOverlap) == 1 && host.heap.statistics.liveBlocks == 0)
        for fragment in fragments { host.receive(fragment) }
        #expect(!host.stack.hasDatagram(socket))
        host.advance(seconds: 61)
        #expect(host.output().filter { $0.count > 54 && $0[54] == 3 }.isEmpty && host.drops(.reassemblyTimeout) == 0)
        host.end()
    }

    @Test func anExactDuplicateIsIgnored() throws {
        let host = try LowerHost.ipv6()
        let socket = host.boundSocket(5_000, address: .unspecifiedIPv6)
        let fragments = peer.fragments(peer.datagram(pattern(48), to: 5_000), size: 24)
        for fragment in [fragments[2], fragments[2], fragments[0], fragments[0], fragments[1]] { host.receive(fragment) }
        #expect(host.takeDatagram(socket)?.bytes == pattern(48) && host.drops(.duplicateFragment) == 2)
        host.end()
    }

    /// RFC 8200 section 4.5: what the sender of a fragment is told.
    @Test func theSenderOfAWrongFragmentIsTold() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        let options: [UInt8] = [17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
        let cases: [(packet: [UInt8], reason: DropReason, code: UInt8, pointer: UInt8)] = [
            (peer.fragment(pattern(25), at: 0, more: true), .fragmentMisaligned, 0, 4),
            (peer.fragment(pattern(16), at: 65_528, more: false), .fragmentTooLong, 0, 42),
            // Neither the header chain nor the header at its end is whole.
            (peer.fragment(Array(options[..<8]), at: 0, more: true, nextHeader: 60), .fragmentTooShort, 3, 0),
            (peer.fragment(pattern(16), at: 0, more: true, nextHeader: 6), .fragmentTooShort, 3, 0),
        ]
        for (packet, reason, code, pointer) in cases {
            let before = host.drops(reason)
            host.receive(packet)
            #expect(host.drops(reason) == before + 1)
            let message = expectWellFormedIPv6(try #require(host.output().first))
            #expect(Array(message[0..<2] + message[4..<8]) == [4, code, 0, 0, 0, pointer])
            #expect(Array(message[8...]) == Array(packet[14...]))
        }
        #expect(host.heap.statistics.liveBlocks == 0)
        host.end()
    }

    /// RFC 4443 section 2.4: no error about an error, in whatever pieces it comes.
    @Test func aWrongFragmentOfAnErrorIsNotAnswered() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        host.receive(peer.fragment([1, 4, 0, 0, 0, 0, 0, 0, 1], at: 0, more: true, nextHeader: 58))
        #expect(host.drops(.fragmentMisaligned) == 1 && host.output().isEmpty)
        host.receive(peer.fragment([1, 4, 0, 0, 0, 0, 0, 0], at: 0, more: true, nextHeader: 58))
        host.advance(seconds: 61)
        #expect(host.drops(.reassemblyTimeout) == 1)
        #expect(host.output().filter { $0[20] == 58 && $0[54] == 3 }.isEmpty)
        host.end()
    }

    @Test func theSenderOfABeginningIsToldThatTheRestWasLate() throws {
        let host = try LowerHost.ipv6()
        host.introduce(peer)
        let first = peer.fragment(Array(peer.datagram(pattern(40), to: 5_000)[..<24]), at: 0, more: true)
        host.receive(first)
        host.receive(peer.fragment(pattern(8), at: 24, more: false, identification: 8))
        host.advance(seconds: 59)
        #expect(host.drops(.reassemblyTimeout) == 0)
        host.advance(seconds: 1)
        #expect(host.drops(.reassemblyTimeout) == 2)
        // The neighbour was not heard of for a minute: it may have to be asked for first.
        host.introduce(peer)
        host.receive(first)
        host.advance(seconds: 55)
        host.introduce(peer)
        host.advance(seconds: 6)
        let errors = host.output().filter { $0[20] == 58 && $0[54] == 3 }
        #expect(errors.count == 1)
        let message = expectWellFormedIPv6(errors[0])
        #expect(Array(message[0..<8]) == [3, 1, message[2], message[3], 0, 0, 0, 0] && Array(message[8...]) == Array(first[14...]))
        host.end()
    }

    /// RFC 6980 section 5: what guards against forged messages looks at whole ones.
    @Test func neighbourDiscoveryInFragmentsIsIgnored() throws {
        let host = try LowerHost.ipv6()
        let message = Array(peer.solicitation(for: IPv6Peer.hostAddress)[54...])
        func fragments(_ size: Int) -> [[UInt8]] {
            stride(from: 0, to: message.count, by: size).map { offset in
                var frame = peer.fragment(
                    Array(message[offset..<min(offset + size, message.count)]), at: offset, more: offset + size < message.count,
                    identification: UInt32(size), nextHeader: 58, destination: IPv6Peer.hostAddress.solicitedNode)
                frame[21] = 255
                return frame
            }
        }
        for fragment in fragments(16) + fragments(64) { host.receive(fragment) }
        #expect(host.drops(.badNeighborDiscovery) == 2 && host.output().isEmpty && host.stack.statistics.neighbors == 0)
        host.introduce(peer)
        #expect(host.stack.statistics.neighbors == 1)
        host.end()
    }

    @Test func aFragmentOfWhatWasPutTogetherIsDropped() throws {
        let host = try LowerHost.ipv6()
        let inner = [17, 0, 0, 1, 0, 0, 0, 9] + pattern(16)
        for fragment in peer.fragments(inner, size: 16, nextHeader: 44) { host.receive(fragment) }
        #expect(host.drops(.badIPv6Header) + host.drops(.fragmentTooShort) >= 1)
        #expect(host.heap.statistics.liveBlocks == 0)
        host.end()
    }

    /// Both families share one table, and their times are their own.
    @Test func datagramsOfBothFamiliesAreBoundedTogether() throws {
        let host = try LowerHost.ipv6 { $0.limits.fragmentedDatagrams = 8 }
        for identification in 0..<8 { host.receive(peer.fragment(pattern(24), at: 24, more: true, identification: UInt32(identification))) }
        host.receive(LowerPeer().fragment(pattern(24), at: 24, more: true))
        #expect(host.drops(.reassemblyLimit) == 1 && host.heap.statistics.liveBlocks == 8)
        host.advance(seconds: 31)
        #expect(host.drops(.reassemblyTimeout) == 1)
        host.advance(seconds: 30)
        #expect(host.drops(.reassemblyTimeout) == 8 && host.heap.statistics.liveBlocks == 0)
        host.end()
    }
}
