import Demikernel
import Glibc
import SharedMemoryQueues
import WireFormats

/// What `CONFIG_PATH` says, checked: every value is in range, and none contradicts another.
struct FileSettings {
    var localIPv4Address: IPAddress?
    var localIPv4PrefixLength: UInt8 = 24
    var gatewayIPv4Address: IPAddress?
    var localIPv6Address: IPAddress?
    var localIPv6PrefixLength: UInt8 = 64
    var localLinkAddress: MACAddress?
    var interfaceName: String?
    /// The device of the user-level network.
    var device: DeviceSpecification?
    /// Arguments of DPDK's environment.
    var dpdkArguments: [String] = []
    /// Where Catmem's sockets with IP addresses stand; nil for the standard place.
    var sharedMemoryDirectory: String?
    /// How long a thread that ends stays for what is still to be sent.
    var exitLingerMilliseconds = 5_000
    var heapMebibytes = 64
    var spins = false
    var socketDefaults = SocketDefaults()
    var maximumTransmissionUnit: Int?
    var maximumSegmentSize: Int?
    var allowsJumboFrames = false
    /// Whether the device may compute checksums, where it can; nil, the default: it may.
    var offloadsUDPChecksum: Bool?
    var offloadsTCPChecksum: Bool?
    var neighbors: [(address: IPAddress, macAddress: MACAddress)] = []

    // Read together and joined at the end.
    fileprivate var keepAliveMilliseconds: Int?
    fileprivate var keepAliveInterval: Int?
    fileprivate var lingers: Bool?
    fileprivate var lingerSeconds: Int?

    init() {}

    /// Reads settings from the text of a file.
    /// - Returns: the settings, and every mistake in them; what is mistaken has its default.
    static func reading(_ text: [UInt8]) -> (FileSettings, mistakes: [String]) {
        let reader = SettingsReader(text)
        var settings = FileSettings()
        var mistakes = reader.mistakes
        for entry in reader.entries {
            if let sentence = settings.take(entry) { mistakes.append("line \(entry.line): \(entry.path.joined(separator: ".")): \(sentence)") }
        }
        mistakes += settings.join()
        return (settings, mistakes)
    }

    /// Reads settings from a file.
    /// - Throws: `ENOENT`, `EACCES` and what else the kernel says; `EINVAL` with every mistake.
    static func reading(path: String) throws(InitializationFailure) -> FileSettings {
        let file = open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { throw FileSettings.cannotRead(path, errno) }
        defer { close(file) }
        var text = [UInt8](repeating: 0, count: SettingsReader.maximumByteCount + 1)
        var count = 0
        while count < text.count {
            let read = text.withUnsafeMutableBytes { Glibc.read(file, $0.baseAddress.unsafelyUnwrapped + count, $0.count - count) }
            if read < 0 && errno == EINTR { continue }
            guard read >= 0 else { throw FileSettings.cannotRead(path, errno) }
            if read == 0 { break }
            count += read
        }
        let (settings, mistakes) = reading(Array(text[..<count]))
        guard mistakes.isEmpty else { throw InitializationFailure(EINVAL, mistakes.map { "\(path): \($0)" }) }
        return settings
    }

    private static func cannotRead(_ path: String, _ error: Int32) -> InitializationFailure {
        InitializationFailure(error, "CONFIG_PATH=\(path): \(String(cString: strerror(error)))")
    }

    // MARK: Keys

    /// Takes one setting over.
    /// - Returns: what is wrong with it; nil for nothing.
    private mutating func take(_ entry: SettingsReader.Entry) -> String? {
        let path = entry.path
        if path.count == 3, path[0] == "inetstack_config", path[1] == "arp_table" { return takeNeighbor(path[2], entry.value) }
        guard let key = SettingKey.all.first(where: { $0.path == path.joined(separator: ".") && $0.path.count { $0 == "." } == path.count - 1 }) else {
            return SettingKey.sections.contains(path.joined(separator: ".")) && entry.value == .nothing ? nil : "there is no such key"
        }
        return key.take(entry.value, &self)
    }

    private mutating func takeNeighbor(_ link: String, _ value: SettingsReader.Value) -> String? {
        guard let macAddress = MACAddress(parsing: link), !macAddress.isGroup else { return "the key is no hardware address of one host" }
        guard case .text(let text) = value, let address = IPAddress(parsing: text), address.isIPv4 else { return "the value is no IPv4 address" }
        guard neighbors.count < SettingKey.maximumNeighbors else { return "there are more than \(SettingKey.maximumNeighbors) neighbours" }
        neighbors.append((address, macAddress))
        return nil
    }

    /// Joins what depends on each other.
    /// - Returns: contradictions.
    private mutating func join() -> [String] {
        var mistakes: [String] = []
        // Whole seconds, as the kernel and the stack count them, and none of them 0.
        if let milliseconds = keepAliveMilliseconds { socketDefaults.keepAliveIdle = (milliseconds + 999) / 1_000 }
        if let interval = keepAliveInterval { socketDefaults.keepAliveInterval = (interval + 999) / 1_000 }
        if lingers == true {
            socketDefaults.lingerSeconds = lingerSeconds ?? 0
        }
        let unit = maximumTransmissionUnit ?? 1_500
        if unit > 1_500 && !allowsJumboFrames {
            mistakes.append("inetstack_config.mtu: more than 1500 needs inetstack_config.enable_jumbo_frames: true")
        }
        if let size = maximumSegmentSize, size > unit - 40 {
            mistakes.append("inetstack_config.mss: \(size) does not fit into an MTU of \(unit) beside 40 bytes of headers")
        }
        if let gateway = gatewayIPv4Address {
            if let address = localIPv4Address {
                if !IPv4Prefix(address: address, length: localIPv4PrefixLength).contains(gateway) {
                    mistakes.append("demikernel.gateway_ipv4_addr: the gateway is not within demikernel.local_ipv4_addr's prefix")
                }
            } else {
                mistakes.append("demikernel.gateway_ipv4_addr: needs demikernel.local_ipv4_addr")
            }
        }
        return mistakes
    }
}

/// One key of the settings.
struct SettingKey {
    /// With dots between its parts.
    let path: String
    /// Takes a value over; returns what is wrong with it.
    fileprivate let take: (SettingsReader.Value, inout FileSettings) -> String?

    static let maximumNeighbors = 256
    static let maximumArguments = 64

    /// Keys that hold others: empty ones say nothing.
    static let sections = [
        "demikernel", "raw_socket", "dpdk", "tcp_socket_options", "tcp_socket_options.keepalive", "tcp_socket_options.linger", "inetstack_config",
        "inetstack_config.arp_table",
    ]

    static var all: [SettingKey] {
        [
            address("demikernel.local_ipv4_addr", isIPv4: true) { $1.localIPv4Address = $0 },
            number("demikernel.local_ipv4_prefix_length", 1...32) { $1.localIPv4PrefixLength = UInt8($0) },
            address("demikernel.gateway_ipv4_addr", isIPv4: true) { $1.gatewayIPv4Address = $0 },
            address("demikernel.local_ipv6_addr", isIPv4: false) { $1.localIPv6Address = $0 },
            number("demikernel.local_ipv6_prefix_length", 1...128) { $1.localIPv6PrefixLength = UInt8($0) },
            text("demikernel.local_link_addr", "is no hardware address of one host, as in 02:00:00:00:00:01") { text, settings in
                guard let address = MACAddress(parsing: text), !address.isGroup else { return false }
                // All zeros stand for the interface's own.
                settings.localLinkAddress = address.value == 0 ? nil : address
                return true
            },
            SettingKey(path: "demikernel.device") { value, settings in
                guard case .text(let text) = value else { return "is no device, such as tap:demi0" }
                do throws(ConfigurationMistakes) {
                    settings.device = try DeviceSpecification(parsing: text)
                    return nil
                } catch {
                    return error.mistakes.joined(separator: "; ")
                }
            },
            text("demikernel.catmem_directory", "is no directory's path: one begins with / and has at most \(SharedMemoryQueues.maximumDirectoryByteCount) bytes") {
                $1.sharedMemoryDirectory = $0
                return $0.hasPrefix("/") && !$0.utf8.contains(0) && $0.utf8.count <= SharedMemoryQueues.maximumDirectoryByteCount
            },
            number("demikernel.exit_linger_millis", 0...60_000) { $1.exitLingerMilliseconds = $0 },
            number("demikernel.heap_mebibytes", 4...65_536) { $1.heapMebibytes = $0 },
            text("demikernel.idle", "is neither spin nor adaptive") { text, settings in
                settings.spins = text == "spin"
                return text == "spin" || text == "adaptive"
            },
            text("raw_socket.linux_interface_name", "is no name of an interface: one has 1 to 15 letters, and neither space nor /") { text, settings in
                settings.interfaceName = text
                return (1...15).contains(text.utf8.count) && text != "." && text != ".."
                    && text.utf8.allSatisfy { $0 > 0x20 && $0 < 0x7f && $0 != UInt8(ascii: "/") && $0 != UInt8(ascii: ":") }
            },
            SettingKey(path: "dpdk.eal_init") { value, settings in
                guard case .list(let items) = value else { return "the value is no list of words" }
                guard items.count <= maximumArguments else { return "there are more than \(maximumArguments) words" }
                settings.dpdkArguments = items
                return nil
            },
            flag("tcp_socket_options.keepalive.enabled") { $1.socketDefaults.keepAlive = $0 },
            number("tcp_socket_options.keepalive.time_millis", 1...32_767_000) { $1.keepAliveMilliseconds = $0 },
            number("tcp_socket_options.keepalive.interval", 1...32_767_000) { $1.keepAliveInterval = $0 },
            flag("tcp_socket_options.linger.enabled") { $1.lingers = $0 },
            number("tcp_socket_options.linger.time_seconds", 0...65_535) { $1.lingerSeconds = $0 },
            flag("tcp_socket_options.nodelay") { $1.socketDefaults.noDelay = $0 },
            number("inetstack_config.mtu", 576...65_535) { $1.maximumTransmissionUnit = $0 },
            number("inetstack_config.mss", 64...65_495) { $1.maximumSegmentSize = $0 },
            flag("inetstack_config.enable_jumbo_frames") { $1.allowsJumboFrames = $0 },
            flag("inetstack_config.udp_checksum_offload") { $1.offloadsUDPChecksum = $0 },
            flag("inetstack_config.tcp_checksum_offload") { $1.offloadsTCPChecksum = $0 },
            // The stack asks for neighbours as RFC 1122 and RFC 4861 have it, whatever these say.
            number("inetstack_config.arp_request_retries", 0...1_000) { _, _ in },
            number("inetstack_config.arp_request_timeout", 0...86_400) { _, _ in },
            number("inetstack_config.arp_cache_ttl", 0...31_536_000) { _, _ in },
        ]
    }

    private static func text(_ path: String, _ refusal: String, _ take: @escaping (String, inout FileSettings) -> Bool) -> SettingKey {
        SettingKey(path: path) { value, settings in
            guard case .text(let text) = value else { return "the value is missing, or no single one" }
            return take(text, &settings) ? nil : "\(text) \(refusal)"
        }
    }

    private static func number(_ path: String, _ range: ClosedRange<Int>, _ take: @escaping (Int, inout FileSettings) -> Void) -> SettingKey {
        text(path, "is no number from \(range.lowerBound) to \(range.upperBound)") { text, settings in
            guard text.utf8.allSatisfy({ (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) }), let number = Int(text), range.contains(number) else {
                return false
            }
            take(number, &settings)
            return true
        }
    }

    private static func flag(_ path: String, _ take: @escaping (Bool, inout FileSettings) -> Void) -> SettingKey {
        text(path, "is neither true nor false") { text, settings in
            switch text {
            case "true", "True", "TRUE": take(true, &settings)
            case "false", "False", "FALSE": take(false, &settings)
            default: return false
            }
            return true
        }
    }

    private static func address(_ path: String, isIPv4: Bool, _ take: @escaping (IPAddress, inout FileSettings) -> Void) -> SettingKey {
        text(path, isIPv4 ? "is no IPv4 address of one host" : "is no IPv6 address of one host") { text, settings in
            guard let address = IPAddress(parsing: text), address.isIPv4 == isIPv4, !address.isUnspecified, !address.isMulticast else { return false }
            take(address, &settings)
            return true
        }
    }
}
