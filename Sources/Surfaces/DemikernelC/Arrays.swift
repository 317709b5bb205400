import CDemikernel
import DatapathMemory
import Glibc
import QueueRuntime

// <demi/sga.h>, and what <demi/extra.h> says of arrays.

@c @implementation
public func demi_sgaalloc(_ size: Int) -> demi_sgarray_t {
    var sga = demi_sgarray_t()
    guard let thread = CurrentRuntime.enter() else {
        _ = CurrentRuntime.refusal()
        return sga
    }
    do throws(DemikernelError) {
        let entry = try thread.allocateArray(size, headroom: 0)
        let array = entry.pointee.array.unsafelyUnwrapped
        sga.sga_buf = entry.handle
        sga.sga_numsegs = 1
        sga.sga_segs.sgaseg_buf = array.segmentAddress
        sga.sga_segs.sgaseg_len = UInt32(truncatingIfNeeded: array.segmentByteCount)
        thread.leave()
    } catch {
        _ = thread.refuse(error)
    }
    return sga
}

@c @implementation
public func demi_sgafree(_ sga: UnsafeMutablePointer<demi_sgarray_t>?) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let sga, let entry = thread.state.pointee.arrays.entry(sga.pointee.sga_buf) else {
        return thread.refuse(EINVAL, CurrentRuntime.noArray)
    }
    // Most have one segment, of a block that a queue holds as well.
    if let array = thread.state.pointee.arrays.remove(entry), array.nextSegment != nil || !array.releaseSharedSegment(in: thread.state.pointee.heap) {
        return thread.release(array)
    }
    thread.leave()
    return 0
}

@c @implementation
public func demi_sga_segments(
    _ sga: UnsafePointer<demi_sgarray_t>?, _ segs_out: UnsafeMutablePointer<demi_sgaseg_t>?, _ capacity: UInt32,
    _ num_segs_out: UnsafeMutablePointer<UInt32>?
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let sga, let segs_out, let num_segs_out else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    guard let entry = thread.state.pointee.arrays.entry(sga.pointee.sga_buf) else { return thread.refuse(EINVAL, CurrentRuntime.noArray) }
    guard let array = entry.pointee.array else {
        guard capacity >= 1 else { return thread.refuse(EINVAL, "the segments do not fit") }
        segs_out.pointee = demi_sgaseg_t(sgaseg_buf: demi_end_of_stream_address(), sgaseg_len: 0)
        UnsafeMutableRawPointer(num_segs_out).storeBytes(of: 1, as: UInt32.self)
        thread.leave()
        return 0
    }
    guard array.arraySegmentCount <= Int(capacity) else { return thread.refuse(EINVAL, "the segments do not fit") }
    var segment: UnsafeMutablePointer<SegmentDescriptor>? = array
    var count = 0
    while let current = segment {
        segs_out[count] = demi_sgaseg_t(sgaseg_buf: current.segmentAddress, sgaseg_len: UInt32(current.segmentByteCount))
        count += 1
        segment = current.nextSegment
    }
    UnsafeMutableRawPointer(num_segs_out).storeBytes(of: UInt32(count), as: UInt32.self)
    thread.leave()
    return 0
}

@c @implementation
public func demi_sga_address(
    _ sga: UnsafePointer<demi_sgarray_t>?, _ addr: UnsafeMutablePointer<sockaddr>?, _ addrlen: UnsafeMutablePointer<socklen_t>?
) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let sga, let addr, let addrlen else { return thread.refuse(EINVAL, CurrentRuntime.nullPointer) }
    guard let entry = thread.state.pointee.arrays.entry(sga.pointee.sga_buf) else { return thread.refuse(EINVAL, CurrentRuntime.noArray) }
    guard entry.pointee.hasSource else { return thread.refuse(ENOTCONN, "the array came from no address") }
    guard entry.pointee.source.write(to: addr, addrlen) else { return thread.refuse(EINVAL, CurrentRuntime.addressDoesNotFit) }
    thread.leave()
    return 0
}

// MARK: The heap

/// Before the memory of `demi_malloc`, in its block: the array's handle, and what keeps the rest aligned to 16 bytes.
private let mallocHeadroom = 16

@c @implementation
public func demi_malloc(_ size: Int) -> UnsafeMutableRawPointer? {
    guard let thread = CurrentRuntime.enter() else {
        _ = CurrentRuntime.refusal()
        return nil
    }
    do throws(DemikernelError) {
        let entry = try thread.allocateArray(size, headroom: mallocHeadroom)
        let address = entry.pointee.array.unsafelyUnwrapped.segmentAddress
        (address - mallocHeadroom).storeBytes(of: entry.pointee.handle, as: UInt64.self)
        thread.leave()
        return address
    } catch {
        _ = thread.refuse(error)
        return nil
    }
}

@c @implementation
public func demi_free(_ ptr: UnsafeMutableRawPointer?) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let ptr else {
        thread.leave()
        return 0
    }
    // What stands there may be anything: the program's bytes, or memory of another use. Only the address that the table has makes it a handle.
    let head = ptr - mallocHeadroom
    guard UInt(bitPattern: ptr) % 16 == 0, thread.state.pointee.runtime.core.heap.contains(head),
        let entry = thread.state.pointee.arrays.entry(head.load(as: UnsafeMutableRawPointer?.self)), entry.pointee.array?.segmentAddress == ptr
    else { return thread.refuse(EINVAL, "this is no memory of demi_malloc on this thread, or was freed before") }
    thread.state.pointee.arrays.remove(entry)?.releaseArray()
    thread.leave()
    return 0
}

extension CurrentRuntime {
    /// Releases an array at the end of a call.
    @inline(never)
    fileprivate func release(_ array: UnsafeMutablePointer<SegmentDescriptor>) -> Int32 {
        array.releaseArray()
        leave()
        return 0
    }

    static let noArray: StaticString = "this is no array of this thread, or it was freed"
    static let nullPointer: StaticString = "a pointer is NULL"
    static let addressDoesNotFit: StaticString = "the room is too small for the address"
    static let tooManyArrays: StaticString = "the program holds as many arrays as there can be: free some"

    /// A new array of the program, of one segment with so much room before it.
    /// - Throws: `EINVAL`, `EMSGSIZE`, `ENOBUFS`.
    @inline(__always)
    func allocateArray(_ size: Int, headroom: Int) throws(DemikernelError) -> UnsafeMutablePointer<ArrayTable.Entry> {
        // A `size_t` beyond the largest `Int` is negative here.
        guard size > 0 else { throw DemikernelError(size == 0 ? EINVAL : EMSGSIZE, .allocate, "an array holds 1 to 258048 bytes") }
        guard state.pointee.arrays.hasRoom else { throw DemikernelError(ENOBUFS, .allocate, CurrentRuntime.tooManyArrays) }
        let array = try ScatterGatherArray(try state.pointee.runtime.allocate(size, headroom: headroom))
        return state.pointee.arrays.add(array.takeOver())
    }
}
