import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// The end of a runtime gives back all that it had, whatever was under way.
@Suite("The end of a runtime") struct RuntimeEndTests {
    @Test("pending operations, results that nobody redeemed, open and closing queues, an event descriptor: no descriptor stays open")
    func end() async {
        // A process of its own, whose descriptors can be counted.
        await #expect(processExitsWith: .success) {
            let before = openDescriptorCount()
            for round in 0..<20 { try leaveWorkBehind(seed: UInt64(round)) }
            #expect(openDescriptorCount() <= before + foreignDescriptors)
        }
    }

    @Test("a hundred runtimes one after the other hold no address space", arguments: [false, true])
    func addressSpace(leavesWork: Bool) async {
        await #expect(processExitsWith: .success) { [leavesWork] in
            func makeOne(_ round: Int) throws {
                if leavesWork { return try leaveWorkBehind(seed: UInt64(round)) }
                let runtime = try makeSocketRuntime()
                let queue = try runtime.queue()
                #expect(try runtime.result(runtime.push(queue, bytes: [1])) == .pushed(1))
            }
            for round in 0..<5 { try makeOne(round) }
            let before = try mappedByteCount()
            for round in 0..<100 { try makeOne(round) }
            // Less than one runtime's arena.
            #expect(try mappedByteCount() - before < 4 << 20)
        }
    }

    @Test("interrupted coroutines leave no stack behind")
    func coroutineStacks() async {
        await #expect(processExitsWith: .success) {
            func makeOne() throws {
                let runtime = try makeRuntime()
                let queue = try runtime.queue()
                for _ in 0..<8 {
                    try runtime.spawn { runtime in
                        guard let token = try? runtime.pop(queue) else { return }
                        _ = try? runtime.wait(token)
                    }
                }
                while runtime.poll() {}
                let haveEnded = runtime.interruptCoroutines()
                #expect(haveEnded)
            }
            for _ in 0..<5 { try makeOne() }
            let before = try mappedByteCount()
            for _ in 0..<100 { try makeOne() }
            // Less than a tenth of the stacks.
            #expect(try mappedByteCount() - before < 80 * RuntimeConfiguration().limits.coroutineStackByteCount)
        }
    }

    @Test("a buffer outlives its runtime")
    func bufferOutlives() throws {
        func make() throws -> Buffer {
            let runtime = try makeRuntime()
            let queue = try runtime.queue()
            try runtime.push(queue, runtime.buffer([1, 2, 3]), completion: .discarded)
            let completion = try runtime.wait(runtime.pop(queue))
            guard case .popped(let array, _) = consume completion.result else { throw DemikernelError(EPROTO, .pop) }
            return array.intoFirstBuffer()
        }
        let buffer = try make()
        let bytes = buffer.withUnsafeBytes { [UInt8]($0) }
        #expect(bytes == [1, 2, 3])
    }
}

private func mappedByteCount() throws -> Int {
    let file = try #require(fopen("/proc/self/statm", "r"))
    defer { fclose(file) }
    var text = [CChar](repeating: 0, count: 256)
    _ = fgets(&text, 255, file)
    return atol(text) * 4_096
}

/// A runtime that ends with everything under way.
private func leaveWorkBehind(seed: UInt64) throws {
    let runtime = try makeSocketRuntime {
        $0.seed = seed
        $0.limits.memoryQueueDepth = 2
    }
    _ = try runtime.eventDescriptor()
    let queue = try runtime.queue()
    for byte in 0..<4 { _ = try runtime.push(queue, bytes: [UInt8(byte)]) }
    _ = try runtime.pop(queue)
    _ = try runtime.pop(runtime.queue())
    let listener = try runtime.socket(.ipv4, .stream)
    try runtime.bind(listener, to: .loopback(port: 0))
    try runtime.listen(listener, backlog: 4)
    let accepts = try [runtime.accept(listener), runtime.accept(listener)]
    let client = try runtime.socket(.ipv4, .stream)
    #expect(try runtime.result(runtime.connect(client, to: runtime.localAddress(listener))) == .connected)
    // One accept is completed and not redeemed, one is pending; so is a pop each.
    let completion = try runtime.wait(accepts[0], timeout: generous)
    guard case .accepted(let server, _) = consume completion.result else { throw DemikernelError(EPROTO, .accept) }
    let second = try runtime.socket(.ipv4, .stream)
    #expect(try runtime.result(runtime.connect(second, to: runtime.localAddress(listener))) == .connected)
    _ = try runtime.pop(client)
    _ = try runtime.pop(server)
    try runtime.push(client, runtime.buffer([1]), completion: .discarded)
    runtime.poll()
    // Pushes that cannot leave, on an open queue and on one that is closing.
    for socket in [client, server] {
        for _ in 0..<40 { _ = try runtime.push(socket, runtime.allocate(100_000)) }
    }
    try runtime.close(server)
    let datagrams = try runtime.socket(.ipv6, .datagram)
    try runtime.bind(datagrams, to: .loopback(.ipv6, port: 0))
    try runtime.pushTo(datagrams, runtime.array([1, 2, 3]), runtime.localAddress(datagrams), completion: .discarded)
    #expect(try runtime.result(runtime.pop(datagrams, maximumBytes: 1)) == .popped([1]))
    let set = try runtime.makeWaitSet()
    try set.add(runtime.pop(runtime.queue()))
}
