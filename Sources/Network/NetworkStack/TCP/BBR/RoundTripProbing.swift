/// The shortest round trip, and ProbeRTT: when none as short was seen for a while, the queue is let run dry to see one.
extension BBR {
    //= draft-ietf-ccwg-bbr section Estimated Minimum Round-Trip Time
    //# BBR.ProbeRTTInterval: 5 secs; BBR.MinRTTFilterLen: 10 secs
    private static var probeInterval: UInt64 { 5_000_000_000 }
    private static var minimumLifetime: UInt64 { 10_000_000_000 }
    //= draft-ietf-ccwg-bbr section ProbeRTT
    //# BBR.ProbeRTTDuration: 200 milliseconds
    private static var probeDuration: UInt64 { 200_000_000 }

    //= draft-ietf-ccwg-bbr section Estimated Minimum Round-Trip Time
    //# BBRUpdateMinRTT(): BBR.probe_rtt_expired = Now() > BBR.probe_rtt_min_stamp + BBR.ProbeRTTInterval; if (RS.rtt >= 0 and (RS.rtt < BBR.probe_rtt_min_delay
    //# or BBR.probe_rtt_expired)): BBR.probe_rtt_min_delay = RS.rtt; BBR.probe_rtt_min_stamp = Now(); min_rtt_expired = Now() > BBR.min_rtt_stamp +
    //# BBR.MinRTTFilterLen; if (BBR.probe_rtt_min_delay < BBR.min_rtt or min_rtt_expired): BBR.min_rtt = BBR.probe_rtt_min_delay; BBR.min_rtt_stamp =
    //# BBR.probe_rtt_min_stamp
    mutating func updateMinimumRoundTrip(_ input: Input) {
        isProbeMinimumExpired = input.now > probeMinimumStamp &+ BBR.probeInterval
        let sample = input.sample.roundTrip
        if sample > 0 && (sample < probeMinimum || isProbeMinimumExpired) {
            probeMinimum = sample
            probeMinimumStamp = input.now
        }
        if probeMinimum < minimumRoundTrip || input.now > minimumStamp &+ BBR.minimumLifetime {
            minimumRoundTrip = probeMinimum
            minimumStamp = probeMinimumStamp
        }
    }

    /// - Returns: cwnd.
    //= draft-ietf-ccwg-bbr section ProbeRTT
    //# BBRCheckProbeRTT(): if (BBR.state != ProbeRTT and BBR.probe_rtt_expired and not BBR.idle_restart): BBREnterProbeRTT(); BBRSaveCwnd();
    //# BBR.probe_rtt_done_stamp = 0; BBR.ack_phase = ACKS_PROBE_STOPPING; BBRStartRound(); if (BBR.state == ProbeRTT) BBRHandleProbeRTT(); if (RS.delivered >
    //# 0) BBR.idle_restart = false
    mutating func probeRoundTripIfDue(_ input: Input) -> Int {
        if state != .probeRoundTrip && isProbeMinimumExpired && !isRestarting && !DeliberateBug.isPresent(.roundTripNotProbed) {
            saveWindow(input.window, isRecovering: input.isRecovering)
            //= draft-ietf-ccwg-bbr section ProbeRTT
            //# BBREnterProbeRTT(): BBR.state = ProbeRTT; BBR.pacing_gain = 1; BBR.cwnd_gain = BBR.ProbeRTTCwndGain (0.5)
            (state, pacingGain, windowGain) = (.probeRoundTrip, 100, 50)
            probeDone = 0
            feedback = .stopping
            startRound(delivered: input.delivered)
        }
        var window = input.window
        if state == .probeRoundTrip { window = probeRoundTrip(input) }
        if input.sample.newlyDelivered > 0 { isRestarting = false }
        return window
    }

    //= draft-ietf-ccwg-bbr section ProbeRTT
    //# BBRHandleProbeRTT(): if (BBR.probe_rtt_done_stamp == 0 and C.inflight <= BBRProbeRTTCwnd()): Wait for at least ProbeRTTDuration to elapse:
    //# BBR.probe_rtt_done_stamp = Now() + BBR.ProbeRTTDuration; Wait for at least one round to elapse: BBR.probe_rtt_round_done = false; BBRStartRound(); else
    //# if (BBR.probe_rtt_done_stamp != 0): if (BBR.round_start) BBR.probe_rtt_round_done = true; if (BBR.probe_rtt_round_done) BBRCheckProbeRTTDone()
    private mutating func probeRoundTrip(_ input: Input) -> Int {
        if probeDone == 0 {
            if input.inFlight <= probeWindow {
                probeDone = input.now &+ BBR.probeDuration
                isProbeRoundDone = false
                startRound(delivered: input.delivered)
            }
            return input.window
        }
        if isRoundStart { isProbeRoundDone = true }
        guard isProbeRoundDone else { return input.window }
        return endProbeIfDone(now: input.now, window: input.window, delivered: input.delivered) ?? input.window
    }

    /// - Returns: cwnd, when the probe is over.
    //= draft-ietf-ccwg-bbr section ProbeRTT
    //# BBRCheckProbeRTTDone(): if (BBR.probe_rtt_done_stamp != 0 and Now() > BBR.probe_rtt_done_stamp): schedule next ProbeRTT: BBR.probe_rtt_min_stamp =
    //# Now(); BBRRestoreCwnd(); BBRExitProbeRTT()
    private mutating func endProbeIfDone(now: UInt64, window: Int, delivered: UInt64) -> Int? {
        guard probeDone != 0, now > probeDone else { return nil }
        probeMinimumStamp = now
        //= draft-ietf-ccwg-bbr section ProbeRTT
        //# BBRExitProbeRTT(): BBRResetShortTermModel(); if (BBR.full_bw_reached): BBRStartProbeBW_DOWN(); BBRStartProbeBW_CRUISE() else BBREnterStartup()
        resetShortTermModel()
        if hasBeenFull {
            startDown(now: now, delivered: delivered)
            startCruise()
        } else {
            enterStartup()
        }
        return max(window, priorWindow)
    }

    /// BBRProbeRTTCwnd.
    //= draft-ietf-ccwg-bbr section Congestion Window
    //# BBRProbeRTTCwnd(): probe_rtt_cwnd = BBRBDPMultiple(BBR.ProbeRTTCwndGain); probe_rtt_cwnd = max(probe_rtt_cwnd, BBR.MinPipeCwnd)
    var probeWindow: Int { max(product(gain: 50), leastWindow) }

    /// Something is sent with nothing in flight, after the program had nothing to send.
    /// - Returns: cwnd, if it changes.
    //= draft-ietf-ccwg-bbr section Restarting From Idle
    //# BBRHandleRestartFromIdle(): if (C.inflight == 0 and C.app_limited): BBR.idle_restart = true; BBR.extra_acked_interval_start = Now(); if
    //# (IsInAProbeBWState()): BBRSetPacingRateWithGain(1) else if (BBR.state == ProbeRTT): BBRCheckProbeRTTDone()
    mutating func restartFromIdle(now: UInt64, window: Int, delivered: UInt64) -> Int? {
        isRestarting = true
        extraStart = now
        extraDelivered = 0
        if state.isProbingBandwidth {
            setPacingRate(gain: 100)
        } else if state == .probeRoundTrip {
            return endProbeIfDone(now: now, window: window, delivered: delivered)
        }
        return nil
    }
}
