import Demikernel
import Glibc
import Testing

/// TCP over loopback: every byte arrives, in order, whatever its array looked like.
@Suite("Streams") struct StreamTests {
    @Test("connect, accept, and the addresses of both ends", arguments: [AddressFamily.ipv4, .ipv6])
    func addresses(_ family: AddressFamily) throws {
        let runtime = try makeRuntime()
        let listening = try runtime.listener(family)
        #expect(listening.address.port != 0)
        #expect(listening.address == .loopback(family, port: listening.address.port))
        let accept = try runtime.accept(listening.queue)
        let client = try runtime.socket(family, .stream)
        #expect(try runtime.result(runtime.connect(client, to: listening.address)) == .connected)
        let (server, peer) = try runtime.accepted(accept)
        #expect(try runtime.localAddress(client) == peer)
        #expect(try runtime.peerAddress(server) == peer)
        #expect(try runtime.peerAddress(client) == listening.address)
        #expect(try runtime.localAddress(server) == listening.address)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.peerAddress(listening.queue) } == ENOTCONN)
    }

    @Test(
        "one push of any size arrives whole", arguments: [AddressFamily.ipv4, .ipv6],
        [1, 2, 63, 64, 1_023, 1_024, 2_048, 2_049, 65_535, 65_536, 65_537, 258_048, 1 << 20, 4_000_000])
    func sizes(_ family: AddressFamily, byteCount: Int) throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection(family)
        let sent = pattern(0..<byteCount)
        var segments = 1
        while byteCount > segments * DatapathHeap.maximumBufferByteCount { segments += 1 }
        let step = (byteCount + segments - 1) / segments
        var array = try runtime.array([UInt8](sent[0..<min(step, byteCount)]))
        for start in stride(from: step, to: byteCount, by: step) {
            try array.append(runtime.buffer([UInt8](sent[start..<min(start + step, byteCount)])))
        }
        let push = try runtime.push(connection.client, array)
        #expect(try runtime.receive(connection.server, count: byteCount) == sent)
        #expect(try runtime.result(push) == .pushed(byteCount))
        #expect(runtime.snapshot().liveBlocks == 0)
        #expect(runtime.snapshot().liveSegments == 0)
    }

    @Test("arrays of 1 to 16 segments, empty ones among them, arrive in order", arguments: 1...16)
    func segments(_ count: Int) throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        var random = SeededRandom(seed: UInt64(count))
        var position = 0
        for _ in 0..<20 {
            let start = position
            var array = try runtime.array(pattern(position..<position + 1))
            position += 1
            for _ in 1..<count {
                let length = [0, 1, 7, 100, 3_000].randomElement(using: &random)!
                try array.append(runtime.buffer(pattern(position..<position + length)))
                position += length
            }
            #expect(array.segmentCount == count)
            let push = try runtime.push(connection.client, array)
            #expect(try runtime.receive(connection.server, count: position - start) == pattern(start..<position))
            #expect(try runtime.result(push) == .pushed(position - start))
        }
        #expect(runtime.snapshot().liveBlocks == 0)
    }

    @Test("a slow reader: pushes stay pending, complete in order, and partial writes lose nothing", arguments: [1, 3, 16])
    func slowReader(segmentCount: Int) throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection { (runtime, queue) throws(DemikernelError) in
            try runtime.setOption(.sendBuffer(byteCount: 4_096), on: queue)
            try runtime.setOption(.receiveBuffer(byteCount: 4_096), on: queue)
        }
        var random = SeededRandom(seed: 5)
        var tokens: [(token: QueueToken, byteCount: Int)] = []
        var total = 0
        for _ in 0..<40 {
            let start = total
            // Empty segments stand between the others: a partial write may end before, in or behind one.
            var array = try runtime.array(pattern(total..<total + 1))
            total += 1
            for segment in 1..<max(segmentCount, 2) {
                let length = segment % 3 == 2 ? 0 : Int.random(in: 1...40_000 / segmentCount, using: &random)
                try array.append(runtime.buffer(pattern(total..<total + length)))
                total += length
            }
            tokens.append((try runtime.push(connection.client, array), total - start))
        }
        #expect(
            errorNumber { () throws(DemikernelError) in _ = try runtime.wait(tokens[39].token, timeout: .milliseconds(20)) } == ETIMEDOUT,
            "nobody reads: the last push is pending")
        // Push completions and pops, side by side in one list: pushes must complete in order, and not before their bytes could have left.
        var received: [UInt8] = []
        var completed = 0
        var pop = try runtime.pop(connection.server)
        var batch = CompletionBatch(capacity: 64)
        while received.count < total || completed < tokens.count {
            try runtime.waitNext(into: &batch, timeout: generous)
            while let completion = batch.next() {
                let token = completion.token
                switch outcome(consume completion.result) {
                case .pushed(let byteCount):
                    #expect(completed < tokens.count && token == tokens[completed].token && byteCount == tokens[completed].byteCount)
                    completed += 1
                case .popped(let bytes):
                    #expect(token == pop)
                    received += bytes
                    if received.count < total { pop = try runtime.pop(connection.server, maximumBytes: 3_000) }
                case let other:
                    Issue.record("\(other)")
                    return
                }
            }
        }
        #expect(received == pattern(0..<total))
        #expect(runtime.snapshot().liveBlocks == 0)
        #expect(runtime.snapshot().liveOperations == 0)
    }

    @Test("several pops wait for one stream: they get its bytes in the order of the pops")
    func severalPops() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        var pops: [QueueToken] = []
        for limit in [3, 1, 5, 1_000] { pops.append(try runtime.pop(connection.server, maximumBytes: limit)) }
        try runtime.push(connection.client, runtime.buffer(pattern(0..<12)), completion: .discarded)
        #expect(try runtime.result(pops[0]) == .popped(pattern(0..<3)))
        #expect(try runtime.result(pops[1]) == .popped(pattern(3..<4)))
        #expect(try runtime.result(pops[2]) == .popped(pattern(4..<9)))
        #expect(try runtime.result(pops[3]) == .popped(pattern(9..<12)))
    }

    @Test("half-close: the end follows the bytes, and the other direction goes on", arguments: [0, 1, 100_000])
    func halfClose(byteCount: Int) throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        if byteCount > 0 { try runtime.push(connection.client, runtime.buffer(pattern(0..<byteCount)), completion: .discarded) }
        try runtime.shutdown(connection.client, .send)
        #expect(refusal { () throws(DemikernelError) in _ = try runtime.push(connection.client, bytes: [1]) } == DemikernelError(EPIPE, .push))
        // Bytes and end have both arrived before the first pop.
        let received = try runtime.receiveAll(connection.server)
        #expect(received.bytes == pattern(0..<byteCount))
        #expect(received.end == .endOfStream)
        #expect(try runtime.result(runtime.pop(connection.server)) == .endOfStream, "and it stays the end")
        #expect(try runtime.result(runtime.push(connection.server, bytes: pattern(0..<50_000))) == .pushed(50_000))
        #expect(try runtime.receive(connection.client, count: 50_000) == pattern(0..<50_000))
        try runtime.shutdown(connection.server, .send)
        #expect(try runtime.result(runtime.pop(connection.client)) == .endOfStream)
        try runtime.close(connection.client)
        #expect(try runtime.result(runtime.closeToken(connection.server)) == .closed)
    }

    @Test("the end reaches a pop that waits, and one that is issued later", arguments: [true, false])
    func endBehindBytes(popsFirst: Bool) throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        if popsFirst {
            let pops = try [runtime.pop(connection.server), runtime.pop(connection.server)]
            try runtime.push(connection.client, runtime.buffer([1, 2, 3]), completion: .discarded)
            try runtime.close(connection.client)
            #expect(try runtime.result(pops[0]) == .popped([1, 2, 3]))
            #expect(try runtime.result(pops[1]) == .endOfStream)
        } else {
            try runtime.push(connection.client, runtime.buffer([1, 2, 3]), completion: .discarded)
            try runtime.close(connection.client)
            // One turn sees the bytes and the end in one event.
            runtime.poll()
            #expect(try runtime.result(runtime.pop(connection.server)) == .popped([1, 2, 3]))
            #expect(try runtime.result(runtime.pop(connection.server)) == .endOfStream)
        }
    }

    @Test("shutdown(.send) waits for the pushes before it, even if the last of them is cancelled", arguments: [false, true])
    func shutdownBehindPushes(cancelsLast: Bool) throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        let (pending, byteCount) = try runtime.fill(connection.client, unit: 1_024)
        try runtime.shutdown(connection.client, .send)
        var expected = byteCount
        if cancelsLast {
            try runtime.cancel(pending)
            if try runtime.result(pending) == .failed(ECANCELED, byteCount: 0) { expected -= 1_024 }
        }
        let received = try runtime.receiveAll(connection.server)
        #expect(received.end == .endOfStream)
        #expect(received.bytes == pattern(0..<expected))
        if !cancelsLast { #expect(try runtime.result(pending) == .pushed(1_024)) }
    }

    @Test("shutdown(.receive) ends the pops, and pushing goes on")
    func shutdownReceive() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        let pop = try runtime.pop(connection.client)
        try runtime.shutdown(connection.client, .receive)
        #expect(try runtime.result(pop) == .endOfStream)
        #expect(try runtime.result(runtime.pop(connection.client)) == .endOfStream)
        #expect(try runtime.result(runtime.push(connection.client, bytes: [1, 2])) == .pushed(2))
        #expect(try runtime.result(runtime.pop(connection.server)) == .popped([1, 2]))
    }

    @Test("cancelling a pop takes nothing from the stream; cancelling a begun push changes nothing")
    func cancel() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        let pops = try [runtime.pop(connection.server), runtime.pop(connection.server)]
        try runtime.cancel(pops[0])
        #expect(try runtime.result(pops[0]) == .failed(ECANCELED, byteCount: 0))
        try runtime.push(connection.client, runtime.buffer([7]), completion: .discarded)
        #expect(try runtime.result(pops[1]) == .popped([7]))
        // A push that cannot have left at once has been begun.
        var array = try runtime.array(pattern(0..<250_000))
        for segment in 1..<16 { try array.append(runtime.buffer(pattern(segment * 250_000..<(segment + 1) * 250_000))) }
        let begun = try runtime.push(connection.client, array)
        let waiting = try runtime.push(connection.client, bytes: [99])
        try runtime.cancel(begun)
        try runtime.cancel(waiting)
        let received = try runtime.receive(connection.server, count: 4_000_000)
        #expect(received == pattern(0..<4_000_000))
        #expect(try runtime.result(begun) == .pushed(4_000_000))
        #expect(try runtime.result(waiting) == .failed(ECANCELED, byteCount: 0))
        try runtime.push(connection.client, runtime.buffer([8]), completion: .discarded)
        #expect(try runtime.result(runtime.pop(connection.server)) == .popped([8]), "the cancelled push left no byte")
        #expect(runtime.snapshot().liveBlocks == 0)
    }

    @Test("pushes that nobody waits for are refused with EAGAIN at discardedPushByteCount, and go again when the peer has read")
    func discardedPushes() throws {
        let runtime = try makeRuntime { $0.limits.discardedPushByteCount = 100_000 }
        let connection = try runtime.connection { (runtime, queue) throws(DemikernelError) in
            try runtime.setOption(.sendBuffer(byteCount: 8_192), on: queue)
            try runtime.setOption(.receiveBuffer(byteCount: 8_192), on: queue)
        }
        var sent = 0
        var number: Int32 = 0
        while number == 0, sent < 4 << 20 {
            number = errorNumber { () throws(DemikernelError) in
                try runtime.push(connection.client, runtime.buffer(pattern(sent..<sent + 10_000)), completion: .discarded)
            }
            if number == 0 { sent += 10_000 }
        }
        #expect(number == EAGAIN)
        #expect(runtime.snapshot().liveBlocks <= 11, "no more than the limit is held")
        #expect(runtime.statistics.liveOperations == 0)
        #expect(try runtime.receive(connection.server, count: sent) == pattern(0..<sent))
        try runtime.push(connection.client, runtime.buffer([1]), completion: .discarded)
        #expect(try runtime.result(runtime.pop(connection.server)) == .popped([1]))
        #expect(runtime.snapshot().liveBlocks == 0)
    }
}
