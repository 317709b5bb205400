import Glibc
import Testing

@testable import DatapathMemory

@Suite struct HeapLifetimeTests {
    // MARK: The end

    /// In a process of its own, so that nobody else maps the pages that were given back.
    @Test func theMemoryGoesWithTheLastBuffer() async {
        await #expect(processExitsWith: .success) {
            let heap = try DatapathHeap(smallConfiguration())
            var held = [try HeldBuffer(heap, 3000), try HeldBuffer(heap, 200_000)]
            let head = try ScatterGatherArray(try heap.allocate(100)).takeOver()
            let address = held[0].buffer.address
            held[0].fill(with: 5)
            heap.close()
            #expect(isMapped(address))
            #expect(held[0].isFilled(with: 5))
            held[0].fill(with: 6)
            held.append(HeldBuffer(held[0].buffer.slice(100..<200)))
            held[1].fill(with: 7)
            held.remove(at: 1)
            #expect(held[0].isFilled(with: 6))
            held.remove(at: 0)
            #expect(held[0].isFilled(with: 6) && held[0].isUniquelyReferenced)
            held.removeAll()
            #expect(isMapped(address), "an array holds it too")
            #expect(head.segmentByteCount == 100)
            head.releaseArray()
            #expect(!isMapped(address))
        }
    }

    @Test func aHeapWithoutLiveBuffersIsUnmappedAtOnce() async {
        await #expect(processExitsWith: .success) {
            let heap = try DatapathHeap(smallConfiguration())
            try heap.addArena(smallConfiguration())
            let addresses = fill(heap, 60_000, .reserve).map { $0.buffer.address }
            #expect(addresses.allSatisfy { isMapped($0) })
            heap.close()
            #expect(addresses.allSatisfy { !isMapped($0) })
        }
    }

    @Test func aThousandHeapsLeaveNothingMapped() async {
        await #expect(processExitsWith: .success) {
            var limit = rlimit(rlim_cur: 4 << 30, rlim_max: 4 << 30)
            setrlimit(__rlimit_resource_t(RLIMIT_AS.rawValue), &limit)
            for _ in 0..<2000 {
                let heap = try DatapathHeap(smallConfiguration())
                let held = try HeldBuffer(heap, 100)
                heap.close()
                withExtendedLifetime(held) {}
            }
        }
    }

    // MARK: A second arena

    @Test func aSecondArenaIsMoreOfTheSameHeap() throws {
        try withHeap { heap in
            let limit = heap.statistics.limitByteCount
            var held = fill(heap, 65536, .application)
            let first = held.count
            #expect(heap.pressure >= .shrinkWindows)
            try heap.addArena(smallConfiguration())
            #expect(heap.statistics.limitByteCount == 2 * limit)
            #expect(heap.pressure == .none)
            held += fill(heap, 65536, .application)
            #expect(held.count == 2 * first)
            for (index, block) in held.enumerated() {
                block.fill(with: UInt8(truncatingIfNeeded: index))
                #expect(heap.contains(block.buffer.address))
            }
            for (index, block) in held.enumerated() { #expect(block.isFilled(with: UInt8(truncatingIfNeeded: index))) }
            held.removeAll()
            #expect(fill(heap, 64).count > 2 * (4 << 20) / 64 * 8 / 10)
        }
    }

    // MARK: Configuration

    @Test func badConfigurationsAreRefused() {
        #expect(refusal(arenaByteCount: 0)?.errno == EINVAL)
        #expect(refusal(arenaByteCount: -1)?.errno == EINVAL)
        #expect(refusal(arenaByteCount: .min)?.errno == EINVAL)
        #expect(refusal(arenaByteCount: 4 << 20 - 1)?.errno == EINVAL)
        #expect(refusal(maximumSegments: 0)?.errno == EINVAL)
        #expect(refusal(maximumSegments: -1)?.errno == EINVAL)
        #expect(refusal(maximumSegments: .max)?.errno == EINVAL)
        #expect(refusal(arenaByteCount: (4 << 20) + 1) == nil)
        #expect(refusal(maximumSegments: 1) == nil)
    }

    /// More than the processor can address: an error, whatever the arithmetic does on the way.
    @Test(arguments: [1 << 48, 1 << 62, .max - 1, .max]) func anArenaBeyondTheAddressSpaceIsRefused(byteCount: Int) {
        for huge in [false, true] {
            for commits in [false, true] {
                let configuration = MemoryConfiguration(arenaByteCount: byteCount, commitsAtStart: commits, usesHugePages: huge)
                #expect(error { try DatapathHeap(configuration).close() }?.errno == ENOMEM)
            }
        }
    }

    @Test(.enabled(if: kernelRefusesOvercommit, "the kernel is set to promise memory that it has not"))
    func committedMemoryThatTheMachineHasNotIsRefused() async {
        // If it were not, the kernel would end this process first.
        await #expect(processExitsWith: .success) {
            let descriptor = open("/proc/self/oom_score_adj", O_WRONLY)
            write(descriptor, "1000", 4)
            close(descriptor)
            let failure = error { try DatapathHeap(MemoryConfiguration(arenaByteCount: 1 << 45)).close() }
            #expect(failure?.errno == ENOMEM)
        }
    }

    @Test(arguments: [0, -1, .min, 4 << 20 - 1]) func aBadSecondArenaIsRefused(byteCount: Int) throws {
        try withHeap { heap in
            let held = try HeldBuffer(heap, 100)
            held.fill(with: 1)
            let limit = heap.statistics.limitByteCount
            var configuration = smallConfiguration()
            configuration.arenaByteCount = byteCount
            #expect(error { try heap.addArena(configuration) }?.errno == EINVAL)
            configuration.arenaByteCount = 1 << 48
            #expect(error { try heap.addArena(configuration) }?.errno == ENOMEM)
            #expect(heap.statistics.limitByteCount == limit)
            #expect(held.isFilled(with: 1))
        }
    }

    @Test func theArenaIsRoundedUpToSuperblocks() throws {
        var configuration = smallConfiguration()
        configuration.arenaByteCount = (4 << 20) + 1
        try withHeap(configuration) { heap in
            #expect(heap.statistics.limitByteCount == 17 * SizeClass.largestByteCount)
        }
    }

    @Test(arguments: [false, true]) func committedPagesAreBackedAtStart(commits: Bool) throws {
        try withHeap(MemoryConfiguration(arenaByteCount: 8 << 20, commitsAtStart: commits)) { heap in
            let device = RegionProbe()
            _ = heap.register(device.registration)
            var residency = [UInt8](repeating: 0, count: (8 << 20) / 4096)
            #expect(mincore(device.base, 8 << 20, &residency) == 0)
            let resident = residency.count { $0 & 1 == 1 }
            if commits { #expect(resident == residency.count) } else { #expect(resident < residency.count / 2) }
        }
    }

    // MARK: Huge pages

    @Test(.disabled(if: hasFreeHugePages, "the machine has huge pages to give"))
    func missingHugePagesAreReported() throws {
        let configuration = MemoryConfiguration(arenaByteCount: 4 << 20, commitsAtStart: false, usesHugePages: true)
        try withHeap(configuration) { heap in
            #expect(heap.statistics.pages == .ordinary)
            let held = try HeldBuffer(heap, 100)
            held.fill(with: 1)
        }
    }

    @Test(.enabled(if: hasFreeHugePages, "the machine has no huge pages to give: set vm.nr_hugepages"))
    func hugePagesAreReported() throws {
        let configuration = MemoryConfiguration(arenaByteCount: 4 << 20, usesHugePages: true)
        try withHeap(configuration) { heap in
            #expect(heap.statistics.pages == .huge)
            try heap.addArena(smallConfiguration())
            #expect(heap.statistics.pages == .ordinary, "one arena of ordinary pages is enough to say so")
        }
    }

    @Test func askedForOrdinaryPagesAreOrdinary() throws {
        try withHeap { heap in #expect(heap.statistics.pages == .ordinary) }
    }

    private func refusal(arenaByteCount: Int = 4 << 20, maximumSegments: Int = 16) -> DemikernelError? {
        error {
            let configuration = MemoryConfiguration(
                arenaByteCount: arenaByteCount, commitsAtStart: false, maximumSegments: maximumSegments)
            try DatapathHeap(configuration).close()
        }
    }
}

private let kernelRefusesOvercommit: Bool = firstNumber(in: "/proc/sys/vm/overcommit_memory", after: "") != 1
private let hasFreeHugePages: Bool = firstNumber(in: "/proc/meminfo", after: "HugePages_Free:") >= 2

private func firstNumber(in path: String, after label: String) -> Int {
    guard let file = fopen(path, "r") else { return 0 }
    defer { fclose(file) }
    var line = [CChar](repeating: 0, count: 256)
    while fgets(&line, 256, file) != nil {
        let text = line.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
        guard text.hasPrefix(label) else { continue }
        return Int(text.dropFirst(label.count).drop { $0 == " " }.prefix { $0.isNumber }) ?? 0
    }
    return 0
}

private func isMapped(_ address: UnsafeMutableRawPointer) -> Bool {
    var residency: UInt8 = 0
    let page = UnsafeMutableRawPointer(bitPattern: UInt(bitPattern: address) & ~4095)
    return mincore(page, 4096, &residency) == 0
}

private final class RegionProbe {
    var base: UnsafeMutableRawPointer?

    var registration: DeviceRegistration {
        DeviceRegistration(
            context: Unmanaged.passUnretained(self).toOpaque(),
            register: { context, base, _ in
                Unmanaged<RegionProbe>.fromOpaque(context).takeUnretainedValue().base = base
                return 0
            }, unregister: { _, _, _ in })
    }
}
