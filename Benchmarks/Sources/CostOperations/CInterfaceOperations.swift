import CDemikernel
import Demikernel
import DemikernelC

// The same work by the Swift interface and by that of C. A C program keeps its array until it frees it; so each push and pop costs it a slice of the
// array, and its release.

private func check(_ error: Int32) {
    if error != 0 { fatalError("a call failed with \(error)") }
}

@inline(__always)
private func wait(_ token: demi_qtoken_t, _ result: UnsafeMutablePointer<demi_qresult_t>) {
    check(demi_wait(result, token, nil))
}

/// Where the calls write, as on a C program's stack.
private struct Room {
    let token: UnsafeMutablePointer<demi_qtoken_t> = .allocate(capacity: 2)
    let result: UnsafeMutablePointer<demi_qresult_t> = .allocate(capacity: 1)
    let sga: UnsafeMutablePointer<demi_sgarray_t> = .allocate(capacity: 1)

    /// The array of the last pop.
    var popped: UnsafeMutablePointer<demi_sgarray_t> {
        (UnsafeMutableRawPointer(result) + 24).assumingMemoryBound(to: demi_sgarray_t.self)
    }

    init() {
        sga.initialize(to: demi_sgaalloc(64))
    }
}

/// An in-memory queue: push, pop, wait for both, free what was popped.
@inline(never)
func pushPopWaitBothInC(_ count: Int) throws(DemikernelError) {
    try CInterface.begin(over: try Runtime())
    let room = Room()
    var queue: Int32 = 0
    check(demi_queue(&queue))
    for _ in 0..<count {
        check(demi_push(room.token, queue, room.sga))
        check(demi_pop(room.token + 1, queue))
        wait(room.token[0], room.result)
        wait(room.token[1], room.result)
        check(demi_sgafree(room.popped))
    }
    CInterface.end()
}

/// The same in Swift: the program keeps its buffer, and pushes a slice of it.
@inline(never)
func pushSlicePopWaitBoth(_ count: Int) throws(DemikernelError) {
    let runtime = try Runtime()
    let queue = try runtime.queue()
    let buffer = try runtime.allocate(64)
    for _ in 0..<count {
        let push = try runtime.push(queue, buffer.slice(0..<64))
        let pop = try runtime.pop(queue)
        pushed(try runtime.wait(push))
        _ = popped(try runtime.wait(pop))
    }
}

/// An echo over TCP, each operation waited for.
@inline(never)
func echoOverStreamWaiting(_ count: Int) throws(DemikernelError) {
    let pair = try EchoPair()
    let (client, server) = try pair.connect()
    var unit = try ScatterGatherArray(pair.runtime.allocate(64))
    for _ in 0..<count {
        pushed(try pair.runtime.wait(try pair.runtime.push(client, unit)))
        let request = popped(try pair.runtime.wait(try pair.runtime.pop(server)))
        pushed(try pair.runtime.wait(try pair.runtime.push(server, request)))
        unit = popped(try pair.runtime.wait(try pair.runtime.pop(client)))
    }
}

/// The same in C: what was popped is pushed and freed.
@inline(never)
func echoOverStreamInC(_ count: Int) throws(DemikernelError) {
    let pair = try EchoPair()
    let (client, server) = try pair.connect()
    try CInterface.begin(over: pair.intoRuntime())
    let room = Room()
    check(demi_push(room.token, client.rawValue, room.sga))
    wait(room.token[0], room.result)
    for _ in 0..<count {
        pass(server.rawValue, to: server.rawValue, room)
        pass(client.rawValue, to: client.rawValue, room)
    }
    CInterface.end()
}

/// Pops from one queue, and pushes it to another.
@inline(__always)
private func pass(_ source: Int32, to target: Int32, _ room: Room) {
    check(demi_pop(room.token, source))
    wait(room.token[0], room.result)
    check(demi_push(room.token, target, room.popped))
    check(demi_sgafree(room.popped))
    wait(room.token[0], room.result)
}

/// `demi_wait_any` over many tokens, of which the last one completes: pop, push and wait besides.
@inline(never)
func waitAnyInC(_ count: Int, tokens tokenCount: Int) throws(DemikernelError) {
    try CInterface.begin(over: try Runtime())
    let room = Room()
    let tokens = UnsafeMutablePointer<demi_qtoken_t>.allocate(capacity: tokenCount)
    var queue: Int32 = 0
    var ready: Int32 = 0
    for index in 0..<tokenCount {
        check(demi_queue(&queue))
        if index < tokenCount - 1 { check(demi_pop(tokens + index, queue)) }
    }
    for _ in 0..<count {
        check(demi_pop(tokens + tokenCount - 1, queue))
        check(demi_push(room.token, queue, room.sga))
        check(demi_wait_any(room.result, &ready, tokens, Int32(tokenCount), nil))
        check(demi_sgafree(room.popped))
        wait(room.token[0], room.result)
    }
    tokens.deallocate()
    CInterface.end()
}
