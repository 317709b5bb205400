import Demikernel
import Glibc
import Testing

@testable import QueueRuntime

/// Push, pop, cancel, close, shutdown and wait in every order up to a length, against a model: each token completes exactly once with what the
/// model says, and no block, segment or operation is left over.
@Suite("In-memory queues against a model") struct MemoryQueueModelTests {
    enum Step: Hashable {
        case push, pop, close, shutdownSend, shutdownReceive
        case cancel(Int), redeem(Int)
    }

    /// What the queue ought to do, written down without looking at how it does it.
    struct Model {
        let depth: Int
        var units: [UInt8] = []
        var waitingPushes: [(token: Int, unit: UInt8)] = []
        var waitingPops: [Int] = []
        var outcomes: [Outcome?] = []
        var isRedeemed: [Bool] = []
        var isClosed = false, isSendShutDown = false, isReceiveShutDown = false
        var nextUnit: UInt8 = 1

        init(depth: Int) { self.depth = depth }

        mutating func makeToken() -> Int {
            outcomes.append(nil)
            isRedeemed.append(false)
            return outcomes.count - 1
        }

        /// The errno with which the call is refused, or 0.
        mutating func apply(_ step: Step) -> Int32 {
            switch step {
            case .cancel(let token):
                if isRedeemed[token] { return EINVAL }
                guard outcomes[token] == nil else { return 0 }
                waitingPushes.removeAll { $0.token == token }
                waitingPops.removeAll { $0 == token }
                outcomes[token] = .failed(ECANCELED, byteCount: 0)
            case .redeem(let token):
                if isRedeemed[token] { return EINVAL }
                if outcomes[token] == nil { return ETIMEDOUT }
                isRedeemed[token] = true
            case _ where isClosed: return EBADF
            case .push:
                if isSendShutDown || isReceiveShutDown { return EPIPE }
                let token = makeToken()
                if !waitingPops.isEmpty {
                    outcomes[waitingPops.removeFirst()] = .popped([nextUnit])
                    outcomes[token] = .pushed(1)
                } else if units.count < depth {
                    units.append(nextUnit)
                    outcomes[token] = .pushed(1)
                } else {
                    waitingPushes.append((token, nextUnit))
                }
                nextUnit += 1
            case .pop:
                let token = makeToken()
                if !units.isEmpty {
                    outcomes[token] = .popped([units.removeFirst()])
                    if !waitingPushes.isEmpty {
                        let push = waitingPushes.removeFirst()
                        units.append(push.unit)
                        outcomes[push.token] = .pushed(1)
                    }
                } else if isSendShutDown || isReceiveShutDown {
                    outcomes[token] = .endOfStream
                } else {
                    waitingPops.append(token)
                }
            case .shutdownSend:
                isSendShutDown = true
                endPops(.endOfStream)
            case .shutdownReceive:
                isReceiveShutDown = true
                endPops(.endOfStream)
                units = []
                endPushes(EPIPE)
            case .close:
                isClosed = true
                endPops(.failed(ECANCELED, byteCount: 0))
                units = []
                endPushes(ECANCELED)
            }
            return 0
        }

        mutating func endPops(_ outcome: Outcome) {
            for token in waitingPops { outcomes[token] = outcome }
            waitingPops = []
        }

        mutating func endPushes(_ number: Int32) {
            for push in waitingPushes { outcomes[push.token] = .failed(number, byteCount: 0) }
            waitingPushes = []
        }
    }

    /// Redeems in one of the ways, chosen by `variant`.
    private func redeem(_ runtime: borrowing Runtime, _ token: QueueToken, variant: Int) throws(DemikernelError) -> Outcome {
        switch variant % 4 {
        case 0: return try runtime.result(token, timeout: .zero)
        case 1: return try runtime.first(of: [token], timeout: .zero).outcome
        case 2:
            var batch = CompletionBatch(capacity: 1)
            try runtime.waitAll([token].span, into: &batch, timeout: .zero)
            guard let completion = batch.next() else { throw DemikernelError(ENOENT, .wait) }
            return Described(completion).outcome
        default:
            let set = try runtime.makeWaitSet()
            try set.add(token)
            return Described(try set.wait(timeout: .zero)).outcome
        }
    }

    /// Runs one history; returns what went wrong, or nil.
    private func run(_ steps: [Step], _ runtime: borrowing Runtime, depth: Int) throws -> String? {
        var model = Model(depth: depth)
        let queue = try runtime.queue()
        var tokens: [QueueToken] = []
        func problem(_ text: String) -> String { "\(steps): \(text)" }
        func perform(_ runtime: borrowing Runtime, _ step: Step, at position: Int) -> String? {
            let unit = model.nextUnit
            let expected = model.apply(step)
            var observed: Outcome?
            let number = errorNumber { () throws(DemikernelError) in
                switch step {
                case .push: tokens.append(try runtime.push(queue, bytes: [unit]))
                case .pop: tokens.append(try runtime.pop(queue))
                case .cancel(let token): try runtime.cancel(tokens[token])
                case .redeem(let token): observed = try redeem(runtime, tokens[token], variant: position + token)
                case .close: try runtime.close(queue)
                case .shutdownSend: try runtime.shutdown(queue, .send)
                case .shutdownReceive: try runtime.shutdown(queue, .receive)
                }
            }
            guard number == expected else { return problem("\(step) gave errno \(number), not \(expected)") }
            if number == 0, case .redeem(let token) = step, observed != model.outcomes[token] {
                return problem("\(step) gave \(observed as Any), not \(model.outcomes[token] as Any)")
            }
            return nil
        }
        for (position, step) in steps.enumerated() {
            if let problem = perform(runtime, step, at: position) { return problem }
        }
        if !model.isClosed, let problem = perform(runtime, .close, at: steps.count) { return problem }
        for token in tokens.indices where !model.isRedeemed[token] {
            if let problem = perform(runtime, .redeem(token), at: steps.count) { return problem }
        }
        for token in tokens.indices {
            if let problem = perform(runtime, .redeem(token), at: steps.count) { return problem }
        }
        if errorNumber({ () throws(DemikernelError) in _ = try runtime.next(timeout: .zero) }) != ETIMEDOUT {
            return problem("an unclaimed completion is left")
        }
        let end = runtime.snapshot()
        if end.liveOperations + end.openQueues + end.closingQueues + end.liveBlocks + end.liveSegments != 0 { return problem("left over: \(end)") }
        return nil
    }

    @Test("every history up to its length", arguments: [(depth: 1, length: 5), (depth: 2, length: 4)])
    func everyHistory(depth: Int, length: Int) throws {
        let clock = VirtualClock()
        let runtime = try makeRuntime {
            $0.limits.memoryQueueDepth = depth
            $0.clock = clock.clock
        }
        var steps: [Step] = []
        var count = 0
        var problems: [String] = []
        func extend(_ runtime: borrowing Runtime, _ model: Model) throws {
            // A shorter history is checked as the beginning of a longer one, whose end redeems and closes as well.
            if steps.count == length {
                count += 1
                if let problem = try run(steps, runtime, depth: depth) { problems.append(problem) }
                return
            }
            var choices: [Step] = [.push, .pop, .close, .shutdownSend, .shutdownReceive]
            for token in model.outcomes.indices { choices += [.cancel(token), .redeem(token)] }
            for choice in choices where problems.count < 5 {
                var next = model
                _ = next.apply(choice)
                steps.append(choice)
                try extend(runtime, next)
                steps.removeLast()
            }
        }
        try extend(runtime, Model(depth: depth))
        #expect(problems.isEmpty)
        #expect(count > 1_000)
    }

    @Test("long random histories", arguments: 0..<8)
    func randomHistories(seed: Int) throws {
        var random = SeededRandom(seed: UInt64(seed))
        let depth = Int.random(in: 1...3, using: &random)
        let clock = VirtualClock()
        let runtime = try makeRuntime {
            $0.limits.memoryQueueDepth = depth
            $0.clock = clock.clock
        }
        for _ in 0..<300 {
            var model = Model(depth: depth)
            var steps: [Step] = []
            for _ in 0..<Int.random(in: 5...60, using: &random) {
                var choices: [Step] = [.push, .push, .push, .pop, .pop, .pop]
                if Int.random(in: 0..<10, using: &random) == 0 { choices += [.close, .shutdownSend, .shutdownReceive] }
                if let token = model.outcomes.indices.randomElement(using: &random) { choices += [.cancel(token), .redeem(token), .redeem(token)] }
                let step = choices.randomElement(using: &random)!
                _ = model.apply(step)
                steps.append(step)
            }
            if let problem = try run(steps, runtime, depth: depth) {
                Issue.record("\(problem)")
                return
            }
        }
    }
}
