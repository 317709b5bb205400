/// The pops that wait at a queue, where the runtime adds one by itself while nothing is there to be popped: the common case of a pop, without a call of
/// the library OS.
///
/// It lies with the library OS, which gives its address to `RuntimeCore.setWaitingPops`, and must not move before the queue is closed.
public struct WaitingPops {
    /// Oldest first.
    public var list = OperationList()
    /// Whether a pop would find nothing, neither bytes nor an end nor an error. Set by the library OS after a pop has found that, and only once
    /// `awaits` is set; cleared when something has come.
    public var findsNothing = false
    /// What `RuntimeCore.completesAwaitedPop` is given: `popped`, or datagrams behind headers.
    public var result = PlainResult.popped
    /// Bytes in front of what is pushed to the queue that save a copy, because headers fit there (`Runtime.allocate(_:for:)`); 0 for none.
    public var headroom: UInt8 = 0
    /// Where whoever brings what comes next looks whether a pop that takes all of it waits: 1 while the first pop of the list is one.
    public var awaits: UnsafeMutablePointer<UInt8>?

    public init() {}

    /// The limit in bytes from which on a pop takes whatever comes at once: no packet is larger.
    @inlinable
    public static var unlimitedByteCount: Int { 65_535 }
}

extension RuntimeCore {
    /// For a library OS: lets the runtime put pops of a queue on its list, under the conditions of `WaitingPops`. Ends with the queue.
    public func setWaitingPops(_ pops: UnsafeMutablePointer<WaitingPops>, of queue: QueueDescriptor) {
        state.pointee.queues[queue.slot].waitingPops = pops
    }

    /// Makes a pop and puts it at the end of `pops`, which it finds nothing at.
    @inline(__always)
    func popLater(
        _ pops: UnsafeMutablePointer<WaitingPops>, _ slot: UnsafeMutablePointer<Operation>, _ queue: QueueDescriptor, _ maximumSegments: Int, _ maximumBytes: Int
    ) -> QueueToken {
        let token = take(slot, .pop, queue)
        slot.pointee.maximumSegments = UInt8(truncatingIfNeeded: min(maximumSegments, Int(UInt8.max)))
        slot.pointee.byteCount = maximumBytes
        let link = slot.link
        let tail = pops.pointee.list.tail
        pops.pointee.list.tail = link
        link.pointee.next = nil
        link.pointee.previous = tail
        if let tail {
            tail.pointee.next = link
        } else {
            pops.pointee.list.head = link
            pops.pointee.awaits.unsafelyUnwrapped.pointee = 1
        }
        return QueueToken(rawValue: token)
    }
}
