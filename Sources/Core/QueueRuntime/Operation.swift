import DatapathMemory

/// What an operation does.
public enum OperationKind: UInt8, Sendable {
    case push, pushTo, pop, accept, connect, close
}

/// What `wait` can return without looking further.
public enum PlainResult: UInt8, Sendable {
    /// Pending, claimed, failed, or with more to it than one value.
    case none
    case pushed, popped
    /// With the address of who sent it.
    case poppedFromAddress
    /// A datagram, behind its UDP header and an IPv4 header without options, which say who sent it. Only in the turn that is taken for its pop.
    case poppedBehindHeaders
    /// The same for a socket of IPv6, which is told IPv4-mapped addresses (RFC 3493, section 3.7).
    case poppedBehindMappedHeaders
}

@usableFromInline
enum OperationOutcome: UInt8 {
    case succeeded
    /// With the address of who sent it.
    case succeededFromAddress
    case endOfStream, failed
}

/// Who waits for an operation: a waiter, as long as its epoch is the same. In one word, so that `waitAny` claims with one store.
@usableFromInline
struct OperationClaim {
    /// The waiter's index below, its epoch above; 0 for nobody.
    @usableFromInline var word: UInt64 = 0

    init() {}

    /// No waiter's: the thread takes one turn for this operation alone, which nobody can contest. It stands on no list when it completes.
    @inlinable
    static var turn: UInt64 { .max }

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
/// The hot fields come first and share a cache line. `link` belongs to the library OS while the operation is pending and to the completion list
/// afterwards.
public struct Operation {
    // The first field, so that both have one address.
    @usableFromInline var link = ListLink()
    /// The live operation's token. In a free slot the complement of the next one, which names another slot and so matches no token that leads
    /// here; 0 in a slot that was never used or is retired.
    @usableFromInline var token: UInt64 = 0
    /// The token again while the operation is pending and no coroutine or wait set has claimed it, else 0: `waitAny` needs one comparison for all
    /// of that. It may be 0 after such a claim has lapsed (`RuntimeCore.holder` knows).
    @usableFromInline var openToken: UInt64 = 0
    /// The queue on which it was issued.
    public internal(set) var queue = QueueDescriptor(rawValue: 0)
    // Four bytes that are written together.
    public internal(set) var kind = OperationKind.push
    @usableFromInline var outcome = OperationOutcome.succeeded
    @usableFromInline var isCompleted = false
    /// What `wait` returns at once. Not `none` only while the operation is completed and stands on the unclaimed list, or in the turn taken for it.
    @usableFromInline var plainResult = PlainResult.none
    /// A push's array until the library OS takes it; a pop's result.
    public var array: UnsafeMutablePointer<SegmentDescriptor>?
    /// A pop's limit while pending; a push's bytes taken; the descriptor that an accept made.
    public var byteCount: Int = 0
    /// 0 in a free slot.
    @usableFromInline var claim = OperationClaim()
    /// The place in the waiter's array, counted back from its end.
    var claimIndex: UInt32 = 0
    /// Numbers completions, for their order; it wraps around (`RuntimeCore.completedBefore`).
    @usableFromInline var completionNumber: UInt32 = 0
    /// 0 in a free slot.
    @usableFromInline var position: UInt64 = 0
    /// Where a `pushTo` or a `connect` goes; where a datagram or an accepted connection came from.
    public var address = SocketAddress.any(port: 0)
    var message: StaticString = ""
    /// A pop's limit.
    public internal(set) var maximumSegments: UInt8 = 1
    var errno: Int32 = 0

    init() {}
}

/// A first-in, first-out list of pending operations, chained through their slots: how a library OS keeps its waiting pops, pushes and accepts.
public struct OperationList {
    // The ends of the chain; nil in an empty list.
    @usableFromInline var head: UnsafeMutablePointer<ListLink>?
    @usableFromInline var tail: UnsafeMutablePointer<ListLink>?

    public init() {}

    @inlinable
    @inline(__always)
    public var isEmpty: Bool { head == nil }

    /// The oldest operation; 0 for none.
    @inlinable
    public var first: UInt32 { head?.operation.index ?? 0 }
}

/// A place in a chain of operations.
///
/// A list of completed operations is a ring that its waiter, whose first field is such a link, opens and closes: so nothing has to be asked when an
/// operation comes or goes.
@usableFromInline
struct ListLink {
    @usableFromInline var next: UnsafeMutablePointer<ListLink>?
    @usableFromInline var previous: UnsafeMutablePointer<ListLink>?

    init() {}
}

extension UnsafeMutablePointer<ListLink> {
    /// The operation at this place; not for a ring's waiter.
    @inlinable
    @inline(__always)
    var operation: UnsafeMutablePointer<Operation> { UnsafeMutableRawPointer(self).assumingMemoryBound(to: Operation.self) }

    /// Makes a ring of nothing but its waiter.
    @inline(__always)
    func makeRing() {
        pointee.next = self
        pointee.previous = self
    }

    /// Puts `link` into the ring before this one: before the waiter is the end of the list.
    @inlinable
    @inline(__always)
    func insertBefore(_ link: UnsafeMutablePointer<ListLink>) {
        let previous = pointee.previous.unsafelyUnwrapped
        link.pointee.next = self
        link.pointee.previous = previous
        previous.pointee.next = link
        pointee.previous = link
    }

    /// Takes this link out of its ring.
    @inlinable
    @inline(__always)
    func removeFromRing() {
        let next = pointee.next.unsafelyUnwrapped
        let previous = pointee.previous.unsafelyUnwrapped
        previous.pointee.next = next
        next.pointee.previous = previous
    }
}

extension UnsafeMutablePointer<Operation> {
    @inlinable
    @inline(__always)
    var link: UnsafeMutablePointer<ListLink> { UnsafeMutableRawPointer(self).assumingMemoryBound(to: ListLink.self) }

    /// The number of a live operation's slot.
    @inlinable
    @inline(__always)
    public var index: UInt32 { UInt32(truncatingIfNeeded: pointee.token & QueueToken.slotMask) }
}
