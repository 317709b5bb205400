/// What `INFO` tells of a store, or of all shards of a server together. A plain layout, which one shard gives another as it lies in memory.
struct StoreSummary {
    var connectedClients = 0
    var totalConnections = 0
    var usedMemory = 0
    var peakMemory = 0
    var maximumMemory = 0
    var statistics = Statistics()
    var keys = InlineArray<16, Int>(repeating: 0)
    var expiries = InlineArray<16, Int>(repeating: 0)

    init() {}

    /// Adds what another shard of the server tells. The limit of memory is that of all shards in any case.
    mutating func add(_ other: StoreSummary) {
        connectedClients += other.connectedClients
        totalConnections += other.totalConnections
        usedMemory += other.usedMemory
        peakMemory += other.peakMemory
        maximumMemory = other.maximumMemory
        let starts = [statistics.startTime, other.statistics.startTime].filter { $0 != 0 }
        statistics.startTime = starts.min() ?? 0
        statistics.commandsProcessed += other.statistics.commandsProcessed
        statistics.keyspaceHits += other.statistics.keyspaceHits
        statistics.keyspaceMisses += other.statistics.keyspaceMisses
        statistics.expiredKeys += other.statistics.expiredKeys
        for index in 0..<KeyValueStore.databaseCount {
            keys[index] += other.keys[index]
            expiries[index] += other.expiries[index]
        }
    }
}

extension KeyValueStore {
    var summary: StoreSummary {
        var summary = StoreSummary()
        summary.connectedClients = connectedClients
        summary.totalConnections = totalConnections
        summary.usedMemory = usedMemory
        summary.peakMemory = peakMemory
        summary.maximumMemory = limits.maximumMemory
        summary.statistics = statistics
        for index in 0..<Self.databaseCount {
            summary.keys[index] = databases[index].keys.count
            summary.expiries[index] = databases[index].expiries.count
        }
        return summary
    }
}

/// Sections of an `INFO`.
struct InformationSections: OptionSet {
    let rawValue: UInt8

    static let server = InformationSections(rawValue: 1)
    static let clients = InformationSections(rawValue: 2)
    static let memory = InformationSections(rawValue: 4)
    static let statistics = InformationSections(rawValue: 8)
    static let keyspace = InformationSections(rawValue: 16)
    static let everything: InformationSections = [.server, .clients, .memory, .statistics, .keyspace]

    private static let names: [(name: StaticString, sections: InformationSections)] = [
        ("server", .server), ("clients", .clients), ("memory", .memory), ("stats", .statistics), ("keyspace", .keyspace),
        ("default", .everything), ("all", .everything), ("everything", .everything),
    ]

    init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Those that an `INFO` asks for.
    init(_ request: Request) {
        self = request.count == 1 ? .everything : []
        for index in 1..<max(1, request.count) {
            for (name, sections) in InformationSections.names where request[index].matches(name) { formUnion(sections) }
        }
    }
}

extension StoreSummary {
    /// The sections in Redis's format; `now` in milliseconds since the Unix epoch.
    func text(_ sections: InformationSections, now: Int64) -> String {
        var texts: [String] = []
        if sections.contains(.server) { texts.append(serverSection(now: now)) }
        if sections.contains(.clients) { texts.append("# Clients\r\nconnected_clients:\(connectedClients)\r\nblocked_clients:0\r\n") }
        if sections.contains(.memory) { texts.append(memorySection) }
        if sections.contains(.statistics) { texts.append(statisticsSection) }
        if sections.contains(.keyspace) { texts.append(keyspaceSection) }
        return texts.joined(separator: "\r\n")
    }

    private func serverSection(now: Int64) -> String {
        let uptime = max(0, now - statistics.startTime) / 1000
        return "# Server\r\nredis_version:\(KeyValueStore.compatibleVersion)\r\nredis_mode:standalone\r\nos:Linux\r\n"
            + "arch_bits:64\r\nserver_time_usec:\(now * 1000)\r\n"
            + "uptime_in_seconds:\(uptime)\r\nuptime_in_days:\(uptime / 86_400)\r\n"
    }

    private var memorySection: String {
        "# Memory\r\nused_memory:\(usedMemory)\r\nused_memory_human:\(Self.abbreviated(usedMemory))\r\n"
            + "used_memory_peak:\(peakMemory)\r\nused_memory_peak_human:\(Self.abbreviated(peakMemory))\r\n"
            + "maxmemory:\(maximumMemory)\r\nmaxmemory_human:\(Self.abbreviated(maximumMemory))\r\n"
            + "maxmemory_policy:noeviction\r\nmem_allocator:libc\r\n"
    }

    private var statisticsSection: String {
        "# Stats\r\ntotal_connections_received:\(totalConnections)\r\n"
            + "total_commands_processed:\(statistics.commandsProcessed)\r\n"
            + "expired_keys:\(statistics.expiredKeys)\r\nevicted_keys:0\r\n"
            + "keyspace_hits:\(statistics.keyspaceHits)\r\nkeyspace_misses:\(statistics.keyspaceMisses)\r\n"
    }

    private var keyspaceSection: String {
        var text = "# Keyspace\r\n"
        for index in 0..<KeyValueStore.databaseCount where keys[index] > 0 {
            text += "db\(index):keys=\(keys[index]),expires=\(expiries[index]),avg_ttl=0\r\n"
        }
        return text
    }

    /// A number of bytes with two decimals and a unit, such as `1.06M`.
    private static func abbreviated(_ bytes: Int) -> String {
        var unit = 1024
        for suffix in ["K", "M", "G"] {
            if bytes < unit { break }
            if bytes < unit * 1024 || suffix == "G" {
                let hundredths = bytes / unit * 100 + bytes % unit * 100 / unit
                let fraction = hundredths % 100
                return "\(hundredths / 100).\(fraction < 10 ? "0" : "")\(fraction)\(suffix)"
            }
            unit *= 1024
        }
        return "\(bytes)B"
    }
}
