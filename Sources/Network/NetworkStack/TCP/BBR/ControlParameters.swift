/// What follows from the model: the pacing rate and the window.
extension BBR {
    //= draft-ietf-ccwg-bbr section Pacing Rate
    //# BBRSetPacingRateWithGain(pacing_gain): rate = pacing_gain * BBR.bw * (100 - BBR.PacingMarginPercent) / 100; if (BBR.full_bw_reached || rate >
    //# BBR.pacing_rate) BBR.pacing_rate = rate, with BBR.PacingMarginPercent = 1
    mutating func setPacingRate(gain: Int) {
        let rate = scale(bandwidth, by: UInt64(gain * 99), over: 10_000)
        if rate > 0 && (hasBeenFull || rate > pacingRate) { pacingRate = rate }
    }

    /// cwnd after an acknowledgement.
    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBRSetCwnd(): BBRUpdateMaxInflight(); BBRModulateCwndForRecovery(); if (!BBR.packet_conservation): if (BBR.full_bw_reached) C.cwnd = min(C.cwnd +
    //# RS.newly_acked, BBR.max_inflight) else if (C.cwnd < BBR.max_inflight || C.delivered < InitialCwnd) C.cwnd = C.cwnd + RS.newly_acked; C.cwnd =
    //# max(C.cwnd, BBR.MinPipeCwnd); BBRBoundCwndForProbeRTT(); BBRBoundCwndForModel()
    mutating func boundedWindow(_ before: Int, _ input: Input) -> Int {
        //= draft-ietf-ccwg-bbr section Congestion Window
        //# BBRUpdateMaxInflight(): inflight_cap = BBRBDPMultiple(BBR.cwnd_gain); inflight_cap += BBR.extra_acked; BBR.max_inflight =
        //# BBRQuantizationBudget(inflight_cap)
        let largest = quantized(product(gain: windowGain) + max(extraAcknowledged, lastExtraAcknowledged))
        let delivered = input.sample.newlyDelivered
        //= draft-ietf-ccwg-bbr section Congestion Window
        //# BBRModulateCwndForRecovery(): if (RS.newly_lost > 0) C.cwnd = max(C.cwnd - RS.newly_lost, 1); if (BBR.packet_conservation) C.cwnd = max(C.cwnd,
        //# C.inflight + RS.newly_acked)
        var window = before
        if input.sample.newlyLost > 0 { window = max(window - input.sample.newlyLost, segmentSize) }
        if conservesPackets {
            window = max(window, input.inFlight + delivered)
        } else {
            if hasBeenFull {
                window = min(window + delivered, largest)
            } else if window < largest || input.delivered < UInt64(initialWindow) {
                window += delivered
            }
            window = max(window, leastWindow)
        }
        //= draft-ietf-ccwg-bbr section Congestion Window
        //# BBRBoundCwndForProbeRTT(): if (BBR.state == ProbeRTT) C.cwnd = min(C.cwnd, BBRProbeRTTCwnd())
        if state == .probeRoundTrip { window = min(window, probeWindow) }
        return min(window, modelBound)
    }

    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBRBoundCwndForModel(): cap = Infinity; if (IsInAProbeBWState() and BBR.state != ProbeBW_CRUISE) cap = BBR.inflight_longterm; else if (BBR.state ==
    //# ProbeRTT or BBR.state == ProbeBW_CRUISE) cap = BBRInflightWithHeadroom(); apply BBR.inflight_shortterm (possibly infinite): cap = min(cap,
    //# BBR.inflight_shortterm); cap = max(cap, BBR.MinPipeCwnd); C.cwnd = min(C.cwnd, cap)
    private var modelBound: Int {
        var bound = BBR.largestInflight
        if state == .probeRoundTrip || state == .probeCruise {
            bound = min(bound, inflightWithHeadroom)
        } else if state.isProbingBandwidth {
            bound = min(bound, longTermInflight)
        }
        return max(min(bound, shortTermInflight), leastWindow)
    }

    // MARK: Recovery

    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBRSaveCwnd(): if (!InLossRecovery() and BBR.state != ProbeRTT) return C.cwnd else return max(BBR.prior_cwnd, C.cwnd)
    mutating func saveWindow(_ window: Int, isRecovering: Bool) {
        priorWindow = !isRecovering && state != .probeRoundTrip ? window : max(priorWindow, window)
    }

    /// - Returns: cwnd.
    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBROnEnterFastRecovery(): BBRSaveCwnd(); C.cwnd = C.inflight + max(RS.newly_acked, 1); BBR.packet_conservation = true
    mutating func enterRecovery(window: Int, inFlight: Int, newlyDelivered: Int, delivered: UInt64) -> Int {
        saveWindow(window, isRecovering: false)
        conservesPackets = true
        startRound(delivered: delivered)
        return inFlight + newlyDelivered
    }

    /// - Returns: cwnd.
    //= draft-ietf-ccwg-bbr section Congestion Window
    //# Upon exiting loss recovery: BBR.packet_conservation = false; BBRRestoreCwnd(): C.cwnd = max(C.cwnd, BBR.prior_cwnd)
    mutating func leaveRecovery(window: Int) -> Int {
        conservesPackets = false
        return max(window, priorWindow)
    }
}
