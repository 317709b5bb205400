/// One contiguous run of bytes in the datapath heap, and one count on the block that holds it.
///
/// A buffer is consumed by the call that takes it: to use it after a push does not compile. Its end gives the count back; the block is free when
/// every slice, segment and device has done so.
///
/// Layout of a block: `headroom` bytes, the `count` bytes of the buffer, `tailroom` bytes.
@frozen
public struct Buffer: ~Copyable {
    @usableFromInline let base: UnsafeMutableRawPointer
    @usableFromInline var offset: UInt32
    @usableFromInline var length: UInt32

    /// Takes over one count on the block at `base`.
    @inlinable
    init(base: UnsafeMutableRawPointer, offset: UInt32, length: UInt32) {
        self.base = base
        self.offset = offset
        self.length = length
    }

    @inlinable
    deinit {
        BlockCount.release(base)
    }

    /// Bytes in the buffer.
    @inlinable
    public var count: Int { Int(length) }

    @inlinable
    public var isEmpty: Bool { length == 0 }

    /// The address of the first byte; valid while the buffer, or a slice of it, lives.
    @inlinable
    public var address: UnsafeMutableRawPointer { base + Int(offset) }

    /// Bytes of the block before the buffer: where a header can be put.
    @inlinable
    public var headroom: Int { Int(offset) }

    /// Bytes of the block behind the buffer.
    @inlinable
    public var tailroom: Int {
        Int(UnsafeMutablePointer<Superblock>(containing: base).pointee.blockByteCount) &- Int(offset) &- Int(length)
    }

    /// Whether no slice, segment or device shares the block.
    @inlinable
    public var isUniquelyReferenced: Bool { BlockCount.entry(of: base).pointee == 1 }

    /// The bytes, for reading.
    @inlinable
    public var span: Span<UInt8> {
        @_lifetime(borrow self)
        get {
            let span = unsafe Span<UInt8>(_unsafeStart: UnsafePointer(address.assumingMemoryBound(to: UInt8.self)), count: count)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// The bytes, for writing. Traps if the block is shared: what a slice or a device reads must not change under it.
    @inlinable
    public var mutableSpan: MutableSpan<UInt8> {
        @_lifetime(&self)
        mutating get {
            precondition(isUniquelyReferenced, "a shared buffer cannot be written: allocate a new one and copy")
            let span = unsafe MutableSpan<UInt8>(_unsafeStart: address.assumingMemoryBound(to: UInt8.self), count: count)
            return unsafe _overrideLifetime(span, mutating: &self)
        }
    }

    /// Calls `body` with the bytes, which are valid during the call.
    @inlinable
    public func withUnsafeBytes<Result, Failure: Error>(_ body: (UnsafeRawBufferPointer) throws(Failure) -> Result) throws(Failure) -> Result {
        try body(UnsafeRawBufferPointer(start: address, count: count))
    }

    /// Calls `body` with the bytes for writing, which are valid during the call. Traps if the block is shared.
    @inlinable
    public mutating func withUnsafeMutableBytes<Result, Failure: Error>(
        _ body: (UnsafeMutableRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        precondition(isUniquelyReferenced, "a shared buffer cannot be written: allocate a new one and copy")
        return try body(UnsafeMutableRawBufferPointer(start: address, count: count))
    }

    /// Drops the first `byteCount` bytes; they become headroom. O(1).
    @inlinable
    public mutating func removeFirst(_ byteCount: Int) {
        precondition(byteCount >= 0 && byteCount <= count, "removeFirst beyond the end of the buffer")
        offset &+= UInt32(truncatingIfNeeded: byteCount)
        length &-= UInt32(truncatingIfNeeded: byteCount)
    }

    /// Drops the last `byteCount` bytes; they become tailroom. O(1).
    @inlinable
    public mutating func removeLast(_ byteCount: Int) {
        precondition(byteCount >= 0 && byteCount <= count, "removeLast beyond the start of the buffer")
        length &-= UInt32(truncatingIfNeeded: byteCount)
    }

    /// Takes `byteCount` bytes of the headroom into the buffer, for a header. O(1).
    @inlinable
    public mutating func extendFirst(_ byteCount: Int) {
        precondition(byteCount >= 0 && byteCount <= headroom, "extendFirst beyond the headroom")
        offset &-= UInt32(truncatingIfNeeded: byteCount)
        length &+= UInt32(truncatingIfNeeded: byteCount)
    }

    /// Takes `byteCount` bytes of the tailroom into the buffer. O(1).
    @inlinable
    public mutating func extendLast(_ byteCount: Int) {
        precondition(byteCount >= 0 && byteCount <= tailroom, "extendLast beyond the tailroom")
        length &+= UInt32(truncatingIfNeeded: byteCount)
    }

    /// A second buffer over the bytes of `range`, without a copy: one more count on the block. O(1).
    @inlinable
    public func slice(_ range: Range<Int>) -> Buffer {
        precondition(range.lowerBound >= 0 && range.upperBound <= count, "slice outside the buffer")
        BlockCount.retain(base)
        return Buffer(
            base: base, offset: offset &+ UInt32(truncatingIfNeeded: range.lowerBound), length: UInt32(truncatingIfNeeded: range.count))
    }

    /// Gives up the buffer without giving back its count: the caller takes that over.
    @inlinable
    consuming func takeOver() -> (base: UnsafeMutableRawPointer, offset: UInt32, length: UInt32) {
        let parts = (base, offset, length)
        discard self
        return parts
    }
}

@available(*, unavailable, message: "a buffer belongs to the thread of its runtime: copy the bytes, or hand them over through a queue")
extension Buffer: Sendable {}
