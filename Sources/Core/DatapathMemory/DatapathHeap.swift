import Glibc

/// A runtime's heap of DMA-able memory: one arena cut into superblocks, counted blocks, free lists.
///
/// This is a plain handle, as cheap to copy as a pointer; the runtime that made the heap owns it and closes it. It belongs to that runtime's
/// thread. Allocation and release are O(1) and call nothing.
///
/// The ladder: at 75 % `pressure` tells receivers to shrink their windows, from 90 % `.datagram` allocations are refused, from 15/16 on those of
/// the application; the last sixteenth is for `.reserve`.
@frozen
public struct DatapathHeap {
    @usableFromInline let state: UnsafeMutablePointer<HeapState>

    @usableFromInline
    init(state: UnsafeMutablePointer<HeapState>) {
        self.state = state
    }

    /// Maps the arena.
    /// - Throws: `ENOMEM` when the kernel has not that much memory, `EINVAL` for an arena under 4 MiB.
    public init(_ configuration: MemoryConfiguration = MemoryConfiguration()) throws(DemikernelError) {
        guard configuration.arenaByteCount >= 4 << 20 else {
            throw DemikernelError(EINVAL, .initialize, "the arena needs at least 4 MiB")
        }
        guard (1...(1 << 24)).contains(configuration.maximumSegments) else {
            throw DemikernelError(EINVAL, .initialize, "maximumSegments must be between 1 and 16777216")
        }
        state = .allocate(capacity: 1)
        state.initialize(to: HeapState(cold: HeapColdState()))
        do {
            try mapSegments(configuration.maximumSegments)
            try addArena(configuration)
        } catch {
            close()
            throw error
        }
    }

    /// Adds a second arena, registered with every device that takes one more (AF_XDP does not: it copies from this one).
    /// - Throws: `ENOMEM`.
    public func addArena(_ configuration: MemoryConfiguration) throws(DemikernelError) {
        var arena = try Arena(
            byteCount: configuration.arenaByteCount, commitsAtStart: configuration.commitsAtStart, usesHugePages: configuration.usesHugePages)
        for device in state.pointee.cold.devices {
            arena.registrations.append(device.map { $0.register($0.context, arena.base, arena.byteCount) } ?? 0)
        }
        let arenaIndex = state.pointee.cold.arenas.count
        for index in (0..<arena.superblockCount).reversed() {
            let superblock = (arena.base + index * SizeClass.superblockByteCount).bindMemory(to: Superblock.self, capacity: 1)
            superblock.initialize(
                to: Superblock(
                    heap: state, next: nil, previous: nil, blockShift: 0, blockByteCount: 0, firstBlockOffset: 0, capacity: 0, carved: 0,
                    freeHead: Superblock.none, liveCount: 0, sizeClass: 0, arena: UInt16(arenaIndex), isListed: false))
            state.pointee.cold.freeSuperblocks.append(superblock)
        }
        state.pointee.cold.superblockCount += arena.superblockCount
        state.pointee.cold.arenas.append(arena)
        let limit = state.pointee.cold.superblockCount * SizeClass.largestByteCount
        state.pointee.limit = limit
        state.pointee.applicationLimit = limit / 16 * 15
        state.pointee.datagramLimit = limit / 10 * 9
    }

    // MARK: Blocks

    /// A block of at least `byteCount` bytes with a count of one, or nil at the limit of `priority`. Its content is whatever was there before.
    @inlinable
    func allocateBlock(_ byteCount: Int, _ priority: AllocationPriority) -> UnsafeMutableRawPointer? {
        let sizeClass = SizeClass.containing(byteCount)
        let blockByteCount = SizeClass.byteCount(of: sizeClass)
        let used = state.pointee.usedByteCount &+ blockByteCount
        if used > limit(of: priority) { return refuse(priority) }
        var head = state.pointee.heads[sizeClass]
        if head == nil {
            head = takeSuperblock(for: sizeClass, priority)
            if head == nil { return refuse(priority) }
        }
        let superblock = head.unsafelyUnwrapped
        var index = superblock.pointee.freeHead
        if index != Superblock.none {
            superblock.pointee.freeHead = superblock.entries[Int(index)] & ~Superblock.freeFlag
        } else {
            index = superblock.pointee.carved
            superblock.pointee.carved = index &+ 1
        }
        superblock.entries[Int(index)] = 1
        superblock.pointee.liveCount &+= 1
        state.pointee.usedByteCount = used
        state.pointee.liveBlocks &+= 1
        if superblock.pointee.freeHead == Superblock.none && superblock.pointee.carved == superblock.pointee.capacity {
            unlist(superblock)
        }
        return superblock.block(at: index)
    }

    @inlinable
    func limit(of priority: AllocationPriority) -> Int {
        switch priority {
        case .application: state.pointee.applicationLimit
        case .datagram: state.pointee.datagramLimit
        case .reserve: state.pointee.limit
        }
    }

    @inlinable
    func free(_ index: UInt32, of superblock: UnsafeMutablePointer<Superblock>) {
        superblock.entries[Int(index)] = Superblock.freeFlag | superblock.pointee.freeHead
        superblock.pointee.freeHead = index
        let live = superblock.pointee.liveCount &- 1
        superblock.pointee.liveCount = live
        state.pointee.usedByteCount &-= Int(superblock.pointee.blockByteCount)
        state.pointee.liveBlocks &-= 1
        if !superblock.pointee.isListed { list(superblock) }
        if live == 0 { becameEmpty(superblock) }
    }

    @usableFromInline
    func list(_ superblock: UnsafeMutablePointer<Superblock>) {
        let sizeClass = Int(superblock.pointee.sizeClass)
        let head = state.pointee.heads[sizeClass]
        superblock.pointee.next = head
        superblock.pointee.previous = nil
        superblock.pointee.isListed = true
        head?.pointee.previous = superblock
        state.pointee.heads[sizeClass] = superblock
    }

    @usableFromInline
    func unlist(_ superblock: UnsafeMutablePointer<Superblock>) {
        if let previous = superblock.pointee.previous {
            previous.pointee.next = superblock.pointee.next
        } else {
            state.pointee.heads[Int(superblock.pointee.sizeClass)] = superblock.pointee.next
        }
        superblock.pointee.next?.pointee.previous = superblock.pointee.previous
        superblock.pointee.next = nil
        superblock.pointee.previous = nil
        superblock.pointee.isListed = false
    }

    /// Gives an empty superblock back to all classes, unless it is its class's only one: that one is kept, so that a lone block allocated and
    /// freed in turn does not set up a superblock each time.
    @usableFromInline
    func becameEmpty(_ superblock: UnsafeMutablePointer<Superblock>) {
        if superblock.pointee.next != nil || superblock.pointee.previous != nil {
            unlist(superblock)
            state.pointee.cold.freeSuperblocks.append(superblock)
        }
        if state.pointee.cold.isClosed { unmapWhenUnused() }
    }

    @usableFromInline
    @inline(never)
    func takeSuperblock(for sizeClass: Int, _ priority: AllocationPriority) -> UnsafeMutablePointer<Superblock>? {
        let kept = priority == .reserve ? 0 : state.pointee.cold.superblockCount / 16
        if state.pointee.cold.freeSuperblocks.count <= kept { reclaimEmptySuperblocks() }
        guard state.pointee.cold.freeSuperblocks.count > kept, let superblock = state.pointee.cold.freeSuperblocks.popLast() else { return nil }
        let blockByteCount = SizeClass.byteCount(of: sizeClass)
        var first = 4096
        var capacity = 0
        while true {
            capacity = (SizeClass.superblockByteCount - first) / blockByteCount
            if Superblock.headerByteCount + 4 * capacity <= first { break }
            first += 4096
        }
        superblock.pointee.sizeClass = UInt16(sizeClass)
        superblock.pointee.blockShift = sizeClass == SizeClass.count - 1 ? 18 : UInt32(SizeClass.smallestShift + sizeClass)
        superblock.pointee.blockByteCount = UInt32(blockByteCount)
        superblock.pointee.firstBlockOffset = UInt32(first)
        superblock.pointee.capacity = UInt32(capacity)
        superblock.pointee.carved = 0
        superblock.pointee.freeHead = Superblock.none
        superblock.pointee.liveCount = 0
        list(superblock)
        return superblock
    }

    /// Takes back the empty superblocks that classes kept for themselves.
    private func reclaimEmptySuperblocks() {
        for sizeClass in 0..<SizeClass.count {
            guard let head = state.pointee.heads[sizeClass], head.pointee.liveCount == 0 else { continue }
            unlist(head)
            state.pointee.cold.freeSuperblocks.append(head)
        }
    }

    @usableFromInline
    @inline(never)
    func refuse(_ priority: AllocationPriority) -> UnsafeMutableRawPointer? {
        switch priority {
        case .application: state.pointee.cold.refused.application += 1
        case .datagram: state.pointee.cold.refused.datagram += 1
        case .reserve: state.pointee.cold.refused.reserve += 1
        }
        return nil
    }

    // MARK: Buffers

    /// A buffer of `byteCount` bytes, not initialised, with room for `headroom` more in front.
    ///
    /// O(1). The buffer owns one count on its block.
    /// - Throws: `ENOBUFS` at the limit of `priority`; `EMSGSIZE` above `maximumBufferByteCount`; `EINVAL` for a negative size.
    @inlinable
    public func allocate(_ byteCount: Int, headroom: Int = 0, priority: AllocationPriority = .application) throws(DemikernelError) -> Buffer {
        guard byteCount >= 0, headroom >= 0 else {
            throw DemikernelError(EINVAL, .allocate, "a size cannot be negative")
        }
        guard byteCount <= DatapathHeap.maximumBufferByteCount, headroom <= DatapathHeap.maximumBufferByteCount &- byteCount else {
            throw DemikernelError(EMSGSIZE, .allocate, "a buffer holds at most 258048 bytes: push an array of several")
        }
        guard let block = allocateBlock(byteCount &+ headroom, priority) else {
            throw DemikernelError(ENOBUFS, .allocate, "the heap is at its limit: release buffers or configure a larger arena")
        }
        return Buffer(base: block, offset: UInt32(truncatingIfNeeded: headroom), length: UInt32(truncatingIfNeeded: byteCount))
    }

    /// The largest buffer, in bytes: one whole superblock.
    @inlinable
    public static var maximumBufferByteCount: Int { SizeClass.largestByteCount }

    /// Whether the pointer lies in memory of this heap.
    public func contains(_ pointer: UnsafeRawPointer) -> Bool {
        state.pointee.cold.arenas.contains { $0.contains(pointer) }
    }

    // MARK: Pressure and statistics

    /// How full the heap is, as receivers have to act on it.
    @frozen
    public enum Pressure: UInt8, Comparable, Sendable {
        case none, shrinkWindows, dropDatagrams, reserveOnly

        @inlinable
        public static func < (left: Pressure, right: Pressure) -> Bool { left.rawValue < right.rawValue }
    }

    /// The rung of the ladder that the heap stands on.
    @inlinable
    public var pressure: Pressure {
        let used = state.pointee.usedByteCount
        if used < state.pointee.limit / 4 * 3 { return .none }
        if used < state.pointee.datagramLimit { return .shrinkWindows }
        return used < state.pointee.applicationLimit ? .dropDatagrams : .reserveOnly
    }

    /// Bytes of the blocks now allocated, by block size.
    @inlinable
    public var usedByteCount: Int { state.pointee.usedByteCount }

    /// A snapshot of the counts.
    public var statistics: MemoryStatistics {
        var statistics = MemoryStatistics()
        statistics.pages = state.pointee.cold.arenas.contains { $0.pages == .huge } ? .huge : .ordinary
        statistics.limitByteCount = state.pointee.limit
        statistics.usedByteCount = state.pointee.usedByteCount
        statistics.liveBlocks = state.pointee.liveBlocks
        statistics.liveSegments = state.pointee.liveSegments
        statistics.refusedApplication = state.pointee.cold.refused.application
        statistics.refusedDatagram = state.pointee.cold.refused.datagram
        statistics.refusedReserve = state.pointee.cold.refused.reserve
        return statistics
    }

    // MARK: Devices

    /// Registers every arena, present and future, with a device.
    public func register(_ device: DeviceRegistration) -> DeviceIdentifier {
        let identifier = DeviceIdentifier(index: state.pointee.cold.devices.count)
        state.pointee.cold.devices.append(device)
        for index in state.pointee.cold.arenas.indices {
            let arena = state.pointee.cold.arenas[index]
            state.pointee.cold.arenas[index].registrations.append(device.register(device.context, arena.base, arena.byteCount))
        }
        return identifier
    }

    /// Takes the arenas back from a device.
    public func unregister(_ identifier: DeviceIdentifier) {
        guard let device = state.pointee.cold.devices[identifier.index] else { return }
        for arena in state.pointee.cold.arenas {
            device.unregister(device.context, arena.base, arena.registrations[identifier.index])
        }
        state.pointee.cold.devices[identifier.index] = nil
    }

    /// What the device returned for the arena that holds `pointer`; nil for memory that is not this heap's.
    public func registration(of pointer: UnsafeRawPointer, with identifier: DeviceIdentifier) -> UInt64? {
        state.pointee.cold.arenas.first { $0.contains(pointer) }?.registrations[identifier.index]
    }

    // MARK: End

    /// Closes the heap: it unmaps its memory now, or when the last buffer that still lives is gone.
    public func close() {
        for index in state.pointee.cold.devices.indices { unregister(DeviceIdentifier(index: index)) }
        state.pointee.cold.isClosed = true
        unmapWhenUnused()
    }

    private func unmapWhenUnused() {
        guard state.pointee.liveBlocks == 0 else { return }
        for arena in state.pointee.cold.arenas { arena.unmap() }
        if let mapping = state.pointee.cold.segmentMapping { munmap(mapping, state.pointee.cold.segmentMappingByteCount) }
        state.pointee.heads.deallocate()
        state.deinitialize(count: 1)
        state.deallocate()
    }
}
