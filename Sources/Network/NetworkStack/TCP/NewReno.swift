/// Slow start, congestion avoidance, fast recovery (RFC 5681, RFC 6582), with the initial window of RFC 6928.
struct NewReno {
    private(set) var window = 0
    private(set) var slowStartThreshold = Int.max
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    private var acknowledgedByteCount = 0

    init() {}

    //= RFC 6928 section 2
    //# min (10*MSS, max (2*MSS, 14600))
    static func initialWindow(segmentSize: Int) -> Int {
        min(10 * segmentSize, max(2 * segmentSize, 14_600))
    }

    mutating func begin(segmentSize: Int, afterLosses: Bool) {
        //= RFC 6928 section 2
        //# implementations refrain from resetting the initial window to 1 segment, unless there have been more than one SYN or SYN/ACK retransmissions
        window = afterLosses ? segmentSize : NewReno.initialWindow(segmentSize: segmentSize)
        if DeliberateBug.isPresent(.initialWindowUnlimited) { window = 1 << 30 }
        //= RFC 5681 section 3.1
        //# The initial value of ssthresh SHOULD be set arbitrarily high
        slowStartThreshold = .max
        acknowledgedByteCount = 0
    }

    mutating func acknowledge(byteCount: Int, segmentSize: Int) {
        if window < slowStartThreshold {
            //= RFC 5681 section 3.1
            //# During slow start, a TCP increments cwnd by at most SMSS bytes for each ACK received that cumulatively acknowledges new data.
            window += min(byteCount, segmentSize)
        } else {
            //= RFC 5681 section 3.1
            //# During congestion avoidance, cwnd is incremented by roughly 1 full-sized segment per round-trip time (RTT).
            acknowledgedByteCount += byteCount
            if acknowledgedByteCount >= window {
                acknowledgedByteCount -= window
                window += segmentSize
            }
        }
    }

    mutating func enterRecovery(flightSize: Int, segmentSize: Int) {
        //= RFC 5681 section 3.2
        //# ssthresh = max (FlightSize / 2, 2*SMSS); the lost segment is retransmitted and cwnd set to ssthresh plus 3*SMSS
        if DeliberateBug.isPresent(.windowKeptInRecovery) { return }
        slowStartThreshold = max(flightSize / 2, 2 * segmentSize)
        window = slowStartThreshold + 3 * segmentSize
        acknowledgedByteCount = 0
    }

    mutating func inflate(segmentSize: Int) {
        //= RFC 5681 section 3.2
        //# For each additional duplicate ACK received (after the third), cwnd MUST be incremented by SMSS.
        window += segmentSize
    }

    mutating func deflate(acknowledgedByteCount: Int, segmentSize: Int) {
        //= RFC 6582 section 3.2
        //# Deflate the congestion window by the amount of new data acknowledged; if it is at least one SMSS, then add back SMSS bytes.
        window = max(window - acknowledgedByteCount, segmentSize)
        if acknowledgedByteCount >= segmentSize { window += segmentSize }
    }

    mutating func leaveRecovery(flightSize: Int, segmentSize: Int) {
        //= RFC 6582 section 3.2
        //# Set cwnd to either (1) min (ssthresh, max(FlightSize, SMSS) + SMSS) or (2) ssthresh
        if DeliberateBug.isPresent(.windowKeptInRecovery) { return }
        window = min(slowStartThreshold, max(flightSize, segmentSize) + segmentSize)
        acknowledgedByteCount = 0
    }

    mutating func timeOut(flightSize: Int, segmentSize: Int, isFirst: Bool) {
        //= RFC 5681 section 3.1
        //# When a TCP sender detects segment loss using the retransmission timer and the given segment has not yet been resent by way of the
        //# retransmission timer, ssthresh MUST be set to no more than max (FlightSize / 2, 2*SMSS); else it is held constant.
        if isFirst { slowStartThreshold = max(flightSize / 2, 2 * segmentSize) }
        //= RFC 5681 section 3.1
        //# upon a timeout cwnd MUST be set to no more than the loss window, LW, which equals 1 full-sized segment
        if !DeliberateBug.isPresent(.windowKeptAfterTimeout) { window = segmentSize }
        acknowledgedByteCount = 0
    }

    mutating func restartAfterIdle(segmentSize: Int) {
        //= RFC 5681 section 4.1
        //# a TCP SHOULD set cwnd to no more than RW before beginning transmission if the TCP has not sent data in an interval exceeding the RTO
        window = min(window, NewReno.initialWindow(segmentSize: segmentSize))
    }
}
