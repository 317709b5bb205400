import NetworkStack
import Testing
import WireFormats

/// Segments in any order and arrangement (RFC 9293, section 3.10.7.4: "trimmed", "held for later processing").
@Suite("TCP: reassembly") struct ReassemblyTests {
    struct Generator {
        var state: UInt64
        mutating func next(_ bound: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int(state >> 33) % bound
        }
    }

    @Test("overlapping segments in random order give the stream, byte by byte: 300 seeds")
    func randomArrangements() throws {
        let count = 3_000
        let stream = pattern(count)
        for seed in 1...300 {
            var random = Generator(state: UInt64(seed))
            let script = try SegmentScript(isn: UInt32(truncatingIfNeeded: seed &* 77_777_777), peerISN: 0xffff_fc00 &+ UInt32(seed))
            let connection = script.established()
            var received: [UInt8] = []
            for _ in 0..<25 {
                let start = random.next(count)
                let length = min(random.next(4) == 0 ? random.next(8) + 1 : random.next(900) + 1, count - start)
                script.peer(.psh, seq: 1 + start, ack: 1, payload: Array(stream[start..<start + length]))
                if random.next(3) == 0 { received += script.receive(connection, maximumBytes: random.next(2_000) + 1) }
            }
            // What the stack has acknowledged is what it gives.
            script.advance(50)
            let acknowledged = script.takeSent().last?.ack ?? 1
            received += script.receive(connection)
            #expect(received.count == acknowledged - 1)
            for start in stride(from: 0, to: count, by: 1_000) { script.peer(.psh, seq: 1 + start, ack: 1, payload: Array(stream[start..<start + 1_000])) }
            script.peer(.fin, seq: 1 + count, ack: 1)
            received += script.receive(connection)
            #expect(received.count == count && received.elementsEqual(stream), "seed \(seed)")
            #expect(script.stack.isAtEndOfStream(connection))
            script.end()
        }
    }

    @Test("contradictory segments: each byte is one that was sent for its place, and none is there twice: 300 seeds")
    func contradictions() throws {
        let count = 600
        for seed in 1...300 {
            var random = Generator(state: UInt64(seed) &* 31)
            let script = try SegmentScript()
            let connection = script.established()
            // Which segments have covered a place, as bits.
            var candidates = [UInt64](repeating: 0, count: count)
            var received: [UInt8] = []
            var finish: Int?
            for number in 0..<40 {
                let start = number == 39 ? 0 : random.next(count)
                let length = number == 39 ? count : min(random.next(120) + 1, count - start)
                let finishes = random.next(20) == 0 && number < 39
                script.peer(finishes ? [.psh, .fin] : .psh, seq: 1 + start, ack: 1, payload: [UInt8](repeating: UInt8(number), count: length))
                for place in start..<start + length { candidates[place] |= 1 << UInt64(number) }
                if finishes && finish == nil { finish = start + length }
                received += script.receive(connection, maximumBytes: 64)
                if script.state(connection) != .established { break }
            }
            received += script.receive(connection)
            #expect(received.count <= count)
            #expect(received.enumerated().allSatisfy { candidates[$0.offset] >> UInt64($0.element) & 1 == 1 }, "seed \(seed)")
            if finish == nil { #expect(received.count == count, "seed \(seed)") }
            script.end()
        }
    }

    @Test("each arrangement of two segments around a gap gives the stream")
    func pairs() throws {
        let stream = pattern(60)
        // Both lie in 10..<50; then 0..<60 comes.
        for first in stride(from: 10, to: 50, by: 8) {
            for firstEnd in stride(from: first + 8, through: 50, by: 8) {
                for second in stride(from: 10, to: 50, by: 8) {
                    for secondEnd in stride(from: second + 8, through: 50, by: 8) {
                        let script = try SegmentScript()
                        let connection = script.established()
                        script.peer(.psh, seq: 1 + first, ack: 1, payload: Array(stream[first..<firstEnd]))
                        script.peer(.psh, seq: 1 + second, ack: 1, payload: Array(stream[second..<secondEnd]))
                        #expect(script.takeSent().allSatisfy { $0.ack == 1 })
                        script.peer(.psh, seq: 1, ack: 1, payload: Array(stream[0..<12]))
                        script.peer(.psh, seq: 1, ack: 1, payload: stream)
                        #expect(script.receive(connection) == stream)
                    }
                }
            }
        }
    }

    @Test("the gaps are bounded; what was dropped can be sent again")
    func bounds() throws {
        let script = try SegmentScript()
        let connection = script.established()
        let before = script.heap.usedByteCount
        for index in 0..<500 {
            let start = 1 + 2 * index
            script.peer(.psh, seq: 1 + start, ack: 1, payload: pattern(1, from: start))
        }
        #expect(script.takeSent().allSatisfy { $0.ack == 1 })
        #expect(script.drops(.reassemblyOverflow) == 500 - 256)
        #expect(script.heap.usedByteCount - before <= 256 * 2_048)
        // 256 pieces at 1, 3, ... 511.
        script.peer(.psh, seq: 1, ack: 1, payload: pattern(1_001))
        script.advance(50)
        #expect(script.receive(connection) == pattern(1_001))
        script.end()
    }

    @Test("all segments behind a gap are kept, in whatever order they come", arguments: ["ascending", "descending", "every other one first"])
    func manyPieces(_ order: String) throws {
        let script = try SegmentScript()
        let connection = script.established()
        var numbers = Array(1..<400)
        if order == "descending" { numbers.reverse() }
        if order == "every other one first" { numbers = numbers.filter { $0 % 2 == 0 } + numbers.filter { $0 % 2 == 1 } }
        for number in numbers { script.peer(.psh, seq: 1 + 100 * number, ack: 1, payload: pattern(100, from: 100 * number)) }
        #expect(script.drops(.reassemblyOverflow) == 0 && script.drops(.duplicateData) == 0)
        // Once more, across their bounds: nothing of it is news.
        script.peer(.psh, seq: 1 + 150, ack: 1, payload: pattern(1_000, from: 150))
        #expect(script.drops(.duplicateData) == 1)
        script.peer(.psh, seq: 1, ack: 1, payload: pattern(100))
        script.advance(50)
        #expect(script.takeSent().last?.ack == 40_001)
        #expect(script.receive(connection) == pattern(40_000))
        script.end()
    }

    @Test("the pieces behind a gap are bounded")
    func pieceBound() throws {
        let script = try SegmentScript { $0.limits.reassemblyPieces = 10 }
        _ = script.established()
        for number in 1...15 { script.peer(.psh, seq: 1 + 100 * number, ack: 1, length: 100) }
        #expect(script.drops(.reassemblyOverflow) == 5)
        script.peer(.psh, seq: 1, ack: 1, length: 100)
        #expect(script.takeSent().last?.ack == 1_101)
    }

    @Test("every piece was acknowledged as a duplicate at once")
    func duplicateAcknowledgements() throws {
        let script = try SegmentScript()
        _ = script.established()
        for index in 1...10 { script.peer(.psh, seq: 1 + 1_000 * index, ack: 1, length: 1_000) }
        let answers = script.takeSent()
        #expect(answers.count == 10)
        #expect(answers.allSatisfy { $0.flags == .ack && $0.ack == 1 && $0.window == answers[0].window })
        script.peer(.psh, seq: 1, ack: 1, length: 1_000)
        script.expect(.ack, ack: 11_001)
    }

    @Test("what waits is released when the connection ends", arguments: [false, true])
    func release(_ isReset: Bool) throws {
        let script = try SegmentScript()
        let connection = script.established()
        for index in 1...20 { script.peer(.psh, seq: 1 + 100 * index, ack: 1, length: 50) }
        _ = script.takeSent()
        if isReset { script.peer(.rst, seq: 1) } else { script.abort(connection) }
        #expect(script.state(connection) == .closed)
        #expect(script.heap.statistics.liveBlocks == 0)
        script.end()
    }

    @Test("single bytes do not hold a block each (collapsing)")
    func singleBytes() throws {
        let script = try SegmentScript { $0.tcp.receiveBuffer = 16_384 }
        let connection = script.established()
        for index in 0..<8_000 { script.peer(.psh, seq: 1 + index, ack: 1, payload: [UInt8(truncatingIfNeeded: index &* 31 &+ index >> 8)]) }
        #expect(script.stack.receivableByteCount(connection) == 8_000)
        #expect(script.heap.usedByteCount < 4 * 16_384)
        #expect(script.tcp.collapsedSegments > 0)
        #expect(script.receive(connection).elementsEqual(pattern(8_000)))
        script.end()
    }
}
