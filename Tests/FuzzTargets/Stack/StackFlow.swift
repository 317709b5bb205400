import WireFormats

/// A connection as its peer sees it: what the fuzzer has to know so that its segments fit, and what every segment of the stack is held against.
struct StackFlow {
    let station: Station
    let remotePort: UInt16
    let localAddress: IPAddress
    var localPort: UInt16
    /// What the peer sends next, if it goes on behind what it sent last.
    var peerSequence: UInt32
    /// What the stack expects next, as its last acknowledgement says.
    var acknowledged: UInt32
    /// Behind the last byte that the stack has sent.
    var stackSequence: UInt32 = 0
    /// Of the stack's last segment.
    var timestamp: UInt32?
    var peerTimestamp: UInt32 = 1
    /// How far a byte of the stack's stream is ahead of its sequence number: the same for all of them.
    private var streamOffset: UInt8?
    private var hasAcknowledged = false
    /// A SYN has gone to the stack, and none has come back since that acknowledges it.
    private var mayHaveBegun = false
    /// What would acknowledge it.
    private var beginning: UInt32?
    /// The right edge of the window that the stack has promised.
    private var windowEdge: UInt32 = 0

    init(station: Station, remotePort: UInt16, localAddress: IPAddress, localPort: UInt16, peerSequence: UInt32) {
        self.station = station
        self.remotePort = remotePort
        self.localAddress = localAddress
        self.localPort = localPort
        self.peerSequence = peerSequence
        acknowledged = peerSequence
    }

    /// A SYN goes to the stack: a new connection of the same two ends may begin, and its first segment be lost for want of memory. What the one before
    /// has sent by then may still come first.
    /// - Parameter sequence: the SYN's; nil for one that nobody has looked into.
    mutating func mayBeginAnew(at sequence: UInt32?) {
        forget()
        mayHaveBegun = true
        beginning = sequence.map { $0 &+ 1 }
    }

    private mutating func forget() {
        streamOffset = nil
        hasAcknowledged = false
    }

    /// Takes a segment of the stack, whose header and checksum have been looked at.
    /// - Parameter scalesWindows: whether the stack offers to; its window fields are then not bytes.
    mutating func sent(_ header: TCPSegmentHeader, payload: UnsafeRawBufferPointer, scalesWindows: Bool) throws(FuzzFailure) {
        // A reset may be about a segment that belongs to no connection.
        if header.flags.contains(.rst) { return }
        if header.flags.contains(.syn) {
            forget()
            if header.acknowledgement.rawValue == beginning { mayHaveBegun = false }
            try require(payload.isEmpty, "a SYN has data")
        }
        if header.flags.contains(.ack) {
            if hasAcknowledged && mayHaveBegun && Int32(bitPattern: header.acknowledgement.rawValue &- acknowledged) < 0 { forget() }
            if hasAcknowledged {
                try require(
                    Int32(bitPattern: header.acknowledgement.rawValue &- acknowledged) >= 0,
                    "an acknowledgement goes back from \(acknowledged) to \(header.acknowledgement), in \(header.flags) to \(station.address):\(remotePort)")
                let shrinks = !scalesWindows && Int32(bitPattern: header.acknowledgement.rawValue &+ UInt32(header.window) &- windowEdge) < 0
                try require(!shrinks, "a window that was promised shrinks")
            }
            windowEdge = header.acknowledgement.rawValue &+ UInt32(header.window)
            acknowledged = header.acknowledgement.rawValue
            hasAcknowledged = true
        } else {
            try require(header.flags.contains(.syn), "a segment has neither SYN nor ACK")
        }
        // A single byte may be a keep-alive's, which was acknowledged before and is any.
        if payload.count > 1 {
            let offset = payload[0] &- UInt8(truncatingIfNeeded: header.sequence.rawValue)
            for (position, byte) in payload.enumerated() {
                try require(byte == payload[0] &+ UInt8(truncatingIfNeeded: position), "a segment has bytes of several places of the stream")
            }
            if mayHaveBegun && streamOffset != offset { streamOffset = nil }
            try require(streamOffset == nil || streamOffset == offset, "a segment has bytes of another place of the stream")
            streamOffset = offset
        }
        stackSequence = header.sequence.rawValue &+ UInt32(header.segmentLength)
        timestamp = header.hasTimestamps ? header.timestampValue : nil
    }
}
