import NetworkStack
import Testing
import WireFormats

/// BBR (draft-ietf-ccwg-bbr) over a path that the test makes: a bottleneck of a million bytes a second, which takes 1 ms for a segment of 1,000 bytes, and a
/// round trip of 50 ms, so that 50 segments are in flight.
@Suite("TCP: BBR") struct BBRTests {
    /// The path, and the peer at its end, which acknowledges each segment.
    private final class Path {
        let script: SegmentScript
        let connection: UInt32
        var roundTrip: UInt64 = 50_000_000
        /// Whether the segment with this number, of all that were sent, is lost.
        var loses: (Int) -> Bool = { _ in false }
        var isGreedy = true
        private(set) var delivered = 0
        private(set) var longestQueue = 0
        private var count = 0
        private var busyUntil: UInt64 = 0
        private var arrivals: [(time: UInt64, range: Range<Int>)] = []
        private var acknowledged = 1
        private var gaps: [Range<Int>] = []

        init(_ algorithm: CongestionControlAlgorithm = .bbr, sackPermitted: Bool = true) throws {
            script = try SegmentScript(arenaByteCount: 64 << 20) {
                $0.tcp.offersTimestamps = false
                $0.tcp.congestionControl = algorithm
            }
            let (connection, _) = script.connect()
            self.connection = connection
            script.advance(50)
            script.peer([.syn, .ack], seq: 0, ack: 1, mss: 1_000, scale: 7, sackPermitted: sackPermitted)
            script.expect(.ack, seq: 1, ack: 1)
        }

        var information: ConnectionInformation { script.stack.connectionInformation(connection) }
        var statistics: TCPStatistics { script.stack.statistics.tcp }

        func run(milliseconds: Int) {
            let end = script.now + UInt64(milliseconds) * 1_000_000
            while script.now < end {
                if isGreedy { while script.stack.unacknowledgedByteCount(connection) < 400_000 { script.send(connection, 20_000) } }
                pass()
                let next = arrivals.first.map { min($0.time, end) } ?? end
                // Never so far that what is sent meanwhile would have come before.
                script.advance(nanoseconds: min(next, script.now + 1_000_000) - script.now)
                pass()
                while let arrival = arrivals.first, arrival.time <= script.now {
                    arrivals.removeFirst()
                    arrive(arrival.range)
                }
            }
        }

        private func pass() {
            for segment in script.takeSent() where segment.length > 0 {
                count += 1
                let start = max(segment.time, busyUntil)
                longestQueue = max(longestQueue, Int((start - segment.time) / 1_000_000))
                busyUntil = start + UInt64(segment.length) * 1_000
                if loses(count) { continue }
                arrivals.append((busyUntil + roundTrip - 1_000_000, segment.seq..<segment.seq + segment.length))
            }
        }

        private func arrive(_ range: Range<Int>) {
            if range.lowerBound > acknowledged {
                gaps.removeAll { $0.overlaps(range) }
                gaps.insert(range, at: 0)
                merge()
            } else if range.upperBound > acknowledged {
                delivered += range.upperBound - acknowledged
                acknowledged = range.upperBound
                while let index = gaps.firstIndex(where: { $0.lowerBound <= acknowledged }) {
                    delivered += max(gaps[index].upperBound - acknowledged, 0)
                    acknowledged = max(acknowledged, gaps.remove(at: index).upperBound)
                }
            }
            script.peer(.ack, seq: 1, ack: acknowledged, sack: Array(gaps.prefix(4)))
        }

        /// The block that was changed last comes first.
        private func merge() {
            while let index = gaps.indices.dropFirst().first(where: {
                gaps[$0].upperBound == gaps[0].lowerBound || gaps[$0].lowerBound == gaps[0].upperBound
            }) {
                let other = gaps.remove(at: index)
                gaps[0] = min(other.lowerBound, gaps[0].lowerBound)..<max(other.upperBound, gaps[0].upperBound)
            }
        }
    }

    @Test("the rate becomes the bottleneck's: Startup finds it, Drain empties the queue, and later probes look for more")
    func bandwidth() throws {
        let path = try Path()
        path.run(milliseconds: 1_500)
        #expect(path.statistics.modelDrains == 1)
        // Within the gains of a probe.
        #expect((880_000...1_260_000).contains(path.information.pacingRate))
        path.run(milliseconds: 3_500)
        #expect(path.statistics.bandwidthProbes >= 1 && path.statistics.modelCruises >= 1)
        #expect((880_000...1_260_000).contains(path.information.pacingRate))
        // All but the first round trips at the full rate.
        #expect(path.delivered > 4_500_000)
        // Twice the product, and the budget for bursts.
        #expect(path.information.congestionWindow <= 125_000)
        #expect(path.statistics.retransmittedSegments == 0)
    }

    @Test("one segment lost in a hundred costs little of the rate, where it costs a window by losses most of it")
    func randomLoss() throws {
        let path = try Path()
        path.loses = { $0 % 100 == 37 }
        path.run(milliseconds: 10_000)
        let other = try Path(.newReno)
        other.loses = { $0 % 100 == 37 }
        other.run(milliseconds: 10_000)
        #expect(path.delivered > 7_000_000)
        #expect(other.delivered < path.delivered / 2)
    }

    @Test("what is lost while more is sent than the path takes bounds what is in flight")
    func tooMuchLoss() throws {
        let path = try Path()
        path.run(milliseconds: 1_500)
        // One in ten: far beyond 2 %.
        path.loses = { $0 % 10 == 3 }
        path.run(milliseconds: 6_000)
        #expect(path.statistics.inflightReductions > 0)
        #expect(path.information.congestionWindow < 90_000)
    }

    @Test("a program that sends little is not taken for a slow path")
    func applicationLimit() throws {
        let path = try Path()
        path.run(milliseconds: 1_500)
        path.isGreedy = false
        path.run(milliseconds: 1_000)
        for _ in 0..<80 {
            path.script.send(path.connection, 1_000)
            path.run(milliseconds: 50)
        }
        #expect(path.information.pacingRate > 800_000)
    }

    @Test("when no round trip as short was seen for five seconds, the queue is let run dry")
    func roundTrip() throws {
        let path = try Path()
        path.run(milliseconds: 2_000)
        path.roundTrip = 60_000_000
        path.run(milliseconds: 6_000)
        #expect(path.statistics.roundTripProbes >= 1)
        // The shortest one is forgotten after ten seconds: by then the product is that of 60 ms.
        path.run(milliseconds: 8_000)
        #expect(path.delivered > 13_500_000)
    }

    @Test("with a peer without selective acknowledgements there is no model, nor pacing")
    func withoutSelectiveAcknowledgements() throws {
        let path = try Path(sackPermitted: false)
        path.run(milliseconds: 500)
        #expect(path.information.congestionControl == .bbr && path.information.pacingRate == 0 && path.statistics.pacingDelays == 0)
        #expect(path.delivered > 0)
    }

    @Test("another algorithm goes on where the model was, and back")
    func change() throws {
        let path = try Path()
        path.run(milliseconds: 1_500)
        path.script.stack.setCongestionControl(path.connection, .cubic)
        let delays = path.statistics.pacingDelays
        path.run(milliseconds: 1_000)
        #expect(path.statistics.pacingDelays == delays && path.information.pacingRate == 0)
        path.script.stack.setCongestionControl(path.connection, .bbr)
        path.run(milliseconds: 2_000)
        #expect(path.statistics.modelDrains == 2 && (800_000...1_260_000).contains(path.information.pacingRate))
        #expect(path.delivered > 4_000_000)
    }
}
