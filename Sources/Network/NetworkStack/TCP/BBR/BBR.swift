/// Congestion control by a model of the path: the bandwidth of its bottleneck and its shortest round trip (BBRv3, draft-ietf-ccwg-bbr).
///
/// What is sent is paced at the measured bandwidth, and what is in flight bounded by a multiple of the product of both. A loss is no congestion by itself;
/// more than 2 % of a flight are, and so are losses in a round trip of steady sending, for as long as they go on.
///
/// Bytes, nanoseconds and bytes a second, integers throughout: simulated worlds repeat. This file has the state, the order of the steps, and the phases of
/// the start; the other parts of the algorithm stand beside it.
struct BBR {
    /// BBR.state.
    enum State: UInt8 {
        case startup, drain
        /// ProbeBW, in the order in which its phases follow each other.
        case probeDown, probeCruise, probeRefill, probeUp
        /// ProbeRTT.
        case probeRoundTrip

        /// Whether more is being sent than the path was seen to take.
        //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
        //# BBRIsProbingBW(): return (BBR.state == Startup or BBR.state == ProbeBW_REFILL or BBR.state == ProbeBW_UP)
        var isProbing: Bool { self == .startup || self == .probeRefill || self == .probeUp }
        var isProbingBandwidth: Bool { self == .probeDown || self == .probeCruise || self == .probeRefill || self == .probeUp }
    }

    /// BBR.ack_phase: what the acknowledgements that arrive tell of the last probe.
    enum Feedback { case starting, arriving, stopping, refilling }

    /// What an acknowledgement, and the connection, tell.
    struct Input {
        let now: UInt64
        let sample: RateSample
        /// C.delivered.
        let delivered: UInt64
        /// Bytes in flight, and cwnd.
        let inFlight: Int
        let window: Int
        let isWindowLimited: Bool
        let segmentSize: Int
        let isRecovering: Bool
    }

    var state = State.startup
    var segmentSize = 536
    var initialWindow = 0
    var random = StackRandom(seed: 0)

    // Rounds, counted in packets (BBRUpdateRound).
    var roundCount: UInt64 = 0
    var nextRoundDelivered: UInt64 = 0
    var isRoundStart = false

    // The bandwidth: the maxima of the last two probing cycles, the short-term bound, what is used.
    var cycleMaximum: UInt64 = 0
    var lastCycleMaximum: UInt64 = 0
    var shortTermBandwidth = UInt64.max
    var bandwidth: UInt64 = 0
    var latestBandwidth: UInt64 = 0
    /// What was delivered in a round at most, and the bounds of what may be in flight (BBR.inflight_shortterm, BBR.inflight_longterm).
    var latestInflight = 0
    var shortTermInflight = Int.max
    var longTermInflight = Int.max

    // Losses, by rounds.
    var lossRoundDelivered: UInt64 = 0
    var isLossRoundStart = false
    var hasLossInRound = false
    var lossEventCount = 0

    // Whether the pipe is full.
    var fullBandwidth: UInt64 = 0
    var fullBandwidthCount = 0
    var isFullNow = false
    var hasBeenFull = false

    // ProbeBW.
    var cycleStart: UInt64 = 0
    var probeWait: UInt64 = 0
    var roundsSinceProbe: UInt64 = 0
    var probeUpRounds = 0
    var probeUpByteCount = 0
    /// Bytes to be acknowledged for each segment that the long-term bound grows by.
    var probeUpInterval = Int.max
    var hasProbeSamples = false
    /// Probes that were too much, those of them by what they lost, and Startups that ended as the bandwidth grew no more; for statistics.
    var reductionCount: UInt32 = 0
    var lossReductionCount: UInt32 = 0
    var plateauCount: UInt32 = 0
    var feedback = Feedback.stopping

    // The shortest round trip, and ProbeRTT's own, which is shorter-lived.
    var minimumRoundTrip = UInt64.max
    var minimumStamp: UInt64 = 0
    var probeMinimum = UInt64.max
    var probeMinimumStamp: UInt64 = 0
    var isProbeMinimumExpired = false
    var probeDone: UInt64 = 0
    var isProbeRoundDone = false

    // How much more is acknowledged at once than the bandwidth explains: the maxima of two windows of rounds.
    var extraAcknowledged = 0
    var lastExtraAcknowledged = 0
    var extraRounds = 0
    var extraStart: UInt64 = 0
    var extraDelivered = 0

    // The window.
    var priorWindow = 0
    var conservesPackets = false
    var isRestarting = false

    // What is taken back when a loss was none.
    var undoState = State.startup
    var undoShortTermBandwidth = UInt64.max
    var undoShortTermInflight = Int.max
    var undoLongTermInflight = Int.max

    /// In hundredths.
    var pacingGain = 277
    var windowGain = 200
    /// BBR.pacing_rate in bytes a second, and BBR.send_quantum.
    var pacingRate: UInt64 = 0
    var quantum = 0

    init() {}

    //= draft-ietf-ccwg-bbr section Initialization
    //# BBRInit(): BBR.min_rtt = SRTT ? SRTT : Infinity; BBR.min_rtt_stamp = Now(); BBR.full_bw_reached = false; BBRResetCongestionSignals(),
    //# BBRResetShortTermModel(), BBRInitRoundCounting(), BBRResetFullBW(), BBRInitPacingRate(), BBREnterStartup()
    init(window: Int, segmentSize: Int, smoothedRoundTrip: UInt64, now: UInt64, seed: UInt64) {
        self.segmentSize = segmentSize
        initialWindow = window
        random = StackRandom(seed: seed)
        minimumRoundTrip = smoothedRoundTrip == 0 ? .max : smoothedRoundTrip
        probeMinimum = minimumRoundTrip
        minimumStamp = now
        probeMinimumStamp = now
        extraStart = now
        //= draft-ietf-ccwg-bbr section Pacing Rate
        //# BBRInitPacingRate(): nominal_bandwidth = InitialCwnd / (SRTT ? SRTT : 1ms); BBR.pacing_rate = BBR.StartupPacingGain * nominal_bandwidth
        let nominal = scale(UInt64(window), by: 1_000_000_000, over: smoothedRoundTrip == 0 ? 1_000_000 : smoothedRoundTrip)
        pacingRate = nominal &* UInt64(BBR.startupPacingGain) / 100
        quantum = Pacing.quantum(pacingRate, segmentSize: segmentSize)
        enterStartup()
    }

    /// An acknowledgement of something new.
    /// - Returns: cwnd.
    //= draft-ietf-ccwg-bbr section Per-ACK Steps
    //# BBRUpdateModelAndState(): BBRUpdateLatestDeliverySignals(), BBRUpdateCongestionSignals(), BBRUpdateACKAggregation(), BBRCheckFullBWReached(),
    //# BBRCheckStartupDone(), BBRCheckDrainDone(), BBRUpdateProbeBWCyclePhase(), BBRUpdateMinRTT(), BBRCheckProbeRTT(), BBRAdvanceLatestDeliverySignals(),
    //# BBRBoundBWForModel(). BBRUpdateControlParameters(): BBRSetPacingRate(), BBRSetSendQuantum(), BBRSetCwnd()
    mutating func update(_ input: Input) -> Int {
        segmentSize = input.segmentSize
        updateLatestSignals(input)
        updateCongestionSignals(input)
        updateAggregation(input)
        checkFull(input)
        checkStartup(input)
        checkDrain(input)
        updateProbingCycle(input)
        updateMinimumRoundTrip(input)
        var window = probeRoundTripIfDue(input)
        advanceLatestSignals(input)
        bandwidth = min(maximumBandwidth, shortTermBandwidth)
        setPacingRate(gain: pacingGain)
        quantum = Pacing.quantum(pacingRate, segmentSize: segmentSize)
        window = boundedWindow(window, input)
        return window
    }

    // MARK: Startup and Drain

    //= draft-ietf-ccwg-bbr section Startup
    //# BBREnterStartup(): BBR.state = Startup; BBR.pacing_gain = BBR.StartupPacingGain; BBR.cwnd_gain = BBR.DefaultCwndGain
    mutating func enterStartup() {
        (state, pacingGain, windowGain) = (.startup, BBR.startupPacingGain, BBR.defaultWindowGain)
    }

    //= draft-ietf-ccwg-bbr section Exiting Startup Based on Bandwidth Plateau
    //# If BBR notices that there are several (three) rounds where attempts to double the delivery rate actually result in little increase (less than 25
    //# percent), then it estimates that it has reached BBR.max_bw
    private mutating func checkFull(_ input: Input) {
        guard !isFullNow, isRoundStart, !input.sample.isApplicationLimited, input.sample.rate > 0 else { return }
        if input.sample.rate >= fullBandwidth &+ fullBandwidth / 4 {
            resetFull()
            fullBandwidth = input.sample.rate
            return
        }
        fullBandwidthCount += 1
        isFullNow = fullBandwidthCount >= (DeliberateBug.isPresent(.pipeNeverFull) ? .max : 3)
        guard isFullNow else { return }
        if !hasBeenFull { plateauCount &+= 1 }
        hasBeenFull = true
    }

    //= draft-ietf-ccwg-bbr section Exiting Startup Based on Bandwidth Plateau
    //# BBRResetFullBW(): BBR.full_bw = 0; BBR.full_bw_count = 0; BBR.full_bw_now = 0
    mutating func resetFull() { (fullBandwidth, fullBandwidthCount, isFullNow) = (0, 0, false) }

    private mutating func checkStartup(_ input: Input) {
        checkLossOfStartup(input)
        guard state == .startup, hasBeenFull else { return }
        //= draft-ietf-ccwg-bbr section Drain
        //# BBREnterDrain(): BBR.state = Drain; BBR.pacing_gain = BBR.DrainPacingGain (0.5); BBR.cwnd_gain = BBR.DefaultCwndGain
        (state, pacingGain, windowGain) = (.drain, 50, BBR.defaultWindowGain)
    }

    //= draft-ietf-ccwg-bbr section Exiting Startup Based on Packet Loss
    //# The connection has been in fast recovery for at least one full packet-timed round trip. The loss rate over the time scale of a single full round trip
    //# exceeds BBR.LossThresh (2%). There are at least BBRStartupFullLossCnt=6 discontiguous sequence ranges lost in that round trip.
    private mutating func checkLossOfStartup(_ input: Input) {
        if input.sample.newlyLost > 0 { lossEventCount += 1 }
        guard isLossRoundStart else { return }
        if !hasBeenFull && input.isRecovering && lossEventCount >= 6 && isInflightTooHigh(lost: input.sample.lost, inFlight: input.sample.inFlight) {
            endStartup()
        }
        lossEventCount = 0
    }

    /// The pipe is full because it overflows.
    //= draft-ietf-ccwg-bbr section Exiting Startup Based on Packet Loss
    //# it sets BBR.full_bw_reached = true and exits the Startup state; BBR.inflight_longterm is set to be the maximum of the current BBR.bdp and
    //# BBR.inflight_latest
    mutating func endStartup() {
        hasBeenFull = true
        longTermInflight = max(product(gain: 100), latestInflight, leastWindow)
    }

    private mutating func checkDrain(_ input: Input) {
        //= draft-ietf-ccwg-bbr section Drain
        //# BBRCheckDrainDone(): if (BBR.state == Drain and C.inflight <= BBRInflight(1.0)): BBREnterProbeBW()
        guard state == .drain, input.inFlight <= inflight(gain: 100) else { return }
        startDown(now: input.now, delivered: input.delivered)
    }

    // MARK: Constants

    //= draft-ietf-ccwg-bbr section Startup
    //# BBR.StartupPacingGain: 4 * ln(2), approximately 2.77
    static var startupPacingGain: Int { 277 }
    //= draft-ietf-ccwg-bbr section Summary of Control Behavior
    //# BBR.DefaultCwndGain: 2.0
    static var defaultWindowGain: Int { 200 }
    /// BBR.MinPipeCwnd.
    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBR.MinPipeCwnd: the minimal cwnd value BBR targets, to allow pipelining: 4 * C.SMSS
    var leastWindow: Int { 4 * segmentSize }
}
