import Glibc

/// Bytes that are appended at the end and taken from the front, in one block that grows as needed. The owner bounds it and calls `deallocate`.
struct ByteQueue {
    private(set) var base: UnsafeMutableRawPointer
    private(set) var capacity: Int
    private(set) var start = 0
    private(set) var end = 0

    private static let initialCapacity = 16 * 1024

    init() {
        capacity = Self.initialCapacity
        base = .allocate(byteCount: capacity, alignment: 16)
    }

    func deallocate() { base.deallocate() }

    var count: Int { end - start }
    var isEmpty: Bool { start == end }
    var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base + start, count: end - start) }
    /// Room behind the bytes; `append` says how much of it was filled.
    var room: UnsafeMutableRawBufferPointer { UnsafeMutableRawBufferPointer(start: base + end, count: capacity - end) }

    mutating func append(_ count: Int) { end += count }

    mutating func removeFirst(_ count: Int) {
        start += count
        guard start == end else { return }
        start = 0
        end = 0
        // What a single large message needed is not kept for the small ones after it.
        if capacity > 1 << 20 {
            base.deallocate()
            capacity = Self.initialCapacity
            base = .allocate(byteCount: capacity, alignment: 16)
        }
    }

    /// Sees to at least `count` bytes of room: moves the bytes to the front, or takes a larger block. Pointers into the queue are void then.
    mutating func reserve(_ count: Int) {
        guard capacity - end < count else { return }
        let live = end - start
        if capacity - live >= count && live <= capacity / 2 {
            memmove(base, base + start, live)
        } else {
            let larger = max(2 * capacity, live + count)
            let moved = UnsafeMutableRawPointer.allocate(byteCount: larger, alignment: 16)
            memcpy(moved, base + start, live)
            base.deallocate()
            base = moved
            capacity = larger
        }
        start = 0
        end = live
    }
}
