import CLinuxDevices
import DatapathMemory
import EthernetDevice
import Glibc

/// How frames come: each is the block that the kernel wrote it to, and another block takes that one's place in the fill ring.
extension UnsafeMutablePointer<XDPState> {
    func receive(_ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        guard pointee.isAttached, !pointee.counts.isGone else { return 0 }
        if pointee.deferredSince != 0, !(hasReceived && canWaitLonger) { flush() }
        if pointee.inFlight > 0 { reclaim() }
        var count = 0
        // All but the last of them.
        defer { pointee.deferrable = count &- 1 }
        guard pointee.socketCount > 1 else {
            count = receive(pointee.sockets, frames, capacity)
            return count
        }
        let first = pointee.nextSocket
        for turn in 0..<pointee.socketCount where count < capacity {
            count &+= receive(pointee.sockets + (first &+ turn) % pointee.socketCount, frames + count, capacity &- count)
        }
        pointee.nextSocket = (first &+ 1) % pointee.socketCount
        return count
    }

    @inline(__always)
    private func receive(_ socket: UnsafeMutablePointer<XDPSocket>, _ frames: UnsafeMutablePointer<Frame>, _ capacity: Int) -> Int {
        let available = socket.pointee.receive.available(UInt32(truncatingIfNeeded: capacity))
        if available == 0 { return 0 }
        var count = 0
        var position: UInt32 = 0
        while position < available {
            let descriptor = socket.pointee.receive.descriptor(position)
            if descriptor.options & UInt32(linux_xdp_packet_continues) != 0 {
                guard let taken = receiveChain(socket, position, frames + count, &count) else { break }
                position &+= taken
                continue
            }
            position &+= 1
            if let frame = takeFrame(descriptor, socket) {
                frames[count] = frame
                count &+= 1
            }
        }
        socket.pointee.receive.consume(position)
        socket.pointee.fill.publishProduced()
        if socket.pointee.fill.needsWakeup { socket.pointee.wakeReceiver() }
        return count
    }

    /// The block of a descriptor, whose count becomes the caller's, and where in it the frame begins; nil if the kernel says what cannot be.
    @inline(__always)
    private func takeBlock(_ descriptor: xdp_desc) -> (base: UInt64, offset: Int)? {
        // With unaligned chunks: the address that was in the fill ring, and above 48 bits of it the offset.
        let base = descriptor.addr & 0xffff_ffff_ffff
        let offset = descriptor.addr &>> 48
        let unit = Int(base &>> 6)
        guard base < UInt64(pointee.memory.byteCount), pointee.held[unit] != 0,
            offset &+ UInt64(descriptor.len) <= UInt64(pointee.memory.chunkByteCount)
        else {
            pointee.counts.receiveMalformed &+= 1
            return nil
        }
        pointee.held[unit] &-= 1
        return (base, Int(offset))
    }

    @inline(__always)
    private func takeFrame(_ descriptor: xdp_desc, _ socket: UnsafeMutablePointer<XDPSocket>) -> Frame? {
        guard let (base, offset) = takeBlock(descriptor) else { return nil }
        let byteCount = Int(descriptor.len)
        guard byteCount >= DeviceCapabilities.ethernetHeaderByteCount, byteCount <= pointee.maximumReceiveByteCount else {
            pointee.counts.receiveMalformed &+= 1
            offer(base, to: socket)
            return nil
        }
        let block = pointee.memory.base + Int(base)
        guard let next = pointee.heap.takeBlock(pointee.memory.chunkByteCount, priority: .reserve) else {
            // The frame is lost, and nothing else: its block takes the next one.
            pointee.counts.receiveOutOfMemory &+= 1
            offer(base, to: socket)
            return nil
        }
        let frame: Frame?
        if pointee.memory.contains(next) {
            offer(pointee.memory.offset(next), to: socket)
            frame = Frame.makeSegment(pointee.heap, takingOver: block, offset: offset, byteCount: byteCount)
        } else {
            // Of an arena that the kernel does not know: the frame moves there.
            next.copyMemory(from: block + offset, byteCount: byteCount)
            offer(base, to: socket)
            pointee.counts.receiveCopies &+= 1
            frame = Frame.makeSegment(pointee.heap, takingOver: next, offset: 0, byteCount: byteCount)
        }
        guard let frame else {
            pointee.counts.receiveOutOfMemory &+= 1
            return nil
        }
        if pointee.acceptsPartialChecksums, PartialChecksum.isPartial(frame.segmentAddress, byteCount) { frame.frameFlags = .checksumVerified }
        pointee.counts.receivedFrames &+= 1
        pointee.counts.receivedBytes &+= UInt64(truncatingIfNeeded: byteCount)
        return frame
    }

    /// A frame that is larger than a chunk comes as a chain of descriptors, and becomes one block.
    /// - Returns: how many descriptors it has; nil while not all of them are there.
    @inline(never)
    private func receiveChain(
        _ socket: UnsafeMutablePointer<XDPSocket>, _ position: UInt32, _ place: UnsafeMutablePointer<Frame>, _ count: inout Int
    ) -> UInt32? {
        // The kernel publishes a frame's descriptors together, but the batch may end between them.
        let available = socket.pointee.receive.available(position &+ 64)
        var length: UInt32 = 0
        var byteCount = 0
        while true {
            guard position &+ length < available else { return nil }
            let descriptor = socket.pointee.receive.descriptor(position &+ length)
            byteCount &+= Int(descriptor.len)
            length &+= 1
            if descriptor.options & UInt32(linux_xdp_packet_continues) == 0 { break }
        }
        var frame: Frame?
        if byteCount > pointee.maximumReceiveByteCount {
            pointee.counts.receiveMalformed &+= 1
        } else {
            frame = Frame.makeSegment(pointee.heap, byteCount: byteCount, priority: .reserve)
            if frame == nil { pointee.counts.receiveOutOfMemory &+= 1 }
        }
        var target = 0
        for index in 0..<length {
            let descriptor = socket.pointee.receive.descriptor(position &+ index)
            guard let (base, offset) = takeBlock(descriptor) else { continue }
            if let frame {
                (frame.segmentAddress + target).copyMemory(from: pointee.memory.base + Int(base) + offset, byteCount: Int(descriptor.len))
            }
            target &+= Int(descriptor.len)
            offer(base, to: socket)
        }
        if let frame {
            guard target == byteCount else {
                frame.releaseArray()
                return length
            }
            if pointee.acceptsPartialChecksums, PartialChecksum.isPartial(frame.segmentAddress, byteCount) { frame.frameFlags = .checksumVerified }
            pointee.counts.receivedFrames &+= 1
            pointee.counts.receivedBytes &+= UInt64(truncatingIfNeeded: byteCount)
            pointee.counts.receiveCopies &+= 1
            place.pointee = frame
            count &+= 1
        }
        return length
    }
}
