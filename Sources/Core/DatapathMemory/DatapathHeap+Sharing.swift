/// Buffers from plain addresses, for callers who know no noncopyable types.
extension DatapathHeap {
    /// A buffer over `byteCount` bytes at `address`, with one more count on the block that they lie in. O(number of arenas).
    /// - Returns: nil unless all of them lie in one block of this heap that is allocated now.
    public func share(_ address: UnsafeMutableRawPointer?, byteCount: Int) -> Buffer? {
        guard let address, byteCount >= 0, let block = allocatedBlock(containing: address) else { return nil }
        let offset = address - block.start
        guard byteCount <= block.byteCount - offset else { return nil }
        BlockCount.retain(block.start)
        return Buffer(base: block.start, offset: UInt32(offset), length: UInt32(byteCount))
    }

    /// The allocated block that holds an address, which may be any.
    private func allocatedBlock(containing address: UnsafeMutableRawPointer) -> (start: UnsafeMutableRawPointer, byteCount: Int)? {
        guard contains(address) else { return nil }
        let superblock = UnsafeMutablePointer<Superblock>(containing: address)
        let blockByteCount = superblock.pointee.blockByteCount
        // Those of no class have no blocks.
        guard blockByteCount > 0 else { return nil }
        let offset = UnsafeMutablePointer<Superblock>.offset(of: address)
        // The blocks lie at multiples of their size, and the one of the largest class behind the header.
        let isLargest = superblock.pointee.blockShift == 18
        let start = isLargest ? 4096 : offset & ~(blockByteCount - 1)
        // From `firstBlockOffset` up to what was handed out, entries are initialised; an odd one is that of an allocated block.
        guard offset >= superblock.firstBlockOffset, start < superblock.pointee.carvedOffset, superblock.entry(at: start).pointee & 1 == 1 else {
            return nil
        }
        return (UnsafeMutableRawPointer(superblock) + Int(start), Int(blockByteCount))
    }
}

extension UnsafeMutablePointer<SegmentDescriptor> {
    /// As `releaseSegment`, compiled into the caller, for a segment that is known to be of `heap`, and where others hold the block as well.
    /// - Returns: false where nobody does, and nothing has changed.
    @inlinable
    @inline(__always)
    public func releaseSharedSegment(in heap: DatapathHeap) -> Bool {
        // The segment has a count, so the block is in use, and 1 is the last count.
        let entry = BlockCount.entry(of: pointee.base)
        guard entry.pointee != 1 else { return false }
        entry.pointee &-= 2
        pointee.next = heap.state.pointee.freeSegments
        heap.state.pointee.freeSegments = self
        heap.state.pointee.liveSegments &-= 1
        return true
    }

    /// As `makeSlice(offset:byteCount:)`, compiled into the caller and without a call, for a segment that is known to be of `heap`.
    /// - Returns: nil where no descriptor is free that was used before: `makeSlice(offset:byteCount:)` knows more.
    @inlinable
    @inline(__always)
    public func makeSliceAtOnce(offset: Int, byteCount: Int, in heap: DatapathHeap) -> UnsafeMutablePointer<SegmentDescriptor>? {
        guard let slice = heap.state.pointee.freeSegments else { return nil }
        heap.state.pointee.freeSegments = slice.pointee.next
        heap.state.pointee.liveSegments &+= 1
        BlockCount.retain(pointee.base)
        slice.pointee = SegmentDescriptor(
            base: pointee.base, offset: pointee.offset &+ UInt32(truncatingIfNeeded: offset), length: UInt32(truncatingIfNeeded: byteCount))
        return slice
    }
}

extension UnsafeMutablePointer<Superblock> {
    /// Where the first block of a superblock with a class lies.
    fileprivate var firstBlockOffset: UInt32 {
        let shift = pointee.blockShift
        if shift == 18 { return 4096 }
        let headerEnd = UInt32(Superblock.headerByteCount) + 4 * (UInt32(SizeClass.superblockByteCount) >> shift)
        let blockByteCount = pointee.blockByteCount
        return (Swift.max(headerEnd, 4096) + blockByteCount - 1) / blockByteCount * blockByteCount
    }
}
