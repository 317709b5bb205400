import DatapathMemory
import EthernetDevice
import WireFormats

/// The way out of the stack, and the short one back into it.
extension NetworkStack {
    /// Writes the 14 bytes in front of an IPv4 packet.
    @inline(__always)
    func writeEthernetHeader(at header: UnsafeMutableRawPointer, destination: MACAddress) {
        EthernetHeader.write(to: header, destination: destination, source: state.pointee.macAddress, etherType: EtherType.ipv4)
    }

    /// Puts a finished frame into the output, and takes it over. Callers that can wait have looked whether it is full.
    @inline(__always)
    func emit(_ frame: Frame) {
        if state.pointee.output.pointee.isExhausted { return drop(frame, .outOfMemory) }
        state.pointee.output.pointee.append(frame)
        state.pointee.statistics.framesSent &+= 1
    }

    /// Takes over a packet behind 14 bytes of Ethernet header, and sends it where the route says; the header's destination is filled in.
    func sendPacket(_ frame: Frame, by decision: RouteDecision) {
        if decision.isLocal { return deliverLocally(frame) }
        let neighbor = neighbor(for: decision.nextHop)
        guard neighbor != 0 else { return drop(frame, .neighborUnreachable) }
        send(frame, to: neighbor)
    }

    /// Takes over a frame to one of the stack's own addresses. It arrives when the stack next runs what is due, not within this call.
    func deliverLocally(_ frame: Frame) {
        guard !state.pointee.loopback.isFull else { return drop(frame, .outOfMemory) }
        state.pointee.loopback.append(frame)
    }

    /// Receives the frames that the stack had sent to itself when the call began; what they cause waits for the next one.
    /// - Returns: how many.
    func deliverLoopback() -> Int {
        let count = state.pointee.loopback.count
        for _ in 0..<count {
            guard let sent = state.pointee.loopback.removeFirst() else { break }
            // The sender may keep its blocks, to send them again; the receiver's are its own.
            let isReady = sent.arraySegmentCount == 1 && sent.isSoleOwner
            guard let frame = isReady ? sent : makeLinearCopy(sent) else { continue }
            // The bytes have never left the memory.
            frame.frameFlags = .checksumVerified
            frame.detachInformation()
            if (frame.segmentAddress + 12).loadUnaligned(as: UInt16.self) == EtherType.ipv6.bigEndian {
                ipv6Input(frame, at: EthernetHeader.byteCount, origin: .loopback)
            } else {
                ipv4Input(frame, at: EthernetHeader.byteCount, origin: .loopback)
            }
        }
        return count
    }

    /// The frame's bytes in one block of its own; the frame is released. Nil, and counted, when there is no memory. O(bytes).
    @inline(never)
    func makeLinearCopy(_ frame: Frame) -> Frame? {
        guard let copy = Frame.makeSegment(state.pointee.heap, byteCount: frame.arrayByteCount, priority: .datagram) else {
            drop(frame, .outOfMemory)
            return nil
        }
        frame.copyArray(to: copy.segmentAddress)
        copy.frameFlags = frame.frameFlags
        frame.releaseArray()
        return copy
    }
}
