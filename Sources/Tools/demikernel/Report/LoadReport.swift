/// What a benchmark found, and the forms in which it is told.
struct LoadReport {
    /// What the load was, for titles: "kv over TCP, 1 connection, unpipelined".
    var load: String
    var backEnds: [BackEndResult]
    /// The index of the back-end that the others are compared with.
    var baseline: Int?
    /// The settings of the load, in the order in which JSON shows them.
    var settings: [(String, JSONValue)] = []

    /// A comparison shows the medians of the rounds, a single back-end everything that was measured.
    func summary(_ index: Int) -> LatencySummary {
        baseline == nil ? backEnds[index].overall : backEnds[index].median
    }

    func ratio(_ index: Int) -> BaselineRatio? {
        guard let baseline, baseline != index else { return nil }
        return backEnds[index].ratio(to: backEnds[baseline])
    }

    // MARK: Table

    func table(nameTitle: String = "back-end") -> String {
        let showsProcessor = backEnds.indices.contains { summary($0).processorShare != nil }
        var titles = [nameTitle, "p50 µs", "p99 µs", "p99.9 µs", "max µs", "requests/s"]
        if showsProcessor { titles.append("CPU") }
        if baseline != nil { titles += ["p50 ratio", "rate ratio"] }
        var table = TextTable(titles)
        for index in backEnds.indices {
            let summary = summary(index)
            var row = [backEnds[index].name]
            row += [summary.p50, summary.p99, summary.p999, summary.maximum].map(NumberText.microseconds)
            row.append(NumberText.grouped(summary.requestsPerSecond))
            if showsProcessor { row.append(summary.processorShare.map(NumberText.percent) ?? "-") }
            if baseline != nil {
                if index == baseline {
                    row += ["1", "1"]
                } else {
                    let ratio = ratio(index)
                    row += [ratio.map { NumberText.ratio($0.p50) } ?? "-", ratio.map { NumberText.ratio($0.requestsPerSecond) } ?? "-"]
                }
            }
            table.append(row)
        }
        return table.description
    }

    /// Lines below the table: how the numbers came about, and what went wrong.
    var notes: [String] {
        var lines: [String] = []
        if let baseline, let rounds = backEnds.map(\.rounds.count).max() {
            lines.append("medians of \(rounds) interleaved rounds, max over all; ratios to \(backEnds[baseline].name), pair by pair")
        }
        for backEnd in backEnds {
            if backEnd.wrong > 0 { lines.append("\(backEnd.name): \(backEnd.wrong) WRONG REPLIES, the first: \(backEnd.firstWrong ?? "")") }
            if backEnd.lost > 0 { lines.append("\(backEnd.name): \(backEnd.lost) datagrams lost") }
            if backEnd.unanswered > 0 {
                lines.append("\(backEnd.name): \(backEnd.unanswered) requests unanswered at the end of their round, counted with the age they had reached")
            }
        }
        if let share = backEnds.map(\.generatorShare).min(), share < Self.leastGeneratorShare {
            lines.append(
                "the machine was busy with other work: the load generator had a processor for \(NumberText.percent(share)) of the time; take the times with care")
        }
        return lines
    }

    /// With less of a processor the load generator measures the machine's scheduler.
    private static let leastGeneratorShare = 0.95

    var hasWrongReplies: Bool { backEnds.contains { $0.wrong > 0 } }

    // MARK: Curves

    var series: [PercentileSeries] { backEnds.map { PercentileSeries(name: $0.name, $0.latencies) } }

    // MARK: JSON

    /// Latencies in nanoseconds, rates per second, processor time in cores.
    var json: JSONValue {
        var members: [(String, JSONValue)] = [("version", 1), ("load", .string(load))]
        members += settings
        members.append(("backends", .array(backEnds.indices.map(backEndJSON))))
        return .object(members)
    }

    private func backEndJSON(_ index: Int) -> JSONValue {
        let backEnd = backEnds[index]
        let all = backEnd.latencies
        var members: [(String, JSONValue)] = [
            ("name", .string(backEnd.name)), ("address", .string(backEnd.endpoint)), ("is_baseline", .boolean(index == baseline)),
            ("requests", .integer(backEnd.completed)), ("wrong_replies", .integer(backEnd.wrong)), ("lost_datagrams", .integer(backEnd.lost)),
            ("unanswered", .integer(backEnd.unanswered)), ("load_generator_share", .number(backEnd.generatorShare)),
            ("overall", json(backEnd.overall)), ("median_of_rounds", json(backEnd.median)),
        ]
        if let ratio = ratio(index) {
            members.append(("ratio_to_baseline", .object([("p50", .number(ratio.p50)), ("requests_per_second", .number(ratio.requestsPerSecond))])))
        }
        members.append(
            (
                "percentiles",
                .array(
                    [50, 75, 90, 95, 99, 99.5, 99.9, 99.99, 99.999, 100].map {
                        .object([("percentile", .number($0)), ("latency_ns", .integer(Int(all.valueAtPercentile($0))))])
                    })
            ))
        members.append(
            (
                "rounds",
                .array(
                    backEnd.rounds.map { round in
                        .object([
                            ("p50_ns", .integer(Int(round.latencies.valueAtPercentile(50)))), ("p99_ns", .integer(Int(round.latencies.valueAtPercentile(99)))),
                            ("requests_per_second", .number(round.requestsPerSecond)), ("cpu", JSONValue(round.processorShare)),
                        ])
                    })
            ))
        return .object(members)
    }

    private func json(_ summary: LatencySummary) -> JSONValue {
        .object([
            ("p50_ns", .number(summary.p50)), ("p99_ns", .number(summary.p99)), ("p99_9_ns", .number(summary.p999)), ("max_ns", .number(summary.maximum)),
            ("requests_per_second", .number(summary.requestsPerSecond)), ("cpu", JSONValue(summary.processorShare)),
        ])
    }
}
