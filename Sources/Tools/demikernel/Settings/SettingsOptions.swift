import ArgumentParser
import Glibc

/// The options of a server that settings can come from as well.
struct SettingsOptions: ParsableArguments {
    @Option(help: ArgumentHelp("The library OS that carries the I/O: catnap (kernel sockets), catmem (shared memory). (environment: LIBOS)", valueName: "name"))
    var libos: String?

    @Option(help: ArgumentHelp("Where to listen with catmem: the path of a socket to make. (environment: DEMIKERNEL_PATH)", valueName: "path"))
    var path: String?

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
                (.libOS, "--libos", libos), (.path, "--path", path), (.idle, "--idle", idle), (.memory, "--memory", memory),
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
