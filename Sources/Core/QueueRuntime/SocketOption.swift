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
    /// Lets a datagram socket send to 255.255.255.255 and to the broadcast addresses of its networks (SO_BROADCAST). Off by default: `EACCES`.
    case broadcast(Bool)

    /// Names an algorithm of congestion control.
    @frozen
    public enum CongestionControlName: UInt8, Sendable, CaseIterable {
        /// RFC 9438.
        case cubic
        /// RFC 5681 and RFC 6582.
        case newReno
        /// RFC 8257, for data centers whose switches mark.
        case dctcp
    }

    /// Names an option without its value.
    @frozen
    public enum Name: UInt8, Sendable, CaseIterable {
        case noDelay, keepAlive, linger, reuseAddress, reusePort, sendBuffer, receiveBuffer, userTimeout, congestionControl, broadcast
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
        case .broadcast(let isOn): (.broadcast, isOn ? 1 : 0, 0)
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
        case .broadcast: self = .broadcast(first != 0)
        }
    }
}

/// Which direction of a connection `shutdown` ends.
@frozen
public enum ShutdownDirection: UInt8, Sendable {
    case receive, send, both
}
