import DatapathMemory
import EthernetDevice
import WireFormats

/// The bytes that arrived in order and wait for the program: the frames' own memory, chained.
extension NetworkStack {
    /// Appends the next bytes of the stream; the frame is all payload.
    @inline(__always)
    func appendReceived(_ c: ConnectionPointer, _ frame: Frame, _ byteCount: Int) {
        c.pointee.receiveNext = c.pointee.receiveNext.advanced(by: byteCount)
        c.pointee.receiveByteCount &+= byteCount
        c.pointee.awaitsData = 0
        frame.pointee.nextArray = nil
        if let tail = c.pointee.receiveTail {
            tail.pointee.nextArray = frame
            c.pointee.receiveTail = frame
            c.pointee.receivePinnedByteCount &+= frame.blockByteCount
            // Small payloads in large blocks: together they must not hold much more than what the window promises.
            if c.pointee.receivePinnedByteCount > 2 &* c.pointee.receiveLimit { collapseTail(c) }
        } else {
            c.pointee.receiveHead = frame
            c.pointee.receiveTail = frame
            c.pointee.receivePinnedByteCount = frame.blockByteCount
        }
        if c.pointee.receiveNext.since(c.pointee.growthSequence) >= 0 { growReceiveBuffer(c) }
        raise(c, .readable)
    }

    /// Copies the queue together into blocks that it fills. O(bytes in the queue), after at least as many have arrived in small pieces.
    @inline(never)
    private func collapseTail(_ c: ConnectionPointer) {
        guard c.pointee.receiveByteCount * 2 <= c.pointee.receivePinnedByteCount else { return }
        state.pointee.statistics.tcp.collapsedSegments += 1
        var next = c.pointee.receiveHead
        var head: Frame?
        var tail: Frame?
        var pinned = 0
        var left = c.pointee.receiveByteCount
        while let frame = next {
            var room = tail.map { min($0.tailroom, NetworkStack.collapsedBlockByteCount - $0.arrayByteCount) } ?? 0
            if room < frame.arrayByteCount {
                guard let block = Frame.makeSegment(
                    state.pointee.heap, byteCount: max(frame.arrayByteCount, min(left, NetworkStack.collapsedBlockByteCount)), priority: .reserve)
                else {
                    // The rest stays as it is.
                    if let tail { tail.pointee.nextArray = frame } else { head = frame }
                    while let rest = next {
                        pinned += rest.blockByteCount
                        tail = rest
                        next = rest.pointee.nextArray
                    }
                    break
                }
                block.truncate(to: 0)
                room = frame.arrayByteCount
                block.pointee.nextArray = nil
                if let tail { tail.pointee.nextArray = block } else { head = block }
                tail = block
                pinned += block.blockByteCount
            }
            let target = tail.unsafelyUnwrapped
            frame.copyArray(to: target.segmentAddress + target.segmentByteCount)
            target.extendLast(frame.arrayByteCount)
            left -= frame.arrayByteCount
            next = frame.pointee.nextArray
            frame.releaseArray()
        }
        c.pointee.receiveHead = head
        c.pointee.receiveTail = tail
        c.pointee.receivePinnedByteCount = pinned
    }

    private static var collapsedBlockByteCount: Int { 4_096 }

    /// Bytes that a connection has to give.
    public func receivableByteCount(_ connection: UInt32) -> Int {
        state.pointee.connections[connection].pointee.receiveByteCount
    }

    /// Whether the peer's end is the next thing to receive.
    //= RFC 9293 section 3.10.3
    //# CLOSE-WAIT STATE: Since the remote side has already sent FIN, RECEIVEs must be satisfied by data already on hand, but not yet delivered to the user.
    @inline(__always)
    public func isAtEndOfStream(_ connection: UInt32) -> Bool {
        let c = state.pointee.connections[connection]
        return c.pointee.receiveHead == nil && (c.pointee.flags.contains(.finReceived) || c.pointee.flags.contains(.receiveShutDown))
    }

    /// Takes the next bytes of the stream, as an array of at most `maximumSegments` segments and `maximumBytes` bytes; nil when there are none, or when
    /// `maximumBytes` is less than a segment's and no descriptor is left to cut it. The caller owns it. O(segments).
    public func takeReceived(_ connection: UInt32, maximumSegments: Int, maximumBytes: Int) -> Frame? {
        takeReceivedAndLook(connection, maximumSegments: maximumSegments, maximumBytes: maximumBytes).array
    }

    /// As `takeReceived`, and tells whether there is more to receive, bytes or the end, without another event.
    public func takeReceivedAndLook(_ connection: UInt32, maximumSegments: Int, maximumBytes: Int) -> (array: Frame?, hasMore: Bool) {
        let c = state.pointee.connections[connection]
        guard let head = c.pointee.receiveHead else { return (nil, c.pointee.state != .established) }
        if head.pointee.nextArray == nil && head.arrayByteCount <= maximumBytes && head.arraySegmentCount <= maximumSegments {
            c.pointee.receiveHead = nil
            c.pointee.receiveTail = nil
            c.pointee.receiveByteCount = 0
            c.pointee.receivePinnedByteCount = 0
            receiveQueueShrank(c)
            return (head, c.pointee.state != .established)
        }
        return (takeSeveral(c, head, maximumSegments, maximumBytes), true)
    }

    @inline(never)
    private func takeSeveral(_ c: ConnectionPointer, _ head: Frame, _ maximumSegments: Int, _ maximumBytes: Int) -> Frame? {
        var last = head.lastSegment
        var next = head.pointee.nextArray
        c.pointee.receivePinnedByteCount -= min(head.blockByteCount, c.pointee.receivePinnedByteCount)
        while let frame = next, head.arraySegmentCount + frame.arraySegmentCount <= maximumSegments, head.arrayByteCount < maximumBytes {
            next = frame.pointee.nextArray
            c.pointee.receivePinnedByteCount -= min(frame.blockByteCount, c.pointee.receivePinnedByteCount)
            head.join(frame, behind: last)
            last = frame.lastSegment
        }
        head.pointee.nextArray = nil
        if let rest = head.splitArray(maximumSegments: maximumSegments, maximumBytes: maximumBytes) {
            rest.pointee.nextArray = next
            c.pointee.receivePinnedByteCount += rest.blockByteCount
            if next == nil { c.pointee.receiveTail = rest }
            next = rest
        } else if head.arrayByteCount > maximumBytes {
            // Nothing was joined to a head that is too long by itself.
            head.pointee.nextArray = next
            c.pointee.receivePinnedByteCount += head.blockByteCount
            return nil
        }
        c.pointee.receiveHead = next
        if next == nil { c.pointee.receiveTail = nil }
        c.pointee.receiveByteCount -= head.arrayByteCount
        receiveQueueShrank(c)
        return head
    }

    /// What was received in order; what waits behind a gap goes with the connection.
    //= RFC 2018 section 8
    //# Such discarding of SACKed packets is discouraged, but may be used if the receiver runs out of buffer space.
    func discardReceiveQueue(_ c: ConnectionPointer) {
        while let frame = c.pointee.receiveHead {
            c.pointee.receiveHead = frame.pointee.nextArray
            frame.releaseArray()
        }
        c.pointee.receiveTail = nil
        c.pointee.receiveByteCount = 0
        c.pointee.receivePinnedByteCount = 0
    }

    // MARK: Text and FIN

    /// Seventh and eighth: the segment's text, wherever in the window it lies, and its FIN.
    func textArrives(_ c: ConnectionPointer, _ frame: Frame, _ sequence: SequenceNumber, _ byteCount: Int, hasFinish: Bool) {
        var offset = sequence.since(c.pointee.receiveNext)
        var byteCount = byteCount
        var hasFinish = hasFinish
        let window = DeliberateBug.isPresent(.beyondWindowAccepted) ? 1 << 20 : c.pointee.receiveEdge.since(c.pointee.receiveNext)
        // Cut to the window: first what was received before, then what was not asked for.
        if offset < 0 {
            let known = min(-offset, byteCount)
            noteDuplicate(c, sequence, byteCount: known)
            frame.removeFirst(known)
            byteCount -= known
            offset += known
        }
        if offset + byteCount > window {
            frame.truncate(to: max(0, window - offset))
            byteCount = frame.arrayByteCount
            // The FIN stands behind what was cut off.
            hasFinish = false
        }
        if hasFinish && offset >= 0 {
            let finish = c.pointee.receiveNext.advanced(by: offset + byteCount)
            // A second FIN elsewhere is a lie; the first one counts.
            if !c.pointee.flags.contains(.finKnown) && finish.since(c.pointee.receiveNext) >= 0 {
                c.pointee.flags.insert(.finKnown)
                c.pointee.finSequence = finish
            }
        }
        if c.pointee.flags.contains(.finKnown) {
            let end = c.pointee.finSequence.since(c.pointee.receiveNext)
            if offset + byteCount > end {
                frame.truncate(to: max(0, end - offset))
                byteCount = frame.arrayByteCount
            }
        }
        if offset > 0 {
            //= RFC 9293 section 3.10.7.4
            //# A TCP implementation MAY send an ACK segment acknowledging RCV.NXT when a valid segment arrives that is in the window but not at the left window
            //# edge (MAY-13).
            state.pointee.statistics.tcp.outOfOrderSegments += 1
            if byteCount > 0 { lendExceptionalState(c).pointee.reported.note(c.pointee.receiveNext.advanced(by: offset)) }
            if byteCount > 0 { keepForReassembly(c, frame, offset, byteCount) } else { frame.releaseArray() }
            if DeliberateBug.isPresent(.finishTakenEarly) && hasFinish { return finishArrives(c) }
            //= RFC 5681 section 4.2
            //# A TCP receiver SHOULD send an immediate duplicate ACK when an out-of-order segment arrives.
            return sendAcknowledgement(c)
        }
        let filledGap = !c.pointee.reassembly.isEmpty
        if byteCount > 0 {
            takeInOrder(c, frame, byteCount)
            //= RFC 9293 section 3.10.7.4
            //# the processing of received segments MUST be implemented to aggregate ACK segments whenever possible (MUST-58). If the TCP endpoint is processing
            //# a series of queued segments, it MUST process them all before sending any ACK segments (MUST-59).
            drainReassembly(c)
            if filledGap { settleException(c) }
        } else {
            frame.releaseArray()
        }
        if c.pointee.flags.contains(.finKnown) && !c.pointee.flags.contains(.finReceived) && c.pointee.finSequence == c.pointee.receiveNext {
            return finishArrives(c)
        }
        //= RFC 5681 section 4.2
        //# A TCP receiver MUST NOT generate more than one ACK for every incoming segment, other than to update the offered window.
        if byteCount == 0 || filledGap {
            //= RFC 5681 section 4.2
            //# a TCP receiver SHOULD send an immediate ACK when the incoming segment fills in all or part of a gap in the sequence space.
            sendAcknowledgement(c)
        } else {
            acknowledgeReceived(c)
        }
    }

    private func takeInOrder(_ c: ConnectionPointer, _ frame: Frame, _ byteCount: Int) {
        if c.pointee.flags.contains(.receiveShutDown) {
            // The program wants no more: it is received and forgotten.
            c.pointee.receiveNext = c.pointee.receiveNext.advanced(by: byteCount)
            return drop(frame, .dataAfterClose)
        }
        appendReceived(c, frame, byteCount)
    }

    /// An acknowledgement is owed for data in order: at once for every second segment, else within the delay.
    @inline(__always)
    func acknowledgeReceived(_ c: ConnectionPointer) {
        c.pointee.unacknowledgedSegments &+= 1
        if DeliberateBug.isPresent(.everyThirdAcknowledged) && c.pointee.unacknowledgedSegments == 2 { return }
        if c.pointee.unacknowledgedSegments == 1 && c.pointee.acknowledgeDeadline == .max {
            if DeliberateBug.isPresent(.delayedAcknowledgementLost) { return }
            //= RFC 9293 section 3.8.6.3
            //# A TCP endpoint SHOULD implement a delayed ACK (SHLD-18). An ACK SHOULD be generated for at least every second full-sized segment (SHLD-19); the
            //# delay MUST be less than 0.5 seconds (MUST-40).
            //= RFC 5681 section 4.2
            //# an ACK SHOULD be generated for at least every second full-sized segment, and MUST be generated within 500 ms of the arrival of the first
            //# unacknowledged packet
            c.pointee.acknowledgeDeadline = state.pointee.now &+ state.pointee.configuration.tcp.delayedAcknowledgement
            schedule(c, c.pointee.acknowledgeDeadline)
        } else {
            sendAcknowledgement(c)
        }
    }

    /// Eighth, the FIN bit, once everything before it is received.
    private func finishArrives(_ c: ConnectionPointer) {
        c.pointee.receiveNext = c.pointee.receiveNext.advanced(by: DeliberateBug.isPresent(.finishNotCounted) ? 0 : 1)
        c.pointee.receiveEdge = c.pointee.receiveEdge.since(c.pointee.receiveNext) < 0 ? c.pointee.receiveNext : c.pointee.receiveEdge
        c.pointee.flags.insert(.finReceived)
        if !c.pointee.reassembly.isEmpty {
            c.pointee.reassembly.discard()
            settleException(c)
        }
        switch c.pointee.state {
        case .established: c.pointee.state = .closeWait
        case .finWait1:
            //= RFC 9293 section 3.10.7.4
            //# If our FIN has been ACKed (perhaps in this segment), then enter TIME-WAIT; otherwise, enter the CLOSING state.
            state.pointee.statistics.tcp.simultaneousCloses += 1
            c.pointee.state = .closing
        case .finWait2:
            sendAcknowledgement(c)
            raise(c, .readable)
            return enterTimeWait(c)
        default: break
        }
        sendAcknowledgement(c)
        raise(c, .readable)
    }
}
