import Testing

@testable import DemikernelCommand

@Suite struct ReportTests {
    // MARK: Numbers and tables

    @Test func decimals() {
        #expect(NumberText.decimal(0, places: 2) == "0.00")
        #expect(NumberText.decimal(0.005, places: 2) == "0.01")
        #expect(NumberText.decimal(-1.25, places: 1) == "-1.3")
        #expect(NumberText.decimal(-0.001, places: 1) == "0.0")
        #expect(NumberText.decimal(99.999, places: 2) == "100.00")
        #expect(NumberText.decimal(.infinity, places: 2) == "-")
        #expect(NumberText.grouped(1_234_567.4) == "1,234,567")
        #expect(NumberText.grouped(999) == "999")
        #expect(NumberText.microseconds(7_234) == "7.23")
        #expect(NumberText.microseconds(15_400) == "15.4")
        #expect(NumberText.microseconds(2_794_000) == "2794")
    }

    @Test func columnsAreAligned() {
        var table = TextTable(["name", "µs", "rate"])
        table.append(["a", "1.0", "10"])
        table.append(["longer", "100.0", "9,999"])
        #expect(
            table.description == """
                name       µs   rate
                ------  -----  -----
                a         1.0     10
                longer  100.0  9,999
                """)
    }

    // MARK: Percentiles

    @Test func medians() {
        #expect(Statistics.median([]) == 0)
        #expect(Statistics.median([3]) == 3)
        #expect(Statistics.median([9, 1, 5]) == 5)
        #expect(Statistics.median([4, 1, 2, 100]) == 3)
    }

    @Test(arguments: [0.0, 50, 90, 99, 99.9, 99.99]) func theScaleHasAnInverse(percentile: Double) {
        let there = PercentileSeries.position(of: percentile)
        #expect(abs(PercentileSeries.percentile(at: there) - percentile) < 1e-9)
    }

    @Test func eachNineTakesTheSameRoom() {
        #expect(abs(PercentileSeries.position(of: 90) - 1) < 1e-9)
        #expect(abs(PercentileSeries.position(of: 99.9) - 3) < 1e-9)
    }

    private func round(latencies: [UInt64], seconds: Double = 1, processorSeconds: Double? = nil) -> RoundResult {
        var round = RoundResult()
        for latency in latencies { round.record(latency: latency) }
        round.completed = latencies.count
        round.elapsed = UInt64(seconds * 1e9)
        round.serverProcessorTime = processorSeconds.map { UInt64($0 * 1e9) }
        return round
    }

    @Test func aCurveEndsWhereTheSamplesDo() throws {
        let series = PercentileSeries(name: "x", round(latencies: Array(1...1000)).latencies, perDecade: 10, support: 1)
        #expect(try #require(series.points.first).percentile.rounded() == 50)
        #expect(try #require(series.points.first).latency == 500)
        let last = try #require(series.points.last)
        #expect(last.percentile <= 99.9 + 1e-6 && last.percentile > 99.8)
        #expect(zip(series.points, series.points.dropFirst()).allSatisfy { $0.latency <= $1.latency })
        #expect(PercentileSeries(name: "none", RoundResult().latencies).points.isEmpty)
    }

    @Test func latenciesBeyondTheScaleAreKeptAtItsEnd() {
        let result = round(latencies: [5, .max])
        #expect(result.latencies.totalCount == 2)
        #expect(result.latencies.maxRecorded >= RoundResult.longestLatency)
    }

    @Test func aSingleDisturbedRoundLeavesTheMediansAlone() throws {
        let calm = round(latencies: [100, 100, 100], processorSeconds: 0.5)
        let disturbed = round(latencies: [900_000, 900_000, 900_000], seconds: 30, processorSeconds: 0.1)
        let slow = round(latencies: [200, 200, 200], seconds: 2, processorSeconds: 0.5)
        let baseline = BackEndResult(name: "a", endpoint: "", rounds: [slow, slow, slow])
        let other = BackEndResult(name: "b", endpoint: "", rounds: [calm, disturbed, calm])
        #expect(other.median.p50 == 100)
        #expect(other.median.requestsPerSecond == 3)
        #expect(other.median.processorShare == 0.5)
        #expect(other.median.maximum > 800_000)
        let ratio = try #require(other.ratio(to: baseline))
        #expect(abs(ratio.p50 - 0.5) < 0.01)
        #expect(abs(ratio.requestsPerSecond - 2) < 0.01)
        #expect(other.overall.p50 == 100)
        #expect(other.overall.requestsPerSecond < 0.5)
    }

    @Test func withoutACommonRoundThereIsNoRatio() {
        let empty = BackEndResult(name: "a", endpoint: "", rounds: [])
        let full = BackEndResult(name: "b", endpoint: "", rounds: [round(latencies: [1])])
        #expect(full.ratio(to: empty) == nil)
        #expect(empty.median.p50 == 0)
    }

    // MARK: CSV and JSON

    @Test func commaSeparatedNamesAreQuoted() {
        let series = PercentileSeries(name: "kernel, \"spinning\"", points: [.init(percentile: 50, latency: 1234.4)])
        #expect(PercentileSeries.commaSeparated([series]) == "backend,percentile,latency_ns\n\"kernel, \"\"spinning\"\"\",50.000000,1234\n")
    }

    @Test func jsonEscapesAndKeepsItsOrder() {
        let value = JSONValue.object([
            ("b", .string("\"\\\n\u{1}é")), ("a", .array([1, .null, true, .number(1.5), .number(.infinity)])), ("empty", .object([])),
        ])
        #expect(
            value.text() == """
                {
                  "b": "\\"\\\\\\n\\u0001é",
                  "a": [
                    1,
                    null,
                    true,
                    1.5,
                    null
                  ],
                  "empty": {}
                }
                """)
    }

    @Test func theReportTellsWrongRepliesAndABusyMachine() {
        var bad = round(latencies: [1000])
        bad.wrong = 3
        bad.firstWrong = "\"-ERR\""
        bad.generatorShare = 0.4
        let report = LoadReport(load: "x", backEnds: [BackEndResult(name: "b", endpoint: "", rounds: [bad])], baseline: nil)
        #expect(report.hasWrongReplies)
        #expect(report.notes.contains { $0.contains("3 WRONG REPLIES") && $0.contains("-ERR") })
        #expect(report.notes.contains { $0.contains("busy") && $0.contains("40 %") })
        #expect(!report.table().contains("ratio"))
        #expect(report.json.text().contains("\"wrong_replies\": 3"))
    }

    // MARK: SVG

    /// Checks that tags nest and close, and that no raw ampersand or angle bracket stands in the text. Returns the text contents.
    private func contents(ofWellFormed svg: String) -> [String]? {
        var open: [Substring] = []
        var texts: [String] = []
        var rest = svg[...]
        while let start = rest.firstIndex(of: "<") {
            let text = rest[..<start]
            for piece in text.split(separator: "&", omittingEmptySubsequences: false).dropFirst() {
                guard ["amp;", "lt;", "gt;", "quot;"].contains(where: piece.hasPrefix) else { return nil }
            }
            if text.contains(">") { return nil }
            if !text.allSatisfy(\.isWhitespace) { texts.append(String(text)) }
            guard let end = rest[start...].firstIndex(of: ">") else { return nil }
            let tag = rest[rest.index(after: start)..<end]
            if tag.contains("<") || tag.filter({ $0 == "\"" }).count % 2 != 0 { return nil }
            if tag.hasPrefix("/") {
                guard open.popLast() == tag.dropFirst() else { return nil }
            } else if !tag.hasSuffix("/") {
                open.append(tag.prefix { !$0.isWhitespace })
            }
            rest = rest[rest.index(after: end)...]
        }
        return open.isEmpty && rest.allSatisfy(\.isWhitespace) ? texts : nil
    }

    @Test func theChartIsWellFormedAndLabelled() throws {
        let a = PercentileSeries(name: "kernel <&> \"x\"", round(latencies: (1...20_000).map { $0 * 10 }).latencies)
        let b = PercentileSeries(name: "catnap", round(latencies: (1...20_000).map { $0 * 3 }).latencies)
        let chart = LatencyChart(title: "T & U", subtitle: "s", panels: [.init(title: "one", series: [a, b]), .init(title: "two", series: [b])])
        let svg = chart.svg()
        let texts = try #require(contents(ofWellFormed: svg))
        for text in ["T &amp; U", "one", "two", "catnap", "50 %", "90 %", "99 %", "99.9 %", "latency in µs (logarithmic)", "percentile of requests"] {
            #expect(texts.contains(text), "\(text)")
        }
        #expect(svg.split(separator: "<polyline").count == 4)
        #expect(!svg.contains("nan") && !svg.contains("inf"))
    }

    @Test func aChartOfNothingIsWellFormed() {
        let empty = LatencyChart(title: "", subtitle: "", panels: [.init(title: "", series: [PercentileSeries(name: "x", points: [])])])
        #expect(contents(ofWellFormed: empty.svg()) != nil)
    }

    @Test func axisSteps() {
        #expect(LatencyChart.steps(from: 5, to: 200) == [5, 10, 20, 50, 100, 200])
        let small = LatencyChart.steps(from: 0.09, to: 1.1)
        #expect(small.count == 4 && abs(small[0] - 0.1) < 1e-9)
    }
}
