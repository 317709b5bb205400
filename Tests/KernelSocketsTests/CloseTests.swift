import Demikernel
import Glibc
import Testing

/// How a connection ends, by its own side's close and by its peer's reset.
@Suite("Close and reset") struct CloseTests {
    /// A close of `queue` that resets the connection.
    private func reset(_ runtime: borrowing Runtime, _ queue: QueueDescriptor) throws(DemikernelError) {
        try runtime.setOption(.linger(seconds: 0), on: queue)
        try runtime.close(queue)
    }

    @Test("close sends what was pushed, then the end; the pushes complete, pending pops end with ECANCELED")
    func closeFlushes() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        let pops = try [runtime.pop(connection.client), runtime.pop(connection.client)]
        let (pending, byteCount) = try runtime.fill(connection.client, unit: 50_000)
        let last = try runtime.push(connection.client, bytes: pattern(byteCount..<byteCount + 50_000))
        try runtime.close(connection.client)
        for pop in pops { #expect(try runtime.result(pop) == .failed(ECANCELED, byteCount: 0)) }
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.pop(connection.client) } == EBADF)
        #expect(runtime.statistics.closingQueues == 1)
        let received = try runtime.receiveAll(connection.server)
        #expect(received.end == .endOfStream)
        #expect(received.bytes == pattern(0..<byteCount + 50_000))
        #expect(try runtime.result(pending) == .pushed(50_000))
        #expect(try runtime.result(last) == .pushed(50_000))
        #expect(runtime.statistics.closingQueues == 0)
        #expect(runtime.snapshot().liveBlocks == 0)
        #expect(runtime.snapshot().timers == 0)
    }

    @Test("a push that is cancelled after the close does not hold the end back")
    func cancelAfterClose() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        let (pending, byteCount) = try runtime.fill(connection.client, unit: 1_024)
        let close = try runtime.closeToken(connection.client)
        try runtime.cancel(pending)
        let expected = try runtime.result(pending, timeout: .milliseconds(50)) == .failed(ECANCELED, byteCount: 0) ? byteCount - 1_024 : byteCount
        let received = try runtime.receiveAll(connection.server)
        #expect(received.end == .endOfStream)
        #expect(received.bytes == pattern(0..<expected))
        try runtime.close(connection.server)
        #expect(try runtime.result(close) == .closed)
    }

    @Test("closeToken completes only when the connection is gone")
    func closeToken() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        try runtime.push(connection.client, runtime.buffer([1, 2, 3]), completion: .discarded)
        let close = try runtime.closeToken(connection.client)
        #expect(errorNumber { () throws(DemikernelError) in try runtime.close(connection.client) } == EBADF)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(close, timeout: .milliseconds(20)) } == ETIMEDOUT)
        #expect(try runtime.result(runtime.pop(connection.server)) == .popped([1, 2, 3]))
        #expect(try runtime.result(runtime.pop(connection.server)) == .endOfStream)
        // Its cancel changes nothing: the descriptor is retired already.
        try runtime.cancel(close)
        #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(close, timeout: .milliseconds(20)) } == ETIMEDOUT)
        #expect(runtime.statistics.closingQueues == 1)
        try runtime.close(connection.server)
        #expect(try runtime.result(close) == .closed)
        #expect(runtime.statistics.closingQueues == 0)
        #expect(runtime.snapshot().timers == 0)
    }

    @Test("closeToken of sockets without a connection completes", arguments: [SocketType.stream, .datagram], [false, true])
    func closeTokenWithoutConnection(_ type: SocketType, isBound: Bool) throws {
        let runtime = try makeRuntime()
        let socket = try runtime.socket(.ipv4, type)
        if isBound { try runtime.bind(socket, to: .loopback(port: 0)) }
        if isBound && type == .stream { try runtime.listen(socket, backlog: 4) }
        let accept = isBound && type == .stream ? try runtime.accept(socket) : nil
        let pop = type == .datagram ? try runtime.pop(socket) : nil
        #expect(try runtime.result(runtime.closeToken(socket)) == .closed)
        if let accept { #expect(try runtime.result(accept) == .failed(ECANCELED, byteCount: 0)) }
        if let pop { #expect(try runtime.result(pop) == .failed(ECANCELED, byteCount: 0)) }
        #expect(
            runtime.snapshot() == Snapshot(liveOperations: 0, openQueues: 0, closingQueues: 0, liveBlocks: 0, liveSegments: 0, tasks: 0, timers: 0))
    }

    @Test("a peer that neither reads nor ends is dropped after closeLinger, by the runtime's clock", arguments: [false, true])
    func closeLinger(hasPendingPush: Bool) throws {
        let runtime = try makeRuntime { $0.limits.closeLinger = 30_000_000 }
        let connection = try runtime.connection()
        let pending = hasPendingPush ? try runtime.fill(connection.client, unit: 50_000).pending : nil
        let start = runtime.now
        #expect(try runtime.result(runtime.closeToken(connection.client)) == .closed)
        #expect(runtime.now - start >= 30_000_000)
        if let pending { #expect(try runtime.result(pending).errorNumber == ETIMEDOUT) }
        #expect(runtime.statistics.closingQueues == 0)
        #expect(runtime.snapshot().liveBlocks == 0)
        #expect(runtime.snapshot().timers == 0)
    }

    @Test("closeLinger counts from the close, however long the program has done something else before")
    func closeLingerAfterPause() throws {
        let runtime = try makeRuntime { $0.limits.closeLinger = 30_000_000 }
        let connection = try runtime.connection()
        _ = try runtime.fill(connection.client, unit: 50_000)
        // Longer than the linger, without a turn of the runtime.
        let pauseEnd = runtime.now + 40_000_000
        while runtime.now < pauseEnd {}
        let start = runtime.now
        #expect(try runtime.result(runtime.closeToken(connection.client)) == .closed)
        #expect(runtime.now - start >= 30_000_000)
    }

    @Test("bytes that were never popped do not reset what the peer has not read", arguments: [1, 100_000, 700_000])
    func unreadAtClose(byteCount: Int) throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        for start in stride(from: 0, to: byteCount, by: 100_000) {
            try runtime.push(connection.client, runtime.buffer(pattern(start..<min(byteCount, start + 100_000))), completion: .discarded)
        }
        #expect(try runtime.receive(connection.server, count: 1) == pattern(0..<1))
        try runtime.push(connection.server, runtime.buffer(pattern(0..<200_000)), completion: .discarded)
        try runtime.close(connection.server)
        let received = try runtime.receiveAll(connection.client)
        #expect(received.bytes == pattern(0..<200_000))
        #expect(received.end == .endOfStream)
    }

    @Test("linger 0: the close resets, and ends issued pushes with ECANCELED")
    func lingerZero() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        let (begun, _) = try runtime.fill(connection.client, unit: 50_000)
        let waiting = try runtime.push(connection.client, bytes: [1])
        try runtime.setOption(.linger(seconds: 0), on: connection.client)
        let close = try runtime.closeToken(connection.client)
        #expect(try runtime.result(close) == .closed)
        guard case .failed(let number, let taken) = try runtime.result(begun) else {
            Issue.record("the push was not cancelled")
            return
        }
        #expect(number == ECANCELED && taken >= 0 && taken < 50_000)
        #expect(try runtime.result(waiting) == .failed(ECANCELED, byteCount: 0))
        let received = try runtime.receiveAll(connection.server)
        #expect(received.end == .failed(ECONNRESET, byteCount: 0))
        #expect(runtime.snapshot().liveBlocks == 0)
    }

    @Test("a linger time does not block the close, and the bytes still arrive")
    func lingerTime() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        try runtime.setOption(.linger(seconds: 5), on: connection.client)
        var byteCount = 0
        // Whatever fits into the kernel's buffers, while nobody reads.
        for _ in 0..<20 {
            try runtime.push(connection.client, runtime.buffer(pattern(byteCount..<byteCount + 100_000)), completion: .discarded)
            byteCount += 100_000
        }
        let start = runtime.now
        try runtime.close(connection.client)
        runtime.poll()
        #expect(runtime.now - start < 2_000_000_000)
        let received = try runtime.receiveAll(connection.server)
        #expect(received.bytes == pattern(0..<byteCount))
        #expect(received.end == .endOfStream)
    }

    @Test("a reset during a transfer: the push fails with the errno and the bytes taken, later calls tell it too", arguments: [false, true])
    func peerReset(popWaits: Bool) throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        let pop = popWaits ? try runtime.pop(connection.client) : nil
        var array = try runtime.array(pattern(0..<250_000))
        for segment in 1..<16 { try array.append(runtime.buffer(pattern(segment * 250_000..<(segment + 1) * 250_000))) }
        let begun = try runtime.push(connection.client, array)
        let waiting = try runtime.push(connection.client, bytes: [1])
        #expect(try runtime.receive(connection.server, count: 10) == pattern(0..<10))
        try reset(runtime, connection.server)
        guard case .failed(let number, let taken) = try runtime.result(begun) else {
            Issue.record("the push did not fail")
            return
        }
        #expect(number == ECONNRESET)
        #expect(taken > 0 && taken < 4_000_000)
        #expect(try runtime.result(waiting) == .failed(ECONNRESET, byteCount: 0))
        if let pop { #expect(try runtime.result(pop) == .failed(ECONNRESET, byteCount: 0)) }
        // A reset is never an end of the stream, however often one asks.
        for _ in 0..<3 { #expect(try runtime.result(runtime.pop(connection.client)) == .failed(ECONNRESET, byteCount: 0)) }
        #expect(refusal { () throws(DemikernelError) in _ = try runtime.push(connection.client, bytes: [1]) } == DemikernelError(EPIPE, .push))
        #expect(try runtime.result(runtime.closeToken(connection.client)) == .closed)
        #expect(runtime.snapshot().liveBlocks == 0)
    }

    @Test("a failure of a push that nobody waits for shows in the next pop")
    func discardedPushFailure() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        try reset(runtime, connection.server)
        // The kernel tells the reset to whoever comes first: here the push.
        try runtime.push(connection.client, runtime.buffer([1]), completion: .discarded)
        #expect(try runtime.result(runtime.pop(connection.client)) == .failed(ECONNRESET, byteCount: 0))
    }

    @Test("bytes that came before a reset are still popped")
    func bytesBeforeReset() throws {
        let runtime = try makeRuntime()
        let connection = try runtime.connection()
        try runtime.push(connection.server, runtime.buffer([1, 2, 3]), completion: .discarded)
        #expect(try runtime.result(runtime.pop(connection.client, maximumBytes: 1)) == .popped([1]))
        try reset(runtime, connection.server)
        var outcomes: [Outcome] = []
        for _ in 0..<2 { outcomes.append(try runtime.result(runtime.pop(connection.client))) }
        // Linux drops what it has not handed over or keeps it; what it must not do is to end the stream without an error.
        #expect(outcomes.last == .failed(ECONNRESET, byteCount: 0))
    }

    @Test("events of a closed socket do not reach the next one in its slot")
    func staleEvents() throws {
        let runtime = try makeRuntime { $0.limits.maximumQueues = 4 }
        for round in 0..<200 {
            let connection = try runtime.connection()
            // The events of these bytes and of the end are in the kernel when the slot gets its next socket.
            try runtime.push(connection.client, runtime.buffer([1]), completion: .discarded)
            try runtime.close(connection.client)
            try runtime.close(connection.server)
            let next = try runtime.connection()
            let pops = try [runtime.pop(next.client), runtime.pop(next.server)]
            for pop in pops {
                #expect(errorNumber { () throws(DemikernelError) in _ = try runtime.wait(pop, timeout: .zero) } == ETIMEDOUT, "round \(round)")
            }
            try runtime.push(next.client, runtime.buffer([2]), completion: .discarded)
            #expect(try runtime.result(pops[1]) == .popped([2]))
            try runtime.setOption(.linger(seconds: 0), on: next.client)
            try runtime.close(next.client)
            try runtime.close(next.server)
            #expect(try runtime.result(pops[0]) == .failed(ECANCELED, byteCount: 0))
        }
        #expect(runtime.snapshot().openQueues == 0)
        #expect(runtime.snapshot().liveBlocks == 0)
    }
}
