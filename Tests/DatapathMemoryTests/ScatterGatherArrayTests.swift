import Glibc
import Testing

@testable import DatapathMemory

@Suite struct ScatterGatherArrayTests {
    // MARK: Appending

    @Test func sixteenSegmentsFitAndTheSeventeenthDoesNot() throws {
        try withHeap { heap in
            var array = try ScatterGatherArray(filled(heap, 10, first: 0))
            for index in 1..<16 {
                try array.append(try filled(heap, 10 + index, first: index))
                let (segments, bytes) = (array.segmentCount, array.byteCount)
                #expect(segments == index + 1)
                #expect(bytes == (0...index).reduce(0) { $0 + 10 + $1 })
            }
            let before = contents(of: array.takeOver())
            #expect(before.count == 16)

            array = ScatterGatherArray(unsafelyTakingOver: try makeArray(heap, lengths: Array(repeating: 10, count: 16)))
            var failure: DemikernelError?
            do { try array.append(try filled(heap, 1, first: 0)) } catch let error as DemikernelError { failure = error }
            #expect(failure?.errno == EMSGSIZE)
            let (segments, bytes) = (array.segmentCount, array.byteCount)
            #expect(segments == 16 && bytes == 160, "the array is unchanged")
            #expect(heap.statistics.liveBlocks == 16, "and the buffer is released")
            #expect(heap.statistics.liveSegments == 16)
            _ = consume array
        }
    }

    @Test func segmentsAreTheBuffersInOrderAndByAddress() throws {
        try withHeap { heap in
            let buffers = try (0..<5).map { HeldBuffer(try filled(heap, 100 + $0, first: $0 * 50)) }
            var array = try ScatterGatherArray(buffers[0].buffer.slice(1..<50))
            for held in buffers.dropFirst() { try array.append(held.buffer.slice(1..<50)) }
            for index in 0..<5 {
                let expected = buffers[index].buffer.address + 1
                let address = array.withUnsafeBytes(ofSegment: index) { $0.baseAddress }
                #expect(address == UnsafeRawPointer(expected))
                let span = array[segment: index]
                let (count, first, last) = (span.count, span[0], span[48])
                #expect(count == 49 && first == UInt8(truncatingIfNeeded: index * 50 + 1) && last == UInt8(truncatingIfNeeded: index * 50 + 49))
                let buffer = HeldBuffer(array.buffer(at: index))
                #expect(buffer.buffer.address == expected && buffer.buffer.count == 49)
            }
            let first = HeldBuffer(array.intoFirstBuffer())
            #expect(heap.statistics.liveSegments == 0)
            #expect(first.bytes == Array(1..<50))
            #expect(!first.isUniquelyReferenced)
            #expect(buffers[1].isUniquelyReferenced, "the others are released")
        }
    }

    @Test func theEndOfAnArrayReleasesEverySegment() throws {
        try withHeap { heap in
            for count in 1...16 {
                do {
                    let array = ScatterGatherArray(unsafelyTakingOver: try makeArray(heap, lengths: Array(repeating: 3, count: count)))
                    #expect(heap.statistics.liveBlocks == count)
                    #expect(heap.statistics.liveSegments == count)
                    _ = consume array
                }
                expectNothingAlive(in: heap)
            }
        }
    }

    // MARK: Copying

    @Test func copyBytesFillsTheDestinationAndNoMore() throws {
        try withHeap { heap in
            let lengths = [3, 0, 5, 1, 64, 0, 7]
            let array = ScatterGatherArray(unsafelyTakingOver: try makeArray(heap, lengths: lengths))
            let expected = (0..<80).map { UInt8($0) }
            for capacity in 0...100 {
                var destination = [UInt8](repeating: 0xff, count: capacity + 1)
                let copied = destination.withUnsafeMutableBytes {
                    array.copyBytes(to: UnsafeMutableRawBufferPointer(rebasing: $0[..<capacity]))
                }
                #expect(copied == min(capacity, 80))
                #expect(Array(destination[..<copied]) == Array(expected[..<copied]))
                #expect(destination[copied...].allSatisfy { $0 == 0xff })
            }
            #expect(array.copyBytes(to: UnsafeMutableRawBufferPointer(start: nil, count: 0)) == 0)
        }
    }

    // MARK: Splitting

    @Test(arguments: [[10], [0], [1, 1, 1], [4, 0, 5], [0, 0, 3], [3, 0, 0], [2, 7, 1, 8, 2, 8], Array(repeating: 2, count: 16)])
    func anArrayIsSplitAtEveryBoundary(lengths: [Int]) throws {
        let total = lengths.reduce(0, +)
        try withHeap { heap in
            for maximumSegments in 1...17 {
                for maximumBytes in 1...(total + 2) {
                    let head = try makeArray(heap, lengths: lengths)
                    head.pointee.operation = 77
                    let original = contents(of: head, releasing: false)
                    let (kept, rest) = model(original, maximumSegments, maximumBytes)
                    let tail = head.splitArray(maximumSegments: maximumSegments, maximumBytes: maximumBytes)
                    #expect((tail == nil) == (rest == nil), "\(lengths) at \(maximumSegments), \(maximumBytes)")
                    #expect(head.pointee.operation == 77)
                    if let tail {
                        #expect(tail.pointee.operation == 0 && tail.pointee.nextArray == nil)
                        #expect(contents(of: tail) == rest)
                    }
                    #expect(contents(of: head) == kept, "\(lengths) at \(maximumSegments), \(maximumBytes)")
                    expectNothingAlive(in: heap)
                }
            }
        }
    }

    @Test func theHalvesOfACutSegmentShareTheBlock() throws {
        try withHeap { heap in
            let head = try makeArray(heap, lengths: [100])
            let start = head.segmentAddress
            let tail = try #require(head.splitArray(maximumSegments: 16, maximumBytes: 30))
            #expect(head.segmentAddress == start && tail.segmentAddress == start + 30)
            #expect(heap.statistics.liveBlocks == 1)
            head.releaseArray()
            #expect(heap.statistics.liveBlocks == 1)
            #expect(contents(of: tail) == [(30..<100).map { UInt8($0) }])
        }
    }

    @Test func anArrayIsHandedOutInPiecesToTheLastByte() throws {
        try withHeap { heap in
            for piece in 1...60 {
                var next: UnsafeMutablePointer<SegmentDescriptor>? = try makeArray(heap, lengths: [7, 1, 20, 30])
                var bytes: [UInt8] = []
                while let head = next {
                    next = head.splitArray(maximumSegments: 2, maximumBytes: piece)
                    #expect(head.arrayByteCount <= piece && head.arraySegmentCount <= 2)
                    bytes += contents(of: head).flatMap { $0 }
                }
                #expect(bytes == (0..<58).map { UInt8($0) })
            }
        }
    }

    // MARK: Exhausted descriptors

    @Test func withoutDescriptorsTheCallFailsAndNothingLeaks() throws {
        try withHeap(smallConfiguration(maximumSegments: 3)) { heap in
            for _ in 0..<3 {
                #expect(heap.hasFreeSegment)
                var array = try ScatterGatherArray(filled(heap, 10, first: 0))
                try array.append(try filled(heap, 10, first: 0))
                try array.append(try filled(heap, 10, first: 0))
                #expect(!heap.hasFreeSegment)

                var failures: [DemikernelError] = []
                do { try array.append(try filled(heap, 10, first: 0)) } catch let error as DemikernelError { failures.append(error) }
                do {
                    let another = try ScatterGatherArray(filled(heap, 10, first: 0))
                    _ = consume another
                } catch let error as DemikernelError { failures.append(error) }
                #expect(failures.map(\.errno) == [ENOBUFS, ENOBUFS])
                #expect(heap.statistics.liveBlocks == 3, "the refused buffers are released")
                let (segments, bytes) = (array.segmentCount, array.byteCount)
                #expect(segments == 3 && bytes == 30)

                // A cut inside a segment needs a descriptor, one between segments does not.
                let head = array.takeOver()
                #expect(head.splitArray(maximumSegments: 16, maximumBytes: 9) == nil)
                #expect(head.arraySegmentCount == 3 && head.arrayByteCount == 30)
                // What would have to be cut goes to the rest.
                let tail = try #require(head.splitArray(maximumSegments: 16, maximumBytes: 25))
                #expect(head.arraySegmentCount == 2 && head.arrayByteCount == 20)
                #expect(tail.arraySegmentCount == 1 && tail.arrayByteCount == 10)
                let middle = try #require(head.splitArray(maximumSegments: 16, maximumBytes: 10))
                #expect(contents(of: tail).count == 1)
                #expect(heap.hasFreeSegment)
                #expect(contents(of: middle).count == 1)
                #expect(contents(of: head).count == 1)
                expectNothingAlive(in: heap)
            }
        }
    }

    // MARK: Helpers

    /// A buffer whose bytes count up from `first`.
    private func filled(_ heap: DatapathHeap, _ byteCount: Int, first: Int) throws(DemikernelError) -> Buffer {
        var buffer = try heap.allocate(byteCount, headroom: 2)
        buffer.withUnsafeMutableBytes { bytes in
            for index in bytes.indices { bytes[index] = UInt8(truncatingIfNeeded: first + index) }
        }
        return buffer
    }

    /// An array with segments of these lengths whose bytes count up from 0 through all of them.
    private func makeArray(_ heap: DatapathHeap, lengths: [Int]) throws -> UnsafeMutablePointer<SegmentDescriptor> {
        var array = try ScatterGatherArray(filled(heap, lengths[0], first: 0))
        var first = lengths[0]
        for length in lengths.dropFirst() {
            try array.append(try filled(heap, length, first: first))
            first += length
        }
        return array.takeOver()
    }

    /// The bytes of each segment; the counts of the head are checked against them.
    private func contents(of head: UnsafeMutablePointer<SegmentDescriptor>, releasing: Bool = true) -> [[UInt8]] {
        var segments: [[UInt8]] = []
        var next: UnsafeMutablePointer<SegmentDescriptor>? = head
        while let segment = next {
            segments.append(Array(UnsafeRawBufferPointer(start: segment.segmentAddress, count: segment.segmentByteCount)))
            next = segment.nextSegment
        }
        #expect(head.arraySegmentCount == segments.count)
        #expect(head.arrayByteCount == segments.reduce(0) { $0 + $1.count })
        if releasing { head.releaseArray() }
        return segments
    }

    /// What a split keeps and what it leaves: as many whole segments as fit, and the part of the next that still does.
    private func model(_ segments: [[UInt8]], _ maximumSegments: Int, _ maximumBytes: Int) -> (kept: [[UInt8]], rest: [[UInt8]]?) {
        if segments.count <= maximumSegments && segments.reduce(0, { $0 + $1.count }) <= maximumBytes { return (segments, nil) }
        var kept: [[UInt8]] = []
        var rest = segments
        var room = maximumBytes
        while !rest.isEmpty, kept.count < maximumSegments, room > 0 {
            let segment = rest.removeFirst()
            kept.append(Array(segment.prefix(room)))
            if segment.count > room { rest.insert(Array(segment.dropFirst(room)), at: 0) }
            room -= kept[kept.count - 1].count
        }
        return (kept, rest)
    }
}
