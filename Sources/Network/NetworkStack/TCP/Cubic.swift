/// Congestion avoidance by a cubic function of the time since the last reduction (RFC 9438).
///
/// Integers throughout: windows in bytes, times in 2^-16 seconds (15 us), fractions of a byte as remainders that are carried on. Nothing is lost by that
/// over days, two builds of any machine compute the same windows, so that a simulated world repeats, and a growth costs two divisions and no library call.
struct Cubic {
    /// W_max: where the window was when it was reduced, in bytes; 0 for none.
    private var maximumWindow = 0
    /// cwnd_prior: the window before the last reduction, in bytes.
    private var priorWindow = 0
    /// When the current congestion avoidance began; 0 for not yet.
    private var epochStart: UInt64 = 0
    private var lastGrowth: UInt64 = 0
    /// K, in 2^-16 seconds: how long the function takes to come back to `maximumWindow`.
    private var period = 0
    /// W_est in bytes, and what its last division left.
    private var estimate = 0
    private var estimateRemainder = 0
    private var growthRemainder = 0

    /// - Returns: the window after an acknowledgement in congestion avoidance.
    mutating func grow(_ window: Int, _ event: CongestionEvent) -> Int {
        if epochStart == 0 { beginEpoch(window, event) } else { passOver(event) }
        lastGrowth = event.now
        let byteCount = min(event.byteCount, window)

        //= RFC 9438 section 4.3
        //# W_est = W_est + alpha_cubic * segments_acked / cwnd, with alpha_cubic = 3 * (1 - beta_cubic) / (1 + beta_cubic). Once W_est has grown to reach the
        //# cwnd at the time of most recently setting ssthresh, that is W_est >= cwnd_prior, the sender SHOULD set alpha_cubic to 1.
        let share = estimate >= priorWindow ? 17 : 9
        estimateRemainder += byteCount * event.segmentSize * share
        estimate += estimateRemainder / (17 * window)
        estimateRemainder %= 17 * window

        let elapsed = event.now &- epochStart
        if curve(at: elapsed, segmentSize: event.segmentSize) < estimate {
            //= RFC 9438 section 4.3
            //# If W_cubic(t) is less than W_est, CUBIC is in the Reno-friendly region and cwnd SHOULD be set to W_est at each reception of a new ACK.
            return max(window, estimate)
        }
        //= RFC 9438 section 4.2
        //# target = cwnd if W_cubic(t + RTT) < cwnd, 1.5 * cwnd if W_cubic(t + RTT) > 1.5 * cwnd, else W_cubic(t + RTT)
        let target = min(curve(at: elapsed &+ event.smoothedRoundTrip, segmentSize: event.segmentSize), window + window / 2)
        guard target > window else { return window }
        //= RFC 9438 section 4.4
        //# In the concave region, cwnd MUST be incremented by (target - cwnd) / cwnd for each received new ACK.
        //= RFC 9438 section 4.5
        //# In the convex region, cwnd MUST be incremented by (target - cwnd) / cwnd for each received new ACK.
        growthRemainder += (target - window) * byteCount
        let growth = growthRemainder / window
        growthRemainder -= growth * window
        return window + growth
    }

    private mutating func beginEpoch(_ window: Int, _ event: CongestionEvent) {
        epochStart = max(event.now, 1)
        estimate = window
        (estimateRemainder, growthRemainder) = (0, 0)
        if window < maximumWindow {
            //= RFC 9438 section 4.2
            //# K = cubic root ((W_max - cwnd_epoch) / C), with C = 0.4
            period = Cubic.root((maximumWindow - window) * 5, over: 2 * event.segmentSize)
        } else {
            //= RFC 9438 section 4.8
            //# During the first congestion avoidance stage after a timeout, W_max is set to the value of cwnd at the beginning of the current congestion
            //# avoidance stage, and K to zero.
            //= RFC 9438 section 4.10
            //# When CUBIC exits slow start without a loss, K is set to 0 and W_max to cwnd at the beginning of congestion avoidance.
            period = 0
            maximumWindow = window
        }
    }

    /// Time in which the window was no limit is none in which the function goes on.
    //= RFC 9438 section 4.2
    //# the elapsed time t of the current congestion avoidance stage MUST NOT include periods during which cwnd has not been updated due to
    //# application-limited behavior
    private mutating func passOver(_ event: CongestionEvent) {
        let pause = event.now &- lastGrowth
        if pause > 2 &* event.smoothedRoundTrip { epochStart &+= pause &- event.smoothedRoundTrip }
    }

    /// W_cubic(t), in bytes.
    //= RFC 9438 section 4.2
    //# W_cubic(t) = C * (t - K)^3 + W_max
    private func curve(at nanoseconds: UInt64, segmentSize: Int) -> Int {
        // No further than 256 s from K: by then it is beyond every window.
        let time = Int(min(nanoseconds / 15_259, 1 << 25))
        let distance = min(time - period, 1 << 24)
        let cube = ((distance * distance) >> 16 * distance) >> 16
        return maximumWindow + (cube * (2 * segmentSize) / 5) >> 16
    }

    /// A loss, or a mark.
    /// - Returns: the threshold after it.
    mutating func reduce(window: Int, flightSize: Int, segmentSize: Int) -> Int {
        //= RFC 9438 section 4.6
        //# cwnd_prior = cwnd
        priorWindow = window
        //= RFC 9438 section 4.7
        //# If cwnd < W_max and fast convergence is enabled, further reduce W_max: W_max = cwnd * (1 + beta_cubic) / 2; otherwise W_max = cwnd
        maximumWindow = window < maximumWindow ? window * 17 / 20 : window
        epochStart = 0
        //= RFC 9438 section 4.6
        //# ssthresh = flight_size * beta_cubic, with beta_cubic = 0.7, and at least 2 segments
        return max(flightSize * 7 / 10, 2 * segmentSize)
    }

    /// The retransmission timer has expired: where the window was tells nothing any more.
    mutating func forgetMaximum() {
        maximumWindow = 0
        epochStart = 0
    }

    /// Congestion avoidance is interrupted: when it comes back, it begins anew.
    mutating func endEpoch() { epochStart = 0 }

    /// The cubic root of a quotient, in 2^-16; rounded down, exact to 2^-10 for the largest. The quotient is less than 2^33.
    static func root(_ dividend: Int, over divisor: Int) -> Int {
        // 2^-30 has its root at 2^-10; each three bits more are one of precision.
        var value = UInt64(dividend) << 30 / UInt64(divisor)
        var shift = 6
        while shift > 0, value.leadingZeroBitCount >= 3 {
            value <<= 3
            shift -= 1
        }
        // Digit by digit from above: what is taken is the cube of the digits found.
        var root: UInt64 = 0
        var bit = 63
        while bit >= 0 {
            root <<= 1
            let step = 3 * root * (root + 1) + 1
            if value >> UInt64(bit) >= step {
                value -= step << UInt64(bit)
                root += 1
            }
            bit -= 3
        }
        return Int(root) << shift
    }
}
