import DatapathMemory

/// The queues that `queue()` makes: unit queues in memory, between tasks of one runtime. An array goes in and comes out as it is, without a copy.
struct MemoryQueue {
    let descriptor: QueueDescriptor
    /// Arrays that wait for a pop, chained through their first descriptors.
    var first: UnsafeMutablePointer<SegmentDescriptor>?
    var last: UnsafeMutablePointer<SegmentDescriptor>?
    /// Units that wait.
    var count = 0
    /// Below this many units, a push appends its own at once: 0 where somebody waits for one, or after a shutdown (`updateImmediateLimit`).
    var immediateLimit: Int
    /// Neither direction is shut down.
    var takesPushes = true
    /// Bytes of the largest unit.
    let maximumUnitSize: Int
    var pops = OperationList()
    /// Pushes that wait for room; their arrays are still with the operations.
    var pushes = OperationList()

    init(descriptor: QueueDescriptor, depth: Int, maximumUnitSize: Int) {
        self.descriptor = descriptor
        immediateLimit = depth
        self.maximumUnitSize = maximumUnitSize
    }

    /// To be called where `pops` or `takesPushes` may have changed.
    mutating func updateImmediateLimit(depth: Int) {
        immediateLimit = takesPushes && pops.isEmpty ? depth : 0
    }

    // MARK: The common cases, which are inlined into the runtime's calls

    /// Whether a unit can be appended: nobody waits for one, and there is room.
    @inline(__always)
    func takesNow(_ array: UnsafeMutablePointer<SegmentDescriptor>) -> Bool {
        count < immediateLimit && array.arrayByteCount <= maximumUnitSize
    }

    @inline(__always)
    mutating func append(_ array: UnsafeMutablePointer<SegmentDescriptor>) {
        array.pointee.nextArray = nil
        if let last { last.pointee.nextArray = array } else { first = array }
        last = array
        count &+= 1
    }

    /// The oldest unit if it is within the limits and no push waits for its place.
    @inline(__always)
    func givesNow(maximumSegments: Int, maximumBytes: Int) -> UnsafeMutablePointer<SegmentDescriptor>? {
        guard let array = first, array.arrayByteCount <= maximumBytes, array.arraySegmentCount <= maximumSegments, maximumBytes > 0,
            pushes.isEmpty
        else { return nil }
        return array
    }

    @inline(__always)
    mutating func removeFirst(_ array: UnsafeMutablePointer<SegmentDescriptor>) {
        first = array.pointee.nextArray
        if first == nil { last = nil }
        count &-= 1
    }
}
