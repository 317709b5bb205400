import CDatapath
import Glibc
import SharedMemory

/// What the telemetry's thread does: it sleeps until a client or a runtime has something to say.
struct TelemetryLoop {
    private let service: TelemetryService
    private var clients: [TelemetryClientState] = []
    private var nextIdentifier = 1
    /// When the listener is looked at again, after it had a client that could not be taken.
    private var listening: Int64 = 0
    private var limits: TelemetryLimits { service.limits }

    init(_ service: TelemetryService) {
        self.service = service
    }

    mutating func run() {
        while !service.isStopping {
            let listener = now >= listening ? service.listener.file : -1
            var descriptors = [
                pollfd(fd: service.wakeUp, events: Int16(POLLIN), revents: 0), pollfd(fd: listener, events: Int16(POLLIN), revents: 0),
            ]
            descriptors += clients.map { pollfd(fd: $0.socket, events: $0.events, revents: 0) }
            let found = poll(&descriptors, nfds_t(descriptors.count), timeout)
            if found < 0, errno != EINTR { break }
            let polled = clients.map(\.identifier)
            for (client, result) in service.takeResults() { take(result, client) }
            for (index, identifier) in polled.enumerated() where found > 0 && descriptors[index + 2].revents != 0 { serve(identifier) }
            if found > 0, descriptors[1].revents != 0 { accept() }
            expire()
        }
        for client in clients { end(client) }
        service.listener.close()
    }

    /// Milliseconds of poll(2); without a client it sleeps for ever.
    private var timeout: Int32 {
        let now = now
        let deadlines = clients.filter(\.canExpire).map(\.deadline) + (listening > now ? [listening] : [])
        guard let deadline = deadlines.min() else { return -1 }
        return Int32(clamping: max(0, deadline - now))
    }

    private var now: Int64 { Int64(demi_monotonic_nanoseconds() / 1_000_000) }

    // MARK: Clients

    private mutating func accept() {
        while true {
            let socket = demi_accept(service.listener.file, nil, nil)
            guard socket >= 0 else {
                // Without a descriptor the client stays in the backlog, and the listener readable.
                if errno != EAGAIN { listening = now + 1_000 }
                return
            }
            var client = TelemetryClientState(identifier: nextIdentifier, socket: socket, deadline: now + limits.silence)
            nextIdentifier += 1
            if clients.count >= limits.maximumClients { removeGone() }
            if clients.count >= limits.maximumClients {
                client.answer(refusal(EBUSY, "too many clients: end some of them"), thenEnd: true)
                _ = client.send()
                close(socket)
            } else if !isUserOrRoot(socket) {
                close(socket)
            } else {
                clients.append(client)
            }
        }
    }

    /// Makes room: of clients that have gone, in whatever phase, nothing has been told yet when several come and go at once.
    private mutating func removeGone() {
        for index in clients.indices.reversed() {
            var peer = pollfd(fd: clients[index].socket, events: 0, revents: 0)
            if poll(&peer, 1, 0) > 0 { remove(index) }
        }
    }

    /// The folder and the socket keep others out already, unless somebody has opened them.
    private func isUserOrRoot(_ socket: Int32) -> Bool {
        let user = demi_peer_user(socket)
        return user == 0 || user == Int64(geteuid())
    }

    private mutating func serve(_ identifier: Int) {
        guard let index = clients.firstIndex(where: { $0.identifier == identifier }) else { return }
        switch clients[index].phase {
        case .reading: readRequest(index)
        case .capturing:
            // A client of a capture has nothing more to say: whatever comes ends it.
            endCapture(index)
        case .answering:
            guard clients[index].send() else { return remove(index) }
            if clients[index].output.isEmpty {
                clients[index].phase = .reading
                clients[index].deadline = now + limits.silence
                readRequest(index)
            }
        case .ending: if !clients[index].send() || clients[index].output.isEmpty { remove(index) }
        case .collecting, .beginningCapture, .endingCapture: remove(index)
        }
    }

    private mutating func readRequest(_ index: Int) {
        switch clients[index].receiveLine() {
        case .incomplete: return
        case .end: remove(index)
        case .tooLong: finish(index, refusal(EINVAL, "a request is a line of \(TelemetryProtocol.maximumLineByteCount) bytes at most"))
        case .line(let line):
            do throws(TelemetryProtocol.Refusal) {
                switch try TelemetryProtocol.request(line[...]) {
                case .metrics: collect(index)
                case .capture(let runtime, let snapshot): beginCapture(index, runtime, snapshot)
                }
            } catch {
                switch error {
                case .malformed: finish(index, refusal(EINVAL, "no such request"))
                case .version(let version):
                    finish(index, refusal(EPROTONOSUPPORT, "this process speaks version \(TelemetryProtocol.version) and not \(version)"))
                }
            }
        }
    }

    private func refusal(_ error: Int32, _ text: String) -> String {
        "\(TelemetryProtocol.name) \(TelemetryProtocol.version) error \(demi_error_name(error).map { String(cString: $0) } ?? "EIO") \(text)\n"
    }

    /// Answers and closes.
    private mutating func finish(_ index: Int, _ text: String) {
        clients[index].deadline = now + limits.reception
        clients[index].answer(text, thenEnd: true)
    }

    private mutating func remove(_ index: Int) {
        end(clients.remove(at: index))
    }

    private func end(_ client: TelemetryClientState) {
        // The runtime has a copy of the socket until its next turn.
        if let captured = client.captured { _ = captured.visit { _ = $0.endCapture(owner: UInt64(client.identifier)) } }
        close(client.socket)
    }

    private mutating func expire() {
        let now = now
        for client in clients where client.canExpire && client.deadline <= now {
            guard let index = clients.firstIndex(where: { $0.identifier == client.identifier }) else { continue }
            // What has come is told; what has not is told as missing.
            if client.phase == .collecting { answerMetrics(index) } else { remove(index) }
        }
    }

    private mutating func take(_ result: TelemetryService.Result, _ identifier: Int) {
        guard let index = clients.firstIndex(where: { $0.identifier == identifier }) else { return }
        switch (result, clients[index].phase) {
        case (.snapshot(let runtime, let snapshot), .collecting):
            clients[index].snapshots[runtime] = snapshot
            if clients[index].snapshots.count == clients[index].awaited { answerMetrics(index) }
        case (.captureBegun(let error), .beginningCapture): captureBegun(index, error)
        case (.captureEnded(let rest), .endingCapture):
            clients[index].captured = nil
            clients[index].deadline = now + limits.reception
            clients[index].output = rest
            clients[index].phase = .ending
        default: break
        }
    }

    // MARK: Metrics

    private mutating func collect(_ index: Int) {
        let client = clients[index].identifier
        clients[index].snapshots = [:]
        clients[index].awaited = 0
        clients[index].phase = .collecting
        clients[index].deadline = now + limits.collection
        for (number, runtime) in service.runtimes.enumerated() {
            let isAsked = runtime?.visit { [service] core in service.deliver(.snapshot(runtime: number, core.takeSnapshot()), to: client) } ?? false
            if isAsked { clients[index].awaited += 1 }
        }
        if clients[index].awaited == 0 { answerMetrics(index) }
    }

    private mutating func answerMetrics(_ index: Int) {
        var metrics = MetricList()
        metrics.add(
            "demikernel_process_info", .gauge, "The process.", .number(1),
            [Metric.Label("program", service.program), Metric.Label("pid", "\(getpid())")])
        for (number, runtime) in service.runtimes.enumerated() where runtime != nil {
            metrics.commonLabels = [Metric.Label("runtime", "\(number)")]
            let snapshot = clients[index].snapshots[number]
            metrics.gauge(
                "demikernel_runtime_up", "1 when the runtime has answered, 0 when its thread is busy with something else.", snapshot == nil ? 0 : 1)
            snapshot?.collect(into: &metrics)
        }
        let text = PrometheusText.format(metrics)
        clients[index].snapshots = [:]
        clients[index].deadline = now + limits.reception
        clients[index].answer("\(TelemetryProtocol.name) \(TelemetryProtocol.version) ok \(text.utf8.count)\n\(text)")
    }

    // MARK: Captures

    private mutating func beginCapture(_ index: Int, _ number: Int, _ snapshotByteCount: Int) {
        let runtimes = service.runtimes
        guard number < runtimes.count, let runtime = runtimes[number] else {
            return finish(index, refusal(ESRCH, "there is no runtime \(number)"))
        }
        let client = clients[index].identifier
        let socket = fcntl(clients[index].socket, F_DUPFD_CLOEXEC, 0)
        guard socket >= 0 else { return finish(index, refusal(errno, "no descriptor is left")) }
        // Asked for first, so that the answer stands in front of the first frame.
        let answer = Array("\(TelemetryProtocol.name) \(TelemetryProtocol.version) ok stream\n".utf8)
        clients[index].phase = .beginningCapture
        clients[index].deadline = now + limits.collection
        let isAsked = runtime.visit { [service] core in
            defer { close(socket) }
            var error = core.beginCapture(FrameCaptureRequest(owner: UInt64(client), socket: socket, snapshotByteCount: snapshotByteCount))
            // The writer has begun nothing yet: a fresh socket takes a line.
            if error == 0, send(socket, answer, answer.count, Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)) != answer.count {
                _ = core.endCapture(owner: UInt64(client))
                error = EPIPE
            }
            service.deliver(.captureBegun(error), to: client)
        }
        guard isAsked else {
            close(socket)
            return finish(index, refusal(ESRCH, "the runtime \(number) has ended"))
        }
        // What it gives up meanwhile has to be ended all the same.
        clients[index].captured = runtime
    }

    private mutating func captureBegun(_ index: Int, _ error: Int32) {
        guard error != 0 else {
            clients[index].phase = .capturing
            return
        }
        clients[index].captured = nil
        let text =
            switch error {
            case EOPNOTSUPP: "the runtime has no Ethernet device: only catnip has frames to capture"
            case EBUSY: "another capture runs: end that one"
            default: "the capture cannot begin"
            }
        finish(index, refusal(error, text))
    }

    private mutating func endCapture(_ index: Int) {
        let client = clients[index].identifier
        clients[index].phase = .endingCapture
        clients[index].deadline = now + limits.collection
        let isAsked =
            clients[index].captured?.visit { [service] core in service.deliver(.captureEnded(core.endCapture(owner: UInt64(client)).rest), to: client)
            } ?? false
        // A runtime that has ended has ended its capture, too.
        if !isAsked { remove(index) }
    }
}
