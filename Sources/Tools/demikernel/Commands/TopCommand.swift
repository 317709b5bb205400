import ArgumentParser
import Glibc

struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Watch a running process: queues, rates, drops by reason, retransmissions, memory and latency.",
        discussion: """
            Servers of this command publish their telemetry at a unix socket that only their user and root can reach, and so does every program that calls \
            publishTelemetry. Without an argument the only process of this user is watched, or all are listed. Ends with Ctrl-C, or with the process.
            Replies are timed from the turn that brought a request to the push of its reply, and only for some minutes after somebody has looked.

            EXAMPLES
              demikernel top
              demikernel top 1234
              sudo demikernel top 1234 --once
              demikernel top 1234 --prometheus

            Exit codes: 0, or 1 when there is no such process.
            """)

    @Argument(help: ArgumentHelp("The number of a process, or the path of its telemetry socket.", valueName: "process"))
    var process: String?

    @Option(name: .shortAndLong, help: ArgumentHelp("Seconds between two looks.", valueName: "seconds"))
    var interval = 1.0

    @Flag(help: "Show it once, and end.")
    var once = false

    @Flag(help: "Print the metrics in Prometheus' text format, as `demikernel metrics` does, and end.")
    var prometheus = false

    func validate() throws {
        guard interval >= 0.01, interval <= 3600 else { throw ValidationError("--interval must be 0.01 to 3600 seconds") }
    }

    func run() throws {
        let path = try TelemetryTarget.path(process, command: "top")
        if prometheus {
            StandardStreams.writeOutput(try TelemetryClient(path: path).metrics())
            return
        }
        let client = try TelemetryClient(path: path)
        var before = MetricSamples(parsing: try client.metrics())
        var time = MonotonicClock.now()
        let isTerminal = isatty(STDOUT_FILENO) == 1 && !once
        while true {
            let next = time + UInt64(interval * 1e9)
            while case let now = MonotonicClock.now(), now < next {
                var rest = timespec(tv_sec: Int((next - now) / 1_000_000_000), tv_nsec: Int((next - now) % 1_000_000_000))
                nanosleep(&rest, nil)
            }
            let text: String
            do throws(CommandFailure) {
                text = try client.metrics()
            } catch {
                // A process that ends is nothing wrong.
                print("\(error)")
                return
            }
            let now = MonotonicClock.now()
            let after = MetricSamples(parsing: text)
            let lines = TopScreen(before: before, after: after, seconds: Double(now - time) / 1e9).lines
            if isTerminal {
                // From the first corner on, and the rest of each line and of the screen empty: so nothing flickers.
                let (rows, columns) = Self.terminalSize()
                let shown = lines.prefix(max(rows - 1, 1)).map { String($0.prefix(columns)) + "\u{1b}[K\n" }.joined()
                StandardStreams.writeOutput("\u{1b}[H\(shown)\u{1b}[J")
            } else {
                StandardStreams.writeOutput(lines.joined(separator: "\n") + (once ? "\n" : "\n\n"))
            }
            if once { return }
            before = after
            time = now
        }
    }

    private static func terminalSize() -> (rows: Int, columns: Int) {
        var size = winsize()
        guard ioctl(STDOUT_FILENO, UInt(TIOCGWINSZ), &size) == 0, size.ws_row > 0, size.ws_col > 0 else { return (24, 80) }
        return (Int(size.ws_row), Int(size.ws_col))
    }
}

struct MetricsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "metrics",
        abstract: "Print the metrics of a running process in Prometheus' text exposition format.",
        discussion: """
            For node_exporter's textfile collector, a scrape through a web server, or a look with grep. See `demikernel help top`.

            EXAMPLES
              demikernel metrics 1234
              demikernel metrics 1234 | grep drops_total

            Exit codes: 0, or 1 when there is no such process.
            """)

    @Argument(help: ArgumentHelp("The number of a process, or the path of its telemetry socket.", valueName: "process"))
    var process: String?

    func run() throws {
        let path = try TelemetryTarget.path(process, command: "metrics")
        StandardStreams.writeOutput(try TelemetryClient(path: path).metrics())
    }
}
