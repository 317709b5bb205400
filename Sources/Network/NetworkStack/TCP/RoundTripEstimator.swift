/// The retransmission timeout's computation (RFC 6298). Times are in nanoseconds.
struct RoundTripEstimator {
    /// SRTT; 0 before the first measurement.
    private(set) var smoothed: UInt64 = 0
    /// RTTVAR.
    private(set) var variation: UInt64 = 0
    /// RTO, backed off as retransmissions require.
    private(set) var timeout: UInt64 = 1_000_000_000

    var hasSample: Bool { smoothed != 0 }

    init() {}

    init(timeout: UInt64) {
        self.timeout = timeout
    }

    /// Takes a measurement R of a segment that was sent once (Karn's algorithm is the caller's).
    mutating func measure(_ sample: UInt64, _ bounds: TimeoutBounds) {
        guard smoothed == 0 else { return measureAgain(sample, bounds) }
        //= RFC 6298 section 2.2
        //# SRTT <- R, RTTVAR <- R/2
        smoothed = max(sample, 1)
        variation = smoothed / 2
        restoreTimeout(bounds)
    }

    /// The same where there was a measurement before. Nothing overflows: a sample is less than 2^63, and both averages are no larger than the largest.
    @inline(__always)
    mutating func measureAgain(_ sample: UInt64, _ bounds: TimeoutBounds) {
        //= RFC 6298 section 2.3
        //# RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|, then SRTT <- (1 - alpha) * SRTT + alpha * R', alpha = 1/8 and beta = 1/4
        let sample = max(sample, 1)
        let difference = smoothed > sample ? smoothed &- sample : sample &- smoothed
        variation = variation &- variation &>> 2 &+ difference &>> 2
        smoothed = max(smoothed &- smoothed &>> 3 &+ sample &>> 3, 1)
        setTimeout(bounds)
    }

    /// Ends a back-off: the timeout is what the measurements say.
    mutating func restoreTimeout(_ bounds: TimeoutBounds) {
        if smoothed != 0 { setTimeout(bounds) }
    }

    @inline(__always)
    private mutating func setTimeout(_ bounds: TimeoutBounds) {
        //= RFC 6298 section 2.3
        //# RTO <- SRTT + max (G, K*RTTVAR), K = 4
        let computed = smoothed &+ max(4 &* variation, RoundTripEstimator.clockGranularity)
        timeout = min(max(computed, bounds.minimum), bounds.maximum)
    }

    //= RFC 6298 section 5.5
    //# The host MUST set RTO <- RTO * 2 ("back off the timer"). The maximum value discussed in (2.5) above may be used to provide an upper bound.
    mutating func backOff(_ bounds: TimeoutBounds) {
        if DeliberateBug.isPresent(.timeoutNotBackedOff) { return }
        timeout = min(timeout * 2, bounds.maximum)
    }

    /// The clock's granularity G: what a turn of the run loop may add.
    //= RFC 6298 section 4
    //# finer clock granularities (<= 100 msec) perform somewhat better than coarser granularities
    private static let clockGranularity: UInt64 = 1_000_000
}

/// Between what a retransmission timeout lies, in nanoseconds.
struct TimeoutBounds {
    let minimum: UInt64
    let maximum: UInt64
}

extension TCPConfiguration {
    @inline(__always)
    var timeoutBounds: TimeoutBounds { TimeoutBounds(minimum: minimumRetransmissionTimeout, maximum: maximumRetransmissionTimeout) }
}
