import CDemikernel
import Glibc
import QueueRuntime

@c @implementation
public func demi_get_statistics(_ statistics: UnsafeMutablePointer<demi_statistics>?, _ size: Int) -> Int32 {
    guard let thread = CurrentRuntime.enter() else { return CurrentRuntime.refusal() }
    guard let statistics, (8...4096).contains(size) else { return thread.refuse(EINVAL, "statistics have 8 to 4096 bytes") }
    let runtime = thread.state.pointee.runtime.statistics
    var counts = demi_statistics()
    let known = min(size, MemoryLayout<demi_statistics>.size)
    counts.version = 1
    counts.size = UInt32(known)
    counts.turns = runtime.turns
    counts.sleeps = runtime.sleeps
    counts.live_operations = UInt64(runtime.liveOperations)
    counts.open_queues = UInt64(runtime.openQueues)
    counts.closing_queues = UInt64(runtime.closingQueues)
    counts.queues_opened = runtime.queuesOpened
    counts.live_arrays = UInt64(thread.state.pointee.arrays.liveCount)
    counts.memory_limit = UInt64(runtime.memory.limitByteCount)
    counts.memory_used = UInt64(runtime.memory.usedByteCount)
    counts.live_blocks = UInt64(runtime.memory.liveBlocks)
    counts.live_segments = UInt64(runtime.memory.liveSegments)
    counts.allocations_refused = runtime.memory.refusedApplication + runtime.memory.refusedDatagram + runtime.memory.refusedReserve
    let room = UnsafeMutableRawPointer(statistics)
    withUnsafeBytes(of: &counts) { room.copyMemory(from: $0.baseAddress.unsafelyUnwrapped, byteCount: known) }
    memset(room + known, 0, size - known)
    thread.leave()
    return 0
}

/// The library's version, which `demikernel --version` tells as well.
private let version: StaticString = "0.1.0"

@c @implementation
public func demi_version() -> UnsafePointer<CChar>! {
    // A static string's bytes end with a NUL and live as long as the process.
    UnsafeRawPointer(version.utf8Start).assumingMemoryBound(to: CChar.self)
}

@c @implementation
public func demi_last_error() -> UnsafePointer<CChar>! {
    if let sentence = demi_get_error_sentence() { return sentence }
    let none: StaticString = ""
    return UnsafeRawPointer(none.utf8Start).assumingMemoryBound(to: CChar.self)
}
