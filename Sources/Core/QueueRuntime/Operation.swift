import DatapathMemory

/// What an operation does.
public enum OperationKind: UInt8, Sendable {
    case push, pushTo, pop, accept, connect, close
}

/// The state of an operation slot, in the bits above its generation, so that one comparison with a token says: alive, pending, nobody else's.
enum OperationKey {
    static let generationMask: UInt64 = 1 << 44 - 1
    static let completed: UInt64 = 1 << 63
    static let free: UInt64 = 1 << 62
    /// A coroutine or a wait set has claimed it; the claim may have lapsed since (`RuntimeCore.holder` knows).
    static let claimed: UInt64 = 1 << 61
}

enum OperationOutcome: UInt8 {
    case succeeded, endOfStream, failed
}

/// One operation slot: its arguments while it is pending, its result once it is completed.
///
/// The hot fields come first and share a cache line. `next` and `previous` belong to the library OS while the operation is pending and to the
/// completion list afterwards.
public struct Operation {
    /// The generation of the token, and the bits of `OperationKey`. 0 in a slot that was never used: no token has generation 0.
    var key: UInt64 = 0
    /// The queue on which it was issued.
    public internal(set) var queue = QueueDescriptor(rawValue: 0)
    public internal(set) var kind = OperationKind.push
    var outcome = OperationOutcome.succeeded
    var hasAddress = false
    /// Who waits for it: a waiter's index, valid while that waiter's epoch is `claimEpoch`; 0 for nobody.
    var claim: UInt32 = 0
    var claimEpoch: UInt32 = 0
    /// The place in the waiter's array.
    var claimIndex: UInt32 = 0
    var next: UInt32 = 0
    var previous: UInt32 = 0
    var errno: Int32 = 0
    /// A push's array until the library OS takes it; a pop's result.
    public var array: UnsafeMutablePointer<SegmentDescriptor>?
    /// A pop's limit while pending; a push's bytes taken.
    public var byteCount: Int = 0

    /// A pop's limit.
    public internal(set) var maximumSegments: UInt32 = 1
    var newQueue = QueueDescriptor(rawValue: 0)
    /// Where a `pushTo` or a `connect` goes; where a datagram or an accepted connection came from.
    public var address = SocketAddress.any(port: 0)
    var message: StaticString = ""
    var position: UInt64 = 0
    /// Numbers completions, so that `waitAny` can take the oldest.
    var completionNumber: UInt64 = 0

    init() {}

    var isCompleted: Bool { key & OperationKey.completed != 0 }
}

/// A first-in, first-out list of pending operations, chained through their slots: how a library OS keeps its waiting pops, pushes and accepts.
public struct OperationList {
    var head: UInt32 = 0
    var tail: UInt32 = 0

    public init() {}

    public var isEmpty: Bool { head == 0 }

    /// The oldest operation; 0 for none.
    public var first: UInt32 { head }
}
