import CDemikernel
import DatapathMemory
import Glibc
import QueueRuntime

// Socket options.

@c @implementation
public func demi_setsockopt(_ qd: Int32, _ level: Int32, _ optname: Int32, _ optval: UnsafeRawPointer?, _ optlen: socklen_t) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let optval else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    guard let option = OptionName(level, optname) else { return thread.refuse(ENOPROTOOPT, OptionName.unknown) }
    guard Int(optlen) >= option.byteCount else { return thread.refuse(EINVAL, "the value is shorter than one of its type") }
    let value = optval.loadUnaligned(as: Int32.self)
    let second = option == .linger ? optval.loadUnaligned(fromByteOffset: 4, as: Int32.self) : 0
    return thread.finish { (runtime) throws(DemikernelError) in
        let queue = QueueDescriptor(rawValue: qd)
        try runtime.setOption(try option.option(value, second, on: queue, runtime, thread.state.pointee.socketDefaults), on: queue)
    }
}

@c @implementation
public func demi_getsockopt(
    _ qd: Int32, _ level: Int32, _ optname: Int32, _ optval: UnsafeMutableRawPointer?, _ optlen: UnsafeMutablePointer<socklen_t>?
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let optval, let optlen else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    guard let option = OptionName(level, optname) else { return thread.refuse(ENOPROTOOPT, OptionName.unknown) }
    let room = UnsafeMutableRawPointer(optlen)
    guard Int(room.loadUnaligned(as: socklen_t.self)) >= option.byteCount else { return thread.refuse(EINVAL, "the value does not fit") }
    return thread.finish { (runtime) throws(DemikernelError) in
        let (value, second) = try option.value(try runtime.option(option.name, of: QueueDescriptor(rawValue: qd)), thread.state.pointee.socketDefaults)
        optval.storeBytes(of: value, as: Int32.self)
        if option == .linger { optval.storeBytes(of: second, toByteOffset: 4, as: Int32.self) }
        room.storeBytes(of: socklen_t(option.byteCount), as: socklen_t.self)
    }
}

/// The options of C, as Linux numbers them, and their counterparts.
enum OptionName {
    case linger, keepAlive, keepIdle, keepInterval, reuseAddress, reusePort, sendBuffer, receiveBuffer, broadcast
    case noDelay, userTimeout, hopLimit, typeOfService, ipv6Only, multicastHopLimit, multicastLoop

    static let unknown: StaticString = "there is no such level or option here"

    /// `level` and `optname` of `setsockopt`; nil for any others.
    init?(_ level: Int32, _ option: Int32) {
        switch (level, option) {
        case (SOL_SOCKET, SO_LINGER): self = .linger
        case (SOL_SOCKET, SO_KEEPALIVE): self = .keepAlive
        case (SOL_SOCKET, SO_REUSEADDR): self = .reuseAddress
        case (SOL_SOCKET, SO_REUSEPORT): self = .reusePort
        case (SOL_SOCKET, SO_SNDBUF): self = .sendBuffer
        case (SOL_SOCKET, SO_RCVBUF): self = .receiveBuffer
        case (SOL_SOCKET, SO_BROADCAST): self = .broadcast
        case (Int32(IPPROTO_TCP), TCP_NODELAY): self = .noDelay
        case (Int32(IPPROTO_TCP), TCP_KEEPIDLE): self = .keepIdle
        case (Int32(IPPROTO_TCP), TCP_KEEPINTVL): self = .keepInterval
        case (Int32(IPPROTO_TCP), TCP_USER_TIMEOUT): self = .userTimeout
        case (Int32(IPPROTO_IP), IP_TTL), (Int32(IPPROTO_IPV6), IPV6_UNICAST_HOPS): self = .hopLimit
        case (Int32(IPPROTO_IP), IP_TOS), (Int32(IPPROTO_IPV6), IPV6_TCLASS): self = .typeOfService
        case (Int32(IPPROTO_IPV6), IPV6_V6ONLY): self = .ipv6Only
        case (Int32(IPPROTO_IP), IP_MULTICAST_TTL), (Int32(IPPROTO_IPV6), IPV6_MULTICAST_HOPS): self = .multicastHopLimit
        case (Int32(IPPROTO_IP), IP_MULTICAST_LOOP), (Int32(IPPROTO_IPV6), IPV6_MULTICAST_LOOP): self = .multicastLoop
        default: return nil
        }
    }

    /// Bytes of the value: a `struct linger`, or an `int`.
    var byteCount: Int { self == .linger ? 8 : 4 }

    var name: SocketOption.Name {
        switch self {
        case .linger: .linger
        case .keepAlive, .keepIdle, .keepInterval: .keepAlive
        case .reuseAddress: .reuseAddress
        case .reusePort: .reusePort
        case .sendBuffer: .sendBuffer
        case .receiveBuffer: .receiveBuffer
        case .broadcast: .broadcast
        case .noDelay: .noDelay
        case .userTimeout: .userTimeout
        case .hopLimit: .hopLimit
        case .typeOfService: .differentiatedServices
        case .ipv6Only: .ipv6Only
        case .multicastHopLimit: .multicastHopLimit
        case .multicastLoop: .multicastLoop
        }
    }

    /// What sets the option to a value of C.
    /// - Throws: `EINVAL` for a value that means nothing, and what the socket's own value is refused with.
    func option(
        _ value: Int32, _ second: Int32, on queue: QueueDescriptor, _ runtime: borrowing Runtime, _ defaults: SocketDefaults
    ) throws(DemikernelError) -> SocketOption {
        switch self {
        case .linger:
            guard value == 0 || second >= 0 else { throw OptionName.outOfRange }
            return .linger(seconds: value == 0 ? nil : Int(second))
        case .keepAlive:
            guard value != 0 else { return .noKeepAlive }
            // Where it is on already, the times stay.
            if case .keepAlive(let idle, let interval) = try runtime.option(.keepAlive, of: queue) { return .keepAlive(idle: idle, interval: interval) }
            return .keepAlive(idle: defaults.keepAliveIdle, interval: defaults.keepAliveInterval)
        case .keepIdle, .keepInterval:
            guard value >= 1 else { throw OptionName.outOfRange }
            guard case .keepAlive(let idle, let interval) = try runtime.option(.keepAlive, of: queue) else {
                throw DemikernelError(EINVAL, .option, "set SO_KEEPALIVE first")
            }
            return self == .keepIdle ? .keepAlive(idle: Int(value), interval: interval) : .keepAlive(idle: idle, interval: Int(value))
        case .reuseAddress: return .reuseAddress(value != 0)
        case .reusePort: return .reusePort(value != 0)
        case .sendBuffer: return .sendBuffer(byteCount: Int(value))
        case .receiveBuffer: return .receiveBuffer(byteCount: Int(value))
        case .broadcast: return .broadcast(value != 0)
        case .noDelay: return .noDelay(value != 0)
        case .userTimeout: return .userTimeout(milliseconds: Int(value))
        case .hopLimit: return .hopLimit(Int(value))
        case .typeOfService:
            // The lower two bits are congestion's (RFC 3168), and not the program's.
            guard (0...255).contains(value) else { throw OptionName.outOfRange }
            return .differentiatedServices(codepoint: Int(value >> 2))
        case .ipv6Only: return .ipv6Only(value != 0)
        case .multicastHopLimit: return .multicastHopLimit(Int(value))
        case .multicastLoop: return .multicastLoop(value != 0)
        }
    }

    /// The option's value in C.
    func value(_ option: SocketOption, _ defaults: SocketDefaults) throws(DemikernelError) -> (Int32, Int32) {
        switch option {
        case .linger(let seconds): return seconds.map { (1, Int32(clamping: $0)) } ?? (0, 0)
        case .keepAlive(let idle, let interval):
            switch self {
            case .keepIdle: return (Int32(clamping: idle), 0)
            case .keepInterval: return (Int32(clamping: interval), 0)
            default: return (1, 0)
            }
        case .noKeepAlive:
            switch self {
            case .keepIdle: return (Int32(clamping: defaults.keepAliveIdle), 0)
            case .keepInterval: return (Int32(clamping: defaults.keepAliveInterval), 0)
            default: return (0, 0)
            }
        case .reuseAddress(let isOn), .reusePort(let isOn), .broadcast(let isOn), .noDelay(let isOn), .ipv6Only(let isOn), .multicastLoop(let isOn):
            return (isOn ? 1 : 0, 0)
        case .sendBuffer(let count), .receiveBuffer(let count), .userTimeout(let count), .hopLimit(let count), .multicastHopLimit(let count):
            return (Int32(clamping: count), 0)
        case .differentiatedServices(let codepoint): return (Int32(clamping: codepoint << 2), 0)
        case .congestionControl, .maximumPacingRate, .joinGroup, .leaveGroup, .datagramInformation: throw DemikernelError(ENOPROTOOPT, .option, OptionName.unknown)
        }
    }

    private static let outOfRange = DemikernelError(EINVAL, .option, "the value is out of range")
}
