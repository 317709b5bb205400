import Demikernel

// In-memory queues. The unit is 64 bytes and goes round: what was popped is pushed again.

private func makeUnit(_ runtime: borrowing Runtime) throws(DemikernelError) -> ScatterGatherArray {
    try ScatterGatherArray(runtime.allocate(64))
}

/// A completion's array. Consumes the result as a program does.
@inline(__always)
func popped(_ completion: consuming Completion) -> ScatterGatherArray {
    switch consume completion.result {
    case .popped(let array, _): return array
    default: fatalError("the pop failed")
    }
}

/// Checks that a push has succeeded.
@inline(__always)
func pushed(_ completion: consuming Completion) {
    switch consume completion.result {
    case .pushed: return
    default: fatalError("the push failed")
    }
}

/// Push with its token, wait for it, pop, wait for it: each result is taken.
@inline(never)
func pushWaitPopWait(_ count: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    let queue = try runtime.queue()
    var unit = try makeUnit(runtime)
    for _ in 0..<count {
        pushed(try runtime.wait(try runtime.push(queue, unit)))
        unit = popped(try runtime.wait(try runtime.pop(queue)))
    }
}

/// Both operations are issued before either is waited for.
@inline(never)
func pushPopWaitBoth(_ count: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    let queue = try runtime.queue()
    var unit = try makeUnit(runtime)
    for _ in 0..<count {
        let push = try runtime.push(queue, unit)
        let pop = try runtime.pop(queue)
        pushed(try runtime.wait(push))
        unit = popped(try runtime.wait(pop))
    }
}

/// The push is fire and forget; only the pop is waited for.
@inline(never)
func pushDiscardedPopWait(_ count: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    let queue = try runtime.queue()
    var unit = try makeUnit(runtime)
    for _ in 0..<count {
        try runtime.push(queue, unit, completion: .discarded)
        unit = popped(try runtime.wait(try runtime.pop(queue)))
    }
}

/// As `pushWaitPopWait`, with a buffer in the program's hand: an array is made for each push and taken apart after each pop.
@inline(never)
func bufferPushWaitPopWait(_ count: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    let queue = try runtime.queue()
    var buffer = try runtime.allocate(64)
    for _ in 0..<count {
        pushed(try runtime.wait(try runtime.push(queue, buffer)))
        buffer = popped(try runtime.wait(try runtime.pop(queue))).intoFirstBuffer()
    }
}
