import Glibc

/// One segment of a scatter-gather array, in a slab. The first descriptor of an array stands for the whole array: queues chain arrays through it.
@frozen
public struct SegmentDescriptor {
    @usableFromInline var base: UnsafeMutableRawPointer
    @usableFromInline var offset: UInt32
    @usableFromInline var length: UInt32
    /// The next segment of the same array; in a free descriptor, the next free one.
    @usableFromInline var next: UnsafeMutablePointer<SegmentDescriptor>?
    /// In a first descriptor, the next array of the queue that holds this one.
    public var nextArray: UnsafeMutablePointer<SegmentDescriptor>?
    /// In a first descriptor: bytes in all segments.
    @usableFromInline var byteCount: UInt32
    /// In a first descriptor: how many segments.
    @usableFromInline var segmentCount: UInt32
    /// In a first descriptor: the operation that completes when a queue is done with the array; 0 for none.
    public var operation: UInt32
    /// In a first descriptor: where in its block, in front of the bytes, the header lies that tells of them, with two flags in the topmost bits; 0 for none.
    /// Whoever writes into the headroom of an array has taken it over, and asks no more.
    @usableFromInline var information: UInt32

    @inlinable
    init(base: UnsafeMutableRawPointer, offset: UInt32, length: UInt32) {
        self.base = base
        self.offset = offset
        self.length = length
        next = nil
        nextArray = nil
        byteCount = length
        segmentCount = 1
        operation = 0
        information = 0
    }
}

/// What a queue takes and gives: up to 16 segments, in order.
///
/// A handle of one word on descriptors in the heap's slab. It owns one count on the block of every segment; its end gives them back.
@frozen
public struct ScatterGatherArray: ~Copyable {
    @usableFromInline let head: UnsafeMutablePointer<SegmentDescriptor>

    /// The most segments of one array.
    @inlinable
    public static var maximumSegments: Int { 16 }

    /// Takes over an array that `takeOver` gave up.
    @inlinable
    public init(unsafelyTakingOver head: UnsafeMutablePointer<SegmentDescriptor>) {
        self.head = head
    }

    /// An array of one segment. O(1).
    /// - Throws: `ENOBUFS` when `MemoryConfiguration.maximumSegments` are alive.
    @inlinable
    public init(_ buffer: consuming Buffer) throws(DemikernelError) {
        guard let descriptor = ScatterGatherArray.makeDescriptor(buffer) else {
            throw DemikernelError(ENOBUFS, .allocate, "all segment descriptors are in use: release arrays or raise maximumSegments")
        }
        head = descriptor
    }

    @inlinable
    deinit {
        ScatterGatherArray.release(head)
    }

    /// How many segments.
    @inlinable
    public var segmentCount: Int { Int(head.pointee.segmentCount) }

    /// Bytes in all segments together.
    @inlinable
    public var byteCount: Int { Int(head.pointee.byteCount) }

    /// Adds a segment at the end. O(number of segments).
    /// - Throws: `EMSGSIZE` at 16 segments, `ENOBUFS` when all segment descriptors are in use; the array is unchanged and the buffer is released.
    @inlinable
    public mutating func append(_ buffer: consuming Buffer) throws(DemikernelError) {
        guard segmentCount < ScatterGatherArray.maximumSegments else {
            throw DemikernelError(EMSGSIZE, .allocate, "an array has at most 16 segments")
        }
        let length = buffer.length
        guard let descriptor = ScatterGatherArray.makeDescriptor(buffer) else {
            throw DemikernelError(ENOBUFS, .allocate, "all segment descriptors are in use: release arrays or raise maximumSegments")
        }
        var last = head
        while let next = last.pointee.next { last = next }
        last.pointee.next = descriptor
        head.pointee.segmentCount &+= 1
        head.pointee.byteCount &+= length
    }

    /// The bytes of one segment. O(index).
    @inlinable
    public subscript(segment index: Int) -> Span<UInt8> {
        @_lifetime(borrow self)
        get {
            let segment = descriptor(at: index)
            let span = unsafe Span<UInt8>(
                _unsafeStart: UnsafePointer((segment.pointee.base + Int(segment.pointee.offset)).assumingMemoryBound(to: UInt8.self)),
                count: Int(segment.pointee.length))
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// Calls `body` with the bytes of one segment, which are valid during the call. O(index).
    @inlinable
    public func withUnsafeBytes<Result, Failure: Error>(
        ofSegment index: Int, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        let segment = descriptor(at: index)
        return try body(UnsafeRawBufferPointer(start: segment.pointee.base + Int(segment.pointee.offset), count: Int(segment.pointee.length)))
    }

    /// A second buffer over the bytes of one segment, without a copy. O(index).
    @inlinable
    public func buffer(at index: Int) -> Buffer {
        let segment = descriptor(at: index)
        BlockCount.retain(segment.pointee.base)
        return Buffer(base: segment.pointee.base, offset: segment.pointee.offset, length: segment.pointee.length)
    }

    /// The first segment, which is the only one of most arrays, as a buffer; the others are released. O(number of segments).
    @inlinable
    public consuming func intoFirstBuffer() -> Buffer {
        let head = takeOver()
        // The descriptor's count on the block becomes the buffer's.
        let buffer = Buffer(base: head.pointee.base, offset: head.pointee.offset, length: head.pointee.length)
        if let rest = head.pointee.next { ScatterGatherArray.release(rest) }
        ScatterGatherArray.freeDescriptor(head)
        return buffer
    }

    /// Calls `body` with where the header lies that tells of the array's bytes (`attachInformation`); nil for none. It is valid during the call. O(1).
    public func withInformation<Result>(_ body: ((header: UnsafeRawPointer, flags: UInt32)?) -> Result) -> Result {
        let word = head.pointee.information
        return body(word == 0 ? nil : (UnsafeRawPointer(head.pointee.base) + Int(word & 0x3fff_ffff), word & 0xc000_0000))
    }

    /// Copies the array's bytes into `destination`, as many as fit.
    /// - Returns: how many bytes were copied.
    public func copyBytes(to destination: UnsafeMutableRawBufferPointer) -> Int {
        var copied = 0
        var segment: UnsafeMutablePointer<SegmentDescriptor>? = head
        while let current = segment, copied < destination.count {
            let count = min(Int(current.pointee.length), destination.count - copied)
            if count > 0 { (destination.baseAddress! + copied).copyMemory(from: current.pointee.base + Int(current.pointee.offset), byteCount: count) }
            copied += count
            segment = current.pointee.next
        }
        return copied
    }

    @inlinable
    func descriptor(at index: Int) -> UnsafeMutablePointer<SegmentDescriptor> {
        precondition(index >= 0 && index < segmentCount, "no such segment in the array")
        var segment = head
        for _ in 0..<index { segment = segment.pointee.next.unsafelyUnwrapped }
        return segment
    }

    /// Gives up the array without releasing it: the caller, a queue, takes it over.
    @inlinable
    public consuming func takeOver() -> UnsafeMutablePointer<SegmentDescriptor> {
        let head = head
        discard self
        return head
    }
}

@available(*, unavailable, message: "an array belongs to the thread of its runtime: hand it over through a queue")
extension ScatterGatherArray: Sendable {}

// MARK: - Descriptors

extension ScatterGatherArray {
    /// A first descriptor that takes over the buffer, or nil (and the buffer is released) when the slab is used up.
    @inlinable
    static func makeDescriptor(_ buffer: consuming Buffer) -> UnsafeMutablePointer<SegmentDescriptor>? {
        let heap = UnsafeMutablePointer<Superblock>(containing: buffer.base).pointee.heap
        let descriptor: UnsafeMutablePointer<SegmentDescriptor>
        if let free = heap.pointee.freeSegments {
            descriptor = free
            heap.pointee.freeSegments = free.pointee.next
        } else {
            descriptor = heap.pointee.uncarvedSegments.unsafelyUnwrapped
            if descriptor == heap.pointee.endOfSegments.unsafelyUnwrapped { return nil }
            heap.pointee.uncarvedSegments = descriptor + 1
        }
        heap.pointee.liveSegments &+= 1
        let (base, offset, length) = buffer.takeOver()
        descriptor.pointee = SegmentDescriptor(base: base, offset: offset, length: length)
        return descriptor
    }

    /// The same for a buffer that is known to be of `heap`.
    @inlinable
    @inline(__always)
    static func makeDescriptor(_ buffer: consuming Buffer, in heap: UnsafeMutablePointer<HeapState>) -> UnsafeMutablePointer<SegmentDescriptor>? {
        guard let descriptor = heap.pointee.freeSegments else { return makeDescriptor(buffer) }
        heap.pointee.freeSegments = descriptor.pointee.next
        heap.pointee.liveSegments &+= 1
        let (base, offset, length) = buffer.takeOver()
        descriptor.pointee = SegmentDescriptor(base: base, offset: offset, length: length)
        return descriptor
    }

    /// Releases a whole array that was taken over.
    @inlinable
    static func release(_ head: UnsafeMutablePointer<SegmentDescriptor>) {
        var segment: UnsafeMutablePointer<SegmentDescriptor>? = head
        while let current = segment {
            segment = current.pointee.next
            releaseDescriptor(current)
        }
    }

    @inlinable
    static func releaseDescriptor(_ descriptor: UnsafeMutablePointer<SegmentDescriptor>) {
        let base = descriptor.pointee.base
        freeDescriptor(descriptor)
        BlockCount.release(base)
    }

    /// Frees a descriptor, but not its count on the block.
    @inlinable
    @inline(__always)
    static func freeDescriptor(_ descriptor: UnsafeMutablePointer<SegmentDescriptor>) {
        let heap = UnsafeMutablePointer<Superblock>(containing: descriptor.pointee.base).pointee.heap
        descriptor.pointee.next = heap.pointee.freeSegments
        heap.pointee.freeSegments = descriptor
        heap.pointee.liveSegments &-= 1
    }
}

/// How a queue reads an array that it has taken over.
extension UnsafeMutablePointer<SegmentDescriptor> {
    /// Where the segment's bytes start.
    @inlinable
    public var segmentAddress: UnsafeMutableRawPointer { pointee.base + Int(pointee.offset) }

    /// Bytes of the segment.
    @inlinable
    public var segmentByteCount: Int { Int(pointee.length) }

    /// The next segment of the same array.
    @inlinable
    public var nextSegment: UnsafeMutablePointer<SegmentDescriptor>? { pointee.next }

    /// In a first descriptor: bytes of the whole array.
    @inlinable
    public var arrayByteCount: Int { Int(pointee.byteCount) }

    /// In a first descriptor: segments of the array.
    @inlinable
    public var arraySegmentCount: Int { Int(pointee.segmentCount) }

    /// Says where the header lies that tells of the array's bytes: `distance` bytes before the first one, in the same block.
    /// - Parameter flags: what the reader has to know besides, in the two topmost bits; not 0 where the header may begin the block.
    public func attachInformation(_ distance: Int, flags: UInt32) {
        pointee.information = pointee.offset &- UInt32(truncatingIfNeeded: distance) | flags
    }

    /// Takes `attachInformation` back: what is received is told anew.
    @inlinable
    @inline(__always)
    public func detachInformation() { pointee.information = 0 }

    /// Releases the whole array.
    @inlinable
    public func releaseArray() {
        ScatterGatherArray.release(self)
    }
}

/// How a device tells whose an array is.
extension UnsafeMutablePointer<SegmentDescriptor> {
    /// The heap of the segment's block.
    @inlinable
    public var segmentHeap: DatapathHeap { DatapathHeap(state: UnsafeMutablePointer<Superblock>(containing: pointee.base).pointee.heap) }
}

extension DatapathHeap: Equatable {
    /// Whether both are handles of one heap.
    @inlinable
    public static func == (left: DatapathHeap, right: DatapathHeap) -> Bool { left.state == right.state }
}

extension UnsafeMutablePointer<SegmentDescriptor> {
    /// Cuts an array that exceeds a pop's limits: this one keeps what fits, the rest is a new array. Where no descriptor is left for a cut inside a
    /// segment, the whole segments in front of it are kept.
    /// - Returns: the rest; nil when all fits, or when there is nothing in front of the segment that would have to be cut: then nothing has changed.
    public func splitArray(maximumSegments: Int, maximumBytes: Int) -> UnsafeMutablePointer<SegmentDescriptor>? {
        guard arraySegmentCount > maximumSegments || arrayByteCount > maximumBytes else { return nil }
        var previous = self
        var last = self
        var segments = 1
        var bytes = segmentByteCount
        while segments < maximumSegments, bytes < maximumBytes, let next = last.pointee.next {
            previous = last
            last = next
            segments += 1
            bytes += next.segmentByteCount
        }
        let rest: UnsafeMutablePointer<SegmentDescriptor>
        var restSegments = pointee.segmentCount - UInt32(segments)
        if bytes > maximumBytes {
            // The limit lies inside `last`: a second descriptor takes its tail, with a count of its own on the block.
            let excess = UInt32(bytes - maximumBytes)
            BlockCount.retain(last.pointee.base)
            let tail = Buffer(base: last.pointee.base, offset: last.pointee.offset + last.pointee.length - excess, length: excess)
            if let descriptor = ScatterGatherArray.makeDescriptor(tail) {
                // It lies in the same block where there is one.
                if last == self { descriptor.pointee.information = pointee.information }
                last.pointee.length -= excess
                bytes = maximumBytes
                rest = descriptor
                rest.pointee.next = last.pointee.next
            } else {
                bytes -= last.segmentByteCount
                guard bytes > 0 else { return nil }
                segments -= 1
                rest = last
                last = previous
            }
            restSegments += 1
        } else {
            rest = last.pointee.next.unsafelyUnwrapped
        }
        rest.pointee.segmentCount = restSegments
        rest.pointee.byteCount = pointee.byteCount - UInt32(bytes)
        rest.pointee.nextArray = nil
        rest.pointee.operation = 0
        last.pointee.next = nil
        pointee.segmentCount = UInt32(segments)
        pointee.byteCount = UInt32(bytes)
        return rest
    }
}

extension DatapathHeap {
    /// Whether one more array or segment can be made.
    @inlinable
    public var hasFreeSegment: Bool {
        state.pointee.freeSegments != nil || state.pointee.uncarvedSegments.unsafelyUnwrapped != state.pointee.endOfSegments.unsafelyUnwrapped
    }

    /// Maps the descriptors' slab; pages are backed on first use.
    func mapSegments(_ maximum: Int) throws(DemikernelError) {
        let byteCount = maximum * MemoryLayout<SegmentDescriptor>.stride
        guard let mapping = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | Int32(MAP_NORESERVE), -1, 0),
            mapping != MAP_FAILED
        else {
            throw DemikernelError(ENOMEM, .initialize, "the segment descriptors could not be mapped: configure fewer")
        }
        state.pointee.cold.segmentMapping = mapping
        state.pointee.cold.segmentMappingByteCount = byteCount
        state.pointee.uncarvedSegments = mapping.bindMemory(to: SegmentDescriptor.self, capacity: maximum)
        state.pointee.endOfSegments = state.pointee.uncarvedSegments.unsafelyUnwrapped + maximum
    }
}
