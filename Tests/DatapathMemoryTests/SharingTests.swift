import Testing

@testable import DatapathMemory

/// Buffers from plain addresses, which may be any.
@Suite struct SharingTests {
    private func shared(_ heap: DatapathHeap, _ address: UnsafeMutableRawPointer?, _ byteCount: Int) -> HeldBuffer? {
        guard let buffer = heap.share(address, byteCount: byteCount) else { return nil }
        return HeldBuffer(buffer)
    }

    private func address(_ held: HeldBuffer) -> UnsafeMutableRawPointer { held.buffer.address }

    @Test(arguments: [1, 64, 65, 1_000, 4_096, 65_536, 131_072, 200_000, 258_048]) func aSharedBlockOutlivesTheBufferThatItCameFrom(byteCount: Int) throws {
        let heap = try DatapathHeap(smallConfiguration())
        defer { heap.close() }
        var held: HeldBuffer? = try HeldBuffer(heap, byteCount)
        held?.fill(with: 7)
        let start = address(try #require(held))
        let block = try #require(held).blockByteCount
        // All of it, its last byte, and one byte too many.
        var whole = shared(heap, start, byteCount)
        var end = shared(heap, start + byteCount - 1, 1)
        #expect(shared(heap, start, block + 1) == nil)
        #expect(shared(heap, start + block - 1, 2) == nil)
        #expect(shared(heap, start, -1) == nil)
        #expect(shared(heap, start, .max) == nil)
        #expect(held?.isUniquelyReferenced == false)
        held = nil
        #expect(heap.statistics.liveBlocks == 1)
        #expect(whole?.isFilled(with: 7) == true && whole?.bytes.count == byteCount && end?.bytes == [7])
        whole = nil
        end = nil
        #expect(heap.statistics.liveBlocks == 0)
        // The block is free: its address is nobody's.
        #expect(shared(heap, start, 1) == nil)
    }

    @Test func whatIsNoAllocatedBlockIsNone() throws {
        let heap = try DatapathHeap(smallConfiguration())
        defer { heap.close() }
        #expect(shared(heap, nil, 0) == nil)
        let elsewhere = UnsafeMutableRawPointer.allocate(byteCount: 64, alignment: 64)
        defer { elsewhere.deallocate() }
        #expect(shared(heap, elsewhere, 1) == nil)
        let held = try HeldBuffer(heap, 64)
        let start = address(held)
        let superblock = try #require(UnsafeMutableRawPointer(bitPattern: UInt(bitPattern: start) & ~(262_144 - 1)))
        // Its header, its entries, and every block but the one.
        for offset in stride(from: 0, to: 262_144, by: 16) {
            let isInBlock = superblock + offset >= start && superblock + offset < start + 64
            #expect((shared(heap, superblock + offset, 1) != nil) == isInBlock, "offset \(offset)")
        }
        // Superblocks of no class, up to the arena's ends.
        var others = 0
        for step in -16...16 where step != 0 && heap.contains(superblock + step * 262_144) {
            others += 1
            #expect(shared(heap, superblock + step * 262_144 + 8_192, 1) == nil)
        }
        #expect(others == 15)
        #expect(held.isUniquelyReferenced)
    }
}

extension HeldBuffer: Equatable {
    static func == (left: HeldBuffer, right: HeldBuffer) -> Bool { left === right }
}
