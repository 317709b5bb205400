import ArgumentParser
import Demikernel

@main
struct RootCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demikernel",
        abstract: "A datapath operating system as a library: servers, measurements and a demonstration.",
        discussion: """
            The servers run over a library OS, chosen by --libos or the environment variable LIBOS. This version has:
            \(LibraryOSName.allCases.map { "  \($0.rawValue)  \($0.summary)" }.joined(separator: "\n"))

            EXAMPLES
              demikernel demo
              demikernel kv --listen 127.0.0.1:6379
              demikernel bench kv --connect 127.0.0.1:6379 --pipeline 16
              demikernel top

            Exit codes: 0 success, 1 failure, 64 a mistake in arguments or settings, 130 interrupted.
            """,
        version: "0.1.0",
        subcommands: [
            DemoCommand.self, EchoCommand.self, KeyValueCommand.self, BenchCommand.self, BaselineCommand.self, ForwardCommand.self, PingCommand.self,
            TestbedCommand.self, LaunchCommand.self, DoctorCommand.self, TopCommand.self, MetricsCommand.self, CaptureCommand.self, SimulateCommand.self,
            GoodputCommand.self,
        ])

    static func main() {
        main(ReportOptions.expandingJSON(Array(CommandLine.arguments.dropFirst())))
    }
}
