/// How a connection is doing, as TCP_INFO tells elsewhere. Times are in nanoseconds.
public struct ConnectionInformation: Equatable, Sendable {
    public var state: ConnectionState
    public var congestionControl: CongestionControlAlgorithm
    /// SRTT and RTTVAR (RFC 6298); 0 before the first measurement.
    public var roundTripTime: UInt64
    public var roundTripVariation: UInt64
    /// RTO, backed off as it is now.
    public var retransmissionTimeout: UInt64
    /// cwnd, in bytes.
    public var congestionWindow: Int
    /// ssthresh, in bytes; nil before the first reduction.
    public var slowStartThreshold: Int?
    /// Bytes of payload in a full segment.
    public var segmentSize: Int
    /// Bytes sent and not acknowledged.
    public var bytesInFlight: Int
    /// Bytes pushed and not acknowledged.
    public var unacknowledgedBytes: Int
    /// Segments sent again since the connection began; it wraps around.
    public var retransmittedSegments: UInt32
    /// Bytes a second that the peer has acknowledged in the last round trip that was timed; 0 before there was one. A program that sends less than the
    /// network takes finds its own rate here.
    public var deliveryRate: UInt64
    /// Whether routers may mark what is sent (RFC 3168).
    public var usesExplicitCongestion: Bool
    /// Bytes a second at which it sends (`SocketOption.maximumPacingRate`); 0 where it sends as much at once as its window allows.
    public var pacingRate: UInt64
}

extension NetworkStack {
    /// How a connection is doing. O(1).
    public func connectionInformation(_ connection: UInt32) -> ConnectionInformation {
        let c = state.pointee.connections[connection]
        let congestion = c.pointee.congestion
        return ConnectionInformation(
            state: c.pointee.state, congestionControl: congestion.algorithm, roundTripTime: c.pointee.roundTrip.smoothed,
            roundTripVariation: c.pointee.roundTrip.variation, retransmissionTimeout: c.pointee.roundTrip.timeout, congestionWindow: congestion.window,
            slowStartThreshold: congestion.slowStartThreshold == .max ? nil : congestion.slowStartThreshold, segmentSize: c.pointee.sendSegmentSize,
            bytesInFlight: max(c.pointee.flightSize, 0), unacknowledgedBytes: c.pointee.sendByteCount,
            retransmittedSegments: c.pointee.retransmittedSegments,
            deliveryRate: c.pointee.deliveryInterval == 0
                ? 0 : UInt64(max(c.pointee.deliveredByteCount, 0)) &* 1_000_000_000 / c.pointee.deliveryInterval,
            usesExplicitCongestion: c.pointee.ecn.contains(.sends), pacingRate: pacingRate(c))
    }
}
