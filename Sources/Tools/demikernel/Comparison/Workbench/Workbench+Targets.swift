import Demikernel
import Glibc

/// What several comparisons have in common.
extension Workbench {
    // MARK: AF_XDP

    /// A cable whose ends are the kernel's.
    func makeKernelCable() throws(CommandFailure) -> VirtualNetwork.Cable {
        let network = try network()
        let cable = try network.makeCable()
        try network.address(cable.client)
        try network.onServerSide { () throws(CommandFailure) in try network.address(cable.server) }
        return cable
    }

    /// A server on AF_XDP at the servers' end of a cable; a new one, whose other end is the kernel's, when none is given.
    func serverOnXDP(
        _ name: String, _ arguments: [String], port: UInt16, on cable: VirtualNetwork.Cable? = nil
    ) throws(CommandFailure) -> (ServerProcess, Endpoint) {
        let network = try network()
        let ownCable: VirtualNetwork.Cable
        if let cable {
            ownCable = cable
        } else {
            ownCable = try network.makeCable()
            try network.address(ownCable.client)
        }
        let end = ownCable.server
        let server = try network.onServerSide { () throws(CommandFailure) in
            try self.server(
                name,
                arguments + [
                    "--libos", "catnip", "--device", "xdp:\(end.interface)", "--address", end.addressWithPrefix, "--listen", "\(end.address):\(port)",
                ])
        }
        return (server, try server.waitUntilReady())
    }

    /// The client in C at the clients' end of a cable, to port 7 of the other.
    func rawClientOnXDP(_ cable: VirtualNetwork.Cable, window: Int) throws(CommandFailure) -> CommandedClient {
        let client = try baseline(
            "udp-load-xdp",
            [cable.client.interface, cable.client.macAddress, cable.client.address, "9000", cable.server.macAddress, cable.server.address, "7"],
            isClient: true)
        try client.waitUntilReady(saying: "ready")
        return CommandedClient(client, window: window, samples)
    }

    /// The echo and the client in C at both ends of a cable.
    func rawLoopOnXDP(window: Int) throws(CommandFailure) -> LoadTarget {
        let network = try network()
        let cable = try network.makeCable()
        let server = try network.onServerSide { () throws(CommandFailure) in try baseline("udp-echo-xdp", [cable.server.interface, "7"]) }
        try server.waitUntilReady(saying: "ready")
        pause(server)
        return LoadTarget(
            name: "raw AF_XDP loop", place: cable.server.interface, process: server.process, driver: try rawClientOnXDP(cable, window: window))
    }

    // MARK: memif

    /// A server on memif, and the settings of its client.
    func serverOnMemif(
        _ name: String, _ arguments: [String], port: UInt16
    ) throws(CommandFailure) -> (ServerProcess, Endpoint, ServerSettings) {
        let path = socketPath()
        let server = try server(
            name,
            arguments + ["--libos", "catnip", "--device", "memif:\(path),role=server", "--address", "10.76.0.2/24", "--listen", "10.76.0.2:\(port)"])
        return (server, try server.waitUntilReady(), try .catnip("memif:\(path)", "10.76.0.1/24"))
    }

    /// A client's device.
    func memif(_ path: String) throws(CommandFailure) -> DeviceSpecification {
        do throws(ConfigurationMistakes) { return try DeviceSpecification(parsing: "memif:\(path)") } catch { throw CommandFailure("\(error)") }
    }

    /// DPDK's own forwarder on its memif, loaded with frames.
    func testpmd(window: Int) throws(CommandFailure) -> LoadTarget {
        let path = socketPath()
        // Its first thread reads its input, the other one forwards: both on the servers' processor.
        let server = try program(
            "dpdk-testpmd", package: "dpdk-dev librte-net-memif23 librte-mempool-ring23",
            [
                "--no-huge", "-m", "128", "--no-telemetry", "--no-pci", "--no-shconf", "--lcores", "(0,1)@\(processors.first)",
                "--vdev=net_memif0,role=server,socket=\(path),socket-abstract=no", "--", "--forward-mode=io", "--auto-start",
                "--total-num-mbufs=8192",
            ], hasInput: true)
        // It says nothing into a pipe until it ends: the first frame that comes back tells that it forwards.
        let load = try FrameLoad(try memif(path), window: window, samples)
        try load.waitForPeer()
        pause(server)
        return LoadTarget(name: "testpmd", place: path, process: server.process, driver: load)
    }

    // MARK: Key-value servers

    func redis(_ address: String, _ port: UInt16) throws(CommandFailure) -> ServerProcess {
        let server = try program(
            "redis-server", package: "redis-server",
            ["--bind", address, "--port", "\(port)", "--save", "", "--appendonly", "no", "--protected-mode", "no", "--dir", folder.path])
        try server.waitUntilReady(saying: "Ready to accept connections")
        return server
    }

    /// SET and GET of 64 bytes over one connection; the server is paused.
    func keyValueTarget(
        _ server: ServerProcess, _ endpoint: Endpoint, _ plan: LoadPlan, _ settings: ServerSettings? = nil
    ) throws(CommandFailure) -> LoadTarget {
        let workload = Workload.keyValue(size: 64, keys: 10_000, getRatio: 0.5, seed: 1)
        let target = try LoadTarget(
            name: server.name, endpoint: endpoint, process: server.process, .tcp, over: settings, connections: 1, workload: workload, plan: plan)
        pause(server)
        return target
    }
}
