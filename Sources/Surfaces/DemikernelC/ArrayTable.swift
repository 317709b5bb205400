import DatapathMemory
import Glibc
import QueueRuntime

/// The arrays that the program holds, by the handles that stand in `sga_buf`: the slot in the low 20 bits, a 44-bit generation above.
///
/// Its generation is why a handle that was freed, one of another thread, and any other pointer are seen and harm nothing.
struct ArrayTable {
    /// One array of the program.
    struct Entry {
        /// The array's handle; in a free slot the complement of the next one, which leads to another slot and so matches no handle that leads here.
        var handle: UInt64
        /// The array; nil for the end of a stream, which needs no memory.
        var array: UnsafeMutablePointer<SegmentDescriptor>?
        var nextFree: UnsafeMutablePointer<Entry>?
        /// Where it came from, if `hasSource`.
        var source: SocketAddress
        var hasSource: Bool
    }

    private let entries: UnsafeMutablePointer<Entry>
    private var firstFree: UnsafeMutablePointer<Entry>?
    private var carvedCount = 1
    private let firstGeneration: UInt64
    /// Arrays that the program holds now.
    private(set) var liveCount = 0

    /// The most arrays at once.
    static let maximumCount = 1 << 20 - 1
    private static let slotMask: UInt64 = 1 << 20 - 1
    private static let mappingByteCount = (maximumCount + 1) * MemoryLayout<Entry>.stride

    /// - Parameter generation: the first one; random, so that the handles of different threads differ.
    /// - Throws: `ENOMEM`.
    init(generation: UInt64) throws(DemikernelError) {
        guard
            let mapping = mmap(
                nil, ArrayTable.mappingByteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | Int32(MAP_NORESERVE), -1, 0),
            mapping != MAP_FAILED
        else { throw DemikernelError(ENOMEM, .initialize, "the table of arrays could not be mapped") }
        entries = mapping.bindMemory(to: Entry.self, capacity: ArrayTable.maximumCount + 1)
        // Slot 0 is nobody's: a number that leads to another slot. The mapping's zeros lead to slot 0.
        entries.pointee.handle = 1
        firstGeneration = generation
    }

    /// Releases what the program has not freed.
    func deallocate() {
        for slot in 1..<carvedCount where isLive(slot) { entries[slot].array?.releaseArray() }
        munmap(entries, ArrayTable.mappingByteCount)
    }

    private func isLive(_ slot: Int) -> Bool { entries[slot].handle & ArrayTable.slotMask == UInt64(slot) }

    /// Whether one more array fits.
    @inline(__always)
    var hasRoom: Bool { firstFree != nil || carvedCount <= ArrayTable.maximumCount }

    /// Whether one more array fits without a look at the rest of the table.
    @inline(__always)
    var hasFreeEntry: Bool { firstFree != nil }

    /// How many more arrays fit.
    var room: Int { ArrayTable.maximumCount - liveCount }

    /// Takes an array over. There must be room.
    /// - Returns: its entry, whose `source` the caller may set.
    @inline(__always)
    mutating func add(_ array: UnsafeMutablePointer<SegmentDescriptor>?) -> UnsafeMutablePointer<Entry> {
        if firstFree == nil { carve() }
        return addToFreeEntry(array)
    }

    /// As `add`, where there is a free entry.
    @inline(__always)
    mutating func addToFreeEntry(_ array: UnsafeMutablePointer<SegmentDescriptor>?) -> UnsafeMutablePointer<Entry> {
        let entry = firstFree.unsafelyUnwrapped
        firstFree = entry.pointee.nextFree
        entry.pointee.handle = ~entry.pointee.handle
        entry.pointee.array = array
        entry.pointee.hasSource = false
        liveCount &+= 1
        return entry
    }

    @inline(never)
    private mutating func carve() {
        precondition(carvedCount <= ArrayTable.maximumCount, "no room in the table of arrays")
        let entry = entries + carvedCount
        // Far from its neighbour's, so that a handle that was changed by a little is none.
        let generation = firstGeneration &+ UInt64(carvedCount) &* 0x9e37_79b9_7f4a_7c15
        let handle = generation << 20 | UInt64(carvedCount)
        entry.initialize(to: Entry(handle: ~handle, array: nil, nextFree: nil, source: .any(port: 0), hasSource: false))
        carvedCount += 1
        firstFree = entry
    }

    /// The entry of a handle; nil for any other number.
    @inline(__always)
    func entry(_ handle: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<Entry>? {
        let number = UInt64(UInt(bitPattern: handle))
        let entry = entries + Int(truncatingIfNeeded: number & ArrayTable.slotMask)
        return entry.pointee.handle == number ? entry : nil
    }

    /// Takes an array out, whose handle is nobody's from now on.
    /// - Returns: the array, to be released.
    @inline(__always)
    mutating func remove(_ entry: UnsafeMutablePointer<Entry>) -> UnsafeMutablePointer<SegmentDescriptor>? {
        entry.pointee.handle = ~(entry.pointee.handle &+ (ArrayTable.slotMask &+ 1))
        entry.pointee.nextFree = firstFree
        firstFree = entry
        liveCount &-= 1
        return entry.pointee.array
    }
}

extension UnsafeMutablePointer<ArrayTable.Entry> {
    /// As it stands in `sga_buf`.
    @inline(__always)
    var handle: UnsafeMutableRawPointer? { UnsafeMutableRawPointer(bitPattern: UInt(pointee.handle)) }
}
