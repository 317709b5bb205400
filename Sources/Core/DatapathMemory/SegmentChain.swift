/// How a protocol stack works on the segments that it has taken over: the frames of a device, the bytes of a send queue.
///
/// Each function is O(1) unless it says otherwise. Those that change a segment are for its owner alone; the block behind it may be shared.
extension UnsafeMutablePointer<SegmentDescriptor> {
    /// A frame or segment of `byteCount` bytes in a block of its own, not initialised, with `headroom` in front; nil when the heap has no block for
    /// `priority`, or no descriptor.
    @inlinable
    @inline(__always)
    public static func makeSegment(
        _ heap: DatapathHeap, byteCount: Int, headroom: Int = 0, priority: AllocationPriority
    ) -> UnsafeMutablePointer<SegmentDescriptor>? {
        do throws(DemikernelError) {
            return ScatterGatherArray.makeDescriptor(try heap.allocate(byteCount, headroom: headroom, priority: priority), in: heap.state)
        } catch {
            return nil
        }
    }

    /// As `makeSegment` of 1 to 131072 bytes without headroom, but only where a block and a descriptor that were used before are at hand, as they nearly
    /// always are; nil otherwise, and nothing has changed or was counted then. It makes no call.
    @inlinable
    @inline(__always)
    public static func makeSegmentAtOnce(_ heap: DatapathHeap, byteCount: Int, priority: AllocationPriority) -> UnsafeMutablePointer<SegmentDescriptor>? {
        let state = heap.state
        let superblock = state.heads[SizeClass.containing(unchecked: byteCount)]
        let used = state.pointee.usedByteCount &+ Int(superblock.pointee.accountedByteCount)
        let offset = superblock.pointee.freeHead
        guard offset != Superblock.none, used <= heap.limit(of: priority), let descriptor = state.pointee.freeSegments else { return nil }
        let entry = superblock.entry(at: offset)
        superblock.pointee.freeHead = entry.pointee
        entry.pointee = 1
        superblock.pointee.useCount &+= 1
        state.pointee.usedByteCount = used
        state.pointee.freeSegments = descriptor.pointee.next
        state.pointee.liveSegments &+= 1
        descriptor.pointee = SegmentDescriptor(
            base: UnsafeMutableRawPointer(superblock) + Int(offset), offset: 0, length: UInt32(truncatingIfNeeded: byteCount))
        return descriptor
    }

    /// Gives an array of one segment a block of its own in place of the one it has.
    /// - Parameters:
    ///   - byteCount: the segment's length afterwards.
    ///   - fill: writes the new bytes, and may read the old ones.
    /// - Returns: false when the heap has no room: nothing has changed then.
    @inlinable
    @inline(__always)
    public func moveToOwnBlock(
        _ heap: DatapathHeap, byteCount: Int, priority: AllocationPriority, fill: (_ new: UnsafeMutableRawPointer, _ old: UnsafeRawPointer) -> Void
    ) -> Bool {
        let buffer: Buffer
        do throws(DemikernelError) { buffer = try heap.allocate(byteCount, priority: priority) } catch { return false }
        let (base, offset, length) = buffer.takeOver()
        fill(base + Int(offset), segmentAddress)
        let old = pointee.base
        pointee.base = base
        pointee.offset = offset
        pointee.length = length
        pointee.byteCount = length
        BlockCount.release(old)
        return true
    }

    /// As `moveToOwnBlock`, but only where a block that was used before is at hand, and the old one needs no more than to go into its list, as they nearly
    /// always are. It makes no call.
    /// - Returns: false where that is not so: nothing has changed then.
    @inlinable
    @inline(__always)
    public func moveToOwnBlockAtOnce(
        _ heap: DatapathHeap, byteCount: Int, priority: AllocationPriority, fill: (_ new: UnsafeMutableRawPointer, _ old: UnsafeRawPointer) -> Void
    ) -> Bool {
        let state = heap.state
        let superblock = state.heads[SizeClass.containing(unchecked: byteCount)]
        let used = state.pointee.usedByteCount &+ Int(superblock.pointee.accountedByteCount)
        let offset = superblock.pointee.freeHead
        let old = pointee.base
        let oldSuperblock = UnsafeMutablePointer<Superblock>(containing: old)
        let oldOffset = UnsafeMutablePointer<Superblock>.offset(of: old)
        let oldEntry = oldSuperblock.entry(at: oldOffset)
        guard offset != Superblock.none, used <= heap.limit(of: priority), oldEntry.pointee == 1, oldSuperblock.pointee.freeHead != Superblock.unlisted,
            oldSuperblock.pointee.useCount != 1, oldSuperblock.pointee.heap == state
        else { return false }
        let entry = superblock.entry(at: offset)
        superblock.pointee.freeHead = entry.pointee
        entry.pointee = 1
        superblock.pointee.useCount &+= 1
        let base = UnsafeMutableRawPointer(superblock) + Int(offset)
        fill(base, segmentAddress)
        pointee.base = base
        pointee.offset = 0
        pointee.length = UInt32(truncatingIfNeeded: byteCount)
        pointee.byteCount = pointee.length
        // The old one's superblock may be the new one's.
        oldEntry.pointee = oldSuperblock.pointee.freeHead
        oldSuperblock.pointee.freeHead = oldOffset
        oldSuperblock.pointee.useCount &-= 1
        state.pointee.usedByteCount = used &- Int(oldSuperblock.pointee.accountedByteCount)
        return true
    }

    /// A further segment over `byteCount` bytes of this one, from `offset` on: one more count on the block, no copy. Nil when no descriptor is left.
    @inlinable
    public func makeSlice(offset: Int, byteCount: Int) -> UnsafeMutablePointer<SegmentDescriptor>? {
        BlockCount.retain(pointee.base)
        return ScatterGatherArray.makeDescriptor(
            Buffer(
                base: pointee.base, offset: pointee.offset &+ UInt32(truncatingIfNeeded: offset), length: UInt32(truncatingIfNeeded: byteCount)))
    }

    /// Drops bytes from the front of an array of one segment.
    @inlinable
    @inline(__always)
    public func removeFirst(_ byteCount: Int) {
        let count = UInt32(truncatingIfNeeded: byteCount)
        pointee.offset &+= count
        pointee.length &-= count
        pointee.byteCount = pointee.length
    }

    /// Keeps the first `byteCount` bytes of an array of one segment.
    @inlinable
    @inline(__always)
    public func truncate(to byteCount: Int) {
        pointee.length = UInt32(truncatingIfNeeded: byteCount)
        pointee.byteCount = pointee.length
    }

    /// Takes `byteCount` bytes behind an array of one segment into it. They must lie in its block: `tailroom` says how many there are.
    @inlinable
    public func extendLast(_ byteCount: Int) {
        pointee.length &+= UInt32(truncatingIfNeeded: byteCount)
        pointee.byteCount = pointee.length
    }

    /// Bytes of the block behind the segment.
    @inlinable
    public var tailroom: Int { blockByteCount &- Int(pointee.offset) &- Int(pointee.length) }

    /// Bytes of the block before the segment.
    @inlinable
    public var headroom: Int { Int(pointee.offset) }

    /// Bytes of the segment's block: what it really pins.
    @inlinable
    @inline(__always)
    public var blockByteCount: Int { Int(UnsafeMutablePointer<Superblock>(containing: pointee.base).pointee.blockByteCount) }

    /// Whether nobody else, no slice, segment or device, has a count on the segment's block.
    @inlinable
    @inline(__always)
    public var isSoleOwner: Bool { BlockCount.entry(of: pointee.base).pointee == 1 }

    /// Puts `segment`, or a chain of such, behind this one in the same array without touching the array's totals: for queues that count by themselves.
    @inlinable
    @inline(__always)
    public func linkSegment(_ segment: UnsafeMutablePointer<SegmentDescriptor>?) {
        pointee.next = segment
    }

    /// Joins two arrays: this one, whose last segment is `last`, gets the segments of `other`, which is no array of its own any more.
    @inlinable
    @inline(__always)
    public func join(_ other: UnsafeMutablePointer<SegmentDescriptor>, behind last: UnsafeMutablePointer<SegmentDescriptor>) {
        last.pointee.next = other
        pointee.segmentCount &+= other.pointee.segmentCount
        pointee.byteCount &+= other.pointee.byteCount
    }

    /// The last segment of the array. O(number of segments).
    @inlinable
    public var lastSegment: UnsafeMutablePointer<SegmentDescriptor> {
        var last = self
        while let next = last.pointee.next { last = next }
        return last
    }

    /// Drops bytes from the front of one segment of a chain, whatever array it is in.
    @inlinable
    @inline(__always)
    public func dropFirstOfSegment(_ byteCount: Int) {
        pointee.offset &+= UInt32(truncatingIfNeeded: byteCount)
        pointee.length &-= UInt32(truncatingIfNeeded: byteCount)
    }

    /// Releases this one segment, and not those behind it.
    @inlinable
    @inline(__always)
    public func releaseSegment() {
        ScatterGatherArray.releaseDescriptor(self)
    }

    /// As `releaseSegment`, but only where that is no more than to put the descriptor, and the block of which nobody else has a count, into their lists.
    /// It makes no call.
    /// - Returns: false where it would be more: nothing has changed then.
    @inlinable
    @inline(__always)
    public func releaseSegmentAtOnce() -> Bool {
        let base = pointee.base
        let superblock = UnsafeMutablePointer<Superblock>(containing: base)
        let offset = UnsafeMutablePointer<Superblock>.offset(of: base)
        let entry = superblock.entry(at: offset)
        let next = superblock.pointee.freeHead
        guard entry.pointee == 1, next != Superblock.unlisted, superblock.pointee.useCount != 1 else { return false }
        let heap = superblock.pointee.heap
        entry.pointee = next
        superblock.pointee.freeHead = offset
        superblock.pointee.useCount &-= 1
        heap.pointee.usedByteCount &-= Int(superblock.pointee.accountedByteCount)
        pointee.next = heap.pointee.freeSegments
        heap.pointee.freeSegments = self
        heap.pointee.liveSegments &-= 1
        return true
    }

    /// Adds a slice to an array under construction, behind `last`.
    @inlinable
    public func append(_ segment: UnsafeMutablePointer<SegmentDescriptor>, behind last: UnsafeMutablePointer<SegmentDescriptor>) {
        last.pointee.next = segment
        pointee.segmentCount &+= 1
        pointee.byteCount &+= segment.pointee.length
    }

    /// Copies the array's bytes to `destination`, which has room for all of them. O(bytes).
    public func copyArray(to destination: UnsafeMutableRawPointer) {
        var segment: UnsafeMutablePointer<SegmentDescriptor>? = self
        var target = destination
        while let current = segment {
            target.copyMemory(from: current.segmentAddress, byteCount: current.segmentByteCount)
            target += current.segmentByteCount
            segment = current.nextSegment
        }
    }
}
