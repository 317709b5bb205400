import Demikernel
import Glibc
import Testing

/// At the heap's limit reading stops and the kernel holds the peer back; it goes on when memory is back.
@Suite("Full heap") struct MemoryPressureTests {
    /// Takes all that an application may have.
    private func exhaust(_ runtime: borrowing Runtime, keeping held: inout [Holder]) -> DemikernelError? {
        refusal { () throws(DemikernelError) in
            for byteCount in [DatapathHeap.maximumBufferByteCount, 4_096, 64] {
                while true {
                    do throws(DemikernelError) {
                        held.append(Holder(try runtime.allocate(byteCount)))
                    } catch {
                        guard error.errno == ENOBUFS else { throw error }
                        if byteCount == 64 { throw error }
                        break
                    }
                }
            }
        }
    }

    /// A buffer in an array of Swift's own.
    final class Holder {
        let buffer: Buffer
        init(_ buffer: consuming Buffer) { self.buffer = buffer }
    }

    @Test("a stream: no byte is lost, the sender is held back, and it goes on")
    func stream() throws {
        let receiver = try makeRuntime { $0.memory.arenaByteCount = 4 << 20 }
        let sender = try makeRuntime()
        let listening = try receiver.listener()
        let accept = try receiver.accept(listening.queue)
        let client = try sender.socket(.ipv4, .stream)
        try sender.setOption(.sendBuffer(byteCount: 65_536), on: client)
        try receiver.setOption(.receiveBuffer(byteCount: 65_536), on: listening.queue)
        #expect(try sender.result(sender.connect(client, to: listening.address)) == .connected)
        let server = try receiver.accepted(accept).queue
        var held: [Holder] = []
        let error = exhaust(receiver, keeping: &held)
        #expect(error == DemikernelError(ENOBUFS, .allocate))
        #expect(error?.message.utf8CodeUnitCount ?? 0 > 0, "it names the mend")
        let pop = try receiver.pop(server)
        let (pending, byteCount) = try sender.fill(client, unit: 50_000)
        #expect(errorNumber { () throws(DemikernelError) in _ = try receiver.wait(pop, timeout: .milliseconds(30)) } == ETIMEDOUT)
        #expect(errorNumber { () throws(DemikernelError) in _ = try sender.wait(pending, timeout: .milliseconds(30)) } == ETIMEDOUT)
        held.removeAll()
        guard case .popped(var received) = try receiver.result(pop) else {
            Issue.record("the pop did not go on")
            return
        }
        while received.count < byteCount {
            sender.poll()
            let more = try receiver.pop(server)
            while errorNumber({ () throws(DemikernelError) in
                guard case .popped(let bytes) = try receiver.result(more, timeout: .milliseconds(1)) else { return }
                received += bytes
            }) == ETIMEDOUT { sender.poll() }
        }
        #expect(received == pattern(0..<byteCount))
        #expect(try sender.result(pending) == .pushed(50_000))
        #expect(receiver.snapshot().liveBlocks == 0)
    }

    @Test("a closed socket leaves the list of those that wait for memory; the next in its slot is served")
    func closedWhileStarved() throws {
        let runtime = try makeRuntime { $0.memory.arenaByteCount = 4 << 20 }
        let peer = try makeRuntime()
        let listening = try peer.listener()
        func connect(_ runtime: borrowing Runtime, _ peer: borrowing Runtime) throws(DemikernelError) -> Connection {
            let accept = try peer.accept(listening.queue)
            let client = try runtime.socket(.ipv4, .stream)
            let token = try runtime.connect(client, to: listening.address)
            let server = try peer.accepted(accept).queue
            guard try runtime.result(token) == .connected else { throw DemikernelError(EPROTO, .connect) }
            return Connection(client: client, server: server)
        }
        let first = try connect(runtime, peer)
        var held: [Holder] = []
        _ = exhaust(runtime, keeping: &held)
        let pop = try runtime.pop(first.client)
        #expect(try peer.result(peer.push(first.server, bytes: [1])) == .pushed(1))
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(pop, timeout: .milliseconds(10)) } == ETIMEDOUT)
        try runtime.close(first.client)
        #expect(try runtime.result(pop) == .failed(ECANCELED, byteCount: 0))
        // Many more than there are slots, so that the first one's comes round again.
        for round in 0..<3 {
            let next = try connect(runtime, peer)
            let pop = try runtime.pop(next.client)
            #expect(try peer.result(peer.push(next.server, bytes: [UInt8(round)])) == .pushed(1))
            #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(pop, timeout: .milliseconds(10)) } == ETIMEDOUT)
            if round == 1 { held.removeAll() } else { continue }
            #expect(try runtime.result(pop) == .popped([UInt8(round)]))
            break
        }
    }

    @Test("without a free segment descriptor nothing is read, and nothing is lost")
    func segmentDescriptors() throws {
        let runtime = try makeRuntime { $0.memory.maximumSegments = 2 }
        let connection = try runtime.connection()
        let queue = try runtime.queue()
        try runtime.push(connection.client, runtime.buffer([1, 2, 3]), completion: .discarded)
        for byte in 0..<2 { try runtime.push(queue, runtime.buffer([UInt8(byte)]), completion: .discarded) }
        let pop = try runtime.pop(connection.server)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(pop, timeout: .milliseconds(10)) } == ETIMEDOUT)
        #expect(try runtime.result(runtime.pop(queue)) == .popped([0]))
        #expect(try runtime.result(pop) == .popped([1, 2, 3]))
    }
}
