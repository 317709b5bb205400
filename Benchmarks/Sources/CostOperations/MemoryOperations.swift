import Demikernel

/// A buffer allocated and freed.
@inline(never)
func allocateAndFree(_ count: Int, byteCount: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    // Four a round, so that the loop itself hardly counts.
    var remaining = count
    while remaining > 0 {
        _ = try runtime.allocate(byteCount)
        _ = try runtime.allocate(byteCount)
        _ = try runtime.allocate(byteCount)
        _ = try runtime.allocate(byteCount)
        remaining &-= 4
    }
}

/// Many buffers allocated, then all freed, again and again: superblocks fill and empty. One operation is one allocate and free.
@inline(never)
func fillAndEmpty(_ count: Int, live: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    let buffers = UnsafeMutablePointer<Buffer>.allocate(capacity: live)
    for _ in 0..<count / live {
        for index in 0..<live { (buffers + index).initialize(to: try runtime.allocate(64)) }
        for index in 0..<live { _ = (buffers + index).move() }
    }
    buffers.deallocate()
}

/// Two buffers at a time, of which the first fills a superblock and the second needs another one. One operation is one allocate and free.
@inline(never)
func crossSuperblockEdge(_ count: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    let first = try runtime.allocate(65_536)
    let second = try runtime.allocate(65_536)
    // A superblock holds three blocks of 64 KiB: this pair straddles the edge.
    for _ in 0..<count / 2 {
        let third = try runtime.allocate(65_536)
        let fourth = try runtime.allocate(65_536)
        touch(third)
        touch(fourth)
    }
    touch(first)
    touch(second)
}

/// A slice made and released; the block stays.
@inline(never)
func sliceAndRelease(_ count: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    let buffer = try runtime.allocate(1_024)
    for index in 0..<count { touch(buffer.slice(index & 511..<1_024)) }
}

/// Writes the first byte, so that no allocation can be left out, and lets the buffer go.
@inline(__always)
private func touch(_ buffer: consuming Buffer) {
    buffer.address.storeBytes(of: 1, as: UInt8.self)
}

private final class Counted {
    var number = 0
}

/// What must be found: if a run of `scripts/cost` does not see these calls, its other findings mean nothing.
@inline(never)
func callForbidden(_ count: Int) {
    for number in 0..<count { keepAlive(makeCounted(number)) }
}

@inline(never)
private func makeCounted(_ number: Int) -> AnyObject {
    let counted = Counted()
    counted.number = number
    return counted
}

@inline(never)
private func keepAlive(_ object: AnyObject) {
    precondition((object as? Counted)?.number != -1)
}
