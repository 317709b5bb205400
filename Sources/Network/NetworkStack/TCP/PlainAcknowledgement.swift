import DatapathMemory
import WireFormats

/// The short way for what most acknowledgements of new data are: of whole segments that were sent once, in order, by a connection that loses nothing, and
/// whose sending only the program limits.
///
/// It makes no call, but for one at its end: so it needs neither a stack frame nor to save registers. All that could make an acknowledgement another one
/// is looked at before anything is changed; every other goes the long way (`acknowledgeNewData`), which does the same with these.
extension NetworkStack {
    /// New data is acknowledged, within what was sent, by a segment that tells nothing else but the window; the connection is in no recovery.
    /// - Parameter transport: the segment, whose only option may be that of timestamps.
    @inline(never)
    func acknowledgePlainly(_ c: ConnectionPointer, _ acknowledgement: SequenceNumber, _ transport: UnsafeRawPointer) {
        acknowledgePlainlyInline(c, acknowledgement, transport)
    }

    /// The same, compiled into its caller.
    @inline(__always)
    func acknowledgePlainlyInline(_ c: ConnectionPointer, _ acknowledgement: SequenceNumber, _ transport: UnsafeRawPointer) {
        let byteCount = acknowledgement.since(c.pointee.sendUnacknowledged)
        let isTimed = acknowledgement.since(c.pointee.timedSequence) >= 0
        let first = c.pointee.scoreboard.first
        let records = state.pointee.transmissions
        guard c.pointee.flags.isDisjoint(with: [.fastRecovery, .congestionWindowLimited, .persisting, .ownerWantsRoom, .isPaced]),
            // A sample by a timestamp, the first one, and those who count marks.
            !isTimed || c.pointee.flags.contains(.timing) && c.pointee.roundTrip.hasSample && c.pointee.congestion.algorithm != .dctcp
        else { return acknowledgeOtherwise(c, acknowledgement, transport) }
        // Our FIN has a sequence number and no byte.
        guard byteCount <= c.pointee.sendByteCount else { return acknowledgeOtherwise(c, acknowledgement, transport) }
        // What is sent again may be acknowledged beyond `sendNext`.
        guard c.pointee.sendNext == c.pointee.sendMaximum, _fastPath(acknowledgement.since(c.pointee.windowUpdateAcknowledgement) > 0),
            // There are records, and none of them was overtaken.
            _fastPath(first != 0), c.pointee.scoreboard.start.since(c.pointee.recovery.forwardEnd) >= 0
        else { return acknowledgeOtherwise(c, acknowledgement, transport) }
        var last = first
        var count = 1
        var marks = records[first].pointee.flags
        while case let order = records[last].pointee.end.since(acknowledgement), order != 0 {
            let next = records[last].pointee.next
            // It ends within a segment.
            guard order < 0, next != 0 else { return acknowledgeOtherwise(c, acknowledgement, transport) }
            last = next
            count &+= 1
            marks.formUnion(records[last].pointee.flags)
        }
        guard marks.isEmpty else { return acknowledgeOtherwise(c, acknowledgement, transport) }

        let next = records[last].pointee.next
        let sentAt = records[last].pointee.sentAt
        state.pointee.transmissions.free(from: first, through: last, count: count)
        c.pointee.scoreboard.first = next
        if next == 0 { c.pointee.scoreboard.last = 0 }
        c.pointee.scoreboard.start = acknowledgement
        c.pointee.recovery.forwardEnd = acknowledgement
        if sentAt != 0 { noteDelivered(c, sentAt, acknowledgement) }
        if isTimed {
            c.pointee.flags.remove(.timing)
            let sample = state.pointee.now &- c.pointee.timedAt
            c.pointee.roundTrip.measureAgain(sample, state.pointee.configuration.tcp.timeoutBounds)
            c.pointee.timedSequence = c.pointee.sendMaximum
            c.pointee.deliveredByteCount = acknowledgement.since(c.pointee.timedUnacknowledged)
            c.pointee.deliveryInterval = sample
        }
        c.pointee.sendUnacknowledged = acknowledgement
        c.pointee.duplicateAcknowledgements = 0
        c.pointee.retransmissionCount = 0
        // It is the newest acknowledgement, whose window counts.
        c.pointee.windowUpdateSequence = c.pointee.receiveNext
        c.pointee.windowUpdateAcknowledgement = acknowledgement
        let window = Int((transport + 14).loadUnaligned(as: UInt16.self).bigEndian) &<< Int(c.pointee.sendWindowShift)
        c.pointee.sendWindow = window
        if window > c.pointee.maximumSendWindow { c.pointee.maximumSendWindow = window }

        // There are as many bytes, and the cursor lies behind all of them: it is where the byte at `sendNext` is.
        c.pointee.sendByteCount &-= byteCount
        var left = byteCount
        var head = c.pointee.sendHead
        repeat {
            let segment = head.unsafelyUnwrapped
            let length = segment.segmentByteCount
            let following = segment.nextSegment
            guard length <= left, segment.releaseSegmentAtOnce() else {
                c.pointee.sendHead = head
                return finishAcknowledgement(c, left)
            }
            left &-= length
            head = following
        } while left > 0
        c.pointee.sendHead = head
        if head == nil { c.pointee.sendTail = nil }
        restartTimer(c)
    }

    @inline(never)
    private func acknowledgeOtherwise(_ c: ConnectionPointer, _ acknowledgement: SequenceNumber, _ transport: UnsafeRawPointer) {
        let hasTimestamps = (transport + 12).load(as: UInt8.self) == 0x80
        let echo = hasTimestamps ? (transport + 28).loadUnaligned(as: UInt32.self).bigEndian : nil
        acknowledgeNewData(c, acknowledgement, timestampEcho: echo, isWhole: true)
        updateWindowPlainly(c, transport)
    }

    /// Takes the window of a segment that is the next one in order.
    @inline(never)
    func updateWindowPlainly(_ c: ConnectionPointer, _ transport: UnsafeRawPointer) {
        updateSendWindow(
            c, c.pointee.receiveNext, SequenceNumber(rawValue: (transport + 8).loadUnaligned(as: UInt32.self).bigEndian),
            (transport + 14).loadUnaligned(as: UInt16.self).bigEndian)
    }

    /// The rest of an acknowledgement where releasing what is acknowledged is more than to put it into lists.
    @inline(never)
    private func finishAcknowledgement(_ c: ConnectionPointer, _ byteCount: Int) {
        releaseChain(c, byteCount)
        restartTimer(c)
    }
}
