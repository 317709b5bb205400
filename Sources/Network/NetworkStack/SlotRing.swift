import DatapathMemory

/// Slots in a ring, first in, first out. Each slot stands in it at most once, so there is always room.
struct SlotRing {
    private let entries: UnsafeMutablePointer<UInt32>
    private let mask: Int
    private var head = 0
    private var tail = 0

    /// - Parameter slotCount: how many slots there are.
    init(slotCount: Int) throws(DemikernelError) {
        var count = 16
        while count < slotCount { count <<= 1 }
        entries = try mapTable(UInt32.self, count: count)
        mask = count - 1
    }

    func deallocate() {
        unmapTable(entries, count: mask + 1)
    }

    @inline(__always)
    var isEmpty: Bool { head == tail }

    @inline(__always)
    mutating func append(_ slot: UInt32) {
        entries[tail & mask] = slot
        tail &+= 1
    }

    /// The slot that has waited longest; 0 for none.
    @inline(__always)
    mutating func removeFirst() -> UInt32 {
        if head == tail { return 0 }
        let slot = entries[head & mask]
        head &+= 1
        return slot
    }
}
