import CDatapath
import DatapathMemory
import EthernetDevice
import Glibc

/// Frames out and in.
extension MemifHandle {
    /// Receives after which the sockets are looked at although the rings are quiet, or busy: a call into the kernel.
    private static let receivesPerControl = 1_024
    /// Receives without a frame, less one, after which a client posts the buffers that it has emptied: no ring stays short of some while nothing comes.
    private static let postingMask: UInt32 = 255

    func transmit(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int32 {
        guard state.pointee.phase == .up else { return dropAll(frames, count) }
        guard var room = state.pointee.transmitRing!.available(atLeast: count) else {
            breakLink(\.brokenIndices)
            return dropAll(frames, count)
        }
        var taken = 0
        var sent = 0
        while taken < count {
            let frame = frames[taken]
            let byteCount = frame.arrayByteCount
            if byteCount > state.pointee.configuration.maximumTransmissionUnit + DeviceCapabilities.ethernetHeaderByteCount {
                state.pointee.deviceStatistics.transmitTooLong += 1
            } else if byteCount < DeviceCapabilities.ethernetHeaderByteCount {
                state.pointee.deviceStatistics.transmitTooShort += 1
            } else {
                let slots = put(frame, byteCount, room)
                guard slots > 0 else {
                    guard slots == 0 else {
                        breakLink(\.brokenDescriptors)
                        return Int32(taken) + dropAll(frames + taken, count - taken)
                    }
                    // The peer may have gone on since its index was read.
                    guard let more = state.pointee.transmitRing!.available(atLeast: .max) else {
                        breakLink(\.brokenIndices)
                        return Int32(taken) + dropAll(frames + taken, count - taken)
                    }
                    if more <= room { break }
                    room = more
                    continue
                }
                room -= slots
                sent += 1
                state.pointee.transmitRing!.advance(slots)
                state.pointee.deviceStatistics.transmittedFrames += 1
                state.pointee.deviceStatistics.transmittedBytes += UInt64(byteCount)
                state.pointee.deviceStatistics.transmitCopies += 1
            }
            frame.releaseArray()
            taken += 1
        }
        state.pointee.deviceStatistics.transmitRingFull += UInt64(count - taken)
        if sent > 0 {
            state.pointee.transmitRing!.publish()
            state.pointee.transmitRing!.prefetch()
            if state.pointee.transmitRing!.wantsSignal() {
                state.pointee.statistics.wakeUpsSent += 1
                state.pointee.transmitRing!.signal()
            }
        }
        return Int32(taken)
    }

    /// Copies a frame into as many slots as it takes.
    /// - Returns: how many; 0 when there are not enough; negative for a descriptor that cannot be.
    private func put(_ frame: Frame, _ byteCount: Int, _ room: Int) -> Int {
        var used = 0
        var left = byteCount
        var segment: Frame? = frame
        var skip = 0
        while left > 0 {
            guard used < room else { return 0 }
            let slot = state.pointee.transmitRing!.slot(used)
            guard let memory = slot.memory, slot.byteCount > 0 else { return -1 }
            let count = min(left, slot.byteCount)
            var filled = 0
            while filled < count, let current = segment {
                let part = min(count - filled, current.segmentByteCount - skip)
                (memory + filled).copyMemory(from: current.segmentAddress + skip, byteCount: part)
                filled += part
                skip += part
                if skip == current.segmentByteCount {
                    segment = current.nextSegment
                    skip = 0
                }
            }
            left -= count
            state.pointee.transmitRing!.fill(used, byteCount: count, isContinued: left > 0)
            used += 1
        }
        return used
    }

    private func dropAll(_ frames: UnsafeMutablePointer<Frame>, _ count: Int) -> Int32 {
        for index in 0..<count { frames[index].releaseArray() }
        state.pointee.deviceStatistics.transmitLinkDown += UInt64(count)
        return Int32(count)
    }

    func receive(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int32 {
        state.pointee.receivesSinceControl &+= 1
        if state.pointee.receivesSinceControl >= MemifHandle.receivesPerControl || state.pointee.controlsDue > 0 { control() }
        guard state.pointee.phase == .up, let heap = state.pointee.heap else { return 0 }
        guard let available = state.pointee.receiveRing!.available(atLeast: .max) else {
            breakLink(\.brokenIndices)
            return 0
        }
        guard available > 0 else {
            state.pointee.emptyReceives &+= 1
            if state.pointee.emptyReceives & MemifHandle.postingMask == 0, state.pointee.receiveRing!.hasUnposted {
                state.pointee.receiveRing!.post()
            }
            return 0
        }
        state.pointee.receiveRing!.prefetch()
        // What comes is mostly answered.
        state.pointee.transmitRing!.prefetch()
        if state.pointee.isArmed { disarm() }
        var count = 0
        var left = available
        while left > 0, count < capacity {
            var frame: Frame?
            let slots = take(heap, left, &frame)
            guard slots > 0 else {
                if slots == 0 { break }
                breakLink(\.brokenDescriptors)
                return Int32(count)
            }
            left -= slots
            state.pointee.receiveRing!.advance(slots)
            if let frame {
                frames[count] = frame
                count += 1
            }
        }
        state.pointee.receiveRing!.publish()
        return Int32(count)
    }

    /// Copies the frame at the front out of its slots; nil, and counted, when it is dropped.
    /// - Returns: how many slots it has; 0 when its end is not there yet; negative for a descriptor that cannot be.
    private func take(_ heap: DatapathHeap, _ available: Int, _ frame: inout Frame?) -> Int {
        var slots = 0
        var byteCount = 0
        var isContinued = true
        // Lengths are summed first, from descriptors that the peer can still change: what is copied is bounded below by what was allocated.
        while isContinued {
            guard slots < available else { return available == state.pointee.receiveRing!.size ? -1 : 0 }
            let slot = state.pointee.receiveRing!.slot(slots)
            guard slot.memory != nil else { return -1 }
            byteCount += slot.byteCount
            isContinued = slot.isContinued
            slots += 1
        }
        let maximum = state.pointee.configuration.maximumTransmissionUnit + DeviceCapabilities.ethernetHeaderByteCount
        guard (DeviceCapabilities.ethernetHeaderByteCount...maximum).contains(byteCount) else {
            state.pointee.deviceStatistics.receiveMalformed += 1
            return slots
        }
        guard let copy = Frame.makeSegment(heap, byteCount: byteCount, priority: .datagram) else {
            state.pointee.deviceStatistics.receiveOutOfMemory += 1
            return slots
        }
        var filled = 0
        for index in 0..<slots {
            let slot = state.pointee.receiveRing!.slot(index)
            guard let memory = slot.memory else {
                copy.releaseArray()
                return -1
            }
            let part = min(slot.byteCount, byteCount - filled)
            (copy.segmentAddress + filled).copyMemory(from: memory, byteCount: part)
            filled += part
        }
        guard filled == byteCount else {
            // A length became less in between: the rest was never written.
            copy.releaseArray()
            return -1
        }
        copy.frameFlags = []
        state.pointee.deviceStatistics.receivedFrames += 1
        state.pointee.deviceStatistics.receivedBytes += UInt64(byteCount)
        state.pointee.deviceStatistics.receiveCopies += 1
        frame = copy
        return slots
    }

    // MARK: Sleep

    func prepareToSleep() -> Int32 {
        state.pointee.controlsDue = 2
        if state.pointee.phase == .up {
            if state.pointee.receiveRing!.hasUnposted { state.pointee.receiveRing!.post() }
            state.pointee.receiveRing!.setPolling(false)
            state.pointee.isArmed = true
        }
        return state.pointee.events
    }

    func disarm() {
        state.pointee.isArmed = false
        if state.pointee.phase == .up { state.pointee.receiveRing!.setPolling(true) }
    }

    private func breakLink(_ reason: WritableKeyPath<MemifStatistics, UInt64>) {
        state.pointee.statistics[keyPath: reason] += 1
        endLink("the peer has broken the rules of the ring")
        callLater()
    }
}
