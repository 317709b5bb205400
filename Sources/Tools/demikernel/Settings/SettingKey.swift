import Demikernel

/// A setting that a file or the environment may hold: its name, what its value must be, and what it does.
struct SettingKey: Sendable {
    enum Kind: Sendable, Equatable {
        case text
        /// Several words, joined by commas; in a file also a list.
        case list
        case boolean
        case integer(ClosedRange<Int>)
        case choice([String])
    }

    /// The path in a YAML file, joined by dots.
    let name: String
    let kind: Kind
    let help: String

    /// The environment variable: `LIBOS`, or `DEMIKERNEL_` and the path in capitals.
    var environmentName: String {
        if name == "demikernel.libos" { return "LIBOS" }
        let path = name.hasPrefix("demikernel.") ? String(name.dropFirst("demikernel.".count)) : name
        return "DEMIKERNEL_" + path.uppercased().map { $0.isLetter || $0.isNumber ? String($0) : "_" }.joined()
    }

    static let libOS = SettingKey(name: "demikernel.libos", kind: .text, help: "The library OS.")
    static let path = SettingKey(
        name: "demikernel.path", kind: .text, help: "Where a server over shared memory listens: the path of a socket, which it makes for its user alone.")
    static let shards = SettingKey(
        name: "demikernel.shards", kind: .integer(1...64),
        help: "Runtimes that share the work, each on a thread and, where there are enough, a processor of its own, with memory and limits of its own.")
    static let idle = SettingKey(
        name: "demikernel.idle", kind: .choice(["spin", "adaptive"]),
        help: "What to do when nothing is ready: poll for ever, or sleep until something happens.")
    static let spinMicroseconds = SettingKey(
        name: "demikernel.idle_spin_micros", kind: .integer(0...1_000_000),
        help: "With adaptive idling: how long to poll after the last progress before sleeping.")
    static let memory = SettingKey(
        name: "demikernel.memory_mebibytes", kind: .integer(4...65_536), help: "Memory for buffers, of each shard.")
    static let maximumQueues = SettingKey(
        name: "demikernel.limits.maximum_queues", kind: .integer(1...1_048_575), help: "Queues, connections among them, open at once.")
    static let maximumOperations = SettingKey(
        name: "demikernel.limits.maximum_operations", kind: .integer(1...1_048_575), help: "Operations pending or not redeemed at once.")

    static let device = SettingKey(
        name: "demikernel.device", kind: .text, help: "With catnip: the Ethernet device, \(DeviceSpecification.forms.joined(separator: " or ")).")
    static let address = SettingKey(
        name: "demikernel.address", kind: .list, help: "With catnip: the addresses with their prefixes, such as 10.0.0.2/24,2001:db8::2/64.")
    static let gateway = SettingKey(name: "demikernel.gateway", kind: .list, help: "With catnip: the default gateway, one of each family.")
    static let macAddress = SettingKey(
        name: "demikernel.local_link_addr", kind: .text, help: "With catnip: the hardware address; the device's own when left out.")
    static let neighbors = SettingKey(
        name: "demikernel.neighbors", kind: .list, help: "With catnip: neighbours that are never asked for (ARP, NDP), such as 10.0.0.1=02:00:00:00:00:01.")
    static let mtu = SettingKey(
        name: "inetstack_config.mtu", kind: .integer(576...65_521), help: "With catnip: bytes of the largest packet; the device's when left out.")

    static let keepAliveEnabled = SettingKey(
        name: "tcp_socket_options.keepalive.enabled", kind: .boolean, help: "Probe silent peers.")
    static let keepAliveTime = SettingKey(
        name: "tcp_socket_options.keepalive.time_millis", kind: .integer(1_000...32_767_000), help: "Milliseconds of silence before the first probe.")
    static let keepAliveInterval = SettingKey(
        name: "tcp_socket_options.keepalive.interval", kind: .integer(1...32_767), help: "Seconds between probes.")
    static let lingerEnabled = SettingKey(
        name: "tcp_socket_options.linger.enabled", kind: .boolean, help: "Bound the time in which a close sends what is left.")
    static let lingerTime = SettingKey(
        name: "tcp_socket_options.linger.time_seconds", kind: .integer(0...32_767), help: "That time; 0 resets the connection.")
    static let noDelay = SettingKey(
        name: "tcp_socket_options.nodelay", kind: .boolean, help: "Send small segments at once.")

    /// Everything that is read.
    static let all = [
        libOS, path, device, address, gateway, mtu, macAddress, neighbors, shards, idle, spinMicroseconds, memory, maximumQueues, maximumOperations,
        keepAliveEnabled, keepAliveTime, keepAliveInterval, lingerEnabled, lingerTime, noDelay,
    ]

    /// What only a library OS with an interface of its own reads.
    static let ofInterface = [device, address, gateway, mtu, macAddress, neighbors]

    /// The flag that sets it, for those that have one.
    var flag: String {
        switch name {
        case SettingKey.macAddress.name: "--mac-address"
        case SettingKey.neighbors.name: "--neighbor"
        default: "--" + (name.split(separator: ".").last ?? "")
        }
    }

    /// Settings of the original for library OSes over Ethernet devices: an existing file may hold them, and nothing here reads them.
    static let foreign = [
        "demikernel.local_ipv4_addr", "raw_socket.linux_interface_name", "dpdk.eal_init",
        "inetstack_config.mss", "inetstack_config.enable_jumbo_frames", "inetstack_config.udp_checksum_offload",
        "inetstack_config.tcp_checksum_offload", "inetstack_config.arp_request_retries", "inetstack_config.arp_request_timeout",
        "inetstack_config.arp_cache_ttl",
    ]
    /// A table whose keys are the user's own.
    static let foreignTable = "inetstack_config.arp_table"

    static func isKnown(_ name: String) -> Bool {
        all.contains { $0.name == name } || foreign.contains(name) || name == foreignTable || name.hasPrefix(foreignTable + ".")
    }

    /// The settings that a file and the environment may hold, for `--help`.
    static var listing: String {
        let rows = all.map { key in
            "  \(key.name)\n      \(key.environmentName): \(key.help)\(key.range.map { " \($0)" } ?? "")"
        }
        return """
            SETTINGS
            A flag wins over the environment, and that over the YAML file named by --config or CONFIG_PATH.
            \(rows.joined(separator: "\n"))
            """
    }

    private var range: String? {
        switch kind {
        case .text, .list: nil
        case .boolean: "true or false."
        case .integer(let range): "\(range.lowerBound) to \(range.upperBound)."
        case .choice(let choices): choices.joined(separator: " or ") + "."
        }
    }
}
