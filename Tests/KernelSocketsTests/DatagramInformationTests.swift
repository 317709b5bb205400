import Demikernel
import Glibc
import Testing

/// What the kernel tells of received datagrams (ip(7), ipv6(7)).
@Suite("Datagram information") struct DatagramInformationTests {
    private func pop(_ runtime: borrowing Runtime, _ queue: QueueDescriptor, maximumBytes: Int = .max) throws -> (bytes: [UInt8], DatagramInformation?) {
        let completion = try runtime.wait(runtime.pop(queue, maximumBytes: maximumBytes), timeout: generous)
        guard case .popped(let array, _) = consume completion.result else {
            Issue.record("no datagram")
            return ([], nil)
        }
        let information = array.datagramInformation
        return (bytes(array), information)
    }

    @Test("destination, interface, hop limit and differentiated services are told on request", arguments: [AddressFamily.ipv4, .ipv6])
    func told(_ family: AddressFamily) throws {
        let runtime = try makeRuntime()
        let receiver = try runtime.socket(family, .datagram)
        try runtime.bind(receiver, to: .any(family, port: 0))
        let address = SocketAddress.loopback(family, port: try runtime.localAddress(receiver).port)
        let sender = try runtime.socket(family, .datagram)
        try runtime.setOption(.hopLimit(9), on: sender)
        try runtime.setOption(.differentiatedServices(codepoint: 46), on: sender)
        func send(_ content: [UInt8]) throws { #expect(try runtime.result(runtime.pushTo(sender, runtime.array(content), address)) == .pushed(content.count)) }

        try send([1])
        #expect(try pop(runtime, receiver) == ([1], nil))
        try runtime.setOption(.datagramInformation(true), on: receiver)
        for content in [[2], pattern(0..<9_000), []] as [[UInt8]] {
            try send(content)
            let (bytes, information) = try pop(runtime, receiver)
            #expect(bytes == content)
            #expect(information?.destination == .loopback(family, port: 0) && information?.interfaceIndex == if_nametoindex("lo"))
            #expect(information?.hopLimit == 9 && information?.differentiatedServices == 46 && information?.congestionNotification == .notCapable)
        }
        // Also of the parts of one.
        try send([3, 4])
        for byte in [3, 4] as [UInt8] {
            let (bytes, information) = try pop(runtime, receiver, maximumBytes: 1)
            #expect(bytes == [byte] && information?.destination == .loopback(family, port: 0))
        }
        try runtime.setOption(.datagramInformation(false), on: receiver)
        try send([5])
        #expect(try pop(runtime, receiver) == ([5], nil))
    }

    @Test("an IPv6 socket tells an IPv4 destination as an IPv4-mapped one")
    func mapped() throws {
        let runtime = try makeRuntime()
        let receiver = try runtime.socket(.ipv6, .datagram)
        try runtime.bind(receiver, to: .any(.ipv6, port: 0))
        try runtime.setOption(.datagramInformation(true), on: receiver)
        let sender = try runtime.socket(.ipv4, .datagram)
        try runtime.setOption(.hopLimit(7), on: sender)
        let address = SocketAddress.loopback(port: try runtime.localAddress(receiver).port)
        #expect(try runtime.result(runtime.pushTo(sender, runtime.array([1]), address)) == .pushed(1))
        let (_, information) = try pop(runtime, receiver)
        #expect(information?.destination == SocketAddress(family: .ipv6, bytes: (0, 0x0100_007f_ffff_0000), port: 0))
        #expect(information?.hopLimit == 7)
    }

    @Test("a stream has none")
    func stream() throws {
        let runtime = try makeRuntime()
        let queue = try runtime.socket(.ipv4, .stream)
        #expect(errorNumber { () throws(DemikernelError) in try runtime.setOption(.datagramInformation(true), on: queue) } == EOPNOTSUPP)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.option(.datagramInformation, of: queue) } == EOPNOTSUPP)
    }
}
