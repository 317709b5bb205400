import Demikernel

/// How a server is to run, from flags, environment and file.
struct ServerSettings: Sendable {
    enum Idle: String, Sendable, CaseIterable {
        case spin
        case adaptive
    }

    struct KeepAlive: Equatable, Sendable {
        var timeMilliseconds = 7_200_000
        var intervalSeconds = 75
    }

    var libOS = LibraryOSName.catnap
    /// Where catmem listens; nil for the others.
    var path: String?
    /// Of a library OS that needs one.
    var interface: InterfaceConfiguration?
    /// Runtimes, each on a thread of its own, that share the work.
    var shards = 1
    var idle = Idle.adaptive
    /// nil: the runtime's own default.
    var spinMicroseconds: Int?
    /// nil: the runtime's own default.
    var memoryMebibytes: Int?
    /// nil: the runtime's own defaults.
    var maximumQueues: Int?
    var maximumOperations: Int?
    /// nil: no probes.
    var keepAlive: KeepAlive?
    /// nil: a close sends what is left in the background.
    var lingerSeconds: Int?
    var noDelay = true

    /// The runtime that these settings describe.
    var runtimeConfiguration: RuntimeConfiguration {
        var configuration = RuntimeConfiguration()
        if idle == .spin {
            configuration.idle = .spin
        } else if let spinMicroseconds {
            configuration.idle = .adaptive(spinNanoseconds: UInt64(spinMicroseconds) * 1000)
        }
        if let memoryMebibytes { configuration.memory.arenaByteCount = memoryMebibytes << 20 }
        if let maximumQueues { configuration.limits.maximumQueues = maximumQueues }
        if let maximumOperations { configuration.limits.maximumOperations = maximumOperations }
        return configuration
    }

    /// The library OS that these settings describe.
    /// - Parameter place: of the shard that gets it; nil for the only one.
    func libraryOS(_ place: ShardGroup.Place?) -> LibraryOSMaker {
        switch libOS {
        case .catnap: return .catnap
        case .catmem: return .catmem
        case .catnip:
            guard let interface else { preconditionFailure("settings without mistakes have an interface for catnip") }
            return .catnip(interface, at: place)
        }
    }

    /// Whether several shards can serve one address: by sockets that share a port, or by an interface with several queues.
    var servesShards: Bool {
        switch libOS {
        case .catnap: return true
        case .catmem: return false
        case .catnip:
            // Without an interface there is another mistake.
            switch interface?.device {
            case .tap, .xdp, nil: return true
            case .memif, .dpdk: return false
            }
        }
    }

    /// "catnap", "catnip on tap:demi0".
    var carrier: String { libOS.rawValue + (interface.map { " on \($0.device)" } ?? "") }

    /// The options of TCP sockets that differ from a library OS's own defaults.
    var socketOptions: [SocketOption] {
        var options: [SocketOption] = []
        // Shared memory has neither segments to hold back nor silence to probe.
        if libOS == .catmem { return lingerSeconds.map { [.linger(seconds: $0)] } ?? [] }
        if !noDelay { options.append(.noDelay(false)) }
        // The kernel counts the silence in whole seconds.
        if let keepAlive { options.append(.keepAlive(idle: (keepAlive.timeMilliseconds + 999) / 1000, interval: keepAlive.intervalSeconds)) }
        if let lingerSeconds { options.append(.linger(seconds: lingerSeconds)) }
        return options
    }
}
