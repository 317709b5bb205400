import Testing

@testable import DatapathMemory

/// Blocks that a device knows by an address inside them.
@Suite struct DeviceBlocksTests {
    @Test(arguments: 0..<SizeClass.count) func anyAddressInABlockFindsIt(sizeClass: Int) throws {
        try withHeap { heap in
            let byteCount = SizeClass.byteCount(of: sizeClass)
            var blocks: [UnsafeMutableRawPointer] = []
            for _ in 0..<5 { blocks.append(try #require(heap.takeBlock(byteCount, priority: .application))) }
            #expect(heap.statistics.liveBlocks == 5)
            for block in blocks {
                for offset in [0, 1, byteCount / 2, byteCount - 1] {
                    #expect(DatapathHeap.block(containing: block + offset) == block)
                    DatapathHeap.retainBlock(containing: block + offset)
                }
            }
            for block in blocks { for offset in [byteCount - 1, 0, byteCount / 3, 1] { DatapathHeap.releaseBlock(containing: block + offset) } }
            #expect(heap.statistics.liveBlocks == 5, "each still has the count that it came with")
            for block in blocks { DatapathHeap.releaseBlock(containing: block + byteCount - 1) }
            #expect(heap.statistics.liveBlocks == 0)
            #expect(heap.usedByteCount == 0)
        }
    }

    @Test func aFrameTakesTheCountOver() throws {
        try withHeap { heap in
            let block = try #require(heap.takeBlock(2048, priority: .reserve))
            let frame = try #require(UnsafeMutablePointer<SegmentDescriptor>.makeSegment(heap, takingOver: block, offset: 256, byteCount: 60))
            #expect(frame.segmentAddress == block + 256 && frame.segmentByteCount == 60 && frame.arrayByteCount == 60)
            #expect(frame.isSoleOwner)
            frame.releaseArray()
            #expect(heap.usedByteCount == 0 && heap.statistics.liveSegments == 0)
        }
    }

    @Test func descriptorsCanGoBeforeTheirBlocks() throws {
        try withHeap { heap in
            let first = try #require(UnsafeMutablePointer<SegmentDescriptor>.makeSegment(heap, byteCount: 100, priority: .application))
            let second = try #require(UnsafeMutablePointer<SegmentDescriptor>.makeSegment(heap, byteCount: 3000, priority: .application))
            let addresses = [first.segmentAddress, second.segmentAddress]
            first.append(second, behind: first)
            first.releaseDescriptors()
            #expect(heap.statistics.liveSegments == 0 && heap.statistics.liveBlocks == 2)
            for address in addresses { DatapathHeap.releaseBlock(containing: address) }
            #expect(heap.statistics.liveBlocks == 0)
        }
    }

    @Test func nothingIsTakenBeyondTheLimit() throws {
        try withHeap { heap in
            var blocks: [UnsafeMutableRawPointer] = []
            while let block = heap.takeBlock(4096, priority: .datagram) { blocks.append(block) }
            #expect(heap.takeBlock(4096, priority: .datagram) == nil)
            let spare = try #require(heap.takeBlock(4096, priority: .reserve))
            for block in blocks + [spare] { DatapathHeap.releaseBlock(containing: block) }
            #expect(heap.usedByteCount == 0)
        }
    }
}
