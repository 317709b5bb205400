import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// TCP over IPv6 between two stacks.
@Suite("TCP: IPv6") struct IPv6TransferTests {
    static let addresses = [IPAddress("2001:db8::1")!, IPAddress("2001:db8::2")!]

    private func pair(_ configure: (inout NetworkConfiguration) -> Void = { _ in }) throws -> StackPair {
        try StackPair { index, configuration in
            configuration.ipv6Addresses = [IPv6Prefix(address: IPv6TransferTests.addresses[index], length: 64)]
            configuration.ipv6.duplicateAddressDetectionTransmits = 0
            configure(&configuration)
        }
    }

    private func listener(_ pair: StackPair, address: IPAddress = .unspecifiedIPv6, isIPv6Only: Bool = false) -> UInt32 {
        let socket = pair.stacks[1].makeConnection(owner: 1)
        #expect(pair.stacks[1].bind(socket, to: Endpoint(address: address, port: 80), isIPv6Only: isIPv6Only) == 0)
        #expect(pair.stacks[1].listen(socket, backlog: 16) == 0)
        return socket
    }

    private func connect(_ pair: StackPair, _ listener: UInt32, to address: IPAddress = addresses[1]) throws -> (client: UInt32, server: UInt32) {
        let client = pair.stacks[0].makeConnection(owner: 2)
        #expect(pair.stacks[0].connect(client, to: Endpoint(address: address, port: 80)) == 0)
        pair.exchange()
        let server = pair.stacks[1].accept(listener, owner: 3)
        try #require(server != 0, "the handshake failed")
        return (client, server)
    }

    @Test("a handshake, bytes each way, an orderly end; every segment is right", arguments: [true, false])
    func exchange(hasTimestamps: Bool) throws {
        let pair = try pair { $0.tcp.offersTimestamps = hasTimestamps }
        var sizes: [Int] = []
        pair.passes = { _, bytes in
            let frame = Array(bytes)
            #expect(number(frame, at: 12) == 0x86dd)
            let payload = Array(frame[54...])
            #expect(Int(number(frame, at: 18)) == payload.count)
            if frame[20] == 6 { #expect(internetChecksum(Array(frame[22..<54]) + bigEndian32(UInt32(payload.count)) + [0, 0, 0, 6] + payload) == 0) }
            // RFC 9293 section 3.7.1: 1500 - 40 - 20.
            if frame[20] == 6 && frame[67] & 2 != 0 { #expect(Array(frame[74..<78]) == [2, 4] + bigEndian(1_440)) }
            sizes.append(frame.count)
            return true
        }
        let listener = listener(pair)
        let (client, server) = try connect(pair, listener)
        #expect(pair.stacks[1].connectionRemote(server).address == IPv6TransferTests.addresses[0])
        let sent = pattern(200_000)
        pair.send(0, client, sent)
        var received = [UInt8]()
        for _ in 0..<2_000 where received.count < sent.count {
            pair.advance(1_000_000)
            received += pair.receive(1, server)
        }
        #expect(received == sent && sizes.max() == 1_514)
        pair.send(1, server, [4, 5])
        pair.exchange()
        #expect(pair.receive(0, client) == [4, 5])
        pair.stacks[0].close(client)
        pair.exchange()
        pair.stacks[1].close(server)
        pair.exchange()
        #expect(pair.stacks[0].connectionState(client) == .timeWait && pair.stacks[1].connectionState(server) == .closed)
        #expect(pair.stacks[0].statistics.tcp.retransmittedSegments == 0)
    }

    @Test("small segments go the short ways of both ends; one whose address, port or byte is spoilt does not arrive", arguments: [30, 55, 70, 90])
    func shortWays(spoiltOffset: Int) throws {
        let pair = try pair { $0.tcp.isNoDelay = true }
        let listener = listener(pair)
        let (client, server) = try connect(pair, listener)
        let before = pair.stacks.map(\.statistics)
        var expected = [UInt8]()
        for size in [1, 64, 64, 100, 1_000, 7] {
            pair.send(0, client, pattern(size, from: expected.count))
            expected += pattern(size, from: expected.count)
            pair.exchange()
        }
        #expect(pair.receive(1, server) == expected)
        let after = pair.stacks.map(\.statistics)
        #expect(after[0].tcp.plainSegmentsSent - before[0].tcp.plainSegmentsSent == 6)
        #expect(after[1].tcp.plainSegmentsSent - before[1].tcp.plainSegmentsSent == 3)
        #expect(after[1].tcp.headerPredictions - before[1].tcp.headerPredictions == 6)
        #expect(after[1].framesReceived - before[1].framesReceived == 6 && after[1].tcp.segmentsReceived - before[1].tcp.segmentsReceived == 6)

        var isSpoilt = false
        pair.passes = { target, bytes in
            if target == 1 && !isSpoilt && bytes.count > 90 {
                isSpoilt = true
                UnsafeMutableRawPointer(mutating: bytes.baseAddress!).storeBytes(of: bytes[spoiltOffset] ^ 1, toByteOffset: spoiltOffset, as: UInt8.self)
            }
            return true
        }
        pair.send(0, client, pattern(64))
        pair.exchange()
        #expect(isSpoilt && pair.receive(1, server).isEmpty)
        pair.advance(2_000_000_000)
        #expect(pair.receive(1, server) == pattern(64))
    }

    @Test("the addresses of one /64 have their share of half-open connections together, and those of another their own")
    func halfOpenPerPrefix() throws {
        let sources = ["2001:db8::1", "2001:db8::ffff:3", "2001:db8:0:1::1"].map { IPAddress($0)! }
        let pair = try StackPair { index, configuration in
            configuration.limits.maximumHalfOpenPerSource = 1
            configuration.ipv6Addresses = index == 0
                ? sources.map { IPv6Prefix(address: $0, length: 64) }
                : ["2001:db8::2", "2001:db8:0:1::2"].map { IPv6Prefix(address: IPAddress($0)!, length: 64) }
            configuration.ipv6.duplicateAddressDetectionTransmits = 0
        }
        _ = listener(pair)
        // The answers to SYNs are lost, so that all stay half open.
        pair.passes = { target, bytes in target == 1 || bytes[20] != 6 }
        var cookies: [UInt64] = []
        for (source, target) in zip(sources, ["2001:db8::2", "2001:db8::2", "2001:db8:0:1::2"]) {
            let client = pair.stacks[0].makeConnection(owner: 2)
            #expect(pair.stacks[0].bind(client, to: Endpoint(address: source, port: 0)) == 0)
            #expect(pair.stacks[0].connect(client, to: Endpoint(address: IPAddress(target)!, port: 80)) == 0)
            pair.exchange()
            cookies.append(pair.stacks[1].statistics.tcp.cookiesSent)
        }
        #expect(cookies == [0, 1, 1])
    }

    @Test("every byte arrives over a wire that loses segments")
    func loss() throws {
        let pair = try pair()
        let listener = listener(pair)
        let (client, server) = try connect(pair, listener)
        var random: UInt64 = 5
        pair.passes = { _, _ in
            random = random &* 6_364_136_223_846_793_005 &+ 1
            return random >> 33 % 20 != 0
        }
        let sent = pattern(300_000)
        pair.send(0, client, sent)
        var received = [UInt8]()
        for _ in 0..<60_000 where received.count < sent.count {
            pair.advance(1_000_000)
            received += pair.receive(1, server)
        }
        #expect(received == sent)
        #expect(pair.stacks[0].statistics.tcp.retransmittedSegments > 0)
    }

    @Test("a listener on :: takes both families, one for IPv6 only and one of an address just theirs")
    func dualStack() throws {
        let pair = try pair()
        let both = listener(pair)
        let four = try connect(pair, both, to: StackPair.addresses[1])
        #expect(pair.stacks[1].connectionRemote(four.server).address == StackPair.addresses[0])
        let six = try connect(pair, both)
        #expect(pair.stacks[1].connectionRemote(six.server).address == IPv6TransferTests.addresses[0])
        let other = pair.stacks[1].makeConnection(owner: 5)
        #expect(pair.stacks[1].bind(other, to: Endpoint(address: .unspecifiedIPv4, port: 80)) == EADDRINUSE)

        let only = try self.pair()
        let six6 = listener(only, isIPv6Only: true)
        let four4 = listener(only, address: .unspecifiedIPv4)
        _ = try connect(only, six6)
        _ = try connect(only, four4, to: StackPair.addresses[1])
        #expect(!only.stacks[1].hasAcceptable(six6))
        let bound = only.stacks[0].makeConnection(owner: 4)
        #expect(only.stacks[0].bind(bound, to: Endpoint(address: StackPair.addresses[0], port: 0)) == 0)
        #expect(only.stacks[0].connect(bound, to: Endpoint(address: IPv6TransferTests.addresses[1], port: 80)) == EAFNOSUPPORT)
    }

    @Test("a port that nobody listens on refuses")
    func refusal() throws {
        let pair = try pair()
        let client = pair.stacks[0].makeConnection(owner: 2)
        #expect(pair.stacks[0].connect(client, to: Endpoint(address: IPv6TransferTests.addresses[1], port: 81)) == 0)
        pair.exchange()
        #expect(pair.stacks[0].connectionError(client) == ECONNREFUSED)
    }

    @Test("a peer that does not tell its segment size gets 1220 bytes")
    func defaultSegmentSize() throws {
        let host = try LowerHost.ipv6()
        let peer = IPv6Peer()
        host.introduce(peer)
        let listener = host.stack.makeConnection(owner: 1)
        #expect(host.stack.bind(listener, to: Endpoint(address: .unspecifiedIPv6, port: 80)) == 0 && host.stack.listen(listener, backlog: 4) == 0)
        func segment(_ sequence: UInt32, _ acknowledgement: UInt32, _ flags: UInt8) -> [UInt8] {
            let header = bigEndian(5_000) + bigEndian(80) + bigEndian32(sequence) + bigEndian32(acknowledgement) + [0x50, flags, 0xff, 0xff, 0, 0, 0, 0]
            return peer.packet(6, peer.completed(header, 6, at: 16, source: peer.address, destination: IPv6Peer.hostAddress))
        }
        host.receive(segment(100, 0, 2))
        let answer = expectWellFormedIPv6(try #require(host.output().first))
        #expect(answer[13] == 0x12)
        let sequence = UInt32(number(answer, at: 4)) << 16 | UInt32(number(answer, at: 6))
        host.receive(segment(101, sequence &+ 1, 0x10))
        let server = host.stack.accept(listener, owner: 2)
        try #require(server != 0)
        #expect(host.stack.send(server, host.makeFrame([UInt8](repeating: 1, count: 2_000))) == 0)
        #expect(expectWellFormedIPv6(try #require(host.output().first)).count == 20 + 1_220)
        host.end()
    }
}
