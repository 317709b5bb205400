import Demikernel
import KeyValueStore

/// Where the engine's replies go: blocks of the datapath heap, gathered into arrays that are pushed as they are. One batch of requests makes one
/// array, unless its replies need more than 16 blocks, or more than one unit holds.
struct ReplyRooms: ~Copyable {
    /// The first block of a batch: enough for the replies of a common pipeline.
    private static let firstRoom = 2_048
    /// Every further block of a batch.
    private static let furtherRoom = 65_536

    private let heap: DatapathHeap
    /// Bytes of the largest array: what a unit queue takes as one.
    private let maximumArrayByteCount: Int
    private var current: Buffer?
    private var building: ScatterGatherArray?
    /// Arrays that are full, oldest first, chained through their first descriptors.
    private var firstFull: UnsafeMutablePointer<SegmentDescriptor>?
    private var lastFull: UnsafeMutablePointer<SegmentDescriptor>?

    init(heap: DatapathHeap, maximumArrayByteCount: Int) {
        self.heap = heap
        self.maximumArrayByteCount = maximumArrayByteCount
    }

    deinit {
        releaseFull()
    }

    /// The room for the first replies of a batch; nil when the heap is full.
    mutating func begin() -> UnsafeMutableRawBufferPointer? {
        guard heap.hasFreeSegment, let buffer = try? heap.allocate(ReplyRooms.firstRoom) else { return nil }
        let room = UnsafeMutableRawBufferPointer(start: buffer.address, count: buffer.count)
        current = consume buffer
        return room
    }

    /// Keeps the first `written` bytes of the room and gives the next one; nil when the heap is full.
    mutating func next(written: Int) -> UnsafeMutableRawBufferPointer? {
        guard seal(written: written), heap.hasFreeSegment, let buffer = try? heap.allocate(ReplyRooms.furtherRoom) else { return nil }
        let room = UnsafeMutableRawBufferPointer(start: buffer.address, count: buffer.count)
        current = consume buffer
        return room
    }

    /// Ends the batch: `send` gets its arrays in order.
    mutating func finish(written: Int, _ send: (consuming ScatterGatherArray) -> Void) {
        _ = seal(written: written)
        while let full = firstFull {
            firstFull = full.pointee.nextArray
            send(ScatterGatherArray(unsafelyTakingOver: full))
        }
        lastFull = nil
        if let last = building.take() { send(last) }
    }

    /// Ends the batch without sending anything.
    mutating func discard() {
        current = nil
        building = nil
        releaseFull()
        firstFull = nil
        lastFull = nil
    }

    private func releaseFull() {
        var full = firstFull
        while let array = full {
            full = array.pointee.nextArray
            array.releaseArray()
        }
    }

    /// Moves what was written into the array that is being built; false when no descriptor is left.
    private mutating func seal(written: Int) -> Bool {
        guard var buffer = current.take() else { return true }
        guard written > 0 else { return true }
        buffer.removeLast(buffer.count - written)
        guard var array = building.take() else {
            guard let array = try? ScatterGatherArray(buffer) else { return false }
            building = consume array
            return true
        }
        if array.segmentCount == ScatterGatherArray.maximumSegments || array.byteCount + buffer.count > maximumArrayByteCount {
            let full = array.takeOver()
            full.pointee.nextArray = nil
            if let lastFull { lastFull.pointee.nextArray = full } else { firstFull = full }
            lastFull = full
            guard let array = try? ScatterGatherArray(buffer) else { return false }
            building = consume array
            return true
        }
        let isAppended = (try? array.append(buffer)) != nil
        building = consume array
        return isAppended
    }
}
