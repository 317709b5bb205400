import DatapathMemory
import EthernetDevice
import Glibc
import WireFormats

/// The bytes that were pushed and are not acknowledged: the arrays' own segments, chained; nothing is copied.
extension NetworkStack {
    /// Takes an array over into the send queue and sends what may be sent.
    ///
    /// It is taken whole or not at all: while the queue holds less than its limit, whatever the array's size.
    /// - Parameter now: the time, as for `setTime`; 0 for the time that the stack knows.
    /// - Returns: 0; `EAGAIN` when the queue is full (`.writable` tells when it is not); `EPIPE` after `shutdown`, `ENOTCONN`, or the connection's error.
    ///   Unless 0 is returned the array stays the caller's.
    public func send(_ connection: UInt32, _ array: Frame, at now: UInt64 = 0) -> Int32 {
        setTime(now)
        let c = state.pointee.connections[connection]
        guard c.pointee.plainHeaderEpoch == state.pointee.neighborEpoch else { return sendOverIPv6(c, array) }
        if sendAtOnce(c, array, isIPv4: true, makesCalls: false) { return 0 }
        return sendWithCalls(c, array)
    }

    @inline(never)
    private func sendOverIPv6(_ c: ConnectionPointer, _ array: Frame) -> Int32 {
        if sendAtOnce(c, array, isIPv4: false, makesCalls: false) { return 0 }
        return sendWithCalls(c, array)
    }

    /// The same where something has to be looked for.
    @inline(never)
    private func sendWithCalls(_ c: ConnectionPointer, _ array: Frame) -> Int32 {
        precondition(array.arrayByteCount > 0, "a stream takes arrays with at least one byte")
        if sendAtOnce(c, array, isIPv4: true, makesCalls: true) { return 0 }
        return sendInTurn(c, array)
    }

    /// The same where the array does not go as one segment at once.
    @inline(never)
    private func sendInTurn(_ c: ConnectionPointer, _ array: Frame) -> Int32 {
        guard c.pointee.state.maySend, !c.pointee.flags.contains(.finQueued) else { return sendRefusal(c) }
        guard c.pointee.sendByteCount < c.pointee.sendLimit else {
            c.pointee.flags.insert(.ownerWantsRoom)
            return EAGAIN
        }
        if DeliberateBug.isPresent(.pushTailLost) && array.arrayByteCount > c.pointee.sendSegmentSize { array.truncate(to: c.pointee.sendSegmentSize) }
        let byteCount = array.arrayByteCount
        let array = array.arraySegmentCount == 1 ? array : withoutEmptySegments(array)
        if let tail = c.pointee.sendTail { tail.linkSegment(array) } else { c.pointee.sendHead = array }
        c.pointee.sendTail = array.nextSegment == nil ? array : array.lastSegment
        if c.pointee.sendCursor == nil {
            c.pointee.sendCursor = array
            c.pointee.sendCursorOffset = 0
        }
        c.pointee.sendByteCount &+= byteCount
        sendPending(c)
        return 0
    }

    /// Releases the segments without bytes, so that every one in the queue counts. At least one has some.
    private func withoutEmptySegments(_ array: Frame) -> Frame {
        var first: Frame?
        var last: Frame?
        var next: Frame? = array
        while let segment = next {
            next = segment.nextSegment
            if segment.segmentByteCount == 0 {
                segment.releaseSegment()
                continue
            }
            segment.linkSegment(nil)
            if let last { last.linkSegment(segment) } else { first = segment }
            last = segment
        }
        return first.unsafelyUnwrapped
    }

    //= RFC 9293 section 3.10.2
    //# FIN-WAIT-1, FIN-WAIT-2, CLOSING, LAST-ACK, TIME-WAIT STATES: Return "error: connection closing" and do not service request.
    private func sendRefusal(_ c: ConnectionPointer) -> Int32 {
        if c.pointee.error != 0 { return c.pointee.error }
        switch c.pointee.state {
        case .closed, .listen, .synSent, .synReceived: return c.pointee.flags.contains(.finQueued) ? EPIPE : ENOTCONN
        default: return EPIPE
        }
    }

    /// Releases the bytes that were acknowledged. A partly acknowledged segment stays, shortened.
    @inline(__always)
    func releaseAcknowledged(_ c: ConnectionPointer, _ byteCount: Int) {
        c.pointee.sendByteCount &-= byteCount
        var left = byteCount
        var next = c.pointee.sendHead
        while let head = next, head != c.pointee.sendCursor, case let length = head.segmentByteCount, length <= left {
            left &-= length
            next = head.nextSegment
            head.releaseSegment()
        }
        c.pointee.sendHead = next
        if next == nil { c.pointee.sendTail = nil }
        if left > 0 { releaseChain(c, left) }
    }

    @inline(never)
    func releaseChain(_ c: ConnectionPointer, _ byteCount: Int) {
        var left = byteCount
        while let head = c.pointee.sendHead {
            let length = head.segmentByteCount
            if left >= length {
                if c.pointee.sendCursor == head {
                    // More was acknowledged than `sendNext` says since it went back.
                    c.pointee.sendCursor = head.nextSegment
                    c.pointee.sendCursorOffset = 0
                }
                c.pointee.sendHead = head.nextSegment
                head.releaseSegment()
                left -= length
            } else {
                if left > 0 {
                    if c.pointee.sendCursor == head { c.pointee.sendCursorOffset = max(0, c.pointee.sendCursorOffset - left) }
                    let isOneTooMany = DeliberateBug.isPresent(.partlyAcknowledgedByteLost) && left + 1 < length
                    head.dropFirstOfSegment(isOneTooMany ? left + 1 : left)
                }
                return
            }
        }
        c.pointee.sendTail = nil
    }

    /// Drops what was not sent and what was not acknowledged.
    func discardSendQueue(_ c: ConnectionPointer) {
        var next = c.pointee.sendHead
        while let segment = next {
            next = segment.nextSegment
            segment.releaseSegment()
        }
        c.pointee.sendHead = nil
        c.pointee.sendTail = nil
        c.pointee.sendCursor = nil
        c.pointee.sendByteCount = 0
    }
}
