/// Back-ends that take turns under load, and what is to be found out about them.
struct Comparison: Sendable {
    /// What a comparison says of two of its targets.
    struct Row: Sendable {
        /// "TCP echo of 64 bytes over XDP".
        let work: String
        /// "epoll server that busy-polls".
        let peer: String
        let goal: ComparisonGoal
        /// Indices of the targets.
        let peerIndex: Int
        var oursIndex = 0
        /// The raw loop on the same device, which nothing on it can outdo.
        var limitIndex: Int?
    }

    /// A word for `--only`.
    let name: String
    /// For charts.
    let title: String
    let rows: [Row]
    /// Starts the servers and connects to them; fewer targets than the rows name mean that the last ones are not to be had.
    let makeTargets: @Sendable (Workbench) throws(CommandFailure) -> [LoadTarget]
}

/// The rounds of a comparison.
struct ComparisonResult {
    let comparison: Comparison
    let backEnds: [BackEndResult]
    /// What a round trip through the bare ring took before each round, in nanoseconds.
    let ringNanoseconds: [Double]

    /// The rounds that both back-ends had, by placement.
    func rounds(_ row: Comparison.Row, _ placement: ProcessorPlacement) -> [Int] {
        let count = min(ringNanoseconds.count, backEnds[row.oursIndex].rounds.count, backEnds[row.peerIndex].rounds.count)
        return (0..<count).filter { ProcessorPlacement(ringNanoseconds: ringNanoseconds[$0]) == placement }
    }

    /// The figures of a row, one for each placement that the processors had.
    func figures(_ row: Comparison.Row) -> [ComparisonFigures] {
        ProcessorPlacement.allCases.compactMap { placement in
            let rounds = rounds(row, placement)
            return rounds.isEmpty ? nil : ComparisonFigures(self, row, placement, rounds)
        }
    }
}

/// One line of the table: medians over rounds, the ratio of pairs of rounds.
struct ComparisonFigures {
    let row: Comparison.Row
    let placement: ProcessorPlacement
    let roundCount: Int
    let ringNanoseconds: Double
    let ours: LatencySummary
    let peer: LatencySummary
    /// By the row's measure.
    let oursValue: Double
    let peerValue: Double
    let limitValue: Double?
    let ratio: Double
    /// Of a processor, in the kernel, by the load of each of the two.
    let oursClient: ClientShare
    let peerClient: ClientShare

    struct ClientShare {
        let total: Double
        let inKernel: Double
    }

    var isMet: Bool { row.goal.isMet(by: ratio, placement) }

    init(_ result: ComparisonResult, _ row: Comparison.Row, _ placement: ProcessorPlacement, _ rounds: [Int]) {
        func chosen(_ index: Int) -> BackEndResult {
            var backEnd = result.backEnds[index]
            backEnd.rounds = rounds.filter { $0 < backEnd.rounds.count }.map { backEnd.rounds[$0] }
            return backEnd
        }
        func median(_ backEnd: BackEndResult) -> Double { Statistics.median(backEnd.rounds.map(row.goal.measure.value)) }
        func share(_ backEnd: BackEndResult) -> ClientShare {
            ClientShare(total: backEnd.generatorShare, inKernel: Statistics.median(backEnd.rounds.map(\.generatorKernelShare)))
        }
        let ours = chosen(row.oursIndex)
        let peer = chosen(row.peerIndex)
        self.row = row
        self.placement = placement
        roundCount = rounds.count
        ringNanoseconds = Statistics.median(rounds.map { result.ringNanoseconds[$0] })
        self.ours = ours.median
        self.peer = peer.median
        oursValue = median(ours)
        peerValue = median(peer)
        limitValue = row.limitIndex.flatMap { $0 < result.backEnds.count ? median(chosen($0)) : nil }
        ratio = Statistics.median(
            zip(ours.rounds, peer.rounds).map { row.goal.measure.value($0) / max(1, row.goal.measure.value($1)) })
        oursClient = share(ours)
        peerClient = share(peer)
    }
}
