import Demikernel
import Glibc
import Testing

@Suite("Socket options") struct SocketOptionTests {
    @Test(
        "what is set is read back",
        arguments: [
            SocketOption.noDelay(false), .noDelay(true), .keepAlive(idle: 60, interval: 7), .noKeepAlive, .linger(seconds: 0), .linger(seconds: 3),
            .linger(seconds: nil), .reuseAddress(false), .reuseAddress(true), .reusePort(true), .reusePort(false),
            .userTimeout(milliseconds: 1_500), .userTimeout(milliseconds: 0), .congestionControl(.newReno), .congestionControl(.cubic),
            .hopLimit(1), .hopLimit(255), .differentiatedServices(codepoint: 46), .differentiatedServices(codepoint: 0),
            .maximumPacingRate(bytesPerSecond: 5_000_000_000), .maximumPacingRate(bytesPerSecond: 0),
        ])
    func roundTrip(_ option: SocketOption) throws {
        let runtime = try makeRuntime()
        let socket = try runtime.socket(.ipv4, .stream)
        // From the other state, so that the read cannot be right by chance.
        switch option {
        case .noDelay(let isOn): try runtime.setOption(.noDelay(!isOn), on: socket)
        case .noKeepAlive: try runtime.setOption(.keepAlive(idle: 5, interval: 5), on: socket)
        case .linger: try runtime.setOption(.linger(seconds: 9), on: socket)
        case .reuseAddress(let isOn): try runtime.setOption(.reuseAddress(!isOn), on: socket)
        case .reusePort(let isOn): try runtime.setOption(.reusePort(!isOn), on: socket)
        case .userTimeout: try runtime.setOption(.userTimeout(milliseconds: 77), on: socket)
        case .congestionControl(let name): try runtime.setOption(.congestionControl(name == .cubic ? .newReno : .cubic), on: socket)
        case .maximumPacingRate: try runtime.setOption(.maximumPacingRate(bytesPerSecond: 77_000), on: socket)
        case .hopLimit: try runtime.setOption(.hopLimit(7), on: socket)
        case .differentiatedServices: try runtime.setOption(.differentiatedServices(codepoint: 7), on: socket)
        default: break
        }
        try runtime.setOption(option, on: socket)
        #expect(try runtime.option(option.encoded.name, of: socket) == option)
    }

    @Test("options of packets hold for sockets of both types and families, and only what fits is taken", arguments: [AddressFamily.ipv4, .ipv6])
    func packetOptions(_ family: AddressFamily) throws {
        let runtime = try makeRuntime()
        for type in [SocketType.stream, .datagram] {
            let socket = try runtime.socket(family, type)
            func error(_ option: SocketOption) -> Int32 {
                do throws(DemikernelError) {
                    try runtime.setOption(option, on: socket)
                    return try runtime.option(option.encoded.name, of: socket) == option ? 0 : -1
                } catch {
                    return error.errno
                }
            }
            for option in [SocketOption.hopLimit(3), .differentiatedServices(codepoint: 10)] { #expect(error(option) == 0) }
            for option in [SocketOption.hopLimit(0), .hopLimit(256), .differentiatedServices(codepoint: 64)] { #expect(error(option) == EINVAL) }
            for isOn in [true, false] { #expect(error(.ipv6Only(isOn)) == (family == .ipv6 ? 0 : EOPNOTSUPP)) }
        }
    }

    @Test("a datagram socket reads back what is set for broadcasts and groups, and joins a group once", arguments: [AddressFamily.ipv4, .ipv6])
    func groups(_ family: AddressFamily) throws {
        let runtime = try makeRuntime()
        let socket = try runtime.socket(family, .datagram)
        let options: [SocketOption] = [
            .broadcast(true), .broadcast(false), .multicastHopLimit(7), .multicastHopLimit(1), .multicastLoop(false), .multicastLoop(true),
            .datagramInformation(true), .datagramInformation(false),
        ]
        for option in options {
            try runtime.setOption(option, on: socket)
            #expect(try runtime.option(option.encoded.name, of: socket) == option)
        }
        let group = try SocketAddress(parsing: family == .ipv4 ? "239.1.2.3:0" : "[ff12::5]:0")
        func error(_ option: SocketOption) -> Int32 {
            do throws(DemikernelError) {
                try runtime.setOption(option, on: socket)
                return 0
            } catch {
                return error.errno
            }
        }
        #expect(error(.joinGroup(group)) == 0)
        #expect(error(.joinGroup(group)) == EADDRINUSE)
        #expect(error(.leaveGroup(group)) == 0)
        #expect(error(.leaveGroup(group)) == EADDRNOTAVAIL)
        #expect(error(.multicastHopLimit(256)) == EINVAL)
    }

    @Test("buffer sizes are at least what was asked for", arguments: [SocketType.stream, .datagram])
    func bufferSizes(_ type: SocketType) throws {
        let runtime = try makeRuntime()
        let socket = try runtime.socket(.ipv4, type)
        for byteCount in [8_192, 20_000] {
            try runtime.setOption(.sendBuffer(byteCount: byteCount), on: socket)
            try runtime.setOption(.receiveBuffer(byteCount: byteCount), on: socket)
            guard case .sendBuffer(let send) = try runtime.option(.sendBuffer, of: socket),
                case .receiveBuffer(let receive) = try runtime.option(.receiveBuffer, of: socket)
            else {
                Issue.record("another option was read")
                return
            }
            // Linux doubles the size, for its own book-keeping (socket(7)).
            #expect(byteCount...2 * byteCount ~= send)
            #expect(byteCount...2 * byteCount ~= receive)
        }
    }

    @Test("defaults: noDelay and reuseAddress on, keepAlive and linger off; an accepted connection has its listener's")
    func defaults() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection { (runtime, queue) throws(DemikernelError) in
            try runtime.setOption(.keepAlive(idle: 33, interval: 3), on: queue)
        }
        let fresh = try runtime.socket(.ipv4, .stream)
        #expect(try runtime.option(.noDelay, of: fresh) == .noDelay(true))
        #expect(try runtime.option(.reuseAddress, of: fresh) == .reuseAddress(true))
        #expect(try runtime.option(.keepAlive, of: fresh) == .noKeepAlive)
        #expect(try runtime.option(.linger, of: fresh) == .linger(seconds: nil))
        #expect(try runtime.option(.noDelay, of: connection.server) == .noDelay(true))
        #expect(try runtime.option(.keepAlive, of: connection.server) == .keepAlive(idle: 33, interval: 3))
    }

    @Test(
        "values out of range are EINVAL and change nothing",
        arguments: [
            SocketOption.keepAlive(idle: 0, interval: 1), .keepAlive(idle: 1, interval: 0), .keepAlive(idle: -5, interval: 1),
            .keepAlive(idle: Int.max, interval: 1), .linger(seconds: -5), .linger(seconds: Int.max), .sendBuffer(byteCount: -1),
            .receiveBuffer(byteCount: -4_096), .sendBuffer(byteCount: Int.max), .userTimeout(milliseconds: -1), .userTimeout(milliseconds: Int.max),
        ])
    func outOfRange(_ option: SocketOption) throws {
        let runtime = try makeRuntime()
        let socket = try runtime.socket(.ipv4, .stream)
        let before = try runtime.option(option.encoded.name, of: socket)
        #expect(refusal { () throws(DemikernelError) in try runtime.setOption(option, on: socket) } == DemikernelError(EINVAL, .option))
        #expect(try runtime.option(option.encoded.name, of: socket) == before)
    }
}
