import Glibc
import Testing

@testable import DatapathMemory

@Suite struct BufferTests {
    // MARK: Headroom and tailroom

    @Test func headAndTailMoveWithinTheBlock() throws {
        try withHeap { heap in
            let held = try HeldBuffer(heap, 100, headroom: 20)
            #expect(held.buffer.headroom == 20)
            #expect(held.buffer.count == 100)
            #expect(held.buffer.tailroom == 8)
            held.buffer.withUnsafeMutableBytes { bytes in for index in 0..<100 { bytes[index] = UInt8(index) } }
            let start = held.buffer.address

            held.buffer.removeFirst(10)
            #expect(held.buffer.headroom == 30 && held.buffer.count == 90 && held.buffer.tailroom == 8)
            #expect(held.buffer.address == start + 10)
            held.buffer.removeLast(40)
            #expect(held.buffer.headroom == 30 && held.buffer.count == 50 && held.buffer.tailroom == 48)
            #expect(held.bytes == Array(10..<60))
            held.buffer.extendFirst(5)
            held.buffer.extendLast(3)
            #expect(held.buffer.headroom == 25 && held.buffer.count == 58 && held.buffer.tailroom == 45)
            #expect(held.bytes == Array(5..<63), "the bytes that were dropped are still in the block")
            held.buffer.extendFirst(25)
            held.buffer.extendLast(45)
            #expect(held.buffer.headroom == 0 && held.buffer.count == 128 && held.buffer.tailroom == 0)
            held.buffer.removeFirst(128)
            #expect(held.buffer.count == 0 && held.buffer.headroom == 128)
            held.buffer.removeFirst(0)
            held.buffer.removeLast(0)
            held.buffer.extendLast(0)
            let isEmpty = held.buffer.isEmpty
            #expect(isEmpty)
        }
    }

    @Test func theLargestBufferIsOneWholeSuperblock() throws {
        try withHeap { heap in
            let held = try HeldBuffer(heap, DatapathHeap.maximumBufferByteCount)
            #expect(held.buffer.count == 262_144 - 4096)
            #expect(held.buffer.tailroom == 0)
            held.fill(with: 7)
            held.buffer.removeFirst(held.buffer.count)
            #expect(held.buffer.headroom == DatapathHeap.maximumBufferByteCount && held.buffer.tailroom == 0)
            let slice = HeldBuffer(held.buffer.slice(0..<0))
            #expect(!held.isUniquelyReferenced)
            withExtendedLifetime(slice) {}
        }
    }

    @Test func spansAreTheBytes() throws {
        try withHeap { heap in
            var buffer = try heap.allocate(5, headroom: 3)
            do {
                var span = buffer.mutableSpan
                for index in span.indices { span[index] = UInt8(index) &* 3 }
            }
            let held = HeldBuffer(buffer)
            var read: [UInt8] = []
            for index in 0..<5 { read.append(held.buffer.span[index]) }
            #expect(read == [0, 3, 6, 9, 12])
            #expect(held.bytes == read)
        }
    }

    @Test func aThrowingBodyThrows() throws {
        struct Refusal: Error {}
        try withHeap { heap in
            let held = try HeldBuffer(heap, 5)
            #expect(throws: Refusal.self) { try held.buffer.withUnsafeBytes { _ in throw Refusal() } }
            #expect(throws: Refusal.self) { try held.buffer.withUnsafeMutableBytes { _ in throw Refusal() } }
        }
    }

    // MARK: Slices and counts

    @Test func aSliceIsTheSameMemory() throws {
        try withHeap { heap in
            let held = try HeldBuffer(heap, 100, headroom: 10)
            held.fill(with: 1)
            let slice = HeldBuffer(held.buffer.slice(20..<50))
            #expect(slice.buffer.address == held.buffer.address + 20)
            #expect(slice.buffer.count == 30 && slice.buffer.headroom == 30 && slice.buffer.tailroom == 68)
            let inner = HeldBuffer(slice.buffer.slice(30..<30))
            #expect(inner.buffer.count == 0 && inner.buffer.address == held.buffer.address + 50)
            #expect(heap.statistics.liveBlocks == 1, "a slice is no block of its own")
        }
    }

    @Test(arguments: [1, 2, 3, 4] as [UInt64]) func theBlockIsFreeAfterItsLastSlice(seed: UInt64) throws {
        try withHeap { heap in
            var random = SeededGenerator(seed: seed)
            var slices = [try HeldBuffer(heap, 1000)]
            for index in 0..<1000 { slices[0].buffer.withUnsafeMutableBytes { $0[index] = UInt8(truncatingIfNeeded: index) } }
            let start = slices[0].buffer.address
            let block = slices[0].blockAddress
            for _ in 0..<200 {
                let parent = slices.randomElement(using: &random)!
                let low = Int.random(in: 0...parent.buffer.count, using: &random)
                let high = Int.random(in: low...parent.buffer.count, using: &random)
                slices.append(HeldBuffer(parent.buffer.slice(low..<high)))
            }
            slices.shuffle(using: &random)
            while slices.count > 1 {
                slices.removeLast()
                #expect(heap.statistics.liveBlocks == 1)
                #expect(slices.allSatisfy { $0.isUniquelyReferenced } == (slices.count == 1))
                let first = slices[0].buffer.address - start
                #expect(slices[0].bytes == (0..<slices[0].buffer.count).map { UInt8(truncatingIfNeeded: first + $0) })
                // No allocation may meet the block while a slice lives.
                let other = try HeldBuffer(heap, 1000)
                #expect(other.blockAddress != block)
            }
            slices[0].fill(with: 9)
            slices.removeAll()
            #expect(heap.statistics.liveBlocks == 0)
        }
    }

    @Test func aBufferIsWritableAgainWhenItsSlicesAreGone() throws {
        try withHeap { heap in
            let held = try HeldBuffer(heap, 64)
            #expect(held.isUniquelyReferenced)
            do {
                let slice = HeldBuffer(held.buffer.slice(0..<1))
                #expect(!held.isUniquelyReferenced)
                #expect(!slice.isUniquelyReferenced)
            }
            #expect(held.isUniquelyReferenced)
            held.fill(with: 3)
            #expect(held.isFilled(with: 3))
        }
    }

    // MARK: Traps

    @Test func aSharedBufferCannotBeWrittenThroughItsSpan() async {
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), var buffer = try? heap.allocate(100) else { return }
            do {
                var span = buffer.mutableSpan
                span[0] = 1
            }
            let slice = buffer.slice(0..<1)
            var span = buffer.mutableSpan
            span[0] = 2
            _ = consume slice
        }
    }

    @Test func aSharedBufferCannotBeWrittenThroughItsBytes() async {
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), var buffer = try? heap.allocate(100) else { return }
            buffer.withUnsafeMutableBytes { $0[0] = 1 }
            let slice = buffer.slice(0..<1)
            buffer.withUnsafeMutableBytes { $0[0] = 2 }
            _ = consume slice
        }
    }

    @Test func aSliceThatIsSharedCannotBeWritten() async {
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), let buffer = try? heap.allocate(100) else { return }
            var slice = buffer.slice(0..<1)
            var span = slice.mutableSpan
            span[0] = 2
            _ = consume buffer
        }
    }

    @Test func aDoubleReleaseTraps() async {
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), let buffer = try? heap.allocate(100),
                let other = try? heap.allocate(100)
            else { return }
            let block = buffer.takeOver().base
            BlockCount.release(block)
            BlockCount.release(block)
            _ = consume other
        }
    }

    @Test func aDoubleReleaseOfTheLowestBlockTraps() async {
        // Its entry's free list index is 0, the value that differs least from a count.
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), let lowest = try? heap.allocate(100),
                let second = try? heap.allocate(100), let third = try? heap.allocate(100)
            else { return }
            let blocks = [lowest.takeOver().base, second.takeOver().base]
            BlockCount.release(blocks[0])
            BlockCount.release(blocks[1])
            BlockCount.release(blocks[1])
            _ = consume third
        }
    }

    @Test func removingBeyondTheEndTraps() async {
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), var buffer = try? heap.allocate(10) else { return }
            buffer.removeFirst(11)
        }
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), var buffer = try? heap.allocate(10) else { return }
            buffer.removeLast(11)
        }
    }

    @Test func extendingBeyondTheBlockTraps() async {
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), var buffer = try? heap.allocate(10, headroom: 4) else { return }
            buffer.extendFirst(5)
        }
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), var buffer = try? heap.allocate(10, headroom: 4) else { return }
            buffer.extendLast(51)
        }
    }

    @Test func aSliceOutsideTheBufferTraps() async {
        await #expect(processExitsWith: .failure) {
            guard let heap = try? DatapathHeap(smallConfiguration()), let buffer = try? heap.allocate(10) else { return }
            let slice = buffer.slice(0..<11)
            _ = consume slice
        }
    }
}
