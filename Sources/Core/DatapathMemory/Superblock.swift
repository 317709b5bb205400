/// The head of a superblock: 256 KiB of blocks of one size class.
///
/// Layout: this header, one 32-bit entry for each block, padding to a multiple of 4096, then the blocks. An entry is the block's reference
/// count while it is allocated; while it is free, `freeFlag` and the index of the next free block. So the free list never stands in memory
/// that a device may write, and a double free is seen.
@frozen
@usableFromInline
struct Superblock {
    @usableFromInline var heap: UnsafeMutablePointer<HeapState>
    @usableFromInline var next: UnsafeMutablePointer<Superblock>?
    @usableFromInline var previous: UnsafeMutablePointer<Superblock>?
    /// log2 of the block size (18 for the whole-superblock class, so that the index is 0).
    @usableFromInline var blockShift: UInt32
    @usableFromInline var blockByteCount: UInt32
    @usableFromInline var firstBlockOffset: UInt32
    @usableFromInline var capacity: UInt32
    /// Blocks from this index on were never handed out; their entries are not initialised.
    @usableFromInline var carved: UInt32
    @usableFromInline var freeHead: UInt32
    @usableFromInline var liveCount: UInt32
    @usableFromInline var sizeClass: UInt16
    @usableFromInline var arena: UInt16
    /// Whether it stands in its class's list of superblocks with room.
    @usableFromInline var isListed: Bool

    @usableFromInline static let headerByteCount = 128
    @usableFromInline static let freeFlag: UInt32 = 0x8000_0000
    /// The end of the free list.
    @usableFromInline static let none: UInt32 = 0x7fff_ffff
}

extension UnsafeMutablePointer<Superblock> {
    /// The superblock of a block. Valid for any pointer into a live block: superblocks are aligned to their size.
    @inlinable
    init(containing block: UnsafeMutableRawPointer) {
        let address = UInt(bitPattern: block) & ~UInt(SizeClass.superblockByteCount - 1)
        self = UnsafeMutableRawPointer(bitPattern: address).unsafelyUnwrapped.assumingMemoryBound(to: Superblock.self)
    }

    /// The count entries, `capacity` of them.
    @inlinable
    var entries: UnsafeMutablePointer<UInt32> {
        (UnsafeMutableRawPointer(self) + Superblock.headerByteCount).assumingMemoryBound(to: UInt32.self)
    }

    @inlinable
    func block(at index: UInt32) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(self) + (Int(pointee.firstBlockOffset) &+ Int(index) &<< Int(pointee.blockShift))
    }

    @inlinable
    func index(of block: UnsafeMutableRawPointer) -> UInt32 {
        let offset = UInt32(truncatingIfNeeded: block - UnsafeMutableRawPointer(self)) &- pointee.firstBlockOffset
        return offset &>> pointee.blockShift
    }
}

/// The reference count of a block: every buffer, segment and device that holds the block has one.
@usableFromInline
enum BlockCount {
    @inlinable
    static func entry(of block: UnsafeMutableRawPointer) -> UnsafeMutablePointer<UInt32> {
        let superblock = UnsafeMutablePointer<Superblock>(containing: block)
        return superblock.entries + Int(superblock.index(of: block))
    }

    @inlinable
    static func retain(_ block: UnsafeMutableRawPointer) {
        entry(of: block).pointee &+= 1
    }

    /// Gives one count back; the last one returns the block to its superblock.
    @inlinable
    static func release(_ block: UnsafeMutableRawPointer) {
        let superblock = UnsafeMutablePointer<Superblock>(containing: block)
        let index = superblock.index(of: block)
        let entry = superblock.entries + Int(index)
        let count = entry.pointee
        precondition(count &- 1 < Superblock.freeFlag &- 1, "a block was released more often than it was retained")
        if count > 1 {
            entry.pointee = count &- 1
        } else {
            DatapathHeap(state: superblock.pointee.heap).free(index, of: superblock)
        }
    }
}
