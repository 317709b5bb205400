import Glibc

/// The allocator of the store: `malloc` with an account of the bytes held, its own overhead included.
///
/// A block is given back with the size that it was asked for with. A failed allocation traps: memory is bounded by
/// `KeyValueStore.Limits.maximumMemory`, not by exhaustion of the machine.
struct Heap: ~Copyable {
    /// Bytes held at present, as malloc rounds them up.
    private(set) var usedBytes = 0
    /// The most bytes ever held.
    private(set) var peakBytes = 0

    /// Returns at least `byteCount` uninitialised bytes, aligned to 16.
    @inline(__always)
    mutating func allocate(_ byteCount: Int) -> UnsafeMutableRawPointer {
        account(for: malloc(byteCount), byteCount)
    }

    /// Returns `byteCount` zero bytes. Large areas come as fresh pages, so that the cost is spread over their first use.
    mutating func allocateZeroed(_ byteCount: Int) -> UnsafeMutableRawPointer {
        account(for: calloc(byteCount, 1), byteCount)
    }

    /// Returns memory for one `value`, which is moved in.
    mutating func box<Value: ~Copyable>(_ value: consuming Value) -> UnsafeMutablePointer<Value> {
        let box = allocate(MemoryLayout<Value>.stride).bindMemory(to: Value.self, capacity: 1)
        box.initialize(to: value)
        return box
    }

    /// Gives back the memory of `box` and returns what was in it.
    mutating func unbox<Value: ~Copyable>(_ box: UnsafeMutablePointer<Value>) -> Value {
        let value = box.move()
        release(box, MemoryLayout<Value>.stride)
        return value
    }

    @inline(__always)
    mutating func release(_ block: UnsafeMutableRawPointer, _ byteCount: Int) {
        usedBytes -= Self.footprint(of: byteCount)
        free(block)
    }

    @inline(__always)
    private mutating func account(for block: UnsafeMutableRawPointer?, _ byteCount: Int) -> UnsafeMutableRawPointer {
        guard let block else { fatalError("the key-value store is out of memory") }
        usedBytes += Self.footprint(of: byteCount)
        if usedBytes > peakBytes { peakBytes = usedBytes }
        return block
    }

    /// What a block occupies: 8 bytes more, in units of 16.
    @inline(__always)
    private static func footprint(of byteCount: Int) -> Int { max(32, (byteCount + 23) & ~15) }
}
