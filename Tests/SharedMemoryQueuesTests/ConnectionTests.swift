import Demikernel
import Glibc
import Testing

/// Finding, making and ending connections (DESIGN, "PDPIX, decided"; unix(7)).
@Suite struct ConnectionTests {
    let folder = Folder()

    // MARK: Paths

    @Test func onlyTheOwnerMayUseTheSocket() throws {
        let before = umask(0)
        defer { umask(before) }
        let world = try World()
        _ = try world.runtime.listener(folder.address())
        var status = stat()
        #expect(lstat(folder.file(), &status) == 0)
        #expect(status.st_mode & 0o777 == 0o600)
        #expect(status.st_mode & S_IFMT == S_IFSOCK)
    }

    @Test func theSocketIsGoneWithItsListener() throws {
        let world = try World()
        let listener = try world.runtime.listener(folder.address())
        #expect(folder.exists())
        try world.runtime.close(listener)
        #expect(!folder.exists())
        let again = try world.runtime.listener(folder.address())
        try world.runtime.close(again)
    }

    @Test func aPathThatIsTakenIsRefused() throws {
        let world = try World()
        let other = try World()
        _ = try world.runtime.listener(folder.address())
        let error = refusal { () throws(DemikernelError) in _ = try other.runtime.listener(folder.address()) }
        #expect(error?.errno == EADDRINUSE)
        #expect("\(error!)".contains("choose another path"))
    }

    @Test func aDeadProcesssSocketIsReplaced() throws {
        // What a killed server leaves: a socket's file that nobody listens at.
        let file = socket(AF_UNIX, Int32(SOCK_SEQPACKET.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: folder.file().utf8) }
        let result = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { bind(file, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) }
        }
        #expect(result == 0)
        close(file)
        #expect(folder.exists())
        let world = try World()
        _ = try world.runtime.connection(folder.address())
    }

    @Test func aFileThatIsNoSocketStays() throws {
        let file = open(folder.file(), O_CREAT | O_WRONLY, 0o600)
        close(file)
        let world = try World()
        let error = refusal { () throws(DemikernelError) in _ = try world.runtime.listener(folder.address()) }
        #expect(error?.errno == EADDRINUSE)
        #expect("\(error!)".contains("no socket"))
        #expect(folder.exists())
    }

    @Test func aListenerLeavesAnothersSocketAlone() throws {
        let world = try World()
        let listener = try world.runtime.listener(folder.address())
        // Somebody removed the file and another server listens at the path.
        unlink(folder.file())
        let other = try World()
        _ = try other.runtime.listener(folder.address())
        try world.runtime.close(listener)
        #expect(folder.exists())
    }

    @Test func wrongPathsSaySo() throws {
        let world = try World()
        func bindError(_ path: String) -> DemikernelError? {
            refusal { () throws(DemikernelError) in _ = try world.runtime.listener(SocketAddress(path: path)) }
        }
        #expect(bindError("\(folder.path)/none/x.sock")?.errno == ENOENT)
        #expect(bindError("/proc/x.sock")?.errno != nil)
        #expect(refusal { () throws(DemikernelError) in _ = try SocketAddress(path: String(repeating: "x", count: 108)) }?.errno == ENAMETOOLONG)
        #expect(refusal { () throws(DemikernelError) in _ = try SocketAddress(path: "") }?.errno == EINVAL)
        #expect(refusal { () throws(DemikernelError) in _ = try SocketAddress(path: "/a\0b") }?.errno == EINVAL)
        // The longest path that there is.
        #expect(bindError(folder.file(String(repeating: "y", count: 106 - folder.path.utf8.count))) == nil)
        func connectError(_ path: String) -> DemikernelError? {
            refusal { () throws(DemikernelError) in _ = try world.runtime.connected(SocketAddress(path: path)) }
        }
        #expect(connectError(folder.file("none"))?.errno == ENOENT)
        let plain = folder.file("plain")
        close(open(plain, O_CREAT | O_WRONLY, 0o600))
        #expect(connectError(plain)?.errno == ECONNREFUSED)
    }

    @Test func socketsOfOtherFamiliesAndTypesAreRefused() throws {
        let world = try World()
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.socket(.ipv4, .datagram) }?.errno == ESOCKTNOSUPPORT)
        let ipv4 = try world.runtime.socket(.ipv4, .stream)
        #expect(refusal { () throws(DemikernelError) in try world.runtime.bind(ipv4, to: folder.address()) }?.errno == EAFNOSUPPORT)
        #expect(refusal { () throws(DemikernelError) in try world.runtime.bind(ipv4, to: .loopback(.ipv6, port: 7)) }?.errno == EAFNOSUPPORT)
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.socket(.path, .datagram) }?.errno == ESOCKTNOSUPPORT)
        let queue = try world.runtime.socket(.path, .stream)
        #expect(refusal { () throws(DemikernelError) in try world.runtime.bind(queue, to: .loopback(port: 7)) }?.errno == EAFNOSUPPORT)
        let kernel = try Runtime(libraryOSes: [.catnap])
        #expect(refusal { () throws(DemikernelError) in _ = try kernel.socket(.path, .stream) }?.errno == EAFNOSUPPORT)
    }

    @Test func addressesAreTold() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        #expect(try world.runtime.localAddress(connection.listener) == folder.address())
        #expect(try world.runtime.localAddress(connection.server) == folder.address())
        #expect(try world.runtime.peerAddress(connection.client) == folder.address())
        #expect(try world.runtime.peerAddress(connection.server) == .unnamedPath)
        #expect(try world.runtime.localAddress(connection.client) == .unnamedPath)
    }

    // MARK: Calls in the wrong state

    @Test func callsInTheWrongStateAreRefused() throws {
        let world = try World()
        let queue = try world.runtime.socket(.path, .stream)
        func errorNumber(_ body: (QueueDescriptor) throws(DemikernelError) -> Void) -> Int32 {
            refusal { () throws(DemikernelError) in try body(queue) }?.errno ?? 0
        }
        #expect(errorNumber { (queue) throws(DemikernelError) in _ = try world.runtime.push(queue, bytes: [1]) } == ENOTCONN)
        #expect(errorNumber { (queue) throws(DemikernelError) in _ = try world.runtime.pop(queue) } == ENOTCONN)
        #expect(errorNumber { (queue) throws(DemikernelError) in _ = try world.runtime.accept(queue) } == EINVAL)
        #expect(errorNumber { (queue) throws(DemikernelError) in try world.runtime.listen(queue, backlog: 1) } == EINVAL)
        #expect(errorNumber { (queue) throws(DemikernelError) in try world.runtime.shutdown(queue, .send) } == ENOTCONN)
        #expect(errorNumber { (queue) throws(DemikernelError) in _ = try world.runtime.peerAddress(queue) } == ENOTCONN)
        try world.runtime.bind(queue, to: folder.address())
        #expect(errorNumber { (queue) throws(DemikernelError) in try world.runtime.bind(queue, to: folder.address("y")) } == EINVAL)
        #expect(errorNumber { (queue) throws(DemikernelError) in _ = try world.runtime.connect(queue, to: folder.address()) } == EINVAL)
        #expect(errorNumber { (queue) throws(DemikernelError) in _ = try world.runtime.accept(queue) } == EINVAL)
        try world.runtime.listen(queue, backlog: 4)
        let client = try world.runtime.connected(folder.address())
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.connect(client, to: folder.address()) }?.errno == EISCONN)
        let array = try ScatterGatherArray(world.runtime.allocate(1))
        var error: DemikernelError?
        do throws(DemikernelError) { _ = try world.runtime.pushTo(client, array, folder.address()) } catch let caught { error = caught }
        #expect(error?.errno == EOPNOTSUPP)
    }

    // MARK: Order of coming

    @Test func aConnectCompletesBeforeItsAccept() throws {
        let world = try World()
        let listener = try world.runtime.listener(folder.address())
        let client = try world.runtime.connected(folder.address())
        _ = try world.runtime.result(world.runtime.push(client, bytes: [1, 2]))
        let server = try world.runtime.accepted(world.runtime.accept(listener))
        #expect(try world.runtime.result(world.runtime.pop(server)) == .popped([1, 2]))
    }

    @Test func aClientBeyondTheBacklogWaits() throws {
        let world = try World()
        let listener = try world.runtime.listener(folder.address(), backlog: 1)
        var connects: [QueueToken] = []
        for _ in 0..<8 { connects.append(try world.runtime.connect(world.runtime.socket(.path, .stream), to: folder.address())) }
        for _ in 0..<8 { _ = try world.runtime.accepted(world.runtime.accept(listener)) }
        for connect in connects { #expect(try world.runtime.result(connect) == .connected) }
    }

    @Test func aClientThatConnectsBeforeListenWaits() throws {
        let world = try World()
        let queue = try world.runtime.socket(.path, .stream)
        try world.runtime.bind(queue, to: folder.address())
        let connect = try world.runtime.connect(world.runtime.socket(.path, .stream), to: folder.address())
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.wait(connect, timeout: .milliseconds(1)) }?.errno == ETIMEDOUT)
        try world.runtime.listen(queue, backlog: 4)
        #expect(try world.runtime.result(connect) == .connected)
    }

    @Test func aConnectThatNobodyAnswersTimesOut() throws {
        let world = try World { $0.limits.handshakeTimeout = 2_000_000 }
        // Bound and not listening: nobody answers.
        let queue = try world.runtime.socket(.path, .stream)
        try world.runtime.bind(queue, to: folder.address())
        let client = try world.runtime.socket(.path, .stream)
        #expect(try world.runtime.result(world.runtime.connect(client, to: folder.address())) == .failed(ETIMEDOUT))
        // The queue can connect again.
        try world.runtime.listen(queue, backlog: 1)
        let again = try world.runtime.connect(client, to: folder.address())
        _ = try world.runtime.accepted(world.runtime.accept(queue))
        #expect(try world.runtime.result(again) == .connected)
    }

    @Test func aConnectCanBeCancelled() throws {
        let world = try World()
        let queue = try world.runtime.socket(.path, .stream)
        try world.runtime.bind(queue, to: folder.address())
        let client = try world.runtime.socket(.path, .stream)
        let connect = try world.runtime.connect(client, to: folder.address())
        try world.runtime.cancel(connect)
        #expect(try world.runtime.result(connect) == .failed(ECANCELED))
        let accept = refusal { () throws(DemikernelError) in try world.runtime.listen(queue, backlog: 1) }
        #expect(accept == nil)
    }

    // MARK: Ends

    @Test func closeIsTheEndBehindAllUnits() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        for index in 0..<40 { _ = try world.runtime.push(connection.client, bytes: pattern(4_096, seed: index)) }
        try world.runtime.close(connection.client)
        for index in 0..<40 { #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped(pattern(4_096, seed: index))) }
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .endOfStream)
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .endOfStream)
        let error = refusal { () throws(DemikernelError) in
            // The end of the socket may be noticed later than the end in the ring.
            try world.runtime.turns { refusal { () throws(DemikernelError) in _ = try world.runtime.push(connection.server, bytes: [1]) } != nil }
            _ = try world.runtime.push(connection.server, bytes: [1])
        }
        #expect(error?.errno == EPIPE)
        try world.runtime.close(connection.server)
        try world.runtime.close(connection.listener)
        #expect(world.statistics.peersLost == 0)
    }

    @Test func aPendingPopEndsWithTheStream() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        let pop = try world.runtime.pop(connection.server)
        try world.runtime.close(connection.client)
        #expect(try world.runtime.result(pop) == .endOfStream)
    }

    @Test func halfCloseLeavesTheOtherDirection() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        _ = try world.runtime.push(connection.client, bytes: [1])
        try world.runtime.shutdown(connection.client, .send)
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.push(connection.client, bytes: [1]) }?.errno == EPIPE)
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped([1]))
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .endOfStream)
        _ = try world.runtime.result(world.runtime.push(connection.server, bytes: [2]))
        #expect(try world.runtime.result(world.runtime.pop(connection.client)) == .popped([2]))
    }

    @Test func aReceiverThatIsShutDownRefusesItsPeersPushes() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        let pop = try world.runtime.pop(connection.server)
        var pending: [QueueToken] = []
        for _ in 0..<40 { pending.append(try world.runtime.push(connection.client, bytes: pattern(4_096))) }
        _ = try world.runtime.result(pop)
        try world.runtime.shutdown(connection.server, .receive)
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .endOfStream)
        #expect(try world.runtime.result(pending[39]) == .failed(EPIPE))
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.push(connection.client, bytes: [1]) }?.errno == EPIPE)
    }

    @Test func closeCancelsWhatIsPending() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        let pop = try world.runtime.pop(connection.client)
        let accept = try world.runtime.accept(connection.listener)
        try world.runtime.close(connection.client)
        try world.runtime.close(connection.listener)
        #expect(try world.runtime.result(pop) == .failed(ECANCELED))
        #expect(try world.runtime.result(accept) == .failed(ECANCELED))
    }

    @Test func closeTokenCompletesWhenThePeerKnows() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        var pushes: [QueueToken] = []
        for index in 0..<40 { pushes.append(try world.runtime.push(connection.client, bytes: pattern(4_096, seed: index))) }
        let closed = try world.runtime.closeToken(connection.client)
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.wait(closed, timeout: .milliseconds(1)) }?.errno == ETIMEDOUT)
        for index in 0..<40 { #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped(pattern(4_096, seed: index))) }
        #expect(try world.runtime.result(closed) == .closed)
        for push in pushes { #expect(try world.runtime.result(push) == .pushed(4_096)) }
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .endOfStream)
    }

    @Test func aPeerThatTakesNothingDoesNotHoldAClose() throws {
        let world = try World { $0.limits.closeLinger = 2_000_000 }
        let connection = try world.runtime.connection(folder.address())
        var pushes: [QueueToken] = []
        for index in 0..<40 { pushes.append(try world.runtime.push(connection.client, bytes: pattern(4_096, seed: index))) }
        #expect(try world.runtime.result(world.runtime.closeToken(connection.client)) == .closed)
        #expect(try world.runtime.result(pushes[39]) == .failed(ETIMEDOUT))
    }

    @Test func lingerZeroResets() throws {
        let world = try World()
        let connection = try world.runtime.connection(folder.address())
        try world.runtime.setOption(.linger(seconds: 0), on: connection.client)
        let pop = try world.runtime.pop(connection.server)
        try world.runtime.close(connection.client)
        #expect(try world.runtime.result(pop) == .failed(ECONNRESET))
        #expect(world.statistics.peersLost == 1)
    }

    @Test func nothingIsLeftOver() throws {
        func openFiles() -> Int {
            var count = 0
            for number in 0..<1_024 where fcntl(Int32(number), F_GETFD) >= 0 { count += 1 }
            return count
        }
        let world = try World()
        let before = world.runtime.statistics
        let files = openFiles()
        for round in 0..<50 {
            let connection = try world.runtime.connection(folder.address())
            let push = try world.runtime.push(connection.client, bytes: pattern(100))
            #expect(try world.runtime.result(world.runtime.pop(connection.server)).isPopped)
            _ = try world.runtime.result(push)
            if round % 2 == 0 { try world.runtime.setOption(.linger(seconds: 0), on: connection.server) }
            for queue in [connection.server, connection.client, connection.listener] { try world.runtime.close(queue) }
        }
        let after = world.runtime.statistics
        #expect(after.openQueues == before.openQueues)
        #expect(after.liveOperations == before.liveOperations)
        #expect(after.memory.liveBlocks == before.memory.liveBlocks)
        #expect(after.timers == before.timers)
        #expect(openFiles() < files + 90, "other tests of the process may have opened some; 50 connections have more than 100")
    }
}
