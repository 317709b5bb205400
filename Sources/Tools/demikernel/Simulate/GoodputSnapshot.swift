import Glibc
import Simulation
import Synchronization

/// Plays the scenarios of the goodput grid on a few threads, each world on one of them.
final class GoodputSnapshot: Sendable {
    private let transfers: [GoodputScenario]
    private let requests: [RequestScenario]
    private let nextIndex = Atomic<Int>(0)
    private let state: Mutex<State>

    private struct State {
        var transfers: [GoodputResult?]
        var requests: [RequestScenario.Result?]
        var played = 0
        var failure: String?
    }

    init(_ transfers: [GoodputScenario], _ requests: [RequestScenario]) {
        self.transfers = transfers
        self.requests = requests
        state = Mutex(State(transfers: Array(repeating: nil, count: transfers.count), requests: Array(repeating: nil, count: requests.count)))
    }

    var count: Int { transfers.count + requests.count }

    /// Plays all of them, or until the program is interrupted, and calls `report` with how many were played a few times a second.
    /// - Throws: when no thread can be started, or a world ends as none may.
    func run(jobs: Int, report: (Int) -> Void) throws(CommandFailure) {
        let threads = try WorkerThreads(jobs) { self.work() }
        while nextIndex.load(ordering: .relaxed) < count, !Interruption.isRequested {
            usleep(50_000)
            report(state.withLock { $0.played })
        }
        threads.join()
        if let failure = state.withLock({ $0.failure }) { throw CommandFailure(failure) }
    }

    private func work() {
        while !Interruption.isRequested {
            let index = nextIndex.add(1, ordering: .relaxed).oldValue
            guard index < count else { return }
            do {
                if index < transfers.count {
                    let result = try transfers[index].play()
                    state.withLock { $0.transfers[index] = result }
                } else {
                    let result = try requests[index - transfers.count].play()
                    state.withLock { $0.requests[index - self.transfers.count] = result }
                }
            } catch {
                state.withLock { $0.failure = "\(error)" }
            }
            state.withLock { $0.played += 1 }
        }
    }

    /// The transfers that were played, as a picture of their goodput over time.
    var chart: GoodputChart {
        let results = state.withLock { $0.transfers }
        return GoodputChart(
            panels: zip(transfers, results).compactMap { scenario, result in
                guard let result else { return nil }
                return GoodputChart.Panel(
                    title: "\(scenario.name): \(scenario.sender)", seconds: Double(scenario.duration) / 1e9, bandwidth: Double(scenario.link.bandwidth ?? 0),
                    courses: result.courses)
            })
    }

    /// What was played, as a table.
    var text: String {
        let state = state.withLock { $0 }
        var lines: [String] = []
        let played = zip(transfers, state.transfers).compactMap { scenario, result in result.map { GoodputTable.line(scenario, $0) } }
        if !played.isEmpty { lines += [GoodputTable.transferTitle] + played }
        let answered = zip(requests, state.requests).compactMap { scenario, result in result.map { GoodputTable.line(scenario, $0) } }
        if !answered.isEmpty { lines += (lines.isEmpty ? [] : [""]) + [GoodputTable.requestTitle] + answered }
        return lines.map { $0 + "\n" }.joined()
    }
}
