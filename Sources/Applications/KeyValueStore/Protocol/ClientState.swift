/// What the engine keeps for one connection. Cheap to make and to drop; the store holds no reference to it.
public struct ClientState: ~Copyable {
    /// The number that `CLIENT ID` and `HELLO` report; unique among the server's connections.
    public let identifier: UInt64
    /// Shown by `CLIENT LIST`, in host byte order. 0 if unknown.
    public var remoteIPv4Address: UInt32 = 0
    public var remotePort: UInt16 = 0
    /// The version of the protocol that the peer asked for: 2 or 3.
    public internal(set) var protocolVersion = 2
    /// The database that `SELECT` chose.
    public internal(set) var database = 0
    /// The name given by `CLIENT SETNAME`.
    public internal(set) var name: [UInt8] = []

    var scan = RequestScan()
    var wantsClose = false

    public init(identifier: UInt64) {
        self.identifier = identifier
    }
}

/// How far an incomplete request has been looked through, so that the rest of it need not be looked through again.
struct RequestScan {
    /// Bytes of the request that need not be read again; 0 for a request that has not begun.
    var offset = 0
    /// Arguments that follow `offset`.
    var remainingArguments = 0
}

/// What `KeyValueStore.process` did with its input.
public struct ProcessOutcome: Equatable, Sendable {
    public enum Next: Equatable, Sendable {
        /// The input is used up but for the first part of a request. The next call must begin at the same byte and should hold
        /// at least `minimumTotal` bytes, which is at most `maximumRequestLength`; with fewer it is harmless.
        case needMore(minimumTotal: Int)
        /// The replies have reached the high-water mark. Call again with the unconsumed bytes once there is room.
        case outputFull
        /// Send the replies, then close the connection; further input is meaningless.
        case close
    }
    /// Bytes at the start of the input that are done with.
    public var consumed: Int
    public var next: Next
}
