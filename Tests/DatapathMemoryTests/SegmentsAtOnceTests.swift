import Testing

@testable import DatapathMemory

/// Segments that are made and released without a call, where that is possible: the heap's counts are the same as by the other way.
@Suite struct SegmentsAtOnceTests {
    private typealias Segment = UnsafeMutablePointer<SegmentDescriptor>

    @Test(arguments: [1, 2, 3] as [UInt64]) func bothWaysKeepTheSameCounts(seed: UInt64) throws {
        try withHeap { heap in
            var random = SeededGenerator(seed: seed)
            var live: [Segment] = []
            var madeAtOnce = 0
            var releasedAtOnce = 0
            for _ in 0..<20_000 {
                if live.isEmpty || Int.random(in: 0..<2, using: &random) == 0 && live.count < 2_000 {
                    let byteCount = Int.random(in: 1...2_048, using: &random)
                    let segment = Segment.makeSegmentAtOnce(heap, byteCount: byteCount, priority: .reserve)
                    if segment != nil { madeAtOnce += 1 }
                    let made = try #require(segment ?? Segment.makeSegment(heap, byteCount: byteCount, priority: .reserve))
                    #expect(made.segmentByteCount == byteCount && made.arrayByteCount == byteCount && made.arraySegmentCount == 1)
                    #expect(made.nextSegment == nil && made.isSoleOwner && made.tailroom >= 0)
                    live.append(made)
                } else {
                    let segment = live.remove(at: Int.random(in: 0..<live.count, using: &random))
                    if segment.releaseSegmentAtOnce() { releasedAtOnce += 1 } else { segment.releaseSegment() }
                }
                #expect(heap.statistics.liveSegments == live.count)
            }
            #expect(heap.statistics.liveBlocks == live.count)
            #expect(madeAtOnce > 5_000 && releasedAtOnce > 5_000, "the plain case is the common one")
            for segment in live { segment.releaseSegment() }
        }
    }

    @Test func aSharedBlockIsNotReleasedAtOnce() throws {
        try withHeap { heap in
            let segment = try #require(Segment.makeSegment(heap, byteCount: 100, priority: .application))
            let slice = try #require(segment.makeSlice(offset: 10, byteCount: 20))
            #expect(!segment.releaseSegmentAtOnce())
            #expect(heap.statistics.liveSegments == 2 && heap.statistics.liveBlocks == 1, "nothing has changed")
            segment.releaseSegment()
            slice.releaseSegment()
        }
    }

    @Test func nothingIsMadeAtOnceBeyondALimit() throws {
        try withHeap { heap in
            let held = fill(heap, 2_048)
            let refused = heap.statistics.refusedApplication
            // A descriptor that was used before is at hand, and for who may go further a block.
            try #require(Segment.makeSegment(heap, byteCount: 2_048, priority: .reserve)).releaseSegment()
            #expect(Segment.makeSegmentAtOnce(heap, byteCount: 2_048, priority: .application) == nil)
            #expect(heap.statistics.refusedApplication == refused && heap.statistics.liveSegments == 0)
            let segment = try #require(Segment.makeSegmentAtOnce(heap, byteCount: 2_048, priority: .reserve))
            segment.releaseSegment()
            withExtendedLifetime(held) {}
        }
    }
}
