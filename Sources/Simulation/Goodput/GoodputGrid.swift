import NetworkStack

/// The scenarios whose figures are kept in Benchmarks/goodput.txt.
public enum GoodputGrid {
    /// One transfer, or several that share a link.
    public static let transfers: [GoodputScenario] = small + lossAndDelay + fast + recovery + sharing
    /// Requests one after the other.
    public static let requests: [RequestScenario] = {
        var small = RequestScenario(roundTrip: 50, loss: 30_000, requests: 500)
        small.isSmall = true
        var eager = small
        (eager.pause, eager.variant) = (0, "no pause")
        return [small, eager, RequestScenario(roundTrip: 1, loss: 10_000, requests: 5_000), RequestScenario(roundTrip: 200, loss: 10_000, requests: 5_000)]
    }()

    private static let algorithms: [CongestionControlAlgorithm] = [.cubic, .newReno, .dctcp, .bbr]

    private static var small: [GoodputScenario] {
        [UInt64(10), 50].flatMap { roundTrip in
            [UInt32(0), 10_000].flatMap { loss in
                algorithms.map {
                    var scenario = GoodputScenario(.megabits10, roundTrip: roundTrip, loss: loss, $0, seconds: 4)
                    scenario.isSmall = true
                    return scenario
                }
            }
        }
    }

    private static var lossAndDelay: [GoodputScenario] {
        [UInt64(1), 10, 50].flatMap { roundTrip in
            [UInt32(0), 100, 1_000, 10_000].flatMap { loss in
                algorithms.map { GoodputScenario(.megabits100, roundTrip: roundTrip, loss: loss, $0, seconds: 11) }
            }
        }
    }

    private static var fast: [GoodputScenario] {
        [UInt32(0), 100].flatMap { loss in algorithms.map { GoodputScenario(.gigabit, roundTrip: 10, loss: loss, $0, seconds: 6) } }
    }

    /// What selective acknowledgements are worth, and what frames that are only late cost.
    private static var recovery: [GoodputScenario] {
        var plain = [CongestionControlAlgorithm.cubic, .newReno].map { GoodputScenario(.megabits100, roundTrip: 50, loss: 10_000, $0, seconds: 11) }
        for index in plain.indices {
            plain[index].variant = "no SACK"
            plain[index].configure = { $0.offersSelectiveAcknowledgements = false }
        }
        // A loss of a frame is followed by others: eight together, every two thousand frames.
        let bursts = [CongestionControlAlgorithm.cubic, .newReno].flatMap { algorithm in
            [true, false].map { isSelective in
                var scenario = GoodputScenario(.megabits100, roundTrip: 50, algorithm, seconds: 11)
                scenario.name = "100 Mbit/s, 50 ms, bursts of losses"
                scenario.link.burstLoss.begin = 500
                scenario.link.burstLoss.end = 125_000
                scenario.link.burstLoss.lossWhileBad = 1_000_000
                if !isSelective {
                    scenario.variant = "no SACK"
                    scenario.configure = { $0.offersSelectiveAcknowledgements = false }
                }
                return scenario
            }
        }
        let late = [CongestionControlAlgorithm.cubic, .newReno, .bbr].map {
            var scenario = GoodputScenario(.megabits100, roundTrip: 50, $0, seconds: 11)
            scenario.name = "100 Mbit/s, 50 ms, 5 % late by up to 50 ms"
            scenario.link.reordering = 50_000
            scenario.link.reorderDelay = 50_000_000
            return scenario
        }
        return plain + bursts + late
    }

    private static var sharing: [GoodputScenario] {
        algorithms.map {
            var scenario = GoodputScenario(.megabits100, roundTrip: 20, $0, seconds: 80, warmUp: 20_000)
            scenario.flows = 2
            scenario.name = "100 Mbit/s, 20 ms, 2 connections"
            return scenario
        }
    }
}
