import DatapathMemory
import EthernetDevice
import WireFormats

/// Segments that arrived ahead of their turn, in the order of the stream, none overlapping another.
///
/// A piece is a frame cut to its payload; its sequence number stands in the first descriptor's `operation`.
struct ReassemblyQueue {
    var first: Frame?
    var pieceCount: UInt32 = 0

    @inline(__always)
    var isEmpty: Bool { first == nil }

    mutating func discard() {
        while let piece = first {
            first = piece.pointee.nextArray
            piece.releaseArray()
        }
        pieceCount = 0
    }
}

extension NetworkStack {
    /// Keeps `byteCount` bytes that lie `offset` behind the next expected one. What is there already counts: bytes that contradict it are dropped.
    func keepForReassembly(_ c: ConnectionPointer, _ frame: Frame, _ offset: Int, _ byteCount: Int) {
        let sequence = c.pointee.receiveNext.advanced(by: offset)
        var previous: Frame?
        var next = c.pointee.reassembly.first
        var start = sequence
        let end = sequence.advanced(by: byteCount)
        while let piece = next, SequenceNumber(rawValue: piece.pointee.operation).since(start) <= 0 {
            let pieceEnd = SequenceNumber(rawValue: piece.pointee.operation).advanced(by: piece.arrayByteCount)
            if pieceEnd.since(start) > 0 { start = pieceEnd }
            previous = piece
            next = piece.pointee.nextArray
        }
        // What lies behind the next piece, or around it, is the next retransmission's: a segment is kept in one piece.
        var keptEnd = end
        if let piece = next, SequenceNumber(rawValue: piece.pointee.operation).since(end) < 0 {
            keptEnd = SequenceNumber(rawValue: piece.pointee.operation)
        }
        let kept = keptEnd.since(start)
        if start.since(sequence) > 0 { noteDuplicate(c, sequence, byteCount: min(start.since(sequence), byteCount)) }
        guard kept > 0 else { return drop(frame, .duplicateData) }
        guard Int(c.pointee.reassembly.pieceCount) < state.pointee.configuration.limits.reassemblyPieces, state.pointee.heap.pressure < .dropDatagrams else {
            return drop(frame, .reassemblyOverflow)
        }
        //= RFC 9293 section 3.10.7.4
        //# Segments with higher beginning sequence numbers SHOULD be held for later processing (SHLD-31).
        let skipped = start.since(sequence)
        if skipped > 0 && !DeliberateBug.isPresent(.reassemblyOverlapMisplaced) { frame.removeFirst(skipped) }
        if kept < frame.arrayByteCount { frame.truncate(to: kept) }
        frame.pointee.operation = start.rawValue
        frame.pointee.nextArray = next
        if let previous { previous.pointee.nextArray = frame } else { c.pointee.reassembly.first = frame }
        c.pointee.reassembly.pieceCount += 1
    }

    /// Moves what is in order now to the receive queue.
    func drainReassembly(_ c: ConnectionPointer) {
        while let piece = c.pointee.reassembly.first {
            let offset = SequenceNumber(rawValue: piece.pointee.operation).since(c.pointee.receiveNext)
            guard offset <= 0 else { return }
            c.pointee.reassembly.first = piece.pointee.nextArray
            c.pointee.reassembly.pieceCount -= 1
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
