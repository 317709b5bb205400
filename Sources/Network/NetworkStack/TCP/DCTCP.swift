import WireFormats

/// How much of what is sent gets marked, and a reduction in proportion to it (RFC 8257). Growth and losses are NewReno's.
struct DCTCP {
    /// DCTCP.Alpha, in 2^-20.
    //= RFC 8257 section 3.3
    //# DCTCP.Alpha is initialized to 1: the first mark halves the window
    private(set) var alpha = 1 << 20
    private var markedByteCount = 0
    /// Where the observation window began, and DCTCP.WindowEnd; nil before the first acknowledgement.
    private var windowStart = SequenceNumber(rawValue: 0)
    private var windowEnd: SequenceNumber?

    /// An acknowledgement, `marked` bytes of which were marked. One at least in each window.
    mutating func observe(_ acknowledgement: SequenceNumber, marked: Int, sendMaximum: SequenceNumber) {
        //= RFC 8257 section 3.3
        //# If the ECE flag is set, update the bytes marked: DCTCP.BytesMarked += BytesAcked
        markedByteCount += marked
        guard let windowEnd else {
            windowStart = acknowledgement
            self.windowEnd = sendMaximum
            return
        }
        //= RFC 8257 section 3.3
        //# If the acknowledgment number is less than or equal to DCTCP.WindowEnd, stop processing.
        guard acknowledgement.since(windowEnd) > 0 else { return }
        //= RFC 8257 section 3.3
        //# M = DCTCP.BytesMarked / DCTCP.BytesAcked; DCTCP.Alpha = DCTCP.Alpha * (1 - g) + g * M, with g = 1/16
        let acknowledgedByteCount = max(acknowledgement.since(windowStart), 1)
        let fraction = (min(markedByteCount, acknowledgedByteCount) << 20) / acknowledgedByteCount
        alpha += (fraction - alpha) / 16
        //= RFC 8257 section 3.3
        //# Determine the end of the next observation window: DCTCP.WindowEnd = SND.NXT. Reset the byte counters.
        windowStart = acknowledgement
        self.windowEnd = sendMaximum
        markedByteCount = 0
    }

    /// The window after marks. To be asked once for each window.
    //= RFC 8257 section 3.3
    //# cwnd = cwnd * (1 - DCTCP.Alpha / 2)
    func reduced(_ window: Int, segmentSize: Int) -> Int {
        max(window - (window * alpha) >> 21, 2 * segmentSize)
    }
}

extension NetworkStack {
    /// The receiver's side: acknowledgements tell exactly which bytes were marked, also those that wait for a companion.
    func followMark(_ c: ConnectionPointer) {
        let isMarked = state.pointee.arrivingCodepoint == CongestionCodepoint.experienced
        if isMarked { state.pointee.statistics.tcp.congestionMarks += 1 }
        guard isMarked != c.pointee.ecn.contains(.echoes) else { return }
        //= RFC 8257 section 3.2
        //# To avoid this, an implementation MAY choose to send two ACKs: one for previously unacknowledged packets and another acknowledging the most recently
        //# received packet.
        if c.pointee.unacknowledgedSegments > 0 { sendAcknowledgement(c) }
        //= RFC 8257 section 3.2
        //# If the CE codepoint is set and DCTCP.CE is false, set DCTCP.CE to true and send an immediate ACK. If the CE codepoint is not set and DCTCP.CE is
        //# true, set DCTCP.CE to false and send an immediate ACK.
        if isMarked { c.pointee.ecn.insert(.echoes) } else { c.pointee.ecn.remove(.echoes) }
        // As if one had been waiting: this one is acknowledged at once.
        c.pointee.unacknowledgedSegments = 1
        // Header prediction looks for marks alone: while they come, what is not marked has to take the long way.
        c.pointee.plainControl = isMarked ? 0 : c.pointee.flags.contains(.timestamps) ? 0x1880 : 0x1850
    }
}
