import ArgumentParser

/// Where and how results are written.
struct ReportOptions: ParsableArguments {
    @Option(help: ArgumentHelp("Draw the latency curves into an SVG file.", valueName: "file"))
    var svg: String?

    @Option(help: ArgumentHelp("Write the percentiles as comma-separated values.", valueName: "file"))
    var csv: String?

    @Option(
        name: .customLong("json"), defaultAsFlag: "-",
        help: ArgumentHelp("Write JSON: alone to standard output in place of the table, or into a file.", valueName: "file"))
    var json: String?

    @Flag(name: .shortAndLong, help: "Show no progress.")
    var quiet = false

    /// Writes the files, and prints `table` unless JSON takes its place.
    ///
    /// - Parameter defaultChart: where the curves go when no file was named; nil: nowhere.
    func write(
        table: String, json value: JSONValue, series: [PercentileSeries], chart: LatencyChart, defaultChart: String? = nil
    ) throws(CommandFailure) {
        if json == "-" {
            StandardStreams.writeOutput(value.text() + "\n")
        } else {
            StandardStreams.writeOutput(table + "\n")
        }
        if let json, json != "-" { try writeFile(json, value.text() + "\n", "the results") }
        if let csv { try writeFile(csv, PercentileSeries.commaSeparated(series), "the percentiles") }
        if let svg = svg ?? defaultChart { try writeFile(svg, chart.svg(), "the latency curves") }
    }

    private func writeFile(_ path: String, _ text: String, _ what: String) throws(CommandFailure) {
        try StandardStreams.writeFile(path, text)
        if !quiet { StandardStreams.writeError("wrote \(what) to \(path)\n") }
    }
}
