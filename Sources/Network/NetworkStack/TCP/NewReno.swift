/// Congestion avoidance by adding a segment for each round trip, and halving (RFC 5681).
struct NewReno {
    /// Bytes acknowledged since the window last grew in congestion avoidance.
    private var acknowledgedByteCount = 0

    /// - Returns: the window after an acknowledgement in congestion avoidance.
    mutating func grow(_ window: Int, _ event: CongestionEvent) -> Int {
        //= RFC 5681 section 3.1
        //# During congestion avoidance, cwnd is incremented by roughly 1 full-sized segment per round-trip time (RTT).
        acknowledgedByteCount += event.byteCount
        guard acknowledgedByteCount >= window else { return window }
        acknowledgedByteCount -= window
        return window + event.segmentSize
    }

    /// - Returns: the threshold after a loss.
    mutating func reduce(flightSize: Int, segmentSize: Int) -> Int {
        //= RFC 5681 section 3.1
        //# ssthresh MUST be set to no more than max (FlightSize / 2, 2*SMSS)
        acknowledgedByteCount = 0
        return max(flightSize / 2, 2 * segmentSize)
    }
}
