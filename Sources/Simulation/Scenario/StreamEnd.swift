import DatapathMemory
import Glibc
import QueueRuntime

/// A program's end of a connection: one coroutine writes, one reads, the last of them closes.
final class StreamEnd {
    unowned let connection: ScenarioConnection
    let role: String
    let host: SimulatedHost
    let plan: ScenarioPlan.EndPlan
    let outgoing: StreamRecord
    let incoming: StreamRecord
    /// The first error that the end met.
    private(set) var failure: DemikernelError?
    private(set) var hasBegun = false
    /// The program is done with the connection, and the connection with it.
    private(set) var isFinished = false
    /// The program itself has reset or left the connection.
    private var hasLeft = false
    /// When the program closed the queue, in the world's time.
    private(set) var closedAt: UInt64?
    /// The runtime has lost its patience with the peer, and reset the connection.
    private(set) var hasAbandoned = false
    private var queue = QueueDescriptor(rawValue: 0)
    private var openParts = 0
    private var random: SimulationRandom
    private var program: SimulatedProgram?

    init(
        _ connection: ScenarioConnection, _ role: String, _ host: SimulatedHost, _ plan: ScenarioPlan.EndPlan, outgoing: StreamRecord,
        incoming: StreamRecord
    ) {
        self.connection = connection
        self.role = role
        self.host = host
        self.plan = plan
        self.outgoing = outgoing
        self.incoming = incoming
        random = SimulationRandom(seed: connection.run.seed).stream("connection \(connection.number) \(role)")
    }

    private var run: ScenarioRun { connection.run }
    private var patience: Duration { run.patience(of: host) }

    var name: String { "connection \(connection.number), \(role)" }

    /// The shortest time in FIN_WAIT_2 that a plan draws.
    private static let leastPatience: UInt64 = 2_000_000_000

    // MARK: Life

    func start(_ part: String, _ body: @escaping (borrowing Runtime) throws -> Void) {
        do {
            program = try host.run("\(name) \(part)") { [self] runtime in
                do {
                    try body(runtime)
                } catch {
                    run.fail("\(name) \(part): \(error)")
                    finish()
                }
            }
        } catch {
            run.fail("\(name) \(part) could not be started: \(error)")
            finish()
        }
    }

    func setOptions(_ queue: QueueDescriptor, _ runtime: borrowing Runtime) {
        if let noDelay = plan.noDelay { try? runtime.setOption(.noDelay(noDelay), on: queue) }
        if plan.keepsAlive { try? runtime.setOption(.keepAlive(idle: 1, interval: 1), on: queue) }
        if let byteCount = plan.receiveBuffer { try? runtime.setOption(.receiveBuffer(byteCount: byteCount), on: queue) }
        if let byteCount = plan.sendBuffer { try? runtime.setOption(.sendBuffer(byteCount: byteCount), on: queue) }
    }

    /// The connection is there.
    func begin(_ queue: QueueDescriptor, _ runtime: borrowing Runtime) {
        self.queue = queue
        hasBegun = true
        isFinished = false
        openParts = 2
        start("reader") { [self] runtime in
            try read(runtime)
            try partEnded(runtime)
        }
        start("writer") { [self] runtime in
            try write(runtime)
            try partEnded(runtime)
        }
    }

    func neverBegins() { finish() }

    func finish() {
        guard !isFinished else { return }
        isFinished = true
        connection.finished(self)
    }

    func fail(_ error: DemikernelError, isAllowed: Bool, _ operation: String) {
        if failure == nil {
            failure = error
            run.narrate("\(name): \(operation) failed with \(error.errnoName)")
        }
        if !isAllowed { run.fail("\(name): \(operation) failed with \(error.errnoName), which nothing explains") }
    }

    private func failed(_ error: DemikernelError, _ operation: String) {
        if hasLeft { return }
        // Who has closed has no endless patience with a peer that does not end its own direction: FIN_WAIT_2 and the runtime's close have limits.
        let peerHasLostPatience = connection.peer(of: self).closedAt.map { run.world.now - $0 >= StreamEnd.leastPatience } ?? false
        let hasLostCookie = error.errno == ECONNRESET && run.mayHaveLostCookie(connection)
        fail(error, isAllowed: connection.isViolent || run.plan.mayLoseConnections || peerHasLostPatience || hasLostCookie, operation)
    }

    /// An operation has not completed in an hour or more.
    private func isStuck(_ operation: String) {
        let peer = connection.peer(of: self)
        let hasPeerGone = peer.isFinished || peer.failure != nil
        // A half-open connection is reset if an attempt is made to send data in either direction (RFC 9293, section 3.5.1).
        // So not where the peer's one reset is lost, and this end has nothing to send: the peer has got all, and is not asked whether it is alive.
        let isSilent = peer.incoming.delivered == outgoing.pushed && !plan.keepsAlive
        let isHalfOpen = peer.hasAbandoned && run.plan.losesFrames && isSilent
        fail(
            DemikernelError(ETIMEDOUT, .wait), isAllowed: hasPeerGone && (connection.isViolent || run.plan.mayLoseConnections) || isHalfOpen,
            "\(operation) (\(outgoing.pushed) bytes pushed, \(incoming.delivered) of \(connection.peer(of: self).outgoing.pushed) received)")
    }

    private func partEnded(_ runtime: borrowing Runtime) throws {
        openParts -= 1
        guard openParts == 0 else { return }
        if !hasLeft {
            if case .together = plan.ending { awaitClosingTime() }
            hasLeft = true
            closedAt = run.world.now
            // What follows the last byte is the end.
            if failure == nil { outgoing.isEnded = true }
            do throws(DemikernelError) {
                let token = try runtime.closeToken(queue)
                try runtime.wait(token, timeout: patience).succeeded()
                hasAbandoned = run.world.now - (closedAt ?? 0) >= host.core.limits.closeLinger
            } catch {
                if error.errno == ETIMEDOUT { run.fail("\(name): the close never completes") }
                if error.errno == ENOBUFS { try? runtime.close(queue) }
            }
        }
        finish()
    }

    private func awaitClosingTime() {
        let time = connection.closingTime ?? host.core.now
        if connection.closingTime == nil {
            // The first one says when: both clocks run alike, unless one jumps.
            connection.closingTime = run.world.now + 3_000_000_000
            host.sleep(nanoseconds: 3_000_000_000)
        } else if time > run.world.now {
            host.sleep(nanoseconds: time - run.world.now)
        }
    }

    private func leave(_ runtime: borrowing Runtime, resets: Bool) {
        guard !hasLeft else { return }
        hasLeft = true
        run.narrate("\(name): \(resets ? "resets" : "deserts") the connection")
        if resets { try? runtime.setOption(.linger(seconds: 0), on: queue) }
        // What was pushed is still sent, and then the end.
        if !resets && failure == nil { outgoing.isEnded = true }
        try? runtime.close(queue)
    }

    // MARK: Writing

    private func write(_ runtime: borrowing Runtime) throws {
        var target = plan.byteCount
        if case .reset(let after) = plan.ending { target = min(target, after) }
        var waiting: [(token: QueueToken, byteCount: Int)] = []
        while outgoing.pushed < target, failure == nil, !hasLeft {
            let count = min(target - outgoing.pushed, random.between(plan.smallestPush...plan.largestPush))
            guard let array = makeArray(count, runtime) else { continue }
            let byteCount = array.byteCount
            let token: QueueToken
            do throws(DemikernelError) {
                token = try runtime.push(queue, array)
            } catch {
                if error.errno == ENOBUFS, !hasLeft {
                    host.sleep(nanoseconds: 1_000_000)
                    continue
                }
                failed(error, "push")
                break
            }
            outgoing.pushed += byteCount
            waiting.append((token, byteCount))
            if plan.cancels, waiting.count == 1, random.oneIn(4) { try? runtime.cancel(token) }
            while waiting.count >= plan.depth || plan.cancels && !waiting.isEmpty { awaitPush(waiting.removeFirst(), runtime) }
            if plan.writerPauses > 0, random.oneIn(UInt64(plan.writerPauses)) { host.sleep(nanoseconds: random.below(plan.longestWriterPause) + 1) }
        }
        for push in waiting { awaitPush(push, runtime) }
        switch plan.ending {
        case .reset: leave(runtime, resets: true)
        case .orderly where failure == nil && !hasLeft:
            outgoing.isEnded = true
            do throws(DemikernelError) {
                try runtime.shutdown(queue, .send)
            } catch {
                outgoing.isEnded = false
                failed(error, "shutdown")
            }
        default: break
        }
    }

    private func awaitPush(_ push: (token: QueueToken, byteCount: Int), _ runtime: borrowing Runtime) {
        do throws(DemikernelError) {
            let completion = try runtime.wait(push.token, timeout: patience)
            switch consume completion.result {
            case .pushed(let byteCount):
                if byteCount != push.byteCount { run.fail("\(name): a push of \(push.byteCount) bytes took \(byteCount)") }
            case .failed(let error, let taken):
                if error.errno == ECANCELED && taken == 0 && plan.cancels && !hasLeft {
                    // It never happened: the bytes come with the next push.
                    outgoing.pushed -= push.byteCount
                } else {
                    failed(error, "push")
                }
            default: preconditionFailure("a push completes as one")
            }
        } catch {
            isStuck("a push")
            leave(runtime, resets: true)
            _ = try? runtime.wait(push.token)
        }
    }

    /// An array of `count` bytes in a few segments, or of fewer that fit into them; nil when the heap has no room for it now, after a while.
    private func makeArray(_ count: Int, _ runtime: borrowing Runtime) -> ScatterGatherArray? {
        let segments = min(plan.segments, count)
        var array: ScatterGatherArray?
        var written = 0
        do throws(DemikernelError) {
            for segment in 0..<segments {
                // Cut at random places, but no segment larger than a buffer can be.
                let left = segments - segment - 1
                let size = left == 0 ? count - written : min(random.between(1...max(1, 2 * (count - written) / (left + 1) - 1)), count - written - left)
                let buffer = try runtime.allocate(min(size, DatapathHeap.maximumBufferByteCount))
                outgoing.fill(buffer.address, from: outgoing.pushed + written, count: buffer.count)
                written += buffer.count
                if array == nil { array = try ScatterGatherArray(buffer) } else { try array?.append(buffer) }
            }
        } catch {
            host.sleep(nanoseconds: 1_000_000)
            return nil
        }
        return array
    }

    // MARK: Reading

    /// Bytes to read; nil to read to the end.
    private var readTarget: Int? {
        let peer = connection.peer(of: self).plan
        switch plan.ending {
        case .orderly: return nil
        case .exact, .together:
            if case .reset = peer.ending { return nil }
            if case .deserts = peer.ending { return nil }
            return peer.byteCount
        case .deserts(let after): return min(after, peer.byteCount)
        case .reset: return nil
        }
    }

    private func read(_ runtime: borrowing Runtime) throws {
        let target = readTarget
        if plan.readerDelay > 0 { host.sleep(nanoseconds: plan.readerDelay) }
        while target.map({ incoming.delivered < $0 }) ?? true, !hasLeft {
            if plan.readerPauses > 0, random.oneIn(UInt64(plan.readerPauses)) { host.sleep(nanoseconds: random.below(plan.longestReaderPause) + 1) }
            let byteCount = min(plan.popByteCount, target.map { $0 - incoming.delivered } ?? .max)
            let token: QueueToken
            do throws(DemikernelError) {
                token = try runtime.pop(queue, maximumSegments: plan.popSegments, maximumBytes: byteCount)
            } catch {
                failed(error, "pop")
                break
            }
            guard try takePop(token, byteCount, runtime) else { break }
        }
        if case .deserts = plan.ending { leave(runtime, resets: false) }
    }

    /// - Returns: false when there is nothing more to read.
    private func takePop(_ token: QueueToken, _ byteCount: Int, _ runtime: borrowing Runtime) throws -> Bool {
        var timeout = patience
        let cancels = plan.cancels && random.oneIn(4)
        if cancels { timeout = .nanoseconds(Int64(random.below(50_000_000))) }
        while true {
            do throws(DemikernelError) {
                let completion = try runtime.wait(token, timeout: timeout)
                switch consume completion.result {
                case .popped(let array, _):
                    if array.byteCount > byteCount || array.segmentCount > plan.popSegments || array.byteCount == 0 {
                        run.fail("\(name): a pop of \(byteCount) bytes and \(plan.popSegments) segments gave \(array.byteCount) and \(array.segmentCount)")
                    }
                    if let complaint = incoming.deliver(array) { run.fail(complaint) }
                    return true
                case .endOfStream:
                    if let complaint = incoming.end() { run.fail(complaint) }
                    if let target = readTarget, incoming.delivered < target, !connection.isViolent {
                        run.fail("\(name): the end came after \(incoming.delivered) of \(target) bytes")
                    }
                    return false
                case .failed(let error, _):
                    if error.errno == ECANCELED && cancels && !hasLeft { return true }
                    failed(error, "pop")
                    return false
                default: preconditionFailure("a pop completes as one")
                }
            } catch {
                if cancels, timeout != patience {
                    // The token still completes once: with bytes, or with ECANCELED.
                    try? runtime.cancel(token)
                    timeout = patience
                    continue
                }
                isStuck("a pop")
                leave(runtime, resets: true)
                _ = try? runtime.wait(token)
                return false
            }
        }
    }
}
