import EthernetDevice

/// Frames in order, chained through their first descriptors.
struct FrameQueue {
    private var first: Frame?
    private var last: Frame?
    private(set) var count = 0

    /// Where a queue of frames to this host ends.
    static let capacity = 1_024

    @inline(__always)
    var isEmpty: Bool { first == nil }

    @inline(__always)
    var isFull: Bool { count >= FrameQueue.capacity }

    @inline(__always)
    mutating func append(_ frame: Frame) {
        frame.pointee.nextArray = nil
        if let last { last.pointee.nextArray = frame } else { first = frame }
        last = frame
        count &+= 1
    }

    @inline(__always)
    mutating func removeFirst() -> Frame? {
        guard let frame = first else { return nil }
        first = frame.pointee.nextArray
        if first == nil { last = nil }
        count &-= 1
        return frame
    }
}
