import Testing

@testable import DemikernelCommand

/// A server behind no network: answers what it is sent, at once or later, whole or in pieces.
private struct ScriptedTransport: LoadTransport, ~Copyable {
    let connectionCount = 1
    let keepsBoundaries: Bool
    /// The most bytes that a send takes, and that a receive gives.
    var sendLimit = Int.max
    var receiveLimit = Int.max
    /// Replies are held back until then.
    var opensAt: UInt64 = 0
    var ends = false
    let answer: ([UInt8]) -> [UInt8]
    private var replies: [UInt8] = []
    private var datagrams: [[UInt8]] = []

    init(keepsBoundaries: Bool = false, answer: @escaping ([UInt8]) -> [UInt8]) {
        self.keepsBoundaries = keepsBoundaries
        self.answer = answer
    }

    mutating func poll(into ready: UnsafeMutableBufferPointer<Int32>) -> Int {
        ready[0] = 0
        return 1
    }

    mutating func send(_ bytes: UnsafeRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int {
        let taken = min(bytes.count, sendLimit)
        let reply = answer(Array(bytes[..<taken]))
        if keepsBoundaries { if !reply.isEmpty { datagrams.append(reply) } } else { replies += reply }
        return taken
    }

    mutating func receive(into buffer: UnsafeMutableRawBufferPointer, on connection: Int) throws(CommandFailure) -> Int? {
        if ends { throw CommandFailure("closed") }
        guard MonotonicClock.now() >= opensAt else { return nil }
        if keepsBoundaries {
            guard !datagrams.isEmpty else { return nil }
            let datagram = datagrams.removeFirst()
            buffer.copyBytes(from: datagram)
            return datagram.count
        }
        guard !replies.isEmpty else { return nil }
        let count = min(receiveLimit, replies.count, buffer.count)
        buffer.copyBytes(from: replies[..<count])
        replies.removeFirst(count)
        return count
    }
}

@Suite struct LoadGeneratorTests {
    private let millisecond: UInt64 = 1_000_000

    private func keyValue(getRatio: Double) -> Workload { .keyValue(size: 20, keys: 8, getRatio: getRatio, seed: 7) }

    // MARK: Templates

    @Test func requestsAreStamped() {
        let workload = keyValue(getRatio: 1)
        var bytes = [UInt8](repeating: 0, count: workload.first.request.count)
        bytes.withUnsafeMutableBytes { workload.first.writeRequest(stamp: 42, to: $0.baseAddress!) }
        #expect(
            String(decoding: bytes, as: UTF8.self)
                == "*3\r\n$3\r\nSET\r\n$18\r\nbench:000000000042\r\n$20\r\n000000000042own fox \r\n")
        let reply = Array("$20\r\n000000000042own fox \r\n".utf8)
        #expect(reply.withUnsafeBytes { workload.second.matches($0, stamp: 42, offset: 0) })
        #expect(!reply.withUnsafeBytes { workload.second.matches($0, stamp: 43, offset: 0) })
        #expect(reply[5...].withUnsafeBytes { workload.second.matches($0, stamp: 42, offset: 5) })
    }

    @Test func aPreloadWritesEveryKeyOnceAndKeysStayInRange() {
        var workload = keyValue(getRatio: 0.5)
        workload.beginPreload()
        var stamps: [UInt64] = []
        while let (isSecond, stamp) = workload.next() {
            #expect(!isSecond)
            stamps.append(stamp)
        }
        #expect(stamps == Array(0..<8))
        workload.beginMeasurement()
        var gets = 0
        var seen = Set<UInt64>()
        for _ in 0..<1000 {
            guard let (isSecond, stamp) = workload.next() else { break }
            gets += isSecond ? 1 : 0
            seen.insert(stamp)
        }
        #expect(seen == Set(0..<8))
        #expect((400...600).contains(gets))
    }

    // MARK: Closed loop

    @Test(arguments: [1, 7, Int.max]) func everyReplyIsRecognisedInAnyPieces(pieces: Int) throws {
        var transport = ScriptedTransport { $0 }
        transport.receiveLimit = pieces
        transport.sendLimit = pieces
        var generator = LoadGenerator(transport, workload: .echo(size: 40), plan: .closedLoop(pipeline: 4))
        var result = try generator.run(for: 3 * millisecond)
        // A busy machine may not let the thread run in so short a time: longer then.
        var patience = 3 * millisecond
        while result.completed == 0 && patience < 10_000 * millisecond {
            patience *= 4
            result = try generator.run(for: patience)
        }
        #expect(result.wrong == 0 && result.unanswered == 0)
        #expect(result.completed > 0)
        #expect(result.latencies.totalCount >= UInt64(result.completed))
        #expect(result.elapsed >= 3 * millisecond)
    }

    @Test func errorRepliesAreCountedAndTheStreamGoesOn() throws {
        var calls = 0
        let transport = ScriptedTransport { _ in
            calls += 1
            return Array((calls % 2 == 0 ? "-ERR no\r\n" : "+OK\r\n").utf8)
        }
        var generator = LoadGenerator(transport, workload: keyValue(getRatio: 0), plan: .closedLoop(pipeline: 1))
        let result = try generator.run(for: 100 * millisecond)
        #expect(result.wrong > 0 && result.wrong < result.completed)
        #expect(result.firstWrong == "\"-ERR no\\r\\n\"")
    }

    @Test(arguments: [1, Int.max]) func missingAndWrongValuesAreFollowed(pieces: Int) throws {
        var calls = 0
        var transport = ScriptedTransport { _ in
            calls += 1
            return Array((calls == 1 ? "$-1\r\n" : "$20\r\nxxxxxxxxxxxxxxxxxxxx\r\n").utf8)
        }
        transport.receiveLimit = pieces
        var generator = LoadGenerator(transport, workload: keyValue(getRatio: 1), plan: .closedLoop(pipeline: 1))
        let result = try generator.run(for: 100 * millisecond)
        #expect(result.wrong >= result.completed && result.completed > 1)
        #expect(result.firstWrong?.hasPrefix("\"$-") == true)
    }

    @Test(arguments: ["$19\r\nxxxxxxxxxxxxxxxxxxx\r\n", "HTTP/1.1 400 Bad Request\r\n"]) func aStreamThatCannotBeFollowedEndsTheRun(reply: String) {
        var generator = LoadGenerator(
            ScriptedTransport { _ in Array(reply.utf8) }, workload: keyValue(getRatio: 1), plan: .closedLoop(pipeline: 1))
        #expect(throws: CommandFailure.self) { _ = try generator.run(for: 1_000_000_000) }
    }

    @Test func bytesThatNothingAskedForEndTheRun() {
        var generator = LoadGenerator(
            ScriptedTransport { $0 + $0 }, workload: .echo(size: 8), plan: .closedLoop(pipeline: 1))
        #expect(throws: CommandFailure.self) { _ = try generator.run(for: 1_000_000_000) }
    }

    @Test func anEndOfTheConnectionEndsTheRun() {
        var transport = ScriptedTransport { $0 }
        transport.ends = true
        var generator = LoadGenerator(transport, workload: .echo(size: 8), plan: .closedLoop(pipeline: 1))
        #expect(throws: CommandFailure.self) { _ = try generator.run(for: 1_000_000_000) }
    }

    @Test func aRefusedPreloadIsToldWithTheReply() {
        var generator = LoadGenerator(
            ScriptedTransport { _ in Array("-OOM full\r\n".utf8) }, workload: .keyValue(size: 4, keys: 1, getRatio: 0, seed: 1),
            plan: .closedLoop(pipeline: 1))
        #expect { try generator.preload() } throws: { "\($0)".contains("-OOM full") }
    }

    // MARK: Open loop

    @Test func aStallIsFeltByEveryRequestThatFellDueDuringIt() throws {
        var transport = ScriptedTransport { $0 }
        transport.opensAt = MonotonicClock.now() + 30 * millisecond
        var generator = LoadGenerator(transport, workload: .echo(size: 16), plan: .openLoop(rate: 10_000))
        let result = try generator.run(for: 50 * millisecond)
        #expect(result.latencies.totalCount == 500)
        // The 200 of the first 20 ms waited for 10 ms or more, whenever they were in fact sent; the start is a little after the stall's.
        #expect(result.latencies.count(within: 9 * millisecond...RoundResult.longestLatency) >= 190)
        #expect(result.wrong == 0)
    }

    @Test func unansweredRequestsCountWithTheirAge() throws {
        var generator = LoadGenerator(ScriptedTransport { _ in [] }, workload: .echo(size: 16), plan: .openLoop(rate: 1000))
        let result = try generator.run(for: 5 * millisecond)
        #expect(result.completed == 0)
        #expect(result.unanswered == 5)
        #expect(result.latencies.totalCount == 5)
        #expect(result.latencies.min > 900 * millisecond)
    }

    // MARK: Datagrams

    @Test func aLostDatagramIsCountedAndTheLoopGoesOn() throws {
        var calls = 0
        let transport = ScriptedTransport(keepsBoundaries: true) { bytes in
            calls += 1
            return calls == 2 ? [] : bytes
        }
        var generator = LoadGenerator(transport, workload: .echo(size: 24), plan: .closedLoop(pipeline: 4))
        let result = try generator.run(for: 100 * millisecond)
        #expect(result.lost == 1)
        #expect(result.wrong == 0 && result.unanswered == 0)
        #expect(result.completed > 4)
    }
}
