/// When each request of an open-loop run is meant to be sent: request `i` at `start + i / rate`, whatever the server does.
///
/// Latency is measured from these times, not from the moment at which a request could in fact be sent. A stall of the server is then felt by every
/// request that fell due during it, as it would be by independent clients: there is no coordinated omission.
struct OpenLoopSchedule {
    /// Nanoseconds on the clock of the run.
    let start: UInt64
    /// Requests per second, at least 1.
    let rate: UInt64

    init(start: UInt64, rate: UInt64) {
        precondition(rate >= 1, "an open-loop schedule needs a rate of at least one request per second")
        self.start = start
        self.rate = rate
    }

    /// The time at which request `index` is due. Exact: the error of a rounded interval would add up over millions of requests.
    @inline(__always)
    func intendedTime(of index: UInt64) -> UInt64 {
        let (seconds, remainder) = index.quotientAndRemainder(dividingBy: rate)
        return start &+ seconds &* 1_000_000_000 &+ remainder &* 1_000_000_000 / rate
    }

    /// How many requests fall due in the half-open interval that starts with the schedule and lasts `duration` nanoseconds.
    func count(within duration: UInt64) -> UInt64 {
        let (seconds, remainder) = duration.quotientAndRemainder(dividingBy: 1_000_000_000)
        // The smallest index whose intended time is not below the end: a ceiling.
        return seconds * rate + (remainder * rate + 999_999_999) / 1_000_000_000
    }
}
