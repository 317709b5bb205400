/// What is learnt of the path from samples and losses: bandwidth, bounds of what may be in flight, aggregation of acknowledgements.
extension BBR {
    /// BBR.max_bw in bytes a second.
    var maximumBandwidth: UInt64 { max(cycleMaximum, lastCycleMaximum) }

    /// A multiple, in hundredths, of the product of bandwidth and round trip, in bytes.
    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBRBDPMultiple(gain): if (BBR.min_rtt == Inf) return InitialCwnd; BBR.bdp = BBR.bw * BBR.min_rtt; return gain * BBR.bdp
    func product(gain: Int) -> Int {
        guard minimumRoundTrip != .max else { return initialWindow }
        let bytes = min(scale(bandwidth, by: minimumRoundTrip, over: 1_000_000_000), UInt64(BBR.largestInflight))
        return Int(bytes) * gain / 100
    }

    /// Beyond any buffer.
    static var largestInflight: Int { 1 << 30 }

    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBRInflight(gain): inflight = BBRBDPMultiple(gain); return BBRQuantizationBudget(inflight)
    func inflight(gain: Int) -> Int { quantized(product(gain: gain)) }

    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBRQuantizationBudget(inflight_cap): BBRUpdateOffloadBudget(): BBR.offload_budget = 3 * BBR.send_quantum; inflight_cap = max(inflight_cap,
    //# BBR.offload_budget); inflight_cap = max(inflight_cap, BBR.MinPipeCwnd); if (BBR.state == ProbeBW_UP) inflight_cap += 2*C.SMSS
    func quantized(_ inflight: Int) -> Int {
        max(inflight, 3 * quantum, leastWindow) + (state == .probeUp ? 2 * segmentSize : 0)
    }

    // MARK: Rounds and bandwidth

    //= draft-ietf-ccwg-bbr section Tracking Packet-Timed Round Trips
    //# BBRStartRound(): BBR.next_round_delivered = C.delivered
    mutating func startRound(delivered: UInt64) { nextRoundDelivered = delivered }

    //= draft-ietf-ccwg-bbr section Tracking Packet-Timed Round Trips
    //# BBRUpdateRound(): if (packet.delivered >= BBR.next_round_delivered): BBRStartRound(); BBR.round_count++; BBR.rounds_since_bw_probe++;
    //# BBR.round_start = true; else BBR.round_start = false
    private mutating func updateRound(_ input: Input) {
        isRoundStart = input.sample.priorTime != 0 && input.sample.priorDelivered >= nextRoundDelivered
        guard isRoundStart else { return }
        startRound(delivered: input.delivered)
        roundCount += 1
        roundsSinceProbe += 1
        conservesPackets = false
    }

    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# BBRUpdateLatestDeliverySignals(): BBR.loss_round_start = 0; BBR.bw_latest = max(BBR.bw_latest, RS.delivery_rate); BBR.inflight_latest =
    //# max(BBR.inflight_latest, RS.delivered); if (RS.prior_delivered >= BBR.loss_round_delivered): BBR.loss_round_delivered = C.delivered;
    //# BBR.loss_round_start = 1
    mutating func updateLatestSignals(_ input: Input) {
        isLossRoundStart = false
        guard input.sample.rate > 0 else { return }
        latestBandwidth = max(latestBandwidth, input.sample.rate)
        latestInflight = max(latestInflight, Int(min(input.sample.delivered, UInt64(BBR.largestInflight))))
        if input.sample.priorDelivered >= lossRoundDelivered {
            lossRoundDelivered = input.delivered
            isLossRoundStart = true
        }
    }

    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# BBRAdvanceLatestDeliverySignals(): if (BBR.loss_round_start): BBR.bw_latest = RS.delivery_rate; BBR.inflight_latest = RS.delivered
    mutating func advanceLatestSignals(_ input: Input) {
        guard isLossRoundStart else { return }
        latestBandwidth = input.sample.rate
        latestInflight = Int(min(input.sample.delivered, UInt64(BBR.largestInflight)))
    }

    mutating func updateCongestionSignals(_ input: Input) {
        updateRound(input)
        //= draft-ietf-ccwg-bbr section Estimated Maximum Bandwidth
        //# BBRUpdateMaxBw(): if (RS.delivery_rate > 0 && (RS.delivery_rate >= BBR.max_bw || !RS.is_app_limited)): BBR.max_bw = UpdateWindowedMaxFilter(...)
        if input.sample.rate > 0 && (input.sample.rate >= maximumBandwidth || !input.sample.isApplicationLimited) {
            cycleMaximum = max(cycleMaximum, input.sample.rate)
        }
        //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
        //# BBRUpdateCongestionSignals(): if (!BBR.loss_round_start) return /* wait until end of round trip */; BBRAdaptLowerBoundsFromCongestion();
        //# BBR.loss_in_round = 0
        guard isLossRoundStart else { return }
        if hasLossInRound && !state.isProbing { adaptShortTermModel(input) }
        hasLossInRound = false
    }

    /// Two cycles are remembered.
    //= draft-ietf-ccwg-bbr section Estimated Maximum Bandwidth
    //# BBRAdvanceMaxBwFilter(): BBR.cycle_count++, with BBR.MaxBwFilterLen = 2
    mutating func advanceMaximumBandwidth() {
        guard cycleMaximum > 0 else { return }
        lastCycleMaximum = cycleMaximum
        cycleMaximum = 0
    }

    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# if (BBR.bw_shortterm == Infinity) BBR.bw_shortterm = BBR.max_bw; if (BBR.inflight_shortterm == Infinity) BBR.inflight_shortterm = C.cwnd;
    //# BBR.bw_shortterm = max(BBR.bw_latest, BBR.Beta * BBR.bw_shortterm); BBR.inflight_shortterm = max(BBR.inflight_latest, BBR.Beta *
    //# BBR.inflight_shortterm), with BBR.Beta = 0.7
    private mutating func adaptShortTermModel(_ input: Input) {
        if shortTermBandwidth == .max { shortTermBandwidth = maximumBandwidth }
        if shortTermInflight == .max { shortTermInflight = input.window }
        shortTermBandwidth = max(latestBandwidth, shortTermBandwidth / 10 &* 7)
        shortTermInflight = max(latestInflight, shortTermInflight * 7 / 10)
    }

    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# BBRResetShortTermModel(): BBR.bw_shortterm = Infinity; BBR.inflight_shortterm = Infinity
    mutating func resetShortTermModel() { (shortTermBandwidth, shortTermInflight) = (.max, .max) }

    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# BBRResetCongestionSignals(): BBR.loss_in_round = 0; BBR.bw_latest = 0; BBR.inflight_latest = 0
    mutating func resetCongestionSignals() { (hasLossInRound, latestBandwidth, latestInflight) = (false, 0, 0) }

    // MARK: Aggregation

    //= draft-ietf-ccwg-bbr section Estimated ACK Aggregation
    //# BBRUpdateACKAggregation(): interval = (Now() - BBR.extra_acked_interval_start); expected_delivered = BBR.bw * interval. Reset interval if ACK rate is
    //# below expected rate. BBR.extra_acked_delivered += RS.newly_acked; extra = BBR.extra_acked_delivered - expected_delivered; extra = min(extra, C.cwnd);
    //# a windowed max over the last 10 round trips, and 1 in Startup
    mutating func updateAggregation(_ input: Input) {
        if isRoundStart {
            extraRounds += 1
            if extraRounds >= (hasBeenFull ? 5 : 1) {
                (lastExtraAcknowledged, extraAcknowledged, extraRounds) = (hasBeenFull ? extraAcknowledged : 0, 0, 0)
            }
        }
        var expected = scale(bandwidth, by: input.now &- extraStart, over: 1_000_000_000)
        if UInt64(extraDelivered) <= expected {
            (extraDelivered, extraStart, expected) = (0, input.now, 0)
        }
        extraDelivered = min(extraDelivered + input.sample.newlyDelivered, BBR.largestInflight)
        let extra = min(extraDelivered - Int(min(expected, UInt64(extraDelivered))), input.window)
        extraAcknowledged = max(extraAcknowledged, extra)
    }

    // MARK: Losses

    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# IsInflightTooHigh(): return (RS.lost > RS.tx_in_flight * BBR.LossThresh), with BBR.LossThresh = 2%
    func isInflightTooHigh(lost: UInt64, inFlight: Int) -> Bool {
        if DeliberateBug.isPresent(.lossesIgnoredByModel) { return false }
        return lost &* 50 > UInt64(max(inFlight, 0))
    }

    /// A segment was marked lost.
    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# BBRHandleLostPacket(packet): BBRNoteLoss(); if (!BBR.bw_probe_samples) return /* not a packet sent while probing bandwidth */; RS.tx_in_flight =
    //# packet.tx_in_flight; RS.lost = C.lost - packet.lost; RS.is_app_limited = packet.is_app_limited; if (IsInflightTooHigh()) { RS.tx_in_flight =
    //# BBRInflightAtLoss(packet); BBRHandleInflightTooHigh() }
    mutating func lose(byteCount: Int, _ packet: DeliverySnapshot, lost: UInt64, delivered: UInt64, window: Int, now: UInt64) {
        noteLoss(delivered: delivered)
        guard hasProbeSamples, case let lostSince = lost &- packet.lost, isInflightTooHigh(lost: lostSince, inFlight: packet.inFlight) else { return }
        //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
        //# BBRInflightAtLoss(packet): inflight_prev = RS.tx_in_flight - packet.size; lost_prev = RS.lost - packet.size; lost_prefix = (BBR.LossThresh *
        //# inflight_prev - lost_prev) / (1 - BBR.LossThresh); inflight_at_loss = inflight_prev + lost_prefix
        let before = packet.inFlight - byteCount
        let lostBefore = Int(min(lostSince, UInt64(BBR.largestInflight))) - byteCount
        let prefix = (before - 50 * lostBefore) / 49
        lossReductionCount &+= 1
        inflightTooHigh(
            inFlight: max(before + prefix, segmentSize), isApplicationLimited: packet.isApplicationLimited, delivered: delivered, window: window, now: now)
    }

    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# BBRNoteLoss(): if (!BBR.loss_in_round) /* first loss in this round trip? */ BBR.loss_round_delivered = C.delivered; BBRSaveStateUponLoss();
    //# BBR.loss_in_round = 1
    private mutating func noteLoss(delivered: UInt64) {
        if !hasLossInRound {
            lossRoundDelivered = delivered
            undoState = state
            (undoShortTermBandwidth, undoShortTermInflight, undoLongTermInflight) = (shortTermBandwidth, shortTermInflight, longTermInflight)
        }
        hasLossInRound = true
    }

    /// Congestion without a segment that is known to be lost. A mark says of all that is in flight what too many losses would.
    //= RFC 3168 section 6.1.2
    //# If the sender receives an ECN-Echo (ECE) ACK packet, then the sender knows that congestion was encountered in the network on the path from the
    //# sender to the receiver. The indication of congestion should be treated just as a congestion loss in non-ECN-Capable TCP.
    mutating func noteCongestion(inFlight: Int, delivered: UInt64, window: Int, isMark: Bool, now: UInt64) {
        noteLoss(delivered: delivered)
        guard isMark else { return }
        if state == .startup && !hasBeenFull {
            endStartup()
        } else if hasProbeSamples {
            inflightTooHigh(inFlight: inFlight, isApplicationLimited: false, delivered: delivered, window: window, now: now)
        }
    }

    /// The losses since `noteLoss` were none.
    /// - Returns: cwnd.
    //= draft-ietf-ccwg-bbr section Updating the Model Upon Packet Loss
    //# BBRHandleSpuriousLossDetection(): BBR.loss_in_round = 0; BBRResetFullBW(); BBR.bw_shortterm = max(BBR.bw_shortterm, BBR.undo_bw_shortterm);
    //# BBR.inflight_shortterm = max(BBR.inflight_shortterm, BBR.undo_inflight_shortterm); BBR.inflight_longterm = max(BBR.inflight_longterm,
    //# BBR.undo_inflight_longterm); if (BBR.state != ProbeRTT && BBR.state != BBR.undo_state): if (BBR.undo_state == Startup) BBREnterStartup() else if
    //# (BBR.undo_state == ProbeBW_UP) BBRStartProbeBW_UP()
    mutating func undo(window: Int, delivered: UInt64, now: UInt64) -> Int {
        hasLossInRound = false
        resetFull()
        shortTermBandwidth = max(shortTermBandwidth, undoShortTermBandwidth)
        shortTermInflight = max(shortTermInflight, undoShortTermInflight)
        longTermInflight = max(longTermInflight, undoLongTermInflight)
        if state != .probeRoundTrip && state != undoState {
            if undoState == .startup {
                hasBeenFull = false
                enterStartup()
            } else if undoState == .probeUp {
                startUp(rate: bandwidth, now: now, delivered: delivered, window: window)
            }
        }
        return leaveRecovery(window: window)
    }
}
