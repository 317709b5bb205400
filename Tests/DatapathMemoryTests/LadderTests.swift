import Glibc
import Testing

@testable import DatapathMemory

/// What a filling heap refuses, and when. Blocks of 4096 bytes fill a superblock without a rest, so the rungs are exact.
@Suite struct LadderTests {
    @Test func theRungsComeAtTheirShareOfTheHeap() throws {
        try withHeap { heap in
            let limit = heap.statistics.limitByteCount
            #expect(limit % 4096 == 0 && limit > 3 << 20)
            var held: [HeldBuffer] = []
            var datagramRefusedAt: Int?
            var applicationRefusedAt: Int?
            while true {
                let used = held.count * 4096
                #expect(heap.usedByteCount == used)
                #expect(heap.pressure == expectedPressure(used, limit), "\(used) of \(limit)")
                if datagramRefusedAt == nil, isRefused(heap, .datagram) { datagramRefusedAt = used }
                if applicationRefusedAt == nil, isRefused(heap, .application) { applicationRefusedAt = used }
                guard let next = try? HeldBuffer(heap, 4096, priority: .reserve) else { break }
                held.append(next)
            }
            #expect(held.count * 4096 == limit, "the reserve goes on to the end")
            let datagramEnd = try #require(datagramRefusedAt)
            let applicationEnd = try #require(applicationRefusedAt)
            #expect(datagramEnd <= limit / 10 * 9 && datagramEnd + 4096 > limit / 10 * 9)
            #expect(applicationEnd <= limit / 16 * 15 && applicationEnd + 4096 > limit / 16 * 15)

            let statistics = heap.statistics
            #expect(statistics.refusedDatagram == 1)
            #expect(statistics.refusedApplication == 1)
            #expect(statistics.refusedReserve == 1)

            // And back down: each rung is left where it was entered.
            while held.popLast() != nil {
                let used = held.count * 4096
                #expect(heap.pressure == expectedPressure(used, limit), "\(used) of \(limit)")
                #expect(isRefused(heap, .datagram) == (used + 4096 > limit / 10 * 9))
                #expect(isRefused(heap, .application) == (used + 4096 > limit / 16 * 15))
                #expect(!isRefused(heap, .reserve))
            }
        }
    }

    /// Whatever the size, the order of the rungs holds, and a full heap is whole again when its buffers are gone.
    @Test(arguments: 0..<SizeClass.count) func theOrderHoldsForEverySize(sizeClass: Int) throws {
        let byteCount = SizeClass.byteCount(of: sizeClass)
        try withHeap { heap in
            var counts: [[Int]] = []
            for _ in 0..<3 {
                var held = fill(heap, byteCount, .datagram)
                var count = [held.count]
                held += fill(heap, byteCount, .application)
                count.append(held.count)
                held += fill(heap, byteCount, .reserve)
                count.append(held.count)
                #expect(count[0] > 0 && count[0] <= count[1] && count[1] < count[2])
                counts.append(count)
            }
            #expect(counts[0] == counts[1] && counts[1] == counts[2])
            #expect(heap.pressure == .none)
        }
    }

    /// The last sixteenth serves sizes that no superblock was set up for before.
    @Test func theReserveServesAnotherSize() throws {
        try withHeap { heap in
            let held = fill(heap, 4096, .application)
            for byteCount in [64, 128, 2048] {
                let header = try HeldBuffer(heap, byteCount, priority: .reserve)
                #expect(isRefused(heap, .application))
                withExtendedLifetime(header) {}
            }
            withExtendedLifetime(held) {}
        }
    }

    /// A receiver that is told of no pressure must not find the heap full.
    @Test(arguments: 0..<SizeClass.count) func refusalIsForetoldByPressure(sizeClass: Int) throws {
        try withHeap { heap in
            let held = fill(heap, SizeClass.byteCount(of: sizeClass), .application)
            #expect(heap.pressure >= .shrinkWindows, "\(heap.usedByteCount) of \(heap.statistics.limitByteCount) used")
            withExtendedLifetime(held) {}
        }
    }

    private func expectedPressure(_ used: Int, _ limit: Int) -> DatapathHeap.Pressure {
        if used * 4 < limit * 3 { return .none }
        if used * 10 < limit * 9 && used < limit / 10 * 9 { return .shrinkWindows }
        return used * 16 < limit * 15 ? .dropDatagrams : .reserveOnly
    }

    private func isRefused(_ heap: DatapathHeap, _ priority: AllocationPriority) -> Bool {
        guard let error = error(of: { _ = try heap.allocate(4096, priority: priority) }) else { return false }
        #expect(error == DemikernelError(ENOBUFS, .allocate))
        return true
    }
}
