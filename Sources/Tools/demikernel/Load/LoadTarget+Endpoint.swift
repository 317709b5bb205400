import Demikernel
import Glibc

extension LoadTarget {
    /// Connects to an endpoint: over the library OS of `settings`, over shared memory for a path, else over kernel sockets.
    convenience init(
        name: String, endpoint: Endpoint, process: pid_t?, _ transport: TransportProtocol, over settings: ServerSettings?, connections: Int,
        workload: consuming Workload, plan: LoadPlan
    ) throws(CommandFailure) {
        if let settings = settings ?? (endpoint.family == .path ? .sharedMemory(endpoint.host) : nil) {
            let connected = try RuntimeTransport(transport, to: endpoint, connections: connections, settings: settings)
            self.init(name: name, endpoint: endpoint, process: process, generator: LoadGenerator(connected, workload: workload, plan: plan))
        } else {
            let connected = try KernelTransport(transport, to: endpoint, connections: connections)
            self.init(name: name, endpoint: endpoint, process: process, generator: LoadGenerator(connected, workload: workload, plan: plan))
        }
    }
}

extension ServerSettings {
    /// Those of a client on a device of its own, which spins.
    static func catnip(_ device: String, _ address: String) throws(CommandFailure) -> ServerSettings {
        var settings = ServerSettings()
        settings.libOS = .catnip
        settings.idle = .spin
        do throws(ConfigurationMistakes) {
            settings.interface = try InterfaceConfiguration(device: device, addresses: [address])
        } catch {
            throw CommandFailure("\(device): \(error)")
        }
        return settings
    }

    /// A client's, for the server at a path.
    fileprivate static func sharedMemory(_ path: String) -> ServerSettings {
        var settings = ServerSettings()
        settings.libOS = .catmem
        settings.path = path
        return settings
    }
}
