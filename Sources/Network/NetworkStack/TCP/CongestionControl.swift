/// How much may be in flight: one of the algorithms, chosen for each connection.
///
/// A closed enumeration, so that a call is a jump and the state lies in the connection. Each algorithm is a file of its own.
enum CongestionControl {
    case newReno(NewReno)

    /// cwnd, in bytes.
    @inline(__always)
    var window: Int {
        switch self {
        case .newReno(let state): state.window
        }
    }

    var slowStartThreshold: Int {
        switch self {
        case .newReno(let state): state.slowStartThreshold
        }
    }

    /// The connection is established: the initial window for its segment size, a smaller one after several losses in the handshake.
    mutating func begin(segmentSize: Int, afterLosses: Bool) {
        switch self {
        case .newReno(var state):
            state.begin(segmentSize: segmentSize, afterLosses: afterLosses)
            self = .newReno(state)
        }
    }

    /// New data was acknowledged outside of recovery, while the window was what limited sending.
    @inline(__always)
    mutating func acknowledge(byteCount: Int, segmentSize: Int) {
        switch self {
        case .newReno(var state):
            state.acknowledge(byteCount: byteCount, segmentSize: segmentSize)
            self = .newReno(state)
        }
    }

    /// A loss was seen by duplicate acknowledgements: recovery begins.
    mutating func enterRecovery(flightSize: Int, segmentSize: Int) {
        switch self {
        case .newReno(var state):
            state.enterRecovery(flightSize: flightSize, segmentSize: segmentSize)
            self = .newReno(state)
        }
    }

    /// A further duplicate acknowledgement in recovery: one more segment has left the network.
    mutating func inflate(segmentSize: Int) {
        switch self {
        case .newReno(var state):
            state.inflate(segmentSize: segmentSize)
            self = .newReno(state)
        }
    }

    /// A partial acknowledgement in recovery.
    mutating func deflate(acknowledgedByteCount: Int, segmentSize: Int) {
        switch self {
        case .newReno(var state):
            state.deflate(acknowledgedByteCount: acknowledgedByteCount, segmentSize: segmentSize)
            self = .newReno(state)
        }
    }

    /// Everything that was lost is acknowledged.
    mutating func leaveRecovery(flightSize: Int, segmentSize: Int) {
        switch self {
        case .newReno(var state):
            state.leaveRecovery(flightSize: flightSize, segmentSize: segmentSize)
            self = .newReno(state)
        }
    }

    /// The retransmission timer expired.
    mutating func timeOut(flightSize: Int, segmentSize: Int, isFirst: Bool) {
        switch self {
        case .newReno(var state):
            state.timeOut(flightSize: flightSize, segmentSize: segmentSize, isFirst: isFirst)
            self = .newReno(state)
        }
    }

    /// Nothing was sent for longer than the retransmission timeout.
    mutating func restartAfterIdle(segmentSize: Int) {
        switch self {
        case .newReno(var state):
            state.restartAfterIdle(segmentSize: segmentSize)
            self = .newReno(state)
        }
    }
}
