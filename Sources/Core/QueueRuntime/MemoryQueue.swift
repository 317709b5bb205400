import DatapathMemory

/// The queues that `queue()` makes: unit queues in memory, between tasks of one runtime. An array goes in and comes out as it is, without a copy.
struct MemoryQueue {
    let descriptor: QueueDescriptor
    /// Arrays that wait for a pop, chained through their first descriptors.
    var first: UnsafeMutablePointer<SegmentDescriptor>?
    var last: UnsafeMutablePointer<SegmentDescriptor>?
    /// Units that may still come before a push has to wait.
    var room: Int
    /// Neither direction is shut down.
    var takesPushes = true
    /// Bytes of the largest unit.
    let maximumUnitSize: Int
    var pops = OperationList()
    /// Pushes that wait for room; their arrays are still with the operations.
    var pushes = OperationList()

    init(descriptor: QueueDescriptor, depth: Int, maximumUnitSize: Int) {
        self.descriptor = descriptor
        room = depth
        self.maximumUnitSize = maximumUnitSize
    }

    // MARK: The common cases, which are inlined into the runtime's calls

    /// Whether a unit can be appended: nobody waits for one, and there is room.
    @inline(__always)
    func takesNow(_ array: UnsafeMutablePointer<SegmentDescriptor>) -> Bool {
        takesPushes && room > 0 && pops.isEmpty && array.arrayByteCount <= maximumUnitSize
    }

    @inline(__always)
    mutating func append(_ array: UnsafeMutablePointer<SegmentDescriptor>) {
        array.pointee.nextArray = nil
        if let last { last.pointee.nextArray = array } else { first = array }
        last = array
        room &-= 1
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
        room &+= 1
    }
}
