import EthernetDevice

/// The frames that wait for the device, oldest first, in a ring of handles: whoever drives the stack hands them to the device from here.
///
/// It belongs to the stack, which makes and frees it; `NetworkStack.outputRing` gives its address, which stays the same.
@frozen
public struct OutputRing {
    @usableFromInline let entries: UnsafeMutablePointer<Frame>
    @usableFromInline var head = 0
    @usableFromInline var tail = 0

    /// Where senders that can wait stop. Acknowledgements and control segments may go beyond it, as far as there is room.
    @inlinable
    static var capacity: Int { 1_024 }

    @inlinable
    static var entryCount: Int { 2 * capacity }

    init() {
        entries = .allocate(capacity: OutputRing.entryCount)
    }

    func deallocate() {
        entries.deallocate()
    }

    /// Whether there is nothing to send.
    @inlinable @inline(__always)
    public var isEmpty: Bool { head == tail }

    /// How many frames wait.
    @inlinable @inline(__always)
    public var count: Int { tail &- head }

    /// Whether senders that can wait have to.
    @inlinable @inline(__always)
    public var isFull: Bool { count >= OutputRing.capacity }

    /// Whether nothing goes in.
    @inlinable @inline(__always)
    var isExhausted: Bool { count == OutputRing.entryCount }

    /// Adds a frame; the caller has seen that the ring is not exhausted.
    @inlinable @inline(__always)
    mutating func append(_ frame: Frame) {
        entries[tail & (OutputRing.entryCount - 1)] = frame
        tail &+= 1
    }

    /// The oldest frames that lie side by side: all of them, but for those behind the ring's end.
    @inlinable @inline(__always)
    public var first: (frames: UnsafeMutablePointer<Frame>, count: Int) {
        let start = head & (OutputRing.entryCount - 1)
        return (entries + start, min(tail &- head, OutputRing.entryCount &- start))
    }

    /// Takes the oldest `count` frames out, which the device has taken over. Where the ring was full before, `NetworkStack.outputMoved` is to be called
    /// afterwards.
    @inlinable @inline(__always)
    public mutating func removeFirst(_ count: Int) {
        head &+= count
    }

    /// Puts a frame in front of all others; the caller has just taken it out.
    mutating func prepend(_ frame: Frame) {
        head &-= 1
        entries[head & (OutputRing.entryCount - 1)] = frame
    }
}
