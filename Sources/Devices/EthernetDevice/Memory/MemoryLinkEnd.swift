import DatapathMemory
import Glibc

/// One end of a link in memory, with the ring of frames that are on their way to it.
///
/// `head` and `tail` count frames without end; `tail - head` is at most `capacity`, and the ring's storage is a power of two that holds as many.
struct MemoryLinkEnd {
    let peer: UnsafeMutablePointer<MemoryLinkEnd>
    /// Where both ends lie, to free them together.
    let allocation: UnsafeMutablePointer<MemoryLinkEnd>
    let maximumFrameByteCount: Int
    let elidesChecksums: Bool

    fileprivate let ring: UnsafeMutablePointer<Frame>
    fileprivate let mask: Int
    fileprivate let capacity: Int
    fileprivate var head = 0
    fileprivate var tail = 0
    /// The heap that was attached; nil before that and after the close, so that the peer looks at this alone.
    fileprivate var heap: DatapathHeap?
    fileprivate var isClosed = false
    fileprivate(set) var statistics = DeviceStatistics()

    init(
        peer: UnsafeMutablePointer<MemoryLinkEnd>, allocation: UnsafeMutablePointer<MemoryLinkEnd>, capacity: Int, maximumFrameByteCount: Int,
        elidesChecksums: Bool
    ) {
        self.peer = peer
        self.allocation = allocation
        self.maximumFrameByteCount = maximumFrameByteCount
        self.elidesChecksums = elidesChecksums
        self.capacity = capacity
        var storage = 1
        while storage < capacity { storage *= 2 }
        mask = storage - 1
        ring = UnsafeMutablePointer<Frame>.allocate(capacity: storage)
    }

    var isEmpty: Bool { head == tail }

    @inline(__always)
    static func at(_ context: UnsafeMutableRawPointer) -> UnsafeMutablePointer<MemoryLinkEnd> {
        context.assumingMemoryBound(to: MemoryLinkEnd.self)
    }
}

extension UnsafeMutablePointer<MemoryLinkEnd> {
    func attach(_ heap: DatapathHeap) -> Int32 {
        guard pointee.heap == nil else { return EBUSY }
        pointee.heap = heap
        return 0
    }

    func transmit(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        // One frame that needs no copy is what a request and its reply are.
        guard count == 1 else { return transmitSeveral(frames, count) }
        let peer = pointee.peer
        let frame = frames.pointee
        let byteCount = frame.arrayByteCount
        guard peer.pointee.tail &- peer.pointee.head < peer.pointee.capacity, frame.nextSegment == nil, peer.pointee.heap == frame.segmentHeap,
            UInt(bitPattern: byteCount &- DeviceCapabilities.ethernetHeaderByteCount)
                <= UInt(bitPattern: pointee.maximumFrameByteCount &- DeviceCapabilities.ethernetHeaderByteCount)
        else { return transmitSeveral(frames, count) }
        frame.frameFlags = received(frame.frameFlags, verifiableFlags)
        frame.detachInformation()
        peer.pointee.ring[peer.pointee.tail & peer.pointee.mask] = frame
        peer.pointee.tail &+= 1
        pointee.statistics.transmittedFrames &+= 1
        pointee.statistics.transmittedBytes &+= UInt64(truncatingIfNeeded: byteCount)
        return 1
    }

    /// The same for any number of frames of any kind.
    @inline(never)
    private func transmitSeveral(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        let peer = pointee.peer
        guard let heap = peer.pointee.heap else { return drop(frames, count) }
        // A frame that is dropped needs no room; but it is simpler, and enough, to take no more than there would be room for.
        let limit = Swift.min(count, peer.pointee.capacity &- (peer.pointee.tail &- peer.pointee.head))
        var taken = handOver(frames, limit, heap)
        while taken < limit {
            transmitSlowly(frames[taken], heap)
            taken &+= 1
            taken &+= handOver(frames + taken, limit &- taken, heap)
        }
        pointee.statistics.transmitRingFull &+= UInt64(truncatingIfNeeded: count &- taken)
        return taken
    }

    /// Puts the first frames into the peer's ring, up to one that needs more than that. A loop of its own, without a call in it, so that all it needs
    /// stays in registers.
    @inline(__always)
    private func handOver(_ frames: UnsafeMutablePointer<Frame>, _ count: Int, _ heap: DatapathHeap) -> Int {
        let maximum = UInt(bitPattern: pointee.maximumFrameByteCount &- DeviceCapabilities.ethernetHeaderByteCount)
        let verified = verifiableFlags
        let ring = pointee.peer.pointee.ring
        let mask = pointee.peer.pointee.mask
        let tail = pointee.peer.pointee.tail
        var index = 0
        var bytes = 0
        while index < count {
            let frame = frames[index]
            let byteCount = frame.arrayByteCount
            guard frame.nextSegment == nil, frame.segmentHeap == heap,
                UInt(bitPattern: byteCount &- DeviceCapabilities.ethernetHeaderByteCount) <= maximum
            else { break }
            frame.frameFlags = received(frame.frameFlags, verified)
            frame.detachInformation()
            ring[(tail &+ index) & mask] = frame
            bytes &+= byteCount
            index &+= 1
        }
        pointee.peer.pointee.tail = tail &+ index
        pointee.statistics.transmittedFrames &+= UInt64(truncatingIfNeeded: index)
        pointee.statistics.transmittedBytes &+= UInt64(truncatingIfNeeded: bytes)
        return index
    }

    /// Drops a frame that cannot be sent, or sends a copy of it in one block of the receiving heap.
    @inline(never)
    private func transmitSlowly(_ frame: Frame, _ heap: DatapathHeap) {
        let peer = pointee.peer
        let byteCount = frame.arrayByteCount
        defer { frame.releaseArray() }
        guard byteCount <= pointee.maximumFrameByteCount else {
            pointee.statistics.transmitTooLong &+= 1
            return
        }
        guard byteCount >= DeviceCapabilities.ethernetHeaderByteCount else {
            pointee.statistics.transmitTooShort &+= 1
            return
        }
        pointee.statistics.transmittedFrames &+= 1
        pointee.statistics.transmittedBytes &+= UInt64(byteCount)
        guard let copy = Frame.makeSegment(heap, byteCount: byteCount, priority: .datagram) else {
            peer.pointee.statistics.receiveOutOfMemory &+= 1
            return
        }
        frame.copyArray(to: copy.segmentAddress)
        copy.frameFlags = received(frame.frameFlags, verifiableFlags)
        pointee.statistics.transmitCopies &+= 1
        peer.pointee.ring[peer.pointee.tail & peer.pointee.mask] = copy
        peer.pointee.tail &+= 1
    }

    @inline(__always)
    private var verifiableFlags: FrameFlags { pointee.elidesChecksums ? .needsTransportChecksum : [] }

    /// Turns a wish for a checksum into a verified one, or into nothing: each bit stands one place above that which it becomes.
    @inline(__always)
    private func received(_ flags: FrameFlags, _ verifiable: FrameFlags) -> FrameFlags {
        FrameFlags(rawValue: (flags.rawValue & verifiable.rawValue) &>> 1)
    }

    func receive(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        let head = pointee.head
        let available = pointee.tail &- head
        if available == 0 { return 0 }
        // One frame has come where the peer waits for the answer.
        guard available == 1, capacity > 0 else { return receiveSeveral(frames, capacity) }
        let frame = pointee.ring[head & pointee.mask]
        frames.pointee = frame
        pointee.head = head &+ 1
        pointee.statistics.receivedFrames &+= 1
        pointee.statistics.receivedBytes &+= UInt64(truncatingIfNeeded: frame.arrayByteCount)
        return 1
    }

    @inline(never)
    private func receiveSeveral(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        let ring = pointee.ring
        let mask = pointee.mask
        let head = pointee.head
        let count = Swift.min(capacity, pointee.tail &- head)
        var bytes = 0
        for index in 0..<count {
            let frame = ring[(head &+ index) & mask]
            bytes &+= frame.arrayByteCount
            frames[index] = frame
        }
        pointee.head = head &+ count
        pointee.statistics.receivedFrames &+= UInt64(truncatingIfNeeded: count)
        pointee.statistics.receivedBytes &+= UInt64(truncatingIfNeeded: bytes)
        return count
    }

    /// Releases what is on its way to this end; the link's memory goes with the second end.
    func close() {
        precondition(!pointee.isClosed, "the device was closed before")
        while !pointee.isEmpty {
            pointee.ring[pointee.head & pointee.mask].releaseArray()
            pointee.head += 1
        }
        pointee.heap = nil
        pointee.isClosed = true
        guard pointee.peer.pointee.isClosed else { return }
        let allocation = pointee.allocation
        for index in 0..<2 { allocation[index].ring.deallocate() }
        allocation.deinitialize(count: 2)
        allocation.deallocate()
    }

    @inline(never)
    private func drop(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        for index in 0..<count { frames[index].releaseArray() }
        pointee.statistics.transmitLinkDown &+= UInt64(count)
        return count
    }
}
