/// What the comparisons found, and the forms in which it is told.
struct ComparisonTable {
    var results: [ComparisonResult] = []
    /// What could not be compared here, with the reason and the command that mends it.
    var absent: [(comparison: Comparison, reason: String)] = []

    private static let titles = [
        "work", "against", "CPUs", "p50 µs", "p99 µs", "peer's p50", "peer's p99", "ratio", "goal", "met", "raw loop", "client CPU", "peer's client",
    ]

    var text: String {
        var table = TextTable(Self.titles)
        for result in results {
            for row in result.comparison.rows {
                for figures in result.figures(row) { table.append(Self.cells(figures)) }
            }
        }
        for (comparison, _) in absent {
            for row in comparison.rows {
                table.append(
                    [row.work, row.peer] + Array(repeating: "-", count: 6) + [Self.goal(row.goal, row.goal.near, row.goal.far), "-", "-", "-", "-"])
            }
        }
        return ([table.description] + notes).joined(separator: "\n")
    }

    private static func cells(_ figures: ComparisonFigures) -> [String] {
        let goal = figures.row.goal
        let values: [String]
        if goal.measure.isLatency {
            values = [figures.ours.p50, figures.ours.p99, figures.peer.p50, figures.peer.p99].map(NumberText.microseconds)
        } else {
            values = [amount(figures.oursValue, goal.measure), "", amount(figures.peerValue, goal.measure), ""]
        }
        let limit = figures.limitValue.map { goal.measure.isLatency ? NumberText.microseconds($0) : amount($0, goal.measure) } ?? ""
        return [figures.row.work, figures.row.peer, figures.placement.rawValue] + values + [
            NumberText.ratio(figures.ratio), Self.goal(goal, goal.ratio(figures.placement), nil), figures.isMet ? "yes" : "NO", limit,
            share(figures.oursClient), share(figures.peerClient),
        ]
    }

    /// "99 % (71 in the kernel)", in short.
    private static func share(_ share: ComparisonFigures.ClientShare) -> String {
        NumberText.percent(share.total) + (share.inKernel > 0 ? " (\(NumberText.decimal(share.inKernel * 100, places: 0)))" : "")
    }

    private static func goal(_ goal: ComparisonGoal, _ first: Double, _ second: Double?) -> String {
        let other = second.flatMap { $0 == first ? nil : "/" + NumberText.decimal($0, places: 2) } ?? ""
        return (goal.measure.isLatency ? "≤ " : "≥ ") + NumberText.decimal(first, places: 2) + other
    }

    private static func amount(_ value: Double, _ measure: ComparisonMeasure) -> String {
        measure == .bitsPerSecond ? NumberText.decimal(value / 1e9, places: 2) + " Gbit/s" : NumberText.grouped(value) + "/s"
    }

    /// Lines below the table: how the numbers came about, and what is missing.
    var notes: [String] {
        var lines = [
            "medians of interleaved rounds, the ratio pair by pair; client CPU of a processor, in brackets the part in the kernel, which on a cable carries what is sent to the other end"
        ]
        let rings = results.flatMap(\.ringNanoseconds)
        if !rings.isEmpty {
            let places = ProcessorPlacement.allCases.map { placement -> String in
                let own = rings.filter { ProcessorPlacement(ringNanoseconds: $0) == placement }
                return own.isEmpty
                    ? "never \(placement)"
                    : "\(placement) before \(own.count) rounds (bare ring \(NumberText.decimal(Statistics.median(own), places: 0)) ns)"
            }
            lines.append("the two processors were " + places.joined(separator: ", "))
        }
        for result in results {
            for backEnd in result.backEnds {
                if backEnd.wrong > 0 {
                    lines.append("\(result.comparison.name), \(backEnd.name): \(backEnd.wrong) WRONG REPLIES, the first: \(backEnd.firstWrong ?? "")")
                }
                if backEnd.lost > 0 { lines.append("\(result.comparison.name), \(backEnd.name): \(backEnd.lost) of \(backEnd.completed) lost") }
            }
        }
        let shares = results.flatMap(\.backEnds).map(\.generatorShare)
        if let share = shares.min(), share < Self.leastShare {
            lines.append(
                "the machine was busy with other work: a client had a processor for \(NumberText.percent(share)) of the time; take the times with care"
            )
        }
        return lines + absent.map { "not measured: \($0.comparison.name): \($0.reason)" }
    }

    /// With less of a processor a client measures the machine's scheduler.
    private static let leastShare = 0.95

    var hasWrongReplies: Bool { results.contains { $0.backEnds.contains { $0.wrong > 0 } } }

    /// Latencies in nanoseconds.
    var json: JSONValue {
        var rows: [JSONValue] = []
        for result in results {
            for row in result.comparison.rows { rows += result.figures(row).map { Self.json($0, result.comparison.name) } }
        }
        let missing = absent.map { JSONValue.object([("comparison", .string($0.comparison.name)), ("reason", .string($0.reason))]) }
        return .object([("version", 1), ("rows", .array(rows)), ("not_measured", .array(missing))])
    }

    private static func json(_ figures: ComparisonFigures, _ comparison: String) -> JSONValue {
        let goal = figures.row.goal
        func side(_ summary: LatencySummary, _ value: Double, _ client: ComparisonFigures.ClientShare) -> JSONValue {
            let latencies: [(String, JSONValue)] = goal.measure.isLatency ? [("p50_ns", .number(summary.p50)), ("p99_ns", .number(summary.p99))] : []
            return .object(
                latencies + [
                    ("value", .number(value)), ("server_cpu", JSONValue(summary.processorShare)), ("client_cpu", .number(client.total)),
                    ("client_cpu_in_kernel", .number(client.inKernel)),
                ])
        }
        return .object([
            ("comparison", .string(comparison)), ("work", .string(figures.row.work)), ("peer", .string(figures.row.peer)),
            ("measure", .string(goal.measure.rawValue)), ("processors", .string(figures.placement.rawValue)),
            ("ring_ns", .number(figures.ringNanoseconds)),
            ("rounds", .integer(figures.roundCount)), ("ours", side(figures.ours, figures.oursValue, figures.oursClient)),
            ("peers", side(figures.peer, figures.peerValue, figures.peerClient)), ("raw_loop", JSONValue(figures.limitValue)),
            ("ratio", .number(figures.ratio)), ("goal", .number(goal.ratio(figures.placement))), ("met", .boolean(figures.isMet)),
        ])
    }

    // MARK: Curves

    /// One panel for each comparison of latencies.
    var panels: [LatencyChart.Panel] {
        results.filter { $0.comparison.rows.contains { $0.goal.measure.isLatency } }.map { result in
            LatencyChart.Panel(title: result.comparison.title, series: result.backEnds.map { PercentileSeries(name: $0.name, $0.latencies) })
        }
    }

    var series: [PercentileSeries] {
        panels.flatMap { panel in panel.series.map { PercentileSeries(name: "\($0.name); \(panel.title)", points: $0.points) } }
    }
}
