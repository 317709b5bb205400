import WireFormats

/// The end of slow start by growing round trips, before a queue overflows (HyStart++, RFC 9406).
///
/// Its samples are those of every acknowledgement that has a timestamp. Without timestamps there is one sample in a round, which is too few to tell a
/// queue from a coincidence: slow start then ends by a loss (Specifications/exceptions.md).
struct HyStart {
    /// `windowEnd`; nil before the first acknowledgement.
    private var roundEnd: SequenceNumber?
    private var lastRoundMinimum = UInt64.max
    private var currentRoundMinimum = UInt64.max
    private var sampleCount = 0
    /// `cssBaselineMinRtt`; `.max` in standard slow start.
    private var baseline = UInt64.max
    private var conservativeRounds = 0

    /// In conservative slow start.
    var isConservative: Bool { baseline != .max }
    /// It is time for congestion avoidance.
    private(set) var isOver = false

    //= RFC 9406 section 4.3
    //# MIN_RTT_THRESH = 4 msec, MAX_RTT_THRESH = 16 msec, MIN_RTT_DIVISOR = 8, N_RTT_SAMPLE = 8, CSS_GROWTH_DIVISOR = 4, CSS_ROUNDS = 5, L = 8 if non-paced
    private static var smallestThreshold: UInt64 { 4_000_000 }
    private static var largestThreshold: UInt64 { 16_000_000 }
    private static var samplesOfRound: Int { 8 }
    private static var conservativeDivisor: Int { 4 }
    private static var longestConservative: Int { 5 }
    private static var segmentLimit: Int { 8 }

    /// Of the samples, which are differences of timestamps (`timestampValue`).
    private static var resolution: UInt64 { 1 << 20 }

    /// - Returns: by how much an acknowledgement lets the window grow.
    mutating func growth(_ event: CongestionEvent) -> Int {
        if let end = roundEnd, event.acknowledgement.since(end) >= 0 {
            //= RFC 9406 section 4.2
            //# When windowEnd is ACKed, the current round ends and windowEnd is set to SND.NXT. At the start of each round: lastRoundMinRTT =
            //# currentRoundMinRTT, currentRoundMinRTT = infinity, rttSampleCount = 0
            roundEnd = event.sendMaximum
            lastRoundMinimum = currentRoundMinimum
            currentRoundMinimum = .max
            sampleCount = 0
            if isConservative {
                conservativeRounds += 1
                isOver = conservativeRounds >= HyStart.longestConservative
            }
        } else if roundEnd == nil {
            roundEnd = event.sendMaximum
        }
        if event.roundTrip != 0 { take(event.roundTrip) }
        //= RFC 9406 section 4.2
        //# While an arriving ACK acknowledges N bytes: cwnd = cwnd + min(N, L * SMSS)
        let growth = min(event.byteCount, HyStart.segmentLimit * event.segmentSize)
        //= RFC 9406 section 4.2
        //# In CSS: cwnd = cwnd + (min(N, L * SMSS) / CSS_GROWTH_DIVISOR)
        return isConservative ? growth / HyStart.conservativeDivisor : growth
    }

    private mutating func take(_ roundTrip: UInt64) {
        currentRoundMinimum = min(currentRoundMinimum, roundTrip)
        sampleCount += 1
        guard sampleCount >= HyStart.samplesOfRound else { return }
        if isConservative {
            //= RFC 9406 section 4.2
            //# if (currentRoundMinRTT < cssBaselineMinRtt): cssBaselineMinRtt = infinity, resume slow start including HyStart++
            // By more than a tick of the timestamps, which are one more or less of the same time.
            if currentRoundMinimum &+ HyStart.resolution < baseline { baseline = .max }
            return
        }
        guard lastRoundMinimum != .max, !DeliberateBug.isPresent(.delayIncreaseIgnored) else { return }
        //= RFC 9406 section 4.2
        //# RttThresh = max(MIN_RTT_THRESH, min(lastRoundMinRTT / MIN_RTT_DIVISOR, MAX_RTT_THRESH)); if (currentRoundMinRTT >= (lastRoundMinRTT + RttThresh)):
        //# cssBaselineMinRtt = currentRoundMinRTT, exit slow start and enter CSS
        let threshold = max(HyStart.smallestThreshold, min(lastRoundMinimum / 8, HyStart.largestThreshold))
        if currentRoundMinimum >= lastRoundMinimum + threshold {
            baseline = currentRoundMinimum
            //= RFC 9406 section 4.2
            //# If the transition into CSS happens in the middle of a round, that partial round counts towards the limit.
            conservativeRounds = 0
        }
    }
}
