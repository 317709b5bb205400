import CDatapath
import DatapathMemory
import Glibc
import TaskScheduler

/// The core of a runtime, as a library OS uses it: operations, their completion, descriptors, memory, tasks and time.
///
/// A plain handle, as cheap to copy as a pointer, valid as long as the `Runtime` lives. It belongs to the runtime's thread and does not check it.
public struct RuntimeCore {
    @usableFromInline let state: UnsafeMutablePointer<CoreState>

    init(state: UnsafeMutablePointer<CoreState>) {
        self.state = state
    }

    /// The runtime's heap.
    public var heap: DatapathHeap { state.pointee.heap }

    /// The runtime's tasks and timers.
    public var scheduler: TaskScheduler { state.pointee.scheduler }

    /// The time of this turn, or of the last one, in nanoseconds.
    @inlinable
    public var now: UInt64 { state.pointee.now }

    /// The time for what begins now, in nanoseconds: inside of a turn the turn's; else the clock's, because the program may have let any time pass since
    /// the last one.
    @inlinable
    public var currentTime: UInt64 { state.pointee.phase == .outside ? state.pointee.clock.now : state.pointee.now }

    /// The runtime's limits.
    public var limits: Limits { state.pointee.limits }

    /// The next random number of the runtime's seed.
    public func nextRandom() -> UInt64 { state.pointee.random.next() }

    // MARK: Operations

    /// An operation's slot, for reading its arguments while it is pending.
    @inlinable
    @inline(__always)
    public func operation(_ index: UInt32) -> UnsafeMutablePointer<Operation> {
        state.pointee.operations + Int(index)
    }

    /// A pending operation in a slot of its own; 0 at the limit.
    func makeOperation(_ kind: OperationKind, _ queue: QueueDescriptor) -> UInt32 {
        if state.pointee.freeOperation == nil && !carveOperation() { return 0 }
        let slot = state.pointee.freeOperation.unsafelyUnwrapped.operation
        _ = take(slot, kind, queue)
        return slot.index
    }

    /// Makes the first free slot a pending operation.
    /// - Returns: its token.
    @inline(__always)
    func take(_ slot: UnsafeMutablePointer<Operation>, _ kind: OperationKind, _ queue: QueueDescriptor) -> UInt64 {
        state.pointee.freeOperation = slot.pointee.link.next
        let token = ~slot.pointee.token
        slot.pointee.token = token
        slot.pointee.openToken = token
        slot.pointee.queue = queue
        slot.pointee.kind = kind
        slot.pointee.outcome = .succeeded
        state.pointee.liveOperations &+= 1
        return token
    }

    /// A free slot if one was used before, and nobody has to be woken when its operation completes at once.
    @inline(__always)
    var slotForImmediateOperation: UnsafeMutablePointer<Operation>? {
        guard let free = state.pointee.freeOperation, state.pointee.waiters.pointee.task == Waiter.noTask else { return nil }
        return free.operation
    }

    /// Makes an operation that is completed already, with the plain result that its other fields hold.
    @inline(__always)
    func completeImmediately(
        _ slot: UnsafeMutablePointer<Operation>, _ kind: OperationKind, _ queue: QueueDescriptor, _ result: PlainResult
    ) -> QueueToken {
        state.pointee.freeOperation = slot.pointee.link.next
        let token = ~slot.pointee.token
        slot.pointee.token = token
        slot.pointee.queue = queue
        slot.pointee.kind = kind
        slot.pointee.outcome = .succeeded
        slot.pointee.isCompleted = true
        slot.pointee.plainResult = result
        state.pointee.liveOperations &+= 1
        state.pointee.completions &+= 1
        slot.pointee.completionNumber = state.pointee.completions
        state.pointee.waiters.ring.insertBefore(slot.link)
        state.pointee.waiters.pointee.count &+= 1
        return QueueToken(rawValue: token)
    }

    @inline(never)
    func carveOperation() -> Bool {
        let index = state.pointee.carvedOperations
        guard index <= state.pointee.operationCapacity else { return false }
        state.pointee.carvedOperations = index + 1
        var operation = Operation()
        operation.token = ~QueueToken(slot: index, generation: state.pointee.firstGeneration).rawValue
        let slot = state.pointee.operations + Int(index)
        slot.initialize(to: operation)
        state.pointee.freeOperation = slot.link
        return true
    }

    /// Frees a slot whose result was taken. A slot whose generations are used up is never used again.
    func releaseOperation(_ index: UInt32) {
        let slot = operation(index)
        slot.pointee.openToken = 0
        slot.pointee.claim = OperationClaim()
        slot.pointee.position = 0
        releasePlainOperation(slot)
    }

    /// As `releaseOperation`, where the slot is not open, nobody has claimed it, and it has no position.
    @inlinable
    @inline(__always)
    func releasePlainOperation(_ slot: UnsafeMutablePointer<Operation>) {
        state.pointee.liveOperations &-= 1
        slot.pointee.isCompleted = false
        slot.pointee.plainResult = .none
        let (next, isUsedUp) = slot.pointee.token.addingReportingOverflow(QueueToken.slotMask &+ 1)
        slot.pointee.token = ~next
        if isUsedUp { return retire(slot) }
        slot.pointee.link.next = state.pointee.freeOperation
        state.pointee.freeOperation = UnsafeMutableRawPointer(slot).assumingMemoryBound(to: ListLink.self)
    }

    @usableFromInline
    @inline(never)
    func retire(_ slot: UnsafeMutablePointer<Operation>) {
        slot.pointee.token = 0
        state.pointee.counters.retiredTokenSlots += 1
    }

    @inline(__always)
    func token(_ index: UInt32) -> QueueToken {
        QueueToken(rawValue: operation(index).pointee.token)
    }

    /// The slot of a live token; 0 for any other number.
    @inline(__always)
    func slot(of token: QueueToken) -> UInt32 {
        // The table has a slot for every slot number that a token can hold; slot 0 is never used, and index 0 says so.
        let index = UInt32(truncatingIfNeeded: token.rawValue & QueueToken.slotMask)
        return operation(index).pointee.token == token.rawValue ? index : 0
    }

    // MARK: Lists of pending operations

    /// Adds a pending operation at the end. O(1).
    /// - Returns: whether it is the only one.
    @inlinable
    @inline(__always)
    @discardableResult
    public func append(_ index: UInt32, to list: inout OperationList) -> Bool {
        let link = operation(index).link
        let tail = list.tail
        list.tail = link
        link.pointee.next = nil
        link.pointee.previous = tail
        if let tail { tail.pointee.next = link } else { list.head = link }
        return tail == nil
    }

    /// Takes the oldest operation out; 0 for none. O(1).
    @inlinable
    @inline(__always)
    public func removeFirst(from list: inout OperationList) -> UInt32 {
        let index = list.first
        if index != 0 { remove(index, from: &list) }
        return index
    }

    /// Takes an operation out of the list that holds it. O(1).
    @inlinable
    @inline(__always)
    public func remove(_ index: UInt32, from list: inout OperationList) {
        let link = operation(index).pointee.link
        if let previous = link.previous { previous.pointee.next = link.next } else { list.head = link.next }
        if let next = link.next { next.pointee.previous = link.previous } else { list.tail = link.previous }
    }

    // MARK: Completion

    /// A push: the queue has taken the whole array.
    @inlinable
    @inline(__always)
    public func completePush(_ index: UInt32, byteCount: Int) {
        operation(index).pointee.byteCount = byteCount
        complete(index, .pushed)
    }

    /// As `completePush(_:byteCount:)`, of a slot that the caller has at hand.
    @inlinable
    @inline(__always)
    public func completePush(_ slot: UnsafeMutablePointer<Operation>, byteCount: Int) {
        slot.pointee.byteCount = byteCount
        complete(slot, .pushed)
    }

    /// A pop: takes over `array`.
    @inlinable
    @inline(__always)
    public func completePop(_ index: UInt32, _ array: UnsafeMutablePointer<SegmentDescriptor>) {
        operation(index).pointee.array = array
        complete(index, .popped)
    }

    /// A pop that waits no more: gives it what of `array` is within its limits, and from where it came.
    ///
    /// Should that be less than a segment, and no descriptor be left to cut it, the pop fails with `ENOBUFS`.
    /// - Returns: what the pop has not got, to stay queued: the rest, or, after `ENOBUFS`, the same array.
    @inline(__always)
    public func completePop(
        _ index: UInt32, cutting array: UnsafeMutablePointer<SegmentDescriptor>, from address: SocketAddress? = nil
    ) -> UnsafeMutablePointer<SegmentDescriptor>? {
        let slot = operation(index)
        var rest: UnsafeMutablePointer<SegmentDescriptor>?
        if array.arrayByteCount > slot.pointee.byteCount || array.arraySegmentCount > Int(slot.pointee.maximumSegments) {
            rest = array.splitArray(maximumSegments: Int(slot.pointee.maximumSegments), maximumBytes: slot.pointee.byteCount)
            if rest == nil {
                failUncut(index)
                return array
            }
        }
        if let address { completePop(index, array, from: address) } else { completePop(index, array) }
        return rest
    }

    /// A pop whose limit lies inside a segment that cannot be cut.
    @inline(never)
    public func failUncut(_ index: UInt32) {
        fail(index, ENOBUFS, "no segment descriptor is left to cut a segment: raise MemoryConfiguration.maximumSegments, or pop without a limit")
    }

    /// A pop of a datagram: takes over `array`.
    @inlinable
    @inline(__always)
    public func completePop(_ index: UInt32, _ array: UnsafeMutablePointer<SegmentDescriptor>, from address: SocketAddress) {
        operation(index).pointee.array = array
        operation(index).pointee.address = address
        operation(index).pointee.outcome = .succeededFromAddress
        complete(index, .poppedFromAddress)
    }

    /// The oldest pop of a list, which is not empty: takes it out, and takes over `array`. O(1).
    @inlinable
    @inline(__always)
    public func completeFirstPop(of list: inout OperationList, _ array: UnsafeMutablePointer<SegmentDescriptor>) {
        let slot = takeFirst(of: &list)
        slot.pointee.array = array
        complete(slot, .popped)
    }

    /// As `completeFirstPop(of:_:)`, for a datagram.
    @inlinable
    @inline(__always)
    public func completeFirstPop(
        of list: inout OperationList, _ array: UnsafeMutablePointer<SegmentDescriptor>, from address: SocketAddress
    ) {
        let slot = takeFirst(of: &list)
        slot.pointee.array = array
        slot.pointee.address = address
        slot.pointee.outcome = .succeededFromAddress
        complete(slot, .poppedFromAddress)
    }

    /// The oldest pop that waits, if it is the one that the present turn is taken for: takes it out, and takes over `array`, whose kind is
    /// `WaitingPops.result`. The one behind it is awaited then, if it takes all that may come. Calls nothing. O(1).
    /// - Returns: whether that was done; if not, nothing has changed, and `completeFirstPop` does it.
    @inlinable
    @inline(__always)
    public func completesAwaitedPop(of pops: UnsafeMutablePointer<WaitingPops>, _ array: UnsafeMutablePointer<SegmentDescriptor>) -> Bool {
        let link = pops.pointee.list.head.unsafelyUnwrapped
        let slot = link.operation
        guard slot.pointee.claim.word == OperationClaim.turn else { return false }
        let next = link.pointee.next
        pops.pointee.list.head = next
        if let next {
            next.pointee.previous = nil
            pops.pointee.awaits.unsafelyUnwrapped.pointee = next.operation.pointee.byteCount >= WaitingPops.unlimitedByteCount ? 1 : 0
        } else {
            pops.pointee.list.tail = nil
        }
        slot.pointee.array = array
        slot.pointee.openToken = 0
        slot.pointee.isCompleted = true
        slot.pointee.plainResult = pops.pointee.result
        return true
    }

    @inlinable
    @inline(__always)
    func takeFirst(of list: inout OperationList) -> UnsafeMutablePointer<Operation> {
        let link = list.head.unsafelyUnwrapped
        let next = link.pointee.next
        list.head = next
        if let next { next.pointee.previous = nil } else { list.tail = nil }
        return link.operation
    }

    /// A pop at the end of the stream.
    public func completeEndOfStream(_ index: UInt32) {
        operation(index).pointee.outcome = .endOfStream
        complete(index)
    }

    /// An accept: the new connection has the descriptor `queue`, from `adopt`.
    public func completeAccept(_ index: UInt32, _ queue: QueueDescriptor, peer: SocketAddress) {
        operation(index).pointee.byteCount = Int(queue.rawValue)
        operation(index).pointee.address = peer
        complete(index)
    }

    /// A connect.
    public func completeConnect(_ index: UInt32) {
        complete(index)
    }

    /// Any operation that failed. For a push, `byteCount` bytes had been taken.
    public func fail(_ index: UInt32, _ errno: Int32, _ message: StaticString = "", byteCount: Int = 0) {
        let slot = operation(index)
        slot.pointee.outcome = .failed
        slot.pointee.errno = errno
        slot.pointee.message = message
        slot.pointee.byteCount = byteCount
        complete(index)
    }

    /// Fails every operation of a list, which is empty afterwards.
    public func failAll(_ list: inout OperationList, _ errno: Int32, _ message: StaticString = "") {
        while case let index = removeFirst(from: &list), index != 0 { fail(index, errno, message) }
    }

    /// Puts a completed operation on its claimant's list and wakes that one. One completion wakes one waiter.
    /// - Parameter result: what `wait` can return at once, if nobody has claimed the operation.
    @inlinable
    @inline(__always)
    func complete(_ index: UInt32, _ result: PlainResult = .none) {
        complete(operation(index), result)
    }

    @inlinable
    @inline(__always)
    func complete(_ slot: UnsafeMutablePointer<Operation>, _ result: PlainResult) {
        slot.pointee.isCompleted = true
        slot.pointee.openToken = 0
        // It gets its number when the turn is over.
        if slot.pointee.claim.word == OperationClaim.turn { return slot.pointee.plainResult = result }
        let number = state.pointee.completions &+ 1
        state.pointee.completions = number
        slot.pointee.completionNumber = number
        if slot.pointee.claim.word == 0 {
            slot.pointee.plainResult = result
            append(slot, toCompletedOf: state.pointee.waiters)
        } else {
            appendToCompletedOfHolder(slot)
        }
    }

    @usableFromInline
    @inline(never)
    func appendToCompletedOfHolder(_ slot: UnsafeMutablePointer<Operation>) {
        append(slot, toCompletedOf: state.pointee.waiters + Int(holder(of: slot.index)))
    }

    @inlinable
    @inline(__always)
    func append(_ slot: UnsafeMutablePointer<Operation>, toCompletedOf waiter: UnsafeMutablePointer<Waiter>) {
        waiter.ring.insertBefore(slot.link)
        waiter.pointee.count &+= 1
        if waiter.pointee.task != Waiter.noTask && waiter.pointee.count >= waiter.pointee.needed { wake(waiter) }
    }

    @usableFromInline
    @inline(never)
    func wake(_ waiter: UnsafeMutablePointer<Waiter>) {
        let task = waiter.pointee.task
        if task == Waiter.asyncTask {
            waiter.pointee.task = Waiter.noTask
            waiter.pointee.continuation.take()?.resume()
        } else {
            wakeTask(task)
        }
    }

    func wakeTask(_ task: UInt32) {
        state.pointee.scheduler.wake(task)
        // Asked first: also a call on nothing retains and releases.
        if state.pointee.eventSource != nil { signalEventSource() }
    }

    @inline(never)
    private func signalEventSource() {
        state.pointee.eventSource?.signal()
    }

    // MARK: Refusal

    /// Remembers a sentence for the error of the call that is being refused, and returns its errno.
    public func refuse(_ errno: Int32, _ message: StaticString) -> Int32 {
        state.pointee.refusal = message
        return errno
    }

    @inline(never)
    func refusalError(_ errno: Int32, _ operation: DemikernelError.Operation) -> DemikernelError {
        let message = state.pointee.refusal
        state.pointee.refusal = ""
        return DemikernelError(errno, operation, message)
    }
}
