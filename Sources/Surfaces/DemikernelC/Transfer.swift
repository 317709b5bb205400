import CDemikernel
import DatapathMemory
import Glibc
import QueueRuntime

// Pushing and popping.

@c @implementation
public func demi_push(_ qt_out: UnsafeMutablePointer<demi_qtoken_t>?, _ qd: Int32, _ sga: UnsafePointer<demi_sgarray_t>?) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    // The common case with little of a stack frame; all else is one call at the end.
    guard let qt_out, let sga, let slice = thread.sliceOfOne(UnsafeRawPointer(sga)) else { return thread.pushSlowly(qt_out, qd, sga) }
    let token = thread.state.pointee.runtime.core.pushAtOnce(QueueDescriptor(rawValue: qd), slice)
    guard token != 0 else { return thread.pushSlice(qt_out, qd, slice) }
    UnsafeMutableRawPointer(qt_out).storeBytes(of: token, as: UInt64.self)
    thread.leave()
    return 0
}

@c @implementation
public func demi_pushto(
    _ qt_out: UnsafeMutablePointer<demi_qtoken_t>?, _ sockqd: Int32, _ sga: UnsafePointer<demi_sgarray_t>?,
    _ dest_addr: UnsafePointer<sockaddr>?, _ size: socklen_t
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qt_out, let sga else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    let (address, errno, sentence) = SocketAddress.read(dest_addr, size)
    guard let address else { return thread.refuse(errno, sentence) }
    return thread.issue(to: qt_out) { (runtime) throws(DemikernelError) in
        try runtime.pushTo(QueueDescriptor(rawValue: sockqd), try thread.share(UnsafeRawPointer(sga)), address)
    }
}

@c @implementation
public func demi_pushv(
    _ qt_out: UnsafeMutablePointer<demi_qtoken_t>?, _ qd: Int32, _ segs: UnsafePointer<demi_sgaseg_t>?, _ num_segs: UInt32,
    _ dest_addr: UnsafePointer<sockaddr>?, _ size: socklen_t
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qt_out, let segs else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    guard (1...UInt32(ScatterGatherArray.maximumSegments)).contains(num_segs) else { return thread.refuse(EINVAL, "an array has 1 to 16 segments") }
    var destination: SocketAddress?
    if dest_addr != nil {
        let (address, errno, sentence) = SocketAddress.read(dest_addr, size)
        guard let address else { return thread.refuse(errno, sentence) }
        destination = address
    } else if size != 0 {
        return thread.refuse(EINVAL, "the size of no address is 0")
    }
    return thread.issue(to: qt_out) { (runtime) throws(DemikernelError) in
        let array = try thread.gather(segs, Int(num_segs))
        guard let destination else { return try runtime.push(QueueDescriptor(rawValue: qd), array) }
        return try runtime.pushTo(QueueDescriptor(rawValue: qd), array, destination)
    }
}

@c @implementation
public func demi_pop(_ qt_out: UnsafeMutablePointer<demi_qtoken_t>?, _ qd: Int32) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qt_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    let token = thread.state.pointee.runtime.core.popAtOnce(QueueDescriptor(rawValue: qd))
    guard token != 0 else { return thread.popSlowly(qt_out, qd) }
    UnsafeMutableRawPointer(qt_out).storeBytes(of: token, as: UInt64.self)
    thread.leave()
    return 0
}

@c @implementation
public func demi_popv(_ qt_out: UnsafeMutablePointer<demi_qtoken_t>?, _ qd: Int32, _ max_segs: UInt32, _ max_bytes: Int) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let qt_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    guard (1...UInt32(ScatterGatherArray.maximumSegments)).contains(max_segs) else { return thread.refuse(EINVAL, "an array has 1 to 16 segments") }
    guard max_bytes != 0 else { return thread.refuse(EINVAL, "a pop takes at least one byte") }
    // A `size_t` beyond the largest `Int` is as good as none.
    let maximumBytes = max_bytes < 0 ? .max : max_bytes
    return thread.issue(to: qt_out) { (runtime) throws(DemikernelError) in
        try runtime.pop(QueueDescriptor(rawValue: qd), maximumSegments: Int(max_segs), maximumBytes: maximumBytes)
    }
}

extension CurrentRuntime {
    /// What a push takes of an array of the program: slices of its segments, with one more count on each block.
    /// - Parameter sga: a `demi_sgarray_t`, anywhere.
    /// - Throws: `EINVAL` for what is no array, or is none any more, or reaches beyond what it was; `ENOBUFS`.
    @inline(__always)
    fileprivate func share(_ sga: UnsafeRawPointer) throws(DemikernelError) -> ScatterGatherArray {
        if let slice = sliceOfOne(sga) { return ScatterGatherArray(unsafelyTakingOver: slice) }
        return try shareSlowly(sga)
    }

    /// The slice of an array of one segment, as far as the program's `sga_segs` has narrowed it.
    /// - Returns: nil for any other array, and for what is none: `shareSlowly` tells.
    @inline(__always)
    fileprivate func sliceOfOne(_ sga: UnsafeRawPointer) -> UnsafeMutablePointer<SegmentDescriptor>? {
        guard let entry = state.pointee.arrays.entry(sga.loadUnaligned(as: UnsafeMutableRawPointer?.self)), let array = entry.pointee.array,
            sga.loadUnaligned(fromByteOffset: 8, as: UInt32.self) == 1
        else { return nil }
        guard let (offset, byteCount) = part(of: array, sga) else { return nil }
        return array.makeSliceAtOnce(offset: offset, byteCount: byteCount, in: state.pointee.heap)
    }

    /// As far as the program's `sga_segs` has narrowed a segment; nil where that reaches beyond it.
    @inline(__always)
    private func part(of segment: UnsafeMutablePointer<SegmentDescriptor>, _ sga: UnsafeRawPointer) -> (offset: Int, byteCount: Int)? {
        let start = sga.loadUnaligned(fromByteOffset: 12, as: UInt.self)
        let length = UInt(sga.loadUnaligned(fromByteOffset: 20, as: UInt32.self))
        // Where it begins before the segment, the difference is too large.
        let offset = start &- UInt(bitPattern: segment.segmentAddress)
        let room = UInt(bitPattern: segment.segmentByteCount)
        guard offset <= room, length <= room &- offset else { return nil }
        return (Int(bitPattern: offset), Int(bitPattern: length))
    }

    /// As `demi_push`, where it does not end at once: it waits, or is refused.
    @inline(never)
    fileprivate func pushSlice(_ qt_out: UnsafeMutablePointer<demi_qtoken_t>, _ qd: Int32, _ slice: UnsafeMutablePointer<SegmentDescriptor>) -> Int32 {
        issue(to: qt_out) { (runtime) throws(DemikernelError) in
            try runtime.push(QueueDescriptor(rawValue: qd), ScatterGatherArray(unsafelyTakingOver: slice))
        }
    }

    /// As `demi_pop`, where something is there, or wrong.
    @inline(never)
    fileprivate func popSlowly(_ qt_out: UnsafeMutablePointer<demi_qtoken_t>, _ qd: Int32) -> Int32 {
        issue(to: qt_out) { (runtime) throws(DemikernelError) in try runtime.pop(QueueDescriptor(rawValue: qd), maximumSegments: 1) }
    }

    /// As `demi_push`, for all that is not plain.
    @inline(never)
    fileprivate func pushSlowly(_ qt_out: UnsafeMutablePointer<demi_qtoken_t>?, _ qd: Int32, _ sga: UnsafePointer<demi_sgarray_t>?) -> Int32 {
        guard let qt_out, let sga else { return refuse(EINVAL, CurrentRuntime.nullPointer) }
        return issue(to: qt_out) { (runtime) throws(DemikernelError) in
            try runtime.push(QueueDescriptor(rawValue: qd), try shareSlowly(UnsafeRawPointer(sga)))
        }
    }

    /// An array of several segments, of which the first may have been narrowed; and why there is none.
    @inline(never)
    private func shareSlowly(_ sga: UnsafeRawPointer) throws(DemikernelError) -> ScatterGatherArray {
        guard let entry = state.pointee.arrays.entry(sga.loadUnaligned(as: UnsafeMutableRawPointer?.self)) else { throw CurrentRuntime.noSuchArray }
        guard let first = entry.pointee.array else { throw DemikernelError(EINVAL, .push, "the end of a stream is no array to push") }
        let count = sga.loadUnaligned(fromByteOffset: 8, as: UInt32.self)
        guard count >= 1, count <= first.arraySegmentCount else { throw DemikernelError(EINVAL, .push, "sga_numsegs is not the array's") }
        guard let (offset, byteCount) = part(of: first, sga) else { throw CurrentRuntime.tooWide }
        guard let head = first.makeSlice(offset: offset, byteCount: byteCount) else { throw CurrentRuntime.noSegmentLeft }
        var array = ScatterGatherArray(unsafelyTakingOver: head)
        var segment = first
        for _ in 1..<count {
            segment = segment.nextSegment.unsafelyUnwrapped
            guard let slice = segment.makeSlice(offset: 0, byteCount: segment.segmentByteCount) else { throw CurrentRuntime.noSegmentLeft }
            try array.append(ScatterGatherArray(unsafelyTakingOver: slice).intoFirstBuffer())
        }
        return array
    }

    /// An array over segments that lie in the heap, with one more count on each block.
    fileprivate func gather(_ segments: UnsafePointer<demi_sgaseg_t>, _ count: Int) throws(DemikernelError) -> ScatterGatherArray {
        let heap = state.pointee.runtime.core.heap
        guard let first = heap.share(segments[0].sgaseg_buf, byteCount: Int(segments[0].sgaseg_len)) else { throw CurrentRuntime.noSuchSegment }
        var array = try ScatterGatherArray(first)
        for index in 1..<count {
            guard let next = heap.share(segments[index].sgaseg_buf, byteCount: Int(segments[index].sgaseg_len)) else {
                throw CurrentRuntime.noSuchSegment
            }
            try array.append(next)
        }
        return array
    }

    private static let noSuchArray = DemikernelError(EINVAL, .push, noArray)
    private static let tooWide = DemikernelError(EINVAL, .push, "a segment may be narrowed, and reaches beyond what it was")
    private static let noSegmentLeft = DemikernelError(ENOBUFS, .push, "all segment descriptors are in use: wait for pushes, or free arrays")
    private static let noSuchSegment = DemikernelError(EINVAL, .push, "a segment lies within one block that the program has of the heap: copy it there")
}
