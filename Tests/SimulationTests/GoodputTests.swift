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
        for sender in ["reno", "cubic", "bbr"] {
            #expect(try Self.figures("100 Mbit/s, 50 ms, 5 % late by up to 50 ms", sender)[Self.inVain] < 0.5)
        }
    }

    /// Of losses that no congestion is to blame for.
    @Test func aModelOfThePathFillsALinkThatLoses() throws {
        #expect(try Self.figures("1 Gbit/s, 10 ms, 0.01 % loss", "bbr")[Self.share] >= 90)
        let plain = try Self.figures("100 Mbit/s, 50 ms, 1 % loss", "cubic, no SACK")[Self.goodput]
        #expect(try Self.figures("100 Mbit/s, 50 ms, 1 % loss", "bbr")[Self.goodput] >= 2 * plain)
    }

    @Test func marksKeepTheQueueShort() throws {
        for scenario in ["100 Mbit/s, 1 ms, no loss", "100 Mbit/s, 10 ms, no loss", "100 Mbit/s, 20 ms, 2 connections"] {
            #expect(try Self.figures(scenario, "dctcp")[Self.longQueue] <= 0.2 * Self.figures(scenario, "cubic")[Self.longQueue])
        }
    }

    @Test func connectionsShareALink() throws {
        for sender in ["cubic", "reno", "dctcp"] { #expect(try Self.figures("100 Mbit/s, 20 ms, 2 connections", sender)[Self.even] >= 90) }
    }

    /// The probe goes after two round trips and the 9 ms that an acknowledgement may be delayed. Of a thousand the worst have lost the probe, too, or come
    /// before the probe of another request has told what it tells: then the retransmission timer is what there is.
    @Test func aLostRequestIsAnsweredTwoRoundTripsLater() throws {
        for scenario in ["64 B, 1 ms, 1 % loss", "64 B, 50 ms, 3 % loss"] {
            let figures = try Self.figures(scenario, "default").suffix(4)
            let (fastest, added) = (try #require(figures.first), try #require(figures.dropFirst().first))
            #expect(added <= 2 * fastest + 10)
        }
    }
}
