import WireFormats

/// Names an algorithm of congestion control.
public enum CongestionControlAlgorithm: UInt8, Sendable, CaseIterable {
    /// RFC 9438, with HyStart++ (RFC 9406) in the initial slow start.
    case cubic
    /// RFC 5681 and RFC 6582.
    case newReno
    /// RFC 8257, for data centers whose switches mark; with peers that do not use ECN the same as `newReno`.
    case dctcp
    /// BBRv3 (draft-ietf-ccwg-bbr), for paths that lose what no congestion is to blame for; paced. With peers without selective acknowledgements the same
    /// as `newReno`.
    case bbr

    /// As it is known elsewhere: `cubic`, `reno`, `dctcp`, `bbr`.
    public var name: StaticString {
        switch self {
        case .cubic: "cubic"
        case .newReno: "reno"
        case .dctcp: "dctcp"
        case .bbr: "bbr"
        }
    }
}

/// What an acknowledgement of new data tells an algorithm. Times are in nanoseconds.
struct CongestionEvent {
    /// Bytes that it acknowledges.
    let byteCount: Int
    let segmentSize: Int
    let acknowledgement: SequenceNumber
    /// SND.NXT, before anything is sent again.
    let sendMaximum: SequenceNumber
    let now: UInt64
    /// SRTT; 0 before the first measurement.
    let smoothedRoundTrip: UInt64
    /// The round trip of what this one acknowledges; 0 where nothing tells it.
    let roundTrip: UInt64
}

/// How much may be in flight: one of the algorithms, chosen for each connection.
///
/// `window` and the threshold have one place whatever the algorithm is, so that a push reads them without asking which it is. The choice is a closed
/// enumeration: a call is a jump. What an algorithm remembers beside them stands in a `CongestionHistory`, which is lent before the window first grows or
/// shrinks. What the algorithms have in common stands here, each one's own in its file.
struct CongestionControl {
    /// nil while there is nothing to remember.
    var history: UnsafeMutablePointer<CongestionHistory>?
    private var windowByteCount: UInt32 = 0
    private var thresholdByteCount = UInt32.max
    private(set) var algorithm: CongestionControlAlgorithm
    /// The window follows from a model of the path, which stands in `RateControl`: losses do not change it here.
    private(set) var isModelled = false

    /// cwnd, in bytes.
    @inline(__always)
    private(set) var window: Int {
        get { Int(windowByteCount) }
        set { windowByteCount = UInt32(clamping: newValue) }
    }

    /// ssthresh, in bytes; `.max` before the first reduction.
    private(set) var slowStartThreshold: Int {
        get { thresholdByteCount == .max ? .max : Int(thresholdByteCount) }
        set { thresholdByteCount = UInt32(clamping: newValue) }
    }

    /// What is remembered. It has been lent: by whoever lets the window grow or shrink.
    private var memory: UnsafeMutablePointer<CongestionHistory> {
        guard let history else { preconditionFailure("a congestion window that changes has a history") }
        return history
    }

    init(_ algorithm: CongestionControlAlgorithm) {
        self.algorithm = algorithm
    }

    /// A pause makes everything void that is remembered: of the initial slow start nothing but the rounds. What a reduction has found, and which part of what
    /// is sent gets marked, hold on.
    var mayForget: Bool { thresholdByteCount == .max && algorithm != .dctcp }

    var isInSlowStart: Bool { window < slowStartThreshold }
    /// Slow start has become conservative (RFC 9406).
    var isConservative: Bool { thresholdByteCount == .max && history?.pointee.slowStart.isConservative ?? false }

    //= RFC 6928 section 2
    //# min (10*MSS, max (2*MSS, 14600))
    static func initialWindow(segmentSize: Int) -> Int {
        min(10 * segmentSize, max(2 * segmentSize, 14_600))
    }

    /// Another algorithm goes on with the window as it is.
    mutating func change(to algorithm: CongestionControlAlgorithm) {
        guard algorithm != self.algorithm else { return }
        self.algorithm = algorithm
        history?.pointee.forget()
    }

    /// A model takes the window over, or leaves it: it is then one that losses have found to be as large as it may be.
    mutating func setModelled(_ isModelled: Bool) {
        if self.isModelled && !isModelled { slowStartThreshold = window }
        if isModelled { slowStartThreshold = .max }
        self.isModelled = isModelled
    }

    /// What the model says.
    mutating func setWindow(_ byteCount: Int) { window = min(byteCount, CongestionControl.largestWindow) }

    /// The connection is established: the initial window for its segment size, a smaller one after several losses in the handshake.
    mutating func begin(segmentSize: Int, afterLosses: Bool) {
        history?.pointee.forget()
        isModelled = false
        //= RFC 6928 section 2
        //# implementations refrain from resetting the initial window to 1 segment, unless there have been more than one SYN or SYN/ACK retransmissions
        window = afterLosses ? segmentSize : CongestionControl.initialWindow(segmentSize: segmentSize)
        if DeliberateBug.isPresent(.initialWindowUnlimited) { window = 1 << 30 }
        //= RFC 5681 section 3.1
        //# The initial value of ssthresh SHOULD be set arbitrarily high
        slowStartThreshold = .max
    }

    /// New data was acknowledged outside of recovery, while the window was what limited sending.
    //= RFC 9438 section 5.8
    //# CUBIC does not increase its congestion window size if a flow is currently limited by the application instead of the congestion window.
    mutating func acknowledge(_ event: CongestionEvent) {
        if window < slowStartThreshold {
            growInSlowStart(event)
        } else {
            switch algorithm {
            //= RFC 8257 section 3.4
            //# A DCTCP sender grows its congestion window in the same way as conventional TCP.
            // A model that may not be used is none.
            case .newReno, .dctcp, .bbr: window = memory.pointee.newReno.grow(window, event)
            case .cubic: window = memory.pointee.cubic.grow(window, event)
            }
        }
        window = min(window, CongestionControl.largestWindow)
    }

    /// Beyond any buffer: products of two windows fit into 64 bits.
    private static var largestWindow: Int { 1 << 30 }

    private mutating func growInSlowStart(_ event: CongestionEvent) {
        //= RFC 9406 section 4.3
        //# HyStart++ MUST only be used for the initial slow start (when the ssthresh is at its initial value of arbitrarily high per [RFC5681]) and fall back
        //# to using standard slow start for the remainder of the connection lifetime.
        guard algorithm == .cubic, slowStartThreshold == .max else {
            //= RFC 5681 section 3.1
            //# During slow start, a TCP increments cwnd by at most SMSS bytes for each ACK received that cumulatively acknowledges new data.
            window += min(event.byteCount, event.segmentSize)
            return
        }
        window += memory.pointee.slowStart.growth(event)
        //= RFC 9406 section 4.2
        //# If CSS_ROUNDS rounds are complete, enter congestion avoidance by setting the ssthresh to the current cwnd.
        if memory.pointee.slowStart.isOver { slowStartThreshold = window }
    }

    /// A loss was seen by duplicate acknowledgements: recovery begins.
    mutating func enterRecovery(flightSize: Int, segmentSize: Int) {
        if isModelled || DeliberateBug.isPresent(.windowKeptInRecovery) { return }
        //= RFC 5681 section 3.2
        //# ssthresh is reduced; the lost segment is retransmitted and cwnd set to ssthresh plus 3*SMSS
        slowStartThreshold = reducedThreshold(flightSize: flightSize, segmentSize: segmentSize)
        window = slowStartThreshold + 3 * segmentSize
    }

    /// A mark of a router was echoed (RFC 3168). To be called once for each window.
    mutating func reduceForMark(flightSize: Int, segmentSize: Int) {
        if isModelled { return }
        if algorithm == .dctcp {
            window = min(window, memory.pointee.dctcp.reduced(window, segmentSize: segmentSize))
            slowStartThreshold = window
            return
        }
        //= RFC 9438 section 4.6
        //# cwnd is reduced to ssthresh also when an ECN-Echo ACK is received
        slowStartThreshold = reducedThreshold(flightSize: flightSize, segmentSize: segmentSize)
        window = min(window, slowStartThreshold)
    }

    /// Bytes were acknowledged, `marked` of them by an acknowledgement with an echo. Called for each of those, and once for each window.
    @inline(__always)
    mutating func observe(_ acknowledgement: SequenceNumber, marked: Int, sendMaximum: SequenceNumber) {
        if algorithm == .dctcp { history?.pointee.dctcp.observe(acknowledgement, marked: marked, sendMaximum: sendMaximum) }
    }

    /// The threshold after a loss, by the algorithm, which takes note of it.
    private mutating func reducedThreshold(flightSize: Int, segmentSize: Int) -> Int {
        switch algorithm {
        //= RFC 8257 section 3.5
        //# A DCTCP sender MUST react to loss episodes in the same way as conventional TCP
        case .newReno, .dctcp, .bbr: memory.pointee.newReno.reduce(flightSize: flightSize, segmentSize: segmentSize)
        case .cubic: memory.pointee.cubic.reduce(window: window, flightSize: flightSize, segmentSize: segmentSize)
        }
    }

    /// A further duplicate acknowledgement in recovery: one more segment has left the network.
    mutating func inflate(segmentSize: Int) {
        //= RFC 5681 section 3.2
        //# For each additional duplicate ACK received (after the third), cwnd MUST be incremented by SMSS.
        window += segmentSize
    }

    /// A partial acknowledgement in recovery.
    mutating func deflate(acknowledgedByteCount: Int, segmentSize: Int) {
        //= RFC 6582 section 3.2
        //# Deflate the congestion window by the amount of new data acknowledged; if it is at least one SMSS, then add back SMSS bytes.
        window = max(window - acknowledgedByteCount, segmentSize)
        if acknowledgedByteCount >= segmentSize { window += segmentSize }
    }

    /// Everything that was lost is acknowledged.
    mutating func leaveRecovery(flightSize: Int, segmentSize: Int) {
        //= RFC 6582 section 3.2
        //# Set cwnd to either (1) min (ssthresh, max(FlightSize, SMSS) + SMSS) or (2) ssthresh
        if isModelled || DeliberateBug.isPresent(.windowKeptInRecovery) { return }
        window = min(slowStartThreshold, max(flightSize, segmentSize) + segmentSize)
    }

    /// The retransmission timer expired.
    mutating func timeOut(flightSize: Int, segmentSize: Int, isFirst: Bool) {
        if isModelled { return }
        //= RFC 5681 section 3.1
        //# When a TCP sender detects segment loss using the retransmission timer and the given segment has not yet been resent by way of the
        //# retransmission timer, ssthresh MUST be set to no more than the reduced FlightSize and 2*SMSS; else it is held constant.
        if isFirst { slowStartThreshold = reducedThreshold(flightSize: flightSize, segmentSize: segmentSize) }
        if algorithm == .cubic { memory.pointee.cubic.forgetMaximum() }
        //= RFC 5681 section 3.1
        //# upon a timeout cwnd MUST be set to no more than the loss window, LW, which equals 1 full-sized segment
        if !DeliberateBug.isPresent(.windowKeptAfterTimeout) { window = segmentSize }
    }

    /// Nothing was sent for longer than the retransmission timeout.
    mutating func restartAfterIdle(segmentSize: Int) {
        // What is paced makes no burst.
        if isModelled { return }
        //= RFC 5681 section 4.1
        //# a TCP SHOULD set cwnd to no more than RW before beginning transmission if the TCP has not sent data in an interval exceeding the RTO
        let restart = CongestionControl.initialWindow(segmentSize: segmentSize)
        guard window > restart else { return }
        window = restart
        history?.pointee.endEpoch()
    }

    // MARK: A reduction that was for nothing

    /// Keeps what the reduction that follows will change. To be called before it.
    mutating func saveForUndo() {
        memory.pointee.save(window: window, slowStartThreshold: slowStartThreshold)
    }

    /// The loss turned out to be none: everything is as it was before the reduction, once for each save. The window may have grown meanwhile.
    //= RFC 9438 section 4.9.2
    //# Upon detecting a spurious congestion event, restore cwnd, ssthresh, cwnd_prior, W_max, K, the epoch and W_est to what they were before it.
    mutating func undo() {
        guard let history, let saved = history.pointee.saved else { return }
        if isModelled { return }
        window = max(window, saved.window)
        slowStartThreshold = saved.slowStartThreshold
        history.pointee.restore(saved)
    }
}
