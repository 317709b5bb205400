import ArgumentParser
import Glibc

/// The options of a server that settings can come from as well.
struct SettingsOptions: ParsableArguments {
    @Option(
        help: ArgumentHelp(
            "The library OS that carries the I/O: catnap (kernel sockets), catmem (shared memory) or catnip (user-level TCP/IP). (environment: LIBOS)",
            valueName: "name"))
    var libos: String?

    @Option(help: ArgumentHelp("Where to listen with catmem: the path of a socket to make. (environment: DEMIKERNEL_PATH)", valueName: "path"))
    var path: String?

    @Option(help: ArgumentHelp("With catnip: the Ethernet device, such as tap:demi0, xdp:eth0 or memif:/run/x.sock,role=server. (environment: DEMIKERNEL_DEVICE)", valueName: "kind:interface"))
    var device: String?

    @Option(
        help: ArgumentHelp(
            "With catnip: an address of the stack, of either family; may be repeated. (environment: DEMIKERNEL_ADDRESS)", valueName: "address/length"))
    var address: [String] = []

    @Option(
        help: ArgumentHelp(
            "With catnip: the default gateway, one of each family. (environment: DEMIKERNEL_GATEWAY)", valueName: "address"))
    var gateway: [String] = []

    @Option(help: ArgumentHelp("With catnip: bytes of the largest packet. (environment: DEMIKERNEL_INETSTACK_CONFIG_MTU)", valueName: "bytes"))
    var mtu: String?

    @Option(help: ArgumentHelp("With catnip: the stack's hardware address. (environment: DEMIKERNEL_LOCAL_LINK_ADDR)", valueName: "address"))
    var macAddress: String?

    @Option(
        help: ArgumentHelp(
            "With catnip: a neighbour that is never asked for, such as 10.0.0.1=02:00:00:00:00:01; may be repeated. (environment: DEMIKERNEL_NEIGHBORS)",
            valueName: "address=address"))
    var neighbor: [String] = []

    @Option(
        help: ArgumentHelp(
            "Runtimes that share the work, each on a thread of its own. (environment: DEMIKERNEL_SHARDS)", valueName: "count"))
    var shards: String?

    @Option(
        help: ArgumentHelp(
            "When nothing is ready: spin (the least latency, a whole core) or adaptive (sleeps soon). (environment: DEMIKERNEL_IDLE)", valueName: "policy"))
    var idle: String?

    @Option(help: ArgumentHelp("Memory for buffers. (environment: DEMIKERNEL_MEMORY_MEBIBYTES)", valueName: "MiB"))
    var memory: String?

    @Option(help: ArgumentHelp("A YAML file of settings. (environment: CONFIG_PATH)", valueName: "file"))
    var config: String?

    /// The settings, or one message with everything that is wrong with them, and exit code 64.
    func read(environment: [String: String] = Self.processEnvironment()) throws -> ServerSettings {
        var sources = [
            SettingsSource.flags([
                (.libOS, SettingKey.libOS.flag, libos), (.path, SettingKey.path.flag, path), (.device, SettingKey.device.flag, device),
                (.address, SettingKey.address.flag, Self.joined(address)),
                (.gateway, SettingKey.gateway.flag, Self.joined(gateway)), (.mtu, SettingKey.mtu.flag, mtu),
                (.macAddress, SettingKey.macAddress.flag, macAddress), (.neighbors, SettingKey.neighbors.flag, Self.joined(neighbor)),
                (.shards, SettingKey.shards.flag, shards), (.idle, SettingKey.idle.flag, idle), (.memory, SettingKey.memory.flag, memory),
            ]),
            SettingsSource.environment(environment.filter { $0.key == "LIBOS" || $0.key.hasPrefix("DEMIKERNEL_") }),
        ]
        var mistakes: [String] = []
        if let path = config ?? environment["CONFIG_PATH"], !path.isEmpty {
            do throws(CommandFailure) {
                sources.append(try .file(path))
            } catch {
                mistakes.append("\(error)")
            }
        }
        let (settings, found) = SettingsReader.read(sources)
        mistakes += found
        guard mistakes.isEmpty else {
            let head = mistakes.count == 1 ? "" : "\(mistakes.count) mistakes in the settings:\n  "
            StandardStreams.writeError("Error: \(head)\(mistakes.joined(separator: "\n  "))\n")
            throw ExitCode.validationFailure
        }
        return settings
    }

    private static func joined(_ words: [String]) -> String? { words.isEmpty ? nil : words.joined(separator: ",") }

    static func processEnvironment() -> [String: String] {
        var result: [String: String] = [:]
        var entry = environ
        while let text = entry.pointee {
            let line = String(cString: text)
            if let equals = line.firstIndex(of: "=") { result[String(line[..<equals])] = String(line[line.index(after: equals)...]) }
            entry += 1
        }
        return result
    }
}
