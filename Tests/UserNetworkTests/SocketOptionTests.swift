import Demikernel
import Glibc
import Testing
import UserNetwork

@Suite("Socket options") struct SocketOptionTests {
    @Test(
        "what is set is read back",
        arguments: [
            SocketOption.noDelay(false), .noDelay(true), .keepAlive(idle: 60, interval: 7), .noKeepAlive, .linger(seconds: 0), .linger(seconds: 3),
            .linger(seconds: nil), .reuseAddress(true), .reusePort(true), .reusePort(false), .userTimeout(milliseconds: 1_500),
            .userTimeout(milliseconds: 0), .congestionControl(.newReno), .congestionControl(.cubic), .congestionControl(.dctcp),
            .congestionControl(.bbr), .maximumPacingRate(bytesPerSecond: 5_000_000_000), .maximumPacingRate(bytesPerSecond: 0),
            .maximumPacingRate(bytesPerSecond: .max),
            .sendBuffer(byteCount: 20_000), .receiveBuffer(byteCount: 20_000), .hopLimit(1), .hopLimit(255), .differentiatedServices(codepoint: 46),
            .differentiatedServices(codepoint: 0),
        ])
    func roundTrip(_ option: SocketOption) throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        // From the other state, so that the read cannot be right by chance.
        switch option {
        case .noDelay(let isOn): try pair.runtime.setOption(.noDelay(!isOn), on: socket)
        case .noKeepAlive: try pair.runtime.setOption(.keepAlive(idle: 5, interval: 5), on: socket)
        case .linger: try pair.runtime.setOption(.linger(seconds: 9), on: socket)
        case .reusePort(let isOn): try pair.runtime.setOption(.reusePort(!isOn), on: socket)
        case .userTimeout: try pair.runtime.setOption(.userTimeout(milliseconds: 77), on: socket)
        case .congestionControl(let name): try pair.runtime.setOption(.congestionControl(name == .cubic ? .dctcp : .cubic), on: socket)
        case .maximumPacingRate: try pair.runtime.setOption(.maximumPacingRate(bytesPerSecond: 77_000), on: socket)
        case .hopLimit: try pair.runtime.setOption(.hopLimit(7), on: socket)
        case .differentiatedServices: try pair.runtime.setOption(.differentiatedServices(codepoint: 7), on: socket)
        default: break
        }
        try pair.runtime.setOption(option, on: socket)
        #expect(try pair.runtime.option(option.encoded.name, of: socket) == option)
    }

    @Test("defaults: noDelay and reuseAddress on, keepAlive, linger and userTimeout off; an accepted connection has its listener's")
    func defaults() throws {
        let pair = try Pair()
        let connection = try pair.connection { (runtime, queue) throws(DemikernelError) in
            try runtime.setOption(.keepAlive(idle: 33, interval: 3), on: queue)
            try runtime.setOption(.userTimeout(milliseconds: 4_000), on: queue)
        }
        let fresh = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        #expect(try pair.runtime.option(.noDelay, of: fresh) == .noDelay(true))
        #expect(try pair.runtime.option(.reuseAddress, of: fresh) == .reuseAddress(true))
        #expect(try pair.runtime.option(.keepAlive, of: fresh) == .noKeepAlive)
        #expect(try pair.runtime.option(.linger, of: fresh) == .linger(seconds: nil))
        #expect(try pair.runtime.option(.userTimeout, of: fresh) == .userTimeout(milliseconds: 0))
        #expect(try pair.runtime.option(.noDelay, of: connection.server) == .noDelay(true))
        #expect(try pair.runtime.option(.keepAlive, of: connection.server) == .keepAlive(idle: 33, interval: 3))
        #expect(try pair.runtime.option(.userTimeout, of: connection.server) == .userTimeout(milliseconds: 4_000))
    }

    @Test(
        "values out of range are EINVAL and change nothing",
        arguments: [
            SocketOption.keepAlive(idle: 0, interval: 1), .keepAlive(idle: 1, interval: 0), .keepAlive(idle: -5, interval: 1),
            .keepAlive(idle: Int.max, interval: 1), .linger(seconds: -5), .linger(seconds: Int.max), .sendBuffer(byteCount: -1),
            .receiveBuffer(byteCount: -4_096), .sendBuffer(byteCount: Int.max), .userTimeout(milliseconds: -1), .userTimeout(milliseconds: Int.max),
            .maximumPacingRate(bytesPerSecond: -1),
            .hopLimit(0), .hopLimit(256), .hopLimit(-1), .differentiatedServices(codepoint: 64), .differentiatedServices(codepoint: -1),
        ])
    func outOfRange(_ option: SocketOption) throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        let before = try pair.runtime.option(option.encoded.name, of: socket)
        #expect(refusal { () throws(DemikernelError) in try pair.runtime.setOption(option, on: socket) } == DemikernelError(EINVAL, .option))
        #expect(try pair.runtime.option(option.encoded.name, of: socket) == before)
    }

    @Test("what this library OS has no choice in is EOPNOTSUPP, and says why")
    func unsupported() throws {
        let pair = try Pair()
        let stream = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        let datagram = try pair.runtime.socket(.ipv4, .datagram, on: pair.a)
        let cases: [(QueueDescriptor, SocketOption)] = [
            (stream, .reuseAddress(false)), (datagram, .reuseAddress(true)), (datagram, .sendBuffer(byteCount: 9_000)),
            (datagram, .receiveBuffer(byteCount: 9_000)), (datagram, .userTimeout(milliseconds: 1)), (stream, .broadcast(true)),
        ]
        for (queue, option) in cases {
            let error = refusal { () throws(DemikernelError) in try pair.runtime.setOption(option, on: queue) }
            #expect(error == DemikernelError(EOPNOTSUPP, .option), "\(option)")
            #expect(error?.message.utf8CodeUnitCount ?? 0 > 0)
        }
    }

    @Test("noDelay off gathers small pushes while something is unacknowledged; switched on it sends them")
    func noDelay() throws {
        let pair = try Pair()
        let connection = try pair.connection { (runtime, queue) throws(DemikernelError) in try runtime.setOption(.noDelay(false), on: queue) }
        pair.settle()
        let library = pair.libraryA
        func sent() -> UInt64 { UserNetwork.statistics(of: library).device.transmittedFrames }
        let before = sent()
        for byte in 0..<3 { try pair.runtime.push(connection.client, pair.runtime.buffer([UInt8(byte)]), completion: .discarded) }
        #expect(sent() == before + 1, "the second and the third wait")
        try pair.runtime.setOption(.noDelay(true), on: connection.client)
        #expect(sent() == before + 2)
        #expect(try pair.runtime.receive(connection.server, count: 3) == [0, 1, 2])
    }

    @Test("keepAlive finds out that the peer is gone: ETIMEDOUT")
    func keepAlive() throws {
        let pair = try Pair()
        let connection = try pair.connection { (runtime, queue) throws(DemikernelError) in
            try runtime.setOption(.keepAlive(idle: 10, interval: 1), on: queue)
        }
        let pop = try pair.runtime.pop(connection.client)
        pair.clock.step = 10_000_000
        pair.settle(turns: 3_000)
        #expect(try pair.runtime.isPending(pop, turns: 1), "the peer answers the probes")
        pair.silence()
        #expect(try pair.runtime.result(pop, timeout: .seconds(60)) == .failed(ETIMEDOUT, byteCount: 0))
        #expect(pair.network.tcp.keepAliveProbes > 0)
    }

    @Test("how a connection is doing can be asked of its queue, and of no other")
    func connectionInformation() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        try pair.runtime.setOption(.congestionControl(.newReno), on: connection.client)
        let library = pair.libraryA
        let information = try UserNetwork.connectionInformation(of: connection.client, in: library)
        #expect(information.state == .established && information.congestionControl == .newReno && information.congestionWindow > 0)
        #expect(errorNumber { () throws(DemikernelError) in _ = try UserNetwork.connectionInformation(of: connection.server, in: library) } == EBADF)
        let datagrams = try pair.runtime.socket(.ipv4, .datagram, on: pair.a)
        #expect(errorNumber { () throws(DemikernelError) in _ = try UserNetwork.connectionInformation(of: datagrams, in: library) } == EOPNOTSUPP)
        try pair.runtime.close(connection.client)
        #expect(errorNumber { () throws(DemikernelError) in _ = try UserNetwork.connectionInformation(of: connection.client, in: library) } == EBADF)
    }
}
