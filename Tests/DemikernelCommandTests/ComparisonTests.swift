import Testing

@testable import DemikernelCommand

@Suite struct ComparisonTests {
    private func round(_ latency: UInt64, _ count: Int = 100, seconds: Double = 1) -> RoundResult {
        var round = RoundResult()
        for _ in 0..<count { round.record(latency: latency) }
        round.completed = count
        round.elapsed = UInt64(seconds * 1e9)
        return round
    }

    private func comparison(_ goals: ComparisonGoal..., limit: Int? = nil) -> Comparison {
        let rows = goals.map { Comparison.Row(work: "an echo", peer: "another", goal: $0, peerIndex: 1, limitIndex: limit) }
        return Comparison(name: "echo", title: "Echoes", rows: rows) { (_: Workbench) throws(CommandFailure) in [] }
    }

    private func result(_ comparison: Comparison, _ sides: [[RoundResult]], ring: [Double]) -> ComparisonResult {
        let backEnds = sides.enumerated().map { BackEndResult(name: "\($0)", endpoint: "", rounds: $1) }
        return ComparisonResult(comparison: comparison, backEnds: backEnds, ringNanoseconds: ring)
    }

    @Test func nearAndFarRoundsAreToldApart() throws {
        let comparison = comparison(ComparisonGoal(.p50, near: 0.5, far: 0.3))
        let ours = [round(100), round(100), round(300), round(100)]
        let peer = [round(200), round(200), round(600), round(200)]
        let figures = result(comparison, [ours, peer], ring: [150, 150, 600, 150]).figures(comparison.rows[0])
        #expect(figures.map(\.placement) == [.near, .far])
        #expect(figures.map(\.roundCount) == [3, 1])
        #expect(figures.map(\.ours.p50) == [100, 300] && figures.map(\.peerValue) == [200, 600])
        // One ratio and two goals.
        #expect(figures.allSatisfy { abs($0.ratio - 0.5) < 0.01 })
        #expect(figures.map(\.isMet) == [true, false])
    }

    @Test func ratiosAreOfPairsOfRounds() throws {
        let comparison = comparison(ComparisonGoal(.p50, 1))
        // The machine slows down as time goes by, for both sides alike.
        let ours = [round(100), round(1_000), round(10_000)]
        let peer = [round(200), round(2_000), round(20_000)]
        let figures = try #require(result(comparison, [ours, peer], ring: [100, 100, 100]).figures(comparison.rows[0]).first)
        #expect(abs(figures.ratio - 0.5) < 0.01)
    }

    @Test func ratesAreToBeAtLeastTheGoal() throws {
        let comparison = comparison(ComparisonGoal(.requestsPerSecond, 5), ComparisonGoal(.bitsPerSecond, 7), limit: 2)
        let result = result(comparison, [[round(1, 600)], [round(1, 100)], [round(1, 700)]], ring: [100])
        let rows = comparison.rows.map { result.figures($0)[0] }
        #expect(rows.map(\.isMet) == [true, false])
        #expect(rows.map(\.oursValue) == [600, 4_800] && rows.map(\.limitValue) == [700, 5_600])
    }

    @Test func aRoundThatOneSideDoesNotHaveCountsForNone() throws {
        let comparison = comparison(ComparisonGoal(.p50, 1))
        let result = result(comparison, [[round(100), round(100)], [round(100)]], ring: [100, 100])
        #expect(result.figures(comparison.rows[0]).map(\.roundCount) == [1])
        #expect(self.result(comparison, [[], []], ring: []).figures(comparison.rows[0]).isEmpty)
    }

    @Test func theTableTellsWhatIsMetAndWhatIsMissing() throws {
        var table = ComparisonTable()
        let comparison = comparison(ComparisonGoal(.p50, 0.7), ComparisonGoal(.p99, 0.4))
        table.results.append(result(comparison, [[round(5_000)], [round(10_000)]], ring: [150]))
        table.absent.append((comparison, "it is not installed: apt-get install it"))
        let lines = table.text.split(separator: "\n").map(String.init)
        let titles = try #require(lines.first)
        #expect(titles.hasPrefix("work"))
        // Two rows measured, two not; every column ends where its title does.
        let rows = lines[2..<6]
        #expect(rows.allSatisfy { $0.hasPrefix("an echo") })
        #expect(
            lines[2].contains("5.00") && lines[2].contains("10.0") && lines[2].contains("0.50 ×") && lines[2].contains("≤ 0.70")
                && lines[2].contains(" yes "))
        #expect(lines[3].contains("≤ 0.40") && lines[3].contains(" NO "))
        #expect(lines[4].contains("≤ 0.70") && !lines[4].contains("×"))
        #expect(lines.last == "not measured: echo: it is not installed: apt-get install it")
        #expect(lines.contains { $0.contains("near before 1 rounds (bare ring 150 ns), never far") })
        let json = table.json.text()
        #expect(json.contains("\"met\": true") && json.contains("\"processors\": \"near\"") && json.contains("\"not_measured\": ["))
        #expect(table.panels.map(\.title) == ["Echoes"])
    }

    @Test func everyRowNamesTargetsThatAreToldApart() {
        #expect(Set(Comparison.all.map(\.name)).count == Comparison.all.count)
        for row in Comparison.all.flatMap(\.rows) { #expect(Set([row.oursIndex, row.peerIndex, row.limitIndex ?? -1]).count == 3) }
    }
}
