import Demikernel
import Glibc

/// A runtime with one queue, which is connected to a server.
struct ConnectedQueue: ~Copyable {
    let runtime: Runtime
    let queue: QueueDescriptor

    /// How long a connection, or an answer, may take.
    static let patience = Duration.seconds(10)

    init(_ transport: TransportProtocol, to endpoint: Endpoint, _ settings: ServerSettings) throws(CommandFailure) {
        do throws(DemikernelError) {
            let runtime = try Runtime(settings.runtimeConfiguration, libraryOSes: [settings.libraryOS(nil)])
            let address = if endpoint.family == .path { try SocketAddress(path: endpoint.host) } else { try SocketAddress(parsing: "\(endpoint)") }
            let queue = try runtime.socket(address.family, transport == .tcp ? .stream : .datagram)
            try runtime.wait(try runtime.connect(queue, to: address), timeout: ConnectedQueue.patience).succeeded()
            self.runtime = runtime
            self.queue = queue
        } catch {
            throw CommandFailure("\(settings.carrier): connect to \(endpoint): \(error)")
        }
    }

    /// The next bytes, or the next unit.
    @inline(__always)
    func pop() throws(DemikernelError) -> ScatterGatherArray {
        guard let array = try runtime.wait(runtime.pop(queue), timeout: ConnectedQueue.patience).popped() else {
            throw DemikernelError(ECONNRESET, .pop, "the server closed the connection")
        }
        return array
    }
}
