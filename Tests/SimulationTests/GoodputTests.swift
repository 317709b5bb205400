import Foundation
import Simulation
import Testing

/// What TCP brings through lossy links, against the figures that are kept in Benchmarks/goodput.txt.
@Suite struct GoodputTests {
    private static let lines: [String] = {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
        let text = (try? String(contentsOf: root.appendingPathComponent("Benchmarks/goodput.txt"), encoding: .utf8)) ?? ""
        return text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
    }()

    private static let advice: Comment = "a change of the stack shows here: demikernel goodput > Benchmarks/goodput.txt, and look at the difference"

    @Test(arguments: GoodputGrid.transfers.indices.filter { GoodputGrid.transfers[$0].isSmall })
    func aTransferBringsWhatTheFileSays(_ index: Int) throws {
        let scenario = GoodputGrid.transfers[index]
        expectInFile(GoodputTable.line(scenario, try scenario.play()))
    }

    @Test(arguments: GoodputGrid.requests.indices.filter { GoodputGrid.requests[$0].isSmall })
    func aRequestTakesWhatTheFileSays(_ index: Int) throws {
        let scenario = GoodputGrid.requests[index]
        expectInFile(GoodputTable.line(scenario, try scenario.play()))
    }

    private func expectInFile(_ line: String) {
        #expect(Self.lines.contains(line), "\(Self.advice.rawValue): \(line)")
    }

    @Test func theFileHasEveryScenario() {
        let names = GoodputGrid.transfers.map { "\($0.name) \($0.sender)" } + GoodputGrid.requests.map { "\($0.name) \($0.variant)" }
        #expect(Set(names).count == names.count)
        let rows = Self.lines.filter { !$0.isEmpty && !$0.hasPrefix("transfers") && !$0.hasPrefix("requests") }
        #expect(rows.count == names.count, Self.advice)
    }

    // MARK: Goals

    /// The cells behind the scenario and the sender, as numbers.
    private static func figures(_ scenario: String, _ sender: String) throws -> [Double] {
        let line = try #require(lines.first { $0.hasPrefix(scenario + "  ") && $0.dropFirst(44).hasPrefix(sender + "  ") })
        return line.dropFirst(60).split(separator: " ").compactMap { Double($0) }
    }

    private static let (goodput, share, again, inVain, startUp, lost, longQueue, even) = (0, 1, 2, 3, 4, 5, 7, 9)

    @Test func aConnectionFillsAGigabitLink() throws {
        let figures = try Self.figures("1 Gbit/s, 10 ms, no loss", "cubic")
        #expect(figures[Self.share] >= 95 && figures[Self.startUp] < 1)
    }

    @Test func segmentsThatAreOnlyLateAreNotSentAgain() throws {
        for (sender, share) in [("reno", 0.5), ("cubic", 1)] {
            #expect(try Self.figures("100 Mbit/s, 50 ms, 5 % late by up to 50 ms", sender)[Self.inVain] < share)
        }
    }

    @Test func marksKeepTheQueueShort() throws {
        for scenario in ["100 Mbit/s, 1 ms, no loss", "100 Mbit/s, 10 ms, no loss", "100 Mbit/s, 20 ms, 2 connections"] {
            #expect(try Self.figures(scenario, "dctcp")[Self.longQueue] <= 0.2 * Self.figures(scenario, "cubic")[Self.longQueue])
        }
    }

    @Test func connectionsShareALink() throws {
        for sender in ["cubic", "reno", "dctcp"] { #expect(try Self.figures("100 Mbit/s, 20 ms, 2 connections", sender)[Self.even] >= 90) }
    }

    /// The probe goes after two round trips and the 10 ms that an acknowledgement may be delayed; the clock of the timers ticks in tens of microseconds.
    @Test func aLostRequestIsAnsweredTwoRoundTripsLater() throws {
        for (scenario, roundTrip) in [("64 B, 1 ms, 1 % loss", 1.0), ("64 B, 50 ms, 3 % loss", 50)] {
            let delays = try Self.figures(scenario, "default").suffix(3)
            #expect(try #require(delays.first) <= 2 * roundTrip + 10.1)
        }
    }
}
