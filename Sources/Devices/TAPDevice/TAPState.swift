import CLinuxDevices
import DatapathMemory
import EthernetDevice
import Glibc

/// The state of a TAP device, at one address for its whole life.
struct TAPState {
    let descriptor: Int32
    let maximumFrameByteCount: Int
    fileprivate var heap: DatapathHeap?
    /// Where the next frame is read to; there is one from `attach` on. Its block holds a byte more than the largest frame, which tells a larger one.
    fileprivate var staging: Frame?
    var statistics = DeviceStatistics()

    init(descriptor: Int32, maximumFrameByteCount: Int) {
        self.descriptor = descriptor
        self.maximumFrameByteCount = maximumFrameByteCount
    }

    @inline(__always)
    static func at(_ context: UnsafeMutableRawPointer) -> UnsafeMutablePointer<TAPState> {
        context.assumingMemoryBound(to: TAPState.self)
    }
}

extension UnsafeMutablePointer<TAPState> {
    func attach(_ heap: DatapathHeap) -> Int32 {
        guard pointee.heap == nil else { return EBUSY }
        guard let staging = makeStaging(heap) else { return ENOBUFS }
        pointee.heap = heap
        pointee.staging = staging
        return 0
    }

    private func makeStaging(_ heap: DatapathHeap) -> Frame? {
        Frame.makeSegment(heap, byteCount: pointee.maximumFrameByteCount + 1, priority: .reserve)
    }

    func receive(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        guard let heap = pointee.heap, !pointee.statistics.isGone else { return 0 }
        var count = 0
        while count < capacity {
            let staging = pointee.staging.unsafelyUnwrapped
            let byteCount = read(pointee.descriptor, staging.segmentAddress, pointee.maximumFrameByteCount + 1)
            guard byteCount >= 0 else {
                if errno == EINTR { continue }
                failed(errno)
                break
            }
            guard byteCount <= pointee.maximumFrameByteCount, byteCount >= DeviceCapabilities.ethernetHeaderByteCount else {
                pointee.statistics.receiveMalformed &+= 1
                continue
            }
            guard let frame = takeFrame(staging, byteCount, heap) else {
                pointee.statistics.receiveOutOfMemory &+= 1
                continue
            }
            pointee.statistics.receivedFrames &+= 1
            pointee.statistics.receivedBytes &+= UInt64(truncatingIfNeeded: byteCount)
            pointee.statistics.receiveCopies &+= 1
            frames[count] = frame
            count &+= 1
        }
        return count
    }

    /// The frame that was read, in the block that it was read to or, if that is four times as large or more, in one of its own. Where the heap
    /// has no block, the frame is lost and nothing else: there is always one to read the next frame to.
    private func takeFrame(_ staging: Frame, _ byteCount: Int, _ heap: DatapathHeap) -> Frame? {
        if byteCount <= staging.blockByteCount / 4 {
            guard let frame = Frame.makeSegment(heap, byteCount: byteCount, priority: .reserve) else { return nil }
            frame.segmentAddress.copyMemory(from: staging.segmentAddress, byteCount: byteCount)
            return frame
        }
        guard let next = makeStaging(heap) else { return nil }
        pointee.staging = next
        staging.truncate(to: byteCount)
        return staging
    }

    func transmit(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        var taken = 0
        while taken < count {
            let frame = frames[taken]
            let byteCount = frame.arrayByteCount
            if byteCount > pointee.maximumFrameByteCount {
                pointee.statistics.transmitTooLong &+= 1
            } else if byteCount < DeviceCapabilities.ethernetHeaderByteCount {
                pointee.statistics.transmitTooShort &+= 1
            } else if pointee.statistics.isGone {
                pointee.statistics.transmitLinkDown &+= 1
            } else {
                let result = write(frame)
                if result < 0, errno == EINTR { continue }
                if result < 0, errno == EAGAIN || errno == ENOBUFS || errno == ENOMEM {
                    pointee.statistics.transmitRingFull &+= UInt64(truncatingIfNeeded: count &- taken)
                    return taken
                }
                record(result < 0 ? errno : 0, byteCount)
            }
            frame.releaseArray()
            taken &+= 1
        }
        return taken
    }

    private func write(_ frame: Frame) -> Int {
        guard frame.nextSegment != nil else { return Glibc.write(pointee.descriptor, frame.segmentAddress, frame.segmentByteCount) }
        var vectors = InlineArray<16, iovec>(repeating: iovec())
        var span = vectors.mutableSpan
        var count: Int32 = 0
        var segment: Frame? = frame
        while let current = segment {
            span[Int(count)] = iovec(iov_base: current.segmentAddress, iov_len: current.segmentByteCount)
            count &+= 1
            segment = current.nextSegment
        }
        return span.withUnsafeMutableBufferPointer { writev(pointee.descriptor, $0.baseAddress, count) }
    }

    private func record(_ error: Int32, _ byteCount: Int) {
        switch error {
        case 0:
            pointee.statistics.transmittedFrames &+= 1
            pointee.statistics.transmittedBytes &+= UInt64(truncatingIfNeeded: byteCount)
            pointee.statistics.transmitCopies &+= 1
        case EIO: pointee.statistics.transmitLinkDown &+= 1
        case EBADFD:
            pointee.statistics.transmitLinkDown &+= 1
            pointee.statistics.isGone = true
        default: pointee.statistics.transmitErrors &+= 1
        }
    }

    /// A read has failed: nothing was there, or the interface is no more.
    private func failed(_ error: Int32) {
        switch error {
        case EAGAIN: break
        case EBADFD, EIO: pointee.statistics.isGone = true
        default: pointee.statistics.receiveErrors &+= 1
        }
    }

    func close() {
        pointee.staging?.releaseArray()
        Glibc.close(pointee.descriptor)
        deinitialize(count: 1)
        deallocate()
    }
}
