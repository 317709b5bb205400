/// A load generator over whatever transport leads to its server.
protocol LoadDriver: AnyObject {
    var needsPreload: Bool { get }
    func preload() throws(CommandFailure)
    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult
}

/// The generator over one transport. A call into it lasts a round, so that the indirection costs nothing.
final class TransportDriver<Transport: LoadTransport & ~Copyable>: LoadDriver {
    private var generator: LoadGenerator<Transport>

    init(_ transport: consuming Transport, workload: consuming Workload, plan: LoadPlan) {
        generator = LoadGenerator(transport, workload: workload, plan: plan)
    }

    var needsPreload: Bool { generator.needsPreload }

    func preload() throws(CommandFailure) { try generator.preload() }

    func run(for duration: UInt64) throws(CommandFailure) -> RoundResult { try generator.run(for: duration) }
}

extension Endpoint {
    /// A generator that is connected to this endpoint: over shared memory for a path, else over kernel sockets.
    func connect(
        _ protocol: TransportProtocol, connections: Int, workload: consuming Workload, plan: LoadPlan
    ) throws(CommandFailure) -> any LoadDriver {
        if family == .path {
            return TransportDriver(try SharedMemoryTransport(to: host, connections: connections), workload: workload, plan: plan)
        }
        return TransportDriver(try KernelTransport(`protocol`, to: self, connections: connections), workload: workload, plan: plan)
    }
}
