/// The comparisons of the table, in its order.
extension Comparison {
    static let all: [Comparison] = [ring, tcpOnXDP, udpOnXDP, packetsOnXDP, tcpOnMemif, packetsOnDPDK, keyValueOnMemif, keyValueOnXDP, bulkOnXDP]

    // MARK: Shared memory

    private static let ring = Comparison(
        name: "ring", title: "Echo of 64 bytes through shared memory",
        rows: [Row(work: "Catmem echo, two processes", peer: "bare ring", goal: ComparisonGoal(.p50, 2), peerIndex: 1)]
    ) { (workbench) throws(CommandFailure) in
        let path = workbench.socketPath()
        let server = try workbench.server("catmem", ["echo", "--libos", "catmem", "--path", path])
        let ours = try RuntimePingPong(.tcp, to: try server.waitUntilReady(), workbench.catmem, workbench.samples)
        workbench.pause(server)
        let bare = try BareRingPingPong(processor: workbench.processors.first, workbench.samples)
        return [
            LoadTarget(name: "catmem", place: path, process: server.process, driver: ours),
            LoadTarget(name: "bare ring", place: "memory", process: bare.process, driver: bare),
        ]
    }

    // MARK: AF_XDP

    private static let tcpOnXDP = Comparison(
        name: "tcp-xdp", title: "TCP echo of 64 bytes, kernel client that spins, over a cable",
        rows: [
            Row(
                work: "TCP echo 64 B, XDP, kernel client", peer: "epoll, busy-polling", goal: ComparisonGoal(.p50, 0.70), peerIndex: 1, limitIndex: 3),
            Row(work: "the same, p99", peer: "epoll, busy-polling", goal: ComparisonGoal(.p99, 0.75), peerIndex: 1, limitIndex: 3),
            Row(work: "the same", peer: "epoll, blocking", goal: ComparisonGoal(.p50, 0.33), peerIndex: 2, limitIndex: 3),
        ]
    ) { (workbench) throws(CommandFailure) in
        let network = try workbench.network()
        let (server, endpoint) = try workbench.serverOnXDP("XDP", ["echo"], port: 7)
        var targets = [
            LoadTarget(
                name: "XDP", place: "\(endpoint)", process: server.process, driver: try KernelPingPong(.tcp, to: endpoint, workbench.samples))
        ]
        workbench.pause(server)
        for (name, program) in [("epoll, busy-polling", "echo-epoll-spin"), ("epoll, blocking", "echo-epoll-blocking")] {
            let cable = try workbench.makeKernelCable()
            let peer = try network.onServerSide { () throws(CommandFailure) in try workbench.baseline(program, [cable.server.address, "7"]) }
            let endpoint = try peer.waitUntilReady()
            targets.append(
                LoadTarget(name: name, place: "\(endpoint)", process: peer.process, driver: try KernelPingPong(.tcp, to: endpoint, workbench.samples))
            )
            workbench.pause(peer)
        }
        // The limit: a loop on AF_XDP that sends datagrams of the same client back.
        let cable = try network.makeCable()
        try network.address(cable.client)
        try network.addNeighbor(cable.server, to: cable.client)
        let raw = try network.onServerSide { () throws(CommandFailure) in try workbench.baseline("udp-echo-xdp", [cable.server.interface, "7"]) }
        try raw.waitUntilReady(saying: "ready")
        let rawEndpoint = Endpoint(family: .ipv4, host: cable.server.address, port: 7)
        targets.append(
            LoadTarget(
                name: "raw AF_XDP loop, UDP", place: "\(rawEndpoint)", process: raw.process,
                driver: try KernelPingPong(.udp, to: rawEndpoint, workbench.samples)))
        workbench.pause(raw)
        return targets
    }

    private static let udpOnXDP = Comparison(
        name: "udp-xdp", title: "UDP echo of 64 bytes, XDP at both ends of a cable",
        rows: [Row(work: "UDP echo 64 B, XDP at both ends", peer: "raw AF_XDP loops", goal: ComparisonGoal(.p50, 1.06), peerIndex: 1)]
    ) { (workbench) throws(CommandFailure) in
        let cable = try workbench.network().makeCable()
        let (server, endpoint) = try workbench.serverOnXDP("XDP", ["echo", "--protocol", "udp"], port: 7, on: cable)
        let settings = try ServerSettings.catnip("xdp:\(cable.client.interface)", cable.client.addressWithPrefix)
        let ours = try RuntimePingPong(.udp, to: endpoint, settings, workbench.samples)
        workbench.pause(server)
        return [
            LoadTarget(name: "XDP", place: "\(endpoint)", process: server.process, driver: ours), try workbench.rawLoopOnXDP(window: 1),
        ]
    }

    private static let packetWindow = 64

    private static let packetsOnXDP = Comparison(
        name: "packets-xdp", title: "UDP echoes of 64 bytes a second, raw AF_XDP client, \(packetWindow) at a time",
        rows: [Row(work: "UDP echo packets/s, XDP, raw client", peer: "raw AF_XDP loop", goal: ComparisonGoal(.packetsPerSecond, 0.9), peerIndex: 1)]
    ) { (workbench) throws(CommandFailure) in
        let cable = try workbench.network().makeCable()
        let neighbor = "\(cable.client.address)=\(cable.client.macAddress)"
        let (server, endpoint) = try workbench.serverOnXDP("XDP", ["echo", "--protocol", "udp", "--neighbor", neighbor], port: 7, on: cable)
        workbench.pause(server)
        let client = try workbench.rawClientOnXDP(cable, window: packetWindow)
        return [
            LoadTarget(name: "XDP", place: "\(endpoint)", process: server.process, driver: client), try workbench.rawLoopOnXDP(window: packetWindow),
        ]
    }

    private static let fixedRate: UInt64 = 20_000

    private static let keyValueOnXDP = Comparison(
        name: "kv-xdp", title: "GET and SET of 64 bytes, \(NumberText.grouped(Double(fixedRate))) a second, kernel client",
        rows: [Row(work: "kv at 20,000/s, XDP, kernel client", peer: "redis-server, cable", goal: ComparisonGoal(.p50, 0.75), peerIndex: 1)]
    ) { (workbench) throws(CommandFailure) in
        let (server, endpoint) = try workbench.serverOnXDP("kv on XDP", ["kv"], port: 6379)
        let ours = try workbench.keyValueTarget(server, endpoint, .openLoop(rate: fixedRate))
        let cable = try workbench.makeKernelCable()
        let redis = try workbench.network().onServerSide { () throws(CommandFailure) in try workbench.redis(cable.server.address, 6379) }
        return [
            ours, try workbench.keyValueTarget(redis, Endpoint(family: .ipv4, host: cable.server.address, port: 6379), .openLoop(rate: fixedRate)),
        ]
    }

    private static let bulkOnXDP = Comparison(
        name: "bulk-xdp", title: "Bulk TCP to a kernel",
        rows: [Row(work: "bulk TCP to the kernel, XDP", peer: "kernel to kernel", goal: ComparisonGoal(.bitsPerSecond, 1), peerIndex: 1)]
    ) { (workbench) throws(CommandFailure) in
        let network = try workbench.network()
        func sink() throws(CommandFailure) -> (VirtualNetwork.Cable, ServerProcess, Endpoint) {
            let cable = try network.makeCable()
            try network.dropOffloads(cable)
            let sink = try network.onServerSide { () throws(CommandFailure) in
                try network.address(cable.server)
                return try workbench.baseline("tcp-sink", [cable.server.address, "9"])
            }
            return (cable, sink, try sink.waitUntilReady())
        }
        let (cable, server, endpoint) = try sink()
        let settings = try ServerSettings.catnip("xdp:\(cable.client.interface)", cable.client.addressWithPrefix)
        let ours = try RuntimeBulkSender(to: endpoint, settings)
        let (peerCable, peer, peerEndpoint) = try sink()
        try network.address(peerCable.client)
        return [
            LoadTarget(name: "XDP", place: "\(endpoint)", process: server.process, driver: ours),
            LoadTarget(name: "kernel", place: "\(peerEndpoint)", process: peer.process, driver: try KernelBulkSender(to: peerEndpoint)),
        ]
    }

    // MARK: memif and DPDK

    private static let tcpOnMemif = Comparison(
        name: "tcp-memif", title: "TCP echo of 64 bytes between two processes",
        rows: [
            Row(
                work: "TCP echo 64 B, memif, two processes", peer: "kernel loopback, busy-polling", goal: ComparisonGoal(.p50, near: 0.10, far: 0.16),
                peerIndex: 1, limitIndex: 2)
        ]
    ) { (workbench) throws(CommandFailure) in
        let (server, endpoint, settings) = try workbench.serverOnMemif("memif", ["echo"], port: 7)
        let ours = try RuntimePingPong(.tcp, to: endpoint, settings, workbench.samples)
        workbench.pause(server)
        let peer = try workbench.baseline("echo-epoll-spin", ["127.0.0.1", "0"])
        let peerEndpoint = try peer.waitUntilReady()
        let loopback = try KernelPingPong(.tcp, to: peerEndpoint, workbench.samples)
        workbench.pause(peer)
        var targets = [
            LoadTarget(name: "memif", place: "\(endpoint)", process: server.process, driver: ours),
            LoadTarget(name: "kernel loopback", place: "\(peerEndpoint)", process: peer.process, driver: loopback),
        ]
        // The limit is there where DPDK is.
        if let raw = try? workbench.testpmd(window: 1) { targets.append(raw) }
        return targets
    }

    private static let keyValueOnMemif = Comparison(
        name: "kv-memif", title: "GET and SET of 64 bytes, one at a time, our client on both",
        rows: [
            Row(
                work: "kv requests/s, memif, one at a time", peer: "redis-server, loopback", goal: ComparisonGoal(.requestsPerSecond, 5), peerIndex: 1
            )
        ]
    ) { (workbench) throws(CommandFailure) in
        let (server, endpoint, settings) = try workbench.serverOnMemif("kv on memif", ["kv"], port: 6379)
        let ours = try workbench.keyValueTarget(server, endpoint, .closedLoop(pipeline: 1), settings)
        let port = try workbench.freePort()
        let redis = try workbench.redis("127.0.0.1", port)
        return [ours, try workbench.keyValueTarget(redis, Endpoint(family: .ipv4, host: "127.0.0.1", port: port), .closedLoop(pipeline: 1))]
    }

    private static let frameWindow = 256

    private static let packetsOnDPDK = Comparison(
        name: "packets-dpdk", title: "Frames of 64 bytes a second over DPDK's memif, the same client",
        rows: [Row(work: "DPDK memif packets/s, DPDKDevice", peer: "testpmd", goal: ComparisonGoal(.packetsPerSecond, 0.8), peerIndex: 1)]
    ) { (workbench) throws(CommandFailure) in
        let path = workbench.socketPath()
        let server = try workbench.server("DPDKDevice", ["forward", "--device", "dpdk:net_memif0,role=server,socket=\(path),socket-abstract=no"])
        try server.waitUntilReady(saying: "forwarding")
        let ours = try FrameLoad(try workbench.memif(path), window: frameWindow, workbench.samples)
        try ours.waitForPeer()
        workbench.pause(server)
        return [LoadTarget(name: "DPDKDevice", place: path, process: server.process, driver: ours), try workbench.testpmd(window: frameWindow)]
    }
}
