/// How much memory a runtime's heap has, and of which kind.
public struct MemoryConfiguration: Sendable {
    /// Bytes of the arena, rounded up to superblocks of 256 KiB; at least 4 MiB. It is all the memory that buffers can
    /// have until `DatapathHeap.addArena`.
    public var arenaByteCount: Int
    /// Whether every page is backed when the arena is made (a device cannot register it otherwise) or on first use (starts faster).
    public var commitsAtStart: Bool
    /// Whether to ask for 2 MiB pages from the kernel's reserved pool; where it has none, ordinary pages are used and `MemoryStatistics.pages` says so.
    public var usesHugePages: Bool
    /// Segment descriptors: the most segments that can be alive at once in all scatter-gather arrays together.
    public var maximumSegments: Int

    public init(
        arenaByteCount: Int = 64 << 20, commitsAtStart: Bool = true, usesHugePages: Bool = false, maximumSegments: Int = 1 << 18
    ) {
        self.arenaByteCount = arenaByteCount
        self.commitsAtStart = commitsAtStart
        self.usesHugePages = usesHugePages
        self.maximumSegments = maximumSegments
    }
}

/// Which part of the heap an allocation may draw on: the ladder that keeps a full heap working.
@frozen
public enum AllocationPriority: UInt8, Sendable {
    /// The application's own buffers: refused when 15/16 of the heap are used.
    case application
    /// Received datagrams: refused from 90 % on; the loss is counted as `outOfMemory`.
    case datagram
    /// Headers, acknowledgements and receive refill: may use the last sixteenth too.
    case reserve
}

/// The kind of page behind an arena.
public enum PageKind: UInt8, Sendable {
    case ordinary, huge
}

/// Counts of the heap since it was made, and its state now.
public struct MemoryStatistics: Sendable {
    /// The layout's version: a field is only ever added at the end, with a higher version.
    public let version: UInt32 = 1
    public var pages: PageKind = .ordinary
    /// Bytes of all blocks that could be allocated at most.
    public var limitByteCount: Int = 0
    /// Bytes of the blocks now allocated, by block size and not by what was asked for, each counted at its share of a superblock.
    public var usedByteCount: Int = 0
    public var liveBlocks: Int = 0
    public var liveSegments: Int = 0
    /// Allocations refused, by priority.
    public var refusedApplication: UInt64 = 0
    public var refusedDatagram: UInt64 = 0
    public var refusedReserve: UInt64 = 0

    public init() {}
}
