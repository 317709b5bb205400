import Demikernel
import Glibc
import NetworkStack
import Testing
import UserNetwork
import WireFormats

/// Pops that the program waits for while nothing else could contest them: their results go past the lists of completed operations.
@Suite("Awaited pops") struct AwaitedPopTests {
    @Test("who sent a datagram is told alike by every way of waiting, to sockets of both families", arguments: [AddressFamily.ipv4, .ipv6])
    func senders(family: AddressFamily) throws {
        let pair = try Pair(network: { configuration in
            let number = UInt64(configuration.addresses[0].address.ipv4HostOrder & 0xff)
            configuration.ipv6Addresses = [IPv6Prefix(address: IPAddress(ipv6HostOrder: 0x2001_0db8 << 32, number), length: 64)]
            configuration.ipv6.duplicateAddressDetectionTransmits = 0
        })
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let receiver = try pair.runtime.socket(family, .datagram, on: pair.b)
        try pair.runtime.bind(receiver, to: .any(family, port: 9))
        let expected = family == .ipv4 ? Host.a(port: 5) : try SocketAddress(parsing: "[::ffff:10.0.0.1]:5")
        func source(_ completion: consuming Completion) -> SocketAddress? {
            guard case .popped(let array, let source) = consume completion.result else { return nil }
            #expect(bytes(array) == pattern(0..<64))
            return source
        }
        func send() throws { try pair.runtime.pushTo(sender, pair.runtime.array(pattern(0..<64)), Host.b(port: 9), completion: .discarded) }
        // The first one asks for the hardware address.
        try send()
        #expect(try source(pair.runtime.wait(pair.runtime.pop(receiver), timeout: generous)) == expected)

        var pop = try pair.runtime.pop(receiver)
        try send()
        #expect(try source(pair.runtime.wait(pop, timeout: generous)) == expected)
        pop = try pair.runtime.pop(receiver)
        try send()
        #expect(try source(pair.runtime.waitAny([pop].span, timeout: generous)) == expected)
        pop = try pair.runtime.pop(receiver)
        try send()
        var batch = CompletionBatch(capacity: 1)
        try pair.runtime.waitNext(into: &batch, timeout: generous)
        if let completion = batch.next() { #expect(source(completion) == expected) } else { Issue.record("nothing has completed") }
    }

    @Test("pops that wait behind the awaited one get what follows, in order and within their limits")
    func others() throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        func send(_ byte: UInt8, count: Int) throws {
            try pair.runtime.pushTo(sender, pair.runtime.array([UInt8](repeating: byte, count: count)), Host.b(port: 9), completion: .discarded)
        }
        func popped(_ token: QueueToken) throws -> [UInt8] { bytes(try pair.runtime.wait(token, timeout: generous).popped() ?? pair.runtime.array([])) }
        try send(0, count: 1)
        #expect(try popped(pair.runtime.pop(receiver)) == [0])
        // The second one takes four bytes at most, which nothing may be delivered past.
        let pops = try [pair.runtime.pop(receiver), pair.runtime.pop(receiver, maximumBytes: 4), pair.runtime.pop(receiver), pair.runtime.pop(receiver)]
        try send(1, count: 6)
        #expect(try popped(pops[0]) == [1, 1, 1, 1, 1, 1])
        try send(2, count: 6)
        #expect(try popped(pops[1]) == [2, 2, 2, 2])
        #expect(try popped(pops[2]) == [2, 2])
        try send(3, count: 2)
        try send(4, count: 3)
        #expect(try popped(pops[3]) == [3, 3])
        #expect(try popped(pair.runtime.pop(receiver)) == [4, 4, 4])
    }

    @Test("each operation that completes is counted once, however its result is waited for")
    func counts() throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        let connection = try pair.connection()
        for round in 0..<20 {
            let before = pair.runtime.statistics.operationsCompleted
            try pair.runtime.pushTo(sender, pair.runtime.array(pattern(0..<64)), Host.b(port: 9), completion: .discarded)
            _ = try pair.runtime.wait(pair.runtime.pop(receiver), timeout: generous)
            _ = try pair.runtime.wait(pair.runtime.push(connection.client, pair.runtime.array(pattern(0..<64))), timeout: generous)
            let pop = try pair.runtime.pop(connection.server)
            _ = round % 2 == 0 ? try pair.runtime.wait(pop, timeout: generous) : try pair.runtime.waitAny([pop].span, timeout: generous)
            #expect(pair.runtime.statistics.operationsCompleted - before == 3)
        }
        let pop = try pair.runtime.pop(connection.server)
        try pair.runtime.close(connection.client)
        let before = pair.runtime.statistics.operationsCompleted
        #expect(try pair.runtime.wait(pop, timeout: generous).popped() == nil)
        #expect(pair.runtime.statistics.operationsCompleted - before == 1)
    }

    @Test("an awaited pop that fails says why, once")
    func failure() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let pop = try pair.runtime.pop(connection.server)
        // A close that resets: nothing is left to be read.
        try pair.runtime.setOption(.linger(seconds: 0), on: connection.client)
        try pair.runtime.close(connection.client)
        #expect(errorNumber { () throws(DemikernelError) in _ = try pair.runtime.wait(pop, timeout: generous).popped() } == ECONNRESET)
        #expect(errorNumber { () throws(DemikernelError) in _ = try pair.runtime.wait(pop) } == EINVAL)
    }

    @Test("a buffer that is allocated for a queue of datagrams is sent where it lies; any other is copied behind its headers")
    func allocationForQueue() throws {
        let recorder = FrameRecorder()
        let pair = try Pair(wrap: { recorder.wrap($0) })
        let sender = try pair.datagramSocket(pair.b, port: 5)
        let receiver = try pair.datagramSocket(pair.a, port: 9)
        #expect(try pair.runtime.result(pair.runtime.connect(sender, to: Host.a(port: 9))) == .connected)
        func send(_ buffer: consuming Buffer) throws {
            buffer.withUnsafeMutableBytes { $0.copyBytes(from: pattern(0..<128)) }
            #expect(try pair.runtime.result(pair.runtime.push(sender, buffer)) == .pushed(128))
            #expect(try bytes(pair.runtime.wait(pair.runtime.pop(receiver), timeout: generous).popped() ?? pair.runtime.array([])) == pattern(0..<128))
        }
        // Asks for the hardware address.
        try send(pair.runtime.allocate(128))
        let plain = try pair.runtime.allocate(128)
        let plainAddress = UInt(bitPattern: plain.address)
        try send(plain)
        #expect(!(plainAddress - 64..<plainAddress + 128).contains(recorder.lastSent))
        let prepared = try pair.runtime.allocate(128, for: sender)
        let preparedAddress = UInt(bitPattern: prepared.address)
        try send(prepared)
        #expect(recorder.lastSent == preparedAddress - UInt(NetworkStack.datagramHeadroom))
        // What puts nothing in front, or copies in any case, has no use for it.
        #expect(try pair.runtime.allocate(128, for: pair.runtime.queue()).headroom == 0)
        #expect(try pair.runtime.allocate(128, for: pair.runtime.socket(.ipv4, .stream, on: pair.b)).headroom == 0)
        try pair.runtime.close(sender)
        #expect(errorNumber { () throws(DemikernelError) in _ = try pair.runtime.allocate(1, for: sender) } == EBADF)
    }
}
