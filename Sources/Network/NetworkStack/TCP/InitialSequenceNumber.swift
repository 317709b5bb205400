import WireFormats

extension NetworkStack {
    //= RFC 6528 section 3
    //# ISN = M + F(localip, localport, remoteip, remoteport, secretkey), where M is the 4 microsecond timer
    //= RFC 9293 section 3.4.1
    //# A TCP implementation MUST use the above type of "clock" for clock-driven selection of initial sequence numbers (MUST-8), and SHOULD generate its initial
    //# sequence numbers with the expression ISN = M + F (SHLD-1). F() MUST NOT be computable from the outside (MUST-9).
    func chooseInitialSequence(_ c: ConnectionPointer) -> SequenceNumber {
        let hash = flowHash(c)
        c.pointee.timestampOffset = UInt32(truncatingIfNeeded: hash >> 32)
        if let fixed = state.pointee.configuration.tcp.fixedInitialSequenceNumber { return SequenceNumber(rawValue: fixed) }
        return SequenceNumber(rawValue: UInt32(truncatingIfNeeded: hash) &+ UInt32(truncatingIfNeeded: state.pointee.now / 4_000))
    }

    /// A number of this flow that nobody without the secret can foretell.
    func flowHash(_ c: ConnectionPointer) -> UInt64 {
        var hash = SipHash(state.pointee.sequenceSecret)
        hash.combine(c.pointee.localAddress.words.0)
        hash.combine(c.pointee.localAddress.words.1)
        hash.combine(c.pointee.remoteAddress.words.0)
        hash.combine(c.pointee.remoteAddress.words.1)
        hash.combine(UInt64(c.pointee.ports))
        return hash.finish()
    }
}
