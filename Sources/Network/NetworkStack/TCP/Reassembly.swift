import DatapathMemory
import EthernetDevice
import WireFormats

/// Segments that arrived ahead of their turn, in the order of the stream, none overlapping another: runs of them, each without a gap.
///
/// A piece is a frame cut to its payload; its sequence number stands in the descriptor's `operation`. The pieces of a run are linked as segments are, and
/// keep totals of their own. The first one's `nextArray` is the next run; the second one's, which needs none, is the run's last piece. So what comes
/// behind a gap is kept, and told of, in a time that grows with the gaps, whatever has arrived since; and a connection has no memory for it but the frames.
struct ReassemblyQueue {
    var first: Frame?
    var pieceCount: UInt16 = 0
    var runCount: UInt16 = 0

    @inline(__always)
    var isEmpty: Bool { first == nil }

    mutating func discard() {
        while let run = first {
            first = run.pointee.nextArray
            var next: Frame? = run
            while let piece = next {
                next = piece.nextSegment
                piece.linkSegment(nil)
                piece.releaseArray()
            }
        }
        pieceCount = 0
        runCount = 0
    }

    /// Takes the first piece out.
    mutating func takeFirst(_ piece: Frame) {
        if let second = piece.nextSegment {
            let last = second.pointee.nextArray
            second.pointee.nextArray = piece.pointee.nextArray
            if let third = second.nextSegment { third.pointee.nextArray = last }
            first = second
        } else {
            first = piece.pointee.nextArray
            runCount -= 1
        }
        piece.linkSegment(nil)
        piece.pointee.nextArray = nil
        pieceCount -= 1
    }

    /// Puts a piece between two runs, of which it overlaps neither, and joins what it closes the gap between. O(1).
    mutating func insert(_ piece: Frame, behind previous: Frame?, before next: Frame?) {
        pieceCount += 1
        piece.linkSegment(nil)
        piece.pointee.nextArray = next
        var run = piece
        if let previous, previous.runEnd == piece.runStart {
            ReassemblyQueue.join(previous, piece)
            run = previous
        } else {
            runCount += 1
            if let previous { previous.pointee.nextArray = piece } else { first = piece }
        }
        if let next, run.runEnd == next.runStart {
            ReassemblyQueue.join(run, next)
            runCount -= 1
        }
    }

    /// Two runs that touch become one, which is followed by what followed the second.
    private static func join(_ run: Frame, _ other: Frame) {
        let last = other.runLast
        let following = other.pointee.nextArray
        run.runLast.linkSegment(other)
        run.pointee.nextArray = following
        // A run of two pieces at least.
        if let second = run.nextSegment { second.pointee.nextArray = last }
    }
}

/// The first piece of a run.
extension Frame {
    var runStart: SequenceNumber { SequenceNumber(rawValue: pointee.operation) }
    /// O(1).
    var runLast: Frame { nextSegment.map { $0.pointee.nextArray ?? $0 } ?? self }
    /// Where the run ends. O(1).
    var runEnd: SequenceNumber {
        let last = runLast
        return SequenceNumber(rawValue: last.pointee.operation).advanced(by: last.segmentByteCount)
    }
}

extension NetworkStack {
    /// Keeps `byteCount` bytes that lie `offset` behind the next expected one. What is there already counts: bytes that contradict it are dropped.
    /// O(gaps).
    func keepForReassembly(_ c: ConnectionPointer, _ frame: Frame, _ offset: Int, _ byteCount: Int) {
        let sequence = c.pointee.receiveNext.advanced(by: offset)
        var previous: Frame?
        var next = c.pointee.reassembly.first
        var start = sequence
        let end = sequence.advanced(by: byteCount)
        while let run = next, run.runStart.since(start) <= 0 {
            let runEnd = run.runEnd
            if runEnd.since(start) > 0 { start = runEnd }
            previous = run
            next = run.pointee.nextArray
        }
        // What lies behind the next run, or around it, is the next retransmission's: a segment is kept in one piece.
        var keptEnd = end
        if let run = next, run.runStart.since(end) < 0 { keptEnd = run.runStart }
        let kept = keptEnd.since(start)
        if start.since(sequence) > 0 { noteDuplicate(c, sequence, byteCount: min(start.since(sequence), byteCount)) }
        guard kept > 0 else { return drop(frame, .duplicateData) }
        let limits = state.pointee.configuration.limits
        let touches = previous.map { $0.runEnd == start } ?? false || next.map { $0.runStart == keptEnd } ?? false
        guard Int(c.pointee.reassembly.pieceCount) < limits.reassemblyPieces,
            touches || Int(c.pointee.reassembly.runCount) < NetworkStack.maximumReassemblyRuns, state.pointee.heap.pressure < .dropDatagrams
        else { return drop(frame, .reassemblyOverflow) }
        //= RFC 9293 section 3.10.7.4
        //# Segments with higher beginning sequence numbers SHOULD be held for later processing (SHLD-31).
        let skipped = start.since(sequence)
        if skipped > 0 { frame.removeFirst(skipped) }
        if kept < frame.arrayByteCount { frame.truncate(to: kept) }
        frame.pointee.operation = start.rawValue
        c.pointee.reassembly.insert(frame, behind: previous, before: next)
    }

    /// Gaps that a connection's received data may have: what each of them costs, every further segment costs (CVE-2018-5390).
    private static var maximumReassemblyRuns: Int { 256 }

    /// Moves what is in order now to the receive queue.
    func drainReassembly(_ c: ConnectionPointer) {
        while let piece = c.pointee.reassembly.first {
            let offset = SequenceNumber(rawValue: piece.pointee.operation).since(c.pointee.receiveNext)
            guard offset <= 0 else { return }
            c.pointee.reassembly.takeFirst(piece)
            let fresh = piece.arrayByteCount + offset
            guard fresh > 0 else {
                drop(piece, .duplicateData)
                continue
            }
            if offset < 0 { piece.removeFirst(-offset) }
            piece.pointee.operation = 0
            state.pointee.statistics.tcp.reassembledSegments += 1
            if c.pointee.flags.contains(.receiveShutDown) || DeliberateBug.isPresent(.reassemblyPieceLost) && c.pointee.reassembly.pieceCount > 0 {
                c.pointee.receiveNext = c.pointee.receiveNext.advanced(by: fresh)
                drop(piece, .dataAfterClose)
            } else {
                appendReceived(c, piece, fresh)
            }
            if DeliberateBug.isPresent(.reassemblyDrainStops) { return }
        }
    }
}
