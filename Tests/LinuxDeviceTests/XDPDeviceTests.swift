import CLinuxDevices
import DatapathMemory
import Demikernel
import Echo
import EthernetDevice
import Glibc
import NetworkInterface
import Testing
import UserNetwork
import WireFormats

@testable import XDPDevice

@Suite("AF_XDP", .serialized, .enabled(if: reasonToSkip == nil, reasonToSkip)) struct XDPDeviceTests {
    private static func interface() throws -> InterfaceConfiguration {
        try InterfaceConfiguration(device: "xdp:demi0", addresses: ["10.0.0.2/24", "2001:db8::2/64"])
    }

    /// Runs `body` with a runtime over AF_XDP in the caller's thread, and the state of its device.
    private func withRuntime(
        _ interface: InterfaceConfiguration, _ body: (borrowing Runtime, UnsafeMutablePointer<XDPState>, LibraryOS) throws -> Void
    ) throws {
        var configuration = RuntimeConfiguration()
        configuration.memory.arenaByteCount = 16 << 20
        let runtime = try Runtime(configuration)
        let device = try interface.openDevice(heap: runtime.core.heap)
        var network = interface.networkConfiguration(for: device, seed: 7)
        network.ipv6.duplicateAddressDetectionTransmits = 0
        let libraryOS = try UserNetwork.make(for: runtime.core, device: device, configuration: network)
        try runtime.register(libraryOS)
        try body(runtime, XDPState.at(device.context), libraryOS)
    }

    @Test("a popped buffer is the frame that the kernel wrote, and a pushed one leaves from where it lies")
    func zeroCopyByAddress() throws {
        try withCable { peer in
            try withRuntime(try Self.interface()) { runtime, state, libraryOS in
                let queue = try runtime.socket(.ipv4, .datagram)
                try runtime.bind(queue, to: .any(port: 7))
                let pop = try runtime.pop(queue)
                var client: KernelClient?
                try peer.run {
                    client = try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7, localPort: 5000)
                    try client?.sendAll(testBytes(1200))
                }
                let sender = SocketAddress.ipv4(10, 0, 0, 1, port: 5000)
                guard let array = try runtime.wait(pop).popped() else { throw SystemFailure(call: "pop", errno: 0) }
                let base = state.pointee.memory.base
                let address = array.withUnsafeBytes(ofSegment: 0) { $0.baseAddress! }
                let offset = address - UnsafeRawPointer(base)
                #expect(state.pointee.memory.contains(UnsafeMutableRawPointer(mutating: address)))
                // Behind XDP's headroom and the three headers, in a chunk that was in the fill ring.
                #expect(offset % 2048 == 256 + 14 + 20 + 8)
                #expect(state.pointee.held[offset / 2048 * 32] == 0, "the chunk is the program's now")
                #expect(UserNetwork.statistics(of: libraryOS).device.receiveCopies == 0)

                // The same memory goes out again, and a fresh block of 1 KiB as well.
                let sentBefore = state.pointee.sockets.pointee.transmit.index
                _ = try runtime.wait(try runtime.pushTo(queue, array, sender))
                var buffer = try runtime.allocate(1024)
                buffer.withUnsafeMutableBytes { $0.copyBytes(from: testBytes(1024, seed: 3)) }
                let pushed = buffer.withUnsafeBytes { $0.baseAddress! } - UnsafeRawPointer(base)
                _ = try runtime.wait(try runtime.pushTo(queue, try ScatterGatherArray(buffer), sender))
                let ring = state.pointee.sockets.pointee.transmit
                let sent = (sentBefore..<ring.index).map { Int(ring.descriptor($0 &- ring.index).addr) }
                // The program was its only owner, so that the headers were written in front of it.
                #expect(sent.contains(offset - 42), "\(sent)")
                #expect(sent.contains(pushed), "\(sent)")
                #expect(UserNetwork.statistics(of: libraryOS).device.transmitCopies == 0)
                try peer.run {
                    let (first, second) = (try client?.receive(), try client?.receive())
                    #expect(first == testBytes(1200) && second == testBytes(1024, seed: 3))
                }
            }
        }
    }

    /// Answers the next datagram.
    private func answer(_ runtime: borrowing Runtime, _ queue: QueueDescriptor) throws {
        guard let array = try runtime.wait(try runtime.pop(queue)).popped() else { throw SystemFailure(call: "pop", errno: 0) }
        try runtime.pushTo(queue, array, .ipv4(10, 0, 0, 1, port: 5000), completion: .discarded)
    }

    /// The next datagram that a client gets.
    private func heard(_ peer: PeerNamespace, _ client: KernelClient?) throws -> [UInt8] {
        var bytes: [UInt8] = []
        try peer.run { bytes = try client?.receive() ?? [] }
        return bytes
    }

    @Test("answers to frames that came together leave together, and none is kept back for longer than a turn")
    func answersShareACall() throws {
        try withCable { peer in
            try withRuntime(try Self.interface()) { runtime, state, libraryOS in
                let queue = try runtime.socket(.ipv4, .datagram)
                try runtime.bind(queue, to: .any(port: 7))
                var client: KernelClient?
                try peer.run {
                    client = try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7, localPort: 5000)
                    try client?.sendAll([1])
                }
                // The neighbour is asked for, and known from here on.
                try answer(runtime, queue)
                while runtime.poll() {}
                #expect(try heard(peer, client) == [1])

                // One at a time, each answer leaves at once.
                try peer.run { try client?.sendAll([2]) }
                try answer(runtime, queue)
                #expect(state.pointee.deferredSince == 0 && state.pointee.sockets.pointee.transmit.pending == 0)
                #expect(try heard(peer, client) == [2])

                // Three that come in one turn: two answers wait for the last one. Time decides nothing here.
                state.pointee.deferralCycles = .max
                try peer.run { for number in 3..<6 { try client?.sendAll([UInt8(number)]) } }
                _ = runtime.poll()
                for waiting in UInt32(1)...2 {
                    try answer(runtime, queue)
                    #expect(state.pointee.sockets.pointee.transmit.pending == waiting)
                }
                try answer(runtime, queue)
                #expect(state.pointee.deferredSince == 0 && state.pointee.sockets.pointee.transmit.pending == 0)
                for number in 3..<6 { #expect(try heard(peer, client) == [UInt8(number)]) }

                // A program that answers only the first one: it leaves in the next turn.
                try peer.run { for number in 6..<9 { try client?.sendAll([UInt8(number)]) } }
                _ = runtime.poll()
                try answer(runtime, queue)
                #expect(state.pointee.sockets.pointee.transmit.pending == 1)
                _ = runtime.poll()
                #expect(state.pointee.deferredSince == 0 && state.pointee.sockets.pointee.transmit.pending == 0)
                #expect(try heard(peer, client) == [6])
            }
        }
    }

    @Test(
        "where the kernel copies, the pieces of a stream leave in one descriptor each, and its kernel completes the checksums of large ones when it is asked to",
        arguments: [false, true])
    func streamsAreCopiedTogether(offloadsChecksums: Bool) throws {
        try withCable { peer in
            var interface = try Self.interface()
            if offloadsChecksums { interface.device = try DeviceSpecification(parsing: "xdp:demi0,checksums=offload") }
            try withRuntime(interface) { runtime, state, libraryOS in
                let listener = try runtime.socket(.ipv4, .stream)
                try runtime.bind(listener, to: .any(port: 7))
                try runtime.listen(listener, backlog: 1)
                let accepted = try runtime.accept(listener)
                var client: KernelClient?
                // It connects while this thread serves the network.
                let connecting = OwnThread { try? peer.run { client = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7) } }
                let completion = try runtime.wait(accepted)
                connecting.join()
                let connection = try completion.accepted()
                let before = state.pointee.sockets.pointee.transmit.index
                var buffer = try runtime.allocate(8_000)
                buffer.withUnsafeMutableBytes { $0.copyBytes(from: testBytes(8_000, seed: 5)) }
                _ = try runtime.wait(try runtime.push(connection, try ScatterGatherArray(buffer)))
                let ring = state.pointee.sockets.pointee.transmit
                let sent = (before..<ring.index).map { ring.descriptor($0 &- ring.index) }
                #expect(sent.count >= 6 && sent.allSatisfy { $0.options & UInt32(linux_xdp_packet_continues) == 0 })
                let large = sent.filter { $0.len == 1_514 }
                #expect(large.count >= 5)
                let isLeft = offloadsChecksums && state.pointee.grant.completesChecksums
                for descriptor in large {
                    let frame = state.pointee.memory.base + Int(descriptor.addr)
                    #expect(descriptor.options == (isLeft ? UInt32(linux_xdp_has_metadata) : 0))
                    #expect(PartialChecksum.isPartial(frame, 1_514) == isLeft)
                }
                var received: [UInt8]?
                try peer.run { received = try client?.receiveExactly(8_000) }
                #expect(received == testBytes(8_000, seed: 5))
            }
        }
    }

    @Test("a checksum that cannot be left to the kernel is completed, over pieces of odd lengths")
    func checksumsAreCompleted() throws {
        try withCable { _ in
            try withRuntime(try Self.interface()) { runtime, state, _ in
                // IPv4 from 10.0.0.2 to 10.0.0.1, TCP with 7 bytes of payload, of which 3 and 4 are pieces of their own.
                let payload: [UInt8] = [1, 2, 3, 4, 5, 6, 7]
                var bytes = [UInt8](repeating: 0, count: 54)
                bytes.replaceSubrange(12..<16, with: [8, 0, 0x45, 0])
                bytes.replaceSubrange(26..<34, with: [10, 0, 0, 2, 10, 0, 0, 1])
                bytes[23] = 6
                bytes[46] = 0x50
                let pseudoHeader = InternetChecksum.fold(
                    bytes.withUnsafeBytes {
                        InternetChecksum.pseudoHeader(
                            rawAddresses: $0.loadUnaligned(fromByteOffset: 26, as: UInt64.self), protocolNumber: 6, byteCount: 27)
                    })
                withUnsafeBytes(of: pseudoHeader) { bytes.replaceSubrange(50..<52, with: $0) }
                let heap = runtime.core.heap
                let frame = try #require(Frame.makeSegment(heap, byteCount: 54, priority: .reserve))
                frame.segmentAddress.copyMemory(from: bytes, byteCount: 54)
                var last = frame
                for piece in [payload[..<3], payload[3...]] {
                    let segment = try #require(Frame.makeSegment(heap, byteCount: piece.count, priority: .reserve))
                    for (index, byte) in piece.enumerated() { segment.segmentAddress.storeBytes(of: byte, toByteOffset: index, as: UInt8.self) }
                    frame.append(segment, behind: last)
                    last = segment
                }
                frame.frameFlags = .needsTransportChecksum
                // There is no room in front of it.
                #expect(!state.leavesChecksum(frame) && frame.frameFlags == [])
                var whole = [UInt8](repeating: 0, count: 61)
                whole.withUnsafeMutableBytes { frame.copyArray(to: $0.baseAddress!) }
                #expect(Array(whole.suffix(7)) == payload)
                let isValid = whole.withUnsafeBytes {
                    InternetChecksum.isValid(
                        $0.baseAddress! + 34, byteCount: 27, rawAddresses: $0.loadUnaligned(fromByteOffset: 26, as: UInt64.self), protocolNumber: 6)
                }
                #expect(isValid)
                frame.releaseArray()
            }
        }
    }

    @Test("buffers that the program keeps do not stop others, and come back when it lets go")
    func chunksAreRecycled() throws {
        try withCable { peer in
            try withRuntime(try Self.interface()) { runtime, state, libraryOS in
                let queue = try runtime.socket(.ipv4, .datagram)
                try runtime.bind(queue, to: .any(port: 7))
                let before = runtime.statistics.memory.usedByteCount
                var client: KernelClient?
                try peer.run { client = try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7) }
                // More than the fill ring has at once.
                for round in 0..<40 {
                    try peer.run { for number in 0..<64 { try client?.sendAll([UInt8(round), UInt8(number)]) } }
                    for number in 0..<64 {
                        guard let array = try runtime.wait(try runtime.pop(queue)).popped() else { throw SystemFailure(call: "pop", errno: 0) }
                        #expect(array[segment: 0][0] == UInt8(round) && array[segment: 0][1] == UInt8(number))
                    }
                }
                #expect(runtime.statistics.memory.usedByteCount == before)
                #expect(UserNetwork.statistics(of: libraryOS).device.receiveOutOfMemory == 0)
                // Whatever is in a ring is counted, and only that: 1024 chunks wait for frames.
                let held = (0..<state.pointee.memory.byteCount / 64).reduce(0) { $0 + Int(state.pointee.held[$1]) }
                #expect(held == 1024 + Int(state.pointee.inFlight))
            }
        }
    }

    @Test("without memory frames are dropped and counted, and with it they come again")
    func outOfMemory() throws {
        try withCable { peer in
            try withRuntime(try Self.interface()) { runtime, state, libraryOS in
                let queue = try runtime.socket(.ipv4, .datagram)
                try runtime.bind(queue, to: .any(port: 7))
                var client: KernelClient?
                let pop = try runtime.pop(queue)
                try peer.run {
                    client = try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7)
                    try client?.sendAll([1])
                }
                _ = try runtime.wait(pop).popped()
                let again = try runtime.pop(queue)
                var hoard: [UnsafeMutableRawPointer] = []
                while let block = runtime.core.heap.takeBlock(2048, priority: .reserve) { hoard.append(block) }
                try peer.run { for _ in 0..<3000 { try client?.sendAll([2]) } }
                while UserNetwork.statistics(of: libraryOS).device.receiveOutOfMemory < 100 { _ = runtime.poll() }
                for block in hoard { DatapathHeap.releaseBlock(containing: block) }
                while runtime.poll() {}
                try peer.run { try client?.sendAll([3]) }
                // Whatever of the others found room comes first.
                var token = again
                while true {
                    guard let array = try runtime.wait(token).popped() else { throw SystemFailure(call: "pop", errno: 0) }
                    if array.withUnsafeBytes(ofSegment: 0, { $0[0] }) == 3 { break }
                    token = try runtime.pop(queue)
                }
            }
        }
    }

    @Test("memory that the kernel does not know is copied, and counted")
    func secondArena() throws {
        try withCable { peer in
            try withRuntime(try Self.interface()) { runtime, state, libraryOS in
                let queue = try runtime.socket(.ipv4, .datagram)
                try runtime.bind(queue, to: .any(port: 7))
                // The first arena is used up, but for what the device has already; then there is a second one.
                var hoard: [UnsafeMutableRawPointer] = []
                while let block = runtime.core.heap.takeBlock(2048, priority: .reserve) { hoard.append(block) }
                try runtime.core.heap.addArena(MemoryConfiguration(arenaByteCount: 8 << 20))
                defer { for block in hoard { DatapathHeap.releaseBlock(containing: block) } }
                let sender = SocketAddress.ipv4(10, 0, 0, 1, port: 5000)
                var client: KernelClient?
                try peer.run { client = try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7, localPort: 5000) }
                // More than there are places to copy to, so that they are used again.
                for number in 0..<100 {
                    let bytes = testBytes(1 + number * 14, seed: UInt64(number))
                    try peer.run { try client?.sendAll(bytes) }
                    guard let array = try runtime.wait(try runtime.pop(queue)).popped() else { throw SystemFailure(call: "pop", errno: 0) }
                    let isInside = array.withUnsafeBytes(ofSegment: 0) {
                        state.pointee.memory.contains(UnsafeMutableRawPointer(mutating: $0.baseAddress!))
                    }
                    #expect(!isInside)
                    _ = try runtime.wait(try runtime.pushTo(queue, array, sender))
                    var received: [UInt8]?
                    try peer.run { received = try client?.receive() }
                    #expect(received == bytes)
                }
                let counts = UserNetwork.statistics(of: libraryOS).device
                #expect(counts.receiveCopies >= 100 && counts.transmitCopies >= 100)
                #expect(counts.transmitErrors == 0 && counts.receiveMalformed == 0)
            }
        }
    }

    @Test("what is sent to a group comes where the group is named")
    func multicastGroup() throws {
        try withCable { peer in
            var interface = try Self.interface()
            interface.device = try DeviceSpecification(parsing: "xdp:demi0,group=239.1.2.3")
            try withRuntime(interface) { runtime, _, _ in
                let queue = try runtime.socket(.ipv4, .datagram)
                try runtime.bind(queue, to: .any(port: 7))
                try runtime.setOption(.joinGroup(.ipv4(239, 1, 2, 3, port: 0)), on: queue)
                try peer.run {
                    try Shell.check("ip route add 239.0.0.0/8 dev demi1")
                    try KernelClient(.datagram, to: .ipv4("239.1.2.3"), port: 7).sendAll([4, 2])
                }
                guard let array = try runtime.wait(try runtime.pop(queue)).popped() else { throw SystemFailure(call: "pop", errno: 0) }
                #expect(array.byteCount == 2 && array[segment: 0][0] == 4)
            }
        }
    }

    @Test("the host's own traffic on the interface goes on")
    func hostTraffic() throws {
        try withCable { peer in
            try Shell.check("ip address add 10.0.0.9/24 dev demi0", "ip -6 address add 2001:db8::9/64 dev demi0 nodad")
            let server = try StackServer.echo(try Self.interface(), .tcp, .any(port: 7))
            defer { server.stop() }
            try peer.run {
                for host in ["10.0.0.9", "10.0.0.2", "2001:db8::9", "2001:db8::2"] {
                    let result = Shell.run("ping -c 3 -i 0.01 -W 20 \(host)")
                    #expect(result.output.contains(" 0% packet loss"), "\(result.output)")
                }
                // Neighbour discovery between the kernels by their own link-local addresses.
                let result = Shell.run("ping -c 2 -i 0.1 -W 20 ff02::1%demi1")
                #expect(result.output.contains("bytes from"), "\(result.output)")
                try expectEcho(try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7), 200_000)
            }
        }
    }

    @Test("a port of an address that the kernel has as well")
    func sharedAddress() throws {
        try withCable { peer in
            try Shell.check("ip address add 10.0.0.2/24 dev demi0")
            var station: UInt64 = 0
            try peer.run { station = try NetworkInterface("demi1").macAddress() }
            let text = (0..<6).map { String(station >> UInt64(40 - 8 * $0) & 0xff | 0x100, radix: 16).dropFirst() }.joined(separator: ":")
            let interface = try InterfaceConfiguration(
                device: "xdp:demi0,ports=7,shared", addresses: ["10.0.0.2/24"], neighbors: ["10.0.0.1=\(text)"])
            let server = try StackServer.echo(interface, .tcp, .any(port: 7))
            defer { server.stop() }
            try peer.run {
                #expect(Shell.run("ping -c 2 -i 0.01 -W 20 10.0.0.2").output.contains(" 0% packet loss"))
                try expectEcho(try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7), 100_000)
                // Where nothing listens, the kernel itself refuses.
                #expect(throws: SystemFailure.self) { _ = try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 8) }
            }
        }
    }

    @Test("an address of the kernel is not taken from it", arguments: ["10.0.0.2/24", "2001:db8::2/64"])
    func hostAddress(_ address: String) throws {
        try withCable { _ in
            try Shell.check("ip address add \(address) dev demi0")
            let heap = try DatapathHeap(MemoryConfiguration(arenaByteCount: 4 << 20))
            defer { heap.close() }
            let error = #expect(throws: DemikernelError.self) { _ = try Self.interface().openDevice(heap: heap) }
            #expect(error?.errno == EADDRINUSE)
            #expect(!Shell.run("ip link show demi0").output.contains("xdp"))
        }
    }

    @Test("frames of all receive queues arrive")
    func severalQueues() throws {
        try withCable(options: "numrxqueues 2 numtxqueues 2") { peer in
            let server = try StackServer.echo(try Self.interface(), .udp, .any(port: 7))
            defer { server.stop() }
            try peer.run {
                for number in 0..<32 {
                    let client = try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7)
                    try client.sendAll(testBytes(100, seed: UInt64(number)))
                    #expect(try client.receive() == testBytes(100, seed: UInt64(number)))
                }
            }
            #expect(server.stop().error == nil)
        }
    }

    @Test("partial checksums are dropped and counted where they are to be verified")
    func partialChecksums() throws {
        try withCable { peer in
            var interface = try Self.interface()
            interface.device = try DeviceSpecification(parsing: "xdp:demi0,checksums=verify")
            let server = try StackServer.echo(interface, .udp, .any(port: 7))
            try peer.run {
                let client = try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7)
                // A datagram that waits for its neighbour would leave under the second rule.
                try Shell.check("ping -c 1 -W 20 10.0.0.2")
                try client.sendAll([1, 2, 3])
                // What the kernel completes by itself is taken.
                try NetworkInterface("demi1").setTransmitChecksums(false)
                try client.sendAll([4, 5, 6])
                #expect(try client.receive() == [4, 5, 6])
            }
            let report = server.stop()
            #expect(report.network?.network.drops[.badDatagramChecksum] == 1)
        }
    }

    @Test("a second process on the interface is refused, and the first goes on")
    func secondDevice() throws {
        try withCable { peer in
            let server = try StackServer.echo(try Self.interface(), .tcp, .any(port: 7))
            defer { server.stop() }
            let interface = try Self.interface()
            let error = #expect(throws: DemikernelError.self) { _ = try StackServer.echo(interface, .tcp, .any(port: 7)) }
            #expect(error?.errno == EBUSY)
            try peer.run { try expectEcho(try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7), 10_000) }
        }
    }

    @Test("what is refused leaves nothing behind", arguments: [("nosuch", ENODEV), ("demi0", ENETDOWN), ("lo", EAFNOSUPPORT)])
    func refusals(_ name: String, _ code: Int32) throws {
        try inNetworkNamespace {
            try Shell.check("ip link add demi0 type veth peer name demi1")
            let heap = try DatapathHeap(MemoryConfiguration(arenaByteCount: 4 << 20))
            defer { heap.close() }
            let error = #expect(throws: DemikernelError.self) { _ = try XDPDevice.open(XDPConfiguration(interface: name), heap: heap) }
            #expect(error?.errno == code)
            #expect(heap.usedByteCount == 0)
            #expect(!Shell.run("ip link show").output.contains("xdp"))
        }
    }

    @Test("everything comes back when a device is closed")
    func nothingIsLeft() throws {
        try withCable { _ in
            let heap = try DatapathHeap(MemoryConfiguration(arenaByteCount: 8 << 20))
            defer { heap.close() }
            for mode in XDPConfiguration.Mode.allCases {
                var configuration = XDPConfiguration(interface: "demi0")
                configuration.mode = mode
                let device = try XDPDevice.open(configuration, heap: heap)
                try device.attach(heap)
                #expect(Shell.run("ip link show demi0").output.contains(mode == .generic ? "xdpgeneric" : "xdp "))
                #expect("\(device.capabilities.driverMode)".hasPrefix(mode == .generic ? "generic" : "native"))
                #expect(heap.usedByteCount > 0)
                device.close()
                #expect(heap.usedByteCount == 0)
                #expect(!Shell.run("ip link show demi0").output.contains("xdp"))
            }
        }
    }

    @Test("a device on descriptors that somebody else has made")
    func receivedDescriptors() throws {
        try withCable { peer in
            let interface = NetworkInterface("demi0")
            var configuration = XDPConfiguration(interface: "demi0")
            configuration.steering.ipv4Addresses = [0x0200_000a]
            let attachment = try XDPAttachment(configuration, interface: try interface.index(), queueCount: 1)
            defer { attachment.detach() }
            let descriptors = XDPDevice.Descriptors(
                sockets: [try XDPSocket.make()], map: dup(attachment.map), interfaceIndex: try interface.index(),
                macAddress: try interface.macAddress(),
                maximumTransmissionUnit: 1500, isNative: attachment.isNative, acceptsPartialChecksums: true)
            let runtime = try Runtime(RuntimeConfiguration())
            let device = try XDPDevice.make(descriptors, heap: runtime.core.heap)
            try runtime.register(try UserNetwork.make(for: runtime.core, device: device, addresses: [.init(parsing: "10.0.0.2/24")!]))
            let queue = try runtime.socket(.ipv4, .datagram)
            try runtime.bind(queue, to: .any(port: 7))
            try peer.run { try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7).sendAll([9, 9]) }
            guard let array = try runtime.wait(try runtime.pop(queue)).popped() else { throw SystemFailure(call: "pop", errno: 0) }
            #expect(array.byteCount == 2)
        }
    }

    @Test("two runtimes share an interface, each with a queue of its own")
    func queueForEachRuntime() throws {
        try withCable(options: "numrxqueues 2 numtxqueues 2") { peer in
            let interface = NetworkInterface("demi0")
            var configuration = XDPConfiguration(interface: "demi0")
            configuration.steering.ipv4Addresses = [0x0200_000a]
            let attachment = try XDPAttachment(configuration, interface: try interface.index(), queueCount: 2)
            defer { attachment.detach() }
            // Which of the two an ARP request comes to is the kernel's choice, and so is who learns of a neighbour: the peer is told.
            let address = try interface.macAddress()
            let text = (0..<6).map { String(address >> UInt64(40 - 8 * $0) & 0xff, radix: 16) }.joined(separator: ":")
            try peer.run { try Shell.check("ip neighbor replace 10.0.0.2 lladdr \(text) dev demi1") }

            func makeRuntime(_ queue: Int) throws -> Runtime {
                let runtime = try Runtime(RuntimeConfiguration())
                let descriptors = XDPDevice.Descriptors(
                    sockets: [try XDPSocket.make()], firstQueue: queue, map: dup(attachment.map), interfaceIndex: try interface.index(),
                    macAddress: try interface.macAddress(), maximumTransmissionUnit: 1500, isNative: true, acceptsPartialChecksums: true)
                let device = try XDPDevice.make(descriptors, heap: runtime.core.heap)
                try runtime.register(try UserNetwork.make(for: runtime.core, device: device, addresses: [.init(parsing: "10.0.0.2/24")!]))
                return runtime
            }
            let first = try makeRuntime(0)
            let second = try makeRuntime(1)
            let firstQueue = try first.socket(.ipv4, .datagram)
            try first.bind(firstQueue, to: .any(port: 7))
            let secondQueue = try second.socket(.ipv4, .datagram)
            try second.bind(secondQueue, to: .any(port: 7))
            try peer.run { for _ in 0..<64 { try KernelClient(.datagram, to: .ipv4("10.0.0.2"), port: 7).sendAll([1]) } }
            var counts = (0, 0)
            var tokens = (try first.pop(firstQueue), try second.pop(secondQueue))
            let end = first.now + 60_000_000_000
            while counts.0 + counts.1 < 64, first.now < end {
                first.poll()
                second.poll()
                if let completion = try first.redeem(tokens.0) {
                    _ = try completion.popped()
                    counts.0 += 1
                    tokens.0 = try first.pop(firstQueue)
                }
                if let completion = try second.redeem(tokens.1) {
                    _ = try completion.popped()
                    counts.1 += 1
                    tokens.1 = try second.pop(secondQueue)
                }
            }
            #expect(counts.0 + counts.1 == 64 && counts.0 > 0 && counts.1 > 0, "\(counts)")
        }
    }
}
