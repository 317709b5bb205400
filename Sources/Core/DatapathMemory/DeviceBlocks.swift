/// Blocks for devices that know memory by its address alone, as a ring of addresses does: the device has a count on a block without a descriptor.
///
/// Each function is O(1).
extension DatapathHeap {
    /// A block of at least `byteCount` bytes, whose only count is the caller's; nil at the limit of `priority`.
    @inlinable
    @inline(__always)
    public func takeBlock(_ byteCount: Int, priority: AllocationPriority) -> UnsafeMutableRawPointer? {
        do throws(DemikernelError) {
            return try allocate(byteCount, priority: priority).takeOver().base
        } catch {
            return nil
        }
    }

    /// Gives back a count on the block that `address` lies in. The caller has one.
    @inlinable
    @inline(__always)
    public static func releaseBlock(containing address: UnsafeMutableRawPointer) {
        BlockCount.release(block(containing: address))
    }

    /// One more count on the block that `address` lies in. The caller has one.
    @inlinable
    @inline(__always)
    public static func retainBlock(containing address: UnsafeMutableRawPointer) {
        BlockCount.retain(block(containing: address))
    }

    /// Where the block begins. Blocks are aligned to their size; the one of the largest class begins behind the superblock's first 4096 bytes.
    @inlinable
    @inline(__always)
    static func block(containing address: UnsafeMutableRawPointer) -> UnsafeMutableRawPointer {
        let superblock = UnsafeMutablePointer<Superblock>(containing: address)
        let shift = superblock.pointee.blockShift
        let offset = (UnsafeMutablePointer<Superblock>.offset(of: address) &>> shift) &<< shift
        return UnsafeMutableRawPointer(superblock) + Int(offset == 0 ? 4096 : offset)
    }
}

extension UnsafeMutablePointer<SegmentDescriptor> {
    /// A frame over `byteCount` bytes at `offset` of a block of `heap`: the caller's count becomes the frame's. Nil when no descriptor is left: the block
    /// is released then.
    @inlinable
    @inline(__always)
    public static func makeSegment(
        _ heap: DatapathHeap, takingOver block: UnsafeMutableRawPointer, offset: Int, byteCount: Int
    ) -> UnsafeMutablePointer<SegmentDescriptor>? {
        ScatterGatherArray.makeDescriptor(
            Buffer(base: block, offset: UInt32(truncatingIfNeeded: offset), length: UInt32(truncatingIfNeeded: byteCount)), in: heap.state)
    }

    /// Frees the array's descriptors; the counts on the blocks of its segments become the caller's. O(number of segments).
    @inlinable
    @inline(__always)
    public func releaseDescriptors() {
        var segment: UnsafeMutablePointer<SegmentDescriptor>? = self
        while let current = segment {
            segment = current.pointee.next
            ScatterGatherArray.freeDescriptor(current)
        }
    }
}
