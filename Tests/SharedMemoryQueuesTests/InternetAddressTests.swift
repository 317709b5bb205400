import Demikernel
import Glibc
import SharedMemoryQueues
import Testing

/// Sockets with IP addresses, which stand in a directory: what a program that knows TCP may expect (tcp(7), ip(7)).
@Suite struct InternetAddressTests {
    let folder = Folder()

    private func address(_ text: String) throws -> SocketAddress { try SocketAddress(parsing: text) }

    @Test func aSocketStandsUnderItsAddressForItsOwnerAlone() throws {
        let world = try World(directory: folder.file("sockets"))
        let connection = try world.runtime.connection(address("127.0.0.1:7"))
        var status = stat()
        #expect(lstat(folder.file("sockets"), &status) == 0 && status.st_mode & 0o777 == 0o700)
        #expect(lstat(folder.file("sockets/127.0.0.1:7"), &status) == 0 && status.st_mode & 0o777 == 0o600)
        let push = try world.runtime.push(connection.client, bytes: [1, 2])
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped([1, 2]))
        #expect(try world.runtime.result(push) == .pushed(2))
        try world.runtime.close(connection.listener)
        #expect(!folder.exists("sockets/127.0.0.1:7"))
        rmdir(folder.file("sockets"))
    }

    @Test func addressesAreToldAsTCPTellsThem() throws {
        let world = try World(directory: folder.path)
        let fresh = try world.runtime.socket(.ipv6, .stream)
        #expect(try world.runtime.localAddress(fresh) == .any(.ipv6, port: 0))
        let listener = try world.runtime.listener(address("0.0.0.0:80"))
        #expect(try world.runtime.localAddress(listener) == address("0.0.0.0:80"))
        let client = try world.runtime.connected(address("10.1.2.3:80"))
        let accepted = try world.runtime.wait(world.runtime.accept(listener))
        guard case .accepted(let server, let peer) = accepted.result else { throw DemikernelError(EPROTO, .accept) }
        #expect(peer == .loopback(port: 0))
        #expect(try world.runtime.peerAddress(client) == address("10.1.2.3:80"))
        #expect(try world.runtime.localAddress(client) == .loopback(port: 0))
        #expect(try world.runtime.localAddress(server) == .loopback(port: 80))
        #expect(try world.runtime.peerAddress(server) == .loopback(port: 0))
    }

    /// A connect comes to the socket of that very address, else to the one that listens at all of them.
    @Test func theSocketOfTheVeryAddressComesFirst() throws {
        let world = try World(directory: folder.path)
        let all = try world.runtime.listener(address("0.0.0.0:80"))
        let one = try world.runtime.listener(address("10.0.0.1:80"))
        let bothFamilies = try world.runtime.listener(address("[::]:81"))
        _ = try world.runtime.listener(address("[fd00::1]:82"))
        func comes(_ target: String, to listener: QueueDescriptor) throws -> Bool {
            let accept = try world.runtime.accept(listener)
            let client = try world.runtime.connected(address(target))
            _ = try world.runtime.accepted(accept)
            try world.runtime.close(client)
            return true
        }
        #expect(try comes("10.0.0.1:80", to: one))
        #expect(try comes("10.0.0.2:80", to: all))
        #expect(try comes("0.0.0.0:80", to: all))
        #expect(try comes("[::ffff:10.0.0.1]:80", to: one))
        #expect(try comes("[::1]:81", to: bothFamilies))
        #expect(try comes("127.0.0.1:81", to: bothFamilies))
        for nobody in ["[::1]:80", "127.0.0.1:82", "10.0.0.1:8", "10.0.0.1:0"] {
            #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.connected(SocketAddress(parsing: nobody)) }?.errno == ECONNREFUSED, "\(nobody)")
        }
    }

    @Test func nobodyListensWhereThereIsNoDirectory() throws {
        let world = try World(directory: folder.file("none"))
        let error = refusal { () throws(DemikernelError) in _ = try world.runtime.connected(.loopback(port: 7)) }
        #expect(error?.errno == ECONNREFUSED)
        #expect(!folder.exists("none"))
    }

    @Test func portZeroIsOneThatIsFree() throws {
        let world = try World(directory: folder.path)
        var ports: Set<UInt16> = []
        for _ in 0..<20 { ports.insert(try world.runtime.localAddress(world.runtime.listener(.loopback(port: 0))).port) }
        #expect(ports.count == 20)
        #expect(ports.allSatisfy { (49_152...65_535).contains($0) })
        let port = ports.first!
        let error = refusal { () throws(DemikernelError) in _ = try world.runtime.listener(.loopback(port: port)) }
        #expect(error?.errno == EADDRINUSE)
        _ = try world.runtime.connected(.loopback(port: port))
    }

    /// What would look like the end of the stream to whoever reads streams.
    @Test func anEmptyPushIsRefusedAsOnAStream() throws {
        let world = try World(directory: folder.path)
        let connection = try world.runtime.connection(address("127.0.0.1:7"))
        for queue in [connection.client, connection.server] {
            #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.push(queue, bytes: []) }?.errno == EINVAL)
        }
        _ = try world.runtime.push(connection.client, bytes: [9])
        #expect(try world.runtime.result(world.runtime.pop(connection.server)) == .popped([9]))
    }

    @Test func optionsOfTCPThatHaveAMeaningHereAreKept() throws {
        let world = try World(directory: folder.path)
        let listener = try world.runtime.socket(.ipv4, .stream)
        let options: [(SocketOption.Name, SocketOption)] = [
            (.reuseAddress, .reuseAddress(true)), (.keepAlive, .keepAlive(idle: 60, interval: 5)), (.noDelay, .noDelay(true)), (.linger, .linger(seconds: 0)),
        ]
        for (name, option) in options {
            try world.runtime.setOption(option, on: listener)
            #expect(try world.runtime.option(name, of: listener) == option)
        }
        try world.runtime.setOption(.noKeepAlive, on: listener)
        #expect(try world.runtime.option(.keepAlive, of: listener) == .noKeepAlive)
        #expect(refusal { () throws(DemikernelError) in try world.runtime.setOption(.hopLimit(3), on: listener) }?.errno == EOPNOTSUPP)
    }

    /// Who can put a socket into the directory can be whoever the client looks for.
    @Test(arguments: [0o722, 0o777, 0o1777]) func aDirectoryOfOthersIsRefused(mode: UInt32) throws {
        let server = try World(directory: folder.path)
        _ = try server.runtime.listener(.loopback(port: 7))
        chmod(folder.path, mode)
        for call in [
            refusal { () throws(DemikernelError) in _ = try server.runtime.listener(.loopback(port: 8)) },
            refusal { () throws(DemikernelError) in _ = try server.runtime.connected(.loopback(port: 7)) },
        ] {
            #expect(call?.errno == EACCES)
            #expect("\(call!)".contains("others may write to it"))
        }
        chmod(folder.path, 0o700)
        _ = try server.runtime.connected(.loopback(port: 7))
    }

    @Test func aLinkIsNoDirectory() throws {
        let world = try World(directory: folder.file("link"))
        #expect(symlink(folder.path, folder.file("link")) == 0)
        #expect(refusal { () throws(DemikernelError) in _ = try world.runtime.listener(.loopback(port: 7)) }?.errno == EACCES)
    }

    @Test func directoriesThatCannotBeOnesAreRefused() throws {
        #expect(refusal { () throws(DemikernelError) in _ = try World(directory: "") }?.errno == EINVAL)
        let longest = "/" + String(repeating: "x", count: SharedMemoryQueues.maximumDirectoryByteCount - 1)
        #expect(refusal { () throws(DemikernelError) in _ = try World(directory: longest + "x") }?.errno == ENAMETOOLONG)
        // The longest address still fits behind the longest directory: it is the directory that is missing, not room.
        let path = folder.path + "/" + String(repeating: "y", count: SharedMemoryQueues.maximumDirectoryByteCount - folder.path.utf8.count - 1)
        let world = try World(directory: path)
        _ = try world.runtime.connection(address("[1111:2222:3333:4444:5555:6666:7777:8888]:65535"))
        unlink("\(path)/[1111:2222:3333:4444:5555:6666:7777:8888]:65535")
        rmdir(path)
    }
}
