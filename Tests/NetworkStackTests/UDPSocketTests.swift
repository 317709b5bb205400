import DatapathMemory
import EthernetDevice
import Glibc
import NetworkStack
import Testing
import WireFormats

/// Which socket gets what.
@Suite struct UDPSocketTests {
    let peer = LowerPeer()

    // MARK: Binding

    @Test func aPortIsBoundOnceUnlessAllShareIt() throws {
        let host = try LowerHost { $0.addresses.append(IPv4Prefix(address: .ipv4(172, 16, 0, 5), length: 16)) }
        func bind(_ address: IPAddress, _ port: UInt16, reusePort: Bool = false) -> Int32 {
            let socket = host.stack.makeDatagramSocket(owner: 1)
            return host.stack.bindDatagram(socket, to: Endpoint(address: address, port: port), reusePort: reusePort)
        }
        #expect(bind(.unspecifiedIPv4, 1) == 0)
        #expect(bind(.unspecifiedIPv4, 1) == EADDRINUSE)
        #expect(bind(LowerHost.address, 1) == EADDRINUSE)
        #expect(bind(.unspecifiedIPv4, 1, reusePort: true) == EADDRINUSE)
        #expect(bind(LowerHost.address, 2) == 0)
        #expect(bind(.ipv4(172, 16, 0, 5), 2) == 0)
        #expect(bind(LowerHost.address, 2) == EADDRINUSE)
        #expect(bind(.unspecifiedIPv4, 2) == EADDRINUSE)
        #expect(bind(.unspecifiedIPv4, 3, reusePort: true) == 0)
        #expect(bind(.unspecifiedIPv4, 3, reusePort: true) == 0)
        #expect(bind(.unspecifiedIPv4, 3) == EADDRINUSE)
        #expect(bind(peer.address, 4) == EADDRNOTAVAIL)
        #expect(bind(LowerHost.broadcast, 4) == EADDRNOTAVAIL)
        #expect(bind(.ipv4(224, 0, 0, 1), 4) == EADDRNOTAVAIL)
        host.end()
    }

    @Test func aBoundSocketIsNotBoundAgain() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        #expect(host.stack.bindDatagram(socket, to: Endpoint(address: .unspecifiedIPv4, port: 5_001), reusePort: false) == EINVAL)
        #expect(host.stack.datagramLocal(socket) == Endpoint(address: .unspecifiedIPv4, port: 5_000))
    }

    @Test func aPortIsFreeAgainWhenItsSocketIsClosed() throws {
        let host = try LowerHost()
        for _ in 0..<3 { host.stack.closeDatagram(host.boundSocket(5_000)) }
        #expect(host.stack.statistics.datagramSockets == 0)
        // Closed from the middle, the front and the end of a chain of three.
        for order in [[1, 0, 2], [2, 1, 0], [0, 1, 2]] {
            let sockets = (0..<3).map { _ in host.boundSocket(5_000, reusePort: true) }
            for index in order { host.stack.closeDatagram(sockets[index]) }
            host.stack.closeDatagram(host.boundSocket(5_000))
        }
        host.end()
    }

    @Test func ephemeralPortsAreOfTheirRangeDifferAndReplay() throws {
        func ports() throws -> [UInt16] {
            let host = try LowerHost()
            let sockets = (0..<2_000).map { _ in host.stack.makeDatagramSocket(owner: 1) }
            for socket in sockets {
                #expect(host.stack.bindDatagram(socket, to: Endpoint(address: .unspecifiedIPv4, port: 0), reusePort: false) == 0)
            }
            return sockets.map { host.stack.datagramLocal($0).port }
        }
        let first = try ports()
        #expect(Set(first).count == 2_000)
        #expect(first.allSatisfy { $0 >= 49_152 })
        #expect(first != first.sorted())
        #expect(try ports() == first)
    }

    @Test func ephemeralPortsRunOut() throws {
        let host = try LowerHost { $0.limits.maximumDatagramSockets = 20_000 }
        for _ in 0..<16_384 {
            let socket = host.stack.makeDatagramSocket(owner: 1)
            #expect(host.stack.bindDatagram(socket, to: Endpoint(address: .unspecifiedIPv4, port: 0), reusePort: false) == 0)
        }
        let socket = host.stack.makeDatagramSocket(owner: 1)
        #expect(host.stack.bindDatagram(socket, to: Endpoint(address: .unspecifiedIPv4, port: 0), reusePort: false) == EADDRINUSE)
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(7)) == EADDRINUSE)
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == EADDRINUSE)
        host.end()
    }

    @Test func socketsRunOut() throws {
        let host = try LowerHost { $0.limits.maximumDatagramSockets = 2 }
        let first = host.stack.makeDatagramSocket(owner: 1)
        #expect(first != 0)
        #expect(host.stack.makeDatagramSocket(owner: 1) != 0)
        #expect(host.stack.makeDatagramSocket(owner: 1) == 0)
        host.stack.closeDatagram(first)
        #expect(host.stack.makeDatagramSocket(owner: 1) == first)
    }

    // MARK: Connecting

    @Test func connectingChoosesTheAddressAndAPort() throws {
        let host = try LowerHost { $0.addresses.append(IPv4Prefix(address: .ipv4(172, 16, 0, 5), length: 16)) }
        let socket = host.stack.makeDatagramSocket(owner: 1)
        #expect(host.stack.datagramPeer(socket) == nil)
        #expect(host.stack.connectDatagram(socket, to: Endpoint(address: .ipv4(172, 16, 1, 1), port: 7)) == 0)
        let local = host.stack.datagramLocal(socket)
        #expect(local.address == .ipv4(172, 16, 0, 5) && local.port >= 49_152)
        #expect(host.stack.datagramPeer(socket) == Endpoint(address: .ipv4(172, 16, 1, 1), port: 7))
        // Once more: the port stays, the address is that of the new way.
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(7)) == 0)
        #expect(host.stack.datagramLocal(socket) == Endpoint(address: LowerHost.address, port: local.port))
    }

    @Test func connectingToWhatIsNoHostFails() throws {
        let host = try LowerHost { $0.routes = [] }
        let socket = host.stack.makeDatagramSocket(owner: 1)
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(0)) == EINVAL)
        #expect(host.stack.connectDatagram(socket, to: Endpoint(address: LowerHost.broadcast, port: 7)) == EACCES)
        #expect(host.stack.connectDatagram(socket, to: Endpoint(address: .ipv4(192, 0, 2, 1), port: 7)) == ENETUNREACH)
        #expect(host.stack.datagramPeer(socket) == nil)
        #expect(host.stack.datagramLocal(socket).port == 0)
    }

    @Test func aConnectedSocketHearsItsPeerAlone() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.boundSocket(5_000)
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(7)) == 0)
        host.receive(peer.udp([1], from: 7, to: 5_000))
        host.receive(peer.udp([2], from: 8, to: 5_000))
        host.receive(LowerPeer(3).udp([3], from: 7, to: 5_000))
        host.receive(peer.udp([4], from: 7, to: 5_000, destination: LowerHost.broadcast))
        #expect(host.takeDatagram(socket)?.bytes == [1])
        #expect(host.takeDatagram(socket) == nil)
        #expect(host.drops(.noDatagramSocket) == 3)
    }

    @Test func aConnectedSocketCanSendToAnother() throws {
        let host = try LowerHost()
        host.introduce(peer)
        host.introduce(LowerPeer(3))
        let socket = host.boundSocket(5_000)
        #expect(host.stack.connectDatagram(socket, to: peer.endpoint(7)) == 0)
        for (destination, last) in [(nil, 2), (LowerPeer(3).endpoint(9), 3), (nil, 2), (peer.endpoint(8), 2)] as [(Endpoint?, UInt8)] {
            #expect(host.sendDatagram(socket, [1], to: destination) == 0)
            let frame = host.output()[0]
            expectWellFormed(frame)
            #expect(frame[5] == last && frame[33] == last)
            #expect(number(frame, at: 36) == destination?.port ?? 7)
        }
    }

    @Test func aSocketThatSendsGetsAPortAndIsAnsweredThere() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let socket = host.stack.makeDatagramSocket(owner: 1)
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(7)) == 0)
        let port = host.stack.datagramLocal(socket).port
        #expect(port >= 49_152)
        #expect(host.output().map { number($0, at: 34) } == [port])
        host.receive(peer.udp([2], from: 7, to: port))
        #expect(host.takeDatagram(socket)?.bytes == [2])
    }

    // MARK: Demultiplexing

    @Test func theMostParticularSocketGetsTheDatagram() throws {
        let host = try LowerHost { $0.addresses.append(IPv4Prefix(address: .ipv4(172, 16, 0, 5), length: 16)) }
        let any = host.boundSocket(5_000, reusePort: true)
        let bound = host.boundSocket(5_000, address: LowerHost.address, reusePort: true)
        let connected = host.boundSocket(5_000, address: LowerHost.address, reusePort: true)
        #expect(host.stack.connectDatagram(connected, to: peer.endpoint(7)) == 0)
        host.receive(peer.udp([1], from: 7, to: 5_000))
        host.receive(peer.udp([2], from: 8, to: 5_000))
        host.receive(peer.udp([3], from: 7, to: 5_000, destination: .ipv4(172, 16, 0, 5)))
        host.receive(peer.udp([4], from: 7, to: 5_000, destination: LowerHost.broadcast))
        #expect(host.takeDatagram(connected)?.bytes == [1])
        #expect(host.takeDatagram(bound)?.bytes == [2])
        #expect(host.takeDatagram(any)?.bytes == [3])
        #expect(host.takeDatagram(any)?.bytes == [4])
        host.end()
    }

    @Test func socketsThatShareAPortShareTheSenders() throws {
        let host = try LowerHost()
        let sockets = (0..<4).map { _ in host.boundSocket(5_000, reusePort: true) }
        for round in 0..<2 {
            for port: UInt16 in 1...400 { host.receive(peer.udp(bigEndian(port), from: port, to: 5_000)) }
            var ports: [Set<UInt16>] = []
            for socket in sockets {
                var taken = Set<UInt16>()
                while let datagram = host.takeDatagram(socket) { taken.insert(datagram.source.port) }
                ports.append(taken)
            }
            // Each sender at one socket, and at the same one each time; none left out.
            #expect(ports.reduce(0) { $0 + $1.count } == 400)
            #expect(ports.allSatisfy { $0.count > 50 }, "\(ports.map(\.count)) in round \(round)")
        }
        host.end()
    }

    @Test func onlyTheMostParticularOfTheSocketsThatShareAPortShareTheSenders() throws {
        let host = try LowerHost()
        let sockets = [IPAddress.unspecifiedIPv4, LowerHost.address, .unspecifiedIPv4, LowerHost.address, .unspecifiedIPv4]
            .map { host.boundSocket(5_000, address: $0, reusePort: true) }
        for port: UInt16 in 1...100 { host.receive(peer.udp([1], from: port, to: 5_000)) }
        var counts = sockets.map { _ in 0 }
        for (index, socket) in sockets.enumerated() {
            while host.takeDatagram(socket) != nil { counts[index] += 1 }
        }
        #expect(counts[0] == 0 && counts[2] == 0 && counts[4] == 0)
        #expect(counts[1] > 20 && counts[3] > 20 && counts[1] + counts[3] == 100)
        host.end()
    }

    // MARK: Events

    @Test func aSocketTellsOnceUntilItIsAsked() throws {
        let host = try LowerHost()
        host.introduce(peer)
        let first = host.boundSocket(5_000)
        let second = host.boundSocket(6_000)
        #expect(host.stack.takeDatagramEvent() == nil)
        for _ in 0..<3 { host.receive(peer.udp([1], to: 5_000)) }
        host.receive(peer.udp([1], to: 6_000))
        host.receive(peer.udp([1], to: 5_000))
        let events = [host.stack.takeDatagramEvent(), host.stack.takeDatagramEvent()].compactMap { $0 }
        #expect(events.map(\.socket) == [first, second])
        #expect(events.map(\.owner) == [5_000, 6_000])
        #expect(host.stack.takeDatagramEvent() == nil)
        host.receive(peer.udp([1], to: 5_000))
        #expect(host.stack.takeDatagramEvent()?.socket == first)
        host.end()
    }

    @Test func aClosedSocketTellsNothing() throws {
        let host = try LowerHost()
        let sockets = (0..<4).map { host.boundSocket(5_000 + UInt16($0)) }
        for port: UInt16 in 5_000..<5_004 { host.receive(peer.udp([1], to: port)) }
        host.stack.closeDatagram(sockets[1])
        host.stack.closeDatagram(sockets[3])
        #expect(host.stack.takeDatagramEvent()?.socket == sockets[0])
        host.receive(peer.udp([1], to: 5_000))
        #expect(host.stack.takeDatagramEvent()?.socket == sockets[2])
        host.stack.closeDatagram(sockets[0])
        #expect(host.stack.takeDatagramEvent() == nil)
        host.end()
    }

    @Test func whatIsStillQueuedIsReleasedWithTheStack() throws {
        let host = try LowerHost()
        let socket = host.boundSocket(5_000)
        for _ in 0..<10 { host.receive(peer.udp([1], to: 5_000)) }
        #expect(host.sendDatagram(socket, [1], to: peer.endpoint(9)) == 0)
        #expect(host.sendDatagram(socket, [1], to: Endpoint(address: LowerHost.address, port: 9)) == 0)
        host.end()
    }
}
