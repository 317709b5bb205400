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
    mutating func measure(_ sample: UInt64, _ configuration: borrowing TCPConfiguration) {
        let sample = max(sample, 1)
        if smoothed == 0 {
            //= RFC 6298 section 2.2
            //# SRTT <- R, RTTVAR <- R/2
            smoothed = sample
            variation = sample / 2
        } else {
            //= RFC 6298 section 2.3
            //# RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'|, then SRTT <- (1 - alpha) * SRTT + alpha * R', alpha = 1/8 and beta = 1/4
            let difference = smoothed > sample ? smoothed - sample : sample - smoothed
            variation = variation - variation / 4 + difference / 4
            smoothed = max(smoothed - smoothed / 8 + sample / 8, 1)
        }
        restoreTimeout(configuration)
    }

    /// Ends a back-off: the timeout is what the measurements say.
    mutating func restoreTimeout(_ configuration: borrowing TCPConfiguration) {
        guard smoothed != 0 else { return }
        //= RFC 6298 section 2.3
        //# RTO <- SRTT + max (G, K*RTTVAR), K = 4
        let computed = smoothed + max(4 * variation, RoundTripEstimator.clockGranularity)
        timeout = min(max(computed, configuration.minimumRetransmissionTimeout), configuration.maximumRetransmissionTimeout)
    }

    //= RFC 6298 section 5.5
    //# The host MUST set RTO <- RTO * 2 ("back off the timer"). The maximum value discussed in (2.5) above may be used to provide an upper bound.
    mutating func backOff(_ configuration: borrowing TCPConfiguration) {
        if DeliberateBug.isPresent(.timeoutNotBackedOff) { return }
        timeout = min(timeout * 2, configuration.maximumRetransmissionTimeout)
    }

    /// The clock's granularity G: what a turn of the run loop may add.
    //= RFC 6298 section 4
    //# finer clock granularities (<= 100 msec) perform somewhat better than coarser granularities
    private static let clockGranularity: UInt64 = 1_000_000
}
