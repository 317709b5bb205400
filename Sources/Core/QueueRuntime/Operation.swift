import DatapathMemory

/// What an operation does.
public enum OperationKind: UInt8, Sendable {
    case push, pushTo, pop, accept, connect, close
}

enum OperationOutcome: UInt8 {
    case succeeded
    /// With the address of who sent it.
    case succeededFromAddress
    case endOfStream, failed
}

/// Who waits for an operation: a waiter, as long as its epoch is the same. In one word, so that `waitAny` claims with one store.
struct OperationClaim {
    /// The waiter's index below, its epoch above; 0 for nobody.
    var word: UInt64 = 0

    init() {}

    @inline(__always)
    init(waiter: UInt32, epoch: UInt32) {
        word = UInt64(epoch) << 32 | UInt64(waiter)
    }

    @inline(__always)
    var waiter: UInt32 { UInt32(truncatingIfNeeded: word) }

    @inline(__always)
    var epoch: UInt32 { UInt32(truncatingIfNeeded: word >> 32) }
}

/// One operation slot: its arguments while it is pending, its result once it is completed.
///
/// The hot fields come first and share a cache line. `next` and `previous` belong to the library OS while the operation is pending and to the
/// completion list afterwards.
public struct Operation {
    /// The live operation's token. In a free slot the complement of the next one, which names another slot and so matches no token that leads
    /// here; 0 in a slot that was never used or is retired.
    var token: UInt64 = 0
    /// The token again while the operation is pending and no coroutine or wait set has claimed it, else 0: `waitAny` needs one comparison for all
    /// of that. It may be 0 after such a claim has lapsed (`RuntimeCore.holder` knows).
    var openToken: UInt64 = 0
    /// The queue on which it was issued.
    public internal(set) var queue = QueueDescriptor(rawValue: 0)
    public internal(set) var kind = OperationKind.push
    var outcome = OperationOutcome.succeeded
    var isCompleted = false
    /// A pop's limit.
    public internal(set) var maximumSegments: UInt8 = 1
    var claim = OperationClaim()
    /// The place in the waiter's array, counted back from its end.
    var claimIndex: UInt32 = 0
    var next: UInt32 = 0
    var previous: UInt32 = 0
    var errno: Int32 = 0
    /// A push's array until the library OS takes it; a pop's result.
    public var array: UnsafeMutablePointer<SegmentDescriptor>?
    /// A pop's limit while pending; a push's bytes taken.
    public var byteCount: Int = 0

    var newQueue = QueueDescriptor(rawValue: 0)
    /// Numbers completions, for their order; it wraps around (`RuntimeCore.completedBefore`).
    var completionNumber: UInt32 = 0
    /// Where a `pushTo` or a `connect` goes; where a datagram or an accepted connection came from.
    public var address = SocketAddress.any(port: 0)
    var message: StaticString = ""
    var position: UInt64 = 0

    init() {}
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
