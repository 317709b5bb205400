#if DPDK
import DatapathMemory
import Demikernel
import EthernetDevice
import Glibc
import Testing
import WireFormats

@testable import DPDKDevice

/// The device alone, over drivers that need no kernel and no root. What it does with the kernel at the other end is in `KernelPeerTests`.
@Suite("DPDK devices", .serialized)
struct DPDKDeviceTests {
    @Test("a frame that is sent and received on a ring is the same memory")
    func zeroCopyByAddress() throws {
        try withDevice("net_ring") { device, heap in
            for size in [14, 64, 1023, 1024, 1514] {
                let frame = try #require(makeFrame(heap, size))
                let address = frame.segmentAddress
                #expect(device.transmit(frame))
                let received = try #require(device.receiveOne())
                #expect(received.segmentAddress == address)
                #expect(bytes(of: received) == testBytes(size, seed: UInt64(size)))
                #expect(received.isSoleOwner)
                received.releaseArray()
            }
            #expect(device.statistics.transmitCopies == 0 && device.statistics.receiveCopies == 0)
            #expect(device.capabilities.transmitMode.description == "zero copy")
        }
    }

    @Test("a shared block stays its other owner's when the frame was sent")
    func sharedBlock() throws {
        try withDevice("net_null") { device, heap in
            let block = try #require(makeFrame(heap, 1024))
            let slice = try #require(block.makeSlice(offset: 0, byteCount: 1024))
            #expect(!block.isSoleOwner)
            #expect(device.transmit(slice))
            #expect(block.isSoleOwner)
            #expect(bytes(of: block) == testBytes(1024, seed: 1024))
            block.releaseArray()
        }
    }

    @Test("frames of several segments arrive whole")
    func severalSegments() throws {
        try withDevice("net_ring") { device, heap in
            for sizes in [[14, 1], [54, 1460], [14, 20, 700, 3], [Int](repeating: 90, count: 16)] {
                let frame = try #require(makeFrame(heap, sizes))
                let expected = bytes(of: frame)
                #expect(device.transmit(frame))
                let received = try #require(device.receiveOne())
                #expect(bytes(of: received) == expected)
                #expect(received.arraySegmentCount == 1)
                received.releaseArray()
            }
        }
    }

    @Test("a received frame lies where the driver wrote it")
    func receivedByAddress() throws {
        try withDevice("net_null", options: "size=1500") { device, heap in
            let state = DPDKState.at(device.context)
            for _ in 0..<100 {
                let store = Set((0..<Int(state.pointee.shared.pointee.block_count)).map { state.pointee.shared.pointee.blocks[$0].address! })
                let frame = try #require(device.receiveOne())
                #expect(frame.arrayByteCount == 1500)
                #expect(heap.contains(frame.segmentAddress))
                // A copy would be in one of the blocks in store.
                #expect(!store.contains(frame.segmentAddress - Int(frame.headroom)))
                frame.releaseArray()
            }
            #expect(device.statistics.receiveCopies == 0)
        }
    }

    @Test("a full ring takes no more, and loses nothing")
    func fullRing() throws {
        try withDevice("net_ring") { device, heap in
            var frames: [Frame] = []
            for index in 0..<3000 { frames.append(try #require(makeFrame(heap, 64, seed: UInt64(index + 1)))) }
            var sent = 0
            var next = 0
            while next < frames.count {
                while sent < frames.count, case let taken = device.transmit(&frames[sent], count: min(100, frames.count - sent)), taken > 0 { sent += taken }
                var count = 0
                while let frame = device.receiveOne() {
                    #expect(bytes(of: frame) == testBytes(64, seed: UInt64(next + 1)))
                    frame.releaseArray()
                    next += 1
                    count += 1
                }
                try #require(count > 0)
            }
            #expect(sent == 3000 && next == 3000)
            let statistics = device.statistics
            #expect(statistics.transmittedFrames == 3000 && statistics.receivedFrames == 3000)
            #expect(statistics.transmitRingFull > 0)
        }
    }

    @Test("a device that ends gives back what it holds, sent or not")
    func closeWithFramesInFlight() throws {
        // Sends until nothing more is taken: a full ring, and a burst that waits. `withDevice` compares the heap.
        try withDevice("net_ring") { device, heap in
            while let frame = makeFrame(heap, 1024) {
                guard device.transmit(frame) else {
                    frame.releaseArray()
                    break
                }
            }
            #expect(device.statistics.transmitRingFull == 1)
        }
    }

    @Test("frames that cannot be sent are dropped under their reasons, in their places")
    func unsendable() throws {
        try withDevice("net_ring") { device, heap in
            var frames = try [64, 13, 65, 1515, 66].map { try #require(makeFrame(heap, $0)) }
            #expect(device.transmit(&frames, count: 5) == 5)
            #expect(device.receiveOne().map(consume) == 64)
            #expect(device.receiveOne().map(consume) == 65)
            #expect(device.receiveOne().map(consume) == 66)
            #expect(device.statistics.transmitTooShort == 1 && device.statistics.transmitTooLong == 1)
        }
    }

    @Test("with an exhausted heap frames are dropped and counted, and come again when it has room")
    func exhaustedHeap() throws {
        try withDevice("net_null", options: "size=1500", arenaByteCount: 4 << 20) { device, _ in
            var frames: [Frame] = []
            while device.statistics.receiveOutOfMemory == 0 { if let frame = device.receiveOne() { frames.append(frame) } }
            #expect(frames.count > 500)
            for frame in frames { frame.releaseArray() }
            // One turn that fills the store.
            _ = device.receiveOne()?.releaseArray()
            let dropped = device.statistics.receiveOutOfMemory
            for _ in 0..<1000 { try #require(device.receiveOne()).releaseArray() }
            #expect(device.statistics.receiveOutOfMemory == dropped)
        }
    }

    @Test("two ends of a memif, each in its heap")
    func memif() throws {
        try withFolder { folder in
            try withDevice("net_memif", options: "role=server,socket=\(folder)/memif.sock,socket-abstract=no") { server, heap in
                // Nobody is there yet.
                #expect(server.transmit(try #require(makeFrame(heap, 64))))
                #expect(server.statistics.transmitLinkDown == 1)
                try withDevice("net_memif", options: "role=client,socket=\(folder)/memif.sock,socket-abstract=no") { client, clientHeap in
                    #expect(server.capabilities.macAddress != client.capabilities.macAddress)
                    try exchange(server, heap, client, clientHeap)
                    #expect(client.capabilities.receiveMode.description == "copy by the driver")
                    // What is copied is copied by the driver.
                    #expect(server.statistics.receiveCopies == 0 && server.statistics.transmitCopies == 0)
                }
            }
        }
    }

    @Test("a TCP stream between two stacks over memif, each on its thread")
    func streamOverMemif() throws {
        try withFolder { folder in
            let socket = "socket=\(folder)/memif.sock,socket-abstract=no"
            let (server, client) = (DPDKName.make("net_memif"), DPDKName.make("net_memif"))
            let far = try StackServer.echo(
                InterfaceConfiguration(device: "dpdk:\(server),role=server,\(socket)", addresses: ["10.0.0.2/24"]), .tcp, .any(port: 7))
            defer { far.stop() }
            let near = InterfaceConfiguration(
                device: try DeviceSpecification(parsing: "dpdk:\(client),role=client,\(socket)"),
                addresses: [try #require(IPv4Prefix(parsing: "10.0.0.1/24"))])
            try sendAndReceive(near, 500_000)
            let report = far.stop()
            #expect(report.error == nil)
            #expect(report.network?.network.drops[.badSegmentChecksum] == 0)
        }
    }

    @Test("vhost-user and virtio-user")
    func virtio() throws {
        try withFolder { folder in
            try withDevice("net_vhost", options: "iface=\(folder)/vhost.sock") { host, heap in
                try withDevice("net_virtio_user", options: "path=\(folder)/vhost.sock,queue_size=256") { guest, guestHeap in
                    #expect(guest.capabilities.receiveMode.description == "copy")
                    try exchange(host, heap, guest, guestHeap)
                    #expect(guest.statistics.transmitCopies > 0 && guest.statistics.receiveCopies > 0)
                }
            }
        }
    }

    @Test("a TCP stream to the kernel over net_tap", .enabled(if: reasonToSkip == nil, reasonToSkip))
    func kernelPeer() throws {
        try inNetworkNamespace {
            let server = try StackServer.echo(
                InterfaceConfiguration(device: "dpdk:\(DPDKName.make("net_tap")),iface=demi1", addresses: ["10.0.0.2/24"]), .tcp, .any(port: 7))
            defer { server.stop() }
            try Shell.check("ip address add 10.0.0.1/24 dev demi1", "ip link set demi1 up")
            try expectEcho(try KernelClient(.stream, to: .ipv4("10.0.0.2"), port: 7), 300_000)
            #expect(server.stop().error == nil)
        }
    }

    // MARK: Errors

    @Test("a name is taken once, and free again when its device has ended")
    func names() throws {
        let name = DPDKName.make("net_ring")
        for _ in 0..<3 {
            let device = try DPDKDevice.open(DPDKConfiguration(device: name))
            let error = #expect(throws: DemikernelError.self) { try DPDKDevice.open(DPDKConfiguration(device: name)) }
            #expect(error?.errno == EEXIST)
            device.close()
        }
    }

    @Test("what cannot be opened says why, in one line", arguments: [("nothing0", ""), ("net_tap99", "mac=nonsense"), ("net_memif99", "role=king")])
    func refusals(_ name: String, _ options: String) throws {
        let error = #expect(throws: DemikernelError.self) { try DPDKDevice.open(DPDKConfiguration(device: name, options: options)) }
        #expect(error.map { $0.message.utf8CodeUnitCount > 0 } == true)
        let message = try #require(DPDKDevice.takeMessage())
        #expect(!message.isEmpty && !message.contains("\n"), "\(message)")
        #expect(DPDKDevice.takeMessage() == nil)
    }

    @Test("a device has one heap")
    func secondHeap() throws {
        try withDevice("net_ring") { device, heap in
            let error = #expect(throws: DemikernelError.self) { try device.attach(heap) }
            #expect(error?.errno == EBUSY)
            #expect(device.prepareToSleep() == EthernetDevice.cannotWake)
        }
    }
}

// MARK: - Support

/// Opens a device on a heap of its own, and closes both; whatever was in flight then must have come back.
private func withDevice(
    _ driver: String, options: String = "", arenaByteCount: Int = 16 << 20, _ body: (EthernetDevice, DatapathHeap) throws -> Void
) throws {
    var memory = MemoryConfiguration()
    memory.arenaByteCount = arenaByteCount
    let heap = try DatapathHeap(memory)
    defer { heap.close() }
    let device: EthernetDevice
    do {
        device = try DPDKDevice.open(DPDKConfiguration(device: DPDKName.make(driver), options: options))
        do {
            try device.attach(heap)
        } catch {
            device.close()
            throw error
        }
    } catch {
        Issue.record("\(driver): \(error) \(DPDKDevice.takeMessage() ?? "")")
        return
    }
    do {
        defer { device.close() }
        try body(device, heap)
    }
    #expect(heap.usedByteCount == 0, "\(driver) kept blocks")
    #expect(heap.statistics.liveSegments == 0, "\(driver) kept descriptors")
}

private func withFolder(_ body: (String) throws -> Void) throws {
    var template = Array("/tmp/demikernel-dpdk-XXXXXX".utf8CString)
    let folder = try #require(mkdtemp(&template).map { String(cString: $0) })
    try body(folder)
    // Whatever the devices made is gone again.
    #expect(rmdir(folder) == 0, "\(Shell.run("ls \(folder)").output)")
}

/// Sends frames of all sizes in both directions.
private func exchange(_ first: EthernetDevice, _ firstHeap: DatapathHeap, _ second: EthernetDevice, _ secondHeap: DatapathHeap) throws {
    for (from, heap, to) in [(first, firstHeap, second), (second, secondHeap, first)] {
        // Until the link is up, frames are dropped.
        var isUp = false
        let deadline = deadlineOfAMinute()
        while !isUp {
            try #require(now() < deadline, "the link did not come up")
            if let probe = makeFrame(heap, 60), !from.transmit(probe) { probe.releaseArray() }
            _ = from.receiveOne()?.releaseArray()
            if let frame = to.receiveOne() {
                frame.releaseArray()
                isUp = true
            } else {
                sched_yield()
            }
        }
        while let frame = to.receiveOne() { frame.releaseArray() }
        for size in [14, 60, 61, 511, 512, 1024, 1500, 1514] {
            let frame = try #require(makeFrame(heap, size > 1000 ? [54, size - 54] : [size]))
            let expected = bytes(of: frame)
            while !from.transmit(frame) { sched_yield() }
            var received: Frame?
            while received == nil {
                try #require(now() < deadline, "\(size) bytes did not arrive")
                _ = from.receiveOne()?.releaseArray()
                received = to.receiveOne()
                if let frame = received, bytes(of: frame) == testBytes(60, seed: 60), size != 60 {
                    frame.releaseArray()
                    received = nil
                }
            }
            #expect(bytes(of: received!) == expected, "\(size) bytes")
            received!.releaseArray()
        }
    }
}

/// Sends bytes to the echo server at 10.0.0.2 and compares what comes back, over a stack of the calling thread.
private func sendAndReceive(_ interface: InterfaceConfiguration, _ count: Int) throws {
    let content = testBytes(count)
    var configuration = RuntimeConfiguration()
    configuration.memory.arenaByteCount = 16 << 20
    let runtime = try Runtime(configuration, libraryOSes: [.catnip(interface)])
    let queue = try runtime.socket(.ipv4, .stream)
    try runtime.wait(try runtime.connect(queue, to: try SocketAddress(parsing: "10.0.0.2:7"))).succeeded()
    var received: [UInt8] = []
    var sent = 0
    while received.count < count {
        // A piece at a time is under way, so that neither side's window fills for good.
        let size = min(20_000, count - sent)
        if size > 0 {
            var buffer = try runtime.allocate(size)
            content[sent..<(sent + size)].withUnsafeBytes { source in buffer.withUnsafeMutableBytes { $0.copyMemory(from: source) } }
            try runtime.wait(try runtime.push(queue, try ScatterGatherArray(buffer))).succeeded()
            sent += size
        }
        while received.count < sent, let bytes = try runtime.wait(try runtime.pop(queue)).popped() {
            for segment in 0..<bytes.segmentCount { bytes.withUnsafeBytes(ofSegment: segment) { received += $0 } }
        }
    }
    #expect(received == content)
    try runtime.close(queue)
}

private func now() -> Int {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return time.tv_sec
}

/// Far beyond what anything here takes: a test that hangs ends with words.
private func deadlineOfAMinute() -> Int { now() + 60 }

private func makeFrame(_ heap: DatapathHeap, _ size: Int, seed: UInt64? = nil) -> Frame? {
    guard let frame = Frame.makeSegment(heap, byteCount: size, priority: .application) else { return nil }
    let content = testBytes(size, seed: seed ?? UInt64(size))
    content.withUnsafeBytes { frame.segmentAddress.copyMemory(from: $0.baseAddress!, byteCount: size) }
    return frame
}

private func makeFrame(_ heap: DatapathHeap, _ sizes: [Int]) -> Frame? {
    guard let frame = makeFrame(heap, sizes[0]) else { return nil }
    for size in sizes.dropFirst() { frame.append(makeFrame(heap, size)!, behind: frame.lastSegment) }
    return frame
}

private func bytes(of frame: Frame) -> [UInt8] {
    [UInt8](unsafeUninitializedCapacity: frame.arrayByteCount) { buffer, count in
        frame.copyArray(to: buffer.baseAddress!)
        count = frame.arrayByteCount
    }
}

private func consume(_ frame: Frame) -> Int {
    defer { frame.releaseArray() }
    return frame.arrayByteCount
}

extension EthernetDevice {
    fileprivate func receiveOne() -> Frame? {
        withUnsafeTemporaryAllocation(of: Frame.self, capacity: 1) { receive($0.baseAddress!, capacity: 1) == 1 ? $0[0] : nil }
    }
}
#endif
