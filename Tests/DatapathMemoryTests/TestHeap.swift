import Glibc
import Testing

@testable import DatapathMemory

/// SplitMix64: the same seed gives the same run.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}

/// A buffer that collections can hold; releasing the object releases the buffer.
final class HeldBuffer {
    var buffer: Buffer

    init(_ buffer: consuming Buffer) { self.buffer = buffer }

    convenience init(
        _ heap: DatapathHeap, _ byteCount: Int, headroom: Int = 0, priority: AllocationPriority = .application
    ) throws(DemikernelError) {
        self.init(try heap.allocate(byteCount, headroom: headroom, priority: priority))
    }

    /// Where the block starts, by the public arithmetic: headroom before the first byte.
    var blockAddress: UInt { UInt(bitPattern: buffer.address) - UInt(buffer.headroom) }

    var blockByteCount: Int { buffer.headroom + buffer.count + buffer.tailroom }

    /// What `#expect` cannot reach through a noncopyable property.
    var isUniquelyReferenced: Bool { buffer.isUniquelyReferenced }

    var bytes: [UInt8] { buffer.withUnsafeBytes { Array($0) } }

    func fill(with byte: UInt8) {
        buffer.withUnsafeMutableBytes { if let start = $0.baseAddress { memset(start, Int32(byte), $0.count) } }
    }

    func isFilled(with byte: UInt8) -> Bool {
        buffer.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress, bytes.count > 0 else { return true }
            return bytes[0] == byte && memcmp(start, start + 1, bytes.count - 1) == 0
        }
    }
}

/// The smallest arena, its pages backed on use.
func smallConfiguration(maximumSegments: Int = 1 << 12) -> MemoryConfiguration {
    MemoryConfiguration(arenaByteCount: 4 << 20, commitsAtStart: false, maximumSegments: maximumSegments)
}

/// Runs `body` on a heap of its own and expects that nothing is alive when it returns.
func withHeap(
    _ configuration: MemoryConfiguration = smallConfiguration(), sourceLocation: SourceLocation = #_sourceLocation,
    _ body: (DatapathHeap) throws -> Void
) throws {
    let heap = try DatapathHeap(configuration)
    defer { heap.close() }
    try body(heap)
    expectNothingAlive(in: heap, sourceLocation: sourceLocation)
}

func expectNothingAlive(in heap: DatapathHeap, sourceLocation: SourceLocation = #_sourceLocation) {
    let statistics = heap.statistics
    #expect(statistics.liveBlocks == 0, sourceLocation: sourceLocation)
    #expect(statistics.liveSegments == 0, sourceLocation: sourceLocation)
    #expect(statistics.usedByteCount == 0, sourceLocation: sourceLocation)
    #expect(heap.usedByteCount == 0, sourceLocation: sourceLocation)
}

/// Allocates until the heap refuses.
func fill(_ heap: DatapathHeap, _ byteCount: Int, _ priority: AllocationPriority = .application) -> [HeldBuffer] {
    var held: [HeldBuffer] = []
    while let buffer = try? HeldBuffer(heap, byteCount, priority: priority) { held.append(buffer) }
    return held
}

func error(of body: () throws -> Void) -> DemikernelError? {
    do {
        try body()
        return nil
    } catch {
        return error as? DemikernelError
    }
}
