import ArgumentParser
import Glibc

struct CaptureCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "capture",
        abstract: "Write the frames of a running process's Ethernet devices to a pcapng file.",
        discussion: """
            For tcpdump, tshark and Wireshark: frames that never pass the kernel cannot be seen otherwise. The process pays for it only while it lasts, and \
            never waits: frames that do not fit are dropped from the capture, and counted at its end. A server captures from its first frame on with \
            --capture, as in `demikernel kv --capture kv.pcapng`. Ends with Ctrl-C, or with the process.

            EXAMPLES
              demikernel capture 1234 --output kv.pcapng --duration 10
              demikernel capture --output - | tcpdump -n -r -
              demikernel capture 1234 --output heads.pcapng --snapshot 96 --count 1000

            Exit codes: 0, or 1 when there is no such process, or the file cannot be written.
            """)

    @Argument(help: ArgumentHelp("The number of a process, or the path of its telemetry socket.", valueName: "process"))
    var process: String?

    @Option(name: .shortAndLong, help: ArgumentHelp("The file to write; - for standard output.", valueName: "file"))
    var output: String

    @Option(name: .shortAndLong, help: ArgumentHelp("Bytes of each frame to keep.", valueName: "bytes"))
    var snapshot = 262_144

    @Option(name: .shortAndLong, help: ArgumentHelp("End after so many frames.", valueName: "frames"))
    var count: Int?

    @Option(name: .shortAndLong, help: ArgumentHelp("End after so many seconds.", valueName: "seconds"))
    var duration: Double?

    @Flag(name: .shortAndLong, help: "Replace the file if it exists.")
    var force = false

    func validate() throws {
        guard (14...262_144).contains(snapshot) else { throw ValidationError("--snapshot must be 14 to 262144 bytes") }
        if let count, count < 1 { throw ValidationError("--count must be at least 1") }
        if let duration, !(duration > 0 && duration <= 1e9) { throw ValidationError("--duration must be more than 0 seconds") }
    }

    func run() throws {
        // A reader of the pipe that goes is an error of the write, not a signal.
        signal(SIGPIPE, SIG_IGN)
        let path = try TelemetryTarget.path(process, command: "capture")
        let runtimes = MetricSamples(parsing: try TelemetryClient(path: path).metrics()).values(of: "runtime", in: "demikernel_runtime_up")
        guard !runtimes.isEmpty else { throw CommandFailure("the process has no runtime yet") }
        let clients = try runtimes.map { _ in try TelemetryClient(path: path) }
        let interruption = try WakeUp()
        Interruption.watch { interruption.signal() }
        // The file last, so that a process without frames leaves none.
        let sockets = try zip(clients, runtimes).map { client, runtime in
            try client.beginCapture(runtime: Int(runtime) ?? 0, snapshotByteCount: snapshot)
        }
        let file = try CaptureFile(path: output, replaces: force, captures: sockets.count, maximumPacketCount: count ?? .max)
        var collector = CaptureCollector(file: file, sockets: sockets, duration: duration)
        let outcome = try collector.run(until: interruption.descriptor)
        withExtendedLifetime(clients) {}
        let dropped = outcome.droppedCount > 0 ? ", \(outcome.droppedCount) not kept" : ""
        let end = outcome.isEndedByProcess ? "; the process has ended" : ""
        StandardStreams.writeError("\(outcome.packetCount) packets in \(file.path)\(dropped)\(end)\n")
    }
}
