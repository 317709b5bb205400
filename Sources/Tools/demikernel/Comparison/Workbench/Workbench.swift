import Glibc

/// What comparisons are made with: two processors, a network between two sides, and the servers of the comparison that runs.
final class Workbench {
    /// Servers run on the first, the load on the second.
    let processors: (first: Int, second: Int)
    let samples = RoundSamples()
    let folder: TemporaryFolder
    private let baselines: String?
    private let foundNetwork: Result<VirtualNetwork, CommandFailure>
    private var servers: [ServerProcess] = []
    private var socketCount = 0

    /// - Parameter baselines: where the programs of Benchmarks/Baselines are; nil: where its Makefile builds them.
    init(baselines: String?) throws(CommandFailure) {
        guard let processors = ProcessorPinning.separatePair() else {
            throw CommandFailure("this process may use one processor only, and two sides that spin need one each")
        }
        self.processors = processors
        folder = try TemporaryFolder()
        self.baselines = Self.folderOfBaselines(baselines)
        // Before the load is bound: the network's threads are nobody's.
        do throws(CommandFailure) { foundNetwork = .success(try VirtualNetwork()) } catch { foundNetwork = .failure(error) }
        try ProcessorPinning.pin(to: processors.second)
    }

    func network() throws(CommandFailure) -> VirtualNetwork { try foundNetwork.get() }

    // MARK: Servers

    /// A server of this program, spinning on its processor.
    func server(_ name: String, _ arguments: [String]) throws(CommandFailure) -> ServerProcess {
        try keep(try ServerProcess(name: name, arguments: arguments + ["--idle", "spin", "--cpu", "\(processors.first)"]))
    }

    /// A program of Benchmarks/Baselines.
    func baseline(_ program: String, _ arguments: [String], isClient: Bool = false) throws(CommandFailure) -> ServerProcess {
        guard let baselines, access("\(baselines)/\(program)", X_OK) == 0 else {
            throw CommandFailure("the C baselines are not built: make -C Benchmarks/Baselines (and --baselines names another place for them)")
        }
        return try keep(
            try ServerProcess(
                name: program, program: "\(baselines)/\(program)", arguments: arguments, processor: isClient ? processors.second : processors.first,
                hasInput: isClient))
    }

    /// A program of the system.
    /// - Parameter hasInput: whether its input stays open; else it is at its end.
    func program(_ program: String, package: String, _ arguments: [String], hasInput: Bool = false) throws(CommandFailure) -> ServerProcess {
        guard Self.isInstalled(program) else { throw CommandFailure("\(program) is not installed: apt-get install \(package)") }
        return try keep(try ServerProcess(name: program, program: program, arguments: arguments, processor: processors.first, hasInput: hasInput))
    }

    private func keep(_ server: ServerProcess) throws(CommandFailure) -> ServerProcess {
        servers.append(server)
        return server
    }

    /// Stops a server until its turn: one that spins would take the processor from the next one that starts.
    func pause(_ server: ServerProcess) { kill(server.process, SIGSTOP) }

    /// Ends the servers of a comparison.
    func endServers() {
        for server in servers { server.stop() }
        servers.removeAll()
    }

    // MARK: Settings

    var catmem: ServerSettings {
        var settings = ServerSettings()
        settings.libOS = .catmem
        settings.idle = .spin
        return settings
    }

    /// A path for a socket that has not been used.
    func socketPath() -> String {
        socketCount += 1
        return folder.file("\(socketCount).sock")
    }

    /// A port of 127.0.0.1 that was free a moment ago, for programs that take none by themselves.
    func freePort() throws(CommandFailure) -> UInt16 {
        let socket = try KernelSocket.listening(.tcp, on: Endpoint(family: .ipv4, host: "127.0.0.1", port: 0))
        defer { close(socket) }
        return try KernelSocket.localPort(socket)
    }

    // MARK: Programs

    private static func isInstalled(_ program: String) -> Bool {
        let places = (getenv("PATH").map { String(cString: $0) } ?? "/usr/bin:/bin").split(separator: ":")
        return places.contains { access("\($0)/\(program)", X_OK) == 0 }
    }

    /// The Makefile builds into `.build/baselines` of the package, whose `.build` this program lies in as well.
    private static func folderOfBaselines(_ named: String?) -> String? {
        if let named { return named }
        var path = [UInt8](repeating: 0, count: Int(PATH_MAX))
        let count = path.withUnsafeMutableBytes { readlink("/proc/self/exe", $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count) }
        let build = String(decoding: path[..<max(0, count)], as: UTF8.self).split(separator: "/").dropLast(3).map { "/\($0)" }.joined()
        return ["\(build)/baselines", ".build/baselines"].first { access($0, X_OK) == 0 }
    }
}
