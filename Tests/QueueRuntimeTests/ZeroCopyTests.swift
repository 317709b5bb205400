import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// A buffer stays where it is: nothing is copied from push to pop, by address.
@Suite("Zero-copy") struct ZeroCopyTests {
    /// Pops one array; its segments' addresses and itself.
    private func popped(_ runtime: borrowing Runtime, _ token: QueueToken) throws(DemikernelError) -> ScatterGatherArray {
        let completion = try runtime.wait(token, timeout: generous)
        guard case .popped(let array, _) = consume completion.result else { throw DemikernelError(EPROTO, .pop) }
        return array
    }

    private func addresses(_ array: borrowing ScatterGatherArray) -> [UnsafeRawPointer?] {
        (0..<array.segmentCount).map { array.withUnsafeBytes(ofSegment: $0) { $0.baseAddress } }
    }

    @Test(
        "push, pop and push again keep the address, through queue() and into a device that has registered the heap",
        arguments: [1_024, 1_025, 4_096, 65_536, DatapathHeap.maximumBufferByteCount])
    func sameAddress(byteCount: Int) throws {
        let kept = Shared<RecordingDevice?>(nil)
        let runtime = try makeRuntime(making: [{ core in RecordingDevice.make(for: core, keeping: kept) }])
        let device = try #require(kept.value)
        let queue = try runtime.queue()
        let loop = try runtime.socket(.ipv4, .datagram)
        let buffer = try runtime.allocate(byteCount)
        let address = UnsafeRawPointer(buffer.address)
        #expect(device.arenas.count == 1)
        #expect(device.arenas[0].base <= buffer.address && buffer.address + byteCount <= device.arenas[0].base + device.arenas[0].byteCount)
        _ = try runtime.wait(runtime.push(queue, buffer))
        var array = try popped(runtime, runtime.pop(queue))
        #expect(addresses(array) == [address])
        for _ in 0..<3 {
            _ = try runtime.wait(runtime.push(loop, array))
            array = try popped(runtime, runtime.pop(loop))
            #expect(addresses(array) == [address])
            _ = try runtime.wait(runtime.push(queue, array))
            array = try popped(runtime, runtime.pop(queue))
            #expect(addresses(array) == [address])
        }
        #expect(runtime.snapshot().liveBlocks == 1, "no second block was taken")
        _ = array.byteCount
        #expect(device.pushed.map { UnsafeRawPointer($0) } == [address, address, address])
        #expect(device.registrations == [101, 101, 101])
    }

    @Test("slices and arrays keep their addresses; a cut is a slice")
    func slices() throws {
        let kept = Shared<RecordingDevice?>(nil)
        let runtime = try makeRuntime(making: [{ core in RecordingDevice.make(for: core, keeping: kept) }])
        let loop = try runtime.socket(.ipv4, .datagram)
        let whole = try runtime.allocate(8_192)
        let base = UnsafeRawPointer(whole.address)
        var array = try ScatterGatherArray(whole.slice(4_096..<8_192))
        try array.append(whole.slice(0..<4_096))
        try runtime.push(loop, array, completion: .discarded)
        let first = try popped(runtime, runtime.pop(loop, maximumBytes: 5_000))
        #expect(addresses(first) == [base + 4_096, base])
        #expect(first.byteCount == 5_000)
        let second = try popped(runtime, runtime.pop(loop))
        #expect(addresses(second) == [base + 904])
        #expect(second.byteCount == 3_192)
        #expect(runtime.snapshot().liveBlocks == 1)
    }

    @Test("one wait set over kernel sockets, a recording library OS and queue(): one buffer goes through them by address")
    func overSeveralLibraryOSes() throws {
        let kept = Shared<RecordingDevice?>(nil)
        let runtime = try makeSocketRuntime()
        let recording = try runtime.register(RecordingDevice.make(for: runtime.core, keeping: kept))
        let device = try #require(kept.value)
        let sender = try runtime.socket(.ipv4, .datagram)
        let receiver = try runtime.socket(.ipv4, .datagram)
        try runtime.bind(receiver, to: .loopback(port: 0))
        let loop = try runtime.socket(.ipv4, .datagram, on: recording)
        let queue = try runtime.queue()
        let set = try runtime.makeWaitSet()
        let pops = try [runtime.pop(receiver), runtime.pop(loop), runtime.pop(queue)]
        for pop in pops { try set.add(pop) }
        #expect(set.count == 3)
        #expect(errorNumber { () throws(DemikernelError) in _ = try set.wait(timeout: .zero) } == ETIMEDOUT)
        let bytes = (0..<2_000).map { UInt8(truncatingIfNeeded: $0) }
        let receiverAddress = try runtime.localAddress(receiver)
        try runtime.pushTo(sender, runtime.array(bytes), receiverAddress, completion: .discarded)
        // What the kernel gave goes on to the loop and the queue.
        var completion = try set.wait(timeout: generous)
        #expect(completion.token == pops[0])
        guard case .popped(let received, let source) = consume completion.result else { throw DemikernelError(EPROTO, .pop) }
        #expect(source?.family == .ipv4)
        let address = addresses(received)
        try set.add(runtime.push(loop, received))
        var pushCount = 0
        var popCount = 0
        while popCount < 2 {
            completion = try set.wait(timeout: generous)
            let token = completion.token
            switch consume completion.result {
            case .pushed(let byteCount):
                #expect(byteCount == 2_000)
                pushCount += 1
            case .popped(let array, _):
                #expect(token == pops[1 + popCount])
                #expect(addresses(array) == address)
                popCount += 1
                if popCount == 1 {
                    try set.add(runtime.push(queue, array))
                } else {
                    #expect(QueueRuntimeTests.bytes(array) == bytes)
                    // And back to the kernel, from where it lies.
                    try runtime.pushTo(sender, array, receiverAddress, completion: .discarded)
                }
            default: throw DemikernelError(EPROTO, .pop)
            }
        }
        while pushCount < 2 {
            guard case .pushed = Described(try set.wait(timeout: generous)).outcome else { throw DemikernelError(EPROTO, .push) }
            pushCount += 1
        }
        #expect(set.count == 0)
        #expect(try runtime.result(runtime.pop(receiver)) == .popped(bytes))
        #expect(device.pushed.map { UnsafeRawPointer($0) } == address.compactMap { $0 })
    }

    @Test("the end of the runtime takes the arena back from the device, destroys its library OS and releases what it holds")
    func end() throws {
        let kept = Shared<RecordingDevice?>(nil)
        do {
            let runtime = try makeRuntime(making: [{ core in RecordingDevice.make(for: core, keeping: kept) }])
            let loop = try runtime.socket(.ipv4, .datagram)
            try runtime.push(loop, runtime.buffer([1]), completion: .discarded)
            _ = try runtime.pop(runtime.socket(.ipv4, .datagram))
        }
        #expect(kept.value?.isDestroyed == true)
        #expect(kept.value?.unregisteredCount == 1)
    }
}
