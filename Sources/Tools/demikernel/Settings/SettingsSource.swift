import Configuration
import Glibc
import Synchronization

/// One place that settings come from, in order of precedence: flags, environment, file.
struct SettingsSource {
    /// How mistakes name it: "--idle", "DEMIKERNEL_IDLE", "server.yaml: demikernel.idle".
    let label: (SettingKey) -> String
    /// The value as text, nil when it is not set. Throws when it is set to something that is no text, such as a list.
    let value: (SettingKey) throws -> String?
    /// Names in it that mean nothing, for near-miss suggestions.
    let unknownNames: [String]
    /// How `unknownNames` are shown, and what they are compared with.
    let describeUnknown: (String) -> String

    /// Values given as flags, by key.
    static func flags(_ values: [(key: SettingKey, flag: String, value: String?)]) -> SettingsSource {
        var providerValues: [AbsoluteConfigKey: ConfigValue] = [:]
        var labels: [String: String] = [:]
        for (key, flag, value) in values {
            labels[key.name] = flag
            if let value { providerValues[key.path] = ConfigValue(.string(value), isSecret: false) }
        }
        let provider = InMemoryProvider(name: "flags", values: providerValues)
        return SettingsSource(
            label: { labels[$0.name] ?? $0.name },
            value: { try provider.value(forKey: $0.path, type: .string).text },
            unknownNames: [], describeUnknown: { $0 })
    }

    /// The environment: `LIBOS`, and variables whose names begin with `DEMIKERNEL_`.
    static func environment(_ variables: [String: String]) -> SettingsSource {
        let provider = EnvironmentVariablesProvider(environmentVariables: variables)
        let known = SettingKey.all.map(\.environmentName)
        return SettingsSource(
            label: \.environmentName,
            value: { key in
                // An empty variable is how a shell unsets one for a single command.
                try provider.environmentValue(forName: key.environmentName).flatMap { $0.isEmpty ? nil : $0 }
            },
            unknownNames: variables.keys.filter { $0.hasPrefix("DEMIKERNEL_") && !known.contains($0) }.sorted(),
            describeUnknown: { name in
                "unknown environment variable \(name)" + (NearMiss.suggestion(for: name, among: known).map { ", did you mean \($0)?" } ?? "")
            })
    }

    /// A YAML file's contents; throws when it cannot be read as YAML.
    static func yaml(_ bytes: [UInt8], name: String) throws(CommandFailure) -> SettingsSource {
        // The parser shows every key to the specifier of secrets: the one way to learn which keys a file has.
        let seen = Mutex<[String]>([])
        let snapshot: YAMLSnapshot
        do {
            let options = YAMLSnapshot.ParsingOptions(
                secretsSpecifier: .dynamic { key, _ in
                    seen.withLock { $0.append(key) }
                    return false
                })
            // A file without a single setting is no mapping to the parser.
            let isBlank = String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline).allSatisfy { line in
                line.first { !$0.isWhitespace }.map { $0 == "#" } ?? true
            }
            snapshot = try YAMLSnapshot(data: (isBlank ? Array("{}".utf8) : bytes).span.bytes, providerName: name, parsingOptions: options)
        } catch {
            throw CommandFailure("\(name) is not a YAML file of settings: \(error)")
        }
        let names = seen.withLock { $0 }
        return SettingsSource(
            label: { "\(name): \($0.name)" },
            value: { key in
                do {
                    return try snapshot.value(forKey: key.path, type: .string).text
                } catch where key.kind == .list {
                    return try snapshot.value(forKey: key.path, type: .stringArray).text
                }
            },
            unknownNames: names.filter { !SettingKey.isKnown($0) }.sorted(),
            describeUnknown: { unknown in
                let known = SettingKey.all.map(\.name) + SettingKey.foreign
                return "\(name): unknown setting \(unknown)" + (NearMiss.suggestion(for: unknown, among: known).map { ", did you mean \($0)?" } ?? "")
            })
    }

    /// Reads the YAML file at `path`.
    static func file(_ path: String) throws(CommandFailure) -> SettingsSource {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw CommandFailure("read the settings file \(path)", errno: errno) }
        defer { close(descriptor) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let count = read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw CommandFailure("read the settings file \(path)", errno: errno) }
            if count == 0 { break }
            bytes += buffer[..<count]
            guard bytes.count <= 1 << 20 else { throw CommandFailure("the settings file \(path) is larger than a mebibyte") }
        }
        return try yaml(bytes, name: path)
    }
}

extension SettingKey {
    fileprivate var path: AbsoluteConfigKey { AbsoluteConfigKey(name.split(separator: ".").map(String.init)) }
}

extension LookupResult {
    fileprivate var text: String? {
        switch value?.content {
        case .string(let text): text
        case .stringArray(let words): words.joined(separator: ",")
        default: nil
        }
    }
}
