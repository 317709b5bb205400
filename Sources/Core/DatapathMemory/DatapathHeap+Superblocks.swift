/// How superblocks come to a size class and leave it again.
extension DatapathHeap {
    /// Puts a superblock that was full into its class's list, behind the first one: a class that fluctuates around a superblock's edge does not
    /// change its first one each time. Its free list gets its end.
    @usableFromInline
    @inline(never)
    func list(_ superblock: UnsafeMutablePointer<Superblock>) {
        superblock.entry(at: superblock.pointee.freeHead).pointee = Superblock.none
        insert(superblock)
    }

    private func insert(_ superblock: UnsafeMutablePointer<Superblock>) {
        let sizeClass = Int(superblock.pointee.sizeClass)
        let head = state.heads[sizeClass]
        guard head != state.pointee.absent else {
            superblock.pointee.next = nil
            superblock.pointee.previous = nil
            state.heads[sizeClass] = superblock
            return
        }
        let next = head.pointee.next
        superblock.pointee.next = next
        superblock.pointee.previous = head
        next?.pointee.previous = superblock
        head.pointee.next = superblock
    }

    private func unlist(_ superblock: UnsafeMutablePointer<Superblock>) {
        if let previous = superblock.pointee.previous {
            previous.pointee.next = superblock.pointee.next
        } else {
            state.heads[Int(superblock.pointee.sizeClass)] = superblock.pointee.next ?? state.pointee.absent
        }
        superblock.pointee.next?.pointee.previous = superblock.pointee.previous
        superblock.pointee.next = nil
        superblock.pointee.previous = nil
    }

    /// A block of at least `byteCount` bytes with a count of one, or nil at the limit of `priority`. Its content is whatever was there before.
    func allocateBlock(_ byteCount: Int, _ priority: AllocationPriority) -> UnsafeMutableRawPointer? {
        let sizeClass = SizeClass.containing(byteCount)
        guard let superblock = findSuperblock(sizeClass) ?? takeSuperblock(for: sizeClass, priority) else { return nil }
        let used = state.pointee.usedByteCount + Int(superblock.pointee.accountedByteCount)
        guard used <= limit(of: priority) else {
            if superblock.pointee.useCount == 0 { becameEmpty(superblock) }
            return nil
        }
        state.pointee.usedByteCount = used
        let offset = superblock.pointee.freeHead
        let entry = superblock.entry(at: offset)
        superblock.pointee.freeHead = entry.pointee
        entry.pointee = 1
        superblock.pointee.useCount += 1
        return UnsafeMutableRawPointer(superblock) + Int(offset)
    }

    /// A superblock of the class with a free block, the first of its list. Those before it that have none leave the list.
    private func findSuperblock(_ sizeClass: Int) -> UnsafeMutablePointer<Superblock>? {
        while case let superblock = state.heads[sizeClass], superblock != state.pointee.absent {
            if superblock.pointee.freeHead != Superblock.none { return superblock }
            if superblock.pointee.carvedOffset < superblock.pointee.endOffset {
                carve(superblock)
                return superblock
            }
            unlist(superblock)
            superblock.pointee.freeHead = Superblock.unlisted
        }
        return nil
    }

    /// Makes a free list of the next 32 blocks, in the order of their addresses. A few at a time, so that this is no long pause.
    private func carve(_ superblock: UnsafeMutablePointer<Superblock>) {
        let start = superblock.pointee.carvedOffset
        let blockByteCount = superblock.pointee.blockByteCount
        let end = min(start + 32 * blockByteCount, superblock.pointee.endOffset)
        var offset = start
        while offset < end {
            let next = offset + blockByteCount
            superblock.entry(at: offset).pointee = next < end ? next : Superblock.none
            offset = next
        }
        superblock.pointee.freeHead = start
        superblock.pointee.carvedOffset = end
    }

    /// The last block is back, and the class does not hold the superblock. The class holds it from now on, unless the one that it holds is empty
    /// too: then this one goes back to all classes. So a class keeps one empty superblock at most, and one that fluctuates at a superblock's edge
    /// does not set one up each time.
    @usableFromInline
    @inline(never)
    func becameEmpty(_ superblock: UnsafeMutablePointer<Superblock>) {
        if state.pointee.cold.isClosed {
            unmapWhenUnused()
            return
        }
        let sizeClass = Int(superblock.pointee.sizeClass)
        if let held = state.pointee.cold.held[sizeClass], held.pointee.useCount == 1 {
            unlist(superblock)
            addFree(superblock)
        } else {
            letGo(sizeClass)
            hold(superblock)
        }
    }

    private func hold(_ superblock: UnsafeMutablePointer<Superblock>) {
        superblock.pointee.useCount += 1
        state.pointee.cold.held[Int(superblock.pointee.sizeClass)] = superblock
    }

    /// The class holds no superblock any more. One that is empty then stays listed; the caller knows of it.
    func letGo(_ sizeClass: Int) {
        guard let held = state.pointee.cold.held[sizeClass] else { return }
        held.pointee.useCount -= 1
        state.pointee.cold.held[sizeClass] = nil
    }

    /// Gives a superblock to all classes.
    func addFree(_ superblock: UnsafeMutablePointer<Superblock>) {
        superblock.pointee.next = state.pointee.cold.freeSuperblocks
        state.pointee.cold.freeSuperblocks = superblock
        state.pointee.cold.freeSuperblockCount += 1
    }

    /// A superblock for a class that has none with a free block; nil when `priority` may not have one.
    private func takeSuperblock(for sizeClass: Int, _ priority: AllocationPriority) -> UnsafeMutablePointer<Superblock>? {
        let kept = priority == .reserve ? 0 : state.pointee.cold.superblockCount / 16
        if state.pointee.cold.freeSuperblockCount <= kept { reclaimEmptySuperblocks() }
        guard state.pointee.cold.freeSuperblockCount > kept, let superblock = state.pointee.cold.freeSuperblocks else { return nil }
        state.pointee.cold.freeSuperblocks = superblock.pointee.next
        state.pointee.cold.freeSuperblockCount -= 1

        let blockByteCount = SizeClass.byteCount(of: sizeClass)
        let isLargest = sizeClass == SizeClass.count - 1
        let shift = isLargest ? 18 : SizeClass.smallestShift + sizeClass
        let headerEnd = Superblock.headerByteCount + 4 * (SizeClass.superblockByteCount >> shift)
        let start = max(headerEnd, 4096)
        let first = isLargest ? 4096 : (start + blockByteCount - 1) / blockByteCount * blockByteCount
        superblock.pointee.sizeClass = UInt16(sizeClass)
        superblock.pointee.blockShift = UInt32(shift)
        superblock.pointee.blockByteCount = UInt32(blockByteCount)
        superblock.pointee.accountedByteCount = UInt32(SizeClass.largestByteCount / ((SizeClass.superblockByteCount - first) / blockByteCount))
        superblock.pointee.useCount = 0
        superblock.pointee.carvedOffset = UInt32(first)
        superblock.pointee.endOffset = UInt32(SizeClass.superblockByteCount)
        carve(superblock)
        insert(superblock)
        if state.pointee.cold.held[sizeClass] == nil { hold(superblock) }
        return superblock
    }

    /// Takes back the empty superblocks that classes hold.
    private func reclaimEmptySuperblocks() {
        for case let held? in state.pointee.cold.held where held.pointee.useCount == 1 {
            letGo(Int(held.pointee.sizeClass))
            unlist(held)
            addFree(held)
        }
    }

    /// How many blocks are allocated. O(number of superblocks): for snapshots.
    func countLiveBlocks() -> Int {
        var count = 0
        for arena in state.pointee.cold.arenas {
            for index in 0..<arena.superblockCount {
                let superblock = (arena.base + index * SizeClass.superblockByteCount).assumingMemoryBound(to: Superblock.self)
                count += Int(superblock.pointee.useCount)
            }
        }
        return count - state.pointee.cold.held.count { $0 != nil }
    }
}
