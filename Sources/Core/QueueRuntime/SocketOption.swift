/// What can be set on a socket queue.
@frozen
public enum SocketOption: Hashable, Sendable {
    /// Sends small segments at once instead of gathering them (TCP_NODELAY). On by default.
    case noDelay(Bool)
    /// Probes a silent peer (RFC 1122, section 4.2.3.6): after `idle` seconds, every `interval` seconds; nil switches it off.
    case keepAlive(idle: Int, interval: Int)
    case noKeepAlive
    /// How a close treats what is not sent: nil, the default, sends it in the background; 0 resets the connection (SO_LINGER).
    case linger(seconds: Int?)
    /// Lets a listener bind to a port with connections in TIME_WAIT (SO_REUSEADDR). On by default for listeners.
    case reuseAddress(Bool)
    /// Several sockets on one port (SO_REUSEPORT).
    case reusePort(Bool)
    /// Bytes of the send buffer.
    case sendBuffer(byteCount: Int)
    /// Bytes of the receive buffer.
    case receiveBuffer(byteCount: Int)
    /// How long bytes may stay unacknowledged before the connection fails with `ETIMEDOUT` (TCP_USER_TIMEOUT; RFC 5482); 0, the default, leaves it
    /// to the protocol.
    case userTimeout(milliseconds: Int)
    /// How a stream finds out how much may be in flight (TCP_CONGESTION). A listener's connections begin with its own.
    case congestionControl(CongestionControlName)
    /// The most bytes a second that a stream sends, which spreads them over time instead of sending as many at once as its windows allow
    /// (SO_MAX_PACING_RATE): `Int.max` for the rate that its congestion control says, 0 for none unless that needs one. A listener's connections begin with
    /// its own.
    case maximumPacingRate(bytesPerSecond: Int)
    /// Routers that what is sent may pass, 1 to 255 (IP_TTL, IPV6_UNICAST_HOPS).
    case hopLimit(Int)
    /// How routers are asked to treat what is sent: a codepoint of RFC 2474, 0 to 63 (the upper six bits of IP_TOS and IPV6_TCLASS).
    case differentiatedServices(codepoint: Int)
    /// Keeps a socket that binds to :: from taking IPv4, too (IPV6_V6ONLY); to be set before `bind`. Off by default.
    case ipv6Only(Bool)
    /// Lets a datagram socket send to 255.255.255.255 and to the broadcast addresses of its networks (SO_BROADCAST). Off by default: `EACCES`.
    case broadcast(Bool)
    /// Lets a datagram socket take what comes to its port for a group (IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP), until it leaves the group or is closed. The
    /// address's port is not looked at. Setting it does it; it cannot be read.
    case joinGroup(SocketAddress)
    /// Takes `joinGroup` back (IP_DROP_MEMBERSHIP, IPV6_LEAVE_GROUP): `EADDRNOTAVAIL` for a group that the socket has not joined.
    case leaveGroup(SocketAddress)
    /// Hops that datagrams to groups make at most (IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS): 0 to 255. 1, the default, keeps them on the link.
    case multicastHopLimit(Int)
    /// Whether members on the sender's own host get datagrams to their group (IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP). On by default.
    case multicastLoop(Bool)
    /// Tells of each received datagram where it was sent to, over which interface it came, and what its IP header says of its way (IP_PKTINFO, IP_RECVTTL,
    /// IP_RECVTOS and those of IPv6): `ScatterGatherArray.datagramInformation`. Off by default; what is on costs the socket the shortest way of receiving.
    case datagramInformation(Bool)

    /// Names an algorithm of congestion control.
    @frozen
    public enum CongestionControlName: UInt8, Sendable, CaseIterable {
        /// RFC 9438.
        case cubic
        /// RFC 5681 and RFC 6582.
        case newReno
        /// RFC 8257, for data centers whose switches mark.
        case dctcp
        /// BBRv3 (draft-ietf-ccwg-bbr), for paths that lose what no congestion is to blame for.
        case bbr
    }

    /// Names an option without its value.
    @frozen
    public enum Name: UInt8, Sendable, CaseIterable {
        case noDelay, keepAlive, linger, reuseAddress, reusePort, sendBuffer, receiveBuffer, userTimeout, congestionControl, hopLimit
        case differentiatedServices, ipv6Only, broadcast, joinGroup, leaveGroup, multicastHopLimit, multicastLoop
        case maximumPacingRate, datagramInformation
    }

    /// The form in which an option crosses to a library OS: a name and two numbers; -1 stands for none.
    @inlinable
    public var encoded: (name: Name, first: Int64, second: Int64) {
        switch self {
        case .noDelay(let isOn): (.noDelay, isOn ? 1 : 0, 0)
        case .keepAlive(let idle, let interval): (.keepAlive, Int64(idle), Int64(interval))
        case .noKeepAlive: (.keepAlive, -1, -1)
        case .linger(let seconds): (.linger, seconds.map(Int64.init) ?? -1, 0)
        case .reuseAddress(let isOn): (.reuseAddress, isOn ? 1 : 0, 0)
        case .reusePort(let isOn): (.reusePort, isOn ? 1 : 0, 0)
        case .sendBuffer(let byteCount): (.sendBuffer, Int64(byteCount), 0)
        case .receiveBuffer(let byteCount): (.receiveBuffer, Int64(byteCount), 0)
        case .userTimeout(let milliseconds): (.userTimeout, Int64(milliseconds), 0)
        case .congestionControl(let name): (.congestionControl, Int64(name.rawValue), 0)
        case .hopLimit(let count): (.hopLimit, Int64(count), 0)
        case .differentiatedServices(let codepoint): (.differentiatedServices, Int64(codepoint), 0)
        case .ipv6Only(let isOn): (.ipv6Only, isOn ? 1 : 0, 0)
        case .broadcast(let isOn): (.broadcast, isOn ? 1 : 0, 0)
        case .joinGroup(let group): (.joinGroup, group.numbers.0, group.numbers.1)
        case .leaveGroup(let group): (.leaveGroup, group.numbers.0, group.numbers.1)
        case .multicastHopLimit(let count): (.multicastHopLimit, Int64(count), 0)
        case .multicastLoop(let isOn): (.multicastLoop, isOn ? 1 : 0, 0)
        case .maximumPacingRate(let bytesPerSecond): (.maximumPacingRate, Int64(bytesPerSecond), 0)
        case .datagramInformation(let isOn): (.datagramInformation, isOn ? 1 : 0, 0)
        }
    }

    @inlinable
    public init(decoding name: Name, first: Int64, second: Int64) {
        switch name {
        case .noDelay: self = .noDelay(first != 0)
        case .keepAlive: self = first < 0 ? .noKeepAlive : .keepAlive(idle: Int(first), interval: Int(second))
        case .linger: self = .linger(seconds: first < 0 ? nil : Int(first))
        case .reuseAddress: self = .reuseAddress(first != 0)
        case .reusePort: self = .reusePort(first != 0)
        case .sendBuffer: self = .sendBuffer(byteCount: Int(first))
        case .receiveBuffer: self = .receiveBuffer(byteCount: Int(first))
        case .userTimeout: self = .userTimeout(milliseconds: Int(first))
        case .congestionControl: self = .congestionControl(UInt8(exactly: first).flatMap(CongestionControlName.init(rawValue:)) ?? .cubic)
        case .hopLimit: self = .hopLimit(Int(first))
        case .differentiatedServices: self = .differentiatedServices(codepoint: Int(first))
        case .ipv6Only: self = .ipv6Only(first != 0)
        case .broadcast: self = .broadcast(first != 0)
        case .joinGroup: self = .joinGroup(SocketAddress(numbers: (first, second)))
        case .leaveGroup: self = .leaveGroup(SocketAddress(numbers: (first, second)))
        case .multicastHopLimit: self = .multicastHopLimit(Int(first))
        case .multicastLoop: self = .multicastLoop(first != 0)
        case .maximumPacingRate: self = .maximumPacingRate(bytesPerSecond: Int(first))
        case .datagramInformation: self = .datagramInformation(first != 0)
        }
    }
}

/// An address without its port as two numbers: its sixteen bytes as they lie in memory, those of IPv4 as an IPv4-mapped address (RFC 4291, section
/// 2.5.5.2).
extension SocketAddress {
    @inlinable
    public var numbers: (Int64, Int64) {
        family == .ipv4 ? (0, Int64(bitPattern: bytes.0 << 32 | 0xffff_0000)) : (Int64(bitPattern: bytes.0), Int64(bitPattern: bytes.1))
    }

    @inlinable
    public init(numbers: (Int64, Int64)) {
        let (first, second) = (UInt64(bitPattern: numbers.0), UInt64(bitPattern: numbers.1))
        if first == 0 && second & 0xffff_ffff == 0xffff_0000 {
            self.init(family: .ipv4, bytes: (second >> 32, 0), port: 0)
        } else {
            self.init(family: .ipv6, bytes: (first, second), port: 0)
        }
    }
}

/// Which direction of a connection `shutdown` ends.
@frozen
public enum ShutdownDirection: UInt8, Sendable {
    case receive, send, both
}
