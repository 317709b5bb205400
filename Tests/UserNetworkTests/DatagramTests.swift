import Demikernel
import Glibc
import NetworkStack
import Testing
import UserNetwork

/// UDP: units with their boundaries and their senders.
@Suite("Datagrams") struct DatagramTests {
    /// A popped datagram, and who sent it.
    private func datagram(_ runtime: borrowing Runtime, _ token: QueueToken) throws -> (bytes: [UInt8], from: SocketAddress?) {
        let completion = try runtime.wait(token, timeout: generous)
        guard case .popped(let array, let source) = consume completion.result else {
            Issue.record("no datagram")
            return ([], nil)
        }
        return (bytes(array), source)
    }

    @Test("boundaries and senders are kept, arrays of segments too")
    func boundaries() throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        for count in [1, 2, 3, 1_000, 1_023, 1_024, 1_025, 1_471, 1_472] {
            var array = try pair.runtime.array(pattern(0..<1))
            if count > 1 { try array.append(pair.runtime.buffer(pattern(1..<count))) }
            #expect(try pair.runtime.result(pair.runtime.pushTo(sender, array, Host.b(port: 9)), timeout: .zero) == .pushed(count))
            let (bytes, from) = try datagram(pair.runtime, pair.runtime.pop(receiver))
            #expect(bytes == pattern(0..<count))
            #expect(from == Host.a(port: 5))
        }
        // Several at once, and popped one by one.
        let pops = try [pair.runtime.pop(receiver), pair.runtime.pop(receiver)]
        for byte in 1...4 {
            try pair.runtime.pushTo(sender, pair.runtime.array([UInt8](repeating: UInt8(byte), count: byte)), Host.b(port: 9), completion: .discarded)
        }
        for byte in 1...4 {
            let pop = byte <= 2 ? pops[byte - 1] : try pair.runtime.pop(receiver)
            #expect(try datagram(pair.runtime, pop).bytes == [UInt8](repeating: UInt8(byte), count: byte))
        }
        try pair.runtime.close(sender)
        try pair.runtime.close(receiver)
        pair.expectNothingLeft()
    }

    @Test("an empty datagram is one, whatever its segments", arguments: 1...3)
    func emptyDatagram(segmentCount: Int) throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        func empty(_ runtime: borrowing Runtime) throws(DemikernelError) -> ScatterGatherArray {
            var array = try runtime.array([])
            for _ in 1..<segmentCount { try array.append(runtime.buffer([])) }
            return array
        }
        #expect(try pair.runtime.result(pair.runtime.pushTo(sender, empty(pair.runtime), Host.b(port: 9))) == .pushed(0))
        try pair.runtime.pushTo(sender, empty(pair.runtime), Host.b(port: 9), completion: .discarded)
        #expect(try pair.runtime.result(pair.runtime.connect(sender, to: Host.b(port: 9))) == .connected)
        #expect(try pair.runtime.result(pair.runtime.push(sender, empty(pair.runtime))) == .pushed(0))
        for _ in 0..<3 {
            let (bytes, from) = try datagram(pair.runtime, pair.runtime.pop(receiver))
            #expect(bytes.isEmpty)
            #expect(from == Host.a(port: 5))
        }
        try pair.runtime.close(sender)
        try pair.runtime.close(receiver)
        pair.expectNothingLeft()
    }

    @Test("65,507 bytes go over an MTU of 1,500, one more is EMSGSIZE and changes nothing")
    func largest() throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a)
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        let before = pair.runtime.snapshot()
        for count in [65_508, DatapathHeap.maximumBufferByteCount] {
            let error = refusal { () throws(DemikernelError) in
                _ = try pair.runtime.pushTo(sender, pair.runtime.array(pattern(0..<count)), Host.b(port: 9))
            }
            #expect(error == DemikernelError(EMSGSIZE, .pushTo))
            #expect(error?.message.utf8CodeUnitCount ?? 0 > 0)
            let discarded = refusal { () throws(DemikernelError) in
                try pair.runtime.pushTo(sender, pair.runtime.array(pattern(0..<count)), Host.b(port: 9), completion: .discarded)
            }
            #expect(discarded == DemikernelError(EMSGSIZE, .pushTo))
            #expect(pair.runtime.snapshot() == before)
        }
        for count in [1_472, 1_473, 9_000, 65_507] {
            #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array(pattern(0..<count)), Host.b(port: 9))) == .pushed(count))
            #expect(try datagram(pair.runtime, pair.runtime.pop(receiver)).bytes == pattern(0..<count))
        }
    }

    @Test("Limits.maximumUnitSize holds for datagrams")
    func maximumUnitSize() throws {
        let pair = try Pair(runtime: { $0.limits.maximumUnitSize = 100 })
        let sender = try pair.datagramSocket(pair.a)
        let number = errorNumber { () throws(DemikernelError) in
            _ = try pair.runtime.pushTo(sender, pair.runtime.array(pattern(0..<101)), Host.b(port: 9))
        }
        #expect(number == EMSGSIZE)
        #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array(pattern(0..<100)), Host.b(port: 9))) == .pushed(100))
    }

    @Test("what exceeds a pop's limits stays queued, with its sender, before the next datagram", arguments: [false, true])
    func popLimits(popsFirst: Bool) throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        var pops: [QueueToken] = []
        func issue(_ runtime: borrowing Runtime) throws(DemikernelError) {
            pops = try [runtime.pop(receiver, maximumBytes: 4), runtime.pop(receiver, maximumBytes: 5), runtime.pop(receiver), runtime.pop(receiver)]
        }
        if popsFirst { try issue(pair.runtime) }
        try pair.runtime.pushTo(sender, pair.runtime.array(pattern(0..<12)), Host.b(port: 9), completion: .discarded)
        try pair.runtime.pushTo(sender, pair.runtime.array([99]), Host.b(port: 9), completion: .discarded)
        if !popsFirst {
            pair.settle()
            try issue(pair.runtime)
        }
        for (pop, expected) in zip(pops, [pattern(0..<4), pattern(4..<9), pattern(9..<12), [99]]) {
            let (bytes, from) = try datagram(pair.runtime, pop)
            #expect(bytes == expected)
            #expect(from == Host.a(port: 5))
        }
        // A rest that nobody pops goes with the queue.
        try pair.runtime.pushTo(sender, pair.runtime.array(pattern(0..<12)), Host.b(port: 9), completion: .discarded)
        #expect(try datagram(pair.runtime, pair.runtime.pop(receiver, maximumBytes: 1)).bytes.count == 1)
        try pair.runtime.close(receiver)
        try pair.runtime.close(sender)
        pair.expectNothingLeft()
    }

    @Test("a connected socket: push without an address; an unreachable port shows once, and the socket goes on")
    func connected() throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let vanishing = try pair.datagramSocket(pair.b, port: 9)
        #expect(try pair.runtime.result(pair.runtime.connect(sender, to: Host.b(port: 9))) == .connected)
        #expect(try pair.runtime.peerAddress(sender) == Host.b(port: 9))
        #expect(try pair.runtime.localAddress(sender) == Host.a(port: 5))
        #expect(try pair.runtime.result(pair.runtime.push(sender, bytes: [1])) == .pushed(1))
        #expect(try datagram(pair.runtime, pair.runtime.pop(vanishing)).bytes == [1])
        #expect(try pair.runtime.result(pair.runtime.closeToken(vanishing)) == .closed)
        let pop = try pair.runtime.pop(sender)
        #expect(try pair.runtime.result(pair.runtime.push(sender, bytes: [2])) == .pushed(1), "a push is no delivery receipt")
        #expect(try pair.runtime.result(pop) == .failed(ECONNREFUSED, byteCount: 0))
        let revived = try pair.datagramSocket(pair.b, port: 9)
        #expect(try pair.runtime.result(pair.runtime.push(sender, bytes: [3])) == .pushed(1))
        #expect(try datagram(pair.runtime, pair.runtime.pop(revived)).bytes == [3])
        try pair.runtime.pushTo(revived, pair.runtime.array([4]), Host.a(port: 5), completion: .discarded)
        #expect(try datagram(pair.runtime, pair.runtime.pop(sender)).bytes == [4])
    }

    @Test("a socket that is not bound gets a port with its first datagram")
    func implicitBind() throws {
        let pair = try Pair()
        let sender = try pair.runtime.socket(.ipv4, .datagram, on: pair.a)
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        #expect(try pair.runtime.localAddress(sender).port == 0)
        #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array([1]), Host.b(port: 9))) == .pushed(1))
        let port = try pair.runtime.localAddress(sender).port
        #expect(port != 0)
        #expect(try datagram(pair.runtime, pair.runtime.pop(receiver)).from == Host.a(port: port))
    }

    @Test("a datagram that cannot leave fails its push, and not the call: no route, no such neighbour")
    func unreachable() throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a)
        let nowhere = SocketAddress.ipv4(192, 0, 2, 1, port: 9)
        #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array([1]), nowhere)) == .failed(ENETUNREACH, byteCount: 0))
        // The first one is taken, to wait for the neighbour's address; when nobody has answered the next one is told.
        #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array([1]), Host.nobody(port: 9))) == .pushed(1))
        pair.clock.step = 100_000
        pair.settle(turns: 32_000)
        #expect(
            try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array([1]), Host.nobody(port: 9))) == .failed(EHOSTUNREACH, byteCount: 0))
        try pair.runtime.close(sender)
        pair.expectNothingLeft()
    }

    @Test("a broadcast needs its option, which the error names; all hosts and all sockets of the port get it, the sender's host among them")
    func broadcast() throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let receivers = try (0..<2).map { _ throws in
            let socket = try pair.runtime.socket(.ipv4, .datagram, on: pair.b)
            try pair.runtime.setOption(.reusePort(true), on: socket)
            try pair.runtime.bind(socket, to: .any(port: 9))
            return socket
        }
        let own = try pair.datagramSocket(pair.a, port: 9)
        let everybody = SocketAddress.ipv4(255, 255, 255, 255, port: 9)
        #expect(try pair.runtime.option(.broadcast, of: sender) == .broadcast(false))
        let refused = try pair.runtime.wait(pair.runtime.pushTo(sender, pair.runtime.array([1]), everybody), timeout: generous)
        guard case .failed(let error, _) = consume refused.result else {
            Issue.record("a broadcast was sent without being allowed")
            return
        }
        #expect(error.errno == EACCES && "\(error.message)".contains("SocketOption.broadcast"))
        try pair.runtime.setOption(.broadcast(true), on: sender)
        #expect(try pair.runtime.option(.broadcast, of: sender) == .broadcast(true))
        for destination in [everybody, .ipv4(10, 0, 0, 255, port: 9)] {
            #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array([1, 2]), destination)) == .pushed(2))
            for receiver in receivers + [own] {
                let (bytes, from) = try datagram(pair.runtime, pair.runtime.pop(receiver))
                #expect(bytes == [1, 2] && from == Host.a(port: 5))
            }
        }
        for queue in receivers + [own, sender] { try pair.runtime.close(queue) }
        pair.expectNothingLeft()
    }

    @Test("members of a group get what is sent to it until they leave or close, over both families; others do not", arguments: ["239.1.2.3", "ff12::5"])
    func groups(_ address: String) throws {
        let isIPv6 = address.contains(":")
        let pair = try Pair(network: { $0.ipv6.isEnabled = true })
        let group = try SocketAddress(parsing: isIPv6 ? "[\(address)]:9" : "\(address):9")
        func socket(_ library: LibraryOSIdentifier, port: UInt16) throws -> QueueDescriptor {
            let queue = try pair.runtime.socket(group.family, .datagram, on: library)
            try pair.runtime.setOption(.reusePort(true), on: queue)
            try pair.runtime.bind(queue, to: .any(group.family, port: port))
            return queue
        }
        pair.clock.step = 10_000_000
        pair.settle(turns: 400)
        pair.clock.step = 1_000
        let (sender, member, other) = try (socket(pair.a, port: 5), socket(pair.b, port: 9), socket(pair.b, port: 9))
        try pair.runtime.setOption(.joinGroup(group), on: member)
        let twice = refusal { () throws(DemikernelError) in try pair.runtime.setOption(.joinGroup(group), on: member) }
        #expect(twice == DemikernelError(EADDRINUSE, .option))
        let pop = try pair.runtime.pop(other)
        #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array([1, 2]), group)) == .pushed(2))
        let (bytes, from) = try datagram(pair.runtime, pair.runtime.pop(member))
        #expect(bytes == [1, 2] && from?.port == 5 && from?.family == group.family)
        #expect(try pair.runtime.isPending(pop))
        try pair.runtime.setOption(.leaveGroup(group), on: member)
        let left = refusal { () throws(DemikernelError) in try pair.runtime.setOption(.leaveGroup(group), on: member) }
        #expect(left == DemikernelError(EADDRNOTAVAIL, .option) && left?.message.utf8CodeUnitCount ?? 0 > 0)
        try pair.runtime.pushTo(sender, pair.runtime.array([3]), group, completion: .discarded)
        #expect(try pair.runtime.isPending(pair.runtime.pop(member)))
        #expect(UserNetwork.statistics(of: pair.libraryB).network.drops[.groupNotJoined] >= 1)
    }

    @Test("options of groups are read back; what is no group, or of another family, is refused; streams have none")
    func groupOptions() throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, .datagram, on: pair.a)
        let stream = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        #expect(try pair.runtime.option(.multicastHopLimit, of: socket) == .multicastHopLimit(1))
        #expect(try pair.runtime.option(.multicastLoop, of: socket) == .multicastLoop(true))
        for option in [SocketOption.multicastHopLimit(255), .multicastHopLimit(0), .multicastLoop(false), .multicastLoop(true)] {
            try pair.runtime.setOption(option, on: socket)
            #expect(try pair.runtime.option(option.encoded.name, of: socket) == option)
        }
        let refused: [(QueueDescriptor, SocketOption, Int32)] = [
            (socket, .multicastHopLimit(256), EINVAL), (socket, .multicastHopLimit(-1), EINVAL), (socket, .joinGroup(Host.a(port: 0)), EINVAL),
            (socket, .joinGroup(SocketAddress(family: .ipv6, bytes: (0x2ff, 1 << 56), port: 0)), EAFNOSUPPORT),
            (stream, .multicastHopLimit(1), EOPNOTSUPP), (stream, .joinGroup(.ipv4(239, 1, 2, 3, port: 0)), EOPNOTSUPP),
        ]
        for (queue, option, number) in refused {
            #expect(errorNumber { () throws(DemikernelError) in try pair.runtime.setOption(option, on: queue) } == number, "\(option)")
        }
    }

    @Test("a full heap holds datagrams back, and they leave when it has room")
    func fullHeap() throws {
        let pair = try Pair(runtime: { $0.memory.arenaByteCount = 4 << 20 })
        let sender = try pair.datagramSocket(pair.a)
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array([1]), Host.b(port: 9))) == .pushed(1))
        #expect(try datagram(pair.runtime, pair.runtime.pop(receiver)).bytes == [1])
        let array = try pair.runtime.array([2])
        let hog = try Hog(pair.runtime)
        let push = try pair.runtime.pushTo(sender, array, Host.b(port: 9))
        #expect(try pair.runtime.isPending(push))
        hog.release()
        #expect(try pair.runtime.result(push) == .pushed(1))
        #expect(try datagram(pair.runtime, pair.runtime.pop(receiver)).bytes == [2])
        try pair.runtime.close(sender)
        try pair.runtime.close(receiver)
        pair.expectNothingLeft()
    }

    @Test("of several sockets that wait for room one may close, and its slot be used again, and the others still get theirs", arguments: 0..<3)
    func closeWhileWaiting(closing: Int) throws {
        let pair = try Pair(runtime: {
            $0.memory.arenaByteCount = 4 << 20
            $0.limits.maximumQueues = 4
        })
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        var senders: [QueueDescriptor] = []
        for _ in 0..<3 { senders.append(try pair.datagramSocket(pair.a)) }
        #expect(try pair.runtime.result(pair.runtime.pushTo(senders[0], pair.runtime.array([1]), Host.b(port: 9))) == .pushed(1))
        #expect(try datagram(pair.runtime, pair.runtime.pop(receiver)).bytes == [1])
        let arrays = try (0..<3).map { _ in try pair.runtime.array([2]).takeOver() }
        let hog = try Hog(pair.runtime)
        var pushes: [QueueToken] = []
        for (sender, array) in zip(senders, arrays) {
            pushes.append(try pair.runtime.pushTo(sender, ScatterGatherArray(unsafelyTakingOver: array), Host.b(port: 9)))
        }
        #expect(try pair.runtime.isPending(pushes[2]))
        let cancelled = pushes.remove(at: closing)
        let closed = senders.remove(at: closing)
        try pair.runtime.cancel(cancelled)
        #expect(try pair.runtime.result(cancelled) == .failed(ECANCELED, byteCount: 0))
        try pair.runtime.close(closed)
        let next = try pair.runtime.socket(.ipv4, .datagram, on: pair.a)
        #expect(next.slot == closed.slot)
        hog.release()
        for push in pushes { #expect(try pair.runtime.result(push) == .pushed(1)) }
        for _ in 0..<2 { #expect(try datagram(pair.runtime, pair.runtime.pop(receiver)).bytes == [2]) }
        for queue in [receiver, senders[0], senders[1], next] { try pair.runtime.close(queue) }
        pair.expectNothingLeft()
    }

    @Test("cancelling a pop takes no datagram")
    func cancel() throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a)
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        let pops = try [pair.runtime.pop(receiver), pair.runtime.pop(receiver)]
        try pair.runtime.cancel(pops[0])
        try pair.runtime.pushTo(sender, pair.runtime.array([1]), Host.b(port: 9), completion: .discarded)
        #expect(try pair.runtime.result(pops[0]) == .failed(ECANCELED, byteCount: 0))
        #expect(try datagram(pair.runtime, pops[1]).bytes == [1])
    }
}

/// All of a heap that an application can have.
final class Hog {
    private var arrays: [UnsafeMutablePointer<SegmentDescriptor>] = []

    init(_ runtime: borrowing Runtime) throws {
        for byteCount in [65_536, 4_096, 256, 64, 1] {
            while let buffer = try? runtime.allocate(byteCount) { arrays.append(try ScatterGatherArray(buffer).takeOver()) }
        }
    }

    func release() {
        for array in arrays { array.releaseArray() }
        arrays = []
    }
}
