import DatapathMemory
import Glibc

/// The parameters of TCP. Times are in nanoseconds.
public struct TCPConfiguration: Sendable {
    /// The largest segment that is offered to peers, in bytes; nil: what the MTU leaves (RFC 9293, section 3.7.1).
    public var maximumSegmentSize: Int?
    /// Bytes of a connection's receive buffer at first; it grows to `maximumReceiveBuffer` as the program keeps up.
    public var receiveBuffer = 65_536
    /// The most bytes that a receive buffer grows to; at least `receiveBuffer`.
    /// What is received may exceed it by less than one step of the window scale, to which a window is rounded up.
    public var maximumReceiveBuffer = 4 << 20
    /// Bytes that a connection takes from pushes before they have to wait, at first; they grow to `maximumSendBuffer` as its congestion window does.
    public var sendBuffer = 1 << 20
    /// The most bytes that a send buffer grows to; where it is less than `sendBuffer`, none grows.
    public var maximumSendBuffer = 8 << 20
    /// The window scale to offer (RFC 7323, section 2); nil: as `maximumReceiveBuffer` needs it. At most 14.
    public var windowScale: UInt8?
    /// Whether the window scale option is offered at all.
    public var offersWindowScale = true
    /// Whether timestamps are offered (RFC 7323, section 3).
    public var offersTimestamps = true
    /// Whether selective acknowledgements are offered, and answered where the peer offers them (RFC 2018).
    public var offersSelectiveAcknowledgements = true
    /// How much longer a loss probe waits for the acknowledgement of a single segment, which the peer may delay (RFC 8985, section 7.2). With the 1 ms
    /// by which an estimate from timestamps may be off, a lost request is sent again within two round trips and 10 ms.
    public var probeAcknowledgementDelay: UInt64 = 9_000_000
    /// How long an acknowledgement may wait for a companion (RFC 9293, section 3.8.6.3: less than 0.5 s).
    public var delayedAcknowledgement: UInt64 = 40_000_000
    /// RFC 6298, section 2.1.
    //= RFC 6298 section 2.1
    //# Until a round-trip time (RTT) measurement has been made for a segment sent between the sender and receiver, the sender SHOULD set RTO <- 1 second.
    public var initialRetransmissionTimeout: UInt64 = 1_000_000_000
    /// RFC 6298, section 2.4 asks for one second; Specifications/exceptions says why less.
    public var minimumRetransmissionTimeout: UInt64 = 200_000_000
    /// RFC 6298, section 2.5: at least 60 s.
    //= RFC 6298 section 2.5
    //# A maximum value MAY be placed on RTO provided it is at least 60 seconds.
    public var maximumRetransmissionTimeout: UInt64 = 60_000_000_000
    /// How often a SYN is sent again before the connection attempt fails with `ETIMEDOUT` (RFC 9293, section 3.8.3: at least 3 minutes; here 183 s).
    //= RFC 9293 section 3.8.3
    //# R2 for a SYN segment MUST be set large enough to provide retransmission of the segment for at least 3 minutes (MUST-23).
    public var maximumSYNRetransmissions = 7
    /// How often a segment is sent again before the connection fails with `ETIMEDOUT` (RFC 9293, section 3.8.3: R2, at least 100 s).
    //= RFC 9293 section 3.8.3
    //# The value of R2 SHOULD correspond to at least 100 seconds (SHLD-11): with the smallest timeout the 9 first ones take 102 s.
    public var maximumRetransmissions = 15
    /// How sockets find out how much may be in flight, unless they are told otherwise.
    public var congestionControl = CongestionControlAlgorithm.cubic
    /// The most bytes a second that a connection sends, which also makes it send at a rate where its congestion control does not need that; `.max` for the
    /// rate that the congestion control says, 0 for none. `NetworkStack.setMaximumPacingRate` sets it for one.
    public var maximumPacingRate: UInt64 = 0
    /// Whether routers may mark segments instead of dropping them (RFC 3168).
    //= RFC 9293 section 3.8.2
    //# A TCP endpoint SHOULD implement ECN as described in RFC 3168 (SHLD-8).
    public var explicitCongestion = ExplicitCongestionMode.accept
    /// RFC 9293, section 3.4.2. TIME_WAIT lasts twice as long.
    public var maximumSegmentLifetime: UInt64 = 30_000_000_000
    /// How long a closed connection waits in FIN_WAIT_2 for its peer's end.
    public var finWait2Timeout: UInt64 = 60_000_000_000
    /// Whether small segments are sent at once instead of gathered (RFC 9293, section 3.7.4).
    public var isNoDelay = true
    /// Whether segments become smaller when full ones vanish without a word, as where ICMP is filtered (RFC 4821).
    public var detectsBlackHoles = true
    /// Whether a SYN beyond `NetworkLimits.maximumHalfOpen` is answered with a cookie (RFC 4987, section 3.6) instead of dropped.
    public var sendsCookies = true
    /// Initial sequence numbers are this instead of RFC 6528's: for packet scripts, never on a network.
    public var fixedInitialSequenceNumber: UInt32?

    public init() {}

    func validate() throws(DemikernelError) {
        guard maximumSegmentSize.map({ (64...65_495).contains($0) }) ?? true else {
            throw DemikernelError(EINVAL, .initialize, "maximumSegmentSize must be between 64 and 65495")
        }
        guard receiveBuffer >= 2_048, maximumReceiveBuffer >= receiveBuffer, maximumReceiveBuffer <= 1 << 30, (2_048...1 << 30).contains(sendBuffer),
            (0...1 << 30).contains(maximumSendBuffer)
        else {
            throw DemikernelError(EINVAL, .initialize, "TCP buffers must be between 2048 bytes and 1 GiB, the largest receive buffer at least the first")
        }
        guard (windowScale ?? 0) <= 14 else { throw DemikernelError(EINVAL, .initialize, "a window scale is at most 14") }
        guard delayedAcknowledgement < 500_000_000 else {
            throw DemikernelError(EINVAL, .initialize, "an acknowledgement must not be delayed by 0.5 s or more")
        }
        guard minimumRetransmissionTimeout > 0, minimumRetransmissionTimeout <= initialRetransmissionTimeout,
            initialRetransmissionTimeout <= maximumRetransmissionTimeout, maximumRetransmissionTimeout <= 1 << 40
        else {
            throw DemikernelError(EINVAL, .initialize, "retransmission timeouts must be in order: minimum, initial, maximum")
        }
        guard (0...64).contains(maximumSYNRetransmissions), (0...64).contains(maximumRetransmissions) else {
            throw DemikernelError(EINVAL, .initialize, "retransmissions must be between 0 and 64")
        }
        guard maximumSegmentLifetime <= 1 << 40, finWait2Timeout <= 1 << 45 else {
            throw DemikernelError(EINVAL, .initialize, "maximumSegmentLifetime and finWait2Timeout are nanoseconds, and too large")
        }
    }
}
