import Demikernel

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
    /// A generator that is connected to this endpoint.
    /// - Parameter libraryOS: what carries the load; nil: shared memory for a path, else kernel sockets without a runtime.
    func connect(
        _ protocol: TransportProtocol, over libraryOS: LibraryOSMaker? = nil, connections: Int, workload: consuming Workload, plan: LoadPlan
    ) throws(CommandFailure) -> any LoadDriver {
        if let libraryOS = libraryOS ?? (family == .path ? .catmem : nil) {
            let address: SocketAddress
            do throws(DemikernelError) {
                address = family == .path ? try SocketAddress(path: host) : try SocketAddress(parsing: "\(self)")
            } catch {
                throw CommandFailure("\(self): \(error)")
            }
            return TransportDriver(try RuntimeTransport(libraryOS, to: address, connections: connections), workload: workload, plan: plan)
        }
        return TransportDriver(try KernelTransport(`protocol`, to: self, connections: connections), workload: workload, plan: plan)
    }
}
