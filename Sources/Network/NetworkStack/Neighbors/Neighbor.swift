import TaskScheduler
import WireFormats

/// A host or gateway on the link, and what is known of its hardware address.
struct Neighbor: SlabElement {
    enum State: UInt8 {
        /// Asked for; frames wait.
        case incomplete
        /// Known.
        case reachable
        /// Known, but not heard of for a while, or only by what somebody said unasked (IPv6: RFC 4861, section 7.3.2).
        case stale
        /// Known and used again: it is asked soon, unless it is heard of before.
        case delayed
        /// Known, and asked whether it still holds.
        case probing
        /// Nobody has answered; frames are refused for a while.
        case failed
        /// Known from the configuration, for good.
        case permanent
    }

    var address = IPAddress(ipv4Raw: 0)
    var macAddress = MACAddress(value: 0)
    /// When a frame was last sent to it, or its slot was asked for; 0 for never.
    var lastUsed: UInt64 = 0
    /// When the hardware address was last heard in an answer, or changed.
    var confirmed: UInt64 = 0
    /// `lastUsed` when it was put at the end of the chain `used`.
    var lastUsedWhenChained: UInt64 = 0
    var state = State.incomplete
    /// Requests since the state was entered.
    var attempts: UInt8 = 0
    var chain = NeighborCache.Chain.none
    var next: UInt32 = 0
    var previous: UInt32 = 0
    var nextInBucket: UInt32 = 0
    var nextFree: UInt32 = 0
    var timer = TimerIdentifier.none
    /// Frames that wait for the hardware address, oldest first.
    var waiting = FrameQueue()

    init() {}

    /// Whether `macAddress` can be sent to.
    @inline(__always)
    var isResolved: Bool { state != .incomplete && state != .failed }
}
