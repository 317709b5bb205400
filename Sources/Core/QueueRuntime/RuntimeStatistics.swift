import DatapathMemory
import TaskScheduler

/// Counts of a runtime since it was made, and its state now. A plain layout: fields are only ever added at the end, with a higher version.
public struct RuntimeStatistics: Sendable {
    public let version: UInt32 = 2
    /// Turns of the run loop, and sleeps in the kernel among the waits.
    public var turns: UInt64 = 0
    public var sleeps: UInt64 = 0
    /// Operations pending, or completed and not redeemed.
    public var liveOperations = 0
    public var openQueues = 0
    /// Queues closed by the program that still send or wait for their peer.
    public var closingQueues = 0
    public var queuesOpened: UInt64 = 0
    /// Token slots whose 2^44 generations are used up.
    public var retiredTokenSlots: UInt64 = 0
    public var tasks = 0
    public var timers = 0
    public var clockSource = RuntimeClock.Source.kernel
    public var memory = MemoryStatistics()
    /// Operations that have completed, modulo 2^32.
    public var operationsCompleted: UInt32 = 0

    public init() {}
}
