import Glibc

/// Bytes in ordinary memory that grow at their end, contiguous. Memory grows with what is added, by doubling.
public struct GrowingBytes: ~Copyable {
    private var base: UnsafeMutableRawPointer?
    private var capacity = 0
    public private(set) var count = 0

    /// What is kept when the bytes are dropped.
    private static let keptCapacity = 16_384

    public init() {}

    deinit {
        free(base)
    }

    public var isEmpty: Bool { count == 0 }

    /// Valid until the next change.
    public var bytes: UnsafeRawBufferPointer { UnsafeRawBufferPointer(start: base, count: count) }

    /// Room for `byteCount` more bytes behind the present ones; `extend` says how many were written.
    mutating func reserve(_ byteCount: Int) -> UnsafeMutableRawPointer {
        if count + byteCount > capacity {
            let grown = max(count + byteCount, 2 * capacity, 512)
            guard let moved = realloc(base, grown) else { fatalError("the key-value store is out of memory") }
            base = moved
            capacity = grown
        }
        return base.unsafelyUnwrapped + count
    }

    mutating func extend(_ byteCount: Int) { count += byteCount }

    public mutating func append(_ bytes: UnsafeRawBufferPointer) {
        guard let source = bytes.baseAddress, bytes.count > 0 else { return }
        reserve(bytes.count).copyMemory(from: source, byteCount: bytes.count)
        extend(bytes.count)
    }

    mutating func append(word value: UInt32) {
        reserve(4).storeBytes(of: value, as: UInt32.self)
        extend(4)
    }

    mutating func set(word value: UInt32, at offset: Int) {
        precondition(offset >= 0 && offset + 4 <= count)
        base.unsafelyUnwrapped.storeBytes(of: value, toByteOffset: offset, as: UInt32.self)
    }

    /// Drops all bytes; memory is kept for the next time unless it is much.
    public mutating func removeAll() {
        count = 0
        guard capacity > GrowingBytes.keptCapacity else { return }
        free(base)
        base = nil
        capacity = 0
    }
}

extension UnsafeMutablePointer<GrowingBytes> {
    /// An output that writes behind the present bytes, up to the limit of replies that wait. Afterwards `finish` has to be called with it.
    func makeOutput(usesRESP3: Bool) -> ReplyOutput {
        let room = pointee.reserve(ReplyOutput.minimumRoom)
        var output = ReplyOutput(
            room: UnsafeMutableRawBufferPointer(start: room, count: ReplyOutput.minimumRoom), highWaterMark: .max,
            context: UnsafeMutableRawPointer(self)
        ) { context, written, capacity in
            let bytes = context.unsafelyUnwrapped.assumingMemoryBound(to: GrowingBytes.self)
            bytes.pointee.extend(written)
            guard bytes.pointee.count + capacity.pointee <= KeyValueStore.maximumGatheredReplyLength else { return nil }
            capacity.pointee = max(capacity.pointee, ReplyOutput.minimumRoom, bytes.pointee.count)
            return bytes.pointee.reserve(capacity.pointee)
        }
        output.usesRESP3 = usesRESP3
        return output
    }

    func finish(_ output: borrowing ReplyOutput) {
        if !output.isRefused { pointee.extend(output.written) }
    }
}
