import Demikernel
import Glibc
import NetworkStack
import Testing
import UserNetwork

/// How a connection ends, by its own side's close and by its peer's reset.
@Suite("Close and reset") struct CloseTests {
    /// A close of `queue` that resets the connection.
    private func reset(_ runtime: borrowing Runtime, _ queue: QueueDescriptor) throws(DemikernelError) {
        try runtime.setOption(.linger(seconds: 0), on: queue)
        try runtime.close(queue)
    }

    @Test("close sends what was pushed, then the end; the pushes complete, pending pops end with ECANCELED")
    func closeFlushes() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let pops = try [pair.runtime.pop(connection.client), pair.runtime.pop(connection.client)]
        let (pending, byteCount) = try pair.runtime.fill(connection.client, unit: 100_000)
        let last = try pair.runtime.push(connection.client, bytes: pattern(byteCount..<byteCount + 50_000))
        try pair.runtime.close(connection.client)
        for pop in pops { #expect(try pair.runtime.result(pop) == .failed(ECANCELED, byteCount: 0)) }
        #expect(errorNumber { () throws(DemikernelError) in _ = try pair.runtime.pop(connection.client) } == EBADF)
        #expect(pair.runtime.statistics.closingQueues == 1)
        let received = try pair.runtime.receiveAll(connection.server)
        #expect(received.end == .endOfStream)
        #expect(received.bytes == pattern(0..<byteCount + 50_000))
        #expect(try pair.runtime.result(pending) == .pushed(100_000))
        #expect(try pair.runtime.result(last) == .pushed(50_000))
        #expect(pair.runtime.statistics.closingQueues == 0)
        try pair.runtime.close(connection.server)
        pair.expectNothingLeft()
    }

    @Test("a push that is cancelled after the close does not hold the end back")
    func cancelAfterClose() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let (pending, byteCount) = try pair.runtime.fill(connection.client, unit: 100_000)
        let close = try pair.runtime.closeToken(connection.client)
        try pair.runtime.cancel(pending)
        #expect(try pair.runtime.result(pending) == .failed(ECANCELED, byteCount: 0))
        let received = try pair.runtime.receiveAll(connection.server)
        #expect(received.end == .endOfStream)
        #expect(received.bytes == pattern(0..<byteCount - 100_000))
        try pair.runtime.close(connection.server)
        pair.clock.step = 10_000_000
        #expect(try pair.runtime.result(close, timeout: nil) == .closed)
        pair.expectNothingLeft()
    }

    /// Which side closes when, and whether it waits for the end.
    enum Order: CaseIterable, Sendable {
        case clientFirst, serverFirst, simultaneous, sameTurn
    }

    @Test("close in every order: both ends complete, and nothing is left", arguments: Order.allCases, [false, true])
    func orders(_ order: Order, withBytes: Bool) throws {
        let pair = try Pair()
        let connection = try pair.connection()
        if withBytes {
            try pair.runtime.push(connection.client, pair.runtime.buffer([1]), completion: .discarded)
            try pair.runtime.push(connection.server, pair.runtime.buffer([2]), completion: .discarded)
            pair.settle()
        }
        let first = order == .serverFirst ? connection.server : connection.client
        let second = order == .serverFirst ? connection.client : connection.server
        let firstClose = try pair.runtime.closeToken(first)
        // In the middle case the ends cross on the link; in the last they meet within one turn.
        if order == .simultaneous { pair.runtime.poll() }
        if order == .clientFirst || order == .serverFirst {
            pair.settle()
            if withBytes { #expect(try pair.runtime.result(pair.runtime.pop(second)) == .popped([order == .serverFirst ? 2 : 1])) }
            #expect(try pair.runtime.result(pair.runtime.pop(second)) == .endOfStream)
        }
        let secondClose = try pair.runtime.closeToken(second)
        if order == .clientFirst || order == .serverFirst {
            #expect(try pair.runtime.result(secondClose) == .closed, "the passive side does not wait for TIME_WAIT")
            #expect(try pair.runtime.isPending(firstClose), "the active side does")
        }
        pair.clock.step = 10_000_000
        let start = pair.clock.now
        #expect(try pair.runtime.result(firstClose, timeout: nil) == .closed)
        #expect(pair.clock.now - start >= 59_000_000_000, "twice the maximum segment lifetime")
        if order != .clientFirst && order != .serverFirst { #expect(try pair.runtime.result(secondClose, timeout: nil) == .closed) }
        pair.expectNothingLeft()
    }

    @Test("without a closeToken, TIME_WAIT keeps no descriptor")
    func closeFreesDescriptor() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        try pair.runtime.close(connection.client)
        #expect(pair.runtime.statistics.closingQueues == 0)
        #expect(try pair.runtime.result(pair.runtime.pop(connection.server)) == .endOfStream)
        try pair.runtime.close(connection.server)
        #expect(pair.runtime.statistics.closingQueues == 0 && pair.runtime.statistics.openQueues == 0)
        pair.settle()
        #expect(pair.network.connections == 1, "in TIME_WAIT")
        pair.expectNothingLeft()
        #expect(pair.network.connections == 0)
    }

    @Test("closeToken completes only when the connection is gone: after TIME_WAIT, whatever closeLinger says, for the peer has let go")
    func closeToken() throws {
        let pair = try Pair(runtime: { $0.limits.closeLinger = 3_000_000_000 })
        let connection = try pair.connection()
        try pair.runtime.push(connection.client, pair.runtime.buffer([1, 2, 3]), completion: .discarded)
        let close = try pair.runtime.closeToken(connection.client)
        #expect(errorNumber { () throws(DemikernelError) in try pair.runtime.close(connection.client) } == EBADF)
        #expect(try pair.runtime.isPending(close))
        #expect(try pair.runtime.result(pair.runtime.pop(connection.server)) == .popped([1, 2, 3]))
        #expect(try pair.runtime.result(pair.runtime.pop(connection.server)) == .endOfStream)
        // Its cancel changes nothing: the descriptor is retired already.
        try pair.runtime.cancel(close)
        #expect(try pair.runtime.isPending(close))
        #expect(pair.runtime.statistics.closingQueues == 1)
        try pair.runtime.close(connection.server)
        pair.clock.step = 10_000_000
        let start = pair.clock.now
        #expect(try pair.runtime.result(close, timeout: nil) == .closed)
        #expect(pair.clock.now - start >= 59_000_000_000)
        pair.expectNothingLeft()
    }

    @Test("closeToken of sockets without a connection completes", arguments: [SocketType.stream, .datagram], [false, true])
    func closeTokenWithoutConnection(_ type: SocketType, isBound: Bool) throws {
        let pair = try Pair()
        let socket = try pair.runtime.socket(.ipv4, type, on: pair.a)
        if isBound { try pair.runtime.bind(socket, to: Host.a(port: 0)) }
        if isBound && type == .stream { try pair.runtime.listen(socket, backlog: 4) }
        let accept = isBound && type == .stream ? try pair.runtime.accept(socket) : nil
        let pop = type == .datagram ? try pair.runtime.pop(socket) : nil
        #expect(try pair.runtime.result(pair.runtime.closeToken(socket), timeout: .zero) == .closed)
        if let accept { #expect(try pair.runtime.result(accept) == .failed(ECANCELED, byteCount: 0)) }
        if let pop { #expect(try pair.runtime.result(pop) == .failed(ECANCELED, byteCount: 0)) }
        #expect(pair.runtime.snapshot() == Snapshot(liveOperations: 0, openQueues: 0, closingQueues: 0, liveBlocks: 0, liveSegments: 0, timers: 0))
    }

    @Test("a peer that neither reads nor ends is dropped after closeLinger, by the runtime's clock", arguments: [false, true])
    func closeLinger(hasPendingPush: Bool) throws {
        let pair = try Pair(runtime: { $0.limits.closeLinger = 3_000_000_000 })
        let connection = try pair.connection()
        let pending = hasPendingPush ? try pair.runtime.fill(connection.client, unit: 100_000).pending : nil
        let start = pair.clock.now
        let close = try pair.runtime.closeToken(connection.client)
        pair.clock.step = 1_000_000
        #expect(try pair.runtime.result(close, timeout: nil) == .closed)
        #expect((3_000_000_000...3_100_000_000).contains(pair.clock.now - start))
        if let pending { #expect(try pair.runtime.result(pending).errorNumber == ETIMEDOUT) }
        #expect(pair.runtime.statistics.closingQueues == 0)
        // The peer sees a reset, behind what it had received.
        #expect(try pair.runtime.receiveAll(connection.server).end == (hasPendingPush ? .failed(ECONNRESET, byteCount: 0) : .endOfStream))
        try pair.runtime.close(connection.server)
        pair.expectNothingLeft()
    }

    @Test("a peer that never reads cannot keep what a closed queue has pushed")
    func closeLingerWithoutToken() throws {
        let pair = try Pair(runtime: { $0.limits.closeLinger = 3_000_000_000 })
        let connection = try pair.connection()
        // More than the peer's window, less than the send buffer.
        #expect(try pair.runtime.result(pair.runtime.push(connection.client, bytes: pattern(0..<200_000))) == .pushed(200_000))
        try pair.runtime.close(connection.client)
        #expect(pair.runtime.statistics.closingQueues == 0, "the stack holds the bytes, not the descriptor")
        pair.settle()
        #expect(pair.network.connections == 1)
        pair.clock.step = 1_000_000
        pair.settle(turns: 4_000)
        #expect(pair.network.connections == 0)
        #expect(try pair.runtime.receiveAll(connection.server).end == .failed(ECONNRESET, byteCount: 0))
        try pair.runtime.close(connection.server)
        pair.expectNothingLeft()
    }

    @Test("bytes that were never popped do not reset what the peer has not read", arguments: [1, 30_000])
    func unreadAtClose(byteCount: Int) throws {
        let pair = try Pair()
        let connection = try pair.connection()
        try pair.runtime.push(connection.client, pair.runtime.buffer(pattern(0..<byteCount)), completion: .discarded)
        #expect(try pair.runtime.receive(connection.server, count: 1) == pattern(0..<1))
        pair.settle()
        try pair.runtime.push(connection.server, pair.runtime.buffer(pattern(0..<200_000)), completion: .discarded)
        try pair.runtime.close(connection.server)
        let received = try pair.runtime.receiveAll(connection.client)
        #expect(received.bytes == pattern(0..<200_000))
        #expect(received.end == .endOfStream)
        try pair.runtime.close(connection.client)
        pair.expectNothingLeft()
    }

    @Test("both sides close with more pushed than the windows hold and nobody reading: neither waits for the other for ever")
    func bothFlush() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        var tokens: [QueueToken] = []
        for queue in [connection.client, connection.server] {
            for _ in 0..<15 { tokens.append(try pair.runtime.push(queue, bytes: pattern(0..<200_000))) }
            #expect(try pair.runtime.isPending(tokens[tokens.count - 1]))
        }
        for queue in [connection.client, connection.server] { tokens.append(try pair.runtime.closeToken(queue)) }
        pair.clock.step = 100_000
        for token in tokens {
            let outcome = try pair.runtime.result(token, timeout: .seconds(90))
            // Who is done first resets the other: its bytes have nobody any more to take them (RFC 9293, section 3.6.1).
            #expect(outcome == .pushed(200_000) || outcome == .failed(ECONNRESET, byteCount: 0) || outcome == .closed)
        }
        pair.expectNothingLeft()
    }

    @Test("linger 0: the close resets, and ends issued pushes with ECANCELED")
    func lingerZero() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let (begun, _) = try pair.runtime.fill(connection.client, unit: 100_000)
        let waiting = try pair.runtime.push(connection.client, bytes: [1])
        try pair.runtime.setOption(.linger(seconds: 0), on: connection.client)
        let close = try pair.runtime.closeToken(connection.client)
        #expect(try pair.runtime.result(close) == .closed)
        #expect(try pair.runtime.result(begun) == .failed(ECANCELED, byteCount: 0))
        #expect(try pair.runtime.result(waiting) == .failed(ECANCELED, byteCount: 0))
        #expect(try pair.runtime.receiveAll(connection.server).end == .failed(ECONNRESET, byteCount: 0))
        try pair.runtime.close(connection.server)
        pair.expectNothingLeft()
    }

    @Test("a reset during a transfer: waiting pushes fail, later calls tell it too", arguments: [false, true])
    func peerReset(popWaits: Bool) throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let pop = popWaits ? try pair.runtime.pop(connection.client) : nil
        let (begun, _) = try pair.runtime.fill(connection.client, unit: 100_000)
        let waiting = try pair.runtime.push(connection.client, bytes: [1])
        #expect(try pair.runtime.receive(connection.server, count: 10) == pattern(0..<10))
        try reset(pair.runtime, connection.server)
        #expect(try pair.runtime.result(begun) == .failed(ECONNRESET, byteCount: 0))
        #expect(try pair.runtime.result(waiting) == .failed(ECONNRESET, byteCount: 0))
        if let pop { #expect(try pair.runtime.result(pop) == .failed(ECONNRESET, byteCount: 0)) }
        // A reset is never an end of the stream, however often one asks.
        for _ in 0..<3 { #expect(try pair.runtime.result(pair.runtime.pop(connection.client)) == .failed(ECONNRESET, byteCount: 0)) }
        #expect(refusal { () throws(DemikernelError) in _ = try pair.runtime.push(connection.client, bytes: [1]) } == DemikernelError(EPIPE, .push))
        #expect(try pair.runtime.result(pair.runtime.closeToken(connection.client)) == .closed)
        pair.expectNothingLeft()
    }

    @Test("bytes that came before a reset are still popped, then every pop fails")
    func bytesBeforeReset() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        try pair.runtime.push(connection.server, pair.runtime.buffer([1, 2, 3]), completion: .discarded)
        #expect(try pair.runtime.result(pair.runtime.pop(connection.client, maximumBytes: 1)) == .popped([1]))
        try reset(pair.runtime, connection.server)
        pair.settle()
        #expect(try pair.runtime.result(pair.runtime.pop(connection.client)) == .popped([2, 3]))
        for _ in 0..<2 { #expect(try pair.runtime.result(pair.runtime.pop(connection.client)) == .failed(ECONNRESET, byteCount: 0)) }
        try pair.runtime.close(connection.client)
        pair.expectNothingLeft()
    }

    @Test("a peer that is gone: the connection fails with ETIMEDOUT after the user timeout")
    func userTimeout() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        try pair.runtime.setOption(.userTimeout(milliseconds: 5_000), on: connection.client)
        let pop = try pair.runtime.pop(connection.client)
        pair.silence()
        #expect(try pair.runtime.result(pair.runtime.push(connection.client, bytes: [1])) == .pushed(1), "a push is no delivery receipt")
        pair.clock.step = 1_000_000
        let start = pair.clock.now
        #expect(try pair.runtime.result(pop, timeout: nil) == .failed(ETIMEDOUT, byteCount: 0))
        #expect((5_000_000_000...20_000_000_000).contains(pair.clock.now - start))
        try pair.runtime.setOption(.linger(seconds: 0), on: connection.server)
        try pair.runtime.close(connection.server)
        try pair.runtime.close(connection.client)
        pair.expectNothingLeft()
    }

    @Test("what happened to a closed socket does not reach the next one in its slot")
    func staleEvents() throws {
        let pair = try Pair(runtime: { $0.limits.maximumQueues = 4 })
        for round in 0..<50 {
            let connection = try pair.connection()
            try pair.runtime.push(connection.client, pair.runtime.buffer([1]), completion: .discarded)
            try pair.runtime.close(connection.client)
            try pair.runtime.close(connection.server)
            let next = try pair.connection()
            let pops = try [pair.runtime.pop(next.client), pair.runtime.pop(next.server)]
            for pop in pops { #expect(try pair.runtime.isPending(pop, turns: 10), "round \(round)") }
            try pair.runtime.push(next.client, pair.runtime.buffer([2]), completion: .discarded)
            #expect(try pair.runtime.result(pops[1]) == .popped([2]))
            try reset(pair.runtime, next.client)
            try pair.runtime.close(next.server)
            #expect(try pair.runtime.result(pops[0]) == .failed(ECANCELED, byteCount: 0))
        }
        pair.expectNothingLeft()
    }

    @Test("a runtime that ends with open connections, pending operations and frames on their way leaves nothing behind")
    func runtimeEnds() throws {
        for _ in 0..<3 {
            let pair = try Pair()
            let connection = try pair.connection()
            _ = try pair.runtime.fill(connection.client, unit: 100_000)
            _ = try pair.runtime.pop(connection.client)
            _ = try pair.listener(port: 8)
            try pair.runtime.pushTo(pair.datagramSocket(pair.a), pair.runtime.array([1]), Host.nobody(port: 1), completion: .discarded)
        }
    }
}
