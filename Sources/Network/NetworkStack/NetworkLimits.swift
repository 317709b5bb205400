import DatapathMemory
import Glibc

/// A limit on everything that a network stack holds, and what happens there.
///
/// | limit | default | at the limit |
/// |---|---|---|
/// | `maximumConnections` | 65,536 | `socket` fails with `ENOBUFS`; a SYN is dropped as `connectionLimit` |
/// | `maximumTimeWait` | 16,384 | the connection that is longest in TIME_WAIT ends early |
/// | `maximumHalfOpen` | 1,024 a listener | a SYN is answered with a cookie, or dropped as `backlogOverflow` without `TCPConfiguration.sendsCookies` |
/// | `maximumHalfOpenPerSource` | 256 for an IPv4 address, or an IPv6 /64 | the same; without cookies dropped as `halfOpenSourceLimit` |
/// | `transmissionRecords` | 262,144 | a connection's losses are recovered by duplicate acknowledgements alone until what is in flight is acknowledged |
/// | `reassemblyPieces` | 4,096 a connection, with 256 gaps | an out-of-order segment is dropped as `reassemblyOverflow` |
/// | `maximumDatagramSockets` | 16,384 | `socket` fails with `ENOBUFS` |
/// | `datagramQueueByteCount` | 256 KiB a socket | a datagram is dropped as `receiveQueueFull` |
/// | `multicastGroups` | 64, which is the most | joining another group fails with `ENOBUFS` |
/// | `multicastGroupsOfSocket` | 20 | the same |
/// | `redirectedDestinations` | 256 | the redirect that is believed least long from now on is forgotten |
/// | `queriedSources` | 64 of a group | a query that names more is answered for the whole group |
/// | `groupQueriesPerSecond` | 100 of a family | a query is dropped as `groupQueryRateLimited` |
/// | `fragmentedDatagrams` | 256 being put together | the one whose time is over first is dropped as `reassemblyLimit` |
/// | `fragmentedDatagramsOfSource` | 64 of one source | the source's oldest is dropped as `reassemblyLimit` |
/// | `fragmentsOfDatagram` | 128 | the datagram is dropped as `tooManyFragments` |
/// | `fragmentByteCount` | 4 MiB of blocks | the datagram whose time is over first is dropped as `reassemblyLimit` |
/// | `maximumNeighbors` | 1,024 | the neighbour that was used longest ago is forgotten |
/// | `neighborQueueLength` | 256 frames a neighbour | the neighbour's oldest waiting frame is dropped as `neighborQueueFull` |
/// | `waitingFrames` | 4,096 for all neighbours | the same; one frame may wait for each neighbour nevertheless |
/// | `maximumAddresses` | 64 | the stack is not made |
/// | `controlMessagesPerSecond` | 1,000 | an ICMP message is not sent and counted as `controlMessageRateLimited` |
/// | `resetsPerSecond` | 1,000 | a reset to nobody's segment is not sent and counted as `resetRateLimited` |
/// | `challengesPerSecond` | 10 a connection | a challenge acknowledgement is not sent and counted as `challengeRateLimited` |
///
/// Routers are told twice, or as often as they ask for, of a group that is left; where 32 groups are being left at once, some of them only once.
///
/// What has come of a datagram is also dropped, as `reassemblyTimeout`, 30 s (IPv4) or 60 s (IPv6) after its first fragment.
///
/// `challengesPerSecond` also bounds, in a count of its own, the answers to unacceptable segments without data, and `acknowledgementsPerSecond`, 100 a
/// connection, those to unacceptable segments with data, and again those to zero-window probes. What is not answered then is counted as
/// `acknowledgementRateLimited`.
public struct NetworkLimits: Sendable {
    public var maximumConnections = 65_536
    public var maximumTimeWait = 16_384
    public var maximumHalfOpen = 1_024
    public var maximumHalfOpenPerSource = 256
    public var transmissionRecords = 262_144
    /// Frames of the heap that hold what came ahead of its turn: as many full segments as the largest default window has, and half as many more.
    public var reassemblyPieces = 4_096
    public var maximumDatagramSockets = 16_384
    public var datagramQueueByteCount = 256 << 10
    public var multicastGroups = MulticastGroups.capacity
    public var multicastGroupsOfSocket = 20
    public var redirectedDestinations = 256
    public var queriedSources = 64
    public var groupQueriesPerSecond = 100
    public var fragmentedDatagrams = 256
    public var fragmentedDatagramsOfSource = 64
    public var fragmentsOfDatagram = 128
    public var fragmentByteCount = 4 << 20
    public var maximumNeighbors = 1_024
    public var neighborQueueLength = 256
    public var waitingFrames = 4_096
    public var maximumAddresses = 64
    public var controlMessagesPerSecond = 1_000
    public var controlMessageBurst = 50
    public var resetsPerSecond = 1_000
    public var challengesPerSecond = 10
    public var acknowledgementsPerSecond = 100

    public init() {}

    func validate() throws(DemikernelError) {
        guard (1...1 << 20).contains(maximumConnections), (1...1 << 20).contains(maximumDatagramSockets), (1...1 << 20).contains(maximumNeighbors) else {
            throw DemikernelError(EINVAL, .initialize, "maximumConnections, maximumDatagramSockets and maximumNeighbors must be between 1 and 1048576")
        }
        guard maximumTimeWait >= 1, maximumHalfOpen >= 1, (1...32_768).contains(maximumHalfOpenPerSource), (1...65_535).contains(reassemblyPieces),
            datagramQueueByteCount >= 2_048,
            (1...1_024).contains(neighborQueueLength), waitingFrames >= 1, controlMessagesPerSecond >= 1, controlMessageBurst >= 1, resetsPerSecond >= 1,
            challengesPerSecond >= 1, acknowledgementsPerSecond >= 1, (1...1 << 24).contains(transmissionRecords)
        else { throw DemikernelError(EINVAL, .initialize, "a limit of the network stack is out of its range") }
        guard (0...MulticastGroups.capacity).contains(multicastGroups), multicastGroupsOfSocket >= 0 else {
            throw DemikernelError(EINVAL, .initialize, "multicastGroups must be between 0 and 64")
        }
        guard (0...64).contains(queriedSources), groupQueriesPerSecond >= 1, (0...65_536).contains(redirectedDestinations) else {
            throw DemikernelError(EINVAL, .initialize, "queriedSources must be between 0 and 64, groupQueriesPerSecond at least 1")
        }
        guard (1...65_536).contains(fragmentedDatagrams), fragmentedDatagramsOfSource >= 1, (2...8_192).contains(fragmentsOfDatagram),
            fragmentByteCount >= 4_096
        else { throw DemikernelError(EINVAL, .initialize, "a limit on fragments is out of its range") }
    }
}
