import Demikernel

// Waiting while other operations stay pending. One operation is: pop, a push that completes it, and the wait that redeems it.

/// `count` queues, each with a pop that nothing will complete.
private func addPendingPops(
    _ runtime: borrowing Runtime, _ count: Int, _ body: (QueueToken) throws(DemikernelError) -> Void
) throws(DemikernelError) {
    for _ in 0..<count { try body(try runtime.pop(try runtime.queue())) }
}

/// `pending` counts the operation that completes too.
@inline(never)
func waitNext(_ count: Int, pending: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    try addPendingPops(runtime, pending - 1) { _ in }
    let queue = try runtime.queue()
    var unit = try ScatterGatherArray(runtime.allocate(64))
    var batch = CompletionBatch(capacity: 1)
    for _ in 0..<count {
        _ = try runtime.pop(queue)
        try runtime.push(queue, unit, completion: .discarded)
        try runtime.waitNext(into: &batch)
        unit = popped(batch.next()!)
    }
}

@inline(never)
func waitSet(_ count: Int, pending: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    let set = try runtime.makeWaitSet()
    try addPendingPops(runtime, pending - 1) { (token) throws(DemikernelError) in try set.add(token) }
    let queue = try runtime.queue()
    var unit = try ScatterGatherArray(runtime.allocate(64))
    for _ in 0..<count {
        try set.add(try runtime.pop(queue))
        try runtime.push(queue, unit, completion: .discarded)
        unit = popped(try set.wait())
    }
}

/// The token that completes is the array's last.
@inline(never)
func waitAny(_ count: Int, tokens tokenCount: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    try waitAny(on: runtime, count, tokens: tokenCount)
}

@inline(never)
func waitAnyInCoroutine(_ count: Int, tokens tokenCount: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    try runtime.spawn { runtime in
        do throws(DemikernelError) {
            try waitAny(on: runtime, count, tokens: tokenCount)
        } catch {
            fatalError("waitAny failed: \(error)")
        }
    }
    try runtime.run()
}

@inline(__always)
private func waitAny(on runtime: borrowing Runtime, _ count: Int, tokens tokenCount: Int) throws(DemikernelError) {
    let tokens = UnsafeMutableBufferPointer<QueueToken>.allocate(capacity: tokenCount)
    defer { tokens.deallocate() }
    var used = 0
    try addPendingPops(runtime, tokenCount - 1) { token in
        tokens.initializeElement(at: used, to: token)
        used += 1
    }
    let queue = try runtime.queue()
    var unit = try ScatterGatherArray(runtime.allocate(64))
    for _ in 0..<count {
        tokens.initializeElement(at: used, to: try runtime.pop(queue))
        try runtime.push(queue, unit, completion: .discarded)
        unit = popped(try runtime.waitAny(tokens.span))
    }
}
