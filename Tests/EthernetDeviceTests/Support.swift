import DatapathMemory
import Testing

@testable import EthernetDevice

/// Runs `body` on a heap of its own and expects that nothing is alive when it returns.
func withHeap(
    maximumSegments: Int = 1 << 14, sourceLocation: SourceLocation = #_sourceLocation, _ body: (DatapathHeap) throws -> Void
) throws {
    let configuration = MemoryConfiguration(arenaByteCount: 4 << 20, commitsAtStart: false, maximumSegments: maximumSegments)
    let heap = try DatapathHeap(configuration)
    defer { heap.close() }
    try body(heap)
    expectNothingAlive(in: heap, sourceLocation: sourceLocation)
}

func expectNothingAlive(in heap: DatapathHeap, sourceLocation: SourceLocation = #_sourceLocation) {
    let statistics = heap.statistics
    #expect(statistics.liveBlocks == 0, sourceLocation: sourceLocation)
    #expect(statistics.liveSegments == 0, sourceLocation: sourceLocation)
    #expect(heap.usedByteCount == 0, sourceLocation: sourceLocation)
}

/// Runs `body` on the two ends of a link, both attached to `heap`, and closes them.
func withPair(_ heap: DatapathHeap, capacity: Int = 64, mtu: Int = 1500, _ body: (EthernetDevice, EthernetDevice) throws -> Void) throws {
    let (first, second) = MemoryEthernetPair.make(capacity: capacity, mtu: mtu)
    defer {
        first.close()
        second.close()
    }
    try first.attach(heap)
    try second.attach(heap)
    try body(first, second)
}

/// A frame of these bytes, cut into segments of these lengths; the last takes the rest. The heap has room for it.
func makeFrame(_ heap: DatapathHeap, _ bytes: [UInt8], segments: [Int] = []) -> Frame {
    var frame: Frame?
    var start = 0
    for length in segments + [bytes.count - segments.reduce(0, +)] {
        let segment = Frame.makeSegment(heap, byteCount: length, priority: .application)!
        bytes[start..<start + length].withUnsafeBytes { part in
            if length > 0 { segment.segmentAddress.copyMemory(from: part.baseAddress!, byteCount: length) }
        }
        start += length
        if let frame { frame.append(segment, behind: frame.lastSegment) } else { frame = segment }
    }
    return frame!
}

/// `count` bytes that tell their place, and in the first ones the number.
func pattern(_ number: Int, count: Int = 60) -> [UInt8] {
    var bytes = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ number) }
    for index in 0..<min(4, count) { bytes[index] = UInt8(truncatingIfNeeded: number >> (8 * index)) }
    return bytes
}

/// What `pattern` put into the first bytes.
func number(of bytes: [UInt8]) -> Int {
    (0..<4).reduce(0) { $0 | Int(bytes[$1]) << (8 * $1) }
}

func bytes(of frame: Frame) -> [UInt8] {
    var bytes: [UInt8] = []
    var segment: Frame? = frame
    while let current = segment {
        bytes += UnsafeRawBufferPointer(start: current.segmentAddress, count: current.segmentByteCount)
        segment = current.nextSegment
    }
    return bytes
}

extension EthernetDevice {
    /// Transmits a batch; releases and counts what was not taken.
    /// - Returns: how many were taken.
    @discardableResult
    func send(_ frames: [Frame]) -> Int {
        var frames = frames
        let taken = frames.withUnsafeMutableBufferPointer { batch in batch.baseAddress.map { transmit($0, count: batch.count) } ?? 0 }
        for frame in frames.dropFirst(taken) { frame.releaseArray() }
        return taken
    }

    /// What one call of `receive` gives; the caller owns the frames.
    func take(_ capacity: Int = 64) -> [Frame] {
        [Frame](unsafeUninitializedCapacity: capacity) { $1 = receive($0.baseAddress!, capacity: capacity) }
    }

    /// The bytes of what one call of `receive` gives, released.
    func collect(_ capacity: Int = 64) -> [[UInt8]] {
        take(capacity).map { frame in
            defer { frame.releaseArray() }
            return bytes(of: frame)
        }
    }
}

/// A clock that a test moves by hand.
final class ManualClock {
    let time = UnsafeMutablePointer<UInt64>.allocate(capacity: 1)

    init(_ start: UInt64) { time.initialize(to: start) }

    deinit { time.deallocate() }

    var clock: CaptureClock {
        CaptureClock(context: UnsafeMutableRawPointer(time)) { $0!.assumingMemoryBound(to: UInt64.self).pointee }
    }
}
