/// ProbeBW: the cycle that looks for more bandwidth from time to time, and leaves room for others in between.
extension BBR {
    // MARK: Phases

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRStartProbeBW_DOWN(): BBRResetCongestionSignals(); BBR.probe_up_cnt = Infinity /* not growing BBR.inflight_longterm */; BBRPickProbeWait();
    //# BBR.cycle_stamp = Now() /* start wall clock */; BBR.ack_phase = ACKS_PROBE_STOPPING; BBRStartRound(); BBR.state = ProbeBW_DOWN, with a pacing gain of
    //# 0.9 and a cwnd gain of 2
    mutating func startDown(now: UInt64, delivered: UInt64) {
        resetCongestionSignals()
        probeUpInterval = .max
        pickProbeWait()
        cycleStart = now
        feedback = .stopping
        startRound(delivered: delivered)
        (state, pacingGain, windowGain) = (.probeDown, 90, BBR.defaultWindowGain)
    }

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRStartProbeBW_CRUISE(): BBR.state = ProbeBW_CRUISE, with a pacing gain of 1.0 and a cwnd gain of 2
    mutating func startCruise() { (state, pacingGain, windowGain) = (.probeCruise, 100, BBR.defaultWindowGain) }

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRStartProbeBW_REFILL(): BBRResetShortTermModel(); BBR.bw_probe_up_rounds = 0; BBR.bw_probe_up_acks = 0; BBR.ack_phase = ACKS_REFILLING;
    //# BBRStartRound(); BBR.state = ProbeBW_REFILL
    private mutating func startRefill(delivered: UInt64) {
        resetShortTermModel()
        (probeUpRounds, probeUpByteCount) = (0, 0)
        feedback = .refilling
        startRound(delivered: delivered)
        (state, pacingGain, windowGain) = (.probeRefill, 100, BBR.defaultWindowGain)
    }

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRStartProbeBW_UP(): BBR.ack_phase = ACKS_PROBE_STARTING; BBRStartRound(); BBRResetFullBW(); BBR.full_bw = RS.delivery_rate; BBR.state =
    //# ProbeBW_UP; BBRRaiseInflightLongtermSlope(), with a pacing gain of 1.25 and a cwnd gain of 2.25
    mutating func startUp(rate: UInt64, now: UInt64, delivered: UInt64, window: Int) {
        feedback = .starting
        startRound(delivered: delivered)
        resetFull()
        fullBandwidth = rate
        cycleStart = now
        (state, pacingGain, windowGain) = (.probeUp, 125, 225)
        raiseSlope(window: window)
    }

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRUpdateProbeBWCyclePhase(): if (!BBR.full_bw_reached) return /* only handling steady-state behavior here */; BBRAdaptLongTermModel(); if
    //# (!IsInAProbeBWState()) return; in ProbeBW_DOWN: if (BBRIsTimeToProbeBW()) return; if (BBRIsTimeToCruise()) BBRStartProbeBW_CRUISE(); in
    //# ProbeBW_CRUISE: if (BBRIsTimeToProbeBW()) return; in ProbeBW_REFILL: after one round of REFILL, start UP: if (BBR.round_start): BBR.bw_probe_samples =
    //# 1; BBRStartProbeBW_UP(); in ProbeBW_UP: if (BBRIsTimeToGoDown()) BBRStartProbeBW_DOWN()
    mutating func updateProbingCycle(_ input: Input) {
        guard hasBeenFull else { return }
        adaptLongTermModel(input)
        switch state {
        case .probeDown:
            if isTimeToProbe(input) { return startRefill(delivered: input.delivered) }
            if isTimeToCruise(input) { startCruise() }
        case .probeCruise:
            if isTimeToProbe(input) { startRefill(delivered: input.delivered) }
        case .probeRefill:
            guard isRoundStart else { return }
            hasProbeSamples = true
            startUp(rate: input.sample.rate, now: input.now, delivered: input.delivered, window: input.window)
        case .probeUp:
            if isTimeToGoDown(input) { startDown(now: input.now, delivered: input.delivered) }
        case .startup, .drain, .probeRoundTrip: break
        }
    }

    // MARK: When

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRIsTimeToCruise(): if (C.inflight > BBRInflightWithHeadroom()) return false /* not enough headroom */; if (C.inflight <= BBRInflight(BBR.max_bw,
    //# 1.0)) return true /* C.inflight <= estimated BDP */
    private func isTimeToCruise(_ input: Input) -> Bool {
        input.inFlight <= inflightWithHeadroom && input.inFlight <= inflight(gain: 100)
    }

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRIsTimeToGoDown(): if (C.is_cwnd_limited and C.cwnd >= BBR.inflight_longterm): BBRResetFullBW() /* bw is limited by BBR.inflight_longterm */;
    //# BBR.full_bw = RS.delivery_rate; else if (BBR.full_bw_now): return true /* we estimate we've fully used path bw */
    private mutating func isTimeToGoDown(_ input: Input) -> Bool {
        if input.isWindowLimited && input.window >= longTermInflight {
            resetFull()
            fullBandwidth = input.sample.rate
            return false
        }
        return isFullNow
    }

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRIsTimeToProbeBW(): if (BBRHasElapsedInPhase(BBR.bw_probe_wait) || BBRIsRenoCoexistenceProbeTime()): BBRStartProbeBW_REFILL()
    private func isTimeToProbe(_ input: Input) -> Bool {
        if DeliberateBug.isPresent(.bandwidthNotProbed) { return false }
        if input.now &- cycleStart > probeWait { return true }
        //= draft-ietf-ccwg-bbr section Time Scale for Bandwidth Probing
        //# BBRIsRenoCoexistenceProbeTime(): reno_rounds = BBRTargetInflight(); rounds = min(reno_rounds, 63); return BBR.rounds_since_bw_probe >= rounds
        return roundsSinceProbe >= UInt64(min(targetInflight(window: input.window) / segmentSize, 63))
    }

    //= draft-ietf-ccwg-bbr section Time Scale for Bandwidth Probing
    //# BBRPickProbeWait(): Decide random round-trip bound for wait: BBR.rounds_since_bw_probe = random_int_between(0, 1); Decide the random wall clock bound
    //# for wait: BBR.bw_probe_wait = 2 + random_float_between(0.0, 1.0) seconds
    private mutating func pickProbeWait() {
        roundsSinceProbe = random.next() & 1
        probeWait = 2_000_000_000 + random.next() % 1_000_000_000
    }

    // MARK: The long-term bound of what is in flight

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRTargetInflight(): return min(BBR.bdp, C.cwnd)
    private func targetInflight(window: Int) -> Int { min(product(gain: 100), window) }

    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBRInflightWithHeadroom(): if (BBR.inflight_longterm == Infinity) return Infinity; headroom = max(1*SMSS, BBR.Headroom * BBR.inflight_longterm); return
    //# max(BBR.inflight_longterm - headroom, BBR.MinPipeCwnd), with BBR.Headroom = 0.15
    var inflightWithHeadroom: Int {
        guard longTermInflight != .max else { return .max }
        return max(longTermInflight - max(segmentSize, longTermInflight * 15 / 100), leastWindow)
    }

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRRaiseInflightLongtermSlope(): growth_this_round = 1*SMSS << BBR.bw_probe_up_rounds; BBR.bw_probe_up_rounds = min(BBR.bw_probe_up_rounds + 1, 30);
    //# BBR.probe_up_cnt = max(C.cwnd / growth_this_round, 1)
    private mutating func raiseSlope(window: Int) {
        let growth = 1 << probeUpRounds
        probeUpRounds = min(probeUpRounds + 1, 30)
        probeUpInterval = max(window / growth, segmentSize)
    }

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRProbeInflightLongtermUpward(): if (!C.is_cwnd_limited || C.cwnd < BBR.inflight_longterm) return /* not fully using BBR.inflight_longterm, so don't
    //# grow it */; BBR.bw_probe_up_acks += RS.newly_acked; if (BBR.bw_probe_up_acks >= BBR.probe_up_cnt): delta = BBR.bw_probe_up_acks / BBR.probe_up_cnt;
    //# BBR.bw_probe_up_acks -= delta * BBR.probe_up_cnt; BBR.inflight_longterm += delta; if (BBR.round_start) BBRRaiseInflightLongtermSlope()
    private mutating func probeUpward(_ input: Input) {
        guard input.isWindowLimited, input.window >= longTermInflight else { return }
        probeUpByteCount += input.sample.newlyDelivered
        let delta = probeUpByteCount / probeUpInterval
        probeUpByteCount -= delta * probeUpInterval
        longTermInflight = min(longTermInflight + delta * segmentSize, BBR.largestInflight)
        if isRoundStart { raiseSlope(window: input.window) }
    }

    //= draft-ietf-ccwg-bbr section ProbeBW Algorithm Details
    //# BBRAdaptLongTermModel(): if (BBR.ack_phase == ACKS_PROBE_STARTING and BBR.round_start) BBR.ack_phase = ACKS_PROBE_FEEDBACK; if (BBR.ack_phase ==
    //# ACKS_PROBE_STOPPING and BBR.round_start) /* end of samples from bw probing phase */ if (IsInAProbeBWState() and !RS.is_app_limited)
    //# BBRAdvanceMaxBwFilter(); if (!IsInflightTooHigh()): if (BBR.inflight_longterm == Infinity) return; if (RS.tx_in_flight > BBR.inflight_longterm)
    //# BBR.inflight_longterm = RS.tx_in_flight; if (BBR.state == ProbeBW_UP) BBRProbeInflightLongtermUpward()
    private mutating func adaptLongTermModel(_ input: Input) {
        let sample = input.sample
        if feedback == .starting && isRoundStart { feedback = .arriving }
        if feedback == .stopping && isRoundStart {
            hasProbeSamples = false
            feedback = .arriving
            if state.isProbingBandwidth && !sample.isApplicationLimited { advanceMaximumBandwidth() }
        }
        guard sample.rate > 0 else { return }
        if isInflightTooHigh(lost: sample.lost, inFlight: sample.inFlight) {
            if hasProbeSamples {
                lossReductionCount &+= 1
                inflightTooHigh(
                    inFlight: sample.inFlight, isApplicationLimited: sample.isApplicationLimited, delivered: input.delivered, window: input.window,
                    now: input.now)
            }
            return
        }
        guard longTermInflight != .max else { return }
        longTermInflight = max(longTermInflight, sample.inFlight)
        if state == .probeUp { probeUpward(input) }
    }

    /// Too much of what was in flight when a probe was sent is lost.
    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# BBRHandleInflightTooHigh(): BBR.bw_probe_samples = 0 /* only react once per bw probe */; if (!RS.is_app_limited) BBR.inflight_longterm =
    //# max(RS.tx_in_flight, BBRTargetInflight() * BBR.Beta); if (BBR.state == ProbeBW_UP) BBRStartProbeBW_DOWN()
    mutating func inflightTooHigh(inFlight: Int, isApplicationLimited: Bool, delivered: UInt64, window: Int, now: UInt64) {
        hasProbeSamples = false
        reductionCount &+= 1
        if !isApplicationLimited { longTermInflight = max(inFlight, targetInflight(window: window) * 7 / 10, leastWindow) }
        if state == .probeUp { startDown(now: now, delivered: delivered) }
    }
}
