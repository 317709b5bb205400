import ArgumentParser

/// Where and how results are written.
struct ReportOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Draw the latency curves into an SVG file.", valueName: "file"))
    var svg: String?

    @Option(help: ArgumentHelp("Write the percentiles as comma-separated values.", valueName: "file"))
    var csv: String?

    @Flag(help: "Print JSON in place of the table.")
    var json = false

    @Option(help: ArgumentHelp("Write JSON into a file; --json=<file> is the same.", valueName: "file"))
    var jsonFile: String?

    @Flag(name: .shortAndLong, help: "Show no progress.")
    var quiet = false

    /// Writes the files, and prints `table` unless JSON takes its place.
    ///
    /// - Parameter defaultChart: where the curves go when no file was named; nil: nowhere.
    func write(
        table: String, json value: JSONValue, series: [PercentileSeries], chart: LatencyChart, defaultChart: String? = nil
    ) throws(CommandFailure) {
        if json {
            StandardStreams.writeOutput(value.text() + "\n")
        } else {
            StandardStreams.writeOutput(table + "\n")
        }
        if let jsonFile { try writeFile(jsonFile, value.text() + "\n", "the results") }
        if let csv { try writeFile(csv, PercentileSeries.commaSeparated(series), "the percentiles") }
        if let svg = svg ?? defaultChart { try writeFile(svg, chart.svg(), "the latency curves") }
    }

    private func writeFile(_ path: String, _ text: String, _ what: String) throws(CommandFailure) {
        try StandardStreams.writeFile(path, text)
        if !quiet { StandardStreams.writeError("wrote \(what) to \(path)\n") }
    }
}

extension ReportOptions {
    /// Rewrites `--json=file` as `--json-file file`. The parser knows options whose value may be left out, but drops the value when another option follows
    /// it (swift-argument-parser 1.8.2).
    static func expandingJSON(_ arguments: [String]) -> [String] {
        let prefix = "--json="
        let end = arguments.firstIndex(of: "--") ?? arguments.endIndex
        return arguments[..<end].flatMap { $0.hasPrefix(prefix) ? ["--json-file", String($0.dropFirst(prefix.count))] : [$0] } + arguments[end...]
    }
}
