import WireFormats

/// What can be set on a TCP socket.
extension NetworkStack {
    /// Sends small segments at once (RFC 9293, section 3.7.4: MUST-17).
    //= RFC 9293 section 3.7.4
    //# there MUST be a way for an application to disable the Nagle algorithm on an individual connection (MUST-17)
    public func setNoDelay(_ connection: UInt32, _ isOn: Bool) {
        let c = state.pointee.connections[connection]
        if isOn { c.pointee.flags.insert(.noDelay) } else { c.pointee.flags.remove(.noDelay) }
        if isOn && c.pointee.state.maySend { sendPending(c) }
    }

    /// Whether small segments are sent at once.
    public func isNoDelay(_ connection: UInt32) -> Bool { state.pointee.connections[connection].pointee.flags.contains(.noDelay) }

    /// Probes a silent peer, in nanoseconds; nil switches it off.
    //= RFC 9293 section 3.8.4
    //# Implementers MAY include "keep-alives" in their TCP implementations (MAY-5). If they do, the application MUST be able to turn them on or off for each
    //# TCP connection (MUST-24), and they MUST default to off (MUST-25). This interval MUST be configurable (MUST-27).
    public func setKeepAlive(_ connection: UInt32, _ times: (idle: UInt64, interval: UInt64)?) {
        let c = state.pointee.connections[connection]
        let settings = times == nil ? c.pointee.settings : lendSettings(c)
        guard let times, let settings else {
            c.pointee.flags.remove(.keepAlive)
            c.pointee.keepAliveDeadline = .max
            return
        }
        c.pointee.flags.insert(.keepAlive)
        settings.pointee.keepAliveIdle = max(times.idle, 1_000_000)
        settings.pointee.keepAliveInterval = max(times.interval, 1_000_000)
        if c.pointee.state.isSynchronized {
            c.pointee.lastReceiveTime = state.pointee.now
            restartKeepAlive(c)
        }
    }

    public func keepAlive(_ connection: UInt32) -> (idle: UInt64, interval: UInt64)? {
        let c = state.pointee.connections[connection]
        guard c.pointee.flags.contains(.keepAlive), let settings = c.pointee.settings else { return nil }
        return (settings.pointee.keepAliveIdle, settings.pointee.keepAliveInterval)
    }

    /// Seconds that a close waits for its last bytes, 0 to reset; nil, the default, sends them in the background.
    public func setLinger(_ connection: UInt32, seconds: Int?) {
        let c = state.pointee.connections[connection]
        if let seconds { lendSettings(c).pointee.linger = Int32(clamping: seconds) } else { c.pointee.settings?.pointee.linger = -1 }
    }

    public func linger(_ connection: UInt32) -> Int? {
        let linger = state.pointee.connections[connection].pointee.linger
        return linger < 0 ? nil : Int(linger)
    }

    /// How long bytes may stay unacknowledged, in nanoseconds; 0 for the protocol's own patience (RFC 5482).
    //= RFC 9293 section 3.8.3
    //# An application MUST (MUST-21) be able to set the value for R2 for a particular connection.
    public func setUserTimeout(_ connection: UInt32, _ timeout: UInt64) {
        let c = state.pointee.connections[connection]
        if timeout == 0 {
            c.pointee.settings?.pointee.userTimeout = 0
            c.pointee.flags.remove(.userTimeout)
        } else {
            lendSettings(c).pointee.userTimeout = timeout
            c.pointee.flags.insert(.userTimeout)
        }
        schedule(c, userTimeoutDeadline(c))
    }

    public func userTimeout(_ connection: UInt32) -> UInt64 { state.pointee.connections[connection].pointee.userTimeout }

    /// Bytes that are taken from pushes before they have to wait, and which from then on do not grow by themselves.
    public func setSendBuffer(_ connection: UInt32, byteCount: Int) {
        let c = state.pointee.connections[connection]
        c.pointee.sendLimit = min(max(byteCount, 2_048), 1 << 30)
        c.pointee.flags.insert(.fixedSendBuffer)
    }

    /// Whether the send buffer's size was set.
    public func isSendBufferFixed(_ connection: UInt32) -> Bool { state.pointee.connections[connection].pointee.flags.contains(.fixedSendBuffer) }

    public func sendBuffer(_ connection: UInt32) -> Int { state.pointee.connections[connection].pointee.sendLimit }

    /// Bytes of the receive buffer, which from then on does not grow by itself.
    public func setReceiveBuffer(_ connection: UInt32, byteCount: Int) {
        let c = state.pointee.connections[connection]
        c.pointee.receiveLimit = min(max(byteCount, 2_048), state.pointee.configuration.tcp.maximumReceiveBuffer)
        c.pointee.flags.insert(.fixedReceiveBuffer)
    }

    public func receiveBuffer(_ connection: UInt32) -> Int { state.pointee.connections[connection].pointee.receiveLimit }

    /// How the connection finds out how much may be in flight (TCP_CONGESTION). Another algorithm goes on from where the last one was.
    public func setCongestionControl(_ connection: UInt32, _ algorithm: CongestionControlAlgorithm) {
        let c = state.pointee.connections[connection]
        guard algorithm != c.pointee.congestion.algorithm else { return }
        if algorithm == .dctcp { lendCongestionHistory(c) }
        c.pointee.congestion.change(to: algorithm)
        if c.pointee.state.isSynchronized { beginRateControl(c) }
    }

    public func congestionControl(_ connection: UInt32) -> CongestionControlAlgorithm {
        state.pointee.connections[connection].pointee.congestion.algorithm
    }

    /// Lets several sockets bind to one port, which share its connections.
    public func setReusePort(_ connection: UInt32, _ isOn: Bool) {
        let c = state.pointee.connections[connection]
        if isOn { c.pointee.flags.insert(.reusePort) } else { c.pointee.flags.remove(.reusePort) }
    }

    public func reusePort(_ connection: UInt32) -> Bool { state.pointee.connections[connection].pointee.flags.contains(.reusePort) }
}
