/// The head of a superblock: 256 KiB of blocks of one size class.
///
/// Layout: this header, one 32-bit entry for each multiple of the block size in the superblock, then the blocks, from the first multiple of the
/// block size that lies behind both and behind the first 4096 bytes. So the entry's index is the block's offset shifted right, and nothing is
/// subtracted. (The one block of the largest class starts at 4096 and has entry 0.) The entry of an allocated block is odd: 1 for one reference and
/// 2 for each further one. That of a free block is the offset of the next free one, or `none`: even. So the free list never stands in memory that
/// a device may write, and a double free is seen.
///
/// A superblock is in its class's list exactly while `freeHead` is not `unlisted`.
@frozen
@usableFromInline
struct Superblock {
    @usableFromInline var heap: UnsafeMutablePointer<HeapState>
    @usableFromInline var next: UnsafeMutablePointer<Superblock>?
    @usableFromInline var previous: UnsafeMutablePointer<Superblock>?
    /// log2 of the block size (18 for the largest class, so that the index is 0).
    @usableFromInline var blockShift: UInt32
    @usableFromInline var blockByteCount: UInt32
    /// What a block counts for in `usedByteCount`, when it is allocated and when it comes back: its share of `largestByteCount`. So a heap counts as
    /// full when its superblocks are, whatever the sizes: a superblock has room for three blocks of 64 KiB, and for one of 128 KiB.
    @usableFromInline var accountedByteCount: UInt32
    /// The offset of the first free block; `none` in a superblock that was listed when it gave its last one, and still is; `unlisted`.
    @usableFromInline var freeHead: UInt32
    /// Allocated blocks, and one more while its class holds the superblock: so a lone block that comes and goes does not give it back each time.
    @usableFromInline var useCount: UInt32
    /// Blocks from this offset on were never handed out; their entries are not initialised.
    @usableFromInline var carvedOffset: UInt32
    @usableFromInline var endOffset: UInt32
    @usableFromInline var sizeClass: UInt16

    @usableFromInline static let headerByteCount = 128
    /// The end of the free list.
    @usableFromInline static let none: UInt32 = 0x7fff_fffe
    /// No free block, and not in the class's list.
    @usableFromInline static let unlisted: UInt32 = 0x7fff_fffc

    /// An empty one of no class.
    init(heap: UnsafeMutablePointer<HeapState>) {
        self.heap = heap
        next = nil
        previous = nil
        blockShift = 18
        blockByteCount = 0
        accountedByteCount = 0
        freeHead = Superblock.unlisted
        useCount = 0
        carvedOffset = 0
        endOffset = 0
        sizeClass = 0
    }
}

extension UnsafeMutablePointer<Superblock> {
    /// The superblock of a block. Valid for any pointer into a live block: superblocks are aligned to their size.
    @inlinable
    init(containing block: UnsafeMutableRawPointer) {
        let address = UInt(bitPattern: block) & ~UInt(SizeClass.superblockByteCount - 1)
        self = UnsafeMutableRawPointer(bitPattern: address).unsafelyUnwrapped.assumingMemoryBound(to: Superblock.self)
    }

    /// The offset of a block.
    @inlinable
    static func offset(of block: UnsafeMutableRawPointer) -> UInt32 {
        UInt32(truncatingIfNeeded: UInt(bitPattern: block)) & UInt32(SizeClass.superblockByteCount - 1)
    }

    /// The entry of the block at `offset`.
    @inlinable
    func entry(at offset: UInt32) -> UnsafeMutablePointer<UInt32> {
        (UnsafeMutableRawPointer(self) + Superblock.headerByteCount).assumingMemoryBound(to: UInt32.self) + Int(offset &>> pointee.blockShift)
    }
}

/// The reference count of a block: every buffer, segment and device that holds the block has one.
@usableFromInline
enum BlockCount {
    @inlinable
    static func entry(of block: UnsafeMutableRawPointer) -> UnsafeMutablePointer<UInt32> {
        UnsafeMutablePointer<Superblock>(containing: block).entry(at: UnsafeMutablePointer<Superblock>.offset(of: block))
    }

    @inlinable
    static func retain(_ block: UnsafeMutableRawPointer) {
        entry(of: block).pointee &+= 2
    }

    /// Gives one count back; the last one returns the block to its superblock.
    @inlinable
    static func release(_ block: UnsafeMutableRawPointer) {
        let superblock = UnsafeMutablePointer<Superblock>(containing: block)
        let offset = UnsafeMutablePointer<Superblock>.offset(of: block)
        let entry = superblock.entry(at: offset)
        if entry.pointee == 1 {
            DatapathHeap(state: superblock.pointee.heap).free(offset, entry, of: superblock)
        } else {
            precondition(entry.pointee & 1 == 1, "a block was released more often than it was retained")
            entry.pointee &-= 2
        }
    }
}
