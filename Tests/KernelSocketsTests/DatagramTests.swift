import Demikernel
import Glibc
import Testing

/// UDP: units with their boundaries and their senders.
@Suite("Datagrams") struct DatagramTests {
    /// A bound socket and its address.
    private func boundSocket(
        _ runtime: borrowing Runtime, _ family: AddressFamily = .ipv4
    ) throws(DemikernelError) -> (queue: QueueDescriptor, address: SocketAddress) {
        let queue = try runtime.socket(family, .datagram)
        try runtime.bind(queue, to: .loopback(family, port: 0))
        return (queue, try runtime.localAddress(queue))
    }

    /// A popped datagram, and who sent it.
    private func datagram(_ runtime: borrowing Runtime, _ token: QueueToken) throws -> (bytes: [UInt8], from: SocketAddress?) {
        let completion = try runtime.wait(token, timeout: generous)
        guard case .popped(let array, let source) = consume completion.result else {
            Issue.record("no datagram")
            return ([], nil)
        }
        return (bytes(array), source)
    }

    @Test("boundaries and senders are kept, arrays of segments too", arguments: [AddressFamily.ipv4, .ipv6])
    func boundaries(_ family: AddressFamily) throws {
        let runtime = try makeRuntime()
        let (sender, senderAddress) = try boundSocket(runtime, family)
        let (receiver, receiverAddress) = try boundSocket(runtime, family)
        for count in [1, 2, 3, 1_000, 1_472, 1_473, 9_000, 60_000] {
            var array = try runtime.array(pattern(0..<1))
            if count > 1 { try array.append(runtime.buffer(pattern(1..<count))) }
            #expect(try runtime.result(runtime.pushTo(sender, array, receiverAddress)) == .pushed(count))
            let (bytes, from) = try datagram(runtime, runtime.pop(receiver))
            #expect(bytes == pattern(0..<count))
            #expect(from == senderAddress)
        }
        // Several at once, and popped one by one.
        let pops = try [runtime.pop(receiver), runtime.pop(receiver)]
        for byte in 1...4 {
            try runtime.pushTo(sender, runtime.array([UInt8](repeating: UInt8(byte), count: byte)), receiverAddress, completion: .discarded)
        }
        for byte in 1...4 {
            let pop = byte <= 2 ? pops[byte - 1] : try runtime.pop(receiver)
            #expect(try datagram(runtime, pop).bytes == [UInt8](repeating: UInt8(byte), count: byte))
        }
    }

    @Test("an empty datagram is one, whatever its segments", arguments: 1...3)
    func emptyDatagram(segmentCount: Int) throws {
        let runtime = try makeRuntime()
        let (sender, senderAddress) = try boundSocket(runtime)
        let (receiver, receiverAddress) = try boundSocket(runtime)
        func empty(_ runtime: borrowing Runtime) throws(DemikernelError) -> ScatterGatherArray {
            var array = try runtime.array([])
            for _ in 1..<segmentCount { try array.append(runtime.buffer([])) }
            return array
        }
        #expect(try runtime.result(runtime.pushTo(sender, empty(runtime), receiverAddress)) == .pushed(0))
        try runtime.pushTo(sender, empty(runtime), receiverAddress, completion: .discarded)
        #expect(try runtime.result(runtime.connect(sender, to: receiverAddress)) == .connected)
        #expect(try runtime.result(runtime.push(sender, empty(runtime))) == .pushed(0))
        for _ in 0..<3 {
            let (bytes, from) = try datagram(runtime, runtime.pop(receiver))
            #expect(bytes.isEmpty)
            #expect(from == senderAddress)
        }
    }

    @Test("65,507 bytes go over IPv4, one more is EMSGSIZE and changes nothing")
    func largest() throws {
        let runtime = try makeRuntime()
        let (sender, _) = try boundSocket(runtime)
        let (receiver, receiverAddress) = try boundSocket(runtime)
        let before = runtime.snapshot()
        for count in [65_508, 65_536, 200_000, DatapathHeap.maximumBufferByteCount] {
            let expected = DemikernelError(EMSGSIZE, .pushTo)
            #expect(
                refusal { () throws(DemikernelError) in _ = try runtime.pushTo(sender, runtime.array(pattern(0..<count)), receiverAddress) }
                    == expected)
            #expect(
                refusal { () throws(DemikernelError) in
                    try runtime.pushTo(sender, runtime.array(pattern(0..<count)), receiverAddress, completion: .discarded)
                } == expected)
            #expect(runtime.snapshot() == before)
        }
        #expect(try runtime.result(runtime.pushTo(sender, runtime.array(pattern(0..<65_507)), receiverAddress)) == .pushed(65_507))
        #expect(try datagram(runtime, runtime.pop(receiver)).bytes == pattern(0..<65_507))
    }

    @Test("Limits.maximumUnitSize holds for datagrams")
    func maximumUnitSize() throws {
        let runtime = try makeRuntime { $0.limits.maximumUnitSize = 100 }
        let (sender, _) = try boundSocket(runtime)
        let (receiver, receiverAddress) = try boundSocket(runtime)
        let number = errorNumber { () throws(DemikernelError) in _ = try runtime.pushTo(sender, runtime.array(pattern(0..<101)), receiverAddress) }
        #expect(number == EMSGSIZE)
        #expect(try runtime.result(runtime.pushTo(sender, runtime.array(pattern(0..<100)), receiverAddress)) == .pushed(100))
        #expect(try datagram(runtime, runtime.pop(receiver)).bytes.count == 100)
    }

    @Test("what exceeds a pop's limits stays queued, with its sender, before the next datagram", arguments: [false, true])
    func popLimits(popsFirst: Bool) throws {
        let runtime = try makeRuntime()
        let (sender, senderAddress) = try boundSocket(runtime)
        let (receiver, receiverAddress) = try boundSocket(runtime)
        var pops: [QueueToken] = []
        func issue(_ runtime: borrowing Runtime) throws(DemikernelError) {
            pops = try [runtime.pop(receiver, maximumBytes: 4), runtime.pop(receiver, maximumBytes: 5), runtime.pop(receiver), runtime.pop(receiver)]
        }
        if popsFirst { try issue(runtime) }
        try runtime.pushTo(sender, runtime.array(pattern(0..<12)), receiverAddress, completion: .discarded)
        try runtime.pushTo(sender, runtime.array([99]), receiverAddress, completion: .discarded)
        if !popsFirst { try issue(runtime) }
        for (pop, expected) in zip(pops, [pattern(0..<4), pattern(4..<9), pattern(9..<12), [99]]) {
            let (bytes, from) = try datagram(runtime, pop)
            #expect(bytes == expected)
            #expect(from == senderAddress)
        }
        // A rest that nobody pops goes with the queue.
        try runtime.pushTo(sender, runtime.array(pattern(0..<12)), receiverAddress, completion: .discarded)
        #expect(try datagram(runtime, runtime.pop(receiver, maximumBytes: 1)).bytes.count == 1)
        try runtime.close(receiver)
        try runtime.close(sender)
        #expect(runtime.snapshot().liveSegments == 0)
    }

    @Test("a connected socket: push without an address; an unreachable port shows once, and the socket goes on")
    func connected() throws {
        let runtime = try makeRuntime()
        let (sender, _) = try boundSocket(runtime)
        let (vanishing, address) = try boundSocket(runtime)
        #expect(try runtime.result(runtime.connect(sender, to: address)) == .connected)
        #expect(try runtime.peerAddress(sender) == address)
        #expect(try runtime.result(runtime.push(sender, bytes: [1])) == .pushed(1))
        #expect(try datagram(runtime, runtime.pop(vanishing)).bytes == [1])
        #expect(try runtime.result(runtime.closeToken(vanishing)) == .closed)
        let pop = try runtime.pop(sender)
        #expect(try runtime.result(runtime.push(sender, bytes: [2])) == .pushed(1), "a push is no delivery receipt")
        #expect(try runtime.result(pop) == .failed(ECONNREFUSED, byteCount: 0))
        let revived = try runtime.socket(.ipv4, .datagram)
        try runtime.bind(revived, to: address)
        #expect(try runtime.result(runtime.push(sender, bytes: [3])) == .pushed(1))
        #expect(try datagram(runtime, runtime.pop(revived)).bytes == [3])
        try runtime.pushTo(revived, runtime.array([4]), runtime.localAddress(sender), completion: .discarded)
        #expect(try datagram(runtime, runtime.pop(sender)).bytes == [4])
    }

    @Test("cancelling a pop takes no datagram")
    func cancel() throws {
        let runtime = try makeRuntime()
        let (sender, _) = try boundSocket(runtime)
        let (receiver, address) = try boundSocket(runtime)
        let pops = try [runtime.pop(receiver), runtime.pop(receiver)]
        try runtime.cancel(pops[0])
        try runtime.pushTo(sender, runtime.array([1]), address, completion: .discarded)
        #expect(try runtime.result(pops[0]) == .failed(ECANCELED, byteCount: 0))
        #expect(try datagram(runtime, pops[1]).bytes == [1])
    }
}
