import Glibc
import WireFormats

/// ICMP errors about our segments (RFC 9293, section 3.9.2.2), with the precautions of RFC 5927.
extension NetworkStack {
    /// - Parameters:
    ///   - sequence: the sequence number of the segment that the error is about.
    func tcpControlMessage(_ error: ControlError, local: Endpoint, remote: Endpoint, sequence: SequenceNumber) {
        let ports = UInt32(remote.port) << 16 | UInt32(local.port)
        let index = state.pointee.flows.find(remote.address, local.address, ports, in: state.pointee.connections)
        guard index != 0 else { return countUnsent(.unmatchedControlMessage) }
        let c = state.pointee.connections[index]
        //= RFC 5927 section 4.1
        //# TCP SHOULD check that the TCP sequence number contained in the payload of the ICMP error message is within the range
        //# SND.UNA =< SEG.SEQ < SND.NXT
        let offset = sequence.since(c.pointee.sendUnacknowledged)
        guard offset >= 0, offset < max(c.pointee.flightSize, 1) else { return countUnsent(.unmatchedControlMessage) }
        if case .fragmentationNeeded = error {
            // Where path MTU discovery will act.
            return
        }
        c.pointee.softError = error.errorNumber
        //= RFC 5927 section 5.2
        //# in any of the synchronized states hard errors are treated as soft ones; a connection that is being opened may fail at once
        if c.pointee.state == .synSent { fail(c, errno: error.errorNumber) }
    }
}
