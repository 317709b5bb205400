import DatapathMemory

/// What a redeemed token gives: which operation it was, and its result.
@frozen
public struct Completion: ~Copyable {
    /// The token that was redeemed.
    public let token: QueueToken
    /// The queue on which the operation was issued; it may have been closed since.
    public let queue: QueueDescriptor
    /// The token's place in the array given to `waitAny` or `waitAll`; 0 elsewhere.
    public let index: Int
    /// A position of 64 bits, where the queue has one (a log's sequence number); 0 elsewhere.
    public let position: UInt64
    public var result: OperationResult

    @inlinable
    init(token: QueueToken, queue: QueueDescriptor, index: Int, position: UInt64, result: consuming OperationResult) {
        self.token = token
        self.queue = queue
        self.index = index
        self.position = position
        self.result = result
    }
}

/// The outcome of one operation. Consume it with a `switch`; what it carries is released at its end.
@frozen
public enum OperationResult: ~Copyable {
    /// The queue has taken the whole array, of so many bytes, in order.
    case pushed(byteCount: Int)
    /// The bytes that arrived, and for a datagram where they came from.
    case popped(ScatterGatherArray, from: SocketAddress?)
    /// The peer has closed its direction: nothing will come any more.
    case endOfStream
    /// A new connection, and its peer.
    case accepted(QueueDescriptor, peer: SocketAddress)
    case connected
    /// The connection is gone (`closeToken`).
    case closed
    /// The operation failed; `byteCount` bytes of a push had been taken.
    case failed(DemikernelError, byteCount: Int)
}

@available(*, unavailable, message: "a completion belongs to the thread of its runtime")
extension Completion: Sendable {}

/// The result where the program knows which operation it was: for straight-line code. Each traps for another kind of operation.
extension Completion {
    /// What a pop brought; nil at the end of the stream. The caller owns it.
    /// - Throws: why the pop failed.
    public consuming func popped() throws(DemikernelError) -> ScatterGatherArray? {
        switch consume result {
        case .popped(let array, _): return array
        case .endOfStream: return nil
        case .failed(let error, _): throw error
        default: preconditionFailure("the operation was not a pop")
        }
    }

    /// The connection that an accept brought.
    /// - Throws: why the accept failed.
    public consuming func accepted() throws(DemikernelError) -> QueueDescriptor {
        switch consume result {
        case .accepted(let queue, _): return queue
        case .failed(let error, _): throw error
        default: preconditionFailure("the operation was not an accept")
        }
    }

    /// Checks that a push, a connect or a close has succeeded.
    /// - Throws: why it failed.
    public consuming func succeeded() throws(DemikernelError) {
        switch consume result {
        case .failed(let error, _): throw error
        case .pushed: return
        case .connected: return
        case .closed: return
        default: preconditionFailure("the operation brought a result that would be lost")
        }
    }
}
