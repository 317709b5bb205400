import Testing

@testable import DatapathMemory

/// Superblocks belong to no size for good: what one size gave back, every other can take.
@Suite struct SuperblockTests {
    @Test func superblocksWanderBetweenSizes() throws {
        try withHeap { heap in
            let firstLarge = fill(heap, 65536).count
            for byteCount in [64, 2048, 131_072, 64, DatapathHeap.maximumBufferByteCount, 128] {
                #expect(fill(heap, byteCount).count > 0)
                #expect(fill(heap, 65536).count == firstLarge, "after a heap full of \(byteCount)")
            }
        }
    }

    @Test(arguments: [1, 2, 3] as [UInt64]) func superblocksWanderWhenReleasedInAnyOrder(seed: UInt64) throws {
        try withHeap { heap in
            var random = SeededGenerator(seed: seed)
            let counts = (0..<SizeClass.count).map { fill(heap, SizeClass.byteCount(of: $0)).count }
            for _ in 0..<20 {
                let sizeClass = Int.random(in: 0..<SizeClass.count, using: &random)
                var held = fill(heap, SizeClass.byteCount(of: sizeClass))
                #expect(held.count == counts[sizeClass])
                held.shuffle(using: &random)
                while held.popLast() != nil {}
                #expect(heap.statistics.liveBlocks == 0)
            }
        }
    }

    /// One 64 KiB superblock has three blocks. The empty one that a size keeps for itself must be found also when a fuller one stands before it.
    @Test func anEmptySuperblockIsTakenFromBehindAFullerOne() throws {
        try withHeap { heap in
            let largest = DatapathHeap.maximumBufferByteCount
            let whole = fill(heap, largest, .reserve).count

            var full: [HeldBuffer] = []
            for _ in 0..<3 { full.append(try HeldBuffer(heap, 65536)) }
            do {
                // Alone in a second superblock, which becomes empty and is kept.
                let alone = try HeldBuffer(heap, 65536)
                #expect(full.allSatisfy { $0.blockAddress / 262_144 != alone.blockAddress / 262_144 })
            }
            full.removeLast()
            #expect(fill(heap, largest, .reserve).count == whole - 1)
            withExtendedLifetime(full) {}
        }
    }

    /// The worst fragmentation: one small block left in each superblock. What lies between the survivors is used again.
    @Test func partlyFilledSuperblocksAreFilledAgain() throws {
        try withHeap { heap in
            var held = fill(heap, 1024)
            let total = held.count
            var seen: Set<UInt> = []
            held = held.filter { seen.insert($0.blockAddress / 262_144).inserted }
            #expect(held.count == 15)
            #expect(fill(heap, 1024).count == total - held.count)
            withExtendedLifetime(held) {}
        }
    }
}
