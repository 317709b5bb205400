import Demikernel

/// Merges the sources of settings into one struct, and gathers every mistake on the way instead of stopping at the first.
struct SettingsReader {
    private let sources: [SettingsSource]
    private(set) var mistakes: [String] = []

    /// - Parameter sources: the first that sets a value wins.
    init(_ sources: [SettingsSource]) {
        self.sources = sources
    }

    /// The settings, or all that is wrong with them.
    static func read(_ sources: [SettingsSource]) -> (settings: ServerSettings, mistakes: [String]) {
        var reader = SettingsReader(sources)
        let settings = reader.readServer()
        return (settings, reader.mistakes)
    }

    private mutating func readServer() -> ServerSettings {
        for source in sources { mistakes += source.unknownNames.map(source.describeUnknown) }
        var settings = ServerSettings()
        if let (text, label) = raw(.libOS) {
            if let libOS = LibraryOSName(rawValue: text) {
                settings.libOS = libOS
            } else {
                mistakes.append("\(label): \(LibraryOSName.mistake(text))")
            }
        }
        settings.path = raw(.path)?.text
        if settings.libOS == .catmem, settings.path == nil {
            mistakes.append("catmem listens at a path, which is missing: --path /run/user/1000/x.sock, for example")
        } else if settings.libOS != .catmem, isSet(.path) {
            mistakes.append("\(labelOfSet(.path)): has a meaning with catmem only; take --listen for \(settings.libOS.rawValue), or --libos catmem")
        }
        readInterface(&settings)
        if let choice = choice(.idle) { settings.idle = ServerSettings.Idle(rawValue: choice)! }
        if let shards = integer(.shards) { settings.shards = shards }
        if settings.shards > 1, !settings.servesShards {
            mistakes.append(
                "\(labelOfSet(.shards)): \(settings.carrier) serves one shard in this version; use --libos catnap, --device tap:… or xdp:…, or leave it out")
        }
        settings.spinMicroseconds = integer(.spinMicroseconds)
        settings.memoryMebibytes = integer(.memory)
        settings.maximumQueues = integer(.maximumQueues)
        settings.maximumOperations = integer(.maximumOperations)
        if let noDelay = boolean(.noDelay) { settings.noDelay = noDelay }

        let keepAliveTime = integer(.keepAliveTime)
        let keepAliveInterval = integer(.keepAliveInterval)
        if boolean(.keepAliveEnabled) == true {
            var keepAlive = ServerSettings.KeepAlive()
            if let keepAliveTime { keepAlive.timeMilliseconds = keepAliveTime }
            if let keepAliveInterval { keepAlive.intervalSeconds = keepAliveInterval }
            settings.keepAlive = keepAlive
        }
        let lingerTime = integer(.lingerTime)
        if boolean(.lingerEnabled) == true {
            if let lingerTime {
                settings.lingerSeconds = lingerTime
            } else if !isSet(.lingerTime) {
                mistakes.append("\(labelOfSet(.lingerEnabled)): lingering needs \(SettingKey.lingerTime.name) as well")
            }
        }
        if settings.idle == .spin, isSet(.spinMicroseconds) {
            mistakes.append("\(labelOfSet(.spinMicroseconds)): has no meaning with idle set to spin; use adaptive, or leave it out")
        }
        return settings
    }

    /// The interface of a library OS that needs one. One that needs none ignores what a file or the environment says of it, but no flag.
    private mutating func readInterface(_ settings: inout ServerSettings) {
        guard settings.libOS.needsDevice else {
            for key in SettingKey.ofInterface {
                if let (_, label) = raw(key), label.hasPrefix("-") {
                    mistakes.append("\(label): has no meaning with the library OS \(settings.libOS.rawValue); use --libos catnip, or leave it out")
                }
            }
            return
        }
        let device = raw(.device)
        let addresses = list(.address)
        if device == nil {
            mistakes.append(
                "\(SettingKey.device.flag): the library OS \(settings.libOS.rawValue) needs a device: \(DeviceSpecification.forms.joined(separator: " or "))")
        }
        do throws(ConfigurationMistakes) {
            settings.interface = try InterfaceConfiguration(
                device: device?.text ?? "tap:demi0", addresses: addresses, gateways: list(.gateway), maximumTransmissionUnit: integer(.mtu),
                macAddress: raw(.macAddress)?.text, neighbors: list(.neighbors))
        } catch {
            mistakes += error.mistakes.map { "the interface of \(settings.libOS.rawValue): \($0)" }
        }
    }

    // MARK: One value

    private mutating func list(_ key: SettingKey) -> [String] {
        raw(key)?.text.split(separator: ",").map { String($0.drop { $0 == " " }) } ?? []
    }

    /// The text of the first source that has the key, and how a mistake names its place.
    private mutating func raw(_ key: SettingKey) -> (text: String, label: String)? {
        for source in sources {
            do {
                if let text = try source.value(key) { return (text, source.label(key)) }
            } catch {
                mistakes.append("\(source.label(key)): must be \(Self.expectation(key)), not a list")
                return nil
            }
        }
        return nil
    }

    private func isSet(_ key: SettingKey) -> Bool {
        sources.contains { source in
            do { return try source.value(key) != nil } catch { return true }
        }
    }

    private func labelOfSet(_ key: SettingKey) -> String {
        let source = sources.first { source in (try? source.value(key)) != nil }
        return (source ?? sources[0]).label(key)
    }

    private mutating func integer(_ key: SettingKey) -> Int? {
        guard case .integer(let range) = key.kind else { preconditionFailure("\(key.name) is no integer") }
        guard let (text, label) = raw(key) else { return nil }
        guard let value = Int(text), range.contains(value) else {
            mistakes.append("\(label): must be \(Self.expectation(key)), not \"\(text)\"")
            return nil
        }
        return value
    }

    private mutating func boolean(_ key: SettingKey) -> Bool? {
        guard let (text, label) = raw(key) else { return nil }
        switch text.lowercased() {
        case "true", "yes", "on", "1": return true
        case "false", "no", "off", "0": return false
        default:
            mistakes.append("\(label): must be \(Self.expectation(key)), not \"\(text)\"")
            return nil
        }
    }

    private mutating func choice(_ key: SettingKey) -> String? {
        guard case .choice(let choices) = key.kind else { preconditionFailure("\(key.name) is no choice") }
        guard let (text, label) = raw(key) else { return nil }
        guard choices.contains(text) else {
            let suggestion = NearMiss.suggestion(for: text, among: choices).map { " (did you mean \($0)?)" } ?? ""
            mistakes.append("\(label): must be \(Self.expectation(key)), not \"\(text)\"\(suggestion)")
            return nil
        }
        return text
    }

    private static func expectation(_ key: SettingKey) -> String {
        switch key.kind {
        case .text: "a word"
        case .list: "words, joined by commas"
        case .boolean: "true or false"
        case .integer(let range): "a whole number from \(range.lowerBound) to \(range.upperBound)"
        case .choice(let choices): choices.joined(separator: " or ")
        }
    }
}
