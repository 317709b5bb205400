import WireFormats

/// What a host has to do that is told how fast its connections may send: how much of it may leave at once.
struct PacingConduct {
    /// What was sent ahead of the rate, in bytes, and when.
    private var ahead: UInt64 = 0
    private var lastTime: UInt64 = 0

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
        // The segment that is begun, a probe, and what two duplicates call for.
        let most = quantum + 4 * segment
        return ahead > most ? "\(ahead) bytes ahead of \(rate) bytes a second, where \(most) may be" : nil
    }
}
