/// The heap's state, at one address for its whole life. Reached through `DatapathHeap`.
@frozen
@usableFromInline
struct HeapState {
    @usableFromInline var usedByteCount = 0
    @usableFromInline var applicationLimit = 0
    @usableFromInline var datagramLimit = 0
    @usableFromInline var limit = 0
    @usableFromInline var freeSegments: UnsafeMutablePointer<SegmentDescriptor>?
    @usableFromInline var liveSegments = 0
    /// Descriptors from here to `endOfSegments` were never used; their pages need not be backed yet.
    @usableFromInline var uncarvedSegments: UnsafeMutablePointer<SegmentDescriptor>?
    @usableFromInline var endOfSegments: UnsafeMutablePointer<SegmentDescriptor>?
    /// Stands for no superblock: it has no free block. So the first superblock of a class needs no comparison with nil.
    let absent: UnsafeMutablePointer<Superblock>
    @usableFromInline var cold: HeapColdState

    init(absent: UnsafeMutablePointer<Superblock>) {
        self.absent = absent
        cold = HeapColdState()
    }

    /// A new state with room for the classes' heads behind it: one address reaches both.
    static func allocate() -> UnsafeMutablePointer<HeapState> {
        let byteCount = MemoryLayout<HeapState>.stride + SizeClass.count * MemoryLayout<UnsafeMutablePointer<Superblock>>.stride
        let state = UnsafeMutableRawPointer.allocate(byteCount: byteCount, alignment: MemoryLayout<HeapState>.alignment)
            .bindMemory(to: HeapState.self, capacity: 1)
        let absent = UnsafeMutablePointer<Superblock>.allocate(capacity: 1)
        absent.initialize(to: Superblock(heap: state))
        absent.pointee.freeHead = Superblock.none
        state.initialize(to: HeapState(absent: absent))
        UnsafeMutableRawPointer(state + 1).bindMemory(to: UnsafeMutablePointer<Superblock>.self, capacity: SizeClass.count)
            .initialize(repeating: absent, count: SizeClass.count)
        return state
    }
}

extension UnsafeMutablePointer<HeapState> {
    /// For each size class, the first of its superblocks that have a free block, or `absent`.
    @inlinable
    var heads: UnsafeMutablePointer<UnsafeMutablePointer<Superblock>> {
        UnsafeMutableRawPointer(self + 1).assumingMemoryBound(to: UnsafeMutablePointer<Superblock>.self)
    }
}

/// What no packet touches.
@usableFromInline
struct HeapColdState {
    var arenas: [Arena] = []
    /// Superblocks that belong to no class now, chained through `next`.
    var freeSuperblocks: UnsafeMutablePointer<Superblock>?
    var freeSuperblockCount = 0
    var superblockCount = 0
    /// For each size class, the superblock that it holds even when it is empty.
    var held = [UnsafeMutablePointer<Superblock>?](repeating: nil, count: SizeClass.count)
    var devices: [DeviceRegistration?] = []
    var segmentMapping: UnsafeMutableRawPointer?
    var segmentMappingByteCount = 0
    var refused: (application: UInt64, datagram: UInt64, reserve: UInt64) = (0, 0, 0)
    /// Set when the owner is gone: the memory is unmapped when the last block comes back.
    var isClosed = false
}

/// How a device learns of the heap's memory: C-convention functions and a context.
public struct DeviceRegistration {
    /// Passed to both functions.
    public var context: UnsafeMutableRawPointer
    /// Registers `byteCount` bytes at `base` with the device and returns what the device needs to know again (an rkey, an offset, an IOVA).
    public var register: @convention(c) (_ context: UnsafeMutableRawPointer, _ base: UnsafeMutableRawPointer, _ byteCount: Int) -> UInt64
    /// Takes a registration back.
    public var unregister: @convention(c) (_ context: UnsafeMutableRawPointer, _ base: UnsafeMutableRawPointer, _ registration: UInt64) -> Void

    public init(
        context: UnsafeMutableRawPointer,
        register: @escaping @convention(c) (UnsafeMutableRawPointer, UnsafeMutableRawPointer, Int) -> UInt64,
        unregister: @escaping @convention(c) (UnsafeMutableRawPointer, UnsafeMutableRawPointer, UInt64) -> Void
    ) {
        self.context = context
        self.register = register
        self.unregister = unregister
    }
}

/// Names a device that the heap is registered with.
public struct DeviceIdentifier: Hashable, Sendable {
    let index: Int
}
