import Demikernel
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import UserNetwork

/// TCP between two hosts: every byte arrives, in order, whatever its array looked like.
@Suite("Streams") struct StreamTests {
    @Test("connect, accept, and the addresses of both ends")
    func addresses() throws {
        let pair = try Pair()
        let listening = try pair.listener()
        #expect(try pair.runtime.localAddress(listening) == Host.b(port: 7))
        let accept = try pair.runtime.accept(listening)
        let client = try pair.runtime.socket(.ipv4, .stream, on: pair.a)
        #expect(try pair.runtime.localAddress(client) == .any(port: 0))
        #expect(try pair.runtime.result(pair.runtime.connect(client, to: Host.b(port: 7))) == .connected)
        let (server, peer) = try pair.runtime.accepted(accept)
        #expect(try pair.runtime.localAddress(client) == peer)
        #expect(peer == Host.a(port: peer.port) && peer.port >= 49_152)
        #expect(try pair.runtime.peerAddress(server) == peer)
        #expect(try pair.runtime.peerAddress(client) == Host.b(port: 7))
        #expect(try pair.runtime.localAddress(server) == Host.b(port: 7))
        #expect(errorNumber { () throws(DemikernelError) in _ = try pair.runtime.peerAddress(listening) } == ENOTCONN)
    }

    @Test(
        "one push of any size arrives whole",
        arguments: [1, 2, 63, 1_023, 1_024, 1_025, 1_447, 1_448, 1_449, 2_048, 65_535, 65_537, 258_048, 1 << 20, 4_000_000])
    func sizes(byteCount: Int) throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let sent = pattern(0..<byteCount)
        var segments = 1
        while byteCount > segments * DatapathHeap.maximumBufferByteCount { segments += 1 }
        let step = (byteCount + segments - 1) / segments
        var array = try pair.runtime.array([UInt8](sent[0..<min(step, byteCount)]))
        for start in stride(from: step, to: byteCount, by: step) {
            try array.append(pair.runtime.buffer([UInt8](sent[start..<min(start + step, byteCount)])))
        }
        let push = try pair.runtime.push(connection.client, array)
        #expect(try pair.runtime.receive(connection.server, count: byteCount) == sent)
        #expect(try pair.runtime.result(push) == .pushed(byteCount))
        pair.expectNothingLeft()
    }

    @Test("a push larger than the MSS keeps its tail")
    func tail() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        for byteCount in [1_449, 2_897, 10_000, 14_481] {
            #expect(try pair.runtime.result(pair.runtime.push(connection.client, bytes: pattern(0..<byteCount))) == .pushed(byteCount))
            #expect(try pair.runtime.receive(connection.server, count: byteCount) == pattern(0..<byteCount))
            let extra = try pair.runtime.pop(connection.server)
            #expect(try pair.runtime.isPending(extra), "and no byte more")
            try pair.runtime.cancel(extra)
            #expect(try pair.runtime.result(extra) == .failed(ECANCELED, byteCount: 0))
        }
    }

    @Test("arrays of 1 to 16 segments, empty ones among them, arrive in order", arguments: 1...16)
    func segments(_ count: Int) throws {
        let pair = try Pair()
        let connection = try pair.connection()
        var random = SeededRandom(seed: UInt64(count))
        var position = 0
        for _ in 0..<20 {
            let start = position
            var array = try pair.runtime.array(pattern(position..<position + 1))
            position += 1
            for _ in 1..<count {
                let length = [0, 1, 7, 100, 3_000].randomElement(using: &random)!
                try array.append(pair.runtime.buffer(pattern(position..<position + length)))
                position += length
            }
            let push = try pair.runtime.push(connection.client, array)
            #expect(try pair.runtime.receive(connection.server, count: position - start) == pattern(start..<position))
            #expect(try pair.runtime.result(push) == .pushed(position - start))
        }
        pair.expectNothingLeft()
    }

    @Test("a push completes without waiting for the peer's delayed acknowledgement")
    func pushNeedsNoAcknowledgement() throws {
        let pair = try Pair(network: { $0.tcp.delayedAcknowledgement = 400_000_000 })
        let connection = try pair.connection()
        let before = pair.clock.now
        for position in 0..<10 {
            let token = try pair.runtime.push(connection.client, bytes: [UInt8(position)])
            #expect(try pair.runtime.result(token, timeout: .zero) == .pushed(1), "without a turn")
            #expect(try pair.runtime.result(pair.runtime.pop(connection.server)) == .popped([UInt8(position)]))
        }
        #expect(pair.clock.now - before < 400_000_000)
    }

    @Test("frames leave with the call that made them, not with the next turn")
    func callsFlush() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        pair.settle()
        let before = UserNetwork.statistics(of: pair.libraryA).device.transmittedFrames
        try pair.runtime.push(connection.client, pair.runtime.buffer([1]), completion: .discarded)
        #expect(UserNetwork.statistics(of: pair.libraryA).device.transmittedFrames == before + 1)
        try pair.runtime.close(connection.client)
        #expect(UserNetwork.statistics(of: pair.libraryA).device.transmittedFrames == before + 2)
    }

    @Test("a peer that does not read: pushes stay pending, and pushes complete in their order", arguments: [1, 3, 16])
    func backPressure(segmentCount: Int) throws {
        let pair = try Pair()
        let connection = try pair.connection { (runtime, queue) throws(DemikernelError) in
            try runtime.setOption(.sendBuffer(byteCount: 4_096), on: queue)
            try runtime.setOption(.receiveBuffer(byteCount: 4_096), on: queue)
        }
        var random = SeededRandom(seed: 5)
        var tokens: [(token: QueueToken, byteCount: Int)] = []
        var total = 0
        for _ in 0..<40 {
            let start = total
            var array = try pair.runtime.array(pattern(total..<total + 1))
            total += 1
            for segment in 1..<max(segmentCount, 2) {
                let length = segment % 3 == 2 ? 0 : Int.random(in: 1...40_000 / segmentCount, using: &random)
                try array.append(pair.runtime.buffer(pattern(total..<total + length)))
                total += length
            }
            tokens.append((try pair.runtime.push(connection.client, array), total - start))
        }
        #expect(try pair.runtime.isPending(tokens[39].token), "nobody reads")
        // Push completions and pops, side by side in one list.
        var received: [UInt8] = []
        var completed = 0
        var pop = try pair.runtime.pop(connection.server)
        var batch = CompletionBatch(capacity: 64)
        while received.count < total || completed < tokens.count {
            try pair.runtime.waitNext(into: &batch, timeout: generous)
            while let completion = batch.next() {
                let token = completion.token
                switch outcome(consume completion.result) {
                case .pushed(let byteCount):
                    #expect(completed < tokens.count && token == tokens[completed].token && byteCount == tokens[completed].byteCount)
                    completed += 1
                case .popped(let bytes):
                    #expect(token == pop)
                    received += bytes
                    if received.count < total { pop = try pair.runtime.pop(connection.server, maximumBytes: 3_000) }
                case let other:
                    Issue.record("\(other)")
                    return
                }
            }
        }
        #expect(received == pattern(0..<total))
        pair.expectNothingLeft()
    }

    @Test("several pops wait for one stream: they get its bytes in the order of the pops, each within its limits")
    func severalPops() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        var pops: [QueueToken] = []
        for limit in [3, 1, 5, 1_000] { pops.append(try pair.runtime.pop(connection.server, maximumBytes: limit)) }
        try pair.runtime.push(connection.client, pair.runtime.buffer(pattern(0..<12)), completion: .discarded)
        for (pop, range) in zip(pops, [0..<3, 3..<4, 4..<9, 9..<12]) { #expect(try pair.runtime.result(pop) == .popped(pattern(range))) }
    }

    @Test("what is popped lies in the frame that the device delivered, and what is pushed leaves from its own memory")
    func zeroCopy() throws {
        let recorder = FrameRecorder()
        let pair = try Pair(wrap: { recorder.wrap($0) })
        let connection = try pair.connection()
        pair.settle()
        recorder.reset()
        let push = try pair.runtime.push(connection.client, bytes: pattern(0..<1_000))
        let completion = try pair.runtime.wait(pair.runtime.pop(connection.server), timeout: generous)
        guard let popped = try completion.popped() else {
            Issue.record("the end")
            return
        }
        let address = popped.withUnsafeBytes(ofSegment: 0) { UInt(bitPattern: $0.baseAddress) }
        let frame = try #require(recorder.last)
        #expect(frame.contains(address), "the popped bytes are those of the received frame")
        #expect(popped.segmentCount == 1 && bytes(popped) == pattern(0..<1_000))
        #expect(try pair.runtime.result(push) == .pushed(1_000))
    }

    @Test("the peer's end comes behind its bytes, and the other direction goes on")
    func halfClose() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        try pair.runtime.push(connection.client, pair.runtime.buffer(pattern(0..<100_000)), completion: .discarded)
        try pair.runtime.shutdown(connection.client, .send)
        #expect(refusal { () throws(DemikernelError) in _ = try pair.runtime.push(connection.client, bytes: [1]) } == DemikernelError(EPIPE, .push))
        let received = try pair.runtime.receiveAll(connection.server)
        #expect(received.bytes == pattern(0..<100_000))
        #expect(received.end == .endOfStream)
        #expect(try pair.runtime.result(pair.runtime.pop(connection.server)) == .endOfStream, "and it stays the end")
        #expect(try pair.runtime.result(pair.runtime.push(connection.server, bytes: pattern(0..<50_000))) == .pushed(50_000))
        #expect(try pair.runtime.receive(connection.client, count: 50_000) == pattern(0..<50_000))
        try pair.runtime.shutdown(connection.server, .send)
        #expect(try pair.runtime.result(pair.runtime.pop(connection.client)) == .endOfStream)
        try pair.runtime.close(connection.client)
        try pair.runtime.close(connection.server)
        pair.expectNothingLeft()
    }

    @Test("the end reaches a pop that waits, and one that is issued later", arguments: [true, false])
    func endBehindBytes(popsFirst: Bool) throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let pops = popsFirst ? try [pair.runtime.pop(connection.server), pair.runtime.pop(connection.server)] : []
        try pair.runtime.push(connection.client, pair.runtime.buffer([1, 2, 3]), completion: .discarded)
        try pair.runtime.close(connection.client)
        pair.settle()
        #expect(try pair.runtime.result(popsFirst ? pops[0] : pair.runtime.pop(connection.server)) == .popped([1, 2, 3]))
        #expect(try pair.runtime.result(popsFirst ? pops[1] : pair.runtime.pop(connection.server)) == .endOfStream)
    }

    @Test("shutdown(.send) waits for the pushes before it, even if the last of them is cancelled", arguments: [false, true])
    func shutdownBehindPushes(cancelsLast: Bool) throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let (pending, byteCount) = try pair.runtime.fill(connection.client, unit: 100_000)
        try pair.runtime.shutdown(connection.client, .send)
        if cancelsLast {
            try pair.runtime.cancel(pending)
            #expect(try pair.runtime.result(pending) == .failed(ECANCELED, byteCount: 0))
        }
        let expected = cancelsLast ? byteCount - 100_000 : byteCount
        let received = try pair.runtime.receiveAll(connection.server)
        #expect(received.end == .endOfStream)
        #expect(received.bytes == pattern(0..<expected))
        if !cancelsLast { #expect(try pair.runtime.result(pending) == .pushed(100_000)) }
    }

    @Test("shutdown(.receive) ends the pops, and pushing goes on")
    func shutdownReceive() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let pop = try pair.runtime.pop(connection.client)
        try pair.runtime.shutdown(connection.client, .receive)
        #expect(try pair.runtime.result(pop) == .endOfStream)
        for _ in 0..<3 { #expect(try pair.runtime.result(pair.runtime.pop(connection.client)) == .endOfStream) }
        #expect(try pair.runtime.result(pair.runtime.push(connection.client, bytes: [1, 2])) == .pushed(2))
        #expect(try pair.runtime.result(pair.runtime.pop(connection.server)) == .popped([1, 2]))
    }

    @Test("cancelling a pop takes nothing from the stream; cancelling a push that waits leaves no byte of it")
    func cancel() throws {
        let pair = try Pair()
        let connection = try pair.connection()
        let pops = try [pair.runtime.pop(connection.server), pair.runtime.pop(connection.server)]
        try pair.runtime.cancel(pops[0])
        #expect(try pair.runtime.result(pops[0]) == .failed(ECANCELED, byteCount: 0))
        try pair.runtime.push(connection.client, pair.runtime.buffer([7]), completion: .discarded)
        #expect(try pair.runtime.result(pops[1]) == .popped([7]))
        let (first, byteCount) = try pair.runtime.fill(connection.client, unit: 100_000)
        let middle = try pair.runtime.push(connection.client, bytes: [99])
        let last = try pair.runtime.push(connection.client, bytes: [8])
        try pair.runtime.cancel(middle)
        #expect(try pair.runtime.result(middle) == .failed(ECANCELED, byteCount: 0))
        #expect(try pair.runtime.receive(connection.server, count: byteCount + 1) == pattern(0..<byteCount) + [8])
        #expect(try pair.runtime.result(first) == .pushed(100_000))
        #expect(try pair.runtime.result(last) == .pushed(1))
        pair.expectNothingLeft()
    }

    @Test("pushes that nobody waits for are refused with EAGAIN at discardedPushByteCount, and go again when the peer has read")
    func discardedPushes() throws {
        let pair = try Pair(runtime: { $0.limits.discardedPushByteCount = 100_000 })
        let connection = try pair.connection { (runtime, queue) throws(DemikernelError) in
            try runtime.setOption(.sendBuffer(byteCount: 8_192), on: queue)
            try runtime.setOption(.receiveBuffer(byteCount: 8_192), on: queue)
        }
        // Twice, since what has left must not count any more.
        for _ in 0..<2 {
            var sent = 0
            var number: Int32 = 0
            while number == 0, sent < 4 << 20 {
                number = errorNumber { () throws(DemikernelError) in
                    try pair.runtime.push(connection.client, pair.runtime.buffer(pattern(sent..<sent + 10_000)), completion: .discarded)
                }
                if number == 0 { sent += 10_000 }
            }
            #expect(number == EAGAIN)
            #expect((100_000...120_000).contains(sent), "no more than the limit is held")
            #expect(pair.runtime.statistics.liveOperations == 0)
            #expect(try pair.runtime.receive(connection.server, count: sent) == pattern(0..<sent))
        }
        try pair.runtime.push(connection.client, pair.runtime.buffer([1]), completion: .discarded)
        #expect(try pair.runtime.result(pair.runtime.pop(connection.server)) == .popped([1]))
        pair.expectNothingLeft()
    }

    @Test("a network that loses, doubles, reorders and damages frames loses no byte of a stream")
    func faults() throws {
        var faults = FrameFaults()
        faults.drop = 20_000
        faults.duplicate = 20_000
        faults.reorder = 20_000
        faults.corrupt = 10_000
        let pair = try Pair(faults: FaultConfiguration(both: faults))
        // Enough virtual time for the retransmission timer.
        pair.clock.step = 20_000
        let connection = try pair.connection()
        let byteCount = 400_000
        var tokens: [QueueToken] = []
        for start in stride(from: 0, to: byteCount, by: 40_000) {
            tokens.append(try pair.runtime.push(connection.client, bytes: pattern(start..<start + 40_000)))
        }
        var received: [UInt8] = []
        while received.count < byteCount {
            guard case .popped(let more) = try pair.runtime.result(pair.runtime.pop(connection.server), timeout: .seconds(120)) else { break }
            received += more
        }
        #expect(received == pattern(0..<byteCount))
        for token in tokens { #expect(try pair.runtime.result(token) == .pushed(40_000)) }
        #expect(pair.network.tcp.retransmittedSegments > 0)
    }

    @Test("a link with room for one frame only delays: nothing is lost, and datagrams wait for it")
    func narrowLink() throws {
        let pair = try Pair(capacity: 1)
        let connection = try pair.connection()
        let push = try pair.runtime.push(connection.client, bytes: pattern(0..<200_000))
        #expect(try pair.runtime.receive(connection.server, count: 200_000) == pattern(0..<200_000))
        #expect(try pair.runtime.result(push) == .pushed(200_000))
        let receiver = try pair.datagramSocket(pair.b, port: 9)
        let sender = try pair.datagramSocket(pair.a)
        // More than the stack's own output holds.
        var tokens: [QueueToken] = []
        for number in 0..<1_100 {
            tokens.append(try pair.runtime.pushTo(sender, pair.runtime.array([UInt8(truncatingIfNeeded: number)]), Host.b(port: 9)))
        }
        let close = try pair.runtime.closeToken(sender)
        #expect(try pair.runtime.isPending(close, turns: 1))
        for number in 0..<1_100 {
            #expect(try pair.runtime.result(pair.runtime.pop(receiver)) == .popped([UInt8(truncatingIfNeeded: number)]))
            #expect(try pair.runtime.result(tokens[number]) == .pushed(1))
        }
        #expect(try pair.runtime.result(close) == .closed)
    }

    @Test("two runtimes with a heap each: the link copies, and both end clean")
    func twoRuntimes() throws {
        let hosts = try TwoRuntimes()
        let listening = try hosts.b.socket(.ipv4, .stream)
        try hosts.b.bind(listening, to: .any(port: 7))
        try hosts.b.listen(listening, backlog: 4)
        let accept = try hosts.b.accept(listening)
        let client = try hosts.a.socket(.ipv4, .stream)
        #expect(try hosts.result(a: hosts.a.connect(client, to: Host.b(port: 7))) == .connected)
        guard case .accepted(let server) = try hosts.result(b: accept) else {
            Issue.record("no connection")
            return
        }
        let push = try hosts.a.push(client, bytes: pattern(0..<250_000))
        var received: [UInt8] = []
        while received.count < 250_000 {
            guard case .popped(let more) = try hosts.result(b: hosts.b.pop(server)) else { break }
            received += more
        }
        #expect(received == pattern(0..<250_000))
        #expect(try hosts.result(a: push) == .pushed(250_000))
        try hosts.a.close(client)
        #expect(try hosts.result(b: hosts.b.pop(server)) == .endOfStream)
        try hosts.b.close(server)
        hosts.clock.step = 100_000_000
        hosts.settle(turns: 2_000)
        for left in [hosts.a.snapshot(), hosts.b.snapshot()] {
            #expect(left.liveBlocks == 0 && left.liveSegments == 0 && left.liveOperations == 0 && left.closingQueues == 0)
        }
    }
}
