import ArgumentParser
import Demikernel

/// Options of a server about who may look at it.
struct TelemetryOptions: ParsableArguments {
    @Flag(inversion: .prefixedNo, help: "Publish telemetry for `demikernel top`, `metrics` and `capture` at a socket of this user's.")
    var telemetry = true

    @Option(help: ArgumentHelp("With catnip: capture all frames to this pcapng file, which must not exist.", valueName: "file"))
    var capture: String?

    /// Publishes the process. Where that cannot be done, a line says so, and the server serves.
    func publish(_ command: String) -> TelemetryServer? {
        guard telemetry else { return nil }
        do throws(DemikernelError) {
            return try TelemetryServer(program: command)
        } catch {
            StandardStreams.writeError("demikernel \(command): no telemetry: \(error)\n")
            return nil
        }
    }

    /// Makes the file of a capture, if one is asked for.
    func beginCapture(_ command: String, _ settings: ServerSettings) throws -> ServerCapture? {
        guard let capture else { return nil }
        guard settings.interface != nil else {
            throw ValidationError("--capture needs --libos catnip: only an Ethernet device has frames to capture")
        }
        return try ServerCapture(path: capture, replaces: false, shards: settings.shards, command: command)
    }
}
