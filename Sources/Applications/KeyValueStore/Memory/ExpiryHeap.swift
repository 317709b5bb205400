/// The keys that expire, ordered by time: a binary min-heap in which every entry knows its own slot.
///
/// Setting, changing and clearing a deadline take O(log n), finding the earliest takes constant time. No deinitialiser:
/// `destroy` frees it.
struct ExpiryHeap: ~Copyable {
    struct Deadline {
        /// Milliseconds since the Unix epoch. The key is gone once the clock has passed this.
        var time: Int64
        var entry: EntryPointer
    }

    private(set) var count = 0
    private var capacity = 0
    private var deadlines: UnsafeMutablePointer<Deadline>?

    consuming func destroy(heap: inout Heap) {
        if let deadlines { heap.release(deadlines, capacity * MemoryLayout<Deadline>.stride) }
    }

    var earliest: Deadline? { count > 0 ? deadlines![0] : nil }

    /// The deadline of `entry`, which has one.
    @inline(__always)
    func time(of entry: EntryPointer) -> Int64 { deadlines![Int(entry.pointee.expirySlot) - 1].time }

    /// Gives `entry` the deadline `time`, in place of the one it may have.
    mutating func set(_ entry: EntryPointer, time: Int64, heap: inout Heap) {
        if entry.pointee.expirySlot != 0 {
            let slot = Int(entry.pointee.expirySlot) - 1
            sift(Deadline(time: time, entry: entry), from: slot)
            return
        }
        if count == capacity { resize(to: max(16, capacity * 2), heap: &heap) }
        count += 1
        sift(Deadline(time: time, entry: entry), from: count - 1)
    }

    /// Takes the deadline of `entry` away, if it has one.
    mutating func clear(_ entry: EntryPointer, heap: inout Heap) {
        guard entry.pointee.expirySlot != 0, let deadlines else { return }
        let slot = Int(entry.pointee.expirySlot) - 1
        entry.pointee.expirySlot = 0
        count -= 1
        if slot != count { sift(deadlines[count], from: slot) }
        if capacity > 16 && count * 4 <= capacity { resize(to: capacity / 2, heap: &heap) }
    }

    /// Places `deadline` at `slot` or, to keep the order, above or below it.
    private func sift(_ deadline: Deadline, from start: Int) {
        guard let deadlines else { return }
        func place(_ deadline: Deadline, at slot: Int) {
            deadlines[slot] = deadline
            deadline.entry.pointee.expirySlot = UInt32(slot + 1)
        }
        var slot = start
        while slot > 0 {
            let parent = (slot - 1) / 2
            guard deadline.time < deadlines[parent].time else { break }
            place(deadlines[parent], at: slot)
            slot = parent
        }
        while true {
            var child = 2 * slot + 1
            guard child < count else { break }
            if child + 1 < count && deadlines[child + 1].time < deadlines[child].time { child += 1 }
            guard deadlines[child].time < deadline.time else { break }
            place(deadlines[child], at: slot)
            slot = child
        }
        place(deadline, at: slot)
    }

    private mutating func resize(to newCapacity: Int, heap: inout Heap) {
        let fresh = heap.allocate(newCapacity * MemoryLayout<Deadline>.stride)
            .bindMemory(to: Deadline.self, capacity: newCapacity)
        if let deadlines {
            fresh.initialize(from: deadlines, count: count)
            heap.release(deadlines, capacity * MemoryLayout<Deadline>.stride)
        }
        deadlines = fresh
        capacity = newCapacity
    }
}
