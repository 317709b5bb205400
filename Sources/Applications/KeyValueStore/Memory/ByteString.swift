import Glibc

/// A pointer to an owned, growable string of bytes: the value of a key or of a hash field.
///
/// One block: the count and the capacity (32 bits each), then the bytes. Whoever holds the pointer owns the block and gives it
/// back with `destroy`.
struct ByteString {
    private(set) var block: UnsafeMutableRawPointer

    private static let headerSize = 8

    init(block: UnsafeMutableRawPointer) { self.block = block }

    /// Copies `slice`.
    init(_ slice: ByteSlice, heap: inout Heap) {
        self.init(capacity: max(slice.count, 16), heap: &heap)
        replaceBytes(with: slice)
    }

    private init(capacity: Int, heap: inout Heap) {
        block = heap.allocate(Self.headerSize + capacity)
        block.storeBytes(of: 0, as: UInt32.self)
        block.storeBytes(of: UInt32(capacity), toByteOffset: 4, as: UInt32.self)
    }

    var count: Int { Int(block.load(as: UInt32.self)) }
    private var capacity: Int { Int(block.load(fromByteOffset: 4, as: UInt32.self)) }
    private var bytes: UnsafeMutableRawPointer { block + Self.headerSize }

    /// The bytes, valid until the next change.
    @inline(__always)
    var slice: ByteSlice { ByteSlice(start: block + Self.headerSize, count: count) }

    func destroy(heap: inout Heap) { heap.release(block, Self.headerSize + capacity) }

    /// Replaces the bytes, in place unless they do not fit or would leave most of the block unused.
    @inline(__always)
    mutating func assign(_ slice: ByteSlice, heap: inout Heap) {
        if slice.count > capacity || capacity > 2 * slice.count + 64 {
            let fresh = ByteString(slice, heap: &heap)
            destroy(heap: &heap)
            self = fresh
        } else {
            replaceBytes(with: slice)
        }
    }

    /// Appends in amortised constant time per byte. The caller has checked that the sum stays within the bulk limit.
    mutating func append(_ slice: ByteSlice, heap: inout Heap) {
        let total = count + slice.count
        if total > capacity {
            var grown = ByteString(capacity: total + min(total, 1 << 20), heap: &heap)
            grown.replaceBytes(with: self.slice)
            destroy(heap: &heap)
            self = grown
        }
        memcpy(bytes + count, slice.start, slice.count)
        block.storeBytes(of: UInt32(total), as: UInt32.self)
    }

    private mutating func replaceBytes(with slice: ByteSlice) {
        memcpy(bytes, slice.start, slice.count)
        block.storeBytes(of: UInt32(slice.count), as: UInt32.self)
    }
}
