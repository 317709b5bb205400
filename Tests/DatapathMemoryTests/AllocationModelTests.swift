import Glibc
import Testing

@testable import DatapathMemory

/// Allocation and release in random order against a list of what is alive.
@Suite struct AllocationModelTests {
    @Test(arguments: [1, 2, 3, 4, 5, 6] as [UInt64]) func liveBlocksAreDisjointAndKeepTheirBytes(seed: UInt64) throws {
        try withHeap { heap in
            var random = SeededGenerator(seed: seed)
            var model = LiveBlocks(shares: try shares(of: heap))
            // Phases that grow and shrink, and that favour different sizes, so that superblocks wander.
            for phase in 0..<24 {
                let growth = phase % 2 == 0 ? 7 : 2
                let largestShift = Int.random(in: 0...18, using: &random)
                for _ in 0..<1000 {
                    if Int.random(in: 0..<10, using: &random) < growth {
                        let shift = Int.random(in: 0...largestShift, using: &random)
                        let byteCount = min(Int.random(in: 0...(1 << shift), using: &random), DatapathHeap.maximumBufferByteCount - 64)
                        let priority = [AllocationPriority.application, .datagram, .reserve].randomElement(using: &random)!
                        model.allocate(byteCount, headroom: Int.random(in: 0...64, using: &random), priority, from: heap, using: &random)
                    } else {
                        model.releaseRandom(using: &random)
                    }
                    #expect(heap.usedByteCount == model.usedByteCount)
                }
                #expect(heap.statistics.liveBlocks == model.blocks.count)
                model.checkContents()
            }
            while !model.blocks.isEmpty { model.releaseRandom(using: &random) }
            #expect(model.allocations > 5000)
        }
    }

    /// What a block of each size counts for, measured one at a time.
    private func shares(of heap: DatapathHeap) throws -> [Int: Int] {
        var shares: [Int: Int] = [:]
        for sizeClass in 0..<SizeClass.count {
            let held = try HeldBuffer(heap, SizeClass.byteCount(of: sizeClass))
            shares[held.blockByteCount] = heap.usedByteCount
        }
        return shares
    }

    @Test func aRefusedAllocationLeavesTheHeapAsItWas() throws {
        try withHeap { heap in
            let held = fill(heap, 4096)
            let before = heap.statistics
            #expect(error { _ = try heap.allocate(4096) } == DemikernelError(ENOBUFS, .allocate))
            #expect(heap.statistics.liveBlocks == before.liveBlocks)
            #expect(heap.statistics.usedByteCount == before.usedByteCount)
            #expect(heap.statistics.refusedApplication == before.refusedApplication + 1)
            withExtendedLifetime(held) {}
        }
    }

    @Test func aBlockIsUsedAgain() throws {
        try withHeap { heap in
            var addresses: Set<UInt> = []
            for _ in 0..<100_000 { addresses.insert(try HeldBuffer(heap, 100).blockAddress) }
            #expect(addresses.count < 100)
        }
    }
}

/// What is alive: the buffers with the byte that fills each, and their blocks in order of address.
private struct LiveBlocks {
    var blocks: [(held: HeldBuffer, byte: UInt8)] = []
    var usedByteCount = 0
    var allocations = 0
    private var intervals: [(start: UInt, end: UInt)] = []
    private let shares: [Int: Int]

    init(shares: [Int: Int]) { self.shares = shares }

    mutating func allocate(
        _ byteCount: Int, headroom: Int, _ priority: AllocationPriority, from heap: DatapathHeap, using random: inout SeededGenerator
    ) {
        guard let held = try? HeldBuffer(heap, byteCount, headroom: headroom, priority: priority) else { return }
        allocations += 1
        let byte = UInt8.random(in: 0...255, using: &random)
        held.fill(with: byte)
        blocks.append((held, byte))
        usedByteCount += shares[held.blockByteCount] ?? 0
        #expect(held.buffer.count == byteCount && held.buffer.headroom == headroom)
        #expect(heap.contains(held.buffer.address))

        let start = held.blockAddress
        let end = start + UInt(held.blockByteCount)
        let position = firstInterval(from: start)
        #expect(position == 0 || intervals[position - 1].end <= start, "the block overlaps the one before it")
        #expect(position == intervals.count || end <= intervals[position].start, "the block overlaps the one behind it")
        intervals.insert((start, end), at: position)
    }

    mutating func releaseRandom(using random: inout SeededGenerator) {
        guard !blocks.isEmpty else { return }
        let index = Int.random(in: 0..<blocks.count, using: &random)
        let (held, byte) = blocks[index]
        #expect(held.isFilled(with: byte))
        usedByteCount -= shares[held.blockByteCount] ?? 0
        intervals.remove(at: firstInterval(from: held.blockAddress))
        blocks.swapAt(index, blocks.count - 1)
        blocks.removeLast()
    }

    func checkContents() {
        #expect(blocks.allSatisfy { $0.held.isFilled(with: $0.byte) })
    }

    private func firstInterval(from start: UInt) -> Int {
        var low = 0
        var high = intervals.count
        while low < high {
            let middle = (low + high) / 2
            if intervals[middle].start < start { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
