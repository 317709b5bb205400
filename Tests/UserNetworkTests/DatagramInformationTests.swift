import Demikernel
import Glibc
import NetworkStack
import Testing
import UserNetwork

/// What a socket is told of the way that a datagram has come.
@Suite("Datagram information") struct DatagramInformationTests {
    private func popped(_ runtime: borrowing Runtime, _ token: QueueToken) throws -> (bytes: [UInt8], DatagramInformation?) {
        let completion = try runtime.wait(token, timeout: generous)
        guard case .popped(let array, _) = consume completion.result else {
            Issue.record("no datagram")
            return ([], nil)
        }
        let information = array.datagramInformation
        return (bytes(array), information)
    }

    @Test("destination, hop limit and differentiated services are told on request, to a pop that waits and to one that finds a datagram")
    func told() throws {
        let pair = try Pair()
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let receiver = try pair.runtime.socket(.ipv4, .datagram, on: pair.b)
        try pair.runtime.bind(receiver, to: .any(port: 9))
        try pair.runtime.setOption(.hopLimit(9), on: sender)
        try pair.runtime.setOption(.differentiatedServices(codepoint: 46), on: sender)
        func send(_ content: [UInt8]) throws {
            #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array(content), Host.b(port: 9))) == .pushed(content.count))
        }
        try send([0])
        #expect(try popped(pair.runtime, pair.runtime.pop(receiver)) == ([0], nil))
        // A pop that waits already is served the longer way from now on.
        var pop = try pair.runtime.pop(receiver)
        try pair.runtime.setOption(.datagramInformation(true), on: receiver)
        #expect(try pair.runtime.option(.datagramInformation, of: receiver) == .datagramInformation(true))
        for content in [[1], pattern(0..<1_472), pattern(0..<9_000), []] as [[UInt8]] {
            try send(content)
            let (bytes, information) = try popped(pair.runtime, pop)
            #expect(bytes == content)
            #expect(information?.destination == Host.b(port: 0) && information?.interfaceIndex == 0)
            #expect(information?.hopLimit == 9 && information?.differentiatedServices == 46 && information?.congestionNotification == .notCapable)
            pop = try pair.runtime.pop(receiver)
        }
        try pair.runtime.cancel(pop)
        _ = try pair.runtime.wait(pop)
        try send([2])
        try send([3, 4])
        #expect(try popped(pair.runtime, pair.runtime.pop(receiver)).1?.hopLimit == 9)
        // Also of the parts of one.
        for byte in [3, 4] as [UInt8] {
            let (bytes, information) = try popped(pair.runtime, pair.runtime.pop(receiver, maximumBytes: 1))
            #expect(bytes == [byte] && information?.destination == Host.b(port: 0))
        }
        try pair.runtime.setOption(.datagramInformation(false), on: receiver)
        for byte in [5, 6] as [UInt8] {
            try send([byte])
            #expect(try popped(pair.runtime, pair.runtime.pop(receiver)) == ([byte], nil))
        }
        try pair.runtime.close(sender)
        try pair.runtime.close(receiver)
        pair.expectNothingLeft()
    }

    @Test("every member of a group is told the group, though they share the bytes, and what one does with its own harms no other")
    func groups() throws {
        let pair = try Pair()
        let group = SocketAddress.ipv4(239, 1, 2, 3, port: 9)
        let sender = try pair.datagramSocket(pair.a, port: 5)
        let members = try (0..<3).map { _ throws(DemikernelError) in
            let member = try pair.runtime.socket(.ipv4, .datagram, on: pair.b)
            try pair.runtime.setOption(.reusePort(true), on: member)
            try pair.runtime.bind(member, to: .any(port: 9))
            try pair.runtime.setOption(.joinGroup(group), on: member)
            try pair.runtime.setOption(.datagramInformation(true), on: member)
            return member
        }
        try pair.runtime.setOption(.multicastHopLimit(3), on: sender)
        #expect(try pair.runtime.result(pair.runtime.pushTo(sender, pair.runtime.array([1, 2]), group)) == .pushed(2))
        for member in members {
            let completion = try pair.runtime.wait(pair.runtime.pop(member), timeout: generous)
            guard case .popped(let array, from: let source?) = consume completion.result else {
                Issue.record("no datagram")
                return
            }
            let information = array.datagramInformation
            #expect(information?.destination == .ipv4(239, 1, 2, 3, port: 0) && information?.hopLimit == 3 && source == Host.a(port: 5))
            // An answer is written in front of the same bytes, where nobody else holds them.
            try pair.runtime.pushTo(member, array, source, completion: .discarded)
        }
        for _ in members { #expect(try popped(pair.runtime, pair.runtime.pop(sender)) == ([1, 2], nil)) }
    }

    @Test("a stream has none")
    func stream() throws {
        let pair = try Pair()
        let queue = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        #expect(errorNumber { () throws(DemikernelError) in try pair.runtime.setOption(.datagramInformation(true), on: queue) } == EOPNOTSUPP)
    }
}
