/// The states of a connection (RFC 9293, section 3.3.2), and two of a slot that is none yet.
public enum ConnectionState: UInt8, Sendable {
    /// Also a socket that is not connected yet, and one whose connection is gone and whose owner has not let go of it.
    case closed
    case listen, synSent, synReceived, established, finWait1, finWait2, closeWait, closing, lastAcknowledgement, timeWait

    /// Whether data may still be sent (RFC 9293, section 3.10.2).
    @inline(__always)
    var maySend: Bool { self == .established || self == .closeWait }

    /// Whether data may still arrive: the peer has not ended its direction.
    @inline(__always)
    var mayReceive: Bool { self == .established || self == .finWait1 || self == .finWait2 }

    /// Whether both sequence spaces are known and acknowledged.
    var isSynchronized: Bool { rawValue >= ConnectionState.established.rawValue }
}

/// What is switched on, negotiated, or has happened on a connection.
struct ConnectionFlags: OptionSet {
    let rawValue: UInt32

    // Options
    static let noDelay = ConnectionFlags(rawValue: 1 << 0)
    static let keepAlive = ConnectionFlags(rawValue: 1 << 1)
    static let isBound = ConnectionFlags(rawValue: 1 << 2)
    static let reusePort = ConnectionFlags(rawValue: 1 << 3)
    static let fixedReceiveBuffer = ConnectionFlags(rawValue: 1 << 4)
    static let userTimeout = ConnectionFlags(rawValue: 1 << 30)
    // Negotiated
    static let timestamps = ConnectionFlags(rawValue: 1 << 5)
    static let windowScaling = ConnectionFlags(rawValue: 1 << 6)
    // Sending
    /// The program has ended its direction: a FIN follows the last byte.
    static let finQueued = ConnectionFlags(rawValue: 1 << 7)
    static let finSent = ConnectionFlags(rawValue: 1 << 8)
    /// The send window is zero or too small, and is probed instead of waited for.
    static let persisting = ConnectionFlags(rawValue: 1 << 9)
    static let fastRecovery = ConnectionFlags(rawValue: 1 << 10)
    /// In fast recovery: there was a partial acknowledgement.
    static let partiallyAcknowledged = ConnectionFlags(rawValue: 1 << 29)
    /// The program has chosen the send buffer's size.
    static let fixedSendBuffer = ConnectionFlags(rawValue: 1 << 31)
    /// A segment, or the handshake's, is being timed for the round-trip time.
    static let timing = ConnectionFlags(rawValue: 1 << 11)
    static let congestionWindowLimited = ConnectionFlags(rawValue: 1 << 12)
    static let isLocalPeer = ConnectionFlags(rawValue: 1 << 13)
    static let neighborResolved = ConnectionFlags(rawValue: 1 << 14)
    static let awaitingOutput = ConnectionFlags(rawValue: 1 << 15)
    // Receiving
    /// The peer's FIN was received in order.
    static let finReceived = ConnectionFlags(rawValue: 1 << 16)
    /// A FIN is known to stand at `finSequence`, behind data that is missing.
    static let finKnown = ConnectionFlags(rawValue: 1 << 17)
    static let receiveShutDown = ConnectionFlags(rawValue: 1 << 18)
    // Owner
    /// The owner has closed its queue; only the protocol still uses the slot.
    static let ownerClosed = ConnectionFlags(rawValue: 1 << 19)
    static let hasEvent = ConnectionFlags(rawValue: 1 << 20)
    static let passive = ConnectionFlags(rawValue: 1 << 21)
    static let inFlowTable = ConnectionFlags(rawValue: 1 << 22)
    static let accepted = ConnectionFlags(rawValue: 1 << 23)
    /// The owner waits for room in the send buffer.
    static let ownerWantsRoom = ConnectionFlags(rawValue: 1 << 24)
    static let portReserved = ConnectionFlags(rawValue: 1 << 25)
    static let inAcceptQueue = ConnectionFlags(rawValue: 1 << 26)
    /// It has a `RateControl`: what it sends leaves at a rate.
    static let isPaced = ConnectionFlags(rawValue: 1 << 27)
}

/// What became of a connection since its last event was taken.
@frozen
public struct ConnectionEvents: OptionSet, Sendable {
    public let rawValue: UInt8

    @inlinable
    public init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    /// Bytes or the end of the stream can be received.
    @inlinable public static var readable: ConnectionEvents { ConnectionEvents(rawValue: 1 << 0) }
    /// The send buffer has room again.
    @inlinable public static var writable: ConnectionEvents { ConnectionEvents(rawValue: 1 << 1) }
    /// The handshake that the owner began is complete.
    @inlinable public static var connected: ConnectionEvents { ConnectionEvents(rawValue: 1 << 2) }
    /// The connection has failed; `connectionError` says how.
    @inlinable public static var failed: ConnectionEvents { ConnectionEvents(rawValue: 1 << 3) }
    /// A listener has a connection to accept.
    @inlinable public static var acceptable: ConnectionEvents { ConnectionEvents(rawValue: 1 << 4) }
    /// The connection is gone: nothing more will happen to it.
    @inlinable public static var closed: ConnectionEvents { ConnectionEvents(rawValue: 1 << 5) }
}
