import TaskScheduler
import WireFormats

/// The timers of a connection share one entry of the wheel, which is armed for the earliest of their deadlines, or earlier: a deadline that moves
/// back costs nothing, and the timer looks again when it fires.
extension NetworkStack {
    /// Sees to it that the connection's timer fires at `deadline` at the latest.
    @inline(__always)
    func schedule(_ c: ConnectionPointer, _ deadline: UInt64) {
        if _slowPath(deadline < c.pointee.timerDeadline) { moveTimer(c, deadline) }
    }

    @inline(never)
    private func moveTimer(_ c: ConnectionPointer, _ deadline: UInt64) {
        state.pointee.timers.cancel(c.pointee.timer)
        armTimer(c, deadline)
    }

    private func armTimer(_ c: ConnectionPointer, _ deadline: UInt64) {
        c.pointee.timerDeadline = deadline
        guard deadline != .max else {
            c.pointee.timer = .none
            return
        }
        // The wheel has a place for every connection.
        c.pointee.timer = state.pointee.timers.arm(
            deadline: deadline,
            action: { context, argument in
                NetworkStack(state: context.assumingMemoryBound(to: StackState.self)).connectionTimerFired(UInt32(truncatingIfNeeded: argument))
            }, context: state, argument: UInt64(c.pointee.index)).unsafelyUnwrapped
    }

    func cancelTimers(_ c: ConnectionPointer) {
        state.pointee.timers.cancel(c.pointee.timer)
        c.pointee.timer = .none
        c.pointee.timerDeadline = .max
        c.pointee.retransmitDeadline = .max
        c.pointee.acknowledgeDeadline = .max
        c.pointee.keepAliveDeadline = .max
        c.pointee.lifetimeDeadline = .max
        c.pointee.reorderingDeadline = .max
        if c.pointee.flags.contains(.isPaced) { state.pointee.rateControls[c.pointee.rateControl].pointee.pacing.deadline = .max }
    }

    private func earliestDeadline(_ c: ConnectionPointer) -> UInt64 {
        var deadline = min(min(c.pointee.retransmitDeadline, c.pointee.acknowledgeDeadline), min(c.pointee.keepAliveDeadline, c.pointee.lifetimeDeadline))
        if c.pointee.exceptional != nil || c.pointee.congestion.history != nil { deadline = min(deadline, plainDeadline(c)) }
        if c.pointee.scoreboard.first != 0 { deadline = min(deadline, min(c.pointee.reorderingDeadline, probeDeadline(c))) }
        if c.pointee.flags.contains(.isPaced) { deadline = min(deadline, pacingDeadline(c)) }
        return c.pointee.flags.contains(.userTimeout) ? min(deadline, userTimeoutDeadline(c)) : deadline
    }

    private func connectionTimerFired(_ index: UInt32) {
        let c = state.pointee.connections[index]
        c.pointee.timer = .none
        c.pointee.timerDeadline = .max
        let now = state.pointee.now
        if now >= c.pointee.lifetimeDeadline {
            endLifetime(c)
        } else if c.pointee.flags.contains(.userTimeout) && now >= userTimeoutDeadline(c) {
            //= RFC 9293 section 3.10.8
            //# USER TIMEOUT: For any state if the user timeout expires, flush all queues, signal the user "error: connection aborted due to user timeout" in
            //# general, delete the TCB, enter the CLOSED state.
            endByTimeout(c)
        } else {
            if now >= c.pointee.acknowledgeDeadline {
                state.pointee.statistics.tcp.delayedAcknowledgements += 1
                c.pointee.acknowledgeDeadline = .max
                sendAcknowledgement(c)
            }
            if now >= probeDeadline(c) && c.pointee.reorderingDeadline == .max {
                // Also where the retransmission timer would expire now: it begins anew behind the probe.
                probeTimerFired(c)
            } else if now >= c.pointee.retransmitDeadline {
                retransmissionTimerFired(c)
            } else if now >= c.pointee.reorderingDeadline {
                reorderingTimerFired(c)
            }
            if c.pointee.flags.contains(.isPaced) && now >= pacingDeadline(c) { pacingTimerFired(c) }
            if c.pointee.state != .closed && now >= c.pointee.keepAliveDeadline { keepAliveTimerFired(c) }
            giveBackWhatIsPlain(c)
        }
        // What ran may have armed the timer for a later deadline than the earliest. A connection that ended in between has none.
        schedule(c, earliestDeadline(c))
    }

    /// Puts off what the wheel would fire early, so that its next deadline is one at which something happens.
    func settleTimers() {
        while let earliest = state.pointee.timers.earliest, earliest.argument < UInt64(state.pointee.connections.carvedCount), earliest.context == UnsafeMutableRawPointer(state),
            case let c = state.pointee.connections[UInt32(earliest.argument)], c.pointee.timer == earliest.timer,
            case let deadline = earliestDeadline(c), deadline > earliest.deadline
        {
            state.pointee.timers.cancel(earliest.timer)
            armTimer(c, deadline)
        }
    }

    // MARK: Retransmission

    @inline(__always)
    func setRetransmission(_ c: ConnectionPointer, after timeout: UInt64) {
        let now = state.pointee.now
        c.pointee.retransmitDeadline = now &+ timeout
        // A timer that fires before anything can be due looks by itself what is.
        let earliest = now &+ min(timeout, max(probeTimeout(c), NetworkStack.smallestProbeTimeout))
        guard c.pointee.timerDeadline > earliest || c.pointee.flags.contains(.userTimeout) else { return }
        moveRetransmissionTimer(c)
    }

    @inline(never)
    private func moveRetransmissionTimer(_ c: ConnectionPointer) {
        let deadline = min(c.pointee.retransmitDeadline, probeDeadline(c))
        schedule(c, c.pointee.flags.contains(.userTimeout) ? min(deadline, userTimeoutDeadline(c)) : deadline)
    }

    /// When the program's patience ends; `.max` for never. It runs while the retransmission timer does: with something unacknowledged, or a probe.
    //= RFC 5482 section 3
    //# the user timeout: how long transmitted data may remain unacknowledged before a connection is closed
    @inline(never)
    func userTimeoutDeadline(_ c: ConnectionPointer) -> UInt64 {
        // While a closed window waits for its next probe nothing has gone unanswered.
        let isWaitingToProbe = c.pointee.flags.contains(.persisting) && c.pointee.retransmissionCount == 0
        guard c.pointee.userTimeout != 0, c.pointee.retransmitDeadline != .max, !isWaitingToProbe else { return .max }
        let (deadline, isNever) = c.pointee.unacknowledgedSince.addingReportingOverflow(c.pointee.userTimeout)
        return isNever ? .max : deadline
    }

    /// The peer has not answered for as long as the program, or the protocol, waits.
    func endByTimeout(_ c: ConnectionPointer) {
        if c.pointee.state == .synReceived && c.pointee.flags.contains(.passive) { finish(c) } else { fail(c, errno: timeoutError(c)) }
    }

    private func retransmissionTimerFired(_ c: ConnectionPointer) {
        c.pointee.retransmitDeadline = .max
        switch c.pointee.state {
        case .synSent, .synReceived: return handshakeTimedOut(c)
        case .closed, .listen, .timeWait: return
        default: break
        }
        if c.pointee.flags.contains(.persisting) { return probeWindow(c) }
        if c.pointee.sendMaximum == c.pointee.sendUnacknowledged && !DeliberateBug.isPresent(.retransmissionTimerNotStopped) {
            // There was no memory for the first attempt.
            return sendPending(c)
        }
        let configuration = state.pointee.configuration.tcp
        if hasTimedOut(c, limit: configuration.maximumRetransmissions) { return endByTimeout(c) }
        state.pointee.statistics.tcp.retransmissionTimeouts += 1
        //= RFC 9293 section 3.8.2
        //# A TCP implementation MUST implement the basic congestion control algorithms slow start, congestion avoidance, and exponential backoff of RTO
        //# (MUST-19).
        if c.pointee.retransmissionCount == 0 { rememberForUndo(c) }
        //= RFC 5681 section 3.1
        //# ssthresh MUST be set to no more than the value given in equation (4): ssthresh = max (FlightSize / 2, 2*SMSS)
        // In fast recovery what was sent beyond ssthresh replaces what has left the network by the duplicates: it counts as unacknowledged, but the network
        // never held it all.
        let isInflated = c.pointee.flags.contains(.fastRecovery)
        let flightSize = isInflated ? min(c.pointee.flightSize, c.pointee.congestion.slowStartThreshold) : c.pointee.flightSize
        lendCongestionHistory(c)
        c.pointee.congestion.timeOut(
            flightSize: flightSize, segmentSize: c.pointee.sendSegmentSize, isFirst: c.pointee.retransmissionCount == 0)
        if c.pointee.congestion.isModelled { modelTimeout(c) }
        noteReduction(c)
        c.pointee.countRetransmission()
        suspectBlackHole(c)
        //= RFC 6582 section 3.2
        //# After a retransmit timeout, record the highest sequence number transmitted in the variable recover, and exit the fast recovery procedure
        c.pointee.recoverySequence = c.pointee.sendMaximum
        c.pointee.flags.remove(.fastRecovery)
        c.pointee.duplicateAcknowledgements = 0
        c.pointee.roundTrip.backOff(configuration.timeoutBounds)
        //= RFC 6298 section 5.4
        //# Retransmit the earliest segment that has not been acknowledged by the TCP receiver.
        if isRepairable(c) { repairAfterTimeout(c) } else { goBack(c) }
        //= RFC 6298 section 5.6
        //# Start the retransmission timer, such that it expires after RTO seconds
        setRetransmission(c, after: c.pointee.roundTrip.timeout)
        //= RFC 9293 section 3.8.6
        //# If the window shrinks to zero, the TCP implementation MUST probe it in the standard way (MUST-35).
        // What is sent again now is the first probe.
        if c.pointee.sendWindow == 0 { c.pointee.flags.insert(.persisting) }
        if c.pointee.flags.contains(.isPaced) { endPacingDelay(c) }
        // A window that has closed meanwhile must not keep the earliest segment from being sent again.
        if c.pointee.sendWindow < c.pointee.sendSegmentSize { retransmitFirst(c) } else { sendPending(c) }
    }

    /// Whether the protocol's patience has ended; the program's has a deadline of its own, and takes its place.
    func hasTimedOut(_ c: ConnectionPointer, limit: Int) -> Bool {
        //= RFC 9293 section 3.8.3
        //# When the number of transmissions of the same segment reaches a threshold R2 greater than R1, close the connection. (MUST-20)
        c.pointee.userTimeout == 0 && Int(c.pointee.retransmissionCount) >= limit
    }
}
