import WireFormats

/// A connection that a host has begun and set aside, because it has answered a copy of the same SYN with other sequence numbers.
///
/// With SYN cookies (RFC 4987, section 3.6) the host keeps nothing of its answers: it takes up the one that its peer brings back.
struct EarlierFlow {
    var flow: Flow
    var conduct: FlowConduct?

    /// As many answers of a host to one peer as are remembered.
    static let limit = 8
}

extension Flow {
    /// The host has sent nothing but its answer to a SYN, which may be a cookie.
    var mayBeCookie: Bool { own.map { $0.isAnswer && sendMaximum == $0.initialSequence + 1 } ?? false }

    /// Whether a segment of the host that begins there belongs to this connection.
    func includes(_ sequence: SequenceNumber) -> Bool { own.map { sequence > $0.initialSequence && sequence <= sendMaximum } ?? false }
}
