import DatapathMemory
import QueueRuntime

/// What stream sockets begin with: `tcp_socket_options` of the settings. Nil leaves what the library OS has.
struct SocketDefaults: Equatable {
    var noDelay: Bool?
    var lingerSeconds: Int?
    /// Whether sockets are to be probed from the first on; else the times below hold when the program asks for it.
    var keepAlive = false
    /// Seconds. As Linux has them.
    var keepAliveIdle = 7_200
    var keepAliveInterval = 75

    var isEmpty: Bool { noDelay == nil && lingerSeconds == nil && !keepAlive }
}

extension CurrentRuntime {
    /// Gives a new stream socket, or an accepted connection, what the settings say.
    @inline(__always)
    func setDefaults(of queue: QueueDescriptor) throws(DemikernelError) {
        if !state.pointee.socketDefaults.isEmpty { try setDefaultsSlowly(of: queue) }
    }

    @inline(never)
    private func setDefaultsSlowly(of queue: QueueDescriptor) throws(DemikernelError) {
        let defaults = state.pointee.socketDefaults
        if let noDelay = defaults.noDelay { try state.pointee.runtime.setOption(.noDelay(noDelay), on: queue) }
        if let seconds = defaults.lingerSeconds { try state.pointee.runtime.setOption(.linger(seconds: seconds), on: queue) }
        if defaults.keepAlive {
            try state.pointee.runtime.setOption(.keepAlive(idle: defaults.keepAliveIdle, interval: defaults.keepAliveInterval), on: queue)
        }
    }
}
