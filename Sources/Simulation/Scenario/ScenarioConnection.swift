import DatapathMemory
import Glibc
import QueueRuntime
import WireFormats

/// One connection of a scenario: its two ends, what each pushes, and what came of it.
final class ScenarioConnection {
    let plan: ScenarioPlan.ConnectionPlan
    let number: Int
    let incarnation: Int
    unowned let run: ScenarioRun
    private(set) var client: StreamEnd!
    private(set) var server: StreamEnd!
    /// The server's end was never there: the connection failed before.
    private var hasServer = true
    private var openEnds = 2
    private var isOver = false
    /// As its server has it; nil before the client has an address, and where it does not matter.
    var serverFlow: FlowKey?
    /// When both ends close that close together, in the world's time.
    var closingTime: UInt64?

    init(_ plan: ScenarioPlan.ConnectionPlan, number: Int, incarnation: Int, _ run: ScenarioRun) {
        self.plan = plan
        self.number = number
        self.incarnation = incarnation
        self.run = run
        let there = StreamRecord(name: "connection \(number), client to server", number: UInt64(2 * number), seed: run.seed)
        let back = StreamRecord(name: "connection \(number), server to client", number: UInt64(2 * number + 1), seed: run.seed)
        client = StreamEnd(self, "client", run.hosts[plan.client], plan.clientEnd, outgoing: there, incoming: back)
        server = StreamEnd(self, "server", run.hosts[plan.server], plan.serverEnd, outgoing: back, incoming: there)
    }

    var deliveredByteCount: Int { client.incoming.delivered + server.incoming.delivered }

    /// Whether both programs have done all that they planned, without an error.
    var isComplete: Bool { openEnds == 0 && client.failure == nil && server.failure == nil && hasServer }

    /// Whether an end of it is violent, so that the other one may meet an error.
    var isViolent: Bool {
        for end in [plan.clientEnd, plan.serverEnd] {
            switch end.ending {
            case .reset, .deserts: return true
            default: break
            }
        }
        return plan.kind == .closedPort || plan.kind == .canceledConnect
    }

    func peer(of end: StreamEnd) -> StreamEnd { end === client ? server : client }

    // MARK: Connecting

    func begin() {
        connect(client, from: plan.clientPort, to: plan.server, port: plan.port, expects: true)
        if plan.kind == .simultaneousOpen { connect(server, from: plan.port, to: plan.client, port: plan.clientPort, expects: false) }
    }

    private func connect(_ end: StreamEnd, from localPort: UInt16, to peer: Int, port: UInt16, expects: Bool) {
        let remote = run.hosts[peer]
        let address = Endpoint(address: remote.address(plan.family), port: port).asSocketAddress
        end.start("connect") { [self] runtime in
            let queue = try runtime.socket(plan.family, .stream)
            do {
                end.setOptions(queue, runtime)
                if localPort != 0 { try runtime.bind(queue, to: .any(plan.family, port: localPort)) }
                let token = try runtime.connect(queue, to: address)
                if expects, plan.kind != .simultaneousOpen, plan.kind != .closedPort {
                    var local = try runtime.localAddress(queue)
                    if local.asEndpoint.address.isUnspecified {
                        local = Endpoint(address: end.host.address(plan.family), port: local.port).asSocketAddress
                    }
                    run.expect(self, from: local, to: address)
                }
                if plan.kind == .canceledConnect {
                    end.host.sleep(nanoseconds: plan.startsAt / 4 + 1)
                    try? runtime.cancel(token)
                }
                try runtime.wait(token, timeout: run.patience(of: end.host)).succeeded()
            } catch let error as DemikernelError {
                run.narrate("connection \(number): the \(end.role) does not connect, \(error.errnoName)")
                try? runtime.close(queue)
                connectFailed(end, error)
                return
            }
            run.narrate("connection \(number): the \(end.role) is connected")
            if plan.kind == .closedPort, run.plan.attack == nil { run.fail("connection \(number) to a port where nobody listens was accepted") }
            end.begin(queue, runtime)
        }
    }

    private func connectFailed(_ end: StreamEnd, _ error: DemikernelError) {
        let isAllowed: Bool
        switch plan.kind {
        case .closedPort: isAllowed = error.errno == ECONNREFUSED || run.plan.mayLoseConnections
        case .canceledConnect: isAllowed = error.errno == ECANCELED || run.plan.mayLoseConnections
        // Address resolution gives up after three requests, which a bad network may lose.
        default:
            isAllowed =
                run.plan.mayLoseConnections || error.errno == EHOSTUNREACH && run.plan.losesFrames || error.errno == ETIMEDOUT && run.isCrowdedOut(self)
        }
        end.fail(error, isAllowed: isAllowed, "connect")
        if end === client, !server.hasBegun, plan.kind != .simultaneousOpen {
            // It may have been accepted, and then comes to its end by itself.
            hasServer = false
            server.neverBegins()
        }
        end.finish()
    }

    func accepted(_ queue: QueueDescriptor, _ runtime: borrowing Runtime) {
        run.narrate("connection \(number): accepted")
        hasServer = true
        // The client may have given up meanwhile.
        if server.isFinished { openEnds += 1 }
        server.setOptions(queue, runtime)
        server.begin(queue, runtime)
    }

    func finished(_ end: StreamEnd) {
        openEnds -= 1
        let mayBeLost = isViolent || run.plan.mayLoseConnections || end.failure != nil && run.mayHaveLostCookie(self)
        if end === client, end.hasBegun, !server.hasBegun, mayBeLost, plan.kind != .simultaneousOpen {
            // It was over before it was accepted.
            hasServer = false
            server.neverBegins()
        }
        guard openEnds == 0, !isOver else { return }
        isOver = true
        run.narrate("connection \(number) is over\(isComplete ? "" : ", not as planned")")
        run.finished(self)
    }
}

extension DemikernelError {
    /// The errno's name, where it is one that connections meet.
    var errnoName: String {
        switch errno {
        case ECONNRESET: "ECONNRESET"
        case ECONNREFUSED: "ECONNREFUSED"
        case ETIMEDOUT: "ETIMEDOUT"
        case ECANCELED: "ECANCELED"
        case EPIPE: "EPIPE"
        case EHOSTUNREACH: "EHOSTUNREACH"
        case ENETUNREACH: "ENETUNREACH"
        case ENOBUFS: "ENOBUFS"
        case ENOTCONN: "ENOTCONN"
        case EADDRINUSE: "EADDRINUSE"
        case EBADF: "EBADF"
        default: "errno \(errno)"
        }
    }
}
