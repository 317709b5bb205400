/// When segments may leave whose connection spreads them over time, instead of sending as many at once as its window allows.
///
/// What was sent occupies time at the rate, and more may be sent when that time has passed. A connection that was held up may catch up by one quantum, so
/// that a burst has no more than that and a segment. Connections that are not paced have none of this: it stands in `RateControl`.
struct Pacing {
    /// The most bytes a second that the program allows (SO_MAX_PACING_RATE); 0 where it asks for no pacing.
    var maximumRate: UInt64 = 0
    /// Bytes a second, and bytes that may leave together; they are the model's, and not used where there is none.
    var rate: UInt64 = 0
    var quantum = 0
    /// When everything that was sent has had its time.
    fileprivate(set) var departure: UInt64 = 0
    /// When more is sent; `.max` while nothing waits for it.
    var deadline = UInt64.max

    init() {}
}

extension NetworkStack {
    /// The rate in bytes a second at which a connection sends now, and how much of it may go together.
    private func pace(_ c: ConnectionPointer) -> (rate: UInt64, quantum: Int) {
        let pacing = state.pointee.rateControls[c.pointee.rateControl].pointee.pacing
        let bound = pacing.maximumRate == 0 ? UInt64.max : pacing.maximumRate
        if c.pointee.congestion.isModelled {
            return pacing.rate <= bound ? (max(pacing.rate, 1), pacing.quantum) : (bound, quantum(bound, c))
        }
        guard c.pointee.roundTrip.hasSample else { return (bound, quantum(bound, c)) }
        // As others do: so fast that the window, which grows meanwhile, is sent before the round trip is over.
        let share = UInt64(c.pointee.congestion.isInSlowStart ? 200 : 120)
        let rate = scale(UInt64(max(c.pointee.congestion.window, 1)), by: share &* 10_000_000, over: c.pointee.roundTrip.smoothed)
        let bounded = max(min(rate, bound), 1)
        return (bounded, quantum(bounded, c))
    }

    private func quantum(_ rate: UInt64, _ c: ConnectionPointer) -> Int { Pacing.quantum(rate, segmentSize: c.pointee.sendSegmentSize) }

    /// Bytes a second at which a connection sends now; 0 for one that is not paced, or whose window does not tell a rate yet.
    func pacingRate(_ c: ConnectionPointer) -> UInt64 {
        guard c.pointee.rateControl != 0, case let rate = pace(c).rate, rate != .max else { return 0 }
        return rate
    }

    /// Whether a segment may leave now. If not, the connection sends on when as much may leave as may go together.
    @inline(never)
    func mayDepart(_ c: ConnectionPointer) -> Bool {
        let control = state.pointee.rateControls[c.pointee.rateControl]
        guard control.pointee.pacing.departure > state.pointee.now, !DeliberateBug.isPresent(.segmentsNotPaced) else { return true }
        // The window is the limit where the rate follows from it, and else it is none.
        if c.pointee.congestion.isModelled { c.pointee.flags.remove(.congestionWindowLimited) } else { c.pointee.flags.insert(.congestionWindowLimited) }
        let (rate, quantum) = pace(c)
        state.pointee.statistics.tcp.pacingDelays += 1
        control.pointee.pacing.deadline = control.pointee.pacing.departure &+ scale(UInt64(quantum), by: 1_000_000_000, over: rate)
        if !DeliberateBug.isPresent(.pacingTimerNotStarted) { schedule(c, control.pointee.pacing.deadline) }
        return false
    }

    /// Bytes have just left.
    func noteDeparture(_ c: ConnectionPointer, _ byteCount: Int) {
        let (rate, quantum) = pace(c)
        let control = state.pointee.rateControls[c.pointee.rateControl]
        let allowance = scale(UInt64(quantum), by: 1_000_000_000, over: rate)
        let earliest = state.pointee.now > allowance ? state.pointee.now &- allowance : 0
        control.pointee.pacing.departure =
            max(control.pointee.pacing.departure, earliest) &+ scale(UInt64(max(byteCount, 0)), by: 1_000_000_000, over: rate)
        control.pointee.pacing.deadline = .max
    }

    /// The retransmission timer has expired: what it asks for does not wait behind what has left before, of which nothing has arrived.
    //= RFC 6298 section 5.4
    //# Retransmit the earliest segment that has not been acknowledged by the TCP receiver.
    @inline(never)
    func endPacingDelay(_ c: ConnectionPointer) {
        let control = state.pointee.rateControls[c.pointee.rateControl]
        control.pointee.pacing.departure = min(control.pointee.pacing.departure, state.pointee.now)
    }

    /// It is time to send on.
    func pacingTimerFired(_ c: ConnectionPointer) {
        state.pointee.rateControls[c.pointee.rateControl].pointee.pacing.deadline = .max
        sendPending(c)
    }

    /// When a connection that is paced sends on; `.max` for never.
    func pacingDeadline(_ c: ConnectionPointer) -> UInt64 {
        if DeliberateBug.isPresent(.pacingTimerNotStarted) { return .max }
        return state.pointee.rateControls[c.pointee.rateControl].pointee.pacing.deadline
    }
}

extension Pacing {
    /// How many bytes may leave together at a rate: what it sends in a millisecond, 2 segments at least and 64 KiB at most.
    //= draft-ietf-ccwg-bbr section Send Quantum
    //# BBR.send_quantum = BBR.pacing_rate * 1ms; BBR.send_quantum = min(BBR.send_quantum, 64 KBytes); BBR.send_quantum = max(BBR.send_quantum, 2 * C.SMSS)
    static func quantum(_ rate: UInt64, segmentSize: Int) -> Int { max(Int(min(rate / 1_000, 65_536)), 2 * segmentSize) }
}

/// A product of two numbers over a third one, exactly; the largest number where it does not fit.
func scale(_ value: UInt64, by factor: UInt64, over divisor: UInt64) -> UInt64 {
    let product = value.multipliedFullWidth(by: factor)
    return product.high < divisor ? divisor.dividingFullWidth(product).quotient : .max
}
