import DatapathMemory
import EthernetDevice
import NetworkStack
import WireFormats

/// Two stacks on one wire, in virtual time that the test moves.
final class StackPair {
    let heap: DatapathHeap
    var stacks: [NetworkStack]
    var now: UInt64 = 1_000_000_000
    /// Frames on the wire, with the index of the stack that gets them.
    var wire: [(target: Int, frame: Frame)] = []
    /// Decides what becomes of a frame on its way to the stack of that index: false loses it.
    var passes: (Int, UnsafeRawBufferPointer) -> Bool = { _, _ in true }
    var frameCount = 0

    static let addresses = [IPAddress.ipv4(10, 0, 0, 1), IPAddress.ipv4(10, 0, 0, 2)]

    init(configure: (Int, inout NetworkConfiguration) -> Void = { _, _ in }) throws {
        heap = try DatapathHeap(MemoryConfiguration(arenaByteCount: 64 << 20, commitsAtStart: false))
        stacks = []
        for index in 0..<2 {
            var configuration = NetworkConfiguration(
                macAddress: MACAddress(value: 0x0200_0000_0001 + UInt64(index)),
                addresses: [IPv4Prefix(address: StackPair.addresses[index], length: 24)], seed: UInt64(index) + 7)
            configure(index, &configuration)
            stacks.append(try NetworkStack(configuration, heap: heap, now: now))
        }
    }

    deinit {
        for (_, frame) in wire { frame.releaseArray() }
        for stack in stacks { stack.deallocate() }
        heap.close()
    }

    /// Moves frames until none is left, at this instant.
    func exchange() {
        repeat {
            for index in 0..<2 { collect(from: index) }
            let batch = wire
            wire = []
            for (target, frame) in batch { deliver(frame, to: target) }
            for stack in stacks { stack.advance(to: now) }
        } while !wire.isEmpty || stacks.contains { $0.hasOutput }
    }

    func collect(from index: Int) {
        var frame = [Frame]()
        withUnsafeTemporaryAllocation(of: Frame.self, capacity: 64) { room in
            while case let count = stacks[index].takeOutput(into: room.baseAddress!, capacity: 64), count > 0 {
                for position in 0..<count { frame.append(room[position]) }
            }
        }
        for sent in frame { wire.append((1 - index, sent)) }
    }

    private func deliver(_ frame: Frame, to target: Int) {
        frameCount += 1
        // As a device does: the receiver has a block of its own.
        let copy = Frame.makeSegment(heap, byteCount: frame.arrayByteCount, priority: .reserve)!
        frame.copyArray(to: copy.segmentAddress)
        frame.releaseArray()
        copy.frameFlags = []
        if passes(target, UnsafeRawBufferPointer(start: copy.segmentAddress, count: copy.segmentByteCount)) {
            stacks[target].receive(copy)
        } else {
            copy.releaseArray()
        }
    }

    /// Lets time pass, running everything that becomes due on the way.
    func advance(_ nanoseconds: UInt64) {
        let end = now + nanoseconds
        exchange()
        while let next = stacks.compactMap(\.nextDeadline).min(), next <= end {
            now = max(now, next)
            for stack in stacks { stack.advance(to: now) }
            exchange()
        }
        now = end
        for stack in stacks { stack.advance(to: now) }
        exchange()
    }

    // MARK: Connections

    func listener(on index: Int, port: UInt16 = 80, backlog: Int = 16) -> UInt32 {
        let socket = stacks[index].makeConnection(owner: 1)
        precondition(stacks[index].bind(socket, to: Endpoint(address: IPAddress(ipv4Raw: 0), port: port)) == 0)
        precondition(stacks[index].listen(socket, backlog: backlog) == 0)
        return socket
    }

    /// A connection of stack 0 to a listener of stack 1, established on both sides.
    func connect(port: UInt16 = 80, listener: UInt32) -> (client: UInt32, server: UInt32) {
        let client = stacks[0].makeConnection(owner: 2)
        precondition(stacks[0].connect(client, to: Endpoint(address: StackPair.addresses[1], port: port)) == 0)
        exchange()
        let server = stacks[1].accept(listener, owner: 3)
        precondition(server != 0, "the handshake failed")
        return (client, server)
    }

    @discardableResult
    func send(_ index: Int, _ connection: UInt32, _ bytes: [UInt8]) -> Int32 {
        var array: Frame?
        for start in stride(from: 0, to: bytes.count, by: 131_072) {
            let segment = Frame.makeSegment(heap, byteCount: min(131_072, bytes.count - start), priority: .application)!
            bytes.withUnsafeBytes { segment.segmentAddress.copyMemory(from: $0.baseAddress! + start, byteCount: segment.segmentByteCount) }
            if let array { array.append(segment, behind: array.lastSegment) } else { array = segment }
        }
                let error = stacks[index].send(connection, array!)
        if error != 0 { array!.releaseArray() }
        return error
    }

    func receive(_ index: Int, _ connection: UInt32, maximumBytes: Int = .max) -> [UInt8] {
        var bytes = [UInt8]()
        while bytes.count < maximumBytes,
            let array = stacks[index].takeReceived(connection, maximumSegments: 16, maximumBytes: maximumBytes - bytes.count)
        {
            let start = bytes.count
            bytes.append(contentsOf: repeatElement(0, count: array.arrayByteCount))
            bytes.withUnsafeMutableBytes { array.copyArray(to: $0.baseAddress! + start) }
            array.releaseArray()
        }
        return bytes
    }
}

/// Bytes that tell where they belong.
func pattern(_ count: Int, from start: Int = 0) -> [UInt8] {
    (start..<start + count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) }
}
