import CDatapath
import DatapathMemory
import Glibc
import TaskScheduler

/// The core of a runtime, as a library OS uses it: operations, their completion, descriptors, memory, tasks and time.
///
/// A plain handle, as cheap to copy as a pointer, valid as long as the `Runtime` lives. It belongs to the runtime's thread and does not check it.
public struct RuntimeCore {
    let state: UnsafeMutablePointer<CoreState>

    init(state: UnsafeMutablePointer<CoreState>) {
        self.state = state
    }

    /// The runtime's heap.
    public var heap: DatapathHeap { state.pointee.heap }

    /// The runtime's tasks and timers.
    public var scheduler: TaskScheduler { state.pointee.scheduler }

    /// The time of this turn, in nanoseconds.
    public var now: UInt64 { state.pointee.now }

    /// The runtime's limits.
    public var limits: Limits { state.pointee.limits }

    /// The next random number of the runtime's seed.
    public func nextRandom() -> UInt64 { state.pointee.random.next() }

    // MARK: Operations

    /// An operation's slot, for reading its arguments while it is pending.
    public func operation(_ index: UInt32) -> UnsafeMutablePointer<Operation> {
        state.pointee.operations + Int(index)
    }

    /// A pending operation in a slot of its own; 0 at the limit.
    func makeOperation(_ kind: OperationKind, _ queue: QueueDescriptor) -> UInt32 {
        var index = state.pointee.freeOperation
        let slot: UnsafeMutablePointer<Operation>
        if index != 0 {
            slot = state.pointee.operations + Int(index)
            state.pointee.freeOperation = slot.pointee.next
        } else {
            index = carveOperation()
            if index == 0 { return 0 }
            slot = state.pointee.operations + Int(index)
        }
        slot.pointee.queue = queue
        slot.pointee.kind = kind
        slot.pointee.key &= OperationKey.generationMask
        slot.pointee.outcome = .succeeded
        slot.pointee.hasAddress = false
        slot.pointee.claim = 0
        slot.pointee.next = 0
        slot.pointee.previous = 0
        slot.pointee.byteCount = 0
        slot.pointee.position = 0
        state.pointee.liveOperations &+= 1
        return index
    }

    @inline(never)
    func carveOperation() -> UInt32 {
        let index = state.pointee.carvedOperations
        guard index <= state.pointee.operationCapacity else { return 0 }
        state.pointee.carvedOperations = index + 1
        var operation = Operation()
        operation.key = state.pointee.firstGeneration
        (state.pointee.operations + Int(index)).initialize(to: operation)
        return index
    }

    /// Frees a slot whose result was taken. A slot whose generations are used up is never used again.
    func releaseOperation(_ index: UInt32) {
        let slot = operation(index)
        state.pointee.liveOperations &-= 1
        let generation = slot.pointee.key & OperationKey.generationMask &+ 1
        if generation > OperationKey.generationMask {
            retire(index)
        } else {
            slot.pointee.key = generation | OperationKey.free
            slot.pointee.next = state.pointee.freeOperation
            state.pointee.freeOperation = index
        }
    }

    @inline(never)
    func retire(_ index: UInt32) {
        operation(index).pointee.key = OperationKey.free
        state.pointee.counters.retiredTokenSlots += 1
    }

    func token(_ index: UInt32) -> QueueToken {
        QueueToken(slot: index, generation: operation(index).pointee.key & OperationKey.generationMask)
    }

    /// The slot of a live token; 0 for any other number.
    func slot(of token: QueueToken) -> UInt32 {
        // The table has a slot for every slot number that a token can hold; those never used are zero, and a forged token can hold that too.
        let index = UInt32(truncatingIfNeeded: token.rawValue & QueueToken.slotMask)
        let key = operation(index).pointee.key & ~(OperationKey.completed | OperationKey.claimed)
        return key == token.rawValue &>> QueueToken.slotBits && key != 0 ? index : 0
    }

    // MARK: Lists of pending operations

    /// Adds a pending operation at the end. O(1).
    public func append(_ index: UInt32, to list: inout OperationList) {
        let slot = operation(index)
        slot.pointee.next = 0
        slot.pointee.previous = list.tail
        if list.tail != 0 { operation(list.tail).pointee.next = index } else { list.head = index }
        list.tail = index
    }

    /// Takes the oldest operation out; 0 for none. O(1).
    public func removeFirst(from list: inout OperationList) -> UInt32 {
        let index = list.head
        if index != 0 { remove(index, from: &list) }
        return index
    }

    /// Takes an operation out of the list that holds it. O(1).
    public func remove(_ index: UInt32, from list: inout OperationList) {
        let slot = operation(index)
        let next = slot.pointee.next
        let previous = slot.pointee.previous
        if previous != 0 { operation(previous).pointee.next = next } else { list.head = next }
        if next != 0 { operation(next).pointee.previous = previous } else { list.tail = previous }
    }

    /// Cuts an array to the limits of a pending pop. What exceeds them is returned, to stay queued. Should no descriptor be left for a cut inside
    /// a segment, the pop gets the whole array: more than it asked for, and nothing is lost.
    public func cut(_ array: UnsafeMutablePointer<SegmentDescriptor>, for pop: UInt32) -> UnsafeMutablePointer<SegmentDescriptor>? {
        let slot = operation(pop)
        if array.arrayByteCount <= slot.pointee.byteCount && array.arraySegmentCount <= Int(slot.pointee.maximumSegments) { return nil }
        return array.splitArray(maximumSegments: Int(slot.pointee.maximumSegments), maximumBytes: slot.pointee.byteCount)
    }

    // MARK: Completion

    /// A push: the queue has taken the whole array.
    public func completePush(_ index: UInt32, byteCount: Int) {
        operation(index).pointee.byteCount = byteCount
        complete(index)
    }

    /// A pop: takes over `array`.
    public func completePop(_ index: UInt32, _ array: UnsafeMutablePointer<SegmentDescriptor>) {
        operation(index).pointee.array = array
        complete(index)
    }

    /// A pop of a datagram: takes over `array`.
    public func completePop(_ index: UInt32, _ array: UnsafeMutablePointer<SegmentDescriptor>, from address: SocketAddress) {
        operation(index).pointee.array = array
        operation(index).pointee.address = address
        operation(index).pointee.hasAddress = true
        complete(index)
    }

    /// A pop at the end of the stream.
    public func completeEndOfStream(_ index: UInt32) {
        operation(index).pointee.outcome = .endOfStream
        complete(index)
    }

    /// An accept: the new connection has the descriptor `queue`, from `adopt`.
    public func completeAccept(_ index: UInt32, _ queue: QueueDescriptor, peer: SocketAddress) {
        operation(index).pointee.newQueue = queue
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
    func complete(_ index: UInt32) {
        let slot = operation(index)
        slot.pointee.key |= OperationKey.completed
        state.pointee.completions &+= 1
        slot.pointee.completionNumber = state.pointee.completions
        let claim = slot.pointee.claim
        let isClaimed = claim != 0 && slot.pointee.claimEpoch == state.pointee.waiters[Int(claim)].epoch
        appendCompleted(index, to: isClaimed ? claim : 0)
    }

    func appendCompleted(_ index: UInt32, to waiterIndex: UInt32) {
        let slot = operation(index)
        let waiter = state.pointee.waiters + Int(waiterIndex)
        let tail = waiter.pointee.tail
        slot.pointee.next = 0
        slot.pointee.previous = tail
        if tail != 0 { operation(tail).pointee.next = index } else { waiter.pointee.head = index }
        waiter.pointee.tail = index
        waiter.pointee.count &+= 1
        if waiter.pointee.task != Waiter.noTask && waiter.pointee.count >= waiter.pointee.needed { wake(waiter) }
    }

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
        state.pointee.eventSource?.signal()
    }

    // MARK: Refusal

    /// Remembers a sentence for the error of the call that is being refused, and returns its errno.
    public func refuse(_ errno: Int32, _ message: StaticString) -> Int32 {
        state.pointee.refusal = message
        return errno
    }

    func refusalError(_ errno: Int32, _ operation: DemikernelError.Operation) -> DemikernelError {
        let message = state.pointee.refusal
        state.pointee.refusal = ""
        return DemikernelError(errno, operation, message)
    }
}
