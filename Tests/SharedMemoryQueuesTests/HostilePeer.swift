import CDatapath
import Demikernel
import Glibc
import SharedMemory
@testable import SharedMemoryQueues

/// A peer that speaks the protocol by hand, and so can break each of its rules. It has the memory mapped and writes what it likes.
final class HostilePeer {
    let file: Int32
    let memory: UnsafeMutableRawPointer
    let byteCount: Int
    let ringByteCount: Int

    /// Connects as a client and says hello.
    init(connectingTo path: String, ringByteCount: Int = 1 << 16) throws {
        file = try PathSocket.make()
        try PathSocket.connect(file, to: path)
        self.ringByteCount = ringByteCount
        byteCount = RingLayout.totalByteCount(ringByteCount: ringByteCount)
        let memory = try SealedMemory(name: "hostile", byteCount: byteCount)
        self.memory = try memory.map()
        HostilePeer.send(Hello(ringByteCount: ringByteCount, maximumUnitSize: 1 << 20), [memory.file], on: file)
        memory.close()
    }

    /// Takes a client of a listening socket and answers it; nil while none has come.
    init?(acceptingFrom listener: Int32, answer: Answer = Answer(error: 0, maximumUnitSize: 40_000, maximumRingByteCount: 1 << 16)) {
        let accepted = demi_accept(listener, nil, nil)
        guard accepted >= 0 else { return nil }
        var hello = [UInt8](repeating: 0, count: 64)
        guard case .message(_, let descriptors) = hello.withUnsafeMutableBytes({ DescriptorMessage.receive(into: $0, on: accepted) }),
            let descriptor = descriptors.first
        else {
            close(accepted)
            return nil
        }
        file = accepted
        ringByteCount = 1 << 16
        byteCount = RingLayout.totalByteCount(ringByteCount: ringByteCount)
        memory = mmap(nil, byteCount, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0)
        close(descriptor)
        HostilePeer.send(answer, [], on: accepted)
    }

    deinit {
        munmap(memory, byteCount)
        close(file)
    }

    static func send<Message>(_ message: Message, _ descriptors: [Int32], on file: Int32) {
        _ = withUnsafeBytes(of: message) { DescriptorMessage.send($0, descriptors, on: file) }
    }

    /// The control words and the bytes of a ring: 0 is the one from the client to the server.
    func control(_ ring: Int) -> UnsafeMutableRawPointer { memory + ring * RingLayout.ringControlByteCount }
    func data(_ ring: Int) -> UnsafeMutableRawPointer { memory + RingLayout.controlByteCount + ring * ringByteCount }

    /// Writes words at places of the random's choice: mostly where they matter, and often nearly right.
    func scribble(_ random: inout SeededRandom) {
        let ring = Int(random.next() & 1)
        let values: [UInt64] = [
            0, 1, .max, UInt64(RingLayout.isWhole), UInt64(RingLayout.isWhole | RingLayout.isEnd), UInt64(RingLayout.isWhole) | random.next() & 0xffff,
            random.next(), random.next() & 0xff, UInt64(RingLayout.isWhole) | random.next() & 63,
        ]
        let value = values[Int(random.next() % UInt64(values.count))]
        switch random.next() % 6 {
        case 0: demi_store_fenced_u64(control(ring) + RingLayout.consumedOffset, value)
        case 1: demi_store_fenced_u64(control(ring) + RingLayout.isSleepingOffset, value)
        case 2: demi_store_fenced_u32(control(ring) + RingLayout.producerWaitsOffset, UInt32(truncatingIfNeeded: value))
        // Where the first headers stand.
        case 3: demi_store_fenced_u32(data(ring) + Int(random.next() % 4) * 8, UInt32(truncatingIfNeeded: value))
        case 4: demi_store_fenced_u32(data(ring) + Int(random.next() % UInt64(ringByteCount / 8)) * 8, UInt32(truncatingIfNeeded: value))
        default: demi_store_fenced_u64(memory + Int(random.next() % UInt64(byteCount / 8)) * 8, value)
        }
    }

    /// Sends junk over the socket, which is for wake-ups.
    func sendJunk(_ random: inout SeededRandom) {
        let junk = [UInt8](repeating: UInt8(truncatingIfNeeded: random.next()), count: Int(random.next() % 100) + 1)
        _ = junk.withUnsafeBytes { DescriptorMessage.send($0, random.next() & 3 == 0 ? [0] : [], on: file) }
    }
}

/// SplitMix64.
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
