/// What a program has set of a connection that most leave as it is, and what follows from it. Times are in nanoseconds.
///
/// It is lent with the first of them, and given back with the connection's slot.
struct ConnectionSettings: SlabElement {
    //= RFC 9293 section 3.8.4
    //# This interval MUST default to no less than two hours (MUST-28).
    var keepAliveIdle: UInt64 = 7_200_000_000_000
    var keepAliveInterval: UInt64 = 75_000_000_000
    var keepAliveDeadline = UInt64.max
    /// RFC 5482; 0 for none.
    var userTimeout: UInt64 = 0
    /// Seconds of linger; -1 for none.
    var linger: Int32 = -1
    var keepAliveProbeCount: UInt16 = 0
    var nextFree: UInt32 = 0

    init() {}

    /// Takes what was set on a listener.
    mutating func inherit(_ other: ConnectionSettings) {
        keepAliveIdle = other.keepAliveIdle
        keepAliveInterval = other.keepAliveInterval
        userTimeout = other.userTimeout
        linger = other.linger
    }
}

extension NetworkStack {
    @discardableResult
    func lendSettings(_ c: ConnectionPointer) -> UnsafeMutablePointer<ConnectionSettings> {
        if let settings = c.pointee.settings { return settings }
        let settings = state.pointee.connectionSettings[state.pointee.connectionSettings.takeLent()]
        c.pointee.settings = settings
        return settings
    }
}

/// What was set, or what holds where nothing was.
extension Connection {
    /// When a silent peer is asked; `.max` for never.
    var keepAliveDeadline: UInt64 {
        get { settings?.pointee.keepAliveDeadline ?? .max }
        set {
            precondition(settings != nil || newValue == .max, "a connection that is kept alive has settings")
            settings?.pointee.keepAliveDeadline = newValue
        }
    }

    var userTimeout: UInt64 { settings?.pointee.userTimeout ?? 0 }
    var linger: Int32 { settings?.pointee.linger ?? -1 }
}
