#if DPDK
import CDPDK
import DatapathMemory
import EthernetDevice
import Glibc

/// The state of a DPDK device, at one address for its whole life.
struct DPDKState {
    let device: OpaquePointer
    let shared: UnsafeMutablePointer<dpdk_shared>
    let maximumFrameByteCount: Int
    let macAddress: UInt64
    /// Bytes of a block that a frame is received into.
    let blockByteCount: Int
    fileprivate var heap: DatapathHeap?
    fileprivate let received: UnsafeMutablePointer<dpdk_received>
    fileprivate let transmitted: UnsafeMutablePointer<dpdk_transmitted>
    fileprivate var counts = DeviceStatistics()

    init(device: OpaquePointer, maximumFrameByteCount: Int, macAddress: UInt64) {
        self.device = device
        self.maximumFrameByteCount = maximumFrameByteCount
        self.macAddress = macAddress
        shared = dpdk_device_shared(device)
        blockByteCount = SizeClass.byteCount(of: SizeClass.containing(Int(dpdk_headroom) + maximumFrameByteCount + Int(dpdk_tailroom)))
        received = .allocate(capacity: Int(dpdk_burst_frames))
        transmitted = .allocate(capacity: Int(dpdk_burst_segments))
    }

    @inline(__always)
    static func at(_ context: UnsafeMutableRawPointer) -> UnsafeMutablePointer<DPDKState> {
        context.assumingMemoryBound(to: DPDKState.self)
    }
}

// MARK: - Memory

extension UnsafeMutablePointer<DPDKState> {
    func attach(_ heap: DatapathHeap) -> Int32 {
        guard pointee.heap == nil else { return EBUSY }
        let count = Int(dpdk_device_blocks(pointee.device))
        let blocks = UnsafeMutablePointer<dpdk_block>.allocate(capacity: count)
        defer { blocks.deallocate() }
        var made = 0
        while made < count, let block = makeBlock(heap) {
            blocks[made] = block
            made += 1
        }
        var result = -ENOBUFS
        if made == count {
            result = dpdk_device_start(
                pointee.device, blocks, UInt32(pointee.blockByteCount), UInt32(pointee.maximumFrameByteCount), pointee.macAddress)
        }
        guard result == 0 else {
            for index in 0..<made { release(blocks[index].segment) }
            return -result
        }
        pointee.heap = heap
        fillStore(heap)
        return 0
    }

    @inline(__always)
    private func makeBlock(_ heap: DatapathHeap) -> dpdk_block? {
        guard let segment = Frame.makeSegment(heap, byteCount: pointee.blockByteCount, priority: .reserve) else { return nil }
        return dpdk_block(segment: UnsafeMutableRawPointer(segment), address: segment.segmentAddress)
    }

    /// As many blocks as a burst can take. Where the heap has none, frames that arrive are lost, and nothing else.
    @inline(__always)
    private func fillStore(_ heap: DatapathHeap) {
        let shared = pointee.shared
        while shared.pointee.block_count < UInt32(dpdk_burst_frames), let block = makeBlock(heap) {
            shared.pointee.blocks[Int(shared.pointee.block_count)] = block
            shared.pointee.block_count &+= 1
        }
    }

    @inline(__always)
    private func release(_ segment: UnsafeMutableRawPointer?) {
        segment.unsafelyUnwrapped.assumingMemoryBound(to: SegmentDescriptor.self).releaseSegment()
    }

    /// Gives the heap back what the device is done with.
    @inline(__always)
    private func releaseReturned() {
        let shared = pointee.shared
        for index in 0..<Int(shared.pointee.returned_count) { release(shared.pointee.returned[index]) }
        shared.pointee.returned_count = 0
    }

    func close() {
        let framesAreOut = dpdk_device_stop(pointee.device)
        releaseReturned()
        for index in 0..<Int(pointee.shared.pointee.block_count) { release(pointee.shared.pointee.blocks[index].segment) }
        pointee.shared.pointee.block_count = 0
        if !framesAreOut { dpdk_device_free(pointee.device) }
        pointee.received.deallocate()
        pointee.transmitted.deallocate()
        deinitialize(count: 1)
        deallocate()
    }
}

// MARK: - Completion

extension UnsafeMutablePointer<DPDKState> {
    func receive(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        guard let heap = pointee.heap else { return 0 }
        let received = pointee.received
        let count = Int(dpdk_device_receive(pointee.device, received, UInt32(truncatingIfNeeded: capacity)))
        releaseReturned()
        if count == 0 {
            // A store that could not be filled before, because the heap had nothing.
            if pointee.shared.pointee.block_count < UInt32(dpdk_burst_frames) { fillStore(heap) }
            return 0
        }
        for index in 0..<count {
            let frame = received[index].segment.unsafelyUnwrapped.assumingMemoryBound(to: SegmentDescriptor.self)
            frame.removeFirst(Int(received[index].offset))
            frame.truncate(to: Int(received[index].byte_count))
            frame.frameFlags = []
            frames[index] = frame
        }
        fillStore(heap)
        return count
    }

    func statistics() -> DeviceStatistics {
        var statistics = pointee.counts
        var counts = pointee.shared.pointee.counts
        dpdk_device_counts(pointee.device, &counts)
        statistics.transmittedFrames = counts.transmitted_frames
        statistics.transmittedBytes = counts.transmitted_bytes
        statistics.transmitCopies = counts.transmit_copies
        statistics.transmitLinkDown = counts.transmit_link_down
        statistics.transmitErrors = counts.transmit_errors
        statistics.receivedFrames = counts.received_frames
        statistics.receivedBytes = counts.received_bytes
        statistics.receiveCopies = counts.receive_copies
        statistics.receiveOutOfMemory = counts.receive_out_of_memory
        statistics.receiveMalformed = counts.receive_malformed
        statistics.receiveRingFull = counts.receive_ring_full
        statistics.receiveErrors = counts.receive_errors
        return statistics
    }
}

// MARK: - Submission

extension UnsafeMutablePointer<DPDKState> {
    func transmit(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        guard pointee.heap != nil else { return 0 }
        var taken = 0
        while taken < count {
            let offered = gather(frames + taken, count &- taken)
            if offered.frames == 0 {
                // The first one cannot be sent at all.
                frames[taken].releaseArray()
                taken &+= 1
                continue
            }
            let accepted = Int(dpdk_device_transmit(pointee.device, pointee.transmitted, UInt32(truncatingIfNeeded: offered.segments)))
            releaseReturned()
            taken &+= accepted
            if accepted < offered.frames {
                pointee.counts.transmitRingFull &+= UInt64(truncatingIfNeeded: count &- taken)
                break
            }
        }
        return taken
    }

    /// Lists the segments of the first frames, up to a burst; stops before a frame that cannot be sent, which is counted when it is the first one.
    @inline(__always)
    private func gather(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> (frames: Int, segments: Int) {
        let transmitted = pointee.transmitted
        let most = min(count, Int(dpdk_burst_frames))
        var index = 0
        var segments = 0
        while index < most {
            let frame = frames[index]
            let byteCount = frame.arrayByteCount
            guard byteCount <= pointee.maximumFrameByteCount, byteCount >= DeviceCapabilities.ethernetHeaderByteCount else {
                if index > 0 { break }
                if byteCount > pointee.maximumFrameByteCount { pointee.counts.transmitTooLong &+= 1 } else { pointee.counts.transmitTooShort &+= 1 }
                break
            }
            if segments &+ frame.arraySegmentCount > Int(dpdk_burst_segments) { break }
            var segment: Frame? = frame
            while let current = segment {
                segment = current.nextSegment
                transmitted[segments] = dpdk_transmitted(
                    segment: UnsafeMutableRawPointer(current), address: current.segmentAddress,
                    byte_count: UInt32(truncatingIfNeeded: current.segmentByteCount), ends_frame: segment == nil ? 1 : 0)
                segments &+= 1
            }
            index &+= 1
        }
        return (index, segments)
    }
}
#endif
