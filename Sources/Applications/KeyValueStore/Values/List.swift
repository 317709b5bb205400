import Glibc

/// A list of byte strings that grows and shrinks at both ends, packed into linked chunks.
///
/// An element stands in a chunk as its length (32 bits), its bytes, and its length again, so that it can be taken from either
/// end. Pushing and popping take constant time and allocate once per chunk; an index is found chunk by chunk. No deinitialiser:
/// `destroy` frees it.
struct List: ~Copyable {
    /// The head of a block; elements occupy the bytes from `begin` to `end` after it.
    private struct Chunk {
        var next: UnsafeMutablePointer<Chunk>?
        var previous: UnsafeMutablePointer<Chunk>?
        var begin: Int
        var end: Int
        let capacity: Int
        var count: Int
    }
    private typealias ChunkPointer = UnsafeMutablePointer<Chunk>

    enum End { case front, back }

    private(set) var count = 0
    private var first: ChunkPointer?
    private var last: ChunkPointer?

    private static let frame = 2 * MemoryLayout<UInt32>.size
    private static let smallestChunk = 128
    private static let largestChunk = 8 << 10

    consuming func destroy(heap: inout Heap) {
        while let chunk = first {
            first = chunk.pointee.next
            Self.release(chunk, heap: &heap)
        }
    }

    /// Adds a copy of `slice` at `end`.
    mutating func push(_ slice: ByteSlice, at end: End, heap: inout Heap) {
        let size = slice.count + Self.frame
        let chunk = chunkWithRoom(for: size, at: end, heap: &heap)
        let offset: Int
        switch end {
        case .front:
            chunk.pointee.begin -= size
            offset = chunk.pointee.begin
        case .back:
            offset = chunk.pointee.end
            chunk.pointee.end += size
        }
        let element = Self.bytes(of: chunk) + offset
        element.storeBytes(of: UInt32(slice.count), as: UInt32.self)
        memcpy(element + 4, slice.start, slice.count)
        element.storeBytes(of: UInt32(slice.count), toByteOffset: slice.count + 4, as: UInt32.self)
        chunk.pointee.count += 1
        count += 1
    }

    /// The element at `end` of a list that is not empty, valid until the next change.
    func peek(at end: End) -> ByteSlice {
        switch end {
        case .front:
            return Self.element(of: first!, at: first!.pointee.begin)
        case .back:
            let bytes = Self.bytes(of: last!)
            let length = Int(bytes.loadUnaligned(fromByteOffset: last!.pointee.end - 4, as: UInt32.self))
            return Self.element(of: last!, at: last!.pointee.end - length - Self.frame)
        }
    }

    /// Removes the element at `end` of a list that is not empty.
    mutating func pop(at end: End, heap: inout Heap) {
        let size = peek(at: end).count + Self.frame
        let chunk = end == .front ? first! : last!
        switch end {
        case .front: chunk.pointee.begin += size
        case .back: chunk.pointee.end -= size
        }
        chunk.pointee.count -= 1
        count -= 1
        if chunk.pointee.count == 0 { remove(chunk, heap: &heap) }
    }

    /// Calls `body` with `length` elements from `start` on, all within the list.
    func forEach(from start: Int, count length: Int, _ body: (ByteSlice) -> Void) {
        guard length > 0, var chunk = first else { return }
        var skipped = start
        if start < count / 2 {
            while skipped >= chunk.pointee.count {
                skipped -= chunk.pointee.count
                chunk = chunk.pointee.next!
            }
        } else {
            chunk = last!
            var following = count - chunk.pointee.count
            while following > start {
                chunk = chunk.pointee.previous!
                following -= chunk.pointee.count
            }
            skipped = start - following
        }
        var offset = chunk.pointee.begin
        for _ in 0..<skipped { offset += Self.element(of: chunk, at: offset).count + Self.frame }
        var remaining = length
        while true {
            while offset < chunk.pointee.end && remaining > 0 {
                let element = Self.element(of: chunk, at: offset)
                body(element)
                offset += element.count + Self.frame
                remaining -= 1
            }
            guard remaining > 0, let next = chunk.pointee.next else { return }
            chunk = next
            offset = chunk.pointee.begin
        }
    }

    private static func release(_ chunk: ChunkPointer, heap: inout Heap) {
        heap.release(chunk, MemoryLayout<Chunk>.stride + chunk.pointee.capacity)
    }

    private static func bytes(of chunk: ChunkPointer) -> UnsafeMutableRawPointer {
        UnsafeMutableRawPointer(chunk + 1)
    }

    private static func element(of chunk: ChunkPointer, at offset: Int) -> ByteSlice {
        let element = bytes(of: chunk) + offset
        return ByteSlice(start: element + 4, count: Int(element.loadUnaligned(as: UInt32.self)))
    }

    private mutating func chunkWithRoom(for size: Int, at end: End, heap: inout Heap) -> ChunkPointer {
        let neighbour = end == .front ? first : last
        if let neighbour {
            let room = end == .front ? neighbour.pointee.begin : neighbour.pointee.capacity - neighbour.pointee.end
            if room >= size { return neighbour }
        }
        // Chunks double in size, so that a short list costs little and a long one few allocations.
        let doubled = min(Self.largestChunk, 2 * (neighbour?.pointee.capacity ?? Self.smallestChunk / 2))
        let capacity = max(doubled, size)
        let position = end == .front ? capacity : 0
        let chunk = heap.allocate(MemoryLayout<Chunk>.stride + capacity).bindMemory(to: Chunk.self, capacity: 1)
        chunk.initialize(
            to: Chunk(
                next: end == .front ? first : nil, previous: end == .back ? last : nil,
                begin: position, end: position, capacity: capacity, count: 0))
        switch end {
        case .front:
            first?.pointee.previous = chunk
            first = chunk
            if last == nil { last = chunk }
        case .back:
            last?.pointee.next = chunk
            last = chunk
            if first == nil { first = chunk }
        }
        return chunk
    }

    private mutating func remove(_ chunk: ChunkPointer, heap: inout Heap) {
        let (next, previous) = (chunk.pointee.next, chunk.pointee.previous)
        if let previous { previous.pointee.next = next } else { first = next }
        if let next { next.pointee.previous = previous } else { last = previous }
        Self.release(chunk, heap: &heap)
    }
}
