import Glibc
import Testing

@testable import DatapathMemory

@Suite struct SizeClassTests {
    @Test func everySizeGetsABlockThatHoldsIt() throws {
        try withHeap { heap in
            var failures: [Int] = []
            for byteCount in 0...DatapathHeap.maximumBufferByteCount {
                let buffer = try heap.allocate(byteCount)
                let capacity = buffer.count + buffer.tailroom
                let start = UInt(bitPattern: buffer.address)
                let end = start + UInt(capacity)
                let superblock = UInt(SizeClass.superblockByteCount)
                let holds =
                    buffer.count == byteCount && capacity >= byteCount && buffer.headroom == 0
                    // Powers of two from 64 up, so less than twice what was asked for.
                    && (capacity == 64 || capacity == SizeClass.largestByteCount || capacity < 2 * byteCount)
                    && heap.usedByteCount >= capacity && heap.usedByteCount < 2 * capacity
                    // One superblock holds the whole block, behind a header that is not part of it.
                    && start / superblock == (end - 1) / superblock && start % superblock >= 4096
                if !holds { failures.append(byteCount) }
            }
            #expect(failures == [])
        }
    }

    /// An AF_XDP frame crosses no chunk of 4096 bytes; every block of every superblock has to keep to it.
    @Test(arguments: 0..<SizeClass.count) func blocksAreAlignedAndCrossNoChunk(sizeClass: Int) throws {
        let blockByteCount = SizeClass.byteCount(of: sizeClass)
        try withHeap { heap in
            let held = fill(heap, blockByteCount, .reserve)
            #expect(held.count >= 4 << 20 / SizeClass.superblockByteCount)
            // Full is full, whatever the size.
            let limit = heap.statistics.limitByteCount
            #expect(heap.usedByteCount <= limit && heap.usedByteCount > limit - limit / 50)
            let alignment = UInt(min(blockByteCount & -blockByteCount, 4096))
            let addresses = held.map(\.blockAddress).sorted()
            #expect(addresses.allSatisfy { $0 % alignment == 0 })
            #expect(held.allSatisfy { $0.blockByteCount == blockByteCount })
            #expect(zip(addresses, addresses.dropFirst()).allSatisfy { $1 - $0 >= UInt(blockByteCount) })
            if blockByteCount <= 4096 {
                #expect(addresses.allSatisfy { $0 / 4096 == ($0 + UInt(blockByteCount) - 1) / 4096 })
            }
        }
    }

    @Test func theClassOfASizeIsTheSmallestThatHoldsIt() {
        #expect(SizeClass.byteCount(of: 0) == 64)
        #expect(SizeClass.byteCount(of: SizeClass.count - 1) == SizeClass.largestByteCount)
        for sizeClass in 1..<SizeClass.count {
            let smaller = SizeClass.byteCount(of: sizeClass - 1)
            #expect(SizeClass.containing(smaller) == sizeClass - 1)
            #expect(SizeClass.containing(smaller + 1) == sizeClass)
        }
    }

    @Test func sizesThatNoBlockHoldsAreRefused() throws {
        try withHeap { heap in
            let largest = DatapathHeap.maximumBufferByteCount
            #expect(error { _ = try heap.allocate(-1) }?.errno == EINVAL)
            #expect(error { _ = try heap.allocate(0, headroom: -1) }?.errno == EINVAL)
            #expect(error { _ = try heap.allocate(.min) }?.errno == EINVAL)
            #expect(error { _ = try heap.allocate(largest + 1) }?.errno == EMSGSIZE)
            #expect(error { _ = try heap.allocate(.max) }?.errno == EMSGSIZE)
            #expect(error { _ = try heap.allocate(largest, headroom: 1) }?.errno == EMSGSIZE)
            #expect(error { _ = try heap.allocate(1, headroom: .max) }?.errno == EMSGSIZE)
            #expect(error { _ = try heap.allocate(.max, headroom: .max) }?.errno == EMSGSIZE)
            #expect(error { _ = try heap.allocate(largest - 5, headroom: 5) } == nil)
        }
    }
}
