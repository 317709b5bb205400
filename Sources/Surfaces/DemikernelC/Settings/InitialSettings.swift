import DatapathMemory
import Glibc
import QueueRuntime

/// What a thread's runtime is made from: the environment, and the file that it names.
struct InitialSettings {
    var libraryOS = LibraryOSChoice.catnap
    var file = FileSettings()

    /// Reads `LIBOS` and `CONFIG_PATH`.
    /// - Throws: what is wrong with both.
    static func fromEnvironment() throws(InitializationFailure) -> InitialSettings {
        var settings = InitialSettings()
        var failures: [InitializationFailure] = []
        do throws(InitializationFailure) { settings.libraryOS = try .named(variable("LIBOS")) } catch { failures.append(error) }
        if let path = variable("CONFIG_PATH"), !path.isEmpty {
            do throws(InitializationFailure) { settings.file = try .reading(path: path) } catch { failures.append(error) }
        }
        guard failures.isEmpty else { throw InitializationFailure(failures[0].errno, failures.flatMap(\.sentences)) }
        return settings
    }

    private static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

    var runtimeConfiguration: RuntimeConfiguration {
        var configuration = RuntimeConfiguration()
        configuration.memory.arenaByteCount = file.heapMebibytes << 20
        // Only a device has to have the memory at once; for the others a thread starts faster.
        configuration.memory.commitsAtStart = libraryOS.hasDevice
        if file.spins { configuration.idle = .spin }
        return configuration
    }
}
