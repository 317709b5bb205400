import DatapathMemory

/// One direction of a `FaultyDevice`: frames go in, and what becomes of them comes out in order.
///
/// A frame is owned by `held` or by `ready` from `process` on until `removeFirst`. Callers `process` no more than `FaultyDevice.batchFrames` at once, and
/// only while nothing is ready: so both together hold at most `holdLimit` frames and two for each of the batch, for which `ready` has room.
struct FaultPath {
    private struct HeldFrame {
        let frame: Frame
        /// The frame goes on at the first of the two.
        let dueFrame: UInt64
        let duePoll: UInt64
    }

    /// Frames held back at most; a further one goes on at once.
    static let holdLimit = 256
    private static let readyCapacity = 512

    var faults: FrameFaults
    private(set) var counts = FaultCounts()

    private var drop: FaultGenerator
    private var burst: FaultGenerator
    private var burstLoss: FaultGenerator
    private var corrupt: FaultGenerator
    private var truncate: FaultGenerator
    private var duplicate: FaultGenerator
    private var delay: FaultGenerator
    private var reorder: FaultGenerator
    private var isBad = false
    private var frameNumber: UInt64 = 0
    private var pollNumber: UInt64 = 0

    private let held: UnsafeMutablePointer<HeldFrame>
    private var heldCount = 0
    private let ready: UnsafeMutablePointer<Frame>
    private var head = 0
    private var tail = 0

    /// - Parameter index: of the direction: each has its own choices.
    init(_ faults: FrameFaults, seed: UInt64, index: UInt64) {
        self.faults = faults
        drop = FaultGenerator(seed: seed, index: 8 * index + 1)
        burst = FaultGenerator(seed: seed, index: 8 * index + 2)
        burstLoss = FaultGenerator(seed: seed, index: 8 * index + 3)
        corrupt = FaultGenerator(seed: seed, index: 8 * index + 4)
        truncate = FaultGenerator(seed: seed, index: 8 * index + 5)
        duplicate = FaultGenerator(seed: seed, index: 8 * index + 6)
        delay = FaultGenerator(seed: seed, index: 8 * index + 7)
        reorder = FaultGenerator(seed: seed, index: 8 * index + 8)
        held = UnsafeMutablePointer<HeldFrame>.allocate(capacity: FaultPath.holdLimit)
        ready = UnsafeMutablePointer<Frame>.allocate(capacity: FaultPath.readyCapacity)
    }

    /// Whether no frame is inside.
    var isEmpty: Bool { heldCount == 0 && head == tail }

    var hasReadyFrame: Bool { head != tail }

    /// Whether frames pass untouched, so that they need not be looked at one by one.
    var isTransparent: Bool {
        let chances = faults.drop | faults.corrupt | faults.truncate | faults.duplicate | faults.delay | faults.reorder
        return isEmpty && !isBad && chances | faults.burstLoss.begin | faults.burstLoss.lossWhileGood == 0
    }

    // MARK: Out

    /// The next frame that comes out; the caller looks at it and says with `removeFirst` that it has taken it.
    var first: Frame { ready[head & (FaultPath.readyCapacity - 1)] }

    mutating func removeFirst() {
        head &+= 1
    }

    /// One poll has passed.
    mutating func poll() {
        pollNumber &+= 1
        releaseDue()
    }

    mutating func close() {
        for index in 0..<heldCount { held[index].frame.releaseArray() }
        while hasReadyFrame {
            first.releaseArray()
            removeFirst()
        }
        held.deallocate()
        ready.deallocate()
    }

    // MARK: In

    /// Counts frames that passed by while the path `isTransparent`.
    mutating func countPassed(_ count: Int) {
        frameNumber &+= UInt64(count)
        counts.frames &+= UInt64(count)
    }

    /// Takes a frame over. Every generator draws once for a frame, whatever becomes of it.
    mutating func process(_ frame: Frame) {
        frameNumber &+= 1
        counts.frames &+= 1
        let isDropped = drop.chance(faults.drop)
        let isBurstLost = losesInBurst()
        let corruption = corrupt.details(faults.corrupt)
        let truncation = truncate.details(faults.truncate)
        let isDuplicated = duplicate.chance(faults.duplicate)
        var delays = delay.details(faults.delay)
        var reorders = reorder.details(faults.reorder)

        if isDropped || isBurstLost {
            if isDropped { counts.dropped &+= 1 } else { counts.burstLost &+= 1 }
            frame.releaseArray()
        } else {
            var frame = frame
            if let corruption { frame = corrupted(frame, corruption) }
            if let truncation { frame = truncated(frame, truncation) }
            let second = isDuplicated ? copy(frame) : nil
            if second != nil { counts.duplicated &+= 1 }
            pass(frame, &delays, &reorders)
            if let second { pass(second, &delays, &reorders) }
        }
        releaseDue()
    }

    private mutating func losesInBurst() -> Bool {
        // The state changes first, so that a burst has a frame at least.
        if burst.chance(isBad ? faults.burstLoss.end : faults.burstLoss.begin) { isBad.toggle() }
        return burstLoss.chance(isBad ? faults.burstLoss.lossWhileBad : faults.burstLoss.lossWhileGood)
    }

    /// A copy of the frame with some bits flipped, in exchange for the frame: nobody else sees the damage.
    private mutating func corrupted(_ frame: Frame, _ details: FaultGenerator) -> Frame {
        guard frame.arrayByteCount > 0, let copy = copy(frame) else { return frame }
        frame.releaseArray()
        var details = details
        let bytes = copy.segmentAddress.assumingMemoryBound(to: UInt8.self)
        let bitCount = 8 * copy.arrayByteCount
        let flips = 1 + details.below(min(max(faults.maximumCorruptedBits, 1), bitCount))
        // One in each of as many equal parts, so that none is flipped back.
        for part in 0..<flips {
            let start = part * bitCount / flips
            let position = start + details.below((part + 1) * bitCount / flips - start)
            bytes[position / 8] ^= 1 << UInt8(truncatingIfNeeded: position % 8)
        }
        copy.frameFlags.remove(.checksumVerified)
        counts.corrupted &+= 1
        return copy
    }

    /// The frame without its end. Bytes do not change, so that one segment needs no copy.
    private mutating func truncated(_ frame: Frame, _ details: FaultGenerator) -> Frame {
        guard frame.arrayByteCount > 1 else { return frame }
        var frame = frame
        if frame.nextSegment != nil {
            guard let copy = copy(frame) else { return frame }
            frame.releaseArray()
            frame = copy
        }
        var details = details
        frame.truncate(to: 1 + details.below(frame.arrayByteCount - 1))
        frame.frameFlags.remove(.checksumVerified)
        counts.truncated &+= 1
        return frame
    }

    /// A second frame with the same bytes and flags, in one block of its own; nil when the heap has none.
    private mutating func copy(_ frame: Frame) -> Frame? {
        guard let copy = Frame.makeSegment(frame.segmentHeap, byteCount: frame.arrayByteCount, priority: .datagram) else {
            counts.outOfMemory &+= 1
            return nil
        }
        frame.copyArray(to: copy.segmentAddress)
        copy.frameFlags = frame.frameFlags
        return copy
    }

    private mutating func pass(_ frame: Frame, _ delays: inout FaultGenerator?, _ reorders: inout FaultGenerator?) {
        if delays == nil, reorders == nil {
            push(frame)
        } else if heldCount == FaultPath.holdLimit {
            counts.holdFull &+= 1
            push(frame)
        } else if let polls = delays?.below(max(faults.maximumDelay, 1)) {
            counts.delayed &+= 1
            hold(HeldFrame(frame: frame, dueFrame: .max, duePoll: pollNumber &+ UInt64(polls) &+ 1))
        } else if let distance = reorders?.below(max(faults.maximumReorderDistance, 1)) {
            counts.reordered &+= 1
            let polls = UInt64(max(faults.maximumReorderPolls, 1))
            hold(HeldFrame(frame: frame, dueFrame: frameNumber &+ UInt64(distance) &+ 1, duePoll: pollNumber &+ polls))
        }
    }

    private mutating func hold(_ frame: HeldFrame) {
        held[heldCount] = frame
        heldCount += 1
    }

    private mutating func push(_ frame: Frame) {
        precondition(tail &- head < FaultPath.readyCapacity, "a batch was processed before the one before it was taken")
        ready[tail & (FaultPath.readyCapacity - 1)] = frame
        tail &+= 1
    }

    /// Lets those go on whose time has come, in the order in which they were held back.
    private mutating func releaseDue() {
        var kept = 0
        for index in 0..<heldCount {
            let entry = held[index]
            if entry.dueFrame <= frameNumber || entry.duePoll <= pollNumber {
                push(entry.frame)
            } else {
                held[kept] = entry
                kept += 1
            }
        }
        heldCount = kept
    }
}
