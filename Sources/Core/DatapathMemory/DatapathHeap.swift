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
        guard (1...(1 << 24)).contains(configuration.maximumSegments) else {
            throw DemikernelError(EINVAL, .initialize, "maximumSegments must be between 1 and 16777216")
        }
        state = HeapState.allocate()
        do {
            try mapSegments(configuration.maximumSegments)
            try addArena(configuration)
        } catch {
            close()
            throw error
        }
    }

    /// Adds a second arena, registered with every device that takes one more (AF_XDP does not: it copies from this one).
    /// - Throws: `ENOMEM` when the kernel has not that much memory, `EINVAL` for an arena under 4 MiB; the heap is as it was.
    public func addArena(_ configuration: MemoryConfiguration) throws(DemikernelError) {
        guard configuration.arenaByteCount >= 4 << 20 else {
            throw DemikernelError(EINVAL, .initialize, "the arena needs at least 4 MiB")
        }
        var arena = try Arena(
            byteCount: configuration.arenaByteCount, commitsAtStart: configuration.commitsAtStart, usesHugePages: configuration.usesHugePages)
        for device in state.pointee.cold.devices {
            arena.registrations.append(device.map { $0.register($0.context, arena.base, arena.byteCount) } ?? 0)
        }
        for index in (0..<arena.superblockCount).reversed() {
            let superblock = (arena.base + index * SizeClass.superblockByteCount).bindMemory(to: Superblock.self, capacity: 1)
            superblock.initialize(to: Superblock(heap: state))
            addFree(superblock)
        }
        state.pointee.cold.superblockCount += arena.superblockCount
        state.pointee.cold.arenas.append(arena)
        let limit = state.pointee.cold.superblockCount * SizeClass.largestByteCount
        state.pointee.limit = limit
        state.pointee.applicationLimit = limit / 16 * 15
        state.pointee.datagramLimit = limit / 10 * 9
    }

    // MARK: Blocks

    @inlinable
    func limit(of priority: AllocationPriority) -> Int {
        switch priority {
        case .application: state.pointee.applicationLimit
        case .datagram: state.pointee.datagramLimit
        case .reserve: state.pointee.limit
        }
    }

    @inlinable
    func free(_ offset: UInt32, _ entry: UnsafeMutablePointer<UInt32>, of superblock: UnsafeMutablePointer<Superblock>) {
        let next = superblock.pointee.freeHead
        entry.pointee = next
        superblock.pointee.freeHead = offset
        state.pointee.usedByteCount &-= Int(superblock.pointee.accountedByteCount)
        if next == Superblock.unlisted { list(superblock) }
        superblock.pointee.useCount &-= 1
        if superblock.pointee.useCount == 0 { becameEmpty(superblock) }
    }

    // MARK: Buffers

    /// A buffer of `byteCount` bytes, not initialised, with room for `headroom` more in front.
    ///
    /// O(1). The buffer owns one count on its block.
    /// - Throws: `ENOBUFS` at the limit of `priority`; `EMSGSIZE` above `maximumBufferByteCount`; `EINVAL` for a negative size.
    @inlinable
    @inline(__always)
    public func allocate(_ byteCount: Int, headroom: Int = 0, priority: AllocationPriority = .application) throws(DemikernelError) -> Buffer {
        let blockByteCount = byteCount &+ headroom
        // No number is negative, and the sum is at least 1 and at most 131072. (Larger blocks fill a superblock each.)
        if UInt(bitPattern: blockByteCount &- 1) < 131_072, byteCount | headroom >= 0 {
            let superblock = state.heads[SizeClass.containing(unchecked: blockByteCount)]
            let used = state.pointee.usedByteCount &+ Int(superblock.pointee.accountedByteCount)
            let offset = superblock.pointee.freeHead
            if offset != Superblock.none, used <= limit(of: priority) {
                let entry = superblock.entry(at: offset)
                superblock.pointee.freeHead = entry.pointee
                entry.pointee = 1
                superblock.pointee.useCount &+= 1
                state.pointee.usedByteCount = used
                return Buffer(
                    base: UnsafeMutableRawPointer(superblock) + Int(offset), offset: UInt32(truncatingIfNeeded: headroom),
                    length: UInt32(truncatingIfNeeded: byteCount))
            }
        }
        // All else in one call at the end, so that the plain case needs no stack frame.
        return try allocateSlowly(byteCount, headroom, priority)
    }

    /// As `allocate`, also for 0 bytes and the largest sizes, where a superblock is needed first, and where nothing can be had.
    @usableFromInline
    @inline(never)
    func allocateSlowly(_ byteCount: Int, _ headroom: Int, _ priority: AllocationPriority) throws(DemikernelError) -> Buffer {
        if byteCount < 0 || headroom < 0 { throw DemikernelError(EINVAL, .allocate, "a size cannot be negative") }
        if byteCount > DatapathHeap.maximumBufferByteCount || headroom > DatapathHeap.maximumBufferByteCount - byteCount {
            throw DemikernelError(EMSGSIZE, .allocate, "a buffer holds at most 258048 bytes: push an array of several")
        }
        guard let block = allocateBlock(byteCount + headroom, priority) else {
            switch priority {
            case .application: state.pointee.cold.refused.application += 1
            case .datagram: state.pointee.cold.refused.datagram += 1
            case .reserve: state.pointee.cold.refused.reserve += 1
            }
            throw DemikernelError(ENOBUFS, .allocate, "the heap is at its limit: release buffers or configure a larger arena")
        }
        return Buffer(base: block, offset: UInt32(headroom), length: UInt32(byteCount))
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

    /// Bytes of the blocks now allocated, each counted at its share of a superblock.
    @inlinable
    public var usedByteCount: Int { state.pointee.usedByteCount }

    /// A snapshot of the counts.
    public var statistics: MemoryStatistics {
        var statistics = MemoryStatistics()
        statistics.pages = state.pointee.cold.arenas.allSatisfy { $0.pages == .huge } ? .huge : .ordinary
        statistics.limitByteCount = state.pointee.limit
        statistics.usedByteCount = state.pointee.usedByteCount
        statistics.liveBlocks = countLiveBlocks()
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

    /// What the device returned for the arena that holds `pointer`; nil for memory that is not this heap's, and for a device that was unregistered.
    public func registration(of pointer: UnsafeRawPointer, with identifier: DeviceIdentifier) -> UInt64? {
        guard state.pointee.cold.devices[identifier.index] != nil else { return nil }
        return state.pointee.cold.arenas.first { $0.contains(pointer) }?.registrations[identifier.index]
    }

    // MARK: End

    /// Closes the heap: it unmaps its memory now, or when the last buffer that still lives is gone.
    public func close() {
        for index in state.pointee.cold.devices.indices { unregister(DeviceIdentifier(index: index)) }
        state.pointee.cold.isClosed = true
        // So that every superblock tells when its last block is back.
        for sizeClass in 0..<SizeClass.count { letGo(sizeClass) }
        unmapWhenUnused()
    }

    func unmapWhenUnused() {
        guard state.pointee.usedByteCount == 0 else { return }
        for arena in state.pointee.cold.arenas { arena.unmap() }
        if let mapping = state.pointee.cold.segmentMapping { munmap(mapping, state.pointee.cold.segmentMappingByteCount) }
        state.pointee.absent.deallocate()
        state.deinitialize(count: 1)
        UnsafeMutableRawPointer(state).deallocate()
    }
}
