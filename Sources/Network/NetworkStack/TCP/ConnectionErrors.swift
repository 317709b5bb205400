import Glibc
import WireFormats

/// ICMP errors about our segments (RFC 9293, section 3.9.2.2), with the precautions of RFC 5927.
extension NetworkStack {
    /// The connection that has sent a segment and waits for its acknowledgement; nil for none.
    private func connection(of sequence: SequenceNumber, local: Endpoint, remote: Endpoint) -> ConnectionPointer? {
        let ports = UInt32(remote.port) << 16 | UInt32(local.port)
        let index = state.pointee.flows.find(remote.address, local.address, ports, in: state.pointee.connections)
        guard index != 0 else { return nil }
        let c = state.pointee.connections[index]
        //= RFC 5927 section 4.1
        //# TCP SHOULD check that the TCP sequence number contained in the payload of the ICMP error message is within the range
        //# SND.UNA =< SEG.SEQ < SND.NXT
        let offset = sequence.since(c.pointee.sendUnacknowledged)
        return offset >= 0 && offset < max(c.pointee.flightSize, 1) ? c : nil
    }

    /// Whether a connection waits for the acknowledgement of a segment.
    func isInFlight(_ sequence: SequenceNumber, local: Endpoint, remote: Endpoint) -> Bool {
        connection(of: sequence, local: local, remote: remote) != nil
    }

    /// - Parameters:
    ///   - sequence: the sequence number of the segment that the error is about.
    ///   - quotedByteCount: the length of the packet that the error is about, as quoted.
    func tcpControlMessage(_ error: ControlError, local: Endpoint, remote: Endpoint, sequence: SequenceNumber, quotedByteCount: Int) {
        guard let c = connection(of: sequence, local: local, remote: remote) else { return countUnsent(.unmatchedControlMessage) }
        if case .fragmentationNeeded(let mtu) = error {
            if c.pointee.state.isSynchronized { packetTooBig(c, Int(mtu), quotedByteCount: quotedByteCount) }
            return
        }
        //= RFC 9293 section 3.9.2.2
        //# TCP implementations MUST act on an ICMP error message passed up from the IP layer, directing it to the connection that created the error (MUST-54).
        //= RFC 1122 section 3.2.2.1
        //# The transport layer that receives a Destination Unreachable message SHOULD use the information appropriately. With code 0, 1 or 5 it MUST be
        //# interpreted as only a hint, not proof, that the specified destination is unreachable.
        c.pointee.softError = error.errorNumber
        //= RFC 5927 section 5.2
        //# in any of the synchronized states hard errors are treated as soft ones; a connection that is being opened may fail at once
        guard c.pointee.state == .synSent else { return }
        //= RFC 9293 section 3.9.2.2
        //# Since these Unreachable messages indicate soft error conditions, a TCP implementation MUST NOT abort the connection (MUST-56)
        let isHard = error == .protocolUnreachable || error == .portUnreachable
        // What our own link says of the next hop is no rumour.
        let hasNoNeighbor = c.pointee.neighbor != 0 && state.pointee.neighbors[c.pointee.neighbor].pointee.state == .failed
        if isHard || hasNoNeighbor { fail(c, errno: error.errorNumber) }
    }
}
