import DatapathMemory
import EthernetDevice
import Glibc
import MemifDevice
import Testing

/// A path of the test's own; what stands there is removed at its end.
final class SocketPath {
    let text: String

    init() {
        var template = Array("/tmp/memif-XXXXXX".utf8CString)
        text = template.withUnsafeMutableBufferPointer { String(cString: mkdtemp($0.baseAddress!)!) } + "/x.sock"
    }

    deinit {
        unlink(text)
        rmdir(String(text.dropLast("/x.sock".utf8.count)))
    }

    var exists: Bool { access(text, F_OK) == 0 }
}

/// One end of a link with a heap of its own.
final class End {
    let device: EthernetDevice
    let heap: DatapathHeap
    private var isClosed = false

    init(_ device: EthernetDevice) throws {
        self.device = device
        heap = try DatapathHeap(MemoryConfiguration(arenaByteCount: 4 << 20, commitsAtStart: false, maximumSegments: 1 << 14))
        try device.attach(heap)
    }

    convenience init(_ role: MemifConfiguration.Role, _ path: SocketPath, _ change: (inout MemifConfiguration) -> Void = { _ in }) throws {
        var configuration = MemifConfiguration(role: role)
        change(&configuration)
        try self.init(MemifDevice.make(path: path.text, configuration))
    }

    deinit {
        close()
        expectNothingAlive()
        heap.close()
    }

    /// Ends the device as a program does.
    func close() {
        if !isClosed { device.close() }
        isClosed = true
    }

    private func expectNothingAlive(sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(heap.statistics.liveBlocks == 0, sourceLocation: sourceLocation)
        #expect(heap.statistics.liveSegments == 0, sourceLocation: sourceLocation)
    }

    var isUp: Bool { MemifDevice.isLinkUp(device) }
    var statistics: MemifStatistics { MemifDevice.statistics(of: device) }

    func frame(_ bytes: [UInt8], segments: [Int] = []) -> Frame {
        var frame: Frame?
        var start = 0
        for length in segments + [bytes.count - segments.reduce(0, +)] {
            let segment = Frame.makeSegment(heap, byteCount: length, priority: .application)!
            bytes[start..<start + length].withUnsafeBytes { part in
                if length > 0 { segment.segmentAddress.copyMemory(from: part.baseAddress!, byteCount: length) }
            }
            start += length
            if let frame { frame.append(segment, behind: frame.lastSegment) } else { frame = segment }
        }
        return frame!
    }

    /// Sends one frame; false, and the frame is released, when the device has no room.
    func send(_ bytes: [UInt8], segments: [Int] = []) -> Bool {
        let frame = frame(bytes, segments: segments)
        let isTaken = device.transmit(frame)
        if !isTaken { frame.releaseArray() }
        return isTaken
    }

    /// The bytes of what one call of `receive` gives.
    func collect(_ capacity: Int = 64) -> [[UInt8]] {
        let frames = [Frame](unsafeUninitializedCapacity: capacity) { $1 = device.receive($0.baseAddress!, capacity: capacity) }
        return frames.map { frame in
            defer { frame.releaseArray() }
            #expect(frame.nextSegment == nil)
            return Array(UnsafeRawBufferPointer(start: frame.segmentAddress, count: frame.arrayByteCount))
        }
    }
}

/// Has ends look at their sockets until something holds; false when it does not for long.
func settle(_ ends: [End], until condition: () -> Bool) -> Bool {
    for _ in 0..<20_000 {
        if condition() { return true }
        for end in ends {
            // Who is about to sleep looks at once. Between two looks of all, a timer has time to end.
            var descriptor = pollfd(fd: end.device.prepareToSleep(), events: Int16(POLLIN), revents: 0)
            poll(&descriptor, 1, 1)
            let frames = end.collect()
            #expect(frames.isEmpty)
        }
    }
    return condition()
}

func linked(_ path: SocketPath, server: (inout MemifConfiguration) -> Void = { _ in }, client: (inout MemifConfiguration) -> Void = { _ in }) throws -> (
    server: End, client: End
) {
    let server = try End(.server, path, server)
    let client = try End(.client, path, client)
    try #require(settle([server, client]) { server.isUp && client.isUp })
    return (server, client)
}

func pattern(_ count: Int, seed: Int = 0) -> [UInt8] { (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 13 &+ seed &* 5 &+ 1) } }

struct SeededRandom {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
