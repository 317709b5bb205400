/// A request that was sent, or is about to be, and whose reply has not come.
struct PendingRequest {
    let stamp: UInt64
    /// From when its latency counts; 0 when it was already counted as unanswered, so that a late reply is only taken off the stream.
    var time: UInt64
    let isSecond: Bool
}

/// The requests of one connection in the order in which their replies come. Bounded: a power of two, fixed at the start.
struct PendingRing {
    private let base: UnsafeMutablePointer<PendingRequest>
    private let mask: Int
    // Both count up for ever; only their low bits index.
    private var head = 0
    private var tail = 0

    /// The owner calls `deallocate`.
    init(capacity: Int) {
        var size = 1
        while size < capacity { size *= 2 }
        base = .allocate(capacity: size)
        mask = size - 1
    }

    func deallocate() { base.deallocate() }

    @inline(__always) var count: Int { tail &- head }
    @inline(__always) var isEmpty: Bool { head == tail }

    /// The request at `index` from the oldest; `index` is below `count`.
    @inline(__always)
    subscript(index: Int) -> PendingRequest {
        get { base[(head &+ index) & mask] }
        nonmutating set { base[(head &+ index) & mask] = newValue }
    }

    /// There is room: the caller holds `count` below the capacity.
    @inline(__always)
    mutating func append(_ request: PendingRequest) {
        base[tail & mask] = request
        tail &+= 1
    }

    @inline(__always)
    mutating func removeFirst() { head &+= 1 }
}
