import CDatapath
import CLinuxDevices
import DatapathMemory
import EthernetDevice
import Glibc

/// How frames leave: each segment is a descriptor in the transmit ring of the first queue, and its block is released when the completion ring names it.
extension UnsafeMutablePointer<XDPState> {
    private var socket: UnsafeMutablePointer<XDPSocket> { pointee.sockets }

    func transmit(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        var taken = 0
        if pointee.counts.isGone || pointee.isDown && !isUpAgain() { return drop(frames, count) }
        while taken < count {
            guard hasRoom() else {
                socket.pointee.transmit.publishProduced()
                flush()
                reclaim()
                guard hasRoom() else { break }
                continue
            }
            let frame = frames[taken]
            let byteCount = frame.arrayByteCount
            if byteCount > pointee.maximumFrameByteCount {
                pointee.counts.transmitTooLong &+= 1
                frame.releaseArray()
            } else if byteCount < DeviceCapabilities.ethernetHeaderByteCount {
                pointee.counts.transmitTooShort &+= 1
                frame.releaseArray()
            } else if isInMemory(frame) {
                submit(frame)
                record(byteCount)
            } else if completeChecksum(frame), submitCopy(frame, byteCount) {
                pointee.counts.transmitCopies &+= 1
                record(byteCount)
            } else {
                break
            }
            taken &+= 1
        }
        socket.pointee.transmit.publishProduced()
        if !mayWait(taken) { flush() }
        pointee.counts.transmitRingFull &+= UInt64(truncatingIfNeeded: count &- taken)
        return taken
    }

    @inline(__always)
    private func record(_ byteCount: Int) {
        pointee.counts.transmittedFrames &+= 1
        pointee.counts.transmittedBytes &+= UInt64(truncatingIfNeeded: byteCount)
    }

    /// Whether the largest frame has room in both rings.
    @inline(__always)
    private func hasRoom() -> Bool {
        pointee.inFlight &+ UInt32(XDPState.maximumDescriptors) <= UInt32(XDPState.transmitEntries)
            && socket.pointee.transmit.room(atLeast: UInt32(XDPState.maximumDescriptors)) >= UInt32(XDPState.maximumDescriptors)
    }

    @inline(__always)
    private func isInMemory(_ frame: Frame) -> Bool {
        var segment: Frame? = frame
        while let current = segment {
            if !pointee.memory.contains(current.segmentAddress) { return false }
            segment = current.nextSegment
        }
        return true
    }

    /// Whether `count` frames that were put into the ring wait for the next ones.
    ///
    /// Frames that came together are mostly answered one after the other. A call into the kernel costs as much as what it does for a small frame, so
    /// the answers share one: the last answer sends all of them if nothing else has come by then. A program that takes its time for each answer
    /// keeps one of them back until the next, or until its next turn, and no more.
    @inline(__always)
    private func mayWait(_ count: Int) -> Bool {
        pointee.deferrable &-= count
        guard pointee.deferrable >= 0 || hasReceived, canWaitLonger else { return false }
        if pointee.deferredSince == 0 { pointee.deferredSince = demi_cycle_counter() | 1 }
        return true
    }

    /// Whether what waits to be sent may do so while the next frames are handled.
    @inline(__always)
    var canWaitLonger: Bool {
        guard socket.pointee.transmit.pending < UInt32(XDPState.kernelBatch) else { return false }
        return pointee.deferredSince == 0 || demi_cycle_counter() &- pointee.deferredSince < pointee.deferralCycles
    }

    /// Whether frames have come that `receive` has not taken.
    @inline(__always)
    var hasReceived: Bool {
        for index in 0..<pointee.socketCount where pointee.sockets[index].receive.available(1) > 0 { return true }
        return false
    }

    /// Writes the descriptors of a frame, whose counts on its blocks become the device's.
    @inline(__always)
    private func submit(_ frame: Frame) {
        var options: UInt32 = 0
        if frame.frameFlags.contains(.needsTransportChecksum), leavesChecksum(frame) { options = UInt32(linux_xdp_has_metadata) }
        var segment: Frame? = frame
        var left = frame.arrayByteCount
        while let current = segment {
            segment = current.nextSegment
            var address = current.segmentAddress
            var byteCount = current.segmentByteCount
            left &-= byteCount
            if byteCount == 0 {
                DatapathHeap.releaseBlock(containing: address)
                continue
            }
            while true {
                // A descriptor crosses no page, and is no longer than a chunk.
                let offset = pointee.memory.offset(address)
                let piece = Swift.min(byteCount, pointee.memory.chunkByteCount, 4096 &- Int(offset & 4095))
                byteCount &-= piece
                produce(offset, piece, continues: byteCount &+ left > 0, options)
                options = 0
                if byteCount == 0 { break }
                DatapathHeap.retainBlock(containing: address)
                address += piece
            }
        }
        frame.releaseDescriptors()
    }

    @inline(__always)
    private func produce(_ offset: UInt64, _ byteCount: Int, continues: Bool, _ options: UInt32 = 0) {
        pointee.held[Int(offset &>> 6)] &+= 1
        socket.pointee.transmit.produce(
            xdp_desc(
                addr: offset, len: UInt32(truncatingIfNeeded: byteCount), options: options | (continues ? UInt32(linux_xdp_packet_continues) : 0)))
        pointee.inFlight &+= 1
    }

    /// Sends a copy of a frame that does not lie in the region, from the places that are there for it. False while too few of them are free.
    @inline(never)
    private func submitCopy(_ frame: Frame, _ byteCount: Int) -> Bool {
        let chunk = pointee.memory.chunkByteCount
        let places = (byteCount + chunk - 1) / chunk
        if pointee.freeCopyPlaces.nonzeroBitCount < places { reclaim() }
        guard pointee.freeCopyPlaces.nonzeroBitCount >= places, places == 1 || pointee.grant.gathers else { return false }
        var segment: Frame? = frame
        var taken = 0
        var left = byteCount
        while left > 0 {
            let place = pointee.freeCopyPlaces.trailingZeroBitCount
            pointee.freeCopyPlaces &= ~(1 << UInt32(place))
            let target = pointee.copyPlaces + place * chunk
            var filled = 0
            while filled < chunk, let current = segment {
                let piece = Swift.min(chunk - filled, current.segmentByteCount - taken)
                (target + filled).copyMemory(from: current.segmentAddress + taken, byteCount: piece)
                filled += piece
                taken += piece
                if taken == current.segmentByteCount { (segment, taken) = (current.nextSegment, 0) }
            }
            left -= filled
            // As of any other block, the device has a count on it that the completion gives back.
            DatapathHeap.retainBlock(containing: target)
            produce(pointee.memory.offset(target), filled, continues: left > 0)
        }
        frame.releaseArray()
        return true
    }

    /// Releases what the kernel has sent.
    func reclaim() {
        let available = socket.pointee.completion.available(pointee.inFlight)
        if available == 0 { return }
        for position in 0..<available {
            let offset = socket.pointee.completion.address(position)
            let unit = Int(truncatingIfNeeded: offset &>> 6)
            guard offset < UInt64(pointee.memory.byteCount), pointee.held[unit] != 0 else {
                pointee.counts.transmitErrors &+= 1
                continue
            }
            pointee.held[unit] &-= 1
            let address = pointee.memory.base + Int(offset)
            let inPlaces = address - pointee.copyPlaces
            if inPlaces >= 0, inPlaces < XDPState.copyPlaceCount * pointee.memory.chunkByteCount {
                pointee.freeCopyPlaces |= 1 << UInt32(inPlaces / pointee.memory.chunkByteCount)
            }
            DatapathHeap.releaseBlock(containing: address)
        }
        socket.pointee.completion.consume(available)
        pointee.inFlight &-= available
    }

    /// Has the kernel send what is in the ring, as far as it goes without waiting.
    func flush() {
        pointee.deferredSince = 0
        guard socket.pointee.transmit.needsWakeup else { return }
        var pending = socket.pointee.transmit.pending
        while pending > 0 {
            let error = socket.pointee.wakeTransmitter()
            switch error {
            case 0: pointee.isDown = false
            case EAGAIN, EBUSY, ENOBUFS, EINTR: break
            case ENETDOWN:
                pointee.isDown = true
                return
            case ENXIO, ENODEV:
                pointee.counts.isGone = true
                return
            default:
                pointee.counts.transmitErrors &+= 1
                return
            }
            let left = socket.pointee.transmit.pending
            // The driver sends by itself in zero copy; else a call without progress means that there is no room.
            if left >= pending { return }
            pending = left
        }
    }

    /// Asks whether an interface that was down is up again: what is left in the ring is sent then.
    private func isUpAgain() -> Bool {
        pointee.isDown = socket.pointee.wakeTransmitter() == ENETDOWN
        return !pointee.isDown
    }

    @inline(never)
    private func drop(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int {
        for index in 0..<count { frames[index].releaseArray() }
        pointee.counts.transmitLinkDown &+= UInt64(count)
        return count
    }
}
