import WireFormats

/// What a host has to do that is told how fast its connections may send: how much of it may leave at once.
struct PacingConduct {
    /// What was sent ahead of the rate, in bytes, and when.
    private var ahead: UInt64 = 0
    private var lastTime: UInt64 = 0
    /// The last acknowledgement, and segments that have gone out of their turn for duplicates of it.
    private var acknowledged: SequenceNumber?
    private var sentForDuplicates = 0
    /// Segments that may go out of their turn for what has come at one time, and those of them that duplicates of the last acknowledgement call for.
    private var duplicateTime: UInt64 = 0
    private var calledFor = 0
    private var calledForByLast = 0

    /// Something comes of which the host may make a duplicate acknowledgement.
    //= RFC 3042 section 2
    //# The Limited Transmit algorithm calls for a TCP sender to transmit new data upon the arrival of the first two consecutive duplicate ACKs
    mutating func received(_ header: TCPSegmentHeader, _ flow: Flow, at time: UInt64) {
        guard header.flags.contains(.ack), header.acknowledgement <= flow.sendMaximum else { return }
        if duplicateTime != time { (duplicateTime, calledFor, calledForByLast) = (time, 0, 0) }
        if acknowledged.map({ header.acknowledgement > $0 }) ?? true {
            (acknowledged, sentForDuplicates, calledForByLast) = (header.acknowledgement, 0, 0)
        } else if header.segmentLength == 0, sentForDuplicates + calledForByLast < 2 {
            calledForByLast += 1
            calledFor += 1
        }
    }

    /// New data is sent; what is sent again may go beside it, as a timer asks for it.
    mutating func transmitted(_ header: TCPSegmentHeader, _ before: Flow, _ conduct: Conduct, at time: UInt64) -> String? {
        guard let rate = conduct.maximumPacingRate, rate != .max, header.payloadByteCount > 0, header.sequence >= before.sendMaximum else { return nil }
        let passed = (time - lastTime).multipliedFullWidth(by: rate)
        let drained = passed.high >= 1_000_000_000 ? UInt64.max : UInt64(1_000_000_000).dividingFullWidth(passed).quotient
        ahead = (ahead > drained ? ahead - drained : 0) + UInt64(header.payloadByteCount)
        lastTime = time
        //= draft-ietf-ccwg-bbr section Send Quantum
        //# BBR.send_quantum = BBR.pacing_rate * 1ms; BBR.send_quantum = min(BBR.send_quantum, 64 KBytes); BBR.send_quantum = max(BBR.send_quantum, 2 * C.SMSS)
        let segment = UInt64(conduct.maximumSegmentSize)
        let quantum = max(min(rate / 1_000, 65_536), 2 * segment)
        // The segment that is begun, and a probe.
        let most = quantum + 2 * segment
        guard ahead > most else { return nil }
        guard duplicateTime == time, calledFor > 0 else { return "\(ahead) bytes ahead of \(rate) bytes a second, where \(most) may be" }
        // It goes out of its turn, and what follows waits the longer.
        calledFor -= 1
        if calledForByLast > 0 { (calledForByLast, sentForDuplicates) = (calledForByLast - 1, sentForDuplicates + 1) }
        return nil
    }
}
