/// A chained hash table that grows and shrinks in small steps.
///
/// Power-of-two bucket arrays. While it is being resized, entries live in `buckets` (the new array) or, above `drained`, in
/// `draining` (the old one), and each operation moves a bounded number of entries; no operation touches more than 16 old
/// buckets. Entries do not move in memory. A table owns its entries' blocks but not their payloads, and has no deinitialiser:
/// `destroy` frees it.
struct HashTable: ~Copyable {
    private typealias Buckets = UnsafeMutablePointer<EntryPointer?>

    private(set) var count = 0
    private var buckets: Buckets
    private var mask: Int
    private var draining: Buckets?
    private var drainingMask = 0
    private var drained = 0

    private static let minimumSize = 4
    private static let maximumSize = 1 << 32
    private static let bucketsPerStep = 16
    private static let entriesPerStep = 4

    init(heap: inout Heap) {
        buckets = Self.makeBuckets(Self.minimumSize, heap: &heap)
        mask = Self.minimumSize - 1
    }

    /// Frees all entries, after handing each to `body`, and the buckets.
    consuming func destroy(heap: inout Heap, _ body: (EntryPointer, inout Heap) -> Void) {
        var walk = Walk()
        while let entry = next(&walk) {
            body(entry, &heap)
            entry.release(heap: &heap)
        }
        Self.release(buckets, mask: mask, heap: &heap)
        if let draining { Self.release(draining, mask: drainingMask, heap: &heap) }
    }

    /// The entry of `key`, valid until it is removed. Constant time.
    @inline(__always)
    mutating func find(_ key: ByteSlice, hash: UInt32, heap: inout Heap) -> EntryPointer? {
        if draining != nil { migrate(heap: &heap) }
        var candidate = buckets[Int(hash) & mask]
        while let entry = candidate {
            if entry.pointee.hash == hash && entry.key.equals(key) { return entry }
            candidate = entry.pointee.next
        }
        return draining == nil ? nil : findDraining(key, hash: hash)
    }

    @inline(never)
    private func findDraining(_ key: ByteSlice, hash: UInt32) -> EntryPointer? {
        guard let draining else { return nil }
        var candidate = draining[Int(hash) & drainingMask]
        while let entry = candidate {
            if entry.pointee.hash == hash && entry.key.equals(key) { return entry }
            candidate = entry.pointee.next
        }
        return nil
    }

    /// Adds `key`, which is not in the table. Amortised constant time.
    mutating func insert(_ key: ByteSlice, hash: UInt32, heap: inout Heap) -> EntryPointer {
        if draining == nil && count > mask { resize(to: (mask + 1) * 2, heap: &heap) }
        let entry = EntryPointer.make(key, hash: hash, heap: &heap)
        let bucket = Int(hash) & mask
        entry.pointee.next = buckets[bucket]
        buckets[bucket] = entry
        count += 1
        return entry
    }

    /// Takes `entry`, which is in the table, out and frees its block; the payload is the caller's.
    mutating func remove(_ entry: EntryPointer, heap: inout Heap) {
        let hash = Int(entry.pointee.hash)
        if !Self.unlink(entry, from: buckets + (hash & mask)) {
            guard let draining, Self.unlink(entry, from: draining + (hash & drainingMask)) else {
                preconditionFailure("the entry is not in this table")
            }
        }
        entry.release(heap: &heap)
        count -= 1
        if draining != nil {
            migrate(heap: &heap)
        } else if mask >= Self.minimumSize && count * 8 <= mask {
            resize(to: count * 2, heap: &heap)
        }
    }

    private static func unlink(_ entry: EntryPointer, from bucket: Buckets) -> Bool {
        if bucket.pointee == entry {
            bucket.pointee = entry.pointee.next
            return true
        }
        var previous = bucket.pointee
        while let link = previous {
            if link.pointee.next == entry {
                link.pointee.next = entry.pointee.next
                return true
            }
            previous = link.pointee.next
        }
        return false
    }

    /// A random entry of a table that has one. Expected constant time; nearly uniform, as in Redis: by bucket, then in its chain.
    func randomEntry(_ random: inout RandomSource) -> EntryPointer {
        precondition(count > 0, "an empty table has no random entry")
        let newSize = mask + 1
        let oldSize = draining == nil ? 0 : drainingMask + 1 - drained
        while true {
            let index = random.next(below: newSize + oldSize)
            guard let first = index < newSize ? buckets[index] : draining![drained + index - newSize] else { continue }
            var length = 1
            var entry = first
            while let next = entry.pointee.next {
                entry = next
                length += 1
            }
            entry = first
            for _ in 0..<random.next(below: length) { entry = entry.pointee.next! }
            return entry
        }
    }
}

// MARK: - Iteration

extension HashTable {
    /// A position in a table that is not changed meanwhile.
    struct Walk {
        fileprivate var bucket = 0
        fileprivate var entry: EntryPointer?
    }

    /// The next entry, or nil after the last. The entry returned may be freed before the following call.
    func next(_ walk: inout Walk) -> EntryPointer? {
        let total = mask + 1 + (draining == nil ? 0 : drainingMask + 1)
        while walk.entry == nil && walk.bucket < total {
            walk.entry = walk.bucket <= mask ? buckets[walk.bucket] : draining![walk.bucket - mask - 1]
            walk.bucket += 1
        }
        let entry = walk.entry
        walk.entry = entry?.pointee.next
        return entry
    }

    /// Visits the entries of the bucket at `cursor` and returns the next cursor, 0 at the end.
    ///
    /// The cursor counts with its bits reversed (Pieter Noordhuis's algorithm in Redis's `dictScan`), so that an entry which is
    /// in the table from the first call to the last is visited at least once, however often the table is resized in between.
    func scan(_ cursor: UInt64, _ body: (EntryPointer) -> Void) -> UInt64 {
        func visit(_ bucket: EntryPointer?) {
            var link = bucket
            while let entry = link {
                link = entry.pointee.next
                body(entry)
            }
        }
        func advance(_ cursor: UInt64, under mask: UInt64) -> UInt64 {
            ((cursor | ~mask).bitReversed &+ 1).bitReversed
        }
        guard let draining else {
            visit(buckets[Int(truncatingIfNeeded: cursor) & mask])
            return advance(cursor, under: UInt64(mask))
        }
        let isGrowing = mask > drainingMask
        let (small, smallMask) = isGrowing ? (draining, drainingMask) : (buckets, mask)
        let (large, largeMask) = isGrowing ? (buckets, mask) : (draining, drainingMask)
        visit(small[Int(truncatingIfNeeded: cursor) & smallMask])
        var cursor = cursor
        repeat {
            visit(large[Int(truncatingIfNeeded: cursor) & largeMask])
            cursor = advance(cursor, under: UInt64(largeMask))
        } while cursor & UInt64(smallMask ^ largeMask) != 0
        return cursor
    }
}

// MARK: - Resizing

extension HashTable {
    private static func makeBuckets(_ size: Int, heap: inout Heap) -> Buckets {
        heap.allocateZeroed(size * MemoryLayout<EntryPointer?>.stride).bindMemory(to: EntryPointer?.self, capacity: size)
    }

    private static func release(_ buckets: Buckets, mask: Int, heap: inout Heap) {
        heap.release(buckets, (mask + 1) * MemoryLayout<EntryPointer?>.stride)
    }

    private mutating func resize(to wanted: Int, heap: inout Heap) {
        var size = Self.minimumSize
        while size < wanted && size < Self.maximumSize { size *= 2 }
        guard size != mask + 1 else { return }
        draining = buckets
        drainingMask = mask
        drained = 0
        buckets = Self.makeBuckets(size, heap: &heap)
        mask = size - 1
        migrate(heap: &heap)
    }

    /// Moves some entries from the old array to the new one. Shrinking to a quarter at an eighth full, or doubling when full, a
    /// table finishes well before it has to be resized again.
    @inline(never)
    private mutating func migrate(heap: inout Heap) {
        guard let draining else { return }
        var moved = 0
        var visited = 0
        while drained <= drainingMask && visited < Self.bucketsPerStep && moved < Self.entriesPerStep {
            var link = draining[drained]
            draining[drained] = nil
            while let entry = link {
                link = entry.pointee.next
                let bucket = Int(entry.pointee.hash) & mask
                entry.pointee.next = buckets[bucket]
                buckets[bucket] = entry
                moved += 1
            }
            drained += 1
            visited += 1
        }
        if drained > drainingMask {
            Self.release(draining, mask: drainingMask, heap: &heap)
            self.draining = nil
        }
    }

    /// Whether entries are still being moved from a former size.
    var isResizing: Bool { draining != nil }
}

extension UInt64 {
    var bitReversed: UInt64 {
        var word = byteSwapped
        word = (word & 0x0F0F_0F0F_0F0F_0F0F) << 4 | (word >> 4) & 0x0F0F_0F0F_0F0F_0F0F
        word = (word & 0x3333_3333_3333_3333) << 2 | (word >> 2) & 0x3333_3333_3333_3333
        return (word & 0x5555_5555_5555_5555) << 1 | (word >> 1) & 0x5555_5555_5555_5555
    }
}
