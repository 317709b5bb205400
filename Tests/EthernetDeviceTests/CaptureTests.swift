import DatapathMemory
import Glibc
import PcapngReader
import Testing

@testable import EthernetDevice

@Suite struct CaptureTests {
    // MARK: Round trip

    @Test func everyFrameIsInTheCaptureByteForByteInBothDirections() throws {
        try withHeap { heap in
            let clock = ManualClock(1_700_000_000_000_000_000)
            let writer = PacketCaptureWriter(inMemoryLimit: 4 << 20, clock: clock.clock)
            let (first, second) = MemoryEthernetPair.make(macAddresses: (0x0200_5e10_0001, 0x0200_5e10_0002))
            let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "host1.eth0")
            try device.attach(heap)
            try second.attach(heap)

            var expected: [PcapngReader.Packet] = []
            for (index, length) in [14, 15, 16, 17, 60, 1513, 1514].enumerated() {
                clock.time.pointee += 1_234_567_891
                let content = pattern(index, count: length)
                let isOutbound = index % 2 == 0
                let (from, to) = isOutbound ? (device, second) : (second, device)
                #expect(from.transmit(makeFrame(heap, content, segments: length > 60 ? [14, 40] : [])))
                #expect(to.collect() == [content])
                expected.append(
                    PcapngReader.Packet(
                        interface: 0, time: clock.time.pointee, bytes: content, originalByteCount: length, direction: isOutbound ? 2 : 1))
            }
            device.close()
            second.close()

            let capture = try read(writer)
            #expect(capture.packets == expected)
            #expect(capture.application == "Demikernel")
            #expect(
                capture.interfaces == [
                    PcapngReader.Interface(linkType: 1, snapshotByteCount: 1514, name: "host1.eth0", address: [2, 0, 0x5e, 0x10, 0, 1], timeResolution: 9)
                ])
            let statistics = writer.close()
            #expect(statistics.packets == 7 && statistics.droppedPackets == 0)
        }
    }

    @Test func theFileStartsAsTheDraftSays() throws {
        let writer = PacketCaptureWriter(inMemoryLimit: 4096, clock: ManualClock(0).clock)
        _ = try writer.addInterface(name: "e", macAddress: 0x0102_0304_0506, snapshotByteCount: 1514)
        let expected: [UInt8] =
            [0x0a, 0x0d, 0x0d, 0x0a, 48, 0, 0, 0, 0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0]
            + [UInt8](repeating: 0xff, count: 8) + [4, 0, 10, 0] + Array("Demikernel".utf8) + [0, 0, 0, 0, 0, 0, 48, 0, 0, 0]
            + [1, 0, 0, 0, 52, 0, 0, 0, 1, 0, 0, 0, 0xea, 5, 0, 0]
            + [2, 0, 1, 0, UInt8(ascii: "e"), 0, 0, 0, 6, 0, 6, 0, 1, 2, 3, 4, 5, 6, 0, 0, 9, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0, 0, 52, 0, 0, 0]
        #expect(writer.withUnsafeBytes { Array($0) } == expected)
        writer.close()
    }

    @Test func severalInterfacesShareOneFile() throws {
        try withHeap { heap in
            let writer = PacketCaptureWriter(inMemoryLimit: 1 << 20, clock: ManualClock(5).clock)
            let pair = MemoryEthernetPair.make()
            let first = try CapturingDevice.wrap(pair.0, writer: writer, interfaceName: "a")
            let second = try CapturingDevice.wrap(pair.1, writer: writer, interfaceName: "b")
            try first.attach(heap)
            try second.attach(heap)
            for index in 0..<3 {
                #expect(first.transmit(makeFrame(heap, pattern(index))))
                #expect(second.collect() == [pattern(index)])
            }
            #expect(second.transmit(makeFrame(heap, pattern(3))))
            #expect(first.collect() == [pattern(3)])
            first.close()
            second.close()
            let capture = try read(writer)
            #expect(capture.interfaces.map(\.name) == ["a", "b"])
            #expect(capture.packets.map(\.interface) == [0, 1, 0, 1, 0, 1, 1, 0])
            #expect(capture.packets.map(\.direction) == [2, 1, 2, 1, 2, 1, 2, 1])
            #expect(capture.packets.map { number(of: $0.bytes) } == [0, 0, 1, 1, 2, 2, 3, 3])
            writer.close()
        }
    }

    @Test func equalRunsWriteEqualBytes() throws {
        func run() throws -> [UInt8] {
            var file: [UInt8] = []
            try withHeap { heap in
                let clock = ManualClock(77)
                let writer = PacketCaptureWriter(inMemoryLimit: 1 << 20, clock: clock.clock)
                let (first, second) = MemoryEthernetPair.make()
                let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "x")
                try device.attach(heap)
                try second.attach(heap)
                for index in 0..<50 {
                    clock.time.pointee += UInt64(index)
                    #expect(device.transmit(makeFrame(heap, pattern(index, count: 60 + index * 29 % 1000))))
                    #expect(second.collect().count == 1)
                }
                device.close()
                second.close()
                file = writer.withUnsafeBytes { Array($0) }
                writer.close()
            }
            return file
        }
        let file = try run()
        #expect(file.count > 50 * 100)
        #expect(try run() == file)
    }

    // MARK: Back-pressure

    @Test(arguments: [1, 31, 32, 33, 70]) func onlyFramesThatTheDeviceTookAreCaptured(capacity: Int) throws {
        try withHeap { heap in
            let writer = PacketCaptureWriter(inMemoryLimit: 1 << 20, clock: ManualClock(0).clock)
            let (first, second) = MemoryEthernetPair.make(capacity: capacity)
            let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "x")
            try device.attach(heap)
            try second.attach(heap)
            var frames = (0..<100).map { makeFrame(heap, pattern($0, count: 1000)) }
            #expect(device.transmit(&frames, count: 100) == capacity)
            #expect(second.collect(1) == [pattern(0, count: 1000)])
            #expect(device.send(Array(frames[capacity...])) == 1)
            device.close()
            second.close()
            let capture = try read(writer)
            #expect(capture.packets.map { number(of: $0.bytes) } == Array(0...capacity))
            writer.close()
        }
    }

    @Test func aFrameLongerThanTheDeviceSendsIsCapturedInPart() throws {
        try withHeap { heap in
            let writer = PacketCaptureWriter(inMemoryLimit: 1 << 20, clock: ManualClock(0).clock)
            let (first, second) = MemoryEthernetPair.make(mtu: 86)
            let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "x")
            try device.attach(heap)
            try second.attach(heap)
            let content = pattern(1, count: 70_000)
            #expect(device.transmit(makeFrame(heap, content, segments: [50, 20])))
            #expect(device.statistics.transmitTooLong == 1)
            device.close()
            second.close()
            let packet = try #require(try read(writer).packets.first)
            #expect(packet.bytes == Array(content.prefix(100)))
            #expect(packet.originalByteCount == 70_000)
            writer.close()
        }
    }

    // MARK: Files and their errors

    @Test func aFileHasAllPacketsAlsoWhenTheBufferIsSmall() throws {
        try withHeap { heap in
            let descriptor = temporaryFile()
            let copy = dup(descriptor)
            defer { close(copy) }
            let writer = PacketCaptureWriter(fileDescriptor: descriptor, clock: ManualClock(0).clock, bufferByteCount: 4096)
            try withPair(heap) { first, second in
                let interface = try writer.addInterface(name: "x", macAddress: 1, snapshotByteCount: 2000)
                for index in 0..<200 {
                    let frame = makeFrame(heap, pattern(index, count: 1400))
                    writer.write(frame, interface: interface, direction: .inbound, time: UInt64(index), snapshotByteCount: 2000)
                    frame.releaseArray()
                }
            }
            let statistics = writer.close()
            let capture = try PcapngReader(contents(of: copy))
            #expect(capture.packets.map(\.bytes) == (0..<200).map { pattern($0, count: 1400) })
            #expect(statistics.packets == 200 && statistics.droppedPackets == 0 && statistics.failedWrites == 0 && statistics.lostBytes == 0)
            #expect(statistics.writtenBytes == UInt64(contents(of: copy).count))
        }
    }

    @Test func preparingToSleepWritesWhatIsThere() throws {
        try withHeap { heap in
            let descriptor = temporaryFile()
            let copy = dup(descriptor)
            defer { close(copy) }
            let writer = PacketCaptureWriter(fileDescriptor: descriptor, clock: ManualClock(0).clock)
            let (first, second) = MemoryEthernetPair.make()
            let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "x")
            try device.attach(heap)
            try second.attach(heap)
            #expect(device.transmit(makeFrame(heap, pattern(1))))
            #expect(contents(of: copy).isEmpty)
            #expect(device.prepareToSleep() == EthernetDevice.nothingToAwait)
            #expect(try PcapngReader(contents(of: copy)).packets.map(\.bytes) == [pattern(1)])
            device.close()
            second.close()
            writer.close()
        }
    }

    @Test func aFullDiskIsCountedAndTheDeviceGoesOn() throws {
        try withHeap { heap in
            let descriptor = open("/dev/full", O_WRONLY)
            try #require(descriptor >= 0)
            let writer = PacketCaptureWriter(fileDescriptor: descriptor, clock: ManualClock(0).clock, bufferByteCount: 4096)
            let (first, second) = MemoryEthernetPair.make()
            let device = try CapturingDevice.wrap(first, writer: writer, interfaceName: "x")
            try device.attach(heap)
            try second.attach(heap)
            for index in 0..<20 {
                #expect(device.transmit(makeFrame(heap, pattern(index, count: 1000))))
                #expect(second.collect() == [pattern(index, count: 1000)])
            }
            device.close()
            second.close()
            #expect(writer.statistics.packets == 3, "what the buffer holds")
            #expect(writer.statistics.droppedPackets == 17)
            let statistics = writer.close()
            #expect(statistics.lastError == ENOSPC)
            #expect(statistics.failedWrites >= 18)
            #expect(statistics.writtenBytes == 0 && statistics.lostBytes > 3000)
        }
    }

    @Test func afterAnErrorThatPassesTheFileIsWhole() throws {
        try withHeap { heap in
            // A pipe that nobody reads is the disk that is full for a while.
            var ends: [Int32] = [0, 0]
            try #require(pipe(&ends) == 0)
            defer { close(ends[0]) }
            for end in ends { _ = fcntl(end, F_SETFL, O_NONBLOCK) }
            _ = fcntl(ends[1], 1031 /* F_SETPIPE_SZ */, 4096)
            let writer = PacketCaptureWriter(fileDescriptor: ends[1], clock: ManualClock(0).clock, bufferByteCount: 6000)
            let interface = try writer.addInterface(name: "x", macAddress: 1, snapshotByteCount: 2000)
            var file: [UInt8] = []
            for index in 0..<30 {
                let frame = makeFrame(heap, pattern(index, count: 900))
                writer.write(frame, interface: interface, direction: .outbound, time: 0, snapshotByteCount: 2000)
                frame.releaseArray()
                if index == 20 { file += drain(ends[0]) }
            }
            let before = writer.statistics
            #expect(before.droppedPackets > 0 && before.failedWrites > 0 && before.lastError == EAGAIN)
            while writer.withUnsafeBytes({ $0.count }) > 0 {
                file += drain(ends[0])
                writer.flush()
            }
            file += drain(ends[0])
            let capture = try PcapngReader(file)
            #expect(UInt64(capture.packets.count) == before.packets)
            #expect(before.packets + before.droppedPackets == 30)
            for packet in capture.packets { #expect(packet.bytes == pattern(number(of: packet.bytes), count: 900)) }
            #expect(writer.close().lostBytes == 0)
        }
    }

    @Test func aCaptureInMemoryEndsAtItsLimit() throws {
        try withHeap { heap in
            let writer = PacketCaptureWriter(inMemoryLimit: 10_000, clock: ManualClock(0).clock)
            let interface = try writer.addInterface(name: "x", macAddress: 1, snapshotByteCount: 2000)
            for index in 0..<20 {
                let frame = makeFrame(heap, pattern(index, count: 1000))
                writer.write(frame, interface: interface, direction: .outbound, time: 0, snapshotByteCount: 2000)
                frame.releaseArray()
            }
            let capture = try read(writer)
            #expect(capture.packets.map(\.bytes) == (0..<9).map { pattern($0, count: 1000) })
            #expect(writer.statistics.droppedPackets == 11)
            writer.close()
        }
    }

    @Test func aFileThatCannotBeMadeIsRefused() {
        let error = #expect(throws: DemikernelError.self) { try PacketCaptureWriter(path: "/nonexistent-folder/capture.pcapng") }
        #expect(error?.errno == ENOENT)
    }

    @Test func theTimeOfDayIsInNanosecondsSince1970() {
        // Not `time`, whose clock is coarser and lags behind.
        func seconds() -> UInt64 {
            var time = timespec()
            clock_gettime(CLOCK_REALTIME, &time)
            return UInt64(time.tv_sec)
        }
        let before = seconds()
        let now = CaptureClock.realTime.now(nil)
        let after = seconds()
        #expect(now / 1_000_000_000 >= before && now / 1_000_000_000 <= after)
    }

    // MARK: Files

    private func read(_ writer: PacketCaptureWriter) throws -> PcapngReader {
        try PcapngReader(writer.withUnsafeBytes { Array($0) })
    }

    /// A new file that has no name any more.
    private func temporaryFile() -> Int32 {
        var path = Array("/tmp/capture-XXXXXX".utf8CString)
        let descriptor = mkstemp(&path)
        precondition(descriptor >= 0)
        unlink(path)
        return descriptor
    }

    private func contents(of descriptor: Int32) -> [UInt8] {
        let size = Int(lseek(descriptor, 0, SEEK_END))
        return [UInt8](unsafeUninitializedCapacity: size) { $1 = pread(descriptor, $0.baseAddress, size, 0) }
    }

    private func drain(_ descriptor: Int32) -> [UInt8] {
        var found: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 8192)
        while case let count = Glibc.read(descriptor, &chunk, chunk.count), count > 0 { found += chunk[..<count] }
        return found
    }
}
