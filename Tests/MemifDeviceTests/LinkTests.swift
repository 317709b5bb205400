import DatapathMemory
import EthernetDevice
import Glibc
import MemifDevice
import SharedMemory
import Testing

/// The device's contract (EthernetDevice.swift) over a link between the two roles.
@Suite struct LinkTests {
    let path = SocketPath()

    @Test func framesGoBothWaysInOrder() throws {
        let (server, client) = try linked(path)
        for round in 0..<3_000 {
            let size = 14 + round * 37 % 1_501
            #expect(client.send(pattern(size, seed: round)))
            #expect(server.send(pattern(size, seed: round + 1)))
            if round % 3 == 2 {
                #expect(server.collect() == (round - 2...round).map { pattern(14 + $0 * 37 % 1_501, seed: $0) })
                #expect(client.collect() == (round - 2...round).map { pattern(14 + $0 * 37 % 1_501, seed: $0 + 1) })
            }
        }
        #expect(server.device.statistics.receivedFrames == 3_000)
        #expect(client.device.statistics.transmittedFrames == 3_000)
        #expect(client.device.statistics.transmitCopies == 3_000)
    }

    @Test func aFrameOfSeveralSegmentsArrivesInOne() throws {
        let (server, client) = try linked(path)
        #expect(client.send(pattern(1_000), segments: [14, 1, 500]))
        #expect(server.send(pattern(1_000, seed: 4), segments: [1, 999]))
        #expect(server.collect() == [pattern(1_000)])
        #expect(client.collect() == [pattern(1_000, seed: 4)])
    }

    @Test func aLongFrameTakesSeveralBuffers() throws {
        let (server, client) = try linked(
            path, server: { $0.maximumTransmissionUnit = 9_000 },
            client: {
                $0.maximumTransmissionUnit = 9_000
                $0.bufferByteCount = 1_024
                $0.ringSizeLog2 = 5
            })
        for size in [1_024, 1_025, 2_048, 9_014] {
            for round in 0..<20 {
                #expect(client.send(pattern(size, seed: round), segments: [14, 100]))
                #expect(server.send(pattern(size, seed: round + 9)))
                #expect(server.collect() == [pattern(size, seed: round)])
                #expect(client.collect() == [pattern(size, seed: round + 9)])
            }
        }
    }

    @Test(arguments: [MemifConfiguration.Role.client, .server]) func aFullRingTakesNoMore(role: MemifConfiguration.Role) throws {
        let (server, client) = try linked(path, client: { $0.ringSizeLog2 = 3 })
        let (sender, receiver) = role == .client ? (client, server) : (server, client)
        for round in 0..<8 { #expect(sender.send(pattern(60, seed: round))) }
        #expect(!sender.send(pattern(60)))
        #expect(sender.device.statistics.transmitRingFull == 1)
        #expect(receiver.collect() == (0..<8).map { pattern(60, seed: $0) })
        #expect(sender.send(pattern(60, seed: 9)))
        #expect(receiver.collect() == [pattern(60, seed: 9)])
    }

    @Test func framesThatCannotBeAreCounted() throws {
        let (server, client) = try linked(path)
        #expect(client.send(pattern(1_515)))
        #expect(client.send(pattern(13)))
        #expect(client.device.statistics.transmitTooLong == 1)
        #expect(client.device.statistics.transmitTooShort == 1)
        #expect(server.collect().isEmpty)
        client.close()
        #expect(server.send(pattern(60)))
        #expect(settle([server]) { !server.isUp })
        #expect(server.send(pattern(60)))
        #expect(server.device.statistics.transmitLinkDown == 1)
    }

    @Test func aFullHeapDropsAndCounts() throws {
        let (server, client) = try linked(path)
        var kept: [UnsafeMutablePointer<SegmentDescriptor>] = []
        while let block = Frame.makeSegment(server.heap, byteCount: 1_000, priority: .reserve) { kept.append(block) }
        #expect(client.send(pattern(900)))
        #expect(server.collect().isEmpty)
        #expect(server.device.statistics.receiveOutOfMemory == 1)
        for block in kept { block.releaseArray() }
        #expect(client.send(pattern(900)))
        #expect(server.collect() == [pattern(900)])
    }

    // MARK: Peers that come and go

    @Test func aClientComesBeforeItsServer() throws {
        let client = try End(.client, path)
        #expect(!client.isUp)
        let server = try End(.server, path)
        #expect(settle([server, client]) { server.isUp && client.isUp })
    }

    @Test func aPeerComesBack() throws {
        var (server, client) = try linked(path)
        for round in 0..<3 {
            client.close()
            #expect(settle([server]) { !server.isUp })
            client = try End(.client, path)
            #expect(settle([server, client]) { server.isUp && client.isUp })
            #expect(client.send(pattern(100, seed: round)))
            #expect(server.collect() == [pattern(100, seed: round)])
        }
        for round in 0..<3 {
            server.close()
            #expect(!path.exists)
            #expect(settle([client]) { !client.isUp })
            server = try End(.server, path)
            #expect(settle([server, client]) { server.isUp && client.isUp })
            #expect(server.send(pattern(100, seed: round)))
            #expect(client.collect() == [pattern(100, seed: round)])
        }
        #expect(client.statistics.linksUp == 4)
        #expect(client.statistics.linksDown == 3)
    }

    @Test func aSecondClientWaitsForTheFirstToGo() throws {
        let (server, client) = try linked(path)
        let second = try End(.client, path)
        #expect(client.send(pattern(60)))
        #expect(server.collect() == [pattern(60)])
        #expect(!second.isUp)
        client.close()
        #expect(settle([server, second]) { server.isUp && second.isUp })
    }

    @Test func otherSecretsAndIdentifiersAreRefused() throws {
        let server = try End(.server, path) { $0.secret = Array("one".utf8) }
        let wrong = try End(.client, path) { $0.secret = Array("two".utf8) }
        #expect(settle([server, wrong]) { server.statistics.refusedPeers > 0 && wrong.statistics.refusedPeers > 0 })
        wrong.close()
        let other = try End(.client, path) {
            $0.secret = Array("one".utf8)
            $0.identifier = 3
        }
        let before = server.statistics.refusedPeers
        #expect(settle([server, other]) { server.statistics.refusedPeers > before })
        other.close()
        let right = try End(.client, path) { $0.secret = Array("one".utf8) }
        #expect(settle([server, right]) { server.isUp && right.isUp })
    }

    @Test func theAddressOutlivesTheProcess() throws {
        let server = try End(.server, path)
        let first = server.device.capabilities.macAddress
        #expect(first >> 40 == 2)
        server.close()
        #expect(try End(.server, path).device.capabilities.macAddress == first)
        #expect(try End(.client, path).device.capabilities.macAddress != first)
        #expect(try End(.client, path) { $0.macAddress = 0x0200_0000_0009 }.device.capabilities.macAddress == 0x0200_0000_0009)
    }

    @Test func aTakenPathSaysSo() throws {
        let server = try End(.server, path)
        let error = #expect(throws: DemikernelError.self) { _ = try MemifDevice.make(path: path.text, MemifConfiguration(role: .server)) }
        #expect(error?.errno == EADDRINUSE)
        server.close()
        var configuration = MemifConfiguration(role: .client)
        configuration.bufferByteCount = 100
        #expect(throws: DemikernelError.self) { _ = try MemifDevice.make(path: path.text, configuration) }
    }

    @Test func aDeviceIsMadeFromReceivedDescriptors() throws {
        let listener = try PathSocket.listen(at: path.text, backlog: 4)
        let server = try End(MemifDevice.make(socket: dup(listener.file), MemifConfiguration(role: .server)))
        let connected = try PathSocket.make()
        try PathSocket.connect(connected, to: path.text)
        let client = try End(MemifDevice.make(socket: connected, MemifConfiguration(role: .client)))
        #expect(settle([server, client]) { server.isUp && client.isUp })
        #expect(client.send(pattern(99)))
        #expect(server.collect() == [pattern(99)])
        server.close()
        #expect(path.exists, "the path is whose listener it was")
        listener.close()
        #expect(throws: DemikernelError.self) { _ = try MemifDevice.make(socket: dup(STDIN_FILENO), MemifConfiguration(role: .client)) }
    }

    // MARK: Sleep

    @Test(arguments: [MemifConfiguration.Role.client, .server]) func aSleeperIsWokenAndAPollerCostsNothing(role: MemifConfiguration.Role) throws {
        let (server, client) = try linked(path)
        let (sender, receiver) = role == .client ? (client, server) : (server, client)
        // Both were asleep while the link came up.
        #expect(sender.send(pattern(60)))
        #expect(receiver.collect().count == 1)
        let before = sender.statistics.wakeUpsSent
        for _ in 0..<100 {
            #expect(sender.send(pattern(60)))
            #expect(receiver.collect().count == 1)
        }
        #expect(sender.statistics.wakeUpsSent == before)
        let descriptor = receiver.device.prepareToSleep()
        func isReady() -> Bool {
            var watched = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
            return poll(&watched, 1, 0) > 0
        }
        for _ in 0..<4 { #expect(receiver.collect().isEmpty) }
        #expect(receiver.device.prepareToSleep() == descriptor)
        #expect(!isReady())
        #expect(sender.send(pattern(60)))
        #expect(sender.statistics.wakeUpsSent == before + 1)
        #expect(isReady())
        #expect(receiver.collect().count == 1)
    }
}
